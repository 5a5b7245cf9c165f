/* SPDX-License-Identifier: MIT */
#ifndef FL_WORKER_MEMORY_H
#define FL_WORKER_MEMORY_H

/*
 * Memory of a VMM, mapped by the worker. The VMM can cut the files at any time, and touching a
 * mapping beyond its file is a SIGBUS: see fl_memory_guard(). Belongs to one thread.
 */

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <faultline/common.h>
#include <faultline/worker.h>

struct fl_memory_piece {
	uint64_t offset;
	uint64_t len_bytes;
	unsigned char *at;
};

struct fl_memory {
	struct fl_memory_piece piece[FL_WORKER_REGIONS_MAX + 1]; /* and the staging area */
	size_t count;
	volatile sig_atomic_t broken; /* one of them was cut: contents are not what they seem */
};

/* Maps a piece. -EINVAL for one that is not aligned, overlaps, or lies beyond its file; -EBADF for
 * what is no memory; what mmap(2) returns. The descriptor stays the caller's. */
int fl_memory_add(struct fl_memory *memory, const struct fl_worker_region *region, bool writable,
		  struct fl_error *err);
/* Unmaps all pieces with offsets from @from on that are below @end. */
void fl_memory_drop(struct fl_memory *memory, uint64_t from, uint64_t end);
/* Where [offset, offset + len_bytes) is, when it lies in one piece; else NULL. */
void *fl_memory_find(const struct fl_memory *memory, uint64_t offset, uint64_t len_bytes);

/*
 * From now on a SIGBUS of this thread in a piece of one of these (NULL: of none) replaces the
 * piece by memory that nobody else sees and sets broken, instead of ending the process and with it
 * everybody's session.
 */
void fl_memory_guard(struct fl_memory *one, struct fl_memory *other);
/* Installs the handler of the process. 0, or what sigaction(2) says. */
int fl_memory_guard_init(void);

#endif
