/* SPDX-License-Identifier: MIT */

/*
 * Contents by another way than the link: a page worker's shared memory, or RMA. Theory of operation
 *
 * The way is a source (faultline/source.h) that the VMM makes of the other side's descriptor, and it has one
 * queue, in the same thread as everything else of the engine. Its descriptor is in the epoll set beside the
 * connections, and it is reaped where they are taken from. It is read for two:
 *
 *   - A round: RANGE names pages, which are read into the second mapping at once. They are torn until
 *     they are there, and ROUND_ACK waits for all. A wrong sum means that a page was written meanwhile:
 *     the read is done again page by page, and the pages that fail then are told by TORN.
 *   - The pager, from DUE_END on: incoming_source.c lends a slot, and the way's read has the same place()
 *     and arrived() as the slot's own. Only reads of which every page is due go by it: about
 *     anything else the outgoing side has to be asked.
 *
 * What cannot be read comes by the link: a read that fails is asked for there, page by page of what did not
 * come, and the pager does not notice. A wrong sum fails that read alone; any other error is the way's end,
 * what is under way is waited for and no more begun. A way that is silent for the timeout is
 * abandoned: once nothing is being written any more (fl_queue_quiesce(), of a device; a source with pieces writes
 * only when it is reaped) it is not heard again. Before the switch there is no need for such
 * patience: a way that fails ends the migration, and the machine runs where it was.
 *
 * A lost link changes nothing here. Pages go on coming by the way meanwhile; what came is told by RECEIVED.
 */

#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* Reads at a time; more than the pager has, of a window of any size. */
#define DEPTH 1024u
/* Of a round: so many reads of so many bytes, or one page. */
#define ROUND_READS 16u
#define ROUND_BYTES (512u * 1024)

static const char *name_of(enum fl_migrate_way kind)
{
	return kind == FL_MIGRATE_BY_WORKER ? "the page worker" : "libfabric";
}

static bool takes_pieces(const struct fl_incoming_way *way)
{
	return way->source->ops->flags & (FL_SOURCE_PIECES | FL_SOURCE_DIRECT);
}

/* --- beginning --- */

static int make_reads(struct fl_incoming *in)
{
	struct fl_incoming_way *way = &in->way;

	way->reads = calloc(DEPTH, sizeof(*way->reads));
	for (unsigned int i = DEPTH; way->reads && i-- > 0;) {
		way->reads[i].in = in;
		way->reads[i].next = way->free;
		way->free = &way->reads[i];
	}
	if (!way->reads || fl_pageset_new(&way->named, in->pages) ||
	    fl_pageset_new(&way->waiting, in->pages) || fl_pageset_new(&way->alone, in->pages))
		return -ENOMEM;
	return 0;
}

static int open_queue(struct fl_incoming *in)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct fl_incoming_way *way = &in->way;
	int err = make_reads(in);

	if (err)
		return err;
	err = fl_queue_open(way->source, DEPTH, &way->queue);
	if (err)
		return err;
	if (fl_queue_fd(way->queue) < 0)
		return -EOPNOTSUPP; /* nothing would tell when a read has ended */
	return epoll_ctl(in->epoll_fd, EPOLL_CTL_ADD, fl_queue_fd(way->queue), &event) < 0 ? -errno
											   : 0;
}

int fl_incoming_way_open(struct fl_incoming *in, const struct fl_frame *frame, const void *blob)
{
	enum fl_migrate_way kind = (enum fl_migrate_way)frame->id;
	struct fl_error err = {0};
	int code;

	if (in->way.kind || !(in->options.ways & (uint32_t)kind))
		return fl_incoming_break(in, -EBADMSG, "WAY: kind %u was not agreed upon",
					 frame->id);
	in->way.kind = kind;
	code = in->calls.way(in->ctx, kind, blob, frame->len, &in->way.source, &err);
	if (!code)
		code = open_queue(in);
	fl_alive_begin(&in->alive, in->options.timeout_ms,
		       fl_clock_ns()); /* nothing was heard meanwhile */
	if (code)
		return fl_incoming_break(in, code, "%s cannot be read by: %s", name_of(kind),
					 err.code ? err.text : strerrordesc_np(-code));
	atomic_store_explicit(&in->count.way, kind, memory_order_relaxed);
	return 0;
}

/* --- failing --- */

/* Nothing more is begun. In rounds that is the end. */
static void break_way(struct fl_incoming *in, int code)
{
	struct fl_incoming_way *way = &in->way;

	if (way->broken)
		return;
	way->broken = true;
	atomic_store_explicit(&in->count.way, FL_MIGRATE_BY_LINK, memory_order_relaxed);
	if (in->stage <= FL_STAGE_ROUNDS)
		(void)fl_incoming_break(in, code, "%s brings no pages: %s", name_of(way->kind),
					strerrordesc_np(-code));
	else
		fl_log(&in->options.log, FL_LOG_WARNING,
		       "%s brings no more pages: %s; the rest comes by the link",
		       name_of(way->kind), strerrordesc_np(-code));
}

static void read_failed(struct fl_incoming *in, const struct fl_read *read)
{
	if (read->result != -EBADMSG) {
		break_way(in, read->result);
		return;
	}
	if (!in->way.told)
		fl_log(&in->options.log, FL_LOG_WARNING,
		       "%s: wrong sum of the contents at offset 0x%" PRIx64
		       "; what fails so is asked for by the link, and not logged again",
		       name_of(in->way.kind), read->offset);
	in->way.told = true;
}

static struct fl_incoming_way_read *get_read(struct fl_incoming_way *way)
{
	struct fl_incoming_way_read *read = way->free;

	if (!read)
		return NULL;
	way->free = read->next;
	read->busy = true;
	if (!way->busy++)
		way->progress_ns = fl_clock_ns();
	return read;
}

static void put_read(struct fl_incoming_way *way, struct fl_incoming_way_read *read)
{
	read->busy = false;
	read->slot = NULL;
	read->next = way->free;
	way->free = read;
	way->busy--;
}

/* --- rounds --- */

static void round_done(struct fl_read *read);

/* As far as one read goes: of one region, and of a page that goes alone only that. */
static uint64_t round_run(const struct fl_incoming *in, uint64_t page, uint64_t run,
			  struct fl_place *place)
{
	uint64_t limit, n = 1;

	(void)fl_layout_by_page(in->shape, page, place);
	limit = ROUND_BYTES / place->region->page_size;
	if (limit > run)
		limit = run;
	if (limit > place->pages_left)
		limit = place->pages_left;
	if (fl_pageset_has(in->way.alone, page))
		return 1;
	while (n < limit && !fl_pageset_has(in->way.alone, page + n))
		n++;
	return n;
}

static bool begin_round_read(struct fl_incoming *in, uint64_t page, uint64_t run)
{
	struct fl_incoming_way_read *mine;
	struct fl_incoming_side side = {.in = in};
	struct fl_place place = {0};
	uint64_t pages = round_run(in, page, run, &place), len = pages * place.region->page_size;
	char *at;
	int err;

	(void)fl_incoming_page(in, place.offset);
	at = in->last_region->alias + (place.offset - in->last_region->offset);
	if (fl_incoming_populate(&side, at, place.offset, len) < 0)
		return false;
	mine = get_read(&in->way);
	if (!mine)
		return false;
	mine->read = (struct fl_read){.buf = at,
				      .offset = place.offset,
				      .len_bytes = len,
				      .flags = FL_READ_FILL,
				      .done = round_done,
				      .ctx = mine};
	err = fl_queue_submit(in->way.queue, &mine->read);
	if (err) {
		put_read(&in->way, mine);
		break_way(in, err);
		return false;
	}
	(void)fl_pageset_del(in->way.waiting, page, pages);
	return true;
}

static void pump_round(struct fl_incoming *in)
{
	uint64_t page = 0, run;

	while (!in->way.broken && !in->broken.code && in->way.busy < ROUND_READS) {
		run = fl_pageset_run(in->way.waiting, &page);
		if (!run || !begin_round_read(in, page, run))
			return;
	}
}

/* Each page by itself: one of them was written, the others may be right. */
static void read_alone(struct fl_incoming *in, uint64_t page, uint64_t pages)
{
	(void)fl_pageset_add(in->way.alone, page, pages);
	(void)fl_pageset_add(in->way.waiting, page, pages);
}

static void round_came(struct fl_incoming *in, const struct fl_read *read, uint64_t page,
		       uint64_t pages)
{
	struct fl_incoming_side side = {.in = in};

	(void)fl_pageset_del(in->way.named, page, pages);
	(void)fl_pageset_del(in->way.alone, page, pages);
	(void)fl_incoming_round_pages(&side, read->offset, read->len_bytes, !read->result);
	if (!read->result)
		fl_incoming_count(&in->count.by_way, pages);
}

static void round_done(struct fl_read *read)
{
	struct fl_incoming_way_read *mine = read->ctx;
	struct fl_incoming *in = mine->in;
	uint64_t page = fl_incoming_page(in, read->offset);
	uint64_t pages = read->len_bytes / in->last_region->page_size;

	in->way.progress_ns = fl_clock_ns();
	put_read(&in->way, mine);
	if (read->result && read->result != -EBADMSG)
		break_way(in, read->result);
	else if (read->result && pages > 1)
		read_alone(in, page, pages);
	else
		round_came(in, read, page, pages);
}

bool fl_incoming_way_has(const struct fl_incoming *in, const struct fl_incoming_range *range)
{
	uint64_t page = range->page;

	return in->way.named && fl_pageset_run(in->way.named, &page) &&
	       page < range->page + range->pages;
}

int fl_incoming_way_range(struct fl_incoming *in, const struct fl_incoming_range *range)
{
	(void)fl_pageset_del(in->received, range->page, range->pages);
	(void)fl_pageset_del(in->zeros, range->page, range->pages);
	(void)fl_pageset_add(in->torn, range->page, range->pages);
	(void)fl_pageset_add(in->way.named, range->page, range->pages);
	(void)fl_pageset_add(in->way.waiting, range->page, range->pages);
	pump_round(in);
	return in->broken.code;
}

bool fl_incoming_way_reads(const struct fl_incoming *in)
{
	return in->way.named && fl_pageset_count(in->way.named);
}

/* --- for the pager --- */

static void *slot_place(struct fl_read *read, uint64_t offset, uint64_t *len_bytes)
{
	struct fl_incoming_way_read *mine = read->ctx;

	return mine->slot ? fl_incoming_slot_place(mine->slot, offset, len_bytes) : NULL;
}

static void slot_arrived(struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	struct fl_incoming_way_read *mine = read->ctx;

	if (!mine->slot)
		return;
	mine->in->way.progress_ns = fl_clock_ns();
	fl_incoming_slot_arrived(mine->in, mine->slot, offset, len_bytes);
}

/* The slot may be another read's when this returns. */
static void slot_done(struct fl_read *read)
{
	struct fl_incoming_way_read *mine = read->ctx;
	struct fl_incoming_read *slot = mine->slot;
	struct fl_incoming *in = mine->in;
	int result = read->result;

	in->way.progress_ns = fl_clock_ns();
	put_read(&in->way, mine);
	if (result)
		read_failed(in, read);
	if (slot)
		fl_incoming_slot_over(in, slot, result, !takes_pieces(&in->way));
}

struct fl_incoming_way_read *fl_incoming_way_submit(struct fl_incoming *in,
						    struct fl_incoming_read *slot,
						    const struct fl_read *read)
{
	struct fl_incoming_way_read *mine;
	int err;

	if (!in->way.queue || in->way.broken || fl_incoming_way_reads(in))
		return NULL;
	mine = get_read(&in->way);
	if (!mine)
		return NULL;
	mine->slot = slot;
	mine->read = (struct fl_read){.buf = read->buf,
				      .offset = read->offset,
				      .len_bytes = read->len_bytes,
				      .flags = read->flags,
				      .done = slot_done,
				      .ctx = mine,
				      .place = slot_place,
				      .arrived = slot_arrived};
	err = fl_queue_submit(in->way.queue, &mine->read);
	if (!err)
		return mine;
	put_read(&in->way, mine);
	if (err != -EBUSY)
		break_way(in, err);
	return NULL;
}

/* --- the engine's side --- */

void fl_incoming_way_reap(struct fl_incoming *in)
{
	struct fl_incoming_way *way = &in->way;

	if (!way->queue || way->abandoned)
		return;
	(void)fl_queue_reap(way->queue);
	if (way->named)
		pump_round(in);
}

uint64_t fl_incoming_way_due(const struct fl_incoming *in)
{
	if (!in->way.busy || in->way.abandoned)
		return UINT64_MAX;
	return in->way.progress_ns + in->options.timeout_ms * FL_NS_PER_MS;
}

/* What is under way is the link's from here on. */
static void abandon(struct fl_incoming *in)
{
	struct fl_incoming_way *way = &in->way;

	way->abandoned = true;
	(void)epoll_ctl(in->epoll_fd, EPOLL_CTL_DEL, fl_queue_fd(way->queue), NULL);
	for (unsigned int i = 0; i < DEPTH; i++) {
		struct fl_incoming_way_read *read = &way->reads[i];
		struct fl_incoming_read *slot = read->slot;

		if (!read->busy)
			continue;
		fl_queue_quiesce(way->queue, &read->read);
		read->slot = NULL;
		if (slot)
			fl_incoming_slot_over(in, slot, -ETIMEDOUT, false);
	}
}

void fl_incoming_way_check(struct fl_incoming *in, uint64_t now_ns)
{
	if (now_ns < fl_incoming_way_due(in))
		return;
	break_way(in, -ETIMEDOUT);
	abandon(in);
}

void fl_incoming_way_close(struct fl_incoming *in)
{
	struct fl_incoming_way *way = &in->way;

	fl_queue_close(way->queue);
	fl_source_close(way->source);
	way->queue = NULL;
	way->source = NULL;
	free(way->reads);
	way->reads = way->free = NULL;
	fl_pageset_free(way->named);
	fl_pageset_free(way->waiting);
	fl_pageset_free(way->alone);
	way->named = way->waiting = way->alone = NULL;
}
