// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The graph of dependencies: an edge from A to B means that a task had A when it waited for B. A cycle
 * is a deadlock that some timing would bring about. Two kinds of edges: those that were seen, and
 * those that lock_classes.def declares, from each lower order to each higher one, so that the first
 * nesting against the order is reported before anybody has nested as declared.
 *
 * Nodes are classes and not locks, as in the kernel: what holds for one mmap_lock holds for all. But
 * folio locks are too many and too much alike, and tasks hold several of them in orders that differ by
 * place, so that among themselves each is a node of its own, for as long as the folio lives.
 */
#include "sync/lock_graph.h"

#if UHMM_CHECKED

#include <string.h>

#include "core/region.h"
#include "sync/sync.h"

static void node_init(struct uhmm__lock_graph *g, unsigned int class_id, enum uhmm__lock_kind kind,
		      unsigned int order)
{
	uint8_t flags = 0;

	if (kind != UHMM__LK_SECTION)
		flags |= NODE_DEPENDS;
	if (kind < UHMM__LK_SECTION)
		flags |= NODE_SLEEPS;
	if (kind > UHMM__LK_SECTION)
		flags |= NODE_SPIN;
	for (unsigned int sub = 0; sub < UHMM__SUBCLASSES; sub++) {
		unsigned int node = UHMM__NODE(class_id, sub);

		g->flags[node] = flags;
		g->rank[node] = (uint16_t)(order ? UHMM__SUBCLASSES * order + sub : 0);
	}
}

int uhmm__lock_check_init(struct uhmm_machine *m)
{
	struct uhmm__lock_graph *g = uhmm__side_alloc(sizeof(*g));

	if (!g)
		return -ENOMEM;
	uhmm__spin_init(&g->lock, UHMM__LC_TASKS);
	g->ignored = m->config.lock_order == UHMM_LOCK_ORDER_IGNORED;
	if (g->ignored)
		memset(g->known, 0xff, sizeof(g->known));
	for (unsigned int i = 0; i < UHMM__NR_LOCK_CLASSES; i++)
		node_init(g, i, uhmm__lock_classes[i].kind, uhmm__lock_classes[i].order);
	m->sync->lock_graph = g;
	return 0;
}

void uhmm__lock_check_exit(struct uhmm_machine *m)
{
	uhmm__side_free(m->sync->lock_graph, sizeof(*m->sync->lock_graph));
}

void uhmm__lock_class_added(struct uhmm_machine *m, unsigned int class_id)
{
	node_init(m->sync->lock_graph, class_id,
		  m->sync->driver_classes[class_id - UHMM__NR_LOCK_CLASSES].kind, 0);
}

/* ---- edges ---- */

static struct uhmm__lock_edge make_edge(const struct uhmm_task *t, const struct uhmm__held *h,
					const struct uhmm__wanted *w)
{
	struct uhmm__lock_edge e = {
		.from = *h,
		.to = { w->lock, w->where, (uint8_t)w->node, (uint8_t)w->how },
		.task_id = t->id,
	};

	memcpy(e.task, t->name, sizeof(e.task));
	return e;
}

/* Without room the edge is there all the same, but nobody can tell who made it. */
static void add_edge(struct uhmm__lock_graph *g, const struct uhmm__lock_edge *e)
{
	node_set(g->before[e->to.node], e->from.node);
	if (g->nr_edges < EDGES)
		g->edges[g->nr_edges++] = *e;
}

static void add_link(const struct uhmm__lock_graph *g, struct uhmm__lock_chain *chain,
		     unsigned int from, unsigned int to)
{
	struct uhmm__lock_edge *e = &chain->e[chain->nr];

	if (!node_test(g->before[to], from))
		chain->declared |= 1U << chain->nr;
	chain->nr++;
	*e = (struct uhmm__lock_edge){ .from.node = (uint8_t)from, .to.node = (uint8_t)to };
	for (unsigned int i = 0; i < g->nr_edges; i++)
		if (g->edges[i].from.node == from && g->edges[i].to.node == to)
			*e = g->edges[i];
}

/* ---- cycles ---- */

static bool is_edge(const struct uhmm__lock_graph *g, unsigned int from, unsigned int to,
		    bool declared)
{
	return node_test(g->before[to], from) ||
	       (declared && g->rank[from] && g->rank[from] < g->rank[to]);
}

/*
 * The shortest way from a node to another, found from its end. @declared: by declared edges, too.
 */
static bool find_path(const struct uhmm__lock_graph *g, unsigned int from, unsigned int to,
		      bool declared, struct uhmm__lock_chain *chain)
{
	uint8_t queue[UHMM__LOCK_NODES], next[UHMM__LOCK_NODES];
	uint64_t seen[LOCK_WORDS] = { 0 };
	unsigned int head = 0, tail = 0;

	node_set(seen, to);
	queue[tail++] = (uint8_t)to;
	while (head < tail && !node_test(seen, from)) {
		unsigned int at = queue[head++];

		for (unsigned int n = 0; n < UHMM__LOCK_NODES; n++) {
			if (node_test(seen, n) || !is_edge(g, n, at, declared))
				continue;
			node_set(seen, n);
			next[n] = (uint8_t)at;
			queue[tail++] = (uint8_t)n;
		}
	}
	if (!node_test(seen, from))
		return false;
	for (; from != to && chain->nr < MAX_CHAIN; from = next[from])
		add_link(g, chain, from, next[from]);
	return true;
}

/* Does an edge from @h to @w close a cycle? */
static bool closes_cycle(const struct uhmm__lock_graph *g, unsigned int h, unsigned int w,
			 struct uhmm__lock_chain *chain)
{
	/* Declared edges close none among themselves, and all others were checked against them. */
	if (g->rank[h] && g->rank[h] < g->rank[w])
		return false;
	return find_path(g, w, h, false, chain) || find_path(g, w, h, true, chain);
}

bool uhmm__graph_depend(struct uhmm_task *t, const struct uhmm__held *h,
			const struct uhmm__wanted *w, struct uhmm__lock_chain *chain)
{
	struct uhmm__lock_graph *g = t->held.graph;
	uint64_t bit = UINT64_C(1) << (h->node % 64);
	_Atomic uint64_t *known = &g->known[w->node][h->node / 64];
	struct uhmm__lock_edge e = make_edge(t, h, w);
	bool good = true;

	chain->nr = chain->declared = 0;
	uhmm__raw_spin_lock(&g->lock);
	if (!(load_relaxed(known) & bit)) {
		store_relaxed(known, load_relaxed(known) | bit);
		good = !closes_cycle(g, h->node, w->node, chain);
		if (good)
			add_edge(g, &e);
	}
	uhmm__raw_spin_unlock(&g->lock);
	return good;
}

bool uhmm__graph_say_recursion(struct uhmm_task *t, unsigned int node)
{
	struct uhmm__lock_graph *g = t->held.graph;
	bool first;

	uhmm__raw_spin_lock(&g->lock);
	first = !node_test(g->said, node);
	node_set(g->said, node);
	uhmm__raw_spin_unlock(&g->lock);
	return first;
}

/* ---- folios ---- */

static unsigned int nr_folio_edges(const struct uhmm__lock_graph *g)
{
	return MIN(load_relaxed(&g->nr_folio_edges), (unsigned int)FOLIO_EDGES);
}

/*
 * From @w along the edges to a folio that @t has. Edges are visited once; by[] leads back.
 */
static const struct uhmm__held *find_folio_path(struct uhmm_task *t, const struct uhmm__wanted *w,
						struct uhmm__lock_chain *chain)
{
	const struct uhmm__lock_graph *g = t->held.graph;
	const struct uhmm__lock_edge *e = g->folio_edges;
	unsigned int nr = nr_folio_edges(g), head = 0, tail = 0;
	uint16_t queue[FOLIO_EDGES], by[FOLIO_EDGES];
	bool seen[FOLIO_EDGES] = { false };
	const struct uhmm__held *h = NULL;

	for (const void *at = w->lock;;) {
		for (unsigned int i = 0; i < nr; i++) {
			if (seen[i] || e[i].from.lock != at)
				continue;
			seen[i] = true;
			by[i] = (uint16_t)(at == w->lock ? i : queue[head - 1]);
			queue[tail++] = (uint16_t)i;
		}
		if (head == tail)
			return NULL;
		at = e[queue[head++]].to.lock;
		h = uhmm__held_find(t, at, UHMM__LC_FOLIO);
		if (h)
			break;
	}
	/* Back to front. */
	for (unsigned int i = queue[head - 1];; i = by[i]) {
		if (chain->nr < MAX_CHAIN)
			memmove(&chain->e[1], &chain->e[0], chain->nr++ * sizeof(*e));
		else
			memmove(&chain->e[1], &chain->e[0], (MAX_CHAIN - 1) * sizeof(*e));
		chain->e[0] = e[i];
		if (by[i] == i)
			return h;
	}
}

static void add_folio_edge(struct uhmm__lock_graph *g, const struct uhmm__lock_edge *e)
{
	unsigned int n = load_relaxed(&g->nr_folio_edges);

	for (unsigned int i = 0; i < nr_folio_edges(g); i++)
		if (g->folio_edges[i].from.lock == e->from.lock &&
		    g->folio_edges[i].to.lock == e->to.lock)
			return;
	g->folio_edges[n % FOLIO_EDGES] = *e;
	store_relaxed(&g->nr_folio_edges, n + 1);
}

const struct uhmm__held *uhmm__graph_depend_folio(struct uhmm_task *t, const struct uhmm__wanted *w,
						  struct uhmm__lock_chain *chain)
{
	enum { MOST = 32 }; /* of a batch, the last */
	struct uhmm__lock_graph *g = t->held.graph;
	const struct uhmm__held_set *s = &t->held;
	const struct uhmm__held *bad = NULL;
	unsigned int n = 0;

	chain->nr = chain->declared = 0;
	uhmm__raw_spin_lock(&g->lock);
	bad = find_folio_path(t, w, chain);
	for (unsigned int i = s->end; !bad && n < MOST && i-- > s->first;) {
		struct uhmm__lock_edge e;

		if (!s->v[i].lock || UHMM__NODE_CLASS(s->v[i].node) != UHMM__LC_FOLIO)
			continue;
		e = make_edge(t, &s->v[i], w);
		add_folio_edge(g, &e);
		n++;
	}
	uhmm__raw_spin_unlock(&g->lock);
	return bad;
}

void uhmm__lock_forget(struct uhmm_machine *m, const void *lock)
{
	struct uhmm__lock_graph *g = m->sync->lock_graph;
	unsigned int nr, kept = 0;

	if (likely(!load_relaxed(&g->nr_folio_edges)))
		return;
	uhmm__raw_spin_lock(&g->lock);
	nr = nr_folio_edges(g);
	for (unsigned int i = 0; i < nr; i++)
		if (g->folio_edges[i].from.lock != lock && g->folio_edges[i].to.lock != lock)
			g->folio_edges[kept++] = g->folio_edges[i];
	if (kept < nr)
		store_relaxed(&g->nr_folio_edges, kept);
	uhmm__raw_spin_unlock(&g->lock);
}

#endif /* UHMM_CHECKED */
