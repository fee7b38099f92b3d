// SPDX-License-Identifier: LGPL-2.1-or-later
/* Random operations, and their text. */
#define _GNU_SOURCE
#include "model/lockstep.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif

static const char *const op_names[NR_OPS] = {
#define OP_NAME(name, weight) #name,
	LOCKSTEP_OPS(OP_NAME)
#undef OP_NAME
};

static const unsigned int op_weights[NR_OPS] = {
#define OP_WEIGHT(name, weight) weight,
	LOCKSTEP_OPS(OP_WEIGHT)
#undef OP_WEIGHT
};

static unsigned int weight(const struct run_config *config, unsigned int kind)
{
	if (kind == OP_PAGEOUT && !config->swap_bytes)
		return 0;
	if ((kind == OP_MMAP_DRIVER && !config->drivers) || (kind == OP_LARGE && !config->large))
		return 0;
	if ((kind == OP_NUMA && !config->hints) ||
	    ((kind == OP_UFFD_WP || kind == OP_UFFD_MISSING) && !config->uffd))
		return 0;
	if ((kind == OP_GUARD || kind == OP_POISON || kind == OP_POISON_FILE ||
	     kind == OP_TRUNCATE) &&
	    !config->broken)
		return 0;
	return op_weights[kind];
}

static enum op_kind random_kind(struct rng *rng, const struct run_config *config)
{
	unsigned int sum = 0, kind = 0;
	uint64_t at;

	for (unsigned int i = 0; i < NR_OPS; i++)
		sum += weight(config, i);
	for (at = rng_below(rng, sum); at >= weight(config, kind); kind++)
		at -= weight(config, kind);
	return (enum op_kind)kind;
}

static int random_prot(struct rng *rng)
{
	static const int prots[] = {
		RW,
		RW,
		RW,
		RW,
		RW,
		PROT_READ,
		PROT_READ,
		PROT_NONE,
		PROT_WRITE,
		PROT_EXEC,
		RW | PROT_EXEC,
		PROT_READ | PROT_EXEC,
	};

	return prots[rng_below(rng, sizeof(prots) / sizeof(prots[0]))];
}

/* Mostly few pages, and mostly where others have been. */
static void random_range(struct rng *rng, unsigned int *page, unsigned int *npages)
{
	static const unsigned int hots[] = { FLAT_PAGES / 2 - 16, FLAT_HUGE - 16, FLAT_HEAP };
	unsigned int hot = hots[rng_below(rng, 3)];

	switch (rng_below(rng, 9)) {
	case 0:
		*npages = 1 + (unsigned int)rng_below(rng, FLAT_PAGES);
		*page = (unsigned int)rng_below(rng, FLAT_PAGES - *npages + 1);
		break;
	case 1:
	case 2:
		*npages = 1 + (unsigned int)rng_below(rng, 40);
		*page = (unsigned int)rng_below(rng, FLAT_PAGES - *npages + 1);
		break;
	case 3:
		*npages = 1 + (unsigned int)rng_below(rng, 8);
		*page = FLAT_ALL - *npages - (unsigned int)rng_below(rng, FLAT_STACK - *npages);
		break;
	default:
		*npages = 1 + (unsigned int)rng_below(rng, 8);
		*page = hot + (unsigned int)rng_below(rng, 32 - *npages);
		break;
	}
}

/* A folio begins at a multiple of its size, and lies in one table. */
static void align_folio(struct op *op)
{
	unsigned int before;

	if (op->page >= FLAT_PAGES && op->npages > 8)
		op->npages = 8;
	before = (unsigned int)(flat_address(op->page) / PAGE % op->npages);
	if (op->page - flat_first(op->page) < before ||
	    op->page - before + op->npages > flat_end(op->page))
		op->page = FLAT_HUGE;
	else
		op->page -= before;
}

static const int fork_advice[] = { MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK };

void op_random(struct rng *rng, const struct run_config *config, struct op *op)
{
	uint64_t left;

	memset(op, 0, sizeof(*op));
	op->kind = random_kind(rng, config);
	op->proc = (unsigned int)rng_below(rng, FLAT_PROCS);
	op->dev = rng_one_in(rng, 3);
	op->cpu = (unsigned int)rng_below(rng, FIXTURE_CPUS);
	random_range(rng, &op->page, &op->npages);
	random_range(rng, &op->page2, &op->npages2);
	if (config->huge && rng_one_in(rng, 6)) {
		op->page = FLAT_HUGE;
		op->npages = 512;
	}
	op->prot = random_prot(rng);
	op->variant = (int)rng_below(rng, 4);
	op->write = rng_one_in(rng, 2);
	op->obj = rng_one_in(rng, 2) ? FLAT_NO_OBJ
				     : (unsigned int)rng_below(rng, FLAT_SHARED_ANON + 1);
	op->granularity = PAGE << (rng_one_in(rng, 2) ? 0 : rng_below(rng, 10));
	op->seed = rng_next(rng);
	op->off = (unsigned int)rng_below(rng, PAGE);
	op->len = 1 + (unsigned int)rng_below(rng, rng_one_in(rng, 4) ? 3 * PAGE : 24);
	left = (flat_end(op->page) - op->page) * PAGE - op->off;
	if (op->len > left)
		op->len = (unsigned int)left;
	if (op->kind == OP_DEV_WRITE)
		op->npages = 1;
	if (op->kind == OP_POISON || op->kind == OP_POISON_FILE)
		op->npages = 1;
	if (op->kind == OP_LARGE)
		op->npages = 2U << rng_below(rng, 8);
	if (op->kind == OP_TRUNCATE)
		op->obj = FLAT_PRIVATE_FILE + (unsigned int)rng_below(rng, 2);
	if (op->kind == OP_PIN || op->kind == OP_EXCLUSIVE || op->kind == OP_MMAP_DRIVER)
		op->npages = 1 + op->npages % 8;
	if (op->page + op->npages > flat_end(op->page))
		op->page = flat_end(op->page) - op->npages;
	if (op->kind == OP_LARGE)
		align_folio(op);
	if (op->kind == OP_MREMAP) {
		unsigned int most = op->npages > op->npages2 ? op->npages : op->npages2;

		if (op->page2 + most > FLAT_PAGES)
			op->page2 = FLAT_PAGES - most;
	}
	/*
	 * How VMAs are cut depends on which have anonymous pages, and with limited memory or huge
	 * pages that depends on the strategy: there only one page at a time can be moved by all three.
	 */
	if (op->kind == OP_MREMAP && (config->device_bytes || config->huge || config->swap_bytes)) {
		op->npages = 1;
		op->npages2 = 1 + op->npages2 % 2;
		if (op->page2 + op->npages2 > FLAT_PAGES)
			op->page2--;
	}
}

void op_print(const struct op *op, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s proc %u cpu %u page %u+%u", op_names[op->kind], op->proc,
			 op->cpu, op->page, op->npages);

	buf += n;
	size -= (size_t)n;
	switch (op->kind) {
	case OP_CPU_READ:
	case OP_CPU_WRITE:
		snprintf(buf, size, " off %#x len %u", op->off, op->len);
		break;
	case OP_DEV_ACCESS:
		snprintf(buf, size, " dev %u off %#x %s granularity %llu", op->dev, op->off,
			 op->write ? "write" : "read", (unsigned long long)op->granularity);
		break;
	case OP_MMAP:
	case OP_MMAP_DRIVER:
	case OP_MPROTECT:
		snprintf(buf, size, " prot %d variant %d obj %u from %u", op->prot, op->variant,
			 op->obj, op->page2);
		break;
	case OP_ADVISE_FORK:
		snprintf(buf, size, " advice %d", fork_advice[op->variant]);
		break;
	case OP_ADVISE_HUGE:
		snprintf(buf, size, " %s",
			 op->variant ? (op->variant & 1 ? "huge" : "collapse") : "nohuge");
		break;
	case OP_BRK:
		snprintf(buf, size, " off %#x", op->off);
		break;
	case OP_TRUNCATE:
		snprintf(buf, size, " obj %u off %#x variant %d%s", op->obj, op->off, op->variant,
			 op->write ? " whole" : "");
		break;
	case OP_GUARD:
	case OP_FREE:
		snprintf(buf, size, "%s",
			 !op->write	       ? ""
			 : op->kind == OP_FREE ? " and write"
					       : " remove");
		break;
	case OP_MREMAP:
		snprintf(buf, size, " to %u+%u variant %d", op->page2, op->npages2, op->variant);
		break;
	case OP_PIN:
		snprintf(buf, size, " %s variant %d", op->write ? "fast" : "slow", op->variant);
		break;
	case OP_POPULATE:
	case OP_ON_FAULT:
	case OP_DEV_SERVE:
		snprintf(buf, size, " dev %u %s", op->dev, op->write ? "write" : "read");
		break;
	default:
		snprintf(buf, size, " dev %u variant %d", op->dev, op->variant);
		break;
	}
}
