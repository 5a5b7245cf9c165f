/* SPDX-License-Identifier: MIT */
/* A machine that leaves, and lets its memory be read by another way than the link. */
#include "migrate/outgoing_rig_test.h"

#include <errno.h>
#include <string.h>

#define WAY "how to get there"

static void begin(struct rig *rig, enum fl_migrate_mode mode, uint32_t theirs)
{
	rig_begin(rig, mode);
	rig->options.way_kind = FL_MIGRATE_BY_WORKER;
	rig->options.way = WAY;
	rig->options.way_len = sizeof(WAY) - 1;
	rig->peer.ways = theirs;
}

static void to_the_end(struct rig *rig)
{
	rig_start(rig);
	peer_to_due_end(rig);
	peer_to_bye(rig);
	assert_int_equal(rig_wait(rig, 1), FL_MIGRATE_DONE);
	assert_same_memory(rig);
	assert_int_equal(rig_stats(rig).due_left, 0);
}

static void rounds_name_what_is_to_be_read(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_HYBRID, FL_MIGRATE_BY_WORKER | FL_MIGRATE_BY_FABRIC);
	rig.options.max_downtime_ms = 0;
	rig.write_each = 100;
	rig_zero(&rig, 10, 20);
	to_the_end(&rig);
	assert_int_equal(rig.peer.came[FL_FRAME_WAY], 1);
	assert_int_equal(rig.peer.way.id, FL_MIGRATE_BY_WORKER);
	assert_int_equal(rig.peer.way.len, sizeof(WAY) - 1);
	assert_memory_equal(rig.peer.way_said, WAY, sizeof(WAY) - 1);
	assert_true(rig.peer.came[FL_FRAME_RANGE] > 1);
	assert_int_equal(rig_stats(&rig).precopy, ALL + 100);
	assert_true(rig.peer.zero_frames > 0); /* nobody has to read zeros */
	/* By the link came what was asked for: no more than was due. */
	assert_int_equal(rig_stats(&rig).background, rig_stats(&rig).due);
	assert_true(rig_stats(&rig).bytes < (uint64_t)SMALL * SMALL_SIZE);
	rig_end(&rig);
}

static void the_last_round_of_precopy_too(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_PRECOPY, FL_MIGRATE_BY_WORKER);
	rig.options.max_downtime_ms = 60000;
	rig.write_each = 5;
	to_the_end(&rig);
	assert_int_equal(rig_stats(&rig).due, 0);
	assert_int_equal(rig.peer.pages_frames, 0);
	rig_end(&rig);
}

static void a_limit_of_bandwidth_holds_for_what_is_read(void **state)
{
	struct fl_outgoing_stats stats;
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_HYBRID, FL_MIGRATE_BY_WORKER);
	rig.options.bandwidth = 32u << 20;
	to_the_end(&rig);
	stats = rig_stats(&rig);
	/* 8 MiB and more at 32 MiB in a second. */
	assert_true(stats.total_ns > 150u * 1000 * 1000);
	rig_end(&rig);
}

static void without_agreement_the_link_does_it_all(void **state)
{
	static const uint32_t theirs[] = {0, FL_MIGRATE_BY_FABRIC};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct rig rig;

		begin(&rig, FL_MIGRATE_HYBRID, theirs[i]);
		to_the_end(&rig);
		assert_int_equal(rig.peer.came[FL_FRAME_WAY], 0);
		assert_int_equal(rig.peer.came[FL_FRAME_RANGE], 0);
		assert_true(rig.peer.pages_frames > 0);
		rig_end(&rig);
	}
}

static void ways_are_checked(void **state)
{
	static const struct {
		int kind;
		const void *way;
		size_t len;
	} bad[] = {{3, WAY, 4},
		   {-1, WAY, 4},
		   {FL_MIGRATE_BY_LINK, WAY, 4},
		   {FL_MIGRATE_BY_FABRIC, NULL, 4},
		   {FL_MIGRATE_BY_FABRIC, WAY, 0},
		   {FL_MIGRATE_BY_WORKER, WAY, FL_MIGRATE_WAY_MAX + 1}};
	struct fl_outgoing_calls calls = {.size = sizeof(calls)};
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_HYBRID, 0);
	rig_start(&rig); /* one that is right */
	calls = rig.out->calls;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct fl_outgoing_options options = rig.options;
		struct fl_outgoing *out = NULL;
		struct fl_error err = {0};

		options.way_kind = (enum fl_migrate_way)bad[i].kind;
		options.way = bad[i].way;
		options.way_len = bad[i].len;
		assert_int_equal(fl_outgoing_new(&out, rig.layout, &calls, &rig, &options, &err),
				 -EINVAL);
		assert_non_null(strstr(err.text, "way"));
		assert_null(out);
	}
	rig_end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rounds_name_what_is_to_be_read),
		cmocka_unit_test(the_last_round_of_precopy_too),
		cmocka_unit_test(a_limit_of_bandwidth_holds_for_what_is_read),
		cmocka_unit_test(without_agreement_the_link_does_it_all),
		cmocka_unit_test(ways_are_checked),
	};

	return cmocka_run_group_tests_name("outgoing_way", tests, NULL, NULL);
}
