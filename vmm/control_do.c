/* SPDX-License-Identifier: MIT */
/* What the control socket can ask for. */
#include <string.h>

#include "control.h"
#include "control_move.h"
#include "inside.h"
#include "leave.h"
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

/* Under machine->lock. */
static const char *state_name(const struct vmm_machine *machine)
{
	static const char *const places[] = {
		[VMM_AWAITED] = "awaited", [VMM_LEAVING] = "leaving", [VMM_GONE] = "gone"};

	if (machine->failure[0])
		return "failed";
	if (machine->place != VMM_HERE)
		return places[machine->place];
	return __atomic_load_n(&machine->held, __ATOMIC_RELAXED) ? "paused" : "running";
}

/* Under machine->lock, of a machine that is there. */
static json_t *describe(const struct vmm_machine *machine, bool busy, uint64_t progress)
{
	return json_pack("{s:b, s:s, s:s, s:i, s:I, s:b, s:s, s:I, s:I, s:s}", "ok", 1, "state",
			 state_name(machine), "accel", machine->accel->name, "vcpus",
			 (int)machine->nr_vcpus, "memory_bytes",
			 (json_int_t)vmm_layout_bytes(&machine->memory.layout), "busy",
			 busy || machine->scripted, "command", machine->cmd.text, "progress",
			 (json_int_t)progress, "mismatches", (json_int_t)machine->mismatches,
			 "dirty_by", machine->dirty->name);
}

static json_t *do_status(struct vmm_machine *machine)
{
	bool awaited = vmm_place(machine) == VMM_AWAITED;
	bool busy = !awaited && vmm_busy(machine);
	uint64_t progress = busy ? vmm_progress(machine) : 0;
	json_t *status;

	pthread_mutex_lock(&machine->lock);
	status = awaited ? json_pack("{s:b, s:s, s:b}", "ok", 1, "state", "awaited", "busy", 1)
			 : describe(machine, busy, progress);
	pthread_mutex_unlock(&machine->lock);
	if (machine->inside)
		json_object_set_new(status, "pager", vmm_inside_report(machine->inside));
	vmm_control_add_moves(machine, status);
	return status;
}

static json_t *do_pause(struct vmm_machine *machine)
{
	int ret = vmm_operation_begin(machine);

	if (ret)
		return answer(ret);
	__atomic_store_n(&machine->held, true, __ATOMIC_RELAXED);
	ret = vmm_machine_pause(machine);
	vmm_operation_end(machine);
	return answer(ret);
}

static json_t *do_resume(struct vmm_machine *machine)
{
	int ret = vmm_operation_begin(machine);

	if (ret)
		return answer(ret);
	__atomic_store_n(&machine->held, false, __ATOMIC_RELAXED);
	vmm_machine_resume(machine);
	vmm_operation_end(machine);
	return ok();
}

static json_t *do_snapshot(struct vmm_machine *machine, const json_t *request)
{
	const char *dir = json_string_value(json_object_get(request, "dir"));

	if (!dir || dir[0] != '/')
		return refuse("snapshot: \"dir\" is missing or no absolute path");
	if (!vmm_leave_settled(machine))
		return refuse("snapshot: a migration is under way");
	return answer(vmm_snapshot_take(machine, dir));
}

bool vmm_control_needs_pages(struct vmm_machine *machine)
{
	return vmm_place(machine) == VMM_HERE && !vmm_machine_failed(machine);
}

json_t *vmm_control_result(struct vmm_machine *machine)
{
	json_t *result;

	if (vmm_check_place(machine))
		return refuse(vmm_error_text());
	result = vmm_machine_failed(machine) ? refuse(machine->failure)
					     : vmm_report_command(machine);
	if (!json_object_get(result, "ok"))
		json_object_set_new(result, "ok", json_true());
	return result;
}

/* The result lies in guest memory: not for the socket's own thread, see control.c. */
static json_t *do_wait(struct vmm_machine *machine)
{
	return vmm_busy(machine) && !vmm_machine_failed(machine) ? NULL
								 : vmm_control_result(machine);
}

static json_t *do_put_off(struct vmm_machine *machine)
{
	return vmm_control_needs_pages(machine) ? NULL : vmm_control_result(machine);
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
		ret = vmm_stop_command(machine);
		return ret ? answer(ret) : do_wait(machine);
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
	static const char *const slow[] = {"pause", "resume", "snapshot", "command", "migrate"};

	for (size_t i = 0; i < ARRAY_LEN(slow); i++)
		if (!strcmp(vmm_control_name(request), slow[i]))
			return false;
	return true;
}

static bool is_move(const char *what)
{
	return !strncmp(what, "migrate", strlen("migrate"));
}

/* What there is to say of a machine before it has come. */
static bool needs_machine(const char *what)
{
	return strcmp(what, "status") != 0 && strcmp(what, "quit") != 0 && !is_move(what);
}

json_t *vmm_control_do(struct vmm_machine *machine, const json_t *request)
{
	const char *what = json_string_value(json_object_get(request, "do"));

	if (!what)
		return refuse("wants one JSON object with \"do\" a line");
	if (needs_machine(what) && vmm_place(machine) == VMM_AWAITED)
		return answer(vmm_check_place(machine));
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
		return do_put_off(machine);
	if (is_move(what))
		return vmm_control_move(machine, request);
	if (strcmp(what, "quit"))
		return refuse("\"do\" wants status, pause, resume, snapshot, command, wait, quit,"
			      " migrate, migrate-status, migrate-cancel or migrate-recover");
	return answer(vmm_machine_told(machine));
}
