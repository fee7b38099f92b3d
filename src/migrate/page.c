// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pages by pfn, as drivers handle them. */
#include "migrate/migrate.h"

int uhmm_alloc_locked_page(struct uhmm_machine *m, uhmm_pfn_t *out)
{
	return uhmm_alloc_locked_folio(m, 0, out);
}

int uhmm_alloc_locked_folio(struct uhmm_machine *m, unsigned int order, uhmm_pfn_t *out)
{
	return order > FOLIO_MAX_ORDER ? -EINVAL : alloc_locked_folio(m, order, out);
}

bool uhmm_try_get_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return pfn_to_index(m, pfn) < m->nr_frames && folio_try_get(pfn_to_frame(m, pfn));
}

void uhmm_lock_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	folio_lock(m, page_folio(pfn_to_frame(m, pfn)));
}

void uhmm_unlock_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	folio_unlock(m, page_folio(pfn_to_frame(m, pfn)));
}

void uhmm_unlock_put_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, pfn));

	folio_unlock(m, f);
	folio_put(m, f);
}

/*
 * A driver that holds on to a page of RAM that was taken from it: what KASAN might tell in Linux. Free
 * device memory is its driver's to write to, and so are frames that were never anybody's.
 */
static bool reported_freed(struct uhmm_machine *m, uhmm_pfn_t pfn, const char *what)
{
	const struct uhmm_task *t = UHMM_CHECKED ? uhmm__current() : NULL;

	if (!UHMM_CHECKED || pfn_is_device(m, pfn) || !folio_test(pfn_to_frame(m, pfn), PG_FREE))
		return false;
	uhmm__report(m, UHMM_REPORT_FREED,
		     "%s() of a page of RAM that was freed: pfn %#llx, by %s/%llu", what,
		     (unsigned long long)pfn, t ? t->name : "?", t ? (unsigned long long)t->id : 0);
	return true;
}

void uhmm_copy_highpage(struct uhmm_machine *m, uhmm_pfn_t dst, uhmm_pfn_t src)
{
	(void)reported_freed(m, dst, __func__);
	(void)reported_freed(m, src, __func__);
	uhmm__copy_page(m, dst, src);
}

void uhmm_clear_highpage(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	(void)reported_freed(m, pfn, __func__);
	uhmm__clear_page(m, pfn);
}

void uhmm_page_read(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, void *buf, size_t len)
{
	(void)reported_freed(m, pfn, __func__);
	uhmm__read_frame(m, pfn, off, buf, len);
}

void uhmm_page_write(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, const void *buf,
		     size_t len)
{
	(void)reported_freed(m, pfn, __func__);
	uhmm__write_frame(m, pfn, off, buf, len);
}

void uhmm_set_page_dirty(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, pfn));

	if (reported_freed(m, pfn, __func__))
		return;
	if (!folio_test(f, PG_DIRTY))
		folio_set(f, PG_DIRTY);
}

void uhmm_set_page_dirty_lock(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, pfn));

	folio_lock(m, f);
	uhmm_set_page_dirty(m, pfn);
	folio_unlock(m, f);
}

bool uhmm_is_device_private_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return is_device_private_page(m, pfn);
}

bool uhmm_is_device_coherent_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return pfn_is_device(m, pfn) && folio_is_device_coherent(pfn_to_frame(m, pfn));
}

unsigned int uhmm_page_order(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return folio_order(pfn_to_frame(m, pfn));
}

uhmm_pfn_t uhmm_page_head(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return frame_pfn(m, page_folio(pfn_to_frame(m, pfn)));
}

bool uhmm_is_zero_pfn(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return pfn == m->zero_pfn;
}
