/* SPDX-License-Identifier: MIT */
/* Operations on the machine as a whole: commands, their end, discards. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "arrive.h"
#include "machine.h"
#include "util.h"

static const char *const elsewhere[] = {
	[VMM_AWAITED] = "no machine has come here yet",
	[VMM_LEAVING] = "the machine is on its way to another host",
	[VMM_GONE] = "the machine has moved to another host",
};

static int not_here(enum vmm_place place)
{
	return vmm_fail(EREMOTE, "%s", elsewhere[place]);
}

int vmm_operation_begin(struct vmm_machine *machine)
{
	pthread_mutex_lock(&machine->operation);
	if (machine->place == VMM_HERE)
		return 0;
	pthread_mutex_unlock(&machine->operation);
	return not_here(vmm_place(machine));
}

void vmm_operation_end(struct vmm_machine *machine)
{
	pthread_mutex_unlock(&machine->operation);
}

int vmm_make_whole(struct vmm_machine *machine, bool for_leave)
{
	const bool *called_off = for_leave ? &machine->called_off : NULL;

	if (machine->arrive)
		return vmm_arrive_await(machine, false, called_off);
	if (machine->memory.partial)
		return vmm_memory_pull(&machine->memory, &machine->quit, called_off,
				       !machine->quiet);
	return 0;
}

void vmm_set_place(struct vmm_machine *machine, enum vmm_place place)
{
	pthread_mutex_lock(&machine->lock);
	machine->place = place;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	eventfd_write(machine->wake_fd, 1);
}

enum vmm_place vmm_place(struct vmm_machine *machine)
{
	enum vmm_place place;

	pthread_mutex_lock(&machine->lock);
	place = machine->place;
	pthread_mutex_unlock(&machine->lock);
	return place;
}

int vmm_check_place(struct vmm_machine *machine)
{
	enum vmm_place place = vmm_place(machine);

	return place == VMM_HERE ? 0 : not_here(place);
}

static bool busy_locked(const struct vmm_machine *machine)
{
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		if (machine->vcpus[i].busy)
			return true;
	return false;
}

bool vmm_busy(struct vmm_machine *machine)
{
	bool busy;

	pthread_mutex_lock(&machine->lock);
	busy = busy_locked(machine);
	pthread_mutex_unlock(&machine->lock);
	return busy;
}

bool vmm_scripted(struct vmm_machine *machine)
{
	bool scripted;

	pthread_mutex_lock(&machine->lock);
	scripted = machine->scripted;
	pthread_mutex_unlock(&machine->lock);
	return scripted;
}

void vmm_set_scripted(struct vmm_machine *machine, bool scripted)
{
	pthread_mutex_lock(&machine->lock);
	machine->scripted = scripted;
	pthread_mutex_unlock(&machine->lock);
}

static int issue_locked(struct vmm_machine *machine, const struct vmm_command *cmd)
{
	if (machine->failure[0])
		return vmm_fail(EIO, "command \"%s\": the machine has failed: %s", cmd->text,
				machine->failure);
	if (busy_locked(machine))
		return vmm_fail(EBUSY, "command \"%s\": \"%s\" is still running", cmd->text,
				machine->cmd.text);
	machine->cmd = *cmd;
	machine->cmd.payload.seq = ++machine->seq;
	machine->issued_ns = vmm_now_ns();
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		machine->vcpus[i].busy = true;
	pthread_cond_broadcast(&machine->changed);
	return 0;
}

int vmm_issue(struct vmm_machine *machine, const struct vmm_command *cmd)
{
	int ret = vmm_operation_begin(machine);

	if (ret)
		return ret;
	pthread_mutex_lock(&machine->lock);
	ret = issue_locked(machine, cmd);
	pthread_mutex_unlock(&machine->lock);
	vmm_operation_end(machine);
	return ret;
}

int vmm_wait(struct vmm_machine *machine)
{
	int ret = 0;

	pthread_mutex_lock(&machine->lock);
	while (busy_locked(machine) && !machine->failure[0] && !machine->quit &&
	       machine->place != VMM_GONE)
		pthread_cond_wait(&machine->changed, &machine->lock);
	if (machine->place == VMM_GONE)
		ret = not_here(machine->place);
	else if (machine->failure[0])
		ret = vmm_fail(EIO, "%s", machine->failure);
	else if (busy_locked(machine))
		ret = vmm_fail(ECANCELED, "the machine ended before \"%s\" did", machine->cmd.text);
	pthread_mutex_unlock(&machine->lock);
	return ret;
}

static void ask_to_stop(struct vmm_machine *machine, unsigned int vcpu, uint64_t seq)
{
	__atomic_store_n(&vmm_mailbox(machine, vcpu)->stop, seq, __ATOMIC_RELAXED);
	vmm_mailbox_wrote(machine, vcpu);
}

int vmm_stop_command(struct vmm_machine *machine)
{
	int ret = vmm_operation_begin(machine);
	uint64_t seq;

	if (ret)
		return ret;
	pthread_mutex_lock(&machine->lock);
	seq = busy_locked(machine) ? machine->cmd.payload.seq : 0;
	pthread_mutex_unlock(&machine->lock);
	for (unsigned int i = 0; seq && i < machine->nr_vcpus; i++)
		ask_to_stop(machine, i, seq);
	vmm_operation_end(machine);
	return 0;
}

/* A mailbox to read without waiting for it, or NULL. That it is in shared memory does not say that
 * touching it would not wait; but the second mapping never does. */
static const struct payload_mailbox *peek(const struct vmm_machine *machine, unsigned int vcpu)
{
	const struct payload_mailbox *mailbox = vmm_mailbox(machine, vcpu);

	if (machine->memory.alias) /* region 0 begins at GPA and offset 0 */
		return (const void *)(machine->memory.alias +
				      ((const unsigned char *)mailbox - machine->memory.base));
	return vmm_memory_resident(mailbox) ? mailbox : NULL;
}

uint64_t vmm_progress(struct vmm_machine *machine)
{
	uint64_t pages = 0;
	uint64_t seq;

	pthread_mutex_lock(&machine->lock);
	seq = machine->cmd.payload.seq;
	pthread_mutex_unlock(&machine->lock);
	/* A vCPU whose mailbox is still missing has done nothing yet (the asker must not wait), nor
	 * has one that is yet to begin the command: its progress is the last one's. */
	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		const struct payload_mailbox *mailbox = peek(machine, i);

		if (mailbox && __atomic_load_n(&mailbox->begun, __ATOMIC_ACQUIRE) == seq)
			pages += __atomic_load_n(&mailbox->progress, __ATOMIC_RELAXED);
	}
	return pages;
}

/*
 * The discards. Every mailbox holds the same list, so that a vCPU reads its own; one slot number is
 * good for all of them.
 */

/* Whether a later full stamp, or a later discard, has made the entry moot. */
static bool moot(const struct payload_mailbox *mailbox, unsigned int entry)
{
	const struct payload_discard *old = &mailbox->discards[entry];

	if (mailbox->stamp.fill >= 100 && mailbox->stamp.seq > old->seq)
		return true;
	for (unsigned int i = entry + 1; i < PAYLOAD_MAX_DISCARDS; i++) {
		const struct payload_discard *d = &mailbox->discards[i];

		if (d->state == PAYLOAD_DISCARD_ZERO && d->gpa <= old->gpa &&
		    d->gpa + d->len_bytes >= old->gpa + old->len_bytes)
			return true;
	}
	return false;
}

static void all_wrote(struct vmm_machine *machine)
{
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		vmm_mailbox_wrote(machine, i);
}

/* Only while no vCPU reads the lists. */
static void compact(struct vmm_machine *machine)
{
	struct payload_mailbox *first = vmm_mailbox(machine, 0);
	unsigned int kept = 0;

	for (unsigned int i = 0; i < PAYLOAD_MAX_DISCARDS; i++) {
		struct payload_discard d = first->discards[i];
		bool drop = d.state == PAYLOAD_DISCARD_FREE || moot(first, i);

		first->discards[i].state = PAYLOAD_DISCARD_FREE;
		if (!drop)
			first->discards[kept++] = d;
	}
	for (unsigned int i = 1; i < machine->nr_vcpus; i++)
		memcpy(vmm_mailbox(machine, i)->discards, first->discards, sizeof(first->discards));
	all_wrote(machine);
}

/* Return: a slot number, PAYLOAD_MAX_DISCARDS when there is none. */
static unsigned int free_slot(const struct vmm_machine *machine)
{
	const struct payload_mailbox *first = vmm_mailbox(machine, 0);
	unsigned int slot = 0;

	while (slot < PAYLOAD_MAX_DISCARDS && first->discards[slot].state != PAYLOAD_DISCARD_FREE)
		slot++;
	return slot;
}

static void mark(struct vmm_machine *machine, unsigned int slot, uint32_t state)
{
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		__atomic_store_n(&vmm_mailbox(machine, i)->discards[slot].state, state,
				 __ATOMIC_RELEASE);
	all_wrote(machine);
}

/* Nobody reads a slot that is free, so its other fields may be plain. */
static void fill_slot(struct vmm_machine *machine, unsigned int slot, uint64_t gpa, uint64_t len)
{
	machine->seq++;
	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		struct payload_discard *d = &vmm_mailbox(machine, i)->discards[slot];

		d->gpa = gpa;
		d->len_bytes = len;
		d->seq = machine->seq;
	}
	all_wrote(machine);
}

static int check_range(const struct vmm_machine *machine, uint64_t gpa, uint64_t len)
{
	if (gpa < PAYLOAD_FIRST_GPA)
		return vmm_fail(EINVAL, "discard of gpa 0x%llx: the payload lives below 0x%x",
				(unsigned long long)gpa, PAYLOAD_FIRST_GPA);
	if (!vmm_memory_addr(&machine->memory, gpa, len))
		return vmm_fail(EINVAL,
				"discard of gpa 0x%llx, %llu bytes: not inside guest memory",
				(unsigned long long)gpa, (unsigned long long)len);
	return 0;
}

static int discard(struct vmm_machine *machine, uint64_t gpa, uint64_t len, bool idle)
{
	unsigned int slot;
	int ret = check_range(machine, gpa, len);

	if (ret)
		return ret;
	if (idle)
		compact(machine);
	slot = free_slot(machine);
	if (slot == PAYLOAD_MAX_DISCARDS)
		return vmm_fail(ENOSPC, "discard of gpa 0x%llx: at most %u ranges are kept",
				(unsigned long long)gpa, PAYLOAD_MAX_DISCARDS);
	fill_slot(machine, slot, gpa, len);
	mark(machine, slot, PAYLOAD_DISCARD_FLUX);
	ret = vmm_memory_discard(&machine->memory, gpa, len);
	mark(machine, slot, ret ? PAYLOAD_DISCARD_FREE : PAYLOAD_DISCARD_ZERO);
	return ret;
}

int vmm_discard(struct vmm_machine *machine, uint64_t gpa, uint64_t len)
{
	int ret = vmm_operation_begin(machine);
	bool busy;

	if (ret)
		return ret;
	busy = vmm_busy(machine);
	if (busy && machine->cmd.payload.op != PAYLOAD_OP_VERIFY)
		ret = vmm_fail(EBUSY, "discard of gpa 0x%llx: \"%s\" is writing memory",
			       (unsigned long long)gpa, machine->cmd.text);
	else
		ret = discard(machine, gpa, len, !busy);
	vmm_operation_end(machine);
	return ret;
}
