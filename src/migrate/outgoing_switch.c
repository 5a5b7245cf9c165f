/* SPDX-License-Identifier: MIT */

/*
 * The switch. Until the first byte of GO is given to the kernel everything can be taken back, and is
 * when anything fails: the machine goes on here. From that byte on nothing can: the peer may have
 * it, and a machine that ran on both sides would be worse than one that waits. So GO is queued
 * only when nothing else is unsent, and whether main has sent any byte more is what decides.
 */

#include "migrate/outgoing.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static int stop(struct fl_outgoing *out)
{
	int ret;

	out->stop_ns = fl_clock_ns();
	ret = out->calls.stop(out->ctx);
	if (ret)
		return fl_error_set(&out->why, ret, "stopping the machine: %s",
				    strerrordesc_np(-ret));
	out->stopped = true;
	return 0;
}

static int save(struct fl_outgoing *out)
{
	int ret = out->calls.save(out->ctx, &out->state, &out->state_len);

	if (ret)
		return fl_error_set(&out->why, ret, "saving the machine's state: %s",
				    strerrordesc_np(-ret));
	if (out->state_len > FL_WIRE_BLOB_MAX)
		return fl_error_set(&out->why, -EFBIG, "the machine's state: %zu bytes, at most %u",
				    out->state_len, FL_WIRE_BLOB_MAX);
	return 0;
}

/* Mode precopy: nothing may be left to fault for. */
static int last_round(struct fl_outgoing *out)
{
	int ret = fl_outgoing_collect(out);

	if (!ret)
		ret = fl_outgoing_track(out, false);
	if (!ret)
		ret = fl_outgoing_round(out);
	if (!ret)
		ret = fl_outgoing_check_torn(out);
	if (ret)
		return ret;
	out->due_ended = true;
	return fl_outgoing_say(out, FL_FRAME_DUE_END, 0, 0);
}

/* Demand is served from here on: loading may touch memory. */
static int send_state(struct fl_outgoing *out)
{
	uint64_t sent = 0;
	int ret = 0, queued;

	out->expected |= fl_frame_bit(FL_FRAME_REQUEST);
	out->undecided = out->options.mode != FL_MIGRATE_PRECOPY;
	out->serving = true;
	while (!(queued = fl_blob_send(out->main.conn, FL_FRAME_STATE, 0, out->state,
				       out->state_len, &sent))) {
		ret = fl_outgoing_serve(out, false);
		if (!ret)
			ret = fl_outgoing_turn(out, fl_outgoing_serve_due(out, false));
		if (ret)
			return ret;
	}
	if (queued < 0)
		return fl_conn_reason(out->main.conn, "main", queued, &out->why);
	return fl_outgoing_flush(out, &out->main, UINT64_MAX);
}

/* The machine runs nowhere meanwhile: a peer that lives but does not get ready is not waited for. */
static int await_ready(struct fl_outgoing *out)
{
	uint64_t until_ns = fl_clock_ns() + out->options.timeout_ms * FL_NS_PER_MS, due_ns;
	int ret = 0;

	out->expected |= fl_frame_bit(FL_FRAME_READY);
	while (!ret && !(out->came & fl_frame_bit(FL_FRAME_READY))) {
		if (fl_clock_ns() >= until_ns)
			return fl_error_set(&out->why, -ETIMEDOUT,
					    "the other side was not READY in %u ms",
					    out->options.timeout_ms);
		ret = fl_outgoing_serve(out, true);
		due_ns = fl_outgoing_serve_due(out, true);
		if (!ret)
			ret = fl_outgoing_turn(out, due_ns < until_ns ? due_ns : until_ns);
	}
	return ret;
}

/* Does the kernel take more at once? */
static bool has_room(const struct fl_side *side)
{
	struct pollfd poll_fd = {.fd = fl_conn_fd(side->conn), .events = POLLOUT};

	return poll(&poll_fd, 1, 0) == 1;
}

/*
 * Main lets go of what it has, until GO would leave at once; demand is served on. Were GO to wait here,
 * it could still be called off, but nothing could be said before it any more.
 */
static int empty_main(struct fl_outgoing *out)
{
	int ret = fl_outgoing_turn(out, 0); /* the last look at whether it was called off */

	out->wants_room = true;
	while (!ret && (fl_conn_unsent(out->main.conn) || !has_room(&out->main))) {
		ret = fl_outgoing_serve(out, false);
		if (!ret)
			ret = fl_outgoing_turn(out, fl_outgoing_serve_due(out, false));
	}
	out->wants_room = false;
	return ret;
}

int fl_outgoing_go(struct fl_outgoing *out)
{
	struct fl_frame go = {.type = FL_FRAME_GO};
	struct fl_conn_stats stats;
	int ret = empty_main(out);

	if (ret)
		return ret;
	fl_conn_stats(out->main.conn, &stats);
	out->go_at = stats.sent_bytes;
	ret = fl_conn_send(out->main.conn, &go, NULL, 0);
	if (ret)
		return fl_conn_reason(out->main.conn, "main", ret, &out->why);
	out->going = true;
	out->expected |= fl_frame_bit(FL_FRAME_RUNNING) | fl_frame_bit(FL_FRAME_COMPLETE);
	ret = fl_outgoing_flush(out, &out->main, UINT64_MAX);
	while (!ret && !atomic_load(&out->committed))
		ret = fl_outgoing_turn(out, UINT64_MAX);
	return ret;
}

int fl_outgoing_switch(struct fl_outgoing *out)
{
	int ret = stop(out);

	if (!ret)
		ret = save(out);
	if (!ret && out->options.mode == FL_MIGRATE_PRECOPY)
		ret = last_round(out);
	if (!ret)
		ret = send_state(out);
	if (!ret)
		ret = await_ready(out);
	if (!ret)
		ret = fl_outgoing_go(out);
	out->go_ns = fl_clock_ns();
	return ret;
}
