/* SPDX-License-Identifier: MIT */
/*
 * Running a vCPU. Port reads are answered at the desk, where the vCPU may wait.
 * KVM finishes a port access at the next KVM_RUN, so a vCPU's registers are
 * whole only after a KVM_RUN that returned EINTR: that is the one place where
 * it parks. A kick sets immediate_exit before it sends the signal: a vCPU that
 * had already looked and not yet entered comes straight out again. It is
 * cleared by the vCPU's own thread, under the machine's lock, when no pause or
 * end is asked for any more.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm.h"
#include "util.h"

#define KICK_SIGNAL (SIGRTMIN + 1)
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif

#define SEGMENT(selector_, type_, l_)                                                     \
	{                                                                                 \
		.base = 0, .limit = 0xffffffff, .selector = (selector_), .type = (type_), \
		.present = 1, .dpl = 0, .db = !(l_), .s = 1, .l = (l_), .g = 1            \
	}

static int failed(const struct vmm_vcpu *vcpu, const char *what)
{
	int err = errno;

	return vmm_fail(err, "vCPU %u: %s: %s", vcpu->index, what, strerror(err));
}

/* 64-bit mode on the page tables of boot.c, at the payload's entry. */
int kvm_boot(struct vmm_vcpu *vcpu)
{
	const struct kvm_segment code = SEGMENT(0x8, 0xb, 1);
	const struct kvm_segment data = SEGMENT(0x10, 0x3, 0);
	int fd = kvm_vcpu_of(vcpu)->fd;
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = PAYLOAD_CODE_GPA,
		.rsp = PAYLOAD_STACK_GPA + (vcpu->index + 1ull) * PAYLOAD_PAGE_SIZE,
		.rdi = vcpu->index,
		.rflags = 0x2,
	};

	if (kvm_set_cpuid(vcpu))
		return -EINVAL;
	if (ioctl(fd, KVM_GET_SREGS, &sregs))
		return failed(vcpu, "KVM_GET_SREGS");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	sregs.cr3 = PAYLOAD_TABLES_GPA;
	sregs.cr4 = 0x20;   /* PAE */
	sregs.efer = 0x500; /* LMA LME */
	if (ioctl(fd, KVM_SET_SREGS, &sregs))
		return failed(vcpu, "KVM_SET_SREGS");
	if (ioctl(fd, KVM_SET_REGS, &regs))
		return failed(vcpu, "KVM_SET_REGS");
	return 0;
}

static void on_kick(int signal)
{
	(void)signal; /* its arrival is all that matters */
}

int kvm_catch_kicks(void)
{
	struct sigaction action = {.sa_handler = on_kick};

	sigemptyset(&action.sa_mask);
	return sigaction(KICK_SIGNAL, &action, NULL)
		       ? vmm_fail(errno, "catch a signal: %s", strerror(errno))
		       : 0;
}

void kvm_kick(struct vmm_vcpu *vcpu)
{
	__atomic_store_n(&kvm_vcpu_of(vcpu)->run->immediate_exit, 1, __ATOMIC_RELEASE);
	pthread_kill(vcpu->thread, KICK_SIGNAL);
}

/* Return: true when the vCPU must end. */
static bool interrupted(struct vmm_vcpu *vcpu)
{
	struct vmm_machine *machine = vcpu->machine;
	bool quit = vmm_desk_park(vcpu);

	pthread_mutex_lock(&machine->lock);
	if (!machine->pause && !machine->quit)
		__atomic_store_n(&kvm_vcpu_of(vcpu)->run->immediate_exit, 0, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&machine->lock);
	return quit;
}

static int port_access(struct vmm_vcpu *vcpu, struct kvm_run *run)
{
	unsigned char *data = (unsigned char *)run + run->io.data_offset;
	uint32_t value = 0;

	if (run->io.count != 1 || run->io.size > sizeof(value))
		return vmm_fail(EIO, "vCPU %u: string access to port 0x%x", vcpu->index,
				run->io.port);
	if (run->io.direction == KVM_EXIT_IO_OUT) {
		memcpy(&value, data, run->io.size);
		vmm_desk_out(vcpu, run->io.port, value);
	} else {
		value = vmm_desk_in(vcpu, run->io.port);
		memcpy(data, &value, run->io.size);
	}
	return 0;
}

static int unexpected(const struct vmm_vcpu *vcpu, const struct kvm_run *run)
{
	struct kvm_regs regs = {0};

	ioctl(kvm_vcpu_of(vcpu)->fd, KVM_GET_REGS, &regs);
	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		return vmm_fail(EIO, "vCPU %u: triple fault at rip 0x%llx", vcpu->index, regs.rip);
	case KVM_EXIT_MMIO:
		return vmm_fail(EIO, "vCPU %u: touched gpa 0x%llx, %s, at rip 0x%llx", vcpu->index,
				run->mmio.phys_addr,
				vmm_memory_addr(&vcpu->machine->memory, run->mmio.phys_addr, 1)
					? "whose page is lost"
					: "which is no memory",
				regs.rip);
	case KVM_EXIT_INTERNAL_ERROR:
		return vmm_fail(EIO, "vCPU %u: KVM internal error %u at rip 0x%llx", vcpu->index,
				run->internal.suberror, regs.rip);
	case KVM_EXIT_FAIL_ENTRY:
		return vmm_fail(EIO, "vCPU %u: entry failed, hardware reason 0x%llx", vcpu->index,
				run->fail_entry.hardware_entry_failure_reason);
	default:
		return vmm_fail(EIO, "vCPU %u: unexpected exit %u at rip 0x%llx", vcpu->index,
				run->exit_reason, regs.rip);
	}
}

static int enter_failed(const struct vmm_vcpu *vcpu, const struct kvm_run *run, int err)
{
	if (err == EHWPOISON)
		return vmm_fail(err, "vCPU %u: touched a poisoned page: its contents are lost",
				vcpu->index);
	if (err == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		return vmm_fail(err, "vCPU %u: KVM reports a memory fault that nothing here serves",
				vcpu->index);
	return vmm_fail(err, "vCPU %u: KVM_RUN: %s", vcpu->index, strerror(err));
}

/* Return: 1 to go on, 0 at the end, or -errno. */
static int step(struct vmm_vcpu *vcpu)
{
	struct kvm_run *run = kvm_vcpu_of(vcpu)->run;

	if (ioctl(kvm_vcpu_of(vcpu)->fd, KVM_RUN, 0)) {
		if (errno == EINTR || errno == EAGAIN)
			return !interrupted(vcpu);
		return enter_failed(vcpu, run, errno);
	}
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return port_access(vcpu, run) ? -EIO : 1;
	case KVM_EXIT_DIRTY_RING_FULL:
		return kvm_ring_full(vcpu) ? -EIO : 1;
	case KVM_EXIT_INTR:
		return !interrupted(vcpu);
	case KVM_EXIT_HLT:
		return 0;
	default:
		return unexpected(vcpu, run);
	}
}

int kvm_run(struct vmm_vcpu *vcpu)
{
	int ret;

	vmm_desk_entered(vcpu);
	do {
		ret = step(vcpu);
	} while (ret > 0);
	return ret;
}
