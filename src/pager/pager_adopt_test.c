/* SPDX-License-Identifier: MIT */
/* Contents that are in place before the guest touches them. */
#include "guest_test.h"
#include "peer_test.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
static struct peer peer;
static struct fl_pageset *ready, *zeros;

static const enum guest_kind kinds[] = {GUEST_MEMFD, GUEST_SEGV};

static void start(struct guest *guest, struct guest_config config)
{
	size_t page_size = config.kind == GUEST_HUGE_MEMFD ? 2u << 20 : PAGE;

	config.source = peer_open(&peer, config.pages * page_size);
	config.stopped = true;
	guest_start(guest, &config);
	peer.alias = guest->alias;
	peer.alias_end = guest->alias + guest->map_len;
	assert_int_equal(fl_pageset_new(&ready, config.pages), 0);
	assert_int_equal(fl_pageset_new(&zeros, config.pages), 0);
}

static void stop(struct guest *guest)
{
	guest_stop(guest);
	fl_pageset_free(ready);
	fl_pageset_free(zeros);
}

/* Contents come before the guest runs. */
static void place(struct guest *guest, size_t page, size_t pages)
{
	test_pattern(guest->alias + page * guest->page_size, pages * guest->page_size,
		     page * guest->page_size, GUEST_SEED);
	assert_int_equal(fl_pageset_add(ready, page, pages), 0);
}

/* What a round of pre-copy had brought, and is right no more. */
static void place_stale(struct guest *guest, size_t page, size_t pages)
{
	memset(guest->alias + page * guest->page_size, 0xee, pages * guest->page_size);
}

static void run(struct guest *guest)
{
	int more;

	do
		more = fl_pager_run(guest->pager);
	while (more > 0);
	assert_int_equal(more, 0);
}

static void adopt(struct guest *guest)
{
	assert_int_equal(fl_pager_adopt(guest->pager, ready, zeros), 0);
}

static void wait_adopted(struct guest *guest)
{
	guest_wait((run(guest), guest_stats_now(guest).adopt_ns));
}

static enum fl_page_state state_of(struct guest *guest, size_t page)
{
	return fl_table_state(guest->table, page);
}

static void check_states(struct guest *guest, size_t from, size_t to, enum fl_page_state state)
{
	for (size_t page = from; page < to; page++)
		assert_int_equal(state_of(guest, page), state);
}

static void start_touch(struct guest *guest, struct toucher *toucher, size_t page)
{
	struct pollfd poll_fd = {.fd = fl_trap_fd(guest->trap), .events = POLLIN};

	toucher_start(toucher, guest_addr(guest, page));
	assert_int_equal(poll(&poll_fd, 1, 60000), 1);
}

static void wait_for(struct guest *guest, struct toucher *toucher)
{
	uint64_t end_ns = guest_deadline();

	while (!toucher->done) {
		guest_pause(end_ns);
		run(guest);
	}
	toucher_join(toucher);
}

/* A hole of the memfd, as far as the kernel says. */
static bool is_hole(struct guest *guest, size_t page)
{
	off_t at = (off_t)(page * guest->page_size);
	off_t data = lseek(guest->memfd, at, SEEK_DATA);

	return data < 0 || data >= at + (off_t)guest->page_size;
}

/* All of it in long runs: nobody is asked, no fault is reported, and zeros stay holes. */
static void test_clean(void **state)
{
	struct fl_pager_stats stats;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start(&guest, (struct guest_config){.kind = kinds[i], .pages = 10000});
		place(&guest, 0, 6000);
		place(&guest, 7000, 3000);
		assert_int_equal(fl_pageset_add(zeros, 6000, 1000), 0);
		adopt(&guest);
		assert_int_equal(fl_pager_adopt(guest.pager, ready, zeros), -EALREADY);
		wait_adopted(&guest);
		stats = guest_stats(&guest);
		assert_int_equal(stats.adopted, 10000);
		assert_int_equal(stats.released, 10000);
		assert_int_equal(stats.left, 0);
		assert_true(stats.full_ns > 0);
		assert_int_equal(stats.fill + stats.demand + stats.around, 0);
		assert_true(is_hole(&guest, 6000) && is_hole(&guest, 6999));
		/* No one runs the pager: who would be trapped would wait for ever. */
		for (size_t page = 0; page < 10000; page += page == 5999 ? 1001 : 1)
			guest_check(&guest, page);
		for (size_t page = 6100; page < 6300; page++)
			guest_check_zero(&guest, page);
		assert_true(is_hole(&guest, 6500));
		memset(guest_addr(&guest, 6500), 1, PAGE);
		assert_int_equal(peer.submits, 0);
		stop(&guest);
	}
}

/* Runs that are too short are mapped, in steps; what is due is read, and nothing else is. */
static void test_short_runs(void **state)
{
	struct fl_pager_stats stats;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start(&guest, (struct guest_config){.kind = kinds[i], .pages = 1000});
		for (size_t page = 0; page < 1000; page += 10) {
			place(&guest, page, 4);
			place_stale(&guest, page + 4, 3);
			assert_int_equal(fl_pageset_add(zeros, page + 8, 2), 0);
		}
		adopt(&guest);
		wait_adopted(&guest);
		stats = guest_stats_now(&guest);
		assert_int_equal(stats.adopted, 600);
		assert_int_equal(stats.released, 0);
		assert_int_equal(stats.left, 400);
		assert_int_equal(stats.fill, 0);
		for (size_t page = 0; page < 1000; page += 10) {
			check_states(&guest, page, page + 4, FL_PRESENT);
			check_states(&guest, page + 4, page + 8, FL_ABSENT);
			check_states(&guest, page + 8, page + 10, FL_REMOVED);
			for (size_t n = 0; n < 4; n++)
				guest_check(&guest, page + n);
			assert_true(is_hole(&guest, page + 8));
		}
		peer.answers = true;
		fl_pager_fill(guest.pager);
		guest_wait((run(&guest), guest_stats_now(&guest).left == 0));
		assert_int_equal(peer.asked, 400 * PAGE);
		assert_int_equal(guest_stats_now(&guest).fill, 400);
		assert_int_equal(fl_pager_start(guest.pager), 0);
		for (size_t page = 0; page < 1000; page++) {
			if (page % 10 < 8)
				guest_check(&guest, page);
			else
				guest_check_zero(&guest, page);
		}
		stop(&guest);
	}
}

/* Beside a few dirty pages in a hundred most runs are this short: those that are longer than what letting go costs
 * are let go. */
static void test_just_long_enough(void **state)
{
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 1000});
	for (size_t page = 0; page < 1000; page += 40) {
		place(&guest, page, 16);
		place(&guest, page + 20, 15);
	}
	adopt(&guest);
	wait_adopted(&guest);
	assert_int_equal(guest_stats_now(&guest).adopted, 25 * 31);
	assert_int_equal(guest_stats_now(&guest).released, 25 * 16);
	for (size_t page = 0; page < 1000; page += 40) {
		guest_check(&guest, page + 15);
		guest_check(&guest, page + 34);
		check_states(&guest, page + 16, page + 20, FL_ABSENT);
	}
	stop(&guest);
}

/* Touched before it was come to: mapped at once, and its neighbours that are ready with it; a page
 * that is due does not bring one that is in place, nor the other way round. */
static void test_touched_first(void **state)
{
	struct fl_pager_stats stats;
	struct toucher toucher;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start(&guest, (struct guest_config){.kind = kinds[i], .pages = 48});
		place(&guest, 18, 4);
		place_stale(&guest, 22, 3);
		assert_int_equal(fl_pageset_add(zeros, 25, 3), 0);
		start_touch(&guest, &toucher, 20);
		adopt(&guest);
		wait_for(&guest, &toucher);
		stats = guest_stats_now(&guest);
		assert_int_equal(stats.faults[FL_FAULT_HIT].count, 1);
		assert_int_equal(stats.demand + stats.around + stats.fill, 0);
		wait_adopted(&guest);
		assert_int_equal(guest_stats_now(&guest).adopted, 7);
		assert_int_equal(peer.submits, 0);
		start_touch(&guest, &toucher, 23);
		run(&guest);
		assert_int_equal(peer.submits, 1);
		assert_int_equal(peer_read(&peer, 23 * PAGE)->offset, 22 * PAGE);
		assert_int_equal(peer_read(&peer, 23 * PAGE)->len_bytes, 3 * PAGE);
		peer_bring(&peer, 22 * PAGE, 3 * PAGE);
		wait_for(&guest, &toucher);
		start_touch(&guest, &toucher, 26);
		wait_for(&guest, &toucher);
		assert_int_equal(peer.submits, 1);
		for (size_t page = 18; page < 25; page++)
			guest_check(&guest, page);
		guest_check_zero(&guest, 26);
		assert_int_equal(guest_stats(&guest).adopted, 7);
		stop(&guest);
	}
}

/* Zeros that are touched in the very step in which they become known, and adopted once. */
static void test_touched_zeros(void **state)
{
	struct toucher toucher;
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 16});
	assert_int_equal(fl_pageset_add(zeros, 0, 16), 0);
	start_touch(&guest, &toucher, 5);
	adopt(&guest);
	wait_for(&guest, &toucher);
	wait_adopted(&guest);
	assert_int_equal(guest_stats_now(&guest).adopted, 16);
	assert_int_equal(guest_stats_now(&guest).faults[FL_FAULT_ZERO].count, 1);
	assert_int_equal(guest_stats_now(&guest).left, 0);
	guest_check_zero(&guest, 5);
	assert_true(is_hole(&guest, 4) && is_hole(&guest, 6));
	stop(&guest);
}

/* More runs than the guest's mapping may be split into: the longest are let go, the others mapped.
 */
static void test_splits(void **state)
{
	const size_t runs = 9000, pages = runs * 40;
	struct fl_pager_stats stats;
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = pages});
	for (size_t i = 0; i < runs; i++) {
		assert_int_equal(fl_pageset_add(zeros, i * 40, i == 500 ? 79 : 33), 0);
		i += i == 500;
	}
	adopt(&guest);
	wait_adopted(&guest);
	stats = guest_stats_now(&guest);
	assert_int_equal(stats.adopted, (runs - 2) * 33 + 79);
	assert_int_equal(stats.released, 79);
	assert_int_equal(fl_pager_start(guest.pager), 0);
	guest_check_zero(&guest, 500 * 40 + 78);
	guest_check_zero(&guest, 700 * 40 + 32);
	stop(&guest);
}

/* A page that is on its way splits the run; its fetch ends by itself. */
static void test_pending(void **state)
{
	struct toucher toucher;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start(&guest, (struct guest_config){.kind = kinds[i], .pages = 400, .around = 1});
		start_touch(&guest, &toucher, 200);
		run(&guest);
		assert_int_equal(peer.submits, 1);
		/* Its contents were due when it was asked for; now they are said to be in place. */
		place(&guest, 0, 400);
		adopt(&guest);
		wait_adopted(&guest);
		assert_int_equal(state_of(&guest, 200), FL_PENDING);
		assert_false(toucher.done);
		assert_int_equal(guest_stats_now(&guest).released, 399);
		assert_int_equal(guest_stats_now(&guest).left, 1);
		guest_check(&guest, 199);
		guest_check(&guest, 201);
		peer_bring(&peer, 200 * PAGE, PAGE);
		wait_for(&guest, &toucher);
		guest_check_all(&guest);
		assert_int_equal(guest_stats(&guest).left, 0);
		stop(&guest);
	}
}

struct giver {
	struct guest *guest;
	size_t page, pages;
	int advice;
	_Atomic bool done;
};

static void *give_back(void *arg)
{
	struct giver *giver = arg;

	assert_int_equal(madvise(guest_addr(giver->guest, giver->page),
				 giver->pages * giver->guest->page_size, giver->advice),
			 0);
	giver->done = true;
	return NULL;
}

static void remove_pages(struct guest *guest, size_t page, size_t pages, int advice)
{
	struct giver giver = {.guest = guest, .page = page, .pages = pages, .advice = advice};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, give_back, &giver), 0);
	guest_wait((run(guest), giver.done));
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* What the guest gave back reads as zeros, also where MADV_DONTNEED leaves it in the file and its
 * range is let go; present pages in a run go with it. */
static void test_removed(void **state)
{
	struct toucher toucher;
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 300, .around = 1});
	place(&guest, 0, 300);
	remove_pages(&guest, 50, 3, MADV_DONTNEED);
	remove_pages(&guest, 100, 2, MADV_REMOVE);
	assert_int_equal(fl_pageset_del(ready, 150, 1), 0);
	start_touch(&guest, &toucher, 150);
	run(&guest);
	peer_bring(&peer, 150 * PAGE, PAGE);
	wait_for(&guest, &toucher);
	adopt(&guest);
	wait_adopted(&guest);
	assert_int_equal(guest_stats(&guest).released, 300 - 6);
	assert_int_equal(guest_stats(&guest).left, 0);
	for (size_t page = 0; page < 300; page++) {
		if ((page >= 50 && page < 53) || page == 100 || page == 101)
			guest_check_zero(&guest, page);
		else
			guest_check(&guest, page);
	}
	stop(&guest);
}

/* What was let go is the guest's for good: a read that fails lets pages be gone through again, and must
 * not punch a hole once more where the guest has written since. */
static void test_let_go_once(void **state)
{
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 300, .around = 1});
	place(&guest, 2, 298);
	remove_pages(&guest, 50, 3, MADV_DONTNEED);
	adopt(&guest);
	wait_adopted(&guest);
	guest_check_zero(&guest, 51);
	memset(guest_addr(&guest, 51), 7, PAGE);
	fl_pager_fill(guest.pager);
	run(&guest);
	assert_int_equal(peer_read(&peer, 0)->len_bytes, 2 * PAGE);
	peer_order(&peer, &(struct peer_order){.result = -EIO});
	run(&guest);
	assert_int_equal(peer.submits, 3); /* each alone */
	assert_int_equal(guest_addr(&guest, 51)[5], 7);
	assert_int_equal(guest_stats(&guest).released, 298 - 3);
	stop(&guest);
}

/* As many faults as a pager serves at a time: the next one is not read. */
#define SERVED 64

/* A fault that is reported before its range is let go, and still unread then: its thread goes on by
 * itself, and nothing is installed over what it writes. */
static void late_fault(enum guest_kind kind)
{
	struct toucher served[SERVED], late;
	struct guest guest;

	start(&guest, (struct guest_config){.kind = kind, .pages = 300, .around = 1});
	assert_int_equal(fl_pageset_add(zeros, 100, 200), 0);
	for (size_t i = 0; i < SERVED; i++) {
		start_touch(&guest, &served[i], i);
		run(&guest);
	}
	assert_int_equal(peer.submits, SERVED);
	start_touch(&guest, &late, 150);
	adopt(&guest);
	wait_adopted(&guest);
	toucher_join(&late);
	memset(guest_addr(&guest, 150), 3, PAGE);
	for (size_t i = 0; i < SERVED; i++) {
		peer_bring(&peer, i * PAGE, PAGE);
		wait_for(&guest, &served[i]);
	}
	run(&guest);
	for (size_t i = 0; i < PAGE; i++)
		assert_int_equal(guest_addr(&guest, 150)[i], 3);
	stop(&guest);
}

static void test_late_fault(void **state)
{
	(void)state;
	late_fault(GUEST_MEMFD);
	late_fault(GUEST_SEGV);
}

/* The end: what was not let go before is, and what was given back reads as zeros by itself. */
static void test_release(void **state)
{
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start(&guest, (struct guest_config){.kind = kinds[i], .pages = 300});
		place(&guest, 0, 10);
		place(&guest, 100, 200);
		assert_int_equal(fl_pageset_add(zeros, 10, 5), 0);
		if (kinds[i] == GUEST_MEMFD)
			remove_pages(&guest, 4, 2, MADV_DONTNEED);
		adopt(&guest);
		wait_adopted(&guest);
		assert_int_equal(fl_pager_release(guest.pager), -EBUSY);
		peer.answers = true;
		fl_pager_fill(guest.pager);
		guest_wait((run(&guest), guest_stats_now(&guest).left == 0));
		assert_int_equal(guest_stats_now(&guest).released, 200);
		assert_int_equal(fl_pager_release(guest.pager), 0);
		/* No one runs the pager from here on. */
		for (size_t page = 0; page < 300; page++) {
			if ((page >= 10 && page < 15) ||
			    (kinds[i] == GUEST_MEMFD && (page == 4 || page == 5)))
				guest_check_zero(&guest, page);
			else
				guest_check(&guest, page);
		}
		assert_int_equal(fl_pager_release(guest.pager), 0);
		stop(&guest);
	}
}

/* Random sets, threads that write meanwhile, a fill: every page right, none twice. */
#define THREADS 4

static void *count_all(void *arg)
{
	struct guest *guest = arg;
	unsigned int seed = (unsigned int)(uintptr_t)pthread_self();

	for (size_t i = 0, start = (size_t)rand_r(&seed); i < guest->config.pages; i++) {
		size_t page = (start + i * 1009) % guest->config.pages;
		char *at = guest_addr(guest, page);

		(void)*(volatile char *)at;
		(void)atomic_fetch_add((_Atomic uint64_t *)(void *)(at + 64), 1);
	}
	return NULL;
}

static void random_sets(enum guest_kind kind, unsigned int seed)
{
	const size_t pages = 6000;
	pthread_t threads[THREADS];
	struct fl_pager_stats stats;
	struct guest guest;
	uint64_t word, due = 0;

	start(&guest, (struct guest_config){.kind = kind, .pages = pages, .flags = FL_PAGER_FILL});
	for (size_t page = 0; page < pages;) {
		size_t n = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 4 ? 20 : 300);
		int what = rand_r(&seed) % 4;

		n = n < pages - page ? n : pages - page;
		if (what == 0)
			assert_int_equal(fl_pageset_add(zeros, page, n), 0);
		else if (what == 1)
			place_stale(&guest, page, n);
		else
			place(&guest, page, n);
		due += what == 1 ? n : 0;
		page += n;
	}
	peer.answers = true;
	adopt(&guest);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_all, &guest), 0);
	assert_int_equal(fl_pager_start(guest.pager), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	guest_wait(guest_stats_now(&guest).left == 0 && guest_stats_now(&guest).adopt_ns);
	for (size_t page = 0; page < pages; page++) {
		bool zero = fl_pageset_has(zeros, page);

		test_pattern(&word, sizeof(word), page * PAGE + 64, GUEST_SEED);
		assert_int_equal(*(uint64_t *)(void *)(guest_addr(&guest, page) + 64),
				 (zero ? 0 : word) + THREADS);
		if (!zero)
			assert_filled(guest_addr(&guest, page) + 72, PAGE - 72, page * PAGE + 72,
				      GUEST_SEED);
	}
	stats = guest_stats(&guest);
	assert_int_equal(stats.adopted, pages - due);
	assert_int_equal(peer.bytes, due * PAGE);
	stop(&guest);
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned int seed = 1; seed < 6; seed++) {
		random_sets(GUEST_MEMFD, seed);
		random_sets(GUEST_SEGV, seed);
	}
}

/* Without a second mapping there is nothing that could be adopted. */
static void test_refused(void **state)
{
	struct guest_config config = {.kind = GUEST_ANON, .pages = 16, .stopped = true};
	struct guest guest;

	(void)state;
	config.source = peer_open(&peer, 16 * PAGE);
	guest_start(&guest, &config);
	assert_int_equal(fl_pageset_new(&ready, 16), 0);
	assert_int_equal(fl_pageset_new(&zeros, 16), 0);
	assert_int_equal(fl_pageset_add(ready, 3, 1), 0);
	assert_int_equal(fl_pager_adopt(guest.pager, ready, NULL), -EINVAL);
	assert_int_equal(fl_pageset_del(ready, 3, 1), 0);
	assert_int_equal(fl_pageset_add(zeros, 0, 15), 0);
	assert_int_equal(fl_pager_adopt(guest.pager, NULL, zeros), 0);
	wait_adopted(&guest);
	check_states(&guest, 0, 15, FL_REMOVED);
	assert_int_equal(fl_pager_start(guest.pager), 0);
	guest_check_zero(&guest, 4);
	stop(&guest);
}

/* Mapping is refused while a REMOVE is unread: it is tried again, and adopt goes on behind it. */
static void test_again(void **state)
{
	struct giver giver = {.page = 60, .pages = 1, .advice = MADV_REMOVE};
	struct pollfd poll_fd = {.events = POLLIN};
	struct toucher toucher;
	struct guest guest;
	pthread_t thread;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 100, .around = 1});
	for (size_t page = 0; page < 100; page += 20)
		place(&guest, page, 10);
	giver.guest = &guest;
	toucher_start(&toucher, guest_addr(&guest, 40));
	poll_fd.fd = guest.uffd;
	assert_int_equal(poll(&poll_fd, 1, 60000), 1);
	assert_int_equal(pthread_create(&thread, NULL, give_back, &giver), 0);
	adopt(&guest);
	wait_for(&guest, &toucher);
	guest_wait((run(&guest), giver.done));
	wait_adopted(&guest);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (size_t page = 0; page < 100; page += 20) {
		check_states(&guest, page + 1, page + 10, FL_PRESENT);
		guest_check(&guest, page + 5);
	}
	assert_int_equal(state_of(&guest, 60), FL_REMOVED);
	stop(&guest);
}

/* Another pager takes over from one that died half-way: nothing is overwritten. */
static void test_taken_over(void **state)
{
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 300});
	place(&guest, 0, 200);
	assert_int_equal(fl_pageset_add(zeros, 200, 50), 0);
	adopt(&guest);
	wait_adopted(&guest);
	memset(guest_addr(&guest, 10), 0x11, PAGE);
	memset(guest_addr(&guest, 210), 0x22, PAGE);
	fl_pager_close(guest.pager);
	guest_pager(&guest, FL_PAGER_TAKEOVER | FL_PAGER_FILL);
	peer.answers = true;
	guest_wait((run(&guest), guest_stats_now(&guest).left == 0));
	assert_int_equal(peer.asked, 50 * PAGE);
	assert_int_equal(guest_addr(&guest, 10)[99], 0x11);
	assert_int_equal(guest_addr(&guest, 210)[99], 0x22);
	guest_check(&guest, 11);
	guest_check_zero(&guest, 211);
	stop(&guest);
}

static void test_huge(void **state)
{
	struct toucher toucher;
	struct stat file;
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_HUGE_MEMFD, .pages = 20, .around = 1});
	place(&guest, 0, 2);
	place(&guest, 3, 12);
	assert_int_equal(fl_pageset_add(zeros, 16, 2), 0);
	adopt(&guest);
	wait_adopted(&guest);
	assert_int_equal(guest_stats_now(&guest).adopted, 16);
	assert_int_equal(guest_stats_now(&guest).released, 12);
	assert_int_equal(guest_stats_now(&guest).left, 4);
	for (size_t page = 0; page < 15; page += page == 1 ? 2 : 1)
		guest_check(&guest, page);
	start_touch(&guest, &toucher, 16);
	wait_for(&guest, &toucher);
	guest_check_zero(&guest, 16);
	/* hugetlbfs does not tell where its holes are, but what it has. */
	assert_int_equal(fstat(guest.memfd, &file), 0);
	assert_int_equal((uint64_t)file.st_blocks * 512, 15 * guest.page_size);
	stop(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_short_runs),
		cmocka_unit_test(test_touched_first),
		cmocka_unit_test(test_touched_zeros),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_splits),
		cmocka_unit_test(test_just_long_enough),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_let_go_once),
		cmocka_unit_test(test_late_fault),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_taken_over),
		cmocka_unit_test(test_huge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
