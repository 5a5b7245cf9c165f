/* SPDX-License-Identifier: MIT */

/*
 * Held reads, the one due first in front. A filter mostly holds them for equal times, so that a
 * new one goes to the end; otherwise its place is searched, among no more than the queue's depth.
 *
 * One epoll descriptor serves a whole stack of filters: they nest no deeper than five
 * (epoll_ctl(2), ELOOP), and the user wants to put it into his.
 *
 * The timer runs in absolute time. Setting it anew also takes back what it has signalled, so that
 * it is never read.
 */

#include "source/filter/timer.h"
#include "util/clock.h"
#include "util/fd.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

static int watch(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* An epoll descriptor for the timer, and for those of filters above. */
static int make_poll(struct fl_hold *hold, int below_fd)
{
	hold->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (hold->poll_fd < 0)
		return -errno;
	return below_fd < 0 ? 0 : watch(hold->poll_fd, below_fd);
}

int fl_hold_open(struct fl_hold *hold, int poll_fd, int below_fd)
{
	int ret = 0;

	*hold = (struct fl_hold){.poll_fd = poll_fd, .shared = poll_fd >= 0};
	hold->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (hold->timer_fd < 0)
		return -errno;
	if (!hold->shared)
		ret = make_poll(hold, below_fd);
	if (!ret)
		ret = watch(hold->poll_fd, hold->timer_fd);
	if (ret)
		fl_hold_close(hold);
	return ret;
}

void fl_hold_close(struct fl_hold *hold)
{
	fl_fd_close(&hold->timer_fd);
	if (!hold->shared)
		fl_fd_close(&hold->poll_fd);
}

void fl_hold_arm(struct fl_hold *hold)
{
	uint64_t due_ns = hold->first ? hold->first->due_ns : 0;
	struct itimerspec when = {0};

	if (hold->kicked)
		due_ns = 1; /* long past */
	if (due_ns == hold->armed_ns)
		return;
	when.it_value.tv_sec = (time_t)(due_ns / FL_NS_PER_S);
	when.it_value.tv_nsec = (long)(due_ns % FL_NS_PER_S);
	(void)timerfd_settime(hold->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
	hold->armed_ns = due_ns;
}

static void insert(struct fl_hold *hold, struct fl_read *read)
{
	struct fl_read **place = &hold->first;

	if (hold->last && hold->last->due_ns <= read->due_ns)
		place = &hold->last->next;
	while (*place && (*place)->due_ns <= read->due_ns)
		place = &(*place)->next;
	read->next = *place;
	*place = read;
	if (!read->next)
		hold->last = read;
}

void fl_hold_put(struct fl_hold *hold, struct fl_read *read, uint64_t due_ns)
{
	read->due_ns = due_ns;
	insert(hold, read);
	fl_hold_arm(hold);
}

void fl_hold_kick(struct fl_hold *hold)
{
	hold->kicked = true;
	fl_hold_arm(hold);
}

struct fl_read *fl_hold_take(struct fl_hold *hold, uint64_t now_ns)
{
	struct fl_read *read = hold->first;

	if (!read || read->due_ns > now_ns)
		return NULL;
	hold->first = read->next;
	if (!hold->first)
		hold->last = NULL;
	return read;
}
