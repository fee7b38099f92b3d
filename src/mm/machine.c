// SPDX-License-Identifier: LGPL-2.1-or-later
/* Building and freeing a machine: the layers from core to mm, in order. */
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/region.h"
#include "core/switches.h"
#include "mm/large.h"
#include "mm/mm.h"
#include "mm/swap.h"
#include "mm/zone_device.h"

static const uint64_t default_tag_bytes = 1UL << 40;
static const uint64_t default_byte_bytes = 64UL << 30;
static const uint64_t max_bytes = 1UL << 44;

static int config_take(struct uhmm_machine_config *c, const struct uhmm_machine_config *user)
{
	uint64_t def;

	memset(c, 0, sizeof(*c));
	if (user) {
		if (user->size != sizeof(*c))
			return -EINVAL;
		*c = *user;
	}
	if (!c->nr_cpus)
		c->nr_cpus = 2;
	if (c->nr_cpus > UHMM_MAX_CPUS || (unsigned int)c->content > UHMM_CONTENT_BYTES ||
	    !uhmm__switches_valid(c))
		return -EINVAL;
	def = c->content == UHMM_CONTENT_TAG ? default_tag_bytes : default_byte_bytes;
	if (!c->ram_bytes)
		c->ram_bytes = def;
	if (!c->device_bytes)
		c->device_bytes = def;
	/* One block is the zero page's. */
	if (c->ram_bytes < 2 * UHMM_PMD_SIZE || c->ram_bytes > max_bytes ||
	    c->device_bytes > max_bytes || c->swap_bytes > max_bytes ||
	    c->swap_bytes & ~UHMM_PAGE_MASK)
		return -EINVAL;
	c->ram_bytes = ALIGN_DOWN(c->ram_bytes, UHMM_PMD_SIZE);
	c->device_bytes = ALIGN_UP(c->device_bytes, UHMM_PMD_SIZE);
	return 0;
}

static int mms_init(struct uhmm_machine *m)
{
	m->mms = uhmm__alloc(m, sizeof(*m->mms));
	if (!m->mms)
		return -ENOMEM;
	uhmm__spin_init(&m->mms->lock, UHMM__LC_MMS);
	list_init(&m->mms->list);
	return 0;
}

static void mms_exit(struct uhmm_machine *m)
{
	if (!m->mms)
		return;
	uhmm__anon_vmas_exit(m);
	uhmm__free(m, m->mms, sizeof(*m->mms));
	m->mms = NULL;
}

static bool task_mm_get(struct uhmm_machine *m, struct uhmm_mm *mm)
{
	return mm->machine == m && uhmm_mmget_not_zero(mm);
}

static void task_switch_mm(struct uhmm_task *t, bool enter)
{
	if (enter && t->mm)
		uhmm__tlb_switch_mm(&t->mm->pgt, t->cpu);
}

static const struct layer {
	int (*init)(struct uhmm_machine *m);
	void (*exit)(struct uhmm_machine *m);
} layers[] = {
	{ uhmm__alloc_init, uhmm__alloc_exit },	    { uhmm__sync_init, uhmm__sync_exit },
	{ uhmm__tables_init, uhmm__tables_exit },   { uhmm__tlb_init, uhmm__tlb_exit },
	{ uhmm__frames_init, uhmm__frames_exit },   { uhmm__deferred_init, uhmm__deferred_exit },
	{ uhmm__lru_init, uhmm__lru_exit },	    { uhmm__swap_init, uhmm__swap_exit },
	{ uhmm__reclaim_init, uhmm__reclaim_exit }, { mms_init, mms_exit },
	{ uhmm__files_init, uhmm__files_exit },	    { uhmm__pgmaps_init, uhmm__pgmaps_exit },
};

int uhmm_machine_create(const struct uhmm_machine_config *config, struct uhmm_machine **out)
{
	struct uhmm_machine *m = uhmm__side_alloc(sizeof(*m));
	size_t i = 0;
	int err;

	if (!m)
		return -ENOMEM;
	err = config_take(&m->config, config);
	if (err) {
		uhmm__side_free(m, sizeof(*m));
		return err;
	}
	m->ram_frames = m->config.ram_bytes >> UHMM_PAGE_SHIFT;
	m->device_base = m->ram_frames;
	m->end_pfn = m->device_base + (m->config.device_bytes >> UHMM_PAGE_SHIFT);
	m->own_base = m->end_pfn;
	m->nr_frames = m->end_pfn;
	if (m->config.device_pfn_space == UHMM_DEVICE_PFN_OWN)
		m->nr_frames += m->config.device_bytes >> UHMM_PAGE_SHIFT;
	for (; i < ARRAY_SIZE(layers); i++) {
		err = layers[i].init(m);
		if (err)
			break;
	}
	if (err) {
		/* A layer's exit copes with an init that came half way. */
		for (i = MIN(i + 1, ARRAY_SIZE(layers)); i-- > 0;)
			layers[i].exit(m);
		uhmm__side_free(m, sizeof(*m));
		return err;
	}
	m->sync->ops.mm_get = task_mm_get;
	m->sync->ops.mm_put = uhmm_mmput;
	m->sync->ops.switch_mm = task_switch_mm;
	*out = m;
	return 0;
}

/* mms that their owner left behind. */
static void drop_mms(struct uhmm_machine *m)
{
	while (!list_empty(&m->mms->list)) {
		struct uhmm_mm *mm = list_first_entry(&m->mms->list, struct uhmm_mm, list);

		store_relaxed(&mm->users, 1);
		uhmm_mmput(mm);
	}
}

void uhmm_machine_destroy(struct uhmm_machine *m)
{
	struct uhmm_task *outer;

	if (!m)
		return;
	outer = uhmm__boot_task_enter(m);
	/* Fibers that were dropped in the middle of a run hold locks for ever. */
	if (!uhmm__sync_broken(m))
		drop_mms(m);
	uhmm__rcu_barrier(m);
	uhmm__boot_task_leave(m, outer);
	for (size_t i = ARRAY_SIZE(layers); i-- > 0;)
		layers[i].exit(m);
	uhmm__side_free(m, sizeof(*m));
}

/*
 * Of an array with an element for each frame: what is resident. Only where frames were ever given to
 * a CPU need it be asked.
 */
static size_t per_frame_resident(struct uhmm_machine *m, const void *array, size_t element)
{
	const struct uhmm__pgmaps *p = m->pgmaps;
	uhmm_pfn_t first, end;

	uhmm__frames_range(m, &first, &end);
	const struct {
		size_t first, end;
	} spans[] = {
		{ 0, end },
		{ m->device_base, pfn_to_index(m, p->next) },
		{ m->own_base, pfn_to_index(m, p->next_own) },
	};
	size_t resident = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(spans); i++)
		resident +=
			uhmm__reserve_resident((char *)(uintptr_t)array + spans[i].first * element,
					       (spans[i].end - spans[i].first) * element);
	return resident;
}

void uhmm_machine_memory(struct uhmm_machine *m, struct uhmm_memory_use *out)
{
	struct uhmm_task *outer = uhmm__boot_task_enter(m);

	*out = (struct uhmm_memory_use){
		.metadata = load_relaxed(&m->alloc_bytes),
		.page_tables = uhmm__tables_resident(m),
		.frames = per_frame_resident(m, m->vmemmap, sizeof(*m->vmemmap)),
		.nr_ram_used = uhmm__frames_used(m),
		.nr_device_used = load_relaxed(&m->pgmaps->used),
		.nr_tables = load_relaxed(&m->tables->nr_tables),
		.swap = uhmm__swap_resident(m),
		.nr_swap_used = uhmm__swap_used(m),
	};
	if (m->tags)
		out->contents = per_frame_resident(m, (void *)m->tags, sizeof(*m->tags));
	else
		out->contents = per_frame_resident(m, m->bytes, UHMM_PAGE_SIZE);
	uhmm__boot_task_leave(m, outer);
}

const char *uhmm_version(void)
{
	return UHMM_VERSION_STRING;
}
