/* SPDX-License-Identifier: MIT */
/* Heads of frames: what each type can be, and what it cannot. */
#include "support.h"
#include "link/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define KIB  1024u
#define MIB  (1024 * KIB)
#define LAST (UINT64_MAX / 4096 * 4096) /* the last unit that an offset can name */

struct sample {
	const char *name;
	struct fl_frame frame;
};

/* Every row of the table in docs/page-link.md, some at both of their ends. */
static const struct sample good[] = {
	{"HELLO", {.type = FL_FRAME_HELLO, .len = 32}},
	{"WELCOME", {.type = FL_FRAME_WELCOME, .len = 32}},
	{"MACHINE", {.type = FL_FRAME_MACHINE, .len = 32, .bytes = 32, .id = 1}},
	{"MACHINE",
	 {.type = FL_FRAME_MACHINE,
	  .len = 65536,
	  .offset = 64 * MIB - 65536,
	  .bytes = 64 * MIB,
	  .id = 64}},
	{"PREPARED", {.type = FL_FRAME_PREPARED}},
	{"PAGES", {.type = FL_FRAME_PAGES, .len = 4096 + 8, .offset = LAST - 4096, .bytes = 4096}},
	{"PAGES",
	 {.type = FL_FRAME_PAGES, .len = 128 * KIB + 256, .offset = 4096, .bytes = 128 * KIB}},
	{"PAGES",
	 {.type = FL_FRAME_PAGES, .len = 2 * MIB + 4096, .offset = 6 * MIB, .bytes = 2 * MIB}},
	{"PAGES", {.type = FL_FRAME_PAGES, .flags = FL_FRAME_ZSTD, .len = 9, .bytes = 4096}},
	{"PAGES", {.type = FL_FRAME_PAGES, .flags = FL_FRAME_LZ4, .len = 4096 + 7, .bytes = 4096}},
	{"PAGES",
	 {.type = FL_FRAME_PAGES,
	  .flags = FL_FRAME_LZ4,
	  .len = 5000,
	  .offset = 2 * MIB,
	  .bytes = 2 * MIB}},
	{"ZERO", {.type = FL_FRAME_ZERO, .offset = 4096, .bytes = 4096}},
	{"ZERO", {.type = FL_FRAME_ZERO, .bytes = UINT32_MAX - 4095}},
	{"CLEAN", {.type = FL_FRAME_CLEAN, .offset = 8192, .bytes = 2 * MIB}},
	{"RANGE", {.type = FL_FRAME_RANGE, .offset = 12288, .bytes = 64 * MIB}},
	{"ROUND", {.type = FL_FRAME_ROUND, .id = 1}},
	{"ROUND_ACK", {.type = FL_FRAME_ROUND_ACK, .id = UINT32_MAX}},
	{"STATE", {.type = FL_FRAME_STATE}},
	{"STATE", {.type = FL_FRAME_STATE, .len = 1, .offset = 64 * MIB - 1, .bytes = 64 * MIB}},
	{"READY", {.type = FL_FRAME_READY}},
	{"GO", {.type = FL_FRAME_GO}},
	{"RUNNING", {.type = FL_FRAME_RUNNING}},
	{"DUE", {.type = FL_FRAME_DUE, .len = 1, .offset = UINT64_MAX / 4096 - 8}},
	{"DUE", {.type = FL_FRAME_DUE, .len = 65536}},
	{"DUE_END", {.type = FL_FRAME_DUE_END, .offset = 12345678}},
	{"REQUEST", {.type = FL_FRAME_REQUEST, .offset = 4096, .bytes = 2 * MIB}},
	{"RECEIVED", {.type = FL_FRAME_RECEIVED, .len = 65536, .offset = 7}},
	{"TORN", {.type = FL_FRAME_TORN, .len = 1, .offset = 7}},
	{"RECEIVED_END", {.type = FL_FRAME_RECEIVED_END, .offset = 99, .id = 1}},
	{"COMPLETE", {.type = FL_FRAME_COMPLETE}},
	{"COMPLETE", {.type = FL_FRAME_COMPLETE, .len = 32}},
	{"BYE", {.type = FL_FRAME_BYE}},
	{"PING", {.type = FL_FRAME_PING, .id = UINT32_MAX}},
	{"PONG", {.type = FL_FRAME_PONG, .id = 0}},
	{"CANCEL", {.type = FL_FRAME_CANCEL}},
	{"ERROR", {.type = FL_FRAME_ERROR, .len = 251, .id = EBADMSG}},
	{"ERROR", {.type = FL_FRAME_ERROR, .id = 1}},
	{"WAY", {.type = FL_FRAME_WAY, .len = 200, .id = 1}},
	{"WAY", {.type = FL_FRAME_WAY, .len = 65536, .id = 2}},
};

/* What must be said of a head that breaks one rule. */
static const struct sample bad[] = {
	{"type 0: there is no such frame", {0}},
	{"type 28: there is no such frame", {.type = FL_FRAME_TYPES}},
	{"type 255: there is no such frame", {.type = 255}},
	{"HELLO: len is 31, must be 32", {.type = FL_FRAME_HELLO, .len = 31}},
	{"WELCOME: len is 33, must be 32", {.type = FL_FRAME_WELCOME, .len = 33}},
	{"HELLO: flags are 0x1, can be 0x0 at most",
	 {.type = FL_FRAME_HELLO, .flags = 1, .len = 32}},
	{"HELLO: offset is 1, must be 0", {.type = FL_FRAME_HELLO, .len = 32, .offset = 1}},
	{"MACHINE: len is 0, must be 1 to 65536", {.type = FL_FRAME_MACHINE, .bytes = 32, .id = 1}},
	{"MACHINE: len is 65537, must be 1 to 65536",
	 {.type = FL_FRAME_MACHINE, .len = 65537, .bytes = MIB, .id = 1}},
	{"MACHINE: id is 0, must be 1 to 64", {.type = FL_FRAME_MACHINE, .len = 32, .bytes = 32}},
	{"MACHINE: id is 65, must be 1 to 64",
	 {.type = FL_FRAME_MACHINE, .len = 1, .bytes = MIB, .id = 65}},
	{"MACHINE: bytes is 95, must be 96 to 67108864",
	 {.type = FL_FRAME_MACHINE, .len = 95, .bytes = 95, .id = 3}},
	{"MACHINE: bytes is 67108865, must be 32 to 67108864",
	 {.type = FL_FRAME_MACHINE, .len = 1, .bytes = 64 * MIB + 1, .id = 1}},
	{"MACHINE: len is 33, must be 0 to 32",
	 {.type = FL_FRAME_MACHINE, .len = 33, .bytes = 32, .id = 1}},
	{"MACHINE: offset is 3, must be 0 to 2",
	 {.type = FL_FRAME_MACHINE, .len = 30, .offset = 3, .bytes = 32, .id = 1}},
	{"MACHINE: offset is 18446744073709551615, must be 0 to 2",
	 {.type = FL_FRAME_MACHINE, .len = 30, .offset = UINT64_MAX, .bytes = 32, .id = 1}},
	{"PREPARED: len is 1, must be 0", {.type = FL_FRAME_PREPARED, .len = 1}},
	{"PREPARED: id is 1, must be 0", {.type = FL_FRAME_PREPARED, .id = 1}},
	{"PAGES: flags are 0x4, can be 0x3 at most",
	 {.type = FL_FRAME_PAGES, .flags = 4, .len = 4104, .bytes = 4096}},
	{"PAGES: flags are 0x3, must be one of them",
	 {.type = FL_FRAME_PAGES, .flags = 3, .len = 500, .bytes = 4096}},
	{"PAGES: offset is 4097, must be a multiple of 4096",
	 {.type = FL_FRAME_PAGES, .len = 4104, .offset = 4097, .bytes = 4096}},
	{"PAGES: bytes is 4095, must be a multiple of 4096",
	 {.type = FL_FRAME_PAGES, .len = 4104, .bytes = 4095}},
	{"PAGES: bytes is 0, must be 4096 to 2097152", {.type = FL_FRAME_PAGES, .len = 4104}},
	{"PAGES: bytes is 2101248, must be 4096 to 2097152",
	 {.type = FL_FRAME_PAGES, .len = 2101248 + 4104, .bytes = 2101248}},
	{"PAGES: bytes is 135168, must be at most 131072 or one page of 2097152",
	 {.type = FL_FRAME_PAGES, .len = 135168 + 264, .bytes = 135168}},
	{"PAGES: offset is 4096, must be a multiple of 2097152",
	 {.type = FL_FRAME_PAGES, .len = 2 * MIB + 4096, .offset = 4096, .bytes = 2 * MIB}},
	{"PAGES: len is 4103, must be 4104", {.type = FL_FRAME_PAGES, .len = 4103, .bytes = 4096}},
	{"PAGES: len is 4105, must be 4104", {.type = FL_FRAME_PAGES, .len = 4105, .bytes = 4096}},
	{"PAGES: len is 8, must be 9 to 4194304",
	 {.type = FL_FRAME_PAGES, .len = 8, .bytes = 4096}},
	{"PAGES: len is 4294967295, must be 9 to 4194304",
	 {.type = FL_FRAME_PAGES, .len = UINT32_MAX, .bytes = 4096}},
	{"PAGES: len is 16, must be 17 to 8207",
	 {.type = FL_FRAME_PAGES, .flags = FL_FRAME_ZSTD, .len = 16, .bytes = 8192}},
	{"PAGES: len is 8208, must be 17 to 8207",
	 {.type = FL_FRAME_PAGES, .flags = FL_FRAME_LZ4, .len = 8208, .bytes = 8192}},
	{"PAGES: id is 9, must be 0",
	 {.type = FL_FRAME_PAGES, .len = 4104, .bytes = 4096, .id = 9}},
	{"PAGES: offset is 18446744073709547520, with bytes 4096 it must not wrap",
	 {.type = FL_FRAME_PAGES, .len = 4104, .offset = LAST, .bytes = 4096}},
	{"ZERO: bytes is 0, must be 4096 to 4294963200", {.type = FL_FRAME_ZERO, .offset = 4096}},
	{"ZERO: bytes is 100, must be a multiple of 4096", {.type = FL_FRAME_ZERO, .bytes = 100}},
	{"ZERO: offset is 4095, must be a multiple of 4096",
	 {.type = FL_FRAME_ZERO, .offset = 4095, .bytes = 4096}},
	{"ZERO: len is 1, must be 0", {.type = FL_FRAME_ZERO, .len = 1, .bytes = 4096}},
	{"ZERO: flags are 0x2, can be 0x0 at most",
	 {.type = FL_FRAME_ZERO, .flags = 2, .bytes = 4096}},
	{"CLEAN: offset is 18446744073709547520, with bytes 4294963200 it must not wrap",
	 {.type = FL_FRAME_CLEAN, .offset = LAST, .bytes = UINT32_MAX - 4095}},
	{"CLEAN: bytes is 0, must be 4096 to 4294963200", {.type = FL_FRAME_CLEAN}},
	{"CLEAN: id is 1, must be 0", {.type = FL_FRAME_CLEAN, .bytes = 4096, .id = 1}},
	{"RANGE: bytes is 1, must be a multiple of 4096", {.type = FL_FRAME_RANGE, .bytes = 1}},
	{"ROUND: id is 0, must be 1 to 4294967295", {.type = FL_FRAME_ROUND}},
	{"ROUND_ACK: id is 0, must be 1 to 4294967295", {.type = FL_FRAME_ROUND_ACK}},
	{"ROUND_ACK: bytes is 4096, must be 0",
	 {.type = FL_FRAME_ROUND_ACK, .bytes = 4096, .id = 1}},
	{"STATE: len is 0, must be 1 to 65536", {.type = FL_FRAME_STATE, .bytes = 1}},
	{"STATE: len is 1, must be 0", {.type = FL_FRAME_STATE, .len = 1}},
	{"STATE: offset is 1, must be 0",
	 {.type = FL_FRAME_STATE, .len = 5, .offset = 1, .bytes = 5}},
	{"STATE: bytes is 67108865, must be 0 to 67108864",
	 {.type = FL_FRAME_STATE, .len = 1, .bytes = 64 * MIB + 1}},
	{"STATE: id is 1, must be 0", {.type = FL_FRAME_STATE, .len = 5, .bytes = 5, .id = 1}},
	{"READY: len is 7, must be 0", {.type = FL_FRAME_READY, .len = 7}},
	{"GO: offset is 7, must be 0", {.type = FL_FRAME_GO, .offset = 7}},
	{"RUNNING: bytes is 7, must be 0", {.type = FL_FRAME_RUNNING, .bytes = 7}},
	{"DUE: len is 0, must be 1 to 65536", {.type = FL_FRAME_DUE}},
	{"DUE: len is 65537, must be 1 to 65536", {.type = FL_FRAME_DUE, .len = 65537}},
	{"DUE: bytes is 1, must be 0", {.type = FL_FRAME_DUE, .len = 1, .bytes = 1}},
	{"DUE: offset is 4503599627370488, must be 0 to 4503599627370487",
	 {.type = FL_FRAME_DUE, .len = 1, .offset = UINT64_MAX / 4096 - 7}},
	{"DUE_END: len is 1, must be 0", {.type = FL_FRAME_DUE_END, .len = 1}},
	{"DUE_END: offset is 18446744073709551615, must be 0 to 4503599627370495",
	 {.type = FL_FRAME_DUE_END, .offset = UINT64_MAX}},
	{"REQUEST: bytes is 2101248, must be 4096 to 2097152",
	 {.type = FL_FRAME_REQUEST, .bytes = 2 * MIB + 4096}},
	{"REQUEST: bytes is 0, must be 4096 to 2097152", {.type = FL_FRAME_REQUEST}},
	{"REQUEST: offset is 1, must be a multiple of 4096",
	 {.type = FL_FRAME_REQUEST, .offset = 1, .bytes = 4096}},
	{"RECEIVED: len is 0, must be 1 to 65536", {.type = FL_FRAME_RECEIVED}},
	{"RECEIVED_END: id is 2, must be 0 to 1", {.type = FL_FRAME_RECEIVED_END, .id = 2}},
	{"COMPLETE: id is 1, must be 0", {.type = FL_FRAME_COMPLETE, .id = 1}},
	{"COMPLETE: len is 33, must be 0 to 32", {.type = FL_FRAME_COMPLETE, .len = 33}},
	{"BYE: len is 4, must be 0", {.type = FL_FRAME_BYE, .len = 4}},
	{"PING: len is 1, must be 0", {.type = FL_FRAME_PING, .len = 1}},
	{"PONG: offset is 1, must be 0", {.type = FL_FRAME_PONG, .offset = 1}},
	{"CANCEL: flags are 0x80, can be 0x0 at most", {.type = FL_FRAME_CANCEL, .flags = 0x80}},
	{"ERROR: id is 0, must be 1 to 4095", {.type = FL_FRAME_ERROR, .len = 3}},
	{"ERROR: id is 4096, must be 1 to 4095", {.type = FL_FRAME_ERROR, .id = 4096}},
	{"ERROR: len is 65537, must be 0 to 65536",
	 {.type = FL_FRAME_ERROR, .len = 65537, .id = 1}},
	{"WAY: len is 0, must be 1 to 65536", {.type = FL_FRAME_WAY, .id = 1}},
	{"WAY: len is 65537, must be 1 to 65536", {.type = FL_FRAME_WAY, .len = 65537, .id = 1}},
	{"WAY: id is 0, must be 1 to 2", {.type = FL_FRAME_WAY, .len = 1}},
	{"WAY: id is 3, must be 1 to 2", {.type = FL_FRAME_WAY, .len = 1, .id = 3}},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_same(const struct fl_frame *one, const struct fl_frame *other)
{
	assert_int_equal(one->type, other->type);
	assert_int_equal(one->flags, other->flags);
	assert_int_equal(one->len, other->len);
	assert_int_equal(one->offset, other->offset);
	assert_int_equal(one->bytes, other->bytes);
	assert_int_equal(one->id, other->id);
}

static void every_type_comes_back(void **state)
{
	static uint8_t payload[FL_WIRE_CONTROL_MAX];
	bool seen[FL_FRAME_TYPES] = {true};

	(void)state;
	test_pattern(payload, sizeof(payload), 0, 1);
	for (size_t i = 0; i < COUNT(good); i++) {
		uint32_t summed = fl_frame_summed(&good[i].frame);
		uint8_t head[FL_WIRE_HEAD_BYTES];
		struct fl_frame frame;
		struct fl_error err;
		uint64_t sum = 0;
		uint64_t must = fl_frame_encode(head, &good[i].frame, payload, summed, i);

		assert_int_equal(fl_frame_decode(&frame, head, &err), 0);
		assert_same(&frame, &good[i].frame);
		assert_int_equal(fl_frame_verify(head, payload, summed, i, &sum, &err), 0);
		assert_int_equal(sum, must);
		assert_string_equal(fl_frame_name(frame.type), good[i].name);
		seen[frame.type] = true;
	}
	for (size_t i = 0; i < FL_FRAME_TYPES; i++)
		assert_true(seen[i]);
	assert_null(fl_frame_name(0));
	assert_null(fl_frame_name(FL_FRAME_TYPES));
	assert_null(fl_frame_name(255));
}

static void every_bad_head_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		uint8_t head[FL_WIRE_HEAD_BYTES];
		struct fl_frame frame;
		struct fl_error err = {0};

		(void)fl_frame_encode(head, &bad[i].frame, NULL, 0, 0);
		assert_int_equal(fl_frame_decode(&frame, head, &err), -EBADMSG);
		assert_int_equal(err.code, -EBADMSG);
		assert_string_equal(err.text, bad[i].name);
		assert_int_equal(fl_frame_check(&bad[i].frame, NULL), -EBADMSG);
	}
}

static void another_magic(void **state)
{
	uint8_t head[FL_WIRE_HEAD_BYTES] = "GET / HTTP/1.1\r\n";
	struct fl_frame frame;
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_frame_decode(&frame, head, &err), -EBADMSG);
	assert_string_equal(err.text, "no frame: magic is 0x4547, must be 0x4c46");
}

/* The format as it is written down: where each field lies, and what is summed. */
static void bytes_on_the_wire(void **state)
{
	static const uint8_t expected[24] = {'F',  'L',  17,   0,    3,    0,    0,    0,
					     0x00, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
					     0x00, 0x80, 0x1c, 0x00, 0x0d, 0x0c, 0x0b, 0x0a};
	const struct fl_frame frame = {.type = 17,
				       .len = 3,
				       .offset = 0x1122334455667700,
				       .bytes = 0x1c8000,
				       .id = 0x0a0b0c0d};
	uint8_t head[FL_WIRE_HEAD_BYTES], whole[24 + 3];
	uint64_t sum = fl_frame_encode(head, &frame, "abc", 3, 0x123456789abcdef0), stored = 0;

	(void)state;
	assert_memory_equal(head, expected, sizeof(expected));
	memcpy(whole, head, 24);
	memcpy(whole + 24, "abc", 3);
	assert_int_equal(sum, XXH3_64bits_withSeed(whole, sizeof(whole), 0x123456789abcdef0));
	for (int i = 7; i >= 0; i--)
		stored = stored << 8 | head[24 + i];
	assert_int_equal(stored, sum);
}

/* As long payloads are summed piece by piece as in one, with any seed. */
static void long_payloads(void **state)
{
	static uint8_t whole[24 + FL_WIRE_CONTROL_MAX];
	const struct fl_frame frame = {.type = FL_FRAME_DUE, .len = FL_WIRE_CONTROL_MAX};
	uint8_t head[FL_WIRE_HEAD_BYTES];

	(void)state;
	test_pattern(whole + 24, FL_WIRE_CONTROL_MAX, 0, 3);
	for (uint32_t len = 0; len <= FL_WIRE_CONTROL_MAX; len += len < 600 ? 1 : 4001) {
		uint64_t sum = fl_frame_encode(head, &frame, whole + 24, len, len);

		memcpy(whole, head, 24);
		assert_int_equal(sum, XXH3_64bits_withSeed(whole, 24 + len, len));
	}
}

static void wrong_sums(void **state)
{
	const struct fl_frame frame = {.type = FL_FRAME_STATE, .len = 8, .bytes = 8};
	uint8_t head[FL_WIRE_HEAD_BYTES];
	char must[128];
	uint64_t sum = 1, right = fl_frame_encode(head, &frame, "12345678", 8, 5);
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_frame_verify(head, "12345678", 8, 6, &sum, &err), -EBADMSG);
	assert_int_equal(fl_frame_verify(head, "12345679", 8, 5, &sum, &err), -EBADMSG);
	assert_int_equal(fl_frame_verify(head, "12345678", 7, 5, &sum, &err), -EBADMSG);
	assert_int_equal(fl_frame_verify(head, "12345678", 8, 5, &sum, &err), 0);
	assert_int_equal(sum, right);
	head[24] ^= 1;
	sum = 1;
	assert_int_equal(fl_frame_verify(head, "12345678", 8, 5, &sum, &err), -EBADMSG);
	assert_int_equal(sum, 1);
	(void)snprintf(must, sizeof(must),
		       "STATE: sum is %016llx, must be %016llx: frames were lost, repeated, "
		       "reordered or changed",
		       (unsigned long long)(right ^ 1), (unsigned long long)right);
	assert_string_equal(err.text, must);
}

static void units(void **state)
{
	static uint8_t bytes[4 * FL_WIRE_UNIT];
	uint64_t sums[4];

	(void)state;
	assert_int_equal(fl_unit_sum(bytes), XXH3_64bits(bytes, FL_WIRE_UNIT));
	assert_true(fl_unit_is_zero(bytes));
	for (size_t i = 0; i < FL_WIRE_UNIT; i++) {
		bytes[i] = 0x10;
		assert_false(fl_unit_is_zero(bytes));
		bytes[i] = 0;
	}
	memset(bytes, 1, FL_WIRE_UNIT);
	assert_false(fl_unit_is_zero(bytes));
	bytes[FL_WIRE_UNIT + FL_WIRE_UNIT] = 1; /* of the next one */
	assert_true(fl_unit_is_zero(bytes + FL_WIRE_UNIT));
	test_pattern(bytes, sizeof(bytes), 0, 1);
	fl_unit_sums(sums, bytes, sizeof(bytes));
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(sums[i], XXH3_64bits(bytes + i * FL_WIRE_UNIT, FL_WIRE_UNIT));
}

static void text_of(const char *said, const char *shown, size_t size)
{
	char *text = malloc(size);

	assert_non_null(text);
	fl_frame_text(text, size, said, (uint32_t)strlen(said));
	assert_string_equal(text, shown);
	free(text);
}

static void sentences_are_made_safe(void **state)
{
	/* Letter by letter, lest this line is turned itself. */
	static const char turned[] = {'t',    'u',    'r', 'n', 'e', 'd', ' ', '\xe2', '\x80',
				      '\xae', ' ',    'r', 'o', 'u', 'n', 'd', ' ',    '\xe2',
				      '\x81', '\xa6', ' ', 'a', 'n', 'd', ' ', '\xe2', '\x80',
				      '\xa8', ' ',    'b', 'r', 'o', 'k', 'e', 'n',    '\0'};

	(void)state;
	text_of("", "", 1);
	text_of("long", "", 1);
	text_of("plain, and whole", "plain, and whole", 17);
	text_of("plain, and cut", "plain, an", 10);
	text_of("tab\tnewline\nescape\x1b[2J\x7f", "tab?newline?escape?[2J?", 100);
	text_of("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\xa7", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\xa7",
		100);
	text_of("cut \xe2\x82\xac", "cut ", 7);
	text_of("cut \xe2\x82\xac", "cut \xe2\x82\xac", 8);
	text_of("C1 \xc2\x9b, overlong \xc0\xaf \xe0\x80\xaf, half \xe2\x82",
		"C1 ?, overlong ?? ???, half ??", 100);
	text_of("surrogate \xed\xa0\x80, beyond \xf4\x90\x80\x80 \xf8\x88\x80\x80\x80 \xff",
		"surrogate ?, beyond ? ????? ?", 100);
	text_of(turned, "turned ? round ? and ? broken", 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_comes_back),
		cmocka_unit_test(every_bad_head_is_named),
		cmocka_unit_test(another_magic),
		cmocka_unit_test(bytes_on_the_wire),
		cmocka_unit_test(long_payloads),
		cmocka_unit_test(wrong_sums),
		cmocka_unit_test(units),
		cmocka_unit_test(sentences_are_made_safe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
