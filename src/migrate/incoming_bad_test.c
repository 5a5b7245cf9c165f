/* SPDX-License-Identifier: MIT */

/* What a peer, or this VMM, can do wrong: one error with a name, and never a machine that runs. */

#include "incoming_rig_test.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 300

/* --- the machine --- */

static void say_machine(struct rig *rig, const struct fl_region *regions)
{
	uint8_t bytes[2 * FL_WIRE_REGION_BYTES];
	struct fl_frame frame = {.type = FL_FRAME_MACHINE, .bytes = sizeof(bytes), .id = 2};

	fl_regions_encode(bytes, regions, 2);
	rig_say_with(rig, 0, &frame, bytes, sizeof(bytes));
}

static void bad_machine(uint64_t second_offset, uint64_t page_size, int code, const char *text)
{
	struct fl_region regions[2] = {
		{.gpa = 0, .addr = FL_NOWHERE, .len_bytes = page_size, .page_size = page_size},
		{.gpa = UINT64_C(1) << 40,
		 .offset = second_offset,
		 .addr = FL_NOWHERE,
		 .len_bytes = page_size,
		 .page_size = page_size},
	};
	struct rig rig;

	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_meet(&rig);
	say_machine(&rig, regions);
	rig_ended(&rig, FL_MIGRATE_FAILED, code, text);
	assert_null(rig.mem);
	rig_stop(&rig);
}

static void test_bad_machine(void **state)
{
	(void)state;
	bad_machine(0, 4096, -EBADMSG, NULL);
	bad_machine(4096, 8192, -EBADMSG, NULL);
	bad_machine(UINT64_C(1) << 30, UINT64_C(1) << 30, -EOPNOTSUPP, "1 GiB");
}

static void bad_memory(int spoil, int prepare_result, int code, const char *text)
{
	struct rig rig;

	rig_start(&rig, &(struct rig_options){.load_touches = -1,
					      .spoil = spoil,
					      .prepare_result = prepare_result});
	rig_meet(&rig);
	rig_machine(&rig);
	rig_serve_while(&rig, !rig.now->error.code);
	rig_ended(&rig, FL_MIGRATE_FAILED, code, text);
	assert_int_equal(rig.now->error.code, -EREMOTEIO); /* it was told why */
	assert_non_null(strstr(rig.now->error.text, text));
	assert_int_equal(rig.now->came[FL_FRAME_PREPARED], 0);
	rig_stop(&rig);
}

static void test_bad_memory(void **state)
{
	(void)state;
	bad_memory(SPOIL_NOTHING, -ENOSPC, -ENOSPC, "no room for this machine");
	bad_memory(SPOIL_LAYOUT, 0, -EINVAL, "region 1 of the memory");
	bad_memory(SPOIL_COUNT, 0, -EINVAL, "2 regions were announced");
	bad_memory(SPOIL_ALIAS, 0, -EINVAL, "region 1 has no second mapping");
	bad_memory(SPOIL_FILE, 0, -EINVAL, "region 1 does not lie in its file");
}

/* --- frames --- */

/* A head that is no frame of this version, whatever its sum. */
static void say_unknown(struct rig *rig)
{
	uint8_t head[FL_WIRE_HEAD_BYTES];
	struct fl_frame frame = {.type = 77};

	(void)fl_frame_encode(head, &frame, NULL, 0, 0);
	assert_int_equal(write(fl_conn_fd(rig->now->conn[0]), head, sizeof(head)), sizeof(head));
}

static void say_error(struct rig *rig)
{
	struct fl_error err = {-EIO, "my disk is full of water"};

	fl_conn_send_error(rig->now->conn[0], &err);
}

static void say_far_pages(struct rig *rig)
{
	assert_int_equal(fl_conn_send_pages(rig->now->conn[0], rig->len, rig->truth, 4096), 0);
	assert_int_equal(fl_conn_flush(rig->now->conn[0], UINT64_MAX), 1);
}

static void say_pages_of_two(struct rig *rig)
{
	uint64_t offset = rig->len / 2 - 4096;

	assert_int_equal(fl_conn_send_pages(rig->now->conn[0], offset, rig->truth + offset, 8192),
			 0);
	assert_int_equal(fl_conn_flush(rig->now->conn[0], UINT64_MAX), 1);
}

static void say_crooked_zero(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_ZERO, rig->len - 4096, 8192, 0);
}

static void say_pages_on_demand(struct rig *rig)
{
	rig_pages(rig, 1, 0, 1, false);
}

static void say_round_7(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_ROUND, 0, 0, 7);
}

static void say_go(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_GO, 0, 0, 0);
}

static void say_clean(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_CLEAN, 0, 4096, 0);
}

static void say_bye(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_BYE, 0, 0, 0);
}

static void say_request(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_REQUEST, 0, 4096, 0);
}

static void say_cancel(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_CANCEL, 0, 0, 0);
}

static void say_due_beyond(struct rig *rig)
{
	struct fl_frame frame = {.type = FL_FRAME_DUE, .offset = rig->pages - 4};
	uint8_t bits = 0xff;

	rig_say_with(rig, 0, &frame, &bits, 1);
}

static void say_due_end_9(struct rig *rig)
{
	rig_say(rig, 0, FL_FRAME_DUE_END, 9, 0, 0);
}

static void say_state_twice(struct rig *rig)
{
	struct fl_frame frame = {.type = FL_FRAME_STATE, .bytes = 20};

	rig_say_with(rig, 0, &frame, "half of it", 10);
	rig_say_with(rig, 0, &frame, "half of it", 10);
}

struct bad {
	void (*say)(struct rig *rig);
	int code;
	const char *text;
};

static const struct bad in_rounds[] = {
	{say_unknown, -EBADMSG, "77"},
	{say_error, -EREMOTEIO, "my disk is full of water"},
	{say_far_pages, -EBADMSG, "offset 0x40000 is not in guest memory"},
	{say_pages_of_two, -EBADMSG, "reach beyond their region"},
	{say_crooked_zero, -EBADMSG, "ZERO: 8192 bytes at offset 0x3f000"},
	{say_pages_on_demand, -EBADMSG, "demand connection: PAGES"},
	{say_round_7, -EBADMSG, "ROUND 7 came after round 0"},
	{say_go, -EBADMSG, "GO came in phase rounds"},
	{say_clean, -EBADMSG, "CLEAN came in phase rounds"},
	{say_bye, -EBADMSG, "BYE came in phase rounds"},
	{say_request, -EBADMSG, "REQUEST came in phase rounds"},
	{say_cancel, -ECANCELED, "called it off"},
	{say_due_beyond, -EBADMSG, "DUE: page"},
	{say_due_end_9, -EBADMSG, "DUE_END: says 9 pages, 0 came"},
	{say_state_twice, -EBADMSG, "STATE"},
};

static void test_bad_in_rounds(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(in_rounds) / sizeof(*in_rounds); i++) {
		struct rig rig;

		rig_start(&rig, &(struct rig_options){.load_touches = -1});
		rig_to_rounds(&rig);
		in_rounds[i].say(&rig);
		rig_ended(&rig, FL_MIGRATE_FAILED, in_rounds[i].code, in_rounds[i].text);
		assert_false(rig.loading || rig.ran);
		rig_stop(&rig);
	}
}

static void say_wrong_sum(struct rig *rig)
{
	struct rig_request request = rig_request(rig);

	assert_int_equal(request.offset, 0);
	rig_pages(rig, 1, 0, 1, true);
}

static void say_unasked(struct rig *rig)
{
	rig_pages(rig, 1, 6, 1, false);
}

static void say_unasked_zero(struct rig *rig)
{
	rig_zero(rig, 0, 6, 2);
}

static void say_clean_unasked(struct rig *rig)
{
	rig_say(rig, 1, FL_FRAME_CLEAN, 4096, 4096, 0);
}

static void say_clean_of_none(struct rig *rig)
{
	(void)rig_request(rig);
	rig_say(rig, 1, FL_FRAME_CLEAN, 0, 4096, 0);
}

static const struct bad in_answers[] = {
	{say_wrong_sum, -EBADMSG, "wrong sum of the contents at offset 0x0"},
	{say_unasked, -EBADMSG, "PAGES: offset 0x6000 was not asked for"},
	{say_unasked_zero, -EBADMSG, "ZERO: offset 0x6000 was not asked for"},
	{say_clean_unasked, -EBADMSG, "CLEAN: offset 0x1000 was not asked for"},
	{say_clean_of_none, -EBADMSG, "CLEAN: what there is of offset 0x0 is not right"},
	{say_far_pages, -EBADMSG, "offset 0x40000 is not in guest memory"},
	{say_error, -EREMOTEIO, "my disk is full of water"},
	{say_unknown, -EBADMSG, "77"},
	{say_round_7, -EBADMSG, "ROUND came in phase"},
};

/* load() waits for page 0, of which a torn copy came: the machine never runs. */
static void test_bad_while_loading(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(in_answers) / sizeof(*in_answers); i++) {
		struct rig rig;

		rig_start(&rig, &(struct rig_options){.load_touches = 0});
		rig_to_rounds(&rig);
		rig_pages(&rig, 0, 1, rig.pages - 1, false);
		rig_pages(&rig, 0, 0, 1, true);
		rig_state(&rig);
		rig_wait(rig.loading);
		in_answers[i].say(&rig);
		rig_ended(&rig, FL_MIGRATE_FAILED, in_answers[i].code, in_answers[i].text);
		assert_true(rig.loaded); /* it was let go, and not heard */
		assert_false(rig.ran);
		rig_stop(&rig);
	}
}

/* The same when it runs: it is lost, and no page of it is poisoned or wrong. */
static void test_bad_while_following(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(in_answers) / sizeof(*in_answers); i++) {
		struct rig_toucher one;
		struct rig rig;

		rig_start(&rig, &(struct rig_options){.load_touches = -1});
		rig_to_rounds(&rig);
		rig_pages(&rig, 0, 1, rig.pages - 1, false);
		rig_pages(&rig, 0, 0, 1, true);
		rig_state(&rig);
		rig_await(&rig, FL_FRAME_READY, 1);
		rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
		rig_await(&rig, FL_FRAME_RUNNING, 1);
		rig_touch(&one, &rig, 0);
		in_answers[i].say(&rig);
		rig_ended(&rig, FL_MIGRATE_LOST, in_answers[i].code, in_answers[i].text);
		assert_false(one.done);
		rig_meet_again(&rig, false);
		rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
		rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
		rig_finish(&rig);
		rig_touched(&one);
		assert_int_equal(rig_stats(&rig).pager.poisoned, 0);
		rig_stop(&rig);
	}
}

/* A page that is not right and not due is one that would be lost. */
static void not_due(bool torn, const char *text)
{
	struct rig rig;

	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_rounds(&rig);
	rig_pages(&rig, 0, 0, 6, false);
	if (torn)
		rig_pages(&rig, 0, 6, 1, true);
	rig_pages(&rig, 0, 7, rig.pages - 7, false);
	rig_round(&rig, 1);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	rig_state(&rig);
	rig_await(&rig, FL_FRAME_READY, 1);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_due(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -EBADMSG, text);
	assert_int_equal(rig_stats(&rig).clean, 0);
	rig_stop(&rig);
}

static void test_not_due(void **state)
{
	(void)state;
	not_due(true, "offset 0x6000 is not due, but what came of it is torn");
	not_due(false, "offset 0x6000 is not due, but never came");
}

/* An answer twice, by the other connection. */
static void test_answered_twice(void **state)
{
	struct rig_request request;
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_go(&rig);
	(void)fl_pageset_add(rig.owed, 9, 1);
	(void)fl_pageset_add(rig.owed, 30, 1);
	rig_due(&rig);
	request = rig_request(&rig);
	assert_int_equal(request.offset, 9 * rig.page_size);
	rig_pages(&rig, 0, 9, 1, false);
	rig_pages(&rig, 1, 9, 1, false);
	rig_ended(&rig, FL_MIGRATE_LOST, -EBADMSG, "PAGES: offset 0x9000 was not asked for");
	rig_stop(&rig);
}

static void test_clean_of_due(void **state)
{
	struct rig_request request;
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_go(&rig);
	(void)fl_pageset_add(rig.owed, 9, 1);
	rig_due(&rig);
	request = rig_request(&rig);
	rig_say(&rig, 0, FL_FRAME_CLEAN, request.offset, request.bytes, 0);
	rig_ended(&rig, FL_MIGRATE_LOST, -EBADMSG,
		  "CLEAN: what there is of offset 0x9000 is not right");
	rig_stop(&rig);
}

static void test_due_twice(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	rig_to_go(&rig);
	(void)fl_pageset_add(rig.owed, 9, 1);
	rig_due(&rig);
	(void)rig_request(&rig);
	rig_say(&rig, 0, FL_FRAME_DUE_END, 1, 0, 0);
	rig_ended(&rig, FL_MIGRATE_LOST, -EBADMSG, "DUE_END came in phase following");
	rig_stop(&rig);
}

/* --- the VMM --- */

static void test_load_fails(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1, .load_result = -EPROTO});
	rig_to_rounds(&rig);
	rig_state(&rig);
	rig_serve_while(&rig, !rig.now->error.code);
	rig_ended(&rig, FL_MIGRATE_FAILED, -EPROTO, "this state is of another age");
	assert_non_null(strstr(rig.now->error.text, "this state is of another age"));
	assert_int_equal(rig.now->came[FL_FRAME_READY], 0);
	assert_false(rig.ran);
	rig_stop(&rig);
}

static void test_run_fails(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1, .run_result = -ENODEV});
	rig_to_ready(&rig);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_serve_while(&rig, !rig.now->error.code);
	rig_ended(&rig, FL_MIGRATE_FAILED, -ENODEV, "cannot be run");
	assert_non_null(strstr(rig.now->error.text, "cannot be run"));
	assert_int_equal(rig.now->came[FL_FRAME_RUNNING], 0);
	rig_stop(&rig);
}

static void test_bad_options(void **state)
{
	struct fl_incoming_calls calls = {.size = sizeof(calls)};
	struct fl_incoming_options options;
	struct fl_incoming *in = NULL;
	struct fl_error err;
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = -1});
	fl_incoming_options_init(&options);
	assert_int_equal(fl_incoming_new(&in, rig.listen_fd, &calls, NULL, &options, &err),
			 -EINVAL);
	rig_stop(&rig);
	(void)pipe(rig.fds);
	calls = (struct fl_incoming_calls){sizeof(calls),
					   (void *)test_load_fails,
					   (void *)test_load_fails,
					   (void *)test_load_fails,
					   NULL,
					   NULL};
	assert_int_equal(fl_incoming_new(&in, rig.fds[0], &calls, NULL, &options, &err), -ENOTSOCK);
	options.window_bytes = 4096;
	assert_int_equal(fl_incoming_new(&in, rig.fds[0], &calls, NULL, &options, &err), -EINVAL);
	assert_non_null(strstr(err.text, "window"));
	assert_null(in);
	(void)close(rig.fds[0]);
	(void)close(rig.fds[1]);
}

/* --- silence --- */

static const struct rig_options silent = {.load_touches = -1, .timeout_ms = TIMEOUT_MS};

/* Another machine comes while one is on its way, or there: it is told so at once. */
static void another_comes(struct rig *rig, int code, const char *text)
{
	struct fl_meet how = {.connect = rig->address,
			      .listen_fd = -1,
			      .role = FL_ROLE_OUTGOING,
			      .timeout_ms = 10000,
			      .cancel_fd = -1};
	struct fl_log log = {0};
	struct fl_error err = {0};
	struct fl_pair pair;

	if (fl_meet(&how, &pair, &log, &err) != code || !strstr(err.text, text))
		fail_msg("%d \"%s\" instead of %d \"%s\"", err.code, err.text, code, text);
}

static void test_another_machine(void **state)
{
	static const char is_busy[] = "another machine is on its way to here already";
	struct rig rig;

	(void)state;
	rig_start(&rig, &(struct rig_options){.load_touches = 3});
	rig_meet(&rig);
	another_comes(&rig, -EBUSY, is_busy);
	rig_machine(&rig);
	rig_await(&rig, FL_FRAME_PREPARED, 1);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_round(&rig, 1);
	another_comes(&rig, -EBUSY, is_busy);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	rig_state(&rig);
	rig_request(&rig); /* load() waits */
	another_comes(&rig, -EBUSY, is_busy);
	rig.now->answered = 0;
	rig_serve_until(&rig, FL_FRAME_READY);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(&rig, FL_FRAME_RUNNING, 1);
	another_comes(&rig, -EPERM, "the machine here waits to be recovered");
	rig_finish(&rig);
	assert_int_equal(rig_stats(&rig).recoveries, 0);
	rig_stop(&rig);
}

static void test_silence(void **state)
{
	void (*const to[])(struct rig * rig) = {rig_meet, rig_to_rounds, rig_to_ready, rig_to_go};
	const enum fl_migrate_phase phase[] = {FL_MIGRATE_FAILED, FL_MIGRATE_FAILED,
					       FL_MIGRATE_LOST, FL_MIGRATE_LOST};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct rig rig;

		rig_start(&rig, &silent);
		to[i](&rig);
		rig_ended(&rig, phase[i], -ETIMEDOUT, "nothing came for 300 ms");
		assert_int_equal(rig.ran, i == 3);
		rig_stop(&rig);
	}
}

static void test_silence_while_loading(void **state)
{
	struct rig_options options = silent;
	struct rig rig;

	(void)state;
	options.load_touches = 0;
	rig_start(&rig, &options);
	rig_to_rounds(&rig);
	rig_state(&rig);
	rig_ended(&rig, FL_MIGRATE_FAILED, -ETIMEDOUT, NULL);
	assert_true(rig.loaded);
	assert_false(rig.ran);
	rig_stop(&rig);
}

/* It lives, but answers nothing. */
static void test_no_answer(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	rig_start(&rig, &silent);
	rig_to_rounds(&rig);
	rig_state(&rig);
	rig_await(&rig, FL_FRAME_READY, 1);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_touch(&one, &rig, 4);
	for (uint64_t end = rig_deadline(); rig_phase(&rig) != FL_MIGRATE_LOST;)
		rig_hear(&rig, end);
	rig_ended(&rig, FL_MIGRATE_LOST, -ETIMEDOUT, "offset 0x4000 is asked for");
	rig_meet_again(&rig, false);
	rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_finish(&rig);
	rig_touched(&one);
	rig_stop(&rig);
}

/* All pages are there: what is missing is a goodbye. */
static void test_no_bye(void **state)
{
	struct rig rig;

	(void)state;
	rig_start(&rig, &silent);
	rig_to_go(&rig);
	rig_due(&rig);
	rig_await(&rig, FL_FRAME_COMPLETE, 1);
	for (uint64_t end = rig_deadline(); rig_phase(&rig) != FL_MIGRATE_DONE;)
		rig_hear(&rig, end);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(&rig);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_machine),
		cmocka_unit_test(test_bad_memory),
		cmocka_unit_test(test_bad_in_rounds),
		cmocka_unit_test(test_bad_while_loading),
		cmocka_unit_test(test_bad_while_following),
		cmocka_unit_test(test_not_due),
		cmocka_unit_test(test_answered_twice),
		cmocka_unit_test(test_clean_of_due),
		cmocka_unit_test(test_due_twice),
		cmocka_unit_test(test_load_fails),
		cmocka_unit_test(test_run_fails),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_another_machine),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_silence_while_loading),
		cmocka_unit_test(test_no_answer),
		cmocka_unit_test(test_no_bye),
	};

	return cmocka_run_group_tests_name("incoming_bad", tests, NULL, NULL);
}
