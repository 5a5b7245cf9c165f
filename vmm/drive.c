/* SPDX-License-Identifier: MIT */
#include "drive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "inside.h"
#include "leave.h"
#include "progress.h"
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
		ret = vmm_stop_command(drive->machine);
		return !ret && vmm_busy(drive->machine) ? await(drive, results) : ret;
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
	       !machine->failure[0] && !machine->cmd.payload.seq && machine->place != VMM_GONE &&
	       !machine->pause)
		pthread_cond_wait(&machine->changed, &machine->lock);
	pthread_mutex_unlock(&machine->lock);
	return 0;
}

static int await_quit(struct vmm_machine *machine)
{
	int ret = 0;

	pthread_mutex_lock(&machine->lock);
	while (!machine->quit && !machine->failure[0] && machine->place != VMM_GONE)
		pthread_cond_wait(&machine->changed, &machine->lock);
	if (machine->place == VMM_GONE)
		ret = vmm_fail(EREMOTE, "the machine has moved to another host");
	else if (machine->failure[0])
		ret = vmm_fail(EIO, "%s", machine->failure);
	else if (machine->place == VMM_LEAVING)
		ret = vmm_fail(ENOTCONN,
			       "told to end while the machine's memory was still to follow"
			       " it: it is lost");
	pthread_mutex_unlock(&machine->lock);
	return ret;
}

/* Commands of the command line may have come to their end, but not the migration. */
static int await_rest(const struct vmm_drive *drive)
{
	int ret = vmm_arrive_await(drive->machine, true, NULL);
	uint64_t pages;

	if (!ret)
		vmm_arrive_close(drive->machine);
	if (!ret && drive->control)
		ret = await_quit(drive->machine);
	/* Told to end: what there was to do is done, unless the machine was not all here. */
	return ret == -ECANCELED && !vmm_arrive_lacks(drive->machine, &pages) ? 0 : ret;
}

static int do_snapshot(const struct vmm_drive *drive)
{
	int ret = vmm_snapshot_take(drive->machine, drive->snapshot);

	if (!ret && !drive->json)
		printf("snapshot: %s\n", drive->snapshot);
	fflush(stdout);
	return ret;
}

/* Until it is settled where the machine is, or it ends. Return: whether it is here. */
static bool await_here(struct vmm_machine *machine)
{
	bool here;

	pthread_mutex_lock(&machine->lock);
	while (machine->place == VMM_LEAVING && !machine->quit)
		pthread_cond_wait(&machine->changed, &machine->lock);
	here = machine->place == VMM_HERE;
	pthread_mutex_unlock(&machine->lock);
	return here;
}

/* The command, or without one the snapshot. A machine that is on its way may come back: then this is
 * still to be done here. */
static int do_here(const struct vmm_drive *drive, const char *command, json_t *results)
{
	int ret;

	do {
		ret = command ? do_command(drive, command, results) : do_snapshot(drive);
	} while (ret == -EREMOTE && await_here(drive->machine));
	return ret;
}

/* *@left: how many commands were not even begun here. */
static int work(const struct vmm_drive *drive, json_t *results, unsigned int *left)
{
	struct vmm_machine *machine = drive->machine;
	const struct vmm_list *commands = drive->commands;
	int ret = await_first_exit(machine);

	for (*left = commands->nr; !ret && *left; *left -= !ret)
		ret = do_here(drive, commands->items[commands->nr - *left], results);
	/* The one under way goes with the machine. */
	if (ret && *left && vmm_busy(machine))
		--*left;
	vmm_set_scripted(machine, false);
	if (!ret && drive->snapshot)
		ret = do_here(drive, NULL, results);
	if (ret == -EREMOTE && vmm_place(machine) == VMM_LEAVING)
		return await_quit(machine);
	return ret ? ret : await_rest(drive);
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

/* Takes both. */
static void print_moves(json_t *arrive, json_t *leave, bool gone)
{
	if (arrive)
		vmm_progress_summary(arrive);
	if (leave && gone)
		vmm_progress_summary(leave);
	json_decref(arrive);
	json_decref(leave);
}

/* Of a machine that came, or none. */
static json_t *summary(const struct vmm_drive *drive, json_t *results, int status)
{
	struct vmm_machine *machine = drive->machine;
	json_t *all = json_pack("{s:s, s:i, s:I, s:i, s:o}", "verb", drive->verb, "vcpus",
				(int)machine->nr_vcpus, "mismatches",
				(json_int_t)machine->mismatches, "exit_status", status, "commands",
				results);

	json_object_set_new(all, "pages_verified", json_integer(verified(results)));
	json_object_set_new(all, "migrated", json_boolean(vmm_place(machine) == VMM_GONE));
	if (!machine->nr_vcpus || !machine->accel)
		return all;
	json_object_set_new(all, "accel", json_string(machine->accel->name));
	json_object_set_new(all, "memory_bytes",
			    json_integer((json_int_t)vmm_layout_bytes(&machine->memory.layout)));
	json_object_set_new(all, "page_size",
			    json_integer((json_int_t)machine->memory.layout.regions[0].page_size));
	return all;
}

/* Of the command line of a machine that has gone. */
static void print_left(unsigned int left)
{
	if (left)
		printf("%u command%s not run here: the machine has moved\n", left,
		       left == 1 ? " was" : "s were");
}

static void report(const struct vmm_drive *drive, json_t *results, int status, unsigned int left)
{
	struct vmm_machine *machine = drive->machine;
	json_t *times = drive->how ? vmm_report_times(machine) : NULL;
	json_t *arrive = vmm_arrive_json(machine), *leave = vmm_leave_json(machine);
	json_t *all;

	if (!drive->json) {
		if (times)
			print_times(drive, times);
		json_decref(times);
		json_decref(results);
		print_moves(arrive, leave, vmm_place(machine) == VMM_GONE);
		if (vmm_place(machine) == VMM_GONE)
			print_left(left);
		return;
	}
	all = summary(drive, results, status);
	json_object_set_new(all, "commands_left", json_integer(left));
	if (drive->how)
		json_object_set_new(all, "how", json_string(drive->how));
	if (machine->inside)
		json_object_set_new(all, "pager", vmm_inside_report(machine->inside));
	if (times)
		json_object_set_new(all, "times", times);
	if (arrive)
		json_object_set_new(all, "incoming", arrive);
	if (leave)
		json_object_set_new(all, "outgoing", leave);
	if (status)
		json_object_set_new(all, "error", json_string(vmm_error_text()));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

/* A signal is the normal end of a churn that has no rounds; else it cuts work short, as it does where
 * the machine has not wholly arrived. */
static bool endless(const struct vmm_machine *machine)
{
	return machine->cmd.payload.op == PAYLOAD_OP_CHURN && !machine->cmd.payload.rounds &&
	       !(machine->arrive && machine->memory.partial);
}

static int exit_status(const struct vmm_drive *drive, int ret)
{
	struct vmm_machine *machine = drive->machine;

	/* Its commands go on over there. */
	if (ret == -EREMOTE && vmm_place(machine) == VMM_GONE)
		ret = 0;
	if (!ret && machine->mismatches)
		ret = vmm_fail(EIO, "the guest found %llu pages that are not what was written",
			       (unsigned long long)machine->mismatches);
	if (ret == -ECANCELED && endless(machine) && !machine->mismatches)
		ret = 0;
	if (ret)
		fprintf(stderr, "faultline-vmm %s: %s\n", drive->verb, vmm_error_text());
	return ret ? 1 : 0;
}

static int begin(const struct vmm_drive *drive, struct vmm_control **control)
{
	int ret = 0;

	if (drive->control)
		ret = vmm_control_start(drive->machine, drive->control, control);
	if (ret)
		return ret;
	if (!drive->arrive)
		return vmm_machine_start(drive->machine);
	ret = vmm_arrive_start(drive->machine, drive->arrive);
	return ret ? ret : vmm_arrive_run(drive->machine);
}

int vmm_drive(const struct vmm_drive *drive)
{
	struct vmm_machine *machine = drive->machine;
	struct vmm_control *control = NULL;
	unsigned int left = drive->commands->nr;
	json_t *results = json_array();
	int ret, status;

	/* Before anyone can ask: a machine that has not begun its commands is not idle. */
	vmm_set_scripted(machine, true);
	ret = begin(drive, &control);
	if (!ret)
		ret = work(drive, results, &left);
	status = exit_status(drive, ret);
	report(drive, results, status, left);
	fflush(stdout);
	ret = vmm_machine_stop(machine);
	if (control && vmm_control_stop(control))
		ret = -ETIMEDOUT;
	if (!ret)
		vmm_leave_end(machine);
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
