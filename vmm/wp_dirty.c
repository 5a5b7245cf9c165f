/* SPDX-License-Identifier: MIT */
/*
 * --dirty wp. Memory is registered with a userfaultfd of its own for write protection, and with
 * UFFD_FEATURE_WP_ASYNC: the first write to a protected page takes the protection off by itself,
 * no event is sent. PAGEMAP_SCAN with PM_SCAN_WP_MATCHING then reports the pages without the
 * protection and protects them again under the same lock of the page table, so that no write falls
 * between. See Documentation/admin-guide/mm/pagemap.rst of Linux.
 *
 * A page that was never there has no protection to lose: it is not reported until it is
 * populated, and then it is, by a mere read too. The pages of a range are one page each in the
 * scan's answer, whatever their size.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <faultline/trap.h>

#include "dirty.h"
#include "machine.h"
#include "util/compat.h"
#include "util.h"

#define FEATURES \
	(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
#define RANGES 512u

static int wp_close(struct vmm_machine *machine)
{
	vmm_close_fd(&machine->wp_pagemap_fd);
	vmm_close_fd(&machine->wp_uffd); /* and with it all protection */
	return 0;
}

static int wp_open(struct vmm_machine *machine)
{
	struct fl_error err = {0};
	int fd = fl_uffd_open(FEATURES, FL_UFFD_USER_MODE_ONLY, NULL, &err);

	if (fd == -EOPNOTSUPP)
		return vmm_fail(EOPNOTSUPP,
				"--dirty wp: this kernel cannot record writes (wants"
				" UFFD_FEATURE_WP_ASYNC, Linux 6.7): %s",
				err.text);
	if (fd < 0)
		return vmm_fail(-fd, "--dirty wp: %s", err.text);
	machine->wp_uffd = fd;
	machine->wp_pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (machine->wp_pagemap_fd < 0)
		return vmm_fail(errno, "--dirty wp: /proc/self/pagemap: %s", strerror(errno));
	return 0;
}

static int wp_register(const struct vmm_machine *machine, const struct vmm_region *region)
{
	struct uffdio_register reg = {
		.range.start = (uintptr_t)(machine->memory.base + region->gpa),
		.range.len = region->size_bytes,
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	if (!ioctl(machine->wp_uffd, UFFDIO_REGISTER, &reg))
		return 0;
	return vmm_fail(errno, "--dirty wp: UFFDIO_REGISTER of gpa 0x%llx, %llu bytes: %s",
			(unsigned long long)region->gpa, (unsigned long long)region->size_bytes,
			strerror(errno));
}

/* Of @region, which begins with page @first. */
static int add_range(const struct vmm_machine *machine, const struct vmm_region *region,
		     uint64_t first, const struct page_region *range, struct fl_pageset *dirty)
{
	uint64_t start = range->start - (uintptr_t)(machine->memory.base + region->gpa);
	uint64_t end = start + (range->end - range->start);
	uint64_t page = start / region->page_size;

	return fl_pageset_add(dirty, first + page,
			      (end + region->page_size - 1) / region->page_size - page);
}

/* Without @dirty: protects, and says nothing. */
static int scan(const struct vmm_machine *machine, const struct vmm_region *region, uint64_t first,
		struct fl_pageset *dirty)
{
	uint64_t start = (uintptr_t)(machine->memory.base + region->gpa);
	struct page_region ranges[RANGES];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = start + region->size_bytes,
		.vec = dirty ? (uintptr_t)ranges : 0,
		.vec_len = dirty ? RANGES : 0,
		.category_anyof_mask = PAGE_IS_WRITTEN,
		.return_mask = dirty ? PAGE_IS_WRITTEN : 0,
	};

	while (arg.start < arg.end) {
		int ret = 0, n = ioctl(machine->wp_pagemap_fd, PAGEMAP_SCAN, &arg);

		if (n < 0 && errno != EINTR)
			return vmm_fail(errno, "--dirty wp: PAGEMAP_SCAN of gpa 0x%llx: %s",
					(unsigned long long)(arg.start - start + region->gpa),
					strerror(errno));
		for (int i = 0; dirty && !ret && i < n; i++)
			ret = add_range(machine, region, first, &ranges[i], dirty);
		if (ret)
			return ret;
		arg.start = arg.walk_end;
	}
	return 0;
}

static int scan_all(struct vmm_machine *machine, struct fl_pageset *dirty)
{
	const struct vmm_layout *layout = &machine->memory.layout;
	uint64_t first = 0;
	int ret = 0;

	for (unsigned int i = 0; !ret && i < layout->nr_regions; i++) {
		ret = scan(machine, &layout->regions[i], first, dirty);
		first += layout->regions[i].size_bytes / layout->regions[i].page_size;
	}
	return ret;
}

static int wp_track(struct vmm_machine *machine, bool on)
{
	int ret;

	if (!on)
		return wp_close(machine);
	ret = wp_open(machine);
	for (unsigned int i = 0; !ret && i < machine->memory.layout.nr_regions; i++)
		ret = wp_register(machine, &machine->memory.layout.regions[i]);
	if (!ret)
		ret = scan_all(machine, NULL);
	if (ret)
		wp_close(machine);
	return ret;
}

static int wp_collect(struct vmm_machine *machine, struct fl_pageset *dirty)
{
	int ret = scan_all(machine, dirty);

	/* A discard takes the protection, and maybe the page table, away: it is not "written". */
	return ret ? ret : vmm_dirty_own(&machine->memory, dirty);
}

const struct vmm_dirty_ops vmm_dirty_wp = {
	.size = sizeof(vmm_dirty_wp),
	.version = VMM_DIRTY_VERSION,
	.name = "wp",
	.track = wp_track,
	.collect = wp_collect,
};
