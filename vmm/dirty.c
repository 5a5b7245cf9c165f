/* SPDX-License-Identifier: MIT */
#include "dirty.h"

#include <errno.h>

#include "machine.h"
#include "util.h"

const char *const vmm_dirty_names[] = {"auto", "log", "ring", "wp", NULL};

int vmm_dirty_check(enum vmm_dirty_choice choice, bool threads)
{
	if (threads && (choice == VMM_DIRTY_LOG || choice == VMM_DIRTY_RING))
		return vmm_fail(EINVAL, "--dirty %s: is KVM's: wants --accel kvm",
				vmm_dirty_names[choice]);
	return 0;
}

/* KVM has settled it before, when it had to know about the ring. */
int vmm_dirty_settle(struct vmm_machine *machine)
{
	int ret = machine->dirty ? 0 : vmm_dirty_check(machine->dirty_choice, true);

	if (!ret && !machine->dirty)
		machine->dirty = &vmm_dirty_wp;
	return ret;
}

int vmm_dirty_own(struct vmm_memory *memory, struct fl_pageset *dirty)
{
	uint64_t pages = vmm_layout_pages(&memory->layout);
	int ret = 0;

	for (uint64_t first = 0; !ret && first < pages; first += 64) {
		uint64_t *word = &memory->wrote[first / 64];
		uint64_t bits = 0;

		if (__atomic_load_n(word, __ATOMIC_RELAXED))
			bits = __atomic_exchange_n(word, 0, __ATOMIC_ACQUIRE);
		for (; !ret && bits; bits &= bits - 1)
			ret = fl_pageset_add(dirty, first + (uint64_t)__builtin_ctzll(bits), 1);
	}
	return ret;
}

int vmm_dirty_track(struct vmm_machine *machine, bool on)
{
	uint64_t words = (vmm_layout_pages(&machine->memory.layout) + 63) / 64;

	/* What was written before is in the memory that whoever tracks begins with: acquired here. */
	for (uint64_t i = 0; on && i < words; i++)
		(void)__atomic_exchange_n(&machine->memory.wrote[i], 0, __ATOMIC_ACQUIRE);
	return machine->dirty->track(machine, on);
}

int vmm_dirty_collect(struct vmm_machine *machine, struct fl_pageset *dirty)
{
	return machine->dirty->collect(machine, dirty);
}
