/* SPDX-License-Identifier: MIT */
#include "guest_test.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void test_single_faults(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.around = 4096});
	guest_check_all(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.pages, 256);
	assert_int_equal(stats.demand, 256);
	assert_int_equal(stats.around, 0);
	assert_int_equal(stats.left, 0);
	assert_int_equal(stats.faults[FL_FAULT_HIT].count + stats.faults[FL_FAULT_MISS].count, 256);
	assert_true(stats.full_ns > 0);
	guest_stop(&guest);
}

/* The page cache of a file on a disk answers at once; a delay never does. */
static void test_hit_and_miss(void **state)
{
	static const struct guest_config hit = {.disk = true, .around = 1};
	static const struct guest_config miss = {.filters = {"delay=1us"}, .around = 1};
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &hit);
	guest_check_all(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.faults[FL_FAULT_HIT].count, 256);
	assert_true(stats.faults[FL_FAULT_HIT].p50_ns > 0);
	assert_true(stats.faults[FL_FAULT_HIT].max_ns >= stats.faults[FL_FAULT_HIT].p99_ns);
	guest_stop(&guest);
	guest_start(&guest, &miss);
	guest_check_all(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.faults[FL_FAULT_MISS].count, 256);
	assert_true(stats.faults[FL_FAULT_MISS].p50_ns >= 1000);
	guest_stop(&guest);
}

static const enum guest_kind kinds[] = {GUEST_ANON, GUEST_MEMFD, GUEST_SEGV};

static void around(enum guest_kind kind, size_t gap, bool disk)
{
	struct guest guest;
	struct fl_pager_stats stats;

	guest_start(&guest,
		    &(struct guest_config){
			    .kind = kind, .pages = 100, .regions = 3, .gap = gap, .disk = disk});
	guest_check_all(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand + stats.around, 100);
	/* Regions of 33, 33 and 34 pages begin at offsets 0, 33 and 66; windows of 16 pages begin
	 * at multiples of 16. */
	assert_int_equal(stats.demand, 3 + 3 + 3);
	guest_stop(&guest);
}

static void test_around(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		around(kinds[i], 0, false);
		around(kinds[i], 2, true);
	}
}

/* A window takes nothing that is there already, before or behind the page that is touched. */
static void test_around_present(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 32, .around = 4096});
	guest_check(&guest, 5);
	guest_check(&guest, 12);
	fl_pager_close(guest.pager);
	guest.config.around = 0;
	guest_pager(&guest, 0);
	memset(guest_addr(&guest, 5), 1, 4096);
	memset(guest_addr(&guest, 12), 2, 4096);
	guest_check(&guest, 8);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand, 1);
	assert_int_equal(stats.around, 5); /* 6, 7, 9, 10, 11 */
	assert_int_equal(stats.left, 32 - 2 - 6);
	guest_check(&guest, 0);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand + stats.around, 6 + 5);
	assert_int_equal(guest_addr(&guest, 5)[4095], 1);
	assert_int_equal(guest_addr(&guest, 12)[4095], 2);
	guest_stop(&guest);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void test_random_and_reverse(void **state)
{
	uint32_t seed = 1;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		guest_start(&guest,
			    &(struct guest_config){.kind = kinds[i], .regions = 2, .gap = 1});
		for (size_t page = 256; page-- > 200;)
			guest_check(&guest, page);
		for (size_t n = 0; n < 500; n++)
			guest_check(&guest, next_random(&seed) % 256);
		guest_check_all(&guest);
		guest_stop(&guest);
	}
}

/* The first touch is a write: the rest of the page comes from the image. */
static void test_writes(void **state)
{
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		guest_start(&guest, &(struct guest_config){.kind = kinds[i]});
		for (size_t page = 0; page < 256; page += 3) {
			char *at = guest_addr(&guest, page);

			at[8] = 42;
			assert_filled(at, 8, page * 4096, GUEST_SEED);
			assert_int_equal(at[8], 42);
			assert_filled(at + 16, 4096 - 16, page * 4096 + 16, GUEST_SEED);
		}
		guest_stop(&guest);
	}
}

static void test_hugetlb(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.kind = GUEST_HUGETLB, .pages = 8});
	for (size_t page = 8; page-- > 0;)
		guest_check(&guest, page);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand, 8);
	assert_int_equal(stats.around, 0);
	guest_stop(&guest);
}

/* A system call touches: the kernel itself faults. */
static void test_kernel_touch(void **state)
{
	struct guest guest;
	char copy[4096];
	int ends[2];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		guest_start(&guest, &(struct guest_config){.kind = kinds[i], .around = 4096});
		assert_int_equal(pipe(ends), 0);
		for (size_t page = 0; page < 256; page += 5) {
			assert_int_equal(write(ends[1], guest_addr(&guest, page), 4096), 4096);
			assert_int_equal(read(ends[0], copy, 4096), 4096);
			assert_filled(copy, 4096, page * 4096, GUEST_SEED);
		}
		assert_int_equal(guest_stats(&guest).demand, 52);
		assert_int_equal(close(ends[0]), 0);
		assert_int_equal(close(ends[1]), 0);
		guest_stop(&guest);
	}
}

static void fill(enum guest_kind kind, size_t pages, const char *filter)
{
	struct guest guest;
	struct fl_pager_stats stats;

	guest_start(&guest, &(struct guest_config){.kind = kind,
						   .pages = pages,
						   .regions = 2,
						   .filters = {filter},
						   .flags = FL_PAGER_FILL | FL_PAGER_RELEASE});
	guest_wait_full(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.fill, pages);
	assert_int_equal(stats.left, 0);
	guest_check_all(&guest);
	assert_int_equal(guest_stats(&guest).demand, 0);
	guest_stop(&guest);
}

static void test_fill(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		fill(kinds[i], 5000, NULL);
		fill(kinds[i], 1000, "delay=100us");
	}
}

static void test_fill_hugetlb(void **state)
{
	(void)state;
	fill(GUEST_HUGETLB, 10, NULL);
}

/* Everything at once: how pages came adds up. */
static void test_sums(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 1000,
						   .filters = {"delay=200us"},
						   .hole_at = 1u << 20,
						   .hole_len = 1u << 20});
	guest_check(&guest, 700);
	guest_check(&guest, 20);
	guest_check_zero(&guest, 300);
	assert_int_equal(madvise(guest_addr(&guest, 100), 10 * 4096, MADV_DONTNEED), 0);
	fl_pager_fill(guest.pager);
	guest_check_zero(&guest, 105);
	guest_wait_full(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.left, 0);
	assert_int_equal(stats.removed, 10);
	/* The ten that were removed never came, but for the one that was touched again. */
	assert_int_equal(stats.demand + stats.around + stats.fill, 1000 - 10 + 1);
	assert_int_equal(stats.zero, 256 + 1);
	assert_int_equal(stats.poisoned, 0);
	assert_int_equal(stats.errors, 0);
	assert_true(stats.faults[FL_FAULT_MISS].count >= 2);
	assert_true(stats.faults[FL_FAULT_ZERO].count >= 1);
	guest_stop(&guest);
}

static void test_options(void **state)
{
	struct fl_pager_options options;
	struct fl_pager *pager = NULL;
	struct fl_error err;
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 4});
	fl_pager_options_init(&options);
	options.around_bytes = 3 * 4096;
	assert_int_equal(fl_pager_new(&pager, &guest.parts, &options, &err), -EINVAL);
	options.around_bytes = 2 * FL_AROUND_MAX;
	assert_int_equal(fl_pager_new(&pager, &guest.parts, &options, &err), -EINVAL);
	fl_pager_options_init(&options);
	options.size--;
	assert_int_equal(fl_pager_new(&pager, &guest.parts, &options, &err), -EINVAL);
	fl_source_close(guest.source);
	assert_int_equal(fl_source_zero_open(&guest.source), 0);
	assert_null(pager);
	guest_stop(&guest);
}

static void test_short_image(void **state)
{
	struct fl_region region = {.gpa = FL_NOWHERE, .addr = 1u << 30, .page_size = 4096};
	struct fl_pager *pager = NULL;
	struct fl_layout *layout;
	struct fl_error err;
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 4});
	region.len_bytes = 5 * 4096;
	assert_int_equal(fl_layout_new(&layout, &region, 1, &err), 0);
	guest.parts.layout = layout;
	assert_int_equal(fl_pager_new(&pager, &guest.parts, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "16384"));
	assert_non_null(strstr(err.text, "20480"));
	fl_layout_free(layout);
	guest_stop(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single_faults),
		cmocka_unit_test(test_hit_and_miss),
		cmocka_unit_test(test_around),
		cmocka_unit_test(test_around_present),
		cmocka_unit_test(test_random_and_reverse),
		cmocka_unit_test(test_writes),
		cmocka_unit_test(test_hugetlb),
		cmocka_unit_test(test_kernel_touch),
		cmocka_unit_test(test_fill),
		cmocka_unit_test(test_fill_hugetlb),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_short_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
