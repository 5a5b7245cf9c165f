/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"
#include "source/filter/timer.h"
#include "util/clock.h"

#include <sys/eventfd.h>

static void wait_readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&pfd, 1, 60000), 1);
}

static void reads_come_in_the_order_of_their_times(void **state)
{
	static const uint64_t due[] = {50, 10, 30, 30, 70, 20, 10};
	static const int order[] = {1, 6, 5, 2, 3, 0, 4};
	struct fl_read reads[7];
	struct fl_hold hold;

	(void)state;
	assert_int_equal(fl_hold_open(&hold, -1, -1), 0);
	for (int i = 0; i < 7; i++)
		fl_hold_put(&hold, &reads[i], due[i]);
	for (int i = 0; i < 7; i++) {
		assert_null(fl_hold_take(&hold, due[order[i]] - 1));
		assert_ptr_equal(fl_hold_take(&hold, due[order[i]]), &reads[order[i]]);
	}
	assert_null(fl_hold_take(&hold, UINT64_MAX));
	fl_hold_put(&hold, &reads[0], 5);
	assert_ptr_equal(fl_hold_take(&hold, 5), &reads[0]);
	fl_hold_close(&hold);
}

static void the_descriptor_tells_when_one_is_due(void **state)
{
	struct fl_read late = {0}, early = {0};
	uint64_t now_ns = fl_clock_ns();
	struct fl_hold hold;

	(void)state;
	assert_int_equal(fl_hold_open(&hold, -1, -1), 0);
	assert_false(is_readable(hold.poll_fd));
	fl_hold_put(&hold, &late, now_ns + 3600 * FL_NS_PER_S);
	assert_false(is_readable(hold.poll_fd));
	fl_hold_put(&hold, &early, now_ns + FL_NS_PER_MS);
	wait_readable(hold.poll_fd);
	assert_true(fl_clock_ns() >= now_ns + FL_NS_PER_MS);
	assert_ptr_equal(fl_hold_take(&hold, fl_clock_ns()), &early);
	assert_null(fl_hold_take(&hold, fl_clock_ns()));
	fl_hold_arm(&hold);
	assert_false(is_readable(hold.poll_fd));
	fl_hold_close(&hold);
}

static void a_kick_lasts_until_it_is_taken_back(void **state)
{
	struct fl_hold hold;

	(void)state;
	assert_int_equal(fl_hold_open(&hold, -1, -1), 0);
	fl_hold_kick(&hold);
	wait_readable(hold.poll_fd);
	fl_hold_arm(&hold);
	assert_true(is_readable(hold.poll_fd));
	hold.kicked = false;
	fl_hold_arm(&hold);
	assert_false(is_readable(hold.poll_fd));
	fl_hold_close(&hold);
}

static void the_queue_below_is_watched_too(void **state)
{
	unsigned int fds = test_open_fds();
	int below = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct fl_hold hold;
	eventfd_t count;

	(void)state;
	assert_true(below >= 0);
	assert_int_equal(fl_hold_open(&hold, -1, below), 0);
	assert_false(is_readable(hold.poll_fd));
	assert_int_equal(eventfd_write(below, 1), 0);
	assert_true(is_readable(hold.poll_fd));
	assert_int_equal(eventfd_read(below, &count), 0);
	assert_false(is_readable(hold.poll_fd));
	fl_hold_kick(&hold);
	wait_readable(hold.poll_fd);
	fl_hold_close(&hold);
	close(below);
	assert_int_equal(test_open_fds(), fds);
}

static void holds_share_one_descriptor(void **state)
{
	unsigned int fds = test_open_fds();
	struct fl_hold lower, upper;

	(void)state;
	assert_int_equal(fl_hold_open(&lower, -1, -1), 0);
	assert_int_equal(fl_hold_open(&upper, lower.poll_fd, lower.poll_fd), 0);
	assert_int_equal(upper.poll_fd, lower.poll_fd);
	assert_int_equal(test_open_fds(), fds + 3);
	fl_hold_kick(&upper);
	wait_readable(lower.poll_fd);
	fl_hold_close(&upper);
	assert_false(is_readable(lower.poll_fd));
	fl_hold_kick(&lower);
	wait_readable(lower.poll_fd);
	fl_hold_close(&lower);
	assert_int_equal(test_open_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_come_in_the_order_of_their_times),
		cmocka_unit_test(the_descriptor_tells_when_one_is_due),
		cmocka_unit_test(a_kick_lasts_until_it_is_taken_back),
		cmocka_unit_test(the_queue_below_is_watched_too),
		cmocka_unit_test(holds_share_one_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
