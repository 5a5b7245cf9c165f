/* SPDX-License-Identifier: MIT */

/*
 * Theory of operation
 *
 * A userfaultfd belongs to the address space that made it and may be read by any process that has
 * a descriptor. read(2) hands out pending faults before pending events, and a thread that raised an
 * event (madvise, munmap, mremap) sleeps until its event was read. So within one batch a fault may
 * have happened before the event that stands behind it: the events are put in front, in their own
 * order, because a fault may only be answered with what is true after them.
 *
 * The descriptor outlives the address space, and read(2), poll(2) and UFFDIO_WAKE do not tell: they
 * answer as for an idle guest. Only ioctls that would change the address space answer ESRCH, but
 * UFFDIO_(UN)REGISTER ENOMEM. What that means alive() finds out by a UFFDIO_COPY that can never be
 * done: from a page that cannot be read, to the lowest address there is.
 *
 * One thread reads; any thread may call anything else.
 */

#include "trap/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "util/compat.h"
#include "util/error.h"
#include "util/fd.h"

/* What one read(2) takes at most: 2 KiB of stack. */
#define BATCH 64
/* No mapping lies lower than vm.mmap_min_addr, whose common and largest sensible value is this. */
#define LOWEST_ADDR 0x10000u

struct uffd {
	struct fl_trap trap;
	int fd;
	size_t page_size;
	void *unreadable;
	bool plain_read; /* preadv2(2) cannot read it; the reader's */
};

static struct uffd *to_uffd(struct fl_trap *trap)
{
	return (struct uffd *)(void *)trap;
}

/* 0, or -ESRCH when the address space is gone. */
static int alive(const struct uffd *uffd)
{
	struct uffdio_copy copy = {
		.dst = LOWEST_ADDR,
		.src = (uintptr_t)uffd->unreadable,
		.len = uffd->page_size,
		.mode = UFFDIO_COPY_MODE_DONTWAKE,
	};

	if (ioctl(uffd->fd, UFFDIO_COPY, &copy) && errno == ESRCH)
		return -ESRCH;
	return 0;
}

static int uffd_fd(struct fl_trap *trap)
{
	return to_uffd(trap)->fd;
}

static void take_fault(const struct uffd_msg *msg, struct fl_event *event)
{
	uint64_t flags = msg->arg.pagefault.flags;

	*event = (struct fl_event){
		.kind = FL_EVENT_FAULT,
		.tid = msg->arg.pagefault.feat.ptid,
		.addr = msg->arg.pagefault.address,
	};
	if (flags & UFFD_PAGEFAULT_FLAG_WRITE)
		event->flags |= FL_FAULT_WRITE;
	if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
		event->flags |= FL_FAULT_MINOR;
	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		event->flags |= FL_FAULT_WP;
}

/* False for a fault, and for a kind of event younger than this, which nobody asked for. */
static bool take_change(const struct uffd_msg *msg, struct fl_event *event)
{
	*event = (struct fl_event){.addr = msg->arg.remove.start};
	switch (msg->event) {
	case UFFD_EVENT_REMOVE:
		event->kind = FL_EVENT_REMOVE;
		event->len_bytes = msg->arg.remove.end - msg->arg.remove.start;
		return true;
	case UFFD_EVENT_UNMAP:
		event->kind = FL_EVENT_UNMAP;
		event->len_bytes = msg->arg.remove.end - msg->arg.remove.start;
		return true;
	case UFFD_EVENT_REMAP:
		event->kind = FL_EVENT_REMAP;
		event->addr = msg->arg.remap.from;
		event->to = msg->arg.remap.to;
		event->len_bytes = msg->arg.remap.len;
		return true;
	case UFFD_EVENT_FORK:
		(void)close((int)msg->arg.fork.ufd);
		event->kind = FL_EVENT_FORK;
		event->addr = 0;
		return true;
	default:
		return false;
	}
}

/* Changes in front, faults behind, each in the order of the batch. */
static unsigned int take_batch(const struct uffd_msg *msgs, unsigned int count,
			       struct fl_event *events)
{
	unsigned int taken = 0;

	for (unsigned int i = 0; i < count; i++)
		if (take_change(&msgs[i], &events[taken]))
			taken++;
	for (unsigned int i = 0; i < count; i++)
		if (msgs[i].event == UFFD_EVENT_PAGEFAULT)
			take_fault(&msgs[i], &events[taken++]);
	return taken;
}

/*
 * O_NONBLOCK belongs to the open file, and the VMM, which has it too, could take it back: so each
 * read says for itself that it must not wait. Where the kernel cannot do that for a userfaultfd,
 * the VMM has to be trusted with it.
 */
static ssize_t read_now(struct uffd *uffd, struct uffd_msg *msgs, size_t len_bytes)
{
	struct iovec iov = {.iov_base = msgs, .iov_len = len_bytes};
	ssize_t got;

	if (!uffd->plain_read) {
		got = preadv2(uffd->fd, &iov, 1, -1, RWF_NOWAIT);
		if (got >= 0 || (errno != EOPNOTSUPP && errno != ESPIPE && errno != ENOSYS))
			return got;
		uffd->plain_read = true;
	}
	return read(uffd->fd, msgs, len_bytes);
}

static int uffd_read(struct fl_trap *trap, struct fl_event *events, unsigned int max)
{
	struct uffd *uffd = to_uffd(trap);
	struct uffd_msg msgs[BATCH];
	unsigned int taken;
	ssize_t got;

	if (max > BATCH)
		max = BATCH;
	do {
		do {
			got = read_now(uffd, msgs, max * sizeof(msgs[0]));
		} while (got < 0 && errno == EINTR);
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0)
			return -errno;
		taken = take_batch(msgs, (unsigned int)((size_t)got / sizeof(msgs[0])), events);
	} while (got > 0 && !taken);
	return (int)taken;
}

static int uffd_arm(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, unsigned int modes)
{
	struct uffd *uffd = to_uffd(trap);
	struct uffdio_register reg = {.range = {.start = addr, .len = len_bytes}};
	int rc;

	if (modes & FL_TRAP_MISSING)
		reg.mode |= UFFDIO_REGISTER_MODE_MISSING;
	if (modes & FL_TRAP_MINOR)
		reg.mode |= UFFDIO_REGISTER_MODE_MINOR;
	if (modes & FL_TRAP_WP)
		reg.mode |= UFFDIO_REGISTER_MODE_WP;
	if (!ioctl(uffd->fd, UFFDIO_REGISTER, &reg))
		return 0;
	/* EPERM is a mapping of a file that may not be written. */
	rc = errno == EPERM ? -EINVAL : -errno;
	return rc == -ENOMEM && alive(uffd) ? -ESRCH : rc;
}

static int uffd_wake(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes)
{
	struct uffd *uffd = to_uffd(trap);
	struct uffdio_range range = {.start = addr, .len = len_bytes};

	return ioctl(uffd->fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

/* UFFDIO_UNREGISTER wakes those who wait for a missing page only, so a wake for all follows. */
static int uffd_release(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes)
{
	struct uffd *uffd = to_uffd(trap);
	struct uffdio_range range = {.start = addr, .len = len_bytes};
	int rc;

	if (!ioctl(uffd->fd, UFFDIO_UNREGISTER, &range))
		return uffd_wake(trap, addr, len_bytes);
	rc = -errno;
	return rc == -ENOMEM && alive(uffd) ? -ESRCH : rc;
}

/* A command that the kernel does not know is EINVAL, one that it knows looks at its argument. */
static bool knows_protect(int fd)
{
	return ioctl(fd, UFFDIO_WRITEPROTECT, NULL) && errno != EINVAL;
}

static int uffd_protect(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, bool on)
{
	struct uffd *uffd = to_uffd(trap);
	struct uffdio_writeprotect wp = {
		.range = {.start = addr, .len = len_bytes},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int rc;

	if (!ioctl(uffd->fd, UFFDIO_WRITEPROTECT, &wp))
		return 0;
	rc = -errno;
	return rc == -EINVAL && !knows_protect(uffd->fd) ? -EOPNOTSUPP : rc;
}

static void uffd_close(struct fl_trap *trap)
{
	struct uffd *uffd = to_uffd(trap);

	if (uffd->unreadable != MAP_FAILED)
		(void)munmap(uffd->unreadable, uffd->page_size);
	fl_fd_close(&uffd->fd);
	free(uffd);
}

static const struct fl_trap_ops uffd_ops = {
	.size = sizeof(uffd_ops),
	.version = FL_TRAP_OPS_VERSION,
	.flags = FL_TRAP_MISSING | FL_TRAP_MINOR | FL_TRAP_WP,
	.waiter = FL_WAITER_UFFD,
	.name = "uffd",
	.fd = uffd_fd,
	.read = uffd_read,
	.arm = uffd_arm,
	.release = uffd_release,
	.wake = uffd_wake,
	.protect = uffd_protect,
	.close = uffd_close,
};

/*
 * UFFDIO_API with a version that never was answers EINVAL and clears its argument, on any
 * userfaultfd, and changes nothing (ioctl_userfaultfd(2)). Other descriptors leave it alone.
 */
bool fl_uffd_is(int fd)
{
	struct uffdio_api api = {.api = ~UFFD_API, .features = ~0ULL, .ioctls = ~0ULL};

	return ioctl(fd, UFFDIO_API, &api) && errno == EINVAL && !api.api && !api.features &&
	       !api.ioctls;
}

/* Before UFFDIO_API every other command is EINVAL; after it this one reads its argument first. */
static bool api_done(int fd)
{
	return ioctl(fd, UFFDIO_WAKE, NULL) && errno == EFAULT;
}

static int check_fd(int fd, struct fl_error *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return fl_error_set(err, -errno, "descriptor %d: %s", fd, strerror(errno));
	if (!fl_uffd_is(fd))
		return fl_error_set(err, -EINVAL, "descriptor %d is not a userfaultfd", fd);
	if (!api_done(fd))
		return fl_error_set(err, -EINVAL, "descriptor %d: UFFDIO_API was not done", fd);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return fl_error_set(err, -errno, "descriptor %d: O_NONBLOCK: %s", fd,
				    strerror(errno));
	return 0;
}

int fl_trap_uffd_new(struct fl_trap **trap, int fd, struct fl_error *err)
{
	struct uffd *uffd;
	int rc = check_fd(fd, err);

	if (rc)
		return rc;
	uffd = calloc(1, sizeof(*uffd));
	if (!uffd)
		return fl_error_set(err, -ENOMEM, "out of memory");
	uffd->trap.ops = &uffd_ops;
	uffd->page_size = (size_t)sysconf(_SC_PAGESIZE);
	uffd->unreadable =
		mmap(NULL, uffd->page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uffd->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (uffd->fd < 0 || uffd->unreadable == MAP_FAILED) {
		rc = fl_error_set(err, -errno, "descriptor %d: %s", fd, strerror(errno));
		uffd_close(&uffd->trap);
		return rc;
	}
	*trap = &uffd->trap;
	return 0;
}
