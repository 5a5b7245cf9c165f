/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_FILTER_TIMER_H
#define FL_SOURCE_FILTER_TIMER_H

#include <faultline/source.h>

/*
 * Reads that a filter holds until their time has come, and the descriptor to poll for it and for
 * the queue below. Belongs to the queue's thread.
 */
struct fl_hold {
	int timer_fd;
	int poll_fd; /* an epoll descriptor */
	bool shared; /* poll_fd is that of a filter below */
	bool kicked;
	uint64_t armed_ns; /* what the timer is set to; 0 for never */
	struct fl_read *first;
	struct fl_read *last;
};

/*
 * Either poll_fd is the epoll descriptor of a filter below, which is used along, or it is -1 and
 * below_fd what the queue below has, or -1.
 *
 * Return: 0; -EMFILE, -ENFILE, -ENOMEM, -ENOSPC.
 */
int fl_hold_open(struct fl_hold *hold, int poll_fd, int below_fd);

/* Forgets the reads that are held. */
void fl_hold_close(struct fl_hold *hold);

/* Keeps read until due_ns (CLOCK_MONOTONIC). */
void fl_hold_put(struct fl_hold *hold, struct fl_read *read, uint64_t due_ns);

/* Makes the descriptor readable: the queue below has something to reap and cannot say so. */
void fl_hold_kick(struct fl_hold *hold);

/* The next read that is due at now_ns, or NULL. */
struct fl_read *fl_hold_take(struct fl_hold *hold, uint64_t now_ns);

/* Sets the timer to what is due next; after taking. */
void fl_hold_arm(struct fl_hold *hold);

#endif
