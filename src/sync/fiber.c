// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/fiber.h"

#if UHMM_CHECKED

#include <sys/mman.h>
#include <unistd.h>

#include "core/region.h"

#ifdef UHMM__ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef UHMM__TSAN
#include <sanitizer/tsan_interface.h>
#define NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define NO_TSAN
#endif

static size_t guard_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static char *map_stack(size_t guard)
{
	char *p = mmap(NULL, UHMM__STACK_SIZE + guard, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* Stacks grow down, into this. */
	if (mprotect(p, guard, PROT_NONE)) {
		munmap(p, UHMM__STACK_SIZE + guard);
		return NULL;
	}
	return p;
}

int uhmm__context_alloc(struct uhmm__context *c)
{
	size_t guard = guard_size();
	char *p = uhmm__region_here ? uhmm__region_stack(uhmm__region_here, UHMM__STACK_SIZE, guard)
				    : map_stack(guard);

	if (!p)
		return -ENOMEM;
	c->stack = p;
	c->bottom = p + guard;
	c->size = UHMM__STACK_SIZE;
	return 0;
}

static void forget(struct uhmm__context *c)
{
#ifdef UHMM__TSAN
	if (c->tsan)
		__tsan_destroy_fiber(c->tsan);
	c->tsan = NULL;
#endif
#ifdef UHMM__ASAN
	/* Frames that were never left, and the red zones between them. */
	__asan_unpoison_memory_region(c->bottom, c->size);
#endif
	c->fake_stack = NULL;
}

void uhmm__context_free(struct uhmm__context *c)
{
	if (!c->stack)
		return;
	forget(c);
	if (!uhmm__region_here)
		munmap(c->stack, UHMM__STACK_SIZE + guard_size());
	c->stack = NULL;
}

/* The first thing that runs on a new stack. */
NO_TSAN static void begin(struct uhmm__context *c)
{
#ifdef UHMM__ASAN
	__sanitizer_finish_switch_fiber(NULL, &c->came_from->bottom, &c->came_from->size);
#endif
	c->entry(c->arg);
	__builtin_unreachable();
}

#if UHMM__FIBER_ASM

/*
 * uhmm__context_jump(void **save, void *sp): callee-saved registers go on the old stack and come
 * from the new one. The floating-point control words are not switched: nobody here changes them.
 * uhmm__context_first: where a new stack starts; rbx is the function, r12 its argument.
 */
void uhmm__context_jump(void **save, void *sp);
extern const char uhmm__context_first[];

__asm__(".text\n"
	".globl uhmm__context_jump\n"
	".hidden uhmm__context_jump\n"
	".type uhmm__context_jump, @function\n"
	"uhmm__context_jump:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	popq %rcx\n" /* not ret: its prediction would always be wrong */
	"	jmp *%rcx\n"
	".size uhmm__context_jump, .-uhmm__context_jump\n"
	".globl uhmm__context_first\n"
	".hidden uhmm__context_first\n"
	".type uhmm__context_first, @function\n"
	"uhmm__context_first:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined rip\n" /* backtraces end here */
	"	movq %r12, %rdi\n"
	"	call *%rbx\n"
	"	ud2\n"
	"	.cfi_endproc\n"
	".size uhmm__context_first, .-uhmm__context_first\n");

static void set_up(struct uhmm__context *c)
{
	void **sp = (void **)((char *)c->stack + guard_size() + UHMM__STACK_SIZE);

	/* rsp must be a multiple of 16 at the call in uhmm__context_first. */
	*--sp = NULL;
	*--sp = NULL;
	*--sp = (void *)uhmm__context_first;
	*--sp = NULL;	       /* rbp */
	*--sp = (void *)begin; /* rbx */
	*--sp = c;	       /* r12 */
	*--sp = NULL;	       /* r13 */
	*--sp = NULL;	       /* r14 */
	*--sp = NULL;	       /* r15 */
	c->sp = sp;
}

#else

/* makecontext() passes ints. */
static void begin_ucontext(unsigned int hi, unsigned int lo)
{
	begin((struct uhmm__context *)(((uintptr_t)hi << 32) | lo));
}

static void set_up(struct uhmm__context *c)
{
	uintptr_t p = (uintptr_t)c;

	c->sp = (char *)c->stack + guard_size() + UHMM__STACK_SIZE;
	getcontext(&c->uc);
	c->uc.uc_stack.ss_sp = (char *)c->stack + guard_size();
	c->uc.uc_stack.ss_size = UHMM__STACK_SIZE;
	c->uc.uc_link = NULL;
	makecontext(&c->uc, (void (*)(void))begin_ucontext, 2, (unsigned int)(p >> 32),
		    (unsigned int)p);
}

#endif

void uhmm__context_start(struct uhmm__context *c, void (*entry)(void *arg), void *arg)
{
	forget(c);
	c->entry = entry;
	c->arg = arg;
	set_up(c);
#ifdef UHMM__TSAN
	c->tsan = __tsan_create_fiber(0);
#endif
}

void uhmm__context_host(struct uhmm__context *c)
{
#ifdef UHMM__TSAN
	c->tsan = __tsan_get_current_fiber();
#else
	(void)c;
#endif
}

NO_TSAN void uhmm__context_jumped_back(struct uhmm__context *host uhmm_unused)
{
#ifdef UHMM__ASAN
	__sanitizer_start_switch_fiber(NULL, host->bottom, host->size);
	__sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
#ifdef UHMM__TSAN
	__tsan_switch_to_fiber(host->tsan, 0);
#endif
}

NO_TSAN uhmm_noinline void uhmm__context_switch(struct uhmm__context *from,
						struct uhmm__context *to, bool ends)
{
	to->came_from = from;
#ifdef UHMM__ASAN
	__sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, to->bottom, to->size);
#else
	(void)ends;
#endif
#ifdef UHMM__TSAN
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
#if UHMM__FIBER_ASM
	uhmm__context_jump(&from->sp, to->sp);
#else
	from->sp = __builtin_frame_address(0);
	swapcontext(&from->uc, &to->uc);
#endif
#ifdef UHMM__ASAN
	__sanitizer_finish_switch_fiber(from->fake_stack, &from->came_from->bottom,
					&from->came_from->size);
#endif
}

#endif /* UHMM_CHECKED */
