/* SPDX-License-Identifier: MIT */

/*
 * The one table of what a kernel may offer. An entry is found by trying it, with a function that
 * returns 0 or a negative errno and leaves nothing behind. Sources of what there is to try:
 * userfaultfd(2), ioctl_userfaultfd(2), Linux
 * Documentation/admin-guide/mm/{userfaultfd,pagemap}.rst, Documentation/virt/kvm/api.rst,
 * pidfd_open(2), unix(7), preadv2(2), memfd_create(2), madvise(2).
 */

#include <faultline/trap.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/io_uring.h>
#include <linux/memfd.h>

#include "util/compat.h"
#include "trap/uffd.h"
#include "util/fd.h"

struct entry {
	const char *name;
	const char *what;
	const char *use;
	int (*try)(uint64_t arg);
	uint64_t arg;
};

static int try_way(uint64_t way)
{
	fl_cleanup_fd int fd = fl_uffd_raw((enum fl_uffd_way)way);

	return fd < 0 ? fd : fl_uffd_api(fd, 0, NULL);
}

static int try_feature(uint64_t bit)
{
	fl_cleanup_fd int fd = -1;
	uint64_t offered = 0;
	int rc;

	for (int way = FL_UFFD_BY_DEVICE; fd < 0 && way <= FL_UFFD_BY_SYSCALL_USER; way++)
		fd = fl_uffd_raw((enum fl_uffd_way)way);
	rc = fd < 0 ? fd : fl_uffd_api(fd, 0, &offered);
	if (rc)
		return rc;
	return offered & bit ? 0 : -EOPNOTSUPP;
}

static int try_pagemap_scan(uint64_t arg)
{
	fl_cleanup_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	struct page_region region = {0};
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = (uintptr_t)&region & ~(page_size - 1),
		.end = ((uintptr_t)&region & ~(page_size - 1)) + page_size,
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT,
	};

	(void)arg;
	if (fd < 0)
		return -errno;
	return ioctl(fd, PAGEMAP_SCAN, &scan) < 0 ? -errno : 0;
}

static int try_pidfd(uint64_t arg)
{
	fl_cleanup_fd int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	(void)arg;
	return fd < 0 ? -errno : 0;
}

static int try_peer_pidfd(uint64_t arg)
{
	int sockets[2];
	int pidfd = -1;
	socklen_t len = sizeof(pidfd);
	int rc;

	(void)arg;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return -errno;
	rc = getsockopt(sockets[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) ? -errno : 0;
	fl_fd_close(&sockets[0]);
	fl_fd_close(&sockets[1]);
	fl_fd_close(&pidfd);
	return rc;
}

static int try_io_uring(uint64_t arg)
{
	struct io_uring_params params = {0};
	fl_cleanup_fd int fd = (int)syscall(SYS_io_uring_setup, 2, &params);

	(void)arg;
	return fd < 0 ? -errno : 0;
}

/* On the file that this program was started from: a file system is asked, not the page cache alone.
 */
static int try_nowait(uint64_t arg)
{
	fl_cleanup_fd int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char byte;
	struct iovec to = {.iov_base = &byte, .iov_len = 1};

	(void)arg;
	if (fd < 0)
		return -errno;
	return preadv2(fd, &to, 1, 0, RWF_NOWAIT) < 0 && errno != EAGAIN ? -errno : 0;
}

static int try_memfd_hugetlb(uint64_t arg)
{
	fl_cleanup_fd int fd = memfd_create("faultline-probe",
					    MFD_CLOEXEC | MFD_HUGETLB | (unsigned int)MFD_HUGE_2MB);

	(void)arg;
	return fd < 0 ? -errno : 0;
}

/* Reserves one page of the pool, without touching it, and gives it back. */
static int try_hugetlb_pool(uint64_t shift)
{
	size_t len_bytes = (size_t)1 << shift;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (int)(shift << MAP_HUGE_SHIFT);
	void *page = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (page == MAP_FAILED)
		return -errno;
	(void)munmap(page, len_bytes);
	return 0;
}

static int try_populate(uint64_t advice)
{
	size_t len_bytes = (size_t)sysconf(_SC_PAGESIZE);
	void *page =
		mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (page == MAP_FAILED)
		return -errno;
	rc = madvise(page, len_bytes, (int)advice) ? -errno : 0;
	(void)munmap(page, len_bytes);
	return rc;
}

static int new_vm(void)
{
	fl_cleanup_fd int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm;

	if (kvm < 0)
		return -errno;
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return -ENOTTY;
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	return vm < 0 ? -errno : vm;
}

static int try_kvm(uint64_t arg)
{
	fl_cleanup_fd int vm = new_vm();

	(void)arg;
	return vm < 0 ? vm : 0;
}

static int try_kvm_extension(uint64_t extension)
{
	fl_cleanup_fd int vm = new_vm();

	if (vm < 0)
		return vm;
	return ioctl(vm, KVM_CHECK_EXTENSION, extension) > 0 ? 0 : -EOPNOTSUPP;
}

static int new_guest_memfd(uint64_t flags)
{
	fl_cleanup_fd int vm = new_vm();
	struct kvm_create_guest_memfd create = {
		.size = (uint64_t)sysconf(_SC_PAGESIZE),
		.flags = flags,
	};
	int fd;

	if (vm < 0)
		return vm;
	fd = ioctl(vm, KVM_CREATE_GUEST_MEMFD, &create);
	return fd < 0 ? -errno : fd;
}

static int try_guest_memfd(uint64_t flags)
{
	fl_cleanup_fd int fd = new_guest_memfd(flags);

	return fd < 0 ? fd : 0;
}

static int try_guest_memfd_mmap(uint64_t flags)
{
	fl_cleanup_fd int fd = new_guest_memfd(flags);
	size_t len_bytes = (size_t)sysconf(_SC_PAGESIZE);
	void *page;
	int rc;

	if (fd < 0)
		return fd;
	page = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	rc = madvise(page, len_bytes, MADV_POPULATE_WRITE) ? -errno : 0;
	(void)munmap(page, len_bytes);
	return rc;
}

#define FEATURE(name, bit, what, use)                                    \
	{                                                                \
		"uffd." name, what, use, try_feature, UFFD_FEATURE_##bit \
	}

static const struct entry table[] = {
	{"uffd.device", "/dev/userfaultfd may be opened",
	 "userfaultfd without a privilege; else the system call is tried", try_way,
	 FL_UFFD_BY_DEVICE},
	{"uffd.syscall", "userfaultfd(2) for faults of user and kernel mode",
	 "the trap for every touch, KVM's too; without it or the device: the next", try_way,
	 FL_UFFD_BY_SYSCALL},
	{"uffd.user-mode-only", "userfaultfd(2) for faults of user mode only",
	 "threads without KVM; without it: the SIGSEGV trap", try_way, FL_UFFD_BY_SYSCALL_USER},
	FEATURE("event-remove", EVENT_REMOVE, "a REMOVE event when a range is given back",
		"balloons and hole punches are seen; Firecracker needs it"),
	FEATURE("event-remap", EVENT_REMAP, "a REMAP event when a mapping moves",
		"the layout follows mremap(2)"),
	FEATURE("event-unmap", EVENT_UNMAP, "an UNMAP event when a mapping goes",
		"the layout follows munmap(2)"),
	FEATURE("event-fork", EVENT_FORK, "a FORK event with a descriptor for the child",
		"not used: a child would need a pager of its own"),
	FEATURE("missing-shmem", MISSING_SHMEM, "missing faults on memfd and tmpfs memory",
		"guests on shared memory"),
	FEATURE("missing-hugetlbfs", MISSING_HUGETLBFS, "missing faults on hugetlbfs memory",
		"guests on huge pages"),
	FEATURE("minor-shmem", MINOR_SHMEM, "minor faults on memfd and tmpfs memory",
		"install through a second mapping and CONTINUE; without it: COPY"),
	FEATURE("minor-hugetlbfs", MINOR_HUGETLBFS, "minor faults on hugetlbfs memory",
		"install through a second mapping and CONTINUE; without it: COPY"),
	FEATURE("wp", PAGEFAULT_FLAG_WP, "write-protect faults on anonymous memory",
		"a VMM's own write protection is lifted at the first write"),
	FEATURE("wp-hugetlbfs-shmem", WP_HUGETLBFS_SHMEM, "write-protect faults on shared memory",
		"the same for guests on memfd and huge pages"),
	FEATURE("wp-unpopulated", WP_UNPOPULATED, "write-protection of pages that are not there",
		"not used yet"),
	FEATURE("wp-async", WP_ASYNC, "write-protect faults resolved by the kernel",
		"not used yet"),
	FEATURE("poison", POISON, "UFFDIO_POISON: touching a page is a memory error",
		"pages that cannot be supplied; without it: the session ends"),
	FEATURE("move", MOVE, "UFFDIO_MOVE: pages move instead of being copied", "not used yet"),
	FEATURE("sigbus", SIGBUS, "SIGBUS instead of an event", "not used: a fault must wait"),
	FEATURE("thread-id", THREAD_ID, "events name the thread that touched the page",
		"not used yet: a VMM that asked for it has it in the events"),
	FEATURE("exact-address", EXACT_ADDRESS, "events carry the address, not its page's",
		"not needed: a page is what is installed"),
	{"pagemap-scan", "PAGEMAP_SCAN on /proc/PID/pagemap",
	 "looks whether a page is there; without it: its pagemap entry", try_pagemap_scan, 0},
	{"pidfd", "pidfd_open(2)", "the exit of a VMM is seen", try_pidfd, 0},
	{"peer-pidfd", "SO_PEERPIDFD on a Unix socket",
	 "the VMM is known without a race; without it: SO_PEERCRED and pidfd_open(2)",
	 try_peer_pidfd, 0},
	{"io-uring", "io_uring_setup(2)", "reads of images; without it: threads that read",
	 try_io_uring, 0},
	{"rwf-nowait", "preadv2(2) with RWF_NOWAIT",
	 "a page cache hit is answered at once; without it: every read is queued", try_nowait, 0},
	{"memfd-hugetlb", "memfd_create(2) with MFD_HUGETLB", "shared guest memory of huge pages",
	 try_memfd_hugetlb, 0},
	{"hugetlb-pool-2m", "a 2 MiB page is free in the pool", "guests on 2 MiB pages",
	 try_hugetlb_pool, 21},
	{"hugetlb-pool-1g", "a 1 GiB page is free in the pool", "guests on 1 GiB pages",
	 try_hugetlb_pool, 30},
	{"populate", "MADV_POPULATE_READ and MADV_POPULATE_WRITE",
	 "a second mapping that has no memory is an error, not a SIGBUS", try_populate,
	 MADV_POPULATE_READ},
	{"kvm", "/dev/kvm makes a VM", "the accelerator of faultline-vmm; without it: threads",
	 try_kvm, 0},
	{"kvm.memory-fault-info", "KVM_EXIT_MEMORY_FAULT says which page KVM_RUN failed on",
	 "not used yet: vCPUs that resolve their own exits", try_kvm_extension,
	 KVM_CAP_MEMORY_FAULT_INFO},
	{"kvm.guest-memfd", "KVM_CREATE_GUEST_MEMFD",
	 "not used yet: guest memory that only KVM maps", try_guest_memfd, 0},
	{"kvm.guest-memfd-mmap", "a guest_memfd that the VMM may map and touch",
	 "not used yet: guest_memfd for ordinary guests", try_guest_memfd_mmap,
	 GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED},
};

#define ENTRIES (sizeof(table) / sizeof(table[0]))

const char *fl_uffd_feature_name(uint64_t bit)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (table[i].try == try_feature && table[i].arg == bit)
			return table[i].name;
	return NULL;
}

size_t fl_probe_all(struct fl_probe *probes, size_t max)
{
	for (size_t i = 0; i < ENTRIES && i < max; i++) {
		int rc = table[i].try(table[i].arg);

		probes[i] = (struct fl_probe){
			.name = table[i].name,
			.what = table[i].what,
			.use = table[i].use,
			.offered = !rc,
			.reason = rc,
		};
	}
	return ENTRIES;
}

int fl_probe_one(const char *name)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (!strcmp(table[i].name, name))
			return table[i].try(table[i].arg);
	return -ENOENT;
}
