/* SPDX-License-Identifier: MIT */

/*
 * Theory: letting go
 *
 * A range that the trap was told to release is the guest's alone: the kernel maps what is in the
 * page cache, and zeros where there is nothing. Three things must be right before.
 *
 *   - A page that the guest has given back may still be in the file: MADV_DONTNEED of shared memory
 *     only unmaps it. A hole is punched there through the second mapping. Nobody can see that
 *     happen, because whoever touches the page is trapped.
 *   - Nothing may be installed there any more, least of all zeros through the second mapping, which
 *     would wipe out what the guest has written. So claims of zeros are voided before.
 *   - A fault that was reported before can be read after: its thread had been woken, but had not
 *     left the kernel's queue. The pages that were let go are kept in a set, and such a fault is
 *     only woken (events.c), whatever state its page is in.
 */

#include "pager/pager.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "util/log.h"

bool fl_release_has(const struct fl_pager *pager, uint64_t page)
{
	return fl_pageset_has(pager->released, page);
}

static uint64_t addr_of(const struct fl_place *place, uint64_t page)
{
	return place->addr + (page - place->page) * place->region->page_size;
}

static void void_claims(struct fl_pager *pager, const struct fl_place *place, uint64_t end)
{
	uint64_t page = place->page;

	for (;; page++) {
		page = fl_table_find(pager->parts.table, FL_PENDING, page, end);
		if (page == end)
			return;
		if (fl_pager_removed(pager, page))
			fl_pager_wake(pager, addr_of(place, page), place->region->page_size);
	}
}

static int clear_removed(struct fl_pager *pager, const struct fl_place *place, uint64_t end)
{
	uint64_t page = place->page, next, len;
	void *at;

	for (;; page = next) {
		page = fl_table_find(pager->parts.table, FL_REMOVED, page, end);
		if (page == end)
			return 0;
		for (next = page + 1; next < end; next++) {
			if (fl_table_state(pager->parts.table, next) != FL_REMOVED)
				break;
		}
		len = (next - page) * place->region->page_size;
		at = fl_install_place(pager->parts.install, addr_of(place, page), len);
		if (at && madvise(at, len, MADV_REMOVE))
			return -errno;
	}
}

int fl_release_run(struct fl_pager *pager, const struct fl_place *place, uint64_t pages)
{
	int rc = clear_removed(pager, place, place->page + pages);

	if (rc < 0)
		return rc;
	rc = fl_trap_release(pager->parts.trap, place->addr, pages * place->region->page_size);
	if (rc < 0)
		return rc;
	return fl_pageset_add(pager->released, place->page, pages);
}

/* The pages from here on that were not let go yet. */
static uint64_t held_run(const struct fl_pager *pager, uint64_t *page, uint64_t end)
{
	uint64_t n = 0;

	while (*page < end && fl_release_has(pager, *page))
		++*page;
	while (*page + n < end && !fl_release_has(pager, *page + n))
		n++;
	return n;
}

/* Returns the first thing that went wrong; the rest is released all the same. */
static int release_region(struct fl_pager *pager, const struct fl_region *region)
{
	uint64_t page = region->first_page, end = page + region->len_bytes / region->page_size;
	uint64_t pages;
	int result = 0;

	for (; (pages = held_run(pager, &page, end)) > 0; page += pages) {
		struct fl_place place;
		int rc;

		(void)fl_layout_by_page(pager->parts.layout, page, &place);
		void_claims(pager, &place, page + pages);
		rc = fl_release_run(pager, &place, pages);
		if (rc < 0)
			fl_log(&pager->options.log, FL_LOG_DEBUG,
			       "releasing 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s",
			       pages * region->page_size, place.addr, strerror(-rc));
		if (rc == -ESRCH)
			return rc;
		result = result ? result : rc;
	}
	return result;
}

int fl_pager_release(struct fl_pager *pager)
{
	int result = 0;

	if (pager->count.left)
		return -EBUSY;
	for (size_t i = 0; i < fl_layout_count(pager->parts.layout); i++) {
		const struct fl_region *region = fl_layout_region(pager->parts.layout, i);
		int rc = region->addr == FL_NOWHERE ? 0 : release_region(pager, region);

		if (rc == -ESRCH)
			return rc;
		result = result ? result : rc;
	}
	return result;
}
