/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "payload/abi.h"
#include "util.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#endif

static int huge_failed(const struct vmm_memory *memory, int err)
{
	unsigned long long pages = vmm_layout_bytes(&memory->layout) / VMM_HUGE_BYTES;

	if (err != ENOMEM)
		return vmm_fail(err, "huge pages for guest memory: %s", strerror(err));
	return vmm_fail(ENOMEM,
			"no %llu free huge pages of 2 MiB for guest memory: sysctl vm.nr_hugepages"
			" must allow that many (sysctl -w vm.nr_hugepages=%llu, and more where"
			" others use them)",
			pages, pages);
}

static int map_failed(const struct vmm_memory *memory, const struct vmm_region *region, int err)
{
	if (region->backing == VMM_BACKING_HUGETLBFS)
		return huge_failed(memory, err);
	return vmm_fail(err, "map guest memory at gpa 0x%llx: %s", (unsigned long long)region->gpa,
			strerror(err));
}

/* Huge pages are reserved by mapping them: too few are noticed here, not by a guest that dies. */
static int map_region(struct vmm_memory *memory, const struct vmm_region *region)
{
	bool shared = memory->memfd >= 0;
	int flags = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	void *got;

	if (region->backing != VMM_BACKING_HUGETLBFS)
		flags |= MAP_NORESERVE;
	got = mmap(memory->base + region->gpa, region->size_bytes, PROT_READ | PROT_WRITE, flags,
		   memory->memfd, shared ? (off_t)region->offset : 0);
	return got == MAP_FAILED ? map_failed(memory, region, errno) : 0;
}

static int make_memfd(struct vmm_memory *memory)
{
	bool huge = memory->layout.regions[0].backing == VMM_BACKING_HUGETLBFS;
	uint64_t size = vmm_layout_bytes(&memory->layout);

	memory->memfd =
		memfd_create("guest-memory", MFD_CLOEXEC | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (memory->memfd >= 0 && !ftruncate(memory->memfd, (off_t)size))
		return 0;
	if (huge)
		return huge_failed(memory, errno);
	return vmm_fail(errno, "memfd of %llu bytes for guest memory: %s", (unsigned long long)size,
			strerror(errno));
}

static int reserve(struct vmm_memory *memory)
{
	const struct vmm_layout *layout = &memory->layout;
	const struct vmm_region *last = &layout->regions[layout->nr_regions - 1];
	uintptr_t start;
	void *got;

	memory->window_bytes = last->gpa + last->size_bytes;
	memory->reserved_bytes = memory->window_bytes + VMM_HUGE_BYTES;
	got = mmap(NULL, memory->reserved_bytes, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (got == MAP_FAILED)
		return vmm_fail(errno, "reserve %llu bytes of address space for guest memory: %s",
				(unsigned long long)memory->reserved_bytes, strerror(errno));
	memory->reserved = got;
	start = ((uintptr_t)got + VMM_HUGE_BYTES - 1) & ~(uintptr_t)(VMM_HUGE_BYTES - 1);
	memory->base = (unsigned char *)got + (start - (uintptr_t)got);
	return 0;
}

static int make_wrote(struct vmm_memory *memory)
{
	uint64_t words = (vmm_layout_pages(&memory->layout) + 63) / 64;

	memory->wrote = calloc(words, sizeof(*memory->wrote));
	return memory->wrote ? 0 : vmm_fail(ENOMEM, "guest memory: no memory for a bitmap");
}

int vmm_memory_map(struct vmm_memory *memory, const struct vmm_layout *layout)
{
	int ret;

	*memory = (struct vmm_memory){.layout = *layout, .memfd = -1, .uffd = -1};
	ret = reserve(memory);
	if (!ret)
		ret = make_wrote(memory);
	if (!ret && layout->regions[0].backing != VMM_BACKING_ANON)
		ret = make_memfd(memory);
	for (unsigned int i = 0; !ret && i < layout->nr_regions; i++)
		ret = map_region(memory, &layout->regions[i]);
	if (ret)
		vmm_memory_unmap(memory);
	return ret;
}

int vmm_memory_alias(struct vmm_memory *memory)
{
	void *got = mmap(NULL, vmm_layout_bytes(&memory->layout), PROT_READ | PROT_WRITE,
			 MAP_SHARED, memory->memfd, 0);

	if (got == MAP_FAILED)
		return vmm_fail(errno, "second mapping of guest memory: %s", strerror(errno));
	memory->alias = got;
	return 0;
}

void vmm_memory_unmap(struct vmm_memory *memory)
{
	if (memory->alias)
		munmap(memory->alias, vmm_layout_bytes(&memory->layout));
	memory->alias = NULL;
	free(memory->wrote);
	memory->wrote = NULL;
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

void vmm_memory_wrote(struct vmm_memory *memory, uint64_t gpa, uint64_t len)
{
	uint64_t page = 0;

	for (unsigned int i = 0; len && i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];
		uint64_t size = region->page_size;

		if (gpa >= region->gpa && gpa - region->gpa < region->size_bytes) {
			uint64_t end = page + (gpa - region->gpa + len - 1) / size;

			for (page += (gpa - region->gpa) / size; page <= end; page++)
				__atomic_fetch_or(&memory->wrote[page / 64], 1ull << page % 64,
						  __ATOMIC_RELEASE);
			return;
		}
		page += region->size_bytes / size;
	}
}

void *vmm_memory_addr(const struct vmm_memory *memory, uint64_t gpa, uint64_t len)
{
	return region_of(memory, gpa, len) ? memory->base + gpa : NULL;
}

/* Shared memory keeps its pages through DONTNEED; and fallocate(2) would not tell the uffd. */
static int drop(const struct vmm_memory *memory, uint64_t gpa, uint64_t len)
{
	int advice = memory->memfd >= 0 ? MADV_REMOVE : MADV_DONTNEED;

	while (madvise(memory->base + gpa, len, advice)) {
		if (errno != EAGAIN && errno != EINTR)
			return vmm_fail(errno, "discard of gpa 0x%llx, %llu bytes: %s",
					(unsigned long long)gpa, (unsigned long long)len,
					strerror(errno));
	}
	return 0;
}

int vmm_memory_discard(struct vmm_memory *memory, uint64_t gpa, uint64_t len)
{
	const struct vmm_region *region = region_of(memory, gpa, len);
	int ret;

	if (memory->no_discard)
		return vmm_fail(EOPNOTSUPP,
				"discard: the segv trap does not see memory go: use the uffd trap");
	if (__atomic_load_n(&memory->pinned, __ATOMIC_SEQ_CST))
		return vmm_fail(EBUSY, "discard: a migration has lent the machine's memory to"
				       " libfabric, which keeps its pages");
	if (!region || !len || (gpa | len) % region->page_size)
		return vmm_fail(EINVAL,
				"discard of gpa 0x%llx, %llu bytes: not whole pages of a region",
				(unsigned long long)gpa, (unsigned long long)len);
	ret = drop(memory, gpa, len);
	/* Also when it failed half-way. */
	vmm_memory_wrote(memory, gpa, len);
	return ret;
}

/*
 * Where the kernel may not take our faults, populate by touching from here. Guests may be writing what
 * is read: only that it was touched matters.
 */
__attribute__((no_sanitize("thread"))) static void touch(const unsigned char *addr, uint64_t len,
							 uint64_t page_size)
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

static bool is_set(const bool *flag)
{
	return flag && __atomic_load_n(flag, __ATOMIC_RELAXED);
}

int vmm_memory_pull(struct vmm_memory *memory, const bool *quit, const bool *called_off,
		    bool progress)
{
	uint64_t total = vmm_layout_bytes(&memory->layout), done = 0;
	int ret = 0;

	for (unsigned int i = 0; !ret && i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];
		uint64_t len;

		for (uint64_t at = 0; !ret && at < region->size_bytes; at += len, done += len) {
			if (is_set(quit) || is_set(called_off))
				return vmm_fail(ECANCELED, "%s: %llu of %llu MiB were pulled",
						is_set(quit) ? "the machine is ending"
							     : "called off",
						(unsigned long long)(done / MIB),
						(unsigned long long)(total / MIB));
			len = region->size_bytes - at < VMM_HUGE_BYTES ? region->size_bytes - at
								       : VMM_HUGE_BYTES;
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
