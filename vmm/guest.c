/* SPDX-License-Identifier: MIT */
#include "guest.h"

#include <errno.h>
#include <string.h>

#include "util.h"

static enum fl_backing backing_of(const struct vmm_region *region)
{
	static const enum fl_backing backings[VMM_BACKINGS] = {
		[VMM_BACKING_ANON] = FL_BACKING_ANON,
		[VMM_BACKING_MEMFD] = FL_BACKING_MEMFD,
		[VMM_BACKING_HUGETLBFS] = FL_BACKING_HUGETLB,
	};

	return backings[region->backing];
}

int vmm_guest_layout(const struct vmm_memory *memory, struct fl_layout **layout)
{
	struct fl_region regions[VMM_MAX_REGIONS];
	struct fl_error err = {0};
	int ret;

	for (unsigned int i = 0; i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		regions[i] = (struct fl_region){
			.gpa = region->gpa,
			.offset = region->offset,
			.addr = (uintptr_t)(memory->base + region->gpa),
			.len_bytes = region->size_bytes,
			.page_size = region->page_size,
			.backing = backing_of(region),
		};
	}
	ret = fl_layout_new(layout, regions, memory->layout.nr_regions, &err);
	return ret ? vmm_fail(-ret, "guest memory: %s", err.text[0] ? err.text : strerror(-ret))
		   : 0;
}

void vmm_guest_aliases(const struct vmm_memory *memory, struct fl_alias *aliases)
{
	for (unsigned int i = 0; i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		aliases[i] = (struct fl_alias){
			.addr = (uintptr_t)(memory->base + region->gpa),
			.alias = memory->alias + region->offset,
			.len_bytes = region->size_bytes,
		};
	}
}

static int check_region(const struct fl_region *from, const struct vmm_layout *layout,
			unsigned int i)
{
	const struct vmm_region *before = i ? &layout->regions[i - 1] : NULL;
	uint64_t end = before ? before->gpa + before->size_bytes : 0;
	uint64_t offset = before ? before->offset + before->size_bytes : 0;

	if (from->page_size != 4 * KIB && from->page_size != VMM_HUGE_BYTES)
		return vmm_fail(EOPNOTSUPP, "region %u: pages of %llu bytes", i,
				(unsigned long long)from->page_size);
	if (from->gpa < end || (!i && from->gpa) || from->offset != offset ||
	    from->gpa > VMM_MAX_MEMORY + VMM_HOLE_END || !from->len_bytes ||
	    from->len_bytes > VMM_MAX_MEMORY || (from->gpa | from->len_bytes) % from->page_size ||
	    (before && before->page_size != from->page_size))
		return vmm_fail(
			EINVAL, "region %u (gpa 0x%llx, %llu bytes): not as such a machine's are",
			i, (unsigned long long)from->gpa, (unsigned long long)from->len_bytes);
	return 0;
}

int vmm_guest_regions(const struct fl_region *regions, size_t count, struct vmm_layout *layout)
{
	*layout = (struct vmm_layout){0};
	if (!count || count > VMM_MAX_REGIONS)
		return vmm_fail(EINVAL, "%zu regions: wants 1 to %d", count, VMM_MAX_REGIONS);
	for (unsigned int i = 0; i < count; i++) {
		int ret = check_region(&regions[i], layout, i);

		if (ret)
			return ret;
		layout->regions[i] = (struct vmm_region){
			.gpa = regions[i].gpa,
			.size_bytes = regions[i].len_bytes,
			.offset = regions[i].offset,
			.page_size = regions[i].page_size,
			.backing = regions[i].page_size == VMM_HUGE_BYTES ? VMM_BACKING_HUGETLBFS
									  : VMM_BACKING_MEMFD,
		};
		layout->nr_regions++;
	}
	if (layout->regions[0].size_bytes < VMM_MIN_MEMORY ||
	    vmm_layout_bytes(layout) > VMM_MAX_MEMORY)
		return vmm_fail(EINVAL, "%llu bytes of memory: wants 4M to 64G",
				(unsigned long long)vmm_layout_bytes(layout));
	return 0;
}
