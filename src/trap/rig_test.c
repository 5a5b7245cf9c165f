/* SPDX-License-Identifier: MIT */
#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE   60000 /* ms, only when a test fails */
#define HUGE_SHIFT 21

/* ---- memory ---- */

static void *map(size_t len, int flags, int fd)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

void ram_new(struct ram *ram, enum ram_kind kind, size_t pages)
{
	bool huge = kind == RAM_HUGE_ANON || kind == RAM_HUGE_MEMFD;
	unsigned long unused = huge ? test_lock_hugepages() : 0;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	SKIP_UNLESS(!huge || unused >= pages, "hugetlb", "%lu free pages of 2 MiB, %zu wanted",
		    unused, pages);
	*ram = (struct ram){.memfd = -1, .page = (size_t)sysconf(_SC_PAGESIZE)};
	if (huge) {
		ram->page = (size_t)1 << HUGE_SHIFT;
		flags |= MAP_HUGETLB | HUGE_SHIFT << MAP_HUGE_SHIFT;
	}
	ram->len = pages * ram->page;
	if (kind == RAM_ANON || kind == RAM_HUGE_ANON) {
		ram->at = map(ram->len, flags, -1);
		return;
	}
	ram->memfd = memfd_create("ram", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
	assert_true(ram->memfd >= 0);
	assert_int_equal(ftruncate(ram->memfd, (off_t)ram->len), 0);
	ram->at = map(ram->len, MAP_SHARED, ram->memfd);
	ram->alias = map(ram->len, MAP_SHARED, ram->memfd);
}

void ram_free(struct ram *ram)
{
	munmap(ram->at, ram->len);
	if (ram->alias)
		munmap(ram->alias, ram->len);
	if (ram->memfd >= 0)
		close(ram->memfd);
}

uint64_t page_addr(const struct ram *ram, size_t page)
{
	return (uintptr_t)ram->at + page * ram->page;
}

char *page_contents(const struct ram *ram, size_t page)
{
	char *contents = aligned_alloc(ram->page, ram->page);

	assert_non_null(contents);
	test_pattern(contents, ram->page, page * ram->page, RIG_SEED);
	return contents;
}

void assert_page(const struct ram *ram, size_t page)
{
	assert_filled(ram->at + page * ram->page, ram->page, page * ram->page, RIG_SEED);
}

void assert_zero_page(const struct ram *ram, size_t page)
{
	assert_int_equal(test_nonzero(ram->at + page * ram->page, ram->page), -1);
}

/* ---- the rig ---- */

void rig_new(struct rig *rig, enum ram_kind kind, size_t pages, unsigned int modes,
	     uint64_t features)
{
	struct fl_error err = {0};

	memset(rig, 0, sizeof(*rig));
	rig->uffd = fl_uffd_open(features, 0, NULL, &err);
	SKIP_UNLESS(rig->uffd >= 0, "uffd", "%s", err.text);
	ram_new(&rig->ram, kind, pages);
	assert_int_equal(fl_trap_uffd_new(&rig->trap, rig->uffd, &err), 0);
	assert_int_equal(fl_trap_arm(rig->trap, page_addr(&rig->ram, 0), rig->ram.len, modes), 0);
}

/* The memory goes last: unmapping it would be an event that nobody reads. */
void rig_free(struct rig *rig)
{
	fl_install_close(rig->install);
	fl_trap_close(rig->trap);
	if (rig->uffd >= 0)
		close(rig->uffd);
	ram_free(&rig->ram);
}

void rig_copy(struct rig *rig)
{
	assert_int_equal(fl_install_copy_new(&rig->install, rig->uffd, NULL), 0);
}

void rig_continue(struct rig *rig)
{
	struct fl_alias alias = {page_addr(&rig->ram, 0), rig->ram.alias, rig->ram.len};

	assert_int_equal(fl_install_continue_new(&rig->install, rig->uffd, &alias, 1, NULL), 0);
}

void rig_segv(struct rig *rig, size_t pages)
{
	struct fl_alias alias;

	memset(rig, 0, sizeof(*rig));
	rig->uffd = -1;
	ram_new(&rig->ram, RAM_MEMFD, pages);
	alias = (struct fl_alias){page_addr(&rig->ram, 0), rig->ram.alias, rig->ram.len};
	assert_int_equal(fl_trap_segv_new(&rig->trap, NULL), 0);
	assert_int_equal(fl_install_reveal_new(&rig->install, rig->trap, &alias, 1, NULL), 0);
	assert_int_equal(fl_trap_arm(rig->trap, alias.addr, alias.len_bytes, FL_TRAP_MISSING), 0);
}

void install_page(struct rig *rig, size_t page)
{
	char *contents = page_contents(&rig->ram, page);

	assert_int_equal(fl_install_copy(rig->install, page_addr(&rig->ram, page), contents,
					 rig->ram.page, 0),
			 rig->ram.page);
	free(contents);
}

void install_zero_page(struct rig *rig, size_t page)
{
	assert_int_equal(fl_install_zero(rig->install, page_addr(&rig->ram, page), rig->ram.page,
					 rig->ram.page, 0),
			 rig->ram.page);
}

struct fl_event next_event(struct fl_trap *trap)
{
	struct pollfd fd = {.fd = fl_trap_fd(trap), .events = POLLIN};
	struct fl_event event;
	int count;

	do {
		assert_int_equal(poll(&fd, 1, PATIENCE), 1);
		assert_int_equal(fd.revents, POLLIN);
		count = fl_trap_read(trap, &event, 1);
		assert_true(count >= 0);
	} while (!count);
	return event;
}

struct fl_event next_fault(struct rig *rig, size_t page, uint32_t flags)
{
	struct fl_event event = next_event(rig->trap);

	assert_int_equal(event.kind, FL_EVENT_FAULT);
	assert_int_equal(event.addr & ~(rig->ram.page - 1), page_addr(&rig->ram, page));
	assert_int_equal(event.flags, flags);
	assert_int_equal(event.len_bytes, 0);
	return event;
}

void assert_no_event(struct fl_trap *trap)
{
	struct fl_event event;

	assert_int_equal(fl_trap_read(trap, &event, 1), 0);
}

/* ---- actors ---- */

static void *actor_main(void *arg)
{
	struct actor *actor = arg;

	atomic_store(&actor->tid, (uint32_t)syscall(SYS_gettid));
	actor->result = actor->act(actor);
	return NULL;
}

void actor_start(struct actor *actor)
{
	atomic_store(&actor->tid, 0);
	assert_int_equal(pthread_create(&actor->thread, NULL, actor_main, actor), 0);
}

int64_t actor_join(struct actor *actor)
{
	assert_int_equal(pthread_join(actor->thread, NULL), 0);
	return actor->result;
}

/* One line of /proc about a thread. */
static void proc_line(uint32_t tid, const char *name, char *line, int len)
{
	char path[64];
	FILE *file;

	line[0] = '\0';
	snprintf(path, sizeof(path), "/proc/self/task/%u/%s", tid, name);
	file = fopen(path, "re");
	assert_non_null(file);
	if (!fgets(line, len, file))
		line[0] = '\0';
	fclose(file);
}

/* In a fault, a change, or the SIGSEGV handler; not for want of a lock of the kernel. */
static bool is_asleep(uint32_t tid)
{
	char line[512];
	const char *name_end;

	proc_line(tid, "stat", line, sizeof(line));
	name_end = strrchr(line, ')');
	assert_non_null(name_end);
	if (name_end[2] != 'S' && name_end[2] != 'D')
		return false;
	proc_line(tid, "wchan", line, sizeof(line));
	/* Some kernels do not say. */
	return !line[0] || !strcmp(line, "0") || strstr(line, "userfault") || strstr(line, "futex");
}

void actor_wait_asleep(struct actor *actor)
{
	uint32_t tid;

	while (!(tid = atomic_load(&actor->tid)))
		sched_yield();
	while (!is_asleep(tid))
		sched_yield();
}

/* Not instrumented: a sanitizer's own locks and shadow have no part in the touch. */
__attribute__((no_sanitize("thread", "address"))) int64_t act_load(struct actor *actor)
{
	return *(volatile unsigned char *)actor->at;
}

__attribute__((no_sanitize("thread", "address"))) int64_t act_store(struct actor *actor)
{
	*(volatile unsigned char *)actor->at = (unsigned char)actor->number;
	return 0;
}

int64_t act_madvise(struct actor *actor)
{
	return madvise(actor->at, actor->len, actor->number) ? -errno : 0;
}

int64_t act_munmap(struct actor *actor)
{
	return munmap(actor->at, actor->len) ? -errno : 0;
}

int64_t act_mremap(struct actor *actor)
{
	void *at =
		mremap(actor->at, actor->len, actor->len, MREMAP_MAYMOVE | MREMAP_FIXED, actor->to);

	return at == actor->to ? 0 : -errno;
}

/* Straight to the kernel, whose touch is the one that counts: a sanitizer would look first. */
int64_t act_read(struct actor *actor)
{
	long got = syscall(SYS_read, actor->number, actor->at, actor->len);

	return got < 0 ? -errno : got;
}

int64_t act_write(struct actor *actor)
{
	long put = syscall(SYS_write, actor->number, actor->at, actor->len);

	return put < 0 ? -errno : put;
}

void load_start(struct actor *actor, const void *at)
{
	*actor = (struct actor){.act = act_load, .at = (void *)(uintptr_t)at};
	actor_start(actor);
}

void store_start(struct actor *actor, void *at, int value)
{
	*actor = (struct actor){.act = act_store, .at = at, .number = value};
	actor_start(actor);
}

static sigjmp_buf out_of_signal;

static void leave(int sig)
{
	siglongjmp(out_of_signal, sig);
}

int signal_of_load(const void *at)
{
	struct sigaction action = {.sa_handler = leave};
	struct sigaction old;
	int sig;

	assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
	sig = sigsetjmp(out_of_signal, 1);
	if (!sig)
		(void)*(const volatile char *)at;
	assert_int_equal(sigaction(SIGBUS, &old, NULL), 0);
	return sig;
}

/* ---- another process ---- */

struct hello {
	uint64_t addr;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
};

static struct msghdr message(struct hello *hello, struct iovec *body)
{
	*body = (struct iovec){.iov_base = &hello->addr, .iov_len = sizeof(hello->addr)};
	return (struct msghdr){
		.msg_iov = body,
		.msg_iovlen = 1,
		.msg_control = &hello->control,
		.msg_controllen = sizeof(hello->control),
	};
}

/* Only _exit(2) leaves the child: it must not run the parent's tests. */
static void be_vmm(int socket, size_t len, uint64_t features)
{
	struct hello hello = {0};
	struct iovec body;
	struct msghdr msg = message(&hello, &body);
	struct cmsghdr *header = &hello.control.header;
	int uffd = fl_uffd_open(features, 0, NULL, NULL);
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uffd < 0 || at == MAP_FAILED)
		_exit(1);
	hello.addr = (uintptr_t)at;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &uffd, sizeof(uffd));
	if (sendmsg(socket, &msg, 0) < 0)
		_exit(2);
	for (;;)
		pause();
}

void vmm_start(struct vmm *vmm, size_t len, uint64_t features)
{
	struct hello hello = {0};
	struct iovec body;
	struct msghdr msg = message(&hello, &body);
	int sockets[2];

	SKIP_UNLESS(!fl_probe_one("uffd.syscall") || !fl_probe_one("uffd.device"), "uffd",
		    "none may be had");
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	vmm->pid = fork();
	assert_true(vmm->pid >= 0);
	if (!vmm->pid)
		be_vmm(sockets[1], len, features);
	close(sockets[1]);
	assert_int_equal(recvmsg(sockets[0], &msg, MSG_CMSG_CLOEXEC), sizeof(hello.addr));
	close(sockets[0]);
	vmm->addr = hello.addr;
	vmm->len = len;
	memcpy(&vmm->uffd, CMSG_DATA(&hello.control.header), sizeof(vmm->uffd));
}

void vmm_kill(struct vmm *vmm)
{
	assert_int_equal(kill(vmm->pid, SIGKILL), 0);
	assert_int_equal(waitpid(vmm->pid, NULL, 0), vmm->pid);
}
