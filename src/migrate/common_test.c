/* SPDX-License-Identifier: MIT */
#include "support.h"
#include "migrate/common.h"
#include "util/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- blobs --- */

static struct fl_frame piece(uint64_t offset, uint32_t len, uint32_t whole)
{
	return (struct fl_frame){
		.type = FL_FRAME_STATE, .offset = offset, .len = len, .bytes = whole};
}

static void pieces_make_a_whole(void **state)
{
	struct fl_frame one = piece(0, 3, 8), two = piece(3, 5, 8);
	struct fl_blob blob = {0};
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_blob_add(&blob, &one, "abc", &err), 0);
	assert_int_equal(fl_blob_add(&blob, &two, "defgh", &err), 1);
	assert_memory_equal(blob.bytes, "abcdefgh", 8);
	assert_int_equal(fl_blob_add(&blob, &two, "defgh", &err), -EBADMSG);
	assert_string_equal(err.text, "STATE: a piece after the whole");
	fl_blob_free(&blob);
	one = piece(0, 0, 0);
	assert_int_equal(fl_blob_add(&blob, &one, NULL, &err), 1);
	assert_null(blob.bytes);
	assert_int_equal(fl_blob_add(&blob, &one, NULL, &err), -EBADMSG);
	fl_blob_free(&blob);
}

static void pieces_that_do_not_follow_are_refused(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t len, whole, id;
	} wrong[] = {
		{0, 3, 8, 0},          /* again */
		{4, 3, 8, 0},          /* a gap */
		{3, 6, 8, 0},          /* too long */
		{3, 0, 8, 0},          /* nothing */
		{3, 5, 9, 0},          /* another whole */
		{3, 5, 8, 1},          /* another id */
		{UINT64_MAX, 5, 8, 0}, /* would wrap */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct fl_frame first = piece(0, 3, 8);
		struct fl_frame next = piece(wrong[i].offset, wrong[i].len, wrong[i].whole);
		struct fl_blob blob = {0};
		struct fl_error err;

		next.id = wrong[i].id;
		assert_int_equal(fl_blob_add(&blob, &first, "abc", &err), 0);
		assert_int_equal(fl_blob_add(&blob, &next, "defghijk", &err), -EBADMSG);
		assert_non_null(strstr(err.text, "STATE: "));
		assert_int_equal(blob.have, 3);
		fl_blob_free(&blob);
	}
}

static void a_whole_that_is_too_long_is_not_allocated(void **state)
{
	struct fl_frame first = piece(0, 3, FL_WIRE_BLOB_MAX + 1);
	struct fl_blob blob = {0};
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_blob_add(&blob, &first, "abc", &err), -EBADMSG);
	assert_null(blob.bytes);
	fl_blob_free(&blob);
}

/* --- sets --- */

static struct fl_pageset *set_of(uint64_t pages)
{
	struct fl_pageset *set;

	assert_int_equal(fl_pageset_new(&set, pages), 0);
	return set;
}

static void assert_equal_sets(const struct fl_pageset *one, const struct fl_pageset *other)
{
	uint64_t at = 0, there = 0, run;

	do {
		run = fl_pageset_run(one, &at);
		assert_int_equal(fl_pageset_run(other, &there), run);
		assert_int_equal(at, there);
		at = there = at + run;
	} while (run);
}

/* Returns how many bytes the frames took. */
static uint64_t assert_travels(const struct fl_pageset *set, uint64_t pages)
{
	static uint8_t payload[FL_BITS_BYTES];
	struct fl_frame frame = {.type = FL_FRAME_DUE}, end = {.type = FL_FRAME_DUE_END};
	struct fl_pageset *copy = set_of(pages);
	uint64_t page = 0, bytes = 0;
	struct fl_error err;

	while (fl_bits_next(set, &page, &frame, payload)) {
		assert_in_range(frame.len, 1, FL_BITS_BYTES);
		assert_int_equal(fl_frame_check(&frame, &err), 0);
		assert_int_equal(fl_bits_add(copy, pages, &frame, payload, &err), 0);
		bytes += FL_WIRE_HEAD_BYTES + frame.len;
	}
	assert_equal_sets(set, copy);
	end.offset = fl_pageset_count(set);
	assert_int_equal(fl_bits_end(copy, &end, &err), 0);
	fl_pageset_free(copy);
	return bytes;
}

static void sets_travel_as_they_are(void **state)
{
	const uint64_t pages = 2 * FL_BITS_PAGES + 77;
	struct fl_pageset *set = set_of(pages);

	(void)state;
	assert_int_equal(assert_travels(set, pages), 0);
	fl_pageset_add(set, 0, pages);
	assert_int_equal(assert_travels(set, pages), (pages + 7) / 8 + 3 * FL_WIRE_HEAD_BYTES);
	fl_pageset_del(set, 1, pages - 2);
	assert_int_equal(assert_travels(set, pages), 2 * (FL_WIRE_HEAD_BYTES + 1));
	srand(7); /* NOLINT(cert-msc32-c,cert-msc51-cpp): the same in every run */
	for (int round = 0; round < 60; round++) {
		uint64_t gap = 1 + (uint64_t)rand() % (round < 30 ? 50 : 5000);

		fl_pageset_del(set, 0, pages);
		for (uint64_t page = (uint64_t)rand() % 9; page < pages;) {
			uint64_t run = 1 + (uint64_t)rand() % 70;

			fl_pageset_add(set, page, page + run < pages ? run : pages - page);
			page += run + 1 + (uint64_t)rand() % gap;
		}
		assert_travels(set, pages);
	}
	fl_pageset_free(set);
}

static void pages_that_are_not_there_are_refused(void **state)
{
	static const struct {
		uint64_t offset;
		const char *bits;
		int ret;
	} cases[] = {
		{96, "\x0f", 0},
		{96, "\x10", -EBADMSG},
		{100, "\x01", -EBADMSG},
		{0, "\0\0\0\0\0\0\0\0\0\0\0\0\x0f", 0},
		{0, "\0\0\0\0\0\0\0\0\0\0\0\0\x10", -EBADMSG},
		{UINT64_MAX / 4096 - 8, "\x01", -EBADMSG},
		{UINT64_MAX / 4096 - 8, "\x00", 0},
	};
	struct fl_pageset *set = set_of(100);
	struct fl_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct fl_frame frame = {.type = FL_FRAME_RECEIVED,
					 .offset = cases[i].offset,
					 .len = cases[i].offset ? 1 : 13};

		assert_int_equal(fl_bits_add(set, 100, &frame, cases[i].bits, &err), cases[i].ret);
	}
	assert_int_equal(fl_pageset_count(set), 4);
	fl_pageset_free(set);
}

static void a_count_that_differs_is_refused(void **state)
{
	struct fl_frame end = {.type = FL_FRAME_RECEIVED_END, .offset = 3};
	struct fl_pageset *set = set_of(100);
	struct fl_error err;

	(void)state;
	fl_pageset_add(set, 7, 2);
	assert_int_equal(fl_bits_end(set, &end, &err), -EBADMSG);
	assert_string_equal(err.text, "RECEIVED_END: says 3 pages, 2 came");
	fl_pageset_free(set);
}

/* --- silence, in a time that the test makes --- */

struct ends {
	struct fl_conn *conn[2];
	unsigned int came[FL_FRAME_TYPES];
};

static int count_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	(void)payload;
	((struct ends *)ctx)->came[frame->type]++;
	return 0;
}

static void ends_make(struct ends *ends)
{
	static const struct fl_conn_ops ops = {.frame = count_frame};
	int fds[2];

	*ends = (struct ends){0};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (int i = 0; i < 2; i++) {
		struct fl_stream *stream;

		assert_int_equal(fl_stream_socket_new(&stream, fds[i]), 0);
		assert_int_equal(fl_conn_new(&ends->conn[i], stream, &ops, ends), 0);
	}
}

static void ends_free(struct ends *ends)
{
	fl_conn_free(ends->conn[0]);
	fl_conn_free(ends->conn[1]);
}

static void silence_is_answered_by_ping_and_then_an_error(void **state)
{
	struct ends main, demand;
	struct fl_alive alive;
	struct fl_error err;
	uint64_t now_ns = fl_clock_ns();

	(void)state;
	ends_make(&main);
	ends_make(&demand);
	fl_alive_begin(&alive, 10000, now_ns);
	assert_int_equal(fl_alive_due(&alive, main.conn[0]), now_ns + FL_NS_PER_S);
	assert_int_equal(fl_alive_check(&alive, main.conn[0], demand.conn[0],
					now_ns + FL_NS_PER_S - 1, &err),
			 0);
	assert_int_equal(fl_conn_unsent(main.conn[0]), 0);
	assert_int_equal(
		fl_alive_check(&alive, main.conn[0], demand.conn[0], now_ns + FL_NS_PER_S, &err),
		0);
	assert_int_equal(fl_conn_flush(main.conn[0], UINT64_MAX), 1);
	assert_true(fl_conn_recv(main.conn[1], 4096) >= 0);
	assert_int_equal(main.came[FL_FRAME_PING], 1);
	assert_int_equal(fl_alive_check(&alive, main.conn[0], demand.conn[0],
					now_ns + 10 * FL_NS_PER_S - 1, &err),
			 0);
	assert_int_equal(fl_alive_check(&alive, main.conn[0], demand.conn[0],
					now_ns + 10 * FL_NS_PER_S, &err),
			 -ETIMEDOUT);
	assert_string_equal(err.text, "main connection: nothing came for 10000 ms");
	ends_free(&main);
	ends_free(&demand);
}

static void a_ping_is_answered(void **state)
{
	struct fl_frame ping = {.type = FL_FRAME_PING, .id = 9}, other = {.type = FL_FRAME_GO};
	struct fl_alive alive;
	struct ends main;

	(void)state;
	ends_make(&main);
	fl_alive_begin(&alive, 1000, fl_clock_ns());
	assert_true(fl_alive_frame(&alive, main.conn[0], &ping));
	assert_false(fl_alive_frame(&alive, main.conn[0], &other));
	assert_int_equal(fl_conn_flush(main.conn[0], UINT64_MAX), 1);
	assert_true(fl_conn_recv(main.conn[1], 4096) >= 0);
	assert_int_equal(main.came[FL_FRAME_PONG], 1);
	ends_free(&main);
}

/* The peer talks, and reads nothing. */
static void what_is_not_taken_is_an_error(void **state)
{
	static uint8_t bytes[FL_WIRE_CONTROL_MAX];
	struct fl_frame frame = {.type = FL_FRAME_DUE};

	(void)state;
	for (int which = 0; which < 2; which++) {
		uint64_t now_ns = fl_clock_ns();
		struct ends main, demand;
		struct fl_conn *stuck;
		struct fl_alive alive;
		struct fl_error err;

		ends_make(&main);
		ends_make(&demand);
		stuck = which ? demand.conn[0] : main.conn[0];
		do
			assert_int_equal(fl_conn_send(stuck, &frame, bytes, sizeof(bytes)), 0);
		while (fl_conn_flush(stuck, UINT64_MAX) == 1);
		/* From when it is seen: what came keeps the other clock quiet. */
		fl_alive_begin(&alive, 10000, now_ns + 5 * FL_NS_PER_S);
		assert_int_equal(fl_alive_check(&alive, main.conn[0], demand.conn[0], now_ns, &err),
				 0);
		assert_true(fl_alive_due(&alive, main.conn[0]) <= now_ns + 10 * FL_NS_PER_S);
		assert_int_equal(fl_alive_check(&alive, main.conn[0], demand.conn[0],
						now_ns + 10 * FL_NS_PER_S, &err),
				 -ETIMEDOUT);
		assert_string_equal(err.text, which ? "demand connection: took nothing for 10000 ms"
						    : "main connection: took nothing for 10000 ms");
		ends_free(&main);
		ends_free(&demand);
	}
}

static void how_long_demands_took_travels_or_does_not(void **state)
{
	const struct fl_fault_stats waits = {7, 1000, 2000, INT64_MAX};
	struct fl_frame frame = {.type = FL_FRAME_COMPLETE, .len = FL_WIRE_WAITS_BYTES};
	uint8_t payload[FL_WIRE_WAITS_BYTES];
	struct fl_fault_stats got = {1, 1, 1, 1};
	struct fl_error err;

	(void)state;
	fl_waits_encode(payload, &waits);
	assert_int_equal(fl_waits_decode(&got, &frame, payload, &err), 0);
	assert_memory_equal(&got, &waits, sizeof(got));
	frame.len = 0;
	assert_int_equal(fl_waits_decode(&got, &frame, NULL, &err), 0);
	assert_int_equal(got.count, 0);
	frame.len = 31;
	assert_int_equal(fl_waits_decode(&got, &frame, payload, &err), -EBADMSG);
	assert_string_equal(err.text, "COMPLETE: len is 31, must be 0 or 32");
	frame.len = FL_WIRE_WAITS_BYTES;
	payload[15] = 1; /* a p50 above the p99 */
	assert_int_equal(fl_waits_decode(&got, &frame, payload, &err), -EBADMSG);
	fl_waits_encode(payload, &waits);
	payload[31] = 0x80; /* more than a signed number of 64 bits */
	assert_int_equal(fl_waits_decode(&got, &frame, payload, &err), -EBADMSG);
}

/* The peer's last word is read, and what it says behind its end is not waited for. */
static void a_socket_is_drained_until_the_peer_ends(void **state)
{
	uint64_t begin_ns = fl_clock_ns();
	int fds[2], cancel_fd = eventfd(1, EFD_CLOEXEC);
	char bytes[70000] = {0};

	(void)state;
	assert_true(cancel_fd >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(send(fds[1], bytes, sizeof(bytes), 0), sizeof(bytes));
	fl_socket_drain(fds[0], cancel_fd, begin_ns + 60 * FL_NS_PER_S); /* called off, but reads */
	assert_int_equal(recv(fds[0], bytes, sizeof(bytes), 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(recv(fds[1], bytes, sizeof(bytes), 0), 0); /* we have closed our side */
	assert_int_equal(send(fds[1], bytes, 100, 0), 100);
	assert_int_equal(close(fds[1]), 0);
	fl_socket_drain(fds[0], -1, begin_ns + 60 * FL_NS_PER_S);
	assert_int_equal(recv(fds[0], bytes, sizeof(bytes), 0), 0);
	assert_true(fl_clock_ns() < begin_ns + 30 * FL_NS_PER_S);
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	fl_socket_drain(fds[0], -1, fl_clock_ns() + FL_NS_PER_MS); /* a peer that does not end */
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(close(fds[1]), 0);
	assert_int_equal(close(cancel_fd), 0);
}

static void every_phase_has_its_name(void **state)
{
	(void)state;
	assert_string_equal(fl_migrate_phase_name(FL_MIGRATE_MEETING), "meeting");
	assert_string_equal(fl_migrate_phase_name(FL_MIGRATE_FAILED), "failed");
	assert_string_equal(fl_migrate_phase_name((enum fl_migrate_phase)99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_make_a_whole),
		cmocka_unit_test(pieces_that_do_not_follow_are_refused),
		cmocka_unit_test(a_whole_that_is_too_long_is_not_allocated),
		cmocka_unit_test(sets_travel_as_they_are),
		cmocka_unit_test(pages_that_are_not_there_are_refused),
		cmocka_unit_test(a_count_that_differs_is_refused),
		cmocka_unit_test(silence_is_answered_by_ping_and_then_an_error),
		cmocka_unit_test(a_ping_is_answered),
		cmocka_unit_test(what_is_not_taken_is_an_error),
		cmocka_unit_test(how_long_demands_took_travels_or_does_not),
		cmocka_unit_test(a_socket_is_drained_until_the_peer_ends),
		cmocka_unit_test(every_phase_has_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
