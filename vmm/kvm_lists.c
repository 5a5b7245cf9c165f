/* SPDX-License-Identifier: MIT */
/* The parts of a vCPU's state that have a length: CPUID leaves, extended state, MSRs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_pieces.h"
#include "util.h"

#define MAX_MSRS        1024u
#define MAX_XSAVE_BYTES (64u << 10)

union msr_list {
	struct kvm_msr_list head;
	struct {
		uint32_t nmsrs;
		uint32_t indices[MAX_MSRS];
	} all;
};

union msr_one {
	struct kvm_msrs head;
	struct {
		uint32_t nmsrs;
		uint32_t pad;
		struct kvm_msr_entry entry;
	} all;
};

static const struct kvm_piece fpu = {
	"fpu", VMM_STATE_FPU, KVM_GET_FPU, KVM_SET_FPU, sizeof(struct kvm_fpu), 0, false};

int kvm_state_failed(const struct vmm_vcpu *vcpu, const char *verb, const char *what)
{
	int err = errno;

	return vmm_fail(err, "vCPU %u: %s %s: %s", vcpu->index, verb, what, strerror(err));
}

int kvm_vcpu_extension(const struct vmm_vcpu *vcpu, int capability)
{
	return ioctl(kvm_of(vcpu->machine)->vm_fd, KVM_CHECK_EXTENSION, capability);
}

static size_t xsave_bytes(const struct vmm_vcpu *vcpu)
{
	int bytes = kvm_vcpu_extension(vcpu, KVM_CAP_XSAVE2);

	return bytes > (int)sizeof(struct kvm_xsave) ? (size_t)bytes : sizeof(struct kvm_xsave);
}

int kvm_save_xsave(struct vmm_vcpu *vcpu, struct vmm_state_out *out)
{
	size_t len = xsave_bytes(vcpu);
	AUTO_FREE void *data = calloc(1, len);
	unsigned long get = len > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;

	if (!data)
		return vmm_fail(ENOMEM, "vCPU %u: no memory for its extended state", vcpu->index);
	if (kvm_vcpu_extension(vcpu, KVM_CAP_XSAVE) <= 0)
		return kvm_save_piece(vcpu, &fpu, out);
	if (ioctl(kvm_vcpu_of(vcpu)->fd, get, data))
		return kvm_state_failed(vcpu, "save", "xsave");
	return vmm_state_add(out, VMM_STATE_XSAVE, vcpu->index, data, len);
}

int kvm_load_xsave(struct vmm_vcpu *vcpu, const struct vmm_state *state)
{
	const struct vmm_chunk *chunk = vmm_state_find(state, VMM_STATE_XSAVE, vcpu->index);
	size_t len = xsave_bytes(vcpu);

	if (!chunk)
		return kvm_load_piece(vcpu, &fpu, state);
	if (chunk->len < sizeof(struct kvm_xsave) || chunk->len > MAX_XSAVE_BYTES)
		return vmm_fail(EINVAL, "machine state: xsave of vCPU %u has %zu bytes",
				vcpu->index, chunk->len);

	/* KVM_SET_XSAVE reads as many bytes as this host's state has. */
	size_t room = len > chunk->len ? len : chunk->len;
	AUTO_FREE void *data = calloc(1, room);

	if (!data)
		return vmm_fail(ENOMEM, "vCPU %u: no memory for its extended state", vcpu->index);
	memcpy(data, chunk->data, chunk->len);
	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_XSAVE, data))
		return kvm_state_failed(vcpu, "load", "xsave");
	return 0;
}

static int get_msr(const struct vmm_vcpu *vcpu, uint32_t index, uint64_t *value)
{
	union msr_one one = {.all.nmsrs = 1, .all.entry.index = index};

	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_MSRS, &one) != 1)
		return -ENOENT;
	*value = one.all.entry.data;
	return 0;
}

/* Every MSR that the kernel lists and this vCPU answers for. */
int kvm_save_msrs(struct vmm_vcpu *vcpu, struct vmm_state_out *out)
{
	AUTO_FREE union msr_list *list = calloc(1, sizeof(*list));
	AUTO_FREE struct kvm_msr_entry *entries = calloc(MAX_MSRS, sizeof(*entries));
	uint32_t n = 0;

	if (!list || !entries)
		return vmm_fail(ENOMEM, "vCPU %u: no memory for its MSRs", vcpu->index);
	list->all.nmsrs = MAX_MSRS;
	if (ioctl(kvm_of(vcpu->machine)->sys_fd, KVM_GET_MSR_INDEX_LIST, list))
		return kvm_state_failed(vcpu, "save", "the list of MSRs");
	for (uint32_t i = 0; i < list->all.nmsrs; i++) {
		uint64_t value;

		if (!get_msr(vcpu, list->all.indices[i], &value))
			entries[n++] = (struct kvm_msr_entry){.index = list->all.indices[i],
							      .data = value};
	}
	return vmm_state_add(out, VMM_STATE_MSRS, vcpu->index, entries, n * sizeof(*entries));
}

/* A read-only MSR that holds the value already is as good as loaded. */
static int load_msr(struct vmm_vcpu *vcpu, const struct kvm_msr_entry *entry)
{
	union msr_one one = {.all.nmsrs = 1, .all.entry = *entry};
	uint64_t now;

	one.all.entry.reserved = 0;
	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_MSRS, &one) == 1)
		return 0;
	if (!get_msr(vcpu, entry->index, &now) && now == entry->data)
		return 0;
	return vmm_fail(EINVAL, "vCPU %u: load MSR 0x%x = 0x%llx: refused by KVM", vcpu->index,
			entry->index, entry->data);
}

int kvm_load_msrs(struct vmm_vcpu *vcpu, const struct vmm_state *state)
{
	const struct vmm_chunk *chunk = vmm_state_find(state, VMM_STATE_MSRS, vcpu->index);
	const struct kvm_msr_entry *entries;
	size_t n;

	if (!chunk)
		return 0;
	n = chunk->len / sizeof(*entries);
	if (chunk->len % sizeof(*entries) || n > MAX_MSRS)
		return vmm_fail(EINVAL, "machine state: MSRs of vCPU %u have %zu bytes",
				vcpu->index, chunk->len);
	entries = chunk->data;
	for (size_t i = 0; i < n; i++) {
		int ret = load_msr(vcpu, &entries[i]);

		if (ret)
			return ret;
	}
	return 0;
}

int kvm_save_cpuid(struct vmm_vcpu *vcpu, struct vmm_state_out *out)
{
	union kvm_cpuid_list list = {.all.nent = KVM_MAX_CPUID_ENTRIES};

	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_CPUID2, &list))
		return kvm_state_failed(vcpu, "save", "cpuid");
	return vmm_state_add(out, VMM_STATE_CPUID, vcpu->index, list.all.entries,
			     list.all.nent * sizeof(list.all.entries[0]));
}

int kvm_load_cpuid(struct vmm_vcpu *vcpu, const struct vmm_state *state)
{
	const struct vmm_chunk *chunk = vmm_state_find(state, VMM_STATE_CPUID, vcpu->index);
	union kvm_cpuid_list list = {0};

	if (!chunk)
		return kvm_set_cpuid(vcpu);
	if (chunk->len % sizeof(list.all.entries[0]) || chunk->len > sizeof(list.all.entries))
		return vmm_fail(EINVAL, "machine state: cpuid of vCPU %u has %zu bytes",
				vcpu->index, chunk->len);
	list.all.nent = (uint32_t)(chunk->len / sizeof(list.all.entries[0]));
	memcpy(list.all.entries, chunk->data, chunk->len);
	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, &list))
		return kvm_state_failed(vcpu, "load", "cpuid");
	return 0;
}
