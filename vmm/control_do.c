/* SPDX-License-Identifier: MIT */
/* What the control socket can ask for. */
#include <string.h>

#include "control.h"
#include "inside.h"
#include "report.h"
#include "snapshot.h"
#include "util.h"

static json_t *ok(void)
{
	return json_pack("{s:b}", "ok", 1);
}

static json_t *refuse(const char *why)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", why);
}

static json_t *answer(int ret)
{
	return ret ? refuse(vmm_error_text()) : ok();
}

static const char *state_name(const struct vmm_machine *machine)
{
	if (machine->failure[0])
		return "failed";
	return __atomic_load_n(&machine->held, __ATOMIC_RELAXED) ? "paused" : "running";
}

static json_t *do_status(struct vmm_machine *machine)
{
	bool busy = vmm_busy(machine);
	uint64_t progress = busy ? vmm_progress(machine) : 0;
	json_t *status;

	pthread_mutex_lock(&machine->lock);
	status = json_pack("{s:b, s:s, s:s, s:i, s:I, s:b, s:s, s:I, s:I}", "ok", 1, "state",
			   state_name(machine), "accel", machine->accel->name, "vcpus",
			   (int)machine->nr_vcpus, "memory_bytes",
			   (json_int_t)vmm_layout_bytes(&machine->memory.layout), "busy",
			   busy || machine->scripted, "command", machine->cmd.text, "progress",
			   (json_int_t)progress, "mismatches", (json_int_t)machine->mismatches);
	pthread_mutex_unlock(&machine->lock);
	if (machine->inside)
		json_object_set_new(status, "pager", vmm_inside_report(machine->inside));
	return status;
}

static json_t *do_pause(struct vmm_machine *machine)
{
	int ret;

	pthread_mutex_lock(&machine->operation);
	__atomic_store_n(&machine->held, true, __ATOMIC_RELAXED);
	ret = vmm_machine_pause(machine);
	pthread_mutex_unlock(&machine->operation);
	return answer(ret);
}

static json_t *do_resume(struct vmm_machine *machine)
{
	pthread_mutex_lock(&machine->operation);
	__atomic_store_n(&machine->held, false, __ATOMIC_RELAXED);
	vmm_machine_resume(machine);
	pthread_mutex_unlock(&machine->operation);
	return ok();
}

static json_t *do_snapshot(struct vmm_machine *machine, const json_t *request)
{
	const char *dir = json_string_value(json_object_get(request, "dir"));

	if (!dir || dir[0] != '/')
		return refuse("snapshot: \"dir\" is missing or no absolute path");
	return answer(vmm_snapshot_take(machine, dir));
}

json_t *vmm_control_result(struct vmm_machine *machine)
{
	json_t *result = vmm_machine_failed(machine) ? refuse(machine->failure)
						     : vmm_report_command(machine);

	if (!json_object_get(result, "ok"))
		json_object_set_new(result, "ok", json_true());
	return result;
}

static json_t *do_wait(struct vmm_machine *machine)
{
	return vmm_busy(machine) && !vmm_machine_failed(machine) ? NULL
								 : vmm_control_result(machine);
}

static json_t *do_command(struct vmm_machine *machine, const json_t *request)
{
	const char *text = json_string_value(json_object_get(request, "text"));
	bool wait = json_is_true(json_object_get(request, "wait"));
	struct vmm_command cmd;
	int ret;

	if (!text)
		return refuse("command: \"text\" is missing");
	if (vmm_command_parse(text, &cmd))
		return refuse(vmm_error_text());
	switch (cmd.kind) {
	case VMM_COMMAND_DISCARD:
		return answer(vmm_discard(machine, cmd.gpa, cmd.len_bytes));
	case VMM_COMMAND_STOP:
		vmm_stop_command(machine);
		return do_wait(machine);
	case VMM_COMMAND_WAIT:
		return do_wait(machine);
	default:
		if (vmm_scripted(machine))
			return refuse("the commands of the command line are still running");
		ret = vmm_issue(machine, &cmd);
		return ret || !wait ? answer(ret) : do_wait(machine);
	}
}

const char *vmm_control_name(const json_t *request)
{
	const char *what = json_string_value(json_object_get(request, "do"));

	return what ? what : "";
}

bool vmm_control_quick(const json_t *request)
{
	static const char *const slow[] = {"pause", "resume", "snapshot", "command"};

	for (size_t i = 0; i < ARRAY_LEN(slow); i++)
		if (!strcmp(vmm_control_name(request), slow[i]))
			return false;
	return true;
}

json_t *vmm_control_do(struct vmm_machine *machine, const json_t *request)
{
	const char *what = json_string_value(json_object_get(request, "do"));

	if (!what)
		return refuse("wants one JSON object with \"do\" a line");
	if (!strcmp(what, "status"))
		return do_status(machine);
	if (!strcmp(what, "pause"))
		return do_pause(machine);
	if (!strcmp(what, "resume"))
		return do_resume(machine);
	if (!strcmp(what, "snapshot"))
		return do_snapshot(machine, request);
	if (!strcmp(what, "command"))
		return do_command(machine, request);
	if (!strcmp(what, "wait"))
		return do_wait(machine);
	if (strcmp(what, "quit"))
		return refuse(
			"\"do\" wants status, pause, resume, snapshot, command, wait or quit");
	vmm_machine_quit(machine);
	return ok();
}
