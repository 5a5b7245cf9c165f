/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "source/fabric.h"

#include <errno.h>
#include <string.h>

static const struct fl_fabric_desc sample = {
	.provider = "tcp;ofi_rxm",
	.address_format = 2,
	.address_len = 16,
	.count = 2,
	.address = {2, 0, 0x12, 0x34, 127, 0, 0, 1},
	.regions = {{.key = 0xfedcba9876543210,
		     .base = 0x7f0000001000,
		     .offset = 0,
		     .len_bytes = 8192},
		    {.key = 7, .base = 0, .offset = 1 << 20, .len_bytes = 1 << 30}},
};

static void what_is_encoded_is_decoded(void **state)
{
	uint8_t bytes[FL_FABRIC_BLOB_MAX];
	size_t len = fl_fabric_blob_encode(bytes, &sample);
	struct fl_fabric_desc desc;

	(void)state;
	assert_int_equal(len, 24 + 11 + 16 + 2 * 32);
	memset(&desc, 0xaa, sizeof(desc));
	assert_int_equal(fl_fabric_blob_decode(&desc, bytes, len, NULL), 0);
	assert_memory_equal(&desc, &sample, sizeof(desc));
	/* As docs/fabric.md has it, whatever the machine. */
	assert_memory_equal(bytes, "FLFB\1\0\2\0\13\0\20\0\2\0\0\0", 16);
	assert_memory_equal(bytes + 24 + 11 + 16, "\x10\x32\x54\x76\x98\xba\xdc\xfe", 8);
}

static void the_largest_fits(void **state)
{
	struct fl_fabric_desc desc = {.address_len = FL_FABRIC_ADDRESS_MAX,
				      .count = FL_FABRIC_REGIONS_MAX},
			      back;
	uint8_t bytes[FL_FABRIC_BLOB_MAX];
	size_t len;

	(void)state;
	memset(desc.provider, 'x', FL_FABRIC_NAME_MAX);
	for (uint64_t i = 0; i < FL_FABRIC_REGIONS_MAX; i++)
		desc.regions[i] =
			(struct fl_fabric_region){.offset = i << 20, .len_bytes = 1 << 20};
	len = fl_fabric_blob_encode(bytes, &desc);
	assert_true(len <= sizeof(bytes));
	assert_int_equal(fl_fabric_blob_decode(&back, bytes, len, NULL), 0);
	assert_memory_equal(&back, &desc, sizeof(desc));
}

static int decode_with(size_t at, uint8_t byte, struct fl_error *err)
{
	uint8_t bytes[FL_FABRIC_BLOB_MAX];
	size_t len = fl_fabric_blob_encode(bytes, &sample);
	struct fl_fabric_desc desc;

	bytes[at] = byte;
	return fl_fabric_blob_decode(&desc, bytes, len, err);
}

static void each_field_is_checked(void **state)
{
	static const struct {
		size_t at;
		uint8_t byte;
		int code;
		const char *names;
	} wrong[] = {
		{0, 'f', -EBADMSG, "not one"},
		{4, 9, -EPROTONOSUPPORT, "version 9, and 1"},
		{6, 0, -EBADMSG, "regions"},
		{6, 65, -EBADMSG, "regions"},
		{6, 3, -EBADMSG, "length"},
		{8, 0, -EBADMSG, "name"},
		{8, 64, -EBADMSG, "name"},
		{8, 12, -EBADMSG, "length"},
		{10, 0, -EBADMSG, "address"},
		{11, 2, -EBADMSG, "address"},
		{16, 1, -EBADMSG, "reserved"},
		{23, 1, -EBADMSG, "reserved"},
		{24, 'T', -EBADMSG, "letters"},
		{24, 0, -EBADMSG, "letters"},
		{24, '/', -EBADMSG, "letters"},
		{51 + 15, 0xff, 0, ""},             /* base: an address is an address */
		{51 + 16, 1, -EBADMSG, "units"},    /* offset of the first region */
		{51 + 18, 0x20, -EBADMSG, "order"}, /* beyond the second one */
		{51 + 24, 1, -EBADMSG, "units"},    /* its length, */
		{51 + 25, 0, -EBADMSG, "units"},    /* none, */
		{51 + 26, 0x20, -EBADMSG, "order"}, /* into the second one, */
		{51 + 31, 0x80, -EBADMSG, "beyond what an image"}, /* and too long */
		{51 + 32 + 23, 0xff, -EBADMSG, "beyond what an image"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct fl_error err = {0};
		int code = decode_with(wrong[i].at, wrong[i].byte, &err);

		if (code != wrong[i].code || !strstr(err.text, wrong[i].names))
			fail_msg("byte %zu = %u: %d, \"%s\"", wrong[i].at, wrong[i].byte, code,
				 err.text);
	}
}

static void every_cut_and_every_tail_is_refused(void **state)
{
	uint8_t bytes[FL_FABRIC_BLOB_MAX] = {0};
	size_t len = fl_fabric_blob_encode(bytes, &sample);
	struct fl_fabric_desc desc;

	(void)state;
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(fl_fabric_blob_decode(&desc, bytes, cut, NULL), -EBADMSG);
	for (size_t more = 1; more < 200; more++)
		assert_int_equal(fl_fabric_blob_decode(&desc, bytes, len + more, NULL), -EBADMSG);
}

/* What is decoded whatever the bytes keeps the promises that the rest relies on. */
static void garbage_is_refused_or_sound(void **state)
{
	uint8_t bytes[FL_FABRIC_BLOB_MAX];
	uint64_t random = 88172645463325252;
	struct fl_fabric_desc desc;
	unsigned int taken = 0;

	(void)state;
	for (unsigned int i = 0; i < 200000; i++) {
		size_t len = fl_fabric_blob_encode(bytes, &sample);

		for (unsigned int j = 0; j <= i % 3; j++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			bytes[random % len] = (uint8_t)(random >> 32);
		}
		if (fl_fabric_blob_decode(&desc, bytes, len, NULL))
			continue;
		taken++;
		assert_in_range(desc.count, 1, FL_FABRIC_REGIONS_MAX);
		assert_in_range(strlen(desc.provider), 1, FL_FABRIC_NAME_MAX);
		assert_in_range(desc.address_len, 1, FL_FABRIC_ADDRESS_MAX);
		for (unsigned int j = 1; j < desc.count; j++)
			assert_true(desc.regions[j].offset >=
				    desc.regions[j - 1].offset + desc.regions[j - 1].len_bytes);
	}
	assert_in_range(taken, 1000, 199999);
}

static void memory_is_sorted_and_checked(void **state)
{
	char *at = (char *)0x10000;
	struct fl_fabric_memory memory[] = {{at, 1 << 20, 8192}, {at, 0, 4096}, {at, 4096, 4096}};
	struct fl_fabric_memory sorted[FL_FABRIC_REGIONS_MAX];
	struct fl_error err = {0};

	(void)state;
	assert_int_equal(fl_fabric_memory_check(sorted, memory, 3, &err), 0);
	assert_int_equal(sorted[0].offset, 0);
	assert_int_equal(sorted[1].offset, 4096);
	assert_int_equal(sorted[2].offset, 1 << 20);
	memory[2].offset = 0;
	assert_int_equal(fl_fabric_memory_check(sorted, memory, 3, &err), -EINVAL);
	memory[2] = (struct fl_fabric_memory){at, 8192, 100};
	assert_int_equal(fl_fabric_memory_check(sorted, memory, 3, &err), -EINVAL);
	memory[2] = (struct fl_fabric_memory){NULL, 8192, 4096};
	assert_int_equal(fl_fabric_memory_check(sorted, memory, 3, &err), -EINVAL);
	assert_int_equal(fl_fabric_memory_check(sorted, memory, 65, &err), -EINVAL);
	assert_non_null(strstr(err.text, "65"));
}

static void an_offset_finds_its_region(void **state)
{
	(void)state;
	assert_ptr_equal(fl_fabric_region_at(&sample, 0), &sample.regions[0]);
	assert_ptr_equal(fl_fabric_region_at(&sample, 8191), &sample.regions[0]);
	assert_ptr_equal(fl_fabric_region_at(&sample, 8192), &sample.regions[1]);
	assert_ptr_equal(fl_fabric_region_at(&sample, (1 << 20) + (1 << 30) - 1),
			 &sample.regions[1]);
	assert_null(fl_fabric_region_at(&sample, (1 << 20) + (1 << 30)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_encoded_is_decoded),
		cmocka_unit_test(the_largest_fits),
		cmocka_unit_test(each_field_is_checked),
		cmocka_unit_test(every_cut_and_every_tail_is_refused),
		cmocka_unit_test(garbage_is_refused_or_sound),
		cmocka_unit_test(memory_is_sorted_and_checked),
		cmocka_unit_test(an_offset_finds_its_region),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
