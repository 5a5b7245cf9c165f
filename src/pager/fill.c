/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"
#include "pager/wset.h"

#include "util/clock.h"

/* How many pages of the plan are looked at before faults are again. */
#define PLAN_STEP 4096u

/* Asked for once more, it tries again what could not be read. */
void fl_fill_start(struct fl_pager *pager)
{
	pager->fill.on = true;
	pager->fill.cursor = 0;
	pager->fill.failures = 0;
	pager->fill.replay_next = 0;
}

void fl_fill_again(struct fl_pager *pager, uint64_t page)
{
	if (page < pager->fill.cursor)
		pager->fill.cursor = page;
	pager->fill.replay_again = true;
}

/* The page that comes next in the plan of the working set, if the guest has it at all. */
static bool planned(struct fl_pager *pager, uint64_t index, struct fl_place *place)
{
	uint64_t offset = fl_wset_planned(pager->options.replay, index);

	return fl_layout_by_offset(pager->parts.layout, offset, place) == 0;
}

/* How many pages of the guest a page of the working set is: it may have been recorded from a guest
 * of huge pages. */
static uint64_t unit_pages(const struct fl_pager *pager, const struct fl_place *place)
{
	uint64_t unit = fl_wset_page_size(pager->options.replay) / place->region->page_size;

	if (!unit)
		return 1;
	return unit < place->pages_left ? unit : place->pages_left;
}

/* Puts together the next run of the plan: pages that follow each other, or nearly. There may be
 * none yet although there is more to look at. */
static void plan_run(struct fl_pager *pager)
{
	uint64_t count = fl_wset_planned_count(pager->options.replay);
	struct fl_fill *fill = &pager->fill;
	struct fl_place place;
	uint64_t end;

	if (fill->replay_next == count && fill->replay_again) {
		fill->replay_again = false;
		fill->replay_next = 0;
	}
	if (count > fill->replay_next + PLAN_STEP)
		count = fill->replay_next + PLAN_STEP;
	for (; fill->replay_next < count; fill->replay_next++) {
		if (!planned(pager, fill->replay_next, &place))
			continue;
		end = place.page + unit_pages(pager, &place);
		if (fl_table_find(pager->parts.table, FL_ABSENT, place.page, end) == end)
			continue;
		if (fill->run_at == fill->run_end)
			fill->run_at = fill->run_end = place.page;
		else if (place.page < fill->run_at || place.page > fill->run_end + REPLAY_GAP)
			return;
		if (end > fill->run_end)
			fill->run_end = end;
	}
}

/* The rest of the run that is being replayed, in pages; 0 when the working set is done. */
static uint64_t replay_run(struct fl_pager *pager, uint64_t *page)
{
	struct fl_fill *fill = &pager->fill;

	if (pager->options.replay && fill->run_at == fill->run_end)
		plan_run(pager);
	*page = fill->run_at;
	return fill->run_end - fill->run_at;
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

/* Goes on behind what is taken on, before it is read: that may fail, and set the cursor back. */
static void take_on(struct fl_fill *fill, uint64_t pages, bool replay)
{
	if (replay)
		fill->run_at += pages;
	else
		fill->cursor += pages;
}

/* Starts to fetch a run, as much of it as makes one read: what the source has at hand is installed
 * by this step already; a read that takes time is made long. */
static void fetch_run(struct fl_pager *pager, uint64_t page, uint64_t count, bool replay)
{
	struct fl_fetch *fetch = fl_fetch_get(pager, false);

	fl_fetch_begin(fetch, page, FL_CLAIM_FETCH);
	fetch->pages = 0;
	fetch->replay = replay;
	claim_run(fetch, page, count, STEP_BYTES);
	if (!fetch->pages) {
		fl_fetch_free(fetch);
		take_on(&pager->fill, 1, replay);
		return;
	}
	if (fetch->zeros || fl_fetch_read_now(fetch)) {
		take_on(&pager->fill, fetch->pages, replay);
		fl_fetch_ready(fetch);
		return;
	}
	claim_run(fetch, page, count, FILL_BYTES);
	take_on(&pager->fill, fetch->pages, replay);
	fl_fetch_submit(fetch);
}

/* Is there something of the plan that was not looked at? */
static bool plan_left(const struct fl_pager *pager)
{
	return pager->options.replay &&
	       (pager->fill.replay_again ||
		pager->fill.replay_next < fl_wset_planned_count(pager->options.replay));
}

static bool start_one(struct fl_pager *pager)
{
	struct fl_fill *fill = &pager->fill;
	uint64_t page, count = replay_run(pager, &page);

	if (count) {
		fetch_run(pager, page, count, true);
		return true;
	}
	if (plan_left(pager))
		return true;
	if (!fill->on || fill->cursor == pager->pages)
		return false;
	fill->cursor = fl_table_find(pager->parts.table, FL_ABSENT, fill->cursor, pager->pages);
	if (fill->cursor == pager->pages)
		return false;
	fetch_run(pager, fill->cursor, UINT64_MAX, false);
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
