/* SPDX-License-Identifier: MIT */
/* The guest gives pages back while others are on their way. */
#include "guest_test.h"
#include "peer_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/clock.h"

/* How long a test goes on giving back and touching, however slow the machine is: each time threads wait for each
 * other, which beside other work takes as long as that likes. */
#define STORM_NS (5 * FL_NS_PER_S)

static const enum guest_kind kinds[] = {GUEST_ANON, GUEST_MEMFD, GUEST_HUGETLB};

static void give_back(struct guest *guest, size_t page, size_t pages)
{
	assert_int_equal(madvise(guest_addr(guest, page), pages * guest->page_size, MADV_DONTNEED),
			 0);
}

static void check_counts(struct guest *guest, uint64_t left, uint64_t removed)
{
	struct fl_pager_stats stats = guest_stats(guest);

	assert_int_equal(stats.left, left);
	assert_int_equal(stats.removed, removed);
}

/* Absent, present and removed already; then the whole of it. */
static void test_remove_at_rest(void **state)
{
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		guest_start(&guest,
			    &(struct guest_config){
				    .kind = kinds[i], .pages = 8, .around = 1, .pagemap = true});
		give_back(&guest, 1, 1);
		check_counts(&guest, 7, 1);
		guest_check_zero(&guest, 1);
		guest_check(&guest, 2);
		memset(guest_addr(&guest, 2), 9, guest.page_size);
		give_back(&guest, 2, 1);
		give_back(&guest, 2, 1);
		check_counts(&guest, 6, 3);
		guest_check_zero(&guest, 2);
		memset(guest_addr(&guest, 2), 8, guest.page_size);
		assert_int_equal(guest_addr(&guest, 2)[100], 8);
		guest_check(&guest, 3);
		give_back(&guest, 0, 8);
		check_counts(&guest, 0, 11);
		for (size_t page = 0; page < 8; page++)
			guest_check_zero(&guest, page);
		assert_int_equal(guest_stats(&guest).faults[FL_FAULT_ZERO].count, 2 + 8);
		guest_stop(&guest);
	}
}

/* Only whole pages go: the rest of a huge page is the image's still. */
static void test_remove_part(void **state)
{
	const size_t size = 2u << 20;
	struct guest guest;
	char *first;

	(void)state;
	guest_start(&guest,
		    &(struct guest_config){.kind = GUEST_HUGETLB, .pages = 6, .shared = true});
	guest_check(&guest, 0);
	first = guest_addr(&guest, 0);
	first[8192] = 55;
	assert_int_equal(madvise(first, 4096, MADV_REMOVE), 0);
	assert_int_equal(first[8192], 55);
	assert_int_equal(test_nonzero(first, 4096), -1);
	assert_int_equal(madvise(guest_addr(&guest, 1) + 4096, 4096, MADV_REMOVE), 0);
	assert_int_equal(
		madvise(guest_addr(&guest, 2) + size / 2, size + 4096 + size / 2, MADV_REMOVE), 0);
	for (size_t page = 1; page < 6; page++) {
		if (page == 3)
			guest_check_zero(&guest, page);
		else
			guest_check(&guest, page);
	}
	check_counts(&guest, 0, 1);
	fl_pager_stop(guest.pager);
	assert_non_null(strstr(guest.log, "part of the page at offset 0x200000"));
	assert_null(strstr(guest.log, "part of the page at offset 0x400000"));
	guest_stop(&guest);
}

struct giver {
	struct guest *guest;
	size_t page, pages;
	_Atomic bool done;
	pthread_t thread;
};

static void *give(void *arg)
{
	struct giver *giver = arg;

	give_back(giver->guest, giver->page, giver->pages);
	giver->done = true;
	return NULL;
}

static void giver_start(struct giver *giver, struct guest *guest, size_t page, size_t pages)
{
	*giver = (struct giver){.guest = guest, .page = page, .pages = pages};
	assert_int_equal(pthread_create(&giver->thread, NULL, give, giver), 0);
}

/* Until there is one to be read. */
static void wait_for_event(const struct guest *guest)
{
	struct pollfd poll_fd = {.fd = guest->uffd, .events = POLLIN};

	assert_int_equal(poll(&poll_fd, 1, -1), 1);
}

static void giver_join(struct giver *giver)
{
	assert_int_equal(pthread_join(giver->thread, NULL), 0);
}

/* A page is removed while its contents are read: whoever waited reads zeros, the neighbours come.
 */
static void test_remove_in_flight(void **state)
{
	static struct peer peer;
	struct toucher toucher, beside;
	struct giver giver;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct fl_source *source = peer_open(&peer, 16 * 4096);

		peer.ops.flags = 0; /* whole reads, which end when they are told to */
		guest_start(&guest, &(struct guest_config){.kind = kinds[i],
							   .pages = 16,
							   .source = source,
							   .stopped = true});
		toucher_start(&toucher, guest_addr(&guest, 5));
		toucher_start(&beside, guest_addr(&guest, 6));
		guest_wait(guest_waiting(&guest, NULL) == 2);
		assert_int_equal(fl_pager_run(guest.pager), 0);
		assert_int_equal(peer_reads(&peer), 1);
		giver_start(&giver, &guest, 5, 1);
		wait_for_event(&guest);
		while (!toucher.done || !giver.done)
			assert_int_equal(guest_run(&guest, 1), 0);
		assert_false(beside.done);
		peer_bring(&peer, 0, 16 * 4096);
		while (!beside.done)
			assert_int_equal(guest_run(&guest, 1), 0);
		toucher_join(&toucher);
		toucher_join(&beside);
		giver_join(&giver);
		guest_wait(guest_stats_now(&guest).left == 0 || guest_run(&guest, 1) != 0);
		assert_int_equal(toucher.seen, 0);
		for (size_t page = 0; page < 16; page++) {
			if (page == 5)
				guest_check_zero(&guest, page);
			else
				guest_check(&guest, page);
		}
		check_counts(&guest, 0, 1);
		guest_stop(&guest);
	}
}

/* An event that nobody has read lets every install wait, demand and fill. */
static void test_retries(void **state)
{
	struct toucher toucher;
	struct giver giver;
	struct guest guest;
	uint64_t runs = 0;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		guest_start(&guest, &(struct guest_config){.kind = kinds[i],
							   .disk = true,
							   .flags = FL_PAGER_FILL,
							   .stopped = true});
		giver_start(&giver, &guest, 255, 1);
		wait_for_event(&guest);
		toucher_start(&toucher, guest_addr(&guest, 30));
		guest_wait(guest_waiting(&guest, NULL) == 1);
		while (!toucher.done || !giver.done || guest_stats_now(&guest).left) {
			assert_int_equal(guest_run(&guest, 1), 0);
			runs++;
		}
		toucher_join(&toucher);
		giver_join(&giver);
		assert_true(runs < 1000);
		for (size_t page = 0; page < 255; page++)
			guest_check(&guest, page);
		check_counts(&guest, 0, 1);
		guest_stop(&guest);
	}
}

/* Ranges are given back while everything is filled: zeros there, the image everywhere else. What is given
 * back after all was let go is the kernel's: MADV_DONTNEED then leaves what is in a file. */
static void test_remove_and_fill(void **state)
{
	static bool gone[2000], either[2000];
	unsigned int seed = 3;
	struct guest guest;
	uint64_t end_ns;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		memset(gone, 0, sizeof(gone));
		memset(either, 0, sizeof(either));
		guest_start(&guest,
			    &(struct guest_config){.kind = kinds[i % 2],
						   .pages = 2000,
						   .filters = {i < 2 ? "delay=300us" : "stats"},
						   .flags = FL_PAGER_FILL | FL_PAGER_RELEASE});
		end_ns = fl_clock_ns() + STORM_NS;
		for (size_t n = 0; n < 200 && fl_clock_ns() < end_ns; n++) {
			size_t page = (size_t)rand_r(&seed) % 1990;
			size_t pages = 1 + (size_t)rand_r(&seed) % 10;

			give_back(&guest, page, pages);
			if (guest_stats_now(&guest).full_ns) {
				memset(&either[page], true, pages);
				break;
			}
			memset(&gone[page], true, pages);
		}
		guest_wait_full(&guest);
		assert_int_equal(guest_stats(&guest).left, 0);
		for (size_t page = 0; page < 2000; page++) {
			if (gone[page])
				guest_check_zero(&guest, page);
			else if (!either[page])
				guest_check(&guest, page);
		}
		guest_stop(&guest);
	}
}

#define STORM_PAGES 200
#define STORM_STEPS 1500

struct storm {
	struct guest *guest;
	uint64_t end_ns;
	_Atomic bool gone[STORM_PAGES];
	_Atomic unsigned int wrong;
};

/* Each word is the image's or zero, and zero for good once its page was given back. */
static bool storm_looks_right(struct storm *storm, size_t page)
{
	bool gone = storm->gone[page];
	const _Atomic uint64_t *words = (const void *)guest_addr(storm->guest, page);

	for (size_t i = 0; i < 4096 / sizeof(*words); i += 61) {
		uint64_t expected, word = words[i];

		test_pattern(&expected, sizeof(expected), page * 4096 + i * sizeof(*words),
			     GUEST_SEED);
		if (word && (gone || word != expected))
			return false;
	}
	return true;
}

static void *storm_thread(void *arg)
{
	struct storm *storm = arg;
	unsigned int seed = (unsigned int)(uintptr_t)pthread_self() >> 12;

	for (size_t n = 0; n < STORM_STEPS && fl_clock_ns() < storm->end_ns; n++) {
		size_t page = (size_t)rand_r(&seed) % STORM_PAGES;

		if (rand_r(&seed) % 3 == 0) {
			if (madvise(guest_addr(storm->guest, page), 4096, MADV_DONTNEED))
				storm->wrong++;
			storm->gone[page] = true;
		} else if (!storm_looks_right(storm, page)) {
			storm->wrong++;
		}
	}
	return NULL;
}

static void storm(const struct guest_config *config)
{
	struct storm storm = {0};
	pthread_t threads[4];
	struct guest guest;

	guest_start(&guest, config);
	storm.guest = &guest;
	storm.end_ns = fl_clock_ns() + STORM_NS;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm_thread, &storm), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(storm.wrong, 0);
	assert_int_equal(guest.ended, 1);
	for (size_t page = 0; page < STORM_PAGES; page++) {
		if (storm.gone[page])
			guest_check_zero(&guest, page);
		else
			guest_check(&guest, page);
	}
	guest_stop(&guest);
}

static void test_storm(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		storm(&(struct guest_config){.kind = kinds[i], .pages = STORM_PAGES});
		storm(&(struct guest_config){.kind = kinds[i],
					     .pages = STORM_PAGES,
					     .filters = {"delay=50us"},
					     .flags = FL_PAGER_FILL});
	}
}

/* A hole punched in the file raises no event: what is missing though it was installed is zeros. */
static void test_punch_hole(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.kind = GUEST_MEMFD, .pages = 32});
	guest_check_all(&guest);
	assert_int_equal(fallocate(guest.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   4 * 4096, 3 * 4096),
			 0);
	for (size_t page = 0; page < 32; page++) {
		if (page >= 4 && page < 7)
			guest_check_zero(&guest, page);
		else
			guest_check(&guest, page);
	}
	stats = guest_stats(&guest);
	assert_int_equal(stats.zero, 3);
	assert_int_equal(stats.duplicates, 0);
	guest_stop(&guest);
}

/* Present by the table and in the page cache, but not mapped: it only has to be mapped. */
static void test_minor_on_present(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.kind = GUEST_MEMFD, .stopped = true});
	memset(guest.alias + 3 * 4096, 77, 4096);
	assert_int_equal(fl_table_claim(guest.table, 3, FL_WAITER_NONE), FL_CLAIM_FETCH);
	assert_int_equal(fl_table_settle(guest.table, 3, FL_CLAIM_FETCH, FL_PRESENT, NULL), 0);
	assert_int_equal(fl_pager_start(guest.pager), 0);
	assert_int_equal(guest_addr(&guest, 3)[0], 77);
	assert_int_equal(guest_addr(&guest, 3)[4095], 77);
	fl_pager_stop(guest.pager);
	stats = guest_stats(&guest);
	assert_int_equal(stats.faults[FL_FAULT_MAPPED].count, 1);
	assert_int_equal(stats.demand, 0);
	guest_stop(&guest);
}

static void test_write_protect(void **state)
{
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.wp = true});
	guest_check(&guest, 7);
	assert_int_equal(fl_trap_protect(guest.trap, (uintptr_t)guest_addr(&guest, 7), 4096, true),
			 0);
	guest_addr(&guest, 7)[8] = 1;
	assert_int_equal(guest_addr(&guest, 7)[8], 1);
	assert_int_equal(guest_stats(&guest).faults[FL_FAULT_MAPPED].count, 1);
	guest_stop(&guest);
}

/* Pages that are protected before they come, and whose contents are zeros. */
static void test_write_protect_absent(void **state)
{
	struct guest guest;

	(void)state;
	SKIP_UNLESS(fl_probe_one("uffd.wp-unpopulated") == 0, "uffd", "no marks on absent pages");
	guest_start(&guest, &(struct guest_config){.wp = true, .hole_len = 8 * 4096});
	give_back(&guest, 20, 1);
	assert_int_equal(fl_trap_protect(guest.trap, (uintptr_t)guest_addr(&guest, 5), 4096, true),
			 0);
	assert_int_equal(fl_trap_protect(guest.trap, (uintptr_t)guest_addr(&guest, 20), 4096, true),
			 0);
	for (size_t page = 0; page < 8; page++)
		guest_check_zero(&guest, page);
	guest_check_zero(&guest, 20);
	assert_int_equal(guest_stats(&guest).faults[FL_FAULT_MAPPED].count, 0);
	guest_addr(&guest, 5)[1] = 1;
	guest_addr(&guest, 20)[1] = 1;
	assert_int_equal(guest_stats(&guest).faults[FL_FAULT_MAPPED].count, 2);
	guest_stop(&guest);
}

/* The page cache has something that is not the image's, and there is no way to change that. */
static void test_minor_on_absent(void **state)
{
	struct toucher toucher;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		guest_start(&guest, &(struct guest_config){.kind = GUEST_MEMFD,
							   .copy = true,
							   .hole_at = i ? 8192 : 0,
							   .hole_len = i ? 65536 : 0});
		guest_check(&guest, 200);
		guest.alias[3 * 4096] = 77;
		toucher_start(&toucher, guest_addr(&guest, 3));
		guest_wait_ended(&guest);
		assert_false(toucher.done);
		assert_int_equal(guest.ended, -EOPNOTSUPP);
		assert_non_null(strstr(guest.log, "minor fault at offset 0x3000 without"));
		assert_int_equal(fl_trap_release(guest.trap, (uintptr_t)guest.mem, guest.map_len),
				 0);
		toucher_join(&toucher);
		guest_stop(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remove_at_rest),
		cmocka_unit_test(test_remove_part),
		cmocka_unit_test(test_remove_in_flight),
		cmocka_unit_test(test_retries),
		cmocka_unit_test(test_remove_and_fill),
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_punch_hole),
		cmocka_unit_test(test_minor_on_present),
		cmocka_unit_test(test_minor_on_absent),
		cmocka_unit_test(test_write_protect),
		cmocka_unit_test(test_write_protect_absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
