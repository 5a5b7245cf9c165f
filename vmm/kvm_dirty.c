/* SPDX-License-Identifier: MIT */
/*
 * --dirty log and --dirty ring. Either begins when the memory slots get the flag
 * KVM_MEM_LOG_DIRTY_PAGES, in place, while vCPUs run (Documentation/virt/kvm/api.rst of Linux).
 *
 * log: KVM_GET_DIRTY_LOG takes a slot's bitmap and protects the pages again in one step. The
 * two-step form (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) would let the second step wait until just
 * before a page is sent; a round sends all it has collected, so there is nothing to gain by it.
 *
 * ring: every vCPU has a ring of pages it wrote, mapped here. Taking an entry is: see its DIRTY
 * flag, note the page, set RESET; KVM_RESET_DIRTY_RINGS then protects the taken pages again. Until
 * that, another write to such a page leaves no trace: so a page may not be handed to the collector
 * before it is protected, and `lock` is held over taking, protecting and handing out. A vCPU
 * whose ring is full comes out of KVM_RUN and empties it itself, into the bitmap of the VMM's own
 * writes. What hardware buffers of a running vCPU's writes (PML) shows up at its next exit, in
 * a later collection; a parked vCPU has nothing left there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "dirty.h"
#include "kvm.h"
#include "util.h"

#define KVM_PAGE   4096u
#define RING_BYTES (65536u * (uint32_t)sizeof(struct kvm_dirty_gfn))

static int failed(const char *what)
{
	int err = errno;

	return vmm_fail(err, "%s: %s", what, strerror(err));
}

/* The largest ring offered, up to RING_BYTES; 0 without. */
static uint32_t ring_offer(const struct kvm_machine *kvm, uint32_t *capability)
{
	static const uint32_t capabilities[] = {KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
						KVM_CAP_DIRTY_LOG_RING};

	for (size_t i = 0; i < ARRAY_LEN(capabilities); i++) {
		int bytes = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, capabilities[i]);

		*capability = capabilities[i];
		if (bytes > 0)
			return (uint32_t)bytes < RING_BYTES ? (uint32_t)bytes : RING_BYTES;
	}
	return 0;
}

int kvm_dirty_settle(struct vmm_machine *machine)
{
	struct kvm_machine *kvm = kvm_of(machine);
	struct kvm_enable_cap enable = {0};
	uint32_t bytes;

	if (machine->dirty_choice == VMM_DIRTY_LOG)
		machine->dirty = &vmm_dirty_log;
	if (machine->dirty_choice == VMM_DIRTY_LOG || machine->dirty_choice == VMM_DIRTY_WP)
		return 0;
	bytes = ring_offer(kvm, &enable.cap);
	enable.args[0] = bytes;
	if (bytes && !ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &enable)) {
		kvm->ring_entries = bytes / (uint32_t)sizeof(struct kvm_dirty_gfn);
		machine->dirty = &vmm_dirty_ring;
		return 0;
	}
	if (machine->dirty_choice == VMM_DIRTY_RING)
		return vmm_fail(bytes ? errno : ENOTSUP, "--dirty ring: this KVM has none%s%s",
				bytes ? ": " : "", bytes ? strerror(errno) : "");
	machine->dirty = &vmm_dirty_log;
	return 0;
}

int kvm_ring_open(struct vmm_vcpu *vcpu)
{
	struct kvm_vcpu *mine = kvm_vcpu_of(vcpu);
	uint32_t entries = kvm_of(vcpu->machine)->ring_entries;
	void *ring;

	if (!entries)
		return 0;
	ring = mmap(NULL, entries * sizeof(*mine->ring), PROT_READ | PROT_WRITE, MAP_SHARED,
		    mine->fd, (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * KVM_PAGE);
	if (ring == MAP_FAILED)
		return failed("map a vCPU's dirty ring");
	mine->ring = ring;
	return 0;
}

void kvm_ring_close(struct vmm_vcpu *vcpu)
{
	struct kvm_machine *kvm = kvm_of(vcpu->machine);
	struct kvm_vcpu *mine = &kvm->vcpus[vcpu->index];

	if (mine->ring)
		munmap(mine->ring, kvm->ring_entries * sizeof(*mine->ring));
	mine->ring = NULL;
}

static void note(struct vmm_memory *memory, uint32_t slot, uint64_t page)
{
	if (slot < memory->layout.nr_regions)
		vmm_memory_wrote(memory, memory->layout.regions[slot].gpa + page * KVM_PAGE,
				 KVM_PAGE);
}

/* With the lock held. */
static void empty_ring(struct vmm_vcpu *vcpu)
{
	uint32_t entries = kvm_of(vcpu->machine)->ring_entries;
	struct kvm_vcpu *mine = kvm_vcpu_of(vcpu);

	for (;; mine->ring_next++) {
		struct kvm_dirty_gfn *entry = &mine->ring[mine->ring_next % entries];

		/* Pairs with KVM's release: slot and offset were written before the flag. */
		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			return;
		note(&vcpu->machine->memory, entry->slot, entry->offset);
		/* KVM's acquire pairs with this: we have read before it may write anew. */
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
}

static int reset_rings(struct kvm_machine *kvm)
{
	return ioctl(kvm->vm_fd, KVM_RESET_DIRTY_RINGS, 0) < 0 ? failed("KVM_RESET_DIRTY_RINGS")
							       : 0;
}

int kvm_ring_full(struct vmm_vcpu *vcpu)
{
	struct kvm_machine *kvm = kvm_of(vcpu->machine);
	int ret;

	pthread_mutex_lock(&kvm->ring_lock);
	empty_ring(vcpu);
	ret = reset_rings(kvm);
	pthread_mutex_unlock(&kvm->ring_lock);
	return ret;
}

static int ring_collect(struct vmm_machine *machine, struct fl_pageset *dirty)
{
	struct kvm_machine *kvm = kvm_of(machine);
	int ret;

	pthread_mutex_lock(&kvm->ring_lock);
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		empty_ring(&machine->vcpus[i]);
	ret = reset_rings(kvm);
	if (!ret && dirty)
		ret = vmm_dirty_own(&machine->memory, dirty);
	pthread_mutex_unlock(&kvm->ring_lock);
	return ret;
}

static int flag_slots(struct vmm_machine *machine, bool on)
{
	int ret = 0;

	for (unsigned int i = 0; !ret && i < machine->memory.layout.nr_regions; i++)
		ret = kvm_set_slot(machine, i, on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	return ret;
}

/* What is left in the rings would count for the next migration, and is emptied. */
static int ring_track(struct vmm_machine *machine, bool on)
{
	int ret = flag_slots(machine, on);

	return ret || on ? ret : ring_collect(machine, NULL);
}

static int log_track(struct vmm_machine *machine, bool on)
{
	return flag_slots(machine, on);
}

static int add_bits(const uint64_t *bits, uint64_t words, uint64_t first, uint64_t per_page,
		    struct fl_pageset *dirty)
{
	int ret = 0;

	for (uint64_t i = 0; !ret && i < words; i++)
		for (uint64_t word = bits[i]; !ret && word; word &= word - 1)
			ret = fl_pageset_add(
				dirty,
				first + (i * 64 + (uint64_t)__builtin_ctzll(word)) / per_page, 1);
	return ret;
}

static int collect_slot(struct vmm_machine *machine, unsigned int slot, uint64_t first,
			struct fl_pageset *dirty)
{
	const struct vmm_region *region = &machine->memory.layout.regions[slot];
	uint64_t words = (region->size_bytes / KVM_PAGE + 63) / 64;
	AUTO_FREE uint64_t *bits = calloc(words, sizeof(*bits));
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bits};

	if (!bits)
		return vmm_fail(ENOMEM, "KVM_GET_DIRTY_LOG: no memory");
	if (ioctl(kvm_of(machine)->vm_fd, KVM_GET_DIRTY_LOG, &log))
		return failed("KVM_GET_DIRTY_LOG");
	return add_bits(bits, words, first, region->page_size / KVM_PAGE, dirty);
}

static int log_collect(struct vmm_machine *machine, struct fl_pageset *dirty)
{
	const struct vmm_layout *layout = &machine->memory.layout;
	uint64_t first = 0;
	int ret = 0;

	for (unsigned int i = 0; !ret && i < layout->nr_regions; i++) {
		ret = collect_slot(machine, i, first, dirty);
		first += layout->regions[i].size_bytes / layout->regions[i].page_size;
	}
	return ret ? ret : vmm_dirty_own(&machine->memory, dirty);
}

const struct vmm_dirty_ops vmm_dirty_log = {
	.size = sizeof(vmm_dirty_log),
	.version = VMM_DIRTY_VERSION,
	.name = "log",
	.track = log_track,
	.collect = log_collect,
};

const struct vmm_dirty_ops vmm_dirty_ring = {
	.size = sizeof(vmm_dirty_ring),
	.version = VMM_DIRTY_VERSION,
	.name = "ring",
	.track = ring_track,
	.collect = ring_collect,
};
