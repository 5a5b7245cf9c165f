/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

#define STACK_BYTES (256u * 1024)
#define WINDOW_MIN  (128u * 1024)

void fl_pager_options_init(struct fl_pager_options *options)
{
	*options = (struct fl_pager_options){
		.size = sizeof(*options),
		.around_bytes = FL_AROUND_DEFAULT,
		.window_bytes = FL_WINDOW_DEFAULT,
		.pagemap_fd = -1,
	};
}

void fl_pager_fail(struct fl_pager *pager, int code, const char *format, ...)
{
	va_list args;

	if (pager->failed)
		return;
	pager->failed = code;
	va_start(args, format);
	(void)vsnprintf(pager->error, sizeof(pager->error), format, args);
	va_end(args);
	/* For people it is told once, by whoever asks for it. */
	fl_log(&pager->options.log, FL_LOG_DEBUG, "the pager fails: %s: %s", pager->error,
	       strerror(-code));
}

const char *fl_pager_error(const struct fl_pager *pager)
{
	return pager->error;
}

void fl_pager_wake(struct fl_pager *pager, uint64_t addr, uint64_t len_bytes)
{
	/* A range that is gone has nobody waiting. */
	(void)fl_trap_wake(pager->parts.trap, addr, len_bytes);
}

static int watch(struct fl_pager *pager, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	if (fd < 0)
		return 0;
	return epoll_ctl(pager->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void fl_pager_wake_missed(struct fl_pager *pager)
{
	if (!pager->missed_to)
		return;
	fl_pager_wake(pager, pager->missed_from, pager->missed_to - pager->missed_from);
	pager->missed_from = UINT64_MAX;
	pager->missed_to = 0;
}

static int open_descriptors(struct fl_pager *pager)
{
	int err;

	pager->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	pager->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pager->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (pager->epoll_fd < 0 || pager->kick_fd < 0 || pager->timer_fd < 0)
		return -errno;
	err = fl_queue_open(pager->parts.source, pager->fetch_count, &pager->queue);
	if (!err)
		err = watch(pager, pager->kick_fd);
	if (!err)
		err = watch(pager, pager->timer_fd);
	if (!err)
		err = watch(pager, fl_queue_fd(pager->queue));
	if (!err)
		err = watch(pager, fl_trap_fd(pager->parts.trap));
	pager->listening = true;
	return err;
}

static int check_options(const struct fl_pager_parts *parts, const struct fl_pager_options *options,
			 struct fl_error *err)
{
	uint32_t around = options->around_bytes;

	if (options->size != sizeof(*options))
		return fl_error_set(err, -EINVAL, "options of %zu bytes where %zu are known",
				    options->size, sizeof(*options));
	if (around > FL_AROUND_MAX || (around & (around - 1)))
		return fl_error_set(err, -EINVAL,
				    "%u bytes around a fault: not a power of two up to %u", around,
				    FL_AROUND_MAX);
	if (options->window_bytes < WINDOW_MIN || options->window_bytes > FL_WINDOW_MAX)
		return fl_error_set(err, -EINVAL, "a window of %u bytes: not from %u to %u",
				    options->window_bytes, WINDOW_MIN, FL_WINDOW_MAX);
	if (fl_source_length(parts->source) < fl_layout_image_len(parts->layout))
		return fl_error_set(
			err, -EINVAL,
			"the image has %" PRIu64 " bytes, the guest's memory needs %" PRIu64,
			fl_source_length(parts->source), fl_layout_image_len(parts->layout));
	return 0;
}

/* Somebody else served this guest before, and died: whoever waited for him touches again. */
static void take_over(struct fl_pager *pager)
{
	uint64_t voided = fl_table_recover(pager->parts.table);

	for (size_t i = 0; i < fl_layout_count(pager->parts.layout); i++) {
		const struct fl_region *region = fl_layout_region(pager->parts.layout, i);

		if (region->addr != FL_NOWHERE)
			fl_pager_wake(pager, region->addr, region->len_bytes);
	}
	fl_log(&pager->options.log, FL_LOG_INFO, "taken over, %" PRIu64 " fetches begin anew",
	       voided);
}

static void count_left(struct fl_pager *pager)
{
	uint64_t counts[FL_PAGE_STATES];

	fl_table_count(pager->parts.table, counts);
	atomic_store_explicit(&pager->count.left, counts[FL_ABSENT] + counts[FL_PENDING],
			      memory_order_relaxed);
}

static int set_up(struct fl_pager *pager, struct fl_error *err)
{
	int code = fl_fetch_pool_new(pager);

	if (!code)
		code = fl_pageset_new(&pager->released, pager->pages);
	if (code < 0)
		return fl_error_set(err, code, "no memory for %zu bytes of buffers",
				    pager->arena_len);
	code = open_descriptors(pager);
	if (code < 0)
		return fl_error_set(err, code, "cannot set up a pager: %s", strerror(-code));
	if (pager->options.flags & FL_PAGER_TAKEOVER)
		take_over(pager);
	count_left(pager);
	if (pager->options.flags & FL_PAGER_FILL)
		fl_fill_start(pager);
	return 0;
}

int fl_pager_new(struct fl_pager **pager, const struct fl_pager_parts *parts,
		 const struct fl_pager_options *options, struct fl_error *err)
{
	struct fl_pager_options defaults;
	struct fl_pager *p;
	int code;

	if (!options) {
		fl_pager_options_init(&defaults);
		options = &defaults;
	}
	code = check_options(parts, options, err);
	if (code < 0)
		return code;
	p = calloc(1, sizeof(*p));
	if (!p)
		return fl_error_set(err, -ENOMEM, "no memory for a pager");
	p->parts = *parts;
	p->options = *options;
	if (!p->options.around_bytes)
		p->options.around_bytes = 1; /* so that it can be divided by */
	p->pages = fl_layout_pages(parts->layout);
	p->started_ns = fl_clock_ns();
	p->epoll_fd = p->kick_fd = p->timer_fd = -1;
	p->missed_from = UINT64_MAX;
	p->ready_demand.tail = &p->ready_demand.head;
	p->ready_fill.tail = &p->ready_fill.head;
	code = set_up(p, err);
	if (code < 0) {
		fl_pager_close(p);
		return code;
	}
	*pager = p;
	return 0;
}

void fl_pager_close(struct fl_pager *pager)
{
	if (!pager)
		return;
	fl_pager_stop(pager);
	fl_queue_close(pager->queue); /* before the buffers that it may still write to */
	fl_fetch_pool_free(pager);
	fl_pageset_free(pager->released);
	fl_pager_wake_missed(pager);
	fl_fd_close(&pager->timer_fd);
	fl_fd_close(&pager->kick_fd);
	fl_fd_close(&pager->epoll_fd);
	free(pager);
}

int fl_pager_fd(const struct fl_pager *pager)
{
	return pager->epoll_fd;
}

static void take_requests(struct fl_pager *pager)
{
	uint64_t kicks;
	unsigned int requests;

	/* Until all kicks were read the descriptor is readable, or will be. */
	if (atomic_load_explicit(&pager->kicks, memory_order_relaxed) == pager->kicked)
		return;
	if (read(pager->kick_fd, &kicks, sizeof(kicks)) == sizeof(kicks))
		pager->kicked += kicks;
	/* Acquire pairs with the release in request(): what it wants done is visible. */
	requests = atomic_exchange_explicit(&pager->requests, 0, memory_order_acquire);
	if (requests & REQUEST_FILL)
		fl_fill_start(pager);
}

static void request(struct fl_pager *pager, unsigned int what)
{
	uint64_t kick = 1;

	atomic_fetch_or_explicit(&pager->requests, what, memory_order_release);
	atomic_fetch_add_explicit(&pager->kicks, 1, memory_order_relaxed);
	(void)!write(pager->kick_fd, &kick, sizeof(kick));
}

void fl_pager_kick(struct fl_pager *pager)
{
	request(pager, REQUEST_RUN);
}

void fl_pager_fill(struct fl_pager *pager)
{
	request(pager, REQUEST_FILL);
}

/* What is due at once needs no timer. */
static uint64_t earlier(uint64_t due_ns, const struct fl_fetch *fetch)
{
	if (!fetch->due_ns || (due_ns && due_ns < fetch->due_ns))
		return due_ns;
	return fetch->due_ns;
}

/* Lets the descriptor become readable when the next install is to be tried again. */
static void set_timer(struct fl_pager *pager)
{
	const struct fl_fetch *fetch = pager->ready_demand.head;
	struct itimerspec when = {0};
	uint64_t due_ns = 0;

	for (; fetch; fetch = fetch->next)
		due_ns = earlier(due_ns, fetch);
	if (pager->ready_fill.head) /* the others come after it */
		due_ns = earlier(due_ns, pager->ready_fill.head);

	if (due_ns == pager->timer_ns)
		return;
	pager->timer_ns = due_ns;
	when.it_value.tv_sec = (time_t)(due_ns / FL_NS_PER_S);
	when.it_value.tv_nsec = (long)(due_ns % FL_NS_PER_S);
	(void)timerfd_settime(pager->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void listen_to_trap(struct fl_pager *pager)
{
	bool on = pager->free_demand || fl_fetch_waits(pager);
	struct epoll_event event = {.events = on ? EPOLLIN : 0};

	if (on == pager->listening)
		return;
	pager->listening = on;
	(void)epoll_ctl(pager->epoll_fd, EPOLL_CTL_MOD, fl_trap_fd(pager->parts.trap), &event);
}

/* Every page is there: from now on the guest needs nobody. */
static void finish(struct fl_pager *pager)
{
	uint64_t took_ns = fl_clock_ns() - pager->started_ns;

	atomic_store_explicit(&pager->count.full_ns, took_ns, memory_order_relaxed);
	fl_log(&pager->options.log, FL_LOG_INFO,
	       "all %" PRIu64 " pages are there after %" PRIu64 " ms", pager->pages,
	       took_ns / FL_NS_PER_MS);
	fl_fetch_pool_trim(pager);
	if (pager->options.flags & FL_PAGER_RELEASE)
		(void)fl_pager_release(pager);
}

static bool due_now(const struct fl_fetch *fetch)
{
	for (; fetch; fetch = fetch->next) {
		if (!fetch->due_ns)
			return true;
	}
	return false;
}

static void take_timer(struct fl_pager *pager)
{
	uint64_t expirations;

	/* Not by the clock: the timer may be a little behind it, and be readable afterwards. */
	if (pager->timer_ns &&
	    read(pager->timer_fd, &expirations, sizeof(expirations)) == sizeof(expirations))
		pager->timer_ns = 0;
}

int fl_pager_run(struct fl_pager *pager)
{
	bool more, idle;

	take_requests(pager);
	take_timer(pager);
	if (pager->failed)
		return pager->failed;
	idle = !fl_pager_events(pager);
	fl_fetch_serve(pager);
	/* A queue may signal once more after its last read was taken. */
	if (pager->reading || idle)
		(void)fl_queue_reap(pager->queue);
	more = fl_fill_step(pager);
	if (pager->free_demand)
		fl_pager_wake_missed(pager);
	if (!pager->count.full_ns && !pager->count.left)
		finish(pager);
	if (pager->failed)
		return pager->failed;
	set_timer(pager);
	listen_to_trap(pager);
	return more || due_now(pager->ready_demand.head);
}

/* Looks for the next fault for a while before going to sleep. */
static int spin(struct fl_pager *pager)
{
	uint64_t end_ns = fl_clock_ns() + pager->options.spin_us * FL_NS_PER_US;
	int result;

	do
		result = fl_pager_run(pager);
	while (!result && fl_clock_ns() < end_ns && !atomic_load(&pager->stopping));
	return result;
}

static void *thread_main(void *arg)
{
	struct fl_pager *pager = arg;
	struct epoll_event event;
	int result = 0;

	while (!atomic_load(&pager->stopping)) {
		if (!result)
			(void)epoll_wait(pager->epoll_fd, &event, 1, -1);
		result = pager->options.spin_us ? spin(pager) : fl_pager_run(pager);
		if (result < 0) {
			if (pager->options.ended)
				pager->options.ended(pager->options.ctx, result);
			break;
		}
	}
	return NULL;
}

int fl_pager_start(struct fl_pager *pager)
{
	int err;

	if (pager->running)
		return -EALREADY;
	atomic_store(&pager->stopping, false);
	err = fl_thread_start(&pager->thread, STACK_BYTES, thread_main, pager);
	if (err)
		return err;
	pager->running = true;
	request(pager, REQUEST_RUN);
	return 0;
}

void fl_pager_stop(struct fl_pager *pager)
{
	if (!pager->running)
		return;
	atomic_store(&pager->stopping, true);
	request(pager, REQUEST_RUN);
	(void)pthread_join(pager->thread, NULL);
	pager->running = false;
}
