/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"

#include <pthread.h>

#define LEN  65536
#define SEED 5

static void assert_stats(struct fl_source *source, uint64_t attempts, uint64_t submits,
			 uint64_t errors, uint64_t bytes)
{
	struct fl_source_stats stats;

	assert_int_equal(fl_filter_stats_read(source, &stats), 0);
	assert_int_equal(stats.attempts, attempts);
	assert_int_equal(stats.submits, submits);
	assert_int_equal(stats.errors, errors);
	assert_int_equal(stats.bytes, bytes);
}

static void every_way_is_counted(void **state)
{
	int fd = test_image(LEN, SEED);
	struct fl_source *source = source_of_fd(fd, 0);
	struct fl_queue *queue;
	struct job jobs[2];
	static char buf[LEN];

	(void)state;
	assert_int_equal(fl_filter_stats_new(&source), 0);
	assert_int_equal(fl_source_length(source), LEN);
	queue = queue_of(source, 1);
	assert_stats(source, 0, 0, 0, 0);
	assert_int_equal(submit_and_wait(queue, buf, 4096, 8192), 0);
	assert_filled(buf, 4096, 8192, SEED);
	assert_stats(source, 0, 1, 0, 4096);
	assert_int_equal(submit_and_wait(queue, buf, 16, LEN - 8), -ENODATA);
	assert_stats(source, 0, 2, 1, 4096);
	/* An attempt without an answer is no read, nor is a submit that is refused. */
	assert_int_equal(fl_queue_try(queue, buf, 16, LEN - 8), -EAGAIN);
	job_init(&jobs[0], buf, 8, 0);
	job_init(&jobs[1], buf, 8, 0);
	assert_int_equal(fl_queue_submit(queue, &jobs[0].read), 0);
	assert_int_equal(fl_queue_submit(queue, &jobs[1].read), -EBUSY);
	assert_int_equal(jobs[1].read.depth, 0);
	reap_reads(queue, 1);
	assert_stats(source, 0, 3, 1, 4104);
	fl_queue_close(queue);
	fl_source_close(source);
	close(fd);
}

static void what_is_answered_at_once_is_counted(void **state)
{
	struct fl_source *source;
	struct fl_queue *queue;
	char buf[100];

	(void)state;
	assert_int_equal(fl_source_zero_open(&source), 0);
	assert_int_equal(fl_filter_stats_new(&source), 0);
	queue = queue_of(source, 1);
	assert_int_equal(fl_queue_fd(queue), -1);
	assert_int_equal(fl_queue_try(queue, buf, 100, 0), 0);
	assert_int_equal(fl_queue_try(queue, buf, 11, 5), 0);
	assert_stats(source, 2, 0, 0, 111);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void other_sources_have_none(void **state)
{
	struct fl_source_stats stats;
	struct fl_source *source;

	(void)state;
	assert_int_equal(fl_source_zero_open(&source), 0);
	assert_int_equal(fl_filter_stats_read(source, &stats), -EINVAL);
	assert_int_equal(fl_filter_delay_new(&source, 1), 0);
	assert_int_equal(fl_filter_stats_read(source, &stats), -EINVAL);
	fl_source_close(source);
}

static void *read_much(void *arg)
{
	struct fl_source *source = arg;
	struct fl_queue *queue;
	struct fl_source_stats stats;
	char buf[8];

	if (fl_queue_open(source, 1, &queue))
		return arg;
	for (int i = 0; i < 10000; i++)
		(void)fl_queue_try(queue, buf, sizeof(buf), 0);
	(void)fl_filter_stats_read(source, &stats);
	fl_queue_close(queue);
	return NULL;
}

static void queues_of_all_threads_are_summed(void **state)
{
	struct fl_source *source;
	pthread_t threads[2];
	void *failed;

	(void)state;
	assert_int_equal(fl_source_zero_open(&source), 0);
	assert_int_equal(fl_filter_stats_new(&source), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_much, source), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_stats(source, 20000, 0, 0, 160000);
	fl_source_close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way_is_counted),
		cmocka_unit_test(what_is_answered_at_once_is_counted),
		cmocka_unit_test(other_sources_have_none),
		cmocka_unit_test(queues_of_all_threads_are_summed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
