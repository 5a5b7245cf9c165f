/* SPDX-License-Identifier: MIT */

/* The connection is cut: before GO nothing runs, after it nothing is lost. */

#include "incoming_rig_test.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "migrate/incoming.h"

static const struct rig_options plain = {.load_touches = -1};

static void met(struct rig *rig)
{
	rig_meet(rig);
}

static void half_a_machine(struct rig *rig)
{
	struct fl_frame frame = {.type = FL_FRAME_MACHINE, .bytes = 100, .id = 2};

	rig_meet(rig);
	rig_say_with(rig, 0, &frame, "regions", 7);
}

static void half_a_page(struct rig *rig)
{
	rig_to_rounds(rig);
	assert_int_equal(fl_conn_send_pages(rig->now->conn[0], 0, rig->truth, 65536), 0);
	assert_int_equal(fl_conn_flush(rig->now->conn[0], 9000), 0);
}

static void a_round(struct rig *rig)
{
	rig_to_rounds(rig);
	rig_pages(rig, 0, 0, rig->pages, false);
	rig_round(rig, 1);
}

static void half_a_state(struct rig *rig)
{
	struct fl_frame frame = {.type = FL_FRAME_STATE, .bytes = 100};

	a_round(rig);
	rig_say_with(rig, 0, &frame, "registers", 9);
}

static void a_state(struct rig *rig)
{
	a_round(rig);
	rig_state(rig);
	(void)rig_request(rig);
}

static void test_cut_before_go(void **state)
{
	void (*const to[])(struct rig * rig) = {met,     half_a_machine, half_a_page,
						a_round, half_a_state,   a_state};

	(void)state;
	for (size_t i = 0; i < sizeof(to) / sizeof(*to); i++) {
		struct rig rig;

		rig_start(&rig, &(struct rig_options){.load_touches = 3});
		to[i](&rig);
		rig_cut(&rig);
		rig_ended(&rig, FL_MIGRATE_FAILED, -ECONNRESET, "connection");
		assert_false(rig.ran);
		assert_int_equal(rig.ends, 1);
		assert_int_equal(fl_incoming_recover(rig.in, "127.0.0.1:1"), -EINVAL);
		rig_stop(&rig);
	}
}

/* Each point of the frames up to READY, by bytes. */
static void test_ended_at_any_time(void **state)
{
	void (*const to[])(struct rig * rig) = {met,          half_a_machine, half_a_page,
						a_round,      half_a_state,   a_state,
						rig_to_ready, rig_to_go};

	(void)state;
	for (size_t i = 0; i < sizeof(to) / sizeof(*to); i++) {
		struct rig rig;

		rig_start(&rig, &(struct rig_options){.load_touches = 3});
		to[i](&rig);
		fl_incoming_free(rig.in);
		rig.in = NULL;
		assert_int_equal(rig.ends, 0);
		assert_int_equal(rig.ran, i == 7);
		rig_stop(&rig);
	}
}

static void test_ended_unmet(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_stop(&rig);
}

/* Goes on as the protocol says; the first set that comes is @before, which must be what is there. */
static void come_back(struct rig *rig, bool listens)
{
	rig_meet_again(rig, listens);
	rig_await(rig, FL_FRAME_RECEIVED_END, 1);
	assert_int_equal(rig->now->last[FL_FRAME_RECEIVED_END].offset,
			 fl_pageset_count(rig->now->received));
	rig_say(rig, 0, FL_FRAME_GO, 0, 0, 0);
}

/* GO may have been on its way: it waits, and runs only when GO has come. */
static void test_cut_between_ready_and_go(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_to_ready(&rig);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, "connection");
	assert_false(rig.ran);
	rig_meet_again(&rig, false);
	rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
	assert_int_equal(rig.now->last[FL_FRAME_RECEIVED_END].id & 1, 0);
	assert_int_equal(fl_pageset_count(rig.now->received), 0);
	assert_false(rig.ran);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	(void)fl_pageset_add(rig.owed, 3, 5);
	rig_finish(&rig);
	assert_true(rig.ran);
	assert_true(rig.now->came[FL_FRAME_RUNNING] > 0);
	rig_stop(&rig);
}

static void test_called_off_after_ready(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_to_ready(&rig);
	rig_say(&rig, 0, FL_FRAME_CANCEL, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_FAILED, -ECANCELED, "called it off");
	assert_false(rig.ran);
	rig_stop(&rig);
}

/* Who comes back has committed, although GO did not arrive: an error then, or a word that it never says,
 * is the connection's and not the machine's. */
static void no_way_back(bool cancels, int code, const char *text)
{
	struct fl_error err = {-EIO, "my disk is full of water"};
	struct rig rig;

	rig_start(&rig, &plain);
	rig_to_ready(&rig);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, "connection");
	rig_meet_again(&rig, false);
	rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
	if (cancels)
		rig_say(&rig, 0, FL_FRAME_CANCEL, 0, 0, 0);
	else
		fl_conn_send_error(rig.now->conn[0], &err);
	rig_ended(&rig, FL_MIGRATE_LOST, code, text);
	assert_false(rig.ran);
	come_back(&rig, false);
	rig_finish(&rig);
	assert_true(rig.ran);
	rig_stop(&rig);
}

static void test_no_way_back(void **state)
{
	(void)state;
	no_way_back(false, -EREMOTEIO, "my disk is full of water");
	no_way_back(true, -EBADMSG, "CANCEL came in phase lost");
}

/* Demand ends before main, and what main says last stands behind that: it counts all the same. The engine is
 * held, so that it finds all of it at once. */
static void demand_ends_first(uint8_t type)
{
	struct rig rig;

	rig_start(&rig, &plain);
	rig_to_ready(&rig);
	(void)pthread_mutex_lock(&rig.in->lock);
	fl_incoming_kick(rig.in);
	rig_say(&rig, 0, type, 0, 0, 0);
	fl_conn_free(rig.now->conn[1]);
	rig.now->conn[1] = NULL;
	(void)pthread_mutex_unlock(&rig.in->lock);
	if (type == FL_FRAME_CANCEL) {
		rig_ended(&rig, FL_MIGRATE_FAILED, -ECANCELED, "called it off");
		assert_false(rig.ran);
	} else {
		rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, "demand");
		rig_wait(rig.ran); /* it need not be told again */
		rig_meet_again(&rig, false);
		rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
		assert_int_equal(rig.now->last[FL_FRAME_RECEIVED_END].id & 1, 1);
		rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
		rig_finish(&rig);
	}
	rig_stop(&rig);
}

static void test_demand_ends_first(void **state)
{
	(void)state;
	demand_ends_first(FL_FRAME_CANCEL);
	demand_ends_first(FL_FRAME_GO);
}

/* It is ended while run() waits for a page that nobody can bring: run() hears so, and is not waited for
 * for ever. */
static void ended_while_run_waits(bool hugetlb, bool due)
{
	struct rig rig;

	SKIP_UNLESS(fl_probe_one("uffd.poison") == 0, "uffd-poison", "this kernel has none");
	rig_start(&rig, &(struct rig_options){.load_touches = -1,
					      .run_touches = 3,
					      .hugetlb = hugetlb,
					      .pages = hugetlb ? 4 : 1024});
	rig_to_ready(&rig);
	for (size_t page = 0; page < rig.pages; page++)
		(void)fl_pageset_add(rig.owed, page, 1);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	assert_int_equal(rig_request(&rig).offset, 3 * rig.page_size);
	if (due)
		rig_due(&rig);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	fl_incoming_free(rig.in);
	rig.in = NULL;
	assert_true(rig.poisoned);
	rig_stop(&rig);
}

static void test_ended_while_run_waits(void **state)
{
	(void)state;
	ended_while_run_waits(false, false);
	ended_while_run_waits(false, true);
	ended_while_run_waits(true, true);
}

static void owe(struct rig *rig, size_t page, uint64_t seed)
{
	rig_write(rig, page, seed);
	(void)fl_pageset_add(rig->owed, page, 1);
}

/* Before the due set came: what was answered is there, all else is still stale. */
static void cut_before_due(bool listens)
{
	struct rig_toucher clean, due, waits;
	struct rig rig;

	rig_start(&rig, &plain);
	rig_to_go(&rig);
	for (size_t page = 20; page < 30; page++)
		owe(&rig, page, 4);
	rig_touch(&clean, &rig, 2);
	rig_touch(&due, &rig, 20);
	rig_serve_while(&rig, !clean.done || !due.done);
	rig_touch(&waits, &rig, 21);
	(void)rig_request(&rig);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, "connection");
	come_back(&rig, listens);
	assert_int_equal(rig.now->last[FL_FRAME_RECEIVED_END].id & 1, 1);
	assert_int_equal(fl_pageset_count(rig.now->received), 2);
	assert_true(fl_pageset_has(rig.now->received, 2));
	assert_true(fl_pageset_has(rig.now->received, 20));
	rig_finish(&rig);
	rig_touched(&clean);
	rig_touched(&due);
	rig_touched(&waits);
	assert_int_equal(rig_stats(&rig).recoveries, 1);
	assert_int_equal(rig_stats(&rig).pager.poisoned, 0);
	assert_int_equal(rig.ends, 2); /* LOST, DONE */
	rig_stop(&rig);
}

static void test_cut_before_due(void **state)
{
	(void)state;
	cut_before_due(false);
	cut_before_due(true);
}

/* After it: what is clean is served all the while, and nothing of it is asked for. */
static void test_cut_after_due(void **state)
{
	struct rig_toucher pending, missing;
	struct rig_request request;
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_to_go(&rig);
	owe(&rig, 40, 4);
	owe(&rig, 41, 4);
	owe(&rig, 60, 4);
	rig_touch(&pending, &rig, 7);
	request = rig_request(&rig); /* never answered */
	assert_int_equal(request.offset, 7 * rig.page_size);
	rig_due(&rig);
	do
		request = rig_request(&rig);
	while (request.offset != 40 * rig.page_size);
	request.bytes = (uint32_t)rig.page_size;
	rig_answer(&rig, &request);
	rig_check(&rig, 40);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, "connection");
	rig_touched(&pending); /* what was asked for turned out to be clean */
	for (size_t page = 0; page < 40; page++)
		rig_check(&rig, page);
	rig_touch(&missing, &rig, 60);
	come_back(&rig, false);
	assert_true(fl_pageset_has(rig.now->received, 40));
	assert_false(fl_pageset_has(rig.now->received, 41));
	assert_false(fl_pageset_has(rig.now->received, 60));
	rig_finish(&rig);
	for (unsigned int i = 0; i < rig.now->requests; i++)
		assert_true(rig.now->request[i].offset == 41 * rig.page_size ||
			    rig.now->request[i].offset == 60 * rig.page_size);
	rig_touched(&missing);
	rig_stop(&rig);
}

/* A transfer that was cut in the middle of a page had overwritten what was there. */
static void test_cut_within_a_page(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_to_go(&rig);
	owe(&rig, 9, 4);
	rig_touch(&one, &rig, 9);
	(void)rig_request(&rig);
	assert_int_equal(fl_conn_send_pages(rig.now->conn[1], 9 * rig.page_size,
					    rig.truth + 9 * rig.page_size, (uint32_t)rig.page_size),
			 0);
	assert_int_equal(fl_conn_flush(rig.now->conn[1], 2000), 0);
	rig_wait(rig_stats(&rig).received > rig.pages * (rig.page_size + 8) + 2000);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	come_back(&rig, false);
	(void)fl_pageset_del(rig.owed, 9, 1); /* a side that forgets it */
	rig_due(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -EBADMSG,
		  "offset 0x9000 is not due, but what came of it is torn");
	come_back(&rig, false);
	(void)fl_pageset_add(rig.owed, 9, 1);
	rig_finish(&rig);
	rig_touched(&one);
	rig_stop(&rig);
}

/* Part of a huge page had come: all of it comes again, and it is there when all of that has come. */
static void test_cut_within_a_huge_page(void **state)
{
	struct rig_toucher one;
	struct rig rig;
	uint64_t before;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1, .hugetlb = true, .pages = 4});
	rig_to_go(&rig);
	owe(&rig, 3, 4);
	rig_touch(&one, &rig, 3);
	(void)rig_request(&rig);
	for (uint32_t part = 300000; part < 2000000; part += 800000) {
		before = rig_stats(&rig).received;
		assert_int_equal(fl_conn_send_pages(rig.now->conn[1], 3 * rig.page_size,
						    rig.truth + 3 * rig.page_size,
						    (uint32_t)rig.page_size),
				 0);
		for (uint64_t end = rig_deadline(), sent = 0; sent < part; rig_pause(end)) {
			struct fl_conn_stats stats;

			assert_true(fl_conn_flush(rig.now->conn[1], part - sent) >= 0);
			fl_conn_stats(rig.now->conn[1], &stats);
			sent = stats.sent_bytes;
		}
		rig_wait(rig_stats(&rig).received >= before + part);
		rig_cut(&rig);
		rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
		come_back(&rig, false);
		rig_due(&rig);
		assert_int_equal(rig_request(&rig).offset, 3 * rig.page_size);
	}
	rig_pages(&rig, 1, 3, 1, false);
	rig_touched(&one);
	rig_await(&rig, FL_FRAME_COMPLETE, 1);
	assert_int_equal(rig_stats(&rig).pager.errors, 0);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(&rig);
	rig_stop(&rig);
}

/* Cut again and again, also while it comes back. */
static void test_cut_many_times(void **state)
{
	struct rig_toucher touchers[16];
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1, .pages = 1024});
	rig_to_go(&rig);
	for (size_t page = 0; page < rig.pages; page += 2)
		owe(&rig, page, 4);
	for (size_t i = 0; i < 16; i++)
		rig_touch(&touchers[i], &rig, i * 60 + 1);
	for (unsigned int i = 0; i < 24; i++) {
		rig_cut(&rig);
		rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
		rig_meet_again(&rig, i % 2);
		if (i % 4 == 0)
			continue;
		rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
		/* What was sent and did not arrive is owed still. */
		for (size_t page = 0; page < rig.pages; page += 2)
			if (!fl_pageset_has(rig.now->received, page))
				(void)fl_pageset_add(rig.owed, page, 1);
		rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
		if (i % 4 == 1)
			continue;
		rig_due(&rig);
		rig_serve_while(&rig, rig.now->answered < 3);
	}
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	come_back(&rig, false);
	for (size_t page = 0; page < rig.pages; page += 2)
		if (!fl_pageset_has(rig.now->received, page))
			(void)fl_pageset_add(rig.owed, page, 1);
	rig_finish(&rig);
	for (size_t i = 0; i < 16; i++)
		rig_touched(&touchers[i]);
	assert_int_equal(rig_stats(&rig).pager.poisoned, 0);
	rig_stop(&rig);
}

/* A page that the guest gave back while it was lost is not missed. */
static void test_given_back_while_lost(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_to_go(&rig);
	for (size_t page = 40; page < 50; page++)
		owe(&rig, page, 4);
	rig_due(&rig);
	(void)rig_request(&rig);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	assert_int_equal(madvise(rig_at(&rig, 42), 2 * rig.page_size, MADV_REMOVE), 0);
	rig_write(&rig, 42, 0);
	rig_write(&rig, 43, 0);
	rig_check(&rig, 42);
	come_back(&rig, false);
	assert_true(fl_pageset_has(rig.now->received, 42));
	assert_true(fl_pageset_has(rig.now->received, 43));
	(void)fl_pageset_del(rig.owed, 42, 2);
	rig_finish(&rig);
	rig_stop(&rig);
}

static void wrong_due_again(bool more, const char *text)
{
	struct rig rig;

	rig_start(&rig, &plain);
	rig_to_go(&rig);
	owe(&rig, 40, 4);
	owe(&rig, 41, 4);
	rig_due(&rig);
	(void)rig_request(&rig);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	come_back(&rig, false);
	if (more)
		(void)fl_pageset_add(rig.owed, 3, 1);
	else
		(void)fl_pageset_del(rig.owed, 41, 1);
	rig_due(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -EBADMSG, text);
	rig_check(&rig, 3);
	rig_stop(&rig);
}

static void test_wrong_due_again(void **state)
{
	(void)state;
	wrong_due_again(true, "offset 0x3000 is due, but is here");
	wrong_due_again(false, "offset 0x29000 is missing, but not due");
}

/* The other side saw the cut first, and comes while this one thinks that all is well. */
static void test_comes_anew(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_to_go(&rig);
	owe(&rig, 40, 4);
	rig_touch(&one, &rig, 40);
	(void)rig_request(&rig);
	come_back(&rig, false);
	rig_wait(rig.ends == 1);
	assert_int_equal(rig.end[rig.heard++], FL_MIGRATE_LOST);
	rig_finish(&rig);
	rig_touched(&one);
	rig_stop(&rig);
}

/* All is there, but the other side did not hear it: it is waited for, but not for ever. */
static void cut_after_complete(uint32_t timeout_ms)
{
	bool late = timeout_ms;
	struct rig rig;

	rig_start(&rig, &(struct rig_options){.load_touches = -1, .timeout_ms = timeout_ms});
	rig_to_go(&rig);
	rig_due(&rig);
	rig_await(&rig, FL_FRAME_COMPLETE, 1);
	rig_cut(&rig);
	if (late)
		rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	come_back(&rig, false);
	assert_int_equal(rig.ends, late);
	assert_int_equal(fl_pageset_count(rig.now->received), rig.pages);
	rig_due(&rig);
	rig_await(&rig, FL_FRAME_COMPLETE, 1);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_wait(fl_conn_recv(rig.now->conn[0], 4096) < 0);
	if (!late)
		rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	assert_int_equal(rig.ends, 1);
	rig_check_all(&rig);
	rig_stop(&rig);
}

static void test_cut_after_complete(void **state)
{
	(void)state;
	cut_after_complete(0);
	cut_after_complete(1000);
}

static void test_recover_is_refused(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &plain);
	rig_to_go(&rig);
	assert_int_equal(fl_incoming_recover(rig.in, "127.0.0.1:1"), -EINVAL);
	owe(&rig, 40, 4);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	assert_int_equal(fl_incoming_recover(rig.in, "unix:/nonexistent/socket"), 0);
	rig_ended(&rig, FL_MIGRATE_LOST, -ENOENT, NULL); /* who asked is told */
	come_back(&rig, true);                           /* it may be tried again */
	rig_finish(&rig);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_before_go),
		cmocka_unit_test(test_ended_at_any_time),
		cmocka_unit_test(test_ended_unmet),
		cmocka_unit_test(test_cut_between_ready_and_go),
		cmocka_unit_test(test_called_off_after_ready),
		cmocka_unit_test(test_no_way_back),
		cmocka_unit_test(test_demand_ends_first),
		cmocka_unit_test(test_ended_while_run_waits),
		cmocka_unit_test(test_cut_before_due),
		cmocka_unit_test(test_cut_after_due),
		cmocka_unit_test(test_cut_within_a_page),
		cmocka_unit_test(test_cut_within_a_huge_page),
		cmocka_unit_test(test_cut_many_times),
		cmocka_unit_test(test_given_back_while_lost),
		cmocka_unit_test(test_wrong_due_again),
		cmocka_unit_test(test_comes_anew),
		cmocka_unit_test(test_cut_after_complete),
		cmocka_unit_test(test_recover_is_refused),
	};

	return cmocka_run_group_tests_name("incoming_recover", tests, NULL, NULL);
}
