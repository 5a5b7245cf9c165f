/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <signal.h>
#include <string.h>

#include "util/thread.h"

struct seen {
	sigset_t blocked;
	size_t stack_bytes;
};

static void *look(void *arg)
{
	struct seen *seen = arg;
	pthread_attr_t attr;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
	assert_int_equal(pthread_getattr_np(pthread_self(), &attr), 0);
	(void)pthread_attr_getstacksize(&attr, &seen->stack_bytes);
	(void)pthread_attr_destroy(&attr);
	return NULL;
}

static void a_thread_is_small_and_takes_no_signals(void **state)
{
	struct seen seen;
	sigset_t before, after;
	pthread_t thread;

	(void)state;
	memset(&before, 0, sizeof(before));
	memset(&after, 0, sizeof(after));
	(void)pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(fl_thread_start(&thread, 512u * 1024, look, &seen), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(sigismember(&seen.blocked, SIGTERM));
	assert_true(sigismember(&seen.blocked, SIGUSR1));
	assert_in_range(seen.stack_bytes, 256u * 1024, 1024u * 1024);
	/* The caller's own are as they were. */
	(void)pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_false(sigismember(&after, SIGTERM));
	assert_memory_equal(&before, &after, sizeof(before));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_is_small_and_takes_no_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
