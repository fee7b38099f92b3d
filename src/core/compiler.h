/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compiler.h - shorthands for the compiler and for C11 atomics. */
#ifndef UHMM_CORE_COMPILER_H
#define UHMM_CORE_COMPILER_H

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include <uhmm/types.h>

#ifndef UHMM_CHECKED
#define UHMM_CHECKED 0
#endif
#ifndef UHMM_DEBUG
#define UHMM_DEBUG 0
#endif

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define uhmm_always_inline static inline __attribute__((always_inline))
#define uhmm_noinline __attribute__((noinline))
#define uhmm_cold __attribute__((cold, noinline))
#define uhmm_unused __attribute__((unused))
#define uhmm_printf(a, b) __attribute__((format(printf, a, b)))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1UL << (n))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + (a)-1, a)
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a)-1)) == 0)

#define load_relaxed(p) atomic_load_explicit(p, memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit(p, memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit(p, v, memory_order_release)

/* Fields that are plain under their lock, but that some read without it. */
#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELAXED)

/* From here on the compiler knows nothing of the value, and computes nothing from it ahead. */
#define OPTIMIZER_HIDE_VAR(x) __asm__("" : "+r"(x))

/* A bit of a value, or several side by side, in another place. Models: _calc_vm_trans(). */
uhmm_always_inline uint64_t carry_bit(uint64_t val, uint64_t from, uint64_t to)
{
	return from < to ? (val & from) * (to / from) : (val & from) / (from / to);
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

#endif /* UHMM_CORE_COMPILER_H */
