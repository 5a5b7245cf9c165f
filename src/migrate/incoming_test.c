/* SPDX-License-Identifier: MIT */

/* A machine that arrives, as it should. */

#include "incoming_rig_test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "util/clock.h"

static uint64_t blocks(const struct rig *rig)
{
	struct stat file;

	assert_int_equal(fstat(rig->memfd, &file), 0);
	return (uint64_t)file.st_blocks * 512;
}

static void everything(const struct rig_options *options)
{
	struct fl_incoming_stats stats;
	struct rig rig;
	size_t half;

	rig_start(&rig, options);
	half = rig.pages / 2;
	assert_int_equal(rig_phase(&rig), FL_MIGRATE_MEETING);
	rig_to_rounds(&rig);
	assert_int_equal(rig_phase(&rig), FL_MIGRATE_ROUNDS);
	assert_string_equal(rig.config, "two cpus");
	rig_write(&rig, 1, 0);
	rig_write(&rig, half, 0);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_zero(&rig, 0, 1, 1);
	rig_zero(&rig, 0, half, 1);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	rig_round(&rig, 1);
	rig_write(&rig, 2, 2); /* written meanwhile: round 2 */
	rig_pages(&rig, 0, 2, 1, false);
	rig_round(&rig, 2);
	assert_false(rig.loading);

	rig_write(&rig, 2, 3); /* and after that */
	rig_write(&rig, half + 1, 3);
	rig_write(&rig, half, 4);
	rig_write(&rig, half - 1, 0);
	for (size_t i = 0; i < 4; i++)
		(void)fl_pageset_add(rig.owed, (size_t[]){2, half + 1, half, half - 1}[i], 1);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	assert_int_equal(rig_phase(&rig), FL_MIGRATE_SWITCHING);
	assert_true(rig.loaded);
	assert_string_equal(rig.state, "registers");
	assert_false(rig.ran);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	assert_true(rig.ran);
	assert_int_equal(rig_phase(&rig), FL_MIGRATE_FOLLOWING);
	rig_finish(&rig);

	stats = rig_stats(&rig);
	assert_int_equal(stats.round, 2);
	assert_int_equal(stats.precopy, rig.pages + 3);
	assert_int_equal(stats.due, 4);
	assert_int_equal(stats.torn, 0);
	assert_true(stats.go_to_due_ns > 0);
	assert_true(stats.clean >= rig.pages - 4 - 1 && stats.clean <= rig.pages - 4);
	assert_true(stats.received > rig.pages * rig.page_size);
	assert_int_equal(rig.ends, 1);
	rig_stop(&rig);
}

static void test_everything(void **state)
{
	(void)state;
	everything(&(struct rig_options){.load_touches = 5});
}

static void test_everything_hugetlb(void **state)
{
	(void)state;
	everything(&(struct rig_options){.load_touches = 0, .hugetlb = true, .pages = 8});
}

static void test_everything_segv(void **state)
{
	(void)state;
	everything(&(struct rig_options){.load_touches = 5, .segv = true});
}

/* The promise: the machine runs, and is served, before the due set has come. */
static void test_runs_before_due_end(void **state)
{
	struct rig_toucher clean, zero, due;
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_rounds(&rig);
	rig_write(&rig, 8, 0);
	rig_pages(&rig, 0, 0, 8, false);
	rig_zero(&rig, 0, 8, 1);
	rig_pages(&rig, 0, 9, rig.pages - 9, false);
	rig_round(&rig, 1);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	rig_write(&rig, 9, 2);
	(void)fl_pageset_add(rig.owed, 9, 1);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	rig_touch(&clean, &rig, 4);
	rig_touch(&zero, &rig, 8);
	rig_touch(&due, &rig, 9);
	rig_serve_while(&rig, !clean.done || !zero.done || !due.done);
	rig_touched(&clean);
	rig_touched(&zero);
	rig_touched(&due);
	assert_int_equal(rig.now->requests, 3); /* nothing is asked for that nobody touched */
	assert_true(rig.now->request[0].demand && rig.now->request[1].demand &&
		    rig.now->request[2].demand);
	assert_int_equal(rig_stats(&rig).clean, 0);
	assert_int_equal(rig_stats(&rig).go_to_due_ns, 0);
	rig_finish(&rig);
	rig_stop(&rig);
}

/* All pages are stale, and touched before and after the due set comes. */
static void test_stale_is_never_seen(void **state)
{
	struct rig_toucher early[64], late[64];
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_rounds(&rig);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_round(&rig, 1);
	for (size_t page = 0; page < rig.pages; page += 2)
		rig_write(&rig, page, 7);
	for (size_t page = 1; page < rig.pages; page += 2)
		(void)fl_pageset_del(rig.owed, page, 1);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	for (size_t page = 0; page < 32; page++)
		rig_touch(&early[page], &rig, page);
	for (size_t i = 0; i < 8; i++) {
		struct rig_request request = rig_request(&rig);

		rig_answer(&rig, &request);
	}
	for (size_t page = 32; page < rig.pages; page++)
		rig_touch(&late[page], &rig, page);
	/* The whole set, with what was sent of it. */
	for (size_t page = 0; page < rig.pages; page += 2)
		(void)fl_pageset_add(rig.owed, page, 1);
	rig_finish(&rig);
	for (size_t page = 0; page < 32; page++)
		rig_touched(&early[page]);
	for (size_t page = 32; page < rig.pages; page++)
		rig_touched(&late[page]);
	rig_stop(&rig);
}

static void test_torn_comes_again(void **state)
{
	struct fl_incoming_stats stats;
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_rounds(&rig);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_pages(&rig, 0, 6, 2, true); /* page 6 of it */
	rig_pages(&rig, 0, 40, 1, true);
	rig_round(&rig, 1);
	assert_int_equal(fl_pageset_count(rig.now->torn), 2); /* they were named */
	assert_true(fl_pageset_has(rig.now->torn, 6) && fl_pageset_has(rig.now->torn, 40));
	rig_pages(&rig, 0, 6, 1, false);
	rig_round(&rig, 2);
	assert_int_equal(fl_pageset_count(rig.now->torn), 1);
	assert_true(fl_pageset_has(rig.now->torn, 40));
	rig_pages(&rig, 0, 41, 1, true);
	rig_zero(&rig, 0, 40, 2);
	rig_round(&rig, 3);
	assert_int_equal(fl_pageset_count(rig.now->torn), 0);
	assert_int_equal(rig.now->came[FL_FRAME_TORN], 2); /* nothing is said of nothing */
	rig_pages(&rig, 0, 40, 2, true);
	rig_pages(&rig, 0, 41, 1, false);
	rig_round(&rig, 4);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	(void)fl_pageset_add(rig.owed, 40, 1); /* the other one is due */
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_finish(&rig);
	stats = rig_stats(&rig);
	assert_int_equal(stats.torn, 4);
	assert_int_equal(stats.clean, rig.pages - 1);
	rig_stop(&rig);
}

static void test_zeros_stay_holes(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_rounds(&rig);
	assert_int_equal(blocks(&rig), 0);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_round(&rig, 1);
	assert_int_equal(blocks(&rig), rig.len);
	for (size_t page = 4; page < rig.pages; page++)
		rig_write(&rig, page, 0);
	rig_zero(&rig, 0, 4, rig.pages / 2 - 4);
	rig_zero(&rig, 0, rig.pages / 2, rig.pages / 2);
	rig_round(&rig, 2);
	assert_int_equal(blocks(&rig), 4 * rig.page_size);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_due(&rig);
	rig_serve_until(&rig, FL_FRAME_COMPLETE);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	assert_int_equal(blocks(&rig), 4 * rig.page_size);
	assert_int_equal(rig_stats(&rig).clean, rig.pages);
	rig_check_all(&rig);
	rig_stop(&rig);
}

/* Zeros that are asked for in the background take no memory, and give back what was there. */
static void zeros_after_the_switch(const struct rig_options *options)
{
	struct rig rig;
	size_t half;

	rig_start(&rig, options);
	half = rig.pages / 2;
	rig_to_go(&rig);
	assert_int_equal(blocks(&rig), rig.len);
	for (size_t page = half; page < rig.pages; page++) {
		rig_write(&rig, page, 0);
		(void)fl_pageset_add(rig.owed, page, 1);
	}
	rig_due(&rig);
	rig_serve_until(&rig, FL_FRAME_COMPLETE);
	assert_int_equal(blocks(&rig), half * rig.page_size);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	assert_int_equal(rig_stats(&rig).zero, rig.pages - half);
	assert_int_equal(rig_stats(&rig).pager.zero, rig.pages - half);
	rig_check_all(&rig);
	rig_stop(&rig);
}

static void test_zeros_after_the_switch(void **state)
{
	(void)state;
	zeros_after_the_switch(&(struct rig_options){.load_touches = -1});
	zeros_after_the_switch(&(struct rig_options){.load_touches = -1, .segv = true});
}

static void test_zeros_after_the_switch_hugetlb(void **state)
{
	(void)state;
	zeros_after_the_switch(
		&(struct rig_options){.load_touches = -1, .hugetlb = true, .pages = 8});
}

/* The same where nothing was before, neither here nor there; only what is waited for becomes memory. */
static void holes_after_the_switch(const struct rig_options *options)
{
	struct rig_toucher one;
	struct rig rig;

	rig_start(&rig, options);
	rig_to_rounds(&rig);
	for (size_t page = 0; page < rig.pages; page++)
		rig_write(&rig, page, page % 8 ? 0 : 1);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	rig_touch(&one, &rig, 3);
	rig_serve_while(&rig, !one.done);
	rig_touched(&one);
	rig_due(&rig);
	rig_serve_until(&rig, FL_FRAME_COMPLETE);
	assert_int_equal(blocks(&rig), (rig.pages / 8 + 1) * rig.page_size);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	assert_int_equal(rig_stats(&rig).zero, rig.pages / 8 * 7);
	rig_check_all(&rig);
	rig_stop(&rig);
}

static void test_holes_after_the_switch(void **state)
{
	(void)state;
	holes_after_the_switch(&(struct rig_options){.load_touches = -1, .pages = 1024});
	holes_after_the_switch(
		&(struct rig_options){.load_touches = -1, .pages = 16, .hugetlb = true});
}

/* Mode precopy: nothing is due, and that is known before the state comes. */
static void test_nothing_due(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = 3});
	rig_to_rounds(&rig);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_round(&rig, 1);
	rig_say(&rig, 0, FL_FRAME_DUE_END, 0, 0, 0);
	rig_state(&rig);
	rig_await(&rig, FL_FRAME_READY, 1);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	rig_await(&rig, FL_FRAME_COMPLETE, 1);
	assert_int_equal(rig.now->requests, 0);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(&rig);
	rig_stop(&rig);
}

/* Mode postcopy: nothing came before. */
static void test_nothing_came(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = 3, .pages = 1024});
	rig_to_rounds(&rig);
	rig_write(&rig, 9, 0);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	rig_touch(&one, &rig, 700);
	(void)fl_pageset_add(rig.owed, 3, 1);
	rig_finish(&rig);
	rig_touched(&one);
	assert_int_equal(rig_stats(&rig).clean, 0);
	assert_int_equal(rig_stats(&rig).pager.poisoned, 0);
	rig_stop(&rig);
}

/* A fault on a page that is on its way in the background is asked for by demand, too. */
static void test_background_is_overtaken(void **state)
{
	struct rig_toucher one;
	struct rig_request request;
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1, .pages = 1024});
	rig_to_rounds(&rig);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	rig_due(&rig);
	request = rig_request(&rig);
	assert_false(request.demand);
	assert_int_equal(request.offset, 0);
	rig_touch(&one, &rig, 5);
	do
		request = rig_request(&rig);
	while (!request.demand);
	assert_int_equal(request.offset, 5 * rig.page_size);
	assert_int_equal(request.bytes, rig.page_size);
	rig_answer(&rig, &request);
	rig_touched(&one); /* although nothing of the background came */
	rig.now->answered = 0;
	while (rig.now->came[FL_FRAME_COMPLETE] == 0) {
		struct rig_request *next = &rig.now->request[rig.now->answered];

		rig_hear(&rig, rig_deadline());
		if (rig.now->answered == rig.now->requests)
			continue;
		rig.now->answered++;
		for (uint32_t at = 0; at < next->bytes; at += (uint32_t)rig.page_size) {
			struct rig_request part = {next->demand, next->offset + at,
						   (uint32_t)rig.page_size};

			/* Each page once. */
			if (fl_pageset_has(rig.owed, part.offset / rig.page_size))
				rig_answer(&rig, &part);
		}
	}
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(&rig);
	rig_stop(&rig);
}

/* The guest gives pages back that are asked for, and under way. */
static void test_given_back_meanwhile(void **state)
{
	struct rig_request request;
	struct rig rig;
	char *sent;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1, .pages = 512});
	rig_to_rounds(&rig);
	rig_state(&rig);
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	rig_due(&rig);
	request = rig_request(&rig);
	assert_int_equal(request.offset, 0);
	assert_true(request.bytes >= 32 * rig.page_size);
	/* Half of a frame arrives, is in its place, then 8 pages of it are gone; some are written. */
	sent = malloc(32 * rig.page_size);
	assert_non_null(sent);
	memcpy(sent, rig.truth, 32 * rig.page_size);
	assert_int_equal(
		fl_conn_send_pages(rig.now->conn[0], 0, sent, (uint32_t)(32 * rig.page_size)), 0);
	assert_int_equal(fl_conn_flush(rig.now->conn[0], 70000), 0);
	rig_wait(rig_stats(&rig).received > 16 * rig.page_size);
	assert_int_equal(madvise(rig_at(&rig, 12), 8 * rig.page_size, MADV_REMOVE), 0);
	for (size_t page = 12; page < 20; page++)
		rig_write(&rig, page, 0);
	rig_check(&rig, 14);
	test_pattern(rig_at(&rig, 16), rig.page_size, 16 * rig.page_size, 9);
	rig_write(&rig, 16, 9);
	(void)fl_pageset_del(rig.owed, 0, 32);
	request.offset += 32 * rig.page_size;
	request.bytes -= (uint32_t)(32 * rig.page_size);
	rig_answer(&rig, &request); /* after the rest of that frame */
	rig_serve_until(&rig, FL_FRAME_COMPLETE);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(&rig);
	/* The trap is gone: what is given back now, the kernel supplies. */
	assert_int_equal(madvise(rig_at(&rig, 20), rig.page_size, MADV_REMOVE), 0);
	rig_write(&rig, 20, 0);
	rig_check(&rig, 20);
	assert_int_equal(rig_stats(&rig).pager.removed, 8);
	rig_stop(&rig);
	free(sent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_everything_hugetlb),
		cmocka_unit_test(test_everything_segv),
		cmocka_unit_test(test_runs_before_due_end),
		cmocka_unit_test(test_stale_is_never_seen),
		cmocka_unit_test(test_torn_comes_again),
		cmocka_unit_test(test_zeros_stay_holes),
		cmocka_unit_test(test_zeros_after_the_switch),
		cmocka_unit_test(test_zeros_after_the_switch_hugetlb),
		cmocka_unit_test(test_holes_after_the_switch),
		cmocka_unit_test(test_nothing_due),
		cmocka_unit_test(test_nothing_came),
		cmocka_unit_test(test_background_is_overtaken),
		cmocka_unit_test(test_given_back_meanwhile),
	};

	return cmocka_run_group_tests_name("incoming", tests, NULL, NULL);
}
