/* SPDX-License-Identifier: MIT */
/*
 * Real threads, few pages, and all that can happen to a page at once: touches of two kinds, reads
 * ahead, removals, rearms and fetches that were given up, until they have collided thousands of
 * times. What page_world.h goes through step by step happens here at full speed.
 *
 * A page's lock stands for the kernel and for the rule that installs and removals exclude each
 * other; claims and settles are made without it. Contents are numbers: 0 after a removal, another
 * one each time the guest writes, so that a late fetch of what the source once had would show.
 */
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <faultline/memory.h>

#define PAGES    4
#define TOUCHERS 2
#define THREADS  5

/* The touchers go on until each of these has happened so often: then they did collide. */
#define JOINED_WANTED  8000
#define LATE_WANTED    4000
#define REARMED_WANTED 8000

struct page {
	pthread_mutex_t lock;
	/* Under the lock: what the guest finds, what it must find, what a fetch reads. */
	bool mapped;
	uint64_t contents;
	uint64_t due;
	uint64_t source;
	/* Claims that are being made or worked on, voided or not. */
	atomic_uint busy;
};

struct ground {
	struct fl_table *table;
	struct page page[PAGES];
	/* How often each toucher was woken for each page. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t wakes[PAGES][TOUCHERS];
	atomic_uint faults;
	atomic_uint touchers_left;
	atomic_ullong written;
	atomic_ullong late;
	atomic_ullong rearmed;
	atomic_ullong joined;
};

struct thread {
	pthread_t id;
	struct ground *ground;
	unsigned int index;
	unsigned int seed;
};

static const enum fl_waiter bit_of[TOUCHERS] = {FL_WAITER_UFFD, FL_WAITER_EXIT};

/* cmocka's assertions are for the main thread alone: the others count. */
static void expect(struct ground *ground, bool so)
{
	if (!so)
		atomic_fetch_add(&ground->faults, 1);
}

static void wake(struct ground *ground, uint64_t page, unsigned int waiters)
{
	if (!waiters)
		return;
	pthread_mutex_lock(&ground->lock);
	for (int i = 0; i < TOUCHERS; i++)
		ground->wakes[page][i] += (waiters & bit_of[i]) != 0;
	pthread_cond_broadcast(&ground->changed);
	pthread_mutex_unlock(&ground->lock);
}

static uint64_t wakes_so_far(struct ground *ground, uint64_t page, unsigned int index)
{
	uint64_t wakes;

	pthread_mutex_lock(&ground->lock);
	wakes = ground->wakes[page][index];
	pthread_mutex_unlock(&ground->lock);
	return wakes;
}

static void sleep_until_woken(struct ground *ground, uint64_t page, unsigned int index,
			      uint64_t wakes)
{
	atomic_fetch_add(&ground->joined, 1);
	pthread_mutex_lock(&ground->lock);
	while (ground->wakes[page][index] == wakes)
		pthread_cond_wait(&ground->changed, &ground->lock);
	pthread_mutex_unlock(&ground->lock);
}

static uint64_t read_source(struct page *at)
{
	uint64_t contents;

	pthread_mutex_lock(&at->lock);
	contents = at->source;
	pthread_mutex_unlock(&at->lock);
	return contents;
}

/* Lets the others in where a real pager would wait for a device, so that they meet. */
static void dawdle(struct thread *me)
{
	for (int i = rand_r(&me->seed) % 4; i > 0; i--)
		sched_yield();
}

/* Installs, if the claim still stands. */
static bool install(struct ground *ground, uint64_t page, enum fl_claim claim, uint64_t contents)
{
	struct page *at = &ground->page[page];
	bool owns;

	pthread_mutex_lock(&at->lock);
	owns = fl_table_owns(ground->table, page, claim);
	if (owns) {
		/* Of zeros two may be on their way, and the second finds them there. */
		expect(ground, !at->mapped || claim == FL_CLAIM_ZERO);
		if (!at->mapped)
			at->contents = contents;
		at->mapped = true;
	}
	pthread_mutex_unlock(&at->lock);
	return owns;
}

static void work(struct thread *me, uint64_t page, enum fl_claim claim)
{
	struct ground *ground = me->ground;
	enum fl_page_state state = FL_PRESENT;
	uint64_t contents = 0;
	unsigned int waiters;

	if (claim == FL_CLAIM_FETCH)
		contents = read_source(&ground->page[page]);
	dawdle(me);
	if (rand_r(&me->seed) % 16 == 0) {
		state = FL_ABSENT;
	} else if (!install(ground, page, claim, contents)) {
		atomic_fetch_add(&ground->late, 1);
		return;
	}
	dawdle(me);
	if (fl_table_settle(ground->table, page, claim, state, &waiters))
		expect(ground, waiters == 0);
	wake(ground, page, waiters);
}

/* The guest reads, and now and then writes. False when the page is not there. */
static bool look(struct thread *me, uint64_t page)
{
	struct ground *ground = me->ground;
	struct page *at = &ground->page[page];
	bool mapped;

	pthread_mutex_lock(&at->lock);
	mapped = at->mapped;
	if (mapped) {
		expect(ground, at->contents == at->due);
		if (rand_r(&me->seed) % 4 == 0)
			at->contents = at->due = atomic_fetch_add(&ground->written, 1) + 1;
	}
	pthread_mutex_unlock(&at->lock);
	return mapped;
}

/* Present in the table but not there: it went away, and is zeros. */
static void went_away(struct ground *ground, uint64_t page)
{
	struct page *at = &ground->page[page];

	pthread_mutex_lock(&at->lock);
	if (!at->mapped && fl_table_state(ground->table, page) == FL_PRESENT) {
		expect(ground, at->due == 0);
		expect(ground, fl_table_remove(ground->table, page) == 0);
	}
	pthread_mutex_unlock(&at->lock);
}

static void claim_and_work(struct thread *me, uint64_t page)
{
	struct ground *ground = me->ground;
	bool waits = me->index < TOUCHERS;
	uint64_t wakes = waits ? wakes_so_far(ground, page, me->index) : 0;
	enum fl_claim claim;

	/* Before the claim, so that a rearm sees whoever may have one. */
	atomic_fetch_add(&ground->page[page].busy, 1);
	claim = fl_table_claim(ground->table, page, waits ? bit_of[me->index] : FL_WAITER_NONE);
	if (claim == FL_CLAIM_FETCH || claim == FL_CLAIM_ZERO)
		work(me, page, claim);
	atomic_fetch_sub(&ground->page[page].busy, 1);
	if (claim == FL_CLAIM_JOINED && waits)
		sleep_until_woken(ground, page, me->index, wakes);
	if (claim == FL_CLAIM_PRESENT)
		went_away(ground, page);
	expect(ground, claim != FL_CLAIM_POISONED);
}

static bool enough(struct ground *ground)
{
	return atomic_load(&ground->joined) >= JOINED_WANTED &&
	       atomic_load(&ground->late) >= LATE_WANTED &&
	       atomic_load(&ground->rearmed) >= REARMED_WANTED;
}

static void *touch_pages(void *ctx)
{
	struct thread *me = ctx;

	while (!enough(me->ground)) {
		uint64_t page = (uint64_t)rand_r(&me->seed) % PAGES;

		while (!look(me, page))
			claim_and_work(me, page);
	}
	atomic_fetch_sub(&me->ground->touchers_left, 1);
	return NULL;
}

static void remove_page(struct ground *ground, uint64_t page)
{
	struct page *at = &ground->page[page];
	unsigned int waiters;

	pthread_mutex_lock(&at->lock);
	waiters = fl_table_remove(ground->table, page);
	at->mapped = false;
	at->due = 0;
	pthread_mutex_unlock(&at->lock);
	wake(ground, page, waiters);
}

static void rearm_page(struct ground *ground, uint64_t page)
{
	struct page *at = &ground->page[page];

	pthread_mutex_lock(&at->lock);
	if (at->mapped && atomic_load(&at->busy) == 0 &&
	    fl_table_state(ground->table, page) == FL_PRESENT) {
		at->source = at->contents;
		expect(ground, fl_table_rearm(ground->table, page) == 0);
		at->mapped = false;
		atomic_fetch_add(&ground->rearmed, 1);
	}
	pthread_mutex_unlock(&at->lock);
}

/* The last three threads go on as long as somebody touches. */
static void *disturb(void *ctx)
{
	struct thread *me = ctx;
	struct ground *ground = me->ground;

	while (atomic_load(&ground->touchers_left)) {
		uint64_t page = (uint64_t)rand_r(&me->seed) % PAGES;

		if (me->index == TOUCHERS)
			claim_and_work(me, page);
		else if (me->index == TOUCHERS + 1)
			remove_page(ground, page);
		else
			rearm_page(ground, page);
		dawdle(me);
	}
	return NULL;
}

static void start(struct ground *ground)
{
	*ground = (struct ground){0};
	assert_int_equal(fl_table_new(&ground->table, PAGES), 0);
	pthread_mutex_init(&ground->lock, NULL);
	pthread_cond_init(&ground->changed, NULL);
	atomic_store(&ground->touchers_left, TOUCHERS);
	for (uint64_t page = 0; page < PAGES; page++) {
		struct page *at = &ground->page[page];

		pthread_mutex_init(&at->lock, NULL);
		at->due = at->source = atomic_fetch_add(&ground->written, 1) + 1;
	}
}

static void finish(struct ground *ground)
{
	assert_int_equal(atomic_load(&ground->faults), 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		struct page *at = &ground->page[page];

		/* Every claim was ended, and no waiter was left behind in a cell. */
		assert_int_not_equal(fl_table_state(ground->table, page), FL_PENDING);
		assert_int_equal(fl_table_remove(ground->table, page), 0);
		assert_int_equal(atomic_load(&at->busy), 0);
		if (at->mapped)
			assert_int_equal(at->contents, at->due);
		pthread_mutex_destroy(&at->lock);
	}
	print_message("%llu joined, %llu late, %llu rearmed\n", atomic_load(&ground->joined),
		      atomic_load(&ground->late), atomic_load(&ground->rearmed));
	pthread_cond_destroy(&ground->changed);
	pthread_mutex_destroy(&ground->lock);
	fl_table_free(ground->table);
}

static void all_at_once_ends_well(void **state)
{
	static struct ground ground;
	struct thread threads[THREADS];

	(void)state;
	start(&ground);
	for (unsigned int i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){.ground = &ground, .index = i, .seed = i + 1};
		assert_int_equal(pthread_create(&threads[i].id, NULL,
						i < TOUCHERS ? touch_pages : disturb, &threads[i]),
				 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i].id, NULL), 0);
	finish(&ground);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_at_once_ends_well),
	};

	return cmocka_run_group_tests_name("table remove", tests, NULL, NULL);
}
