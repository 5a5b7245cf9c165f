/* SPDX-License-Identifier: MIT */

/*
 * Theory: reads that come in pieces
 *
 * A source with FL_SOURCE_PIECES asks place() where to write, step by step, and says arrived()
 * when a piece is whole and right. A page is installed as soon as all of its pieces are there,
 * whatever else of the read is missing: nobody waits for more than what he touched.
 *
 * place() answers with the second mapping, so that contents are written once, where the guest will
 * see them. Other reads of a device must not go there (see fl_fetch_submit()): a page that is given
 * back may be zeros, and in the guest's sight, while the device still writes. Here that cannot be.
 * Such a source writes only from within fl_queue_reap(), in the thread that runs the pager, and
 * asks anew for every step; this is also the thread that reads REMOVE events, which marks the page
 * in the table first. So between two events the answer stays right, and once a page was given back
 * place() answers with the fetch's buffer, whose contents nobody looks at.
 *
 * Memory of the second mapping that cannot be had (an empty huge page pool, a full tmpfs) would be
 * a SIGBUS for whoever writes it. It is populated before place() names it; where that fails the
 * page goes to the buffer, and is installed by a copy, which is tried again like every other.
 *
 * A piece may also be zeros. Such a page, when nobody waits for it, is not made: a hole is punched where
 * it stands in the second mapping, and it counts as given back, so that it becomes memory when it is touched,
 * if ever. Nobody can have seen the hole being made, as long as the page is not installed.
 *
 * An install that cannot be done now puts the fetch in the list of those that are ready, although
 * its read is still under way: what comes meanwhile is installed together with it.
 */

#include "pager/pager.h"

#include <errno.h>
#include <string.h>

#include "util/compat.h"

static uint64_t page_size_of(const struct fl_fetch *fetch)
{
	struct fl_place place = {0};

	(void)fl_layout_by_page(fetch->pager->parts.layout, fetch->page, &place);
	return place.region->page_size;
}

static bool populate(void *at, uint64_t len)
{
	int rc;

	do
		rc = madvise(at, len, MADV_POPULATE_WRITE);
	while (rc && (errno == EINTR || errno == EAGAIN));
	return !rc || errno == EINVAL; /* a kernel before 5.14: without */
}

/* Where pages stand in the second mapping; NULL when they do not, all of them. */
static char *place_of(const struct fl_fetch *fetch, uint64_t index, uint64_t pages)
{
	struct fl_place place;

	if (fl_layout_by_page(fetch->pager->parts.layout, fetch->page + index, &place) < 0 ||
	    place.addr == FL_NOWHERE || pages > place.pages_left)
		return NULL;
	return fl_install_place(fetch->pager->parts.install, place.addr,
				pages * place.region->page_size);
}

/* Pages from index on that are ours and go the same way, at most limit. */
static uint64_t run_of(const struct fl_fetch *fetch, uint64_t index, uint64_t limit,
		       enum fl_way way)
{
	uint64_t n = 0;

	while (n < limit && fetch->each[index + n].way == way &&
	       fl_fetch_owns(fetch, fetch->page + index + n))
		n++;
	return n;
}

static bool is_had(const struct fl_fetch *fetch, uint64_t index, uint64_t pages, uint64_t page_size)
{
	char *at = place_of(fetch, index, pages);

	return at && populate(at, pages * page_size);
}

/* Decides, once for a page, which way its pieces go. */
static void decide(struct fl_fetch *fetch, uint64_t index, uint64_t limit, uint64_t page_size)
{
	uint64_t pages = run_of(fetch, index, limit, FL_WAY_UNKNOWN);
	enum fl_way way = FL_WAY_PLACE;

	if (!pages)
		return;
	if (!is_had(fetch, index, pages, page_size)) {
		pages = 1;
		if (!is_had(fetch, index, pages, page_size))
			way = FL_WAY_BUFFER;
	}
	for (uint64_t i = 0; i < pages; i++)
		fetch->each[index + i].way = way;
}

static void *place(struct fl_read *read, uint64_t offset, uint64_t *len_bytes)
{
	struct fl_fetch *fetch = read->ctx;
	uint64_t page_size = page_size_of(fetch), into = (offset - read->offset) % page_size;
	uint64_t index = (offset - read->offset) / page_size;
	uint64_t limit = (into + *len_bytes + page_size - 1) / page_size, pages;
	char *at = NULL;

	decide(fetch, index, limit, page_size);
	pages = run_of(fetch, index, limit, FL_WAY_PLACE);
	if (pages)
		at = place_of(fetch, index, pages);
	if (!at) {
		for (pages = 1; pages < limit && !run_of(fetch, index + pages, 1, FL_WAY_PLACE) &&
				!run_of(fetch, index + pages, 1, FL_WAY_UNKNOWN);)
			pages++;
		at = fetch->buf + index * page_size;
	}
	if (*len_bytes > pages * page_size - into)
		*len_bytes = pages * page_size - into;
	return at + into;
}

static bool has_units(const uint64_t *units, uint64_t first, uint64_t count)
{
	for (uint64_t end = first + count; first < end; first++) {
		if (!(first % 64) && end - first >= 64 && units[first / 64] == UINT64_MAX)
			first += 63;
		else if (!(units[first / 64] >> (first % 64) & 1))
			return false;
	}
	return true;
}

bool fl_pieces_has(const struct fl_fetch *fetch, uint64_t page, uint64_t page_size)
{
	uint64_t units = page_size / UNIT_BYTES;

	return has_units(fetch->units, (page - fetch->page) * units, units);
}

bool fl_pieces_all(const struct fl_fetch *fetch)
{
	uint64_t page_size = page_size_of(fetch);

	for (uint64_t i = fetch->done; i < fetch->pages; i++) {
		if (fl_fetch_owns(fetch, fetch->page + i) &&
		    !fl_pieces_has(fetch, fetch->page + i, page_size))
			return false;
	}
	return true;
}

static void arrived(struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	struct fl_fetch *fetch = read->ctx;
	uint64_t first = (offset - read->offset) / UNIT_BYTES;

	for (uint64_t i = first; i < first + len_bytes / UNIT_BYTES; i++)
		fetch->units[i / 64] |= UINT64_C(1) << (i % 64);
	fetch->came = true;
	if (!fetch->listed && !fetch->pager->failed)
		fl_fetch_serve_one(fetch);
}

/* Less than a page: it is written like everything else of that page. */
static uint64_t write_zeros(struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	char *at = place(read, offset, &len_bytes);

	memset(at, 0, len_bytes);
	return len_bytes;
}

/* Pages of zeros that nobody waits for: they take no memory. */
static bool leave_out(struct fl_fetch *fetch, uint64_t index, uint64_t pages, uint64_t page_size)
{
	struct fl_pager *pager = fetch->pager;
	char *at = place_of(fetch, index, pages);
	struct fl_place first;

	if (!at || madvise(at, pages * page_size, MADV_REMOVE))
		return false;
	(void)fl_layout_by_page(pager->parts.layout, fetch->page + index, &first);
	for (uint64_t i = 0; i < pages; i++)
		if (fl_pager_removed(pager, first.page + i))
			fl_pager_wake(pager, first.addr + i * page_size, page_size);
	fl_count(&pager->count.zero, pages);
	fl_count(fetch->fill ? &pager->count.fill : &pager->count.around, pages);
	return true;
}

/* Whole pages. What cannot be left out is installed. */
static void take_zeros(struct fl_fetch *fetch, uint64_t index, uint64_t end, uint64_t page_size)
{
	uint64_t n;

	for (; index < end; index += n) {
		for (n = 0; index + n < end && fl_fetch_owns(fetch, fetch->page + index + n) &&
			    !fl_fetch_is_waited(fetch, fetch->page + index + n);
		     n++)
			;
		if (n && leave_out(fetch, index, n, page_size))
			continue;
		n = n ? n : 1;
		for (uint64_t i = index; i < index + n; i++)
			fetch->each[i].way = FL_WAY_ZEROS;
	}
}

static void zeros(struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	struct fl_fetch *fetch = read->ctx;
	uint64_t page_size = page_size_of(fetch), at = offset, end = offset + len_bytes, part;

	for (; at < end; at += part) {
		uint64_t index = (at - read->offset) / page_size;

		part = (end - at) / page_size * page_size;
		if (part && !((at - read->offset) % page_size))
			take_zeros(fetch, index, index + part / page_size, page_size);
		else
			part = write_zeros(read, at, end - at);
	}
	arrived(read, offset, len_bytes);
}

void fl_pieces_begin(struct fl_fetch *fetch)
{
	uint64_t units = fetch->read.len_bytes / UNIT_BYTES;

	fetch->pieces = true;
	fetch->came = false;
	memset(fetch->units, 0, (units + 63) / 64 * sizeof(*fetch->units));
	for (uint64_t i = 0; i < fetch->pages; i++)
		fetch->each[i].way = FL_WAY_UNKNOWN;
	fetch->read.place = place;
	fetch->read.arrived = arrived;
	fetch->read.zeros = zeros;
}

bool fl_pieces_drop_rest(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;
	uint64_t page_size = page_size_of(fetch);
	struct fl_place at;
	unsigned int waiters;

	if (!fetch->pieces || !fetch->listed)
		return fetch->pieces && fetch->came;
	for (uint64_t i = fetch->done; i < fetch->pages; i++) {
		uint64_t page = fetch->page + i;

		if (!fl_fetch_owns(fetch, page) || fl_pieces_has(fetch, page, page_size) ||
		    fl_layout_by_page(pager->parts.layout, page, &at) < 0)
			continue;
		fl_fill_again(pager, page);
		(void)fl_table_settle(pager->parts.table, page, fetch->claim, FL_ABSENT, &waiters);
		if (waiters)
			fl_pager_wake(pager, at.addr, page_size);
	}
	return true;
}
