/* SPDX-License-Identifier: MIT */
/* What one KVM machine holds is what the next one gets: registers that the payload never uses too.
 */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm.h"
#include "util.h"

#define MSR_STAR  0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_TSC   0x10u

/* As fail_msg(), in a form that static analysis knows does not come back. */
static _Noreturn void die(void)
{
	fail_msg("%s", vmm_error_text());
	abort();
}

static struct vmm_machine *new_machine(void)
{
	struct vmm_machine *machine = calloc(1, sizeof(*machine));
	struct vmm_layout layout;

	machine->quiet = true;
	if (vmm_layout_make(4 * MIB, VMM_HOLE_START, VMM_BACKING_ANON, &layout) ||
	    vmm_machine_init(machine, 2) || vmm_memory_map(&machine->memory, &layout) ||
	    vmm_machine_accel(machine, VMM_ACCEL_KVM) || kvm_boot(&machine->vcpus[0]) ||
	    kvm_boot(&machine->vcpus[1]))
		die();
	return machine;
}

static void end(struct vmm_machine *machine)
{
	vmm_machine_free(machine);
	free(machine);
}

static void set_msr(int fd, uint32_t index, uint64_t value)
{
	union {
		struct kvm_msrs head;
		struct {
			uint32_t nmsrs, pad;
			struct kvm_msr_entry entry;
		} all;
	} msr = {.all = {.nmsrs = 1, .entry = {.index = index, .data = value}}};

	assert_int_equal(ioctl(fd, KVM_SET_MSRS, &msr), 1);
}

/* By XSAVE: what KVM_SET_FPU writes is not part of the state while XSTATE_BV calls it initial. */
static void set_xmm3(int fd, int byte)
{
	enum { MXCSR_AT = 24, XMM3_AT = 160 + 3 * 16, XSTATE_BV_AT = 512 };
	const uint64_t x87_and_sse = 3;
	const uint32_t mxcsr = 0x1fc0;
	unsigned char area[64 * 1024] = {0};

	assert_int_equal(ioctl(fd, KVM_GET_XSAVE, area), 0);
	memset(area + XMM3_AT, byte, 16);
	memcpy(area + MXCSR_AT, &mxcsr, sizeof(mxcsr));
	memcpy(area + XSTATE_BV_AT, &x87_and_sse, sizeof(x87_and_sse));
	assert_int_equal(ioctl(fd, KVM_SET_XSAVE, area), 0);
}

/* Values that no reset gives, another for each vCPU. */
static void disturb(struct vmm_vcpu *vcpu)
{
	int fd = kvm_vcpu_of(vcpu)->fd;
	struct kvm_debugregs debug;
	struct kvm_regs regs;

	assert_int_equal(ioctl(fd, KVM_GET_REGS, &regs), 0);
	regs.r15 = 0x1500 + vcpu->index;
	regs.rip = 0x12345678 + vcpu->index;
	assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
	set_xmm3(fd, (int)(0x31 + vcpu->index));
	assert_int_equal(ioctl(fd, KVM_GET_DEBUGREGS, &debug), 0);
	debug.db[1] = 0xdb10 + vcpu->index;
	assert_int_equal(ioctl(fd, KVM_SET_DEBUGREGS, &debug), 0);
	set_msr(fd, MSR_STAR, 0x0023001000000000ull + vcpu->index);
	set_msr(fd, MSR_LSTAR, 0xffffffff81000000ull + vcpu->index);
}

static struct vmm_state_out saved(struct vmm_machine *machine)
{
	struct vmm_state_out out;

	assert_int_equal(vmm_state_begin(&out), 0);
	if (kvm_save(machine, &out))
		fail_msg("%s", vmm_error_text());
	vmm_state_end(&out);
	return out;
}

static struct vmm_state *parsed(const struct vmm_state_out *out)
{
	struct vmm_state *state = calloc(1, sizeof(*state));
	char err[200];

	if (vmm_state_parse(out->data, out->len, state, err, sizeof(err)))
		fail_msg("%s", err);
	return state;
}

static void same_msrs(const struct vmm_chunk *a, const struct vmm_chunk *b)
{
	const struct kvm_msr_entry *one = a->data, *two = b->data;

	assert_int_equal(a->len, b->len);
	for (size_t i = 0; i < a->len / sizeof(*one); i++) {
		assert_int_equal(one[i].index, two[i].index);
		if (one[i].index != MSR_TSC) /* goes on */
			assert_int_equal(one[i].data, two[i].data);
	}
}

static void same(const struct vmm_state *a, const struct vmm_state *b)
{
	assert_int_equal(a->nr_chunks, b->nr_chunks);
	for (unsigned int i = 0; i < a->nr_chunks; i++) {
		const struct vmm_chunk *one = &a->chunks[i];
		const struct vmm_chunk *two = vmm_state_find(b, one->tag, one->vcpu);

		assert_non_null(two);
		if (one->tag == VMM_STATE_MSRS) {
			same_msrs(one, two);
		} else if (one->tag != VMM_STATE_CLOCK) {
			assert_int_equal(one->len, two->len);
			assert_memory_equal(one->data, two->data, one->len);
		}
	}
}

static bool kvm_is_there(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

static void everything_arrives(void **ctx)
{
	struct vmm_machine *from, *to;
	struct vmm_state_out before, after;
	struct vmm_state *before_state, *after_state;
	struct kvm_fpu fpu;

	(void)ctx;
	SKIP_UNLESS(kvm_is_there(), "kvm", "no /dev/kvm");
	from = new_machine();
	disturb(&from->vcpus[0]);
	disturb(&from->vcpus[1]);
	before = saved(from);
	before_state = parsed(&before);
	end(from);

	to = new_machine();
	if (kvm_load(to, before_state))
		fail_msg("%s", vmm_error_text());
	after = saved(to);
	after_state = parsed(&after);
	same(before_state, after_state);
	/* Not only as equal blobs: where the first machine had it. */
	assert_int_equal(ioctl(kvm_vcpu_of(&to->vcpus[1])->fd, KVM_GET_FPU, &fpu), 0);
	assert_int_equal(fpu.xmm[3][7], 0x32);
	end(to);
	free(before_state);
	free(after_state);
	vmm_state_free(&before);
	vmm_state_free(&after);
}

/* Lengths inside a state file with a right checksum still come from outside. */
static void pieces_of_wrong_length_are_refused(void **ctx)
{
	static const uint32_t tags[] = {VMM_STATE_REGS, VMM_STATE_SREGS,   VMM_STATE_XSAVE,
					VMM_STATE_MSRS, VMM_STATE_CPUID,   VMM_STATE_EVENTS,
					VMM_STATE_XCRS, VMM_STATE_MP_STATE};
	struct vmm_machine *machine;
	struct vmm_state_out out;

	(void)ctx;
	SKIP_UNLESS(kvm_is_there(), "kvm", "no /dev/kvm");
	machine = new_machine();
	out = saved(machine);
	for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
		struct vmm_state *state = parsed(&out);

		for (unsigned int c = 0; c < state->nr_chunks; c++)
			if (state->chunks[c].tag == tags[i] && state->chunks[c].vcpu == 1)
				state->chunks[c].len -= state->chunks[c].len > 4095 ? 8 : 1;
		assert_true(kvm_load(machine, state) < 0);
		assert_non_null(strstr(vmm_error_text(), "of vCPU 1 ha"));
		free(state);
	}
	vmm_state_free(&out);
	end(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_arrives),
		cmocka_unit_test(pieces_of_wrong_length_are_refused),
	};

	return cmocka_run_group_tests_name("vmm-kvm-state", tests, NULL, NULL);
}
