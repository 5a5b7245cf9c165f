/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/clock.h"
#include "util/log.h"

/* How the pool is divided up. */
struct shape {
	uint64_t largest, smallest; /* page sizes */
	uint64_t demand_len, fill_len;
	unsigned int fill_slots;
};

static struct shape shape_of(const struct fl_pager *pager)
{
	const struct fl_layout *layout = pager->parts.layout;
	struct shape shape = {.smallest = UINT64_MAX};

	for (size_t i = 0; i < fl_layout_count(layout); i++) {
		uint64_t size = fl_layout_region(layout, i)->page_size;

		shape.largest = size > shape.largest ? size : shape.largest;
		shape.smallest = size < shape.smallest ? size : shape.smallest;
	}
	shape.demand_len = pager->options.around_bytes;
	if (shape.demand_len < shape.largest)
		shape.demand_len = shape.largest;
	shape.fill_len = pager->fill_bytes;
	if (shape.fill_len < shape.largest)
		shape.fill_len = shape.largest;
	shape.fill_slots = (unsigned int)(pager->options.window_bytes / pager->fill_bytes);
	if (shape.largest > FL_AROUND_MAX)
		shape.fill_slots = 1;
	return shape;
}

static void push_free(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_fetch **list = fetch->fill ? &pager->free_fill : &pager->free_demand;

	/* Last in, first out: the buffer used next is the one that is warm. */
	fetch->next = *list;
	*list = fetch;
}

static uint64_t unit_words(uint64_t len)
{
	return (len / UNIT_BYTES + 63) / 64;
}

/* Each fetch gets its share of what is had for all of them; the one of adopt needs no buffer. */
static void share_out(struct fl_pager *pager, const struct shape *shape)
{
	struct fl_fetch_page *each = pager->each;
	uint64_t *units = pager->units;
	char *buf = pager->arena;

	for (unsigned int i = 0; i < pager->fetch_count; i++) {
		struct fl_fetch *fetch = &pager->fetches[i];
		uint64_t len = i < pager->demand_slots ? shape->demand_len : shape->fill_len;

		*fetch = (struct fl_fetch){.pager = pager,
					   .fill = i >= pager->demand_slots,
					   .buf = buf,
					   .each = each,
					   .units = units};
		buf += len;
		each += len / shape->smallest;
		units += pager->units ? unit_words(len) : 0;
	}
	pager->adopt.fetch = &pager->fetches[pager->fetch_count - 1];
	pager->adopt.fetch->buf = NULL;
	for (unsigned int i = pager->fetch_count - 1; i-- > 0;)
		push_free(&pager->fetches[i]);
}

int fl_fetch_pool_new(struct fl_pager *pager)
{
	struct shape shape;

	pager->fill_bytes = FILL_BYTES;
	if (pager->fill_bytes > pager->options.window_bytes)
		pager->fill_bytes = pager->options.window_bytes / UNIT_BYTES * UNIT_BYTES;
	pager->pieces = pager->parts.source->ops->flags & FL_SOURCE_PIECES;
	shape = shape_of(pager);
	pager->demand_slots = shape.largest > FL_AROUND_MAX ? 2 : DEMAND_SLOTS;
	pager->fetch_count = pager->demand_slots + shape.fill_slots + 1;
	pager->fetches = calloc(pager->fetch_count, sizeof(*pager->fetches));
	pager->arena_len =
		shape.demand_len * pager->demand_slots + shape.fill_len * shape.fill_slots;
	pager->arena = mmap(NULL, pager->arena_len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!shape.smallest) /* a layout has at least one region */
		return -EINVAL;
	pager->each = calloc(pager->arena_len / shape.smallest + ADOPT_PAGES, sizeof(*pager->each));
	if (pager->pieces)
		pager->units = calloc(unit_words(shape.demand_len) * pager->demand_slots +
					      unit_words(shape.fill_len) * (shape.fill_slots + 1),
				      sizeof(*pager->units));
	if (!pager->fetches || pager->arena == MAP_FAILED || !pager->each ||
	    (pager->pieces && !pager->units))
		return -ENOMEM;
	share_out(pager, &shape);
	return 0;
}

void fl_fetch_pool_free(struct fl_pager *pager)
{
	for (unsigned int i = 0; pager->fetches && i < pager->fetch_count; i++) {
		if (pager->fetches[i].busy)
			fl_fetch_give_up(&pager->fetches[i]);
	}
	if (pager->arena && pager->arena != MAP_FAILED)
		(void)munmap(pager->arena, pager->arena_len);
	free(pager->fetches);
	free(pager->each);
	free(pager->units);
}

void fl_fetch_pool_trim(struct fl_pager *pager)
{
	(void)madvise(pager->arena, pager->arena_len, MADV_DONTNEED);
}

struct fl_fetch *fl_fetch_get(struct fl_pager *pager, bool demand)
{
	struct fl_fetch **list = demand ? &pager->free_demand : &pager->free_fill;
	struct fl_fetch *fetch = *list;

	if (fetch)
		*list = fetch->next;
	return fetch;
}

struct fl_fetch *fl_fetch_of(struct fl_pager *pager, uint64_t page)
{
	for (unsigned int i = 0; i < pager->fetch_count; i++) {
		struct fl_fetch *fetch = &pager->fetches[i];

		if (fetch->busy && page >= fetch->page + fetch->done &&
		    page < fetch->page + fetch->pages && fl_fetch_owns(fetch, page))
			return fetch;
	}
	return NULL;
}

void fl_fetch_begin(struct fl_fetch *fetch, uint64_t page, enum fl_claim claim)
{
	fetch->next = NULL;
	fetch->busy = true;
	fetch->zeros = false;
	fetch->placed = false;
	fetch->poison = false;
	fetch->replay = false;
	fetch->adopted = false;
	fetch->pieces = false;
	fetch->claim = claim;
	fetch->kind = claim == FL_CLAIM_ZERO ? FL_FAULT_ZERO : FL_FAULT_HIT;
	fetch->page = page;
	fetch->pages = 1;
	fetch->done = 0;
	fetch->demand = NO_PAGE;
	fetch->since_ns = 0;
	fetch->joined = 0;
	fetch->tries = 0;
	fetch->starved = 0;
	fetch->due_ns = 0;
	fetch->from = fetch->buf;
}

uint64_t fl_fetch_waited(struct fl_fetch *fetch)
{
	if (fetch->demand != NO_PAGE && fl_fetch_owns(fetch, fetch->demand))
		return fetch->demand;
	for (uint64_t i = fetch->done; fetch->joined && i < fetch->pages; i++) {
		if (fetch->each[i].joined && fl_fetch_owns(fetch, fetch->page + i))
			return fetch->page + i;
	}
	return NO_PAGE;
}

/* What is noted of each page goes along with it. Who waited for the others is not counted. */
static void keep_only(struct fl_fetch *fetch, uint64_t page, uint64_t pages)
{
	uint64_t kept = 0;

	memmove(fetch->each, fl_fetch_page(fetch, page), pages * sizeof(*fetch->each));
	memset(fetch->each + pages, 0, (fetch->pages - pages) * sizeof(*fetch->each));
	for (uint64_t i = 0; i < pages; i++)
		kept += fetch->each[i].joined;
	fetch->joined = kept;
	fetch->page = page;
	fetch->pages = pages;
	fetch->done = 0;
}

void fl_fetch_cut_down(struct fl_fetch *fetch, uint64_t page, uint64_t pages)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_place place;
	unsigned int waiters;

	for (uint64_t i = fetch->done; i < fetch->pages; i++) {
		uint64_t at = fetch->page + i;

		if (at >= page && at < page + pages)
			continue;
		if (fl_table_settle(pager->parts.table, at, fetch->claim, FL_ABSENT, &waiters) <
			    0 ||
		    !waiters || fl_layout_by_page(pager->parts.layout, at, &place) < 0)
			continue;
		fl_pager_wake(pager, place.addr, place.region->page_size);
	}
	keep_only(fetch, page, pages);
}

void fl_fetch_give_up(struct fl_fetch *fetch)
{
	fl_fetch_cut_down(fetch, fetch->page, 0);
	fetch->busy = false;
}

void fl_fetch_free(struct fl_fetch *fetch)
{
	fetch->busy = false;
	if (fetch->joined) /* for pages that were given back */
		memset(fetch->each, 0, fetch->pages * sizeof(*fetch->each));
	fetch->joined = 0;
	if (fetch != fetch->pager->adopt.fetch)
		push_free(fetch);
}

static bool try_read(struct fl_fetch *fetch, uint64_t page, uint64_t pages)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_place place;
	uint64_t len;
	void *direct;

	(void)fl_layout_by_page(pager->parts.layout, page, &place);
	len = pages * place.region->page_size;
	direct = fl_install_place(pager->parts.install, place.addr, len);
	fetch->placed = direct != NULL;
	fetch->from = direct ? direct : fetch->buf;
	return fl_queue_try(pager->queue, fetch->from, len, place.offset) == 0;
}

bool fl_fetch_read_now(struct fl_fetch *fetch)
{
	if (try_read(fetch, fetch->page, fetch->pages))
		return true;
	if (fetch->demand == NO_PAGE || fetch->pages == 1)
		return false;
	if (!try_read(fetch, fetch->demand, 1))
		return false;
	fl_fetch_cut_down(fetch, fetch->demand, 1);
	return true;
}

/* One page may be what cannot be read: halves of the run are tried, down to that page, which is
 * left for a demand to try; the other pages come later. In a stretch that fails all over, whole
 * runs are left. */
static void fill_failed(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;
	uint64_t half = fetch->pages / 2;

	if (!half || ++pager->fill.failures > FILL_FAILURES) {
		fl_fetch_give_up(fetch);
		fl_fetch_free(fetch);
		return;
	}
	fl_fill_again(pager, fetch->page + half);
	fl_fetch_cut_down(fetch, fetch->page, half);
	fl_fetch_submit(fetch);
}

/* A read of which a part has come failed. That part stays, what nobody waits for comes again. */
static void rest_failed(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;

	fl_fill_again(pager, fetch->page + fetch->done);
	fl_fetch_give_up(fetch);
	fl_fetch_free(fetch);
}

/* A read failed for good. The page that is waited for is tried alone, since a neighbour may be what
 * cannot be read; then it is poisoned. */
static void read_failed(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;
	bool partly = fl_pieces_drop_rest(fetch);
	uint64_t waited;

	fl_count(&pager->count.errors, 1);
	if (fetch->listed)
		return; /* what has come is still to be installed */
	waited = fl_fetch_waited(fetch);
	if (waited != fetch->demand)
		fetch->since_ns = 0;
	fetch->demand = waited;
	if (waited == NO_PAGE && fetch->fill && !partly) {
		fill_failed(fetch);
	} else if (waited == NO_PAGE) {
		rest_failed(fetch);
	} else if (fetch->pages > 1) {
		fl_fill_again(pager, fetch->page);
		fl_fetch_cut_down(fetch, fetch->demand, 1);
		fl_fetch_submit(fetch);
	} else {
		fl_fetch_poison(fetch, "cannot be read", fetch->read.result);
		fl_fetch_ready(fetch);
	}
}

static void read_done(struct fl_read *read)
{
	struct fl_fetch *fetch = read->ctx;

	fetch->reading = false;
	fetch->pager->reading--;
	if (!fetch->fill)
		fetch->pager->reading_demand--;
	if (fetch->pieces && !read->result && !fl_pieces_all(fetch))
		read->result = -EPROTO; /* it says that all is there, and did not bring it */
	if (read->result < 0) {
		read_failed(fetch);
		return;
	}
	if (fetch->fill)
		fetch->pager->fill.failures = 0;
	if (fetch->listed)
		return;
	fl_fetch_ready(fetch);
}

void fl_fetch_submit(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_place place;
	int err;

	(void)fl_layout_by_page(pager->parts.layout, fetch->page, &place);
	/* Not into the second mapping: a page of it that is removed meanwhile may be zeros, and
	 * visible, before the device has finished writing. */
	fetch->placed = false;
	fetch->from = fetch->buf;
	if (fetch->kind == FL_FAULT_HIT)
		fetch->kind = FL_FAULT_MISS;
	fetch->read = (struct fl_read){
		.buf = fetch->buf,
		.offset = place.offset,
		.len_bytes = fetch->pages * place.region->page_size,
		.flags = fetch->demand == NO_PAGE ? FL_READ_FILL : 0,
		.done = read_done,
		.ctx = fetch,
	};
	if (pager->pieces)
		fl_pieces_begin(fetch);
	err = fl_queue_submit(pager->queue, &fetch->read);
	if (err < 0) { /* the queue has room for all fetches, so this is a source that broke */
		fetch->read.result = err;
		read_failed(fetch);
		return;
	}
	fetch->reading = true;
	pager->reading++;
	if (!fetch->fill)
		pager->reading_demand++;
}

static void append(struct fl_fetch_list *list, struct fl_fetch *fetch)
{
	fetch->next = NULL;
	fetch->listed = true;
	*list->tail = fetch;
	list->tail = &fetch->next;
}

/* Takes the whole list out, to be walked while fetches come back to it. */
static struct fl_fetch *take_all(struct fl_fetch_list *list)
{
	struct fl_fetch *head = list->head;

	list->head = NULL;
	list->tail = &list->head;
	return head;
}

void fl_fetch_serve_one(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;

	fetch->listed = false;
	switch (fl_fetch_install(fetch, UINT64_MAX)) {
	case FL_PROGRESS_DONE:
		fl_fetch_free(fetch);
		break;
	case FL_PROGRESS_READING:
		break;
	case FL_PROGRESS_MORE:
	case FL_PROGRESS_LATER:
		append(&pager->ready_demand, fetch);
		break;
	}
}

void fl_fetch_ready(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;

	if (fetch->zeros && fetch->kind == FL_FAULT_HIT)
		fetch->kind = FL_FAULT_ZERO;
	if (fetch->demand == NO_PAGE && !fetch->pieces)
		append(&pager->ready_fill, fetch);
	else
		fl_fetch_serve_one(fetch);
}

void fl_fetch_serve(struct fl_pager *pager)
{
	struct fl_fetch *fetch = take_all(&pager->ready_demand), *next;
	uint64_t now_ns = fetch ? fl_clock_ns() : 0;

	for (; fetch; fetch = next) {
		next = fetch->next;
		if (fetch->due_ns > now_ns || pager->failed)
			append(&pager->ready_demand, fetch);
		else
			fl_fetch_serve_one(fetch);
	}
}

bool fl_fetch_waits(const struct fl_pager *pager)
{
	/* What stays ready as a demand could not be installed. */
	return pager->ready_demand.head ||
	       (pager->ready_fill.head && pager->ready_fill.head->tries);
}

static bool unlink_ready(struct fl_fetch_list *list, struct fl_fetch *fetch)
{
	struct fl_fetch *at = take_all(list), *next;
	bool found = false;

	for (; at; at = next) {
		next = at->next;
		if (at == fetch)
			found = true;
		else
			append(list, at);
	}
	return found;
}

/* Only what was not asked for by a fault can be hurried, and what has come need not be. */
static void hurry(struct fl_fetch *fetch, uint64_t page)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_place place;

	if (!(fetch->read.flags & FL_READ_FILL) ||
	    fl_layout_by_page(pager->parts.layout, page, &place) < 0 ||
	    (fetch->pieces && fl_pieces_has(fetch, page, place.region->page_size)))
		return;
	fl_queue_hurry(pager->queue, &fetch->read, place.offset, place.region->page_size);
}

void fl_fetch_join(struct fl_fetch *fetch, uint64_t page, uint64_t now_ns)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_fetch_page *each = fl_fetch_page(fetch, page);
	bool first = !each->joined++;

	fetch->joined++;
	if (first)
		each->joined_ns = now_ns;
	if (first && fetch->reading)
		hurry(fetch, page);
	if (fetch->demand != NO_PAGE || fetch->pieces)
		return;
	/* It was read, and is being installed step by step: now all of it at once. */
	fetch->demand = page;
	fetch->since_ns = 0;
	if (unlink_ready(&pager->ready_fill, fetch))
		fl_fetch_serve_one(fetch);
}
