// SPDX-License-Identifier: LGPL-2.1-or-later
/* Life of an address space, fork, and the public faces of mmap_lock. */
#include "mm/mm.h"

#include "core/alloc.h"

/* ---- nodes of the VMA tree, freed after a grace period ---- */

struct dead_node {
	struct uhmm__rcu_head rcu;
	struct uhmm_machine *machine;
	uint64_t size;
};

_Static_assert(sizeof(struct dead_node) <= UHMM__RANGETREE_DEFER_SIZE, "must fit into a node");

static void dead_node_rcu(struct uhmm__rcu_head *head)
{
	struct dead_node *d = container_of(head, struct dead_node, rcu);
	struct uhmm_machine *m = d->machine;
	uint64_t size = d->size;
	char *node = (char *)d + UHMM__RANGETREE_DEFER_SIZE - size;

	uhmm__free(m, node, size);
}

static void defer_node(void *ctx, void *node, size_t size)
{
	struct uhmm_machine *m = ctx;
	struct dead_node *d = uhmm__rangetree_defer_area(node, size);

	d->machine = m;
	d->size = size;
	uhmm__call_rcu(m, &d->rcu, dead_node_rcu);
}

/* ---- life ---- */

static void mm_free(struct uhmm_mm *mm)
{
	struct uhmm_machine *m = mm->machine;

	uhmm__tlb_forget(&mm->pgt);
	uhmm__pgtable_exit(&mm->pgt);
	uhmm__rangetree_destroy(&mm->vmas);
	uhmm__free(m, mm, sizeof(*mm));
}

static int mm_create(struct uhmm_machine *m, struct uhmm_mm **out)
{
	struct uhmm_mm *mm = uhmm__alloc(m, sizeof(*mm));
	int err;

	if (!mm)
		return -ENOMEM;
	mm->machine = m;
	uhmm__rwsem_init(&mm->mmap_lock, UHMM__LC_MMAP);
	uhmm__waitq_init(&mm->vma_writers, UHMM__LC_WAITQ);
	uhmm__rangetree_init(&mm->vmas, &m->allocator, defer_node, m);
	uhmm__notifiers_init(&mm->notifiers);
	store_relaxed(&mm->lock_seq, 1);
	store_relaxed(&mm->users, 1);
	store_relaxed(&mm->count, 1);
	err = uhmm__pgtable_init(&mm->pgt, m);
	if (err) {
		mm_free(mm);
		return err;
	}
	uhmm__spin_lock(&m->mms->lock);
	mm->id = ++m->mms->next_id;
	list_add_tail(&mm->list, &m->mms->list);
	uhmm__spin_unlock(&m->mms->lock);
	*out = mm;
	return 0;
}

/* Creation and the last put also work outside any task, as the machine's own. */
int uhmm_mm_create(struct uhmm_machine *m, struct uhmm_mm **out)
{
	int err;

	if (uhmm__current())
		return mm_create(m, out);
	uhmm__boot_task_enter(m);
	err = mm_create(m, out);
	uhmm__boot_task_leave(m, NULL);
	return err;
}

void uhmm_mmget(struct uhmm_mm *mm)
{
	atomic_fetch_add_explicit(&mm->users, 1, memory_order_relaxed);
}

bool uhmm_mmget_not_zero(struct uhmm_mm *mm)
{
	uint32_t users = load_relaxed(&mm->users);

	while (users) {
		if (atomic_compare_exchange_weak_explicit(&mm->users, &users, users + 1,
							  memory_order_acquire,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

void uhmm_mmgrab(struct uhmm_mm *mm)
{
	atomic_fetch_add_explicit(&mm->count, 1, memory_order_relaxed);
}

void uhmm_mmdrop(struct uhmm_mm *mm)
{
	if (atomic_fetch_sub_explicit(&mm->count, 1, memory_order_acq_rel) == 1)
		mm_free(mm);
}

/* Models: exit_mmap(). The last user: nobody else faults here; rmap walks still may come. */
static void exit_mmap(struct uhmm_mm *mm)
{
	struct uhmm_machine *m = mm->machine;
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(mm, UHMM_MMU_NOTIFY_UNMAP, 0, UINT64_MAX, NULL);
	struct uhmm__gather g;
	struct uhmm_vma *vma;

	uhmm__notifiers_release(mm);
	mmap_write_lock(mm);
	vma = uhmm__find_vma(mm, 0);
	if (vma) {
		uhmm__gather_init(&g, mm);
		g.drop_markers = true;
		uhmm__invalidate_start(&range);
		for (; vma; vma = uhmm__vma_next(mm, vma))
			uhmm__unmap_range(&g, vma, vma->start, vma->end);
		uhmm__invalidate_end(&range);
		uhmm__gather_finish(&g);
	}
	while ((vma = uhmm__find_vma(mm, 0))) {
		uhmm__vma_unlink(vma);
		uhmm__vma_free(vma);
	}
	uhmm__free_pgtables(&mm->pgt, 0, UHMM_TASK_SIZE, 0, 0);
	mmap_write_unlock(mm);
	uhmm__spin_lock(&m->mms->lock);
	list_del(&mm->list);
	uhmm__spin_unlock(&m->mms->lock);
}

static void mm_last_user(struct uhmm_mm *mm)
{
	exit_mmap(mm);
	uhmm_mmdrop(mm);
}

void uhmm_mmput(struct uhmm_mm *mm)
{
	struct uhmm_machine *m = mm->machine;

	uhmm__might_sleep();
	if (atomic_fetch_sub_explicit(&mm->users, 1, memory_order_acq_rel) != 1)
		return;
	if (uhmm__current()) {
		mm_last_user(mm);
		return;
	}
	uhmm__boot_task_enter(m);
	mm_last_user(mm);
	uhmm__boot_task_leave(m, NULL);
}

uint64_t uhmm_mm_id(const struct uhmm_mm *mm)
{
	return mm->id;
}

struct uhmm_machine *uhmm_mm_machine(const struct uhmm_mm *mm)
{
	return mm->machine;
}

/* ---- mmap_lock ---- */

void uhmm_mmap_read_lock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	mmap_read_lock_at(mm, where);
}

bool uhmm_mmap_read_trylock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	return mmap_read_trylock_at(mm, where);
}

void uhmm_mmap_read_unlock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	mmap_read_unlock_at(mm, where);
}

void uhmm_mmap_write_lock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	mmap_write_lock_at(mm, 0, where);
}

void uhmm_mmap_write_unlock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	mmap_write_unlock_at(mm, where);
}
