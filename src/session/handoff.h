/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_HANDOFF_H
#define FL_SESSION_HANDOFF_H

#include <sys/types.h>
#include <faultline/memory.h>

/*
 * A guest on its way to another process: all that a pager needs to serve it, and no more. With the
 * table, the new pager (FL_PAGER_TAKEOVER) knows what the old one had done up to its last
 * instruction. See handoff.c for what is on the wire.
 */
struct fl_handoff {
	struct fl_region regions[FL_REGIONS_MAX];
	size_t count;
	uint64_t pages; /* that the table has */
	pid_t pid;
	int uffd, table_fd, pidfd; /* of a received one: the receiver's */
};

/* Describes a guest; its descriptors stay the caller's. -E2BIG when it was split too often. */
int fl_handoff_describe(struct fl_handoff *handoff, const struct fl_layout *layout, int uffd,
			int table_fd, int pidfd, pid_t pid, struct fl_error *err);

/* Sends it over a connected Unix socket. The sender's descriptors stay open. */
int fl_handoff_send(int sock, const struct fl_handoff *handoff, struct fl_error *err);

/*
 * Receives one within a time, and trusts nothing in it: 0; -EBADMSG for anything that is not
 * exactly a handoff of this version with the three right descriptors; -ETIMEDOUT; -ECONNRESET.
 * Whether the regions fit together is for fl_layout_new() to say, and whether the table fits them
 * for fl_table_attach().
 */
int fl_handoff_receive(int sock, unsigned int timeout_ms, struct fl_handoff *handoff,
		       struct fl_error *err);

/* Closes a received one's descriptors. */
void fl_handoff_drop(struct fl_handoff *handoff);

#endif
