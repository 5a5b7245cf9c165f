/* SPDX-License-Identifier: MIT */
/* What filling may not take from faults, and what happens when not even poison is to be had. */
#include "guest_test.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "pager/pager.h"

/* Filling goes in steps of STEP_BYTES: faults are looked at between any two of them. */
static void steps(const char *filter)
{
	uint64_t before = 0, most = STEP_BYTES / 4096;
	struct guest guest;

	guest_start(&guest, &(struct guest_config){.pages = 2000,
						   .flags = FL_PAGER_FILL,
						   .filters = {filter},
						   .stopped = true});
	while (!guest_stats_now(&guest).full_ns) {
		struct fl_pager_stats stats;

		assert_true(fl_pager_run(guest.pager) >= 0);
		stats = guest_stats_now(&guest);
		assert_in_range(stats.fill - before, 0, most);
		before = stats.fill;
	}
	assert_int_equal(before, 2000);
	guest_check_all(&guest);
	guest_stop(&guest);
}

static void test_steps(void **state)
{
	(void)state;
	steps(NULL);
}

static void test_steps_after_long_reads(void **state)
{
	(void)state;
	steps("delay=1ms");
}

/* While a fault waits for the device, one read of a fill is in its way at most. */
static void test_one_read_in_the_way(void **state)
{
	struct toucher toucher;
	struct guest guest;
	struct pollfd fault;
	unsigned int most = 0;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 4000,
						   .flags = FL_PAGER_FILL,
						   .filters = {"delay=300ms"},
						   .stopped = true});
	toucher_start(&toucher, guest_addr(&guest, 3999));
	fault = (struct pollfd){.fd = fl_trap_fd(guest.trap), .events = POLLIN};
	assert_int_equal(poll(&fault, 1, 60000), 1);
	do {
		const struct fl_pager *pager = guest.pager;
		unsigned int fills;

		assert_true(fl_pager_run(guest.pager) >= 0);
		fills = pager->reading - pager->reading_demand;
		if (pager->reading_demand && fills > most)
			most = fills;
	} while (!guest_stats_now(&guest).demand);
	assert_int_equal(most, 1);
	toucher_join(&toucher);
	guest_stop(&guest);
}

/* Where the kernel has no UFFDIO_POISON, a page that cannot be read ends the session by name. */
static void test_no_poison(void **state)
{
	struct fl_install_ops ops;
	struct toucher toucher;
	struct guest guest;
	int result;

	(void)state;
	guest_start(&guest, &(struct guest_config){.filters = {"error=EIO,range=40960+4096"},
						   .stopped = true});
	ops = *guest.install->ops;
	ops.poison = NULL;
	guest.install->ops = &ops;
	toucher_start(&toucher, guest_addr(&guest, 10));
	guest_wait(guest_waiting(&guest, NULL) == 1);
	do
		result = guest_run(&guest, 1000);
	while (result >= 0);
	assert_int_equal(result, -EOPNOTSUPP);
	assert_non_null(strstr(fl_pager_error(guest.pager),
			       "the page at offset 0xa000 cannot be supplied"));
	assert_int_equal(guest_stats_now(&guest).poisoned, 0);
	assert_int_equal(fl_table_state(guest.table, 10), FL_PENDING);
	/* The session's owner ends the VMM; here its thread is let go. */
	assert_int_equal(fl_trap_release(guest.trap, (uintptr_t)guest.mem, guest.map_len), 0);
	toucher_join(&toucher);
	guest_stop(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_steps_after_long_reads),
		cmocka_unit_test(test_one_read_in_the_way),
		cmocka_unit_test(test_no_poison),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
