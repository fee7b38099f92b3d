// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * costs.c - cost tables: text to prices, counters to modelled time.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/compiler.h"
#include "replay/costs_internal.h"

/* A table is a page or two of text. */
#define MAX_FILE (1u << 20)

struct price {
	double value;
	bool is_ns; /* else cycles */
	bool given; /* by the text at hand */
	char *source;
};

struct uhmm_costs {
	char *name;
	double hz;
	struct price price[UHMM_NR_COSTS];
};

static const struct {
	const char *name, *text;
	enum uhmm_cost_part part;
} costs_info[UHMM_NR_COSTS] = {
#define COST_INFO(id, name, part, text) { name, text, UHMM_COST_PART_##part },
	UHMM_COSTS(COST_INFO)
#undef COST_INFO
};

const char *uhmm_cost_name(enum uhmm_cost c)
{
	return (unsigned int)c < UHMM_NR_COSTS ? costs_info[c].name : NULL;
}

const char *uhmm_cost_text(enum uhmm_cost c)
{
	return (unsigned int)c < UHMM_NR_COSTS ? costs_info[c].text : NULL;
}

const char *uhmm_cost_part_name(enum uhmm_cost_part part)
{
	static const char *const names[] = {
#define PART_NAME(id, name) name,
		UHMM_COST_PARTS(PART_NAME)
#undef PART_NAME
	};

	return (unsigned int)part < UHMM_NR_COST_PARTS ? names[part] : NULL;
}

/* ---- counts ---- */

/* Faults handled, by whomever they were raised. */
static uint64_t faults_handled(const uint64_t *v)
{
	return v[UHMM_CNT_FAULT_ANON_READ] + v[UHMM_CNT_FAULT_ANON_WRITE] +
	       v[UHMM_CNT_FAULT_COW_COPY] + v[UHMM_CNT_FAULT_COW_REUSE] +
	       v[UHMM_CNT_FAULT_FILE_READ] + v[UHMM_CNT_FAULT_FILE_COW] +
	       v[UHMM_CNT_FAULT_FILE_WRITE] + v[UHMM_CNT_FAULT_FILE_WP] +
	       v[UHMM_CNT_FAULT_MIGRATION_WAIT] + v[UHMM_CNT_FAULT_DEVICE] +
	       v[UHMM_CNT_FAULT_EXCLUSIVE] + v[UHMM_CNT_FAULT_NUMA] + v[UHMM_CNT_FAULT_SWAP] +
	       v[UHMM_CNT_FAULT_SPURIOUS];
}

static uint64_t signals(const uint64_t *v)
{
	return v[UHMM_CNT_FAULT_SIGSEGV] + v[UHMM_CNT_FAULT_SIGBUS];
}

/* Those that cost an exception. */
static uint64_t faults_entered(const uint64_t *v)
{
	uint64_t all = faults_handled(v) + signals(v);
	uint64_t hmm = v[UHMM_CNT_FAULT_FROM_HMM];

	return all > hmm ? all - hmm : 0;
}

uint64_t uhmm_cost_events(enum uhmm_cost c, const struct uhmm_counters *counters)
{
	/* Prices of one counter; the others are sums. */
	static const int16_t one[UHMM_NR_COSTS] = {
		[UHMM_COST_WALK] = UHMM_CNT_WALKS,
		[UHMM_COST_WALK_RESTART] = UHMM_CNT_WALK_RESTARTS,
		[UHMM_COST_READ_PGD] = UHMM_CNT_READ_PGD,
		[UHMM_COST_READ_PUD] = UHMM_CNT_READ_PUD,
		[UHMM_COST_READ_PMD] = UHMM_CNT_READ_PMD,
		[UHMM_COST_READ_PTE] = UHMM_CNT_READ_PTE,
		[UHMM_COST_PTL] = UHMM_CNT_PTL,
		[UHMM_COST_PTL_CONTENDED] = UHMM_CNT_PTL_CONTENDED,
		[UHMM_COST_MMAP_READ] = UHMM_CNT_MMAP_READ,
		[UHMM_COST_MMAP_WRITE] = UHMM_CNT_MMAP_WRITE,
		[UHMM_COST_VMA_LOCK] = UHMM_CNT_VMA_LOCK,
		[UHMM_COST_FLUSH_RANGE] = UHMM_CNT_TLB_FLUSH_RANGE,
		[UHMM_COST_FLUSH_PAGE] = UHMM_CNT_TLB_FLUSH_PAGE,
		[UHMM_COST_FLUSH_IPI] = UHMM_CNT_TLB_FLUSH_IPI,
		[UHMM_COST_NOTIFIER_START] = UHMM_CNT_NOTIFIER_START,
		[UHMM_COST_NOTIFIER_CALL] = UHMM_CNT_NOTIFIER_CALLS,
		[UHMM_COST_LRU_DRAIN] = UHMM_CNT_LRU_DRAIN,
		[UHMM_COST_LRU_DRAIN_ALL] = UHMM_CNT_LRU_DRAIN_ALL,
		[UHMM_COST_RMAP_WALK] = UHMM_CNT_RMAP_WALKS,
		[UHMM_COST_RMAP_STEP] = UHMM_CNT_RMAP_STEPS,
		[UHMM_COST_COLLECT] = UHMM_CNT_COLLECTED,
		[UHMM_COST_FORK_PAGE] = UHMM_CNT_FORKED_PAGES,
		[UHMM_COST_ZAP_PAGE] = UHMM_CNT_ZAPPED_PAGES,
		[UHMM_COST_TABLE_ALLOC] = UHMM_CNT_TABLE_ALLOC,
		[UHMM_COST_TABLE_FREE] = UHMM_CNT_TABLE_FREE,
		[UHMM_COST_COPY_RAM] = UHMM_CNT_COPY_RAM,
		[UHMM_COST_CLEAR_RAM] = UHMM_CNT_CLEAR_RAM,
		[UHMM_COST_COPY_TO_DEVICE] = UHMM_CNT_COPY_TO_DEVICE,
		[UHMM_COST_COPY_TO_RAM] = UHMM_CNT_COPY_TO_RAM,
		[UHMM_COST_COPY_DEVICE] = UHMM_CNT_COPY_DEVICE,
		[UHMM_COST_CLEAR_DEVICE] = UHMM_CNT_CLEAR_DEVICE,
		[UHMM_COST_DEVICE_FAULT] = UHMM_CNT_DEVICE_FAULTS,
		[UHMM_COST_SLEEP] = UHMM_CNT_SLEEPS,
	};
	const uint64_t *v = counters->v;

	switch (c) {
	case UHMM_COST_FAULT_ENTRY:
		return faults_entered(v);
	case UHMM_COST_FAULT_HANDLER:
		return faults_handled(v);
	case UHMM_COST_FAULT_SIGNAL:
		return signals(v);
	case UHMM_COST_MIGRATE:
		return v[UHMM_CNT_MIGRATED_TO_DEVICE] + v[UHMM_CNT_MIGRATED_NEW] +
		       v[UHMM_CNT_MIGRATED_TO_RAM] + v[UHMM_CNT_MIGRATED_DEVICE_DEVICE];
	case UHMM_COST_TRANSFER:
		return v[UHMM_CNT_DEVICE_FAULTS] + v[UHMM_CNT_FAULT_DEVICE];
	default:
		return (unsigned int)c < UHMM_NR_COSTS ? v[one[c]] : 0;
	}
}

/* What is given as a time takes more cycles on a faster CPU. */
static double price_cycles(const struct uhmm_costs *costs, unsigned int c)
{
	const struct price *price = &costs->price[c];

	return price->is_ns ? price->value * costs->hz / 1e9 : price->value;
}

void uhmm_costs_apply(const struct uhmm_costs *costs, const struct uhmm_counters *counters,
		      struct uhmm_modelled *out)
{
	struct uhmm_modelled t = { 0 };

	for (unsigned int i = 0; i < UHMM_NR_COSTS; i++) {
		double cycles = (double)uhmm_cost_events(i, counters) * price_cycles(costs, i);

		t.cycles += cycles;
		t.part_ns[costs_info[i].part] += cycles * 1e9 / costs->hz;
	}
	for (unsigned int i = 0; i < UHMM_NR_COST_PARTS; i++)
		t.ns += t.part_ns[i];
	*out = t;
}

/* ---- text ---- */

struct parser {
	struct uhmm_costs *costs;
	const char *file;
	unsigned int line;
	char *error;
	size_t error_size;
	bool clock_given;
};

static int bad(const struct parser *p, const char *fmt, ...) uhmm_printf(2, 3);

static int bad(const struct parser *p, const char *fmt, ...)
{
	va_list args;
	int n;

	if (!p->error_size)
		return -EINVAL;
	n = snprintf(p->error, p->error_size, "%s:%u: ", p->file, p->line);
	if (n < 0 || (size_t)n >= p->error_size)
		return -EINVAL;
	va_start(args, fmt);
	vsnprintf(p->error + n, p->error_size - (size_t)n, fmt, args);
	va_end(args);
	return -EINVAL;
}

static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (*s == ' ' || *s == '\t')
		s++;
	while (end > s && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		*--end = '\0';
	return s;
}

static int find_cost(const char *name)
{
	for (int i = 0; i < UHMM_NR_COSTS; i++)
		if (!strcmp(costs_info[i].name, name))
			return i;
	return -1;
}

/* Prices of a page, which may be given as a bandwidth. */
static bool is_page(int c)
{
	return c == UHMM_COST_COPY_RAM || c == UHMM_COST_CLEAR_RAM ||
	       c == UHMM_COST_COPY_TO_DEVICE || c == UHMM_COST_COPY_TO_RAM ||
	       c == UHMM_COST_COPY_DEVICE || c == UHMM_COST_CLEAR_DEVICE;
}

static int replace(char **where, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*where);
	*where = copy;
	return 0;
}

static int set_clock(struct parser *p, double value, const char *unit)
{
	double hz = !strcmp(unit, "GHz") ? value * 1e9 : !strcmp(unit, "MHz") ? value * 1e6 : 0;

	if (!(hz >= 1e6 && hz <= 1e12))
		return bad(p, "clock: expected a number of MHz or GHz");
	if (p->clock_given)
		return bad(p, "clock: given twice");
	p->clock_given = true;
	p->costs->hz = hz;
	return 0;
}

static int set_price(struct parser *p, const char *name, double value, const char *unit,
		     const char *source)
{
	int c = find_cost(name);
	struct price *price;

	if (c < 0)
		return bad(p, "'%s' is no price: see docs/costs.md for their names", name);
	price = &p->costs->price[c];
	if (price->given)
		return bad(p, "%s: given twice", name);
	price->is_ns = strcmp(unit, "cycles") != 0;
	if (!price->is_ns || !strcmp(unit, "ns"))
		price->value = value;
	else if (!strcmp(unit, "us"))
		price->value = value * 1e3;
	else if (!strcmp(unit, "GB/s") && is_page(c) && value > 0)
		price->value = UHMM_PAGE_SIZE / value;
	else
		return bad(p, "%s: unit '%s', expected cycles, ns, us%s", name, unit,
			   is_page(c) ? " or GB/s (above 0)" : "");
	price->given = true;
	return replace(&price->source, source);
}

static int parse_line(struct parser *p, char *line)
{
	char *source = strchr(line, ';'), *name, *number, *unit, *end, *save;
	double value;

	if (*trim(line) == '#' || !*trim(line))
		return 0;
	if (source) {
		*source++ = '\0';
		source = trim(source);
	}
	name = strtok_r(line, " \t\r", &save);
	number = name ? strtok_r(NULL, " \t\r", &save) : NULL;
	unit = number ? strtok_r(NULL, " \t\r", &save) : NULL;
	if (number && !strcmp(name, "name") && !unit)
		return replace(&p->costs->name, number);
	if (!unit || strtok_r(NULL, " \t\r", &save))
		return bad(p, "expected 'NAME NUMBER UNIT ; SOURCE'");
	value = strtod(number, &end);
	if (*end || !isfinite(value) || value < 0 || value > 1e15)
		return bad(p, "%s: '%s' is not a number from 0 to 10^15", name, number);
	if (!strcmp(name, "clock"))
		return set_clock(p, value, unit);
	return set_price(p, name, value, unit, source ? source : "");
}

static int parse_text(struct parser *p, const char *text)
{
	char *copy = strdup(text), *line = copy;
	int err = copy ? 0 : -ENOMEM;

	for (int i = 0; i < UHMM_NR_COSTS; i++)
		p->costs->price[i].given = false;
	while (line && !err) {
		char *next = strchr(line, '\n');

		if (next)
			*next++ = '\0';
		p->line++;
		err = parse_line(p, line);
		line = next;
	}
	free(copy);
	return err;
}

static int costs_new(struct uhmm_costs **out)
{
	struct uhmm_costs *costs = calloc(1, sizeof(*costs));
	int err = costs ? replace(&costs->name, "unnamed") : -ENOMEM;

	for (unsigned int i = 0; !err && i < UHMM_NR_COSTS; i++)
		err = replace(&costs->price[i].source, "");
	if (err) {
		uhmm_costs_destroy(costs);
		return err;
	}
	*out = costs;
	return 0;
}

int uhmm_costs_create(struct uhmm_costs **out)
{
	struct parser p = { .file = "built-in" };
	int err;

	if (!out)
		return -EINVAL;
	err = costs_new(&p.costs);
	if (err)
		return err;
	err = parse_text(&p, uhmm__default_costs);
	if (err) {
		uhmm_costs_destroy(p.costs);
		return err;
	}
	*out = p.costs;
	return 0;
}

int uhmm_costs_parse(const char *text, const char *file, struct uhmm_costs **out, char *error,
		     size_t error_size)
{
	struct parser p = { .file = file, .error = error, .error_size = error ? error_size : 0 };
	int err;

	if (!text || !file || !out)
		return -EINVAL;
	err = uhmm_costs_create(&p.costs);
	if (!err)
		err = replace(&p.costs->name, file);
	if (!err)
		err = parse_text(&p, text);
	if (err) {
		uhmm_costs_destroy(p.costs);
		return err;
	}
	*out = p.costs;
	return 0;
}

/* The whole file and a NUL; NULL with *err set. */
static char *read_file(const char *path, int *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 1;
	char *text;

	if (fd < 0) {
		*err = -errno;
		return NULL;
	}
	text = malloc(MAX_FILE + 1);
	*err = text ? 0 : -ENOMEM;
	while (text && n > 0 && len < MAX_FILE) {
		n = read(fd, text + len, MAX_FILE - len);
		if (n < 0 && errno != EINTR)
			*err = -errno;
		len += n > 0 ? (size_t)n : 0;
		if (n < 0 && !*err)
			n = 1;
	}
	close(fd);
	if (!*err && (len == MAX_FILE || memchr(text, '\0', len)))
		*err = -EINVAL;
	if (*err) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

int uhmm_costs_load(const char *path, struct uhmm_costs **out, char *error, size_t error_size)
{
	char *text;
	int err;

	if (!path || !out)
		return -EINVAL;
	text = read_file(path, &err);
	if (!text) {
		if (error && error_size)
			snprintf(error, error_size, "%s: %s", path,
				 err == -EINVAL ? "not a cost table" : strerror(-err));
		return err;
	}
	err = uhmm_costs_parse(text, path, out, error, error_size);
	free(text);
	return err;
}

void uhmm_costs_destroy(struct uhmm_costs *costs)
{
	if (!costs)
		return;
	for (unsigned int i = 0; i < UHMM_NR_COSTS; i++)
		free(costs->price[i].source);
	free(costs->name);
	free(costs);
}

const char *uhmm_costs_name(const struct uhmm_costs *costs)
{
	return costs->name;
}

double uhmm_costs_clock(const struct uhmm_costs *costs)
{
	return costs->hz;
}

double uhmm_costs_cycles(const struct uhmm_costs *costs, enum uhmm_cost c)
{
	return (unsigned int)c < UHMM_NR_COSTS ? price_cycles(costs, c) : 0;
}

const char *uhmm_costs_source(const struct uhmm_costs *costs, enum uhmm_cost c)
{
	return (unsigned int)c < UHMM_NR_COSTS ? costs->price[c].source : NULL;
}
