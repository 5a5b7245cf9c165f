/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/table.h"

#define ALL_WAITERS (FL_WAITER_UFFD | FL_WAITER_EXIT | FL_WAITER_QUEUE | FL_WAITER_CALL)

static struct fl_table *new_table(uint64_t pages)
{
	struct fl_table *table = NULL;

	assert_int_equal(fl_table_new(&table, pages), 0);
	return table;
}

static void set_cell(const struct fl_table *table, uint64_t page, uint8_t cell)
{
	off_t at = (off_t)(FL_TABLE_CELLS + page);

	assert_int_equal(pwrite(fl_table_fd(table), &cell, 1, at), 1);
}

static uint8_t get_cell(const struct fl_table *table, uint64_t page)
{
	uint8_t cell;

	assert_int_equal(pread(fl_table_fd(table), &cell, 1, (off_t)(FL_TABLE_CELLS + page)), 1);
	return cell;
}

/* Brings a page that is ABSENT into a state, by the ways that the pager has. */
static void bring_to(struct fl_table *table, uint64_t page, enum fl_page_state state)
{
	if (state == FL_REMOVED)
		assert_int_equal(fl_table_remove(table, page), 0);
	if (state == FL_PENDING || state == FL_PRESENT || state == FL_POISONED)
		assert_int_equal(fl_table_claim(table, page, FL_WAITER_NONE), FL_CLAIM_FETCH);
	if (state == FL_PRESENT || state == FL_POISONED)
		assert_int_equal(fl_table_settle(table, page, FL_CLAIM_FETCH, state, NULL), 0);
	assert_int_equal(fl_table_state(table, page), state);
}

static void a_new_table_is_absent_throughout(void **state)
{
	struct fl_table *table = new_table(1000);
	uint64_t counts[FL_PAGE_STATES];

	(void)state;
	for (uint64_t page = 0; page < 1000; page++)
		assert_int_equal(fl_table_state(table, page), FL_ABSENT);
	fl_table_count(table, counts);
	assert_int_equal(counts[FL_ABSENT], 1000);
	fl_table_free(table);
	fl_table_free(NULL);
}

static void a_fetch_ends_in_present_and_returns_each_waiter_once(void **state)
{
	struct fl_table *table = new_table(3);
	unsigned int waiters = 99;

	(void)state;
	assert_int_equal(fl_table_claim(table, 1, FL_WAITER_UFFD), FL_CLAIM_FETCH);
	assert_int_equal(fl_table_claim(table, 1, FL_WAITER_UFFD), FL_CLAIM_JOINED);
	assert_int_equal(fl_table_claim(table, 1, FL_WAITER_NONE), FL_CLAIM_JOINED);
	assert_int_equal(fl_table_claim(table, 1, FL_WAITER_CALL), FL_CLAIM_JOINED);
	assert_true(fl_table_owns(table, 1, FL_CLAIM_FETCH));
	assert_int_equal(fl_table_settle(table, 1, FL_CLAIM_FETCH, FL_PRESENT, &waiters), 0);
	assert_int_equal(waiters, FL_WAITER_UFFD | FL_WAITER_CALL);
	assert_int_equal(fl_table_state(table, 1), FL_PRESENT);
	assert_false(fl_table_owns(table, 1, FL_CLAIM_FETCH));
	assert_int_equal(fl_table_claim(table, 1, FL_WAITER_EXIT), FL_CLAIM_PRESENT);
	assert_int_equal(fl_table_settle(table, 1, FL_CLAIM_FETCH, FL_PRESENT, &waiters),
			 -ECANCELED);
	assert_int_equal(waiters, 0);
	/* The neighbours felt nothing. */
	assert_int_equal(get_cell(table, 0), FL_ABSENT);
	assert_int_equal(get_cell(table, 2), FL_ABSENT);
	fl_table_free(table);
}

static void every_waiter_has_its_own_bit(void **state)
{
	static const enum fl_waiter bits[] = {FL_WAITER_UFFD, FL_WAITER_EXIT, FL_WAITER_QUEUE,
					      FL_WAITER_CALL};
	struct fl_table *table = new_table(1);
	unsigned int waiters;

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(fl_table_claim(table, 0, bits[i]), FL_CLAIM_FETCH);
		assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_FETCH, FL_ABSENT, &waiters), 0);
		assert_int_equal(waiters, bits[i]);
	}
	for (int i = 0; i < 4; i++)
		fl_table_claim(table, 0, bits[i]);
	assert_int_equal(fl_table_remove(table, 0), ALL_WAITERS);
	fl_table_free(table);
}

static void a_fetch_given_up_can_be_taken_on_again(void **state)
{
	struct fl_table *table = new_table(1);
	unsigned int waiters;

	(void)state;
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_EXIT), FL_CLAIM_FETCH);
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_FETCH, FL_ABSENT, &waiters), 0);
	assert_int_equal(waiters, FL_WAITER_EXIT);
	assert_int_equal(fl_table_state(table, 0), FL_ABSENT);
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_NONE), FL_CLAIM_FETCH);
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_FETCH, FL_PRESENT, &waiters), 0);
	assert_int_equal(waiters, 0);
	fl_table_free(table);
}

static void a_poisoned_page_stays_so_until_it_is_removed(void **state)
{
	struct fl_table *table = new_table(1);
	unsigned int waiters;

	(void)state;
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_QUEUE), FL_CLAIM_FETCH);
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_FETCH, FL_POISONED, &waiters), 0);
	assert_int_equal(waiters, FL_WAITER_QUEUE);
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_UFFD), FL_CLAIM_POISONED);
	assert_int_equal(fl_table_rearm(table, 0), -EBUSY);
	assert_int_equal(get_cell(table, 0), FL_POISONED);
	assert_int_equal(fl_table_remove(table, 0), 0);
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_NONE), FL_CLAIM_ZERO);
	fl_table_free(table);
}

static void remove_is_legal_from_every_state(void **state)
{
	struct fl_table *table = new_table(FL_PAGE_STATES);

	(void)state;
	for (uint64_t page = 0; page < FL_PAGE_STATES; page++) {
		bring_to(table, page, (enum fl_page_state)page);
		assert_int_equal(fl_table_remove(table, page), 0);
		assert_int_equal(get_cell(table, page), FL_REMOVED);
	}
	fl_table_free(table);
}

static void a_removed_page_is_zeros_when_touched(void **state)
{
	struct fl_table *table = new_table(1);
	unsigned int waiters;

	(void)state;
	bring_to(table, 0, FL_REMOVED);
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_UFFD), FL_CLAIM_ZERO);
	assert_true(fl_table_owns(table, 0, FL_CLAIM_ZERO));
	assert_false(fl_table_owns(table, 0, FL_CLAIM_FETCH));
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_EXIT), FL_CLAIM_JOINED);
	/* Given up, it is still removed: zeros are due at the next touch. */
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_ZERO, FL_ABSENT, &waiters), 0);
	assert_int_equal(waiters, FL_WAITER_UFFD | FL_WAITER_EXIT);
	assert_int_equal(get_cell(table, 0), FL_REMOVED);
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_NONE), FL_CLAIM_ZERO);
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_ZERO, FL_PRESENT, &waiters), 0);
	assert_int_equal(waiters, 0);
	assert_int_equal(get_cell(table, 0), FL_PRESENT);
	fl_table_free(table);
}

/* The case that "zeros are due" is for: pending again, but by someone else, for something else. */
static void a_late_fetch_does_not_touch_a_claim_of_zeros(void **state)
{
	static const enum fl_page_state ends[] = {FL_PRESENT, FL_POISONED, FL_ABSENT};
	struct fl_table *table = new_table(1);
	unsigned int waiters;

	(void)state;
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_UFFD), FL_CLAIM_FETCH);
	assert_int_equal(fl_table_remove(table, 0), FL_WAITER_UFFD);
	assert_false(fl_table_owns(table, 0, FL_CLAIM_FETCH));
	assert_int_equal(fl_table_claim(table, 0, FL_WAITER_EXIT), FL_CLAIM_ZERO);
	assert_false(fl_table_owns(table, 0, FL_CLAIM_FETCH));
	for (int i = 0; i < 3; i++) {
		waiters = 99;
		assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_FETCH, ends[i], &waiters),
				 -ECANCELED);
		assert_int_equal(waiters, 0);
		assert_true(fl_table_owns(table, 0, FL_CLAIM_ZERO));
	}
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_ZERO, FL_PRESENT, &waiters), 0);
	assert_int_equal(waiters, FL_WAITER_EXIT);
	fl_table_free(table);
}

static void settle_refuses_what_is_no_claim_or_no_end(void **state)
{
	static const enum fl_claim no_claims[] = {FL_CLAIM_JOINED, FL_CLAIM_PRESENT,
						  FL_CLAIM_POISONED};
	struct fl_table *table = new_table(1);

	(void)state;
	bring_to(table, 0, FL_PENDING);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fl_table_settle(table, 0, no_claims[i], FL_PRESENT, NULL),
				 -EINVAL);
		assert_false(fl_table_owns(table, 0, no_claims[i]));
	}
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_FETCH, FL_PENDING, NULL), -EINVAL);
	assert_int_equal(fl_table_settle(table, 0, FL_CLAIM_FETCH, FL_REMOVED, NULL), -EINVAL);
	assert_true(fl_table_owns(table, 0, FL_CLAIM_FETCH));
	fl_table_free(table);
}

static void only_a_present_page_is_rearmed(void **state)
{
	struct fl_table *table = new_table(FL_PAGE_STATES);

	(void)state;
	for (uint64_t page = 0; page < FL_PAGE_STATES; page++) {
		enum fl_page_state before = (enum fl_page_state)page;

		bring_to(table, page, before);
		assert_int_equal(fl_table_rearm(table, page), before == FL_PRESENT ? 0 : -EBUSY);
		assert_int_equal(fl_table_state(table, page),
				 before == FL_PRESENT ? FL_ABSENT : before);
	}
	assert_int_equal(fl_table_claim(table, FL_PRESENT, FL_WAITER_NONE), FL_CLAIM_FETCH);
	fl_table_free(table);
}

/* Of pages in every state, in runs of every length. */
static void adopt_takes_absent_pages_and_no_others(void **state)
{
	struct fl_table *table = new_table(200);

	(void)state;
	for (uint64_t first = 0; first < 100; first += 13) {
		for (uint64_t page = 0; page < 200; page++) {
			set_cell(table, page, FL_ABSENT);
			bring_to(table, page, (enum fl_page_state)(page / 20 % FL_PAGE_STATES));
		}
		assert_int_equal(fl_table_adopt(table, first, 0), 0);
		assert_int_equal(fl_table_adopt(table, first, 100), 20);
		for (uint64_t page = 0; page < 200; page++) {
			enum fl_page_state was = (enum fl_page_state)(page / 20 % FL_PAGE_STATES);
			bool taken = was == FL_ABSENT && page >= first && page < first + 100;

			assert_int_equal(fl_table_state(table, page), taken ? FL_PRESENT : was);
		}
	}
	fl_table_free(table);
}

static void recover_voids_claims_and_nothing_else(void **state)
{
	struct fl_table *table = new_table(100);

	(void)state;
	for (uint64_t page = 0; page < FL_PAGE_STATES; page++)
		bring_to(table, page, (enum fl_page_state)page);
	assert_int_equal(fl_table_claim(table, 50, FL_WAITER_UFFD), FL_CLAIM_FETCH);
	bring_to(table, 99, FL_REMOVED);
	assert_int_equal(fl_table_claim(table, 99, FL_WAITER_EXIT), FL_CLAIM_ZERO);
	assert_int_equal(fl_table_recover(table), 3);
	assert_int_equal(get_cell(table, FL_PENDING), FL_ABSENT);
	assert_int_equal(get_cell(table, 50), FL_ABSENT);
	assert_int_equal(get_cell(table, 99), FL_REMOVED);
	assert_int_equal(get_cell(table, FL_PRESENT), FL_PRESENT);
	assert_int_equal(get_cell(table, FL_REMOVED), FL_REMOVED);
	assert_int_equal(get_cell(table, FL_POISONED), FL_POISONED);
	assert_int_equal(fl_table_recover(table), 0);
	fl_table_free(table);
}

static uint8_t random_cell(unsigned int *seed)
{
	static const uint8_t cells[] = {FL_ABSENT,
					FL_PENDING,
					FL_PENDING | FL_CELL_ZEROS,
					FL_PENDING | FL_WAITER_UFFD,
					FL_PENDING | FL_CELL_ZEROS | FL_CELL_WAITERS,
					FL_PRESENT,
					FL_REMOVED,
					FL_POISONED};

	return cells[(size_t)rand_r(seed) % sizeof(cells)];
}

/* Long stretches of one state, short ones, and single pages, so that whole words are skipped. */
static void fill_at_random(struct fl_table *table, uint64_t pages, unsigned int *seed)
{
	for (uint64_t page = 0; page < pages;) {
		uint64_t run = (uint64_t)rand_r(seed) % (rand_r(seed) % 4 ? 5 : 60) + 1;
		uint8_t cell = random_cell(seed);

		for (; run && page < pages; run--)
			set_cell(table, page++, cell);
	}
}

static uint64_t find_slowly(const struct fl_table *table, enum fl_page_state state, uint64_t page,
			    uint64_t end)
{
	while (page < end && fl_table_state(table, page) != state)
		page++;
	return page < end ? page : end;
}

static void find_agrees_with_looking_at_each_page(void **state)
{
	enum { PAGES = 203 };
	struct fl_table *table = new_table(PAGES);
	unsigned int seed = 11;

	(void)state;
	for (int round = 0; round < 20; round++) {
		fill_at_random(table, PAGES, &seed);
		for (int what = 0; what < FL_PAGE_STATES; what++) {
			for (uint64_t page = 0; page <= PAGES; page++) {
				uint64_t end = page + (uint64_t)rand_r(&seed) % (PAGES + 1 - page);
				enum fl_page_state wanted = (enum fl_page_state)what;

				assert_int_equal(fl_table_find(table, wanted, page, end),
						 find_slowly(table, wanted, page, end));
				assert_int_equal(fl_table_find(table, wanted, page, PAGES),
						 find_slowly(table, wanted, page, PAGES));
			}
		}
	}
	fl_table_free(table);
}

static void find_stops_where_the_table_does(void **state)
{
	struct fl_table *table = new_table(10);

	(void)state;
	assert_int_equal(fl_table_find(table, FL_PRESENT, 0, UINT64_MAX), UINT64_MAX);
	assert_int_equal(fl_table_find(table, FL_ABSENT, 9, UINT64_MAX), 9);
	assert_int_equal(fl_table_find(table, FL_ABSENT, 10, 20), 20);
	assert_int_equal(fl_table_find(table, FL_ABSENT, UINT64_MAX, 5), 5);
	fl_table_free(table);
}

static void count_agrees_with_looking_at_each_page(void **state)
{
	/* More than the 255 words that are summed at once. */
	static const uint64_t sizes[] = {1, 7, 8, 9, 255 * 8, 255 * 8 + 5, 6000};
	unsigned int seed = 13;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fl_table *table = new_table(sizes[i]);
		uint64_t counts[FL_PAGE_STATES];
		uint64_t wanted[FL_PAGE_STATES] = {0};

		fill_at_random(table, sizes[i], &seed);
		for (uint64_t page = 0; page < sizes[i]; page++)
			wanted[fl_table_state(table, page)]++;
		fl_table_count(table, counts);
		assert_memory_equal(counts, wanted, sizeof(counts));
		fl_table_free(table);
	}
}

static void count_holds_a_lane_full_of_one_state(void **state)
{
	enum { PAGES = 255 * 8 * 3 };
	static const uint8_t cells[] = {FL_ABSENT, FL_PENDING | FL_CELL_ZEROS | FL_CELL_WAITERS,
					FL_PRESENT, FL_REMOVED, FL_POISONED};
	struct fl_table *table = new_table(PAGES);

	(void)state;
	for (int what = 0; what < FL_PAGE_STATES; what++) {
		uint64_t counts[FL_PAGE_STATES];

		for (uint64_t page = 0; page < PAGES; page++)
			set_cell(table, page, cells[what]);
		fl_table_count(table, counts);
		for (int other = 0; other < FL_PAGE_STATES; other++)
			assert_int_equal(counts[other], other == what ? PAGES : 0);
	}
	fl_table_free(table);
}

static void the_fault_path_allocates_nothing(void **state)
{
	struct fl_table *table = new_table(64);
	uint64_t before = test_allocations();
	unsigned int waiters;

	(void)state;
	fl_table_claim(table, 3, FL_WAITER_UFFD);
	fl_table_owns(table, 3, FL_CLAIM_FETCH);
	fl_table_settle(table, 3, FL_CLAIM_FETCH, FL_PRESENT, &waiters);
	fl_table_remove(table, 3);
	fl_table_find(table, FL_REMOVED, 0, 64);
	assert_int_equal(test_allocations(), before);
	assert_int_equal(waiters, FL_WAITER_UFFD);
	fl_table_free(table);
}

static void the_memfd_is_sealed_and_closed_on_exec(void **state)
{
	struct fl_table *table = new_table(100);
	int fd = fl_table_fd(table);

	(void)state;
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	fl_table_free(table);
}

static void nothing_is_left_open(void **state)
{
	unsigned int before = test_open_fds();
	struct fl_table *table = new_table(100);
	struct fl_table *other = NULL;
	struct fl_table *third = NULL;

	(void)state;
	assert_int_equal(fl_table_attach(&other, fl_table_fd(table), 100, NULL), 0);
	assert_int_equal(test_open_fds(), before + 2);
	assert_int_equal(fcntl(fl_table_fd(other), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fl_table_attach(&third, fl_table_fd(table), 99, NULL), -EINVAL);
	set_cell(table, 1, 7);
	assert_int_equal(fl_table_attach(&third, fl_table_fd(table), 100, NULL), -EINVAL);
	assert_null(third);
	assert_int_equal(test_open_fds(), before + 2);
	fl_table_free(table);
	fl_table_free(other);
	assert_int_equal(test_open_fds(), before);
}

static void more_pages_than_a_file_can_have_are_refused(void **state)
{
	struct fl_table *table = NULL;
	unsigned int before = test_open_fds();

	(void)state;
	assert_int_equal(fl_table_new(&table, UINT64_MAX), -EFBIG);
	assert_int_equal(fl_table_new(&table, INT64_MAX - 4095), -EFBIG);
	assert_true(fl_table_new(&table, INT64_MAX - 8192) < 0);
	assert_null(table);
	assert_int_equal(test_open_fds(), before);
}

static void another_process_sees_and_changes_the_same_table(void **state)
{
	struct fl_table *table = new_table(5000);
	int status = -1;
	pid_t child;

	(void)state;
	assert_int_equal(fl_table_claim(table, 4999, FL_WAITER_UFFD), FL_CLAIM_FETCH);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct fl_table *theirs = NULL;

		if (fl_table_attach(&theirs, fl_table_fd(table), 5000, NULL) ||
		    fl_table_claim(theirs, 4999, FL_WAITER_CALL) != FL_CLAIM_JOINED ||
		    fl_table_claim(theirs, 7, FL_WAITER_EXIT) != FL_CLAIM_FETCH)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(fl_table_remove(table, 4999), FL_WAITER_UFFD | FL_WAITER_CALL);
	assert_int_equal(fl_table_state(table, 7), FL_PENDING);
	/* It died with its claim: the next pager takes over. */
	assert_int_equal(fl_table_recover(table), 1);
	assert_int_equal(fl_table_state(table, 7), FL_ABSENT);
	fl_table_free(table);
}

/* Attaches to fd, which must be refused with -EINVAL and a reason that says why. */
static void refuse(int fd, uint64_t pages, const char *why)
{
	struct fl_table *table = NULL;
	struct fl_error err = {0};

	assert_int_equal(fl_table_attach(&table, fd, pages, &err), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	if (!strstr(err.text, why))
		fail_msg("'%s' does not say '%s'", err.text, why);
	assert_null(table);
}

static void attach_refuses_what_is_no_table(void **state)
{
	struct fl_table *table = NULL;
	struct fl_error err = {0};
	int pipes[2];
	int fd;

	(void)state;
	assert_int_equal(fl_table_attach(&table, -1, 100, &err), -EBADF);
	assert_int_equal(err.code, -EBADF);
	assert_int_equal(pipe(pipes), 0);
	refuse(pipes[0], 100, "not a sealed memfd");
	close(pipes[0]);
	close(pipes[1]);
	fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FL_TABLE_CELLS + 100), 0);
	refuse(fd, 100, "not a sealed memfd");
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	refuse(fd, 100, "something else");
	close(fd);
}

static void write_header(int fd, struct fl_table_header header)
{
	assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
}

static void attach_refuses_another_version_or_size(void **state)
{
	struct fl_table *table = new_table(100);
	const struct fl_table_header good = {FL_TABLE_MAGIC, FL_TABLE_VERSION, FL_TABLE_CELLS, 100};
	struct fl_table_header bad;
	struct fl_table *other = NULL;
	int fd = fl_table_fd(table);

	(void)state;
	refuse(fd, 99, "do not hold exactly 99 pages");
	refuse(fd, 101, "do not hold exactly 101 pages");
	refuse(fd, UINT64_MAX, "do not hold exactly");
	bad = good;
	bad.magic ^= 1;
	write_header(fd, bad);
	refuse(fd, 100, "something else");
	bad = good;
	bad.version++;
	write_header(fd, bad);
	refuse(fd, 100, "version 2");
	bad = good;
	bad.pages++;
	write_header(fd, bad);
	refuse(fd, 100, "of 101 pages");
	write_header(fd, good);
	assert_int_equal(fl_table_attach(&other, fd, 100, NULL), 0);
	fl_table_free(other);
	fl_table_free(table);
}

/* Every cell that no transition makes is found, in whole words and in the rest behind them. */
static void attach_refuses_cells_that_cannot_be(void **state)
{
	static const uint64_t places[] = {0, 9, 63, 66};
	struct fl_table *table = new_table(67);
	struct fl_table *other = NULL;

	(void)state;
	for (unsigned int cell = 0; cell < 256; cell++) {
		uint64_t page = places[cell % 4];
		bool legal = cell <= FL_POISONED || (cell & FL_CELL_STATE) == FL_PENDING;
		char why[32];

		set_cell(table, page, (uint8_t)cell);
		(void)snprintf(why, sizeof(why), "page %d has", (int)page);
		if (legal) {
			assert_int_equal(fl_table_attach(&other, fl_table_fd(table), 67, NULL), 0);
			fl_table_free(other);
			other = NULL;
		} else {
			refuse(fl_table_fd(table), 67, why);
		}
		set_cell(table, page, FL_ABSENT);
	}
	fl_table_free(table);
}

/* Another process may scribble later: no index leaves its array, and nothing is ever supplied. */
static void a_cell_gone_bad_counts_as_poisoned(void **state)
{
	struct fl_table *table = new_table(20);

	(void)state;
	for (uint8_t bad = 5; bad < 8; bad++) {
		uint64_t counts[FL_PAGE_STATES];

		for (uint64_t page = 2; page < 20; page += 15) {
			set_cell(table, page, (uint8_t)(bad | 0xf8));
			assert_int_equal(fl_table_state(table, page), FL_POISONED);
			assert_int_equal(fl_table_claim(table, page, FL_WAITER_UFFD),
					 FL_CLAIM_POISONED);
			assert_int_equal(fl_table_find(table, FL_POISONED, page, 20), page);
		}
		fl_table_count(table, counts);
		assert_int_equal(counts[FL_POISONED], 2);
		assert_int_equal(counts[FL_ABSENT], 18);
	}
	fl_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_table_is_absent_throughout),
		cmocka_unit_test(a_fetch_ends_in_present_and_returns_each_waiter_once),
		cmocka_unit_test(every_waiter_has_its_own_bit),
		cmocka_unit_test(a_fetch_given_up_can_be_taken_on_again),
		cmocka_unit_test(a_poisoned_page_stays_so_until_it_is_removed),
		cmocka_unit_test(remove_is_legal_from_every_state),
		cmocka_unit_test(a_removed_page_is_zeros_when_touched),
		cmocka_unit_test(a_late_fetch_does_not_touch_a_claim_of_zeros),
		cmocka_unit_test(settle_refuses_what_is_no_claim_or_no_end),
		cmocka_unit_test(only_a_present_page_is_rearmed),
		cmocka_unit_test(adopt_takes_absent_pages_and_no_others),
		cmocka_unit_test(recover_voids_claims_and_nothing_else),
		cmocka_unit_test(find_agrees_with_looking_at_each_page),
		cmocka_unit_test(find_stops_where_the_table_does),
		cmocka_unit_test(count_agrees_with_looking_at_each_page),
		cmocka_unit_test(count_holds_a_lane_full_of_one_state),
		cmocka_unit_test(the_fault_path_allocates_nothing),
		cmocka_unit_test(the_memfd_is_sealed_and_closed_on_exec),
		cmocka_unit_test(nothing_is_left_open),
		cmocka_unit_test(more_pages_than_a_file_can_have_are_refused),
		cmocka_unit_test(another_process_sees_and_changes_the_same_table),
		cmocka_unit_test(attach_refuses_what_is_no_table),
		cmocka_unit_test(attach_refuses_another_version_or_size),
		cmocka_unit_test(attach_refuses_cells_that_cannot_be),
		cmocka_unit_test(a_cell_gone_bad_counts_as_poisoned),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
