/* SPDX-License-Identifier: MIT */
/* Reads that come in pieces: out of order, in the midst of removals, failing half-way. */
#include "guest_test.h"
#include "peer_test.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096u

static struct peer peer;

static const enum guest_kind kinds[] = {GUEST_ANON, GUEST_MEMFD, GUEST_SEGV};

static void start(struct guest *guest, struct guest_config config)
{
	size_t page_size = config.kind == GUEST_HUGE_MEMFD ? 2u << 20 : PAGE;

	config.source = peer_open(&peer, config.pages * page_size);
	config.stopped = true;
	guest_start(guest, &config);
	peer.alias = guest->alias;
	peer.alias_end = guest->alias ? guest->alias + guest->map_len : NULL;
}

/* All that is ready now, and nothing more. */
static void run(struct guest *guest)
{
	int more;

	do
		more = fl_pager_run(guest->pager);
	while (more > 0);
	assert_int_equal(more, 0);
}

/* The kernel has put the thread to sleep, or the trap's handler has told of it. */
static void start_touch(struct guest *guest, struct toucher *toucher, size_t page, size_t into)
{
	struct pollfd poll_fd = {.fd = fl_trap_fd(guest->trap), .events = POLLIN};

	toucher_start(toucher, guest_addr(guest, page) + into);
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

static enum fl_page_state state_of(struct guest *guest, size_t page)
{
	return fl_table_state(guest->table, page);
}

static void check_states(struct guest *guest, size_t from, size_t to, enum fl_page_state state)
{
	for (size_t page = from; page < to; page++)
		assert_int_equal(state_of(guest, page), state);
}

/* Each page is there as soon as it came, and straight in its place where there is one. */
static void test_out_of_order(void **state)
{
	static const size_t order[] = {7, 0, 12, 15, 1, 14, 2, 3, 11, 4, 5, 13, 6, 10, 8, 9};
	struct fl_pager_stats stats;
	struct guest guest;

	(void)state;
	for (size_t kind = 0; kind < 3; kind++) {
		start(&guest, (struct guest_config){
				      .kind = kinds[kind], .pages = 16, .flags = FL_PAGER_FILL});
		run(&guest);
		assert_int_equal(peer_reads(&peer), 1);
		for (size_t i = 0; i < 16; i++) {
			assert_int_equal(state_of(&guest, order[i]), FL_PENDING);
			peer_bring(&peer, order[i] * PAGE, PAGE);
			run(&guest);
			assert_int_equal(state_of(&guest, order[i]), FL_PRESENT);
			guest_check(&guest, order[i]);
		}
		stats = guest_stats(&guest);
		assert_int_equal(stats.fill, 16);
		assert_int_equal(stats.left, 0);
		assert_true(stats.full_ns > 0);
		assert_int_equal(peer.placed, guest.alias ? guest.len : 0);
		assert_int_equal(peer.submits, 1);
		guest_stop(&guest);
	}
}

static void test_huge_page(void **state)
{
	const size_t units = (2u << 20) / PAGE;
	struct toucher toucher;
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_HUGE_MEMFD, .pages = 4, .around = 1});
	start_touch(&guest, &toucher, 1, 5 * PAGE);
	run(&guest);
	assert_int_equal(peer_read(&peer, 2u << 20)->len_bytes, 2u << 20);
	/* 37 and 512 have no common divisor: all units, in an order that jumps. */
	for (size_t i = 0; i < units; i++) {
		assert_int_equal(state_of(&guest, 1), FL_PENDING);
		assert_false(toucher.done);
		peer_bring(&peer, (2u << 20) + i * 37 % units * PAGE, PAGE);
		run(&guest);
	}
	wait_for(&guest, &toucher);
	guest_check(&guest, 1);
	assert_int_equal(peer.placed, 2u << 20);
	assert_int_equal(guest_stats(&guest).faults[FL_FAULT_MISS].count, 1);
	guest_stop(&guest);
}

struct giver {
	struct guest *guest;
	size_t page;
	int advice;
	_Atomic bool done;
};

static void *give_back(void *arg)
{
	struct giver *giver = arg;

	assert_int_equal(madvise(guest_addr(giver->guest, giver->page), giver->guest->page_size,
				 giver->advice),
			 0);
	giver->done = true;
	return NULL;
}

static void remove_page(struct guest *guest, size_t page)
{
	struct giver giver = {.guest = guest, .page = page, .advice = MADV_REMOVE};
	uint64_t end_ns = guest_deadline();
	pthread_t thread;

	if (guest->config.kind == GUEST_ANON)
		giver.advice = MADV_DONTNEED;
	assert_int_equal(pthread_create(&thread, NULL, give_back, &giver), 0);
	while (!giver.done) {
		guest_pause(end_ns);
		run(guest);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Half of a page has come when it is given back. What comes then must not be written where the
 * guest could see it: neither into zeros nor into what it writes there. */
static void removed_half_way(enum guest_kind kind)
{
	const size_t size = kind == GUEST_HUGE_MEMFD ? 2u << 20 : PAGE;
	struct toucher toucher;
	struct guest guest;
	uint64_t placed;

	start(&guest,
	      (struct guest_config){.kind = kind, .pages = 4, .around = 1, .flags = FL_PAGER_FILL});
	run(&guest);
	if (size == PAGE)
		peer_order(&peer,
			   &(struct peer_order){.offset = PAGE, .len_bytes = PAGE, .halved = true});
	else
		peer_bring(&peer, size, size / 2);
	run(&guest);
	assert_int_equal(state_of(&guest, 1), FL_PENDING);
	remove_page(&guest, 1);
	assert_int_equal(state_of(&guest, 1), FL_REMOVED);
	placed = peer.placed;
	assert_true(placed == (guest.alias ? size / 2 : 0));
	start_touch(&guest, &toucher, 1, 0);
	wait_for(&guest, &toucher);
	guest_check_zero(&guest, 1);
	memset(guest_addr(&guest, 1), 0x5a, size);
	if (size == PAGE)
		peer_bring(&peer, 0, 4 * PAGE);
	else
		peer_bring(&peer, size + size / 2, size / 2);
	run(&guest);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(guest_addr(&guest, 1)[i], 0x5a);
	if (size == PAGE) {
		guest_check(&guest, 0);
		guest_check(&guest, 2);
		guest_check(&guest, 3);
		assert_int_equal(peer.placed - placed, guest.alias ? 3 * PAGE : 0);
		assert_int_equal(guest_stats(&guest).left, 0);
	} else {
		assert_int_equal(peer.placed, placed);
	}
	guest_stop(&guest);
}

static void test_removed_half_way(void **state)
{
	(void)state;
	removed_half_way(GUEST_MEMFD);
	removed_half_way(GUEST_ANON);
}

static void test_removed_half_way_huge(void **state)
{
	(void)state;
	removed_half_way(GUEST_HUGE_MEMFD);
}

/* A page that is touched is hurried, once; several pages of one fill may be waited for. */
static void test_hurry(void **state)
{
	struct toucher one, two, again;
	struct fl_pager_stats stats;
	struct guest guest;

	(void)state;
	start(&guest,
	      (struct guest_config){.kind = GUEST_MEMFD, .pages = 64, .flags = FL_PAGER_FILL});
	run(&guest);
	assert_int_equal(peer.submits, 1);
	start_touch(&guest, &one, 40, 8);
	run(&guest);
	assert_int_equal(peer.hurries, 1);
	assert_int_equal(peer.hurry_offset, 40 * PAGE);
	assert_int_equal(peer.hurry_len, PAGE);
	start_touch(&guest, &again, 40, 0);
	run(&guest);
	assert_int_equal(peer.hurries, 1);
	start_touch(&guest, &two, 3, 0);
	run(&guest);
	assert_int_equal(peer.hurries, 2);
	assert_int_equal(peer.hurry_offset, 3 * PAGE);
	peer_bring(&peer, 40 * PAGE, PAGE);
	wait_for(&guest, &one);
	wait_for(&guest, &again);
	assert_false(two.done);
	assert_int_equal(guest_stats_now(&guest).faults[FL_FAULT_JOINED].count, 2);
	check_states(&guest, 0, 40, FL_PENDING);
	check_states(&guest, 41, 64, FL_PENDING);
	peer_bring(&peer, 41 * PAGE, 23 * PAGE);
	peer_bring(&peer, 0, 40 * PAGE);
	wait_for(&guest, &two);
	run(&guest);
	stats = guest_stats(&guest);
	assert_int_equal(stats.faults[FL_FAULT_JOINED].count, 3);
	assert_int_equal(stats.fill, 64);
	assert_int_equal(stats.demand, 0);
	assert_int_equal(peer.submits, 1);
	assert_int_equal(peer.hurries, 2);
	guest_check_all(&guest);
	guest_stop(&guest);
}

/* A page that others wait for with a fault of its own is no fill, and one that is there needs no
 * hurry; a source of a time before that had it goes on as it did. */
static void test_no_hurry(void **state)
{
	struct toucher one, two;
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 16});
	start_touch(&guest, &one, 5, 0);
	run(&guest);
	start_touch(&guest, &two, 6, 0);
	run(&guest);
	assert_int_equal(peer.submits, 1);
	assert_int_equal(peer.hurries, 0);
	peer_bring(&peer, 6 * PAGE, PAGE);
	wait_for(&guest, &two);
	assert_false(one.done);
	peer_bring(&peer, 5 * PAGE, PAGE);
	wait_for(&guest, &one);
	assert_int_equal(guest_stats(&guest).faults[FL_FAULT_MISS].count, 1);
	assert_int_equal(guest_stats(&guest).faults[FL_FAULT_JOINED].count, 1);
	check_states(&guest, 0, 5, FL_PENDING);
	guest_stop(&guest);
}

static void test_old_source(void **state)
{
	struct toucher one;
	struct guest guest;
	struct guest_config config = {
		.kind = GUEST_MEMFD, .pages = 16, .flags = FL_PAGER_FILL, .stopped = true};

	(void)state;
	config.source = peer_open(&peer, 16 * PAGE);
	peer.no_hurry = true;
	guest_start(&guest, &config);
	run(&guest);
	start_touch(&guest, &one, 5, 0);
	run(&guest);
	assert_int_equal(peer.hurries, 0);
	peer_bring(&peer, 0, 16 * PAGE);
	wait_for(&guest, &one);
	guest_check_all(&guest);
	guest_stop(&guest);
}

/* What has come stays; of the rest, what is waited for is asked for alone, then poisoned. */
static void test_failing(void **state)
{
	struct toucher one;
	struct guest guest;

	(void)state;
	start(&guest,
	      (struct guest_config){.kind = GUEST_MEMFD, .pages = 64, .flags = FL_PAGER_FILL});
	run(&guest);
	peer_bring(&peer, 0, 20 * PAGE);
	start_touch(&guest, &one, 30, 0);
	run(&guest);
	peer_order(&peer, &(struct peer_order){.result = -EIO});
	run(&guest);
	check_states(&guest, 0, 20, FL_PRESENT);
	assert_int_equal(state_of(&guest, 30), FL_PENDING);
	assert_int_equal(peer_read(&peer, 30 * PAGE)->len_bytes, PAGE);
	assert_int_equal(peer_read(&peer, 30 * PAGE)->flags, 0);
	/* The fill goes on with what is missing, and with nothing else. */
	assert_null(peer_read(&peer, 0));
	assert_non_null(peer_read(&peer, 20 * PAGE));
	assert_non_null(peer_read(&peer, 63 * PAGE));
	peer_bring(&peer, 20 * PAGE, 10 * PAGE);
	peer_bring(&peer, 31 * PAGE, 33 * PAGE);
	peer_bring(&peer, 30 * PAGE, PAGE);
	wait_for(&guest, &one);
	run(&guest);
	guest_check_all(&guest);
	assert_int_equal(guest_stats(&guest).errors, 1);
	assert_int_equal(peer.asked, (64 + 1 + 10 + 33) * PAGE);
	guest_stop(&guest);
}

static void test_failing_for_good(void **state)
{
	struct guest guest;

	(void)state;
	SKIP_UNLESS(fl_probe_one("uffd.poison") == 0, "uffd-poison", "no UFFDIO_POISON");
	start(&guest,
	      (struct guest_config){.kind = GUEST_MEMFD, .pages = 64, .flags = FL_PAGER_FILL});
	peer.answers = true;
	peer.fails = -EIO;
	assert_int_equal(fl_pager_start(guest.pager), 0);
	assert_true(guest_is_poisoned(guest_addr(&guest, 9)));
	fl_pager_stop(guest.pager);
	assert_int_equal(guest_stats_now(&guest).poisoned, 1);
	peer.fails = 0;
	fl_pager_fill(guest.pager);
	guest_wait((run(&guest), guest_stats_now(&guest).left == 0));
	guest_check(&guest, 8);
	guest_check(&guest, 10);
	guest_stop(&guest);
}

/* A source that says it is through when it is not: its word is not taken for contents. */
static void test_lying_source(void **state)
{
	struct toucher one;
	struct guest guest;
	struct fl_read *read;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD, .pages = 16});
	start_touch(&guest, &one, 2, 0);
	run(&guest);
	read = peer_read(&peer, 2 * PAGE);
	assert_int_equal(read->len_bytes, 16 * PAGE);
	peer_bring(&peer, 0, 2 * PAGE);
	run(&guest);
	memset(peer.reads, 0, sizeof(peer.reads));
	read->result = 0;
	read->done(read);
	assert_false(one.done);
	check_states(&guest, 0, 2, FL_PRESENT);
	assert_int_equal(state_of(&guest, 3), FL_ABSENT);
	assert_int_equal(peer_read(&peer, 2 * PAGE)->len_bytes, PAGE);
	peer_bring(&peer, 2 * PAGE, PAGE);
	wait_for(&guest, &one);
	guest_check(&guest, 2);
	guest_stop(&guest);
}

/* An install is refused while a REMOVE is unread (EAGAIN): it is tried again while its read goes
 * on, and what comes meanwhile is not forgotten. */
static void test_again(void **state)
{
	struct giver giver = {.page = 60, .advice = MADV_REMOVE};
	struct pollfd poll_fd = {.events = POLLIN};
	struct fl_read *read;
	struct guest guest;
	uint64_t step = PAGE;
	pthread_t thread;

	(void)state;
	start(&guest,
	      (struct guest_config){.kind = GUEST_MEMFD, .pages = 64, .flags = FL_PAGER_FILL});
	run(&guest);
	giver.guest = &guest;
	assert_int_equal(pthread_create(&thread, NULL, give_back, &giver), 0);
	poll_fd.fd = guest.uffd;
	assert_int_equal(poll(&poll_fd, 1, 60000), 1);
	/* As if it were reaped before the event is read. */
	read = peer_read(&peer, 0);
	for (size_t page = 0; page < 3; page++) {
		test_pattern(read->place(read, page * PAGE, &step), PAGE, page * PAGE, GUEST_SEED);
		read->arrived(read, page * PAGE, PAGE);
		peer.missing[0] -= PAGE;
	}
	check_states(&guest, 0, 3, FL_PENDING);
	assert_true(guest_stats_now(&guest).retries > 0);
	guest_wait((run(&guest), state_of(&guest, 2) == FL_PRESENT && giver.done));
	assert_int_equal(pthread_join(thread, NULL), 0);
	check_states(&guest, 0, 3, FL_PRESENT);
	assert_int_equal(state_of(&guest, 3), FL_PENDING);
	assert_int_equal(state_of(&guest, 60), FL_REMOVED);
	peer_bring(&peer, 3 * PAGE, 61 * PAGE);
	run(&guest);
	for (size_t page = 0; page < 60; page++)
		guest_check(&guest, page);
	assert_int_equal(guest_stats(&guest).left, 0);
	guest_stop(&guest);
}

/* The same, and the read fails before the retry: what has come stays, the rest is given up. */
static void test_again_and_failing(void **state)
{
	struct giver giver = {.page = 60, .advice = MADV_REMOVE};
	struct pollfd poll_fd = {.events = POLLIN};
	struct fl_read *read;
	struct guest guest;
	uint64_t step = PAGE;
	pthread_t thread;

	(void)state;
	start(&guest,
	      (struct guest_config){.kind = GUEST_MEMFD, .pages = 64, .flags = FL_PAGER_FILL});
	run(&guest);
	giver.guest = &guest;
	assert_int_equal(pthread_create(&thread, NULL, give_back, &giver), 0);
	poll_fd.fd = guest.uffd;
	assert_int_equal(poll(&poll_fd, 1, 60000), 1);
	read = peer_read(&peer, 0);
	test_pattern(read->place(read, 7 * PAGE, &step), PAGE, 7 * PAGE, GUEST_SEED);
	read->arrived(read, 7 * PAGE, PAGE);
	memset(peer.reads, 0, sizeof(peer.reads));
	read->result = -ECONNRESET;
	read->done(read);
	assert_int_equal(state_of(&guest, 7), FL_PENDING);
	assert_int_equal(state_of(&guest, 6), FL_ABSENT);
	peer.answers = true;
	guest_wait((run(&guest), guest_stats_now(&guest).left == 0 && giver.done));
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (size_t page = 0; page < 60; page++)
		guest_check(&guest, page);
	assert_true(peer.asked <= (64 + 63) * PAGE);
	guest_stop(&guest);
}

/* Filters that know nothing of pieces let them pass; the retry filter would let them come twice. */
static void test_filters(void **state)
{
	static const char *const specs[] = {"stats", "delay=0ms", "error=EIO,every=1000",
					    "retry=3"};
	struct fl_error err;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct fl_source *source = peer_open(&peer, 16 * PAGE);

		assert_int_equal(fl_filter_parse(&source, specs[i], &err), 0);
		assert_int_equal(source->ops->flags, i < 3 ? FL_SOURCE_PIECES : 0);
		assert_int_equal(fl_filter_parse(&source, "stats", &err), 0);
		assert_int_equal(source->ops->flags, i < 3 ? FL_SOURCE_PIECES : 0);
		fl_source_close(source);
	}
}

static void through_filters(const char *spec, bool hurried)
{
	struct guest_config config = {
		.kind = GUEST_MEMFD, .pages = 16, .flags = FL_PAGER_FILL, .stopped = true};
	struct toucher one;
	struct guest guest;
	struct fl_error err;

	config.source = peer_open(&peer, 16 * PAGE);
	assert_int_equal(fl_filter_parse(&config.source, spec, &err), 0);
	assert_int_equal(fl_filter_parse(&config.source, "stats", &err), 0);
	guest_start(&guest, &config);
	guest_wait((run(&guest), peer.submits == 1));
	start_touch(&guest, &one, 9, 0);
	run(&guest);
	assert_int_equal(peer.hurries, 1);
	peer_bring(&peer, 9 * PAGE, PAGE);
	if (hurried)
		wait_for(&guest, &one);
	peer_bring(&peer, 0, 9 * PAGE);
	peer_bring(&peer, 10 * PAGE, 6 * PAGE);
	if (!hurried)
		wait_for(&guest, &one);
	guest_wait((run(&guest), guest_stats_now(&guest).left == 0));
	guest_check_all(&guest);
	guest_stop(&guest);
}

static void test_through_filters(void **state)
{
	(void)state;
	through_filters("stats", true);
	through_filters("delay=1us", true);
	through_filters("retry=3", false);
}

/* As much under way as the window says, and no less. */
static uint64_t file_bytes(const struct guest *guest)
{
	struct stat file;

	assert_int_equal(fstat(guest->memfd, &file), 0);
	return (uint64_t)file.st_blocks * 512;
}

static void check_touched_zero(struct guest *guest, size_t page)
{
	struct toucher toucher;

	start_touch(guest, &toucher, page, 100);
	wait_for(guest, &toucher);
	guest_check_zero(guest, page);
}

/* Zeros that nobody waits for take no memory, whatever was there before; nobody sees the latter. */
static void zeros(enum guest_kind kind)
{
	struct fl_pager_stats stats;
	struct toucher toucher;
	struct guest guest;

	start(&guest, (struct guest_config){.kind = kind, .pages = 16, .flags = FL_PAGER_FILL});
	if (guest.alias)
		memset(guest.alias, 0x5a, 8 * PAGE); /* of a round, and stale */
	run(&guest);
	start_touch(&guest, &toucher, 2, 0);
	run(&guest);
	peer_zeros(&peer, PAGE, 6 * PAGE);
	wait_for(&guest, &toucher);
	guest_check_zero(&guest, 2);
	check_states(&guest, 1, 2, guest.alias ? FL_REMOVED : FL_PRESENT);
	check_states(&guest, 2, 3, FL_PRESENT);
	check_states(&guest, 3, 7, guest.alias ? FL_REMOVED : FL_PRESENT);
	peer_zeros(&peer, 0, PAGE);
	peer_bring(&peer, 7 * PAGE, 9 * PAGE);
	run(&guest);
	check_states(&guest, 7, 16, FL_PRESENT);
	stats = guest_stats(&guest);
	assert_int_equal(stats.left, 0);
	assert_int_equal(stats.fill, 16);
	assert_int_equal(stats.zero, 7);
	assert_int_equal(stats.removed, 0);
	if (kind == GUEST_MEMFD)
		assert_int_equal(file_bytes(&guest), 10 * PAGE);
	check_states(&guest, 0, 1, guest.alias ? FL_REMOVED : FL_PRESENT);
	for (size_t page = 0; guest.alias && page < 7; page++)
		if (page != 2)
			check_touched_zero(&guest, page);
	for (size_t page = 0; page < 16; page++)
		page < 7 ? guest_check_zero(&guest, page) : guest_check(&guest, page);
	guest_stop(&guest);
}

static void test_zeros(void **state)
{
	(void)state;
	for (size_t kind = 0; kind < 3; kind++)
		zeros(kinds[kind]);
}

/* One page is zeros in part, the other one whole. */
static void test_zeros_huge(void **state)
{
	const size_t size = 2u << 20, half = size / 2;
	struct toucher toucher;
	struct guest guest;

	(void)state;
	start(&guest,
	      (struct guest_config){.kind = GUEST_HUGE_MEMFD, .pages = 2, .around = 1, .flags = 0});
	memset(guest.alias, 0x5a, 2 * size);
	start_touch(&guest, &toucher, 1, 5 * PAGE);
	run(&guest);
	peer_zeros(&peer, size + half, half);
	run(&guest);
	assert_int_equal(state_of(&guest, 1), FL_PENDING);
	peer_bring(&peer, size, half);
	wait_for(&guest, &toucher);
	assert_filled(guest_addr(&guest, 1), half, size, GUEST_SEED);
	assert_int_equal(test_nonzero(guest_addr(&guest, 1) + half, half), -1);
	fl_pager_fill(guest.pager);
	run(&guest);
	peer_zeros(&peer, 0, size);
	run(&guest);
	assert_int_equal(state_of(&guest, 0), FL_REMOVED);
	assert_int_equal(file_bytes(&guest), size);
	check_touched_zero(&guest, 0);
	guest_stop(&guest);
}

static void test_window(void **state)
{
	static const struct {
		uint32_t window;
		unsigned int reads;
		uint64_t len_bytes;
	} cases[] = {{128u << 10, 1, 128u << 10},
		     {512u << 10, 1, 512u << 10},
		     {0, 4, 512u << 10},
		     {8u << 20, 16, 512u << 10}};
	struct toucher one;
	struct guest guest;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		start(&guest, (struct guest_config){.kind = GUEST_MEMFD,
						    .pages = 4096,
						    .window = cases[i].window,
						    .flags = FL_PAGER_FILL});
		run(&guest);
		assert_int_equal(peer_reads(&peer), cases[i].reads);
		assert_int_equal(peer_read(&peer, 0)->len_bytes, cases[i].len_bytes);
		/* A fault that waits does not keep the background from going on. */
		start_touch(&guest, &one, 4095, 0);
		run(&guest);
		peer_bring(&peer, 0, cases[i].len_bytes);
		run(&guest);
		assert_int_equal(peer_reads(&peer), cases[i].reads + 1);
		peer.answers = true;
		peer_bring(&peer, 4095 * PAGE, PAGE);
		wait_for(&guest, &one);
		guest_stop(&guest);
	}
}

static void test_window_limits(void **state)
{
	struct fl_pager_options options;
	struct fl_pager *pager;
	struct fl_error err;
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.kind = GUEST_ANON, .stopped = true});
	options = guest.options;
	options.window_bytes = (128u << 10) - 1;
	assert_int_equal(fl_pager_new(&pager, &guest.parts, &options, &err), -EINVAL);
	assert_non_null(strstr(err.text, "window"));
	options.window_bytes = FL_WINDOW_MAX + 1;
	assert_int_equal(fl_pager_new(&pager, &guest.parts, &options, &err), -EINVAL);
	guest_stop(&guest);
}

/* What lies behind a fault comes next, and the rest in turn with it. */
static void test_near(void **state)
{
	struct toucher one;
	struct guest guest;

	(void)state;
	start(&guest, (struct guest_config){.kind = GUEST_MEMFD,
					    .pages = 8192,
					    .window = 512u << 10,
					    .flags = FL_PAGER_FILL | FL_PAGER_NEAR});
	run(&guest);
	assert_non_null(peer_read(&peer, 0));
	start_touch(&guest, &one, 5000, 0);
	run(&guest);
	peer_bring(&peer, 5000 * PAGE / 65536 * 65536, 65536);
	wait_for(&guest, &one);
	peer_bring(&peer, 0, 512u << 10);
	run(&guest);
	assert_non_null(peer_read(&peer, 5008 * PAGE));
	peer_bring(&peer, 5008 * PAGE, 512u << 10);
	run(&guest);
	assert_non_null(peer_read(&peer, 128 * PAGE));
	peer_bring(&peer, 128 * PAGE, 512u << 10);
	run(&guest);
	assert_non_null(peer_read(&peer, 5136 * PAGE));
	peer.answers = true;
	guest_wait((run(&guest), guest_stats_now(&guest).left == 0));
	guest_check_all(&guest);
	assert_int_equal(peer.asked, guest.len);
	guest_stop(&guest);
}

#define THREADS 6

static void *count_all(void *arg)
{
	struct guest *guest = arg;
	size_t start = (size_t)rand() % guest->config.pages;

	for (size_t i = 0; i < guest->config.pages; i++) {
		size_t page = (start + i * 17) % guest->config.pages;
		char *at = guest_addr(guest, page);

		(void)*(volatile char *)at;
		(void)atomic_fetch_add((_Atomic uint64_t *)(void *)(at + 64), 1);
	}
	return NULL;
}

/* Threads write while the fill goes on in pieces: nothing is lost, nothing is read twice. */
static void test_threads(void **state)
{
	pthread_t threads[THREADS];
	struct guest guest;
	uint64_t word;

	(void)state;
	for (size_t kind = 0; kind < 3; kind++) {
		start(&guest, (struct guest_config){.kind = kinds[kind],
						    .pages = 2048,
						    .around = kind ? 16384 : 1,
						    .flags = FL_PAGER_FILL | FL_PAGER_NEAR});
		peer.answers = true;
		assert_int_equal(fl_pager_start(guest.pager), 0);
		for (size_t i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, count_all, &guest), 0);
		for (size_t i = 0; i < THREADS; i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
		guest_wait(guest_stats_now(&guest).left == 0);
		fl_pager_stop(guest.pager);
		for (size_t page = 0; page < 2048; page++) {
			test_pattern(&word, sizeof(word), page * PAGE + 64, GUEST_SEED);
			assert_int_equal(*(uint64_t *)(void *)(guest_addr(&guest, page) + 64),
					 word + THREADS);
		}
		assert_int_equal(peer.bytes, guest.len);
		guest_stop(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out_of_order),
		cmocka_unit_test(test_huge_page),
		cmocka_unit_test(test_removed_half_way),
		cmocka_unit_test(test_removed_half_way_huge),
		cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_no_hurry),
		cmocka_unit_test(test_old_source),
		cmocka_unit_test(test_failing),
		cmocka_unit_test(test_failing_for_good),
		cmocka_unit_test(test_lying_source),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_again_and_failing),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_through_filters),
		cmocka_unit_test(test_zeros),
		cmocka_unit_test(test_zeros_huge),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_window_limits),
		cmocka_unit_test(test_near),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
