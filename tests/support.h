/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

/*
 * What cmocka tests share. It brings cmocka with it, in the order that cmocka wants:
 *
 *	#include "support.h"
 *	#include "trap/uffd.h"
 *
 * Every unit, api and model test is linked with support.c. Nothing here uses libfaultline.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/*
 * Skips the running test unless a requirement is met:
 *
 *	SKIP_UNLESS(fd >= 0, "uffd", "no userfaultfd: %s", strerror(errno));
 *
 * The requirement is one of those that tests/require.c knows, or "other". tests/run asks that
 * program too: a test that skips what the machine has counts as failed.
 */
#define SKIP_UNLESS(met, requirement, ...)                       \
	do {                                                     \
		if (!(met)) {                                    \
			print_message("SKIP %s: ", requirement); \
			print_message(__VA_ARGS__);              \
			print_message("\n");                     \
			skip();                                  \
		}                                                \
	} while (0)

/*
 * Pages that describe themselves: each 8-byte word depends on its position and on the seed, so
 * that a page in the wrong place, torn, or of another image does not pass. pos is where the first
 * byte lies in whatever the test counts in (offset, gpa, ...), a multiple of 8; so is len.
 */
void test_pattern(void *buf, size_t len, uint64_t pos, uint64_t seed);

/* The position in buf of the first byte that test_pattern() would not have written, or -1. */
ptrdiff_t test_mismatch(const void *buf, size_t len, uint64_t pos, uint64_t seed);

/* Fails the test, naming the position, unless buf holds what test_pattern() writes. */
#define assert_filled(buf, len, pos, seed) \
	assert_int_equal(test_mismatch((buf), (len), (pos), (seed)), -1)

/* The position of the first byte that is not zero, or -1. */
ptrdiff_t test_nonzero(const void *buf, size_t len);

/* A memfd of len bytes that test_pattern() wrote from position 0; the caller closes it. */
int test_image(size_t len, uint64_t seed);

/* How many descriptors this process has open: the same before and after, or there is a leak. */
unsigned int test_open_fds(void);

/*
 * How often anything in this process, library or not, has asked for heap memory: the same before
 * and after a stretch that must not allocate. It counts in sanitizer builds too, but for aligned
 * blocks under ThreadSanitizer, which does not tell of them.
 */
uint64_t test_allocations(void);

/*
 * Takes the machine's 2 MiB pages for this process until it ends, waiting for other tests that
 * use them, so that "the pool is empty" means what the test did. Returns how many are free; with
 * less than one, skip with requirement "hugetlb".
 */
unsigned long test_lock_hugepages(void);

#endif
