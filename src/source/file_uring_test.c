/* SPDX-License-Identifier: MIT */

/* How requests are made and their results understood; no ring is needed. */

#include "source/reads_test.h"
#include "source/file_uring.c"

static struct fl_file_op op_of(struct fl_read *read, uint64_t len_bytes)
{
	*read = (struct fl_read){
		.buf = (void *)(uintptr_t)0x10000, .offset = 0x5000, .len_bytes = len_bytes};
	return (struct fl_file_op){.read = read, .result = 1};
}

static void a_short_read_goes_on(void **state)
{
	struct fl_file file = {.fd = 77};
	struct fl_file_queue queue = {.file = &file};
	struct io_uring_sqe sqe = {0};
	struct fl_read read;
	struct fl_file_op op = op_of(&read, 1000);

	(void)state;
	assert_false(completed(&op, 300));
	assert_false(completed(&op, 1));
	prepare(&queue, &sqe, &op);
	assert_int_equal(sqe.fd, 77);
	assert_int_equal(sqe.addr, 0x10000 + 301);
	assert_int_equal(sqe.off, 0x5000 + 301);
	assert_int_equal(sqe.len, 699);
	assert_true(completed(&op, 699));
	assert_int_equal(op.result, 0);
}

static void the_end_before_the_length_is_an_error(void **state)
{
	struct fl_read read;
	struct fl_file_op op = op_of(&read, 1000);

	(void)state;
	assert_false(completed(&op, 999));
	assert_true(completed(&op, 0));
	assert_int_equal(op.result, -ENODATA);
	op = op_of(&read, 0);
	assert_true(completed(&op, 0));
	assert_int_equal(op.result, 0);
}

static void passing_errors_are_asked_again_but_not_for_ever(void **state)
{
	static const int passing[] = {-EAGAIN, -EINTR, -ECANCELED};
	struct fl_read read;

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct fl_file_op op = op_of(&read, 1000);
		unsigned int again = 0;

		assert_false(completed(&op, passing[i]));
		assert_false(completed(&op, 500));
		/* Progress starts the count anew. */
		while (!completed(&op, passing[i]))
			again++;
		assert_int_equal(again, AGAIN_MAX - 1);
		assert_int_equal(op.result, passing[i]);
	}
}

static void an_unreadable_buffer_is_believed_the_second_time(void **state)
{
	struct fl_read read;
	struct fl_file_op op = op_of(&read, 1000);

	(void)state;
	assert_false(completed(&op, -EFAULT));
	assert_true(completed(&op, -EFAULT));
	assert_int_equal(op.result, -EFAULT);
}

static void other_errors_end_the_read(void **state)
{
	struct fl_read read;
	struct fl_file_op op = op_of(&read, 1000);

	(void)state;
	assert_false(completed(&op, 10));
	assert_true(completed(&op, -EIO));
	assert_int_equal(op.result, -EIO);
}

static bool by_worker(uint64_t len_bytes, uint32_t flags, unsigned short again)
{
	struct fl_file file = {.fd = 1};
	struct fl_file_queue queue = {.file = &file};
	struct io_uring_sqe sqe = {0};
	struct fl_read read;
	struct fl_file_op op = op_of(&read, len_bytes);

	read.flags = flags;
	op.again = again;
	prepare(&queue, &sqe, &op);
	return sqe.flags & IOSQE_ASYNC;
}

static void what_may_take_long_goes_to_a_worker(void **state)
{
	(void)state;
	assert_false(by_worker(4096, 0, 0));
	assert_false(by_worker(65536, 0, 0));
	assert_false(by_worker(INLINE_MAX_BYTES, 0, 0));
	assert_true(by_worker(INLINE_MAX_BYTES + 1, 0, 0));
	assert_true(by_worker(4096, FL_READ_FILL, 0));
	assert_true(by_worker(4096, 0, 1));
}

static void a_request_carries_no_more_than_a_step(void **state)
{
	struct fl_file file = {.fd = 1};
	struct fl_file_queue queue = {.file = &file};
	struct io_uring_sqe sqe = {0};
	struct fl_read read;
	struct fl_file_op op = op_of(&read, 5ULL << 30);

	(void)state;
	prepare(&queue, &sqe, &op);
	assert_int_equal(sqe.len, STEP_MAX_BYTES);
	assert_int_equal(sqe.off, 0x5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_short_read_goes_on),
		cmocka_unit_test(the_end_before_the_length_is_an_error),
		cmocka_unit_test(passing_errors_are_asked_again_but_not_for_ever),
		cmocka_unit_test(an_unreadable_buffer_is_believed_the_second_time),
		cmocka_unit_test(other_errors_end_the_read),
		cmocka_unit_test(what_may_take_long_goes_to_a_worker),
		cmocka_unit_test(a_request_carries_no_more_than_a_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
