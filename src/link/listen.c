/* SPDX-License-Identifier: MIT */
#include "link/address.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

#define BACKLOG   128
#define LOOKUP_MS 10000

static void allow(int fd, int level, int name, int value)
{
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

static int listen_at(const struct addrinfo *at, bool both)
{
	int fl_cleanup_fd fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	allow(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at->ai_family == AF_INET6)
		allow(fd, IPPROTO_IPV6, IPV6_V6ONLY, !both);
	if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return fl_fd_take(&fd);
}

/* All addresses of this host: one socket for both families, or IPv4 where there is no other. */
static int listen_everywhere(const struct fl_address *address)
{
	in_port_t port = htons((in_port_t)strtoul(address->port, NULL, 10));
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
	const struct addrinfo at6 = {
		.ai_family = AF_INET6, .ai_addr = (struct sockaddr *)&v6, .ai_addrlen = sizeof(v6)};
	const struct addrinfo at4 = {
		.ai_family = AF_INET, .ai_addr = (struct sockaddr *)&v4, .ai_addrlen = sizeof(v4)};
	int fd = listen_at(&at6, true);

	return fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL ? listen_at(&at4, false) : fd;
}

static int listen_host(const struct fl_address *address, struct fl_error *err)
{
	struct addrinfo *list = NULL;
	int fd, rc;

	if (!address->host[0]) {
		fd = listen_everywhere(address);
	} else {
		rc = fl_address_resolve(&list, address, fl_clock_ns() + LOOKUP_MS * FL_NS_PER_MS,
					-1, err);
		if (rc)
			return rc;
		fd = -EADDRNOTAVAIL;
		for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
			fd = listen_at(at, false);
		freeaddrinfo(list);
	}
	return fd < 0 ? fl_error_set(err, fd, "listening on %s: %s", address->text, strerror(-fd))
		      : fd;
}

/* Only one process at a time looks whether a socket is dead and replaces it. A directory that cannot
 * be locked (some network file systems) is used without. */
static void lock_directory(int *lock, const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)NULL)->sun_path)];

	strcpy(copy, path);
	*lock = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (*lock >= 0 && flock(*lock, LOCK_EX) < 0 && errno == EINTR)
		;
}

/* Makes way: 0 when nothing is there any more, -EADDRINUSE when it is alive or no socket. */
static int remove_dead(const struct sockaddr_un *path)
{
	int fl_cleanup_fd probe = -1;
	struct stat file;

	if (lstat(path->sun_path, &file) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(file.st_mode))
		return -EADDRINUSE;
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return -errno;
	if (connect(probe, (const struct sockaddr *)path, sizeof(*path)) == 0 ||
	    errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(path->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/*
 * bind(2) gives the file the mode that the socket has, less the umask, so that it never stands there
 * for others: see unix_bind_bsd() in Linux net/unix/af_unix.c. The umask, which belongs to the whole
 * process, stays alone.
 */
static int bind_path(int fd, const struct sockaddr_un *path)
{
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)path, sizeof(*path)) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static int listen_path(const struct fl_address *address, struct fl_error *err)
{
	int fl_cleanup_fd lock = -1;
	int fl_cleanup_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc = fd < 0 ? -errno : 0;

	lock_directory(&lock, address->path.sun_path);
	if (!rc)
		rc = remove_dead(&address->path);
	if (!rc)
		rc = bind_path(fd, &address->path);
	return rc ? fl_error_set(err, rc, "listening on %s: %s", address->text, strerror(-rc))
		  : fl_fd_take(&fd);
}

int fl_link_listen(const char *address, struct fl_error *err)
{
	struct fl_address parsed;
	int rc = fl_address_parse(&parsed, address, err);

	if (rc)
		return rc;
	return parsed.local ? listen_path(&parsed, err) : listen_host(&parsed, err);
}
