/* SPDX-License-Identifier: MIT */
/* --accel kvm: making the virtual machine, its memory slots and its vCPUs. */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "util.h"

#define TSS_GPA 0xfffbd000u /* in the hole below 4 GiB; older Intel wants three pages */

static int failed(const char *what)
{
	int err = errno;

	return vmm_fail(err, "%s: %s", what, strerror(err));
}

static int open_system(struct kvm_machine *kvm)
{
	int run_bytes;

	kvm->sys_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->sys_fd < 0)
		return failed("/dev/kvm (try --accel thread)");
	if (ioctl(kvm->sys_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return vmm_fail(ENOTSUP, "/dev/kvm: not API version %d", KVM_API_VERSION);
	if (ioctl(kvm->sys_fd, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0)
		return vmm_fail(ENOTSUP, "/dev/kvm: no KVM_CAP_IMMEDIATE_EXIT");
	run_bytes = ioctl(kvm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_bytes < (int)sizeof(struct kvm_run))
		return failed("KVM_GET_VCPU_MMAP_SIZE");
	kvm->run_bytes = (size_t)run_bytes;
	kvm->cpuid.all.nent = KVM_MAX_CPUID_ENTRIES;
	if (ioctl(kvm->sys_fd, KVM_GET_SUPPORTED_CPUID, &kvm->cpuid))
		return failed("KVM_GET_SUPPORTED_CPUID");
	return 0;
}

static int open_vm(struct kvm_machine *kvm)
{
	kvm->vm_fd = ioctl(kvm->sys_fd, KVM_CREATE_VM, 0);
	if (kvm->vm_fd < 0)
		return failed("KVM_CREATE_VM");
	if (ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0 &&
	    ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, TSS_GPA))
		return failed("KVM_SET_TSS_ADDR");
	return 0;
}

/* Makes slot @slot of region @slot, or changes its flags in place. */
int kvm_set_slot(struct vmm_machine *machine, unsigned int slot, uint32_t flags)
{
	const struct vmm_region *region = &machine->memory.layout.regions[slot];
	struct kvm_userspace_memory_region what = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = region->gpa,
		.memory_size = region->size_bytes,
		.userspace_addr = (uintptr_t)(machine->memory.base + region->gpa),
	};

	if (ioctl(kvm_of(machine)->vm_fd, KVM_SET_USER_MEMORY_REGION, &what))
		return failed("KVM_SET_USER_MEMORY_REGION");
	return 0;
}

static int add_slots(struct vmm_machine *machine)
{
	uint64_t start = vmm_now_ns();
	int ret = 0;

	for (unsigned int i = 0; !ret && i < machine->memory.layout.nr_regions; i++)
		ret = kvm_set_slot(machine, i, 0);
	machine->times.memslots_ns = vmm_now_ns() - start;
	return ret;
}

/* The host's features, with the vCPU's own number where the leaves carry one. */
int kvm_set_cpuid(struct vmm_vcpu *vcpu)
{
	union kvm_cpuid_list list = kvm_of(vcpu->machine)->cpuid;

	for (uint32_t i = 0; i < list.all.nent; i++) {
		struct kvm_cpuid_entry2 *entry = &list.all.entries[i];

		if (entry->function == 1)
			entry->ebx = (entry->ebx & 0x00ffffff) | vcpu->index << 24;
		else if (entry->function == 0xb || entry->function == 0x1f)
			entry->edx = vcpu->index;
	}
	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, &list))
		return failed("KVM_SET_CPUID2");
	return 0;
}

static int add_vcpu(struct vmm_vcpu *vcpu)
{
	struct kvm_machine *kvm = kvm_of(vcpu->machine);
	struct kvm_vcpu *mine = &kvm->vcpus[vcpu->index];
	void *run;

	vcpu->accel_data = mine;
	mine->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->index);
	if (mine->fd < 0)
		return failed("KVM_CREATE_VCPU");
	run = mmap(NULL, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mine->fd, 0);
	if (run == MAP_FAILED)
		return failed("map a vCPU's kvm_run");
	mine->run = run;
	return kvm_ring_open(vcpu);
}

static void kvm_close(struct vmm_machine *machine)
{
	struct kvm_machine *kvm = kvm_of(machine);

	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		kvm_ring_close(&machine->vcpus[i]);
		if (kvm->vcpus[i].run)
			munmap(kvm->vcpus[i].run, kvm->run_bytes);
		vmm_close_fd(&kvm->vcpus[i].fd);
	}
	vmm_close_fd(&kvm->vm_fd);
	vmm_close_fd(&kvm->sys_fd);
	pthread_mutex_destroy(&kvm->ring_lock);
	free(kvm);
	machine->accel_data = NULL;
}

static int kvm_open(struct vmm_machine *machine)
{
	struct kvm_machine *kvm = calloc(1, sizeof(*kvm));
	int ret;

	if (!kvm)
		return vmm_fail(ENOMEM, "no memory for a KVM machine");
	kvm->sys_fd = kvm->vm_fd = -1;
	pthread_mutex_init(&kvm->ring_lock, NULL);
	for (unsigned int i = 0; i < PAYLOAD_MAX_VCPUS; i++)
		kvm->vcpus[i].fd = -1;
	machine->accel_data = kvm;
	ret = kvm_catch_kicks();
	if (!ret)
		ret = open_system(kvm);
	if (!ret)
		ret = open_vm(kvm);
	if (!ret)
		ret = kvm_dirty_settle(machine);
	if (!ret)
		ret = add_slots(machine);
	for (unsigned int i = 0; !ret && i < machine->nr_vcpus; i++)
		ret = add_vcpu(&machine->vcpus[i]);
	return ret;
}

const struct vmm_accel_ops vmm_accel_kvm = {
	.size = sizeof(vmm_accel_kvm),
	.version = VMM_ACCEL_VERSION,
	.flags = VMM_ACCEL_KERNEL | VMM_ACCEL_REGISTERS,
	.name = "kvm",
	.open = kvm_open,
	.boot = kvm_boot,
	.run = kvm_run,
	.kick = kvm_kick,
	.save = kvm_save,
	.load = kvm_load,
	.close = kvm_close,
};
