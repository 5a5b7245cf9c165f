/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"

static int open_zero(void **state)
{
	return fl_source_zero_open((struct fl_source **)state);
}

static int close_source(void **state)
{
	fl_source_close(*state);
	return 0;
}

static void it_has_no_end_and_is_all_zeros(void **state)
{
	struct fl_extent extent;

	assert_int_equal(fl_source_length(*state), UINT64_MAX);
	fl_source_extent(*state, 12345, &extent);
	assert_true(extent.zeros);
	assert_int_equal(extent.len_bytes, UINT64_MAX - 12345);
}

static void a_read_is_answered_at_once(void **state)
{
	struct fl_queue *queue = queue_of(*state, 1);
	char buf[100];

	memset(buf, 0xaa, sizeof(buf));
	assert_int_equal(fl_queue_fd(queue), -1);
	assert_int_equal(fl_queue_try(queue, buf, 99, UINT64_MAX - 200), 0);
	assert_int_equal(test_nonzero(buf, 99), -1);
	assert_int_equal((unsigned char)buf[99], 0xaa);
	fl_queue_close(queue);
}

static void what_is_submitted_ends_at_the_next_reap(void **state)
{
	struct fl_queue *queue = queue_of(*state, 2);
	struct job jobs[3];
	char buf[3][64];

	memset(buf, 0xaa, sizeof(buf));
	for (int i = 0; i < 3; i++)
		job_init(&jobs[i], buf[i], 64, 0);
	assert_int_equal(fl_queue_submit(queue, &jobs[0].read), 0);
	assert_int_equal(fl_queue_submit(queue, &jobs[1].read), 0);
	assert_int_equal(fl_queue_submit(queue, &jobs[2].read), -EBUSY);
	assert_int_equal(jobs[0].ended + jobs[1].ended, 0);
	assert_int_equal(fl_queue_reap(queue), 2);
	assert_int_equal(fl_queue_reap(queue), 0);
	assert_int_equal(jobs[0].ended, 1);
	assert_int_equal(jobs[1].ended, 1);
	assert_int_equal(jobs[2].ended, 0);
	assert_int_equal(jobs[0].read.result, 0);
	assert_int_equal(test_nonzero(buf, 128), -1);
	assert_int_equal(fl_queue_submit(queue, &jobs[2].read), 0);
	fl_queue_close(queue);
	assert_int_equal(jobs[2].ended, 0);
}

struct chain {
	struct job job;
	struct fl_queue *queue;
};

static void submit_again(struct fl_read *read)
{
	struct chain *chain = read->ctx;

	chain->job.ended++;
	if (fl_queue_submit(chain->queue, read))
		chain->job.ended += 1000;
}

static void a_done_that_submits_does_not_hold_reap(void **state)
{
	struct chain chain = {.queue = queue_of(*state, 1)};
	char buf[8];

	job_init(&chain.job, buf, sizeof(buf), 0);
	chain.job.read.done = submit_again;
	chain.job.read.ctx = &chain;
	assert_int_equal(fl_queue_submit(chain.queue, &chain.job.read), 0);
	for (unsigned int i = 1; i <= 5; i++) {
		assert_int_equal(fl_queue_reap(chain.queue), 1);
		assert_int_equal(chain.job.ended, i);
	}
	fl_queue_close(chain.queue);
}

static void reading_without_a_loop(void **state)
{
	char buf[5000];

	memset(buf, 0xaa, sizeof(buf));
	assert_int_equal(fl_source_read(*state, buf, sizeof(buf), 1ULL << 40), 0);
	assert_int_equal(test_nonzero(buf, sizeof(buf)), -1);
	assert_int_equal(fl_source_read(*state, buf, 10, UINT64_MAX - 9), -ENODATA);
}

static void a_depth_out_of_range_is_refused(void **state)
{
	struct fl_queue *queue = NULL;

	assert_int_equal(fl_queue_open(*state, 0, &queue), -EINVAL);
	assert_int_equal(fl_queue_open(*state, 4097, &queue), -EINVAL);
	assert_null(queue);
	queue = queue_of(*state, 4096);
	fl_queue_close(queue);
}

static int fail_at_once(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	(void)queue;
	(void)buf;
	(void)len_bytes;
	(void)offset;
	return -EIO;
}

/* Whatever a kind of source answers: what a read fails with is told by its done(). */
static void a_try_that_fails_is_to_be_submitted(void **state)
{
	static const struct fl_queue_ops ops = {
		.size = sizeof(ops), .version = FL_QUEUE_OPS_VERSION, .attempt = fail_at_once};
	struct fl_queue queue = {.ops = &ops};
	char buf[8];

	(void)state;
	assert_int_equal(fl_queue_try(&queue, buf, sizeof(buf), 0), -EAGAIN);
}

static void closing_nothing_is_fine(void **state)
{
	(void)state;
	fl_queue_close(NULL);
	fl_source_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_zero, close_source)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_has_no_end_and_is_all_zeros),
		TEST(a_read_is_answered_at_once),
		TEST(what_is_submitted_ends_at_the_next_reap),
		TEST(a_done_that_submits_does_not_hold_reap),
		TEST(reading_without_a_loop),
		TEST(a_depth_out_of_range_is_refused),
		cmocka_unit_test(a_try_that_fails_is_to_be_submitted),
		cmocka_unit_test(closing_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
