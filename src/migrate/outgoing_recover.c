/* SPDX-License-Identifier: MIT */

/*
 * After GO. A lost connection ends nothing: everything is kept, and the thread waits to be told how to
 * meet the peer again. What was sent is not what arrived, so the peer says what is there; the rest is
 * due as it was at the switch, and everything goes on from GO.
 */

#include "migrate/outgoing.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

void fl_outgoing_end_recovery(struct fl_outgoing *out, enum fl_migrate_phase phase)
{
	out->recovering = false;
	free(out->recover_address);
	out->recover_address = NULL;
	out->recover_fd = -1;
	atomic_store(&out->recover_off, false);
	atomic_store(&out->phase, (int)phase);
}

void fl_outgoing_lost(struct fl_outgoing *out)
{
	fl_outgoing_part(out);
	fl_figure(&out->figures.rate, 0);
	out->rate_ns = 0;
	fl_log(&out->options.log, FL_LOG_WARNING, "migration lost: %s", out->why.text);
	pthread_mutex_lock(&out->lock);
	out->error = out->why;
	fl_outgoing_end_recovery(out, FL_MIGRATE_LOST);
	pthread_mutex_unlock(&out->lock);
	if (out->calls.ended)
		out->calls.ended(out->ctx, FL_MIGRATE_LOST);
}

int fl_outgoing_recover(struct fl_outgoing *out, const char *address, int listen_fd)
{
	char *copy = address ? strdup(address) : NULL;
	int ret = 0;

	if (address && !copy)
		return -ENOMEM;
	pthread_mutex_lock(&out->lock);
	if (atomic_load(&out->phase) != FL_MIGRATE_LOST || (!address && listen_fd < 0))
		ret = -EINVAL;
	else if (out->recovering)
		ret = -EALREADY;
	if (!ret) {
		out->recovering = true;
		out->recover_address = copy;
		out->recover_fd = listen_fd;
		(void)eventfd_write(out->wake_fd, 1);
		copy = NULL;
	}
	pthread_mutex_unlock(&out->lock);
	free(copy);
	return ret;
}

static bool is_asked(struct fl_outgoing *out)
{
	bool asked;

	pthread_mutex_lock(&out->lock);
	asked = out->recovering;
	pthread_mutex_unlock(&out->lock);
	return asked;
}

/*
 * The eventfd has to be quiet when the meeting begins, which ends when it is not. It is written under
 * the lock, so what led here is taken back by reading it now. One to end that comes before is seen
 * in the flags, and one that comes after in the meeting.
 */
static int await_call(struct fl_outgoing *out)
{
	struct pollfd poll_fd = {.fd = out->wake_fd, .events = POLLIN};
	eventfd_t count;
	bool asked;
	int ret;

	for (;;) {
		asked = is_asked(out);
		if (!asked)
			(void)poll(&poll_fd, 1, -1);
		(void)eventfd_read(out->wake_fd, &count);
		ret = fl_outgoing_asked_to_end(out);
		if (ret || asked)
			return ret;
	}
}

/* What the last connections knew is over; the figures go on. */
static void begin_again(struct fl_outgoing *out)
{
	uint64_t pages = out->pages;

	out->why = (struct fl_error){0};
	out->came = 0;
	out->expected = fl_frame_bit(FL_FRAME_RECEIVED) | fl_frame_bit(FL_FRAME_RECEIVED_END);
	out->due_page = 0;
	out->due_ended = false;
	(void)fl_pageset_del(out->answered, 0, pages);
	(void)fl_pageset_del(out->received, 0, pages);
	(void)fl_pageset_del(out->left, 0, pages);
}

static void copy_set(struct fl_pageset *to, const struct fl_pageset *from)
{
	uint64_t page = 0, run;

	while ((run = fl_pageset_run(from, &page))) {
		(void)fl_pageset_add(to, page, run);
		page += run;
	}
}

/* What is there has arrived for good: it is due no more, in this recovery and all that follow. */
static void settle(struct fl_outgoing *out)
{
	uint64_t page = 0, run;

	while ((run = fl_pageset_run(out->received, &page))) {
		(void)fl_pageset_del(out->due, page, run);
		page += run;
	}
	copy_set(out->left, out->due);
	fl_figure(&out->figures.due_left, fl_pageset_count(out->due));
	out->expected = fl_frame_bit(FL_FRAME_REQUEST);
	out->serving = true;
}

static int meet_again(struct fl_outgoing *out)
{
	struct fl_meet how = {.tls = out->options.tls,
			      .role = FL_ROLE_OUTGOING,
			      .recover = true,
			      .features = fl_migrate_features(out->options.flags) |
					  fl_migrate_way_features(out->options.way_kind),
			      .timeout_ms = out->options.timeout_ms,
			      .cancel_fd = out->wake_fd};

	/* Not touched by others as long as recovering is set. */
	how.connect = out->recover_address;
	how.listen_fd = out->recover_fd;
	memcpy(how.session, out->session, sizeof(how.session));
	return fl_outgoing_meet(out, &how);
}

int fl_outgoing_rejoin(struct fl_outgoing *out)
{
	int ret = await_call(out);

	if (ret)
		return ret;
	begin_again(out);
	ret = meet_again(out);
	if (!ret)
		ret = fl_outgoing_await(out, FL_FRAME_RECEIVED_END);
	if (ret)
		return ret;
	settle(out);
	return fl_outgoing_go(out);
}
