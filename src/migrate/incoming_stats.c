/* SPDX-License-Identifier: MIT */

/* What any thread may ask of a machine that arrives. */

#include "migrate/incoming.h"
#include "util/clock.h"

static uint64_t since(uint64_t from_ns, uint64_t to_ns)
{
	return from_ns && to_ns > from_ns ? to_ns - from_ns : 0;
}

static void copy_pager(const struct fl_incoming *in, struct fl_incoming_stats *stats)
{
	const struct fl_pager *pager = fl_incoming_pager(in);

	stats->pager = (struct fl_pager_stats){.size = sizeof(stats->pager)};
	if (!pager)
		return;
	fl_pager_stats(pager, &stats->pager);
	stats->clean = stats->pager.adopted;
	stats->clean_ns = stats->pager.adopt_ns;
	stats->released = stats->pager.released;
}

void fl_incoming_stats(const struct fl_incoming *in, struct fl_incoming_stats *stats)
{
	const struct fl_incoming_counters *count = &in->count;
	uint64_t ended_ns;

	if (stats->size != sizeof(*stats))
		return;
	*stats = (struct fl_incoming_stats){.size = sizeof(*stats)};
	stats->phase = (enum fl_migrate_phase)atomic_load(&in->phase);
	stats->round = atomic_load_explicit(&count->round, memory_order_relaxed);
	stats->recoveries = atomic_load_explicit(&count->recoveries, memory_order_relaxed);
	stats->received = fl_incoming_get(&count->received);
	stats->precopy = fl_incoming_get(&count->precopy);
	stats->zero = fl_incoming_get(&count->zero);
	stats->torn = fl_incoming_get(&count->torn);
	stats->due = fl_incoming_get(&count->due);
	stats->by_way = fl_incoming_get(&count->by_way);
	stats->way = (enum fl_migrate_way)atomic_load_explicit(&count->way, memory_order_relaxed);
	stats->go_to_due_ns =
		since(fl_incoming_get(&count->go_ns), fl_incoming_get(&count->due_end_ns));
	ended_ns = fl_incoming_get(&count->ended_ns);
	stats->total_ns =
		since(fl_incoming_get(&count->met_ns), ended_ns ? ended_ns : fl_clock_ns());
	copy_pager(in, stats);
}

void fl_incoming_error(const struct fl_incoming *in, struct fl_error *err)
{
	struct fl_incoming *locked =
		(struct fl_incoming *)(uintptr_t)in; /* the lock is not const */

	(void)pthread_mutex_lock(&locked->lock);
	*err = in->error;
	(void)pthread_mutex_unlock(&locked->lock);
}
