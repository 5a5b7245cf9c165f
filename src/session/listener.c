/* SPDX-License-Identifier: MIT */
/*
 * A path is taken over only from a socket that nobody serves. Whether one is served can only be
 * found by connecting, and between that and the replacement another daemon could come and do the
 * same; so all of it is done under a lock on the directory, which leaves no file behind. A peer
 * that connects and says nothing, as this does, is no failure for the one who serves.
 */
#include "session/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/error.h"
#include "util/fd.h"

static int set_address(struct sockaddr_un *address, const char *path, struct fl_error *err)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (!*path || strlen(path) >= sizeof(address->sun_path))
		return fl_error_set(err, -ENAMETOOLONG,
				    "socket %s: a path of 1 to %zu bytes is needed", path,
				    sizeof(address->sun_path) - 1);
	strcpy(address->sun_path, path);
	return 0;
}

/* 0 when the path is free now; -EADDRINUSE when it cannot be had. */
static int clear_stale(const struct sockaddr_un *address, struct fl_error *err)
{
	int fl_cleanup_fd probe = -1;
	struct stat file;

	if (lstat(address->sun_path, &file) < 0)
		return errno == ENOENT
			       ? 0
			       : fl_error_set(err, -errno, "socket %s: %m", address->sun_path);
	if (!S_ISSOCK(file.st_mode))
		return fl_error_set(err, -EADDRINUSE, "socket %s: exists and is no socket",
				    address->sun_path);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return fl_error_set(err, -errno, "socket: %m");
	if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		return fl_error_set(err, -EADDRINUSE,
				    "socket %s: is already served by another process",
				    address->sun_path);
	if (unlink(address->sun_path) < 0 && errno != ENOENT)
		return fl_error_set(err, -errno, "socket %s: removing a stale one: %m",
				    address->sun_path);
	return 0;
}

static int lock_directory(const char *path, struct fl_error *err)
{
	char copy[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	const char *directory;
	int fd;

	strcpy(copy, path);
	directory = dirname(copy);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fl_error_set(err, -errno, "socket %s: directory: %m", path);
	/* A directory that cannot be locked (some network file systems) is used without. */
	while (flock(fd, LOCK_EX) < 0 && errno == EINTR)
		;
	return fd;
}

/* The file gets its mode when it is made: nobody can connect before that is right. */
static int bind_and_listen(struct fl_listener *listener, const struct sockaddr_un *address,
			   mode_t mode)
{
	mode_t mask = umask(0777);
	struct stat file;
	int rc;

	(void)umask(mask | (0777 & ~mode));
	rc = bind(listener->fd, (const struct sockaddr *)address, sizeof(*address));
	(void)umask(mask);
	if (rc < 0 || stat(address->sun_path, &file) < 0)
		return -errno;
	listener->device = file.st_dev;
	listener->inode = file.st_ino;
	return listen(listener->fd, SOMAXCONN) < 0 ? -errno : 0;
}

int fl_listener_open(struct fl_listener *listener, const char *path, mode_t mode,
		     struct fl_error *err)
{
	int fl_cleanup_fd lock = -1;
	struct sockaddr_un address;
	int rc;

	*listener = (struct fl_listener){.fd = -1};
	rc = set_address(&address, path, err);
	if (rc)
		return rc;
	lock = lock_directory(path, err);
	if (lock < 0)
		return lock;
	rc = clear_stale(&address, err);
	if (rc)
		return rc;
	listener->path = strdup(path);
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!listener->path || listener->fd < 0)
		rc = listener->path ? -errno : -ENOMEM;
	else
		rc = bind_and_listen(listener, &address, mode);
	if (rc) {
		fl_listener_close(listener);
		return fl_error_set(err, rc, "socket %s: %s", path, strerror(-rc));
	}
	return 0;
}

int fl_listener_accept(struct fl_listener *listener)
{
	int fd;

	do {
		fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	} while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	return fd < 0 ? -errno : fd;
}

void fl_listener_close(struct fl_listener *listener)
{
	struct stat file;

	/* The file goes first: who connects to one that is closed would be refused. */
	if (listener->inode && listener->path && lstat(listener->path, &file) == 0 &&
	    file.st_dev == listener->device && file.st_ino == listener->inode)
		(void)unlink(listener->path);
	listener->inode = 0;
	fl_fd_close(&listener->fd);
	free(listener->path);
	listener->path = NULL;
}
