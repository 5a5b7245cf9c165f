/* SPDX-License-Identifier: MIT */

/* Before it: rounds that are read by another way than the link, and what must not come. */

#include "incoming_way_rig_test.h"

#include <errno.h>

/* --- rounds --- */

static void round_by_the_way(uint32_t flags, struct rig_options options)
{
	struct rig rig;

	way_begin(&rig, flags, options);
	fake.hold = true;
	way_to_rounds(&rig);
	way_say_range(&rig, 0, rig.pages / 2);
	rig_zero(&rig, 0, rig.pages / 2, 1);
	rig_write(&rig, rig.pages / 2, 0);
	way_say_range(&rig, rig.pages / 2 + 1, rig.pages / 2 - 1);
	rig_say(&rig, 0, FL_FRAME_ROUND, 0, 0, 1);
	rig_say(&rig, 0, FL_FRAME_PING, 0, 0, 7);
	rig_await(&rig, FL_FRAME_PONG, 1);
	assert_int_equal(rig.now->came[FL_FRAME_ROUND_ACK], 0); /* not before it is there */
	fake.hold = false;
	fake_kick();
	rig_await(&rig, FL_FRAME_ROUND_ACK, 1);
	assert_int_equal(rig.now->came[FL_FRAME_TORN], 0);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	way_to_go(&rig);
	rig_due(&rig);
	way_complete(&rig);
	assert_int_equal(rig.now->requests, 0);
	assert_int_equal(rig_stats(&rig).by_way, rig.pages - 1);
	assert_int_equal(rig_stats(&rig).precopy, rig.pages);
	assert_int_equal(rig_stats(&rig).clean, rig.pages);
	way_finish(&rig);
}

static void test_a_round_by_the_way(void **state)
{
	(void)state;
	round_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 4096});
	round_by_the_way(FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024});
	round_by_the_way(0, (struct rig_options){.pages = 1024});
}

static void test_a_round_by_the_way_hugetlb(void **state)
{
	(void)state;
	round_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 8, .hugetlb = true});
}

/* A read of many pages has a wrong sum because of one: that one is torn, and no other. */
static void test_a_page_that_is_written_is_torn(void **state)
{
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 128});
	fake.torn = 5;
	fake.torns = 2; /* the run, and the page */
	way_to_rounds(&rig);
	way_say_range(&rig, 0, 64);
	way_say_range(&rig, 64, 64);
	rig_round(&rig, 1);
	assert_int_equal(rig.now->came[FL_FRAME_TORN], 1);
	assert_int_equal(fl_pageset_count(rig.now->torn), 1);
	assert_true(fl_pageset_has(rig.now->torn, 5));
	assert_int_equal(rig_stats(&rig).torn, 1);
	fake.torn = 70;
	fake.torns = 1; /* the run alone: nothing is torn */
	rig_write(&rig, 70, 3);
	way_say_range(&rig, 64, 64);
	rig_round(&rig, 2);
	assert_int_equal(rig.now->came[FL_FRAME_TORN], 2); /* 5 again */
	assert_int_equal(fl_pageset_count(rig.now->torn), 1);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	(void)fl_pageset_add(rig.owed, 5, 1);
	way_to_go(&rig);
	rig_due(&rig);
	way_complete(&rig);
	way_finish(&rig);
}

static void test_a_way_that_fails_in_a_round_ends_it(void **state)
{
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	fake.fail = -EPIPE;
	way_to_rounds(&rig);
	way_say_range(&rig, 0, 32);
	rig_ended(&rig, FL_MIGRATE_FAILED, -EPIPE, "the page worker brings no pages: Broken pipe");
	way_finish(&rig);
}

static void test_a_silent_way_ends_a_round(void **state)
{
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.timeout_ms = 1000});
	fake.hold = true;
	way_to_rounds(&rig);
	way_say_range(&rig, 0, 32);
	rig_serve_while(&rig, rig.ends == 0);
	rig_ended(&rig, FL_MIGRATE_FAILED, -ETIMEDOUT, "the page worker brings no pages");
	way_finish(&rig);
}

static void test_no_way_ends_it(void **state)
{
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	fake.refuse = -ENOENT;
	way_to_rounds(&rig);
	rig_ended(&rig, FL_MIGRATE_FAILED, -ENOENT,
		  "the page worker cannot be read by: no worker on this host");
	way_finish(&rig);
}

/* --- what must not come --- */

static void say_twice(struct rig *rig)
{
	way_say(rig);
}

static void say_another(struct rig *rig)
{
	way_say_range(rig, 31, 1);
	way_say_range(rig, 0, 32);
}

static void send_pages(struct rig *rig)
{
	way_say_range(rig, 0, 2);
	rig_pages(rig, 0, 1, 1, false);
}

static void send_zero(struct rig *rig)
{
	way_say_range(rig, 0, 2);
	rig_zero(rig, 0, 0, 1);
}

static void send_state(struct rig *rig)
{
	way_say_range(rig, 0, 2);
	rig_state(rig);
}

static void send_due(struct rig *rig)
{
	way_say_range(rig, 0, 2);
	rig_say(rig, 0, FL_FRAME_DUE_END, 0, 0, 0);
}

static void range_after_round(struct rig *rig)
{
	way_say_range(rig, 0, 2);
	rig_say(rig, 0, FL_FRAME_ROUND, 0, 0, 1);
	way_say_range(rig, 2, 2);
}

static void range_beyond(struct rig *rig)
{
	way_say_range(rig, 31, 2);
}

static void test_what_must_not_come(void **state)
{
	static const struct {
		void (*say)(struct rig *rig);
		const char *text;
	} cases[] = {
		{say_twice, "WAY came in phase rounds"},
		{say_another, "RANGE: the pages at offset 0x0 were named by RANGE before"},
		{send_pages, "PAGES: the pages at offset 0x1000 were named"},
		{send_zero, "ZERO: the pages at offset 0x0 were named"},
		{send_state, "STATE came in phase rounds"},
		{send_due, "DUE_END came in phase rounds"},
		{range_after_round, "RANGE came in phase rounds"},
		{range_beyond, "RANGE: 8192 bytes at offset 0x1f000 reach beyond"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct rig rig;

		way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
		fake.hold = true;
		way_to_rounds(&rig);
		cases[i].say(&rig);
		rig_ended(&rig, FL_MIGRATE_FAILED, -EBADMSG, cases[i].text);
		way_finish(&rig);
	}
}

static void test_range_without_a_way(void **state)
{
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	rig_to_rounds(&rig);
	way_say_range(&rig, 0, 2);
	rig_ended(&rig, FL_MIGRATE_FAILED, -EBADMSG, "RANGE came in phase rounds");
	way_finish(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_round_by_the_way),
		cmocka_unit_test(test_a_round_by_the_way_hugetlb),
		cmocka_unit_test(test_a_page_that_is_written_is_torn),
		cmocka_unit_test(test_a_way_that_fails_in_a_round_ends_it),
		cmocka_unit_test(test_a_silent_way_ends_a_round),
		cmocka_unit_test(test_no_way_ends_it),
		cmocka_unit_test(test_what_must_not_come),
		cmocka_unit_test(test_range_without_a_way),
	};

	return cmocka_run_group_tests_name("incoming_way_round", tests, NULL, NULL);
}
