/* SPDX-License-Identifier: MIT */
/* Contents: where they go, when they are right, and what they cost. */
#include "link/pair_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNIT  FL_WIRE_UNIT
#define FRAME FL_WIRE_PAGES_BYTES

static void all_sizes(void **state)
{
	struct pair *pair = *state;
	uint64_t offset = FL_WIRE_PAGE_MAX;

	for (uint32_t bytes = UNIT; bytes <= FRAME; bytes += UNIT) {
		memset(pair->in.told, 0, PAIR_IMAGE / UNIT);
		memset(pair->in.image, 0, PAIR_IMAGE);
		pair_push(pair, offset, bytes);
		assert_int_equal(pair_run(pair), 0);
		assert_in_place(&pair->in, offset, bytes);
		assert_told(&pair->in, offset + bytes, UNIT, TOLD_NOTHING);
		assert_int_equal(test_nonzero(pair->in.image + offset + bytes, UNIT), -1);
	}
	memset(pair->in.told, 0, PAIR_IMAGE / UNIT);
	pair_push(pair, offset, FL_WIRE_PAGE_MAX);
	assert_int_equal(pair_run(pair), 0);
	assert_in_place(&pair->in, offset, FL_WIRE_PAGE_MAX);
	assert_int_equal(test_nonzero(pair->in.image, offset), -1);
}

/* Steps of a stream that end anywhere in a unit. */
static void in_pieces(void **state)
{
	static const size_t steps[] = {7, 31, 33, 289, 1000, 4095, 4096, 4097, 5003, 65537};
	struct pair *pair = *state;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		memset(pair->in.told, 0, PAIR_IMAGE / UNIT);
		memset(pair->in.image, 0, PAIR_IMAGE);
		pair->there.step = steps[i];
		for (uint32_t at = 0; at < 1u << 20; at += FRAME)
			pair_push(pair, at, FRAME);
		assert_int_equal(pair_run(pair), 0);
		assert_in_place(&pair->in, 0, 1 << 20);
	}
}

static void one_at_a_time(void **state)
{
	struct pair *pair = *state;
	struct fl_conn *conn = pair->out.conn;
	struct fl_frame ping = {.type = FL_FRAME_PING};

	assert_true(fl_conn_can_send_pages(conn));
	assert_int_equal(fl_conn_send(conn, &ping, NULL, 0), 0);
	assert_int_equal(fl_conn_send_pages(conn, 0, pair->memory, FRAME), 0);
	assert_false(fl_conn_can_send_pages(conn));
	assert_int_equal(fl_conn_send_pages(conn, FRAME, pair->memory, UNIT), -EBUSY);
	assert_int_equal(fl_conn_flush(conn, 1000), 0);
	/* It comes after what it was queued after, and so does its sum. */
	ping.id = 1;
	assert_int_equal(fl_conn_send(conn, &ping, NULL, 0), 0);
	assert_int_equal(fl_conn_flush(conn, 32 + 32 + 256 + FRAME - 1000), 0);
	assert_int_equal(pair->there.tail, 32 + 32 + 256 + FRAME);
	assert_true(fl_conn_can_send_pages(conn));
	assert_int_equal(fl_conn_send_pages(conn, FRAME, pair->memory + FRAME, UNIT), 0);
	ping.id = 2;
	assert_int_equal(fl_conn_send(conn, &ping, NULL, 0), 0);
	assert_int_equal(pair_run(pair), 0);
	assert_in_place(&pair->in, 0, FRAME + UNIT);
	assert_int_equal(pair->in.frames, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(pair->in.frame[i].id, i);
}

/* Memory that was written while it was sent. */
static void wrong_sums_are_told(void **state)
{
	struct pair *pair = *state;

	assert_int_equal(fl_conn_send_pages(pair->out.conn, 0, pair->memory, 8 * UNIT), 0);
	pair->memory[3 * UNIT + 17] ^= 1;
	pair->memory[4 * UNIT] ^= 0x80;
	pair->memory[8 * UNIT - 1] ^= 1;
	pair_flush(&pair->out);
	pair_push(pair, FRAME, FRAME);
	assert_int_equal(pair_run(pair), 0);
	assert_in_place(&pair->in, 0, 3 * UNIT);
	assert_told(&pair->in, 3 * UNIT, 2 * UNIT, TOLD_WRONG);
	assert_in_place(&pair->in, 5 * UNIT, 2 * UNIT);
	assert_told(&pair->in, 7 * UNIT, UNIT, TOLD_WRONG);
	assert_in_place(&pair->in, FRAME, FRAME);
	assert_int_equal(pair->in.calls, 4 + 1);
}

static uint8_t *every_other(struct owner *owner, uint64_t offset, uint64_t *len_bytes)
{
	*len_bytes = UNIT;
	return offset / UNIT % 2 ? NULL : owner->image + offset;
}

static void scattered(void **state)
{
	struct pair *pair = *state;

	pair->in.where = every_other;
	for (size_t step = 0; step < 10000; step += 3333) {
		memset(pair->in.told, 0, PAIR_IMAGE / UNIT);
		memset(pair->in.image, 0, PAIR_IMAGE);
		pair->there.step = step;
		pair_push(pair, 0, FL_WIRE_PAGE_MAX);
		assert_int_equal(pair_run(pair), 0);
		for (uint64_t at = 0; at < FL_WIRE_PAGE_MAX; at += 2 * UNIT) {
			assert_in_place(&pair->in, at, UNIT);
			assert_told(&pair->in, at + UNIT, UNIT, TOLD_DROPPED);
			assert_int_equal(test_nonzero(pair->in.image + at + UNIT, UNIT), -1);
		}
	}
}

static uint8_t *nowhere(struct owner *owner, uint64_t offset, uint64_t *len_bytes)
{
	(void)owner;
	(void)offset;
	(void)len_bytes;
	return NULL;
}

static uint8_t *elsewhere(struct owner *owner, uint64_t offset, uint64_t *len_bytes)
{
	(void)len_bytes;
	return owner->image + PAIR_IMAGE / 2 + offset;
}

static void everything_dropped(void **state)
{
	struct pair *pair = *state;

	pair->in.where = nowhere;
	pair_push(pair, 0, FL_WIRE_PAGE_MAX);
	assert_int_equal(pair_run(pair), 0);
	assert_told(&pair->in, 0, FL_WIRE_PAGE_MAX, TOLD_DROPPED);
	pair->in.where = NULL;
	pair_push(pair, FL_WIRE_PAGE_MAX, FRAME);
	assert_int_equal(pair_run(pair), 0);
	assert_in_place(&pair->in, FL_WIRE_PAGE_MAX, FRAME);
}

/* Lets @bytes of contents through while the owner answers one way, and the rest while another. */
static void change_after(struct pair *pair, uint32_t bytes,
			 uint8_t *(*first)(struct owner *, uint64_t, uint64_t *),
			 uint8_t *(*then)(struct owner *, uint64_t, uint64_t *))
{
	size_t end;

	memset(pair->in.told, 0, PAIR_IMAGE / UNIT);
	memset(pair->in.image, 0, PAIR_IMAGE);
	pair_push(pair, 0, 8 * UNIT);
	end = pair->there.tail;
	pair->there.tail = pair->there.head + FL_WIRE_HEAD_BYTES + 8 * sizeof(uint64_t) + bytes;
	pair->in.where = first;
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), 0);
	assert_int_equal(pair->there.head, pair->there.tail);
	pair->there.tail = end;
	pair->in.where = then;
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), 0);
}

static void dropped_in_part_is_dropped(void **state)
{
	struct pair *pair = *state;

	for (uint32_t part = 1; part < UNIT; part += 455) {
		change_after(pair, 2 * UNIT + part, nowhere, NULL);
		assert_told(&pair->in, 0, 3 * UNIT, TOLD_DROPPED);
		assert_in_place(&pair->in, 3 * UNIT, 5 * UNIT);
		change_after(pair, 2 * UNIT + part, NULL, nowhere);
		assert_in_place(&pair->in, 0, 2 * UNIT);
		assert_told(&pair->in, 2 * UNIT, 6 * UNIT, TOLD_DROPPED);
	}
	/* At a unit's end nothing is in parts. */
	change_after(pair, 2 * UNIT, nowhere, NULL);
	assert_told(&pair->in, 0, 2 * UNIT, TOLD_DROPPED);
	assert_in_place(&pair->in, 2 * UNIT, 6 * UNIT);
}

static void moved_in_part_is_dropped(void **state)
{
	struct pair *pair = *state;
	const uint8_t *there = pair->in.image + PAIR_IMAGE / 2;

	change_after(pair, 2 * UNIT + 100, NULL, elsewhere);
	assert_in_place(&pair->in, 0, 2 * UNIT);
	assert_told(&pair->in, 2 * UNIT, UNIT, TOLD_DROPPED);
	assert_told(&pair->in, 3 * UNIT, 5 * UNIT, TOLD_RIGHT);
	assert_filled(there + 3 * UNIT, 5 * UNIT, 3 * UNIT, PAIR_SEED);
	assert_int_equal(test_nonzero(there, 3 * UNIT), -1);
}

static uint8_t *taking_turns(struct owner *owner, uint64_t offset, uint64_t *len_bytes)
{
	(void)len_bytes;
	return owner->asked % 7 == 0 ? NULL : owner->image + offset;
}

/* An answer that changes all the time, with every step another part of a unit. */
static void never_half(void **state)
{
	struct pair *pair = *state;
	unsigned int right = 0, dropped = 0;

	pair->in.where = taking_turns;
	pair->there.step = 1777;
	for (uint64_t at = 0; at < 1 << 20; at += FRAME)
		pair_push(pair, at, FRAME);
	assert_int_equal(pair_run(pair), 0);
	for (uint64_t at = 0; at < 1 << 20; at += UNIT) {
		if (pair->in.told[at / UNIT] == TOLD_RIGHT) {
			assert_in_place(&pair->in, at, UNIT);
			right++;
		} else {
			assert_told(&pair->in, at, UNIT, TOLD_DROPPED);
			dropped++;
		}
	}
	assert_true(right > 10 && dropped > 10);
}

/* 128 KiB of contents cost one call to send and, with the head of the next, one to receive. */
static void few_calls(void **state)
{
	struct pair *pair = *state;
	const unsigned int frames = PAIR_IMAGE / FRAME;

	for (uint64_t at = 0; at < PAIR_IMAGE; at += FRAME)
		pair_push(pair, at, FRAME);
	assert_int_equal(pair->there.calls, frames);
	pair->there.calls = 0;
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), 0);
	assert_in_place(&pair->in, 0, PAIR_IMAGE);
	assert_int_equal(pair->there.calls, frames + 1);
}

/* A page that someone waits for: its head, then its contents. */
static void few_calls_on_demand(void **state)
{
	struct pair *pair = *state;

	for (uint64_t at = 0; at < 1 << 20; at += UNIT) {
		pair->there.calls = 0;
		pair_push(pair, at, UNIT);
		assert_int_equal(pair->there.calls, 1);
		assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), 0);
		assert_int_equal(pair->there.calls, 3);
	}
	assert_in_place(&pair->in, 0, 1 << 20);
}

/* What is read ahead of contents has to be copied: after contents it is little. */
static void little_is_read_ahead(void **state)
{
	struct pair *pair = *state;
	struct fl_frame ping = {.type = FL_FRAME_PING};

	pair_push(pair, 0, UNIT);
	assert_int_equal(pair_run(pair), 0);
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), 0);
	assert_int_equal(pair->there.asked, 32 + 32 + 256);
	assert_int_equal(fl_conn_send(pair->out.conn, &ping, NULL, 0), 0);
	assert_int_equal(pair_run(pair), 0);
	assert_int_equal(fl_conn_recv(pair->in.conn, UINT64_MAX), 0);
	assert_int_equal(pair->there.asked, 32 + 2048);
}

static void allocates_nothing(void **state)
{
	struct pair *pair = *state;
	uint64_t before;

	pair->there.bytes = malloc(1 << 20); /* the test's own */
	pair->there.room = 1 << 20;
	before = test_allocations();
	for (uint64_t at = 0; at < 4 * FRAME; at += FRAME) {
		pair_push(pair, at, FRAME);
		(void)fl_conn_recv(pair->in.conn, UINT64_MAX);
	}
	assert_int_equal(test_allocations(), before);
	assert_in_place(&pair->in, 0, 4 * FRAME);
}

#define PAIR_TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAIR_TEST(all_sizes),
		PAIR_TEST(in_pieces),
		PAIR_TEST(one_at_a_time),
		PAIR_TEST(wrong_sums_are_told),
		PAIR_TEST(scattered),
		PAIR_TEST(everything_dropped),
		PAIR_TEST(dropped_in_part_is_dropped),
		PAIR_TEST(moved_in_part_is_dropped),
		PAIR_TEST(never_half),
		PAIR_TEST(few_calls),
		PAIR_TEST(few_calls_on_demand),
		PAIR_TEST(little_is_read_ahead),
		PAIR_TEST(allocates_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
