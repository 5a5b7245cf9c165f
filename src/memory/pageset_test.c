/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <faultline/memory.h>

static struct fl_pageset *new_set(uint64_t pages)
{
	struct fl_pageset *set = NULL;

	assert_int_equal(fl_pageset_new(&set, pages), 0);
	return set;
}

static void a_new_set_is_empty(void **state)
{
	struct fl_pageset *set = new_set(200);
	uint64_t page = 0;

	(void)state;
	assert_int_equal(fl_pageset_count(set), 0);
	assert_int_equal(fl_pageset_run(set, &page), 0);
	for (page = 0; page < 200; page++)
		assert_false(fl_pageset_has(set, page));
	fl_pageset_free(set);
}

static void a_set_of_no_pages_holds_none(void **state)
{
	struct fl_pageset *set = new_set(0);
	uint64_t page = 0;

	(void)state;
	assert_int_equal(fl_pageset_add(set, 0, 0), 0);
	assert_int_equal(fl_pageset_add(set, 0, 1), -ERANGE);
	assert_int_equal(fl_pageset_run(set, &page), 0);
	assert_int_equal(fl_pageset_count(set), 0);
	fl_pageset_free(set);
	fl_pageset_free(NULL);
}

/* Sanitizers would end the program where malloc() fails, unless told. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void more_pages_than_memory_are_refused(void **state)
{
	struct fl_pageset *set = NULL;

	(void)state;
	assert_int_equal(fl_pageset_new(&set, UINT64_MAX), -ENOMEM);
	assert_int_equal(fl_pageset_new(&set, UINT64_MAX / 2), -ENOMEM);
	assert_null(set);
}

static void ranges_that_do_not_fit_change_nothing(void **state)
{
	static const struct {
		uint64_t page, count;
	} bad[] = {{0, 101},
		   {100, 1},
		   {101, 0},
		   {99, 2},
		   {50, UINT64_MAX},
		   {UINT64_MAX, 1},
		   {UINT64_MAX, UINT64_MAX}};
	struct fl_pageset *set = new_set(100);

	(void)state;
	assert_int_equal(fl_pageset_add(set, 10, 20), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fl_pageset_add(set, bad[i].page, bad[i].count), -ERANGE);
		assert_int_equal(fl_pageset_del(set, bad[i].page, bad[i].count), -ERANGE);
	}
	assert_int_equal(fl_pageset_count(set), 20);
	assert_false(fl_pageset_has(set, 100));
	assert_false(fl_pageset_has(set, UINT64_MAX));
	fl_pageset_free(set);
	set = new_set(64);
	assert_false(fl_pageset_has(set, 64));
	fl_pageset_free(set);
}

static void runs_are_found_from_anywhere(void **state)
{
	struct fl_pageset *set = new_set(1000);
	uint64_t page = 0;

	(void)state;
	assert_int_equal(fl_pageset_add(set, 3, 2), 0);
	assert_int_equal(fl_pageset_add(set, 60, 200), 0);
	assert_int_equal(fl_pageset_add(set, 999, 1), 0);
	assert_int_equal(fl_pageset_run(set, &page), 2);
	assert_int_equal(page, 3);
	page = 5;
	assert_int_equal(fl_pageset_run(set, &page), 200);
	assert_int_equal(page, 60);
	page = 100; /* inside a run: what is left of it */
	assert_int_equal(fl_pageset_run(set, &page), 160);
	assert_int_equal(page, 100);
	page = 260;
	assert_int_equal(fl_pageset_run(set, &page), 1);
	assert_int_equal(page, 999);
	page = 1000;
	assert_int_equal(fl_pageset_run(set, &page), 0);
	page = UINT64_MAX;
	assert_int_equal(fl_pageset_run(set, &page), 0);
	fl_pageset_free(set);
}

static void a_full_set_is_one_run(void **state)
{
	static const uint64_t sizes[] = {1, 63, 64, 65, 128, 1000};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fl_pageset *set = new_set(sizes[i]);
		uint64_t page = 0;

		assert_int_equal(fl_pageset_add(set, 0, sizes[i]), 0);
		assert_int_equal(fl_pageset_run(set, &page), sizes[i]);
		assert_int_equal(page, 0);
		assert_int_equal(fl_pageset_count(set), sizes[i]);
		fl_pageset_free(set);
	}
}

#define PAGES 300

static void compare(const struct fl_pageset *set, const bool *model)
{
	uint64_t count = 0;

	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t first = page;
		uint64_t run = fl_pageset_run(set, &first);
		uint64_t want = page;
		uint64_t end;

		assert_int_equal(fl_pageset_has(set, page), model[page]);
		count += model[page];
		while (want < PAGES && !model[want])
			want++;
		for (end = want; end < PAGES && model[end];)
			end++;
		assert_int_equal(run, end - want);
		assert_int_equal(first, run ? want : page);
	}
	assert_int_equal(fl_pageset_count(set), count);
}

/* Against one bool a page: any mistake at the edges of words shows. */
static void random_ranges_agree_with_a_list_of_bools(void **state)
{
	struct fl_pageset *set = new_set(PAGES);
	bool model[PAGES] = {false};
	unsigned int seed = 7;

	(void)state;
	for (int round = 0; round < 300; round++) {
		uint64_t page = (uint64_t)rand_r(&seed) % (PAGES + 1);
		uint64_t count = (uint64_t)rand_r(&seed) % (PAGES + 1 - page);
		bool on = rand_r(&seed) % 2;

		if (on)
			assert_int_equal(fl_pageset_add(set, page, count), 0);
		else
			assert_int_equal(fl_pageset_del(set, page, count), 0);
		for (uint64_t i = page; i < page + count; i++)
			model[i] = on;
		compare(set, model);
	}
	fl_pageset_free(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_set_is_empty),
		cmocka_unit_test(a_set_of_no_pages_holds_none),
		cmocka_unit_test(more_pages_than_memory_are_refused),
		cmocka_unit_test(ranges_that_do_not_fit_change_nothing),
		cmocka_unit_test(runs_are_found_from_anywhere),
		cmocka_unit_test(a_full_set_is_one_run),
		cmocka_unit_test(random_ranges_agree_with_a_list_of_bools),
	};

	return cmocka_run_group_tests_name("pageset", tests, NULL, NULL);
}
