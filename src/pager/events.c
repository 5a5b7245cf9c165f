/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"

#include <errno.h>
#include <inttypes.h>

#include "util/clock.h"
#include "util/log.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* May this page come with the touched one? It must come the same way. */
static bool is_alike(const struct fl_pager *pager, uint64_t page, bool adopted)
{
	return fl_table_state(pager->parts.table, page) == FL_ABSENT &&
	       (adopted ? fl_pageset_has(pager->adopt.ready, page) : !fl_adopt_has(pager, page));
}

/* Pages before the touched one that may come with it: absent, in its region, in its window. */
static uint64_t around_before(struct fl_pager *pager, const struct fl_place *place, bool adopted)
{
	uint64_t window = pager->options.around_bytes / place->region->page_size;
	uint64_t limit =
		min_u64(place->page - place->region->first_page,
			place->offset % pager->options.around_bytes / place->region->page_size);
	uint64_t n = 0;

	if (window <= 1)
		return 0;
	while (n < limit && is_alike(pager, place->page - n - 1, adopted))
		n++;
	return n;
}

static uint64_t around_after(struct fl_pager *pager, const struct fl_place *place, bool adopted)
{
	uint64_t page_size = place->region->page_size;
	uint64_t window = pager->options.around_bytes / page_size;
	uint64_t n = 0, limit;

	if (window <= 1)
		return 0;
	limit = window - place->offset % pager->options.around_bytes / page_size - 1;
	limit = min_u64(limit, place->pages_left - 1);
	while (n < limit && is_alike(pager, place->page + n + 1, adopted))
		n++;
	return n;
}

/* How many of the pages right before the touched one are data: a hole is not read. */
static uint64_t data_before(struct fl_pager *pager, const struct fl_place *place, uint64_t before)
{
	uint64_t page_size = place->region->page_size;
	uint64_t at = place->offset - before * page_size, start = at;
	struct fl_extent extent;

	while (at < place->offset) {
		fl_source_extent(pager->parts.source, at, &extent);
		extent.len_bytes = min_u64(extent.len_bytes, place->offset - at);
		if (extent.zeros && extent.len_bytes >= page_size) {
			at += extent.len_bytes / page_size * page_size;
			start = at;
		} else {
			at += (extent.len_bytes + page_size - 1) / page_size * page_size;
		}
	}
	return (place->offset - start) / page_size;
}

static void claim_neighbours(struct fl_fetch *fetch, uint64_t page, uint64_t before, uint64_t after)
{
	fetch->page = page - before;
	fetch->pages = before + 1 + after;
	for (uint64_t i = 0; i < fetch->pages; i++) {
		if (fetch->page + i != page)
			(void)fl_table_claim(fetch->pager->parts.table, fetch->page + i,
					     FL_WAITER_NONE);
	}
}

/* Claims the neighbours that come along. The run of an image that is alike is not left: a hole must
 * not make data of itself, nor the other way round. */
static void claim_around(struct fl_fetch *fetch, const struct fl_place *place)
{
	struct fl_pager *pager = fetch->pager;
	uint64_t before = around_before(pager, place, false);
	uint64_t after = around_after(pager, place, false);
	uint64_t page_size = place->region->page_size;
	struct fl_extent extent;

	fl_source_extent(pager->parts.source, place->offset, &extent);
	fetch->zeros = extent.zeros && extent.len_bytes >= page_size;
	before = fetch->zeros ? 0 : data_before(pager, place, before);
	if (extent.len_bytes / page_size < after + 1)
		after = extent.len_bytes / page_size ? extent.len_bytes / page_size - 1 : 0;
	claim_neighbours(fetch, place->page, before, after);
}

static bool is_ready(const struct fl_pager *pager, uint64_t page)
{
	return pager->adopt.ready && fl_pageset_has(pager->adopt.ready, page);
}

static void demand(struct fl_pager *pager, const struct fl_place *place, enum fl_claim claim,
		   uint64_t now_ns)
{
	struct fl_fetch *fetch = fl_fetch_get(pager, true);

	fl_fetch_begin(fetch, place->page, claim);
	fetch->demand = place->page;
	fetch->since_ns = now_ns;
	if (claim == FL_CLAIM_ZERO) {
		fetch->zeros = true;
	} else if (is_ready(pager, place->page)) {
		fetch->adopted = fetch->placed = true;
		claim_neighbours(fetch, place->page, around_before(pager, place, true),
				 around_after(pager, place, true));
	} else {
		claim_around(fetch, place);
		fl_fill_near(pager, place);
	}
	if (fetch->zeros || fetch->adopted || fl_fetch_read_now(fetch))
		fl_fetch_ready(fetch);
	else
		fl_fetch_submit(fetch);
}

static void duplicate(struct fl_pager *pager, const struct fl_place *place)
{
	fl_count(&pager->count.duplicates, 1);
	fl_pager_wake(pager, place->addr, place->region->page_size);
}

static void no_second_mapping(struct fl_pager *pager, const struct fl_place *place)
{
	fl_pager_fail(pager, -EOPNOTSUPP,
		      "minor fault at offset 0x%" PRIx64
		      " without a second mapping to continue from",
		      place->offset);
}

/*
 * A page that the table calls present was touched. The page cache has it, and it only has to be
 * mapped; or this is a late duplicate, and it is there; or it went away without an event (the hole
 * punch of a memfd), so that it reads as zeros. Zeros that the kernel installs are refused where a
 * page is. Zeros that are written through a second mapping would destroy what a duplicate was
 * reported for: there mapping is tried first, because it can only tell.
 */
static void touch_present(struct fl_pager *pager, const struct fl_event *event,
			  const struct fl_place *place, uint64_t now_ns)
{
	struct fl_install *install = pager->parts.install;
	uint64_t page_size = place->region->page_size;
	bool minor = event->flags & FL_FAULT_MINOR;
	int64_t done = -EFAULT;

	if (event->flags & FAULT_EARLY) {
		duplicate(pager, place);
		return;
	}
	if (minor || fl_install_place(install, place->addr, page_size))
		done = fl_install_map(install, place->addr, page_size, 0);
	if (done > 0) {
		fl_histogram_record(&pager->latency[FL_FAULT_MAPPED], fl_clock_ns() - now_ns);
	} else if (done == -EOPNOTSUPP) {
		no_second_mapping(pager, place);
	} else if (done != -EFAULT || minor) {
		duplicate(pager, place);
	} else {
		(void)fl_table_remove(pager->parts.table, place->page);
		(void)fl_table_claim(pager->parts.table, place->page, FL_WAITER_NONE);
		demand(pager, place, FL_CLAIM_ZERO, now_ns);
	}
}

/* The thread sleeps on until a fetch is free, and touches again then. To wake it now would let it
 * come back at once, and many of them keep the event from being read that is waited for. */
static void missed(struct fl_pager *pager, const struct fl_place *place)
{
	uint64_t end = place->addr + place->region->page_size;

	if (place->addr < pager->missed_from)
		pager->missed_from = place->addr;
	if (end > pager->missed_to)
		pager->missed_to = end;
}

/* Only what comes from the image: a page that the guest gave back is not worth reading early. */
static void record(struct fl_pager *pager, const struct fl_place *place)
{
	if (pager->options.record && fl_table_owns(pager->parts.table, place->page, FL_CLAIM_FETCH))
		(void)fl_wset_add(pager->options.record, place->offset);
}

/* The page cache has something for a page that was not supplied yet. Only a second mapping could
 * put the image's contents there; what there is must not be taken for them. */
static bool is_stale(struct fl_pager *pager, const struct fl_event *event,
		     const struct fl_place *place)
{
	struct fl_table *table = pager->parts.table;

	return (event->flags & FL_FAULT_MINOR) &&
	       (fl_table_state(table, place->page) == FL_ABSENT ||
		fl_table_owns(table, place->page, FL_CLAIM_FETCH)) &&
	       !fl_install_place(pager->parts.install, place->addr, place->region->page_size);
}

static void touch(struct fl_pager *pager, const struct fl_event *event,
		  const struct fl_place *place, uint64_t now_ns)
{
	struct fl_fetch *fetch;
	enum fl_claim claim;

	if (fl_release_has(pager, place->page)) {
		duplicate(pager, place); /* it was reported before its range was let go */
		return;
	}
	if (is_stale(pager, event, place)) {
		no_second_mapping(pager, place);
		return;
	}
	if (!pager->free_demand) {
		missed(pager, place);
		return;
	}
	fl_adopt_touch(pager, place->page);
	claim = fl_table_claim(pager->parts.table, place->page, pager->parts.trap->ops->waiter);
	record(pager, place);
	switch (claim) {
	case FL_CLAIM_FETCH:
	case FL_CLAIM_ZERO:
		demand(pager, place, claim, now_ns);
		break;
	case FL_CLAIM_JOINED:
		fetch = fl_fetch_of(pager, place->page);
		if (fetch)
			fl_fetch_join(fetch, place->page, now_ns);
		break;
	case FL_CLAIM_PRESENT:
		touch_present(pager, event, place, now_ns);
		break;
	case FL_CLAIM_POISONED:
		/* Anew: what marks the page may have gone with a hole punched in its file. */
		if (fl_install_poison(pager->parts.install, place->addr, place->region->page_size,
				      0) <= 0)
			fl_pager_wake(pager, place->addr, place->region->page_size);
		break;
	}
}

/* What size the pages there have is not known: the kernel says EINVAL to less than a page. */
static int64_t poison_outside(struct fl_pager *pager, uint64_t addr, uint64_t *page_size)
{
	static const uint64_t sizes[] = {4096, UINT64_C(1) << 21, UINT64_C(1) << 30};
	int64_t done = -EINVAL;

	for (size_t i = 0; done == -EINVAL && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		*page_size = sizes[i];
		done = fl_install_poison(pager->parts.install, addr & ~(sizes[i] - 1), sizes[i], 0);
	}
	return done;
}

/* A touch that raced with an unmap, or the VMM registered more than it said. Nobody could supply
 * that: to wake the thread and no more would let it touch again, for ever. */
static void fault_outside(struct fl_pager *pager, uint64_t addr)
{
	uint64_t page_size;
	int64_t done = poison_outside(pager, addr, &page_size);

	if (done == -EINVAL || done == -EOPNOTSUPP)
		fl_pager_fail(pager, (int)done,
			      "fault at address 0x%" PRIx64
			      " outside the guest's memory, which cannot be poisoned",
			      addr);
	else if (done <= 0)
		fl_pager_wake(pager, addr & ~(page_size - 1), page_size);
	else if (fl_pager_logs(pager->outside++))
		fl_log(&pager->options.log, FL_LOG_ERROR,
		       "fault at address 0x%" PRIx64 " outside the guest's memory; it is poisoned, "
		       "as %" PRIu64 " before it",
		       addr, pager->outside - 1);
}

static void fault(struct fl_pager *pager, const struct fl_event *event, uint64_t now_ns)
{
	struct fl_place place;

	if (fl_layout_by_addr(pager->parts.layout, event->addr, &place) < 0) {
		fault_outside(pager, event->addr & ~UINT64_C(0xfff));
		return;
	}
	if (event->flags & FL_FAULT_WP) {
		if (fl_trap_protect(pager->parts.trap, place.addr, place.region->page_size, false) <
		    0)
			fl_pager_wake(pager, place.addr, place.region->page_size);
		fl_histogram_record(&pager->latency[FL_FAULT_MAPPED], fl_clock_ns() - now_ns);
		return;
	}
	touch(pager, event, &place, now_ns);
}

unsigned int fl_pager_removed(struct fl_pager *pager, uint64_t page)
{
	struct fl_table *table = pager->parts.table;

	if (fl_table_state(table, page) == FL_ABSENT || fl_table_owns(table, page, FL_CLAIM_FETCH))
		fl_count(&pager->count.left, UINT64_MAX);
	return fl_table_remove(table, page);
}

/* Part of a huge page was given back. The kernel makes zeros of that part where the page is, and
 * nothing where it is not: then the whole of it still comes from the image. */
static void removed_partly(struct fl_pager *pager, const struct fl_region *region, uint64_t page)
{
	enum fl_page_state state = fl_table_state(pager->parts.table, page);

	if (pager->partly || (state != FL_ABSENT && state != FL_PENDING))
		return;
	pager->partly = true;
	fl_log(&pager->options.log, FL_LOG_WARNING,
	       "part of the page at offset 0x%" PRIx64 " was given back before it came; "
	       "all of such a page is supplied from the image",
	       region->offset + (page - region->first_page) * region->page_size);
}

static void removed_of(struct fl_pager *pager, const struct fl_region *region, uint64_t addr,
		       uint64_t end)
{
	uint64_t page_size = region->page_size, page, last;

	if (addr >= end)
		return;
	page = region->first_page + (addr - region->addr) / page_size;
	last = region->first_page + (end - region->addr) / page_size;
	if ((addr - region->addr) % page_size)
		removed_partly(pager, region, page++);
	if ((end - region->addr) % page_size && page <= last)
		removed_partly(pager, region, last);
	for (; page < last; page++) {
		if (fl_pager_removed(pager, page))
			fl_pager_wake(pager, region->addr + (page - region->first_page) * page_size,
				      page_size);
		fl_count(&pager->count.removed, 1);
	}
}

/* What a device still writes must not come after the zeros that are right from here on. */
static void quiesce(struct fl_pager *pager, uint64_t addr, uint64_t end)
{
	for (unsigned int i = 0; i < pager->fetch_count; i++) {
		struct fl_fetch *fetch = &pager->fetches[i];
		struct fl_place place;

		if (!fetch->busy || !fetch->reading || !fetch->pieces ||
		    fl_layout_by_page(pager->parts.layout, fetch->page, &place) < 0 ||
		    place.addr >= end || addr >= place.addr + fetch->read.len_bytes)
			continue;
		fl_queue_quiesce(pager->queue, &fetch->read);
	}
}

static void removed(struct fl_pager *pager, uint64_t addr, uint64_t len_bytes)
{
	uint64_t end = addr + len_bytes;

	if (pager->parts.source->ops->flags & FL_SOURCE_DIRECT)
		quiesce(pager, addr, end);

	for (size_t i = 0; i < fl_layout_count(pager->parts.layout); i++) {
		const struct fl_region *region = fl_layout_region(pager->parts.layout, i);

		if (region->addr != FL_NOWHERE)
			removed_of(pager, region, addr > region->addr ? addr : region->addr,
				   min_u64(end, region->addr + region->len_bytes));
	}
}

static void moved(struct fl_pager *pager, const struct fl_event *event)
{
	int err;

	if (event->kind == FL_EVENT_REMAP &&
	    fl_install_place(pager->parts.install, event->addr, 1)) {
		err = -EOPNOTSUPP; /* the second mapping goes by the old address */
	} else if (event->kind == FL_EVENT_UNMAP) {
		removed(pager, event->addr, event->len_bytes);
		err = fl_layout_unmap(pager->parts.layout, event->addr, event->len_bytes);
	} else {
		err = fl_layout_remap(pager->parts.layout, event->addr, event->to,
				      event->len_bytes);
	}
	if (err < 0)
		fl_pager_fail(pager, err,
			      "the VMM moved or unmapped 0x%" PRIx64 " bytes at 0x%" PRIx64
			      " in a way that cannot be followed",
			      event->len_bytes, event->addr);
}

static void serve(struct fl_pager *pager, const struct fl_event *event, uint64_t now_ns)
{
	switch (event->kind) {
	case FL_EVENT_FAULT:
		fault(pager, event, now_ns);
		break;
	case FL_EVENT_REMOVE:
		removed(pager, event->addr, event->len_bytes);
		break;
	case FL_EVENT_UNMAP:
	case FL_EVENT_REMAP:
		moved(pager, event);
		break;
	case FL_EVENT_FORK:
		fl_pager_fail(pager, -EOPNOTSUPP,
			      "the VMM forked: its child would have memory that nobody supplies");
		break;
	}
}

/*
 * How many events may be taken now. A fault takes a fetch at most, so normally no more than there
 * are free ones. But an install that was answered EAGAIN waits for a REMOVE event behind these
 * faults: then events are read in any case, and a fault that finds no fetch is missed.
 */
static unsigned int events_room(const struct fl_pager *pager)
{
	const struct fl_fetch *fetch = pager->free_demand;
	unsigned int room = 0;

	if (fl_fetch_waits(pager))
		return EVENT_BATCH;
	for (; fetch && room < EVENT_BATCH; fetch = fetch->next)
		room++;
	return room;
}

/* Of several faults on a page that is not there, the first brings it and the others come late. */
static void mark_early(struct fl_pager *pager, int n)
{
	struct fl_place place;

	for (int i = 0; i < n; i++) {
		struct fl_event *event = &pager->events[i];

		if (event->kind == FL_EVENT_FAULT &&
		    fl_layout_by_addr(pager->parts.layout, event->addr, &place) == 0 &&
		    fl_table_state(pager->parts.table, place.page) != FL_PRESENT)
			event->flags |= FAULT_EARLY;
	}
}

bool fl_pager_events(struct fl_pager *pager)
{
	unsigned int room = events_room(pager);
	uint64_t now_ns;
	int n;

	if (!room)
		return false;
	n = fl_trap_read(pager->parts.trap, pager->events, room);
	if (n < 0)
		fl_pager_fail(pager, n, "reading faults failed");
	if (n <= 0)
		return false;
	if (n > 1)
		mark_early(pager, n);
	now_ns = fl_clock_ns();
	for (int i = 0; i < n && !pager->failed; i++)
		serve(pager, &pager->events[i], now_ns);
	return true;
}
