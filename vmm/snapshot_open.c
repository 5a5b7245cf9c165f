/* SPDX-License-Identifier: MIT */
/* Opening a snapshot: everything is checked before anything is made. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "save.h"
#include "snapshot.h"
#include "util.h"

#define READ_STEP (2 * MIB)

static int unreadable(const struct vmm_snapshot *snapshot, const char *name, int ret)
{
	return vmm_fail(-ret, "%s/%s: %s", snapshot->path, name, strerror(-ret));
}

/* The last failure was this file's. */
static int blame(const struct vmm_snapshot *snapshot, const char *name)
{
	AUTO_FREE char *why = strdup(vmm_error_text());

	return vmm_fail(EINVAL, "%s/%s: %s", snapshot->path, name, why ? why : "no memory");
}

static int open_layout(struct vmm_snapshot *snapshot)
{
	AUTO_FREE char *text = NULL;
	char err[256];
	size_t len;
	int ret = vmm_read_whole(snapshot->dir_fd, "layout.json", VMM_JSON_MAX_BYTES, &text, &len);

	if (ret)
		return unreadable(snapshot, "layout.json", ret);
	if (vmm_snapshot_parse_layout(text, len, &snapshot->layout, err, sizeof(err)))
		return vmm_fail(EINVAL, "%s/layout.json: %s", snapshot->path, err);
	return 0;
}

static int open_machine(struct vmm_snapshot *snapshot)
{
	AUTO_FREE char *text = NULL;
	char err[256];
	size_t len;
	int ret = vmm_read_whole(snapshot->dir_fd, "machine.json", VMM_JSON_MAX_BYTES, &text, &len);

	if (ret)
		return unreadable(snapshot, "machine.json", ret);
	if (vmm_snapshot_parse_machine(text, len, &snapshot->info, err, sizeof(err)))
		return vmm_fail(EINVAL, "%s/machine.json: %s", snapshot->path, err);
	return 0;
}

static int open_state(struct vmm_snapshot *snapshot)
{
	char *bytes = NULL;
	char err[256];
	size_t len;
	int ret = vmm_read_whole(snapshot->dir_fd, "vcpus.bin", VMM_STATE_MAX_BYTES, &bytes, &len);

	if (ret)
		return unreadable(snapshot, "vcpus.bin", ret);
	snapshot->state_bytes = bytes;
	if (len != snapshot->info.state_len)
		return vmm_fail(EINVAL, "%s/vcpus.bin: %zu bytes, machine.json says %llu",
				snapshot->path, len, (unsigned long long)snapshot->info.state_len);
	if (vmm_state_parse(bytes, len, &snapshot->state, err, sizeof(err)))
		return vmm_fail(EINVAL, "%s/vcpus.bin: %s", snapshot->path, err);
	if (vmm_check_registers(&snapshot->info, &snapshot->state))
		return blame(snapshot, "vcpus.bin");
	return 0;
}

static int open_memory(struct vmm_snapshot *snapshot)
{
	uint64_t want = vmm_layout_bytes(&snapshot->layout);
	struct stat st;

	snapshot->memory_fd = openat(snapshot->dir_fd, "memory", O_RDONLY | O_CLOEXEC);
	if (snapshot->memory_fd < 0 || fstat(snapshot->memory_fd, &st))
		return unreadable(snapshot, "memory", -errno);
	if (!S_ISREG(st.st_mode))
		return vmm_fail(EINVAL, "%s/memory: not a file", snapshot->path);
	if ((uint64_t)st.st_size != want)
		return vmm_fail(EINVAL, "%s/memory: %lld bytes, layout.json wants %llu",
				snapshot->path, (long long)st.st_size, (unsigned long long)want);
	return 0;
}

int vmm_snapshot_open(const char *path, struct vmm_snapshot *snapshot)
{
	int ret;

	*snapshot = (struct vmm_snapshot){.path = path, .memory_fd = -1};
	snapshot->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (snapshot->dir_fd < 0)
		return vmm_fail(errno, "snapshot %s: %s", path, strerror(errno));
	ret = open_layout(snapshot);
	if (!ret)
		ret = open_machine(snapshot);
	if (!ret)
		ret = open_state(snapshot);
	if (!ret)
		ret = open_memory(snapshot);
	if (ret)
		vmm_snapshot_close(snapshot);
	return ret;
}

void vmm_snapshot_close(struct vmm_snapshot *snapshot)
{
	vmm_close_fd(&snapshot->memory_fd);
	vmm_close_fd(&snapshot->dir_fd);
	free(snapshot->state_bytes);
	snapshot->state_bytes = NULL;
}

static int read_range(const struct vmm_snapshot *snapshot, unsigned char *addr, uint64_t offset,
		      uint64_t len)
{
	while (len) {
		size_t step = len < READ_STEP ? (size_t)len : READ_STEP;
		ssize_t n = pread(snapshot->memory_fd, addr, step, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return vmm_fail(n ? errno : EIO, "%s/memory: read at offset %llu: %s",
					snapshot->path, (unsigned long long)offset,
					n ? strerror(errno) : "the file ends early");
		addr += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* The data in [offset, end) of the image; memory is fresh, so holes are zeros already. */
static int read_region(const struct vmm_snapshot *snapshot, const struct vmm_region *region,
		       unsigned char *addr)
{
	uint64_t end = region->offset + region->size_bytes;
	uint64_t at = region->offset;

	while (at < end) {
		off_t data = lseek(snapshot->memory_fd, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(snapshot->memory_fd, data, SEEK_HOLE);
		uint64_t stop = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
		int ret;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data >= 0)
			at = (uint64_t)data;
		if (at >= end)
			return 0;
		ret = read_range(snapshot, addr + (at - region->offset), at, stop - at);
		if (ret)
			return ret;
		at = stop;
	}
	return 0;
}

int vmm_snapshot_read_memory(const struct vmm_snapshot *snapshot, struct vmm_memory *memory)
{
	int ret = 0;

	for (unsigned int i = 0; !ret && i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		ret = read_region(snapshot, region, memory->base + region->gpa);
	}
	return ret;
}

int vmm_snapshot_adopt(const struct vmm_snapshot *snapshot, struct vmm_machine *machine)
{
	struct vmm_machine_info info = snapshot->info;

	/* A restored machine begins anew: of what had ended it does not report. */
	if (info.idle)
		info.running[0] = '\0';
	return vmm_adopt(machine, &info) ? blame(snapshot, "machine.json") : 0;
}
