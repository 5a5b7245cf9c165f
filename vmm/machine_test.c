/* SPDX-License-Identifier: MIT */
/* A machine is paused, resumed and ended while its vCPUs are only just beginning. */
#include "support.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "drive.h"
#include "machine.h"
#include "util.h"

#define VCPUS 3u
#define TIMES 20

static _Noreturn void die(void)
{
	fail_msg("%s", vmm_error_text());
	abort();
}

static struct vmm_machine *new_machine(enum vmm_accel_choice accel)
{
	struct vmm_machine *machine = calloc(1, sizeof(*machine));
	struct vmm_layout layout;

	/* As in a process that has not run a vCPU yet: the handler of a kick stays for good. */
	(void)signal(SIGRTMIN + 1, SIG_DFL);
	machine->quiet = true;
	if (vmm_layout_make(4 * MIB, VMM_HOLE_START, VMM_BACKING_ANON, &layout) ||
	    vmm_machine_init(machine, VCPUS) || vmm_memory_map(&machine->memory, &layout) ||
	    vmm_boot_memory(machine) || vmm_machine_accel(machine, accel))
		die();
	for (unsigned int i = 0; i < VCPUS; i++)
		if (machine->accel->boot(&machine->vcpus[i]))
			die();
	return machine;
}

static void end(struct vmm_machine *machine)
{
	if (vmm_machine_stop(machine))
		die();
	assert_false(vmm_machine_failed(machine));
	vmm_machine_free(machine);
	free(machine);
}

static void paused_as_it_starts(enum vmm_accel_choice accel)
{
	for (int i = 0; i < TIMES; i++) {
		struct vmm_machine *machine = new_machine(accel);

		if (vmm_machine_start(machine) || vmm_machine_pause(machine))
			die();
		for (unsigned int vcpu = 0; vcpu < VCPUS; vcpu++)
			assert_true(machine->vcpus[vcpu].parked);
		vmm_machine_resume(machine);
		end(machine);
	}
}

static void ended_as_it_starts(enum vmm_accel_choice accel)
{
	for (int i = 0; i < TIMES; i++) {
		struct vmm_machine *machine = new_machine(accel);

		if (vmm_machine_start(machine))
			die();
		end(machine);
	}
}

static void threads(void **state)
{
	(void)state;
	paused_as_it_starts(VMM_ACCEL_THREAD);
	ended_as_it_starts(VMM_ACCEL_THREAD);
}

static void kvm(void **state)
{
	(void)state;
	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("SKIP kvm: /dev/kvm cannot be opened\n");
		skip();
	}
	paused_as_it_starts(VMM_ACCEL_KVM);
	ended_as_it_starts(VMM_ACCEL_KVM);
}

/* The machine is on its way when its command line begins, and comes back. */
static void *comes_back(void *arg)
{
	struct vmm_machine *machine = arg;

	while (!vmm_scripted(machine))
		(void)sched_yield();
	/* Not too soon, or nothing is tried meanwhile; whatever it takes, the outcome is the same. */
	(void)poll(NULL, 0, 50);
	vmm_set_place(machine, VMM_HERE);
	return NULL;
}

static void a_script_waits_for_its_machine(void **state)
{
	const struct vmm_list commands = {.nr = 2, .items = {"discard:2M,4K", "stamp:light"}};
	struct vmm_machine *machine = new_machine(VMM_ACCEL_THREAD);
	const struct vmm_drive drive = {
		.machine = machine, .verb = "run", .commands = &commands, .json = true};
	pthread_t thread;

	(void)state;
	machine->place = VMM_LEAVING;
	assert_int_equal(pthread_create(&thread, NULL, comes_back, machine), 0);
	assert_int_equal(vmm_drive(&drive), 0);
	pthread_join(thread, NULL);
	vmm_machine_free(machine);
	free(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(threads), cmocka_unit_test(kvm),
					   cmocka_unit_test(a_script_waits_for_its_machine)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
