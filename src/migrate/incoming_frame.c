/* SPDX-License-Identifier: MIT */

/* What comes by the connections: which frame may come when, and who takes it. */

#include "migrate/incoming.h"
#include "util/error.h"

#include <errno.h>
#include <inttypes.h>

static const struct fl_incoming_region *region_of(struct fl_incoming *in, uint64_t offset)
{
	const struct fl_incoming_region *last = in->last_region;

	if (last && offset >= last->offset && offset - last->offset < last->len_bytes)
		return last;
	for (size_t i = 0; i < in->region_count; i++) {
		const struct fl_incoming_region *region = &in->regions[i];

		if (offset >= region->offset && offset - region->offset < region->len_bytes) {
			in->last_region = region;
			return region;
		}
	}
	return NULL;
}

int fl_incoming_range(struct fl_incoming *in, const char *what, uint64_t offset, uint64_t len_bytes,
		      struct fl_incoming_range *range)
{
	const struct fl_incoming_region *region = region_of(in, offset);

	if (!region)
		return fl_incoming_break(in, -EBADMSG,
					 "%s: offset 0x%" PRIx64 " is not in guest memory", what,
					 offset);
	if (len_bytes > region->len_bytes - (offset - region->offset))
		return fl_incoming_break(in, -EBADMSG,
					 "%s: %" PRIu64 " bytes at offset 0x%" PRIx64
					 " reach beyond their region",
					 what, len_bytes, offset);
	if (!len_bytes || (offset - region->offset) % region->page_size ||
	    len_bytes % region->page_size)
		return fl_incoming_break(in, -EBADMSG,
					 "%s: %" PRIu64 " bytes at offset 0x%" PRIx64
					 " are not whole pages of %" PRIu64,
					 what, len_bytes, offset, region->page_size);
	*range = (struct fl_incoming_range){
		.region = region,
		.offset = offset,
		.len_bytes = len_bytes,
		.page = region->first_page + (offset - region->offset) / region->page_size,
		.pages = len_bytes / region->page_size,
	};
	return 0;
}

uint64_t fl_incoming_page(struct fl_incoming *in, uint64_t offset)
{
	const struct fl_incoming_region *region = region_of(in, offset);

	return region->first_page + (offset - region->offset) / region->page_size;
}

static int unexpected(const struct fl_incoming_side *side, const struct fl_frame *frame)
{
	struct fl_incoming *in = side->in;
	struct fl_error err = {0};

	if (side == &in->demand)
		return fl_incoming_break(in, -EBADMSG,
					 "demand connection: %s is none of its frames",
					 fl_frame_name(frame->type));
	(void)fl_frame_unexpected(frame, (enum fl_migrate_phase)in->phase, &err);
	return fl_incoming_break(in, err.code, "%s", err.text);
}

/* Do the sets of the rounds take what comes, or is it an answer? */
static bool in_rounds(const struct fl_incoming *in)
{
	return in->stage == FL_STAGE_ROUNDS && !in->due_whole;
}

static bool in_answers(const struct fl_incoming *in)
{
	return in->stage >= FL_STAGE_LOADING && in->again == FL_AGAIN_NOTHING;
}

/* What is being read by the way cannot come by the link, too. */
static int not_named(struct fl_incoming *in, const char *what,
		     const struct fl_incoming_range *range)
{
	if (!fl_incoming_way_has(in, range))
		return 0;
	return fl_incoming_break(in, -EBADMSG,
				 "%s: the pages at offset 0x%" PRIx64 " were named by RANGE before",
				 what, range->offset);
}

static int begin_pages(struct fl_incoming_side *side, const struct fl_frame *frame)
{
	struct fl_incoming *in = side->in;
	struct fl_incoming_range range = {0};
	int err;

	if (!(in_rounds(in) && side == &in->main) && !in_answers(in))
		return unexpected(side, frame);
	err = fl_incoming_range(in, "PAGES", frame->offset, frame->bytes, &range);
	if (!err && in_rounds(in))
		err = not_named(in, "PAGES", &range);
	if (!err && in_answers(in))
		err = fl_incoming_answer_begin(side, &range);
	if (err)
		return err;
	side->frame_offset = frame->offset;
	side->frame_bytes = frame->bytes;
	side->populated = frame->offset;
	return 0;
}

static void *on_place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	struct fl_incoming_side *side = ctx;

	if (side->in->broken.code || (!side->frame_bytes && begin_pages(side, frame) < 0))
		return NULL;
	return in_rounds(side->in) ? fl_incoming_round_place(side, offset, len_bytes)
				   : fl_incoming_answer_place(side, offset, len_bytes);
}

static int on_pages(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		    bool right)
{
	struct fl_incoming_side *side = ctx;

	if (side->in->broken.code)
		return side->in->broken.code;
	if (offset + len_bytes == frame->offset + frame->bytes)
		side->frame_bytes = 0;
	return in_rounds(side->in) ? fl_incoming_round_pages(side, offset, len_bytes, right)
				   : fl_incoming_answer_pages(side, offset, len_bytes, right);
}

static int on_dropped(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes)
{
	struct fl_incoming_side *side = ctx;

	if (side->in->broken.code)
		return side->in->broken.code;
	if (offset + len_bytes == frame->offset + frame->bytes)
		side->frame_bytes = 0;
	/* In rounds place() refuses nothing without breaking the connection. */
	return fl_incoming_answer_dropped(side, offset, len_bytes);
}

static int take_zero(struct fl_incoming_side *side, const struct fl_frame *frame)
{
	struct fl_incoming *in = side->in;
	struct fl_incoming_range range = {0};

	if (!(in_rounds(in) && side == &in->main) && !in_answers(in))
		return unexpected(side, frame);
	if (fl_incoming_range(in, "ZERO", frame->offset, frame->bytes, &range) < 0)
		return in->broken.code;
	if (in_rounds(in) && not_named(in, "ZERO", &range) < 0)
		return in->broken.code;
	return in_rounds(in) ? fl_incoming_round_zero(in, &range)
			     : fl_incoming_answer_zero(side, &range);
}

static int take_clean(struct fl_incoming_side *side, const struct fl_frame *frame)
{
	struct fl_incoming_range range = {0};

	if (!in_answers(side->in))
		return unexpected(side, frame);
	if (fl_incoming_range(side->in, "CLEAN", frame->offset, frame->bytes, &range) < 0)
		return side->in->broken.code;
	return fl_incoming_answer_clean(side, &range);
}

static int take_blob(struct fl_incoming *in, struct fl_blob *blob, const struct fl_frame *frame,
		     const void *payload)
{
	struct fl_error err = {0};
	int whole = fl_blob_add(blob, frame, payload, &err);

	return whole < 0 ? fl_incoming_break(in, whole, "%s", err.text) : whole;
}

static int take_machine(struct fl_incoming *in, const struct fl_frame *frame, const void *payload)
{
	int whole = take_blob(in, &in->machine, frame, payload);

	return whole < 0 ? whole : 0; /* the engine goes on when it is whole */
}

static int take_state(struct fl_incoming *in, const struct fl_frame *frame, const void *payload)
{
	int whole = take_blob(in, &in->state, frame, payload);

	return whole <= 0 ? whole : fl_incoming_switch(in);
}

static int take_round(struct fl_incoming *in, const struct fl_frame *frame)
{
	uint32_t round = atomic_load_explicit(&in->count.round, memory_order_relaxed) + 1;

	if (frame->id != round)
		return fl_incoming_break(in, -EBADMSG, "ROUND %u came after round %u", frame->id,
					 round - 1);
	if (in->tell.set)
		return fl_incoming_break(in, -EBADMSG,
					 "ROUND %u came before round %u was acknowledged",
					 frame->id, round - 1);
	atomic_store_explicit(&in->count.round, round, memory_order_relaxed);
	in->tell = (struct fl_incoming_tell){
		.set = in->torn,
		.type = FL_FRAME_TORN,
		.end = {.type = FL_FRAME_ROUND_ACK, .id = round},
	};
	return 0;
}

static int take_range(struct fl_incoming *in, const struct fl_frame *frame)
{
	struct fl_incoming_range range = {0};

	if (fl_incoming_range(in, "RANGE", frame->offset, frame->bytes, &range) < 0 ||
	    not_named(in, "RANGE", &range) < 0)
		return in->broken.code;
	return fl_incoming_way_range(in, &range);
}

static int take_go(struct fl_incoming *in)
{
	fl_incoming_go(in);
	if (in->again == FL_AGAIN_GO)
		in->again = FL_AGAIN_DUE;
	return 0;
}

static int take_cancel(struct fl_incoming *in)
{
	in->called_off = true;
	return fl_incoming_break(in, -ECANCELED, "the other side called it off");
}

static int take_bye(struct fl_incoming *in)
{
	in->stage = FL_STAGE_DONE;
	return 0;
}

/* Which frames of main may come now, beside those with contents. */
static bool expected(const struct fl_incoming *in, const struct fl_frame *frame)
{
	bool whole_before = in->due_whole && in->again == FL_AGAIN_NOTHING;

	switch (frame->type) {
	case FL_FRAME_MACHINE:
		return in->stage == FL_STAGE_MACHINE;
	case FL_FRAME_ROUND:
		return in_rounds(in);
	case FL_FRAME_WAY:
		return in_rounds(in) && in->options.ways && !in->way.kind;
	case FL_FRAME_RANGE:
		return in_rounds(in) && in->way.kind && !in->tell.set;
	case FL_FRAME_STATE:
		return in->stage == FL_STAGE_ROUNDS && !fl_incoming_way_reads(in);
	case FL_FRAME_GO:
		return in->again == FL_AGAIN_GO ||
		       (in->stage == FL_STAGE_READY && in->again == FL_AGAIN_NOTHING);
	case FL_FRAME_DUE:
	case FL_FRAME_DUE_END:
		return in->stage >= FL_STAGE_ROUNDS && !whole_before && in->again != FL_AGAIN_GO &&
		       !fl_incoming_way_reads(in);
	case FL_FRAME_CANCEL:
		return in->stage <= FL_STAGE_READY && in->again == FL_AGAIN_NOTHING;
	case FL_FRAME_BYE:
		return in->stage == FL_STAGE_COMPLETE && in->complete_ns;
	default:
		return false;
	}
}

static int take_control(struct fl_incoming *in, const struct fl_frame *frame, const void *payload)
{
	switch (frame->type) {
	case FL_FRAME_MACHINE:
		return take_machine(in, frame, payload);
	case FL_FRAME_ROUND:
		return take_round(in, frame);
	case FL_FRAME_WAY:
		return fl_incoming_way_open(in, frame, payload);
	case FL_FRAME_RANGE:
		return take_range(in, frame);
	case FL_FRAME_STATE:
		return take_state(in, frame, payload);
	case FL_FRAME_GO:
		return take_go(in);
	case FL_FRAME_DUE:
		return fl_incoming_due(in, frame, payload);
	case FL_FRAME_DUE_END:
		return fl_incoming_due_end(in, frame);
	case FL_FRAME_CANCEL:
		return take_cancel(in);
	default:
		return take_bye(in);
	}
}

static int on_frame(void *ctx, const struct fl_frame *head, const void *payload)
{
	struct fl_incoming_side *side = ctx;
	struct fl_incoming *in = side->in;

	if (in->broken.code)
		return in->broken.code;
	if (head->type == FL_FRAME_ZERO)
		return take_zero(side, head);
	if (head->type == FL_FRAME_CLEAN)
		return take_clean(side, head);
	if (side == &in->demand)
		return unexpected(side, head);
	if (fl_alive_frame(&in->alive, side->conn, head))
		return 0;
	if (!expected(in, head))
		return unexpected(side, head);
	return take_control(in, head, payload);
}

const struct fl_conn_ops fl_incoming_conn_ops = {
	.frame = on_frame,
	.place = on_place,
	.pages = on_pages,
	.dropped = on_dropped,
};
