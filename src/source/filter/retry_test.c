/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"
#include "util/clock.h"

#define LEN  65536
#define SEED 21

/* An image that fails as rule says, statistics over it, and retries over them. */
struct stack {
	struct fl_source *stats;
	struct fl_source *source;
	struct fl_queue *queue;
};

static struct stack stack_of(const struct fl_error_rule *rule, const struct fl_retry_policy *policy)
{
	int fd = test_image(LEN, SEED);
	struct fl_source *source = source_of_fd(fd, 0);
	struct stack stack;

	close(fd);
	assert_int_equal(fl_filter_error_new(&source, rule), 0);
	assert_int_equal(fl_filter_stats_new(&source), 0);
	stack.stats = source;
	assert_int_equal(fl_filter_retry_new(&source, policy), 0);
	stack.source = source;
	stack.queue = queue_of(source, 4);
	return stack;
}

static void unstack(struct stack *stack)
{
	fl_queue_close(stack->queue);
	fl_source_close(stack->source);
}

static void assert_tries(struct stack *stack, uint64_t submits, uint64_t errors)
{
	struct fl_source_stats stats;

	assert_int_equal(fl_filter_stats_read(stack->stats, &stats), 0);
	assert_int_equal(stats.submits, submits);
	assert_int_equal(stats.errors, errors);
}

static void a_passing_error_is_not_seen(void **state)
{
	struct stack stack = stack_of(&(struct fl_error_rule){.code = EIO, .every = 1, .first = 2},
				      &(struct fl_retry_policy){.tries = 3});
	static char buf[LEN];

	(void)state;
	assert_int_equal(submit_and_wait(stack.queue, buf, LEN, 0), 0);
	assert_filled(buf, LEN, 0, SEED);
	assert_tries(&stack, 3, 2);
	assert_int_equal(submit_and_wait(stack.queue, buf, 8, 8), 0);
	assert_tries(&stack, 4, 2);
	unstack(&stack);
}

static void a_lasting_error_is_told_after_the_tries(void **state)
{
	struct stack stack = stack_of(&(struct fl_error_rule){.code = EIO, .every = 1},
				      &(struct fl_retry_policy){.tries = 4});
	char buf[8];

	(void)state;
	assert_int_equal(fl_queue_try(stack.queue, buf, 8, 0), -EAGAIN);
	assert_int_equal(submit_and_wait(stack.queue, buf, 8, 0), -EIO);
	assert_tries(&stack, 4, 4);
	/* Each read has all the tries. */
	assert_int_equal(submit_and_wait(stack.queue, buf, 8, 0), -EIO);
	assert_tries(&stack, 8, 8);
	unstack(&stack);
}

static void one_try_is_no_retry(void **state)
{
	struct stack stack = stack_of(&(struct fl_error_rule){.code = EIO, .every = 1},
				      &(struct fl_retry_policy){.tries = 1});
	char buf[8];

	(void)state;
	assert_int_equal(submit_and_wait(stack.queue, buf, 8, 0), -EIO);
	assert_tries(&stack, 1, 1);
	unstack(&stack);
}

static void what_cannot_pass_is_not_tried_again(void **state)
{
	static const int codes[] = {ENODATA, EINVAL, EBADF, EFAULT, EOPNOTSUPP, EPERM, EACCES};
	char buf[8];

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct stack stack = stack_of(&(struct fl_error_rule){.code = codes[i], .every = 1},
					      &(struct fl_retry_policy){.tries = 5});

		assert_int_equal(submit_and_wait(stack.queue, buf, 8, 0), -codes[i]);
		assert_tries(&stack, 1, 1);
		unstack(&stack);
	}
}

static void what_may_pass_is_tried_again(void **state)
{
	static const int codes[] = {EIO, EAGAIN, ETIMEDOUT, ENOMEM, ECONNRESET};
	char buf[8];

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct stack stack =
			stack_of(&(struct fl_error_rule){.code = codes[i], .every = 1, .first = 1},
				 &(struct fl_retry_policy){.tries = 2});

		assert_int_equal(submit_and_wait(stack.queue, buf, 8, 0), 0);
		assert_tries(&stack, 2, 1);
		unstack(&stack);
	}
}

static void the_wait_doubles_up_to_the_longest(void **state)
{
	struct stack stack =
		stack_of(&(struct fl_error_rule){.code = EIO, .every = 1},
			 &(struct fl_retry_policy){.tries = 5, .first_ms = 1, .max_ms = 3});
	uint64_t waits_ms[] = {1, 2, 3, 3};
	struct job job;
	char buf[8];

	(void)state;
	job_init(&job, buf, 8, 0);
	assert_int_equal(fl_queue_submit(stack.queue, &job.read), 0);
	for (int i = 0; i < 4; i++) {
		uint64_t before_ns = fl_clock_ns(), after_ns;
		struct fl_source_stats stats = {0};

		/* Until the next try has failed, and the read is held. */
		while (stats.errors < (uint64_t)i + 1) {
			before_ns = fl_clock_ns();
			assert_int_equal(wait_and_reap(stack.queue), 0);
			assert_int_equal(fl_filter_stats_read(stack.stats, &stats), 0);
		}
		after_ns = fl_clock_ns();
		assert_true(job.read.due_ns >= before_ns + waits_ms[i] * FL_NS_PER_MS);
		assert_true(job.read.due_ns <= after_ns + waits_ms[i] * FL_NS_PER_MS);
	}
	reap_reads(stack.queue, 1);
	assert_int_equal(job.read.result, -EIO);
	unstack(&stack);
}

static void reads_that_wait_are_in_flight(void **state)
{
	struct stack stack = stack_of(
		&(struct fl_error_rule){.code = EIO, .every = 1},
		&(struct fl_retry_policy){.tries = 2, .first_ms = 3600000, .max_ms = 3600000});
	struct fl_source_stats stats = {0};
	struct job jobs[5];
	char buf[5][8];

	(void)state;
	for (int i = 0; i < 5; i++) {
		job_init(&jobs[i], buf[i], 8, 0);
		assert_int_equal(fl_queue_submit(stack.queue, &jobs[i].read), i < 4 ? 0 : -EBUSY);
	}
	while (stats.errors < 4) {
		assert_int_equal(wait_and_reap(stack.queue), 0);
		assert_int_equal(fl_filter_stats_read(stack.stats, &stats), 0);
	}
	/* Nothing is below any more; all of them wait, and count. */
	assert_int_equal(fl_queue_submit(stack.queue, &jobs[4].read), -EBUSY);
	unstack(&stack);
	for (int i = 0; i < 5; i++)
		assert_int_equal(jobs[i].ended, 0);
}

static void no_tries_are_refused(void **state)
{
	struct fl_source *source, *before;

	(void)state;
	assert_int_equal(fl_source_zero_open(&source), 0);
	before = source;
	assert_int_equal(fl_filter_retry_new(&source, &(struct fl_retry_policy){.first_ms = 1}),
			 -EINVAL);
	assert_ptr_equal(source, before);
	fl_source_close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_passing_error_is_not_seen),
		cmocka_unit_test(a_lasting_error_is_told_after_the_tries),
		cmocka_unit_test(one_try_is_no_retry),
		cmocka_unit_test(what_cannot_pass_is_not_tried_again),
		cmocka_unit_test(what_may_pass_is_tried_again),
		cmocka_unit_test(the_wait_doubles_up_to_the_longest),
		cmocka_unit_test(reads_that_wait_are_in_flight),
		cmocka_unit_test(no_tries_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
