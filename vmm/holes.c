/* SPDX-License-Identifier: MIT */
/* Pages that never were: holes of the memfd, or private memory without a page in the page table. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "guest.h"
#include "util.h"
#include "util/compat.h"

#define RANGES 512u

/* Of [@start, @end) in @region, in bytes, the whole pages. */
static int add(const struct vmm_region *region, uint64_t first, uint64_t start, uint64_t end,
	       struct fl_pageset *zeros)
{
	uint64_t from = (start + region->page_size - 1) / region->page_size;
	uint64_t to = end / region->page_size;

	return to > from ? fl_pageset_add(zeros, first + from, to - from) : 0;
}

static int file_holes(int fd, const struct vmm_region *region, uint64_t first,
		      struct fl_pageset *zeros)
{
	uint64_t at = region->offset, end = region->offset + region->size_bytes;
	int ret = 0;

	while (!ret && at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		uint64_t stop = data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
		off_t hole;

		if (data < 0 && errno != ENXIO)
			return 0; /* none is known */
		ret = add(region, first, at - region->offset, stop - region->offset, zeros);
		hole = stop < end ? lseek(fd, (off_t)stop, SEEK_HOLE) : -1;
		at = hole < 0 ? end : (uint64_t)hole;
	}
	return ret;
}

static int absent(int pagemap_fd, const struct vmm_region *region, uint64_t first, uint64_t start,
		  struct fl_pageset *zeros)
{
	struct page_region ranges[RANGES] = {0}; /* the kernel fills it, unseen by checkers */
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + region->size_bytes,
		.vec = (uintptr_t)ranges,
		.vec_len = RANGES,
		.category_inverted = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};
	int ret = 0;

	while (!ret && arg.start < arg.end) {
		int n = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

		if (n < 0 && errno != EINTR)
			return 0; /* before Linux 6.7: none is known */
		for (int i = 0; !ret && i < n; i++)
			ret = add(region, first, ranges[i].start - start, ranges[i].end - start,
				  zeros);
		arg.start = arg.walk_end;
	}
	return ret;
}

int vmm_guest_holes(const struct vmm_memory *memory, struct fl_pageset *zeros)
{
	AUTO_FD pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t first = 0;
	int ret = 0;

	for (unsigned int i = 0; !ret && i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		if (memory->memfd >= 0)
			ret = file_holes(memory->memfd, region, first, zeros);
		else if (pagemap_fd >= 0)
			ret = absent(pagemap_fd, region, first,
				     (uintptr_t)(memory->base + region->gpa), zeros);
		first += region->size_bytes / region->page_size;
	}
	return ret;
}
