/* SPDX-License-Identifier: MIT */

/*
 * The link as the pager's source. A read is outstanding until each of its units has come, by whichever
 * connection, in whichever frame. A unit is *asked* for, or *coming*: part of a PAGES frame that has begun.
 * An answer for anything else is an error: that each page travels once is what the other side's own book
 * depends on. When the connection is lost, what was coming is asked for again, of the next one.
 *
 * The queue's descriptor is the epoll set of both connections, and reaping is taking from them; so all
 * that the pager is given, it is given by fl_queue_reap(). What happens between two of those (a read that
 * needs no answer any more) waits for the next.
 */

#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WORDS (FL_WIRE_REQUEST_MAX / FL_WIRE_UNIT / 64)
/* Of the requests that may be unanswered, those that reads of their own leave for hurry. */
#define HURRIED_MAX 512u

struct fl_incoming_read {
	struct fl_read *read;
	struct fl_incoming_read *next;
	struct fl_incoming_way_read *by_way; /* that does all of it; NULL: it is the link's */
	uint64_t left;                       /* bytes that did not come */
	uint64_t asked[WORDS], coming[WORDS], hurried[WORDS], way[WORDS];
};

static struct fl_incoming *to_in(struct fl_queue *queue)
{
	return (struct fl_incoming *)(void *)((char *)queue -
					      offsetof(struct fl_incoming, source.queue));
}

static uint64_t unit_of(const struct fl_incoming_read *slot, uint64_t offset)
{
	return (offset - slot->read->offset) / FL_WIRE_UNIT;
}

static bool has(const uint64_t *bits, uint64_t unit)
{
	return bits[unit / 64] >> unit % 64 & 1;
}

static void put(uint64_t *bits, uint64_t unit)
{
	bits[unit / 64] |= UINT64_C(1) << unit % 64;
}

static void drop(uint64_t *bits, uint64_t unit)
{
	bits[unit / 64] &= ~(UINT64_C(1) << unit % 64);
}

static bool covers(const struct fl_incoming_read *slot, uint64_t offset)
{
	return offset >= slot->read->offset && offset - slot->read->offset < slot->read->len_bytes;
}

/* The read that waits for a unit, with that unit asked for or coming. */
static struct fl_incoming_read *slot_of(const struct fl_incoming *in, uint64_t offset, bool coming)
{
	struct fl_incoming_read *slot = in->source.reads;

	for (; slot; slot = slot->next)
		if (covers(slot, offset) &&
		    has(coming ? slot->coming : slot->asked, unit_of(slot, offset)))
			return slot;
	return NULL;
}

/* How far from a unit on the same holds, up to @len_bytes. */
static uint64_t run_of(const struct fl_incoming_read *slot, const uint64_t *bits, uint64_t offset,
		       uint64_t len_bytes)
{
	uint64_t end = slot->read->offset + slot->read->len_bytes, at = offset;

	if (len_bytes < end - offset)
		end = offset + len_bytes;
	while (at < end && has(bits, unit_of(slot, at)))
		at += FL_WIRE_UNIT;
	return at - offset;
}

/* --- asking --- */

static void request(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes)
{
	struct fl_incoming *in = side->in;
	struct fl_frame frame = {
		.type = FL_FRAME_REQUEST, .offset = offset, .bytes = (uint32_t)len_bytes};
	int err;

	if (!side->conn || in->broken.code || in->again != FL_AGAIN_NOTHING || in->source.ask)
		return; /* it is asked for when there is someone to ask */
	err = fl_conn_send(side->conn, &frame, NULL, 0);
	if (err < 0)
		(void)fl_conn_reason(side->conn, side->name, err, &in->broken);
}

static void progress(struct fl_incoming *in)
{
	in->source.progress_ns = fl_clock_ns();
}

/* What the outgoing side need not be asked about. */
static bool goes_by_way(struct fl_incoming *in, const struct fl_read *read)
{
	uint64_t page = fl_incoming_page(in, read->offset);

	return in->way.kind && in->adopted &&
	       fl_incoming_all_due(in, page, read->len_bytes / in->last_region->page_size);
}

/* Has the link something to answer? */
static const struct fl_incoming_read *owes(const struct fl_incoming *in)
{
	const struct fl_incoming_read *slot = in->source.reads;

	while (slot && slot->by_way)
		slot = slot->next;
	return slot;
}

static int submit(struct fl_queue *queue, struct fl_read *read)
{
	struct fl_incoming *in = to_in(queue);
	struct fl_incoming_read *slot = in->source.free;

	if (read->len_bytes > FL_WIRE_REQUEST_MAX)
		return -EINVAL;
	if (!slot)
		return -EBUSY;
	in->source.free = slot->next;
	*slot = (struct fl_incoming_read){
		.read = read, .next = in->source.reads, .left = read->len_bytes};
	if (goes_by_way(in, read))
		slot->by_way = fl_incoming_way_submit(in, slot, read);
	if (!slot->by_way && !owes(in))
		progress(in);
	for (uint64_t unit = 0; unit < read->len_bytes / FL_WIRE_UNIT; unit++)
		put(slot->by_way ? slot->way : slot->asked, unit);
	in->source.reads = slot;
	if (slot->by_way)
		return 0;
	request(read->flags & FL_READ_FILL ? &in->main : &in->demand, read->offset,
		read->len_bytes);
	return 0;
}

static struct fl_incoming_read *slot_of_read(const struct fl_incoming *in,
					     const struct fl_read *read)
{
	struct fl_incoming_read *slot = in->source.reads;

	while (slot && slot->read != read)
		slot = slot->next;
	return slot;
}

static bool hurry_way(struct fl_incoming *in, const struct fl_read *read, uint64_t offset,
		      uint64_t len_bytes)
{
	struct fl_incoming_read *slot = slot_of_read(in, read);

	if (!slot || !slot->by_way)
		return false;
	if (!has(slot->hurried, unit_of(slot, offset)) && in->source.hurried < HURRIED_MAX) {
		in->source.hurried++; /* should the link have to bring it after all */
		put(slot->hurried, unit_of(slot, offset));
	}
	fl_queue_hurry(in->way.queue, &slot->by_way->read, offset, len_bytes);
	return true;
}

static void quiesce(struct fl_queue *queue, struct fl_read *read)
{
	struct fl_incoming *in = to_in(queue);
	struct fl_incoming_read *slot = slot_of_read(in, read);

	if (slot && slot->by_way)
		fl_queue_quiesce(in->way.queue, &slot->by_way->read);
}

/* Only what was not begun: the rest is here as soon as anything could be. */
static void hurry(struct fl_queue *queue, struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	struct fl_incoming *in = to_in(queue);
	struct fl_incoming_read *slot;

	if (hurry_way(in, read, offset, len_bytes))
		return;
	slot = slot_of(in, offset, false);
	if (!slot || slot->read != read || has(slot->hurried, unit_of(slot, offset)) ||
	    in->source.hurried >= HURRIED_MAX)
		return;
	in->source.hurried++;
	put(slot->hurried, unit_of(slot, offset));
	request(&in->demand, offset, len_bytes);
}

static int attempt(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	(void)queue;
	(void)buf;
	(void)len_bytes;
	(void)offset;
	return -EAGAIN;
}

/* --- being answered --- */

static void unlink_slot(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	struct fl_incoming_read **at = &in->source.reads;

	while (*at != slot)
		at = &(*at)->next;
	*at = slot->next;
	slot->next = in->source.free;
	in->source.free = slot;
}

static void came(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t *bits,
		 uint64_t offset, uint64_t len_bytes)
{
	for (uint64_t at = offset; at < offset + len_bytes; at += FL_WIRE_UNIT) {
		drop(bits, unit_of(slot, at));
		if (has(slot->hurried, unit_of(slot, at))) {
			drop(slot->hurried, unit_of(slot, at));
			in->source.hurried--;
		}
	}
	slot->left -= len_bytes;
	if (bits != slot->way)
		progress(in);
}

static void end_if_all(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	struct fl_read *read = slot->read;

	if (slot->left || slot->by_way)
		return;
	unlink_slot(in, slot);
	in->source.ended++;
	read->result = 0;
	read->done(read);
}

/* Units that lie together came: in their place, or nowhere, where nobody wants them any more. */
static void deliver(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t *bits,
		    uint64_t offset, uint64_t len_bytes, bool placed)
{
	came(in, slot, bits, offset, len_bytes);
	if (placed && slot->read->arrived)
		slot->read->arrived(slot->read, offset, len_bytes);
	end_if_all(in, slot);
}

static void *place_of(const struct fl_incoming_read *slot, uint64_t offset, uint64_t *len_bytes)
{
	struct fl_read *read = slot->read;

	return read->place ? read->place(read, offset, len_bytes)
			   : (char *)read->buf + (offset - read->offset);
}

/* What the page cache has of these pages is about to be written over. */
static void spoil(struct fl_incoming *in, const struct fl_incoming_range *range)
{
	if (!in->adopted) {
		(void)fl_pageset_del(in->received, range->page, range->pages);
		(void)fl_pageset_del(in->zeros, range->page, range->pages);
	}
	(void)fl_pageset_add(in->torn, range->page, range->pages);
}

static int unasked(struct fl_incoming *in, const char *what, uint64_t offset)
{
	return fl_incoming_break(in, -EBADMSG, "%s: offset 0x%" PRIx64 " was not asked for", what,
				 offset);
}

int fl_incoming_answer_begin(struct fl_incoming_side *side, const struct fl_incoming_range *range)
{
	struct fl_incoming *in = side->in;
	uint64_t at, end = range->offset + range->len_bytes;
	struct fl_incoming_read *slot;

	for (at = range->offset; at < end; at += FL_WIRE_UNIT)
		if (!slot_of(in, at, false))
			return unasked(in, "PAGES", at);
	for (at = range->offset; at < end; at += FL_WIRE_UNIT) {
		slot = slot_of(in, at, false);
		drop(slot->asked, unit_of(slot, at));
		put(slot->coming, unit_of(slot, at));
	}
	spoil(in, range);
	return 0;
}

void *fl_incoming_answer_place(struct fl_incoming_side *side, uint64_t offset, uint64_t *len_bytes)
{
	struct fl_incoming_read *slot = slot_of(side->in, offset, true);
	uint64_t end = side->frame_offset + side->frame_bytes;

	if (!slot)
		return NULL;
	if (*len_bytes > end - offset)
		*len_bytes = end - offset;
	if (*len_bytes > FL_INCOMING_SERVE_STEP) /* what comes in one step is had in one step */
		*len_bytes = FL_INCOMING_SERVE_STEP;
	*len_bytes = run_of(slot, slot->coming, offset, *len_bytes);
	return place_of(slot, offset, len_bytes);
}

/* All of the pages that end within these units are right: what spoil() said of them is over. */
static void unspoil(struct fl_incoming *in, struct fl_incoming_side *side, uint64_t offset,
		    uint64_t len_bytes)
{
	for (uint64_t at = offset; at < offset + len_bytes; at += FL_WIRE_UNIT) {
		uint64_t page = fl_incoming_page(in, at);
		uint64_t within = (at - in->last_region->offset) % in->last_region->page_size;

		if (!within)
			side->page = page;
		if (within + FL_WIRE_UNIT != in->last_region->page_size || side->page != page)
			continue;
		(void)fl_pageset_del(in->torn, page, 1);
		if (!in->adopted)
			(void)fl_pageset_add(in->received, page, 1);
	}
}

/* Units of PAGES, one run of each read after the other. */
static int settle(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes, bool placed)
{
	struct fl_incoming *in = side->in;

	while (len_bytes) {
		struct fl_incoming_read *slot = slot_of(in, offset, true);
		uint64_t run;

		if (!slot)
			return unasked(in, "PAGES", offset);
		run = run_of(slot, slot->coming, offset, len_bytes);
		deliver(in, slot, slot->coming, offset, run, placed);
		offset += run;
		len_bytes -= run;
	}
	return 0;
}

int fl_incoming_answer_pages(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes,
			     bool right)
{
	if (!right)
		return fl_incoming_break(side->in, -EBADMSG,
					 "PAGES: wrong sum of the contents at offset 0x%" PRIx64,
					 offset);
	unspoil(side->in, side, offset, len_bytes);
	return settle(side, offset, len_bytes, true);
}

int fl_incoming_answer_dropped(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes)
{
	side->page = UINT64_MAX; /* the page that it belongs to is not right */
	return settle(side, offset, len_bytes, false);
}

/* Where a run goes, and how long it is, with the read that asked for it. */
static struct fl_incoming_read *answer_to(struct fl_incoming *in, uint64_t offset,
					  uint64_t *len_bytes, char **at)
{
	struct fl_incoming_read *slot = slot_of(in, offset, false);

	if (!slot)
		return NULL;
	*len_bytes = run_of(slot, slot->asked, offset, *len_bytes);
	*at = place_of(slot, offset, len_bytes);
	*len_bytes -= *len_bytes % FL_WIRE_UNIT;
	if (!*at && !*len_bytes)
		*len_bytes = FL_WIRE_UNIT;
	return slot;
}

/* Zeros, up to as many bytes as that: they need no memory as long as nobody reads them. Returns how many
 * were given; 0: they were not asked for. */
static uint64_t give_zeros(struct fl_incoming *in, uint64_t offset, uint64_t run)
{
	struct fl_incoming_read *slot = slot_of(in, offset, false);
	char *at;

	if (slot && slot->read->zeros) {
		run = run_of(slot, slot->asked, offset, run);
		came(in, slot, slot->asked, offset, run);
		slot->read->zeros(slot->read, offset, run);
		end_if_all(in, slot);
		return run;
	}
	slot = answer_to(in, offset, &run, &at);
	if (!slot)
		return 0;
	if (at)
		memset(at, 0, run);
	deliver(in, slot, slot->asked, offset, run, at != NULL);
	return run;
}

int fl_incoming_answer_zero(struct fl_incoming_side *side, const struct fl_incoming_range *range)
{
	struct fl_incoming *in = side->in;
	uint64_t offset = range->offset, end = offset + range->len_bytes, run;

	for (; offset < end; offset += run) {
		run = give_zeros(in, offset, end - offset);
		if (!run)
			return unasked(in, "ZERO", offset);
	}
	fl_incoming_count(&in->count.zero, range->pages);
	return 0;
}

/* Contents that are right already are given: they stand in the second mapping. */
static void give_clean(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t offset,
		       uint64_t run, char *at)
{
	const char *from = in->last_region->alias + (offset - in->last_region->offset);

	if (at && at != from)
		memcpy(at, from, run);
	deliver(in, slot, slot->asked, offset, run, at != NULL);
}

static int clean_page(struct fl_incoming *in, uint64_t page, uint64_t offset, uint64_t len_bytes)
{
	uint64_t end = offset + len_bytes, run;
	struct fl_incoming_read *slot;
	char *at;

	for (; offset < end; offset += run) {
		if (fl_pageset_has(in->zeros, page)) {
			run = give_zeros(in, offset, end - offset);
			if (!run)
				return unasked(in, "CLEAN", offset);
			continue;
		}
		run = end - offset;
		slot = answer_to(in, offset, &run, &at);
		if (!slot)
			return unasked(in, "CLEAN", offset);
		give_clean(in, slot, offset, run, at);
	}
	return 0;
}

int fl_incoming_answer_clean(struct fl_incoming_side *side, const struct fl_incoming_range *range)
{
	struct fl_incoming *in = side->in;
	uint64_t page_size = range->region->page_size;
	int err = 0;

	for (uint64_t i = 0; !err && i < range->pages; i++) {
		uint64_t page = range->page + i, offset = range->offset + i * page_size;

		(void)fl_incoming_page(in, offset); /* the region that is looked at */
		if (!slot_of(in, offset, false))
			return unasked(in, "CLEAN", offset);
		if (!fl_incoming_valid(in, page))
			return fl_incoming_break(in, -EBADMSG,
						 "CLEAN: what there is of offset 0x%" PRIx64
						 " is not right",
						 offset);
		err = clean_page(in, page, offset, page_size);
	}
	return err;
}

/* --- the queue --- */

/* True when a read ended, so that the list is another one now. */
static bool settle_slot(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	uint64_t end = slot->read->offset + slot->read->len_bytes, page_size;
	unsigned int before = in->source.ended;

	for (uint64_t at = slot->read->offset; at < end; at += page_size) {
		uint64_t page = fl_incoming_page(in, at);

		page_size = in->last_region->page_size;
		if (!has(slot->asked, unit_of(slot, at)))
			continue;
		if (!fl_table_owns(in->table, page, FL_CLAIM_FETCH))
			deliver(in, slot, slot->asked, at, page_size, false);
		else if (in->due_whole && fl_incoming_valid(in, page))
			(void)clean_page(in, page, at, page_size);
		if (in->source.ended != before)
			return true;
	}
	return false;
}

/*
 * Nobody will answer what was asked before. What the guest has given back is not wanted any more, and the
 * other side is told that it is there: it must not be asked for. What is clean needs no answer.
 */
static void settle_all(struct fl_incoming *in)
{
	struct fl_incoming_read *slot = in->source.reads;

	while (slot)
		slot = settle_slot(in, slot) ? in->source.reads : slot->next;
}

static void ask_slot(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	bool fill = slot->read->flags & FL_READ_FILL;
	uint64_t end = slot->read->offset + slot->read->len_bytes, at, run;

	for (at = slot->read->offset; at < end; at += run) {
		run = run_of(slot, slot->asked, at, end - at);
		if (run)
			request(fill ? &in->main : &in->demand, at, run);
		else
			run = FL_WIRE_UNIT;
	}
	for (at = slot->read->offset; at < end; at += run) {
		(void)fl_incoming_page(in, at);
		run = in->last_region->page_size;
		if (has(slot->hurried, unit_of(slot, at)) && has(slot->asked, unit_of(slot, at)))
			request(&in->demand, at, run);
	}
}

/* Of the next connection. */
static void ask_again(struct fl_incoming *in)
{
	progress(in);
	for (struct fl_incoming_read *slot = in->source.reads; slot; slot = slot->next)
		ask_slot(in, slot);
}

static int reap(struct fl_queue *queue)
{
	struct fl_incoming *in = to_in(queue);

	in->source.reaped = true;
	in->source.ended = 0;
	if (in->source.settle) {
		in->source.settle = false;
		settle_all(in);
	}
	if (in->source.ask) {
		in->source.ask = false;
		ask_again(in);
	}
	fl_incoming_flush_demand(in);
	in->more = fl_incoming_take(in);
	fl_incoming_way_reap(in);
	return (int)in->source.ended;
}

static int queue_fd(struct fl_queue *queue)
{
	return to_in(queue)->epoll_fd;
}

static void queue_close(struct fl_queue *queue)
{
	struct fl_incoming_source *source = &to_in(queue)->source;

	fl_incoming_way_close(to_in(queue)); /* what it reads goes to the pager's memory */
	free(source->slots);
	source->slots = source->free = source->reads = NULL;
}

static const struct fl_queue_ops queue_ops = {
	.size = sizeof(queue_ops),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = attempt,
	.submit = submit,
	.fd = queue_fd,
	.reap = reap,
	.close = queue_close,
	.hurry = hurry,
	.quiesce = quiesce,
};

static struct fl_incoming *of_source(struct fl_source *source)
{
	return (struct fl_incoming *)(void *)((char *)source -
					      offsetof(struct fl_incoming, source.source));
}

static int source_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue)
{
	struct fl_incoming_source *mine = &of_source(source)->source;

	if (mine->slots)
		return -EBUSY; /* the one pager has it */
	mine->slots = calloc(depth, sizeof(*mine->slots));
	if (!mine->slots)
		return -ENOMEM;
	for (unsigned int i = 0; i < depth; i++) {
		mine->slots[i].next = mine->free;
		mine->free = &mine->slots[i];
	}
	mine->queue.ops = &queue_ops;
	*queue = &mine->queue;
	return 0;
}

static uint64_t source_length(struct fl_source *source)
{
	return fl_layout_image_len(of_source(source)->shape);
}

static void source_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	extent->len_bytes = source_length(source) - offset;
	extent->zeros = false;
}

static void source_close(struct fl_source *source)
{
	(void)source; /* a part of the migration */
}

const struct fl_source_ops fl_incoming_source_ops = {
	.size = sizeof(fl_incoming_source_ops),
	.version = FL_SOURCE_OPS_VERSION,
	.flags = FL_SOURCE_PIECES | FL_SOURCE_DIRECT, /* what the way may be */
	.name = "link",
	.length = source_length,
	.extent = source_extent,
	.open = source_open,
	.close = source_close,
};

/* --- the engine's side --- */

/* Requests are for whole pages: of one that came in part, all of it is asked for again. */
static void recall_page(struct fl_incoming_read *slot, uint64_t first, uint64_t units)
{
	bool whole_came = true;

	for (uint64_t unit = first; unit < first + units; unit++)
		if (has(slot->asked, unit) || has(slot->coming, unit))
			whole_came = false;
	if (whole_came)
		return;
	for (uint64_t unit = first; unit < first + units; unit++) {
		if (!has(slot->asked, unit) && !has(slot->coming, unit))
			slot->left += FL_WIRE_UNIT; /* and comes a second time */
		drop(slot->coming, unit);
		put(slot->asked, unit);
	}
}

static void recall_slot(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	uint64_t units;

	for (uint64_t unit = 0; unit < slot->read->len_bytes / FL_WIRE_UNIT; unit += units) {
		(void)fl_incoming_page(in, slot->read->offset + unit * FL_WIRE_UNIT);
		units = in->last_region->page_size / FL_WIRE_UNIT;
		recall_page(slot, unit, units);
	}
}

void fl_incoming_recall(struct fl_incoming *in)
{
	for (struct fl_incoming_read *slot = in->source.reads; slot; slot = slot->next)
		if (!slot->by_way)
			recall_slot(in, slot);
}

uint64_t fl_incoming_answer_due(const struct fl_incoming *in)
{
	if (!in->main.conn || in->again != FL_AGAIN_NOTHING || !owes(in))
		return UINT64_MAX;
	return in->source.progress_ns + in->options.timeout_ms * FL_NS_PER_MS;
}

uint64_t fl_incoming_asked(const struct fl_incoming *in)
{
	return owes(in)->read->offset;
}

/* --- the way's side --- */

void *fl_incoming_slot_place(struct fl_incoming_read *slot, uint64_t offset, uint64_t *len_bytes)
{
	return place_of(slot, offset, len_bytes);
}

/* Each byte comes once: so a page is counted with its last one. */
static void count_by_way(struct fl_incoming *in, uint64_t offset, uint64_t len_bytes)
{
	uint64_t page_size, from;

	(void)fl_incoming_page(in, offset);
	page_size = in->last_region->page_size;
	from = offset - in->last_region->offset;
	fl_incoming_count(&in->count.by_way, (from + len_bytes) / page_size - from / page_size);
}

void fl_incoming_slot_arrived(struct fl_incoming *in, struct fl_incoming_read *slot,
			      uint64_t offset, uint64_t len_bytes)
{
	count_by_way(in, offset, len_bytes);
	deliver(in, slot, slot->way, offset, len_bytes, true);
}

/* From the read's own buffer to where it belongs now, unless that is where it is. */
static bool take_from_buf(const struct fl_incoming_read *slot, uint64_t offset, uint64_t *run)
{
	const char *from = (char *)slot->read->buf + (offset - slot->read->offset);
	char *at = place_of(slot, offset, run);

	*run -= *run % FL_WIRE_UNIT;
	if (!at && !*run)
		*run = FL_WIRE_UNIT;
	if (at && at != from)
		memcpy(at, from, *run);
	return at;
}

/* The rest of a read that succeeded: in the buffer, or not wanted. */
static void take_rest(struct fl_incoming *in, struct fl_incoming_read *slot, bool in_buf)
{
	uint64_t end = slot->read->offset + slot->read->len_bytes, run;

	for (uint64_t at = slot->read->offset; at < end; at += run) {
		bool placed = false;

		run = run_of(slot, slot->way, at, end - at);
		if (!run) {
			run = FL_WIRE_UNIT;
			continue;
		}
		if (in_buf) {
			placed = take_from_buf(slot, at, &run);
			count_by_way(in, at, run);
		}
		deliver(in, slot, slot->way, at, run, placed);
	}
}

/* What did not come is asked of the link. */
static void give_to_link(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	if (!owes(in))
		progress(in);
	for (uint64_t i = 0; i < WORDS; i++) {
		slot->asked[i] |= slot->way[i];
		slot->way[i] = 0;
	}
	slot->by_way = NULL;
	recall_slot(in, slot);
	ask_slot(in, slot);
}

void fl_incoming_slot_over(struct fl_incoming *in, struct fl_incoming_read *slot, int result,
			   bool in_buf)
{
	if (!result)
		take_rest(in, slot, in_buf);
	if (result && slot->left)
		give_to_link(in, slot);
	slot->by_way = NULL;
	end_if_all(in, slot);
}
