/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

static void test_a_page_knows_its_place(void **state)
{
	static char page[PAGE];

	(void)state;
	test_pattern(page, PAGE, 8 * PAGE, 1);
	assert_filled(page, PAGE, 8 * PAGE, 1);
	assert_int_not_equal(test_mismatch(page, PAGE, 9 * PAGE, 1), -1);
	assert_int_not_equal(test_mismatch(page, PAGE, 8 * PAGE, 2), -1);
	page[1234] ^= 1;
	assert_int_equal(test_mismatch(page, PAGE, 8 * PAGE, 1), 1234);
}

static void test_an_image_holds_the_pattern(void **state)
{
	int fd = test_image(4 * PAGE, 7);
	char page[PAGE];

	(void)state;
	assert_int_equal(pread(fd, page, PAGE, 2 * PAGE), PAGE);
	assert_filled(page, PAGE, 2 * PAGE, 7);
	close(fd);
}

static void test_the_first_byte_that_is_not_zero(void **state)
{
	char buf[64] = {0};

	(void)state;
	assert_int_equal(test_nonzero(buf, sizeof(buf)), -1);
	buf[63] = 1;
	assert_int_equal(test_nonzero(buf, sizeof(buf)), 63);
}

static void test_a_leaked_descriptor_shows(void **state)
{
	unsigned int before = test_open_fds();
	int fd = dup(0);

	(void)state;
	assert_int_equal(test_open_fds(), before + 1);
	close(fd);
	assert_int_equal(test_open_fds(), before);
}

static void test_every_kind_of_allocation_counts(void **state)
{
	uint64_t before = test_allocations();
	void *volatile a = malloc(10);
	void *volatile b = calloc(2, 10);
	void *volatile c = realloc(NULL, 10);
	void *volatile d = strdup("x");

	(void)state;
	assert_int_equal(test_allocations(), before + 4);
	free(a);
	free(b);
	free(c);
	free(d);
	assert_int_equal(test_allocations(), before + 4);
}

#ifndef __SANITIZE_THREAD__
static void test_aligned_allocations_count(void **state)
{
	uint64_t before = test_allocations();
	void *volatile a = aligned_alloc(64, 64);
	void *b = NULL;

	(void)state;
	assert_int_equal(posix_memalign(&b, 64, 64), 0);
	assert_int_equal(test_allocations(), before + 2);
	free(a);
	free(b);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_page_knows_its_place),
		cmocka_unit_test(test_an_image_holds_the_pattern),
		cmocka_unit_test(test_the_first_byte_that_is_not_zero),
		cmocka_unit_test(test_a_leaked_descriptor_shows),
		cmocka_unit_test(test_every_kind_of_allocation_counts),
#ifndef __SANITIZE_THREAD__
		cmocka_unit_test(test_aligned_allocations_count),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
