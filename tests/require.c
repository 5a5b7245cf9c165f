/* SPDX-License-Identifier: MIT */
/*
 * require REQUIREMENT - does this machine have what a test may ask for?
 *
 * Exit status 0 when it has, 1 and one line with the reason when not, 2 for an unknown word. It
 * looks for itself, with nothing of libfaultline, so that a library that wrongly finds a feature
 * missing cannot excuse its tests: tests/run counts a skip as failed when this program disagrees.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some distributions' kernel headers. */
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif

#define HUGE_POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static int answer(int rc, const char *reason)
{
	if (rc < 0)
		printf("%s: %s\n", reason, strerror(errno));
	return rc < 0;
}

static int require_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		return answer(-1, "/dev/kvm");
	return answer(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
}

/* A userfaultfd that also reports what the kernel touches, with these features or none. */
static int open_uffd(unsigned long long features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (dev >= 0)
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		return -1;
	return ioctl(fd, UFFDIO_API, &api);
}

static int require_uffd(void)
{
	return answer(open_uffd(0), "userfaultfd");
}

static int require_uffd_poison(void)
{
	return answer(open_uffd(UFFD_FEATURE_POISON), "UFFD_FEATURE_POISON");
}

static int require_uffd_minor(void)
{
	return answer(open_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS),
		      "UFFD_FEATURE_MINOR_*");
}

static long read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	long number = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &number) != 1)
		number = -1;
	fclose(file);
	return number;
}

static int write_number(const char *path, long number)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return -1;
	fprintf(file, "%ld\n", number);
	return fclose(file);
}

/* A free page now, or one more when the pool is asked to grow; the pool is left as it was. */
static int require_hugetlb(void)
{
	long pool = read_number(HUGE_POOL "nr_hugepages");
	long grown;

	if (pool < 0)
		return answer(-1, HUGE_POOL);
	if (read_number(HUGE_POOL "free_hugepages") > 0)
		return 0;
	if (write_number(HUGE_POOL "nr_hugepages", pool + 1) < 0)
		return answer(-1, "no free 2 MiB page, and the pool cannot be raised");
	grown = read_number(HUGE_POOL "nr_hugepages");
	write_number(HUGE_POOL "nr_hugepages", pool);
	errno = ENOMEM;
	return answer(grown > pool ? 0 : -1, "the pool of 2 MiB pages did not grow");
}

static int require_io_uring(void)
{
	struct io_uring_params params = {0};

	return answer((int)syscall(SYS_io_uring_setup, 1, &params), "io_uring_setup");
}

static int require_root(void)
{
	errno = EPERM;
	return answer(geteuid() == 0 ? 0 : -1, "not root");
}

static const struct {
	const char *name;
	int (*probe)(void);
} requirements[] = {
	{"kvm", require_kvm},
	{"uffd", require_uffd},
	{"uffd-poison", require_uffd_poison},
	{"uffd-minor", require_uffd_minor},
	{"hugetlb", require_hugetlb},
	{"io_uring", require_io_uring},
	{"root", require_root},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(requirements) / sizeof(*requirements); i++) {
		if (strcmp(argv[1], requirements[i].name) == 0)
			return requirements[i].probe();
	}
	fprintf(stderr, "usage: require REQUIREMENT\n");
	return 2;
}
