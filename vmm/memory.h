/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: regions inside one reserved window, so that addr = base + gpa.
 */
#ifndef FAULTLINE_VMM_MEMORY_H
#define FAULTLINE_VMM_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#define VMM_MAX_REGIONS 8
#define VMM_MIN_MEMORY  (4ull << 20)
#define VMM_MAX_MEMORY  (64ull << 30)
#define VMM_HOLE_START  (3ull << 30)
#define VMM_HOLE_END    (4ull << 30)
#define VMM_HUGE_BYTES  (2ull << 20)

enum vmm_backing { VMM_BACKING_ANON, VMM_BACKING_MEMFD, VMM_BACKING_HUGETLBFS, VMM_BACKINGS };

extern const char *const vmm_backing_names[VMM_BACKINGS + 1];

struct vmm_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t offset; /* in the image: the sum of the sizes before */
	uint64_t page_size;
	enum vmm_backing backing;
};

struct vmm_layout {
	unsigned int nr_regions;
	struct vmm_region regions[VMM_MAX_REGIONS];
};

struct vmm_memory {
	struct vmm_layout layout;
	unsigned char *base; /* addr of GPA 0; what is no region is PROT_NONE */
	uint64_t window_bytes;
	void *reserved; /* what mmap returned, base aligned up inside it */
	uint64_t reserved_bytes;
	int memfd;            /* or -1; its bytes are the image */
	unsigned char *alias; /* a second mapping of memfd, that nothing traps; or NULL */
	uint64_t *wrote;      /* one bit a page, atomic: what the VMM itself changed */
	int uffd;             /* or -1: registered userfaultfd that supplies the pages */
	bool kernel_faults;   /* the uffd serves faults that the kernel takes */
	bool partial;         /* pages may be missing until vmm_memory_pull() */
	bool no_discard;      /* what supplies the pages would not hear of it */
	bool pinned;          /* nor would a device that has pinned them; atomic */
};

/* vmm_layout_make() - one region, or two around [@hole_start, 4 GiB). Return: 0 or -errno. */
int vmm_layout_make(uint64_t memory_bytes, uint64_t hole_start, enum vmm_backing backing,
		    struct vmm_layout *layout);

/* vmm_layout_rebase() - the same regions on another backing. Return: 0 or -errno. */
int vmm_layout_rebase(struct vmm_layout *layout, enum vmm_backing backing);

uint64_t vmm_layout_bytes(const struct vmm_layout *layout);

/* vmm_layout_pages() - how many pages, each region counting in its own size */
uint64_t vmm_layout_pages(const struct vmm_layout *layout);

/* vmm_memory_map() - reserve the window and map the regions of @layout. Return: 0 or -errno. */
int vmm_memory_map(struct vmm_memory *memory, const struct vmm_layout *layout);

void vmm_memory_unmap(struct vmm_memory *memory);

/* vmm_memory_alias() - map a memfd a second time, for whoever fills it. Return: 0 or -errno. */
int vmm_memory_alias(struct vmm_memory *memory);

/*
 * vmm_memory_wrote() - the VMM itself has changed [@gpa, +@len) of one region. To be called after
 * each such change: KVM's dirty log knows of its own vCPUs alone. Any thread may.
 */
void vmm_memory_wrote(struct vmm_memory *memory, uint64_t gpa, uint64_t len);

/* vmm_memory_addr() - the address of @gpa, or NULL when [@gpa, +@len) is not inside a region */
void *vmm_memory_addr(const struct vmm_memory *memory, uint64_t gpa, uint64_t len);

/* vmm_memory_discard() - drop the pages of [@gpa, +@len): they read as zeros after. Return: 0 or
 * -errno. */
int vmm_memory_discard(struct vmm_memory *memory, uint64_t gpa, uint64_t len);

/*
 * vmm_memory_pull() - touch every page, so that none is missing any more;
 * with @progress, lines on stderr. Return: 0, -ECANCELED when @quit or @called_off (either may be NULL)
 * was set meanwhile, or -errno. It hangs where nobody brings a page.
 */
int vmm_memory_pull(struct vmm_memory *memory, const bool *quit, const bool *called_off,
		    bool progress);

/* vmm_memory_resident() - whether reading the byte at @addr would wait for nobody */
bool vmm_memory_resident(const void *addr);

#endif
