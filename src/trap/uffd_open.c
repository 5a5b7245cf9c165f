/* SPDX-License-Identifier: MIT */
#include "trap/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/compat.h"
#include "util/error.h"
#include "util/fd.h"

#define WAYS 3

static const char *const way_names[WAYS] = {"/dev/userfaultfd", "userfaultfd(2)",
					    "userfaultfd(2) for user mode only"};

static int by_device(void)
{
	fl_cleanup_fd int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd;

	if (device < 0)
		return -errno;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int by_syscall(int flags)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);

	return fd < 0 ? -errno : fd;
}

int fl_uffd_raw(enum fl_uffd_way way)
{
	switch (way) {
	case FL_UFFD_BY_DEVICE:
		return by_device();
	case FL_UFFD_BY_SYSCALL:
		return by_syscall(0);
	case FL_UFFD_BY_SYSCALL_USER:
		return by_syscall(UFFD_USER_MODE_ONLY);
	}
	return -EINVAL;
}

int fl_uffd_api(int fd, uint64_t features, uint64_t *offered)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};

	if (ioctl(fd, UFFDIO_API, &api))
		return -errno;
	if (offered)
		*offered = api.features;
	return 0;
}

/* UFFDIO_API can be done once on a descriptor, so whoever wants to know the features first needs
 * one to throw away. */
static int features_offered(enum fl_uffd_way way, uint64_t *offered)
{
	fl_cleanup_fd int fd = fl_uffd_raw(way);

	return fd < 0 ? fd : fl_uffd_api(fd, 0, offered);
}

static void name_features(uint64_t bits, char *text, size_t len)
{
	size_t at = 0;

	text[0] = '\0';
	for (int i = 0; i < 64 && at < len; i++) {
		const char *name = fl_uffd_feature_name(UINT64_C(1) << i);
		const char *comma = at ? ", " : "";

		if (!(bits >> i & 1))
			continue;
		if (name)
			at += (size_t)snprintf(text + at, len - at, "%s%s", comma, name);
		else
			at += (size_t)snprintf(text + at, len - at, "%suffd bit %d", comma, i);
	}
}

static int open_way(enum fl_uffd_way way, uint64_t features, struct fl_error *err)
{
	uint64_t offered = 0;
	char absent[160];
	int rc = features_offered(way, &offered);
	int fd;

	if (rc < 0)
		return fl_error_set(err, rc, "%s", strerror(-rc));
	if (features & ~offered) {
		name_features(features & ~offered, absent, sizeof(absent));
		return fl_error_set(err, -EOPNOTSUPP, "this kernel does not offer %s", absent);
	}
	fd = fl_uffd_raw(way);
	if (fd < 0)
		return fl_error_set(err, fd, "%s", strerror(-fd));
	rc = fl_uffd_api(fd, features, NULL);
	if (!rc)
		return fd;
	(void)close(fd);
	return fl_error_set(err, rc, "UFFDIO_API: %s", strerror(-rc));
}

int fl_uffd_open(uint64_t features, unsigned int flags, enum fl_uffd_way *way, struct fl_error *err)
{
	size_t ways = flags & FL_UFFD_USER_MODE_ONLY ? WAYS : WAYS - 1;
	struct fl_error tried;
	char text[sizeof(tried.text)] = "";
	size_t at = 0;
	int fd = -EPERM;

	if (features & UFFD_FEATURE_EVENT_FORK)
		return fl_error_set(
			err, -EOPNOTSUPP,
			"fork events are refused: a child would need a pager of its own");
	for (size_t i = 0; i < ways; i++) {
		fd = open_way((enum fl_uffd_way)i, features, &tried);
		if (fd >= 0 && way)
			*way = (enum fl_uffd_way)i;
		if (fd >= 0)
			return fd;
		if (at < sizeof(text))
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s: %s",
					       at ? "; " : "", way_names[i], tried.text);
		if (fd == -EOPNOTSUPP)
			break;
	}
	return fl_error_set(err, fd, "%s", text);
}
