// SPDX-License-Identifier: LGPL-2.1-or-later
/* Runs in a process of their own, so that a crash is an answer, too; and shorter lists. */
#define _GNU_SOURCE
#include "model/lockstep.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUN_TIMEOUT_S = 100 };

struct shared {
	volatile unsigned int at;
	bool failed;
	char message[8192];
	char text[8300];
};

static struct shared *shared;

static void child_fail(const char *message)
{
	snprintf(shared->message, sizeof(shared->message), "%s", message);
	shared->failed = true;
	_exit(1);
}

static void child(const struct run_config *config, const struct op *ops, unsigned int n)
{
	alarm(RUN_TIMEOUT_S);
	lockstep_run(config, ops, n, child_fail, &shared->at);
	/* exit(), so that a leak checker has its say, would run libcheck's handlers, too. */
	_exit(0);
}

const char *run_apart(const struct run_config *config, const struct op *ops, unsigned int n)
{
	int status = 0;
	pid_t pid;

	if (!shared) {
		shared = mmap(NULL, sizeof(*shared), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (shared == MAP_FAILED)
			abort();
	}
	memset(shared, 0, sizeof(*shared));
	fflush(NULL);
	pid = fork();
	if (!pid)
		child(config, ops, n);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		abort();
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return NULL;
	if (!shared->failed)
		snprintf(shared->message, sizeof(shared->message), "%s %d",
			 WIFSIGNALED(status) ? "ended by signal" : "ended with status",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	snprintf(shared->text, sizeof(shared->text), "operation %u: %s", shared->at,
		 shared->message);
	return shared->text;
}

/* Whether it still fails without [first, first + n); if so, they are gone. */
static bool without(const struct run_config *config, struct op *ops, unsigned int *nr,
		    unsigned int first, unsigned int n)
{
	struct op *less = malloc(*nr * sizeof(*less));
	bool fails;

	if (!less)
		abort();
	memcpy(less, ops, first * sizeof(*ops));
	memcpy(less + first, ops + first + n, (*nr - first - n) * sizeof(*ops));
	fails = run_apart(config, less, *nr - n);
	if (fails) {
		*nr -= n;
		memcpy(ops, less, *nr * sizeof(*ops));
	}
	free(less);
	return fails;
}

unsigned int shrink(const struct run_config *config, struct op *ops, unsigned int n)
{
	int null = open("/dev/null", O_WRONLY), err = dup(2);
	double until = now_seconds() + 60;

	/* What the model has to say was said the first time. */
	dup2(null, 2);
	run_apart(config, ops, n);
	if (shared->at < n && !run_apart(config, ops, shared->at))
		n = shared->at + 1;
	for (unsigned int size = n / 2; size; size /= 2) {
		for (unsigned int at = 0; at + size <= n && now_seconds() < until;) {
			if (!without(config, ops, &n, at, size))
				at += size;
		}
	}
	dup2(err, 2);
	close(err);
	close(null);
	return n;
}
