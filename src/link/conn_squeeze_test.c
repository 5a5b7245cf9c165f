/* SPDX-License-Identifier: MIT */
/* Compressed contents, and blocks that a peer should not have sent. */
#include "link/pair_test.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define UNIT  FL_WIRE_UNIT
#define FRAME FL_WIRE_PAGES_BYTES

static const uint8_t kinds[] = {FL_FRAME_ZSTD, FL_FRAME_LZ4};

/* Every unit different, and all of them easy to compress. */
static void fill_simple(uint8_t *memory)
{
	for (uint32_t i = 0; i < PAIR_IMAGE; i++)
		memory[i] = (uint8_t)(i % 61 + i / UNIT);
}

static void begin_anew(struct pair *pair)
{
	memset(pair->in.told, 0, PAIR_IMAGE / UNIT);
	memset(pair->in.image, 0, PAIR_IMAGE);
}

static void assert_arrived(struct pair *pair, uint64_t offset, uint32_t bytes)
{
	assert_told(&pair->in, offset, bytes, TOLD_RIGHT);
	assert_memory_equal(pair->in.image + offset, pair->memory + offset, bytes);
}

static uint64_t saved(const struct pair *pair)
{
	struct fl_conn_stats stats;

	fl_conn_stats(pair->out.conn, &stats);
	return stats.saved_bytes;
}

static void both_kinds_save(void **state)
{
	struct pair *pair = *state;
	struct fl_conn_stats stats;

	fill_simple(pair->memory);
	for (size_t i = 0; i < 2; i++) {
		uint64_t before = saved(pair);

		begin_anew(pair);
		assert_int_equal(fl_conn_compress(pair->out.conn, kinds[i]), 0);
		for (uint32_t at = 0; at < FL_WIRE_PAGE_MAX; at += FRAME)
			pair_push(pair, at, FRAME);
		pair_push(pair, FL_WIRE_PAGE_MAX, FL_WIRE_PAGE_MAX);
		assert_int_equal(pair_run(pair), 0);
		assert_arrived(pair, 0, PAIR_IMAGE);
		assert_true(saved(pair) - before > PAIR_IMAGE / 10 * 9);
	}
	fl_conn_stats(pair->out.conn, &stats);
	/* Heads and sums are not part of it. */
	assert_int_equal(stats.sent_bytes + stats.saved_bytes,
			 2 * (PAIR_IMAGE + 17 * 32 + PAIR_IMAGE / UNIT * 8));
}

static void a_byte_at_a_time(void **state)
{
	struct pair *pair = *state;

	fill_simple(pair->memory);
	pair->there.step = 1;
	for (size_t i = 0; i < 2; i++) {
		begin_anew(pair);
		assert_int_equal(fl_conn_compress(pair->out.conn, kinds[i]), 0);
		pair_push(pair, 0, FRAME);
		pair_push(pair, FRAME, UNIT);
		assert_int_equal(pair_run(pair), 0);
		assert_arrived(pair, 0, FRAME + UNIT);
	}
}

static void what_does_not_shrink_goes_plain(void **state)
{
	struct pair *pair = *state;

	for (size_t i = 0; i < 2; i++) {
		size_t before = pair->there.tail;

		begin_anew(pair);
		assert_int_equal(fl_conn_compress(pair->out.conn, kinds[i]), 0);
		pair_push(pair, 0, FRAME);
		assert_int_equal(pair->there.bytes[before + 3], 0); /* flags */
		assert_int_equal(pair->there.tail - before, 32 + 256 + FRAME);
		assert_int_equal(pair_run(pair), 0);
		assert_in_place(&pair->in, 0, FRAME);
	}
	assert_int_equal(saved(pair), 0);
}

static void off_again(void **state)
{
	struct pair *pair = *state;

	fill_simple(pair->memory);
	assert_int_equal(fl_conn_compress(pair->out.conn, FL_FRAME_LZ4), 0);
	assert_int_equal(fl_conn_compress(pair->out.conn, 0), 0);
	assert_int_equal(fl_conn_compress(pair->out.conn, FL_FRAME_LZ4 | FL_FRAME_ZSTD), -EINVAL);
	assert_int_equal(fl_conn_compress(pair->out.conn, 4), -EINVAL);
	pair_push(pair, 0, FRAME);
	assert_int_equal(pair->there.tail, 32 + 256 + FRAME);
	assert_int_equal(pair_run(pair), 0);
	assert_arrived(pair, 0, FRAME);
}

/* The copy that is compressed, or sent as it is, is the one that was summed. */
static void written_meanwhile(void **state)
{
	struct pair *pair = *state;
	uint8_t *copy = malloc(FRAME);

	assert_non_null(copy);
	assert_int_equal(fl_conn_compress(pair->out.conn, FL_FRAME_LZ4), 0);
	for (int simple = 0; simple < 2; simple++) {
		begin_anew(pair);
		if (simple)
			fill_simple(pair->memory);
		memcpy(copy, pair->memory, FRAME);
		assert_int_equal(fl_conn_send_pages(pair->out.conn, 0, pair->memory, FRAME), 0);
		memset(pair->memory, 0xaa, FRAME);
		assert_int_equal(pair_run(pair), 0);
		assert_told(&pair->in, 0, FRAME, TOLD_RIGHT);
		assert_memory_equal(pair->in.image, copy, FRAME);
	}
	free(copy);
}

static uint8_t *every_third_not(struct owner *owner, uint64_t offset, uint64_t *len_bytes)
{
	*len_bytes = UNIT;
	return offset / UNIT % 3 == 0 ? NULL : owner->image + offset;
}

static uint8_t *nowhere(struct owner *owner, uint64_t offset, uint64_t *len_bytes)
{
	(void)owner;
	(void)offset;
	(void)len_bytes;
	return NULL;
}

static void scattered(void **state)
{
	struct pair *pair = *state;

	fill_simple(pair->memory);
	pair->in.where = every_third_not;
	for (size_t i = 0; i < 2; i++) {
		begin_anew(pair);
		assert_int_equal(fl_conn_compress(pair->out.conn, kinds[i]), 0);
		pair_push(pair, 0, FRAME);
		assert_int_equal(pair_run(pair), 0);
		for (uint32_t at = 0; at < FRAME; at += UNIT) {
			if (at / UNIT % 3) {
				assert_arrived(pair, at, UNIT);
				continue;
			}
			assert_told(&pair->in, at, UNIT, TOLD_DROPPED);
			assert_int_equal(test_nonzero(pair->in.image + at, UNIT), -1);
		}
	}
}

static void dropped(void **state)
{
	struct pair *pair = *state;

	fill_simple(pair->memory);
	pair->in.where = nowhere;
	assert_int_equal(fl_conn_compress(pair->out.conn, FL_FRAME_ZSTD), 0);
	pair_push(pair, 0, FRAME);
	assert_int_equal(pair_run(pair), 0);
	assert_told(&pair->in, 0, FRAME, TOLD_DROPPED);
	assert_int_equal(test_nonzero(pair->in.image, FRAME), -1);
}

static void small_limit(void **state)
{
	struct pair *pair = *state;

	fill_simple(pair->memory);
	pair->in.most = 5 * UNIT;
	assert_int_equal(fl_conn_compress(pair->out.conn, FL_FRAME_ZSTD), 0);
	pair_push(pair, 0, FRAME);
	assert_int_equal(pair_run(pair), 0);
	assert_arrived(pair, 0, FRAME);
}

/* Puts a frame of 4 units on the wire with this block; its sums are of the pair's memory. */
static void send_block(struct pair *pair, uint8_t kind, const void *block, uint32_t len)
{
	struct fl_frame frame = {
		.type = FL_FRAME_PAGES, .flags = kind, .len = 32 + len, .bytes = 4 * UNIT};
	uint64_t sums[4];

	fl_unit_sums(sums, pair->memory, 4 * UNIT);
	(void)pipe_frame(&pair->there, &frame, sums, sizeof(sums), block, len, 0);
}

static uint32_t squeeze(uint8_t kind, void *block, uint32_t room, const void *from, uint32_t len)
{
	if (kind == FL_FRAME_LZ4)
		return (uint32_t)LZ4_compress_default(from, block, (int)len, (int)room);
	return (uint32_t)ZSTD_compress(block, room, from, len, 3);
}

/* Room of exactly the frame's size, for a sanitizer to watch its ends. */
static uint8_t *exact;

static uint8_t *exactly(struct owner *owner, uint64_t offset, uint64_t *len_bytes)
{
	(void)owner;
	(void)len_bytes;
	return exact + offset;
}

static void refused(void (*block)(struct pair *pair, uint8_t kind), const char *const texts[2])
{
	for (int direct = 0; direct < 2; direct++) {
		for (int i = 0; i < 2; i++) {
			void *state;
			struct pair *pair;

			pair_setup(&state);
			pair = state;
			exact = malloc(4 * UNIT);
			assert_non_null(exact);
			pair->in.where = exactly;
			pair->in.most = direct ? 0 : UNIT;
			fill_simple(pair->memory);
			block(pair, kinds[i]);
			assert_int_equal(pair_run(pair), -EBADMSG);
			assert_string_equal(fl_conn_error(pair->in.conn)->text, texts[i]);
			assert_int_equal(pair->in.calls, 0);
			free(exact);
			pair_teardown(&state);
		}
	}
}

static void corrupt(struct pair *pair, uint8_t kind)
{
	uint8_t block[4 * UNIT];
	uint32_t len = squeeze(kind, block, sizeof(block), pair->memory, 4 * UNIT);

	assert_in_range(len, 40, 2000);
	memset(block + 4, 0xff, len - 4);
	send_block(pair, kind, block, len);
}

static void corrupt_blocks_are_refused(void **state)
{
	const char *const texts[] = {"PAGES: its zstd block does not expand to 16384 bytes",
				     "PAGES: its lz4 block does not expand to 16384 bytes"};

	(void)state;
	refused(corrupt, texts);
}

static void cut(struct pair *pair, uint8_t kind)
{
	uint8_t block[4 * UNIT];
	uint32_t len = squeeze(kind, block, sizeof(block), pair->memory, 4 * UNIT);

	send_block(pair, kind, block, len - 1);
}

static void cut_blocks_are_refused(void **state)
{
	const char *const texts[] = {"PAGES: its zstd block does not expand to 16384 bytes",
				     "PAGES: its lz4 block does not expand to 16384 bytes"};

	(void)state;
	refused(cut, texts);
}

static void bomb(struct pair *pair, uint8_t kind)
{
	uint8_t block[4 * UNIT - 1];
	uint8_t *zeros = calloc(1, FL_WIRE_PAGE_MAX);
	uint32_t len;

	assert_non_null(zeros);
	len = squeeze(kind, block, sizeof(block), zeros, FL_WIRE_PAGE_MAX);
	free(zeros);
	assert_in_range(len, 1, sizeof(block));
	send_block(pair, kind, block, len);
}

static void bombs_are_refused(void **state)
{
	const char *const texts[] = {"PAGES: its zstd block does not expand to 16384 bytes",
				     "PAGES: its lz4 block does not expand to 16384 bytes"};

	(void)state;
	refused(bomb, texts);
}

static void too_little(struct pair *pair, uint8_t kind)
{
	uint8_t block[4 * UNIT];

	send_block(pair, kind, block, squeeze(kind, block, sizeof(block), pair->memory, 3 * UNIT));
}

static void blocks_of_too_little_are_refused(void **state)
{
	const char *const texts[] = {"PAGES: its zstd block expands to 12288 bytes, must be 16384",
				     "PAGES: its lz4 block expands to 12288 bytes, must be 16384"};

	(void)state;
	refused(too_little, texts);
}

/* A good block of the wrong bytes is like plain contents with a wrong sum. */
static void wrong_sums_are_told(void **state)
{
	struct pair *pair = *state;
	uint8_t block[4 * UNIT], other[4 * UNIT];

	fill_simple(pair->memory);
	memcpy(other, pair->memory, sizeof(other));
	other[UNIT] ^= 1;
	send_block(pair, FL_FRAME_LZ4, block,
		   squeeze(FL_FRAME_LZ4, block, sizeof(block), other, sizeof(other)));
	assert_int_equal(pair_run(pair), 0);
	assert_arrived(pair, 0, UNIT);
	assert_told(&pair->in, UNIT, UNIT, TOLD_WRONG);
	assert_arrived(pair, 2 * UNIT, 2 * UNIT);
}

#define PAIR_TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAIR_TEST(both_kinds_save),
		PAIR_TEST(a_byte_at_a_time),
		PAIR_TEST(what_does_not_shrink_goes_plain),
		PAIR_TEST(off_again),
		PAIR_TEST(written_meanwhile),
		PAIR_TEST(scattered),
		PAIR_TEST(dropped),
		PAIR_TEST(small_limit),
		cmocka_unit_test(corrupt_blocks_are_refused),
		cmocka_unit_test(cut_blocks_are_refused),
		cmocka_unit_test(bombs_are_refused),
		cmocka_unit_test(blocks_of_too_little_are_refused),
		PAIR_TEST(wrong_sums_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
