/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void fault_stats(const struct fl_histogram *latency, struct fl_fault_stats *stats)
{
	stats->count = fl_histogram_count(latency);
	stats->p50_ns = fl_histogram_quantile(latency, 0.50);
	stats->p99_ns = fl_histogram_quantile(latency, 0.99);
	stats->max_ns = fl_histogram_max(latency);
}

void fl_pager_stats(const struct fl_pager *pager, struct fl_pager_stats *stats)
{
	const struct fl_counters *count = &pager->count;

	if (stats->size != sizeof(*stats))
		return;
	stats->pages = pager->pages;
	stats->left = get(&count->left);
	stats->demand = get(&count->demand);
	stats->around = get(&count->around);
	stats->fill = get(&count->fill);
	stats->replay = get(&count->replay);
	stats->adopted = get(&count->adopted);
	stats->released = get(&count->released);
	stats->adopt_ns = get(&count->adopt_ns);
	stats->zero = get(&count->zero);
	stats->removed = get(&count->removed);
	stats->poisoned = get(&count->poisoned);
	stats->duplicates = get(&count->duplicates);
	stats->retries = get(&count->retries);
	stats->errors = get(&count->errors);
	for (unsigned int kind = 0; kind < FL_FAULT_KINDS; kind++)
		fault_stats(&pager->latency[kind], &stats->faults[kind]);
	stats->full_ns = get(&count->full_ns);
}
