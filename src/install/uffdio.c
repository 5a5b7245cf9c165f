/* SPDX-License-Identifier: MIT */
#include "install/uffdio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "util/compat.h"
#include "util/error.h"

/*
 * Every struct ends in a field for what was done: bytes, or a negative errno. Some kernels leave it
 * alone when they answer EAGAIN, which is why it is 0 before: then errno alone speaks.
 */
static int64_t answer(int rc, int64_t done)
{
	if (rc && done <= 0)
		return -errno;
	return done;
}

int64_t fl_uffdio_copy(int uffd, uint64_t addr, const void *from, uint64_t len_bytes,
		       unsigned int flags)
{
	struct uffdio_copy copy = {
		.dst = addr,
		.src = (uintptr_t)from,
		.len = len_bytes,
	};
	int rc;

	if (flags & FL_INSTALL_DONTWAKE)
		copy.mode |= UFFDIO_COPY_MODE_DONTWAKE;
	if (flags & FL_INSTALL_WP)
		copy.mode |= UFFDIO_COPY_MODE_WP;
	rc = ioctl(uffd, UFFDIO_COPY, &copy);
	return answer(rc, copy.copy);
}

int64_t fl_uffdio_zeropage(int uffd, uint64_t addr, uint64_t len_bytes, unsigned int flags)
{
	struct uffdio_zeropage zero = {.range = {.start = addr, .len = len_bytes}};
	int rc;

	if (flags & FL_INSTALL_DONTWAKE)
		zero.mode |= UFFDIO_ZEROPAGE_MODE_DONTWAKE;
	rc = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
	return answer(rc, zero.zeropage);
}

int64_t fl_uffdio_continue(int uffd, uint64_t addr, uint64_t len_bytes, unsigned int flags)
{
	struct uffdio_continue map = {.range = {.start = addr, .len = len_bytes}};
	int rc;

	if (flags & FL_INSTALL_DONTWAKE)
		map.mode |= UFFDIO_CONTINUE_MODE_DONTWAKE;
	if (flags & FL_INSTALL_WP)
		map.mode |= UFFDIO_CONTINUE_MODE_WP;
	rc = ioctl(uffd, UFFDIO_CONTINUE, &map);
	return answer(rc, map.mapped);
}

/* A command that the kernel does not know is EINVAL, one that it knows looks at its argument. */
static bool knows_poison(int uffd)
{
	return ioctl(uffd, UFFDIO_POISON, NULL) && errno != EINVAL;
}

int64_t fl_uffdio_poison(int uffd, uint64_t addr, uint64_t len_bytes, unsigned int flags)
{
	struct uffdio_poison poison = {.range = {.start = addr, .len = len_bytes}};
	int rc;
	int64_t done;

	if (flags & FL_INSTALL_DONTWAKE)
		poison.mode |= UFFDIO_POISON_MODE_DONTWAKE;
	rc = ioctl(uffd, UFFDIO_POISON, &poison);
	done = answer(rc, poison.updated);
	return done == -EINVAL && !knows_poison(uffd) ? -EOPNOTSUPP : done;
}

int fl_uffdio_dup(int uffd, struct fl_error *err)
{
	int fd = fcntl(uffd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return fl_error_set(err, -errno, "descriptor %d: %s", uffd, strerror(errno));
	return fd;
}
