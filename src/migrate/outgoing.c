/* SPDX-License-Identifier: MIT */

/*
 * A machine that leaves.
 *
 * One thread runs a migration from its start to its end, and everything that is not said otherwise in
 * struct fl_outgoing is its own. A state is a function that returns when the next one begins:
 *
 *	meeting -> rounds -> switching -> following -> done
 *	                                      |   ^
 *	                                      v   |
 *	                                      lost
 *
 * All of them wait in fl_outgoing_turn() (outgoing_turn.c), on both connections, on the eventfd and on
 * the time, and take an error from it as from everywhere: as the reason why these connections end.
 * Whether the migration ends with them is decided here alone, by whether GO is out (outgoing_switch.c).
 * If it is not, the machine goes on here, at once, before the peer is told why. If it is, the thread
 * waits for a recovery (outgoing_recover.c), and what these connections knew is forgotten.
 *
 * Other threads leave their wishes in flags, or under the lock, and write to the eventfd.
 */

#include "migrate/outgoing.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define STACK_BYTES (1024u * 1024) /* the VMM is called back on it */
/* RUNNING comes sooner within a building: see outgoing_due.c. */
#define GIVE_WAY_NS (2 * FL_NS_PER_MS)

void fl_outgoing_options_init(struct fl_outgoing_options *options)
{
	*options = (struct fl_outgoing_options){.size = sizeof(*options),
						.mode = FL_MIGRATE_HYBRID,
						.max_downtime_ms = 300,
						.max_rounds = 30,
						.timeout_ms = 10000};
}

/* --- the states --- */

/* The regions, then the VMM's own configuration. */
static int send_machine(struct fl_outgoing *out)
{
	size_t count = fl_layout_count(out->layout), regions = count * FL_WIRE_REGION_BYTES;
	uint8_t *bytes = malloc(regions + out->options.config_len);
	int ret;

	if (!bytes)
		return fl_error_set(&out->why, -ENOMEM, "no memory for the machine's description");
	fl_regions_encode(bytes, fl_layout_region(out->layout, 0), count);
	if (out->options.config_len)
		memcpy(bytes + regions, out->config, out->options.config_len);
	ret = fl_outgoing_send_blob(out, FL_FRAME_MACHINE, (uint32_t)count, bytes,
				    regions + out->options.config_len);
	free(bytes);
	return ret;
}

/* The memory is to be read by it from here on. */
static int name_way(struct fl_outgoing *out)
{
	struct fl_frame frame = {.type = FL_FRAME_WAY, .id = out->options.way_kind};
	int ret;

	if (!(out->features & fl_migrate_way_features(out->options.way_kind))) {
		fl_log(&out->options.log, FL_LOG_WARNING,
		       "the other side reads by the link alone: the other way is not used");
		return 0;
	}
	ret = fl_conn_send(out->main.conn, &frame, out->way, (uint32_t)out->options.way_len);
	if (ret)
		return fl_conn_reason(out->main.conn, "main", ret, &out->why);
	out->by_way = true;
	return 0;
}

static int meeting(struct fl_outgoing *out)
{
	struct fl_meet how = {.connect = out->address,
			      .listen_fd = -1,
			      .tls = out->options.tls,
			      .role = FL_ROLE_OUTGOING,
			      .features = fl_migrate_features(out->options.flags) |
					  fl_migrate_way_features(out->options.way_kind),
			      .timeout_ms = out->options.timeout_ms,
			      .cancel_fd = out->wake_fd};
	int ret = fl_outgoing_meet(out, &how);

	if (!ret)
		ret = send_machine(out);
	if (ret)
		return ret;
	out->expected = fl_frame_bit(FL_FRAME_PREPARED);
	ret = fl_outgoing_await(out, FL_FRAME_PREPARED);
	return ret || !out->options.way_kind ? ret : name_way(out);
}

static int leave(struct fl_outgoing *out)
{
	int ret = meeting(out);

	if (ret)
		return ret;
	fl_outgoing_phase(out, FL_MIGRATE_ROUNDS);
	ret = fl_outgoing_rounds(out);
	if (ret)
		return ret;
	fl_outgoing_phase(out, FL_MIGRATE_SWITCHING);
	return fl_outgoing_switch(out);
}

/* The machine is over there, and all of it. The peer knows: whether it hears BYE changes nothing. */
static void done(struct fl_outgoing *out)
{
	struct fl_frame bye = {.type = FL_FRAME_BYE};

	fl_outgoing_await_due(out); /* a peer that has all does not wait until it is known */
	out->why = (struct fl_error){0};
	if (out->by_way) /* what came by it was not counted */
		fl_figure(&out->figures.due_left, 0);
	(void)fl_conn_send(out->main.conn, &bye, NULL, 0);
	fl_outgoing_part(out);
}

static void end(struct fl_outgoing *out, enum fl_migrate_phase phase)
{
	fl_figure(&out->figures.ended_ns, fl_clock_ns());
	pthread_mutex_lock(&out->lock);
	out->error = phase == FL_MIGRATE_FAILED ? out->why : (struct fl_error){0};
	pthread_mutex_unlock(&out->lock);
	fl_outgoing_phase(out, phase);
	fl_log(&out->options.log, phase == FL_MIGRATE_FAILED ? FL_LOG_ERROR : FL_LOG_INFO,
	       "migration %s%s%s", fl_migrate_phase_name(phase),
	       phase == FL_MIGRATE_FAILED ? ": " : "",
	       phase == FL_MIGRATE_FAILED ? out->why.text : "");
	if (out->calls.ended)
		out->calls.ended(out->ctx, phase);
}

/* Before GO. The machine comes first: the peer can wait. */
static void go_on(struct fl_outgoing *out)
{
	bool canceled = out->why.code == -ECANCELED &&
			(atomic_load(&out->cancel) || atomic_load(&out->quit));

	if (out->tracking)
		(void)out->calls.track(out->ctx, false);
	if (out->stopped)
		out->calls.go_on(out->ctx);
	fl_outgoing_part(out);
	end(out, canceled ? FL_MIGRATE_CANCELED : FL_MIGRATE_FAILED);
}

static void follow_phase(struct fl_outgoing *out)
{
	pthread_mutex_lock(&out->lock);
	out->error = (struct fl_error){0};
	fl_outgoing_end_recovery(out, FL_MIGRATE_FOLLOWING);
	pthread_mutex_unlock(&out->lock);
	fl_outgoing_phase(out, FL_MIGRATE_FOLLOWING); /* says so */
}

/* After GO, as often as it takes. */
static void after_go(struct fl_outgoing *out, int ret)
{
	for (;;) {
		if (!ret) {
			follow_phase(out);
			ret = fl_outgoing_follow(out);
		}
		if (!ret) {
			done(out);
			end(out, FL_MIGRATE_DONE);
			return;
		}
		fl_outgoing_await_due(out);
		if (atomic_load(&out->quit))
			break;
		fl_outgoing_lost(out);
		ret = fl_outgoing_rejoin(out);
		if (!ret)
			fl_count(&out->figures.recoveries, 1);
	}
	fl_outgoing_part(out);
}

static void *run(void *arg)
{
	struct fl_outgoing *out = arg;
	int ret = leave(out);

	if (atomic_load(&out->committed))
		after_go(out, ret);
	else
		go_on(out);
	return NULL;
}

/* --- what the VMM calls --- */

static int check_way(const struct fl_outgoing_options *options, struct fl_error *err)
{
	enum fl_migrate_way kind = options->way_kind;

	if (kind != FL_MIGRATE_BY_LINK && kind != FL_MIGRATE_BY_FABRIC &&
	    kind != FL_MIGRATE_BY_WORKER)
		return fl_error_set(err, -EINVAL, "way_kind %d", (int)kind);
	if (!kind != !options->way_len || options->way_len > FL_MIGRATE_WAY_MAX ||
	    (kind && !options->way))
		return fl_error_set(err, -EINVAL, "way of %zu bytes, at most %u", options->way_len,
				    FL_MIGRATE_WAY_MAX);
	return 0;
}

static int check_options(const struct fl_outgoing_options *options, struct fl_error *err)
{
	if ((unsigned int)options->mode > FL_MIGRATE_POSTCOPY)
		return fl_error_set(err, -EINVAL, "mode %d", (int)options->mode);
	if (options->flags & ~(FL_MIGRATE_ZSTD | FL_MIGRATE_LZ4))
		return fl_error_set(err, -EINVAL, "flags 0x%x", options->flags);
	if (!options->max_rounds)
		return fl_error_set(err, -EINVAL, "max_rounds is 0");
	if (!options->timeout_ms)
		return fl_error_set(err, -EINVAL, "timeout_ms is 0");
	if (options->config_len > FL_OUTGOING_CONFIG_MAX ||
	    (options->config_len && !options->config))
		return fl_error_set(err, -EINVAL, "config of %zu bytes, at most %u",
				    options->config_len, FL_OUTGOING_CONFIG_MAX);
	return check_way(options, err);
}

static int check_calls(const struct fl_outgoing_calls *calls, struct fl_error *err)
{
	if (!calls->track || !calls->collect || !calls->stop || !calls->save || !calls->go_on)
		return fl_error_set(err, -EINVAL,
				    "track, collect, stop, save and go_on have to be there");
	return 0;
}

static int check_layout(const struct fl_layout *layout, struct fl_error *err)
{
	for (size_t i = 0; i < fl_layout_count(layout); i++) {
		const struct fl_region *region = fl_layout_region(layout, i);

		if (region->page_size > FL_WIRE_PAGE_MAX)
			return fl_error_set(err, -EOPNOTSUPP, "region %zu: pages of %llu bytes", i,
					    (unsigned long long)region->page_size);
		if (region->addr == FL_NOWHERE)
			return fl_error_set(err, -EOPNOTSUPP, "region %zu has no address", i);
	}
	return 0;
}

/* The caller's structs, of whatever version, as ours. */
static int take(struct fl_outgoing *out, const struct fl_outgoing_calls *calls,
		const struct fl_outgoing_options *options, struct fl_error *err)
{
	size_t size = sizeof(out->calls);
	int ret;

	memcpy(&out->calls, calls, calls->size < size ? calls->size : size);
	fl_outgoing_options_init(&out->options);
	size = sizeof(out->options);
	if (options)
		memcpy(&out->options, options, options->size < size ? options->size : size);
	ret = check_calls(&out->calls, err);
	return ret ? ret : check_options(&out->options, err);
}

static int copy_bytes(void **copy, const void **from, size_t len)
{
	if (!len)
		return 0;
	*copy = malloc(len);
	if (!*copy)
		return -ENOMEM;
	memcpy(*copy, *from, len);
	*from = *copy;
	return 0;
}

static int copy_bytes_all(struct fl_outgoing *out)
{
	struct fl_outgoing_options *options = &out->options;
	int ret = copy_bytes(&out->config, &options->config, options->config_len);

	return ret ? ret : copy_bytes(&out->way, &options->way, options->way_len);
}

/* The regions as they are now, to be asked without a look at who else changes the caller's. */
static int copy_layout(struct fl_outgoing *out, const struct fl_layout *layout,
		       struct fl_error *err)
{
	int ret = check_layout(layout, err);

	if (!ret)
		ret = fl_layout_new(&out->layout, fl_layout_region(layout, 0),
				    fl_layout_count(layout), err);
	if (!ret)
		out->pages = fl_layout_pages(out->layout);
	return ret;
}

static int make_sets(struct fl_outgoing *out)
{
	struct fl_pageset **sets[] = {&out->left,     &out->zeros, &out->due,  &out->answered,
				      &out->received, &out->torn,  &out->fresh};

	for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++)
		if (fl_pageset_new(sets[i], out->pages))
			return -ENOMEM;
	return fl_pageset_add(out->left, 0, out->pages);
}

static void init(struct fl_outgoing *out, void *ctx)
{
	out->ctx = ctx;
	out->wake_fd = out->recover_fd = -1;
	out->give_way_ns = GIVE_WAY_NS;
	out->main = (struct fl_side){.name = "main", .out = out, .pages = &out->figures.background};
	out->demand = (struct fl_side){.name = "demand", .out = out, .pages = &out->figures.demand};
	(void)pthread_mutex_init(&out->lock, NULL);
}

static void destroy(struct fl_outgoing *out)
{
	fl_pageset_free(out->left);
	fl_pageset_free(out->zeros);
	fl_pageset_free(out->due);
	fl_pageset_free(out->answered);
	fl_pageset_free(out->received);
	fl_pageset_free(out->torn);
	fl_pageset_free(out->fresh);
	fl_layout_free(out->layout);
	fl_fd_close(&out->wake_fd);
	(void)pthread_mutex_destroy(&out->lock);
	free(out->recover_address);
	free(out->address);
	free(out->config);
	free(out->way);
	free(out->state);
	free(out);
}

int fl_outgoing_new(struct fl_outgoing **out, const struct fl_layout *layout,
		    const struct fl_outgoing_calls *calls, void *ctx,
		    const struct fl_outgoing_options *options, struct fl_error *err)
{
	struct fl_outgoing *made = calloc(1, sizeof(*made));
	int ret;

	if (!made)
		return fl_error_set(err, -ENOMEM, "no memory for a migration");
	init(made, ctx);
	ret = take(made, calls, options, err);
	if (!ret)
		ret = copy_layout(made, layout, err);
	if (!ret && (copy_bytes_all(made) || make_sets(made)))
		ret = fl_error_set(err, -ENOMEM, "no memory for a migration");
	if (!ret) {
		made->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (made->wake_fd < 0)
			ret = fl_error_set(err, -errno, "eventfd: %s", strerrordesc_np(errno));
	}
	if (ret) {
		destroy(made);
		return ret;
	}
	*out = made;
	return 0;
}

int fl_outgoing_start(struct fl_outgoing *out, const char *address)
{
	int ret;

	if (atomic_exchange(&out->started, true))
		return -EALREADY;
	out->address = strdup(address);
	fl_figure(&out->figures.began_ns, fl_clock_ns());
	ret = out->address ? fl_thread_start(&out->thread, STACK_BYTES, run, out) : -ENOMEM;
	if (ret) {
		free(out->address);
		out->address = NULL;
		fl_figure(&out->figures.began_ns, 0);
		atomic_store(&out->started, false);
	}
	return ret;
}

/* Under the lock, so that no wake is on its way any more when a recovery is asked for. */
int fl_outgoing_cancel(struct fl_outgoing *out)
{
	int phase, ret = 0;

	pthread_mutex_lock(&out->lock);
	phase = atomic_load(&out->phase);
	if (phase == FL_MIGRATE_DONE || phase == FL_MIGRATE_CANCELED || phase == FL_MIGRATE_FAILED)
		ret = -ESRCH;
	else if (!atomic_load(&out->committed))
		atomic_store(&out->cancel, true);
	else if (out->recovering)
		atomic_store(&out->recover_off, true);
	else
		ret = -EINPROGRESS;
	if (!ret)
		(void)eventfd_write(out->wake_fd, 1);
	pthread_mutex_unlock(&out->lock);
	return ret;
}

void fl_outgoing_error(const struct fl_outgoing *out, struct fl_error *err)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&out->lock;

	pthread_mutex_lock(lock);
	*err = out->error;
	pthread_mutex_unlock(lock);
}

void fl_outgoing_free(struct fl_outgoing *out)
{
	if (!out)
		return;
	if (atomic_load(&out->started)) {
		atomic_store(&out->quit, true);
		(void)eventfd_write(out->wake_fd, 1);
		(void)pthread_join(out->thread, NULL);
	}
	destroy(out);
}
