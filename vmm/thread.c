/* SPDX-License-Identifier: MIT */
/*
 * --accel thread: the payload's own sources, compiled natively, one thread a
 * vCPU, over the same mapping. All state lives in the mailboxes; a vCPU parks
 * between two pages, so its mailbox is all that a snapshot needs.
 */
#include <errno.h>

#include "machine.h"
#include "payload/env.h"
#include "util.h"

static void port_out(void *ctx, uint16_t port, uint32_t value)
{
	vmm_desk_out(ctx, port, value);
}

static uint32_t port_in(void *ctx, uint16_t port)
{
	uint32_t answer = vmm_desk_in(ctx, port);

	if (answer == PAYLOAD_ANSWER_RETRY && vmm_desk_park(ctx))
		return PAYLOAD_ANSWER_HALT;
	return answer;
}

static int pause_point(void *ctx)
{
	struct vmm_vcpu *vcpu = ctx;
	struct vmm_machine *machine = vcpu->machine;

	vmm_desk_ran(vcpu);
	/* Hints only; vmm_desk_park() looks again under the lock. */
	if (!__atomic_load_n(&machine->pause, __ATOMIC_RELAXED) &&
	    !__atomic_load_n(&machine->quit, __ATOMIC_RELAXED))
		return 0;
	return vmm_desk_park(vcpu);
}

static const struct payload_io thread_io = {port_out, port_in, pause_point};

static int thread_open(struct vmm_machine *machine)
{
	machine->accel_data = machine;
	return 0;
}

static int thread_boot(struct vmm_vcpu *vcpu)
{
	(void)vcpu; /* payload_main() starts from the mailbox */
	return 0;
}

static int thread_run(struct vmm_vcpu *vcpu)
{
	struct vmm_machine *machine = vcpu->machine;
	struct payload_env env = {
		.mailbox = vmm_mailbox(machine, vcpu->index),
		.base = machine->memory.base,
		.io = &thread_io,
		.ctx = vcpu,
	};

	vmm_desk_entered(vcpu);
	payload_main(&env);
	return 0;
}

static void thread_kick(struct vmm_vcpu *vcpu)
{
	(void)vcpu; /* pause_point() comes by itself */
}

static int thread_save(struct vmm_machine *machine, struct vmm_state_out *out)
{
	(void)machine;
	(void)out;
	return 0;
}

/* A vCPU saved by its registers cannot go on by its mailbox, unless it was idle. */
static int thread_load(struct vmm_machine *machine, const struct vmm_state *state)
{
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		if (machine->vcpus[i].busy && vmm_state_find(state, VMM_STATE_REGS, i))
			return vmm_fail(EINVAL,
					"the snapshot was taken on kvm while vCPU %u ran \"%s\":"
					" it goes on with --accel kvm only",
					i, machine->cmd.text);
	return 0;
}

static void thread_close(struct vmm_machine *machine)
{
	machine->accel_data = NULL;
}

const struct vmm_accel_ops vmm_accel_thread = {
	.size = sizeof(vmm_accel_thread),
	.version = VMM_ACCEL_VERSION,
	.name = "thread",
	.open = thread_open,
	.boot = thread_boot,
	.run = thread_run,
	.kick = thread_kick,
	.save = thread_save,
	.load = thread_load,
	.close = thread_close,
};
