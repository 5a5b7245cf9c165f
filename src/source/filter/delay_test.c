/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"
#include "util/clock.h"

#define LEN     65536
#define SEED    9
#define HOUR_US (3600ULL * 1000000)

static struct fl_source *delayed_image(uint64_t delay_us)
{
	int fd = test_image(LEN, SEED);
	struct fl_source *source = source_of_fd(fd, 0);

	close(fd);
	assert_int_equal(fl_filter_delay_new(&source, delay_us), 0);
	return source;
}

static void every_read_takes_so_much_longer(void **state)
{
	struct fl_source *source = delayed_image(3000);
	struct fl_queue *queue = queue_of(source, 4);
	static char buf[LEN];
	uint64_t start_ns;

	(void)state;
	assert_int_equal(fl_queue_try(queue, buf, 8, 0), -EAGAIN);
	start_ns = fl_clock_ns();
	assert_int_equal(submit_and_wait(queue, buf, LEN, 0), 0);
	assert_true(fl_clock_ns() - start_ns >= 3 * FL_NS_PER_MS);
	assert_filled(buf, LEN, 0, SEED);
	start_ns = fl_clock_ns();
	memset(buf, 0, LEN);
	assert_int_equal(fl_source_read(source, buf, LEN, 0), 0);
	assert_true(fl_clock_ns() - start_ns >= 3 * FL_NS_PER_MS);
	assert_filled(buf, LEN, 0, SEED);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void reads_wait_side_by_side(void **state)
{
	struct fl_source *source = delayed_image(1000);
	struct fl_queue *queue = queue_of(source, 16);
	static struct job jobs[17];
	static char buf[LEN];

	(void)state;
	for (unsigned int i = 0; i < 17; i++) {
		job_init(&jobs[i], buf + i * 64, 64, i * 64);
		assert_int_equal(fl_queue_submit(queue, &jobs[i].read), i < 16 ? 0 : -EBUSY);
	}
	reap_reads(queue, 16);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(jobs[i].ended, 1);
	assert_filled(buf, 16 * 64, 0, SEED);
	assert_int_equal(test_nonzero(buf + 16 * 64, 64), -1);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void nothing_ends_before_its_time(void **state)
{
	struct fl_source *source = delayed_image(HOUR_US);
	unsigned int fds = test_open_fds();
	struct fl_queue *queue = queue_of(source, 8);
	static struct job jobs[8];
	static char buf[LEN];

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		job_init(&jobs[i], buf, LEN, 0);
		assert_int_equal(fl_queue_submit(queue, &jobs[i].read), 0);
	}
	assert_int_equal(fl_queue_reap(queue), 0);
	assert_false(is_readable(fl_queue_fd(queue)));
	/* Held reads are dropped: closing does not wait for the hour. */
	fl_queue_close(queue);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(jobs[i].ended, 0);
	assert_int_equal(test_nonzero(buf, LEN), -1);
	assert_int_equal(test_open_fds(), fds);
	fl_source_close(source);
}

/* The source below has no descriptor to tell by. */
static void zeros_can_be_slow_too(void **state)
{
	struct fl_source *source;
	struct fl_queue *queue;
	char buf[64];

	(void)state;
	assert_int_equal(fl_source_zero_open(&source), 0);
	assert_int_equal(fl_filter_delay_new(&source, 100), 0);
	queue = queue_of(source, 1);
	for (int i = 0; i < 3; i++) {
		memset(buf, 0xaa, sizeof(buf));
		assert_int_equal(submit_and_wait(queue, buf, sizeof(buf), 0), 0);
		assert_int_equal(test_nonzero(buf, sizeof(buf)), -1);
	}
	assert_false(is_readable(fl_queue_fd(queue)));
	fl_queue_close(queue);
	fl_source_close(source);
}

static void a_delay_beyond_all_bounds_is_long(void **state)
{
	struct fl_source *source = delayed_image(UINT64_MAX);
	struct fl_queue *queue = queue_of(source, 1);
	struct job job;
	char buf[8];

	(void)state;
	job_init(&job, buf, 8, 0);
	assert_int_equal(fl_queue_submit(queue, &job.read), 0);
	assert_true(job.read.due_ns > fl_clock_ns() + 24 * 3600 * FL_NS_PER_S);
	assert_int_equal(fl_queue_reap(queue), 0);
	fl_queue_close(queue);
	fl_source_close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_read_takes_so_much_longer),
		cmocka_unit_test(reads_wait_side_by_side),
		cmocka_unit_test(nothing_ends_before_its_time),
		cmocka_unit_test(zeros_can_be_slow_too),
		cmocka_unit_test(a_delay_beyond_all_bounds_is_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
