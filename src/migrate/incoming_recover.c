/* SPDX-License-Identifier: MIT */

/*
 * The connection is lost. Nothing of the guest's is touched: it runs on, what is clean is still mapped,
 * and who waits for a page waits. From READY on one thread listens for the other side to come back, also
 * while this side sees nothing wrong: that it comes proves that the connection is no more. Another one
 * goes to the other side when that is asked for. Whoever has met first ends the other.
 *
 * Then the pages that are there are told, GO is heard (again), and the due set. It must be what this side
 * lacks, neither more nor less: a page that only one of them counts would be lost, or be had twice.
 */

#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define STACK_BYTES (256u * 1024)
/* What may be unsent before more of a set is queued. */
#define TELL_BYTES (256u * 1024)

static void *meeting_main(void *arg)
{
	struct fl_incoming_meeting *meeting = arg;
	struct fl_incoming *in = meeting->in;
	struct fl_meet how = {
		.connect = meeting->address,
		.listen_fd = in->listen_fd,
		.tls = in->options.tls,
		.role = FL_ROLE_INCOMING,
		.recover = !meeting->refuses,
		.busy = meeting->refuses,
		.features = fl_migrate_features(in->options.flags) |
			    fl_migrate_way_features(in->options.ways),
		.timeout_ms = in->options.timeout_ms,
		.cancel_fd = meeting->cancel_fd,
	};
	struct fl_pair pair = {0};
	struct fl_error err = {0};
	int result;

	memcpy(how.session, in->session,
	       sizeof(how.session)); /* the same as long as there are meetings */
	result = fl_meet(&how, &pair, &in->options.log, &err);
	(void)pthread_mutex_lock(&in->lock);
	meeting->pair = pair;
	meeting->err = err;
	meeting->result = result;
	meeting->done = true;
	(void)pthread_mutex_unlock(&in->lock);
	fl_incoming_kick(in);
	return NULL;
}

static int start(struct fl_incoming *in, struct fl_incoming_meeting *meeting, char *address,
		 bool refuses)
{
	int err;

	*meeting = (struct fl_incoming_meeting){.in = in, .address = address, .refuses = refuses};
	meeting->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = meeting->cancel_fd < 0
		      ? -errno
		      : fl_thread_start(&meeting->thread, STACK_BYTES, meeting_main, meeting);
	if (err) {
		fl_fd_close(&meeting->cancel_fd);
		free(address);
		meeting->address = NULL;
		return err;
	}
	meeting->running = true;
	return 0;
}

void fl_incoming_meeting_stop(struct fl_incoming *in, struct fl_incoming_meeting *meeting)
{
	(void)in;
	if (!meeting->running)
		return;
	(void)eventfd_write(meeting->cancel_fd, 1);
	(void)pthread_join(meeting->thread, NULL);
	fl_stream_close(meeting->pair.main);
	fl_stream_close(meeting->pair.demand);
	fl_fd_close(&meeting->cancel_fd);
	free(meeting->address);
	*meeting = (struct fl_incoming_meeting){.cancel_fd = -1};
}

static void say_error(struct fl_incoming *in, const struct fl_error *err)
{
	(void)pthread_mutex_lock(&in->lock);
	in->error = *err;
	(void)pthread_mutex_unlock(&in->lock);
}

void fl_incoming_listen(struct fl_incoming *in)
{
	bool refuses = in->stage < FL_STAGE_READY;
	int err;

	if (in->deaf || in->stage >= FL_STAGE_DONE ||
	    (in->listener.running && in->listener.refuses == refuses))
		return;
	fl_incoming_meeting_stop(in, &in->listener);
	err = start(in, &in->listener, NULL, refuses);
	in->deaf = err < 0 && !refuses;
	if (err)
		fl_log(&in->options.log, FL_LOG_WARNING, "cannot %s: %s",
		       refuses ? "refuse other machines" : "wait for a recovery",
		       strerrordesc_np(-err));
}

static void tell_lost(struct fl_incoming *in)
{
	fl_incoming_phase(in, FL_MIGRATE_LOST);
	if (in->calls.ended)
		in->calls.ended(in->ctx, FL_MIGRATE_LOST);
}

void fl_incoming_lose(struct fl_incoming *in)
{
	struct fl_error why = in->broken;

	if (in->main.conn && why.code != -EREMOTEIO)
		fl_conn_send_error(in->main.conn, &why);
	fl_incoming_detach(in);
	fl_incoming_recall(in);
	in->broken = (struct fl_error){0};
	in->again = FL_AGAIN_NOTHING;
	in->source.ask = false;
	in->source.settle = true;
	in->complete_ns = 0;
	in->lost_ns = fl_clock_ns();
	in->tell.set = NULL;
	fl_incoming_listen(in);
	if (in->stage >= FL_STAGE_COMPLETE)
		return; /* nothing is missing but a goodbye */
	fl_log(&in->options.log, FL_LOG_WARNING, "migration lost: %s", why.text);
	say_error(in, &why);
	tell_lost(in);
}

/* What is there for good: never asked for again. */
static int note_received(struct fl_incoming *in)
{
	int err;

	fl_pageset_free(in->have);
	in->have = NULL;
	err = fl_pageset_new(&in->have, in->pages);
	for (uint64_t page = 0; !err && page < in->pages; page++) {
		enum fl_page_state state = fl_table_state(in->table, page);

		if (state == FL_PRESENT || state == FL_REMOVED ||
		    fl_table_owns(in->table, page, FL_CLAIM_ZERO))
			(void)fl_pageset_add(in->have, page, 1);
	}
	return err;
}

/* What must be due again, when it is known. */
static int note_lack(struct fl_incoming *in)
{
	uint64_t page = 0, run;
	int err;

	fl_pageset_free(in->lack);
	in->lack = NULL;
	if (!in->due_whole) {
		(void)fl_pageset_del(in->due, 0, in->pages);
		return 0;
	}
	err = fl_pageset_new(&in->lack, in->pages);
	for (; !err && (run = fl_pageset_run(in->due, &page)); page += run)
		for (uint64_t i = page; i < page + run; i++)
			if (!fl_pageset_has(in->have, i))
				(void)fl_pageset_add(in->lack, i, 1);
	if (err)
		return err;
	fl_pageset_free(in->due_again);
	in->due_again = NULL;
	return fl_pageset_new(&in->due_again, in->pages);
}

/* Goes on with new connections. */
static void take_over(struct fl_incoming *in, struct fl_pair *pair)
{
	int err;

	if (in->main.conn) {
		(void)fl_incoming_break(in, -ECONNRESET, "the other side came anew");
		fl_incoming_lose(in);
	}
	err = note_received(in);
	if (!err)
		err = note_lack(in);
	if (err) {
		fl_stream_close(pair->main);
		fl_stream_close(pair->demand);
	} else {
		err = fl_incoming_attach(in, pair);
	}
	if (err) {
		fl_log(&in->options.log, FL_LOG_WARNING, "cannot recover: %s",
		       strerrordesc_np(-err));
		fl_incoming_listen(in);
		tell_lost(in);
		return;
	}
	in->lost_ns = 0;
	in->again = FL_AGAIN_GO;
	in->tell = (struct fl_incoming_tell){
		.set = in->have,
		.type = FL_FRAME_RECEIVED,
		.end = {.type = FL_FRAME_RECEIVED_END,
			.offset = fl_pageset_count(in->have),
			.id = in->stage >= FL_STAGE_GONE},
	};
}

/* True when this meeting is over, with a pair when it has met. */
static bool take_meeting(struct fl_incoming *in, struct fl_incoming_meeting *meeting,
			 struct fl_pair *pair, int *result, struct fl_error *err)
{
	bool done;

	if (!meeting->running)
		return false;
	(void)pthread_mutex_lock(&in->lock);
	done = meeting->done;
	if (done) {
		*pair = meeting->pair;
		meeting->pair = (struct fl_pair){0};
		*result = meeting->result;
		*err = meeting->err;
	}
	(void)pthread_mutex_unlock(&in->lock);
	if (done)
		fl_incoming_meeting_stop(in, meeting);
	return done;
}

static void call_on(struct fl_incoming *in)
{
	char *address;
	int err;

	(void)pthread_mutex_lock(&in->lock);
	address = in->recover;
	in->recover = NULL;
	(void)pthread_mutex_unlock(&in->lock);
	if (!address)
		return;
	err = start(in, &in->caller, address, false);
	if (err) {
		fl_log(&in->options.log, FL_LOG_WARNING, "cannot connect for a recovery: %s",
		       strerrordesc_np(-err));
		(void)pthread_mutex_lock(&in->lock);
		in->recovering = false;
		(void)pthread_mutex_unlock(&in->lock);
	}
}

static void end_call(struct fl_incoming *in)
{
	(void)pthread_mutex_lock(&in->lock);
	free(in->recover);
	in->recover = NULL;
	in->recovering = false;
	(void)pthread_mutex_unlock(&in->lock);
}

void fl_incoming_recover_posted(struct fl_incoming *in)
{
	bool refused = in->listener.refuses;
	struct fl_pair pair = {0};
	struct fl_error err = {0};
	int result = 0;

	call_on(in);
	if (take_meeting(in, &in->caller, &pair, &result, &err)) {
		end_call(in);
		if (result < 0) {
			fl_log(&in->options.log, FL_LOG_WARNING, "cannot recover: %s", err.text);
			say_error(in, &err);
			tell_lost(in);
			return;
		}
		fl_incoming_meeting_stop(in, &in->listener);
		take_over(in, &pair);
	} else if (take_meeting(in, &in->listener, &pair, &result, &err)) {
		if (refused)
			return; /* another one is started when it is time for that */
		if (result < 0) {
			in->deaf = true;
			fl_log(&in->options.log, FL_LOG_WARNING,
			       "cannot wait for a recovery any more: %s", err.text);
			return;
		}
		fl_incoming_meeting_stop(in, &in->caller);
		end_call(in);
		take_over(in, &pair);
	}
}

void fl_incoming_tell(struct fl_incoming *in)
{
	struct fl_incoming_tell *tell = &in->tell;
	uint8_t payload[FL_BITS_BYTES];
	struct fl_frame frame;

	if (fl_incoming_way_reads(in))
		return; /* the round is not in place yet */
	while (tell->set && in->main.conn && !in->broken.code &&
	       fl_conn_unsent(in->main.conn) < TELL_BYTES) {
		frame = (struct fl_frame){.type = tell->type};
		if (fl_bits_next(tell->set, &tell->page, &frame, payload)) {
			fl_incoming_send_with(in, &frame, payload);
			continue;
		}
		fl_incoming_send(in, &tell->end);
		tell->set = NULL;
	}
}

static int check_again(struct fl_incoming *in)
{
	struct fl_place place = {0};

	for (uint64_t page = 0; page < in->pages; page++) {
		bool due = fl_pageset_has(in->due_again, page);

		if (due == fl_pageset_has(in->lack, page))
			continue;
		(void)fl_layout_by_page(in->shape, page, &place);
		return fl_incoming_break(
			in, -EBADMSG, "DUE_END: the page at offset 0x%" PRIx64 " is %s",
			place.offset, due ? "due, but is here" : "missing, but not due");
	}
	return 0;
}

int fl_incoming_recovered(struct fl_incoming *in)
{
	struct fl_frame running = {.type = FL_FRAME_RUNNING};
	int err = in->lack ? check_again(in) : 0;

	if (err)
		return err;
	fl_pageset_free(in->lack);
	fl_pageset_free(in->due_again);
	in->lack = in->due_again = NULL;
	in->again = FL_AGAIN_NOTHING;
	in->source.settle = true;
	in->source.ask = true;
	in->source.progress_ns = fl_clock_ns(); /* it begins anew */
	if (in->has_run)                        /* perhaps that was lost, too */
		fl_incoming_send(in, &running);
	atomic_fetch_add_explicit(&in->count.recoveries, 1, memory_order_relaxed);
	say_error(in, &(struct fl_error){0});
	if (in->phase == FL_MIGRATE_LOST)
		fl_incoming_phase(in, FL_MIGRATE_FOLLOWING);
	fl_log(&in->options.log, FL_LOG_INFO, "migration recovered");
	return in->broken.code;
}
