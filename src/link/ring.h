/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_RING_H
#define FL_LINK_RING_H

/*
 * The ring between a VMM and its page worker: both of its ends. Layout and rules are in
 * faultline/worker.h, the theory of operation in ring.c.
 */

#include <faultline/worker.h>

#define FL_RING_FREE_ALL UINT64_MAX

/* ---- the VMM's end; any thread, and any signal handler of it */

struct fl_ring {
	struct fl_worker_ring *shared;
	struct fl_worker_entry *entry;
	uint32_t entries;
	int doorbell_fd; /* eventfds, owned */
	int poller_fd;
	int worker_fd;  /* polled for POLLHUP: the worker is gone; the caller's */
	uint32_t dead;  /* it is */
	uint32_t freed; /* futex: counts up when someone waits for an entry */
	uint32_t full;  /* how many do */
	uint32_t spin_us;
	uint64_t used[FL_WORKER_RING_WORDS]; /* one bit for each entry that someone has */
	uint64_t copies, doorbells, sleeps, full_sleeps;
};

struct fl_ring_copy {
	uint64_t remote_offset;
	uint64_t local_offset;
	uint32_t len_bytes;
	uint32_t flags;
};

/* Maps what a worker made. -EPROTO when it is no such thing, -EPROTONOSUPPORT for another version.
 * The descriptors but shared_fd are the ring's when it succeeds. */
int fl_ring_open(struct fl_ring *ring, int shared_fd, int doorbell_fd, int poller_fd, int worker_fd,
		 struct fl_error *err);
void fl_ring_close(struct fl_ring *ring);

/* An entry to fill in: its index; -EBUSY when all are in use. */
int fl_ring_claim(struct fl_ring *ring);
/* Likewise, waiting for one; -EPIPE when the worker is gone. */
int fl_ring_claim_wait(struct fl_ring *ring);
/* Gives the entry to the worker. */
void fl_ring_publish(struct fl_ring *ring, uint32_t index, const struct fl_ring_copy *copy);
/* Someone waits now for an entry that was given with FL_WORKER_FILL. */
void fl_ring_hurry(struct fl_ring *ring, uint32_t index);
/* Waits for the end: the result, which is 0 or a sensible negative errno; -EPIPE. */
int fl_ring_wait(struct fl_ring *ring, uint32_t index);
/* Has it ended? Then *result is set. */
bool fl_ring_ended(struct fl_ring *ring, uint32_t index, int *result);
void fl_ring_release(struct fl_ring *ring, uint32_t index);
/* Is the worker gone? Asks the kernel. */
bool fl_ring_is_dead(struct fl_ring *ring);
/* Takes the bits of entries 64 * word and up that ended (FL_WORKER_TELL). One thread at a time. */
uint64_t fl_ring_told(struct fl_ring *ring, uint32_t word);
/* The poller is about to sleep on poller_fd; look with fl_ring_told() once more after this. */
void fl_ring_poller_sleeps(struct fl_ring *ring);

/* ---- the worker's end; one thread */

struct fl_ring_end {
	struct fl_worker_ring *shared;
	struct fl_worker_entry *entry;
	uint32_t entries;
	int shared_fd, doorbell_fd, poller_fd;   /* owned */
	uint64_t taken[2][FL_WORKER_RING_WORDS]; /* bits not looked at yet: demand, fill */
	uint32_t cursor[2];                      /* word to look at next */
	uint64_t flying[FL_WORKER_RING_WORDS];   /* entries under way */
	uint64_t tell[FL_WORKER_RING_WORDS];     /* of these, with FL_WORKER_TELL */
	uint64_t wakes, tells;                   /* system calls made for that */
};

int fl_ring_end_new(struct fl_ring_end *end, uint32_t entries);
void fl_ring_end_close(struct fl_ring_end *end);
/* The next entry that the VMM gave: its index, *copy being what it said at one instant; -EAGAIN. */
int fl_ring_end_take(struct fl_ring_end *end, bool fill, struct fl_ring_copy *copy);
/* Is there one? */
bool fl_ring_end_ready(const struct fl_ring_end *end, bool fill);
void fl_ring_end_complete(struct fl_ring_end *end, uint32_t index, int result);
/* Returns false when there is something to take after all: do not sleep. */
bool fl_ring_end_sleep(struct fl_ring_end *end, bool fill);
void fl_ring_end_awake(struct fl_ring_end *end);

#endif
