/* SPDX-License-Identifier: MIT */

/*
 * What is due at the switch. To find it takes time that grows with the machine: the dirty log of all its
 * memory. So vCPUs do not wait for it, and neither do demands: it is found by a thread of its own, after GO,
 * and until then every page counts as due, which is never wrong with vCPUs stopped here. What was answered
 * meanwhile stays in the set, because it may still be on its way when DUE_END arrives.
 *
 * After GO is not enough. To find, send and take the set is the first work of the switch that grows with the
 * machine, and RUNNING would wait behind it; where processors are few so would, on either side, whoever has to
 * start the vCPUs. So it begins when they run, or when that is not heard of soon: on a slow network the set
 * had better be on its way by then.
 *
 * The thread touches out->fresh alone, and what the VMM's calls touch, which nobody else calls then.
 */

#include "migrate/outgoing.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "util/thread.h"

#include <string.h>
#include <sys/eventfd.h>

#define STACK_BYTES (256u * 1024)

static void *find(void *arg)
{
	struct fl_outgoing *out = arg;

	out->fresh_ret = out->calls.collect(out->ctx, out->fresh);
	(void)out->calls.track(out->ctx, false);
	atomic_store(&out->found, true);
	(void)eventfd_write(out->wake_fd, 1);
	return NULL;
}

static void begin(struct fl_outgoing *out)
{
	out->finding = true;
	out->tracking = false;
	out->finder_runs = !fl_thread_start(&out->finder, STACK_BYTES, find, out);
	if (!out->finder_runs)
		(void)find(out);
}

uint64_t fl_outgoing_find_due_at(const struct fl_outgoing *out)
{
	if (!out->undecided || out->finding)
		return UINT64_MAX;
	return out->came & fl_frame_bit(FL_FRAME_RUNNING) ? 0 : out->go_ns + out->give_way_ns;
}

void fl_outgoing_find_due(struct fl_outgoing *out)
{
	if (fl_clock_ns() >= fl_outgoing_find_due_at(out))
		begin(out);
}

static void add(struct fl_pageset *to, const struct fl_pageset *from)
{
	uint64_t page = 0, run;

	for (; (run = fl_pageset_run(from, &page)); page += run)
		(void)fl_pageset_add(to, page, run);
}

static void del(struct fl_pageset *to, const struct fl_pageset *from)
{
	uint64_t page = 0, run;

	for (; (run = fl_pageset_run(from, &page)); page += run)
		(void)fl_pageset_del(to, page, run);
}

static void decide(struct fl_outgoing *out)
{
	if (out->fresh_ret) {
		fl_log(&out->options.log, FL_LOG_WARNING,
		       "what was written last cannot be collected (%s): all memory is sent again",
		       strerrordesc_np(-out->fresh_ret));
		(void)fl_pageset_add(out->left, 0, out->pages);
	}
	add(out->left, out->fresh);
	add(out->due, out->left);
	add(out->due, out->answered);
	del(out->left, out->answered);
	fl_figure(&out->figures.due, fl_pageset_count(out->due));
	fl_figure(&out->figures.due_left, fl_pageset_count(out->left));
	out->undecided = false;
}

bool fl_outgoing_due_known(struct fl_outgoing *out)
{
	if (out->undecided && out->finding && atomic_load(&out->found))
		fl_outgoing_await_due(out);
	return !out->undecided;
}

void fl_outgoing_await_due(struct fl_outgoing *out)
{
	if (!out->undecided)
		return;
	if (!out->finding)
		begin(out);
	if (out->finder_runs)
		(void)pthread_join(out->finder, NULL);
	decide(out);
}
