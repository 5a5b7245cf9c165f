/* SPDX-License-Identifier: MIT */

/* Filters on top of each other. */

#include "source/reads_test.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#define LEN  (256 * 1024)
#define SEED 33

static const char *const kinds[FL_READ_FRAMES] = {
	"error=EIO,every=7",
	"stats",
	"retry=4,first=0ms",
	"delay=50us",
	"error=ETIMEDOUT,every=5",
	"retry=3,first=0ms",
	"delay=10us",
	"stats",
};

static struct fl_source *open_image(void)
{
	int fd = test_image(LEN, SEED);
	struct fl_source *source = source_of_fd(fd, 0);

	close(fd);
	return source;
}

static struct fl_source *full_stack(void)
{
	struct fl_source *source = open_image();
	struct fl_error err = {0};

	for (int i = 0; i < FL_READ_FRAMES; i++)
		if (fl_filter_parse(&source, kinds[i], &err))
			fail_msg("%s", err.text);
	return source;
}

static void a_ninth_filter_is_refused(void **state)
{
	struct fl_source *source = full_stack(), *before = source;
	struct fl_error err = {0};

	(void)state;
	assert_int_equal(fl_filter_parse(&source, "stats", &err), -E2BIG);
	assert_int_equal(err.code, -E2BIG);
	assert_non_null(strstr(err.text, "stats"));
	assert_non_null(strstr(err.text, "8"));
	assert_int_equal(fl_filter_stats_new(&source), -E2BIG);
	assert_int_equal(fl_filter_delay_new(&source, 1), -E2BIG);
	assert_int_equal(
		fl_filter_error_new(&source, &(struct fl_error_rule){.code = EIO, .every = 1}),
		-E2BIG);
	assert_int_equal(fl_filter_retry_new(&source, &(struct fl_retry_policy){.tries = 1}),
			 -E2BIG);
	assert_ptr_equal(source, before);
	fl_source_close(source);
}

#define JOBS 32

static void contents_come_through_all_of_them(void **state)
{
	struct fl_source *source = full_stack();
	unsigned int fds = test_open_fds();
	struct fl_queue *queue = queue_of(source, JOBS);
	struct fl_source_stats stats;
	static struct job jobs[JOBS];
	static char buf[LEN];

	(void)state;
	assert_int_equal(fl_source_length(source), LEN);
	for (int round = 0; round < 10; round++) {
		memset(buf, 0, LEN);
		for (unsigned int i = 0; i < JOBS; i++) {
			uint64_t offset = (uint64_t)(i * 11 % JOBS) * (LEN / JOBS);

			job_init(&jobs[i], buf + offset, LEN / JOBS, offset);
			assert_int_equal(fl_queue_submit(queue, &jobs[i].read), 0);
		}
		reap_reads(queue, JOBS);
		for (unsigned int i = 0; i < JOBS; i++) {
			assert_int_equal(jobs[i].ended, 1);
			assert_int_equal(jobs[i].read.result, 0);
			assert_int_equal(jobs[i].read.depth, 0);
		}
		assert_filled(buf, LEN, 0, SEED);
	}
	assert_int_equal(fl_filter_stats_read(source, &stats), 0);
	assert_int_equal(stats.submits, 10 * JOBS);
	assert_int_equal(stats.errors, 0);
	assert_int_equal(stats.bytes, 10 * LEN);
	fl_queue_close(queue);
	assert_int_equal(test_open_fds(), fds);
	fl_source_close(source);
}

static void nothing_is_allocated_per_read(void **state)
{
	struct fl_source *source = full_stack();
	struct fl_queue *queue = queue_of(source, JOBS);
	static struct job jobs[JOBS];
	static char buf[LEN];
	unsigned int ended = 0;
	uint64_t before;

	(void)state;
	/* The first one starts what the file is read by. */
	assert_int_equal(submit_and_wait(queue, buf, 8, 0), 0);
	before = test_allocations();
	for (int round = 0; round < 5; round++) {
		int left = 0;

		for (unsigned int i = 0; i < JOBS; i++) {
			(void)fl_queue_try(queue, buf + i * 8, 8, i * 8);
			job_init(&jobs[i], buf + i * 8, 8, i * 8);
			left += !fl_queue_submit(queue, &jobs[i].read);
		}
		while (left > 0)
			left -= wait_and_reap(queue);
		for (unsigned int i = 0; i < JOBS; i++)
			ended += jobs[i].ended;
	}
	assert_int_equal(test_allocations(), before);
	assert_int_equal(ended, 5 * JOBS);
	assert_filled(buf, JOBS * 8, 0, SEED);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void closing_with_reads_everywhere(void **state)
{
	struct fl_source *source = full_stack();
	unsigned int fds = test_open_fds();
	static struct job jobs[JOBS];
	static char buf[LEN];

	(void)state;
	for (int reaps = 0; reaps < 12; reaps++) {
		struct fl_queue *queue = queue_of(source, JOBS);
		unsigned int ended = 0;
		int reaped = 0;

		for (unsigned int i = 0; i < JOBS; i++) {
			job_init(&jobs[i], buf + i * 8, 8, i * 8);
			assert_int_equal(fl_queue_submit(queue, &jobs[i].read), 0);
		}
		for (int i = 0; i < reaps && reaped < JOBS; i++)
			reaped += wait_and_reap(queue);
		fl_queue_close(queue);
		for (unsigned int i = 0; i < JOBS; i++)
			ended += jobs[i].ended;
		assert_int_equal(ended, reaped);
	}
	assert_int_equal(test_open_fds(), fds);
	fl_source_close(source);
}

/* Each filter's queue costs descriptors; that they run out must show, and leave nothing behind. */
static void a_queue_that_cannot_be_opened_leaves_nothing(void **state)
{
	struct fl_source *source = full_stack();
	unsigned int fds = test_open_fds();
	struct fl_queue *queue = NULL;
	struct rlimit before, limit;
	int refused = 0, next = dup(0);

	(void)state;
	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	for (limit.rlim_cur = (rlim_t)next; !queue && refused < 32; limit.rlim_cur++) {
		int ret;

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		ret = fl_queue_open(source, 4, &queue);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		if (!ret)
			break;
		assert_int_equal(ret, -EMFILE);
		assert_null(queue);
		assert_int_equal(test_open_fds(), fds);
		refused++;
	}
	/* The file's eventfd, the epoll descriptor, a timer for each of six filters; at least. */
	assert_in_range(refused, 8, 31);
	assert_non_null(queue);
	fl_queue_close(queue);
	assert_int_equal(test_open_fds(), fds);
	fl_source_close(source);
}

/* A user puts the descriptor into an epoll set of his own, which may be in another one. */
static void the_descriptor_of_a_full_stack_can_be_nested(void **state)
{
	struct fl_source *source = full_stack();
	struct fl_queue *queue = queue_of(source, 1);
	struct epoll_event event = {.events = EPOLLIN};
	int inner = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(EPOLL_CLOEXEC);
	struct job job;
	char buf[8];

	(void)state;
	assert_true(inner >= 0 && outer >= 0);
	assert_int_equal(epoll_ctl(inner, EPOLL_CTL_ADD, fl_queue_fd(queue), &event), 0);
	assert_int_equal(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event), 0);
	job_init(&job, buf, 8, 0);
	assert_int_equal(fl_queue_submit(queue, &job.read), 0);
	while (!job.ended) {
		int ready = epoll_wait(outer, &event, 1, 60000);

		assert_true(ready == 1 || (ready < 0 && errno == EINTR));
		(void)fl_queue_reap(queue);
	}
	assert_filled(buf, 8, 0, SEED);
	fl_queue_close(queue);
	close(inner);
	close(outer);
	fl_source_close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ninth_filter_is_refused),
		cmocka_unit_test(contents_come_through_all_of_them),
		cmocka_unit_test(nothing_is_allocated_per_read),
		cmocka_unit_test(closing_with_reads_everywhere),
		cmocka_unit_test(the_descriptor_of_a_full_stack_can_be_nested),
		cmocka_unit_test(a_queue_that_cannot_be_opened_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
