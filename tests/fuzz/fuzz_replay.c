// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libFuzzer: any bytes as a trace, played under all strategies. No crash, no report of a sanitizer,
 * no violation, and the same end whatever the strategy. Errors are fine.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <uhmm/uhmm.h>

/* Longer inputs say nothing that shorter ones do not. */
enum { MAX_BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int trace_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("trace", 0);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	return fd;
}

static void check_runs(const struct uhmm_replay *replay)
{
	for (unsigned int i = 0; i < uhmm_replay_nr_runs(replay); i++) {
		const struct uhmm_replay_run *run = uhmm_replay_get_run(replay, i);

		if (run->violations || run->differing || (i && !run->same_digest))
			abort();
	}
}

static void play(const char *path, const struct uhmm_replay_config *config)
{
	struct uhmm_replay *replay;
	int ret;

	if (uhmm_replay_open(path, config, &replay))
		return;
	do {
		ret = uhmm_replay_step(replay);
	} while (ret > 0);
	if (!ret)
		check_runs(replay);
	uhmm_replay_close(replay);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct uhmm_replay_config config = {
		.size = sizeof(config),
		.strategies = (1u << UHMM_NR_STRATEGIES) - 1,
		.keep_going = true,
		.verify = true,
		.player = { .size = sizeof(config.player),
			    .offload = { .kind = UHMM_OFFLOAD_ALL } },
	};
	char path[64];
	int fd;

	if (size > MAX_BYTES)
		return 0;
	fd = trace_file(data, size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	play(path, &config);
	close(fd);
	return 0;
}
