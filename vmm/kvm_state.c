/* SPDX-License-Identifier: MIT */
/*
 * Saving and loading what KVM holds of a machine: one row of the table for each
 * piece that is a plain struct, functions of their own for what has a length.
 *
 * Order matters on the way in: CPUID first (it decides what the rest may hold),
 * control registers before the extended state they enable, the LAPIC before the
 * MSRs that name its timer, events last.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_pieces.h"
#include "util.h"

/* In the order of loading. */
static const struct kvm_piece pieces[] = {
	{"mp_state", VMM_STATE_MP_STATE, KVM_GET_MP_STATE, KVM_SET_MP_STATE,
	 sizeof(struct kvm_mp_state), KVM_CAP_MP_STATE, false},
	{"regs", VMM_STATE_REGS, KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs), 0, false},
	{"sregs", VMM_STATE_SREGS, KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs), 0,
	 false},
	{"xcrs", VMM_STATE_XCRS, KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs), KVM_CAP_XCRS,
	 false},
	{"debugregs", VMM_STATE_DEBUGREGS, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
	 sizeof(struct kvm_debugregs), KVM_CAP_DEBUGREGS, false},
	{"lapic", VMM_STATE_LAPIC, KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state),
	 KVM_CAP_IRQCHIP, true},
};

static const struct kvm_piece events = {"events",
					VMM_STATE_EVENTS,
					KVM_GET_VCPU_EVENTS,
					KVM_SET_VCPU_EVENTS,
					sizeof(struct kvm_vcpu_events),
					KVM_CAP_VCPU_EVENTS,
					false};

static bool offered(const struct vmm_vcpu *vcpu, const struct kvm_piece *piece)
{
	if (piece->irqchip && !kvm_of(vcpu->machine)->has_irqchip)
		return false;
	return !piece->capability || kvm_vcpu_extension(vcpu, piece->capability) > 0;
}

int kvm_save_piece(struct vmm_vcpu *vcpu, const struct kvm_piece *piece, struct vmm_state_out *out)
{
	uint64_t data[512] = {0};

	if (!offered(vcpu, piece))
		return 0;
	if (piece->len > sizeof(data) || ioctl(kvm_vcpu_of(vcpu)->fd, piece->get, data))
		return kvm_state_failed(vcpu, "save", piece->name);
	return vmm_state_add(out, piece->tag, vcpu->index, data, piece->len);
}

int kvm_load_piece(struct vmm_vcpu *vcpu, const struct kvm_piece *piece,
		   const struct vmm_state *state)
{
	const struct vmm_chunk *chunk = vmm_state_find(state, piece->tag, vcpu->index);
	uint64_t data[512] = {0};

	if (!chunk)
		return 0;
	if (chunk->len != piece->len || piece->len > sizeof(data))
		return vmm_fail(EINVAL, "machine state: %s of vCPU %u has %zu bytes, not %zu",
				piece->name, vcpu->index, chunk->len, piece->len);
	if (!offered(vcpu, piece))
		return vmm_fail(ENOTSUP, "machine state: this KVM cannot take %s of vCPU %u",
				piece->name, vcpu->index);
	memcpy(data, chunk->data, chunk->len);
	if (ioctl(kvm_vcpu_of(vcpu)->fd, piece->set, data))
		return kvm_state_failed(vcpu, "load", piece->name);
	return 0;
}

static int save_vcpu(struct vmm_vcpu *vcpu, struct vmm_state_out *out)
{
	int ret = kvm_save_cpuid(vcpu, out);

	for (size_t i = 0; !ret && i < ARRAY_LEN(pieces); i++)
		ret = kvm_save_piece(vcpu, &pieces[i], out);
	if (!ret)
		ret = kvm_save_xsave(vcpu, out);
	if (!ret)
		ret = kvm_save_msrs(vcpu, out);
	return ret ? ret : kvm_save_piece(vcpu, &events, out);
}

static int load_vcpu(struct vmm_vcpu *vcpu, const struct vmm_state *state)
{
	int ret;

	/* A snapshot taken on threads has no registers: its vCPUs go on by their mailboxes. */
	if (!vmm_state_find(state, VMM_STATE_REGS, vcpu->index))
		return kvm_boot(vcpu);
	ret = kvm_load_cpuid(vcpu, state);
	for (size_t i = 0; !ret && i < ARRAY_LEN(pieces); i++)
		ret = kvm_load_piece(vcpu, &pieces[i], state);
	if (!ret)
		ret = kvm_load_xsave(vcpu, state);
	if (!ret)
		ret = kvm_load_msrs(vcpu, state);
	return ret ? ret : kvm_load_piece(vcpu, &events, state);
}

static int save_clock(struct vmm_machine *machine, struct vmm_state_out *out)
{
	struct kvm_clock_data clock = {0};

	if (ioctl(kvm_of(machine)->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK) <= 0)
		return 0;
	if (ioctl(kvm_of(machine)->vm_fd, KVM_GET_CLOCK, &clock))
		return vmm_fail(errno, "save the KVM clock: %s", strerror(errno));
	return vmm_state_add(out, VMM_STATE_CLOCK, VMM_STATE_VM, &clock, sizeof(clock));
}

/* The guest's clock goes on from where it stopped. */
static int load_clock(struct vmm_machine *machine, const struct vmm_state *state)
{
	const struct vmm_chunk *chunk = vmm_state_find(state, VMM_STATE_CLOCK, VMM_STATE_VM);
	struct kvm_clock_data clock = {0};

	if (!chunk)
		return 0;
	if (chunk->len != sizeof(clock))
		return vmm_fail(EINVAL, "machine state: the clock has %zu bytes", chunk->len);
	memcpy(&clock, chunk->data, sizeof(clock));
	clock = (struct kvm_clock_data){.clock = clock.clock};
	if (ioctl(kvm_of(machine)->vm_fd, KVM_SET_CLOCK, &clock))
		return vmm_fail(errno, "load the KVM clock: %s", strerror(errno));
	return 0;
}

int kvm_save(struct vmm_machine *machine, struct vmm_state_out *out)
{
	int ret = save_clock(machine, out);

	for (unsigned int i = 0; !ret && i < machine->nr_vcpus; i++)
		ret = save_vcpu(&machine->vcpus[i], out);
	return ret;
}

int kvm_load(struct vmm_machine *machine, const struct vmm_state *state)
{
	int ret = load_clock(machine, state);

	for (unsigned int i = 0; !ret && i < machine->nr_vcpus; i++)
		ret = load_vcpu(&machine->vcpus[i], state);
	return ret;
}
