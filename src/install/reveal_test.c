/* SPDX-License-Identifier: MIT */
#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t pages_of_file(const struct ram *ram)
{
	struct stat stat;

	assert_int_equal(fstat(ram->memfd, &stat), 0);
	return (uint64_t)stat.st_blocks * 512 / ram->page;
}

static void test_place_and_map(void **state)
{
	struct rig rig;
	struct actor actor;
	char *place;

	(void)state;
	rig_segv(&rig, 3);
	place = fl_install_place(rig.install, page_addr(&rig.ram, 1), rig.ram.page);
	assert_ptr_equal(place, rig.ram.alias + rig.ram.page);
	load_start(&actor, rig.ram.at + rig.ram.page);
	next_fault(&rig, 1, 0);
	test_pattern(place, rig.ram.page, rig.ram.page, RIG_SEED);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 1), rig.ram.page, 0),
			 rig.ram.page);
	assert_int_equal(actor_join(&actor), (unsigned char)place[0]);
	assert_page(&rig.ram, 1);
	/* Its neighbours are as they were. */
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	install_page(&rig, 0);
	actor_join(&actor);
	rig_free(&rig);
}

/* Zeros where there was something else, and they cost no memory. */
static void test_zero(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_segv(&rig, 4);
	memset(rig.ram.alias + rig.ram.page, 0xee, rig.ram.page);
	install_page(&rig, 0);
	assert_int_equal(pages_of_file(&rig.ram), 2);
	load_start(&actor, rig.ram.at + 2 * rig.ram.page);
	next_fault(&rig, 2, 0);
	assert_int_equal(fl_install_zero(rig.install, page_addr(&rig.ram, 1), 3 * rig.ram.page,
					 rig.ram.page, 0),
			 3 * rig.ram.page);
	assert_int_equal(actor_join(&actor), 0);
	assert_int_equal(pages_of_file(&rig.ram), 2);
	assert_page(&rig.ram, 0);
	for (size_t i = 1; i < 4; i++)
		assert_zero_page(&rig.ram, i);
	rig_free(&rig);
}

/* A file of which no piece can be taken away: zeros are written. */
static void test_zero_without_holes(void **state)
{
	struct fl_alias alias;
	struct rig rig;

	(void)state;
	rig_segv(&rig, 1);
	fl_install_close(rig.install);
	/* Private memory stands for it: MADV_REMOVE refuses that as well. */
	munmap(rig.ram.alias, rig.ram.len);
	rig.ram.alias =
		mmap(NULL, rig.ram.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(rig.ram.alias, 0xee, rig.ram.len);
	alias = (struct fl_alias){page_addr(&rig.ram, 0), rig.ram.alias, rig.ram.len};
	assert_int_equal(fl_install_reveal_new(&rig.install, rig.trap, &alias, 1, NULL), 0);
	install_zero_page(&rig, 0);
	assert_int_equal(test_nonzero(rig.ram.alias, rig.ram.len), -1);
	rig_free(&rig);
}

static void test_refuses(void **state)
{
	unsigned int fds = test_open_fds();
	struct fl_alias empty = {4096, &fds, 0};
	struct fl_install *install = NULL;
	struct fl_error err = {0};
	char *contents;
	struct rig rig;
	uint64_t end;

	(void)state;
	assert_int_equal(fl_install_reveal_new(&install, NULL, &empty, 1, &err), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	rig_segv(&rig, 2);
	contents = page_contents(&rig.ram, 0);
	end = page_addr(&rig.ram, 2);
	assert_int_equal(fl_install_copy(rig.install, end, contents, rig.ram.page, 0), -ENOENT);
	assert_int_equal(fl_install_zero(rig.install, end, rig.ram.page, rig.ram.page, 0), -ENOENT);
	assert_int_equal(fl_install_poison(rig.install, end, rig.ram.page, 0), -ENOENT);
	assert_int_equal(fl_install_copy(rig.install, end - 1, contents, 1, 0), -EINVAL);
	assert_int_equal(fl_install_map(rig.install, end - rig.ram.page, 1, 0), -EINVAL);
	assert_int_equal(fl_install_copy(rig.install, end - rig.ram.page, contents, rig.ram.page,
					 FL_INSTALL_WP),
			 -EOPNOTSUPP);
	/* The range is gone. */
	munmap(rig.ram.at + rig.ram.page, rig.ram.page);
	assert_int_equal(fl_install_map(rig.install, end - rig.ram.page, rig.ram.page, 0), -ENOENT);
	free(contents);
	rig_free(&rig);
	assert_int_equal(test_open_fds(), fds);
}

/* ---- as many mappings as a process may have ---- */

static unsigned long max_mappings(void)
{
	unsigned long count = 0;
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu", &count), 1);
	fclose(file);
	return count;
}

/* Every second page, until no mapping can be split any more. */
static void use_up_mappings(struct rig *rig)
{
	size_t pages = rig->ram.len / rig->ram.page;

	for (size_t i = 1; i < pages; i += 2) {
		int64_t done =
			fl_install_map(rig->install, page_addr(&rig->ram, i), rig->ram.page, 0);

		if (done == -ENOMEM)
			return;
		assert_int_equal(done, rig->ram.page);
	}
	fail_msg("%zu pages were not enough", pages);
}

/*
 * At the limit a page in the middle of a mapping is -ENOMEM and stays out of sight. A range that
 * begins with a mapping of its own is finished as far as that goes, and says so.
 */
static void test_too_many_mappings(void **state)
{
	unsigned long most = max_mappings();
	struct fl_alias alias;
	struct rig other;
	struct rig rig;
	char *middle;

	(void)state;
	SKIP_UNLESS(!UNDER_TSAN, "other", "ThreadSanitizer needs mappings for itself");
	SKIP_UNLESS(most <= 1 << 20, "other", "vm.max_map_count is %lu", most);
	rig_segv(&other, 8);
	/* The second half of it by the first half of the file: the two do not merge. */
	middle = other.ram.at + 4 * other.ram.page;
	assert_ptr_equal(mmap(middle, 4 * other.ram.page, PROT_NONE, MAP_SHARED | MAP_FIXED,
			      other.ram.memfd, 0),
			 middle);
	rig_segv(&rig, most + 16);
	use_up_mappings(&rig);
	alias = (struct fl_alias){page_addr(&other.ram, 0), other.ram.alias, other.ram.len};
	assert_int_equal(
		fl_install_map(other.install, alias.addr + other.ram.page, other.ram.page, 0),
		-ENOMEM);
	assert_int_equal(fl_install_map(other.install, alias.addr, 6 * other.ram.page, 0),
			 4 * other.ram.page);
	assert_zero_page(&other.ram, 3);
	assert_int_equal(
		fl_install_map(other.install, alias.addr + 5 * other.ram.page, other.ram.page, 0),
		-ENOMEM);
	rig_free(&rig);
	/* With room again the same call goes through. */
	assert_int_equal(
		fl_install_map(other.install, alias.addr + 5 * other.ram.page, other.ram.page, 0),
		other.ram.page);
	rig_free(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_place_and_map),      cmocka_unit_test(test_zero),
		cmocka_unit_test(test_zero_without_holes), cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_too_many_mappings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
