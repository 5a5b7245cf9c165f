/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <faultline/trap.h>

#include "util/compat.h"
#include "trap/uffd.h"

#define ROOM 128

static const struct {
	const char *name;
	uint64_t bit;
} features[] = {
	{"uffd.event-remove", UFFD_FEATURE_EVENT_REMOVE},
	{"uffd.event-remap", UFFD_FEATURE_EVENT_REMAP},
	{"uffd.event-unmap", UFFD_FEATURE_EVENT_UNMAP},
	{"uffd.event-fork", UFFD_FEATURE_EVENT_FORK},
	{"uffd.missing-shmem", UFFD_FEATURE_MISSING_SHMEM},
	{"uffd.missing-hugetlbfs", UFFD_FEATURE_MISSING_HUGETLBFS},
	{"uffd.minor-shmem", UFFD_FEATURE_MINOR_SHMEM},
	{"uffd.minor-hugetlbfs", UFFD_FEATURE_MINOR_HUGETLBFS},
	{"uffd.wp", UFFD_FEATURE_PAGEFAULT_FLAG_WP},
	{"uffd.wp-hugetlbfs-shmem", UFFD_FEATURE_WP_HUGETLBFS_SHMEM},
	{"uffd.wp-unpopulated", 1 << 13},
	{"uffd.poison", 1 << 14},
	{"uffd.wp-async", 1 << 15},
	{"uffd.move", 1 << 16},
	{"uffd.sigbus", UFFD_FEATURE_SIGBUS},
	{"uffd.thread-id", UFFD_FEATURE_THREAD_ID},
	{"uffd.exact-address", UFFD_FEATURE_EXACT_ADDRESS},
};

static const char *const others[] = {
	"uffd.device",
	"uffd.syscall",
	"uffd.user-mode-only",
	"pagemap-scan",
	"pidfd",
	"peer-pidfd",
	"io-uring",
	"rwf-nowait",
	"memfd-hugetlb",
	"hugetlb-pool-2m",
	"hugetlb-pool-1g",
	"populate",
	"kvm",
	"kvm.memory-fault-info",
	"kvm.guest-memfd",
	"kvm.guest-memfd-mmap",
};

#define FEATURES (sizeof(features) / sizeof(features[0]))
#define OTHERS   (sizeof(others) / sizeof(others[0]))

static void test_table(void **state)
{
	static struct fl_probe probes[ROOM];
	size_t count = fl_probe_all(probes, ROOM);

	(void)state;
	assert_int_equal(count, FEATURES + OTHERS);
	for (size_t i = 0; i < count; i++) {
		assert_true(strlen(probes[i].name) > 0 && strlen(probes[i].name) < 32);
		assert_true(strlen(probes[i].what) > 0);
		assert_true(strlen(probes[i].use) > 0);
		assert_int_equal(probes[i].offered, !probes[i].reason);
		assert_true(probes[i].reason <= 0);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(probes[i].name, probes[j].name);
	}
}

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < FEATURES; i++) {
		assert_string_equal(fl_uffd_feature_name(features[i].bit), features[i].name);
		assert_int_not_equal(fl_probe_one(features[i].name), -ENOENT);
	}
	/* -ENOENT is also what a missing device answers. */
	for (size_t i = 0; i < OTHERS; i++)
		assert_true(fl_probe_one(others[i]) != -ENOENT ||
			    !strcmp(others[i], "uffd.device") || !strncmp(others[i], "kvm", 3));
	assert_int_equal(fl_probe_one("uffd"), -ENOENT);
	assert_int_equal(fl_probe_one(""), -ENOENT);
	assert_null(fl_uffd_feature_name(UINT64_C(1) << 60));
}

static void test_room(void **state)
{
	struct fl_probe probes[2] = {{.name = "untouched"}, {.name = "untouched"}};

	(void)state;
	assert_int_equal(fl_probe_all(probes, 1), FEATURES + OTHERS);
	assert_string_equal(probes[0].name, "uffd.device");
	assert_string_equal(probes[1].name, "untouched");
	assert_int_equal(fl_probe_all(NULL, 0), FEATURES + OTHERS);
}

/* What the table says of each feature is what a userfaultfd had by hand says. */
static void test_features_agree(void **state)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	(void)state;
	SKIP_UNLESS(fd >= 0, "uffd", "%s", strerror(errno));
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	close(fd);
	for (size_t i = 0; i < FEATURES; i++)
		assert_int_equal(!fl_probe_one(features[i].name),
				 (api.features & features[i].bit) != 0);
}

static void test_ways_agree(void **state)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int all = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	int user = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	(void)state;
	assert_int_equal(!fl_probe_one("uffd.device"), device >= 0);
	assert_int_equal(!fl_probe_one("uffd.syscall"), all >= 0);
	assert_int_equal(!fl_probe_one("uffd.user-mode-only"), user >= 0);
	close(device);
	close(all);
	close(user);
}

static void test_kvm_agrees(void **state)
{
	(void)state;
	assert_int_equal(!fl_probe_one("kvm"), access("/dev/kvm", R_OK | W_OK) == 0);
}

static void test_hugepages_agree(void **state)
{
	unsigned long unused = test_lock_hugepages();

	(void)state;
	SKIP_UNLESS(unused > 0, "hugetlb", "no free page of 2 MiB");
	assert_int_equal(fl_probe_one("hugetlb-pool-2m"), 0);
}

static void test_leaves_nothing_behind(void **state)
{
	static struct fl_probe probes[ROOM];
	unsigned int fds = test_open_fds();
	uint64_t allocations = test_allocations();

	(void)state;
	(void)fl_probe_all(probes, ROOM);
	assert_int_equal(test_allocations(), allocations);
	assert_int_equal(test_open_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_features_agree),
		cmocka_unit_test(test_ways_agree),
		cmocka_unit_test(test_kvm_agrees),
		cmocka_unit_test(test_hugepages_agree),
		cmocka_unit_test(test_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
