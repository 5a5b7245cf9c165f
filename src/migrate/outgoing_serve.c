/* SPDX-License-Identifier: MIT */

/*
 * Answers. What was asked on a connection waits in its ring, and is answered from the front, a frame
 * at a time, on the same connection. Demand is answered as long as there is any; then the background
 * gets one frame, of at most 128 KiB or a page, and demand is looked at again: what a demand can find
 * before it is one such step.
 *
 * Every page is answered once as long as these connections last (out->answered): one that was asked for
 * on both is left out where it comes up second.
 */

#include "migrate/outgoing.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>

/* Frames of demand before there is another look at what came, and at being told to end. */
#define DEMAND_STEPS 64

/* --- what is asked --- */

static int refuse(const struct fl_side *side, const struct fl_frame *frame, const char *why)
{
	return fl_error_set(&side->out->why, -EBADMSG,
			    "REQUEST on the %s connection: %u bytes at offset %llu %s", side->name,
			    frame->bytes, (unsigned long long)frame->offset, why);
}

int fl_outgoing_request(struct fl_side *side, const struct fl_frame *frame)
{
	struct fl_outgoing *out = side->out;
	struct fl_place place;
	uint64_t size;

	if (fl_layout_by_offset(out->layout, frame->offset, &place))
		return refuse(side, frame, "are in no region");
	size = place.region->page_size;
	if (frame->offset != place.offset || !frame->bytes || frame->bytes % size)
		return refuse(side, frame, "are not whole pages");
	if (frame->bytes / size > place.pages_left)
		return refuse(side, frame, "leave their region");
	if (frame->bytes > FL_WIRE_REQUEST_MAX)
		return refuse(side, frame, "are too many");
	if (side->count == FL_WIRE_REQUESTS)
		return fl_error_set(&out->why, -EBADMSG,
				    "REQUEST on the %s connection: more than %u are unanswered",
				    side->name, FL_WIRE_REQUESTS);
	side->asked[(side->first + side->count) % FL_WIRE_REQUESTS] =
		(struct fl_asked){.page = place.page, .count = frame->bytes / size};
	side->count++;
	return 0;
}

void fl_outgoing_forget(struct fl_side *side)
{
	side->first = side->count = 0;
}

/* --- what is answered --- */

enum answer { ANSWER_NONE, ANSWER_CLEAN, ANSWER_CONTENTS };

static enum answer answer_of(const struct fl_outgoing *out, uint64_t page)
{
	if (fl_pageset_has(out->answered, page))
		return ANSWER_NONE;
	return out->undecided || fl_pageset_has(out->left, page) ? ANSWER_CONTENTS : ANSWER_CLEAN;
}

static uint64_t run_of(const struct fl_outgoing *out, const struct fl_asked *asked,
		       enum answer answer)
{
	uint64_t n = 1;

	while (n < asked->count && answer_of(out, asked->page + n) == answer)
		n++;
	return n;
}

static int64_t send_clean(struct fl_outgoing *out, struct fl_side *side, uint64_t page,
			  uint64_t count)
{
	struct fl_frame frame = {.type = FL_FRAME_CLEAN};
	struct fl_place place;
	int ret;

	(void)fl_layout_by_page(out->layout, page, &place);
	frame.offset = place.offset;
	frame.bytes = (uint32_t)(count * place.region->page_size);
	ret = fl_conn_send(side->conn, &frame, NULL, 0);
	if (ret == -ENOBUFS)
		return 0;
	if (ret)
		return fl_conn_reason(side->conn, side->name, ret, &out->why);
	fl_count(&out->figures.clean, 1);
	return (int64_t)count;
}

static int64_t send_contents(struct fl_outgoing *out, struct fl_side *side, uint64_t page,
			     uint64_t count)
{
	int64_t done = fl_outgoing_send(out, side, page, count);

	if (done <= 0)
		return done;
	(void)fl_pageset_del(out->left, page, (uint64_t)done);
	fl_count(side->pages, (uint64_t)done);
	if (!out->undecided)
		fl_count(&out->figures.due_left, -(uint64_t)done);
	return done;
}

/* One frame, or pages that need none. 1: go on; 0: the connection takes no more now. */
static int step(struct fl_outgoing *out, struct fl_side *side)
{
	struct fl_asked *asked = &side->asked[side->first];
	enum answer answer = answer_of(out, asked->page);
	int64_t done = (int64_t)run_of(out, asked, answer);

	if (answer == ANSWER_CLEAN)
		done = send_clean(out, side, asked->page, (uint64_t)done);
	else if (answer == ANSWER_CONTENTS)
		done = send_contents(out, side, asked->page, (uint64_t)done);
	if (done <= 0)
		return (int)done;
	(void)fl_pageset_add(out->answered, asked->page, (uint64_t)done);
	asked->page += (uint64_t)done;
	asked->count -= (uint64_t)done;
	if (!asked->count) {
		side->first = (side->first + 1) % FL_WIRE_REQUESTS;
		side->count--;
	}
	return 1;
}

static bool can_serve(const struct fl_side *side)
{
	return side->count && fl_side_takes(side);
}

static int serve_demand(struct fl_outgoing *out)
{
	int ret = 1;

	for (int i = 0; ret > 0 && i < DEMAND_STEPS && can_serve(&out->demand); i++) {
		ret = step(out, &out->demand);
		if (ret > 0 && fl_outgoing_flush(out, &out->demand, UINT64_MAX))
			return out->why.code;
	}
	return ret < 0 ? ret : 0;
}

static bool due_frames_left(struct fl_outgoing *out)
{
	return out->going && !out->due_ended && fl_outgoing_due_known(out);
}

/* Until DUE_END every page counts as stale over there: the set goes before the background. */
static int send_due(struct fl_outgoing *out)
{
	struct fl_frame frame = {.type = FL_FRAME_DUE};

	if (!fl_side_takes(&out->main))
		return 0;
	if (!fl_bits_next(out->due, &out->due_page, &frame, out->bits)) {
		out->due_ended = true;
		return fl_outgoing_say(out, FL_FRAME_DUE_END, fl_pageset_count(out->due), 0);
	}
	if (fl_conn_send(out->main.conn, &frame, out->bits, frame.len))
		return fl_error_set(&out->why, -EIO, "DUE cannot be queued");
	return fl_outgoing_flush(out, &out->main, UINT64_MAX);
}

int fl_outgoing_serve(struct fl_outgoing *out, bool background)
{
	int ret;

	if (!out->serving)
		return 0;
	ret = serve_demand(out);
	if (ret || can_serve(&out->demand))
		return ret;
	if (due_frames_left(out))
		return send_due(out);
	if (!background || !can_serve(&out->main) || fl_bucket_due(&out->bucket, fl_clock_ns()))
		return 0;
	ret = step(out, &out->main);
	return ret < 0 ? ret : 0;
}

uint64_t fl_outgoing_serve_due(struct fl_outgoing *out, bool background)
{
	if (!out->serving)
		return UINT64_MAX;
	if (can_serve(&out->demand))
		return 0;
	if (due_frames_left(out))
		return fl_side_takes(&out->main) ? 0 : UINT64_MAX;
	if (!background || !can_serve(&out->main))
		return UINT64_MAX;
	return fl_bucket_due(&out->bucket, fl_clock_ns());
}

static uint64_t follow_due(struct fl_outgoing *out)
{
	uint64_t serve_ns = fl_outgoing_serve_due(out, true),
		 find_ns = fl_outgoing_find_due_at(out);

	return serve_ns < find_ns ? serve_ns : find_ns;
}

int fl_outgoing_follow(struct fl_outgoing *out)
{
	bool complete = false;
	int ret = 0;

	while (!ret && !complete) {
		fl_outgoing_find_due(out);
		ret = fl_outgoing_serve(out, true);
		if (!ret)
			ret = fl_outgoing_turn(out, follow_due(out));
		/* A peer that has all may be gone as soon as it has said so. */
		complete = out->came & fl_frame_bit(FL_FRAME_COMPLETE);
	}
	return complete ? 0 : ret;
}
