/* SPDX-License-Identifier: MIT */

/* After the switch: what is due is read by another way than the link. */

#include "incoming_way_rig_test.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* --- after the switch --- */

static void all_by_the_way(uint32_t flags, struct rig_options options)
{
	struct fl_incoming_stats stats;
	struct rig rig;

	way_begin(&rig, flags, options);
	way_to_rounds(&rig);
	way_to_go(&rig);
	assert_string_equal(fake.blob, "over there");
	assert_int_equal(fake.submits, 0);
	rig_due(&rig);
	way_complete(&rig);
	stats = rig_stats(&rig);
	assert_int_equal(rig.now->requests, 0);
	assert_int_equal(stats.by_way, rig.pages);
	assert_int_equal(stats.way, FL_MIGRATE_BY_WORKER);
	assert_int_equal(stats.pager.fill, rig.pages);
	way_finish(&rig);
}

static void test_all_by_the_way(void **state)
{
	(void)state;
	all_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	all_by_the_way(FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024});
	all_by_the_way(0, (struct rig_options){.pages = 1024});
	all_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 256, .segv = true});
}

static void test_all_by_the_way_hugetlb(void **state)
{
	(void)state;
	all_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 8, .hugetlb = true});
	all_by_the_way(FL_SOURCE_DIRECT, (struct rig_options){.pages = 8, .hugetlb = true});
	all_by_the_way(0, (struct rig_options){.pages = 8, .hugetlb = true});
}

/* Only the other side knows what is clean; of what is not due, nothing is read by the way after either. */
static void test_before_due_end_the_link_is_asked(void **state)
{
	struct rig_toucher early, late;
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	way_to_rounds(&rig);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_round(&rig, 1);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	rig_write(&rig, 9, 2);
	rig_write(&rig, 40, 2);
	(void)fl_pageset_add(rig.owed, 9, 1);
	(void)fl_pageset_add(rig.owed, 40, 1);
	way_to_go(&rig);
	rig_touch(&early, &rig, 9);
	rig_serve_while(&rig, !early.done);
	rig_touched(&early);
	assert_int_equal(rig.now->requests, 1);
	assert_int_equal(fake.submits, 0);
	(void)fl_pageset_add(rig.owed, 9, 1); /* the set is as it was */
	fake.hold = true;
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_touch(&late, &rig, 40);
	fake.hold = false;
	fake_kick();
	way_complete(&rig);
	rig_touched(&late);
	assert_int_equal(rig.now->requests, 1);
	assert_int_equal(rig_stats(&rig).by_way, 1);
	way_finish(&rig);
}

/* A fault on what is on its way in the background. */
static void test_demand_hurries(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	fake.hold = true;
	way_to_rounds(&rig);
	way_to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_touch(&one, &rig, 5);
	rig_wait(fake.hurries > 0);
	assert_false(one.done);
	fake.hold = false;
	fake_kick();
	way_complete(&rig);
	rig_touched(&one);
	assert_int_equal(rig.now->requests, 0);
	way_finish(&rig);
}

/* --- when it fails --- */

static void fails(uint32_t flags, struct rig_options options, unsigned int pieces)
{
	struct rig_toucher one;
	struct rig rig;

	way_begin(&rig, flags, options);
	fake.hold = true;
	way_to_rounds(&rig);
	way_to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_touch(&one, &rig, rig.pages - 1);
	fake.pieces = pieces;
	fake.fail = -EPIPE;
	fake.hold = false;
	fake_kick();
	way_complete(&rig);
	rig_touched(&one);
	assert_true(rig.now->requests > 0);
	assert_int_equal(rig_stats(&rig).way, FL_MIGRATE_BY_LINK);
	assert_int_equal(rig_stats(&rig).pager.poisoned, 0);
	assert_int_equal(rig_stats(&rig).pager.errors, 0);
	way_finish(&rig);
}

static void test_a_way_that_fails_is_the_links(void **state)
{
	(void)state;
	fails(FL_SOURCE_PIECES, (struct rig_options){.pages = 1024}, 0);
	fails(FL_SOURCE_PIECES, (struct rig_options){.pages = 1024}, 3);
	fails(FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024}, 0);
	fails(0, (struct rig_options){.pages = 1024}, 0);
}

/* Of a page that came in part, all of it is asked for. */
static void test_a_way_that_fails_within_a_huge_page(void **state)
{
	(void)state;
	fails(FL_SOURCE_PIECES, (struct rig_options){.pages = 8, .hugetlb = true}, 5);
}

static void test_a_wrong_sum_is_that_reads_alone(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	way_to_rounds(&rig);
	way_to_go(&rig);
	fake.torn = 700;
	fake.torns = 1;
	fake.hold = true;
	rig_due(&rig);
	rig_wait(fake.submits > 0); /* from here on nothing is asked of the link */
	rig_touch(&one, &rig, 700);
	fake.hold = false;
	fake_kick();
	way_complete(&rig);
	rig_touched(&one);
	assert_true(rig.now->requests > 0);
	assert_int_equal(fake.torns, 0);
	assert_int_equal(rig_stats(&rig).way, FL_MIGRATE_BY_WORKER);
	assert_true(rig_stats(&rig).by_way >= rig.pages / 2);
	way_finish(&rig);
}

/* Says nothing any more, and is not waited for longer than the timeout. */
static void test_a_silent_way_is_abandoned(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024, .timeout_ms = 1000});
	fake.hold = true;
	way_to_rounds(&rig);
	way_to_go(&rig);
	rig_due(&rig);
	rig_touch(&one, &rig, 77);
	way_complete(&rig);
	rig_touched(&one);
	assert_true(fake.quiesces > 0);
	assert_int_equal(rig_stats(&rig).by_way, 0);
	assert_int_equal(rig_stats(&rig).way, FL_MIGRATE_BY_LINK);
	way_finish(&rig);
}

/* The link is lost: the way needs it not. */
static void test_goes_on_without_the_link(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	fake.hold = true;
	way_to_rounds(&rig);
	way_to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	rig_touch(&one, &rig, 900);
	fake.hold = false;
	fake_kick();
	rig_touched(&one);
	rig_wait(rig_stats(&rig).by_way == rig.pages);
	rig_meet_again(&rig, false);
	rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
	assert_int_equal(fl_pageset_count(rig.now->received), rig.pages);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_say(&rig, 0, FL_FRAME_DUE_END, 0, 0, 0);
	rig_await(&rig, FL_FRAME_COMPLETE, 1);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_wait(rig_phase(&rig) == FL_MIGRATE_DONE);
	rig_check_all(&rig);
	assert_int_equal(rig.now->requests, 0);
	way_finish(&rig);
}

/* Lost while it brings pages, and recovered: it goes on, and nothing is asked of the link. */
static void test_goes_on_after_a_recovery(void **state)
{
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	fake.hold = true;
	way_to_rounds(&rig);
	way_to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	rig_meet_again(&rig, false);
	rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_due(&rig);
	fake.hold = false;
	fake_kick();
	way_complete(&rig);
	assert_int_equal(rig.now->requests, 0);
	assert_int_equal(rig_stats(&rig).by_way, rig.pages);
	way_finish(&rig);
}

/* A device still writes what the guest has given back: no zeros before it has finished. */
static void test_given_back_while_a_device_writes(void **state)
{
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024});
	fake.hold = true;
	way_to_rounds(&rig);
	way_to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	assert_int_equal(madvise(rig_at(&rig, 4), 4 * rig.page_size, MADV_REMOVE), 0);
	/* It brings what was there before the machine was given zeros. */
	rig_wait(fake.quiesces > 0);
	assert_int_equal(test_nonzero(rig_at(&rig, 5), rig.page_size), -1);
	for (size_t page = 4; page < 8; page++)
		rig_write(&rig, page, 0);
	test_pattern(rig_at(&rig, 6), rig.page_size, 6 * rig.page_size, 9);
	fake.hold = false;
	fake_kick();
	rig_serve_until(&rig, FL_FRAME_COMPLETE);
	rig_write(&rig, 6, 9); /* and what the guest writes stays */
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(&rig);
	assert_true(fake.quiesces > 0);
	way_finish(&rig);
}

/* All of memory is populated, as by a device that pins it: nothing of it counts as received. */
static void test_what_is_populated_is_not_received(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	way_begin(&rig, FL_SOURCE_DIRECT, (struct rig_options){.pages = 64});
	fake.hold = true;
	way_to_rounds(&rig);
	memset(rig.alias, 0xee, rig.len);
	way_to_go(&rig);
	rig_touch(&one, &rig, 3); /* before DUE_END */
	rig_serve_while(&rig, !one.done);
	rig_touched(&one);
	(void)fl_pageset_add(rig.owed, 3, 1);
	rig_due(&rig);
	rig_touch(&one, &rig, 50);
	rig_wait(fake.submits > 0);
	fake.hold = false;
	fake_kick();
	way_complete(&rig);
	rig_touched(&one);
	assert_int_equal(rig_stats(&rig).clean, 0);
	way_finish(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_by_the_way),
		cmocka_unit_test(test_all_by_the_way_hugetlb),
		cmocka_unit_test(test_before_due_end_the_link_is_asked),
		cmocka_unit_test(test_demand_hurries),
		cmocka_unit_test(test_a_way_that_fails_is_the_links),
		cmocka_unit_test(test_a_way_that_fails_within_a_huge_page),
		cmocka_unit_test(test_a_wrong_sum_is_that_reads_alone),
		cmocka_unit_test(test_a_silent_way_is_abandoned),
		cmocka_unit_test(test_goes_on_without_the_link),
		cmocka_unit_test(test_goes_on_after_a_recovery),
		cmocka_unit_test(test_given_back_while_a_device_writes),
		cmocka_unit_test(test_what_is_populated_is_not_received),
	};

	return cmocka_run_group_tests_name("incoming_way", tests, NULL, NULL);
}
