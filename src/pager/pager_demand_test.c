/* SPDX-License-Identifier: MIT */
/* Promises 1 to 3 and 6: many threads, each page fetched once, nothing overwritten, no fault lost.
 */
#include "guest_test.h"
#include "peer_test.h"

#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#define THREADS 8

/* A word of each page that threads count in: a page that is filled twice loses counts. */
static _Atomic uint64_t *counter_of(struct guest *guest, size_t page)
{
	return (_Atomic uint64_t *)(void *)(guest_addr(guest, page) + 64);
}

/* Reads first, where nobody writes: ThreadSanitizer lets only one thread at a time into an atomic
 * operation on a word, also while that waits for its page. */
static void count_in(struct guest *guest, size_t page)
{
	(void)*(volatile char *)guest_addr(guest, page);
	(void)atomic_fetch_add(counter_of(guest, page), 1);
}

static uint64_t first_count(struct guest *guest, size_t page)
{
	uint64_t word;

	test_pattern(&word, sizeof(word), page * guest->page_size + 64, GUEST_SEED);
	return word;
}

static void *count_all(void *arg)
{
	struct guest *guest = arg;

	for (size_t page = 0; page < guest->config.pages; page++)
		count_in(guest, page);
	return NULL;
}

static void count_by_threads(struct guest *guest)
{
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_all, guest), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void check_counts(struct guest *guest)
{
	for (size_t page = 0; page < guest->config.pages; page++) {
		char *at = guest_addr(guest, page);

		assert_int_equal(*counter_of(guest, page), first_count(guest, page) + THREADS);
		assert_filled(at, 64, page * guest->page_size, GUEST_SEED);
		assert_filled(at + 72, guest->page_size - 72, page * guest->page_size + 72,
			      GUEST_SEED);
	}
}

static void threads_count(const struct guest_config *config)
{
	struct guest guest;
	struct fl_pager_stats stats;

	guest_start(&guest, config);
	count_by_threads(&guest);
	guest_wait_full(&guest);
	check_counts(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand + stats.around + stats.fill, guest.config.pages);
	assert_int_equal(stats.removed, 0);
	assert_int_equal(stats.zero, 0);
	assert_int_equal(guest_reads(&guest).bytes, guest.len);
	guest_stop(&guest);
}

static const enum guest_kind kinds[] = {GUEST_ANON, GUEST_MEMFD, GUEST_SEGV};

static void test_one_fetch(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		threads_count(&(struct guest_config){
			.kind = kinds[i], .disk = true, .filters = {"stats"}, .around = 4096});
		threads_count(&(struct guest_config){
			.kind = kinds[i], .filters = {"delay=50us", "stats"}, .around = 16384});
	}
}

static void test_one_fetch_hugetlb(void **state)
{
	(void)state;
	threads_count(&(struct guest_config){.kind = GUEST_HUGETLB,
					     .pages = 8,
					     .pagemap = true,
					     .filters = {"delay=50us", "stats"}});
}

/* The fill goes on while threads write: no value is lost. */
static void test_late_fill(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		threads_count(&(struct guest_config){.kind = kinds[i],
						     .pages = 3000,
						     .filters = {"stats"},
						     .flags = FL_PAGER_FILL});
		threads_count(&(struct guest_config){.kind = kinds[i],
						     .pages = 1000,
						     .filters = {"delay=300us", "stats"},
						     .flags = FL_PAGER_FILL | FL_PAGER_RELEASE});
	}
}

static void *count_first(void *arg)
{
	count_in(arg, 0);
	return NULL;
}

/* Several faults on one page in one batch: the first brings it, the others only wake. */
static void duplicates(enum guest_kind kind)
{
	pthread_t threads[THREADS];
	struct guest guest;
	struct fl_pager_stats stats;
	unsigned int pending = 0;

	guest_start(&guest,
		    &(struct guest_config){
			    .kind = kind, .disk = true, .filters = {"stats"}, .stopped = true});
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_first, &guest), 0);
	guest_wait((guest_waiting(&guest, &pending), pending == THREADS));
	assert_int_equal(guest_run(&guest, -1), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(*counter_of(&guest, 0), first_count(&guest, 0) + THREADS);
	stats = guest_stats(&guest);
	assert_int_equal(stats.demand, 1);
	assert_int_equal(stats.duplicates, THREADS - 1);
	assert_int_equal(stats.faults[FL_FAULT_HIT].count, 1);
	assert_int_equal(stats.zero, 0);
	assert_int_equal(guest_reads(&guest).attempts + guest_reads(&guest).submits, 1);
	guest_stop(&guest);
}

static void test_duplicates(void **state)
{
	(void)state;
	duplicates(GUEST_ANON);
	duplicates(GUEST_MEMFD);
}

/* Faults on pages that a fill has under way wait for it, and for no read of their own. */
static void test_join(void **state)
{
	struct toucher one, two;
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 128,
						   .filters = {"delay=1ms", "stats"},
						   .flags = FL_PAGER_FILL,
						   .stopped = true});
	assert_int_equal(fl_pager_run(guest.pager), 1);
	assert_int_equal(guest_reads(&guest).submits, 1);
	toucher_start(&one, guest_addr(&guest, 3));
	toucher_start(&two, guest_addr(&guest, 100));
	guest_wait(guest_waiting(&guest, NULL) == 2);
	while (!one.done || !two.done)
		assert_int_equal(guest_run(&guest, 1), 0);
	toucher_join(&one);
	toucher_join(&two);
	guest_check_all(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.faults[FL_FAULT_JOINED].count, 2);
	assert_true(stats.faults[FL_FAULT_JOINED].max_ns > 0);
	assert_int_equal(stats.fill, 128);
	assert_int_equal(stats.demand, 0);
	assert_int_equal(guest_reads(&guest).bytes, guest.len);
	guest_stop(&guest);
}

/* A fault is answered while there is plenty left to fill: of all that was asked for, its read alone comes. */
static void test_demand_first(void **state)
{
	static struct peer peer;
	const size_t pages = 16384, last = (pages - 1) * 4096;
	struct fl_source *source = peer_open(&peer, pages * 4096);
	struct toucher toucher;
	struct guest guest;

	(void)state;
	peer.ops.flags = 0; /* whole reads */
	guest_start(&guest, &(struct guest_config){.pages = pages,
						   .source = source,
						   .flags = FL_PAGER_FILL,
						   .stopped = true});
	while (fl_pager_run(guest.pager) > 0)
		;
	assert_true(peer_reads(&peer) > 1);
	assert_null(peer_read(&peer, last));
	toucher_start(&toucher, guest_addr(&guest, pages - 1));
	guest_wait((guest_run(&guest, 1), peer_read(&peer, last)));
	peer_bring(&peer, peer_read(&peer, last)->offset, peer_read(&peer, last)->len_bytes);
	guest_wait((guest_run(&guest, 1), toucher.done));
	toucher_join(&toucher);
	assert_int_equal(guest_stats_now(&guest).fill, 0);
	assert_int_equal(guest_stats_now(&guest).demand, 1);
	assert_int_equal(guest_stats_now(&guest).full_ns, 0);
	peer.answers = true;
	peer_bring(&peer, 0, peer_read(&peer, 0)->len_bytes);
	guest_wait((guest_run(&guest, 1), guest_stats_now(&guest).full_ns));
	guest_check_all(&guest);
	guest_stop(&guest);
}

#define MANY 150

static void start_many(struct guest *guest, struct toucher *touchers)
{
	for (size_t i = 0; i < MANY; i++)
		toucher_start(&touchers[i], guest_addr(guest, i));
}

static void join_many(struct toucher *touchers)
{
	for (size_t i = 0; i < MANY; i++) {
		char first;
		uint64_t word;

		toucher_join(&touchers[i]);
		test_pattern(&word, sizeof(word), i * 4096, GUEST_SEED);
		memcpy(&first, &word, 1);
		assert_int_equal(touchers[i].seen, first);
	}
}

/* More threads than fetches. */
static void test_many_threads(void **state)
{
	struct toucher touchers[MANY];
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		guest_start(&guest, &(struct guest_config){.kind = kinds[i],
							   .filters = {"delay=5ms", "stats"},
							   .around = 4096});
		start_many(&guest, touchers);
		join_many(touchers);
		stats = guest_stats(&guest);
		assert_int_equal(stats.demand, MANY);
		assert_int_equal(stats.faults[FL_FAULT_MISS].count, MANY);
		assert_int_equal(guest_reads(&guest).bytes, MANY * 4096);
		guest_stop(&guest);
	}
}

static void *give_back(void *arg)
{
	struct guest *guest = arg;

	return madvise(guest_addr(guest, 200), 4096, MADV_DONTNEED) ? guest : NULL;
}

/* And a REMOVE event behind all their faults, without which nothing can be installed. */
static void test_many_threads_and_remove(void **state)
{
	struct toucher touchers[MANY];
	struct pollfd poll_fd = {.events = POLLIN};
	struct guest guest;
	struct fl_pager_stats stats;
	pthread_t thread;
	unsigned int pending = 0;
	void *failed;

	(void)state;
	guest_start(&guest, &(struct guest_config){.disk = true, .around = 4096, .stopped = true});
	assert_int_equal(pthread_create(&thread, NULL, give_back, &guest), 0);
	poll_fd.fd = guest.uffd;
	assert_int_equal(poll(&poll_fd, 1, -1), 1);
	start_many(&guest, touchers);
	guest_wait((guest_waiting(&guest, &pending), pending == MANY));
	assert_int_equal(fl_pager_start(guest.pager), 0);
	join_many(touchers);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	fl_pager_stop(guest.pager);
	stats = guest_stats(&guest);
	assert_true(stats.retries > 0);
	assert_int_equal(stats.demand, MANY);
	assert_int_equal(stats.removed, 1);
	guest_stop(&guest);
}

struct gate {
	struct guest *guest;
	_Atomic bool ready, open, done;
};

static void *touch_behind_gate(void *arg)
{
	struct gate *gate = arg;

	gate->ready = true;
	while (!gate->open)
		(void)sched_yield();
	guest_check(gate->guest, 900);
	gate->done = true;
	return NULL;
}

/* Promise 6. The first submit starts what reads in the background, and may allocate: so the first
 * read of each guest here is submitted. */
static void no_allocations(const struct guest_config *config)
{
	struct guest guest;
	struct gate gate = {.guest = &guest};
	pthread_t thread;
	uint64_t before;

	guest_start(&guest, config);
	assert_int_equal(pthread_create(&thread, NULL, touch_behind_gate, &gate), 0);
	guest_check(&guest, 1023);
	guest_wait(gate.ready);
	before = test_allocations();
	gate.open = true;
	for (size_t page = 0; page < 64; page++)
		guest_check(&guest, page);
	fl_pager_fill(guest.pager);
	for (size_t page = 64; page < 256; page++)
		guest_check(&guest, page);
	assert_int_equal(madvise(guest_addr(&guest, 32), 64 * 4096, MADV_DONTNEED), 0);
	guest_check_zero(&guest, 40);
	guest_check_zero(&guest, 600);
	guest_wait_full(&guest);
	guest_wait(gate.done);
	assert_int_equal(test_allocations(), before);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(guest_stats(&guest).removed, 64);
	guest_stop(&guest);
}

static void test_no_allocations(void **state)
{
	struct guest_config config = {.pages = 1024, .hole_at = 512 * 4096, .hole_len = 128 * 4096};

	(void)state;
	for (config.kind = GUEST_ANON; config.kind <= GUEST_MEMFD; config.kind++) {
		config.disk = true;
		config.filters[0] = "error=EIO,first=1";
		config.filters[1] = "retry=2,first=1ms";
		no_allocations(&config);
		config.disk = false;
		config.filters[0] = "delay=50us";
		config.filters[1] = NULL;
		no_allocations(&config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_fetch),
		cmocka_unit_test(test_one_fetch_hugetlb),
		cmocka_unit_test(test_late_fill),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_demand_first),
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_many_threads_and_remove),
		cmocka_unit_test(test_no_allocations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
