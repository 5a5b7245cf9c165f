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
};

struct kvm_machine {
	int sys_fd;
	int vm_fd;
	size_t run_bytes;
	bool has_irqchip; /* never made today; its state would be saved */
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
int kvm_boot(struct vmm_vcpu *vcpu);
int kvm_run(struct vmm_vcpu *vcpu);
void kvm_kick(struct vmm_vcpu *vcpu);
int kvm_save(struct vmm_machine *machine, struct vmm_state_out *out);
int kvm_load(struct vmm_machine *machine, const struct vmm_state *state);

#endif
