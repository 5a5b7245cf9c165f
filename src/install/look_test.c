/* SPDX-License-Identifier: MIT */
#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "install/look.h"

static int pagemap(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Both ways of looking say the same of a page. */
static void assert_look(int fd, uint64_t addr, int there)
{
	assert_int_equal(fl_install_look(fd, addr), there);
	assert_int_equal(fl_look_entry(fd, addr), there);
}

static void look_at(enum ram_kind kind)
{
	struct rig rig;
	int fd = pagemap();

	rig_new(&rig, kind, 3, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	install_page(&rig, 1);
	assert_look(fd, page_addr(&rig.ram, 0), 0);
	assert_look(fd, page_addr(&rig.ram, 1), 1);
	assert_look(fd, page_addr(&rig.ram, 2) - 1, 1);
	assert_look(fd, page_addr(&rig.ram, 2), 0);
	install_zero_page(&rig, 0);
	assert_look(fd, page_addr(&rig.ram, 0) + 17, 1);
	close(fd);
	rig_free(&rig);
}

static void test_pages(void **state)
{
	(void)state;
	look_at(RAM_ANON);
	look_at(RAM_MEMFD);
}

static void test_huge_pages(void **state)
{
	(void)state;
	look_at(RAM_HUGE_ANON);
	look_at(RAM_HUGE_MEMFD);
}

/* In the page cache but not mapped is not there: a touch would be a minor fault. */
static void test_cache(void **state)
{
	struct ram ram;
	int fd = pagemap();

	(void)state;
	ram_new(&ram, RAM_MEMFD, 1);
	ram.alias[0] = 1;
	assert_look(fd, page_addr(&ram, 0), 0);
	assert_look(fd, (uintptr_t)ram.alias, 1);
	close(fd);
	ram_free(&ram);
}

/* Poisoned is not absent: a touch would not be reported. */
static void test_poison(void **state)
{
	struct rig rig;
	int fd = pagemap();

	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 rig.ram.page);
	assert_look(fd, page_addr(&rig.ram, 0), 1);
	close(fd);
	rig_free(&rig);
}

static void test_errors(void **state)
{
	char path[64];
	struct vmm vmm;
	int fd;

	(void)state;
	assert_int_equal(fl_install_look(-1, 0x10000), -EBADF);
	assert_int_equal(fl_look_entry(-1, 0x10000), -EBADF);
	vmm_start(&vmm, 1 << 20, 0);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", vmm.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_look(fd, vmm.addr, 0);
	vmm_kill(&vmm);
	assert_look(fd, vmm.addr, -ESRCH);
	close(fd);
	close(vmm.uffd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),  cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_cache),  cmocka_unit_test(test_poison),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
