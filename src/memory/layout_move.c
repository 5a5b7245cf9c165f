/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a VMM may move or unmap any part of its mapping while it runs. A change
 * first proves that it can be done whole, with nothing touched so far; then it cuts the regions
 * where the part that changed begins and ends, changes the parts between, lets neighbours grow
 * together that belong together, and sorts anew. Page numbers and offsets never change, so page
 * sets and the page-state table need not know.
 */
#include "memory/layout.h"

#include <errno.h>
#include <string.h>

/* The smallest page that there is; each region adds the rule of its own page size. */
#define PAGE_SIZE_MIN 4096

/* A range of host virtual addresses, end excluded. */
struct span {
	uint64_t addr;
	uint64_t end;
};

static bool mapped(const struct fl_region *part)
{
	return part->addr != FL_NOWHERE;
}

static struct span span_of(const struct fl_region *part)
{
	return (struct span){part->addr, part->addr + part->len_bytes};
}

static bool overlap(struct span one, struct span other)
{
	return one.addr < one.end && other.addr < other.end && one.addr < other.end &&
	       other.addr < one.end;
}

static bool cuts(const struct fl_region *part, uint64_t addr)
{
	return addr > part->addr && addr - part->addr < part->len_bytes;
}

static int make_span(struct span *span, uint64_t addr, uint64_t len_bytes)
{
	if (addr % PAGE_SIZE_MIN || len_bytes % PAGE_SIZE_MIN)
		return -EINVAL;
	if (__builtin_add_overflow(addr, len_bytes, &span->end))
		return -EINVAL;
	span->addr = addr;
	return 0;
}

/*
 * May every region be cut where the span begins and ends? shift is how far the parts move. Returns
 * 1 when some of the guest lies there, 0 when none does.
 */
static int check_cuts(const struct fl_layout *layout, struct span span, uint64_t shift)
{
	size_t count = layout->count;
	int touched = 0;

	for (size_t i = 0; i < layout->count; i++) {
		const struct fl_region *part = &layout->part[i];
		uint64_t rest = part->page_size - 1;

		if (!mapped(part) || !overlap(span_of(part), span))
			continue;
		touched = 1;
		if (shift & rest)
			return -EINVAL;
		for (int side = 0; side < 2; side++) {
			uint64_t cut = side ? span.end : span.addr;

			if (!cuts(part, cut))
				continue;
			if (cut & rest)
				return -EINVAL;
			count++;
		}
	}
	return count > FL_LAYOUT_PARTS_MAX ? -ENOSPC : touched;
}

/* Does any of the guest that stays where it is lie in the span that the rest moves to? */
static bool target_taken(const struct fl_layout *layout, struct span from, struct span to)
{
	for (size_t i = 0; i < layout->count; i++) {
		struct span below, above;

		if (!mapped(&layout->part[i]))
			continue;
		below = above = span_of(&layout->part[i]);
		if (below.end > from.addr)
			below.end = from.addr;
		if (above.addr < from.end)
			above.addr = from.end;
		if (overlap(below, to) || overlap(above, to))
			return true;
	}
	return false;
}

static void shift_start(uint64_t *start, uint64_t by_bytes)
{
	if (*start != FL_NOWHERE)
		*start += by_bytes;
}

static void cut_part(struct fl_layout *layout, size_t index, uint64_t addr)
{
	struct fl_region *below = &layout->part[index];
	struct fl_region *above = below + 1;
	uint64_t len_bytes = addr - below->addr;
	size_t behind = layout->count - index;

	memmove(above, below, behind * sizeof(*below));
	memmove(&layout->origin[index + 1], &layout->origin[index],
		behind * sizeof(layout->origin[0]));
	layout->count++;
	below->len_bytes = len_bytes;
	above->len_bytes -= len_bytes;
	above->offset += len_bytes;
	above->first_page += fl_layout_extent(below, FL_BY_PAGE);
	shift_start(&above->gpa, len_bytes);
	shift_start(&above->addr, len_bytes);
}

static void cut_at(struct fl_layout *layout, uint64_t addr)
{
	for (size_t i = 0; i < layout->count; i++) {
		if (mapped(&layout->part[i]) && cuts(&layout->part[i], addr)) {
			cut_part(layout, i, addr);
			return;
		}
	}
}

static bool adjoin(uint64_t below, uint64_t above, uint64_t len_bytes)
{
	if (below == FL_NOWHERE || above == FL_NOWHERE)
		return below == above;
	return above - below == len_bytes;
}

/* Parts of one region are always next to each other in the image; are they in memory too? */
static bool belong_together(const struct fl_layout *layout, size_t below, size_t above)
{
	const struct fl_region *one = &layout->part[below];
	const struct fl_region *other = &layout->part[above];

	return layout->origin[below] == layout->origin[above] &&
	       adjoin(one->addr, other->addr, one->len_bytes);
}

static void grow_together(struct fl_layout *layout)
{
	size_t kept = 0;

	for (size_t i = 1; i < layout->count; i++) {
		if (belong_together(layout, kept, i)) {
			layout->part[kept].len_bytes += layout->part[i].len_bytes;
			continue;
		}
		kept++;
		layout->part[kept] = layout->part[i];
		layout->origin[kept] = layout->origin[i];
	}
	layout->count = kept + 1;
}

/* Everything was checked: cut, give the parts inside the span their new address, and tidy up. */
static void move_parts(struct fl_layout *layout, struct span span, bool keep, uint64_t shift)
{
	cut_at(layout, span.addr);
	cut_at(layout, span.end);
	for (size_t i = 0; i < layout->count; i++) {
		struct fl_region *part = &layout->part[i];

		if (mapped(part) && overlap(span_of(part), span))
			part->addr = keep ? part->addr + shift : FL_NOWHERE;
	}
	grow_together(layout);
	fl_layout_sort_all(layout);
}

int fl_layout_remap(struct fl_layout *layout, uint64_t from, uint64_t to, uint64_t len_bytes)
{
	struct span source, target;
	int rc = make_span(&source, from, len_bytes);

	if (!rc)
		rc = make_span(&target, to, len_bytes);
	if (!rc)
		rc = check_cuts(layout, source, to - from);
	if (rc <= 0)
		return rc;
	if (target_taken(layout, source, target))
		return -EEXIST;
	move_parts(layout, source, true, to - from);
	return 0;
}

int fl_layout_unmap(struct fl_layout *layout, uint64_t addr, uint64_t len_bytes)
{
	struct span span;
	int rc = make_span(&span, addr, len_bytes);

	if (!rc)
		rc = check_cuts(layout, span, 0);
	if (rc <= 0)
		return rc;
	move_parts(layout, span, false, 0);
	return 0;
}
