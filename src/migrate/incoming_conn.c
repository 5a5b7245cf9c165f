/* SPDX-License-Identifier: MIT */

/* The two connections of a machine that arrives: had, taken from, given to, ended. */

#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* How much of what came before the end is heard, in steps. */
#define HEAR_STEPS 256u
/* How long the other side is given to hear why, in ms. */
#define PART_MS 1000u

static int side_new(struct fl_incoming *in, struct fl_incoming_side *side, const char *name,
		    struct fl_stream **stream)
{
	struct epoll_event event = {.events = EPOLLIN};
	int err;

	*side = (struct fl_incoming_side){.in = in, .name = name};
	err = fl_conn_new(&side->conn, *stream, &fl_incoming_conn_ops, side);
	if (err < 0)
		return err;
	*stream = NULL; /* the connection's now */
	side->events = POLLIN;
	if (epoll_ctl(in->epoll_fd, EPOLL_CTL_ADD, fl_conn_fd(side->conn), &event) < 0)
		return -errno;
	return 0;
}

int fl_incoming_attach(struct fl_incoming *in, struct fl_pair *pair)
{
	int err = side_new(in, &in->main, "main", &pair->main);

	if (!err)
		err = side_new(in, &in->demand, "demand", &pair->demand);
	fl_stream_close(pair->main);
	fl_stream_close(pair->demand);
	pair->main = pair->demand = NULL;
	if (err) {
		fl_incoming_detach(in);
		return err;
	}
	in->broken = (struct fl_error){0};
	in->tells_waits = pair->features & FL_FEATURE_WAITS;
	fl_alive_begin(&in->alive, in->options.timeout_ms, fl_clock_ns());
	return 0;
}

static uint64_t side_received(const struct fl_incoming_side *side)
{
	struct fl_conn_stats stats;

	if (!side->conn)
		return 0;
	fl_conn_stats(side->conn, &stats);
	return stats.received_bytes;
}

static void count_received(struct fl_incoming *in)
{
	fl_incoming_set(&in->count.received,
			in->bytes_before + side_received(&in->main) + side_received(&in->demand));
}

static void side_free(struct fl_incoming_side *side)
{
	/* Its descriptor leaves the epoll set by being closed. */
	fl_conn_free(side->conn);
	side->conn = NULL;
	side->frame_bytes = 0;
}

void fl_incoming_detach(struct fl_incoming *in)
{
	count_received(in);
	in->bytes_before = fl_incoming_get(&in->count.received);
	side_free(&in->main);
	side_free(&in->demand);
}

/* False when nothing more is to be had from it now. */
static bool take_side(struct fl_incoming_side *side)
{
	struct fl_incoming *in = side->in;
	int more;

	if (!side->conn || in->broken.code)
		return false;
	more = fl_conn_recv(side->conn, in->stage < FL_STAGE_LOADING ? FL_INCOMING_STEP
								     : FL_INCOMING_SERVE_STEP);
	if (more >= 0)
		return more > 0 && !in->broken.code;
	if (in->broken.code) /* by what it called: that says it better */
		return false;
	/* What comes by demand may have overtaken GO on main. */
	if (more == -EREMOTEIO && side == &in->main && in->again == FL_AGAIN_NOTHING)
		in->called_off = true;
	(void)fl_conn_reason(side->conn, side->name, more, &in->broken);
	return false;
}

bool fl_incoming_take(struct fl_incoming *in)
{
	bool more = take_side(&in->demand);

	if (take_side(&in->main))
		more = true;
	if (take_side(&in->demand)) /* what came meanwhile */
		more = true;
	count_received(in);
	return more;
}

void fl_incoming_hear_out(struct fl_incoming *in)
{
	struct fl_error why = in->broken;

	in->broken = (struct fl_error){0};
	for (unsigned int i = 0; i < HEAR_STEPS && take_side(&in->main); i++)
		;
	if (!in->called_off)
		in->broken = why;
}

static void flush_side(struct fl_incoming_side *side)
{
	struct fl_incoming *in = side->in;
	struct epoll_event event = {0};
	short events;
	int err;

	if (!side->conn || in->broken.code)
		return;
	err = fl_conn_flush(side->conn, UINT64_MAX);
	if (err < 0) {
		(void)fl_conn_reason(side->conn, side->name, err, &in->broken);
		return;
	}
	events = fl_conn_events(side->conn);
	if (events == side->events)
		return;
	side->events = events;
	event.events = (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
	(void)epoll_ctl(in->epoll_fd, EPOLL_CTL_MOD, fl_conn_fd(side->conn), &event);
}

void fl_incoming_flush(struct fl_incoming *in)
{
	flush_side(&in->demand);
	flush_side(&in->main);
}

void fl_incoming_flush_demand(struct fl_incoming *in)
{
	flush_side(&in->demand);
}

static int left_ms(uint64_t end_ns)
{
	uint64_t now_ns = fl_clock_ns();

	return now_ns < end_ns ? (int)((end_ns - now_ns) / FL_NS_PER_MS) + 1 : 0;
}

void fl_incoming_part(struct fl_incoming *in)
{
	uint64_t end_ns = fl_clock_ns() + PART_MS * FL_NS_PER_MS;
	struct fl_conn *conn = in->main.conn;

	if (!conn)
		return;
	if (in->broken.code && in->broken.code != -EREMOTEIO)
		fl_conn_send_error(conn, &in->broken);
	while (fl_conn_flush(conn, UINT64_MAX) == 0) {
		struct pollfd polls[] = {{.fd = fl_conn_fd(conn), .events = POLLOUT},
					 {.fd = in->cancel_fd, .events = POLLIN}};

		if (poll(polls, 2, left_ms(end_ns)) <= 0 || polls[1].revents)
			break;
	}
	fl_socket_drain(fl_conn_fd(conn), in->cancel_fd, end_ns);
	fl_incoming_detach(in);
}
