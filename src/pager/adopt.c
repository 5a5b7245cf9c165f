/* SPDX-License-Identifier: MIT */

/*
 * Theory: contents that are in place
 *
 * A guest that comes from another host has most of its memory before it runs: what was sent while
 * it ran there stands in the second mapping. What of that is right is told by two sets of pages,
 * ready and zeros; the guest must have them without a read. One that is touched is mapped at once
 * (events.c). The others are gone through in the background, run by run, a run being pages of one
 * region that are ready, zeros, present or given back:
 *
 *   - a long run is let go by the trap (UFFDIO_UNREGISTER): from then on the kernel itself maps
 *     what the page cache has, and zeros where it has nothing. That costs a few us and splits the
 *     mapping in the VMM, so it is done for the longest runs, SPLITS_MAX of them at most: the
 *     runs are counted by their lengths before.
 *   - of a short run, what is ready is mapped (UFFDIO_CONTINUE), what is zeros becomes REMOVED.
 *
 * Pages of a run that is let go are PRESENT in the table first, zeros too: whoever dies between the
 * two leaves pages that the next pager maps as they are touched. Were it the other way round, that
 * one would read them once more, over what the guest has written. What else letting go asks for is
 * in release.c.
 */

#include "pager/pager.h"

#include <errno.h>
#include <string.h>

#include "memory/table.h"
#include "util/clock.h"
#include "util/log.h"

/* How many pages one step looks at: some 30 us. */
#define LOOK_PAGES 4096u
/* Shorter ones are mapped: what is saved is not worth a split. */
#define RELEASE_BYTES (64u * 1024)
/* Letting go costs as much as mapping about this many pages. */
#define RELEASE_PAGES 12u
/* Mappings that a guest's memory may be split into; the kernel allows 65530 by default. */
#define SPLITS_MAX 8192u

static bool has(const struct fl_pageset *set, uint64_t page)
{
	return set && fl_pageset_has(set, page);
}

/* Is there a second mapping of all that is ready? */
static bool can_adopt(struct fl_pager *pager, const struct fl_pageset *ready)
{
	struct fl_layout *layout = pager->parts.layout;
	struct fl_install *install = pager->parts.install;

	for (size_t i = 0; ready && i < fl_layout_count(layout); i++) {
		const struct fl_region *region = fl_layout_region(layout, i);
		uint64_t size = region->page_size, pages = region->len_bytes / size;

		if (region->addr == FL_NOWHERE ||
		    fl_install_place(install, region->addr, region->len_bytes))
			continue;
		for (uint64_t n = 0; n < pages; n++) {
			if (fl_pageset_has(ready, region->first_page + n) &&
			    !fl_install_place(install, region->addr + n * size, size))
				return false;
		}
	}
	return true;
}

/* How many runs there are of each length: in the place of its logarithm. */
static void count_runs(const struct fl_pageset *set, uint64_t runs[64])
{
	uint64_t page = 0, pages;

	for (; set && (pages = fl_pageset_run(set, &page)) > 0; page += pages)
		runs[63 - __builtin_clzll(pages)]++;
}

/* The length that so few runs have at least that all of these can be let go, in pages. */
static uint64_t choose_least(const struct fl_pageset *ready, const struct fl_pageset *zeros)
{
	uint64_t runs[64] = {0}, count = 0;
	unsigned int log = 63;

	count_runs(ready, runs);
	count_runs(zeros, runs);
	while (log && count + runs[log] <= SPLITS_MAX)
		count += runs[log--];
	return UINT64_C(2) << log;
}

int fl_pager_adopt(struct fl_pager *pager, const struct fl_pageset *ready,
		   const struct fl_pageset *zeros)
{
	struct fl_adopt *adopt = &pager->adopt;

	if (adopt->since_ns)
		return -EALREADY;
	if (!can_adopt(pager, ready))
		return -EINVAL;
	adopt->ready = ready;
	adopt->zeros = zeros;
	adopt->least = choose_least(ready, zeros);
	adopt->since_ns = fl_clock_ns();
	adopt->on = true;
	fl_pager_kick(pager);
	return 0;
}

void fl_adopt_touch(struct fl_pager *pager, uint64_t page)
{
	if (!has(pager->adopt.zeros, page) || fl_table_state(pager->parts.table, page) != FL_ABSENT)
		return;
	(void)fl_pager_removed(pager, page);
	fl_count(&pager->count.adopted, 1);
}

/* May the guest's touch of this page be answered by the kernel itself? Not what was let go before: there a
 * page that had been given back may be the guest's anew. */
static bool can_let_go(const struct fl_pager *pager, uint64_t page)
{
	if (fl_release_has(pager, page))
		return false;
	switch (fl_table_state(pager->parts.table, page)) {
	case FL_ABSENT:
		return fl_adopt_has(pager, page);
	case FL_PRESENT:
	case FL_REMOVED:
		return true;
	default:
		return false;
	}
}

static uint64_t run_of(const struct fl_pager *pager, const struct fl_place *place)
{
	uint64_t n = 0, limit = place->pages_left < LOOK_PAGES ? place->pages_left : LOOK_PAGES;

	while (n < limit && can_let_go(pager, place->page + n))
		n++;
	return n;
}

/* Lets a run go. Where that cannot be (the kernel has no room for another split, say), its pages
 * are mapped as they are touched, and the runs that follow one by one. */
static void release(struct fl_pager *pager, const struct fl_place *place, uint64_t pages)
{
	uint64_t taken = fl_table_adopt(pager->parts.table, place->page, pages);
	int rc;

	fl_count(&pager->count.adopted, taken);
	fl_count(&pager->count.left, -taken);
	rc = fl_release_run(pager, place, pages);
	if (!rc) {
		fl_count(&pager->count.released, taken);
	} else if (rc == -ESRCH) {
		fl_pager_fail(pager, rc, "the VMM's address space is gone");
	} else {
		pager->adopt.stuck = true;
		fl_log(&pager->options.log, FL_LOG_INFO,
		       "cannot release part of the guest's memory: %s; pages are mapped one by one",
		       strerror(-rc));
	}
}

/* What goes on where a range was let go adds no split. */
static bool is_long(const struct fl_pager *pager, const struct fl_place *place, uint64_t pages)
{
	uint64_t least = RELEASE_BYTES / place->region->page_size;

	if (place->page > place->region->first_page && fl_release_has(pager, place->page - 1))
		return true;
	if (least < RELEASE_PAGES)
		least = RELEASE_PAGES;
	if (least < pager->adopt.least)
		least = pager->adopt.least;
	return pages >= least || pages == LOOK_PAGES;
}

/* Maps the pages from here on that are ready. */
static uint64_t map(struct fl_pager *pager, uint64_t page, uint64_t limit)
{
	struct fl_fetch *fetch = pager->adopt.fetch;
	uint64_t pages = 0;

	if (limit > ADOPT_PAGES)
		limit = ADOPT_PAGES;
	fl_fetch_begin(fetch, page, FL_CLAIM_FETCH);
	fetch->adopted = fetch->placed = true;
	while (pages < limit && has(pager->adopt.ready, page + pages) &&
	       fl_table_state(pager->parts.table, page + pages) == FL_ABSENT) {
		(void)fl_table_claim(pager->parts.table, page + pages, FL_WAITER_NONE);
		pages++;
	}
	fetch->pages = pages;
	if (fl_fetch_install(fetch, UINT64_MAX) == FL_PROGRESS_DONE)
		fl_fetch_free(fetch);
	else
		fl_fetch_ready(fetch); /* it comes again */
	return pages;
}

/* Deals with one page, or several, of a short run. */
static uint64_t take(struct fl_pager *pager, uint64_t page, uint64_t limit, uint64_t *mapped)
{
	uint64_t pages = 1;

	if (fl_table_state(pager->parts.table, page) == FL_ABSENT) {
		if (has(pager->adopt.ready, page)) {
			pages = map(pager, page, limit);
			*mapped += pages;
		} else {
			fl_adopt_touch(pager, page);
		}
	}
	return pages;
}

/* Everything was looked at: it is done, unless the kernel still refuses to map something. */
static void end(struct fl_pager *pager)
{
	struct fl_adopt *adopt = &pager->adopt;

	adopt->on = false;
	if (!pager->count.adopt_ns)
		atomic_store_explicit(&pager->count.adopt_ns, fl_clock_ns() - adopt->since_ns,
				      memory_order_relaxed);
}

/* A short run, as much of it as a step may map. */
static uint64_t take_run(struct fl_pager *pager, uint64_t page, uint64_t pages, uint64_t budget)
{
	uint64_t mapped = 0, at = 0;

	while (at < pages && mapped < budget && !pager->adopt.fetch->busy)
		at += take(pager, page + at, pages - at, &mapped);
	pager->adopt.cursor += at;
	return mapped;
}

/* The run that begins at the cursor, in pages; 0 when there is nothing to be had at that page. */
static uint64_t run_here(struct fl_pager *pager, struct fl_place *place)
{
	(void)fl_layout_by_page(pager->parts.layout, pager->adopt.cursor, place);
	if (place->addr == FL_NOWHERE || !fl_adopt_has(pager, place->page))
		return 0;
	return run_of(pager, place);
}

bool fl_adopt_step(struct fl_pager *pager)
{
	struct fl_adopt *adopt = &pager->adopt;
	uint64_t mapped = 0, looked = 0, pages;
	struct fl_place place;

	while (!adopt->fetch->busy && !pager->failed && mapped < ADOPT_PAGES &&
	       looked < LOOK_PAGES) {
		if (adopt->cursor == pager->pages) {
			end(pager);
			return true;
		}
		pages = run_here(pager, &place);
		looked += pages + 1;
		if (!pages) {
			adopt->cursor++;
		} else if (!adopt->stuck && is_long(pager, &place, pages)) {
			adopt->cursor += pages;
			release(pager, &place, pages);
			mapped += RELEASE_PAGES;
		} else {
			mapped += take_run(pager, place.page, pages, ADOPT_PAGES - mapped);
		}
	}
	return !adopt->fetch->busy;
}
