/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <string.h>

#include "install/alias.h"

static char memory[0x10000];

static int init(struct fl_aliases *aliases, const struct fl_alias *from, size_t count)
{
	struct fl_error err = {0};
	int rc = fl_aliases_init(aliases, from, count, &err);

	assert_int_equal(err.code, rc);
	assert_int_equal(strlen(err.text) > 0, rc != 0);
	return rc;
}

static void test_find(void **state)
{
	/* Not in the order of their addresses; the first two touch. */
	static const struct fl_alias from[] = {
		{0x7000, memory + 0x4000, 0x1000},
		{0x5000, memory, 0x2000},
		{0x1000, memory + 0x8000, 0x1000},
	};
	struct fl_aliases aliases;
	uint64_t len;

	(void)state;
	assert_int_equal(init(&aliases, from, 3), 0);
	for (size_t i = 0; i < 3; i++)
		for (uint64_t at = 0; at < from[i].len_bytes; at += 0x7ff) {
			len = UINT64_MAX;
			assert_ptr_equal(fl_aliases_find(&aliases, from[i].addr + at, &len),
					 (char *)from[i].alias + at);
			assert_int_equal(len, from[i].len_bytes - at);
		}
	len = 0x10;
	assert_non_null(fl_aliases_find(&aliases, 0x5000, &len));
	assert_int_equal(len, 0x10);
	assert_null(fl_aliases_find(&aliases, 0xfff, &len));
	assert_null(fl_aliases_find(&aliases, 0x2000, &len));
	assert_null(fl_aliases_find(&aliases, 0x4fff, &len));
	assert_null(fl_aliases_find(&aliases, 0x8000, &len));
	assert_null(fl_aliases_find(&aliases, UINT64_MAX, &len));
}

static void test_place(void **state)
{
	static const struct fl_alias from[] = {
		{0x5000, memory, 0x2000},
		{0x7000, memory + 0x2000, 0x1000},
	};
	struct fl_aliases aliases;

	(void)state;
	assert_int_equal(init(&aliases, from, 2), 0);
	assert_ptr_equal(fl_aliases_place(&aliases, 0x5000, 0x2000), memory);
	assert_ptr_equal(fl_aliases_place(&aliases, 0x6000, 0x1000), memory + 0x1000);
	/* Side by side in memory too, but not one alias. */
	assert_null(fl_aliases_place(&aliases, 0x6000, 0x2000));
	assert_null(fl_aliases_place(&aliases, 0x4000, 0x1000));
	assert_null(fl_aliases_place(&aliases, 0x7000, 0x1001));
}

static void test_fill(void **state)
{
	static const struct fl_alias from[] = {{0x5000, memory, 0x2000}};
	struct fl_aliases aliases;
	char contents[0x2000];

	(void)state;
	assert_int_equal(init(&aliases, from, 1), 0);
	memset(memory, 0x11, sizeof(memory));
	memset(contents, 0x22, sizeof(contents));
	assert_int_equal(fl_aliases_fill(&aliases, 0x6000, contents, 0x2000), 0x1000);
	assert_int_equal(memory[0xfff], 0x11);
	assert_int_equal(memory[0x1000], 0x22);
	assert_int_equal(memory[0x1fff], 0x22);
	assert_int_equal(memory[0x2000], 0x11);
	assert_int_equal(fl_aliases_fill(&aliases, 0x5000, NULL, 0x1000), 0x1000);
	assert_int_equal(test_nonzero(memory, 0x1000), -1);
	assert_int_equal(memory[0x1000], 0x22);
	assert_int_equal(fl_aliases_fill(&aliases, 0x7000, contents, 0x1000), -ENOENT);
}

static void test_refuses(void **state)
{
	static const struct fl_alias wrong[][2] = {
		{{0x1000, memory, 0x1000}, {0x1000, memory + 0x1000, 0x1000}},
		{{0x1000, memory, 0x2000}, {0x2fff, memory + 0x2000, 0x1000}},
		{{0x3000, memory, 0x1000}, {0x2000, memory + 0x2000, 0x1001}},
		{{0x1000, memory, 0x1000}, {0x2000, memory + 0xfff, 0x1000}},
		{{0x1000, memory, 0x1000}, {0x2000, memory + 0x1000, 0}},
		{{0x1000, memory, 0x1000}, {0x2000, NULL, 0x1000}},
		{{0x1000, memory, 0x1000}, {UINT64_MAX - 0xffe, memory + 0x1000, 0x1000}},
		{{0x1000, memory, 0x1000}, {0x2000, memory + 0x1000, UINT64_MAX - 0x3000}},
	};
	static struct fl_alias many[FL_REGIONS_MAX + 1];
	struct fl_aliases aliases;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(init(&aliases, wrong[i], 2), -EINVAL);
	for (size_t i = 0; i <= FL_REGIONS_MAX; i++)
		many[i] = (struct fl_alias){0x1000 * (i + 1), memory + 0x10 * i, 0x10};
	assert_int_equal(init(&aliases, many, 0), -EINVAL);
	assert_int_equal(init(&aliases, many, FL_REGIONS_MAX + 1), -EINVAL);
	assert_int_equal(init(&aliases, many, FL_REGIONS_MAX), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_fill),
		cmocka_unit_test(test_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
