/* SPDX-License-Identifier: MIT */
/* The regions of guest memory, before any of it is mapped. */
#include <errno.h>

#include "memory.h"
#include "util.h"

const char *const vmm_backing_names[VMM_BACKINGS + 1] = {"anon", "memfd", "hugetlbfs", NULL};

static uint64_t page_size_of(enum vmm_backing backing)
{
	return backing == VMM_BACKING_HUGETLBFS ? VMM_HUGE_BYTES : 4 * KIB;
}

static void add_region(struct vmm_layout *layout, uint64_t gpa, uint64_t size,
		       enum vmm_backing backing)
{
	layout->regions[layout->nr_regions] = (struct vmm_region){
		.gpa = gpa,
		.size_bytes = size,
		.offset = vmm_layout_bytes(layout),
		.page_size = page_size_of(backing),
		.backing = backing,
	};
	layout->nr_regions++;
}

int vmm_layout_make(uint64_t memory_bytes, uint64_t hole_start, enum vmm_backing backing,
		    struct vmm_layout *layout)
{
	uint64_t unit = page_size_of(backing);
	uint64_t low = memory_bytes < hole_start ? memory_bytes : hole_start;

	if (memory_bytes < VMM_MIN_MEMORY || memory_bytes > VMM_MAX_MEMORY || memory_bytes % unit)
		return vmm_fail(EINVAL, "memory size %llu: wants 4M to 64G in units of %llu bytes",
				(unsigned long long)memory_bytes, (unsigned long long)unit);
	if (hole_start < VMM_MIN_MEMORY || hole_start > VMM_HOLE_START ||
	    hole_start % VMM_HUGE_BYTES)
		return vmm_fail(EINVAL, "hole at %llu: wants 4M to 3G in units of 2M",
				(unsigned long long)hole_start);
	*layout = (struct vmm_layout){0};
	add_region(layout, 0, low, backing);
	if (memory_bytes > low)
		add_region(layout, VMM_HOLE_END, memory_bytes - low, backing);
	return 0;
}

int vmm_layout_rebase(struct vmm_layout *layout, enum vmm_backing backing)
{
	uint64_t unit = page_size_of(backing);

	for (unsigned int i = 0; i < layout->nr_regions; i++) {
		struct vmm_region *region = &layout->regions[i];

		if ((region->gpa | region->size_bytes) % unit)
			return vmm_fail(EINVAL,
					"region %u (gpa 0x%llx, %llu bytes) does not fit %s pages "
					"of %llu bytes",
					i, (unsigned long long)region->gpa,
					(unsigned long long)region->size_bytes,
					vmm_backing_names[backing], (unsigned long long)unit);
		region->backing = backing;
		region->page_size = unit;
	}
	return 0;
}

uint64_t vmm_layout_bytes(const struct vmm_layout *layout)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < layout->nr_regions; i++)
		total += layout->regions[i].size_bytes;
	return total;
}

uint64_t vmm_layout_pages(const struct vmm_layout *layout)
{
	uint64_t pages = 0;

	for (unsigned int i = 0; i < layout->nr_regions; i++)
		pages += layout->regions[i].size_bytes / layout->regions[i].page_size;
	return pages;
}
