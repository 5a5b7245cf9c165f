/* SPDX-License-Identifier: MIT */
/* Between kvm.c (making and running) and kvm_state.c (saving and loading). */
#ifndef FAULTLINE_VMM_KVM_H
#define FAULTLINE_VMM_KVM_H

#include <linux/kvm.h>

#include "machine.h"

#define KVM_MAX_CPUID_ENTRIES 256

/* struct kvm_cpuid2 with room for its entries. */
union kvm_cpuid_list {
	struct kvm_cpuid2 head;
	struct {
		uint32_t nent;
		uint32_t padding;
		struct kvm_cpuid_entry2 entries[KVM_MAX_CPUID_ENTRIES];
	} all;
};

struct kvm_vcpu {
	int fd;
	struct kvm_run *run;
	struct kvm_dirty_gfn *ring; /* or NULL; ring and ring_next under ring_lock */
	uint32_t ring_next;         /* the entry to look at next, counted without end */
};

struct kvm_machine {
	int sys_fd;
	int vm_fd;
	size_t run_bytes;
	bool has_irqchip;          /* never made today; its state would be saved */
	uint32_t ring_entries;     /* of a vCPU's dirty ring, 0 without; a power of two */
	pthread_mutex_t ring_lock; /* kvm_dirty.c */
	struct kvm_vcpu vcpus[PAYLOAD_MAX_VCPUS];
	union kvm_cpuid_list cpuid; /* what the host supports */
};

static inline struct kvm_machine *kvm_of(const struct vmm_machine *machine)
{
	return machine->accel_data;
}

static inline struct kvm_vcpu *kvm_vcpu_of(const struct vmm_vcpu *vcpu)
{
	return vcpu->accel_data;
}

int kvm_set_cpuid(struct vmm_vcpu *vcpu);
int kvm_set_slot(struct vmm_machine *machine, unsigned int slot, uint32_t flags);
int kvm_boot(struct vmm_vcpu *vcpu);
int kvm_run(struct vmm_vcpu *vcpu);
int kvm_catch_kicks(void); /* before there is a vCPU to kick */
void kvm_kick(struct vmm_vcpu *vcpu);
int kvm_save(struct vmm_machine *machine, struct vmm_state_out *out);
int kvm_load(struct vmm_machine *machine, const struct vmm_state *state);

/* kvm_dirty.c. kvm_dirty_settle(): after the VM was made, before its vCPUs are. */
int kvm_dirty_settle(struct vmm_machine *machine);
int kvm_ring_open(struct vmm_vcpu *vcpu);
void kvm_ring_close(struct vmm_vcpu *vcpu);
int kvm_ring_full(struct vmm_vcpu *vcpu);

#endif
