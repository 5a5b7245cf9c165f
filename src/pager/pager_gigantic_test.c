/* SPDX-License-Identifier: MIT */
/*
 * Pages of 1 GiB, where the pool has two: the second is touched while nobody fills, then the first
 * is filled. The image is data at both ends of each page and holes between.
 */
#include "support.h"
#include <faultline/faultline.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/clock.h"

#define GIB   (UINT64_C(1) << 30)
#define PAGES 2
#define LEN   (PAGES * GIB)
#define EDGE  65536u
#define SEED  3

static unsigned long free_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "re");
	unsigned long count = 0;

	if (file) {
		if (fscanf(file, "%lu", &count) != 1)
			count = 0;
		(void)fclose(file);
	}
	return count;
}

static void write_edge(int fd, uint64_t offset)
{
	static char edge[EDGE];

	test_pattern(edge, EDGE, offset, SEED);
	assert_int_equal(pwrite(fd, edge, EDGE, (off_t)offset), EDGE);
}

static struct fl_source *open_image(int *fd)
{
	struct fl_source *source = NULL;
	char path[64];

	*fd = memfd_create("image", MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, LEN), 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		write_edge(*fd, page * GIB);
		write_edge(*fd, (page + 1) * GIB - EDGE);
	}
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
	assert_int_equal(fl_source_file_open(&source, path, 0, NULL), 0);
	return source;
}

static void check_page(const char *mem, uint64_t page)
{
	uint64_t at = page * GIB, end = at + GIB - EDGE;

	assert_filled(mem + at, EDGE, at, SEED);
	assert_filled(mem + end, EDGE, end, SEED);
	assert_int_equal(test_nonzero(mem + at + EDGE, 1 << 20), -1);
}

static void test_gigantic(void **state)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};
	struct fl_pager_parts parts = {0};
	struct fl_region region = {.page_size = GIB, .len_bytes = LEN};
	uint64_t end_ns = fl_clock_ns() + 100 * FL_NS_PER_S;
	struct fl_pager *pager;
	int uffd, image;
	char *mem;

	(void)state;
	SKIP_UNLESS(free_pages() >= PAGES, "other", "fewer than two free 1 GiB pages");
	uffd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, NULL);
	SKIP_UNLESS(uffd >= 0, "uffd", "no userfaultfd");
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 30 << MAP_HUGE_SHIFT, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	region.addr = (uintptr_t)mem;
	parts.source = open_image(&image);
	assert_int_equal(fl_layout_new(&parts.layout, &region, 1, NULL), 0);
	assert_int_equal(fl_table_new(&parts.table, PAGES), 0);
	assert_int_equal(fl_trap_uffd_new(&parts.trap, uffd, NULL), 0);
	assert_int_equal(fl_install_copy_new(&parts.install, uffd, NULL), 0);
	assert_int_equal(fl_trap_arm(parts.trap, region.addr, LEN, FL_TRAP_MISSING), 0);
	assert_int_equal(fl_pager_new(&pager, &parts, NULL, NULL), 0);
	assert_int_equal(fl_pager_start(pager), 0);

	check_page(mem, 1);
	fl_pager_stats(pager, &stats);
	assert_int_equal(stats.left, 1);
	fl_pager_fill(pager);
	do {
		assert_true(fl_clock_ns() < end_ns);
		(void)usleep(1000);
		fl_pager_stats(pager, &stats);
	} while (!stats.full_ns);
	check_page(mem, 0);
	fl_pager_stop(pager);
	fl_pager_stats(pager, &stats);
	assert_int_equal(stats.demand, 1);
	assert_int_equal(stats.fill, 1);
	assert_int_equal(stats.poisoned, 0);

	fl_pager_close(pager);
	fl_install_close(parts.install);
	fl_trap_close(parts.trap);
	fl_source_close(parts.source);
	fl_table_free(parts.table);
	fl_layout_free(parts.layout);
	assert_int_equal(munmap(mem, LEN), 0);
	assert_int_equal(close(image), 0);
	assert_int_equal(close(uffd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gigantic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
