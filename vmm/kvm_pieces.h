/* SPDX-License-Identifier: MIT */
/* The pieces of a vCPU's state: of fixed length (kvm_state.c) and with a length (kvm_lists.c). */
#ifndef FAULTLINE_VMM_KVM_PIECES_H
#define FAULTLINE_VMM_KVM_PIECES_H

#include "kvm.h"

struct kvm_piece {
	const char *name;
	uint32_t tag;
	unsigned long get, set;
	size_t len;
	int capability; /* 0: always there */
	bool irqchip;   /* only with an in-kernel LAPIC */
};

int kvm_save_piece(struct vmm_vcpu *vcpu, const struct kvm_piece *piece, struct vmm_state_out *out);
int kvm_load_piece(struct vmm_vcpu *vcpu, const struct kvm_piece *piece,
		   const struct vmm_state *state);

int kvm_save_cpuid(struct vmm_vcpu *vcpu, struct vmm_state_out *out);
int kvm_load_cpuid(struct vmm_vcpu *vcpu, const struct vmm_state *state);
int kvm_save_xsave(struct vmm_vcpu *vcpu, struct vmm_state_out *out);
int kvm_load_xsave(struct vmm_vcpu *vcpu, const struct vmm_state *state);
int kvm_save_msrs(struct vmm_vcpu *vcpu, struct vmm_state_out *out);
int kvm_load_msrs(struct vmm_vcpu *vcpu, const struct vmm_state *state);

/* kvm_state_failed() - errno of a vCPU's ioctl as an error with a text. Return: -errno. */
int kvm_state_failed(const struct vmm_vcpu *vcpu, const char *verb, const char *what);
int kvm_vcpu_extension(const struct vmm_vcpu *vcpu, int capability);

#endif
