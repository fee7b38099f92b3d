/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vector.h - conformance vectors: operations on a machine, each with the answer that is expected.
 *
 * The format is described in tests/vectors/README.md. Nothing here knows what an operation should
 * answer: the parser takes the file as it is and world.c asks the model.
 */
#ifndef UHMM_VECTOR_H
#define UHMM_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VEC_MAX_PROCS 256
#define VEC_MAX_DEVICES 4
#define VEC_MAX_FILES 8
#define VEC_FILE_PAGES 64UL
/* Most pages of an operation that needs a buffer, and most values of a list. */
#define VEC_MAX_PAGES (1UL << 18)

enum vec_kind {
	VEC_MMAP,
	VEC_MUNMAP,
	VEC_MPROTECT,
	VEC_MADVISE,
	VEC_MREMAP,
	VEC_CPU_WRITE,
	VEC_CPU_READ,
	VEC_DEV_READ,
	VEC_DEV_READ_UNLOCKED,
	VEC_DEV_WRITE,
	VEC_MIGRATE_TO_DEV,
	VEC_MIGRATE_TO_SYS,
	VEC_MIGRATE_ON_FAULT,
	VEC_SNAPSHOT,
	VEC_EXCLUSIVE,
	VEC_CHECK_EXCLUSIVE,
	VEC_FLAGS,
	VEC_RELEASE,
	VEC_CLOSE,
	VEC_PAGEMAP,
	VEC_FORK,
	VEC_EXIT,
	VEC_NR_KINDS
};

enum vec_status {
	VEC_ANY, /* expected only: whatever it is */
	VEC_OK,
	VEC_ERR,     /* .number is an errno, positive */
	VEC_SIGSEGV, /* .number is the page, counted from the first of the operation */
	VEC_SIGBUS,
	VEC_NOT_MODELLED, /* got only */
	VEC_NOT_RUN,	  /* got only: .why says what is missing */
};

enum vec_list {
	VEC_LIST_NONE,
	VEC_LIST_DATA, /* data=LIST, decimal */
	VEC_LIST_PERM, /* perm=BYTES */
	VEC_LIST_MAP,  /* map=BYTES */
};

struct vec_answer {
	enum vec_status status;
	uint64_t number;
	const char *why; /* static text */
	bool has_cpages, has_faults;
	uint64_t cpages, faults;
	enum vec_list kind;
	uint64_t *list; /* owned */
	size_t n;
};

struct vec_op {
	enum vec_kind kind;
	unsigned int line;   /* of the file, counted from 1 */
	unsigned int proc;   /* the process that does it */
	unsigned int child;  /* FORK */
	unsigned int dev;    /* operations of a device */
	uint64_t va, new_va; /* new_va: MREMAP */
	uint64_t npages;
	uint64_t value;	   /* SEED, VALUE of FLAGS, file of MMAP */
	uint64_t pgoff;	   /* MMAP of a file, in pages */
	bool shared, file; /* MMAP */
	bool write;	   /* MIGRATE_ON_FAULT */
	int prot;	   /* PROT_* */
	int advice;	   /* MADV_* */
	char *text;	   /* the line, owned */
	struct vec_answer expected;
};

struct vec_case {
	char *name;
	unsigned int line;
	struct vec_op *ops;
	size_t n;
};

struct vector {
	char *path;
	struct vec_case *cases;
	size_t n;
	unsigned int lines; /* of the file */
};

/**
 * vector_read() - parse a file
 * @path: name, "-" for standard input
 * @out: (out) to be freed with vector_free()
 * Returns: true, or false after a message with file and line.
 */
bool vector_read(const char *path, struct vector *out);

/** vector_free() - free what vector_read() made. */
void vector_free(struct vector *v);

/** vector_sniff() - whether a file is a vector, by its first line that says something. */
bool vector_sniff(const char *path);

/** vec_answer_parse() - an answer line after "="; NULL, or what is wrong with it. */
const char *vec_answer_parse(const char *text, struct vec_answer *out);

/** vec_answer_format() - an answer as text, without "= "; to be freed. */
char *vec_answer_format(const struct vec_answer *a);

/** vec_answer_equal() - whether @got is what was @expected. */
bool vec_answer_equal(const struct vec_answer *expected, const struct vec_answer *got);

/** vec_answer_free() - free what an answer owns. */
void vec_answer_free(struct vec_answer *a);

#endif /* UHMM_VECTOR_H */
