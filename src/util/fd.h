/* SPDX-License-Identifier: MIT */
#ifndef FL_UTIL_FD_H
#define FL_UTIL_FD_H

#include <errno.h>
#include <unistd.h>

/* Closes *fd when it is open, and forgets it; errno is kept. */
static inline void fl_fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

/* int fl_cleanup_fd fd = open(...): closed at the end of the scope; fl_fd_take() keeps it open. */
#define fl_cleanup_fd __attribute__((cleanup(fl_fd_close)))

static inline int fl_fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
