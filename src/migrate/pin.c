// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The public side of GUP, and what a long-term pin does first: coherent memory must stay free to be
 * evicted, so its pages move to RAM before they may be pinned for long. Models: mm/gup.c, and
 * mm/migrate_device.c:migrate_device_coherent_folio().
 */
#include "migrate/migrate.h"
#include "mm/gup.h"

/*
 * Move a coherent page home. The caller's reference is used up. 0 or -EBUSY.
 * Models: migrate_device_coherent_folio().
 */
static int migrate_coherent_folio(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint64_t src = uhmm_migrate_pfn(frame_pfn(m, f)) | UHMM_MIGRATE_PFN_MIGRATE, dst = 0;
	struct uhmm__frame *new;

	folio_lock(m, f);
	uhmm__migrate_device_unmap(m, &src, 1, 0);
	if (!(src & UHMM_MIGRATE_PFN_MIGRATE))
		return -EBUSY;
	new = uhmm__folio_alloc(m, false);
	if (new) {
		folio_lock_new(new);
		dst = uhmm_migrate_pfn(frame_pfn(m, new));
	}
	uhmm_migrate_device_pages(m, &src, &dst, 1);
	if (src & UHMM_MIGRATE_PFN_MIGRATE)
		uhmm__copy_page(m, frame_pfn(m, new), frame_pfn(m, f));
	uhmm_migrate_device_finalize(m, &src, &dst, 1);
	return src & UHMM_MIGRATE_PFN_MIGRATE ? 0 : -EBUSY;
}

/*
 * Pages that were pinned, for long: 0 if all may be, else all pins are given back: -EAGAIN what was in
 * the way has moved, pin again; -EBUSY. Models: check_and_migrate_movable_pages().
 */
static int check_longterm(struct uhmm_machine *m, const uhmm_pfn_t *pages, uint64_t npages)
{
	uint64_t i = 0;

	while (i < npages && !folio_is_device_coherent(page_folio(pfn_to_frame(m, pages[i]))))
		i++;
	if (i == npages)
		return 0;
	for (i = 0; i < npages; i++) {
		struct uhmm__frame *f = page_folio(pfn_to_frame(m, pages[i]));
		bool coherent = folio_is_device_coherent(f);

		if (coherent)
			folio_get(f);
		uhmm__gup_put(m, pages[i], FOLL_PIN);
		if (!coherent)
			continue;
		if (migrate_coherent_folio(m, f)) {
			for (i++; i < npages; i++)
				uhmm__gup_put(m, pages[i], FOLL_PIN);
			return -EBUSY;
		}
		uhmm__count(UHMM_CNT_PIN_MIGRATED);
	}
	return -EAGAIN;
}

/* Models: __gup_longterm_locked(). */
static int64_t gup_longterm(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
			    unsigned int flags, uhmm_pfn_t *pages)
{
	int64_t nr;
	int ret;

	do {
		nr = uhmm__get_user_pages_unlocked(mm, start, npages, flags, pages);
		if (nr <= 0 || !(flags & FOLL_LONGTERM))
			return nr;
		ret = check_longterm(mm->machine, pages, nr);
	} while (ret == -EAGAIN);
	return ret ? ret : nr;
}

/* All four calls. @allowed: of the public flags. */
static int64_t gup(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages, unsigned int flags,
		   unsigned int allowed, unsigned int kind, bool fast, uhmm_pfn_t *pages)
{
	uint64_t done = 0;
	int64_t ret = 0;

	if (!uhmm__current() || flags & ~allowed || start & ~UHMM_PAGE_MASK ||
	    start > UHMM_TASK_SIZE || npages > (UHMM_TASK_SIZE - start) >> UHMM_PAGE_SHIFT)
		return -EINVAL;
	flags |= kind;
	if (fast)
		done = uhmm__gup_fast(mm, start, npages, flags, pages);
	uhmm__count_n(UHMM_CNT_GUP_FAST, done);
	if (done < npages)
		ret = gup_longterm(mm, start + (done << UHMM_PAGE_SHIFT), npages - done, flags,
				   pages + done);
	if (ret > 0)
		uhmm__count_n(UHMM_CNT_GUP, ret);
	uhmm__exit_to_user();
	if (ret < 0)
		return done ? (int64_t)done : ret;
	return (int64_t)done + ret;
}

enum {
	GET_FLAGS = UHMM_FOLL_WRITE | UHMM_FOLL_NOFAULT | UHMM_FOLL_HONOR_NUMA_FAULT,
	PIN_FLAGS = GET_FLAGS | UHMM_FOLL_LONGTERM,
};

int64_t uhmm_pin_user_pages(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
			    unsigned int flags, uhmm_pfn_t *pages)
{
	return gup(mm, start, npages, flags, PIN_FLAGS, FOLL_PIN, false, pages);
}

int64_t uhmm_pin_user_pages_fast(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
				 unsigned int flags, uhmm_pfn_t *pages)
{
	return gup(mm, start, npages, flags, PIN_FLAGS, FOLL_PIN, true, pages);
}

int64_t uhmm_get_user_pages(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
			    unsigned int flags, uhmm_pfn_t *pages)
{
	return gup(mm, start, npages, flags, GET_FLAGS, FOLL_GET, false, pages);
}

int64_t uhmm_get_user_pages_fast(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
				 unsigned int flags, uhmm_pfn_t *pages)
{
	return gup(mm, start, npages, flags, GET_FLAGS, FOLL_GET, true, pages);
}

void uhmm_unpin_user_pages(struct uhmm_machine *m, const uhmm_pfn_t *pages, uint64_t npages)
{
	for (uint64_t i = 0; i < npages; i++)
		uhmm__gup_put(m, pages[i], FOLL_PIN);
}

void uhmm_put_user_pages(struct uhmm_machine *m, const uhmm_pfn_t *pages, uint64_t npages)
{
	for (uint64_t i = 0; i < npages; i++)
		uhmm__gup_put(m, pages[i], FOLL_GET);
}
