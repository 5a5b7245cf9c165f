/* SPDX-License-Identifier: MIT */
#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* Of the VMM's prepare() and ended(); address space only. */
#define STACK_BYTES (2u << 20)
#define WINDOW_MIN  (128u * 1024)
/* The queue is reaped by the pager, unless that has had faults to serve so many times in a row. */
#define REAP_RUNS 16u

/* --- what all files use --- */

int fl_incoming_break(struct fl_incoming *in, int code, const char *format, ...)
{
	va_list args;

	if (in->broken.code)
		return in->broken.code;
	in->broken.code = code;
	va_start(args, format);
	(void)vsnprintf(in->broken.text, sizeof(in->broken.text), format, args);
	va_end(args);
	return code;
}

void fl_incoming_phase(struct fl_incoming *in, enum fl_migrate_phase phase)
{
	atomic_store(&in->phase, phase);
}

void fl_incoming_kick(struct fl_incoming *in)
{
	(void)eventfd_write(in->event_fd, 1);
}

void fl_incoming_send_with(struct fl_incoming *in, const struct fl_frame *frame,
			   const void *payload)
{
	int err;

	if (!in->main.conn || in->broken.code)
		return;
	err = fl_conn_send(in->main.conn, frame, payload, frame->len);
	if (err < 0)
		(void)fl_conn_reason(in->main.conn, "main", err, &in->broken);
}

void fl_incoming_send(struct fl_incoming *in, const struct fl_frame *frame)
{
	fl_incoming_send_with(in, frame, NULL);
}

/* --- the engine --- */

static bool meet(struct fl_incoming *in)
{
	struct fl_meet how = {
		.listen_fd = in->listen_fd,
		.tls = in->options.tls,
		.role = FL_ROLE_INCOMING,
		.features = fl_migrate_features(in->options.flags) |
			    fl_migrate_way_features(in->options.ways),
		.timeout_ms = in->options.timeout_ms,
		.cancel_fd = in->cancel_fd,
	};
	struct fl_pair pair = {0};
	struct fl_error err = {0};
	int code = fl_meet(&how, &pair, &in->options.log, &err);

	if (!code) {
		fl_incoming_set(&in->count.met_ns, fl_clock_ns());
		memcpy(in->session, pair.session, sizeof(in->session));
		code = fl_incoming_attach(in, &pair);
	}
	if (code)
		(void)fl_incoming_break(in, code, "%s",
					err.code ? err.text : strerrordesc_np(-code));
	return !code;
}

static void set_ended(struct fl_incoming *in, enum fl_migrate_phase phase)
{
	fl_incoming_set(&in->count.ended_ns, fl_clock_ns());
	fl_incoming_phase(in, phase);
	if (in->calls.ended)
		in->calls.ended(in->ctx, phase);
}

/* The machine does not come to run here, or not any more. */
static void fail(struct fl_incoming *in)
{
	struct fl_error why = in->broken;

	fl_incoming_part(in);
	if (in->stage < FL_STAGE_GONE)
		fl_incoming_guest_stop(in);
	fl_log(&in->options.log, FL_LOG_ERROR, "migration failed: %s", why.text);
	(void)pthread_mutex_lock(&in->lock);
	in->error = why;
	(void)pthread_mutex_unlock(&in->lock);
	in->over = true;
	set_ended(in, FL_MIGRATE_FAILED);
}

/* Goodbye was said, or there is nobody to say it to. */
static void done(struct fl_incoming *in)
{
	if (in->stage == FL_STAGE_DONE) {
		fl_incoming_meeting_stop(in, &in->listener);
		fl_incoming_detach(in);
	}
	if (in->phase == FL_MIGRATE_DONE)
		return;
	fl_log(&in->options.log, FL_LOG_INFO, "migration done");
	set_ended(in, FL_MIGRATE_DONE);
}

/* All is here, and the other side has not said that it heard so: until when it may come back to ask;
 * UINT64_MAX when that is not the case. */
static uint64_t linger_ns(const struct fl_incoming *in)
{
	if (in->stage != FL_STAGE_COMPLETE || !in->has_run || in->main.conn ||
	    in->phase == FL_MIGRATE_DONE)
		return UINT64_MAX;
	return in->deaf ? 0 : in->lost_ns + in->options.timeout_ms * FL_NS_PER_MS;
}

static bool is_done(const struct fl_incoming *in)
{
	return in->stage == FL_STAGE_DONE || fl_clock_ns() >= linger_ns(in);
}

/* What went wrong is acted upon: see the table of stages in incoming.h. */
static void react(struct fl_incoming *in)
{
	if (in->broken.code && in->stage == FL_STAGE_READY && !in->fatal && !in->called_off)
		fl_incoming_hear_out(in);
	if (in->broken.code) {
		if (in->fatal || in->stage < FL_STAGE_READY ||
		    (in->stage == FL_STAGE_READY && in->called_off))
			fail(in);
		else if (in->stage < FL_STAGE_DONE)
			fl_incoming_lose(in);
		else
			in->broken = (struct fl_error){0};
	}
	if (!in->over && is_done(in))
		done(in);
}

static void check_time(struct fl_incoming *in)
{
	uint64_t now_ns = fl_clock_ns(), timeout_ns = in->options.timeout_ms * FL_NS_PER_MS;
	struct fl_error err = {0};

	fl_incoming_way_check(in, now_ns);
	if (!in->main.conn || in->broken.code)
		return;
	if (fl_alive_check(&in->alive, in->main.conn, in->demand.conn, now_ns, &err) < 0)
		(void)fl_incoming_break(in, err.code, "%s", err.text);
	else if (now_ns >= fl_incoming_answer_due(in))
		(void)fl_incoming_break(
			in, -ETIMEDOUT, "no answer for %u ms, although offset 0x%llx is asked for",
			in->options.timeout_ms, (unsigned long long)fl_incoming_asked(in));
	else if (in->complete_ns && now_ns >= in->complete_ns + timeout_ns)
		(void)fl_incoming_break(in, -ETIMEDOUT, "no BYE for %u ms", in->options.timeout_ms);
}

static void serve(struct fl_incoming *in, struct fl_pager *pager)
{
	int result = fl_pager_run(pager);

	if (result < 0) {
		in->fatal = true;
		in->broken = (struct fl_error){0};
		(void)fl_incoming_break(in, result, "the pager serves no more: %s",
					fl_pager_error(pager));
		return;
	}
	in->more = in->more || result > 0;
	in->unreaped = in->source.reaped ? 0 : in->unreaped + 1;
	in->source.reaped = false;
	if (in->unreaped >= REAP_RUNS)
		(void)fl_queue_reap(&in->source.queue);
}

/* Is run() still under way, although it is to end, and nobody is there to bring what it may wait for? */
static bool is_forsaken(struct fl_incoming *in)
{
	return atomic_load(&in->stopping) && in->stage >= FL_STAGE_GONE && !in->main.conn &&
	       fl_incoming_guest_busy(in);
}

static void step(struct fl_incoming *in)
{
	struct fl_pager *pager = fl_incoming_pager(in);
	eventfd_t posted;

	in->more = false;
	if (eventfd_read(in->event_fd, &posted) == 0) {
		fl_incoming_guest_posted(in);
		fl_incoming_recover_posted(in);
	}
	in->source.forsaken = is_forsaken(in);
	if (pager) {
		serve(in, pager);
	} else {
		in->more = fl_incoming_take(in);
		fl_incoming_way_reap(in);
	}
	if (in->stage == FL_STAGE_MACHINE && !in->broken.code && in->machine.begun &&
	    in->machine.have == in->machine.len)
		fl_incoming_prepare(in);
	if (!in->fatal && fl_incoming_adopt(in))
		in->more = true;
	fl_incoming_finish(in);
	fl_incoming_tell(in);
	fl_incoming_flush(in);
	if (in->stage >= FL_STAGE_READY)
		fl_incoming_listen(in);
	check_time(in);
	fl_incoming_flush(in); /* PING */
	react(in);
}

static uint64_t sooner(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

/* In ms for poll(2), rounded up: what is due is due when it returns. */
static int wait_ms(const struct fl_incoming *in)
{
	uint64_t due_ns = sooner(linger_ns(in), fl_incoming_way_due(in));
	uint64_t now_ns = fl_clock_ns();

	if (in->more || in->broken.code || in->source.settle || in->source.ask)
		return 0;
	if (in->main.conn) {
		if (fl_conn_pending(in->main.conn) || fl_conn_pending(in->demand.conn))
			return 0;
		due_ns = sooner(due_ns, fl_alive_due(&in->alive, in->main.conn));
		due_ns = sooner(due_ns, fl_incoming_answer_due(in));
		if (in->complete_ns)
			due_ns = sooner(due_ns,
					in->complete_ns + in->options.timeout_ms * FL_NS_PER_MS);
	}
	if (due_ns == UINT64_MAX)
		return -1;
	if (due_ns <= now_ns)
		return 0;
	return (int)sooner((due_ns - now_ns) / FL_NS_PER_MS + 1, 60000);
}

static void wait(struct fl_incoming *in)
{
	const struct fl_pager *pager = fl_incoming_pager(in);
	struct pollfd polls[] = {
		{.fd = pager ? fl_pager_fd(pager) : in->epoll_fd, .events = POLLIN},
		{.fd = in->event_fd, .events = POLLIN},
	};
	int timeout_ms = wait_ms(in);

	if (timeout_ms)
		(void)poll(polls, 2, timeout_ms);
}

/* Once it is ours, a call of the VMM's that waits for a page is not left alone. */
static bool must_end(struct fl_incoming *in)
{
	return in->over || (atomic_load(&in->stopping) &&
			    !(in->stage >= FL_STAGE_GONE && fl_incoming_guest_busy(in)));
}

/* fl_incoming_free() was called before it was over. */
static void leave(struct fl_incoming *in)
{
	if (in->stage < FL_STAGE_READY) {
		(void)fl_incoming_break(in, -ECANCELED, "the incoming side was ended");
		if (in->main.conn)
			fl_conn_send_error(in->main.conn, &in->broken);
	}
	fl_incoming_detach(in);
	fl_incoming_guest_stop(in);
}

static void *engine_main(void *arg)
{
	struct fl_incoming *in = arg;

	if (!meet(in)) {
		if (!atomic_load(&in->stopping))
			fail(in);
		return NULL;
	}
	fl_incoming_listen(in);
	while (!must_end(in)) {
		wait(in);
		step(in);
	}
	if (!in->over)
		leave(in);
	fl_incoming_meeting_stop(in, &in->listener);
	fl_incoming_meeting_stop(in, &in->caller);
	return NULL;
}

/* --- the VMM's side --- */

void fl_incoming_options_init(struct fl_incoming_options *options)
{
	*options = (struct fl_incoming_options){
		.size = sizeof(*options),
		.timeout_ms = 10000,
		.window_bytes = FL_WINDOW_DEFAULT,
	};
}

static int check(int listen_fd, const struct fl_incoming_calls *calls,
		 const struct fl_incoming_options *options, struct fl_error *err)
{
	socklen_t len = sizeof(int);
	int listens = 0;

	if (options->size != sizeof(*options) || calls->size != sizeof(*calls))
		return fl_error_set(
			err, -EINVAL,
			"options of %zu and calls of %zu bytes where %zu and %zu are known",
			options->size, calls->size, sizeof(*options), sizeof(*calls));
	if (!calls->prepare || !calls->load || !calls->run)
		return fl_error_set(err, -EINVAL, "prepare, load and run must be there");
	if (options->flags & ~(FL_MIGRATE_ZSTD | FL_MIGRATE_LZ4))
		return fl_error_set(err, -EINVAL, "flags 0x%x are not known", options->flags);
	if (options->ways & ~(uint32_t)(FL_MIGRATE_BY_FABRIC | FL_MIGRATE_BY_WORKER) ||
	    (options->ways && !calls->way))
		return fl_error_set(err, -EINVAL, "ways 0x%x%s", options->ways,
				    calls->way ? "" : " without way()");
	if (!options->timeout_ms || options->timeout_ms > 24u * 3600 * 1000)
		return fl_error_set(err, -EINVAL, "a timeout of %u ms: 1 to 86400000 are possible",
				    options->timeout_ms);
	if (options->window_bytes < WINDOW_MIN || options->window_bytes > FL_WINDOW_MAX)
		return fl_error_set(err, -EINVAL, "a window of %u bytes: %u to %u are possible",
				    options->window_bytes, WINDOW_MIN, FL_WINDOW_MAX);
	if (getsockopt(listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0)
		return fl_error_set(err, -errno, "the listening socket: %s",
				    strerrordesc_np(errno));
	return listens ? 0 : fl_error_set(err, -EINVAL, "the socket does not listen");
}

static int open_all(struct fl_incoming *in, struct fl_error *err)
{
	in->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	in->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	in->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (in->event_fd < 0 || in->cancel_fd < 0 || in->epoll_fd < 0)
		return fl_error_set(err, -errno, "no descriptors for a migration: %s",
				    strerrordesc_np(errno));
	return 0;
}

static void destroy(struct fl_incoming *in)
{
	fl_pager_close(fl_incoming_pager(in));
	fl_incoming_way_close(in);
	fl_incoming_memory_free(in);
	fl_fd_close(&in->event_fd);
	fl_fd_close(&in->cancel_fd);
	fl_fd_close(&in->epoll_fd);
	(void)pthread_mutex_destroy(&in->lock);
	(void)pthread_cond_destroy(&in->guest.word);
	free(in->recover);
	free(in);
}

int fl_incoming_new(struct fl_incoming **in, int listen_fd, const struct fl_incoming_calls *calls,
		    void *ctx, const struct fl_incoming_options *options, struct fl_error *err)
{
	struct fl_incoming_options defaults;
	struct fl_incoming *made;
	int code;

	fl_incoming_options_init(&defaults);
	options = options ? options : &defaults;
	code = check(listen_fd, calls, options, err);
	if (code)
		return code;
	made = calloc(1, sizeof(*made));
	if (!made)
		return fl_error_set(err, -ENOMEM, "no memory for a migration");
	made->calls = *calls;
	made->ctx = ctx;
	made->options = *options;
	made->listen_fd = listen_fd;
	(void)pthread_sigmask(SIG_BLOCK, NULL, &made->signals);
	made->event_fd = made->cancel_fd = made->epoll_fd = -1;
	made->source.source.ops = &fl_incoming_source_ops;
	(void)pthread_mutex_init(&made->lock, NULL);
	(void)pthread_cond_init(&made->guest.word, NULL);
	code = open_all(made, err);
	if (!code) {
		code = fl_thread_start(&made->thread, STACK_BYTES, engine_main, made);
		if (code)
			(void)fl_error_set(err, code, "no thread for a migration: %s",
					   strerrordesc_np(-code));
	}
	if (code) {
		destroy(made);
		return code;
	}
	*in = made;
	return 0;
}

int fl_incoming_recover(struct fl_incoming *in, const char *address)
{
	char *copy = strdup(address);
	int err = 0;

	if (!copy)
		return -ENOMEM;
	(void)pthread_mutex_lock(&in->lock);
	if (in->phase != FL_MIGRATE_LOST)
		err = -EINVAL;
	else if (in->recovering)
		err = -EALREADY;
	if (!err) {
		in->recovering = true;
		in->recover = copy;
		copy = NULL;
	}
	(void)pthread_mutex_unlock(&in->lock);
	free(copy);
	if (!err)
		fl_incoming_kick(in);
	return err;
}

void fl_incoming_free(struct fl_incoming *in)
{
	if (!in)
		return;
	atomic_store(&in->stopping, true);
	(void)eventfd_write(in->cancel_fd, 1);
	fl_incoming_kick(in);
	(void)pthread_join(in->thread, NULL);
	fl_incoming_guest_stop(in);
	destroy(in);
}
