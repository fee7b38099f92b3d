// SPDX-License-Identifier: LGPL-2.1-or-later
/* The verifier's look at swap: slots against the entries that name them, and the swap cache. */
#include "mm/swap.h"
#include "mm/verify.h"

#include "core/alloc.h"

#define bad uhmm__verify_bad
#define bad_frame uhmm__verify_bad_frame

int uhmm__verify_swap_init(struct uhmm__verify *v)
{
	if (!v->m->swap)
		return 0;
	v->swap_entries = uhmm__reserve(v->m->swap->nr_slots * sizeof(*v->swap_entries));
	return v->swap_entries ? 0 : -ENOMEM;
}

void uhmm__verify_swap_exit(struct uhmm__verify *v)
{
	if (v->m->swap)
		uhmm__unreserve(v->swap_entries, v->m->swap->nr_slots * sizeof(*v->swap_entries));
}

const char *uhmm__verify_swap_entry(struct uhmm__verify *v, pte_t pte)
{
	struct uhmm__swap *s = v->m->swap;
	uint64_t slot = leaf_offset(pte);

	if (!s)
		return "is a swap entry, and there is no swap";
	if (!slot || slot >= s->nr_slots)
		return "names no slot of the swap device";
	v->swap_entries[slot]++;
	if (!(s->used[slot / 64] & BIT(slot % 64)))
		return "names a free swap slot";
	if (pte.val & LEAF_EXCLUSIVE && load_relaxed(&s->count[slot]) != 1)
		return "is exclusive, but others name its slot";
	return NULL;
}

static void check_cached(struct uhmm__verify *v, uint64_t slot, uint32_t pfn)
{
	struct uhmm__swap *s = v->m->swap;
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);

	if (pfn >= v->m->ram_frames || !folio_test(f, PG_SWAPCACHE) || f->aux != slot) {
		bad(v, "swap slot %lu is cached by pfn %#x, which does not know",
		    (unsigned long)slot, pfn);
		return;
	}
	if (!folio_test(f, PG_SWAPBACKED) || !folio_test(f, PG_UPTODATE))
		bad_frame(v, pfn, "folio of the swap cache is not swapbacked and uptodate");
	if (folio_test(f, PG_ANON_EXCLUSIVE) && load_relaxed(&s->count[slot]))
		bad_frame(v, pfn, "anon-exclusive folio's slot is named by %u swap entries",
			  load_relaxed(&s->count[slot]));
}

static unsigned int check_slot(struct uhmm__verify *v, uint64_t slot)
{
	uint32_t count = load_relaxed(&v->m->swap->count[slot]);
	uint32_t pfn = load_relaxed(&v->m->swap->cache[slot]);

	if (count != v->swap_entries[slot])
		bad(v, "swap slot %lu counts %u entries, but %u name it", (unsigned long)slot,
		    count, v->swap_entries[slot]);
	if (!count && !pfn)
		bad(v, "swap slot %lu is in use, but neither named nor cached",
		    (unsigned long)slot);
	if (pfn)
		check_cached(v, slot, pfn);
	return 1;
}

void uhmm__verify_swap(struct uhmm__verify *v)
{
	struct uhmm__swap *s = v->m->swap;
	uint64_t used = 0;

	if (!s)
		return;
	if (uhmm__spin_is_locked(&s->lock))
		bad(v, "the swap lock is held");
	for (uint64_t slot = 0; slot < s->nr_slots; slot++) {
		if (slot % 64 == 0 && !s->used[slot / 64])
			slot += 63; /* touches no memory for what was never used */
		else if (s->used[slot / 64] & BIT(slot % 64))
			used += check_slot(v, slot);
	}
	if (used != uhmm__swap_used(v->m))
		bad(v, "%lu swap slots are counted, but %lu are in use",
		    (unsigned long)uhmm__swap_used(v->m), (unsigned long)used);
}

bool uhmm__verify_in_swap_cache(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);
	struct uhmm__swap *s = v->m->swap;

	if (!folio_test(f, PG_SWAPCACHE))
		return false;
	if (!s || !f->aux || f->aux >= s->nr_slots || load_relaxed(&s->cache[f->aux]) != pfn)
		bad_frame(v, pfn, "folio is not in the swap cache");
	return true;
}
