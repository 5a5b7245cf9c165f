/* SPDX-License-Identifier: MIT */
/* What the image and the working set say of what is worth reading: holes, record, replay. */
#include "guest_test.h"

#include <string.h>

/* Holes are zeros without a read, whichever way their pages come; data beside them is not lost. */
static void holes(const struct guest_config *config)
{
	uint64_t first = (config->hole_at + 4095) / 4096;
	uint64_t end = (config->hole_at + config->hole_len) / 4096;
	struct guest guest;
	struct fl_pager_stats stats;

	guest_start(&guest, config);
	for (size_t page = guest.config.pages; !(config->flags & FL_PAGER_FILL) && page-- > 0;) {
		if (page >= first && page < end)
			guest_check_zero(&guest, page);
		else
			(void)*(volatile char *)guest_addr(&guest, page);
	}
	guest_wait_full(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand + stats.around + stats.fill, guest.config.pages);
	assert_int_equal(stats.zero, end - first);
	assert_int_equal(guest_reads(&guest).bytes, guest.len - (end - first) * 4096);
	for (size_t page = 0; page < guest.config.pages; page++) {
		if (page >= first && page < end)
			guest_check_zero(&guest, page);
		else if ((page + 1) * 4096 <= config->hole_at || page >= end)
			guest_check(&guest, page);
	}
	guest_stop(&guest);
}

static void test_holes(void **state)
{
	struct guest_config config = {.filters = {"stats"}, .pages = 256};

	(void)state;
	for (uint32_t flags = 0; flags <= FL_PAGER_FILL; flags += FL_PAGER_FILL) {
		for (config.kind = GUEST_ANON; config.kind <= GUEST_MEMFD; config.kind++) {
			config.flags = flags;
			config.hole_at = 21 * 4096;
			config.hole_len = 50 * 4096;
			holes(&config);
			config.hole_at = 0;
			config.hole_len = 7 * 4096;
			holes(&config);
			config.hole_at = 250 * 4096;
			config.hole_len = 6 * 4096;
			holes(&config);
		}
	}
}

/* Data, a hole and data again in one window, each touched in turn. */
static void test_hole_in_window(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 16,
						   .filters = {"stats"},
						   .hole_at = 4 * 4096,
						   .hole_len = 6 * 4096});
	guest_check(&guest, 12);
	stats = guest_stats(&guest);
	assert_int_equal(stats.around, 5);
	assert_int_equal(guest_reads(&guest).bytes, 6 * 4096);
	guest_check_zero(&guest, 4);
	stats = guest_stats(&guest);
	assert_int_equal(stats.zero, 6);
	guest_check(&guest, 1);
	assert_int_equal(guest_reads(&guest).bytes, 10 * 4096);
	assert_int_equal(guest_stats(&guest).left, 0);
	guest_stop(&guest);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

#define PAGES   4096
#define TOUCHES 1500

/* Different pages in random order. */
static size_t touch_some(struct guest *guest, size_t *order)
{
	static bool seen[PAGES];
	uint32_t seed = 5;
	size_t count = 0;

	memset(seen, 0, sizeof(seen));
	for (size_t i = 0; i < TOUCHES; i++) {
		size_t page = i % 3 ? next_random(&seed) % PAGES : 1000 + i / 3;

		guest_check(guest, page);
		if (!seen[page])
			order[count++] = page;
		seen[page] = true;
	}
	return count;
}

static void test_record_and_replay(void **state)
{
	static size_t order[TOUCHES];
	struct fl_wset *set = NULL;
	struct guest guest;
	struct fl_pager_stats stats;
	size_t count;

	(void)state;
	assert_int_equal(fl_wset_new(&set, PAGES * 4096, 4096), 0);
	guest_start(&guest, &(struct guest_config){.pages = PAGES, .around = 1, .record = set});
	count = touch_some(&guest, order);
	stats = guest_stats(&guest);
	fl_pager_stop(guest.pager);
	assert_int_equal(stats.demand, count);
	assert_int_equal(fl_wset_count(set), count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(fl_wset_offset(set, i), order[i] * 4096);
	guest_stop(&guest);

	guest_start(&guest,
		    &(struct guest_config){
			    .pages = PAGES, .around = 1, .replay = set, .filters = {"stats"}});
	guest_wait(guest_stats_now(&guest).replay == count);
	assert_int_equal(guest_reads(&guest).bytes, count * 4096);
	assert_true(guest_reads(&guest).attempts + guest_reads(&guest).submits < count);
	touch_some(&guest, order);
	stats = guest_stats(&guest);
	assert_true(stats.demand * 10 <= count);
	assert_int_equal(stats.fill, count);
	assert_int_equal(stats.left, PAGES - count);
	guest_stop(&guest);
	fl_wset_free(set);
}

/* Pages in a row are read by few and large reads, in whatever order they were touched; then the
 * rest is filled. */
static void test_replay_is_large(void **state)
{
	struct fl_wset *set = NULL;
	struct guest guest;

	(void)state;
	assert_int_equal(fl_wset_new(&set, PAGES * 4096, 4096), 0);
	for (size_t i = 0; i < 256; i++)
		assert_int_equal(fl_wset_add(set, (512 + (i ^ 85)) * 4096), 0);
	assert_int_equal(fl_wset_plan(set), 0);
	guest_start(&guest, &(struct guest_config){.pages = PAGES,
						   .replay = set,
						   .filters = {"delay=100us", "stats"}});
	guest_wait(guest_stats_now(&guest).replay == 256);
	/* Stretches of 64, 128 (two runs of 64), and what is left. */
	assert_int_equal(guest_reads(&guest).submits, 4);
	fl_pager_fill(guest.pager);
	guest_wait_full(&guest);
	assert_int_equal(guest_stats(&guest).replay, 256);
	assert_int_equal(guest_stats(&guest).fill, PAGES);
	assert_int_equal(guest_reads(&guest).bytes, guest.len);
	guest_check_all(&guest);
	guest_stop(&guest);
	fl_wset_free(set);
}

/* Pages that nearly follow each other are one run, with what lies between them. */
static void test_replay_bridges_gaps(void **state)
{
	struct fl_wset *set = NULL;
	struct guest guest;

	(void)state;
	assert_int_equal(fl_wset_new(&set, PAGES * 4096, 4096), 0);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(fl_wset_add(set, i * 4 * 4096), 0);
	assert_int_equal(fl_wset_add(set, 300 * 4096), 0);
	assert_int_equal(fl_wset_plan(set), 0);
	guest_start(&guest, &(struct guest_config){.pages = PAGES,
						   .around = 1,
						   .replay = set,
						   .filters = {"delay=100us", "stats"}});
	guest_wait(guest_stats_now(&guest).replay == 253 + 1);
	assert_int_equal(guest_reads(&guest).submits, 2 + 1); /* of up to 512 KiB */
	guest_check(&guest, 300);
	guest_check(&guest, 101);
	assert_int_equal(guest_stats(&guest).demand, 0);
	guest_stop(&guest);
	fl_wset_free(set);
}

/* Of a run with a page that cannot be read every other page comes, also when nothing is filled. */
static void test_replay_around_unreadable(void **state)
{
	struct fl_wset *set = NULL;
	struct guest guest;

	(void)state;
	assert_int_equal(fl_wset_new(&set, 256 * 4096, 4096), 0);
	for (size_t page = 0; page < 256; page++)
		assert_int_equal(fl_wset_add(set, page * 4096), 0);
	assert_int_equal(fl_wset_plan(set), 0);
	guest_start(&guest,
		    &(struct guest_config){.replay = set, .filters = {"error=EIO,range=400K+4K"}});
	guest_wait(guest_stats_now(&guest).left == 1);
	assert_int_equal(guest_stats(&guest).replay, 255);
	assert_int_equal(guest_stats(&guest).poisoned, 0);
	for (size_t page = 0; page < 256; page++)
		if (page != 100)
			guest_check(&guest, page);
	assert_int_equal(guest_stats(&guest).demand, 0);
	guest_stop(&guest);
	fl_wset_free(set);
}

/* A set that was recorded in 2 MiB pages, replayed for a guest of 4 KiB pages. */
static void test_replay_of_large_units(void **state)
{
	struct fl_wset *set = NULL;
	struct guest guest;

	(void)state;
	assert_int_equal(fl_wset_new(&set, PAGES * 4096, 2u << 20), 0);
	assert_int_equal(fl_wset_add(set, 5u << 20), 0);
	assert_int_equal(fl_wset_plan(set), 0);
	guest_start(&guest, &(struct guest_config){.pages = PAGES, .replay = set});
	guest_wait(guest_stats_now(&guest).replay == 512);
	for (size_t page = 1024; page < 1024 + 512; page++)
		guest_check(&guest, page);
	assert_int_equal(guest_stats(&guest).demand, 0);
	guest_stop(&guest);
	fl_wset_free(set);
}

/* Across a hole, a border of regions, and what is there already, with repeated pages: each comes
 * once. */
static void test_replay_is_cut(void **state)
{
	struct fl_wset *set = NULL;
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	assert_int_equal(fl_wset_new(&set, 256 * 4096, 4096), 0);
	for (size_t page = 200; page-- > 40;)
		assert_int_equal(fl_wset_add(set, page * 4096), 0);
	guest_start(&guest, &(struct guest_config){.regions = 3,
						   .gap = 1,
						   .around = 1,
						   .hole_at = 60 * 4096,
						   .hole_len = 10 * 4096,
						   .filters = {"stats"}});
	guest_check(&guest, 50);
	guest_check(&guest, 120);
	fl_pager_close(guest.pager);
	guest.config.replay = set;
	guest_pager(&guest, 0);
	guest_wait(guest_stats_now(&guest).replay == 158);
	guest_check(&guest, 40);
	guest_check(&guest, 199);
	guest_check_zero(&guest, 65);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand, 0);
	assert_int_equal(stats.zero, 10);
	assert_int_equal(stats.left, 256 - 160);
	assert_int_equal(guest_reads(&guest).bytes, 150 * 4096);
	guest_stop(&guest);
	fl_wset_free(set);
}

/* What is touched while it is on its way was touched, too; and once only. */
static void test_record_joined(void **state)
{
	struct toucher one, two;
	struct fl_wset *set = NULL;
	struct guest guest;

	(void)state;
	assert_int_equal(fl_wset_new(&set, 256 * 4096, 4096), 0);
	guest_start(&guest, &(struct guest_config){.filters = {"delay=1ms"},
						   .flags = FL_PAGER_FILL,
						   .record = set,
						   .stopped = true});
	assert_true(fl_pager_run(guest.pager) >= 0);
	toucher_start(&one, guest_addr(&guest, 9));
	toucher_start(&two, guest_addr(&guest, 9));
	guest_wait(guest_waiting(&guest, NULL) == 2);
	while (!one.done || !two.done)
		assert_int_equal(guest_run(&guest, 1), 0);
	toucher_join(&one);
	toucher_join(&two);
	assert_int_equal(fl_wset_count(set), 1);
	assert_int_equal(fl_wset_offset(set, 0), 9 * 4096);
	guest_stop(&guest);
	fl_wset_free(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_hole_in_window),
		cmocka_unit_test(test_record_and_replay),
		cmocka_unit_test(test_replay_is_large),
		cmocka_unit_test(test_replay_bridges_gaps),
		cmocka_unit_test(test_replay_around_unreadable),
		cmocka_unit_test(test_replay_of_large_units),
		cmocka_unit_test(test_replay_is_cut),
		cmocka_unit_test(test_record_joined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
