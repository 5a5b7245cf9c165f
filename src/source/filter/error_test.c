/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"

#include <pthread.h>

#define PAGE 4096ULL

static struct fl_source *failing_zeros(const struct fl_error_rule *rule)
{
	struct fl_source *source;

	assert_int_equal(fl_source_zero_open(&source), 0);
	assert_int_equal(fl_filter_error_new(&source, rule), 0);
	return source;
}

/* As a pager reads: at once if that can be. */
static int read_one(struct fl_queue *queue, uint64_t offset, uint64_t len_bytes)
{
	static char buf[16 * PAGE];

	memset(buf, 0xaa, len_bytes);
	if (fl_queue_try(queue, buf, len_bytes, offset)) {
		int ret = submit_and_wait(queue, buf, len_bytes, offset);

		if (ret)
			return ret;
	}
	assert_int_equal(test_nonzero(buf, len_bytes), -1);
	return 0;
}

static void every_nth_fails(void **state)
{
	struct fl_source *source = failing_zeros(&(struct fl_error_rule){.code = EIO, .every = 3});
	struct fl_queue *queue = queue_of(source, 1);

	(void)state;
	for (unsigned int i = 1; i <= 30; i++)
		assert_int_equal(read_one(queue, i * PAGE, 8), i % 3 ? 0 : -EIO);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void an_attempt_takes_no_number(void **state)
{
	struct fl_source *source = failing_zeros(&(struct fl_error_rule){.code = EIO, .every = 2});
	struct fl_queue *queue = queue_of(source, 1);
	char buf[8];

	(void)state;
	assert_int_equal(fl_queue_try(queue, buf, 8, 0), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(fl_queue_try(queue, buf, 8, 0), -EAGAIN);
	assert_int_equal(submit_and_wait(queue, buf, 8, 0), -EIO);
	assert_int_equal(submit_and_wait(queue, buf, 8, 0), 0);
	assert_int_equal(submit_and_wait(queue, buf, 8, 0), -EIO);
	assert_int_equal(fl_queue_try(queue, buf, 8, 0), 0);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void only_the_first_ones_fail(void **state)
{
	struct fl_source *source =
		failing_zeros(&(struct fl_error_rule){.code = ENOMEM, .every = 2, .first = 3});
	struct fl_queue *queue = queue_of(source, 1);

	(void)state;
	for (int i = 1; i <= 20; i++)
		assert_int_equal(read_one(queue, 0, 8), i % 2 || i > 6 ? 0 : -ENOMEM);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void only_what_touches_the_range_fails(void **state)
{
	struct fl_source *source = failing_zeros(&(struct fl_error_rule){
		.code = EIO, .every = 1, .offset = 4 * PAGE, .len_bytes = 2 * PAGE});
	struct fl_queue *queue = queue_of(source, 1);

	(void)state;
	assert_int_equal(read_one(queue, 0, 4 * PAGE), 0);
	assert_int_equal(read_one(queue, 0, 4 * PAGE + 1), -EIO);
	assert_int_equal(read_one(queue, 5 * PAGE, 1), -EIO);
	assert_int_equal(read_one(queue, 6 * PAGE - 1, 1), -EIO);
	assert_int_equal(read_one(queue, 6 * PAGE, PAGE), 0);
	assert_int_equal(read_one(queue, 0, 16 * PAGE), -EIO);
	assert_int_equal(read_one(queue, UINT64_MAX - 8, 8), 0);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void assert_extent(struct fl_source *source, uint64_t offset, bool zeros, uint64_t len_bytes)
{
	struct fl_extent extent;

	fl_source_extent(source, offset, &extent);
	assert_int_equal(extent.zeros, zeros);
	assert_int_equal(extent.len_bytes, len_bytes);
}

static void zeros_in_the_range_must_be_read(void **state)
{
	struct fl_source *source = failing_zeros(&(struct fl_error_rule){
		.code = EIO, .every = 1, .offset = 4 * PAGE, .len_bytes = 2 * PAGE});
	char buf[8];

	(void)state;
	assert_extent(source, 0, true, 4 * PAGE);
	assert_extent(source, 3 * PAGE + 1, true, PAGE - 1);
	assert_extent(source, 4 * PAGE, false, 2 * PAGE);
	assert_extent(source, 6 * PAGE - 1, false, 1);
	assert_extent(source, 6 * PAGE, true, UINT64_MAX - 6 * PAGE);
	assert_int_equal(fl_source_read(source, buf, 8, 0), 0);
	assert_int_equal(fl_source_read(source, buf, 8, 4 * PAGE), -EIO);
	fl_source_close(source);
	source = failing_zeros(&(struct fl_error_rule){.code = EIO, .every = 1, .offset = PAGE});
	assert_extent(source, 0, true, PAGE);
	assert_extent(source, PAGE, false, UINT64_MAX - PAGE);
	fl_source_close(source);
}

static void failed_reads_fill_the_queue_too(void **state)
{
	struct fl_source *source = failing_zeros(&(struct fl_error_rule){.code = EIO, .every = 2});
	struct fl_queue *queue = queue_of(source, 4);
	struct job jobs[5];
	char buf[5][8];

	(void)state;
	for (int i = 0; i < 5; i++) {
		job_init(&jobs[i], buf[i], 8, 0);
		assert_int_equal(fl_queue_submit(queue, &jobs[i].read), i < 4 ? 0 : -EBUSY);
	}
	reap_reads(queue, 4);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(jobs[i].ended, 1);
		assert_int_equal(jobs[i].read.result, i % 2 ? -EIO : 0);
	}
	assert_false(is_readable(fl_queue_fd(queue)));
	fl_queue_close(queue);
	fl_source_close(source);
}

static void a_rule_without_sense_is_refused(void **state)
{
	struct fl_source *source, *before;

	(void)state;
	assert_int_equal(fl_source_zero_open(&source), 0);
	before = source;
	assert_int_equal(fl_filter_error_new(&source, &(struct fl_error_rule){.every = 1}),
			 -EINVAL);
	assert_int_equal(
		fl_filter_error_new(&source, &(struct fl_error_rule){.code = -EIO, .every = 1}),
		-EINVAL);
	assert_int_equal(fl_filter_error_new(&source, &(struct fl_error_rule){.code = EIO}),
			 -EINVAL);
	assert_ptr_equal(source, before);
	fl_source_close(source);
}

#define GUEST_READS 5000

struct guest {
	pthread_t thread;
	struct fl_source *source;
	unsigned int failed;
	bool broken;
};

static void *read_much(void *arg)
{
	struct guest *guest = arg;
	struct fl_queue *queue;
	char buf[8];

	guest->broken = fl_queue_open(guest->source, 1, &queue) != 0;
	for (int i = 0; i < GUEST_READS && !guest->broken; i++) {
		struct job job;

		if (!fl_queue_try(queue, buf, sizeof(buf), 0))
			continue;
		job_init(&job, buf, sizeof(buf), 0);
		guest->broken = fl_queue_submit(queue, &job.read) != 0;
		while (!guest->broken && !job.ended)
			(void)wait_and_reap(queue);
		guest->failed += job.read.result == -EIO;
	}
	if (!guest->broken)
		fl_queue_close(queue);
	return NULL;
}

/* Numbers are neither given twice nor left out, however the guests meet. */
static void guests_share_the_numbers(void **state)
{
	struct fl_source *source = failing_zeros(&(struct fl_error_rule){.code = EIO, .every = 5});
	struct guest guests[2] = {{.source = source}, {.source = source}};

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&guests[i].thread, NULL, read_much, &guests[i]), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(guests[i].thread, NULL), 0);
		assert_false(guests[i].broken);
	}
	assert_int_equal(guests[0].failed + guests[1].failed, 2 * GUEST_READS / 5);
	fl_source_close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_nth_fails),
		cmocka_unit_test(an_attempt_takes_no_number),
		cmocka_unit_test(only_the_first_ones_fail),
		cmocka_unit_test(only_what_touches_the_range_fails),
		cmocka_unit_test(zeros_in_the_range_must_be_read),
		cmocka_unit_test(failed_reads_fill_the_queue_too),
		cmocka_unit_test(a_rule_without_sense_is_refused),
		cmocka_unit_test(guests_share_the_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
