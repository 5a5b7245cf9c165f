/* SPDX-License-Identifier: MIT */
/* Writing the memory file: the regions one after another, zeros as holes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"
#include "util.h"

#define GRAIN     4096u
#define MAX_WRITE (1u << 20)

static bool is_zero(const unsigned char *at)
{
	/* Zero when the first word is, and every word equals its neighbour. */
	static const uint64_t none;

	return !memcmp(at, &none, sizeof(none)) &&
	       !memcmp(at, at + sizeof(none), GRAIN - sizeof(none));
}

static int write_run(int fd, const unsigned char *addr, uint64_t offset, uint64_t len)
{
	while (len) {
		ssize_t n = pwrite(fd, addr, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vmm_fail(errno, "write the memory file at offset %llu: %s",
					(unsigned long long)offset, strerror(errno));
		addr += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int write_region(const struct vmm_region *region, const unsigned char *addr, int fd)
{
	uint64_t at = 0, run = 0;
	int ret = 0;

	/* [at - run, at) is data not yet written. */
	for (; !ret && at < region->size_bytes; at += GRAIN) {
		bool zero = is_zero(addr + at);

		if (run && (zero || run == MAX_WRITE)) {
			ret = write_run(fd, addr + at - run, region->offset + at - run, run);
			run = 0;
		}
		if (!zero)
			run += GRAIN;
	}
	if (!ret && run)
		ret = write_run(fd, addr + at - run, region->offset + at - run, run);
	return ret;
}

int vmm_image_write(const struct vmm_memory *memory, int fd)
{
	int ret = 0;

	if (ftruncate(fd, (off_t)vmm_layout_bytes(&memory->layout)))
		return vmm_fail(errno, "size the memory file: %s", strerror(errno));
	for (unsigned int i = 0; !ret && i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		ret = write_region(region, memory->base + region->gpa, fd);
	}
	return ret;
}
