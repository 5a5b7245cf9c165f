/* SPDX-License-Identifier: MIT */
/* What a peer or a network should not do: each is noticed, named, and the end. */
#include "link/pair_test.h"

#include <errno.h>
#include <string.h>

#define UNIT FL_WIRE_UNIT

/* Five frames of the outgoing side as they are on the wire, PINGs with a PAGES in the middle. */
struct wire {
	size_t at[6];
	uint8_t bytes[4 * FL_WIRE_HEAD_BYTES + FL_WIRE_HEAD_BYTES + 8 + UNIT];
};

static void record(struct pair *pair, struct wire *wire)
{
	for (uint32_t i = 0; i < 5; i++) {
		struct fl_frame ping = {.type = FL_FRAME_PING, .id = i};

		wire->at[i] = pair->there.tail;
		if (i == 2)
			assert_int_equal(fl_conn_send_pages(pair->out.conn, 0, pair->memory, UNIT),
					 0);
		else
			assert_int_equal(fl_conn_send(pair->out.conn, &ping, NULL, 0), 0);
		pair_flush(&pair->out);
	}
	wire->at[5] = pair->there.tail;
	assert_int_equal(wire->at[5], sizeof(wire->bytes));
	memcpy(wire->bytes, pair->there.bytes, sizeof(wire->bytes));
	pair->there.head = pair->there.tail = 0;
}

static void replay(struct pair *pair, const struct wire *wire, const char *order)
{
	for (; *order; order++) {
		int i = *order - '0';

		pipe_put(&pair->there, wire->bytes + wire->at[i], wire->at[i + 1] - wire->at[i]);
	}
}

/* Frames in this order: so many PINGs come through, then it is noticed. */
static void noticed(struct pair *pair, const char *order, unsigned int frames)
{
	struct wire wire;

	record(pair, &wire);
	replay(pair, &wire, order);
	assert_int_equal(pair_run(pair), -EBADMSG);
	assert_int_equal(pair->in.frames, frames);
	assert_non_null(strstr(fl_conn_error(pair->in.conn)->text,
			       "frames were lost, repeated, reordered or changed"));
}

static void all_is_well(void **state)
{
	struct pair *pair = *state;
	struct wire wire;

	record(pair, &wire);
	replay(pair, &wire, "01234");
	assert_int_equal(pair_run(pair), 0);
	assert_int_equal(pair->in.frames, 4);
	assert_in_place(&pair->in, 0, UNIT);
}

static void lost(void **state)
{
	noticed(*state, "0234", 1);
}

static void lost_first(void **state)
{
	noticed(*state, "1234", 0);
}

static void lost_pages(void **state)
{
	noticed(*state, "0134", 2);
}

static void repeated(void **state)
{
	noticed(*state, "01134", 2);
}

static void repeated_pages(void **state)
{
	struct pair *pair = *state;

	noticed(pair, "01223", 2);
	assert_in_place(&pair->in, 0, UNIT);
	assert_non_null(strstr(fl_conn_error(pair->in.conn)->text, "PAGES: sum is "));
}

static void reordered(void **state)
{
	noticed(*state, "0132", 2);
}

/* A frame that is right on another connection. */
static void foreign(void **state)
{
	struct pair *pair = *state;
	void *others;
	struct pair *other;
	struct fl_frame ping = {.type = FL_FRAME_PING, .id = 1};

	pair_setup(&others);
	other = others;
	assert_int_equal(fl_conn_send(pair->out.conn, &ping, NULL, 0), 0);
	ping.id = 2;
	assert_int_equal(fl_conn_send(other->out.conn, &ping, NULL, 0), 0);
	pair_flush(&pair->out);
	pair_flush(&other->out);
	pipe_put(&other->there, pair->there.bytes, pair->there.tail);
	assert_int_equal(pair_run(other), -EBADMSG);
	assert_int_equal(other->in.frames, 1);
	pair_teardown(&others);
}

/* Any bit of a head, of a control payload, of the sums. Contents have sums of their own. */
static void any_bit_changed(void **state)
{
	const size_t bytes = 3 * FL_WIRE_HEAD_BYTES + 40 + 24;

	(void)state;
	for (size_t bit = 0; bit < 8 * bytes; bit++) {
		struct fl_frame due = {.type = FL_FRAME_DUE}, ping = {.type = FL_FRAME_PING};
		struct pair *pair;
		void *made;
		int rc;

		pair_setup(&made);
		pair = made;
		assert_int_equal(fl_conn_send(pair->out.conn, &ping, NULL, 0), 0);
		assert_int_equal(fl_conn_send(pair->out.conn, &due, pair->memory, 40), 0);
		pair_push(pair, 0, 3 * UNIT);
		pair->there.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		pair->there.closed = true; /* one that makes a frame longer ends so */
		rc = pair_run(pair);
		assert_true(rc == -EBADMSG || rc == -ECONNRESET);
		assert_int_equal(fl_conn_error(pair->in.conn)->code, rc);
		assert_int_equal(pair->in.calls, 0);
		assert_int_equal(pair->in.frames, bit / 8 < 32 ? 0 : bit / 8 < 32 + 72 ? 1 : 2);
		pair_teardown(&made);
	}
}

static void a_bad_head_is_named(void **state)
{
	struct pair *pair = *state;
	struct fl_frame frame = {.type = FL_FRAME_REQUEST, .offset = 4096, .bytes = 100};
	struct fl_error why;

	(void)pipe_frame(&pair->there, &frame, NULL, 0, NULL, 0, 0);
	assert_int_equal(pair_run(pair), -EBADMSG);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "REQUEST: bytes is 100, must be a multiple of 4096");
	/* The peer can be told. */
	why = *fl_conn_error(pair->in.conn);
	fl_conn_send_error(pair->in.conn, &why);
	assert_int_equal(fl_conn_recv(pair->out.conn, UINT64_MAX), -EREMOTEIO);
	assert_string_equal(fl_conn_error(pair->out.conn)->text,
			    "the other side: REQUEST: bytes is 100, must be a multiple of 4096");
}

/* HELLO is outside of the chain, so it is right by itself; what to make of it is the owner's. */
static void hello_is_not_chained(void **state)
{
	struct pair *pair = *state;
	struct fl_frame ping = {.type = FL_FRAME_PING, .id = 5};
	struct fl_frame hello = {.type = FL_FRAME_HELLO};

	for (int i = 0; i < 2; i++) {
		assert_int_equal(fl_conn_send(pair->out.conn, &ping, NULL, 0), 0);
		assert_int_equal(
			fl_conn_send(pair->out.conn, &hello, pair->memory, FL_WIRE_HELLO_BYTES), 0);
	}
	pair_flush(&pair->out);
	assert_memory_equal(pair->there.bytes + 32, pair->there.bytes + 128, 64);
	assert_int_equal(pair_run(pair), 0);
	assert_int_equal(pair->in.frames, 4);
}

static int no_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	(void)ctx;
	(void)frame;
	(void)payload;
	return 0;
}

static void pages_to_who_takes_none(void **state)
{
	static const struct fl_conn_ops ops = {.frame = no_frame};
	struct pair *pair = *state;

	owner_open(&pair->in, &ops);
	pair_push(pair, 0, UNIT);
	assert_int_equal(pair_run(pair), -EBADMSG);
	assert_string_equal(fl_conn_error(pair->in.conn)->text,
			    "PAGES: this side does not take them");
}

#define PAIR_TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAIR_TEST(all_is_well),
		PAIR_TEST(lost),
		PAIR_TEST(lost_first),
		PAIR_TEST(lost_pages),
		PAIR_TEST(repeated),
		PAIR_TEST(repeated_pages),
		PAIR_TEST(reordered),
		PAIR_TEST(foreign),
		cmocka_unit_test(any_bit_changed),
		PAIR_TEST(a_bad_head_is_named),
		PAIR_TEST(hello_is_not_chained),
		PAIR_TEST(pages_to_who_takes_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
