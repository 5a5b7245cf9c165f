/* SPDX-License-Identifier: MIT */
#include "memory/layout.h"

#include <errno.h>
#include <stdlib.h>

uint64_t fl_layout_start(const struct fl_region *region, enum fl_layout_axis axis)
{
	switch (axis) {
	case FL_BY_PAGE:
		return region->first_page;
	case FL_BY_GPA:
		return region->gpa;
	case FL_BY_ADDR:
		return region->addr;
	case FL_BY_OFFSET:
	default:
		return region->offset;
	}
}

/* Page sizes are powers of two: a shift, because the fault path should not divide. */
static unsigned int page_shift(const struct fl_region *region)
{
	return (unsigned int)__builtin_ctzll(region->page_size);
}

uint64_t fl_layout_extent(const struct fl_region *region, enum fl_layout_axis axis)
{
	return axis == FL_BY_PAGE ? region->len_bytes >> page_shift(region) : region->len_bytes;
}

/* By insertion: there are few regions, they are nearly in order, and nothing is allocated. */
void fl_layout_sort(struct fl_layout_order *order, const struct fl_region *regions, size_t count,
		    enum fl_layout_axis axis)
{
	order->count = 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t start = fl_layout_start(&regions[i], axis);
		size_t at = order->count;

		if ((axis == FL_BY_GPA || axis == FL_BY_ADDR) && start == FL_NOWHERE)
			continue;
		for (; at > 0; at--) {
			if (fl_layout_start(&regions[order->index[at - 1]], axis) <= start)
				break;
			order->index[at] = order->index[at - 1];
		}
		order->index[at] = (uint16_t)i;
		order->count++;
	}
}

void fl_layout_sort_all(struct fl_layout *layout)
{
	for (int axis = 0; axis < FL_LAYOUT_AXES; axis++)
		fl_layout_sort(&layout->order[axis], layout->part, layout->count,
			       (enum fl_layout_axis)axis);
}

int fl_layout_new(struct fl_layout **layout, const struct fl_region *regions, size_t count,
		  struct fl_error *err)
{
	struct fl_layout *made;
	int rc = fl_layout_check(regions, count, err);

	if (rc)
		return rc;
	made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	fl_layout_sort(&made->order[FL_BY_OFFSET], regions, count, FL_BY_OFFSET);
	for (size_t i = 0; i < count; i++) {
		made->part[i] = regions[made->order[FL_BY_OFFSET].index[i]];
		made->part[i].first_page = made->pages;
		made->origin[i] = (uint16_t)i;
		made->pages += fl_layout_extent(&made->part[i], FL_BY_PAGE);
	}
	made->count = count;
	fl_layout_sort_all(made);
	*layout = made;
	return 0;
}

void fl_layout_free(struct fl_layout *layout)
{
	free(layout);
}

size_t fl_layout_count(const struct fl_layout *layout)
{
	return layout->count;
}

const struct fl_region *fl_layout_region(const struct fl_layout *layout, size_t index)
{
	return &layout->part[index];
}

uint64_t fl_layout_pages(const struct fl_layout *layout)
{
	return layout->pages;
}

uint64_t fl_layout_image_len(const struct fl_layout *layout)
{
	const struct fl_region *last = &layout->part[layout->count - 1];

	return last->offset + last->len_bytes;
}

/* How many regions of an order start at or below a value. */
static size_t starts_until(const struct fl_layout *layout, enum fl_layout_axis axis, uint64_t value)
{
	const struct fl_layout_order *order = &layout->order[axis];
	size_t low = 0;
	size_t high = order->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (fl_layout_start(&layout->part[order->index[middle]], axis) <= value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint64_t shifted(uint64_t start, uint64_t by_bytes)
{
	return start == FL_NOWHERE ? FL_NOWHERE : start + by_bytes;
}

static int find_place(const struct fl_layout *layout, enum fl_layout_axis axis, uint64_t value,
		      struct fl_place *place)
{
	size_t until = starts_until(layout, axis, value);
	const struct fl_region *region;
	uint64_t index;
	uint64_t distance;

	if (until == 0)
		return -ENOENT;
	region = &layout->part[layout->order[axis].index[until - 1]];
	distance = value - fl_layout_start(region, axis);
	if (distance >= fl_layout_extent(region, axis))
		return -ENOENT;
	index = axis == FL_BY_PAGE ? distance : distance >> page_shift(region);
	distance = index << page_shift(region);
	*place = (struct fl_place){
		.region = region,
		.page = region->first_page + index,
		.offset = region->offset + distance,
		.gpa = shifted(region->gpa, distance),
		.addr = shifted(region->addr, distance),
		.pages_left = fl_layout_extent(region, FL_BY_PAGE) - index,
	};
	return 0;
}

int fl_layout_by_addr(const struct fl_layout *layout, uint64_t addr, struct fl_place *place)
{
	return find_place(layout, FL_BY_ADDR, addr, place);
}

int fl_layout_by_offset(const struct fl_layout *layout, uint64_t offset, struct fl_place *place)
{
	return find_place(layout, FL_BY_OFFSET, offset, place);
}

int fl_layout_by_gpa(const struct fl_layout *layout, uint64_t gpa, struct fl_place *place)
{
	return find_place(layout, FL_BY_GPA, gpa, place);
}

int fl_layout_by_page(const struct fl_layout *layout, uint64_t page, struct fl_place *place)
{
	return find_place(layout, FL_BY_PAGE, page, place);
}
