/* SPDX-License-Identifier: MIT */
#include "drive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "inside.h"
#include "report.h"
#include "snapshot.h"
#include "util.h"

int vmm_drive_check(const struct vmm_list *commands)
{
	struct vmm_command cmd;
	int ret = 0;

	for (unsigned int i = 0; !ret && i < commands->nr; i++)
		ret = vmm_command_parse(commands->items[i], &cmd);
	return ret;
}

/* The result of the command that has ended, kept for the final report. */
static int collect(const struct vmm_drive *drive, json_t *results)
{
	json_t *result = vmm_report_command(drive->machine);
	const char *status = json_string_value(json_object_get(result, "status"));
	int ret = 0;

	if (!drive->json)
		vmm_report_print(result);
	if (status && status[0] == 'r')
		ret = vmm_fail(EINVAL, "command \"%s\": %s", drive->machine->cmd.text, status);
	json_array_append_new(results, result);
	return ret;
}

static int await(const struct vmm_drive *drive, json_t *results)
{
	int ret = vmm_wait(drive->machine);

	return ret ? ret : collect(drive, results);
}

static int do_discard(const struct vmm_drive *drive, const struct vmm_command *cmd)
{
	int ret = vmm_discard(drive->machine, cmd->gpa, cmd->len_bytes);

	if (!ret && !drive->json)
		printf("%s: ok\n", cmd->text);
	return ret;
}

static int do_command(const struct vmm_drive *drive, const char *text, json_t *results)
{
	struct vmm_command cmd;
	int ret = vmm_command_parse(text, &cmd);

	if (ret)
		return ret;
	switch (cmd.kind) {
	case VMM_COMMAND_DISCARD:
		return do_discard(drive, &cmd);
	case VMM_COMMAND_STOP:
		vmm_stop_command(drive->machine);
		return vmm_busy(drive->machine) ? await(drive, results) : 0;
	case VMM_COMMAND_WAIT:
		return vmm_busy(drive->machine) ? await(drive, results) : 0;
	default:
		ret = vmm_issue(drive->machine, &cmd);
		return ret ? ret : await(drive, results);
	}
}

/* A vCPU that was inside a command goes on there and may not come out for long. */
static int await_first_exit(struct vmm_machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	while (!__atomic_load_n(&machine->times.first_exit, __ATOMIC_RELAXED) && !machine->quit &&
	       !machine->failure[0] && !machine->cmd.payload.seq)
		pthread_cond_wait(&machine->changed, &machine->lock);
	pthread_mutex_unlock(&machine->lock);
	return 0;
}

static int await_quit(struct vmm_machine *machine)
{
	int ret = 0;

	pthread_mutex_lock(&machine->lock);
	while (!machine->quit && !machine->failure[0])
		pthread_cond_wait(&machine->changed, &machine->lock);
	if (machine->failure[0])
		ret = vmm_fail(EIO, "%s", machine->failure);
	pthread_mutex_unlock(&machine->lock);
	return ret;
}

static int work(const struct vmm_drive *drive, json_t *results)
{
	int ret = await_first_exit(drive->machine);

	for (unsigned int i = 0; !ret && i < drive->commands->nr; i++)
		ret = do_command(drive, drive->commands->items[i], results);
	vmm_set_scripted(drive->machine, false);
	if (!ret && drive->snapshot) {
		ret = vmm_snapshot_take(drive->machine, drive->snapshot);
		if (!ret && !drive->json)
			printf("snapshot: %s\n", drive->snapshot);
		fflush(stdout);
	}
	return !ret && drive->control ? await_quit(drive->machine) : ret;
}

static void print_times(const struct vmm_drive *drive, const json_t *times)
{
	double first = json_real_value(json_object_get(times, "first_instruction_us"));
	double slots = json_real_value(json_object_get(times, "memslots_us"));

	printf("restored (%s, %s): ", drive->how, drive->machine->accel->name);
	if (first > 0)
		printf("first instruction seen %.2f ms after the request", first / 1e3);
	else
		printf("no exit of the guest seen yet");
	printf(" (vCPU entered after %.2f ms, KVM_SET_USER_MEMORY_REGION took %.2f ms of it)\n",
	       json_real_value(json_object_get(times, "enter_us")) / 1e3, slots / 1e3);
}

static json_int_t verified(const json_t *results)
{
	json_int_t pages = 0;

	for (size_t i = 0; i < json_array_size(results); i++) {
		const json_t *result = json_array_get(results, i);
		const char *command = json_string_value(json_object_get(result, "command"));

		if (command && !strncmp(command, "verify", strlen("verify")))
			pages += json_integer_value(json_object_get(result, "pages"));
	}
	return pages;
}

static void report(const struct vmm_drive *drive, json_t *results, int status)
{
	struct vmm_machine *machine = drive->machine;
	json_t *times = drive->how ? vmm_report_times(machine) : NULL;
	json_t *all;

	if (!drive->json) {
		if (times)
			print_times(drive, times);
		json_decref(times);
		json_decref(results);
		return;
	}
	all = json_pack("{s:s, s:s, s:i, s:I, s:I, s:i, s:o}", "verb", drive->verb, "accel",
			machine->accel->name, "vcpus", (int)machine->nr_vcpus, "memory_bytes",
			(json_int_t)vmm_layout_bytes(&machine->memory.layout), "mismatches",
			(json_int_t)machine->mismatches, "exit_status", status, "commands",
			results);
	json_object_set_new(all, "pages_verified", json_integer(verified(results)));
	json_object_set_new(all, "page_size",
			    json_integer((json_int_t)machine->memory.layout.regions[0].page_size));
	if (drive->how)
		json_object_set_new(all, "how", json_string(drive->how));
	if (machine->inside)
		json_object_set_new(all, "pager", vmm_inside_report(machine->inside));
	if (times)
		json_object_set_new(all, "times", times);
	if (status)
		json_object_set_new(all, "error", json_string(vmm_error_text()));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

/* A signal is the normal end of a churn that has no rounds; else it cuts work short. */
static bool endless(const struct vmm_machine *machine)
{
	return machine->cmd.payload.op == PAYLOAD_OP_CHURN && !machine->cmd.payload.rounds;
}

static int exit_status(const struct vmm_drive *drive, int ret)
{
	struct vmm_machine *machine = drive->machine;

	if (!ret && machine->mismatches)
		ret = vmm_fail(EIO, "the guest found %llu pages that are not what was written",
			       (unsigned long long)machine->mismatches);
	if (ret == -ECANCELED && endless(machine) && !machine->mismatches)
		ret = 0;
	if (ret)
		fprintf(stderr, "faultline-vmm %s: %s\n", drive->verb, vmm_error_text());
	return ret ? 1 : 0;
}

int vmm_drive(const struct vmm_drive *drive)
{
	struct vmm_machine *machine = drive->machine;
	struct vmm_control *control = NULL;
	json_t *results = json_array();
	int ret = 0, status;

	/* Before anyone can ask: a machine that has not begun its commands is not idle. */
	vmm_set_scripted(machine, true);
	if (drive->control)
		ret = vmm_control_start(machine, drive->control, &control);
	if (!ret)
		ret = vmm_machine_start(machine);
	if (!ret)
		ret = work(drive, results);
	status = exit_status(drive, ret);
	report(drive, results, status);
	fflush(stdout);
	ret = vmm_machine_stop(machine);
	if (control && vmm_control_stop(control))
		ret = -ETIMEDOUT;
	if (!ret && machine->abandoned)
		ret = vmm_fail(ETIMEDOUT, "a snapshot did not end: it waits for a page that nobody"
					  " brings");
	if (ret) {
		/* Threads still use the machine: leave it to the kernel. */
		vmm_say("%s", vmm_error_text());
		_exit(1);
	}
	return status;
}
