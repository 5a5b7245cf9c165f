/* SPDX-License-Identifier: MIT */
#include "support.h"
#include "migrate/outgoing_bucket.h"
#include "util/clock.h"

#define MIB (1ull << 20)

/* Takes frames of this size as soon as it may, for a time that only this test knows. */
static uint64_t taken_in(struct fl_bucket *bucket, uint64_t frame, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t taken = 0, now_ns = from_ns;

	while (now_ns < to_ns) {
		uint64_t due_ns = fl_bucket_due(bucket, now_ns);

		if (due_ns) {
			assert_true(due_ns > now_ns);
			now_ns = due_ns;
			continue;
		}
		fl_bucket_take(bucket, frame);
		taken += frame;
	}
	return taken;
}

static void no_limit_is_always_due(void **state)
{
	struct fl_bucket bucket;

	(void)state;
	fl_bucket_begin(&bucket, 0, 5);
	fl_bucket_take(&bucket, UINT64_MAX / 2);
	assert_int_equal(fl_bucket_due(&bucket, 6), 0);
	fl_bucket_begin(&bucket, UINT64_MAX, 5);
	fl_bucket_take(&bucket, UINT64_MAX / 2);
	assert_int_equal(fl_bucket_due(&bucket, 6), 0);
}

static void a_rate_holds_over_time(void **state)
{
	static const uint64_t rates[] = {1000, MIB, 125 * MIB, 10000 * MIB};
	static const uint64_t frames[] = {32, 4096, 131072, 2 * MIB};
	uint64_t start_ns = 77 * FL_NS_PER_S;

	(void)state;
	for (int r = 0; r < 4; r++) {
		for (int f = 0; f < 4; f++) {
			uint64_t seconds = rates[r] < MIB ? 10000 : 2, taken;
			struct fl_bucket bucket;

			if (rates[r] / frames[f] > 1000000)
				continue;
			fl_bucket_begin(&bucket, rates[r], start_ns);
			taken = taken_in(&bucket, frames[f], start_ns,
					 start_ns + seconds * FL_NS_PER_S);
			assert_in_range(taken, rates[r] * seconds / 100 * 99,
					rates[r] * seconds + frames[f]);
		}
	}
}

/* After a pause no more than the burst is made up for. */
static void rest_is_not_saved_up(void **state)
{
	struct fl_bucket bucket;
	uint64_t now_ns = FL_NS_PER_S;

	(void)state;
	fl_bucket_begin(&bucket, 100 * MIB, now_ns);
	now_ns += 3600 * FL_NS_PER_S;
	assert_in_range(taken_in(&bucket, 4096, now_ns, now_ns + 1), 1 * MIB, 3 * MIB);
	now_ns += 400 * 86400 * FL_NS_PER_S;
	assert_in_range(taken_in(&bucket, 4096, now_ns, now_ns + 1), 1 * MIB, 3 * MIB);
}

/* Also of the largest rate that is still one. */
static void rest_does_not_overflow(void **state)
{
	struct fl_bucket bucket;
	uint64_t now_ns = FL_NS_PER_S;

	(void)state;
	for (int bits = 40; bits < 64; bits++) {
		fl_bucket_begin(&bucket, UINT64_MAX >> (63 - bits), now_ns);
		fl_bucket_take(&bucket, 1u << 20);
		assert_int_equal(fl_bucket_due(&bucket, now_ns + 86400 * FL_NS_PER_S), 0);
	}
}

static void a_debt_is_paid_first(void **state)
{
	struct fl_bucket bucket;
	uint64_t due_ns;

	(void)state;
	fl_bucket_begin(&bucket, MIB, 1);
	fl_bucket_take(&bucket, 2 * MIB);
	due_ns = fl_bucket_due(&bucket, 1);
	assert_in_range(due_ns, 2 * FL_NS_PER_S, 2 * FL_NS_PER_S + 100000);
	assert_true(fl_bucket_due(&bucket, due_ns / 2) >= due_ns - 100000);
	assert_int_equal(fl_bucket_due(&bucket, due_ns + 100000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_limit_is_always_due), cmocka_unit_test(a_rate_holds_over_time),
		cmocka_unit_test(rest_is_not_saved_up),   cmocka_unit_test(rest_does_not_overflow),
		cmocka_unit_test(a_debt_is_paid_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
