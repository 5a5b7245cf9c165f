/* SPDX-License-Identifier: MIT */
/* A machine that leaves, from the start to the end, and called off on the way. */
#include "migrate/outgoing_rig_test.h"
#include "util/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void assert_left(struct rig *rig)
{
	struct fl_outgoing_stats stats;
	struct fl_error err;

	assert_int_equal(rig_wait(rig, 1), FL_MIGRATE_DONE);
	stats = rig_stats(rig);
	fl_outgoing_error(rig->out, &err);
	assert_int_equal(err.code, 0);
	assert_int_equal(stats.phase, FL_MIGRATE_DONE);
	assert_int_equal(rig->stops, 1);
	assert_int_equal(rig->saves, 1);
	assert_int_equal(rig->go_ons, 0);
	assert_false(rig->tracking);
	assert_true(stats.downtime_ns > 0 && stats.downtime_ns < stats.total_ns);
	assert_int_equal(fl_outgoing_cancel(rig->out), -ESRCH);
	assert_int_equal(fl_outgoing_recover(rig->out, "unix:/nowhere", -1), -EINVAL);
	assert_same_memory(rig);
}

static void assert_described(struct rig *rig)
{
	struct fl_region regions[2];
	struct peer *peer = &rig->peer;
	uint64_t len = 2 * FL_WIRE_REGION_BYTES;

	assert_int_equal(peer->machine.id, 2);
	assert_int_equal(peer->machine.len, len + sizeof(CONFIG));
	assert_int_equal(fl_regions_decode(regions, 2, peer->machine.bytes, len, &peer->why), 0);
	assert_int_equal(regions[1].offset, LARGE_AT);
	assert_int_equal(regions[1].gpa, 1u << 30);
	assert_int_equal(regions[1].page_size, LARGE_SIZE);
	assert_memory_equal(peer->machine.bytes + len, CONFIG, sizeof(CONFIG));
	assert_int_equal(peer->state.len, sizeof(STATE));
	assert_memory_equal(peer->state.bytes, STATE, sizeof(STATE));
}

/* Rounds, the rest after the switch. */
static void hybrid_sends_most_in_rounds_and_the_rest_on_demand(void **state)
{
	struct fl_outgoing_stats stats;
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig.options.max_downtime_ms = 0;
	rig.write_each = 100;
	rig_start(&rig);
	peer_to_due_end(&rig);
	assert_described(&rig);
	peer_to_bye(&rig);
	assert_left(&rig);
	stats = rig_stats(&rig);
	/* The second round left as much as it had: not worth a third. */
	assert_int_equal(stats.round, 2);
	assert_int_equal(stats.precopy, ALL + 100);
	/* What was written in the second round, while it stopped, and when it was saved. */
	assert_int_equal(stats.due, fl_pageset_count(rig.peer.due));
	assert_int_equal(stats.due_left, 0);
	assert_int_equal(stats.background, stats.due);
	assert_int_equal(stats.demand, 0);
	assert_true(stats.due >= 100 && stats.due <= 201);
	assert_true(fl_pageset_has(rig.peer.due, 5));
	rig_end(&rig);
}

static void a_machine_at_rest_moves_after_one_round(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig_start(&rig);
	peer_to_due_end(&rig);
	peer_to_bye(&rig);
	assert_left(&rig);
	assert_int_equal(rig_stats(&rig).round, 1);
	assert_int_equal(rig_stats(&rig).due, 1); /* of save() */
	assert_int_equal(rig_stats(&rig).precopy, ALL);
	/* Pages that lie together travel together. */
	assert_int_equal(rig.peer.pages_frames, (SMALL + 31) / 32 + LARGE + 1);
	rig_end(&rig);
}

static void precopy_leaves_nothing_to_fault_for(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_PRECOPY);
	rig.options.max_downtime_ms = 60000;
	rig.write_each = 20;
	rig_start(&rig);
	peer_to_state(&rig);
	/* The set that is due was there, and empty, before the state was. */
	assert_int_equal(rig.peer.came[FL_FRAME_DUE_END], 1);
	assert_int_equal(rig.peer.came[FL_FRAME_DUE], 0);
	assert_int_equal(rig.peer.due_said, 0);
	assert_same_memory(&rig);
	peer_say(&rig.peer, FL_FRAME_READY);
	peer_await(&rig.peer, FL_FRAME_GO);
	peer_to_bye(&rig);
	assert_left(&rig);
	assert_int_equal(rig_stats(&rig).due, 0);
	assert_int_equal(rig.peer.came[FL_FRAME_DUE_END], 1);
	rig_end(&rig);
}

static void precopy_that_does_not_converge_fails_and_says_so(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_PRECOPY);
	rig.options.max_downtime_ms = 0;
	rig.options.max_rounds = 3;
	rig.write_each = 50;
	rig_start(&rig);
	peer_to_rounds(&rig);
	for (uint32_t round = 1; round <= 3; round++) {
		struct fl_frame ack = {.type = FL_FRAME_ROUND_ACK, .id = round};

		peer_await(&rig.peer, FL_FRAME_ROUND);
		peer_send(&rig.peer, FL_CHANNEL_MAIN, &ack, NULL, 0);
	}
	assert_false(peer_takes(&rig.peer, FL_FRAME_STATE));
	assert_int_equal(rig.peer.rc, -EREMOTEIO);
	assert_non_null(strstr(rig.peer.why.text, "does not converge"));
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
	rig_assert_error(&rig, -ETIME, "after 3 rounds 200 KiB are left");
	assert_int_equal(rig.stops, 0);
	assert_int_equal(rig.go_ons, 0);
	assert_false(rig.tracking);
	rig_end(&rig);
}

static void postcopy_moves_before_any_contents(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig_zero(&rig, 100, 300);
	rig_zero(&rig, SMALL + 1, 1);
	(void)fl_pageset_add(rig.known, 100, 300);
	(void)fl_pageset_add(rig.known, SMALL + 1, 1);
	rig_start(&rig);
	peer_to_due_end(&rig);
	assert_int_equal(rig.peer.pages_frames, 0);
	assert_int_equal(rig.peer.zero_frames, 2);
	assert_int_equal(rig.peer.due_said, ALL - 301);
	assert_false(fl_pageset_has(rig.peer.due, 100));
	assert_false(fl_pageset_has(rig.peer.due, SMALL + 1));
	peer_to_bye(&rig);
	assert_left(&rig);
	assert_int_equal(rig.collects, 1);
	rig_end(&rig);
}

static void postcopy_without_knowing_holes_owes_everything(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig.with_holes = false;
	rig_zero(&rig, 0, 5);
	rig_start(&rig);
	peer_to_due_end(&rig);
	assert_int_equal(rig.peer.due_said, ALL);
	peer_to_bye(&rig);
	assert_left(&rig);
	assert_true(rig.peer.zero_frames >= 1); /* found by looking, when asked for */
	assert_int_equal(rig_stats(&rig).zero, 5);
	rig_end(&rig);
}

/* A page of a known hole that is written before the switch is not a hole any more. */
static void what_is_written_after_holes_were_found_is_due(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig_zero(&rig, 0, 10);
	(void)fl_pageset_add(rig.known, 0, 10);
	rig.write_each = 3; /* in stop(): pages 0 to 2; save() writes 5 */
	rig_start(&rig);
	peer_to_due_end(&rig);
	assert_int_equal(rig.peer.due_said, ALL - 6);
	peer_to_bye(&rig);
	assert_left(&rig);
	rig_end(&rig);
}

static void zeros_are_found_in_rounds(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig.with_holes = false;
	rig_zero(&rig, 10, 1);
	rig_zero(&rig, 64, 256);
	rig_zero(&rig, SMALL + 2, 1);
	rig_start(&rig);
	peer_to_state(&rig);
	assert_int_equal(rig_stats(&rig).zero, 258);
	assert_int_equal(rig.peer.zero_frames, 3);
	assert_int_equal(rig_stats(&rig).precopy, ALL);
	peer_say(&rig.peer, FL_FRAME_READY);
	peer_await(&rig.peer, FL_FRAME_DUE_END);
	peer_to_bye(&rig);
	assert_left(&rig);
	rig_end(&rig);
}

static void contents_are_compressed_when_both_can(void **state)
{
	static const uint32_t flags[] = {FL_MIGRATE_LZ4, FL_MIGRATE_ZSTD};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct rig rig;

		rig_begin(&rig, FL_MIGRATE_HYBRID);
		rig.options.flags = flags[i];
		for (uint64_t page = 0; page < SMALL; page++)
			memset(rig.memory[0] + page * SMALL_SIZE, 'a', SMALL_SIZE);
		rig_start(&rig);
		peer_to_due_end(&rig);
		peer_to_bye(&rig);
		assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
		assert_true(rig_stats(&rig).wire_bytes_saved > SMALL * SMALL_SIZE / 2);
		assert_memory_equal(rig.peer.image, rig.memory[0], SMALL * SMALL_SIZE);
		rig_end(&rig);
	}
}

/* 3 MiB: more than the queue of a connection takes at once; and none at all. */
static void a_state_of_any_length_arrives(void **state)
{
	static const size_t lens[] = {3u << 20, 65536, 0};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct rig rig;
		uint8_t *bytes = malloc(3u << 20);

		test_pattern(bytes, 3u << 20, 0, 3);
		rig_begin(&rig, FL_MIGRATE_HYBRID);
		rig.state = bytes;
		rig.state_len = lens[i];
		rig_start(&rig);
		peer_to_due_end(&rig);
		assert_int_equal(rig.peer.state.len, lens[i]);
		if (lens[i])
			assert_filled(rig.peer.state.bytes, lens[i], 0, 3);
		peer_to_bye(&rig);
		assert_left(&rig);
		rig_end(&rig);
		free(bytes);
	}
}

static void a_state_that_is_too_long_ends_it_before_the_switch(void **state)
{
	struct rig rig;
	void *bytes = calloc(1, FL_WIRE_BLOB_MAX + 1);

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig.state = bytes;
	rig.state_len = FL_WIRE_BLOB_MAX + 1;
	rig_start(&rig);
	peer_to_rounds(&rig);
	peer_await(&rig.peer, FL_FRAME_ROUND);
	peer_send(&rig.peer, FL_CHANNEL_MAIN,
		  &(struct fl_frame){.type = FL_FRAME_ROUND_ACK, .id = 1}, NULL, 0);
	assert_false(peer_takes(&rig.peer, FL_FRAME_STATE));
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
	rig_assert_error(&rig, -EFBIG, "67108865 bytes");
	assert_int_equal(rig.go_ons, 1);
	rig_end(&rig);
	free(bytes);
}

/* --- called off --- */

static void assert_canceled(struct rig *rig, unsigned int go_ons)
{
	assert_int_equal(fl_outgoing_cancel(rig->out), 0);
	if (rig->peer.conn[0]) {
		while (!rig->peer.came[FL_FRAME_CANCEL])
			peer_await(&rig->peer, FL_FRAME_CANCEL);
		peer_cut(&rig->peer);
	}
	assert_int_equal(rig_wait(rig, 1), FL_MIGRATE_CANCELED);
	assert_int_equal(rig->go_ons, go_ons);
	assert_false(rig->tracking);
	rig_assert_error(rig, 0, "");
	assert_int_equal(fl_outgoing_cancel(rig->out), -ESRCH);
}

static void to_connecting(struct rig *rig)
{
	(void)rig; /* it connects, and nobody says WELCOME */
}

static void to_first_round(struct rig *rig)
{
	peer_to_rounds(rig);
	peer_await(&rig->peer, FL_FRAME_ROUND);
}

static void can_be_called_off_until_go(void **state)
{
	static void (*const ways[])(struct rig *) = {to_connecting, peer_to_machine, to_first_round,
						     peer_to_state};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct rig rig;

		rig_begin(&rig, FL_MIGRATE_HYBRID);
		rig_start(&rig);
		ways[i](&rig);
		assert_canceled(&rig, ways[i] == peer_to_state);
		rig_end(&rig);
	}
}

/* Freed is called off, too. */
static void ends_when_it_is_freed(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig_start(&rig);
	peer_to_machine(&rig);
	peer_cut(&rig.peer);
	fl_outgoing_free(rig.out);
	rig.out = NULL;
	assert_true(rig.ends == 1);
	rig_end(&rig);

	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig_start(&rig);
	peer_to_due_end(&rig);
	assert_int_equal(fl_outgoing_cancel(rig.out), -EINPROGRESS);
	peer_cut(&rig.peer);
	fl_outgoing_free(rig.out);
	rig.out = NULL;
	assert_int_equal(rig.go_ons, 0);
	rig_end(&rig);
}

static void a_limit_of_bandwidth_holds(void **state)
{
	static const uint64_t limits[] = {12u << 20, 48u << 20};
	uint64_t took_ns[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct rig rig;
		uint64_t began_ns;

		rig_begin(&rig, FL_MIGRATE_HYBRID);
		rig.options.bandwidth = limits[i];
		rig_start(&rig);
		peer_to_rounds(&rig);
		began_ns = fl_clock_ns();
		peer_await(&rig.peer, FL_FRAME_ROUND);
		took_ns[i] = fl_clock_ns() - began_ns;
		/* It may be slower on a busy machine, never faster: but for what it saved up and the last frame. */
		assert_true(took_ns[i] * limits[i] / FL_NS_PER_S > IMAGE_LEN / 10 * 5);
		rig_end(&rig);
	}
	assert_true(took_ns[0] > took_ns[1]);
}

/* --- what the VMM does wrong, or cannot --- */

static int never(void)
{
	fail_msg("called");
	return 0;
}

static void options_are_checked(void **state)
{
	struct fl_outgoing_calls calls = {.size = sizeof(calls)};
	struct fl_outgoing_options options;
	struct fl_outgoing *out;
	struct fl_error err;
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	assert_int_equal(fl_outgoing_new(&out, rig.layout, &calls, &rig, NULL, &err), -EINVAL);
	calls = (struct fl_outgoing_calls){
		.size = offsetof(struct fl_outgoing_calls, holes),
		.track = (int (*)(void *, bool))(void *)never,
		.collect = (int (*)(void *, struct fl_pageset *))(void *)never,
		.stop = (int (*)(void *))(void *)never,
		.save = (int (*)(void *, void **, size_t *))(void *)never,
		.go_on = (void (*)(void *))(void *)never,
		.holes = (int (*)(void *, struct fl_pageset *))1};
	/* An older caller has no holes(). */
	assert_int_equal(fl_outgoing_new(&rig.out, rig.layout, &calls, &rig, NULL, &err), 0);
	assert_null(rig.out->calls.holes);
	for (int i = 0; i < 6; i++) {
		fl_outgoing_options_init(&options);
		if (i == 0)
			options.mode = (enum fl_migrate_mode)3;
		else if (i == 1)
			options.flags = 4;
		else if (i == 2)
			options.max_rounds = 0;
		else if (i == 3)
			options.timeout_ms = 0;
		else if (i == 4)
			options.config_len = 1;
		else
			options = (struct fl_outgoing_options){.size = sizeof(options),
							       .config = &rig,
							       .config_len = (1u << 20) + 1};
		assert_int_equal(fl_outgoing_new(&out, rig.layout, &calls, &rig, &options, &err),
				 -EINVAL);
	}
	rig_end(&rig);
}

static void layouts_that_cannot_move_are_refused(void **state)
{
	struct fl_outgoing_calls calls = {.size = sizeof(calls)};
	struct fl_region region = {
		.len_bytes = 1u << 30, .page_size = 1u << 30, .addr = UINT64_C(1) << 40};
	struct fl_layout *layout;
	struct fl_outgoing *out;
	struct fl_error err;

	(void)state;
	calls.track = (int (*)(void *, bool))(void *)never;
	calls.collect = (int (*)(void *, struct fl_pageset *))(void *)never;
	calls.stop = (int (*)(void *))(void *)never;
	calls.save = (int (*)(void *, void **, size_t *))(void *)never;
	calls.go_on = (void (*)(void *))(void *)never;
	assert_int_equal(fl_layout_new(&layout, &region, 1, &err), 0);
	assert_int_equal(fl_outgoing_new(&out, layout, &calls, NULL, NULL, &err), -EOPNOTSUPP);
	fl_layout_free(layout);
	region.page_size = 4096;
	region.addr = FL_NOWHERE;
	assert_int_equal(fl_layout_new(&layout, &region, 1, &err), 0);
	assert_int_equal(fl_outgoing_new(&out, layout, &calls, NULL, NULL, &err), -EOPNOTSUPP);
	fl_layout_free(layout);
}

static void a_machine_that_cannot_goes_on_where_it_is(void **state)
{
	static const struct {
		size_t field;
		const char *text;
		unsigned int go_ons;
	} ways[] = {
		{offsetof(struct rig, fail_track), "recording what is written", 0},
		{offsetof(struct rig, fail_holes), "finding holes", 0},
		{offsetof(struct rig, fail_collect), "collecting what was written", 0},
		{offsetof(struct rig, fail_stop), "stopping the machine", 0},
		{offsetof(struct rig, fail_save), "saving the machine's state", 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct rig rig;

		rig_begin(&rig, FL_MIGRATE_HYBRID);
		*(int *)((char *)&rig + ways[i].field) = -EDOM;
		rig_start(&rig);
		peer_to_rounds(&rig);
		if (peer_takes(&rig.peer, FL_FRAME_ROUND)) {
			peer_send(&rig.peer, FL_CHANNEL_MAIN,
				  &(struct fl_frame){.type = FL_FRAME_ROUND_ACK, .id = 1}, NULL, 0);
			assert_false(peer_takes(&rig.peer, FL_FRAME_STATE));
		}
		/* The peer hears the reason. */
		assert_int_equal(rig.peer.rc, -EREMOTEIO);
		assert_non_null(strstr(rig.peer.why.text, ways[i].text));
		peer_cut(&rig.peer);
		assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
		rig_assert_error(&rig, -EDOM, ways[i].text);
		assert_int_equal(rig.go_ons, ways[i].go_ons);
		rig_end(&rig);
	}
}

static void starts_once(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig_start(&rig);
	assert_int_equal(fl_outgoing_start(rig.out, rig.address), -EALREADY);
	assert_int_equal(fl_outgoing_recover(rig.out, rig.address, -1), -EINVAL);
	rig_end(&rig);
}

static void nobody_there_is_an_error_that_names_the_address(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	strcpy(rig.address, "unix:/nowhere/at/all");
	rig_start(&rig);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
	rig_assert_error(&rig, -ENOENT, "/nowhere/at/all");
	assert_int_equal(rig.go_ons, 0);
	rig_end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hybrid_sends_most_in_rounds_and_the_rest_on_demand),
		cmocka_unit_test(a_machine_at_rest_moves_after_one_round),
		cmocka_unit_test(precopy_leaves_nothing_to_fault_for),
		cmocka_unit_test(precopy_that_does_not_converge_fails_and_says_so),
		cmocka_unit_test(postcopy_moves_before_any_contents),
		cmocka_unit_test(postcopy_without_knowing_holes_owes_everything),
		cmocka_unit_test(what_is_written_after_holes_were_found_is_due),
		cmocka_unit_test(zeros_are_found_in_rounds),
		cmocka_unit_test(contents_are_compressed_when_both_can),
		cmocka_unit_test(a_state_of_any_length_arrives),
		cmocka_unit_test(a_state_that_is_too_long_ends_it_before_the_switch),
		cmocka_unit_test(can_be_called_off_until_go),
		cmocka_unit_test(ends_when_it_is_freed),
		cmocka_unit_test(a_limit_of_bandwidth_holds),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(layouts_that_cannot_move_are_refused),
		cmocka_unit_test(a_machine_that_cannot_goes_on_where_it_is),
		cmocka_unit_test(starts_once),
		cmocka_unit_test(nobody_there_is_an_error_that_names_the_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
