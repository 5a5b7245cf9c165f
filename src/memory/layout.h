/* SPDX-License-Identifier: MIT */
#ifndef FL_MEMORY_LAYOUT_H
#define FL_MEMORY_LAYOUT_H

/* What the files of struct fl_layout share. */

#include <faultline/memory.h>

/* The ways to name a byte or a page; a layout keeps its regions in the order of each. */
enum fl_layout_axis { FL_BY_OFFSET, FL_BY_PAGE, FL_BY_GPA, FL_BY_ADDR };

#define FL_LAYOUT_AXES 4

/* Room for the parts that remaps and unmaps cut the regions into; nothing is allocated later. */
#define FL_LAYOUT_PARTS_MAX (4 * (size_t)FL_REGIONS_MAX)

/* Indexes of regions, in the order of where they start; regions that are FL_NOWHERE are left out.
 */
struct fl_layout_order {
	size_t count;
	uint16_t index[FL_LAYOUT_PARTS_MAX];
};

/*
 * Owned by the thread that runs the pager. part[] is in the order of offsets, and so of pages;
 * origin[] tells which of the regions given to fl_layout_new() a part was cut from, so that parts
 * grow together again when they meet.
 */
struct fl_layout {
	size_t count;
	uint64_t pages;
	struct fl_region part[FL_LAYOUT_PARTS_MAX];
	uint16_t origin[FL_LAYOUT_PARTS_MAX];
	struct fl_layout_order order[FL_LAYOUT_AXES];
};

/* Where a region starts on an axis: bytes, or pages for FL_BY_PAGE; FL_NOWHERE when not on it. */
uint64_t fl_layout_start(const struct fl_region *region, enum fl_layout_axis axis);

/* How long a region is on an axis: bytes, or pages for FL_BY_PAGE. */
uint64_t fl_layout_extent(const struct fl_region *region, enum fl_layout_axis axis);

/* Puts the indexes of count regions that lie on an axis in order. */
void fl_layout_sort(struct fl_layout_order *order, const struct fl_region *regions, size_t count,
		    enum fl_layout_axis axis);

/* Sorts every order of a layout anew, after its parts changed. */
void fl_layout_sort_all(struct fl_layout *layout);

/*
 * Is this a layout that fl_layout_new() may accept? Returns 0, or -EINVAL or -E2BIG with *err
 * filled. Reads regions[] only.
 */
int fl_layout_check(const struct fl_region *regions, size_t count, struct fl_error *err);

#endif
