/* SPDX-License-Identifier: MIT */

/*
 * The last word. A peer that has said READY cannot know whether GO is on its way; when the connections end
 * then, it keeps the machine and waits. So what is said, and where, decides who has it:
 *
 * Before GO the reason is the last thing on main (CANCEL, or ERROR), and nothing ends before the peer had the
 * time to read it: the machine is not its. Demand says nothing, which the peer might read first.
 *
 * Once the first byte of GO is out, only what stands behind a whole GO on main may tell of an end. A peer
 * that lost GO with the last connections, and that is being recovered, would forget the machine at an
 * ERROR there, and it cannot run here any more. Until GO is queued again the reason goes by demand.
 */

#include "link/stream.h"
#include "migrate/outgoing.h"
#include "util/clock.h"

#include <errno.h>
#include <poll.h>

#define FLUSH_BUDGET (512u * 1024)

/* How long a peer may take nothing, or has to close its side. */
#define GOODBYE_NS (500 * FL_NS_PER_MS)
/* Likewise, when it has been silent, or has ended it: what is here by now. */
#define HASTE_NS (10 * FL_NS_PER_MS)

/* Lets what is queued go out, as long as it goes. */
static void flush_all(struct fl_side *side, uint64_t end_ns)
{
	uint64_t now_ns = fl_clock_ns(), due_ns = now_ns + GOODBYE_NS, unsent;

	while ((unsent = fl_conn_unsent(side->conn)) && now_ns < end_ns) {
		if (fl_conn_flush(side->conn, FLUSH_BUDGET))
			return;
		now_ns = fl_clock_ns();
		if (fl_conn_unsent(side->conn) < unsent)
			due_ns = now_ns + GOODBYE_NS;
		if (fl_socket_wait(fl_conn_fd(side->conn), POLLOUT, -1,
				   due_ns < end_ns ? due_ns : end_ns))
			return;
	}
}

static bool is_committed(struct fl_outgoing *out)
{
	return atomic_load(&out->committed);
}

static struct fl_side *side_that_hears(struct fl_outgoing *out)
{
	return is_committed(out) == out->going ? &out->main : &out->demand;
}

/* The peer that ended it needs no reason; only that it is heard, before GO. */
static void last_word(struct fl_outgoing *out, struct fl_side *side)
{
	struct fl_frame cancel = {.type = FL_FRAME_CANCEL};
	bool bare = out->why.code == -ECANCELED || out->why.code == -EREMOTEIO;

	if (bare && side == &out->main && !is_committed(out))
		(void)fl_conn_send(side->conn, &cancel, NULL, 0);
	else if (out->why.code && out->why.code != -EREMOTEIO)
		fl_conn_send_error(side->conn, &out->why);
}

static void say(struct fl_outgoing *out, struct fl_side *side)
{
	bool haste = out->why.code == -ETIMEDOUT || out->why.code == -EREMOTEIO;
	uint64_t patience_ns = GOODBYE_NS;

	/* The machine runs here again: there is time for a slow connection. */
	if (!is_committed(out))
		patience_ns += out->options.timeout_ms * FL_NS_PER_MS;
	/* What is queued goes first, so that there is room. */
	flush_all(side, fl_clock_ns() + patience_ns);
	last_word(out, side);
	flush_all(side, fl_clock_ns() + GOODBYE_NS);
	fl_socket_drain(fl_conn_fd(side->conn), -1,
			fl_clock_ns() + (haste ? HASTE_NS : GOODBYE_NS));
}

static void part_side(struct fl_outgoing *out, struct fl_side *side)
{
	struct fl_conn_stats stats = {0};

	if (side->conn)
		fl_conn_stats(side->conn, &stats);
	out->closed_bytes += stats.sent_bytes;
	out->closed_saved += stats.saved_bytes;
	fl_conn_free(side->conn);
	side->conn = NULL;
	fl_outgoing_forget(side);
}

void fl_outgoing_part(struct fl_outgoing *out)
{
	struct fl_side *side = side_that_hears(out);

	if (side->conn)
		say(out, side);
	part_side(out, &out->main);
	part_side(out, &out->demand);
	out->serving = out->going = out->wants_room = false;
	fl_outgoing_count(out);
}
