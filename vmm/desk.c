/* SPDX-License-Identifier: MIT */
/*
 * The desk: where a vCPU asks what to do next, waits, and reports.
 *
 * A vCPU that reads PAYLOAD_PORT_NEXT waits here under the machine's lock until
 * there is a command it has not taken, a pause, or the end. The command goes
 * into its mailbox with the lock released (guest memory may be absent), by this
 * very vCPU's thread: nobody else writes there while the vCPU is at the desk.
 */
#include <stdio.h>
#include <sys/eventfd.h>

#include "machine.h"
#include "util.h"

/* Return: true for the one caller that was first. */
static bool stamp_time(uint64_t *time)
{
	uint64_t never = 0;

	return !__atomic_load_n(time, __ATOMIC_RELAXED) &&
	       __atomic_compare_exchange_n(time, &never, vmm_now_ns(), false, __ATOMIC_RELAXED,
					   __ATOMIC_RELAXED);
}

void vmm_desk_entered(struct vmm_vcpu *vcpu)
{
	stamp_time(&vcpu->machine->times.enter);
}

void vmm_desk_ran(struct vmm_vcpu *vcpu)
{
	struct vmm_machine *machine = vcpu->machine;

	if (!stamp_time(&machine->times.first_exit))
		return;
	pthread_mutex_lock(&machine->lock);
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
}

bool vmm_desk_park(struct vmm_vcpu *vcpu)
{
	struct vmm_machine *machine = vcpu->machine;
	bool quit;

	pthread_mutex_lock(&machine->lock);
	while (machine->pause && !machine->quit) {
		if (!vcpu->parked) {
			vcpu->parked = true;
			pthread_cond_broadcast(&machine->changed);
		}
		pthread_cond_wait(&machine->changed, &machine->lock);
	}
	vcpu->parked = false;
	quit = machine->quit;
	pthread_mutex_unlock(&machine->lock);
	return quit;
}

/* A vCPU's part of the command: page limits are for the machine as a whole. */
static struct payload_command share_of(const struct vmm_machine *machine,
				       const struct payload_command *cmd, unsigned int vcpu)
{
	struct payload_command mine = *cmd;
	uint64_t n = machine->nr_vcpus;

	if (cmd->limit) {
		mine.limit = cmd->limit * (vcpu + 1) / n - cmd->limit * vcpu / n;
		if (!mine.limit)
			mine.op = PAYLOAD_OP_NONE;
	}
	return mine;
}

static uint32_t take(struct vmm_vcpu *vcpu, const struct payload_command *cmd)
{
	struct payload_mailbox *mailbox = vmm_mailbox(vcpu->machine, vcpu->index);

	mailbox->cmd = share_of(vcpu->machine, cmd, vcpu->index);
	vmm_mailbox_wrote(vcpu->machine, vcpu->index);
	return PAYLOAD_ANSWER_RUN;
}

static uint32_t next(struct vmm_vcpu *vcpu)
{
	struct vmm_machine *machine = vcpu->machine;
	struct payload_command cmd = {0};
	uint32_t answer = PAYLOAD_ANSWER_RETRY;

	pthread_mutex_lock(&machine->lock);
	while (!machine->quit && !machine->pause && vcpu->taken == machine->cmd.payload.seq)
		pthread_cond_wait(&machine->changed, &machine->lock);
	if (machine->quit) {
		answer = PAYLOAD_ANSWER_HALT;
	} else if (!machine->pause) {
		cmd = machine->cmd.payload;
		vcpu->taken = cmd.seq;
		answer = PAYLOAD_ANSWER_RUN;
	}
	pthread_mutex_unlock(&machine->lock);
	return answer == PAYLOAD_ANSWER_RUN ? take(vcpu, &cmd) : answer;
}

static void report(struct vmm_vcpu *vcpu)
{
	struct vmm_machine *machine = vcpu->machine;
	uint64_t mismatches = vmm_mailbox(machine, vcpu->index)->result.mismatches;

	pthread_mutex_lock(&machine->lock);
	vcpu->busy = false;
	machine->mismatches += mismatches;
	machine->ended_ns = vmm_now_ns();
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	eventfd_write(machine->wake_fd, 1);
}

/* Lines, not bytes: the consoles of several vCPUs share one stderr. */
static void console(struct vmm_vcpu *vcpu, char byte)
{
	if (byte != '\n' && vcpu->line_len + 1 < sizeof(vcpu->line)) {
		vcpu->line[vcpu->line_len++] = byte;
		return;
	}
	vcpu->line[vcpu->line_len] = '\0';
	vcpu->line_len = 0;
	if (!vcpu->machine->quiet)
		fprintf(stderr, "[vCPU %u] %s\n", vcpu->index, vcpu->line);
}

void vmm_desk_out(struct vmm_vcpu *vcpu, uint16_t port, uint32_t value)
{
	vmm_desk_ran(vcpu);
	if (port == PAYLOAD_PORT_CONSOLE)
		console(vcpu, (char)value);
	else if (port == PAYLOAD_PORT_REPORT)
		report(vcpu);
}

uint32_t vmm_desk_in(struct vmm_vcpu *vcpu, uint16_t port)
{
	vmm_desk_ran(vcpu);
	return port == PAYLOAD_PORT_NEXT ? next(vcpu) : UINT32_MAX;
}
