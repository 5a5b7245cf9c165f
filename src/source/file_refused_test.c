/* SPDX-License-Identifier: MIT */

/*
 * What happens where the system refuses: io_uring, and threads besides. A seccomp filter of one
 * thread does the refusing, so that each test runs in a thread of its own.
 */

#include "source/reads_test.h"
#include "source/file.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LEN  65536
#define SEED 3

#define REFUSE(number, code)                                 \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (code))

static struct sock_filter no_uring[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	REFUSE(SYS_io_uring_setup, EPERM),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static struct sock_filter no_threads[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	REFUSE(SYS_clone3, EAGAIN),
	REFUSE(SYS_clone, EAGAIN),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static bool refuse(struct sock_filter *filter, size_t count)
{
	struct sock_fprog program = {.len = (unsigned short)count, .filter = filter};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#define REFUSE_ALL(filter) refuse((filter), sizeof(filter) / sizeof((filter)[0]))

static struct sock_filter no_submission[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	REFUSE(SYS_io_uring_enter, ENOMEM),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

#define JOBS 8

struct outcome {
	struct fl_source *source;
	struct job jobs[JOBS];
	char buf[LEN];
	bool refused; /* the filters stand */
	bool by_threads;
	int submits[JOBS];
	unsigned int ended_in_submit;
};

static void read_once(struct outcome *out, struct fl_queue *queue, int i)
{
	job_init(&out->jobs[i], out->buf, LEN, 0);
	out->submits[i] = fl_queue_submit(queue, &out->jobs[i].read);
	out->ended_in_submit += out->jobs[i].ended;
	while (!out->submits[i] && !out->jobs[i].ended)
		(void)wait_and_reap(queue);
}

static void *without_uring(void *arg)
{
	struct outcome *out = arg;
	struct fl_queue *queue;

	out->refused = REFUSE_ALL(no_uring);
	if (!out->refused || fl_queue_open(out->source, 4, &queue))
		return NULL;
	read_once(out, queue, 0);
	out->by_threads = ((struct fl_file_queue *)queue)->backend == &fl_file_threads;
	fl_queue_close(queue);
	return NULL;
}

static void *without_anything(void *arg)
{
	struct outcome *out = arg;
	struct fl_queue *queue;

	out->refused = REFUSE_ALL(no_uring) && REFUSE_ALL(no_threads);
	if (!out->refused || fl_queue_open(out->source, 1, &queue))
		return NULL;
	read_once(out, queue, 0);
	/* The failed one has left its place. */
	read_once(out, queue, 1);
	fl_queue_close(queue);
	return NULL;
}

/* The ring is there, and from then on nothing can be handed over. */
static void *without_submission(void *arg)
{
	struct outcome *out = arg;
	struct fl_queue *queue;

	if (fl_queue_open(out->source, 4, &queue))
		return NULL;
	read_once(out, queue, 0);
	out->by_threads = ((struct fl_file_queue *)queue)->backend == &fl_file_threads;
	out->refused = REFUSE_ALL(no_submission);
	/* More than the ring has room for. */
	for (int i = 1; out->refused && i < JOBS; i++)
		read_once(out, queue, i);
	fl_queue_close(queue);
	return NULL;
}

static struct outcome *run(void *(*body)(void *))
{
	static struct outcome out;
	int fd = test_image(LEN, SEED);
	pthread_t thread;

	out = (struct outcome){.source = source_of_fd(fd, 0)};
	assert_int_equal(pthread_create(&thread, NULL, body, &out), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	fl_source_close(out.source);
	close(fd);
	SKIP_UNLESS(out.refused, "other", "no seccomp filters");
	return &out;
}

static void threads_stand_in_for_io_uring(void **state)
{
	struct outcome *out = run(without_uring);

	(void)state;
	assert_true(out->by_threads);
	assert_int_equal(out->submits[0], 0);
	assert_int_equal(out->jobs[0].ended, 1);
	assert_int_equal(out->jobs[0].read.result, 0);
	assert_filled(out->buf, LEN, 0, SEED);
}

static void without_either_the_read_ends_with_the_error(void **state)
{
	struct outcome *out = run(without_anything);

	(void)state;
	assert_int_equal(out->ended_in_submit, 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(out->submits[i], 0);
		assert_int_equal(out->jobs[i].ended, 1);
		assert_int_equal(out->jobs[i].read.result, -EAGAIN);
	}
}

static void a_read_that_cannot_be_handed_over_ends_with_the_error(void **state)
{
	struct outcome *out = run(without_submission);

	(void)state;
	SKIP_UNLESS(!out->by_threads, "io_uring", "refused");
	assert_int_equal(out->ended_in_submit, 0);
	assert_int_equal(out->jobs[0].read.result, 0);
	for (int i = 1; i < JOBS; i++) {
		assert_int_equal(out->submits[i], 0);
		assert_int_equal(out->jobs[i].ended, 1);
		assert_int_equal(out->jobs[i].read.result, -ENOMEM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_stand_in_for_io_uring),
		cmocka_unit_test(without_either_the_read_ends_with_the_error),
		cmocka_unit_test(a_read_that_cannot_be_handed_over_ends_with_the_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
