/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"
#include "source/extents.h"

#include <fcntl.h>
#include <sys/mman.h>

#define PAGE    4096ULL
#define HOLES_N 300

static void assert_extent(const struct fl_extents *extents, uint64_t length, uint64_t offset,
			  bool zeros, uint64_t len_bytes)
{
	struct fl_extent extent;

	fl_extents_lookup(extents, offset, length, &extent);
	assert_int_equal(extent.zeros, zeros);
	assert_int_equal(extent.len_bytes, len_bytes);
}

static void lookup_finds_every_boundary(void **state)
{
	struct fl_hole holes[] = {{0, 10}, {20, 21}, {50, 100}};
	struct fl_extents extents = {.holes = holes, .count = 3};

	(void)state;
	assert_extent(&extents, 120, 0, true, 10);
	assert_extent(&extents, 120, 9, true, 1);
	assert_extent(&extents, 120, 10, false, 10);
	assert_extent(&extents, 120, 19, false, 1);
	assert_extent(&extents, 120, 20, true, 1);
	assert_extent(&extents, 120, 21, false, 29);
	assert_extent(&extents, 120, 99, true, 1);
	assert_extent(&extents, 120, 100, false, 20);
	assert_extent(&extents, 120, 119, false, 1);
}

static void no_holes_is_all_data(void **state)
{
	struct fl_extents extents = {0};

	(void)state;
	assert_extent(&extents, 7, 0, false, 7);
	assert_extent(&extents, 7, 6, false, 1);
}

/* Every second page of a file is a hole, the last one too. */
static int striped_file(uint64_t *length)
{
	int fd = memfd_create("striped", MFD_CLOEXEC);

	assert_true(fd >= 0);
	*length = 2 * HOLES_N * PAGE;
	assert_int_equal(ftruncate(fd, (off_t)*length), 0);
	for (uint64_t i = 0; i < HOLES_N; i++)
		assert_int_equal(pwrite(fd, "x", 1, (off_t)(2 * i * PAGE)), 1);
	return fd;
}

static void find_remembers_what_the_file_system_says(void **state)
{
	struct fl_extents extents;
	uint64_t length;
	int fd = striped_file(&length);

	(void)state;
	assert_int_equal(fl_extents_find(&extents, fd, length, FL_EXTENTS_MAX), 0);
	assert_int_equal(extents.count, HOLES_N);
	for (uint64_t i = 0; i < HOLES_N; i++) {
		assert_extent(&extents, length, 2 * i * PAGE, false, PAGE);
		assert_extent(&extents, length, (2 * i + 1) * PAGE + 5, true, PAGE - 5);
	}
	fl_extents_free(&extents);
	close(fd);
}

static void holes_beyond_the_bound_are_data(void **state)
{
	struct fl_extents extents;
	uint64_t length;
	int fd = striped_file(&length);

	(void)state;
	assert_int_equal(fl_extents_find(&extents, fd, length, 10), 0);
	assert_int_equal(extents.count, 10);
	assert_extent(&extents, length, 19 * PAGE, true, PAGE);
	assert_extent(&extents, length, 20 * PAGE, false, length - 20 * PAGE);
	assert_extent(&extents, length, 21 * PAGE, false, length - 21 * PAGE);
	fl_extents_free(&extents);
	close(fd);
}

static void a_file_system_without_holes_has_none(void **state)
{
	struct fl_extents extents;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fl_extents_find(&extents, fds[0], 1000, 10), 0);
	assert_int_equal(extents.count, 0);
	fl_extents_free(&extents);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookup_finds_every_boundary),
		cmocka_unit_test(no_holes_is_all_data),
		cmocka_unit_test(find_remembers_what_the_file_system_says),
		cmocka_unit_test(holes_beyond_the_bound_are_data),
		cmocka_unit_test(a_file_system_without_holes_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
