/* SPDX-License-Identifier: MIT */
/* Who runs a pager, how it starts, stops, is replaced, sleeps, and lets go. */
#include "guest_test.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

static void test_own_loop(void **state)
{
	struct toucher toucher;
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.filters = {"delay=100us"}, .stopped = true});
	for (size_t page = 0; page < 256; page += 16) {
		toucher_start(&toucher, guest_addr(&guest, page));
		while (!toucher.done)
			assert_int_equal(guest_run(&guest, 10), 0);
		toucher_join(&toucher);
	}
	assert_int_equal(guest_stats(&guest).left, 0);
	guest_check_all(&guest);
	guest_stop(&guest);
}

#define ROUNDS 5000

struct asker {
	struct guest *guest;
	_Atomic unsigned int go, asked;
};

static void *ask_for_filling(void *arg)
{
	struct asker *asker = arg;

	for (unsigned int round = 1; round <= ROUNDS; round++) {
		while (asker->go < round)
			;
		fl_pager_fill(asker->guest->pager);
		asker->asked = round;
	}
	return NULL;
}

/* When there is nothing to do the descriptor is not readable: else its loop would spin. */
static void check_quiet(struct guest *guest)
{
	struct pollfd poll_fd = {.fd = fl_pager_fd(guest->pager), .events = POLLIN};
	unsigned int runs = 0;

	while (poll(&poll_fd, 1, 0) > 0) {
		assert_true(fl_pager_run(guest->pager) >= 0);
		assert_true(runs++ < 1000);
	}
}

static void test_quiet_after_requests(void **state)
{
	struct guest guest;
	struct asker asker = {.guest = &guest};
	pthread_t thread;

	(void)state;
	guest_start(&guest, &(struct guest_config){.stopped = true});
	assert_int_equal(pthread_create(&thread, NULL, ask_for_filling, &asker), 0);
	for (unsigned int round = 1; round <= ROUNDS; round++) {
		asker.go = round;
		while (asker.asked < round)
			assert_true(fl_pager_run(guest.pager) >= 0);
		check_quiet(&guest);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	guest_check_all(&guest);
	guest_stop(&guest);
}

static void test_quiet_after_reads(void **state)
{
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 100; i++) {
		guest_start(&guest, &(struct guest_config){
					    .pages = 16, .flags = FL_PAGER_FILL, .stopped = true});
		while (guest_stats_now(&guest).left)
			assert_true(fl_pager_run(guest.pager) >= 0);
		check_quiet(&guest);
		guest_stop(&guest);
	}
}

static void *give_back(void *arg)
{
	return madvise(arg, 4096, MADV_DONTNEED) ? arg : NULL;
}

/* After installs that were put off by the clock, too. */
static void test_quiet_after_retries(void **state)
{
	struct pollfd poll_fd = {.events = POLLIN};
	struct toucher toucher;
	struct guest guest;
	pthread_t thread;
	void *failed;

	(void)state;
	for (size_t i = 0; i < 50; i++) {
		guest_start(&guest, &(struct guest_config){
					    .pages = 64, .flags = FL_PAGER_FILL, .stopped = true});
		assert_int_equal(pthread_create(&thread, NULL, give_back, guest_addr(&guest, 63)),
				 0);
		poll_fd.fd = guest.uffd;
		assert_int_equal(poll(&poll_fd, 1, -1), 1);
		toucher_start(&toucher, guest_addr(&guest, 1));
		while (!toucher.done || guest_stats_now(&guest).left)
			assert_true(fl_pager_run(guest.pager) >= 0);
		toucher_join(&toucher);
		assert_int_equal(pthread_join(thread, &failed), 0);
		assert_null(failed);
		check_quiet(&guest);
		guest_stop(&guest);
	}
}

static void test_start_stop(void **state)
{
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.filters = {"delay=200us"}});
	assert_int_equal(fl_pager_start(guest.pager), -EALREADY);
	for (size_t page = 0; page < 256; page += 32) {
		guest_check(&guest, page);
		fl_pager_stop(guest.pager);
		fl_pager_stop(guest.pager);
		assert_int_equal(fl_pager_start(guest.pager), 0);
	}
	guest_check_all(&guest);
	assert_int_equal(guest.ended, 1);
	guest_stop(&guest);
}

static void check_no_claims(struct guest *guest)
{
	uint64_t counts[FL_PAGE_STATES];

	fl_table_count(guest->table, counts);
	assert_int_equal(counts[FL_PENDING], 0);
}

/* Closed with reads in flight; the next pager serves the threads which still wait. */
static void test_close_in_flight(void **state)
{
	struct toucher toucher;
	struct guest guest;

	(void)state;
	for (uint32_t takeover = 0; takeover <= FL_PAGER_TAKEOVER; takeover += FL_PAGER_TAKEOVER) {
		guest_start(&guest, &(struct guest_config){.filters = {"delay=5ms"},
							   .flags = FL_PAGER_FILL,
							   .around = 16384,
							   .stopped = true});
		toucher_start(&toucher, guest_addr(&guest, 200));
		guest_wait(guest_waiting(&guest, NULL) == 1);
		while (fl_pager_run(guest.pager) > 0)
			;
		assert_int_equal(fl_table_state(guest.table, 200), FL_PENDING);
		assert_int_equal(fl_table_state(guest.table, 0), FL_PENDING);
		fl_pager_close(guest.pager);
		check_no_claims(&guest);
		assert_false(toucher.done);
		guest.config.stopped = false;
		guest_pager(&guest, takeover);
		toucher_join(&toucher);
		guest_check_all(&guest);
		guest_stop(&guest);
	}
}

/* A pager that died leaves claims and threads whose events it had read. */
static void test_takeover(void **state)
{
	struct fl_event events[4];
	struct toucher toucher;
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.stopped = true});
	fl_pager_close(guest.pager);
	toucher_start(&toucher, guest_addr(&guest, 9));
	guest_wait(guest_waiting(&guest, NULL) == 1);
	assert_int_equal(fl_trap_read(guest.trap, events, 4), 1);
	assert_int_equal(fl_table_claim(guest.table, 9, FL_WAITER_UFFD), FL_CLAIM_FETCH);
	assert_int_equal(fl_table_claim(guest.table, 10, FL_WAITER_NONE), FL_CLAIM_FETCH);
	guest.config.stopped = false;
	guest_pager(&guest, FL_PAGER_TAKEOVER);
	toucher_join(&toucher);
	guest_check_all(&guest);
	assert_int_equal(guest_stats(&guest).left, 0);
	fl_pager_stop(guest.pager);
	assert_non_null(strstr(guest.log, "2 fetches begin anew"));
	guest_stop(&guest);
}

/* Released: neither a touch nor a page that is given back is anybody's business any more. */
static void test_release(void **state)
{
	static const enum guest_kind kinds[] = {GUEST_ANON, GUEST_MEMFD, GUEST_SEGV};
	struct guest guest;
	struct fl_pager_stats before, after;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		guest_start(&guest,
			    &(struct guest_config){.kind = kinds[i],
						   .regions = 3,
						   .flags = FL_PAGER_FILL | FL_PAGER_RELEASE});
		guest_wait_full(&guest);
		before = guest_stats(&guest);
		fl_pager_stop(guest.pager);
		guest_check_all(&guest);
		assert_int_equal(madvise(guest.mem, 16 * 4096, MADV_DONTNEED), 0);
		if (kinds[i] == GUEST_ANON)
			guest_check_zero(&guest, 3);
		after = guest_stats(&guest);
		assert_int_equal(after.removed, before.removed);
		assert_int_equal(after.demand, before.demand);
		guest_stop(&guest);
	}
}

/* What a file backs and was given back reads as zeros after the end, too. */
static void test_release_removed(void **state)
{
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){
				    .kind = GUEST_MEMFD, .regions = 2, .flags = FL_PAGER_RELEASE});
	guest_check(&guest, 3);
	assert_int_equal(madvise(guest_addr(&guest, 3), 4096, MADV_DONTNEED), 0);
	fl_pager_fill(guest.pager);
	guest_wait_full(&guest);
	assert_int_equal(guest_stats(&guest).left, 0);
	guest_check_zero(&guest, 3);
	guest_check(&guest, 255);
	guest_stop(&guest);
}

static void test_several(void **state)
{
	struct guest guests[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		guest_start(&guests[i],
			    &(struct guest_config){.kind = i % 2 ? GUEST_ANON : GUEST_SEGV,
						   .flags = i / 2 ? FL_PAGER_FILL : 0});
	for (size_t page = 0; page < 256; page++)
		for (size_t i = 0; i < 4; i++)
			guest_check(&guests[i], page);
	for (size_t i = 0; i < 4; i++)
		guest_stop(&guests[i]);
}

static void test_descriptors(void **state)
{
	struct guest guest;
	unsigned int before;

	(void)state;
	guest_start(&guest, &(struct guest_config){.filters = {"delay=10us"}});
	guest_check_all(&guest);
	fl_pager_close(guest.pager);
	before = test_open_fds();
	for (size_t i = 0; i < 10; i++) {
		guest_pager(&guest, FL_PAGER_FILL);
		fl_pager_close(guest.pager);
		assert_int_equal(test_open_fds(), before);
	}
	guest.pager = NULL;
	guest_stop(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_loop),
		cmocka_unit_test(test_quiet_after_requests),
		cmocka_unit_test(test_quiet_after_reads),
		cmocka_unit_test(test_quiet_after_retries),
		cmocka_unit_test(test_start_stop),
		cmocka_unit_test(test_close_in_flight),
		cmocka_unit_test(test_takeover),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_release_removed),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
