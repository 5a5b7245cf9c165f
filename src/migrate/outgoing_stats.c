/* SPDX-License-Identifier: MIT */
#include "migrate/outgoing.h"
#include "migrate/outgoing_policy.h"
#include "util/clock.h"

#include <string.h>

static uint64_t get(const _Atomic uint64_t *figure)
{
	return atomic_load_explicit(figure, memory_order_relaxed);
}

/* Each second anew, also when nothing is sent: a turn is never much longer. */
static void count_rate(struct fl_outgoing *out, uint64_t bytes)
{
	uint64_t now_ns = fl_clock_ns(), took_ns = now_ns - out->rate_ns;

	if (out->rate_ns && took_ns < FL_NS_PER_S)
		return;
	if (out->rate_ns)
		fl_figure(&out->figures.rate, fl_in_a_second(bytes - out->rate_bytes, took_ns));
	out->rate_ns = now_ns;
	out->rate_bytes = bytes;
}

void fl_outgoing_count(struct fl_outgoing *out)
{
	struct fl_conn_stats main = {0}, demand = {0};
	uint64_t bytes;

	if (out->main.conn)
		fl_conn_stats(out->main.conn, &main);
	if (out->demand.conn)
		fl_conn_stats(out->demand.conn, &demand);
	bytes = out->closed_bytes + main.sent_bytes + demand.sent_bytes;
	fl_figure(&out->figures.bytes, bytes);
	fl_figure(&out->figures.saved, out->closed_saved + main.saved_bytes + demand.saved_bytes);
	count_rate(out, bytes);
}

static uint64_t total_ns(const struct fl_outgoing_figures *figures)
{
	uint64_t began_ns = get(&figures->began_ns), ended_ns = get(&figures->ended_ns);

	if (!began_ns)
		return 0;
	return (ended_ns ? ended_ns : fl_clock_ns()) - began_ns;
}

void fl_outgoing_stats(const struct fl_outgoing *out, struct fl_outgoing_stats *stats)
{
	const struct fl_outgoing_figures *figures = &out->figures;
	/* First: it is stored behind the figures of what led to it. */
	int phase = atomic_load(&out->phase);
	/* The one round of postcopy is zeros: no figure of it means what it says. */
	bool rounds = out->options.mode != FL_MIGRATE_POSTCOPY;
	struct fl_outgoing_stats all = {
		.phase = (enum fl_migrate_phase)phase,
		.round = rounds ? (uint32_t)get(&figures->round) : 0,
		.pages = out->pages,
		.round_left = rounds ? get(&figures->round_left) : 0,
		.dirty_rate = get(&figures->dirty_rate),
		.rate = get(&figures->rate),
		.precopy = get(&figures->precopy),
		.zero = get(&figures->zero),
		.due = get(&figures->due),
		.due_left = get(&figures->due_left),
		.demand = get(&figures->demand),
		.background = get(&figures->background),
		.clean = get(&figures->clean),
		.bytes = get(&figures->bytes),
		.wire_bytes_saved = get(&figures->saved),
		.downtime_ns = get(&figures->downtime_ns),
		.total_ns = total_ns(figures),
		.recoveries = (uint32_t)get(&figures->recoveries),
		.waits = {.count = get(&figures->waits),
			  .p50_ns = get(&figures->wait_p50_ns),
			  .p99_ns = get(&figures->wait_p99_ns),
			  .max_ns = get(&figures->wait_max_ns)},
	};
	size_t size = stats->size < sizeof(all) ? stats->size : sizeof(all);

	all.size = size;
	memcpy(stats, &all, size);
}
