/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_MEMORY_H
#define FAULTLINE_MEMORY_H

/*
 * Guest memory: its regions, the conversions between guest physical addresses (gpa), positions in
 * the memory image (offset) and host virtual addresses (addr), sets of pages, and the page-state
 * table.
 *
 * Pages are numbered from 0 across all regions in the order of their offsets, each region counting
 * in its own page size. That number, *page*, indexes the page-state table and the page sets.
 */

#include <stdbool.h>
#include <faultline/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/** FL_NOWHERE - a gpa that is not known, or an addr that is no longer mapped */
#define FL_NOWHERE UINT64_MAX

/**
 * enum fl_backing - what the guest's mapping of a region is made of
 * @FL_BACKING_UNKNOWN: the VMM did not say (Firecracker's handshake does not)
 * @FL_BACKING_ANON: private anonymous memory
 * @FL_BACKING_MEMFD: shared memory of a memfd or tmpfs file
 * @FL_BACKING_HUGETLB: hugetlbfs, private or shared
 * @FL_BACKING_GMEM: guest_memfd
 */
enum fl_backing {
	FL_BACKING_UNKNOWN,
	FL_BACKING_ANON,
	FL_BACKING_MEMFD,
	FL_BACKING_HUGETLB,
	FL_BACKING_GMEM
};

/**
 * struct fl_region - one range of guest memory
 * @gpa: guest physical address of its first byte, or FL_NOWHERE
 * @offset: position of its first byte in the memory image, in bytes
 * @addr: host virtual address of its first byte in the VMM, or FL_NOWHERE once it was unmapped
 * @len_bytes: its length in bytes, a multiple of @page_size
 * @page_size: 4 KiB, 2 MiB or 1 GiB, in bytes: the unit that is installed at once
 * @backing: what the mapping at @addr is made of
 * @first_page: number of its first page; set by fl_layout_new()
 */
struct fl_region {
	uint64_t gpa;
	uint64_t offset;
	uint64_t addr;
	uint64_t len_bytes;
	uint64_t page_size;
	enum fl_backing backing;
	uint64_t first_page;
};

/** FL_REGIONS_MAX - how many regions a layout may start with */
#define FL_REGIONS_MAX 64

/**
 * struct fl_layout - the ordered regions of one guest; opaque
 *
 * Not locked: fl_layout_remap() and fl_layout_unmap() are for the one thread that runs the pager.
 */
struct fl_layout;

/**
 * struct fl_place - one page, in every way it can be named
 * @region: the region it lies in
 * @page: its number
 * @offset: of its first byte in the image
 * @gpa: of its first byte, or FL_NOWHERE
 * @addr: of its first byte in the VMM, or FL_NOWHERE
 * @pages_left: pages from this one to the end of its region, itself included
 */
struct fl_place {
	const struct fl_region *region;
	uint64_t page;
	uint64_t offset;
	uint64_t gpa;
	uint64_t addr;
	uint64_t pages_left;
};

/**
 * fl_layout_new() - check the regions of a guest and order them by offset
 * @layout: receives the new layout
 * @regions: @count regions; copied, any order, @first_page ignored
 * @count: 1 to FL_REGIONS_MAX
 * @err: receives the reason, naming the region by its index, or NULL
 *
 * Lengths must be non-zero multiples of the page size; offset, addr and gpa (where known) must be
 * aligned to it and may not wrap; no two regions may overlap in any of the three. Gaps between
 * offsets are allowed.
 *
 * Return: 0; -EINVAL for a region that breaks a rule; -E2BIG for too many regions; -ENOMEM.
 */
FL_API int fl_layout_new(struct fl_layout **layout, const struct fl_region *regions, size_t count,
			 struct fl_error *err);

/**
 * fl_layout_free() - let a layout go
 * @layout: the layout, or NULL
 */
FL_API void fl_layout_free(struct fl_layout *layout);

/**
 * fl_layout_count() - how many regions there are
 * @layout: the layout
 *
 * Return: the number of regions, 1 or more; remaps and unmaps may split regions.
 */
FL_API size_t fl_layout_count(const struct fl_layout *layout);

/**
 * fl_layout_region() - one region
 * @layout: the layout
 * @index: below fl_layout_count(); regions are ordered by offset
 *
 * Return: the region, valid until the layout changes.
 */
FL_API const struct fl_region *fl_layout_region(const struct fl_layout *layout, size_t index);

/**
 * fl_layout_pages() - how many pages the guest has
 * @layout: the layout
 *
 * Return: the number of pages over all regions, each in its own page size.
 */
FL_API uint64_t fl_layout_pages(const struct fl_layout *layout);

/**
 * fl_layout_image_len() - how long an image must be to hold this guest
 * @layout: the layout
 *
 * Return: the end of the last region, in bytes of the image.
 */
FL_API uint64_t fl_layout_image_len(const struct fl_layout *layout);

/**
 * fl_layout_by_addr() - the page at a host virtual address
 * @layout: the layout
 * @addr: any address inside the page
 * @place: receives the page
 *
 * Return: 0; -ENOENT when no region is mapped there.
 */
FL_API int fl_layout_by_addr(const struct fl_layout *layout, uint64_t addr, struct fl_place *place);

/**
 * fl_layout_by_offset() - the page at a position in the image
 * @layout: the layout
 * @offset: any byte inside the page
 * @place: receives the page
 *
 * Return: 0; -ENOENT when no region covers it.
 */
FL_API int fl_layout_by_offset(const struct fl_layout *layout, uint64_t offset,
			       struct fl_place *place);

/**
 * fl_layout_by_gpa() - the page at a guest physical address
 * @layout: the layout
 * @gpa: any byte inside the page
 * @place: receives the page
 *
 * Return: 0; -ENOENT when no region covers it.
 */
FL_API int fl_layout_by_gpa(const struct fl_layout *layout, uint64_t gpa, struct fl_place *place);

/**
 * fl_layout_by_page() - the page with a number
 * @layout: the layout
 * @page: its number
 * @place: receives the page
 *
 * Return: 0; -ENOENT when the number is fl_layout_pages() or more.
 */
FL_API int fl_layout_by_page(const struct fl_layout *layout, uint64_t page, struct fl_place *place);

/**
 * fl_layout_remap() - the VMM moved part of its mapping (UFFD_EVENT_REMAP, mremap(2))
 * @layout: the layout
 * @from: old host virtual address, page aligned
 * @to: new host virtual address
 * @len_bytes: length of the part that moved
 *
 * Regions are split where the part that moved begins and ends; page numbers and offsets stay.
 *
 * Return: 0, also when nothing of the guest lies there; -EINVAL for unaligned values, -EEXIST when
 * @to overlaps another region; -ENOSPC when the regions have been split too often.
 */
FL_API int fl_layout_remap(struct fl_layout *layout, uint64_t from, uint64_t to,
			   uint64_t len_bytes);

/**
 * fl_layout_unmap() - the VMM unmapped part of its mapping (UFFD_EVENT_UNMAP, munmap(2))
 * @layout: the layout
 * @addr: host virtual address, page aligned
 * @len_bytes: length of the part that is gone
 *
 * Return: as fl_layout_remap(), without -EEXIST.
 */
FL_API int fl_layout_unmap(struct fl_layout *layout, uint64_t addr, uint64_t len_bytes);

/**
 * struct fl_pageset - a set of page numbers, one bit each; opaque. Not locked.
 */
struct fl_pageset;

/**
 * fl_pageset_new() - an empty set
 * @set: receives the set
 * @pages: it can hold the numbers 0 to @pages - 1
 *
 * Return: 0; -ENOMEM.
 */
FL_API int fl_pageset_new(struct fl_pageset **set, uint64_t pages);

/**
 * fl_pageset_free() - let a set go
 * @set: the set, or NULL
 */
FL_API void fl_pageset_free(struct fl_pageset *set);

/**
 * fl_pageset_add() - put a range of pages in
 * @set: the set
 * @page: first page
 * @count: how many
 *
 * Return: 0; -ERANGE when the range does not fit, the set is unchanged then.
 */
FL_API int fl_pageset_add(struct fl_pageset *set, uint64_t page, uint64_t count);

/**
 * fl_pageset_del() - take a range of pages out
 * @set: the set
 * @page: first page
 * @count: how many
 *
 * Return: 0; -ERANGE when the range does not fit, the set is unchanged then.
 */
FL_API int fl_pageset_del(struct fl_pageset *set, uint64_t page, uint64_t count);

/**
 * fl_pageset_has() - is a page in the set?
 * @set: the set
 * @page: the page
 *
 * Return: true when it is; false also for a number that does not fit.
 */
FL_API bool fl_pageset_has(const struct fl_pageset *set, uint64_t page);

/**
 * fl_pageset_count() - how many pages are in the set
 * @set: the set
 *
 * Return: the number of pages; counts all words, so not for a hot path.
 */
FL_API uint64_t fl_pageset_count(const struct fl_pageset *set);

/**
 * fl_pageset_run() - the next run of consecutive pages in the set
 * @set: the set
 * @page: in: where to start looking; out: first page of the run
 *
 * Return: the length of the run in pages; 0 when there is none.
 */
FL_API uint64_t fl_pageset_run(const struct fl_pageset *set, uint64_t *page);

/**
 * enum fl_page_state - what is known of a page
 * @FL_ABSENT: not there; its contents come from the source
 * @FL_PENDING: someone is making it present
 * @FL_PRESENT: installed
 * @FL_REMOVED: the guest gave it back (balloon, hole punch): zeros when touched again
 * @FL_POISONED: it could not be supplied; touching it is a hardware memory error for the guest
 */
enum fl_page_state { FL_ABSENT, FL_PENDING, FL_PRESENT, FL_REMOVED, FL_POISONED };

/** FL_PAGE_STATES - how many states there are */
#define FL_PAGE_STATES 5

/**
 * enum fl_waiter - who waits for a pending page: one bit for each kind of trap
 * @FL_WAITER_NONE: nobody: a read ahead of need
 * @FL_WAITER_UFFD: a thread that userfaultfd put to sleep
 * @FL_WAITER_EXIT: a vCPU thread that left KVM_RUN
 * @FL_WAITER_QUEUE: a sleeper of a userfault descriptor
 * @FL_WAITER_CALL: a thread of this process, waiting in a call or in a SIGSEGV handler
 */
enum fl_waiter {
	FL_WAITER_NONE = 0,
	FL_WAITER_UFFD = 1 << 4,
	FL_WAITER_EXIT = 1 << 5,
	FL_WAITER_QUEUE = 1 << 6,
	FL_WAITER_CALL = 1 << 7
};

/**
 * enum fl_claim - what fl_table_claim() found, and so what the caller has to do
 * @FL_CLAIM_FETCH: the page was absent and is now pending for the caller, who fetches it
 * @FL_CLAIM_ZERO: the page was removed and is now pending for the caller, who installs zeros
 * @FL_CLAIM_JOINED: someone else fetches it; the caller's waiter bit is set and will be woken
 * @FL_CLAIM_PRESENT: it is installed
 * @FL_CLAIM_POISONED: it is poisoned
 */
enum fl_claim {
	FL_CLAIM_FETCH,
	FL_CLAIM_ZERO,
	FL_CLAIM_JOINED,
	FL_CLAIM_PRESENT,
	FL_CLAIM_POISONED
};

/**
 * struct fl_table - the page-state table of one guest; opaque
 *
 * One byte a page in a memfd, so that another process can hold it and hand it to the next pager.
 * Every transition is one atomic read-modify-write of that byte: any thread of any process that
 * maps the table may call any of the functions below, except where they say otherwise.
 */
struct fl_table;

/**
 * fl_table_new() - a table with every page absent
 * @table: receives the table
 * @pages: fl_layout_pages()
 *
 * Return: 0; -EFBIG for more pages than a file can have; -ENOMEM, -EMFILE and what
 * memfd_create(2), ftruncate(2) and mmap(2) return.
 */
FL_API int fl_table_new(struct fl_table **table, uint64_t pages);

/**
 * fl_table_attach() - a table that another process made
 * @table: receives the table
 * @fd: its memfd; duplicated, the caller keeps his own
 * @pages: how many pages it must have
 * @err: receives the reason, or NULL
 *
 * Reads the whole table once, to refuse one with a cell that no transition makes.
 *
 * Return: 0; -EINVAL when @fd is not a sealed table of this version with @pages pages; -ENOMEM and
 * what fcntl(2), fstat(2) and mmap(2) return.
 */
FL_API int fl_table_attach(struct fl_table **table, int fd, uint64_t pages, struct fl_error *err);

/**
 * fl_table_free() - unmap a table and close its descriptor
 * @table: the table, or NULL
 */
FL_API void fl_table_free(struct fl_table *table);

/**
 * fl_table_fd() - the memfd of a table, to hand to another process
 * @table: the table
 *
 * Return: the descriptor, which stays the table's.
 */
FL_API int fl_table_fd(const struct fl_table *table);

/**
 * fl_table_state() - the state of a page now
 * @table: the table
 * @page: the page, below the table's size
 *
 * Return: its state (load-acquire: what was installed before FL_PRESENT is visible).
 */
FL_API enum fl_page_state fl_table_state(const struct fl_table *table, uint64_t page);

/**
 * fl_table_claim() - touch a page: take it on, or join whoever has
 * @table: the table
 * @page: the page, below the table's size
 * @waiter: who waits for it, FL_WAITER_NONE for a read ahead of need
 *
 * ABSENT and REMOVED become PENDING, and the caller must end that with fl_table_settle().
 *
 * Return: what it found, see enum fl_claim.
 */
FL_API enum fl_claim fl_table_claim(struct fl_table *table, uint64_t page, enum fl_waiter waiter);

/**
 * fl_table_settle() - end a claim
 * @table: the table
 * @page: the page
 * @claim: what the claim had returned: FL_CLAIM_FETCH or FL_CLAIM_ZERO
 * @state: FL_PRESENT, FL_POISONED, or FL_ABSENT to give it up (a page of zeros that is given up
 *	is REMOVED again)
 * @waiters: receives the bits of all who waited, to be woken, or NULL
 *
 * Claims of zeros are all alike: one that was voided may end a later one of the same page, and
 * takes over its waiters; the later one is then refused.
 *
 * Return: 0; -ECANCELED when the page was removed meanwhile: the claim is void, what was fetched
 * must not be installed, and @waiters is 0 because fl_table_remove() returned them; -EINVAL for any
 * other @claim or @state.
 */
FL_API int fl_table_settle(struct fl_table *table, uint64_t page, enum fl_claim claim,
			   enum fl_page_state state, unsigned int *waiters);

/**
 * fl_table_owns() - does a claim still stand?
 * @table: the table
 * @page: the page
 * @claim: what the claim had returned: FL_CLAIM_FETCH or FL_CLAIM_ZERO
 *
 * To be asked before an install, which then must not run at the same time as fl_table_remove() and
 * the reading of the event that led to it: one thread does both, or a lock of the caller's keeps
 * them apart.
 *
 * Return: true while the page is pending by such a claim; false once it was removed.
 */
FL_API bool fl_table_owns(const struct fl_table *table, uint64_t page, enum fl_claim claim);

/**
 * fl_table_remove() - the guest gave a page back
 * @table: the table
 * @page: the page
 *
 * Legal from every state; voids a claim.
 *
 * Return: the waiter bits of a voided claim, to be woken so that they touch it again; else 0.
 */
FL_API unsigned int fl_table_remove(struct fl_table *table, uint64_t page);

/**
 * fl_table_rearm() - a present page is to be fetched anew at its next touch
 * @table: the table
 * @page: the page
 *
 * For the thread that then takes the page away from the guest (stale, or moved to a lower tier): in
 * this order, so that one who dies in between leaves nothing that reads as zeros, and with no
 * install and no event of the page between the two. Not while a removal of the page is under way,
 * nor while a fetch that was voided is: it could not be told from the fetch that follows.
 *
 * Return: 0; -EBUSY when the page is not PRESENT.
 */
FL_API int fl_table_rearm(struct fl_table *table, uint64_t page);

/**
 * fl_table_recover() - void the claims of a pager that died
 * @table: the table; no other pager may be using it
 *
 * Pending pages become absent (or removed, where zeros were due). Their waiters lost their events
 * with the dead reader: the caller must wake the whole guest so that they fault again.
 *
 * Return: how many claims were voided.
 */
FL_API uint64_t fl_table_recover(struct fl_table *table);

/**
 * fl_table_find() - the next page in a given state
 * @table: the table
 * @state: the state to look for
 * @page: where to start
 * @end: where to stop
 *
 * Return: the page number, or @end when there is none. A snapshot: others may change it at once.
 */
FL_API uint64_t fl_table_find(const struct fl_table *table, enum fl_page_state state, uint64_t page,
			      uint64_t end);

/**
 * fl_table_count() - how many pages are in each state
 * @table: the table
 * @counts: receives a count for each state
 *
 * Reads the whole table; not for a hot path.
 */
FL_API void fl_table_count(const struct fl_table *table, uint64_t counts[FL_PAGE_STATES]);

#ifdef __cplusplus
}
#endif
#endif
