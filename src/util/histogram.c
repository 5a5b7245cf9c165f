/* SPDX-License-Identifier: MIT */
#include "util/histogram.h"

#define STEPS      ((uint64_t)FL_HISTOGRAM_STEPS)
#define STEPS_LOG2 FL_HISTOGRAM_STEPS_LOG2

static uint64_t get(const uint64_t *from)
{
	return __atomic_load_n(from, __ATOMIC_RELAXED);
}

/* There is one writer: no read-modify-write is needed, only a store that readers see whole. */
static void put(uint64_t *to, uint64_t value)
{
	__atomic_store_n(to, value, __ATOMIC_RELAXED);
}

static void add_saturating(uint64_t *to, uint64_t value)
{
	uint64_t sum;

	put(to, __builtin_add_overflow(get(to), value, &sum) ? UINT64_MAX : sum);
}

/*
 * A value of STEPS or more has its top STEPS_LOG2 + 1 bits kept: value >> shift lies between STEPS
 * and 2 * STEPS - 1, and each shift has STEPS buckets of its own.
 */
static unsigned int bucket_of(uint64_t value)
{
	unsigned int shift;

	if (value < STEPS)
		return (unsigned int)value;
	shift = 63 - (unsigned int)__builtin_clzll(value) - STEPS_LOG2;
	return (unsigned int)(shift * STEPS + (value >> shift));
}

/* The value in the middle of a bucket. */
static uint64_t middle_of(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < 2 * STEPS)
		return bucket;
	shift = (unsigned int)(bucket / STEPS - 1);
	return ((bucket % STEPS + STEPS) << shift) + (1ULL << shift) / 2;
}

void fl_histogram_record(struct fl_histogram *histogram, uint64_t value)
{
	uint64_t *bucket = &histogram->bucket[bucket_of(value)];

	put(bucket, get(bucket) + 1);
	put(&histogram->count, get(&histogram->count) + 1);
	add_saturating(&histogram->sum, value);
	if (value > get(&histogram->max))
		put(&histogram->max, value);
}

void fl_histogram_merge(struct fl_histogram *into, const struct fl_histogram *from)
{
	uint64_t max = get(&from->max);

	for (unsigned int i = 0; i < FL_HISTOGRAM_BUCKETS; i++)
		put(&into->bucket[i], get(&into->bucket[i]) + get(&from->bucket[i]));
	put(&into->count, get(&into->count) + get(&from->count));
	add_saturating(&into->sum, get(&from->sum));
	if (max > get(&into->max))
		put(&into->max, max);
}

uint64_t fl_histogram_count(const struct fl_histogram *histogram)
{
	return get(&histogram->count);
}

uint64_t fl_histogram_sum(const struct fl_histogram *histogram)
{
	return get(&histogram->sum);
}

uint64_t fl_histogram_max(const struct fl_histogram *histogram)
{
	return get(&histogram->max);
}

/* Which of total values, counted from 1 for the smallest: the first that the share q reaches. */
static uint64_t rank_of(uint64_t total, double q)
{
	double share = (double)total * q;
	uint64_t rank;

	if (!(q > 0))
		return 1;
	if (q >= 1 || share >= (double)total)
		return total;
	rank = (uint64_t)share;
	return (double)rank < share ? rank + 1 : rank;
}

uint64_t fl_histogram_quantile(const struct fl_histogram *histogram, double q)
{
	uint64_t max = get(&histogram->max);
	uint64_t total = 0;
	uint64_t passed = 0;
	uint64_t rank;

	/* Not ->count: the writer may be between the two. Buckets only grow, so rank is reached. */
	for (unsigned int i = 0; i < FL_HISTOGRAM_BUCKETS; i++)
		total += get(&histogram->bucket[i]);
	if (total == 0)
		return 0;
	rank = rank_of(total, q);
	for (unsigned int i = 0; i < FL_HISTOGRAM_BUCKETS && rank < total; i++) {
		passed += get(&histogram->bucket[i]);
		if (passed >= rank)
			return middle_of(i) < max ? middle_of(i) : max;
	}
	return max;
}
