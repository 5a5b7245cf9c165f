/* SPDX-License-Identifier: MIT */
/*
 * Real threads on one page-state table, and nothing but the table between them: what a page holds
 * and what its waiters say are plain memory. ThreadSanitizer reports a race unless the table's
 * own memory orders carry them from thread to thread; without it, values are compared.
 *
 * Three threads touch every page, each in another order and each with a waiter bit of its own; a
 * fourth reads ahead. Who gets the claim of a page writes its contents and settles it; some pages
 * are given up at first, some are poisoned. Whoever joins sleeps on a semaphore that is posted
 * once for each time its bit is returned: a lost wake hangs the test, one too many is left over.
 */
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <faultline/memory.h>

#define PAGES         4099 /* a prime, so that every stride visits all */
#define TOUCHERS      3
#define ROUNDS_MIN    3
#define JOINED_WANTED 2000

/* Plain on purpose. Ticket i is thread i's before it claims, and the settler's while it waits. */
struct page {
	uint64_t contents;
	unsigned int attempts;
	uint64_t ticket[TOUCHERS];
};

struct ground {
	struct fl_table *table;
	struct page page[PAGES];
	sem_t woken[TOUCHERS];
	pthread_barrier_t together;
	atomic_uint faults;
	atomic_uint joined;
};

struct thread {
	pthread_t id;
	struct ground *ground;
	unsigned int index; /* TOUCHERS for the one that reads ahead */
};

static const enum fl_waiter bit_of[TOUCHERS + 1] = {FL_WAITER_UFFD, FL_WAITER_EXIT, FL_WAITER_CALL,
						    FL_WAITER_NONE};

/* cmocka's assertions are for the main thread alone: the others count. */
static void expect(struct ground *ground, bool so)
{
	if (!so)
		atomic_fetch_add(&ground->faults, 1);
}

static uint64_t contents_of(uint64_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15ULL;
}

static unsigned int attempts_of(uint64_t page)
{
	return page % 5 == 0 ? 2 : 1;
}

static enum fl_page_state end_of(uint64_t page)
{
	return page % 7 == 3 ? FL_POISONED : FL_PRESENT;
}

static void wake_waiters(const struct thread *me, uint64_t page, unsigned int waiters)
{
	struct ground *ground = me->ground;

	for (unsigned int i = 0; i < TOUCHERS; i++) {
		uint64_t *ticket = &ground->page[page].ticket[i];

		if (i == me->index || !(waiters & bit_of[i]))
			continue;
		expect(ground, *ticket == page + 1);
		*ticket = 0;
		expect(ground, sem_post(&ground->woken[i]) == 0);
	}
}

static void fetch(const struct thread *me, uint64_t page)
{
	struct ground *ground = me->ground;
	struct page *at = &ground->page[page];
	enum fl_page_state state = end_of(page);
	unsigned int waiters;

	if (++at->attempts < attempts_of(page))
		state = FL_ABSENT;
	else
		at->contents = contents_of(page);
	if (page % 2)
		sched_yield(); /* lets others join */
	expect(ground, fl_table_owns(ground->table, page, FL_CLAIM_FETCH));
	expect(ground, fl_table_settle(ground->table, page, FL_CLAIM_FETCH, state, &waiters) == 0);
	expect(ground, bit_of[me->index] == (waiters & bit_of[me->index]));
	wake_waiters(me, page, waiters);
}

/* Touches a page once; true when there is nothing more to do about it. */
static bool touch(const struct thread *me, uint64_t page)
{
	struct ground *ground = me->ground;
	bool reads_ahead = me->index == TOUCHERS;

	if (!reads_ahead)
		ground->page[page].ticket[me->index] = page + 1;
	switch (fl_table_claim(ground->table, page, bit_of[me->index])) {
	case FL_CLAIM_FETCH:
		fetch(me, page);
		return reads_ahead;
	case FL_CLAIM_JOINED:
		if (!reads_ahead) {
			atomic_fetch_add_explicit(&ground->joined, 1, memory_order_relaxed);
			expect(ground, sem_wait(&ground->woken[me->index]) == 0);
		}
		return reads_ahead;
	case FL_CLAIM_PRESENT:
		expect(ground, end_of(page) == FL_PRESENT);
		expect(ground, ground->page[page].contents == contents_of(page));
		return true;
	case FL_CLAIM_POISONED:
		expect(ground, end_of(page) == FL_POISONED);
		return true;
	default:
		expect(ground, false);
		return true;
	}
}

static void *run(void *ctx)
{
	/* The first two go together, so that they meet at every page. */
	static const uint64_t strides[TOUCHERS + 1] = {1, 1, PAGES - 1, 2};
	const struct thread *me = ctx;

	(void)pthread_barrier_wait(&me->ground->together);

	for (uint64_t i = 0; i < PAGES; i++) {
		while (!touch(me, i * strides[me->index] % PAGES))
			;
	}
	return NULL;
}

static void start(struct ground *ground)
{
	*ground = (struct ground){0};
	assert_int_equal(fl_table_new(&ground->table, PAGES), 0);
	assert_int_equal(pthread_barrier_init(&ground->together, NULL, TOUCHERS + 1), 0);
	for (int i = 0; i < TOUCHERS; i++)
		assert_int_equal(sem_init(&ground->woken[i], 0, 0), 0);
}

static void finish(struct ground *ground)
{
	uint64_t counts[FL_PAGE_STATES];

	assert_int_equal(atomic_load(&ground->faults), 0);
	for (int i = 0; i < TOUCHERS; i++) {
		int left = -1;

		assert_int_equal(sem_getvalue(&ground->woken[i], &left), 0);
		assert_int_equal(left, 0);
		sem_destroy(&ground->woken[i]);
	}
	for (uint64_t page = 0; page < PAGES; page++) {
		assert_int_equal(fl_table_state(ground->table, page), end_of(page));
		/* One fetch a page, however many touched it; one more where it was given up. */
		assert_int_equal(ground->page[page].attempts, attempts_of(page));
	}
	fl_table_count(ground->table, counts);
	assert_int_equal(counts[FL_PRESENT] + counts[FL_POISONED], PAGES);
	pthread_barrier_destroy(&ground->together);
	fl_table_free(ground->table);
}

static unsigned int go_once(struct ground *ground)
{
	struct thread threads[TOUCHERS + 1];

	start(ground);
	for (unsigned int i = 0; i <= TOUCHERS; i++) {
		threads[i].ground = ground;
		threads[i].index = i;
		assert_int_equal(pthread_create(&threads[i].id, NULL, run, &threads[i]), 0);
	}
	for (unsigned int i = 0; i <= TOUCHERS; i++)
		assert_int_equal(pthread_join(threads[i].id, NULL), 0);
	finish(ground);
	return atomic_load(&ground->joined);
}

static void the_table_alone_orders_what_threads_do(void **state)
{
	static struct ground ground;
	unsigned int joined = 0;

	(void)state;
	for (int round = 0; round < ROUNDS_MIN || joined < JOINED_WANTED; round++)
		joined += go_once(&ground);
}

/* ---- a waiter whose bit another has set before */

struct second {
	struct fl_table *table;
	uint64_t ticket;
	atomic_bool claimed;
};

static void *join_second(void *ctx)
{
	struct second *second = ctx;
	enum fl_claim claim;

	second->ticket = 1234;
	claim = fl_table_claim(second->table, 0, FL_WAITER_CALL);
	/* Relaxed: this tells when, but carries nothing over. */
	atomic_store_explicit(&second->claimed, claim == FL_CLAIM_JOINED, memory_order_relaxed);
	return NULL;
}

/* The bit is set already, yet what the second says must be seen by whoever settles. */
static void a_second_waiter_with_the_same_bit_is_seen(void **state)
{
	struct second second = {.claimed = false};
	unsigned int waiters;
	pthread_t thread;

	(void)state;
	assert_int_equal(fl_table_new(&second.table, 1), 0);
	assert_int_equal(fl_table_claim(second.table, 0, FL_WAITER_CALL), FL_CLAIM_FETCH);
	assert_int_equal(pthread_create(&thread, NULL, join_second, &second), 0);
	while (!atomic_load_explicit(&second.claimed, memory_order_relaxed))
		sched_yield();
	assert_int_equal(fl_table_settle(second.table, 0, FL_CLAIM_FETCH, FL_PRESENT, &waiters), 0);
	assert_int_equal(waiters, FL_WAITER_CALL);
	assert_int_equal(second.ticket, 1234);
	assert_int_equal(pthread_join(thread, NULL), 0);
	fl_table_free(second.table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_alone_orders_what_threads_do),
		cmocka_unit_test(a_second_waiter_with_the_same_bit_is_seen),
	};

	return cmocka_run_group_tests_name("table order", tests, NULL, NULL);
}
