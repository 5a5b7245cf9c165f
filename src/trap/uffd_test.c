/* SPDX-License-Identifier: MIT */
#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trap/uffd.h"

#define THREADS 8

/* ---- getting one ---- */

static void test_open(void **state)
{
	enum fl_uffd_way way;
	struct fl_error err = {0};
	int fd = fl_uffd_open(UFFD_FEATURE_THREAD_ID, 0, &way, &err);

	(void)state;
	SKIP_UNLESS(fd >= 0, "uffd", "%s", err.text);
	assert_int_equal(way, fl_probe_one("uffd.device") ? FL_UFFD_BY_SYSCALL : FL_UFFD_BY_DEVICE);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	/* UFFDIO_API is done: a second time is refused. */
	assert_int_equal(fl_uffd_api(fd, 0, NULL), -EINVAL);
	close(fd);
}

static void test_open_names_absent_features(void **state)
{
	struct fl_error err = {0};
	unsigned int fds = test_open_fds();
	int fd = fl_uffd_open(UINT64_C(1) << 62 | UFFD_FEATURE_THREAD_ID, 0, NULL, &err);

	(void)state;
	SKIP_UNLESS(fd == -EOPNOTSUPP, "uffd", "%s", err.text);
	assert_int_equal(err.code, -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "uffd bit 62"));
	assert_null(strstr(err.text, "thread-id"));
	assert_int_equal(test_open_fds(), fds);
}

static void test_open_refuses_fork(void **state)
{
	struct fl_error err = {0};

	(void)state;
	assert_int_equal(fl_uffd_open(UFFD_FEATURE_EVENT_FORK, 0, NULL, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "fork"));
}

/* Where no descriptor can be had every way fails, and each says so. */
static void test_open_says_what_each_way_answered(void **state)
{
	struct fl_error err = {0};
	struct rlimit old;
	struct rlimit none;
	int fd;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	fd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(fd == -EMFILE || fd == -EPERM || fd == -ENOSYS);
	assert_int_equal(err.code, fd);
	assert_non_null(strstr(err.text, "/dev/userfaultfd: "));
	assert_non_null(strstr(err.text, "; userfaultfd(2): "));
	assert_non_null(strstr(err.text, "; userfaultfd(2) for user mode only: "));
}

/* Without a privilege, where the machine's settings leave only faults of user mode. */
static int open_unprivileged(void)
{
	enum fl_uffd_way way = FL_UFFD_BY_DEVICE;
	int fd;

	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 1;
	fd = fl_uffd_open(0, 0, &way, NULL);
	if (fd >= 0)
		return 2;
	if (fd != -EPERM)
		return 3;
	fd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, &way, NULL);
	return fd >= 0 && way == FL_UFFD_BY_SYSCALL_USER ? 0 : 4;
}

static void test_open_unprivileged(void **state)
{
	int status;
	int pid;

	(void)state;
	SKIP_UNLESS(geteuid() == 0, "root", "a privilege to give up");
	SKIP_UNLESS(!fl_probe_one("uffd.user-mode-only"), "uffd", "none may be had");
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(open_unprivileged());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	SKIP_UNLESS(WEXITSTATUS(status) != 2, "other", "everybody may have one here");
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void refuse(int fd)
{
	struct fl_trap *trap = NULL;
	struct fl_error err = {0};

	assert_true(fd >= 0);
	assert_int_equal(fl_trap_uffd_new(&trap, fd, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a userfaultfd"));
	assert_null(trap);
	close(fd);
}

static void test_other_descriptors_are_refused(void **state)
{
	unsigned int fds = test_open_fds();
	int pair[2];

	(void)state;
	refuse(open("/proc/self/exe", O_RDONLY));
	refuse(open("/dev/null", O_RDWR));
	refuse(open("/dev/zero", O_RDWR));
	refuse(open("/proc/self/pagemap", O_RDONLY));
	refuse(open("/", O_RDONLY | O_DIRECTORY));
	refuse(socket(AF_UNIX, SOCK_STREAM, 0));
	refuse(socket(AF_INET, SOCK_DGRAM, 0));
	refuse(eventfd(0, 0));
	refuse(timerfd_create(CLOCK_MONOTONIC, 0));
	refuse(epoll_create1(0));
	refuse(memfd_create("no uffd", 0));
	refuse((int)syscall(SYS_pidfd_open, getpid(), 0));
	assert_int_equal(pipe(pair), 0);
	refuse(pair[0]);
	refuse(pair[1]);
	assert_int_equal(test_open_fds(), fds);
}

static void test_kvm_descriptors_are_refused(void **state)
{
	int kvm = open("/dev/kvm", O_RDWR);
	int vm;

	(void)state;
	SKIP_UNLESS(kvm >= 0, "kvm", "/dev/kvm: %s", strerror(errno));
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	refuse(ioctl(vm, KVM_CREATE_VCPU, 0));
	refuse(vm);
	refuse(kvm);
}

static void test_bad_descriptors(void **state)
{
	struct fl_trap *trap = NULL;
	struct fl_error err = {0};
	int fd = fl_uffd_raw(FL_UFFD_BY_SYSCALL);

	(void)state;
	assert_int_equal(fl_trap_uffd_new(&trap, -1, &err), -EBADF);
	SKIP_UNLESS(fd >= 0, "uffd", "%s", strerror(-fd));
	assert_int_equal(fl_trap_uffd_new(&trap, fd, &err), -EINVAL);
	assert_non_null(strstr(err.text, "UFFDIO_API was not done"));
	/* The look at it did not do it either. */
	assert_int_equal(fl_uffd_api(fd, 0, NULL), 0);
	assert_int_equal(fl_trap_uffd_new(&trap, fd, &err), 0);
	fl_trap_close(trap);
	close(fd);
}

/* ---- faults ---- */

/* A load and a store, each resolved by hand. */
static void faults_of(enum ram_kind kind)
{
	struct rig rig;
	struct actor actor;
	struct fl_event event;
	char *contents;

	rig_new(&rig, kind, 2, FL_TRAP_MISSING, UFFD_FEATURE_THREAD_ID);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	load_start(&actor, rig.ram.at);
	event = next_fault(&rig, 0, 0);
	assert_int_equal(event.tid, atomic_load(&actor.tid));
	assert_int_equal(
		fl_install_copy(rig.install, page_addr(&rig.ram, 0), contents, rig.ram.page, 0),
		rig.ram.page);
	assert_int_equal(actor_join(&actor), (unsigned char)contents[0]);
	assert_page(&rig.ram, 0);

	store_start(&actor, rig.ram.at + rig.ram.page + 9, 0x7e);
	event = next_fault(&rig, 1, FL_FAULT_WRITE);
	assert_int_equal(event.tid, atomic_load(&actor.tid));
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 1), rig.ram.page, rig.ram.page, 0),
		rig.ram.page);
	actor_join(&actor);
	assert_int_equal(rig.ram.at[rig.ram.page + 9], 0x7e);
	assert_no_event(rig.trap);
	free(contents);
	rig_free(&rig);
}

static void test_missing_anon(void **state)
{
	(void)state;
	faults_of(RAM_ANON);
}

static void test_missing_memfd(void **state)
{
	(void)state;
	faults_of(RAM_MEMFD);
}

static void test_missing_huge_anon(void **state)
{
	(void)state;
	faults_of(RAM_HUGE_ANON);
}

static void test_missing_huge_memfd(void **state)
{
	(void)state;
	faults_of(RAM_HUGE_MEMFD);
}

static void minor_faults_of(enum ram_kind kind, uint64_t feature)
{
	struct rig rig;
	struct actor actor;

	rig_new(&rig, kind, 2, FL_TRAP_MISSING | FL_TRAP_MINOR, feature);
	rig_copy(&rig);
	rig.ram.alias[1] = 0x44;
	load_start(&actor, rig.ram.at + 1);
	next_fault(&rig, 0, FL_FAULT_MINOR);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 rig.ram.page);
	assert_int_equal(actor_join(&actor), 0x44);

	/* The other page is not in the cache: missing, not minor. */
	store_start(&actor, rig.ram.at + rig.ram.page, 3);
	next_fault(&rig, 1, FL_FAULT_WRITE);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 1), rig.ram.page, rig.ram.page, 0),
		rig.ram.page);
	actor_join(&actor);
	assert_int_equal(rig.ram.alias[rig.ram.page], 3);
	rig_free(&rig);
}

static void test_minor_memfd(void **state)
{
	(void)state;
	minor_faults_of(RAM_MEMFD, UFFD_FEATURE_MINOR_SHMEM);
}

static void test_minor_huge_memfd(void **state)
{
	(void)state;
	minor_faults_of(RAM_HUGE_MEMFD, UFFD_FEATURE_MINOR_HUGETLBFS);
}

static void test_write_protect(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_ANON, 2, FL_TRAP_MISSING | FL_TRAP_WP, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	rig_copy(&rig);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 0), rig.ram.len, rig.ram.page, 0),
		rig.ram.len);
	assert_int_equal(fl_trap_protect(rig.trap, page_addr(&rig.ram, 0), rig.ram.len, true), 0);
	assert_zero_page(&rig.ram, 0);
	store_start(&actor, rig.ram.at, 5);
	next_fault(&rig, 0, FL_FAULT_WP | FL_FAULT_WRITE);
	assert_int_equal(fl_trap_protect(rig.trap, page_addr(&rig.ram, 0), rig.ram.page, false), 0);
	actor_join(&actor);
	assert_int_equal(rig.ram.at[0], 5);
	assert_no_event(rig.trap);

	assert_int_equal(fl_trap_protect(rig.trap, 1, rig.ram.page, true), -EINVAL);
	assert_int_equal(fl_trap_protect(rig.trap, (uintptr_t)&rig & ~(rig.ram.page - 1),
					 rig.ram.page, true),
			 -ENOENT);
	rig_free(&rig);
}

/* ---- batches ---- */

static void test_batch_of_threads(void **state)
{
	struct fl_event events[2 * THREADS];
	struct actor actors[THREADS];
	uint32_t seen = 0;
	struct rig rig;

	(void)state;
	rig_new(&rig, RAM_ANON, THREADS, FL_TRAP_MISSING, UFFD_FEATURE_THREAD_ID);
	rig_copy(&rig);
	for (size_t i = 0; i < THREADS; i++)
		load_start(&actors[i], rig.ram.at + i * rig.ram.page);
	for (size_t i = 0; i < THREADS; i++)
		actor_wait_asleep(&actors[i]);
	assert_int_equal(fl_trap_read(rig.trap, events, THREADS - 1), THREADS - 1);
	assert_int_equal(fl_trap_read(rig.trap, events + THREADS - 1, THREADS), 1);
	assert_no_event(rig.trap);
	for (size_t i = 0; i < THREADS; i++) {
		size_t page = (events[i].addr - page_addr(&rig.ram, 0)) / rig.ram.page;

		assert_in_range(page, 0, THREADS - 1);
		assert_int_equal(events[i].kind, FL_EVENT_FAULT);
		assert_int_equal(events[i].tid, atomic_load(&actors[page].tid));
		seen |= 1u << page;
	}
	assert_int_equal(seen, (1u << THREADS) - 1);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 0), rig.ram.len, rig.ram.page, 0),
		rig.ram.len);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(actor_join(&actors[i]), 0);
	rig_free(&rig);
}

/* Two faults, then two changes by other threads: one read has the changes first. */
static void test_changes_before_faults(void **state)
{
	struct fl_event events[8];
	struct actor loads[2];
	struct actor changes[2];
	struct rig rig;

	(void)state;
	rig_new(&rig, RAM_ANON, 8, FL_TRAP_MISSING,
		UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP);
	rig_copy(&rig);
	for (size_t i = 0; i < 2; i++) {
		load_start(&loads[i], rig.ram.at + i * rig.ram.page);
		actor_wait_asleep(&loads[i]);
	}
	changes[0] = (struct actor){
		.act = act_madvise,
		.at = rig.ram.at + 4 * rig.ram.page,
		.len = 2 * rig.ram.page,
		.number = MADV_DONTNEED,
	};
	changes[1] = (struct actor){
		.act = act_munmap,
		.at = rig.ram.at + 6 * rig.ram.page,
		.len = 2 * rig.ram.page,
	};
	for (size_t i = 0; i < 2; i++) {
		actor_start(&changes[i]);
		actor_wait_asleep(&changes[i]);
	}
	assert_int_equal(fl_trap_read(rig.trap, events, 8), 4);
	assert_int_equal(events[0].kind, FL_EVENT_REMOVE);
	assert_int_equal(events[0].addr, page_addr(&rig.ram, 4));
	assert_int_equal(events[0].len_bytes, 2 * rig.ram.page);
	assert_int_equal(events[1].kind, FL_EVENT_UNMAP);
	assert_int_equal(events[1].addr, page_addr(&rig.ram, 6));
	assert_int_equal(events[1].len_bytes, 2 * rig.ram.page);
	assert_int_equal(events[2].kind, FL_EVENT_FAULT);
	assert_int_equal(events[2].addr, page_addr(&rig.ram, 0));
	assert_int_equal(events[3].addr, page_addr(&rig.ram, 1));
	assert_int_equal(actor_join(&changes[0]), 0);
	assert_int_equal(actor_join(&changes[1]), 0);
	assert_int_equal(fl_install_zero(rig.install, page_addr(&rig.ram, 0), 2 * rig.ram.page,
					 rig.ram.page, 0),
			 2 * rig.ram.page);
	actor_join(&loads[0]);
	actor_join(&loads[1]);
	rig_free(&rig);
}

/* ---- changes ---- */

static void change_is(struct rig *rig, struct actor *actor, enum fl_event_kind kind)
{
	struct fl_event event;

	actor_start(actor);
	event = next_event(rig->trap);
	assert_int_equal(event.kind, kind);
	assert_int_equal(event.addr, (uintptr_t)actor->at);
	assert_int_equal(event.len_bytes, actor->len);
	assert_int_equal(event.to, (uintptr_t)actor->to);
	assert_int_equal(actor_join(actor), 0);
}

static void test_remove(void **state)
{
	static const int advice[] = {MADV_DONTNEED, MADV_REMOVE};
	struct rig rig;

	(void)state;
	rig_new(&rig, RAM_MEMFD, 4, FL_TRAP_MISSING, UFFD_FEATURE_EVENT_REMOVE);
	for (size_t i = 0; i < 2; i++) {
		struct actor actor = {
			.act = act_madvise,
			.at = rig.ram.at + rig.ram.page,
			.len = 2 * rig.ram.page,
			.number = advice[i],
		};

		change_is(&rig, &actor, FL_EVENT_REMOVE);
	}
	rig_free(&rig);
}

static void test_unmap(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_ANON, 4, FL_TRAP_MISSING, UFFD_FEATURE_EVENT_UNMAP);
	actor = (struct actor){.act = act_munmap, .at = rig.ram.at, .len = rig.ram.page};
	change_is(&rig, &actor, FL_EVENT_UNMAP);
	rig_free(&rig);
}

static void test_remap(void **state)
{
	struct ram elsewhere;
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_ANON, 4, FL_TRAP_MISSING, UFFD_FEATURE_EVENT_REMAP);
	rig_copy(&rig);
	ram_new(&elsewhere, RAM_ANON, 2);
	actor = (struct actor){
		.act = act_mremap,
		.at = rig.ram.at + 2 * rig.ram.page,
		.len = 2 * rig.ram.page,
		.to = elsewhere.at,
	};
	change_is(&rig, &actor, FL_EVENT_REMAP);
	/* Faults come from the new place, and are served there. */
	load_start(&actor, elsewhere.at + elsewhere.page);
	assert_int_equal(next_event(rig.trap).addr, page_addr(&elsewhere, 1));
	assert_int_equal(fl_install_zero(rig.install, page_addr(&elsewhere, 1), elsewhere.page,
					 elsewhere.page, 0),
			 elsewhere.page);
	assert_int_equal(actor_join(&actor), 0);
	rig_free(&rig);
	ram_free(&elsewhere);
}

static int64_t act_fork(struct actor *actor)
{
	int pid = fork();

	/* Nobody serves the child: the page reads as zeros there. */
	if (!pid)
		_exit(*(volatile char *)actor->at ? 1 : 0);
	if (pid < 0 || waitpid(pid, &actor->number, 0) != pid)
		return -errno;
	return actor->number;
}

/* A VMM may have asked for fork events itself. The child's descriptor must not pile up. */
static void test_fork_closes_the_descriptor(void **state)
{
	int fd = fl_uffd_raw(FL_UFFD_BY_SYSCALL);
	struct fl_trap *trap;
	struct fl_event event;
	struct actor actor;
	unsigned int fds;
	struct ram ram;

	(void)state;
	SKIP_UNLESS(fd >= 0, "uffd", "%s", strerror(-fd));
	SKIP_UNLESS(!fl_uffd_api(fd, UFFD_FEATURE_EVENT_FORK, NULL), "root", "no fork events");
	ram_new(&ram, RAM_ANON, 1);
	assert_int_equal(fl_trap_uffd_new(&trap, fd, NULL), 0);
	assert_int_equal(fl_trap_arm(trap, page_addr(&ram, 0), ram.len, FL_TRAP_MISSING), 0);
	fds = test_open_fds();
	actor = (struct actor){.act = act_fork, .at = ram.at};
	actor_start(&actor);
	event = next_event(trap);
	assert_int_equal(event.kind, FL_EVENT_FORK);
	assert_int_equal(actor_join(&actor), 0);
	assert_int_equal(test_open_fds(), fds);
	fl_trap_close(trap);
	close(fd);
	ram_free(&ram);
}

/* ---- the other calls ---- */

/* A wake without an install sends the thread back to the same fault. */
static void test_wake(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_ANON, 2, FL_TRAP_MISSING, 0);
	load_start(&actor, rig.ram.at);
	/* Without the feature nobody is named. */
	assert_int_equal(next_fault(&rig, 0, 0).tid, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0), rig.ram.page), 0);
		next_fault(&rig, 0, 0);
	}
	assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0) + 1, rig.ram.page), -EINVAL);
	assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0), 0), -EINVAL);
	assert_int_equal(fl_trap_release(rig.trap, page_addr(&rig.ram, 0), rig.ram.len), 0);
	assert_int_equal(actor_join(&actor), 0);
	rig_free(&rig);
}

static void release_wakes(enum ram_kind kind, unsigned int modes)
{
	struct rig rig;
	struct actor actor;

	rig_new(&rig, kind, 2, modes, 0);
	if (modes & FL_TRAP_MINOR)
		rig.ram.alias[0] = 0;
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, modes & FL_TRAP_MINOR ? FL_FAULT_MINOR : 0);
	assert_int_equal(fl_trap_release(rig.trap, page_addr(&rig.ram, 0), rig.ram.len), 0);
	assert_int_equal(actor_join(&actor), 0);
	assert_zero_page(&rig.ram, 1);
	assert_no_event(rig.trap);
	rig_free(&rig);
}

static void test_release(void **state)
{
	(void)state;
	release_wakes(RAM_ANON, FL_TRAP_MISSING);
	release_wakes(RAM_MEMFD, FL_TRAP_MINOR);
}

static void test_arm_refuses(void **state)
{
	struct rig rig;
	struct rig other;
	uint64_t at;

	(void)state;
	rig_new(&rig, RAM_ANON, 2, FL_TRAP_MISSING, 0);
	rig_new(&other, RAM_ANON, 2, FL_TRAP_MISSING, 0);
	at = page_addr(&rig.ram, 0);
	assert_int_equal(fl_trap_arm(other.trap, at, rig.ram.len, FL_TRAP_MISSING), -EBUSY);
	assert_int_equal(fl_trap_arm(rig.trap, at + 1, rig.ram.len, FL_TRAP_MISSING), -EINVAL);
	assert_int_equal(fl_trap_arm(rig.trap, at, 0, FL_TRAP_MISSING), -EINVAL);
	assert_int_equal(fl_trap_arm(rig.trap, at, rig.ram.len, 0), -EINVAL);
	assert_int_equal(fl_trap_arm(rig.trap, at, rig.ram.len, 1u << 30), -EOPNOTSUPP);
	assert_int_equal(fl_trap_arm(rig.trap, at, rig.ram.len, FL_TRAP_MINOR), -EINVAL);
	assert_int_equal(fl_trap_arm(rig.trap, UINT64_MAX - 4095, 8192, FL_TRAP_MISSING), -EINVAL);
	rig_free(&other);
	rig_free(&rig);
}

/* The trap's own descriptor is a copy: the caller's stays, and may be closed first. */
static void test_descriptors(void **state)
{
	unsigned int fds = test_open_fds();
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	assert_int_not_equal(fl_trap_fd(rig.trap), rig.uffd);
	fl_trap_close(rig.trap);
	assert_true(fcntl(rig.uffd, F_GETFD) >= 0);
	assert_int_equal(fcntl(rig.uffd, F_SETFL, 0), 0);
	assert_int_equal(fl_trap_uffd_new(&rig.trap, rig.uffd, NULL), 0);
	/* Non-blocking, as poll(2) wants it. */
	assert_no_event(rig.trap);
	close(rig.uffd);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	fl_trap_close(rig.trap);
	assert_int_equal(actor_join(&actor), 0);
	ram_free(&rig.ram);
	assert_int_equal(test_open_fds(), fds);
}

/* The VMM makes its descriptor, which is ours too, wait: a read without events still does not. */
static void test_blocking_descriptor(void **state)
{
	struct fl_trap *trap;
	struct fl_event event;
	struct vmm vmm;
	struct uffd_msg msg;
	struct iovec iov = {.iov_base = &msg, .iov_len = sizeof(msg)};

	(void)state;
	vmm_start(&vmm, 1 << 20, UFFD_FEATURE_EVENT_REMOVE);
	SKIP_UNLESS(preadv2(vmm.uffd, &iov, 1, -1, RWF_NOWAIT) < 0 && errno == EAGAIN, "other",
		    "no RWF_NOWAIT for a userfaultfd");
	assert_int_equal(fl_trap_uffd_new(&trap, vmm.uffd, NULL), 0);
	assert_int_equal(fcntl(vmm.uffd, F_SETFL, 0), 0);
	assert_int_equal(fl_trap_read(trap, &event, 1), 0);
	fl_trap_close(trap);
	vmm_kill(&vmm);
	close(vmm.uffd);
}

static void test_dead_vmm(void **state)
{
	struct fl_trap *trap;
	struct fl_event event;
	struct vmm vmm;

	(void)state;
	vmm_start(&vmm, 1 << 20, UFFD_FEATURE_EVENT_REMOVE);
	assert_int_equal(fl_trap_uffd_new(&trap, vmm.uffd, NULL), 0);
	assert_int_equal(fl_trap_arm(trap, vmm.addr, vmm.len, FL_TRAP_MISSING), 0);
	assert_int_equal(fl_trap_read(trap, &event, 1), 0);
	assert_int_equal(fl_trap_wake(trap, vmm.addr, vmm.len), 0);
	vmm_kill(&vmm);
	assert_int_equal(fl_trap_read(trap, &event, 1), 0);
	assert_int_equal(fl_trap_wake(trap, vmm.addr, vmm.len), 0);
	assert_int_equal(fl_trap_arm(trap, vmm.addr, vmm.len, FL_TRAP_MISSING), -ESRCH);
	assert_int_equal(fl_trap_release(trap, vmm.addr, vmm.len), -ESRCH);
	assert_int_equal(fl_trap_protect(trap, vmm.addr, vmm.len, true), -ESRCH);
	fl_trap_close(trap);
	close(vmm.uffd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_open_names_absent_features),
		cmocka_unit_test(test_open_refuses_fork),
		cmocka_unit_test(test_open_says_what_each_way_answered),
		cmocka_unit_test(test_open_unprivileged),
		cmocka_unit_test(test_other_descriptors_are_refused),
		cmocka_unit_test(test_kvm_descriptors_are_refused),
		cmocka_unit_test(test_bad_descriptors),
		cmocka_unit_test(test_missing_anon),
		cmocka_unit_test(test_missing_memfd),
		cmocka_unit_test(test_missing_huge_anon),
		cmocka_unit_test(test_missing_huge_memfd),
		cmocka_unit_test(test_minor_memfd),
		cmocka_unit_test(test_minor_huge_memfd),
		cmocka_unit_test(test_write_protect),
		cmocka_unit_test(test_batch_of_threads),
		cmocka_unit_test(test_changes_before_faults),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_remap),
		cmocka_unit_test(test_fork_closes_the_descriptor),
		cmocka_unit_test(test_wake),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_arm_refuses),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_blocking_descriptor),
		cmocka_unit_test(test_dead_vmm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
