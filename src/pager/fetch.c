/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/clock.h"
#include "util/log.h"

static uint64_t largest_page(const struct fl_layout *layout)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < fl_layout_count(layout); i++) {
		if (fl_layout_region(layout, i)->page_size > largest)
			largest = fl_layout_region(layout, i)->page_size;
	}
	return largest;
}

static void push_free(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;
	struct fl_fetch **list = fetch->fill ? &pager->free_fill : &pager->free_demand;

	/* Last in, first out: the buffer used next is the one that is warm. */
	fetch->next = *list;
	*list = fetch;
}

int fl_fetch_pool_new(struct fl_pager *pager)
{
	uint64_t page = largest_page(pager->parts.layout);
	uint64_t around = pager->options.around_bytes;
	uint64_t demand_len = page > around ? page : around;
	uint64_t fill_len = page > FILL_BYTES ? page : FILL_BYTES;
	unsigned int fill_slots = page > FL_AROUND_MAX ? 1 : FILL_SLOTS;
	char *buf;

	pager->demand_slots = page > FL_AROUND_MAX ? 2 : DEMAND_SLOTS;
	pager->fetch_count = pager->demand_slots + fill_slots;
	pager->fetches = calloc(pager->fetch_count, sizeof(*pager->fetches));
	pager->arena_len = demand_len * pager->demand_slots + fill_len * fill_slots;
	pager->arena = mmap(NULL, pager->arena_len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!pager->fetches || pager->arena == MAP_FAILED)
		return -ENOMEM;
	buf = pager->arena + pager->arena_len;
	for (unsigned int i = pager->fetch_count; i-- > 0;) {
		struct fl_fetch *fetch = &pager->fetches[i];

		fetch->pager = pager;
		fetch->fill = i >= pager->demand_slots;
		buf -= fetch->fill ? fill_len : demand_len;
		fetch->buf = buf;
		push_free(fetch);
	}
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
		    page < fetch->page + fetch->pages)
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
	fetch->claim = claim;
	fetch->kind = claim == FL_CLAIM_ZERO ? FL_FAULT_ZERO : FL_FAULT_HIT;
	fetch->page = page;
	fetch->pages = 1;
	fetch->done = 0;
	fetch->demand = NO_PAGE;
	fetch->joined = 0;
	fetch->tries = 0;
	fetch->starved = 0;
	fetch->due_ns = 0;
	fetch->from = fetch->buf;
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
	fetch->page = page;
	fetch->pages = pages;
	fetch->done = 0;
}

void fl_fetch_give_up(struct fl_fetch *fetch)
{
	fl_fetch_cut_down(fetch, fetch->page, 0);
	fetch->busy = false;
}

void fl_fetch_free(struct fl_fetch *fetch)
{
	fetch->busy = false;
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

/* A read failed for good. The page that is waited for is tried alone, since a neighbour may be what
 * cannot be read; then it is poisoned. */
static void read_failed(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;

	fl_count(&pager->count.errors, 1);
	if (fetch->demand == NO_PAGE) {
		fill_failed(fetch);
	} else if (!fl_table_owns(pager->parts.table, fetch->demand, fetch->claim)) {
		fl_fill_again(pager, fetch->page);
		fl_fetch_give_up(fetch);
		fl_fetch_free(fetch);
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

	fetch->pager->reading--;
	if (!fetch->fill)
		fetch->pager->reading_demand--;
	if (read->result < 0) {
		read_failed(fetch);
		return;
	}
	if (fetch->demand == NO_PAGE)
		fetch->pager->fill.failures = 0;
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
	err = fl_queue_submit(pager->queue, &fetch->read);
	if (err < 0) { /* the queue has room for all fetches, so this is a source that broke */
		fetch->read.result = err;
		read_failed(fetch);
		return;
	}
	pager->reading++;
	if (!fetch->fill)
		pager->reading_demand++;
}

static void append(struct fl_fetch_list *list, struct fl_fetch *fetch)
{
	fetch->next = NULL;
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

static void serve_one(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;

	if (fl_fetch_install(fetch, UINT64_MAX) == FL_PROGRESS_DONE)
		fl_fetch_free(fetch);
	else
		append(&pager->ready_demand, fetch);
}

void fl_fetch_ready(struct fl_fetch *fetch)
{
	struct fl_pager *pager = fetch->pager;

	if (fetch->zeros && fetch->kind == FL_FAULT_HIT)
		fetch->kind = FL_FAULT_ZERO;
	if (fetch->demand == NO_PAGE)
		append(&pager->ready_fill, fetch);
	else
		serve_one(fetch);
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
			serve_one(fetch);
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

void fl_fetch_join(struct fl_fetch *fetch, uint64_t page, uint64_t now_ns)
{
	struct fl_pager *pager = fetch->pager;

	if (!fetch->joined++)
		fetch->joined_ns = now_ns;
	if (fetch->demand != NO_PAGE)
		return;
	/* It was read, and is being installed step by step: now all of it at once. */
	fetch->demand = page;
	fetch->since_ns = 0;
	if (unlink_ready(&pager->ready_fill, fetch))
		serve_one(fetch);
}
