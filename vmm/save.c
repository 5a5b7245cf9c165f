/* SPDX-License-Identifier: MIT */
#include "save.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "util.h"

/* The command under way, or the last one: whichever is asked for. */
static json_t *command_json(const struct vmm_machine *machine, bool ended)
{
	uint64_t until = ended ? machine->ended_ns : vmm_now_ns();
	uint64_t seq = machine->cmd.payload.seq;
	json_t *busy = json_array();
	json_t *taken = json_array();

	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		if (machine->vcpus[i].busy)
			json_array_append_new(busy, json_integer(i));
		if (machine->vcpus[i].taken == seq)
			json_array_append_new(taken, json_integer(i));
	}
	if (seq && ended == !json_array_size(busy))
		return json_pack(
			"{s:s, s:I, s:I, s:o, s:o}", "command", machine->cmd.text, "seq",
			(json_int_t)seq, "elapsed_ns",
			(json_int_t)(until > machine->issued_ns ? until - machine->issued_ns : 0),
			"busy", busy, "taken", taken);
	json_decref(busy);
	json_decref(taken);
	return json_null();
}

char *vmm_describe(struct vmm_machine *machine, size_t state_len)
{
	char *text;
	json_t *json;

	pthread_mutex_lock(&machine->lock);
	json = json_pack("{s:i, s:i, s:s, s:i, s:I, s:I, s:b, s:I, s:o, s:o}", "version",
			 VMM_MACHINE_VERSION, "vcpus", (int)machine->nr_vcpus, "accel",
			 machine->accel->name, "payload_abi", (int)PAYLOAD_ABI, "seq",
			 (json_int_t)machine->seq, "state_bytes", (json_int_t)state_len, "paused",
			 __atomic_load_n(&machine->held, __ATOMIC_RELAXED), "mismatches",
			 (json_int_t)machine->mismatches, "running", command_json(machine, false),
			 "ended", command_json(machine, true));
	pthread_mutex_unlock(&machine->lock);
	text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	json_decref(json);
	return text;
}

static int save(struct vmm_machine *machine, struct vmm_state_out *out, const char *text)
{
	int ret = vmm_state_begin(out);

	if (!ret && text)
		ret = vmm_state_add(out, VMM_STATE_MACHINE, VMM_STATE_VM, text, strlen(text));
	if (!ret)
		ret = machine->accel->save(machine, out);
	if (!ret)
		vmm_state_end(out);
	return ret;
}

int vmm_save(struct vmm_machine *machine, struct vmm_state_out *out)
{
	return save(machine, out, NULL);
}

int vmm_save_whole(struct vmm_machine *machine, struct vmm_state_out *out)
{
	AUTO_FREE char *text = vmm_describe(machine, 0);

	*out = (struct vmm_state_out){0};
	return text ? save(machine, out, text) : vmm_fail(ENOMEM, "machine state: no memory");
}

int vmm_load_whole(const void *data, size_t len, struct vmm_machine_info *info,
		   struct vmm_state *state)
{
	const struct vmm_chunk *text;
	char err[256];

	if (vmm_state_parse(data, len, state, err, sizeof(err)))
		return vmm_fail(EINVAL, "machine state: %s", err);
	text = vmm_state_find(state, VMM_STATE_MACHINE, VMM_STATE_VM);
	if (!text)
		return vmm_fail(EINVAL, "machine state: does not say what the machine is");
	if (vmm_snapshot_parse_machine(text->data, text->len, info, err, sizeof(err)))
		return vmm_fail(EINVAL, "machine state: %s", err);
	return vmm_check_registers(info, state);
}

int vmm_check_registers(const struct vmm_machine_info *info, const struct vmm_state *state)
{
	for (unsigned int i = 0; i < info->nr_vcpus; i++)
		if (info->accel == VMM_ACCEL_KVM && (!vmm_state_find(state, VMM_STATE_REGS, i) ||
						     !vmm_state_find(state, VMM_STATE_SREGS, i)))
			return vmm_fail(EINVAL, "no registers for vCPU %u", i);
	return 0;
}

int vmm_adopt(struct vmm_machine *machine, const struct vmm_machine_info *info)
{
	struct vmm_command cmd = {0};

	machine->seq = info->seq;
	if (!info->running[0])
		return 0;
	if (vmm_command_parse(info->running, &cmd) || cmd.kind != VMM_COMMAND_PAYLOAD)
		return vmm_fail(EINVAL, "\"running\": \"%.80s\" is no command", info->running);
	cmd.payload.seq = info->running_seq;
	machine->cmd = cmd;
	machine->issued_ns = machine->times.request;
	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		machine->vcpus[i].busy = info->busy[i];
		machine->vcpus[i].taken = info->taken[i] ? info->running_seq : 0;
	}
	return 0;
}
