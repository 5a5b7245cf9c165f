/* SPDX-License-Identifier: MIT */
/* restore --inside: the pager runs in the VMM's own process. */
#ifndef FAULTLINE_VMM_INSIDE_H
#define FAULTLINE_VMM_INSIDE_H

#include <jansson.h>

#include "memory.h"

struct vmm_inside;

enum vmm_trap { VMM_TRAP_AUTO, VMM_TRAP_UFFD, VMM_TRAP_SEGV };
extern const char *const vmm_trap_names[];

struct vmm_inside_options {
	const char *image; /* path of the memory file */
	enum vmm_trap trap;
	bool kvm;  /* the kernel touches the memory too: segv will not do */
	bool fill; /* read the rest in the background */
};

/**
 * vmm_inside_settle() - which trap it will be, before memory is mapped
 * @options: its trap is AUTO no more afterwards
 * @layout: its backing becomes memfd where the trap needs a second mapping
 *
 * Return: 0 or -errno.
 */
int vmm_inside_settle(struct vmm_inside_options *options, struct vmm_layout *layout);

/**
 * vmm_inside_start() - supply @memory from an image, by libfaultline
 * @memory: mapped and untouched
 * @options: settled
 * @inside: receives the handle
 *
 * Return: 0 or -errno.
 */
int vmm_inside_start(struct vmm_memory *memory, const struct vmm_inside_options *options,
		     struct vmm_inside **inside);

/* vmm_inside_report() - what the pager did, to be released; NULL without a pager */
json_t *vmm_inside_report(const struct vmm_inside *inside);

/* vmm_inside_stop() - after the vCPUs have ended; NULL is fine */
void vmm_inside_stop(struct vmm_inside *inside);

#endif
