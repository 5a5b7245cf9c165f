/* SPDX-License-Identifier: MIT */
#include "install/look.h"

#include <errno.h>
#include <unistd.h>

#include "util/compat.h"

/* An entry of /proc/PID/pagemap, Linux Documentation/admin-guide/mm/pagemap.rst. */
#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)

int fl_look_entry(int pagemap_fd, uint64_t addr)
{
	uint64_t page = addr / (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t entry = 0;
	ssize_t got;

	do {
		got = pread(pagemap_fd, &entry, sizeof(entry), (off_t)(page * sizeof(entry)));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	/* Nothing to read is what an address space that is gone answers. */
	if (got != sizeof(entry))
		return -ESRCH;
	return entry & (ENTRY_PRESENT | ENTRY_SWAPPED) ? 1 : 0;
}

int fl_install_look(int pagemap_fd, uint64_t addr)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t page = addr & ~(page_size - 1);
	struct page_region region = {0};
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = page,
		.end = page + page_size,
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};
	int found = ioctl(pagemap_fd, PAGEMAP_SCAN, &scan);

	if (found >= 0)
		return found > 0;
	if (errno == EBADF)
		return -EBADF;
	return fl_look_entry(pagemap_fd, page);
}
