/* SPDX-License-Identifier: MIT */
#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "install/uffdio.h"

static void test_dontwake(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	assert_int_equal(fl_install_zero(rig.install, page_addr(&rig.ram, 0), rig.ram.page,
					 rig.ram.page, FL_INSTALL_DONTWAKE),
			 rig.ram.page);
	actor_wait_asleep(&actor);
	assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0), rig.ram.page), 0);
	assert_int_equal(actor_join(&actor), 0);
	assert_no_event(rig.trap);
	rig_free(&rig);
}

/* Installed write-protected: a load goes through, a store is reported. Zeros too, which the
 * kernel's UFFDIO_ZEROPAGE cannot do. */
static void test_write_protected(void **state)
{
	struct rig rig;
	struct actor actor;
	char *contents;

	(void)state;
	rig_new(&rig, RAM_ANON, 2, FL_TRAP_MISSING | FL_TRAP_WP, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	assert_int_equal(fl_install_copy(rig.install, page_addr(&rig.ram, 0), contents,
					 rig.ram.page, FL_INSTALL_WP),
			 rig.ram.page);
	assert_int_equal(fl_install_zero(rig.install, page_addr(&rig.ram, 1), rig.ram.page,
					 rig.ram.page, FL_INSTALL_WP),
			 rig.ram.page);
	assert_page(&rig.ram, 0);
	assert_zero_page(&rig.ram, 1);
	for (size_t i = 0; i < 2; i++) {
		store_start(&actor, rig.ram.at + i * rig.ram.page, 9);
		next_fault(&rig, i, FL_FAULT_WP | FL_FAULT_WRITE);
		assert_int_equal(
			fl_trap_protect(rig.trap, page_addr(&rig.ram, i), rig.ram.page, false), 0);
		actor_join(&actor);
		assert_int_equal(rig.ram.at[i * rig.ram.page], 9);
	}
	free(contents);
	rig_free(&rig);
}

static void poison_of(enum ram_kind kind)
{
	struct rig rig;
	struct actor actor;

	rig_new(&rig, kind, 2, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	/* A page that is present is not poisoned. */
	install_page(&rig, 1);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 0), rig.ram.len, 0),
			 rig.ram.page);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 1), rig.ram.page, 0),
			 -EEXIST);
	assert_int_equal(signal_of_load(rig.ram.at), SIGBUS);
	assert_int_equal(signal_of_load(rig.ram.at + rig.ram.page - 1), SIGBUS);
	assert_page(&rig.ram, 1);
	/* The kernel's touch is an error of the system call. */
	actor = (struct actor){.act = act_write, .at = rig.ram.at, .len = 1, .number = -1};
	actor.number = memfd_create("sink", MFD_CLOEXEC);
	actor_start(&actor);
	assert_int_equal(actor_join(&actor), -EFAULT);
	close(actor.number);
	assert_no_event(rig.trap);
	rig_free(&rig);
}

static void test_poison(void **state)
{
	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	poison_of(RAM_ANON);
	poison_of(RAM_MEMFD);
}

static void test_poison_on_hugetlbfs(void **state)
{
	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	poison_of(RAM_HUGE_ANON);
	poison_of(RAM_HUGE_MEMFD);
}

/* A kernel that does not know UFFDIO_POISON answers EINVAL, like one that was asked wrongly. A
 * userfaultfd before UFFDIO_API answers so to everything: it stands for that kernel here. */
static void test_poison_unknown(void **state)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct rig rig;

	(void)state;
	SKIP_UNLESS(fd >= 0, "uffd", "none may be had");
	assert_int_equal(fl_uffdio_poison(fd, 0x10000, 4096, 0), -EOPNOTSUPP);
	close(fd);
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	assert_int_equal(fl_uffdio_poison(rig.uffd, page_addr(&rig.ram, 0) + 1, 4096, 0), -EINVAL);
	rig_free(&rig);
}

/* A poisoned page lets those who wait for it meet the error. */
static int64_t act_signal_of_load(struct actor *actor)
{
	return signal_of_load(actor->at);
}

static void test_poison_wakes(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	actor = (struct actor){.act = act_signal_of_load, .at = rig.ram.at};
	actor_start(&actor);
	next_fault(&rig, 0, 0);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 rig.ram.page);
	assert_int_equal(actor_join(&actor), SIGBUS);
	rig_free(&rig);
}

/* Only what is in the page cache can be mapped, and only once. */
static void test_map(void **state)
{
	struct rig rig;

	(void)state;
	rig_new(&rig, RAM_MEMFD, 3, FL_TRAP_MISSING | FL_TRAP_MINOR, UFFD_FEATURE_MINOR_SHMEM);
	rig_copy(&rig);
	assert_null(fl_install_place(rig.install, page_addr(&rig.ram, 0), rig.ram.page));
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 -EFAULT);
	rig.ram.alias[0] = 1;
	rig.ram.alias[rig.ram.page] = 2;
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.len, 0),
			 2 * rig.ram.page);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 -EEXIST);
	assert_int_equal(rig.ram.at[rig.ram.page], 2);
	rig_free(&rig);
}

/* The memory of zeros for huge pages is taken once and given back, and allocates nothing else. */
static void test_zeros_are_kept(void **state)
{
	struct rig rig;
	uint64_t allocations;

	(void)state;
	rig_new(&rig, RAM_HUGE_ANON, 2, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	allocations = test_allocations();
	install_zero_page(&rig, 0);
	install_zero_page(&rig, 1);
	assert_int_equal(test_allocations(), allocations);
	assert_zero_page(&rig.ram, 1);
	/* No page is larger than 1 GiB. */
	assert_int_equal(fl_install_zero(rig.install, page_addr(&rig.ram, 0), UINT64_C(1) << 31,
					 UINT64_C(1) << 31, 0),
			 -ENOMEM);
	rig_free(&rig);
}

static void test_descriptors(void **state)
{
	unsigned int fds = test_open_fds();
	struct fl_install *install = NULL;
	struct fl_error err = {0};
	struct rig rig;

	(void)state;
	assert_int_equal(fl_install_copy_new(&install, -1, &err), -EBADF);
	assert_int_equal(err.code, -EBADF);
	assert_null(install);
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	/* A copy of its own. */
	close(rig.uffd);
	rig.uffd = -1;
	install_page(&rig, 0);
	assert_page(&rig.ram, 0);
	rig_free(&rig);
	assert_int_equal(test_open_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dontwake),
		cmocka_unit_test(test_write_protected),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_poison_on_hugetlbfs),
		cmocka_unit_test(test_poison_unknown),
		cmocka_unit_test(test_poison_wakes),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_zeros_are_kept),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
