// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * anon_vma: which VMAs may map an anonymous folio. Models: the first part of mm/rmap.c.
 *
 * A folio points to the anon_vma of the VMA that first mapped it. fork gives the child's VMA a
 * chain to each anon_vma of the parent's, so that the parent's folios are found in the child, and
 * an anon_vma of its own for folios to come. All anon_vmas of a family share the root's lock.
 */
#include "core/alloc.h"
#include "mm/mm.h"

/*
 * anon_vmas are type-stable: a freed one stays an anon_vma, empty and its own root, until it is used
 * again. A folio that is unmapped but not yet free may point to one that lost its last VMA; a walk
 * then finds nothing of that folio. In the kernel SLAB_TYPESAFE_BY_RCU does the same.
 */
static struct uhmm__anon_vma *anon_vma_new(struct uhmm_machine *m)
{
	struct uhmm__mms *mms = m->mms;
	struct uhmm__anon_vma *av;

	uhmm__spin_lock(&mms->lock);
	av = mms->free_anon_vmas;
	if (av)
		mms->free_anon_vmas = av->parent;
	uhmm__spin_unlock(&mms->lock);
	if (av)
		return av;
	av = uhmm__alloc(m, sizeof(*av));
	if (!av)
		return NULL;
	uhmm__rwsem_init(&av->rwsem, UHMM__LC_ANON_VMA);
	return av;
}

static struct uhmm__anon_vma *anon_vma_alloc(struct uhmm_machine *m, struct uhmm__anon_vma *parent)
{
	struct uhmm__anon_vma *av = anon_vma_new(m);

	if (!av)
		return NULL;
	store_relaxed(&av->refcount, 1);
	if (parent) {
		struct uhmm__anon_vma *root = load_relaxed(&parent->root);

		/* A walker from before it was freed may be in its tree, by its own lock. */
		uhmm__down_write(&av->rwsem);
		store_release(&av->root, root);
		uhmm__up_write(&av->rwsem);
		av->parent = parent;
		atomic_fetch_add_explicit(&root->refcount, 1, memory_order_relaxed);
	} else {
		store_release(&av->root, av);
		av->parent = av;
	}
	return av;
}

static void anon_vma_free(struct uhmm_machine *m, struct uhmm__anon_vma *av)
{
	struct uhmm__anon_vma *root = load_relaxed(&av->root);

	/* A walker that still has @av must not touch the old root any more. */
	uhmm__down_write(&root->rwsem);
	store_release(&av->root, av);
	av->num_children = 0;
	av->num_active_vmas = 0;
	uhmm__up_write(&root->rwsem);
	uhmm__spin_lock(&m->mms->lock);
	av->parent = m->mms->free_anon_vmas;
	m->mms->free_anon_vmas = av;
	uhmm__spin_unlock(&m->mms->lock);
	if (root != av)
		uhmm__anon_vma_put(m, root);
}

void uhmm__anon_vmas_exit(struct uhmm_machine *m)
{
	struct uhmm__anon_vma *av;

	while ((av = m->mms->free_anon_vmas)) {
		m->mms->free_anon_vmas = av->parent;
		uhmm__free(m, av, sizeof(*av));
	}
}

void uhmm__anon_vma_put(struct uhmm_machine *m, struct uhmm__anon_vma *av)
{
	if (atomic_fetch_sub_explicit(&av->refcount, 1, memory_order_acq_rel) == 1)
		anon_vma_free(m, av);
}

static struct uhmm__anon_vma_chain *chain_alloc(struct uhmm_machine *m)
{
	return uhmm__alloc(m, sizeof(struct uhmm__anon_vma_chain));
}

static void chain_node_set(struct uhmm__anon_vma_chain *c)
{
	struct uhmm_vma *vma = c->vma;

	c->node.start = vma->anon_pgoff;
	c->node.last = vma->anon_pgoff + ((vma->end - vma->start) >> UHMM_PAGE_SHIFT) - 1;
}

/* Context: the root's lock for writing. */
static void chain_link(struct uhmm__anon_vma_chain *c, struct uhmm_vma *vma,
		       struct uhmm__anon_vma *av)
{
	c->vma = vma;
	c->anon_vma = av;
	list_add(&c->same_vma, &vma->chain);
	chain_node_set(c);
	uhmm__itree_insert(&av->tree, &c->node);
}

/* A neighbour's anon_vma that this VMA could use, so that the two can be merged later. */
static struct uhmm__anon_vma *find_mergeable(struct uhmm_vma *vma)
{
	struct uhmm_vma *near[2] = { uhmm__vma_next(vma->mm, vma), uhmm__vma_prev(vma->mm, vma) };

	for (int i = 0; i < 2; i++) {
		struct uhmm_vma *a = i ? near[1] : vma, *b = i ? vma : near[0];
		const uint64_t may_differ = UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC;
		struct uhmm__anon_vma *av;

		if (!near[i] || a->end != b->start || a->file != b->file ||
		    ((a->flags ^ b->flags) & ~may_differ) || vma_pgoff(a, b->start) != b->pgoff ||
		    vma_anon_pgoff(a, b->start) != b->anon_pgoff)
			continue;
		av = load_acquire(&near[i]->anon_vma);
		/* One that came by fork has a longer chain: leave that alone. */
		if (av && near[i]->chain.next == near[i]->chain.prev)
			return av;
	}
	return NULL;
}

/*
 * Context: mmap_lock held, for reading at least. Two faults may race to set vma->anon_vma: the
 * page_table_lock decides. Models: __anon_vma_prepare().
 */
int uhmm__anon_vma_prepare(struct uhmm_vma *vma)
{
	struct uhmm_mm *mm = vma->mm;
	struct uhmm_machine *m = mm->machine;
	struct uhmm__anon_vma *av, *allocated = NULL;
	struct uhmm__anon_vma_chain *c;

	if (load_acquire(&vma->anon_vma))
		return 0;
	c = chain_alloc(m);
	if (!c)
		return -ENOMEM;
	av = find_mergeable(vma);
	if (!av) {
		av = allocated = anon_vma_alloc(m, NULL);
		if (!av) {
			uhmm__free(m, c, sizeof(*c));
			return -ENOMEM;
		}
	}
	uhmm__down_write(&anon_vma_root(av)->rwsem);
	uhmm__spin_lock(&mm->pgt.page_table_lock);
	if (!load_relaxed(&vma->anon_vma)) {
		chain_link(c, vma, av);
		if (!allocated)
			atomic_fetch_add_explicit(&av->refcount, 1, memory_order_relaxed);
		av->num_active_vmas++;
		store_release(&vma->anon_vma, av);
		allocated = NULL;
		c = NULL;
	}
	uhmm__spin_unlock(&mm->pgt.page_table_lock);
	uhmm__up_write(&anon_vma_root(av)->rwsem);
	if (allocated)
		uhmm__anon_vma_put(m, allocated);
	uhmm__free(m, c, sizeof(*c));
	return 0;
}

/*
 * Give @dst a chain to each anon_vma of @src. References: each chain holds one on its anon_vma.
 * Context: mmap_lock of both held for writing. Models: anon_vma_clone().
 */
int uhmm__anon_vma_clone(struct uhmm_vma *dst, struct uhmm_vma *src)
{
	struct uhmm_machine *m = dst->mm->machine;
	struct uhmm__anon_vma_chain *c, *n;

	uhmm__for_each_entry(c, &src->chain, same_vma) {
		struct uhmm__anon_vma *av = c->anon_vma;

		n = chain_alloc(m);
		if (!n) {
			uhmm__unlink_anon_vmas(dst);
			return -ENOMEM;
		}
		uhmm__down_write(&anon_vma_root(av)->rwsem);
		chain_link(n, dst, av);
		/* Keep the order of the source: the own anon_vma comes first. */
		list_del(&n->same_vma);
		list_add_tail(&n->same_vma, &dst->chain);
		atomic_fetch_add_explicit(&av->refcount, 1, memory_order_relaxed);
		uhmm__up_write(&anon_vma_root(av)->rwsem);
	}
	if (load_relaxed(&src->anon_vma) && dst->mm == src->mm && !load_relaxed(&dst->anon_vma)) {
		struct uhmm__anon_vma *av = load_relaxed(&src->anon_vma);

		uhmm__down_write(&anon_vma_root(av)->rwsem);
		av->num_active_vmas++;
		uhmm__up_write(&anon_vma_root(av)->rwsem);
		store_release(&dst->anon_vma, av);
	}
	return 0;
}

/*
 * An anon_vma without VMAs of its own and with one child only has no use but for this child:
 * reusing it bounds the length of chains when a process forks again and again.
 */
static struct uhmm__anon_vma *reusable(struct uhmm_vma *dst)
{
	struct uhmm__anon_vma_chain *c;

	uhmm__for_each_entry(c, &dst->chain, same_vma) {
		struct uhmm__anon_vma *av = c->anon_vma;

		if (av != anon_vma_root(av) && !av->num_active_vmas && av->num_children < 2)
			return av;
	}
	return NULL;
}

/* Models: anon_vma_fork(). */
int uhmm__anon_vma_fork(struct uhmm_vma *dst, struct uhmm_vma *src)
{
	struct uhmm_machine *m = dst->mm->machine;
	struct uhmm__anon_vma *av;
	struct uhmm__anon_vma_chain *c;
	int err;

	if (!load_relaxed(&src->anon_vma))
		return 0;
	err = uhmm__anon_vma_clone(dst, src);
	if (err)
		return err;
	av = reusable(dst);
	if (av) {
		uhmm__down_write(&anon_vma_root(av)->rwsem);
		av->num_active_vmas++;
		uhmm__up_write(&anon_vma_root(av)->rwsem);
		store_release(&dst->anon_vma, av);
		return 0;
	}
	av = anon_vma_alloc(m, load_relaxed(&src->anon_vma));
	c = av ? chain_alloc(m) : NULL;
	if (!c) {
		if (av)
			uhmm__anon_vma_put(m, av);
		uhmm__unlink_anon_vmas(dst);
		return -ENOMEM;
	}
	uhmm__down_write(&anon_vma_root(av)->rwsem);
	chain_link(c, dst, av);
	av->num_active_vmas++;
	av->parent->num_children++;
	/* The child holds its parent. */
	atomic_fetch_add_explicit(&av->parent->refcount, 1, memory_order_relaxed);
	uhmm__up_write(&anon_vma_root(av)->rwsem);
	store_release(&dst->anon_vma, av);
	return 0;
}

/* A chain's reference to @av is gone. Context: the root's lock must not be held. */
static void anon_vma_unchain(struct uhmm_machine *m, struct uhmm__anon_vma *av, bool empty)
{
	struct uhmm__anon_vma *parent = av->parent;

	if (!empty || parent == av) {
		uhmm__anon_vma_put(m, av);
		return;
	}
	uhmm__down_write(&anon_vma_root(av)->rwsem);
	parent->num_children--;
	uhmm__up_write(&anon_vma_root(av)->rwsem);
	uhmm__anon_vma_put(m, av);
	uhmm__anon_vma_put(m, parent);
}

/* Models: unlink_anon_vmas(). */
void uhmm__unlink_anon_vmas(struct uhmm_vma *vma)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__anon_vma *own = load_relaxed(&vma->anon_vma);
	struct uhmm__anon_vma_chain *c, *tmp;

	if (own) {
		uhmm__down_write(&anon_vma_root(own)->rwsem);
		own->num_active_vmas--;
		uhmm__up_write(&anon_vma_root(own)->rwsem);
		store_relaxed(&vma->anon_vma, NULL);
	}
	uhmm__for_each_entry_safe(c, tmp, &vma->chain, same_vma) {
		struct uhmm__anon_vma *av = c->anon_vma;
		bool empty;

		uhmm__down_write(&anon_vma_root(av)->rwsem);
		uhmm__itree_remove(&av->tree, &c->node);
		empty = uhmm__itree_empty(&av->tree);
		uhmm__up_write(&anon_vma_root(av)->rwsem);
		list_del(&c->same_vma);
		uhmm__free(m, c, sizeof(*c));
		anon_vma_unchain(m, av, empty);
	}
}

void uhmm__anon_vma_pre_update(struct uhmm_vma *vma)
{
	struct uhmm__anon_vma *own = load_relaxed(&vma->anon_vma);
	struct uhmm__anon_vma_chain *c;

	if (!own)
		return;
	uhmm__down_write(&anon_vma_root(own)->rwsem);
	uhmm__for_each_entry(c, &vma->chain, same_vma)
		uhmm__itree_remove(&c->anon_vma->tree, &c->node);
}

void uhmm__anon_vma_post_update(struct uhmm_vma *vma)
{
	struct uhmm__anon_vma *own = load_relaxed(&vma->anon_vma);
	struct uhmm__anon_vma_chain *c;

	if (!own)
		return;
	uhmm__for_each_entry(c, &vma->chain, same_vma) {
		chain_node_set(c);
		uhmm__itree_insert(&c->anon_vma->tree, &c->node);
	}
	uhmm__up_write(&anon_vma_root(own)->rwsem);
}
