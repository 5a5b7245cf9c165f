/* SPDX-License-Identifier: MIT */
/* Frames over a connection: order, queue, budgets, and what ends it. */
#include "link/pair_test.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static void send_ping(struct owner *owner, uint32_t id)
{
	struct fl_frame frame = {.type = FL_FRAME_PING, .id = id};

	assert_int_equal(fl_conn_send(owner->conn, &frame, NULL, 0), 0);
}

static void frames_arrive_in_order(void **state)
{
	struct pair *pair = *state;
	struct fl_frame due = {.type = FL_FRAME_DUE, .offset = 77};
	static uint8_t bitmap[FL_WIRE_CONTROL_MAX];

	test_pattern(bitmap, sizeof(bitmap), 0, PAIR_SEED);
	for (uint32_t i = 1; i <= 100; i++)
		send_ping(&pair->out, i);
	assert_int_equal(fl_conn_send(pair->out.conn, &due, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(pair_run(pair), 0);
	assert_int_equal(pair->in.frames, 101);
	for (uint32_t i = 1; i <= 100; i++)
		assert_int_equal(pair->in.frame[i - 1].id, i);
	assert_int_equal(pair->in.frame[100].len, sizeof(bitmap));
	assert_int_equal(pair->in.frame[100].offset, 77);
	assert_filled(pair->in.payload, sizeof(bitmap), 0, PAIR_SEED);
}

static void both_directions_are_apart(void **state)
{
	struct pair *pair = *state;

	for (uint32_t i = 0; i < 5; i++) {
		send_ping(&pair->out, i);
		send_ping(&pair->in, 100 + i);
		send_ping(&pair->in, 200 + i);
		assert_int_equal(pair_run(pair), 0);
	}
	assert_int_equal(pair->in.frames, 5);
	assert_int_equal(pair->out.frames, 10);
}

/* A byte at a time, each way, with everything there is to receive. */
static void in_bytes(void **state)
{
	struct pair *pair = *state;
	struct fl_frame state_frame = {.type = FL_FRAME_STATE, .bytes = 1000};

	pair->there.step = 1;
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t offset = (uint64_t)i * FL_WIRE_PAGES_BYTES;

		send_ping(&pair->out, i);
		assert_int_equal(fl_conn_send_pages(pair->out.conn, offset, pair->memory + offset,
						    3 * FL_WIRE_UNIT),
				 0);
		assert_int_equal(fl_conn_send(pair->out.conn, &state_frame, pair->memory, 1000), 0);
		assert_int_equal(pair_run(pair), 0);
		assert_in_place(&pair->in, offset, 3 * FL_WIRE_UNIT);
		assert_memory_equal(pair->in.payload, pair->memory, 1000);
	}
	assert_int_equal(pair->in.frames, 6);
}

static void queue_is_bounded(void **state)
{
	struct pair *pair = *state;
	struct fl_frame due = {.type = FL_FRAME_DUE};
	struct fl_error why = {-EIO, "the disk is on fire"};
	int rc, sent = 0;

	assert_int_equal(fl_conn_send_pages(pair->out.conn, 0, pair->memory, FL_WIRE_PAGES_BYTES),
			 0);
	do
		rc = fl_conn_send(pair->out.conn, &due, pair->memory, 60000);
	while (rc == 0 && ++sent < 100);
	assert_int_equal(rc, -ENOBUFS);
	assert_int_equal(sent, ((1 << 20) - 32 - 256) / 60032);
	assert_true(fl_conn_unsent(pair->out.conn) > FL_WIRE_PAGES_BYTES + (uint64_t)sent * 60032);
	/* Flushing makes room, wherever in its ring the queue has come to. */
	for (int i = 0; i < 60; i++) {
		assert_in_range(fl_conn_flush(pair->out.conn, 200000), 0, 1);
		while (fl_conn_send(pair->out.conn, &due, pair->memory, 60000) == 0)
			sent++;
		assert_true(fl_conn_recv(pair->in.conn, UINT64_MAX) >= 0);
	}
	assert_true(sent > 100);
	fl_conn_send_error(pair->out.conn, &why);
	assert_int_equal(pair_run(pair), -EREMOTEIO);
	assert_int_equal(pair->in.frames, sent);
	assert_in_place(&pair->in, 0, FL_WIRE_PAGES_BYTES);
}

static void impossible_frames_are_refused(void **state)
{
	struct pair *pair = *state;
	struct fl_conn *conn = pair->out.conn;
	struct fl_frame frame = {.type = FL_FRAME_GO, .id = 3};

	assert_int_equal(fl_conn_send(conn, &frame, NULL, 0), -EINVAL);
	assert_string_equal(fl_conn_error(conn)->text, "cannot send GO: id is 3, must be 0");
	frame = (struct fl_frame){.type = FL_FRAME_PAGES, .bytes = FL_WIRE_UNIT};
	assert_int_equal(fl_conn_send(conn, &frame, pair->memory, 8 + FL_WIRE_UNIT), -EINVAL);
	assert_int_equal(fl_conn_send_pages(conn, 1, pair->memory, FL_WIRE_UNIT), -EINVAL);
	assert_int_equal(fl_conn_send_pages(conn, 0, pair->memory, FL_WIRE_UNIT + 1), -EINVAL);
	assert_int_equal(fl_conn_unsent(conn), 0);
}

static void flush_keeps_its_budget(void **state)
{
	struct pair *pair = *state;
	uint64_t before = 0;

	assert_int_equal(fl_conn_send_pages(pair->out.conn, 0, pair->memory, FL_WIRE_PAGES_BYTES),
			 0);
	send_ping(&pair->out, 1);
	for (uint64_t budget = 1; budget < 15000; budget += 999) {
		assert_int_equal(fl_conn_flush(pair->out.conn, budget), 0);
		assert_int_equal(pair->there.tail - before, budget);
		before = pair->there.tail;
		assert_int_equal(fl_conn_events(pair->out.conn), POLLIN | POLLOUT);
	}
	assert_int_equal(fl_conn_flush(pair->out.conn, UINT64_MAX), 1);
	assert_int_equal(fl_conn_events(pair->out.conn), POLLIN);
	assert_int_equal(pair_run(pair), 0);
	assert_in_place(&pair->in, 0, FL_WIRE_PAGES_BYTES);
}

static void recv_keeps_its_budget(void **state)
{
	struct pair *pair = *state;
	const uint64_t budget = 10000, slack = 2 * FL_WIRE_UNIT;
	uint64_t before = 0;
	int rc;

	for (uint64_t at = 0; at < PAIR_IMAGE; at += FL_WIRE_PAGE_MAX)
		pair_push(pair, at, FL_WIRE_PAGE_MAX);
	do {
		rc = fl_conn_recv(pair->in.conn, budget);
		assert_true(pair->there.head - before <= budget + slack);
		before = pair->there.head;
	} while (rc == 1);
	assert_int_equal(rc, 0);
	assert_in_place(&pair->in, 0, PAIR_IMAGE);
}

/* A full pipe is waited for, and costs no spinning. */
static void flush_stops_when_full(void **state)
{
	struct pair *pair = *state;

	pair->there.capacity = 5000;
	assert_int_equal(fl_conn_send_pages(pair->out.conn, 0, pair->memory, FL_WIRE_PAGES_BYTES),
			 0);
	assert_int_equal(fl_conn_flush(pair->out.conn, UINT64_MAX), 0);
	assert_int_equal(pair->there.calls, 1);
	assert_int_equal(fl_conn_unsent(pair->out.conn), 32 + 256 + FL_WIRE_PAGES_BYTES - 5000);
	assert_int_equal(pair_run(pair), 0);
	assert_in_place(&pair->in, 0, FL_WIRE_PAGES_BYTES);
}

static void counts(void **state)
{
	struct pair *pair = *state;
	struct fl_conn_stats out, in;

	fl_conn_stats(pair->in.conn, &in);
	assert_int_equal(in.last_received_ns, 0);
	send_ping(&pair->out, 1);
	pair_push(pair, 0, FL_WIRE_PAGES_BYTES);
	assert_int_equal(pair_run(pair), 0);
	fl_conn_stats(pair->out.conn, &out);
	fl_conn_stats(pair->in.conn, &in);
	assert_int_equal(out.sent_bytes, 32 + 32 + 256 + FL_WIRE_PAGES_BYTES);
	assert_int_equal(in.received_bytes, out.sent_bytes);
	assert_int_equal(out.received_bytes, 0);
	assert_true(out.last_sent_ns > 0 && in.last_received_ns >= out.last_sent_ns);
}

static void the_peer_says_why(void **state)
{
	struct pair *pair = *state;
	struct fl_error why = {-ENOSPC, "region 3: no \x1b[31mroom\n for \xc3\xa4 page"};

	send_ping(&pair->out, 9);
	fl_conn_send_error(pair->out.conn, &why);
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), -EREMOTEIO);
	assert_int_equal(pair->in.frames, 1);
	assert_int_equal(fl_conn_error(pair->in.conn)->code, -EREMOTEIO);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "the other side: region 3: no ?[31mroom? for \xc3\xa4 page");
	/* It stays so. */
	pair_push(pair, 0, FL_WIRE_UNIT);
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), -EREMOTEIO);
	assert_int_equal(pair->in.calls, 0);
}

static void the_peer_says_nothing(void **state)
{
	struct pair *pair = *state;
	struct fl_error why = {-ENOSPC, ""};

	fl_conn_send_error(pair->out.conn, &why);
	assert_int_equal(pair_run(pair), -EREMOTEIO);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "the other side: No space left on device");
}

static void close_between_frames(void **state)
{
	struct pair *pair = *state;

	send_ping(&pair->out, 1);
	pair->there.closed = true;
	assert_int_equal(pair_run(pair), -ECONNRESET);
	assert_int_equal(pair->in.frames, 1);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "the other side closed the connection between two frames");
}

static void close_in_a_frame(void **state)
{
	struct pair *pair = *state;

	pair_push(pair, 0, 2 * FL_WIRE_UNIT);
	pair->there.tail -= 1;
	pair->there.closed = true;
	assert_int_equal(pair_run(pair), -ECONNRESET);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "the other side closed the connection in the middle of PAGES");
	assert_in_place(&pair->in, 0, FL_WIRE_UNIT);
	assert_told(&pair->in, FL_WIRE_UNIT, FL_WIRE_UNIT, TOLD_NOTHING);
}

static void close_in_a_head(void **state)
{
	struct pair *pair = *state;

	send_ping(&pair->out, 1);
	pair_flush(&pair->out);
	pair->there.tail -= 1;
	pair->there.closed = true;
	assert_int_equal(pair_run(pair), -ECONNRESET);
	assert_int_equal(pair->in.frames, 0);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "the other side closed the connection in the middle of a frame");
}

/* What the peer said before it went is heard, though sending to it failed. */
static void last_words(void **state)
{
	struct pair *pair = *state;
	struct fl_error why = {-EBADMSG, "I do not like it"};

	fl_conn_send_error(pair->in.conn, &why);
	pair->there.error = -EPIPE;
	send_ping(&pair->out, 1);
	assert_int_equal(fl_conn_flush(pair->out.conn, UINT64_MAX), -EPIPE);
	assert_string_equal(fl_conn_error(pair->out.conn)->text, "sending: Broken pipe");
	assert_int_equal(fl_conn_flush(pair->out.conn, UINT64_MAX), -EPIPE);
	assert_int_equal(fl_conn_send_pages(pair->out.conn, 0, pair->memory, FL_WIRE_UNIT), -EPIPE);
	assert_int_equal(fl_conn_recv(pair->out.conn, UINT64_MAX), -EREMOTEIO);
	assert_string_equal(fl_conn_error(pair->out.conn)->text,
			    "the other side: I do not like it");
}

static void stream_errors_end_it(void **state)
{
	struct pair *pair = *state;

	pair->there.error = -ETIMEDOUT;
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), -ETIMEDOUT);
	assert_string_equal(fl_conn_error(pair->in.conn)->text, "receiving: Connection timed out");
}

/* TLS knows more than the errno. */
static void streams_say_why(void **state)
{
	struct pair *pair = *state;

	pair->there.error = -EPROTO;
	pair->there.reason = "TLS as the client: the peer refused our certificate";
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), -EPROTO);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "receiving: TLS as the client: the peer refused our certificate");
	send_ping(&pair->out, 1);
	assert_int_equal(fl_conn_flush(pair->out.conn, UINT64_MAX), -EPROTO);
	assert_string_equal(fl_conn_error(pair->out.conn)->text,
			    "sending: TLS as the client: the peer refused our certificate");
}

static void owner_errors_end_it(void **state)
{
	struct pair *pair = *state;

	pair->in.frame_rc = -EPROTO;
	send_ping(&pair->out, 1);
	send_ping(&pair->out, 2);
	assert_int_equal(pair_run(pair), -EPROTO);
	assert_int_equal(pair->in.frames, 1);
	assert_string_equal(fl_conn_error(pair->in.conn)->text, "PING: Protocol error");
}

static void owner_errors_of_pages_end_it(void **state)
{
	struct pair *pair = *state;

	pair->in.pages_rc = -EFAULT;
	pair->in.most = FL_WIRE_UNIT;
	pair_push(pair, 0, FL_WIRE_PAGES_BYTES);
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), -EFAULT);
	assert_int_equal(pair->in.calls, 1);
}

#define PAIR_TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAIR_TEST(frames_arrive_in_order),
		PAIR_TEST(both_directions_are_apart),
		PAIR_TEST(in_bytes),
		PAIR_TEST(queue_is_bounded),
		PAIR_TEST(impossible_frames_are_refused),
		PAIR_TEST(flush_keeps_its_budget),
		PAIR_TEST(recv_keeps_its_budget),
		PAIR_TEST(flush_stops_when_full),
		PAIR_TEST(counts),
		PAIR_TEST(the_peer_says_why),
		PAIR_TEST(the_peer_says_nothing),
		PAIR_TEST(close_between_frames),
		PAIR_TEST(close_in_a_frame),
		PAIR_TEST(close_in_a_head),
		PAIR_TEST(last_words),
		PAIR_TEST(stream_errors_end_it),
		PAIR_TEST(streams_say_why),
		PAIR_TEST(owner_errors_end_it),
		PAIR_TEST(owner_errors_of_pages_end_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
