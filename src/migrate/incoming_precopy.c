/* SPDX-License-Identifier: MIT */

/*
 * Pre-copy rounds. Contents go from the network into the second mapping; the guest's mapping is armed and
 * shows none of it. The sets say what is right: a page with a wrong sum was written while it was read, and
 * is torn until it comes again; a page that came as zeros has nothing in the file.
 */

#include "migrate/incoming.h"
#include "util/compat.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

int fl_incoming_populate(struct fl_incoming_side *side, char *at, uint64_t offset,
			 uint64_t len_bytes)
{
	int rc;

	if (offset + len_bytes <= side->populated)
		return 0;
	/* In one go this is cheaper than the page faults that it saves. Huge pages are had whole. */
	do
		rc = madvise(at, len_bytes, MADV_POPULATE_WRITE);
	while (rc && (errno == EINTR || errno == EAGAIN));
	if (rc && errno != EINVAL) /* EINVAL: a kernel before 5.14 */
		return fl_incoming_break(side->in, -ENOMEM,
					 "no memory for %" PRIu64 " bytes at offset 0x%" PRIx64,
					 len_bytes, offset);
	side->populated = offset + len_bytes;
	return 0;
}

void *fl_incoming_round_place(struct fl_incoming_side *side, uint64_t offset, uint64_t *len_bytes)
{
	const struct fl_incoming_region *region;
	uint64_t left = side->frame_offset + side->frame_bytes - offset;
	char *at;

	(void)fl_incoming_page(side->in, offset); /* the frame was checked to lie in one region */
	region = side->in->last_region;
	at = region->alias + (offset - region->offset);
	if (*len_bytes > left)
		*len_bytes = left;
	if (*len_bytes > FL_INCOMING_STEP)
		*len_bytes = FL_INCOMING_STEP;
	return fl_incoming_populate(side, at, offset, *len_bytes) < 0 ? NULL : at;
}

static void page_came(struct fl_incoming *in, uint64_t page, bool right)
{
	struct fl_pageset *to = right ? in->received : in->torn;

	(void)fl_pageset_del(right ? in->torn : in->received, page, 1);
	(void)fl_pageset_del(in->zeros, page, 1);
	(void)fl_pageset_add(to, page, 1);
	fl_incoming_count(&in->count.precopy, 1);
	if (!right)
		fl_incoming_count(&in->count.torn, 1);
}

int fl_incoming_round_pages(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes,
			    bool right)
{
	struct fl_incoming *in = side->in;
	uint64_t page_size, page, end = offset + len_bytes, page_offset;

	for (; offset < end; offset += FL_WIRE_UNIT) {
		page = fl_incoming_page(in, offset);
		page_size = in->last_region->page_size;
		page_offset = (offset - in->last_region->offset) % page_size;
		if (!page_offset)
			side->right = true;
		side->right = side->right && right;
		if (page_offset + FL_WIRE_UNIT == page_size)
			page_came(in, page, side->right);
	}
	return 0;
}

int fl_incoming_punch(const struct fl_incoming_range *range)
{
	const struct fl_incoming_region *region = range->region;
	uint64_t at = region->fd_offset + (range->offset - region->offset);

	return fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
			 (off_t)range->len_bytes) < 0
		       ? -errno
		       : 0;
}

static bool has_contents(const struct fl_incoming *in, uint64_t page)
{
	return fl_pageset_has(in->received, page) || fl_pageset_has(in->torn, page);
}

/* A device that has pinned a page goes on with it, also when the file has another one there (fi_mr(3)). */
static bool keeps_pages(const struct fl_incoming *in)
{
	return in->way.source && in->way.source->ops->flags & FL_SOURCE_DIRECT;
}

/* The pages of a range that had contents lose them, a run at a time. */
static int punch_contents(struct fl_incoming *in, const struct fl_incoming_range *range)
{
	uint64_t page_size = range->region->page_size, first, end;
	struct fl_incoming_range run = *range;
	int err = 0;

	for (first = 0; !err && first < range->pages; first = end) {
		bool had = has_contents(in, range->page + first);

		for (end = first + 1; end < range->pages; end++)
			if (has_contents(in, range->page + end) != had)
				break;
		run.offset = range->offset + first * page_size;
		run.len_bytes = (end - first) * page_size;
		if (had && keeps_pages(in))
			memset(range->region->alias + (run.offset - range->region->offset), 0,
			       run.len_bytes);
		else if (had)
			err = fl_incoming_punch(&run);
	}
	return err;
}

int fl_incoming_round_zero(struct fl_incoming *in, const struct fl_incoming_range *range)
{
	int err = punch_contents(in, range);

	if (err < 0)
		return fl_incoming_break(
			in, err, "cannot give back %" PRIu64 " bytes at offset 0x%" PRIx64 ": %s",
			range->len_bytes, range->offset, strerrordesc_np(-err));
	(void)fl_pageset_del(in->received, range->page, range->pages);
	(void)fl_pageset_del(in->torn, range->page, range->pages);
	(void)fl_pageset_add(in->zeros, range->page, range->pages);
	fl_incoming_count(&in->count.precopy, range->pages);
	fl_incoming_count(&in->count.zero, range->pages);
	return 0;
}
