// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * vector.c - reads vector files.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tool.h"
#include "vector.h"

#define MAX_WORDS 10

struct parser {
	struct vector *v;
	unsigned int line;
	struct vec_case *c; /* the open case */
	struct vec_op *op;  /* the operation that waits for its answer */
	bool live[VEC_MAX_PROCS];
	char *word[MAX_WORDS]; /* of the line */
	unsigned int words;
};

static bool malformed(const struct parser *p, const char *fmt, ...) TOOL_PRINTF(2, 3);

static bool malformed(const struct parser *p, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	tool_error("%s:%u: %s", p->v->path, p->line, text);
	return false;
}

/* ---- words ---- */

static bool number(const struct parser *p, const char *word, int base, const char *what,
		   uint64_t *out)
{
	char *end;

	if (base == 16 && word[0] == '0' && (word[1] == 'x' || word[1] == 'X'))
		word += 2;
	errno = 0;
	if (strspn(word, base == 16 ? "0123456789abcdefABCDEF" : "0123456789") == strlen(word) &&
	    *word) {
		*out = strtoull(word, &end, base);
		if (!errno)
			return true;
	}
	return malformed(p, "%s: '%s' is not a %s number of 64 bits", what, word,
			 base == 16 ? "hexadecimal" : "decimal");
}

/* "p12" and the like. */
static bool numbered(const struct parser *p, const char *word, char letter, unsigned int limit,
		     const char *what, unsigned int *out)
{
	size_t digits = strspn(word + (*word != '\0'), "0123456789");
	unsigned long n;

	if (word[0] == letter && digits && digits < 6 && !word[1 + digits]) {
		n = strtoul(word + 1, NULL, 10);
		if (n < limit) {
			*out = (unsigned int)n;
			return true;
		}
	}
	return malformed(p, "'%s' is not a %s, %c0 to %c%u", word, what, letter, letter, limit - 1);
}

static bool protection(const struct parser *p, const char *word, int *out)
{
	int prot = 0;

	if (!strcmp(word, "none")) {
		*out = PROT_NONE;
		return true;
	}
	for (const char *s = word; *s; s++) {
		int bit = *s == 'r'   ? PROT_READ
			  : *s == 'w' ? PROT_WRITE
			  : *s == 'x' ? PROT_EXEC
				      : 0;

		if (!bit || prot & bit)
			return malformed(p, "'%s' is not a protection: r, w, rw or none", word);
		prot |= bit;
	}
	*out = prot;
	return true;
}

static bool map_flags(const struct parser *p, const char *word, struct vec_op *op)
{
	op->shared = !strncmp(word, "shared,", 7);
	op->file = !strcmp(word + strlen(word) - (strlen(word) < 5 ? 0 : 5), ",file");
	if (!strcmp(word, "private,anon") || !strcmp(word, "shared,anon") ||
	    !strcmp(word, "private,file") || !strcmp(word, "shared,file"))
		return true;
	return malformed(p, "'%s' are not map flags: private or shared, comma, anon or file", word);
}

static const struct {
	const char *name;
	int advice;
} advices[] = {
	{ "normal", MADV_NORMAL },
	{ "random", MADV_RANDOM },
	{ "sequential", MADV_SEQUENTIAL },
	{ "willneed", MADV_WILLNEED },
	{ "dontneed", MADV_DONTNEED },
	{ "free", MADV_FREE },
	{ "dontfork", MADV_DONTFORK },
	{ "dofork", MADV_DOFORK },
	{ "wipeonfork", MADV_WIPEONFORK },
	{ "keeponfork", MADV_KEEPONFORK },
	{ "hugepage", MADV_HUGEPAGE },
	{ "nohugepage", MADV_NOHUGEPAGE },
	{ "mergeable", MADV_MERGEABLE },
	{ "unmergeable", MADV_UNMERGEABLE },
	{ "cold", MADV_COLD },
	{ "pageout", MADV_PAGEOUT },
	{ "populate_read", MADV_POPULATE_READ },
	{ "populate_write", MADV_POPULATE_WRITE },
	{ "collapse", 25 /* MADV_COLLAPSE, which the C library may not know */ },
	{ "hwpoison", MADV_HWPOISON },
	{ "soft_offline", 101 /* MADV_SOFT_OFFLINE, the same */ },
};

static bool advice(const struct parser *p, const char *word, int *out)
{
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
		if (!strcmp(advices[i].name, word)) {
			*out = advices[i].advice;
			return true;
		}
	}
	return malformed(p, "unknown advice '%s'", word);
}

/* ---- operations ---- */

/*
 * What follows the operation's name, a letter each: v VA, V new VA, n N, s SEED or VALUE,
 * d device, p protection, f map flags, F FILE and o PGOFF of a file mapping (absent otherwise),
 * a advice, c child, w an optional "w". A capital B says that N pages need a buffer.
 */
static const struct {
	const char *name, *args, *usage;
} operations[VEC_NR_KINDS] = {
	[VEC_MMAP] = { "mmap", "vnpfFo", "VA N PROT FLAGS [FILE PGOFF]" },
	[VEC_MUNMAP] = { "munmap", "vn", "VA N" },
	[VEC_MPROTECT] = { "mprotect", "vnp", "VA N PROT" },
	[VEC_MADVISE] = { "madvise", "vna", "VA N ADVICE" },
	[VEC_MREMAP] = { "mremap", "vnV", "OLD N NEW" },
	[VEC_CPU_WRITE] = { "cpu_write", "vns", "VA N SEED" },
	[VEC_CPU_READ] = { "cpu_read", "vnB", "VA N" },
	[VEC_DEV_READ] = { "dev_read", "dvnB", "DEV VA N" },
	[VEC_DEV_READ_UNLOCKED] = { "dev_read_unlocked", "dvnB", "DEV VA N" },
	[VEC_DEV_WRITE] = { "dev_write", "dvnsB", "DEV VA N SEED" },
	[VEC_MIGRATE_TO_DEV] = { "migrate_to_dev", "dvnB", "DEV VA N" },
	[VEC_MIGRATE_TO_SYS] = { "migrate_to_sys", "dvn", "DEV VA N" },
	[VEC_MIGRATE_ON_FAULT] = { "migrate_on_fault", "dvnwB", "DEV VA N [w]" },
	[VEC_SNAPSHOT] = { "snapshot", "dvnB", "DEV VA N" },
	[VEC_EXCLUSIVE] = { "exclusive", "dvnB", "DEV VA N" },
	[VEC_CHECK_EXCLUSIVE] = { "check_exclusive", "dvn", "DEV VA N" },
	[VEC_FLAGS] = { "flags", "ds", "DEV VALUE" },
	[VEC_RELEASE] = { "release", "d", "DEV" },
	[VEC_CLOSE] = { "close", "d", "DEV" },
	[VEC_PAGEMAP] = { "pagemap", "vnB", "VA N" },
	[VEC_FORK] = { "fork", "c", "CHILD" },
	[VEC_EXIT] = { "exit", "", "" },
};

static bool file_number(const struct parser *p, const char *word, uint64_t *out)
{
	if (!number(p, word, 10, "FILE", out))
		return false;
	return *out < VEC_MAX_FILES ||
	       malformed(p, "FILE: there are files 0 to %d, not %s", VEC_MAX_FILES - 1, word);
}

static bool argument(const struct parser *p, char letter, char *word, struct vec_op *op)
{
	switch (letter) {
	case 'v':
		return number(p, word, 16, "VA", &op->va);
	case 'V':
		return number(p, word, 16, "NEW", &op->new_va);
	case 'n':
		if (!number(p, word, 10, "N", &op->npages))
			return false;
		return op->npages <= UINT64_MAX >> 12 ||
		       malformed(p, "N: %s pages are more than an address space has", word);
	case 's':
		return number(p, word, 10, op->kind == VEC_FLAGS ? "VALUE" : "SEED", &op->value);
	case 'd':
		return numbered(p, word, 'd', VEC_MAX_DEVICES, "device", &op->dev);
	case 'p':
		return protection(p, word, &op->prot);
	case 'f':
		return map_flags(p, word, op);
	case 'F':
		return file_number(p, word, &op->value);
	case 'o':
		return number(p, word, 10, "PGOFF", &op->pgoff);
	case 'a':
		return advice(p, word, &op->advice);
	case 'c':
		return numbered(p, word, 'p', VEC_MAX_PROCS, "process", &op->child);
	case 'w':
		op->write = !strcmp(word, "w");
		return op->write || malformed(p, "'%s' where only 'w' may stand", word);
	}
	return false;
}

static bool optional(char letter, const struct vec_op *op)
{
	return letter == 'w' || ((letter == 'F' || letter == 'o') && !op->file);
}

static bool arguments(const struct parser *p, struct vec_op *op)
{
	const char *name = operations[op->kind].name;
	unsigned int w = 2;

	for (const char *letter = operations[op->kind].args; *letter; letter++) {
		if (*letter == 'B') {
			if (op->npages > VEC_MAX_PAGES)
				return malformed(p, "%s: at most %lu pages", name, VEC_MAX_PAGES);
			continue;
		}
		if (*letter != 'w' && optional(*letter, op))
			continue;
		if (w >= p->words) {
			if (optional(*letter, op))
				continue;
			return malformed(p, "%s: too few arguments, it takes %s", name,
					 operations[op->kind].usage);
		}
		if (!argument(p, *letter, p->word[w++], op))
			return false;
	}
	if (w < p->words)
		return malformed(p, "%s: too many arguments, it takes %s", name,
				 *operations[op->kind].usage ? operations[op->kind].usage : "none");
	return true;
}

static bool operation(struct parser *p, const char *text)
{
	struct vec_op op = { .line = p->line };
	unsigned int kind;

	if (!p->c)
		return malformed(p, "an operation before the first 'case NAME'");
	if (p->op)
		return malformed(p, "the operation of line %u has no answer", p->op->line);
	if (!numbered(p, p->word[0], 'p', VEC_MAX_PROCS, "process", &op.proc))
		return false;
	if (p->words < 2)
		return malformed(p, "an operation expected after '%s'", p->word[0]);
	for (kind = 0; kind < VEC_NR_KINDS; kind++)
		if (!strcmp(operations[kind].name, p->word[1]))
			break;
	if (kind == VEC_NR_KINDS)
		return malformed(p, "unknown operation '%s'", p->word[1]);
	op.kind = kind;
	if (!arguments(p, &op))
		return false;
	if (!p->live[op.proc])
		return malformed(p, "there is no process p%u here", op.proc);
	if (op.kind == VEC_FORK && p->live[op.child])
		return malformed(p, "there is a process p%u already", op.child);

	op.text = tool_xstrdup(text);
	p->c->ops = tool_xgrow(p->c->ops, p->c->n + 1, sizeof(op));
	p->c->ops[p->c->n] = op;
	p->op = &p->c->ops[p->c->n++];
	return true;
}

static bool answer(struct parser *p, const char *text)
{
	const char *wrong;

	if (!p->op)
		return malformed(p, "an answer without an operation in the line before");
	wrong = vec_answer_parse(text, &p->op->expected);
	if (wrong)
		return malformed(p, "%s", wrong);
	if (p->op->kind == VEC_FORK &&
	    (p->op->expected.status == VEC_OK || p->op->expected.status == VEC_ANY))
		p->live[p->op->child] = true;
	if (p->op->kind == VEC_EXIT)
		p->live[p->op->proc] = false;
	p->op = NULL;
	return true;
}

static bool end_case(const struct parser *p)
{
	if (p->op)
		return malformed(p, "the operation of line %u has no answer", p->op->line);
	if (p->c && !p->c->n)
		return malformed(p, "case %s has no operations", p->c->name);
	return true;
}

static bool begin_case(struct parser *p)
{
	struct vector *v = p->v;

	if (!end_case(p))
		return false;
	if (p->words != 2)
		return malformed(p, "'case NAME' expected, with one word as the name");
	v->cases = tool_xgrow(v->cases, v->n + 1, sizeof(*v->cases));
	p->c = &v->cases[v->n++];
	*p->c = (struct vec_case){ .name = tool_xstrdup(p->word[1]), .line = p->line };
	memset(p->live, 0, sizeof(p->live));
	p->live[0] = true;
	return true;
}

/* ---- lines ---- */

static bool take_line(struct parser *p, char *line, size_t len)
{
	char *text, *save = NULL;
	bool ok;

	if (strlen(line) != len)
		return malformed(p, "a NUL byte: this is not text");
	line[strcspn(line, "\r\n")] = '\0';
	line += strspn(line, " \t");
	if (!*line || *line == '#')
		return true;
	if (*line == '=')
		return answer(p, line + 1);

	text = tool_xstrdup(line);
	p->words = 0;
	for (char *w = strtok_r(line, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
		if (p->words < MAX_WORDS)
			p->word[p->words++] = w;
	}
	if (!strcmp(p->word[0], "case"))
		ok = begin_case(p);
	else if (p->word[0][0] == 'p')
		ok = operation(p, text);
	else
		ok = malformed(p, "'%.40s' begins neither a case, nor an operation, nor an answer",
			       p->word[0]);
	free(text);
	return ok;
}

static FILE *open_file(const char *path)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "re") : stdin;

	if (!f)
		tool_error("%s: %s", path, strerror(errno));
	return f;
}

bool vector_read(const char *path, struct vector *out)
{
	struct parser p = { .v = out };
	char *line = NULL;
	size_t room = 0;
	ssize_t len;
	bool ok = true;
	FILE *f;

	memset(out, 0, sizeof(*out));
	f = open_file(path);
	if (!f)
		return false;
	out->path = tool_xstrdup(strcmp(path, "-") ? path : "standard input");
	while (ok && (len = getline(&line, &room, f)) > 0) {
		p.line++;
		ok = take_line(&p, line, (size_t)len);
	}
	if (ok && ferror(f))
		ok = malformed(&p, "%s", strerror(errno));
	if (ok)
		ok = end_case(&p);
	out->lines = p.line;
	free(line);
	if (f != stdin)
		fclose(f);
	if (!ok)
		vector_free(out);
	return ok;
}

void vector_free(struct vector *v)
{
	for (size_t i = 0; i < v->n; i++) {
		for (size_t k = 0; k < v->cases[i].n; k++) {
			free(v->cases[i].ops[k].text);
			vec_answer_free(&v->cases[i].ops[k].expected);
		}
		free(v->cases[i].ops);
		free(v->cases[i].name);
	}
	free(v->cases);
	free(v->path);
	memset(v, 0, sizeof(*v));
}

bool vector_sniff(const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	bool is = false;

	if (!f)
		return false;
	while (getline(&line, &room, f) > 0) {
		const char *p = line + strspn(line, " \t\r\n");

		if (*p && *p != '#') {
			is = !strncmp(p, "case ", 5);
			break;
		}
	}
	free(line);
	fclose(f);
	return is;
}
