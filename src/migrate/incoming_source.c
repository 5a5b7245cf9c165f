/* SPDX-License-Identifier: MIT */

/*
 * The link as the pager's source. A read is outstanding until each of its units has come, by whichever
 * connection, in whichever frame: incoming_slot.h. When the connection is lost, what was coming is asked for
 * again, of the next one.
 *
 * The queue's descriptor is the epoll set of both connections, and reaping is taking from them; so all
 * that the pager is given, it is given by fl_queue_reap(). What happens between two of those (a read that
 * needs no answer any more) waits for the next.
 */

#include "migrate/incoming_slot.h"
#include "util/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of the requests that may be unanswered, those that reads of their own leave for hurry. */
#define HURRIED_MAX 512u

static struct fl_incoming *to_in(struct fl_queue *queue)
{
	return (struct fl_incoming *)(void *)((char *)queue -
					      offsetof(struct fl_incoming, source.queue));
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

/* What the outgoing side need not be asked about. */
static bool goes_by_way(struct fl_incoming *in, const struct fl_read *read)
{
	uint64_t page = fl_incoming_page(in, read->offset);

	return in->way.kind && in->adopted &&
	       fl_incoming_all_due(in, page, read->len_bytes / in->last_region->page_size);
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
	if (!slot->by_way && !fl_slot_owing(in))
		fl_slot_progress(in);
	for (uint64_t unit = 0; unit < read->len_bytes / FL_WIRE_UNIT; unit++)
		fl_slot_put(slot->by_way ? slot->way : slot->asked, unit);
	in->source.reads = slot;
	if (slot->by_way)
		return 0;
	if (in->source.forsaken)
		fl_incoming_kick(in); /* to be reaped */
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
	if (!fl_slot_has(slot->hurried, fl_slot_unit(slot, offset)) &&
	    in->source.hurried < HURRIED_MAX) {
		in->source.hurried++; /* should the link have to bring it after all */
		fl_slot_put(slot->hurried, fl_slot_unit(slot, offset));
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
	slot = fl_slot_find(in, offset, false);
	if (!slot || slot->read != read || fl_slot_has(slot->hurried, fl_slot_unit(slot, offset)) ||
	    in->source.hurried >= HURRIED_MAX)
		return;
	in->source.hurried++;
	fl_slot_put(slot->hurried, fl_slot_unit(slot, offset));
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

/* --- the queue --- */

/* True when a read ended, so that the list is another one now. */
static bool settle_slot(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	uint64_t end = slot->read->offset + slot->read->len_bytes, page_size;
	unsigned int before = in->source.ended;

	for (uint64_t at = slot->read->offset; at < end; at += page_size) {
		uint64_t page = fl_incoming_page(in, at);

		page_size = in->last_region->page_size;
		if (!fl_slot_has(slot->asked, fl_slot_unit(slot, at)))
			continue;
		if (!fl_table_owns(in->table, page, FL_CLAIM_FETCH))
			fl_slot_deliver(in, slot, slot->asked, at, page_size, false);
		else if (in->due_whole && fl_incoming_valid(in, page))
			(void)fl_slot_clean(in, page, at, page_size);
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
		run = fl_slot_run(slot, slot->asked, at, end - at);
		if (run)
			request(fill ? &in->main : &in->demand, at, run);
		else
			run = FL_WIRE_UNIT;
	}
	for (at = slot->read->offset; at < end; at += run) {
		(void)fl_incoming_page(in, at);
		run = in->last_region->page_size;
		if (fl_slot_has(slot->hurried, fl_slot_unit(slot, at)) &&
		    fl_slot_has(slot->asked, fl_slot_unit(slot, at)))
			request(&in->demand, at, run);
	}
}

/* Of the next connection. */
static void ask_again(struct fl_incoming *in)
{
	fl_slot_progress(in);
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
	for (struct fl_incoming_read *slot; in->source.forsaken && (slot = fl_slot_owing(in));)
		fl_slot_fail(in, slot);
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

/* --- the way's side --- */

void *fl_incoming_slot_place(struct fl_incoming_read *slot, uint64_t offset, uint64_t *len_bytes)
{
	return fl_slot_place(slot, offset, len_bytes);
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
	fl_slot_deliver(in, slot, slot->way, offset, len_bytes, true);
}

/* From the read's own buffer to where it belongs now, unless that is where it is. */
static bool take_from_buf(const struct fl_incoming_read *slot, uint64_t offset, uint64_t *run)
{
	const char *from = (char *)slot->read->buf + (offset - slot->read->offset);
	char *at = fl_slot_place(slot, offset, run);

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

		run = fl_slot_run(slot, slot->way, at, end - at);
		if (!run) {
			run = FL_WIRE_UNIT;
			continue;
		}
		if (in_buf) {
			placed = take_from_buf(slot, at, &run);
			count_by_way(in, at, run);
		}
		fl_slot_deliver(in, slot, slot->way, at, run, placed);
	}
}

/* What did not come is asked of the link. */
static void give_to_link(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	if (!fl_slot_owing(in))
		fl_slot_progress(in);
	for (uint64_t i = 0; i < FL_SLOT_WORDS; i++) {
		slot->asked[i] |= slot->way[i];
		slot->way[i] = 0;
	}
	slot->by_way = NULL;
	fl_slot_recall(in, slot);
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
	fl_slot_end(in, slot);
}
