/* SPDX-License-Identifier: MIT */
/*
 * The page-state table against the design's own words: each transition by itself, and then all
 * the ways in which several can come together over one page.
 */
#include "support.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "memory/table_format.h"
#include "page_world.h"
#include "table_ref.h"

/* ---- each transition by itself */

struct bench {
	struct fl_table *table;
	struct ref_cell ref;
};

static void put(struct bench *bench, unsigned int index)
{
	uint8_t cell;

	bench->ref = ref_cell_at(index);
	cell = ref_encode(bench->ref);
	assert_int_equal(pwrite(fl_table_fd(bench->table), &cell, 1, FL_TABLE_CELLS), 1);
}

static void assert_same(const struct bench *bench)
{
	uint8_t cell;

	assert_int_equal(pread(fl_table_fd(bench->table), &cell, 1, FL_TABLE_CELLS), 1);
	assert_int_equal(cell, ref_encode(bench->ref));
	assert_int_equal(fl_table_state(bench->table, 0), bench->ref.state);
}

static void try_claims(struct bench *bench, unsigned int index)
{
	static const enum fl_waiter waiters[] = {FL_WAITER_NONE, FL_WAITER_UFFD, FL_WAITER_EXIT,
						 FL_WAITER_QUEUE, FL_WAITER_CALL};

	for (size_t i = 0; i < sizeof(waiters) / sizeof(waiters[0]); i++) {
		put(bench, index);
		assert_int_equal(fl_table_claim(bench->table, 0, waiters[i]),
				 ref_claim(&bench->ref, waiters[i]));
		assert_same(bench);
	}
}

static void try_settles(struct bench *bench, unsigned int index)
{
	static const enum fl_page_state ends[] = {FL_PRESENT, FL_POISONED, FL_ABSENT};

	for (unsigned int i = 0; i < 6; i++) {
		enum fl_claim claim = i % 2 ? FL_CLAIM_FETCH : FL_CLAIM_ZERO;
		unsigned int waiters, wanted;
		int rc;

		put(bench, index);
		assert_int_equal(fl_table_owns(bench->table, 0, claim),
				 ref_owns(&bench->ref, claim));
		assert_same(bench);
		rc = ref_settle(&bench->ref, claim, ends[i / 2], &wanted);
		assert_int_equal(fl_table_settle(bench->table, 0, claim, ends[i / 2], &waiters),
				 rc);
		assert_int_equal(waiters, wanted);
		assert_same(bench);
	}
}

static void every_transition_is_the_designs(void **state)
{
	struct bench bench;

	(void)state;
	assert_int_equal(fl_table_new(&bench.table, 1), 0);
	for (unsigned int index = 0; index < REF_CELLS; index++) {
		try_claims(&bench, index);
		try_settles(&bench, index);
		put(&bench, index);
		assert_int_equal(fl_table_remove(bench.table, 0), ref_remove(&bench.ref));
		assert_same(&bench);
		put(&bench, index);
		assert_int_equal(fl_table_rearm(bench.table, 0), ref_rearm(&bench.ref));
		assert_same(&bench);
		put(&bench, index);
		assert_int_equal(fl_table_recover(bench.table), ref_recover(&bench.ref));
		assert_same(&bench);
	}
	fl_table_free(bench.table);
}

/* ---- all ways in which they come together */

static void print_story(const struct explore_result *result)
{
	for (size_t i = 0; i < result->story_len; i++)
		print_message("  %s\n", world_action_name(result->story[i]));
}

static void explore_all(const struct world_rules *rules, struct world_budget budget,
			struct explore_result *result)
{
	assert_int_equal(world_explore(rules, &budget, result), 0);
	print_message("%zu states, %zu steps\n", result->states, result->edges);
}

/* Nothing goes wrong, and from everywhere everybody can come to an end. */
static void assert_right(struct world_budget budget)
{
	struct explore_result result;

	explore_all(&world_rules_kept, budget, &result);
	if (result.wrong) {
		print_story(&result);
		fail_msg("%s", result.wrong);
	}
	assert_true(result.finished > 0);
}

/* The world must go wrong in this way, or it does not see what it is there to see. */
static void assert_wrong(const struct world_rules *rules, struct world_budget budget,
			 const char *wrong)
{
	struct explore_result result;

	explore_all(rules, budget, &result);
	print_story(&result);
	assert_non_null(result.wrong);
	assert_string_equal(result.wrong, wrong);
}

static void faults_and_fills_end_well(void **state)
{
	(void)state;
	assert_right((struct world_budget){.touches = 2, .fills = 2, .give_ups = 2, .poisons = 1});
}

static void removals_end_well(void **state)
{
	(void)state;
	assert_right((struct world_budget){.touches = 2, .fills = 1, .removes = 2, .give_ups = 1});
}

static void rearms_end_well(void **state)
{
	(void)state;
	assert_right((struct world_budget){.touches = 2, .fills = 1, .removes = 1, .rearms = 2});
}

static void crashes_end_well(void **state)
{
	(void)state;
	assert_right((struct world_budget){
		.touches = 1, .fills = 1, .removes = 1, .rearms = 1, .poisons = 1, .crashes = 1});
}

static void without_exclusion_a_late_fetch_is_seen(void **state)
{
	struct world_rules rules = world_rules_kept;

	(void)state;
	rules.serial = false;
	assert_wrong(&rules, (struct world_budget){.touches = 1, .fills = 1, .removes = 1},
		     world_wrong_contents);
}

static void a_rearm_that_does_not_wait_is_seen(void **state)
{
	struct world_rules rules = world_rules_kept;

	(void)state;
	rules.rearm_waits = false;
	assert_wrong(&rules,
		     (struct world_budget){.touches = 1, .fills = 2, .removes = 1, .rearms = 1},
		     world_wrong_settle);
}

static void a_rearm_under_a_removal_is_seen(void **state)
{
	struct world_rules rules = world_rules_kept;

	(void)state;
	rules.rearm_idle = false;
	assert_wrong(&rules,
		     (struct world_budget){.touches = 1, .fills = 2, .removes = 1, .rearms = 1},
		     world_wrong_contents);
}

static void a_rearm_in_the_wrong_order_is_seen(void **state)
{
	struct world_rules rules = world_rules_kept;

	(void)state;
	rules.rearm_first = false;
	assert_wrong(&rules,
		     (struct world_budget){.touches = 2, .fills = 1, .rearms = 1, .crashes = 1},
		     world_wrong_contents);
}

static void a_removal_that_dies_with_the_pager_is_seen(void **state)
{
	struct world_rules rules = world_rules_kept;

	(void)state;
	rules.crash_between = false;
	assert_wrong(&rules, (struct world_budget){.touches = 1, .removes = 1, .crashes = 1},
		     world_wrong_contents);
}

static void a_waiter_that_is_not_woken_is_seen(void **state)
{
	struct world_rules rules = world_rules_kept;

	(void)state;
	rules.wake_all = false;
	assert_wrong(&rules, (struct world_budget){.touches = 1}, explore_no_end);
}

static void a_waiter_that_says_nothing_is_seen(void **state)
{
	struct world_rules rules = world_rules_kept;

	(void)state;
	rules.say_who_waits = false;
	assert_wrong(&rules, (struct world_budget){.touches = 1}, explore_no_end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_transition_is_the_designs),
		cmocka_unit_test(faults_and_fills_end_well),
		cmocka_unit_test(removals_end_well),
		cmocka_unit_test(rearms_end_well),
		cmocka_unit_test(crashes_end_well),
		cmocka_unit_test(without_exclusion_a_late_fetch_is_seen),
		cmocka_unit_test(a_rearm_that_does_not_wait_is_seen),
		cmocka_unit_test(a_rearm_under_a_removal_is_seen),
		cmocka_unit_test(a_rearm_in_the_wrong_order_is_seen),
		cmocka_unit_test(a_removal_that_dies_with_the_pager_is_seen),
		cmocka_unit_test(a_waiter_that_is_not_woken_is_seen),
		cmocka_unit_test(a_waiter_that_says_nothing_is_seen),
	};

	return cmocka_run_group_tests_name("table model", tests, NULL, NULL);
}
