/* SPDX-License-Identifier: MIT */
#include "source/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* The next hole at or behind from; false when there is none or the file system cannot say. */
static bool next_hole(int fd, uint64_t from, uint64_t length, struct fl_hole *hole)
{
	off_t start = lseek(fd, (off_t)from, SEEK_HOLE);
	off_t end;

	/* Every file ends in a hole that is none: the one at its end. */
	if (start < 0 || (uint64_t)start >= length)
		return false;
	end = lseek(fd, start, SEEK_DATA);
	if (end < 0 && errno != ENXIO)
		return false;
	if (end < 0 || (uint64_t)end > length)
		end = (off_t)length;
	hole->start = (uint64_t)start;
	hole->end = (uint64_t)end;
	return end > start;
}

static int grow(struct fl_extents *extents, size_t *room)
{
	size_t wanted = *room ? *room * 2 : 64;
	struct fl_hole *holes = reallocarray(extents->holes, wanted, sizeof(*holes));

	if (!holes)
		return -ENOMEM;
	extents->holes = holes;
	*room = wanted;
	return 0;
}

int fl_extents_find(struct fl_extents *extents, int fd, uint64_t length, size_t max)
{
	struct fl_hole hole = {0};
	size_t room = 0;

	*extents = (struct fl_extents){0};
	while (extents->count < max && next_hole(fd, hole.end, length, &hole)) {
		if (extents->count == room && grow(extents, &room)) {
			fl_extents_free(extents);
			return -ENOMEM;
		}
		extents->holes[extents->count++] = hole;
	}
	return 0;
}

/* How many holes start at or before offset. */
static size_t holes_until(const struct fl_extents *extents, uint64_t offset)
{
	size_t low = 0, high = extents->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (extents->holes[middle].start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void fl_extents_lookup(const struct fl_extents *extents, uint64_t offset, uint64_t length,
		       struct fl_extent *extent)
{
	size_t index = holes_until(extents, offset);

	extent->zeros = index && offset < extents->holes[index - 1].end;
	if (extent->zeros)
		extent->len_bytes = extents->holes[index - 1].end - offset;
	else if (index < extents->count)
		extent->len_bytes = extents->holes[index].start - offset;
	else
		extent->len_bytes = length - offset;
}

void fl_extents_free(struct fl_extents *extents)
{
	free(extents->holes);
	*extents = (struct fl_extents){0};
}
