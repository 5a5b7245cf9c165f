/* SPDX-License-Identifier: MIT */
/* What HELLO, WELCOME and MACHINE carry. */
#include "support.h"
#include "link/wire.h"

#include <errno.h>
#include <string.h>

#define GIB (UINT64_C(1) << 30)

static const struct fl_wire_hello sample = {
	.version_min = 1,
	.version_max = 0x0203,
	.channel = FL_CHANNEL_DEMAND,
	.role = FL_ROLE_INCOMING,
	.recover = 1,
	.features = 0x0a0b0c0d,
	.session = "0123456789abcde",
};

static void hello_comes_back(void **state)
{
	static const uint8_t expected[FL_WIRE_HELLO_BYTES] = {
		1,   0,   3,   2,   1,   1,   1,   0,   0x0d, 0x0c, 0x0b, 0x0a, 0,   0,   0,   0,
		'0', '1', '2', '3', '4', '5', '6', '7', '8',  '9',  'a',  'b',  'c', 'd', 'e', 0};
	uint8_t bytes[FL_WIRE_HELLO_BYTES];
	struct fl_wire_hello hello;
	struct fl_error err;

	(void)state;
	fl_hello_encode(bytes, &sample);
	assert_memory_equal(bytes, expected, sizeof(bytes));
	assert_int_equal(fl_hello_decode(&hello, bytes, sizeof(bytes), &err), 0);
	assert_int_equal(hello.version_min, 1);
	assert_int_equal(hello.version_max, 0x0203);
	assert_int_equal(hello.channel, FL_CHANNEL_DEMAND);
	assert_int_equal(hello.role, FL_ROLE_INCOMING);
	assert_int_equal(hello.recover, 1);
	assert_int_equal(hello.features, 0x0a0b0c0d);
	assert_memory_equal(hello.session, sample.session, FL_WIRE_SESSION);
}

static void later_versions_may_say_more(void **state)
{
	uint8_t bytes[FL_WIRE_HELLO_BYTES];
	struct fl_wire_hello hello;

	(void)state;
	fl_hello_encode(bytes, &sample);
	bytes[7] = bytes[12] = bytes[15] = 0xff;
	assert_int_equal(fl_hello_decode(&hello, bytes, sizeof(bytes), NULL), 0);
}

static void refused(size_t at, uint8_t value, const char *text)
{
	uint8_t bytes[FL_WIRE_HELLO_BYTES];
	struct fl_wire_hello hello;
	struct fl_error err;

	fl_hello_encode(bytes, &sample);
	bytes[at] = value;
	assert_int_equal(fl_hello_decode(&hello, bytes, sizeof(bytes), &err), -EBADMSG);
	assert_string_equal(err.text, text);
}

static void bad_hellos(void **state)
{
	uint8_t bytes[FL_WIRE_HELLO_BYTES] = {0};
	struct fl_wire_hello hello;
	struct fl_error err;

	(void)state;
	refused(0, 0, "HELLO: versions are 0 to 515, must rise from 1 or more");
	refused(1, 3, "HELLO: versions are 769 to 515, must rise from 1 or more");
	refused(4, 2, "HELLO: connection is 2, must be 0 to 1");
	refused(5, 77, "HELLO: role is 77, must be 0 to 1");
	refused(6, 255, "HELLO: recover is 255, must be 0 to 1");
	assert_int_equal(fl_hello_decode(&hello, bytes, 31, &err), -EBADMSG);
	assert_string_equal(err.text, "HELLO: len is 31, must be 32");
}

static int agree(uint16_t my_min, uint16_t my_max, uint16_t their_min, uint16_t their_max,
		 struct fl_error *err)
{
	struct fl_wire_hello mine = {.version_min = my_min, .version_max = my_max};
	struct fl_wire_hello theirs = {.version_min = their_min, .version_max = their_max};

	return fl_hello_agree(&mine, &theirs, err);
}

static void versions(void **state)
{
	struct fl_error err;

	(void)state;
	assert_int_equal(agree(1, 1, 1, 1, &err), 1);
	assert_int_equal(agree(1, 3, 2, 7, &err), 3);
	assert_int_equal(agree(2, 7, 1, 3, &err), 3);
	assert_int_equal(agree(1, 9, 4, 5, &err), 5);
	assert_int_equal(agree(1, 1, 1, 65535, &err), 1);
	assert_int_equal(agree(1, 2, 3, 4, &err), -EPROTONOSUPPORT);
	assert_string_equal(err.text,
			    "no version in common: this side speaks 1 to 2, the other 3 to 4");
	assert_int_equal(agree(3, 4, 1, 2, &err), -EPROTONOSUPPORT);
	assert_string_equal(err.text,
			    "no version in common: this side speaks 3 to 4, the other 1 to 2");
}

static const struct fl_region machine[] = {
	{.gpa = 0, .offset = 0, .addr = 123, .len_bytes = 3 * GIB, .page_size = 4096},
	{.gpa = 4 * GIB, .offset = 3 * GIB, .len_bytes = 2 * GIB, .page_size = 2 << 20},
};

static void regions_come_back(void **state)
{
	uint8_t bytes[2 * FL_WIRE_REGION_BYTES];
	struct fl_region regions[2];
	struct fl_error err;

	(void)state;
	fl_regions_encode(bytes, machine, 2);
	/* Followed by what the VMM has to say. */
	assert_int_equal(fl_regions_decode(regions, 2, bytes, sizeof(bytes) + 77, &err), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(regions[i].gpa, machine[i].gpa);
		assert_int_equal(regions[i].offset, machine[i].offset);
		assert_int_equal(regions[i].addr, FL_NOWHERE);
		assert_int_equal(regions[i].len_bytes, machine[i].len_bytes);
		assert_int_equal(regions[i].page_size, machine[i].page_size);
		assert_int_equal(regions[i].backing, FL_BACKING_UNKNOWN);
	}
}

static void regions_refused(const struct fl_region *regions, size_t count, uint64_t len, int code,
			    const char *text)
{
	uint8_t bytes[65 * FL_WIRE_REGION_BYTES];
	struct fl_region got[FL_REGIONS_MAX];
	struct fl_error err = {0};

	memset(bytes, 0, sizeof(bytes));
	fl_regions_encode(bytes, regions, count < 2 ? count : 2);
	assert_int_equal(fl_regions_decode(got, count, bytes, len, &err), code);
	assert_int_equal(err.code, code);
	assert_string_equal(err.text, text);
}

static void bad_regions(void **state)
{
	struct fl_region bad[2] = {machine[0], machine[1]};

	(void)state;
	regions_refused(bad, 0, 64, -EBADMSG, "MACHINE: regions are 0, must be 1 to 64");
	regions_refused(bad, 65, 65 * 32, -EBADMSG, "MACHINE: regions are 65, must be 1 to 64");
	regions_refused(bad, 2, 63, -EBADMSG, "MACHINE: length is 63, must be 64 for 2 regions");
	bad[1].offset -= 2 << 20;
	regions_refused(bad, 2, 64, -EBADMSG,
			"MACHINE: region 1: its offset 0xbfe00000 lies inside region 0 at 0x0");
	bad[1].page_size = 8192;
	regions_refused(bad, 2, 64, -EBADMSG,
			"MACHINE: region 1: page size 8192 is neither 4 KiB, 2 MiB nor 1 GiB");
	bad[1] = machine[1];
	bad[1].page_size = GIB;
	regions_refused(bad, 2, 64, -EOPNOTSUPP, "MACHINE: region 1: pages of 1 GiB cannot move");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_comes_back),  cmocka_unit_test(later_versions_may_say_more),
		cmocka_unit_test(bad_hellos),        cmocka_unit_test(versions),
		cmocka_unit_test(regions_come_back), cmocka_unit_test(bad_regions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
