/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_EXTENTS_H
#define FL_SOURCE_EXTENTS_H

#include <faultline/source.h>

/* How many holes are remembered: 1 MiB of memory. Further ones count as data. */
#define FL_EXTENTS_MAX 65536

/* A hole of a file: [start, end), in bytes. */
struct fl_hole {
	uint64_t start;
	uint64_t end;
};

/* The holes of a file in ascending order; found once, read by any thread from then on. */
struct fl_extents {
	struct fl_hole *holes;
	size_t count;
};

/*
 * Asks the file system for the first max holes of fd, a file of length bytes (lseek(2) SEEK_DATA,
 * SEEK_HOLE); moves its file position. A file system that knows of no holes has none.
 *
 * Return: 0; -ENOMEM.
 */
int fl_extents_find(struct fl_extents *extents, int fd, uint64_t length, size_t max);

/* What stands at offset (below length), and how far; binary search. */
void fl_extents_lookup(const struct fl_extents *extents, uint64_t offset, uint64_t length,
		       struct fl_extent *extent);

void fl_extents_free(struct fl_extents *extents);

#endif
