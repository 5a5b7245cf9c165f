/* SPDX-License-Identifier: MIT */
#include "util/thread.h"

#include <signal.h>

int fl_thread_start(pthread_t *thread, size_t stack_bytes, void *(*main)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return -rc;
	(void)pthread_attr_setstacksize(&attr, stack_bytes);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(thread, &attr, main, arg);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return -rc;
}
