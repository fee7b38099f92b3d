// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * perf.c - the text of perf script: lines, event names, system calls.
 *
 * A line is `COMM PID/TID [CPU] TIME: EVENT: payload`. COMM may hold blanks and colons, so the head
 * is found from its time, which is the first "digits.digits:" that stands alone behind a number,
 * and read backwards from there. CPU, the process (perf script's own default), and a period before the
 * event are each there or not.
 */
#include <stdlib.h>

#include "replay/perf.h"
#include "replay/trace_parse.h"

/* ---- heads ---- */

/* Reads digits that end before @p; returns where they begin, or NULL. */
static char *back_number(char *begin, char *p, int32_t *out)
{
	uint64_t v = 0, scale = 1;
	char *q = p;

	while (q > begin && is_digit(q[-1])) {
		v += (uint64_t)(*--q - '0') * scale;
		scale *= 10;
		if (p - q > 10)
			return NULL;
	}
	if (q == p || v > INT32_MAX)
		return NULL;
	*out = (int32_t)v;
	if (q > begin && q[-1] == '-') {
		q--;
		*out = -*out;
	}
	return q;
}

static char *back_blanks(char *begin, char *p)
{
	while (p > begin && is_blank(p[-1]))
		p--;
	return p;
}

/* Of a fraction of so many digits. */
static const uint32_t to_ns[10] = {
	0, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1
};

/* Is [..., colon) a time? Returns where it begins. */
static char *back_time(char *begin, char *colon, uint64_t *t_ns)
{
	uint64_t frac = 0, sec = 0, scale = 1;
	char *p = colon;
	long n;

	while (p > begin && is_digit(p[-1]) && colon - p < 10) {
		frac += (uint64_t)(*--p - '0') * scale;
		scale *= 10;
	}
	n = colon - p;
	if (n < 1 || n > 9 || p == begin || p[-1] != '.')
		return NULL;
	colon = --p;
	scale = 1;
	while (p > begin && is_digit(p[-1]) && colon - p < 10) {
		sec += (uint64_t)(*--p - '0') * scale;
		scale *= 10;
	}
	if (p == colon || (p > begin && !is_blank(p[-1])))
		return NULL;
	*t_ns = sec * 1000000000ULL + frac * to_ns[n];
	return p;
}

/* What stands before a time at @p: COMM PID/TID [CPU]. False if it is not that. */
static bool back_head(char *s, char *p, struct perf_line *l)
{
	char *end;

	l->cpu = -1;
	l->period = 0;
	l->has_tgid = false;
	p = back_blanks(s, p);
	if (p > s && p[-1] == ']') {
		p = back_number(s, p - 1, &l->cpu);
		if (!p || p == s || p[-1] != '[' || l->cpu < 0)
			return false;
		p = back_blanks(s, p - 1);
	}
	p = back_number(s, p, &l->tid);
	if (!p)
		return false;
	if (p > s && p[-1] == '/') {
		p = back_number(s, p - 1, &l->tgid);
		if (!p)
			return false;
		l->has_tgid = true;
	}
	if (p > s && !is_blank(p[-1]))
		return false;
	end = back_blanks(s, p);
	p = s;
	while (p < end && is_blank(*p))
		p++;
	l->comm = p;
	l->comm_len = (size_t)(end - p);
	return true;
}

/* The next word; returns its end. */
static char *next_word(char **p, char *end)
{
	char *q;

	while (*p < end && is_blank(**p))
		++*p;
	for (q = *p; q < end && !is_blank(*q);)
		q++;
	return q;
}

/* Does the name of an event come at @p, with or without a period before it? */
static bool at_event(char *p, char *end)
{
	char *q = next_word(&p, end), *digits = p;

	while (digits < q && is_digit(*digits))
		digits++;
	if (digits == q) {
		p = q;
		q = next_word(&p, end);
	}
	return p < q && !is_digit(*p) && (q[-1] == ':' || *p == 'P');
}

bool uhmm__perf_split(char *s, size_t len, struct perf_line *l)
{
	char *end = s + len, *p = s, *colon;
	struct perf_line first;
	bool found = false;

	/* COMM may have what looks like a time, too, or like all of a head. */
	while ((colon = memchr(p, ':', (size_t)(end - p)))) {
		p = back_time(s, colon, &l->t_ns);
		if (likely(p) && likely(back_head(s, p, l))) {
			l->time = p;
			l->rest = colon + 1;
			if (likely(at_event(l->rest, end)))
				return true;
			if (!found)
				first = *l;
			found = true;
		}
		p = colon + 1;
	}
	if (found)
		*l = first;
	return found;
}

/* The time, read forwards: digits, a point, digits, a colon. NULL if it is not that. */
static char *scan_time(char *p, uint64_t *t_ns)
{
	uint64_t sec = 0, frac = 0;
	char *start = p;

	while (is_digit(*p))
		sec = sec * 10 + (uint64_t)(*p++ - '0');
	if (p == start || p - start > 10 || *p != '.')
		return NULL;
	start = ++p;
	while (is_digit(*p))
		frac = frac * 10 + (uint64_t)(*p++ - '0');
	if (p == start || p - start > 9 || *p != ':')
		return NULL;
	*t_ns = sec * 1000000000ULL + frac * to_ns[p - start];
	return p + 1;
}

/* uhmm__perf_split(), with less work if the line begins as the one before. */
static bool split(struct perf_state *ps, char *s, size_t len, struct perf_line *l)
{
	struct perf_head *h = &ps->head;
	uint64_t t_ns;
	char *rest;

	if (likely(h->len && len > h->len && !memcmp(s, h->text, h->len))) {
		rest = scan_time(s + h->len, &t_ns);
		if (likely(rest)) {
			*l = h->line;
			l->t_ns = t_ns;
			l->rest = rest;
			l->comm = s + h->comm_at;
			return true;
		}
	}
	h->len = 0;
	if (!uhmm__perf_split(s, len, l))
		return false;
	if ((size_t)(l->time - s) <= sizeof(h->text)) {
		h->len = (size_t)(l->time - s);
		memcpy(h->text, s, h->len);
		h->line = *l;
		h->comm_at = (size_t)(l->comm - s);
	}
	return true;
}

/* ---- tasks ---- */

static uint32_t comm_hash(const struct perf_line *l)
{
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < l->comm_len; i++)
		h = (h ^ (unsigned char)l->comm[i]) * 16777619u;
	return h ? h : 1;
}

static bool guess_knows(const struct perf_guess *g, uint64_t ip)
{
	unsigned int i;

	for (i = 0; i < PERF_GUESS_IPS; i++)
		if (g->ips[i] == ip >> 21)
			return true;
	return false;
}

static void guess_learn(struct perf_guess *g, uint64_t ip)
{
	if (!guess_knows(g, ip))
		g->ips[g->next++ % PERF_GUESS_IPS] = ip >> 21;
}

static struct perf_guess *guess_of(struct perf_state *ps, int32_t tgid)
{
	unsigned int i;

	for (i = 0; i < ps->nr_guesses; i++)
		if (ps->guesses[i].tgid == tgid)
			return &ps->guesses[i];
	return NULL;
}

/* Code below this is at the same place in every process: an executable that does not move. */
#define GUESS_IP_MIN (1ULL << 32)

static bool ip_tells(uint64_t ip)
{
	return ip >= GUESS_IP_MIN && !(ip >> 56);
}

/*
 * Neither a process number nor records of forks: is the task a thread of a process seen before, or
 * another process? Address space layout randomisation puts libraries of unrelated processes at
 * different places, so running code where a process has code means belonging to it (or being
 * forked from it, which looks the same). Failing that, an equal name means the same.
 */
static int32_t guess_tgid(struct perf_state *ps, const struct perf_line *l, uint64_t ip)
{
	uint32_t h = comm_hash(l);
	unsigned int i;

	for (i = ps->nr_guesses; i-- && ip_tells(ip);)
		if (guess_knows(&ps->guesses[i], ip))
			return ps->guesses[i].tgid;
	for (i = ps->nr_guesses; i-- && !ip_tells(ip);)
		if (ps->guesses[i].comm_hash == h)
			return ps->guesses[i].tgid;
	return l->tid;
}

static struct trace_task *guess_task(struct uhmm_trace_reader *r, const struct perf_line *l,
				     uint64_t ip)
{
	struct perf_state *ps = perf_state(r);
	struct trace_task *task = uhmm__trace_task_find(r, l->tid);
	struct perf_guess *g;
	uint32_t h;

	if (ps->seen_records || ps->seen_newtask)
		return task ? task : uhmm__trace_task_get(r, l->tid, l->tid);
	h = comm_hash(l);
	if (!task)
		task = uhmm__trace_task_get(r, l->tid, guess_tgid(ps, l, ip));
	if (!task)
		return NULL;
	g = guess_of(ps, task->proc->tgid);
	if (!g) {
		if (ps->nr_guesses == PERF_MAX_GUESSES)
			memmove(ps->guesses, ps->guesses + 1,
				(--ps->nr_guesses) * sizeof(*ps->guesses));
		g = &ps->guesses[ps->nr_guesses++];
		*g = (struct perf_guess){ .tgid = task->proc->tgid, .comm_hash = h };
		r->stats.inferred_mms++;
	} else if (task->comm_hash && task->comm_hash != h && ip_tells(ip) && !guess_knows(g, ip)) {
		/* Another name, and code where there was none: it executed a program. */
		if (task->proc->tgid != l->tid) {
			uhmm__trace_exit(r, task, false);
			task = uhmm__trace_task_get(r, l->tid, l->tid);
			return task ? guess_task(r, l, ip) : NULL;
		}
		*g = (struct perf_guess){ .tgid = l->tid, .comm_hash = h };
		r->stats.inferred_mms++;
		uhmm__trace_exec(r, task);
	}
	/* A thread may rename itself before it runs code that tells: keep the old name so long. */
	if (ip_tells(ip) || !task->comm_hash)
		task->comm_hash = h;
	if (ip_tells(ip))
		guess_learn(g, ip);
	return task;
}

void uhmm__perf_guess_void(struct uhmm_trace_reader *r, struct trace_task *task,
			   const struct perf_line *l)
{
	struct perf_guess *g = guess_of(perf_state(r), task->proc->tgid);

	task->comm_hash = comm_hash(l);
	if (g)
		*g = (struct perf_guess){ .tgid = g->tgid, .comm_hash = task->comm_hash };
}

struct trace_task *uhmm__perf_task(struct uhmm_trace_reader *r, const struct perf_line *l,
				   uint64_t ip)
{
	if (unlikely(l->tid <= 0))
		return NULL;
	if (likely(l->has_tgid))
		return l->tgid > 0 ? uhmm__trace_task_get(r, l->tid, l->tgid) : NULL;
	return guess_task(r, l, ip);
}

char *uhmm__perf_field(char *text, const char *key)
{
	char *found = NULL, *p = text;

	while ((p = strstr(p, key))) {
		if (p == text || is_blank(p[-1]))
			found = p + strlen(key);
		p++;
	}
	return found;
}

/* ---- system calls ---- */

static const struct {
	const char *name;
	uint8_t nr, args;
} calls[] = {
	{ "brk", TRACE_CALL_BRK, 1 },
	{ "mmap", TRACE_CALL_MMAP, 6 },
	{ "munmap", TRACE_CALL_MUNMAP, 2 },
	{ "mprotect", TRACE_CALL_MPROTECT, 3 },
	{ "madvise", TRACE_CALL_MADVISE, 3 },
	{ "mremap", TRACE_CALL_MREMAP, 5 },
	{ "execve", TRACE_CALL_EXECVE, 0 },
	{ "execveat", TRACE_CALL_EXECVE, 0 },
	{ "pkey_mprotect", TRACE_CALL_PKEY_MPROTECT, 4 },
	{ "process_madvise", TRACE_CALL_PROCESS_MADVISE, 0 },
	{ "mlock", TRACE_CALL_MLOCK, 2 },
	{ "mlock2", TRACE_CALL_MLOCK2, 3 },
	{ "munlock", TRACE_CALL_MUNLOCK, 2 },
	{ "mlockall", TRACE_CALL_MLOCKALL, 1 },
	{ "munlockall", TRACE_CALL_MUNLOCKALL, 0 },
	{ "shmat", TRACE_CALL_SHMAT, 3 },
	{ "shmdt", TRACE_CALL_SHMDT, 1 },
	{ "remap_file_pages", TRACE_CALL_REMAP_FILE_PAGES, 5 },
	{ "ftruncate", TRACE_CALL_FTRUNCATE, 2 },
	{ "fallocate", TRACE_CALL_FALLOCATE, 4 },
};

/* "addr: 0x00000000, len: 0x00010000, ..." */
static bool call_args(char *p, unsigned int n, uint64_t *args)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		p = strstr(p, ": ");
		if (!p)
			return false;
		p = scan_number(p + 2, &args[i]);
		if (!p || (*p && *p != ',' && !is_blank(*p)))
			return false;
	}
	return true;
}

static int perf_call(struct uhmm_trace_reader *r, const struct perf_line *l, bool enter,
		     const char *name, size_t len, char *p)
{
	uint64_t args[6] = { 0 }, ret = 0;
	struct trace_task *task;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		if (!strncmp(calls[i].name, name, len) && !calls[i].name[len])
			break;
	if (i == ARRAY_SIZE(calls)) {
		r->stats.skipped_calls += enter;
		return 0;
	}
	if (enter && calls[i].args && !strchr(p, ':'))
		return uhmm__trace_bad(r, "a tracepoint without its fields: print them with 'perf "
					  "script -F +trace'");
	if (enter && !call_args(p, calls[i].args, args))
		return uhmm__trace_bad(r, "arguments of %s: expected %u of the form 'name: 0x...'",
				       calls[i].name, calls[i].args);
	if (!enter && !scan_number(skip_blanks(p), &ret))
		return uhmm__trace_bad(r, "result of %s: expected a number", calls[i].name);
	if (calls[i].nr == TRACE_CALL_MUNMAP)
		r->caps.has_unmap = true;
	task = uhmm__perf_task(r, l, 0);
	if (!task)
		return 0;
	perf_settle(r, task);
	if (enter)
		uhmm__trace_call_enter(r, task, (enum trace_call_nr)calls[i].nr, args);
	else
		uhmm__trace_call_exit(r, task, (enum trace_call_nr)calls[i].nr, ret);
	return 0;
}

/* ---- events ---- */

/* "page-faults", "page-faults:u", "page-faults:ppp": is the event @base, and which mode? */
static bool sample_is(const char *name, size_t len, const char *base)
{
	size_t n = strlen(base);

	return len >= n && !memcmp(name, base, n) && (len == n || name[n] == ':');
}

static int other_event(struct uhmm_trace_reader *r, const char *name, size_t len)
{
	const char *colon = memchr(name, ':', len);

	/* Modifiers of a sample are a few letters; the rest are subsystem:tracepoint. */
	if (!colon || strspn(colon + 1, "ukhGHpPSDIeWb") == len - (size_t)(colon + 1 - name))
		r->stats.skipped_samples++;
	else
		r->stats.skipped_tracepoints++;
	return 0;
}

static int tracepoint(struct uhmm_trace_reader *r, const struct perf_line *l, char *name,
		      size_t len, char *p)
{
	static const char enter[] = "syscalls:sys_enter_", exit[] = "syscalls:sys_exit_";

	if (len > sizeof(enter) - 1 && !memcmp(name, enter, sizeof(enter) - 1))
		return perf_call(r, l, true, name + sizeof(enter) - 1, len - (sizeof(enter) - 1),
				 p);
	if (len > sizeof(exit) - 1 && !memcmp(name, exit, sizeof(exit) - 1))
		return perf_call(r, l, false, name + sizeof(exit) - 1, len - (sizeof(exit) - 1), p);
	if (sample_is(name, len, "exceptions:page_fault_kernel"))
		return uhmm__perf_tracepoint(r, l, true, p);
	if (sample_is(name, len, "task:task_newtask"))
		return uhmm__perf_newtask(r, l, p);
	if (sample_is(name, len, "sched:sched_process_exec"))
		return uhmm__perf_sched_exec(r, l);
	if (sample_is(name, len, "sched:sched_process_exit"))
		return uhmm__perf_sched_exit(r, l, p);
	if (sample_is(name, len, "sched:sched_process_fork"))
		return 0; /* task_newtask and PERF_RECORD_FORK say more */
	return other_event(r, name, len);
}

static int sample(struct uhmm_trace_reader *r, const struct perf_line *l, char *name, size_t len,
		  char *p)
{
	if (sample_is(name, len, "page-faults") || sample_is(name, len, "faults"))
		return uhmm__perf_sample(r, l, UHMM_TRACE_UNKNOWN, p);
	if (sample_is(name, len, "major-faults"))
		return uhmm__perf_sample(r, l, UHMM_TRACE_YES, p);
	if (sample_is(name, len, "minor-faults"))
		return uhmm__perf_sample(r, l, UHMM_TRACE_NO, p);
	return other_event(r, name, len);
}

/* The line's time, kept from going back. */
static void set_time(struct uhmm_trace_reader *r, uint64_t t_ns)
{
	if (unlikely(t_ns < r->last_t_ns)) {
		r->stats.time_reversed++;
		t_ns = r->last_t_ns;
	}
	r->t_ns = r->last_t_ns = t_ns;
}

/* The word @event at @p; the line ends at @end. */
static inline char *scan_event(char *p, const char *end, const char *event)
{
	size_t n = strlen(event);

	if ((size_t)(end - p) < n || memcmp(p, event, n) || (p[n] && !is_blank(p[n])))
		return NULL;
	return p + n;
}

static int perf_event(struct uhmm_trace_reader *r, struct perf_line *l)
{
	struct perf_state *ps = perf_state(r);
	char *name = skip_blanks(l->rest), *p;
	size_t len;

	if (is_digit(*name)) { /* the period */
		if (!scan_dec(name, &l->period))
			l->period = 0;
		p = skip_word(name);
		name = skip_blanks(p);
	}
	if (ps->nr_forks)
		uhmm__perf_forks_settle(r, l, name);
	if (*name == 'P' && (p = scan_text(name, "PERF_RECORD_"))) {
		ps->in_sample = true; /* NAMESPACES goes on in lines of its own */
		return uhmm__perf_record(r, l, p);
	}
	ps->in_sample = true;
	/* The two that most lines are. */
	p = scan_event(name, l->end, "page-faults:");
	if (p)
		return uhmm__perf_sample(r, l, UHMM_TRACE_UNKNOWN, p);
	p = scan_event(name, l->end, "exceptions:page_fault_user:");
	if (p)
		return uhmm__perf_tracepoint(r, l, false, p);
	p = skip_word(name);
	len = (size_t)(p - name);
	if (len < 2 || p[-1] != ':') {
		ps->in_sample = false;
		return uhmm__trace_bad(r,
				       "expected the name of an event and a colon after the time");
	}
	len--;
	if (memchr(name, '_', len))
		return tracepoint(r, l, name, len, p);
	return sample(r, l, name, len, p);
}

static int perf_line(struct uhmm_trace_reader *r, struct trace_line *line)
{
	struct perf_state *ps = perf_state(r);
	struct perf_line l;

	if (unlikely(line->s[0] == '\t')) {
		if (!ps->in_sample)
			return uhmm__trace_bad(r, "a call chain without an event before it");
		if (ps->hold.held)
			uhmm__perf_chain(r, line->s);
		return 0;
	}
	ps->in_sample = false;
	if (unlikely(!split(ps, line->s, line->len, &l))) {
		if (!*skip_blanks(line->s))
			return 0;
		/* The one record without a head. */
		if (scan_text(line->s, "PERF_RECORD_FINISHED_ROUND")) {
			r->stats.skipped_records++;
			return 0;
		}
		return uhmm__trace_bad(r, "not a line of perf script: expected "
					  "'COMM PID/TID [CPU] TIME: EVENT: ...'");
	}
	l.end = line->s + line->len;
	l.chain = line->tab_next;
	set_time(r, l.t_ns);
	l.t_ns = r->t_ns;
	r->cpu = l.cpu;
	if (l.cpu >= 0)
		r->caps.has_cpu = true;
	if (l.has_tgid)
		r->caps.has_tgid = true;
	l.comm[l.comm_len] = '\0'; /* a blank stands there, or the number if there is no name */
	r->comm = l.comm_len ? l.comm : NULL;
	return perf_event(r, &l);
}

/* ---- format ---- */

static int perf_probe(const char *text, size_t len)
{
	const char *end = text + len;
	unsigned int lines;

	for (lines = 0; lines < 200 && text < end; lines++) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((nl ? nl : end) - text);
		struct perf_line l;

		/* Reads only, whatever its type says. */
		if (*text != '#' && uhmm__perf_split((char *)(uintptr_t)text, n, &l))
			return 90;
		text += n + 1;
	}
	return 0;
}

static bool has(const char *text, size_t len, const char *needle)
{
	return memmem(text, len, needle, strlen(needle)) != NULL;
}

static int perf_start(struct uhmm_trace_reader *r, const char *text, size_t len)
{
	struct uhmm_trace_caps *caps = &r->caps;

	r->priv = calloc(1, sizeof(struct perf_state));
	if (!r->priv) {
		uhmm__trace_nomem(r);
		return -ENOMEM;
	}
	r->origin.tool = "perf script";
	perf_state(r)->seen_sample = has(text, len, " page-faults:") || has(text, len, " faults:");
	caps->has_fault_samples = perf_state(r)->seen_sample;
	caps->has_rw = has(text, len, "exceptions:page_fault_");
	caps->has_kernel_faults = has(text, len, "exceptions:page_fault_kernel:");
	caps->has_major = has(text, len, "major-faults");
	caps->has_unmap = has(text, len, "syscalls:sys_enter_munmap:") &&
			  has(text, len, "syscalls:sys_exit_munmap:");
	caps->has_maps = has(text, len, "PERF_RECORD_MMAP2") ||
			 has(text, len, "syscalls:sys_enter_mmap:");
	caps->has_data_maps = has(text, len, ": rw-p ") ||
			      has(text, len, "syscalls:sys_enter_mmap:");
	caps->has_fork = has(text, len, "PERF_RECORD_COMM") || has(text, len, "PERF_RECORD_FORK") ||
			 has(text, len, "task:task_newtask:");
	caps->has_clone_flags = has(text, len, "task:task_newtask:");
	return 0;
}

static void perf_finish(struct uhmm_trace_reader *r)
{
	struct perf_state *ps = perf_state(r);
	unsigned int i;

	r->comm = NULL;
	if (ps->nr_forks)
		uhmm__perf_forks_settle(r, NULL, NULL);
	for (i = 0; i < TRACE_HASH_SIZE; i++) {
		struct trace_task *task;

		for (task = r->st.tasks[i]; task; task = task->hash_next)
			perf_settle(r, task);
	}
}

static void perf_stop(struct uhmm_trace_reader *r)
{
	free(r->priv);
}

const struct trace_ops uhmm__trace_perf_ops = {
	.format = UHMM_TRACE_FORMAT_PERF,
	.probe = perf_probe,
	.start = perf_start,
	.line = perf_line,
	.finish = perf_finish,
	.stop = perf_stop,
};
