/* SPDX-License-Identifier: MIT */
#ifndef FL_TRAP_SEGV_H
#define FL_TRAP_SEGV_H

#include <stdatomic.h>
#include <pthread.h>
#include <faultline/trap.h>

/* How many threads may wait in the handler for one trap; more wait for a slot to come free. */
#define FL_SEGV_SLOTS 256

/*
 * One thread that waits. state is the futex word: a generation, which changes when the wait is
 * over, above two bits: WAITING, the thread has not been woken yet; QUEUED, the slot stands in the
 * queue and its event was not read yet. A slot is free when neither is set. The thread never
 * touches its slot after the generation changed, so it may also leave by siglongjmp(3).
 */
struct fl_segv_slot {
	_Atomic uint32_t state;
	_Atomic uint32_t flags;
	_Atomic uint32_t tid;
	_Atomic uint32_t next;
	_Atomic uint64_t addr;
};

#define FL_SEGV_QUEUED     1u
#define FL_SEGV_WAITING    2u
#define FL_SEGV_GENERATION 4u

/* Sorted, disjoint, never empty ranges [start, end); never changed once a handler may see them. */
struct fl_segv_range {
	uint64_t start;
	uint64_t end;
};
struct fl_segv_ranges {
	size_t count;
	struct fl_segv_range range[];
};

/*
 * @ranges: what is armed; NULL while the trap is closed; replaced under the list's lock only
 * @head: first slot of the queue plus 1, or 0; handlers push, the reader takes all at once
 * @starved: threads that look for a free slot; @freed is the futex word they wait on
 * @taken: slots that the reader took and has not delivered yet, plus 1; under @reader
 */
struct fl_segv {
	struct fl_trap trap;
	int event_fd;
	int pid;
	_Atomic(struct fl_segv_ranges *) ranges;
	_Atomic uint32_t head;
	_Atomic uint32_t starved;
	_Atomic uint32_t freed;
	pthread_mutex_t reader;
	uint32_t taken;
	struct fl_segv_slot slots[FL_SEGV_SLOTS];
};

/* NULL without memory; the result is freed with free(3). */
struct fl_segv_ranges *fl_segv_ranges_add(const struct fl_segv_ranges *old, uint64_t start,
					  uint64_t end);
struct fl_segv_ranges *fl_segv_ranges_del(const struct fl_segv_ranges *old, uint64_t start,
					  uint64_t end);
bool fl_segv_ranges_has(const struct fl_segv_ranges *ranges, uint64_t addr);

/* The process-wide list. open() hands out a trap with nothing armed, close() takes it back. */
int fl_segv_open(struct fl_segv **segv);
void fl_segv_close(struct fl_segv *segv);

/*
 * Arm or disarm [start, end). protect() changes the mapping's protection: after the range was
 * armed, so that no touch goes astray, or before it is disarmed. When it fails nothing is armed or
 * disarmed and its error is returned; -ENOMEM.
 */
struct fl_segv_change {
	uint64_t start;
	uint64_t end;
	bool arm;
	int (*protect)(const struct fl_segv_change *change);
};
int fl_segv_change(struct fl_segv *segv, const struct fl_segv_change *change);

/* What a handler waits on: its slot, or that a slot is freed. */
struct fl_segv_wait {
	_Atomic uint32_t *word;
	uint32_t value;
	struct fl_segv *starving;
};

/* For a handler: reports a touch if a slot is free, and says what to wait on in either case. */
void fl_segv_post(struct fl_segv *segv, uint64_t addr, uint32_t flags, struct fl_segv_wait *wait);

/* Sleeps until the touch should be tried again. */
void fl_segv_wait(const struct fl_segv_wait *wait);

/* Takes up to max events. One reader at a time: under segv->reader. */
unsigned int fl_segv_take(struct fl_segv *segv, struct fl_event *events, unsigned int max);

/* Ends the wait of all who touched [start, end). */
void fl_segv_wake(struct fl_segv *segv, uint64_t start, uint64_t end);

/* Drops the queue and sends everybody back to his instruction. No handler may be posting. */
void fl_segv_empty(struct fl_segv *segv);

#endif
