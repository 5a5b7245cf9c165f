/* SPDX-License-Identifier: MIT */
#include "support.h"
#include "util/histogram.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* The bound that histogram.h promises; small values are exact. */
static void assert_close(uint64_t got, uint64_t exact)
{
	if (distance(got, exact) > exact / 32)
		fail_msg("%llu is not close to %llu", (unsigned long long)got,
			 (unsigned long long)exact);
}

/* What a histogram says of one value, with a far larger one above so that max does not help. */
static uint64_t as_recorded(uint64_t value)
{
	struct fl_histogram histogram = {0};

	fl_histogram_record(&histogram, value);
	fl_histogram_record(&histogram, UINT64_MAX);
	return fl_histogram_quantile(&histogram, 0.5);
}

static void empty_is_zero_everywhere(void **state)
{
	const struct fl_histogram histogram = {0};

	(void)state;
	assert_int_equal(fl_histogram_count(&histogram), 0);
	assert_int_equal(fl_histogram_sum(&histogram), 0);
	assert_int_equal(fl_histogram_max(&histogram), 0);
	assert_int_equal(fl_histogram_quantile(&histogram, 0), 0);
	assert_int_equal(fl_histogram_quantile(&histogram, 0.99), 0);
	assert_int_equal(fl_histogram_quantile(&histogram, 1), 0);
}

static void small_values_are_exact(void **state)
{
	(void)state;
	for (uint64_t value = 0; value < 32; value++)
		assert_int_equal(as_recorded(value), value);
}

static void every_power_of_two_and_its_neighbours_are_close(void **state)
{
	(void)state;
	for (unsigned int bit = 5; bit < 64; bit++) {
		uint64_t power = 1ULL << bit;

		assert_close(as_recorded(power - 1), power - 1);
		assert_close(as_recorded(power), power);
		assert_close(as_recorded(power + 1), power + 1);
		assert_close(as_recorded(power + power / 16 - 1), power + power / 16 - 1);
		assert_close(as_recorded(power + power / 16), power + power / 16);
	}
	assert_close(as_recorded(UINT64_MAX), UINT64_MAX);
	assert_close(as_recorded(UINT64_MAX - 1), UINT64_MAX - 1);
}

static void a_larger_value_is_never_taken_for_less(void **state)
{
	uint64_t last = 0;

	(void)state;
	for (uint64_t value = 0; value < 1ULL << 63; value += value / 40 + 1) {
		uint64_t got = as_recorded(value);

		assert_true(got >= last);
		last = got;
	}
}

static void zero_and_the_largest_value_count(void **state)
{
	struct fl_histogram histogram = {0};

	(void)state;
	fl_histogram_record(&histogram, 0);
	assert_int_equal(fl_histogram_count(&histogram), 1);
	assert_int_equal(fl_histogram_quantile(&histogram, 1), 0);
	fl_histogram_record(&histogram, UINT64_MAX);
	fl_histogram_record(&histogram, UINT64_MAX);
	assert_int_equal(fl_histogram_count(&histogram), 3);
	assert_int_equal(fl_histogram_max(&histogram), UINT64_MAX);
	assert_int_equal(fl_histogram_quantile(&histogram, 1), UINT64_MAX);
	assert_int_equal(fl_histogram_quantile(&histogram, 0), 0);
	/* It stays there rather than wrap. */
	assert_int_equal(fl_histogram_sum(&histogram), UINT64_MAX);
}

static void the_maximum_is_exact_and_bounds_quantiles(void **state)
{
	struct fl_histogram histogram = {0};

	(void)state;
	for (int i = 0; i < 100; i++)
		fl_histogram_record(&histogram, 1000003);
	assert_int_equal(fl_histogram_max(&histogram), 1000003);
	assert_int_equal(fl_histogram_quantile(&histogram, 1), 1000003);
	assert_true(fl_histogram_quantile(&histogram, 0.5) <= 1000003);
	assert_int_equal(fl_histogram_sum(&histogram), 100 * 1000003ULL);
}

static void shares_outside_0_to_1_are_its_ends(void **state)
{
	struct fl_histogram histogram = {0};

	(void)state;
	for (uint64_t value = 1; value <= 30; value++)
		fl_histogram_record(&histogram, value);
	assert_int_equal(fl_histogram_quantile(&histogram, -1), 1);
	assert_int_equal(fl_histogram_quantile(&histogram, __builtin_nan("")), 1);
	assert_int_equal(fl_histogram_quantile(&histogram, 2), 30);
	assert_int_equal(fl_histogram_quantile(&histogram, __builtin_inf()), 30);
}

static void quantiles_reach_the_share_and_no_more(void **state)
{
	struct fl_histogram histogram = {0};

	(void)state;
	for (uint64_t value = 1; value <= 20; value++)
		fl_histogram_record(&histogram, value);
	assert_int_equal(fl_histogram_quantile(&histogram, 0.05), 1);
	assert_int_equal(fl_histogram_quantile(&histogram, 0.051), 2);
	assert_int_equal(fl_histogram_quantile(&histogram, 0.5), 10);
	assert_int_equal(fl_histogram_quantile(&histogram, 0.95), 19);
	assert_int_equal(fl_histogram_quantile(&histogram, 0.951), 20);
}

/* splitmix64, so that every run sees the same values. */
static uint64_t next_random(uint64_t *seed)
{
	uint64_t x = *seed += 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static int by_value(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a;
	uint64_t right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

#define SAMPLES 20000

static void quantiles_of_many_values_are_those_of_a_sorted_list(void **state)
{
	static const double shares[] = {0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999};
	static uint64_t values[SAMPLES];
	struct fl_histogram histogram = {0};
	uint64_t seed = 1;
	uint64_t sum = 0;

	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		/* All magnitudes up to 2^44 ns, about 5 hours. */
		values[i] = next_random(&seed) >> (20 + next_random(&seed) % 44);
		sum += values[i];
		fl_histogram_record(&histogram, values[i]);
	}
	qsort(values, SAMPLES, sizeof(values[0]), by_value);
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		size_t rank = (size_t)(SAMPLES * shares[i] + 0.999);

		assert_close(fl_histogram_quantile(&histogram, shares[i]), values[rank - 1]);
	}
	assert_int_equal(fl_histogram_max(&histogram), values[SAMPLES - 1]);
	assert_int_equal(fl_histogram_sum(&histogram), sum);
	assert_int_equal(fl_histogram_count(&histogram), SAMPLES);
}

static void merged_is_as_if_recorded_in_one(void **state)
{
	struct fl_histogram parts[3] = {0};
	struct fl_histogram merged = {0};
	struct fl_histogram whole = {0};
	uint64_t seed = 2;

	(void)state;
	for (size_t i = 0; i < 3000; i++) {
		uint64_t value = next_random(&seed) >> (30 + i % 30);

		fl_histogram_record(&parts[i % 3], value);
		fl_histogram_record(&whole, value);
	}
	for (size_t i = 0; i < 3; i++)
		fl_histogram_merge(&merged, &parts[i]);
	assert_memory_equal(&merged, &whole, sizeof(whole));
}

static void merged_sum_does_not_wrap(void **state)
{
	struct fl_histogram one = {0};
	struct fl_histogram other = {0};

	(void)state;
	fl_histogram_record(&one, UINT64_MAX - 5);
	fl_histogram_record(&other, 6);
	fl_histogram_merge(&one, &other);
	assert_int_equal(fl_histogram_sum(&one), UINT64_MAX);
	assert_int_equal(fl_histogram_max(&one), UINT64_MAX - 5);
	assert_int_equal(fl_histogram_count(&one), 2);
}

static void it_is_small_and_allocates_nothing(void **state)
{
	struct fl_histogram histogram = {0};
	uint64_t before = test_allocations();

	(void)state;
	fl_histogram_record(&histogram, 12345);
	assert_close(fl_histogram_quantile(&histogram, 0.5), 12345);
	assert_int_equal(test_allocations(), before);
	assert_true(sizeof(histogram) <= 8 * 1024);
}

struct shared {
	struct fl_histogram histogram;
	atomic_bool done;
};

static void *write_values(void *ctx)
{
	struct shared *shared = ctx;

	for (uint64_t i = 0; i < 200000; i++)
		fl_histogram_record(&shared->histogram, 1000 + i % 100);
	atomic_store(&shared->done, true);
	return NULL;
}

/* What a reader sees while it is written is a past state of each number; TSan watches as well. */
static void others_may_read_while_one_writes(void **state)
{
	static struct shared shared;
	uint64_t last = 0;
	pthread_t writer;
	bool done;

	(void)state;
	assert_int_equal(pthread_create(&writer, NULL, write_values, &shared), 0);
	do {
		struct fl_histogram copy = {0};
		uint64_t count;

		done = atomic_load(&shared.done);
		fl_histogram_merge(&copy, &shared.histogram);
		count = fl_histogram_count(&shared.histogram);
		assert_true(count >= last && count <= 200000);
		last = count;
		assert_true(fl_histogram_max(&copy) <= 1099);
		assert_true(fl_histogram_quantile(&shared.histogram, 0.5) <= 1099);
	} while (!done);
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(last, 200000);
	assert_close(fl_histogram_quantile(&shared.histogram, 0.5), 1049);
	assert_int_equal(fl_histogram_max(&shared.histogram), 1099);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_is_zero_everywhere),
		cmocka_unit_test(small_values_are_exact),
		cmocka_unit_test(every_power_of_two_and_its_neighbours_are_close),
		cmocka_unit_test(a_larger_value_is_never_taken_for_less),
		cmocka_unit_test(zero_and_the_largest_value_count),
		cmocka_unit_test(the_maximum_is_exact_and_bounds_quantiles),
		cmocka_unit_test(shares_outside_0_to_1_are_its_ends),
		cmocka_unit_test(quantiles_reach_the_share_and_no_more),
		cmocka_unit_test(quantiles_of_many_values_are_those_of_a_sorted_list),
		cmocka_unit_test(merged_is_as_if_recorded_in_one),
		cmocka_unit_test(merged_sum_does_not_wrap),
		cmocka_unit_test(it_is_small_and_allocates_nothing),
		cmocka_unit_test(others_may_read_while_one_writes),
	};

	return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
