/* SPDX-License-Identifier: MIT */
#ifndef FL_UTIL_THREAD_H
#define FL_UTIL_THREAD_H

#include <pthread.h>
#include <stddef.h>

/*
 * A thread that takes no signals, which are for threads of the application, with a small stack:
 * address space only, what is not touched costs nothing. Returns 0, or what pthread_create(3) says,
 * negated.
 */
int fl_thread_start(pthread_t *thread, size_t stack_bytes, void *(*main)(void *arg), void *arg);

#endif
