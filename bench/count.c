// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * count.c - each path of the budgets on so many pages, for a tool that counts instructions.
 *
 *	count PAGES [TRACE]    a multiple of 512; TRACE: also the player, with this trace
 *
 * Each path is one function measure_*(), which count.sh has valgrind count by itself; everything was done
 * once before, so that no path pays for memory that is touched for the first time. Prints a line for
 * each: its name, for how many pages or events it was, and what it is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

enum { WINDOW = 512 };

static struct uhmm_machine *machine;
static struct uhmm_mm *mm;
static struct uhmm_task *task;
static struct uhmm_device *device;
static struct uhmm_mirror *mirror;
/* In the middle of 2 MiB, so that no window is a huge page. */
static const uhmm_vaddr_t start = (1UL << 40) + (1UL << 20);
static uint64_t npages;
static const char *path; /* done last; set behind it, for a function's end must be its own */

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "count: %s: %d\n", what, err);
	exit(2);
}
#define MUST(e) must(e, #e)

/* ---- one process with one mapping, and a device ---- */

static void setup(void)
{
	struct uhmm_machine_config config = { .size = sizeof(config) };
	struct uhmm_device_config dev = { .size = sizeof(dev) };

	MUST(uhmm_machine_create(&config, &machine));
	MUST(uhmm_task_create(machine, NULL, 0, "setup", &task));
	uhmm_task_enter(task);
	MUST(uhmm_mm_create(machine, &mm));
	uhmm_task_leave();
	uhmm_task_destroy(task);
	MUST(uhmm_task_create(machine, mm, 0, "count", &task));
	uhmm_task_enter(task);
	MUST(uhmm_mmap(mm, start, npages << UHMM_PAGE_SHIFT, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL));
	MUST(uhmm_device_create(machine, &dev, &device));
	MUST(uhmm_mirror_open(device, mm, &mirror));
}

static void teardown(void)
{
	uhmm_mirror_close(mirror);
	uhmm_device_destroy(device);
	uhmm_mmput(mm);
	uhmm_task_leave();
	uhmm_task_destroy(task);
	uhmm_machine_destroy(machine);
}

/* ---- what is done to it ---- */

static void touch(void)
{
	for (uint64_t i = 0; i < npages; i++)
		MUST(uhmm_cpu_write(mm, start + (i << UHMM_PAGE_SHIFT), &i, sizeof(i), NULL));
}

static void look(void)
{
	uint64_t word;

	for (uint64_t i = 0; i < npages; i++)
		MUST(uhmm_cpu_read(mm, start + (i << UHMM_PAGE_SHIFT), &word, sizeof(word), NULL));
}

static void drop(void)
{
	MUST(uhmm_madvise(mm, start, npages << UHMM_PAGE_SHIFT, MADV_DONTNEED));
}

static void serve(enum uhmm_strategy how, uint64_t window)
{
	const uint64_t bytes = window << UHMM_PAGE_SHIFT;

	for (uint64_t i = 0; i < npages / window; i++)
		MUST(uhmm_mirror_serve(mirror, start + i * bytes, start + (i + 1) * bytes, true,
				       how, NULL));
}

static bool invalidate(struct uhmm_mmu_interval_notifier *mni,
		       const struct uhmm_mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	uhmm_mmu_interval_set_seq(mni, seq);
	return true;
}

static void walk_window(struct uhmm_hmm_range *range)
{
	int err;

	do {
		range->notifier_seq = uhmm_mmu_interval_read_begin(range->notifier);
		uhmm_mmap_read_lock(mm);
		err = uhmm_range_fault(range);
		uhmm_mmap_read_unlock(mm);
	} while (err == -EBUSY ||
		 (!err && uhmm_mmu_interval_read_retry(range->notifier, range->notifier_seq)));
	MUST(err);
}

/* ---- paths ---- */

__attribute__((noinline)) static void measure_fault(void)
{
	touch();
	path = "measure_fault";
}

__attribute__((noinline)) static void measure_access(void)
{
	touch();
	path = "measure_access";
}

__attribute__((noinline)) static void measure_walk(struct uhmm_hmm_range *range)
{
	const uint64_t bytes = WINDOW << UHMM_PAGE_SHIFT;

	for (uint64_t i = 0; i < npages / WINDOW; i++) {
		range->start = start + i * bytes;
		range->end = range->start + bytes;
		walk_window(range);
	}
	path = "measure_walk";
}

__attribute__((noinline)) static void measure_unmap(void)
{
	drop();
	path = "measure_unmap";
}

__attribute__((noinline)) static void measure_untouched(void)
{
	serve(UHMM_COMBINED, WINDOW);
	path = "measure_untouched";
}

__attribute__((noinline)) static void measure_to_ram(void)
{
	look();
	path = "measure_to_ram";
}

__attribute__((noinline)) static void measure_combined(void)
{
	serve(UHMM_COMBINED, WINDOW);
	path = "measure_combined";
}

__attribute__((noinline)) static void measure_separate(void)
{
	serve(UHMM_FAULT_THEN_MIGRATE, WINDOW);
	path = "measure_separate";
}

__attribute__((noinline)) static void measure_combined_single(void)
{
	serve(UHMM_COMBINED, 1);
	path = "measure_combined_single";
}

__attribute__((noinline)) static void measure_separate_single(void)
{
	serve(UHMM_FAULT_THEN_MIGRATE, 1);
	path = "measure_separate_single";
}

static void walk(void)
{
	static const struct uhmm_mmu_interval_notifier_ops ops = { invalidate };
	static uint64_t pfns[WINDOW];
	struct uhmm_hmm_range range = { .size = sizeof(range), .hmm_pfns = pfns };

	MUST(uhmm_mmu_interval_notifier_insert(mm, start, npages << UHMM_PAGE_SHIFT, &ops, NULL,
					       &range.notifier));
	measure_walk(&range);
	uhmm_mmu_interval_notifier_remove(range.notifier);
}

static void done(uint64_t nr, const char *what)
{
	printf("%s %llu %s\n", path, (unsigned long long)nr, what);
}

static void count_pages(void)
{
	setup();
	touch();
	drop();
	serve(UHMM_COMBINED, WINDOW);
	look();
	drop();

	measure_fault();
	done(npages, "sequential write fault");
	measure_access();
	done(npages, "... the access alone, page present");
	walk();
	done(npages, "hmm_range_fault, present");
	measure_unmap();
	done(npages, "unmap");
	measure_untouched();
	done(npages, "combined, untouched");
	measure_to_ram();
	done(npages, "device to RAM");
	measure_combined();
	done(npages, "combined, present");
	look();
	measure_separate();
	done(npages, "fault-then-migrate, present");
	look();
	measure_combined_single();
	done(npages, "combined, present, one page a call");
	look();
	measure_separate_single();
	done(npages, "fault-then-migrate, present, one page a call");
	teardown();
}

/* ---- the player ---- */

/* Reading, which a thread of its own does, is counted with it: count.sh knows the thread's function. */
__attribute__((noinline)) static void measure_replay(struct uhmm_replay *replay)
{
	int err;

	do {
		err = uhmm_replay_step(replay);
	} while (err > 0);
	MUST(err);
	path = "measure_replay";
}

__attribute__((noinline)) static void measure_play(struct uhmm_player *player,
						   const struct uhmm_trace_caps *caps,
						   const struct uhmm_trace_event *events, size_t nr)
{
	MUST(uhmm_player_run(player, caps, events, nr));
	path = "measure_play";
}

static struct uhmm_trace_event *read_all(struct uhmm_trace_reader *reader, size_t *nr)
{
	struct uhmm_trace_event *events = NULL;
	size_t cap = 0;
	int more;

	for (*nr = 0;; ++*nr) {
		if (*nr == cap) {
			cap = cap ? 2 * cap : 1024;
			events = realloc(events, cap * sizeof(*events));
			must(events ? 0 : -ENOMEM, "memory for the trace");
		}
		more = uhmm_trace_next(reader, &events[*nr]);
		if (more <= 0)
			break;
	}
	must(more, uhmm_trace_error(reader));
	return events;
}

static void count_player(const char *trace)
{
	struct uhmm_trace_event *events;
	struct uhmm_trace_reader *reader;
	struct uhmm_player *player;
	struct uhmm_replay *replay;
	size_t nr;

	must(uhmm_trace_open(trace, NULL, &reader), trace);
	events = read_all(reader, &nr);
	MUST(uhmm_player_create(NULL, &player));
	measure_play(player, uhmm_trace_caps(reader), events, nr);
	done(nr, "trace event: played from memory");
	uhmm_player_destroy(player);
	uhmm_trace_close(reader);
	free(events);

	must(uhmm_replay_open(trace, NULL, &replay), trace);
	measure_replay(replay);
	done(nr, "... read by a thread, played, machines compared");
	uhmm_replay_close(replay);
}

int main(int argc, char **argv)
{
	char *end;

	npages = argc > 1 ? strtoull(argv[1], &end, 10) : 0;
	if (!npages || *end || npages % WINDOW || argc > 3) {
		fprintf(stderr, "usage: count PAGES [TRACE]; PAGES is a multiple of %d\n", WINDOW);
		return 2;
	}
	count_pages();
	if (argc > 2)
		count_player(argv[2]);
	return 0;
}
