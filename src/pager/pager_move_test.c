/* SPDX-License-Identifier: MIT */
/* The VMM moves, unmaps and copies its memory. */
#include "guest_test.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_remap(void **state)
{
	struct fl_place place;
	struct guest guest;
	char *to;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 64, .regions = 2});
	guest_check(&guest, 17);
	guest_addr(&guest, 17)[5] = 1;
	to = mmap(NULL, 8 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(to, MAP_FAILED);
	assert_ptr_equal(mremap(guest.mem + 16 * 4096, 8 * 4096, 8 * 4096,
				MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 to);
	assert_int_equal(to[4096 + 5], 1);
	for (size_t i = 2; i < 8; i++)
		assert_filled(to + i * 4096, 4096, (16 + i) * 4096, GUEST_SEED);
	guest_check(&guest, 15);
	guest_check(&guest, 24);
	fl_pager_stop(guest.pager);
	assert_int_equal(fl_layout_by_page(guest.layout, 20, &place), 0);
	assert_ptr_equal(place.addr, to + 4 * 4096);
	assert_int_equal(fl_pager_start(guest.pager), 0);
	assert_int_equal(munmap(to, 8 * 4096), 0);
	guest_check(&guest, 63);
	guest_stop(&guest);
}

static void test_unmap(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 64, .filters = {"delay=1ms"}});
	guest_check(&guest, 0);
	assert_int_equal(munmap(guest.mem + 8 * 4096, 24 * 4096), 0);
	fl_pager_fill(guest.pager);
	guest_wait_full(&guest);
	for (size_t page = 32; page < 64; page++)
		guest_check(&guest, page);
	stats = guest_stats(&guest);
	assert_int_equal(stats.left, 0);
	assert_int_equal(stats.removed, 24);
	guest_stop(&guest);
}

struct mover {
	char *from, *to;
};

static void *move(void *arg)
{
	struct mover *mover = arg;

	return mremap(mover->from, 16 * 4096, 16 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, mover->to);
}

/* A second mapping does not move along: better an end than zeros. The kernel lets the thread go
 * when the userfaultfd is closed. */
static void test_remap_with_alias(void **state)
{
	struct mover mover;
	struct guest guest;
	pthread_t thread;
	void *moved;

	(void)state;
	guest_start(&guest, &(struct guest_config){.kind = GUEST_MEMFD, .pages = 64});
	mover.from = guest.mem + 48 * 4096;
	mover.to = mmap(NULL, 16 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(mover.to, MAP_FAILED);
	assert_int_equal(pthread_create(&thread, NULL, move, &mover), 0);
	guest_wait_ended(&guest);
	assert_int_equal(guest.ended, -EOPNOTSUPP);
	assert_non_null(strstr(guest.log, "moved or unmapped"));
	guest_stop(&guest);
	assert_int_equal(pthread_join(thread, &moved), 0);
	assert_ptr_equal(moved, mover.to);
	assert_int_equal(munmap(mover.to, 16 * 4096), 0);
}

static void test_fork(void **state)
{
	struct guest guest;
	pid_t child;

	(void)state;
	guest_start(&guest, &(struct guest_config){.fork = true});
	guest_check(&guest, 0);
	child = fork();
	if (child == 0)
		_exit(0);
	assert_true(child > 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	guest_wait_ended(&guest);
	assert_int_equal(guest.ended, -EOPNOTSUPP);
	assert_non_null(strstr(guest.log, "forked"));
	assert_int_equal(fl_pager_run(guest.pager), -EOPNOTSUPP);
	guest_stop(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remap),
		cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_remap_with_alias),
		cmocka_unit_test(test_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
