/* SPDX-License-Identifier: MIT */
#include "trap/segv.h"

#include <stdlib.h>

static struct fl_segv_ranges *room(const struct fl_segv_ranges *old)
{
	size_t count = (old ? old->count : 0) + 1;

	return calloc(1, sizeof(struct fl_segv_ranges) + count * sizeof(struct fl_segv_range));
}

static void append(struct fl_segv_ranges *ranges, uint64_t start, uint64_t end)
{
	if (start < end)
		ranges->range[ranges->count++] = (struct fl_segv_range){start, end};
}

struct fl_segv_ranges *fl_segv_ranges_add(const struct fl_segv_ranges *old, uint64_t start,
					  uint64_t end)
{
	struct fl_segv_ranges *made = room(old);
	size_t i = 0;

	if (!made)
		return NULL;
	for (; old && i < old->count && old->range[i].end < start; i++)
		append(made, old->range[i].start, old->range[i].end);
	for (; old && i < old->count && old->range[i].start <= end; i++) {
		start = old->range[i].start < start ? old->range[i].start : start;
		end = old->range[i].end > end ? old->range[i].end : end;
	}
	append(made, start, end);
	for (; old && i < old->count; i++)
		append(made, old->range[i].start, old->range[i].end);
	return made;
}

struct fl_segv_ranges *fl_segv_ranges_del(const struct fl_segv_ranges *old, uint64_t start,
					  uint64_t end)
{
	struct fl_segv_ranges *made = room(old);

	for (size_t i = 0; made && old && i < old->count; i++) {
		struct fl_segv_range range = old->range[i];

		append(made, range.start, range.end < start ? range.end : start);
		append(made, range.start > end ? range.start : end, range.end);
	}
	return made;
}

bool fl_segv_ranges_has(const struct fl_segv_ranges *ranges, uint64_t addr)
{
	size_t low = 0;
	size_t high = ranges->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (addr < ranges->range[mid].start)
			high = mid;
		else if (addr >= ranges->range[mid].end)
			low = mid + 1;
		else
			return true;
	}
	return false;
}
