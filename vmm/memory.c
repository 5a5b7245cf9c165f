/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "payload/abi.h"
#include "util.h"

#define HUGE_BYTES (2 * MIB)
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif
#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#endif

const char *const vmm_backing_names[VMM_BACKINGS + 1] = {"anon", "memfd", "hugetlbfs", NULL};

static uint64_t page_size_of(enum vmm_backing backing)
{
	return backing == VMM_BACKING_HUGETLBFS ? HUGE_BYTES : 4 * KIB;
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
	if (hole_start < VMM_MIN_MEMORY || hole_start > VMM_HOLE_START || hole_start % HUGE_BYTES)
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

static int huge_failed(const struct vmm_memory *memory, int err)
{
	unsigned long long pages = vmm_layout_bytes(&memory->layout) / HUGE_BYTES;

	if (err != ENOMEM)
		return vmm_fail(err, "huge pages for guest memory: %s", strerror(err));
	return vmm_fail(ENOMEM,
			"no %llu free huge pages of 2 MiB for guest memory: sysctl vm.nr_hugepages"
			" must allow that many (sysctl -w vm.nr_hugepages=%llu, and more where"
			" others use them)",
			pages, pages);
}

static int map_region(struct vmm_memory *memory, const struct vmm_region *region)
{
	void *want = memory->base + region->gpa;
	int flags = MAP_FIXED;
	void *got;

	if (region->backing == VMM_BACKING_MEMFD)
		flags |= MAP_SHARED;
	else
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	if (region->backing == VMM_BACKING_HUGETLBFS)
		flags |= MAP_HUGETLB | MAP_HUGE_2MB;
	else
		flags |= MAP_NORESERVE;
	got = mmap(want, region->size_bytes, PROT_READ | PROT_WRITE, flags,
		   region->backing == VMM_BACKING_MEMFD ? memory->memfd : -1,
		   region->backing == VMM_BACKING_MEMFD ? (off_t)region->offset : 0);
	if (got != MAP_FAILED)
		return 0;
	if (region->backing == VMM_BACKING_HUGETLBFS)
		return huge_failed(memory, errno);
	return vmm_fail(errno, "map guest memory at gpa 0x%llx: %s",
			(unsigned long long)region->gpa, strerror(errno));
}

static int make_memfd(struct vmm_memory *memory)
{
	uint64_t size = vmm_layout_bytes(&memory->layout);

	memory->memfd = memfd_create("guest-memory", MFD_CLOEXEC);
	if (memory->memfd < 0 || ftruncate(memory->memfd, (off_t)size))
		return vmm_fail(errno, "memfd of %llu bytes for guest memory: %s",
				(unsigned long long)size, strerror(errno));
	return 0;
}

static int reserve(struct vmm_memory *memory)
{
	const struct vmm_layout *layout = &memory->layout;
	const struct vmm_region *last = &layout->regions[layout->nr_regions - 1];
	uintptr_t start;
	void *got;

	memory->window_bytes = last->gpa + last->size_bytes;
	memory->reserved_bytes = memory->window_bytes + HUGE_BYTES;
	got = mmap(NULL, memory->reserved_bytes, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (got == MAP_FAILED)
		return vmm_fail(errno, "reserve %llu bytes of address space for guest memory: %s",
				(unsigned long long)memory->reserved_bytes, strerror(errno));
	memory->reserved = got;
	start = ((uintptr_t)got + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1);
	memory->base = (unsigned char *)got + (start - (uintptr_t)got);
	return 0;
}

int vmm_memory_map(struct vmm_memory *memory, const struct vmm_layout *layout)
{
	int ret;

	*memory = (struct vmm_memory){.layout = *layout, .memfd = -1, .uffd = -1};
	ret = reserve(memory);
	if (!ret && layout->regions[0].backing == VMM_BACKING_MEMFD)
		ret = make_memfd(memory);
	for (unsigned int i = 0; !ret && i < layout->nr_regions; i++)
		ret = map_region(memory, &layout->regions[i]);
	if (ret)
		vmm_memory_unmap(memory);
	return ret;
}

void vmm_memory_unmap(struct vmm_memory *memory)
{
	if (memory->reserved)
		munmap(memory->reserved, memory->reserved_bytes);
	memory->reserved = NULL;
	memory->base = NULL;
	vmm_close_fd(&memory->memfd);
	vmm_close_fd(&memory->uffd);
}

static const struct vmm_region *region_of(const struct vmm_memory *memory, uint64_t gpa,
					  uint64_t len)
{
	for (unsigned int i = 0; i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		if (gpa >= region->gpa && gpa - region->gpa < region->size_bytes &&
		    len <= region->size_bytes - (gpa - region->gpa))
			return region;
	}
	return NULL;
}

void *vmm_memory_addr(const struct vmm_memory *memory, uint64_t gpa, uint64_t len)
{
	return region_of(memory, gpa, len) ? memory->base + gpa : NULL;
}

int vmm_memory_discard(struct vmm_memory *memory, uint64_t gpa, uint64_t len)
{
	const struct vmm_region *region = region_of(memory, gpa, len);
	int advice;

	if (memory->no_discard)
		return vmm_fail(EOPNOTSUPP,
				"discard: the segv trap does not see memory go: use the uffd trap");
	if (!region || !len || (gpa | len) % region->page_size)
		return vmm_fail(EINVAL,
				"discard of gpa 0x%llx, %llu bytes: not whole pages of a region",
				(unsigned long long)gpa, (unsigned long long)len);
	/* Shared memory keeps its pages through DONTNEED; and fallocate(2) would not tell the uffd.
	 */
	advice = region->backing == VMM_BACKING_MEMFD ? MADV_REMOVE : MADV_DONTNEED;
	while (madvise(memory->base + gpa, len, advice)) {
		if (errno != EAGAIN && errno != EINTR)
			return vmm_fail(errno, "discard of gpa 0x%llx, %llu bytes: %s",
					(unsigned long long)gpa, (unsigned long long)len,
					strerror(errno));
	}
	return 0;
}

/* Where the kernel may not take our faults, populate by touching from here. */
static void touch(const unsigned char *addr, uint64_t len, uint64_t page_size)
{
	for (uint64_t at = 0; at < len; at += page_size)
		(void)*(const volatile unsigned char *)(addr + at);
}

static int pull_step(const struct vmm_memory *memory, unsigned char *addr, uint64_t len,
		     uint64_t page_size)
{
	if (memory->kernel_faults && !madvise(addr, len, MADV_POPULATE_READ))
		return 0;
	if (memory->kernel_faults && errno == EHWPOISON)
		return vmm_fail(EIO, "guest memory at gpa 0x%llx is poisoned",
				(unsigned long long)(addr - memory->base));
	touch(addr, len, page_size);
	return 0;
}

bool vmm_memory_resident(const void *addr)
{
	uintptr_t page = (uintptr_t)addr & ~(uintptr_t)(4 * KIB - 1);
	unsigned char there = 0;

	return !mincore((void *)page, 1, &there) && (there & 1);
}

int vmm_memory_pull(struct vmm_memory *memory, const bool *quit, bool progress)
{
	uint64_t total = vmm_layout_bytes(&memory->layout), done = 0;
	int ret = 0;

	for (unsigned int i = 0; !ret && i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];
		uint64_t len;

		for (uint64_t at = 0; !ret && at < region->size_bytes; at += len, done += len) {
			if (__atomic_load_n(quit, __ATOMIC_RELAXED))
				return vmm_fail(ECANCELED,
						"the machine is ending: %llu of %llu MiB"
						" were pulled",
						(unsigned long long)(done / MIB),
						(unsigned long long)(total / MIB));
			len = region->size_bytes - at < HUGE_BYTES ? region->size_bytes - at
								   : HUGE_BYTES;
			ret = pull_step(memory, memory->base + region->gpa + at, len,
					region->page_size);
			if (progress &&
			    (done + len == total || done / (16 * MIB) != (done + len) / (16 * MIB)))
				fprintf(stderr,
					"faultline-vmm: pulling missing pages: %llu of %llu MiB\n",
					(unsigned long long)((done + len) / MIB),
					(unsigned long long)(total / MIB));
		}
	}
	if (!ret)
		memory->partial = false;
	return ret;
}
