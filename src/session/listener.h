/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_LISTENER_H
#define FL_SESSION_LISTENER_H

#include <sys/types.h>
#include <faultline/common.h>

/* A Unix stream socket that waits for connections at a path. Belongs to one thread. */
struct fl_listener {
	int fd;
	char *path;
	dev_t device; /* of the socket file, so that only our own is removed */
	ino_t inode;
};

/*
 * Binds and listens, close-on-exec and non-blocking, with the permission bits mode as the umask
 * leaves them.
 *
 * A socket that nobody serves any more is replaced; -EADDRINUSE when somebody does, or when the
 * path is no socket: that is left untouched.
 */
int fl_listener_open(struct fl_listener *listener, const char *path, mode_t mode,
		     struct fl_error *err);

/* The next connection, close-on-exec; -EAGAIN when there is none, and what accept4(2) returns. */
int fl_listener_accept(struct fl_listener *listener);

/* Stops listening, and removes the socket's file if it is still ours. Twice is fine. */
void fl_listener_close(struct fl_listener *listener);

#endif
