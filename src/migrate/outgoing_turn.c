/* SPDX-License-Identifier: MIT */

/*
 * The two connections, and the one place where the migration's thread waits: a poll of both, of the
 * eventfd by which it is told to end, and of the time. What came is judged here by its type and by
 * what the state at hand expects; the states look at out->came.
 *
 * Whoever reads the order of things: frames on main leave in the order they were queued in, so a
 * ROUND stands behind the round's pages and GO behind the state.
 */

#include "link/stream.h"
#include "migrate/outgoing.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#define RECV_BUDGET  (256u * 1024)
#define FLUSH_BUDGET (512u * 1024)
#define STEP_BYTES   FL_WIRE_PAGES_BYTES
#define REASON_NS    (100 * FL_NS_PER_MS)

void fl_outgoing_phase(struct fl_outgoing *out, enum fl_migrate_phase phase)
{
	atomic_store(&out->phase, (int)phase);
	fl_log(&out->options.log, FL_LOG_DEBUG, "migration: %s", fl_migrate_phase_name(phase));
}

bool fl_side_takes(const struct fl_side *side)
{
	return fl_conn_can_send_pages(side->conn) && fl_conn_unsent(side->conn) <= STEP_BYTES;
}

/* --- what comes --- */

static int round_ack(struct fl_outgoing *out, const struct fl_frame *frame)
{
	if (frame->id != out->round)
		return fl_error_set(&out->why, -EBADMSG, "ROUND_ACK: of round %u, in round %u",
				    frame->id, out->round);
	return 0;
}

static void running(struct fl_outgoing *out)
{
	if (!atomic_load_explicit(&out->figures.downtime_ns, memory_order_relaxed))
		fl_figure(&out->figures.downtime_ns, fl_clock_ns() - out->stop_ns);
}

/* How long the machine waited for what was demanded. */
static int complete(struct fl_outgoing *out, const struct fl_frame *frame, const void *payload)
{
	struct fl_fault_stats waits;
	int ret = fl_waits_decode(&waits, frame, payload, &out->why);

	if (ret)
		return ret;
	fl_figure(&out->figures.waits, waits.count);
	fl_figure(&out->figures.wait_p50_ns, waits.p50_ns);
	fl_figure(&out->figures.wait_p99_ns, waits.p99_ns);
	fl_figure(&out->figures.wait_max_ns, waits.max_ns);
	return 0;
}

/* Frames of main that are not there to come again and again. */
static int main_once(struct fl_outgoing *out, const struct fl_frame *frame, const void *payload)
{
	int ret = 0;

	if (frame->type == FL_FRAME_ROUND_ACK)
		ret = round_ack(out, frame);
	else if (frame->type == FL_FRAME_RUNNING)
		running(out);
	else if (frame->type == FL_FRAME_RECEIVED_END)
		ret = fl_bits_end(out->received, frame, &out->why);
	else if (frame->type == FL_FRAME_COMPLETE)
		ret = complete(out, frame, payload);
	if (ret)
		return ret;
	out->came |= fl_frame_bit(frame->type);
	out->expected &= ~fl_frame_bit(frame->type);
	if (frame->type == FL_FRAME_ROUND_ACK)
		out->expected &= ~fl_frame_bit(FL_FRAME_TORN);
	return 0;
}

static int main_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct fl_side *side = ctx;
	struct fl_outgoing *out = side->out;

	if (fl_alive_frame(&out->alive, side->conn, frame))
		return 0;
	if (!(out->expected & fl_frame_bit(frame->type)))
		return fl_frame_unexpected(frame, (enum fl_migrate_phase)atomic_load(&out->phase),
					   &out->why);
	if (frame->type == FL_FRAME_REQUEST)
		return fl_outgoing_request(side, frame);
	if (frame->type == FL_FRAME_RECEIVED)
		return fl_bits_add(out->received, out->pages, frame, payload, &out->why);
	if (frame->type == FL_FRAME_TORN)
		return fl_bits_add(out->torn, out->pages, frame, payload, &out->why);
	return main_once(out, frame, payload);
}

static int demand_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct fl_side *side = ctx;
	struct fl_outgoing *out = side->out;

	(void)payload;
	/* The end of RECEIVED comes on main, and may be overtaken by what is asked next. */
	if (frame->type == FL_FRAME_REQUEST &&
	    (out->expected &
	     (fl_frame_bit(FL_FRAME_REQUEST) | fl_frame_bit(FL_FRAME_RECEIVED_END))))
		return fl_outgoing_request(side, frame);
	return fl_error_set(&out->why, -EBADMSG, "%s came on the demand connection in phase %s",
			    fl_frame_name(frame->type),
			    fl_migrate_phase_name((enum fl_migrate_phase)atomic_load(&out->phase)));
}

static void *no_place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	(void)ctx, (void)frame, (void)offset, (void)len_bytes;
	return NULL;
}

/* No contents ever come to this side. */
static int no_contents(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes)
{
	struct fl_side *side = ctx;

	(void)offset, (void)len_bytes;
	return fl_frame_unexpected(frame, (enum fl_migrate_phase)atomic_load(&side->out->phase),
				   &side->out->why);
}

/* --- meeting --- */

static int take(struct fl_outgoing *out, struct fl_side *side, struct fl_stream *stream,
		const struct fl_conn_ops *ops, uint32_t features)
{
	int ret = fl_conn_new(&side->conn, stream, ops, side);

	if (ret) {
		fl_stream_close(stream);
		side->conn = NULL;
		return fl_error_set(&out->why, ret, "no memory for a connection");
	}
	ret = fl_conn_compress(side->conn, fl_migrate_compression(features));
	return ret ? fl_error_set(&out->why, ret, "compression: %s", strerrordesc_np(-ret)) : 0;
}

int fl_outgoing_meet(struct fl_outgoing *out, const struct fl_meet *how)
{
	static const struct fl_conn_ops main_ops = {
		.frame = main_frame, .place = no_place, .dropped = no_contents};
	static const struct fl_conn_ops demand_ops = {
		.frame = demand_frame, .place = no_place, .dropped = no_contents};
	struct fl_pair pair = {0};
	int ret = fl_meet(how, &pair, &out->options.log, &out->why);

	if (ret == -ECANCELED)
		(void)fl_outgoing_asked_to_end(out); /* says it better */
	if (ret)
		return ret;
	memcpy(out->session, pair.session, sizeof(out->session));
	out->features = pair.features;
	ret = take(out, &out->main, pair.main, &main_ops, pair.features);
	if (ret) {
		fl_stream_close(pair.demand);
		return ret;
	}
	ret = take(out, &out->demand, pair.demand, &demand_ops, pair.features);
	fl_alive_begin(&out->alive, out->options.timeout_ms, fl_clock_ns());
	return ret;
}

/* --- one turn --- */

static uint64_t sent_bytes(const struct fl_side *side)
{
	struct fl_conn_stats stats;

	fl_conn_stats(side->conn, &stats);
	return stats.sent_bytes;
}

/* What an op found wrong has its own words already. */
static int broken(struct fl_outgoing *out, const struct fl_side *side, int code)
{
	if (!out->why.code)
		(void)fl_conn_reason(side->conn, side->name, code, &out->why);
	return out->why.code;
}

/*
 * A peer that closed one of them may have said why, on main: that is the better reason. They are not in
 * step, so it may be a moment behind.
 */
static int lost(struct fl_outgoing *out, struct fl_side *side, int code)
{
	uint64_t end_ns = fl_clock_ns() + REASON_NS;
	int fd = fl_conn_fd(out->main.conn), ret = 1;

	if (out->why.code)
		return out->why.code;
	while (ret >= 0 && fl_clock_ns() < end_ns) {
		ret = fl_conn_recv(out->main.conn, RECV_BUDGET);
		if (!ret && fl_socket_wait(fd, POLLIN, out->wake_fd, end_ns))
			break;
	}
	if (ret == -EREMOTEIO) {
		side = &out->main;
		code = ret;
	}
	return broken(out, side, code);
}

int fl_outgoing_flush(struct fl_outgoing *out, struct fl_side *side, uint64_t budget_bytes)
{
	int ret = fl_conn_flush(side->conn, budget_bytes);

	/* Nothing else was unsent when GO was queued: any byte more is of GO. */
	if (out->going && side == &out->main && sent_bytes(side) > out->go_at)
		atomic_store(&out->committed, true);
	return ret < 0 ? lost(out, side, ret) : 0;
}

/* The flags are the truth; the eventfd only wakes. */
int fl_outgoing_asked_to_end(struct fl_outgoing *out)
{
	if (atomic_load(&out->quit))
		return fl_error_set(&out->why, -ECANCELED, "the migration was ended");
	if (atomic_load(&out->cancel) && !atomic_load(&out->committed))
		return fl_error_set(&out->why, -ECANCELED, "the migration was called off");
	if (atomic_load(&out->recover_off))
		return fl_error_set(&out->why, -ECANCELED, "the recovery was called off");
	return 0;
}

static int receive(struct fl_outgoing *out, struct fl_side *side, short revents)
{
	/* With nothing to send, POLLOUT may be asked for because TLS has to write to read. */
	bool wanted = (revents & ~POLLOUT) || (revents && !fl_conn_unsent(side->conn));
	int ret;

	if (!wanted && !fl_conn_pending(side->conn))
		return 0;
	ret = fl_conn_recv(side->conn, RECV_BUDGET);
	return ret < 0 ? lost(out, side, ret) : 0;
}

static void wait_until(struct fl_outgoing *out, struct pollfd fds[3], uint64_t until_ns)
{
	uint64_t now_ns = fl_clock_ns(), alive_ns = fl_alive_due(&out->alive, out->main.conn);
	struct timespec wait = {0};

	if (fl_conn_pending(out->main.conn) || fl_conn_pending(out->demand.conn))
		until_ns = 0;
	if (alive_ns < until_ns)
		until_ns = alive_ns;
	if (until_ns > now_ns) {
		wait.tv_sec = (time_t)((until_ns - now_ns) / FL_NS_PER_S);
		wait.tv_nsec = (long)((until_ns - now_ns) % FL_NS_PER_S);
	}
	/* A signal, or any failure: nothing is ready, and the turn goes on. */
	if (ppoll(fds, 3, &wait, NULL) <= 0)
		fds[0].revents = fds[1].revents = fds[2].revents = 0;
}

int fl_outgoing_turn(struct fl_outgoing *out, uint64_t until_ns)
{
	struct pollfd fds[3] = {
		{.fd = fl_conn_fd(out->demand.conn), .events = fl_conn_events(out->demand.conn)},
		{.fd = fl_conn_fd(out->main.conn), .events = fl_conn_events(out->main.conn)},
		{.fd = out->wake_fd, .events = POLLIN}};
	eventfd_t count;
	int ret;

	if (out->wants_room)
		fds[1].events |= POLLOUT;
	wait_until(out, fds, until_ns);
	if (fds[2].revents)
		(void)eventfd_read(out->wake_fd, &count);
	ret = fl_outgoing_asked_to_end(out);
	if (!ret)
		ret = receive(out, &out->demand, fds[0].revents);
	if (!ret)
		ret = receive(out, &out->main, fds[1].revents);
	if (!ret)
		ret = fl_outgoing_flush(out, &out->demand, FLUSH_BUDGET);
	if (!ret)
		ret = fl_outgoing_flush(out, &out->main, FLUSH_BUDGET);
	fl_outgoing_count(out);
	return ret ? ret
		   : fl_alive_check(&out->alive, out->main.conn, out->demand.conn, fl_clock_ns(),
				    &out->why);
}

int fl_outgoing_await(struct fl_outgoing *out, uint8_t type)
{
	int ret = 0;

	while (!ret && !(out->came & fl_frame_bit(type)))
		ret = fl_outgoing_turn(out, UINT64_MAX);
	return ret;
}

int fl_outgoing_say(struct fl_outgoing *out, uint8_t type, uint64_t offset, uint32_t id)
{
	struct fl_frame frame = {.type = type, .offset = offset, .id = id};
	int ret;

	while ((ret = fl_conn_send(out->main.conn, &frame, NULL, 0)) == -ENOBUFS) {
		ret = fl_outgoing_turn(out, UINT64_MAX);
		if (ret)
			return ret;
	}
	if (ret)
		return broken(out, &out->main, ret);
	return fl_outgoing_flush(out, &out->main, FLUSH_BUDGET);
}

int fl_outgoing_send_blob(struct fl_outgoing *out, uint8_t type, uint32_t id, const void *bytes,
			  uint64_t len)
{
	uint64_t sent = 0;
	int ret;

	while (!(ret = fl_blob_send(out->main.conn, type, id, bytes, len, &sent))) {
		ret = fl_outgoing_turn(out, UINT64_MAX);
		if (ret)
			return ret;
	}
	if (ret < 0)
		return broken(out, &out->main, ret);
	return fl_outgoing_flush(out, &out->main, FLUSH_BUDGET);
}
