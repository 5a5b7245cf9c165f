/* SPDX-License-Identifier: MIT */
#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPARE_PAGES 32
#define MODES       (FL_TRAP_MISSING | FL_TRAP_MINOR)

static void rig_of(struct rig *rig, enum ram_kind kind, size_t pages)
{
	rig_new(rig, kind, pages, MODES,
		kind == RAM_MEMFD ? UFFD_FEATURE_MINOR_SHMEM : UFFD_FEATURE_MINOR_HUGETLBFS);
	rig_continue(rig);
}

/* Filled in place, then mapped: nobody saw it before, and nothing was copied. */
static void place_and_map(enum ram_kind kind)
{
	struct rig rig;
	struct actor actor;
	char *place;

	rig_of(&rig, kind, 2);
	load_start(&actor, rig.ram.at + rig.ram.page);
	next_fault(&rig, 1, 0);
	place = fl_install_place(rig.install, page_addr(&rig.ram, 1), rig.ram.page);
	assert_ptr_equal(place, rig.ram.alias + rig.ram.page);
	test_pattern(place, rig.ram.page, rig.ram.page, RIG_SEED);
	/* Another thread's touch meanwhile is a minor fault, and waits as well. */
	assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 1), rig.ram.page), 0);
	next_fault(&rig, 1, FL_FAULT_MINOR);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 1), rig.ram.page, 0),
			 rig.ram.page);
	assert_int_equal(actor_join(&actor), (unsigned char)place[0]);
	assert_page(&rig.ram, 1);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 1), rig.ram.page, 0),
			 -EEXIST);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 -EFAULT);
	rig_free(&rig);
}

static void test_place_and_map(void **state)
{
	(void)state;
	place_and_map(RAM_MEMFD);
}

static void test_place_and_map_on_hugetlbfs(void **state)
{
	(void)state;
	place_and_map(RAM_HUGE_MEMFD);
}

static void copy_and_zero(enum ram_kind kind)
{
	struct rig rig;
	struct actor actor;

	rig_of(&rig, kind, 3);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	install_page(&rig, 0);
	assert_int_equal(actor_join(&actor), (unsigned char)rig.ram.alias[0]);
	/* Zeros where the page cache holds something else, and where it holds nothing. */
	memset(rig.ram.alias + rig.ram.page, 0xee, rig.ram.page);
	load_start(&actor, rig.ram.at + rig.ram.page);
	next_fault(&rig, 1, FL_FAULT_MINOR);
	assert_int_equal(fl_install_zero(rig.install, page_addr(&rig.ram, 1), 2 * rig.ram.page,
					 rig.ram.page, 0),
			 2 * rig.ram.page);
	assert_int_equal(actor_join(&actor), 0);
	assert_page(&rig.ram, 0);
	assert_zero_page(&rig.ram, 1);
	assert_zero_page(&rig.ram, 2);
	assert_no_event(rig.trap);
	rig_free(&rig);
}

static void test_copy_and_zero(void **state)
{
	(void)state;
	copy_and_zero(RAM_MEMFD);
}

static void test_copy_and_zero_on_hugetlbfs(void **state)
{
	(void)state;
	copy_and_zero(RAM_HUGE_MEMFD);
}

/* A hole punched after the install: zeros again, as the pager orders. */
static void test_hole_punch(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_of(&rig, RAM_MEMFD, 1);
	install_page(&rig, 0);
	assert_int_equal(fallocate(rig.ram.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   (off_t)rig.ram.page),
			 0);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 -EFAULT);
	install_zero_page(&rig, 0);
	assert_int_equal(actor_join(&actor), 0);
	rig_free(&rig);
}

static void test_write_protected(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.wp-hugetlbfs-shmem"), "uffd-minor",
		    "no write-protection of shared memory");
	rig_new(&rig, RAM_MEMFD, 1, MODES | FL_TRAP_WP,
		UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	rig_continue(&rig);
	rig.ram.alias[0] = 4;
	assert_int_equal(
		fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page, FL_INSTALL_WP),
		rig.ram.page);
	assert_int_equal(rig.ram.at[0], 4);
	store_start(&actor, rig.ram.at, 5);
	next_fault(&rig, 0, FL_FAULT_WP | FL_FAULT_WRITE);
	assert_int_equal(fl_trap_protect(rig.trap, page_addr(&rig.ram, 0), rig.ram.page, false), 0);
	actor_join(&actor);
	assert_int_equal(rig.ram.alias[0], 5);
	rig_free(&rig);
}

/* Two regions whose addresses touch: a range over both is done in two steps. */
static void test_two_aliases(void **state)
{
	struct rig rig;
	struct fl_alias aliases[2];
	char *contents;

	(void)state;
	rig_new(&rig, RAM_MEMFD, 4, MODES, UFFD_FEATURE_MINOR_SHMEM);
	for (size_t i = 0; i < 2; i++)
		aliases[1 - i] = (struct fl_alias){
			.addr = page_addr(&rig.ram, 2 * i),
			.alias = rig.ram.alias + 2 * i * rig.ram.page,
			.len_bytes = 2 * rig.ram.page,
		};
	assert_int_equal(fl_install_continue_new(&rig.install, rig.uffd, aliases, 2, NULL), 0);
	contents = malloc(rig.ram.len);
	assert_non_null(contents);
	test_pattern(contents, rig.ram.len, 0, RIG_SEED);
	assert_null(fl_install_place(rig.install, page_addr(&rig.ram, 1), 2 * rig.ram.page));
	assert_int_equal(fl_install_copy(rig.install, page_addr(&rig.ram, 1),
					 contents + rig.ram.page, 3 * rig.ram.page, 0),
			 rig.ram.page);
	assert_int_equal(fl_install_copy(rig.install, page_addr(&rig.ram, 2),
					 contents + 2 * rig.ram.page, 2 * rig.ram.page, 0),
			 2 * rig.ram.page);
	for (size_t i = 1; i < 4; i++)
		assert_page(&rig.ram, i);
	assert_int_equal(
		fl_install_copy(rig.install, page_addr(&rig.ram, 4), contents, rig.ram.page, 0),
		-ENOENT);
	free(contents);
	rig_free(&rig);
}

static void test_poison(void **state)
{
	struct rig rig;

	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	rig_of(&rig, RAM_MEMFD, 1);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 rig.ram.page);
	assert_int_equal(signal_of_load(rig.ram.at), SIGBUS);
	rig_free(&rig);
}

/* A second mapping without memory behind it is an error, not a SIGBUS in the pager: the pool is
 * empty, or the file became shorter than the guest. */
static void test_no_memory(void **state)
{
	struct rig rig;
	char *contents;

	(void)state;
	rig_of(&rig, RAM_MEMFD, 2);
	contents = page_contents(&rig.ram, 1);
	assert_int_equal(ftruncate(rig.ram.memfd, (off_t)rig.ram.page), 0);
	assert_int_equal(
		fl_install_copy(rig.install, page_addr(&rig.ram, 1), contents, rig.ram.page, 0),
		-ENOMEM);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 1), rig.ram.page, rig.ram.page, 0),
		-ENOMEM);
	free(contents);
	rig_free(&rig);
}

static void *map_unreserved(int memfd, size_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memfd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

/* All pages of the pool, and a guest that has none reserved. */
static void rig_unreserved(struct rig *rig, struct ram *pool)
{
	unsigned long count = test_lock_hugepages();
	size_t page = 2 << 20;

	SKIP_UNLESS(count > 0, "hugetlb", "no free page of 2 MiB");
	memset(rig, 0, sizeof(*rig));
	rig->uffd = fl_uffd_open(UFFD_FEATURE_MINOR_HUGETLBFS, 0, NULL, NULL);
	SKIP_UNLESS(rig->uffd >= 0, "uffd-minor", "no minor faults on hugetlbfs");
	ram_new(pool, RAM_HUGE_ANON, count);
	rig->ram = (struct ram){.len = SPARE_PAGES * page, .page = page};
	rig->ram.memfd = memfd_create("ram", MFD_CLOEXEC | MFD_HUGETLB);
	assert_int_equal(ftruncate(rig->ram.memfd, (off_t)rig->ram.len), 0);
	rig->ram.at = map_unreserved(rig->ram.memfd, rig->ram.len);
	rig->ram.alias = map_unreserved(rig->ram.memfd, rig->ram.len);
	assert_int_equal(fl_trap_uffd_new(&rig->trap, rig->uffd, NULL), 0);
	assert_int_equal(fl_trap_arm(rig->trap, page_addr(&rig->ram, 0), rig->ram.len, MODES), 0);
	rig_continue(rig);
}

static int64_t zero_page(struct rig *rig, size_t page)
{
	return fl_install_zero(rig->install, page_addr(&rig->ram, page), rig->ram.page,
			       rig->ram.page, 0);
}

static void test_no_memory_on_hugetlbfs(void **state)
{
	struct ram pool;
	struct rig rig;
	int64_t done = 0;
	size_t page;

	(void)state;
	rig_unreserved(&rig, &pool);
	/* The first may succeed: others may have given pages back just now. */
	for (page = 0; page < SPARE_PAGES; page++) {
		done = zero_page(&rig, page);
		if (done != (int64_t)rig.ram.page)
			break;
	}
	assert_int_equal(done, -ENOMEM);
	ram_free(&pool);
	assert_int_equal(zero_page(&rig, page), rig.ram.page);
	assert_zero_page(&rig.ram, page);
	rig_free(&rig);
}

static void test_refuses(void **state)
{
	unsigned int fds = test_open_fds();
	char memory[64];
	struct fl_alias good = {4096, memory, 64};
	struct fl_alias empty = {4096, memory, 0};
	struct fl_install *install = NULL;
	struct fl_error err = {0};

	(void)state;
	assert_int_equal(fl_install_continue_new(&install, 0, &empty, 1, &err), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_int_equal(fl_install_continue_new(&install, 0, &good, 0, &err), -EINVAL);
	assert_int_equal(fl_install_continue_new(&install, -1, &good, 1, &err), -EBADF);
	assert_null(install);
	assert_int_equal(test_open_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_place_and_map),
		cmocka_unit_test(test_place_and_map_on_hugetlbfs),
		cmocka_unit_test(test_copy_and_zero),
		cmocka_unit_test(test_copy_and_zero_on_hugetlbfs),
		cmocka_unit_test(test_hole_punch),
		cmocka_unit_test(test_write_protected),
		cmocka_unit_test(test_two_aliases),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_memory_on_hugetlbfs),
		cmocka_unit_test(test_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
