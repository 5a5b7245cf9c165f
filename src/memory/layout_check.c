/* SPDX-License-Identifier: MIT */
/* Are these the regions of a guest? They come from a handshake: nothing about them is trusted. */
#include "memory/layout.h"

#include <errno.h>
#include <inttypes.h>

#include "util/error.h"

#define KIB 1024ULL
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const char *axis_name(enum fl_layout_axis axis)
{
	switch (axis) {
	case FL_BY_GPA:
		return "gpa";
	case FL_BY_ADDR:
		return "address";
	default:
		return "offset";
	}
}

static int check_size(const struct fl_region *region, size_t index, struct fl_error *err)
{
	uint64_t page_size = region->page_size;

	if (page_size != 4 * KIB && page_size != 2 * MIB && page_size != GIB)
		return fl_error_set(err, -EINVAL,
				    "region %zu: page size %" PRIu64
				    " is neither 4 KiB, 2 MiB nor 1 GiB",
				    index, page_size);
	if (region->len_bytes == 0)
		return fl_error_set(err, -EINVAL, "region %zu: it is empty", index);
	if (region->len_bytes % page_size)
		return fl_error_set(err, -EINVAL,
				    "region %zu: length 0x%" PRIx64
				    " is no multiple of its page size 0x%" PRIx64,
				    index, region->len_bytes, page_size);
	return 0;
}

static int check_start(const struct fl_region *region, size_t index, enum fl_layout_axis axis,
		       struct fl_error *err)
{
	uint64_t start = fl_layout_start(region, axis);
	uint64_t end;

	if (axis != FL_BY_OFFSET && start == FL_NOWHERE)
		return 0;
	if (start % region->page_size)
		return fl_error_set(err, -EINVAL,
				    "region %zu: %s 0x%" PRIx64
				    " is not aligned to its page size 0x%" PRIx64,
				    index, axis_name(axis), start, region->page_size);
	if (__builtin_add_overflow(start, region->len_bytes, &end))
		return fl_error_set(err, -EINVAL,
				    "region %zu: %s 0x%" PRIx64 " plus length 0x%" PRIx64 " wraps",
				    index, axis_name(axis), start, region->len_bytes);
	return 0;
}

/* The ends do not wrap any more. */
static int check_overlap(const struct fl_region *regions, size_t count, enum fl_layout_axis axis,
			 struct fl_error *err)
{
	struct fl_layout_order order;

	fl_layout_sort(&order, regions, count, axis);
	for (size_t i = 1; i < order.count; i++) {
		const struct fl_region *below = &regions[order.index[i - 1]];
		const struct fl_region *above = &regions[order.index[i]];

		if (fl_layout_start(above, axis) - fl_layout_start(below, axis) < below->len_bytes)
			return fl_error_set(err, -EINVAL,
					    "region %d: its %s 0x%" PRIx64
					    " lies inside region %d at 0x%" PRIx64,
					    order.index[i], axis_name(axis),
					    fl_layout_start(above, axis), order.index[i - 1],
					    fl_layout_start(below, axis));
	}
	return 0;
}

int fl_layout_check(const struct fl_region *regions, size_t count, struct fl_error *err)
{
	static const enum fl_layout_axis axes[] = {FL_BY_OFFSET, FL_BY_ADDR, FL_BY_GPA};
	const size_t axes_count = sizeof(axes) / sizeof(axes[0]);
	int rc = 0;

	if (count == 0)
		return fl_error_set(err, -EINVAL, "there is no region");
	if (count > FL_REGIONS_MAX)
		return fl_error_set(err, -E2BIG, "%zu regions are more than %d", count,
				    FL_REGIONS_MAX);
	for (size_t i = 0; i < count && !rc; i++) {
		rc = check_size(&regions[i], i, err);
		for (size_t a = 0; a < axes_count && !rc; a++)
			rc = check_start(&regions[i], i, axes[a], err);
	}
	for (size_t a = 0; a < axes_count && !rc; a++)
		rc = check_overlap(regions, count, axes[a], err);
	return rc;
}
