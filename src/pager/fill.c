/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"
#include "pager/wset.h"

#include <string.h>

#include "util/clock.h"

/* How many pages of the plan are looked at before faults are again. */
#define PLAN_STEP 4096u

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

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
	if (page < pager->adopt.cursor) {
		pager->adopt.cursor = page;
		pager->adopt.on = true;
	}
}

void fl_fill_near(struct fl_pager *pager, const struct fl_place *place)
{
	struct fl_fill *fill = &pager->fill;
	uint64_t pages = NEAR_BYTES / place->region->page_size;

	if (!(pager->options.flags & FL_PAGER_NEAR) || !fill->on)
		return;
	memmove(&fill->near[1], &fill->near[0], sizeof(fill->near) - sizeof(fill->near[0]));
	fill->near[0].at = place->page + 1;
	fill->near[0].end =
		place->page + (pages < place->pages_left ? pages + 1 : place->pages_left);
}

/* The next absent page near one of the last faults; 0 when there is none. Every other read goes to
 * the rest, which must come to an end however many faults there are. */
static uint64_t near_run(struct fl_pager *pager, uint64_t *page)
{
	struct fl_fill *fill = &pager->fill;

	for (unsigned int i = 0; !fill->near_last && i < NEAR_FAULTS; i++) {
		*page = fl_table_find(pager->parts.table, FL_ABSENT, fill->near[i].at,
				      fill->near[i].end);
		fill->near[i].at = *page;
		if (*page < fill->near[i].end)
			return fill->near[i].end - *page;
	}
	return 0;
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
	       fl_table_state(pager->parts.table, page + fetch->pages) == FL_ABSENT &&
	       !fl_adopt_has(pager, page + fetch->pages)) {
		(void)fl_table_claim(pager->parts.table, page + fetch->pages, FL_WAITER_NONE);
		fetch->pages++;
	}
}

/* Goes on behind what is taken on, before it is read: that may fail, and set the cursor back. */
static void take_on(uint64_t *at, uint64_t pages)
{
	if (at)
		*at += pages;
}

/* Starts to fetch a run, as much of it as makes one read: what the source has at hand is installed
 * by this step already; a read that takes time is made long. at: what goes on behind it. */
static void fetch_run(struct fl_pager *pager, uint64_t page, uint64_t count, uint64_t *at)
{
	struct fl_fetch *fetch = fl_fetch_get(pager, false);

	fl_fetch_begin(fetch, page, FL_CLAIM_FETCH);
	fetch->pages = 0;
	fetch->replay = at == &pager->fill.run_at;
	claim_run(fetch, page, count, min_u64(STEP_BYTES, pager->fill_bytes));
	if (!fetch->pages) {
		fl_fetch_free(fetch);
		take_on(at, 1);
		return;
	}
	if (fetch->zeros || fl_fetch_read_now(fetch)) {
		take_on(at, fetch->pages);
		fl_fetch_ready(fetch);
		return;
	}
	claim_run(fetch, page, count, pager->fill_bytes);
	take_on(at, fetch->pages);
	fl_fetch_submit(fetch);
}

/* Is there something of the plan that was not looked at? */
static bool plan_left(const struct fl_pager *pager)
{
	return pager->options.replay &&
	       (pager->fill.replay_again ||
		pager->fill.replay_next < fl_wset_planned_count(pager->options.replay));
}

/* The run to begin with, in pages, and what is to go on behind it; 0 when there is none. */
static uint64_t next_run(struct fl_pager *pager, uint64_t *page, uint64_t **at)
{
	struct fl_fill *fill = &pager->fill;
	uint64_t count = replay_run(pager, page);

	*at = &fill->run_at;
	if (count || plan_left(pager) || !fill->on)
		return count;
	*at = NULL; /* what is near finds its place by what is absent */
	count = near_run(pager, page);
	fill->near_last = count;
	if (count)
		return count;
	*at = &fill->cursor;
	fill->cursor = fl_table_find(pager->parts.table, FL_ABSENT, fill->cursor, pager->pages);
	*page = fill->cursor;
	return pager->pages - fill->cursor;
}

static bool start_one(struct fl_pager *pager)
{
	uint64_t page, *at, count = next_run(pager, &page, &at);

	if (!count)
		return plan_left(pager);
	fetch_run(pager, page, count, at);
	return true;
}

static bool install_one(struct fl_pager *pager)
{
	struct fl_fetch *fetch = pager->ready_fill.head;
	uint64_t budget = STEP_BYTES;

	if (fetch->due_ns && fetch->due_ns > fl_clock_ns())
		return false;
	if (fetch->adopted)
		budget = UINT64_MAX;
	if (fl_fetch_install(fetch, budget) != FL_PROGRESS_DONE)
		return !fetch->due_ns;
	pager->ready_fill.head = fetch->next;
	if (!pager->ready_fill.head)
		pager->ready_fill.tail = &pager->ready_fill.head;
	fetch->listed = false;
	fl_fetch_free(fetch);
	return true;
}

/* While a fault waits for the device, filling keeps only one read in its way. A source that hands
 * out pieces has a way of its own for faults. */
static bool is_in_the_way(const struct fl_pager *pager)
{
	return !pager->pieces && pager->reading_demand && pager->reading > pager->reading_demand;
}

bool fl_fill_step(struct fl_pager *pager)
{
	if (pager->ready_fill.head)
		return install_one(pager);
	if (pager->adopt.on && fl_adopt_step(pager))
		return true;
	if (!pager->free_fill || is_in_the_way(pager))
		return false;
	if (!start_one(pager))
		return false;
	if (pager->ready_fill.head)
		(void)install_one(pager);
	return true;
}
