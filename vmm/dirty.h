/* SPDX-License-Identifier: MIT */
/*
 * Which pages were written: three trackers behind one face.
 *
 *   log   KVM's bitmap for each memory slot; KVM only
 *   ring  KVM's ring for each vCPU; KVM only, asked for before there are vCPUs
 *   wp    asynchronous write protection of userfaultfd, read by PAGEMAP_SCAN: sees all
 *         writes through this process's mapping, by threads, KVM or the kernel
 *
 * KVM does not know what the VMM writes, nor of discards: vmm_memory_wrote() keeps those, and every
 * tracker adds them.
 */
#ifndef FAULTLINE_VMM_DIRTY_H
#define FAULTLINE_VMM_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include <faultline/memory.h>

#include "memory.h"

struct vmm_machine;

enum vmm_dirty_choice { VMM_DIRTY_AUTO, VMM_DIRTY_LOG, VMM_DIRTY_RING, VMM_DIRTY_WP };
extern const char *const vmm_dirty_names[];

/**
 * struct vmm_dirty_ops - one tracker
 * @size: of this struct, as the tracker was compiled
 * @version: VMM_DIRTY_VERSION
 * @flags: none yet, 0
 * @name: as in --dirty
 * @track: begin or end; vCPUs may run
 * @collect: add the pages written since, and forget them. What is written while it works counts
 *	for this call or for the next; never for none
 */
struct vmm_dirty_ops {
	uint32_t size;
	uint32_t version;
	uint32_t flags;
	const char *name;
	int (*track)(struct vmm_machine *machine, bool on);
	int (*collect)(struct vmm_machine *machine, struct fl_pageset *dirty);
};

#define VMM_DIRTY_VERSION 1u

extern const struct vmm_dirty_ops vmm_dirty_log;
extern const struct vmm_dirty_ops vmm_dirty_ring;
extern const struct vmm_dirty_ops vmm_dirty_wp;

/* vmm_dirty_check() - whether @choice can be, on @threads. Return: 0, or -EINVAL with a text. */
int vmm_dirty_check(enum vmm_dirty_choice choice, bool threads);

/* vmm_dirty_settle() - which it will be, once the accelerator is known. Return: 0 or -errno. */
int vmm_dirty_settle(struct vmm_machine *machine);

/* vmm_dirty_track(), vmm_dirty_collect() - the machine's tracker. One thread at a time. Return: 0
 * or -errno. */
int vmm_dirty_track(struct vmm_machine *machine, bool on);
int vmm_dirty_collect(struct vmm_machine *machine, struct fl_pageset *dirty);

/* vmm_dirty_own() - for the trackers: add what the VMM wrote, and forget it */
int vmm_dirty_own(struct vmm_memory *memory, struct fl_pageset *dirty);

#endif
