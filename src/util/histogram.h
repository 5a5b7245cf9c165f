/* SPDX-License-Identifier: MIT */
#ifndef FL_UTIL_HISTOGRAM_H
#define FL_UTIL_HISTOGRAM_H

/*
 * How often values of each size occurred: latencies in ns, but any uint64_t will do.
 *
 * Values below 32 have a bucket each. Above, each power of two is cut into 16 buckets of the same
 * width; the middle of a bucket stands for all of it, so that a quantile is off by 1/32 of the
 * value at most. The maximum is exact.
 *
 * One thread at a time writes a histogram (record, merge into it); any thread may read it
 * meanwhile. All accesses are relaxed atomics: a reader sees each number whole, but perhaps not
 * yet the same values in all of them. Nothing else is ordered by a histogram.
 */

#include <stdint.h>

#define FL_HISTOGRAM_STEPS_LOG2 4
#define FL_HISTOGRAM_STEPS      (1u << FL_HISTOGRAM_STEPS_LOG2)
#define FL_HISTOGRAM_BUCKETS    (FL_HISTOGRAM_STEPS * (64 - FL_HISTOGRAM_STEPS_LOG2 + 1))

/* All zeros is an empty histogram. */
struct fl_histogram {
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint64_t bucket[FL_HISTOGRAM_BUCKETS];
};

void fl_histogram_record(struct fl_histogram *histogram, uint64_t value);

/* Adds all that is in another histogram, which its own writer may be writing. */
void fl_histogram_merge(struct fl_histogram *into, const struct fl_histogram *from);

uint64_t fl_histogram_count(const struct fl_histogram *histogram);

/* Stays at UINT64_MAX once it would be more. */
uint64_t fl_histogram_sum(const struct fl_histogram *histogram);

/* 0 when it is empty. */
uint64_t fl_histogram_max(const struct fl_histogram *histogram);

/*
 * The value that a share q of all values do not exceed: 0.5 is the median, 1 the maximum. Below 0
 * counts as 0 (the smallest value), above 1 as 1. 0 when it is empty.
 */
uint64_t fl_histogram_quantile(const struct fl_histogram *histogram, double q);

#endif
