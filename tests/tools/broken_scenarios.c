// SPDX-License-Identifier: LGPL-2.1-or-later
/* Scenarios that cannot be run, or take their process with them; loaded by explore.sh. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <uhmm/uhmm.h>

static pid_t first_process;

static void dies(void *arg)
{
	(void)arg;
	if (getpid() != first_process)
		kill(getpid(), SIGKILL);
}

static int spawn(struct uhmm_machine *m, const void *data, void **state)
{
	(void)m;
	(void)data;
	(void)state;
	first_process = getpid();
	return uhmm_scenario_spawn("dies", 0, NULL, dies, NULL);
}

static int fails(struct uhmm_machine *m, const void *data, void **state)
{
	(void)m;
	(void)data;
	(void)state;
	return -ENODEV;
}

static int crashes(struct uhmm_machine *m, const void *data, void **state)
{
	(void)m;
	(void)data;
	(void)state;
	return kill(getpid(), SIGSEGV);
}

static void too_many_cpus(struct uhmm_machine_config *config)
{
	config->nr_cpus = 1000000;
}

UHMM_SCENARIO(worker_dies) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "worker-dies",
	.summary = "a worker process is killed",
	.setup = spawn,
};

UHMM_SCENARIO(no_setup) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "no-setup",
	.summary = "setup() fails",
	.setup = fails,
};

UHMM_SCENARIO(setup_crashes) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "setup-crashes",
	.summary = "setup() gets a signal",
	.setup = crashes,
};

UHMM_SCENARIO(no_machine) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "no-machine",
	.summary = "configure() asks for too much",
	.configure = too_many_cpus,
	.setup = spawn,
};
