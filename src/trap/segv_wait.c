/* SPDX-License-Identifier: MIT */

/*
 * The waiters of one trap: slots, and a queue of those whose events the reader has not taken yet.
 * Handlers claim and push, the reader takes, anybody wakes, all without a lock. segv_signal.c has
 * the theory, segv.h the states of a slot. Everything is sequentially consistent: a fault costs two
 * system calls at least, against which cheaper orders would not be seen.
 */

#include "trap/segv.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUSY_BITS (FL_SEGV_QUEUED | FL_SEGV_WAITING)

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void announce_free(struct fl_segv *segv)
{
	if (!atomic_load(&segv->starved))
		return;
	atomic_fetch_add(&segv->freed, 1);
	futex_wake(&segv->freed);
}

/* ---- for handlers: async-signal-safe ---- */

/* A slot that is now queued and waiting; *state receives the state to wait on. */
static struct fl_segv_slot *claim_slot(struct fl_segv *segv, uint32_t tid, uint32_t *state)
{
	for (uint32_t i = 0; i < FL_SEGV_SLOTS; i++) {
		struct fl_segv_slot *slot = &segv->slots[(tid + i) % FL_SEGV_SLOTS];
		uint32_t old = atomic_load(&slot->state);

		if (old & BUSY_BITS)
			continue;
		*state = old | BUSY_BITS;
		if (atomic_compare_exchange_strong(&slot->state, &old, *state))
			return slot;
	}
	return NULL;
}

static void push_slot(struct fl_segv *segv, struct fl_segv_slot *slot)
{
	const uint64_t one = 1;
	uint32_t mine = (uint32_t)(slot - segv->slots) + 1;
	uint32_t head = atomic_load(&segv->head);

	do {
		atomic_store(&slot->next, head);
	} while (!atomic_compare_exchange_weak(&segv->head, &head, mine));
	/* Cannot fail: the counter would have to be at its limit of 2^64 - 2. Whoever pushed on an
	 * empty queue tells the reader for those who follow. */
	if (!head)
		(void)!write(segv->event_fd, &one, sizeof(one));
}

/* Looks again after `starved` says that somebody looks: pairs with announce_free(). */
static struct fl_segv_slot *claim_last(struct fl_segv *segv, uint32_t tid,
				       struct fl_segv_wait *wait)
{
	struct fl_segv_slot *slot;
	uint32_t state;
	uint32_t freed;

	atomic_fetch_add(&segv->starved, 1);
	freed = atomic_load(&segv->freed);
	slot = claim_slot(segv, tid, &state);
	if (slot) {
		atomic_fetch_sub(&segv->starved, 1);
		*wait = (struct fl_segv_wait){.word = &slot->state, .value = state};
	} else {
		*wait = (struct fl_segv_wait){
			.word = &segv->freed, .value = freed, .starving = segv};
	}
	return slot;
}

void fl_segv_post(struct fl_segv *segv, uint64_t addr, uint32_t flags, struct fl_segv_wait *wait)
{
	uint32_t tid = (uint32_t)syscall(SYS_gettid);
	struct fl_segv_slot *slot = claim_slot(segv, tid, &wait->value);

	if (slot)
		wait->word = &slot->state;
	else
		slot = claim_last(segv, tid, wait);
	if (!slot)
		return;
	atomic_store(&slot->addr, addr);
	atomic_store(&slot->flags, flags);
	atomic_store(&slot->tid, tid);
	push_slot(segv, slot);
}

void fl_segv_wait(const struct fl_segv_wait *wait)
{
	uint32_t now;

	if (wait->starving) {
		futex_wait(wait->word, wait->value);
		atomic_fetch_sub(&wait->starving->starved, 1);
		return;
	}
	/* The reader clears QUEUED meanwhile, and a signal may end the sleep early. */
	for (now = wait->value; now / FL_SEGV_GENERATION == wait->value / FL_SEGV_GENERATION;
	     now = atomic_load(wait->word))
		futex_wait(wait->word, now);
}

/* ---- the reader and the waker ---- */

/* Handlers push in front: the list is turned round, so that who came first is served first. */
static void take_queue(struct fl_segv *segv)
{
	uint32_t at = atomic_exchange(&segv->head, 0);
	uint32_t first = 0;

	while (at) {
		struct fl_segv_slot *slot = &segv->slots[at - 1];
		uint32_t next = atomic_load(&slot->next);

		atomic_store(&slot->next, first);
		first = at;
		at = next;
	}
	segv->taken = first;
}

/* False when the thread was woken already. */
static bool take_slot(struct fl_segv *segv, struct fl_segv_slot *slot, struct fl_event *event)
{
	*event = (struct fl_event){
		.kind = FL_EVENT_FAULT,
		.addr = atomic_load(&slot->addr),
		.flags = atomic_load(&slot->flags),
		.tid = atomic_load(&slot->tid),
	};
	segv->taken = atomic_load(&slot->next);
	if (atomic_fetch_and(&slot->state, ~FL_SEGV_QUEUED) & FL_SEGV_WAITING)
		return true;
	announce_free(segv);
	return false;
}

unsigned int fl_segv_take(struct fl_segv *segv, struct fl_event *events, unsigned int max)
{
	uint64_t count = 1;
	unsigned int taken = 0;

	(void)!read(segv->event_fd, &count, sizeof(count));
	if (!segv->taken)
		take_queue(segv);
	while (segv->taken && taken < max)
		if (take_slot(segv, &segv->slots[segv->taken - 1], &events[taken]))
			taken++;
	/* Something is left, or was pushed on the queue that was not empty: stay readable. */
	count = 1;
	if (segv->taken || atomic_load(&segv->head))
		(void)!write(segv->event_fd, &count, sizeof(count));
	return taken;
}

static void wake_slot(struct fl_segv *segv, struct fl_segv_slot *slot, uint64_t start, uint64_t end)
{
	uint32_t state = atomic_load(&slot->state);

	while (state & FL_SEGV_WAITING) {
		uint64_t addr = atomic_load(&slot->addr);
		uint32_t done = (state & ~FL_SEGV_WAITING) + FL_SEGV_GENERATION;

		if (addr < start || addr >= end)
			return;
		if (!atomic_compare_exchange_weak(&slot->state, &state, done))
			continue;
		futex_wake(&slot->state);
		if (!(done & FL_SEGV_QUEUED))
			announce_free(segv);
		return;
	}
}

void fl_segv_wake(struct fl_segv *segv, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < FL_SEGV_SLOTS; i++)
		wake_slot(segv, &segv->slots[i], start, end);
}

void fl_segv_empty(struct fl_segv *segv)
{
	segv->taken = 0;
	atomic_store(&segv->head, 0);
	for (size_t i = 0; i < FL_SEGV_SLOTS; i++)
		(void)atomic_fetch_and(&segv->slots[i].state, ~FL_SEGV_QUEUED);
	fl_segv_wake(segv, 0, UINT64_MAX);
	announce_free(segv);
}
