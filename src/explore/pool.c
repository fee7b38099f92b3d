// SPDX-License-Identifier: LGPL-2.1-or-later
#define _GNU_SOURCE
#include "explore/pool.h"

#if UHMM_CHECKED

#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void *uhmm__shared_alloc(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	return p;
}

void uhmm__shared_free(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

void uhmm__shared_clear(void *p, size_t size)
{
	(void)madvise(p, size, MADV_REMOVE);
}

/* What the workers share. */
struct orders {
	sem_t go, done;
	_Atomic uint64_t next;
	uint64_t end;
	bool quit;
	_Atomic uint64_t jobs[]; /* that each worker does */
};

struct uhmm__pool {
	void (*job)(void *ctx, uint64_t index);
	void *ctx;
	struct orders *orders;
	unsigned int nr, size, me;
	pid_t *pids; /* 0: it died */
	struct uhmm__death death;
};

static size_t orders_size(unsigned int workers)
{
	return sizeof(struct orders) + workers * sizeof(uint64_t);
}

static void work(struct uhmm__pool *p)
{
	struct orders *o = p->orders;
	uint64_t i;

	while ((i = atomic_fetch_add(&o->next, 1)) < o->end) {
		atomic_store(&o->jobs[p->me], i);
		p->job(p->ctx, i);
	}
}

static _Noreturn void worker(struct uhmm__pool *p, pid_t parent)
{
	struct orders *o = p->orders;

	/* Not one without the other. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent) {
		while (sem_wait(&o->go))
			;
		if (o->quit)
			break;
		work(p);
		sem_post(&o->done);
	}
	_exit(0);
}

int uhmm__pool_create(unsigned int workers, void (*job)(void *ctx, uint64_t index), void *ctx,
		      struct uhmm__pool **out)
{
	struct uhmm__pool *p = calloc(1, sizeof(*p));
	pid_t parent = getpid();

	if (!p)
		return -ENOMEM;
	p->job = job;
	p->ctx = ctx;
	p->size = workers;
	p->orders = uhmm__shared_alloc(orders_size(workers));
	p->pids = calloc(workers, sizeof(*p->pids));
	if (!p->orders || !p->pids) {
		uhmm__pool_destroy(p);
		return -ENOMEM;
	}
	sem_init(&p->orders->go, 1, 0);
	sem_init(&p->orders->done, 1, 0);
	for (; workers > 1 && p->nr < workers; p->nr++) {
		pid_t pid = fork();

		if (!pid) {
			p->me = p->nr;
			worker(p, parent);
		}
		if (pid < 0) {
			uhmm__pool_destroy(p);
			return -EAGAIN;
		}
		p->pids[p->nr] = pid;
	}
	*out = p;
	return 0;
}

void uhmm__pool_destroy(struct uhmm__pool *p)
{
	if (!p)
		return;
	if (p->orders)
		p->orders->quit = true;
	for (unsigned int i = 0; i < p->nr; i++)
		sem_post(&p->orders->go);
	for (unsigned int i = 0; i < p->nr; i++)
		while (p->pids[i] && waitpid(p->pids[i], NULL, 0) < 0 && errno == EINTR)
			;
	uhmm__shared_free(p->orders, orders_size(p->size));
	free(p->pids);
	free(p);
}

static bool somebody_died(struct uhmm__pool *p)
{
	int status;

	for (unsigned int i = 0; i < p->nr; i++) {
		if (waitpid(p->pids[i], &status, WNOHANG) != p->pids[i])
			continue;
		p->pids[i] = 0;
		p->death = (struct uhmm__death){ i, status, atomic_load(&p->orders->jobs[i]) };
		return true;
	}
	return false;
}

struct uhmm__death uhmm__pool_death(const struct uhmm__pool *p)
{
	return p->death;
}

int uhmm__pool_run(struct uhmm__pool *p, uint64_t first, uint64_t n)
{
	struct orders *o = p->orders;
	struct timespec until;

	atomic_store(&o->next, first);
	o->end = first + n;
	if (!p->nr) {
		work(p);
		return 0;
	}
	for (unsigned int i = 0; i < p->nr; i++)
		sem_post(&o->go);
	for (unsigned int i = 0, nr = p->nr; i < nr;) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		if (!sem_timedwait(&o->done, &until))
			i++;
		else if (errno == ETIMEDOUT && somebody_died(p))
			return -ECHILD;
	}
	return 0;
}

#endif /* UHMM_CHECKED */
