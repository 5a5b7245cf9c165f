/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"

#include "util/clock.h"

void fl_fill_start(struct fl_pager *pager)
{
	pager->fill.on = true;
}

void fl_fill_again(struct fl_pager *pager, uint64_t page)
{
	if (page < pager->fill.cursor)
		pager->fill.cursor = page;
}

static void sort(uint64_t *pages, unsigned int count)
{
	/* Insertion sort: a working set is nearly in order within a batch, and qsort(3) may
	 * allocate. */
	for (unsigned int i = 1; i < count; i++) {
		uint64_t page = pages[i];
		unsigned int at = i;

		for (; at && pages[at - 1] > page; at--)
			pages[at] = pages[at - 1];
		pages[at] = page;
	}
}

/* Takes the pages that still lack out of the next stretch of the working set, in image order. */
static bool next_batch(struct fl_pager *pager)
{
	const struct fl_wset *set = pager->options.replay;
	struct fl_fill *fill = &pager->fill;
	struct fl_place place;

	fill->batch_at = 0;
	fill->batch_len = 0;
	while (fill->batch_len < REPLAY_BATCH && fill->replay_next < fl_wset_count(set)) {
		uint64_t offset = fl_wset_offset(set, fill->replay_next++);

		if (fl_layout_by_offset(pager->parts.layout, offset, &place) == 0 &&
		    fl_table_state(pager->parts.table, place.page) == FL_ABSENT)
			fill->batch[fill->batch_len++] = place.page;
	}
	sort(fill->batch, fill->batch_len);
	return fill->batch_len > 0;
}

/* The next run of the working set, or 0. */
static uint64_t replay_run(struct fl_pager *pager, uint64_t *page)
{
	struct fl_fill *fill = &pager->fill;
	uint64_t count = 1;

	if (!pager->options.replay || (fill->batch_at == fill->batch_len && !next_batch(pager)))
		return 0;
	*page = fill->batch[fill->batch_at++];
	while (fill->batch_at < fill->batch_len && fill->batch[fill->batch_at] <= *page + count) {
		if (fill->batch[fill->batch_at++] == *page + count)
			count++;
	}
	return count;
}

/* What was not used of the run that replay_run() returned: the last pages of it come again. */
static void replay_unused(struct fl_pager *pager, uint64_t next, uint64_t end)
{
	struct fl_fill *fill = &pager->fill;

	for (; next < end && fill->batch_at; end--)
		fill->batch[--fill->batch_at] = end - 1;
}

/* Claims up to a number of bytes of a run, as long as it is absent, in one region, and alike in the
 * image. The fetch knows then what it has to do. */
static void claim_run(struct fl_fetch *fetch, uint64_t page, uint64_t count, uint64_t len_bytes)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_extent extent;
	struct fl_place place;
	uint64_t limit;

	(void)fl_layout_by_page(pager->parts.layout, page, &place);
	limit = len_bytes / place.region->page_size;
	limit = limit ? limit : 1;
	limit = limit < count ? limit : count;
	limit = limit < place.pages_left ? limit : place.pages_left;
	fl_source_extent(pager->parts.source, place.offset, &extent);
	fetch->zeros = extent.zeros && extent.len_bytes >= place.region->page_size;
	extent.len_bytes /= place.region->page_size;
	extent.len_bytes = extent.len_bytes ? extent.len_bytes : 1;
	limit = limit < extent.len_bytes ? limit : extent.len_bytes;
	while (fetch->pages < limit &&
	       fl_table_state(pager->parts.table, page + fetch->pages) == FL_ABSENT) {
		(void)fl_table_claim(pager->parts.table, page + fetch->pages, FL_WAITER_NONE);
		fetch->pages++;
	}
}

/* Starts to fetch a run: what the source has at hand is installed by this step already; a read that
 * takes time is made long. Returns how many pages of the run were taken on. */
static uint64_t fetch_run(struct fl_pager *pager, uint64_t page, uint64_t count, bool replay)
{
	struct fl_fetch *fetch = fl_fetch_get(pager, false);

	fl_fetch_begin(fetch, page, FL_CLAIM_FETCH);
	fetch->pages = 0;
	fetch->replay = replay;
	claim_run(fetch, page, count, STEP_BYTES);
	if (!fetch->pages) {
		fl_fetch_free(fetch);
		return 1;
	}
	if (fetch->zeros || fl_fetch_read_now(fetch)) {
		fl_fetch_ready(fetch);
		return fetch->pages;
	}
	claim_run(fetch, page, count, FILL_BYTES);
	count = fetch->pages;
	fl_fetch_submit(fetch);
	return count;
}

static bool start_one(struct fl_pager *pager)
{
	struct fl_fill *fill = &pager->fill;
	uint64_t page, taken, count = replay_run(pager, &page);

	if (count) {
		taken = fetch_run(pager, page, count, true);
		replay_unused(pager, page + taken, page + count);
		return true;
	}
	if (!fill->on || fill->cursor == pager->pages)
		return false;
	fill->cursor = fl_table_find(pager->parts.table, FL_ABSENT, fill->cursor, pager->pages);
	if (fill->cursor == pager->pages)
		return false;
	fill->cursor += fetch_run(pager, fill->cursor, UINT64_MAX, false);
	return true;
}

static bool install_one(struct fl_pager *pager)
{
	struct fl_fetch *fetch = pager->ready_fill.head;

	if (fetch->due_ns && fetch->due_ns > fl_clock_ns())
		return false;
	if (fl_fetch_install(fetch, STEP_BYTES) != FL_PROGRESS_DONE)
		return !fetch->due_ns;
	pager->ready_fill.head = fetch->next;
	if (!pager->ready_fill.head)
		pager->ready_fill.tail = &pager->ready_fill.head;
	fl_fetch_free(fetch);
	return true;
}

bool fl_fill_step(struct fl_pager *pager)
{
	if (pager->ready_fill.head)
		return install_one(pager);
	/* While a fault waits for the device, filling keeps only one read in its way. */
	if (!pager->free_fill || (pager->reading_demand && pager->reading > pager->reading_demand))
		return false;
	if (!start_one(pager))
		return false;
	if (pager->ready_fill.head)
		(void)install_one(pager);
	return true;
}
