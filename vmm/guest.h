/* SPDX-License-Identifier: MIT */
/* Guest memory in the library's words. */
#ifndef FAULTLINE_VMM_GUEST_H
#define FAULTLINE_VMM_GUEST_H

#include <faultline/install.h>
#include <faultline/memory.h>

#include "memory.h"

/* vmm_guest_layout() - the regions of mapped memory; region i is region i there. Return: 0 or
 * -errno. */
int vmm_guest_layout(const struct vmm_memory *memory, struct fl_layout **layout);

/* vmm_guest_aliases() - which part of memory->alias is which region, VMM_MAX_REGIONS at most */
void vmm_guest_aliases(const struct vmm_memory *memory, struct fl_alias *aliases);

/* vmm_guest_holes() - add pages that are zeros for they never were: known without touching them.
 * Return: 0 or -errno. */
int vmm_guest_holes(const struct vmm_memory *memory, struct fl_pageset *zeros);

/*
 * vmm_guest_regions() - the layout that another host's regions ask for. They come from outside:
 * all is checked. Return: 0, or -EINVAL or -EOPNOTSUPP with a text.
 */
int vmm_guest_regions(const struct fl_region *regions, size_t count, struct vmm_layout *layout);

#endif
