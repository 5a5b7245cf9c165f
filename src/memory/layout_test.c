/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <faultline/memory.h>

#define K4 4096ULL
#define M2 (2ULL << 20)
#define G1 (1ULL << 30)

/* Two regions with a hole in the gpas, the addresses the other way round, offsets without a gap. */
static const struct fl_region two[] = {
	{.gpa = 4 * G1, .offset = 16 * K4, .addr = 0x100000, .len_bytes = 8 * K4, .page_size = K4},
	{.gpa = 0, .offset = 0, .addr = 0x200000, .len_bytes = 16 * K4, .page_size = K4},
};

static struct fl_layout *new_layout(const struct fl_region *regions, size_t count)
{
	struct fl_layout *layout = NULL;
	struct fl_error err = {0};

	if (fl_layout_new(&layout, regions, count, &err))
		fail_msg("%s", err.text);
	return layout;
}

static void regions_are_ordered_by_offset_and_numbered(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	const struct fl_region *first = fl_layout_region(layout, 0);
	const struct fl_region *second = fl_layout_region(layout, 1);

	(void)state;
	assert_int_equal(fl_layout_count(layout), 2);
	assert_int_equal(first->offset, 0);
	assert_int_equal(first->first_page, 0);
	assert_int_equal(second->gpa, 4 * G1);
	assert_int_equal(second->first_page, 16);
	assert_int_equal(fl_layout_pages(layout), 24);
	assert_int_equal(fl_layout_image_len(layout), 24 * K4);
	fl_layout_free(layout);
	fl_layout_free(NULL);
}

static void assert_place(const struct fl_place *place, uint64_t page, uint64_t offset, uint64_t gpa,
			 uint64_t addr, uint64_t pages_left)
{
	assert_int_equal(place->page, page);
	assert_int_equal(place->offset, offset);
	assert_int_equal(place->gpa, gpa);
	assert_int_equal(place->addr, addr);
	assert_int_equal(place->pages_left, pages_left);
	assert_true(place->region->first_page <= page);
}

static void every_name_of_a_page_finds_it(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_by_addr(layout, 0x100000 + 3 * K4 + 17, &place), 0);
	assert_place(&place, 19, 19 * K4, 4 * G1 + 3 * K4, 0x100000 + 3 * K4, 5);
	assert_int_equal(fl_layout_by_offset(layout, 19 * K4 + 4095, &place), 0);
	assert_place(&place, 19, 19 * K4, 4 * G1 + 3 * K4, 0x100000 + 3 * K4, 5);
	assert_int_equal(fl_layout_by_gpa(layout, 4 * G1 + 3 * K4 + 1, &place), 0);
	assert_place(&place, 19, 19 * K4, 4 * G1 + 3 * K4, 0x100000 + 3 * K4, 5);
	assert_int_equal(fl_layout_by_page(layout, 19, &place), 0);
	assert_place(&place, 19, 19 * K4, 4 * G1 + 3 * K4, 0x100000 + 3 * K4, 5);
	fl_layout_free(layout);
}

static void what_no_region_covers_is_not_found(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_by_addr(layout, 0xfffff, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, 0x100000 + 8 * K4, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 16 * K4, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 16 * K4 - 1, &place), 0);
	assert_int_equal(place.page, 15);
	assert_int_equal(fl_layout_by_addr(layout, UINT64_MAX, &place), -ENOENT);
	assert_int_equal(fl_layout_by_offset(layout, 24 * K4, &place), -ENOENT);
	assert_int_equal(fl_layout_by_offset(layout, UINT64_MAX, &place), -ENOENT);
	assert_int_equal(fl_layout_by_gpa(layout, 16 * K4, &place), -ENOENT);
	assert_int_equal(fl_layout_by_gpa(layout, UINT64_MAX, &place), -ENOENT);
	assert_int_equal(fl_layout_by_page(layout, 24, &place), -ENOENT);
	assert_int_equal(fl_layout_by_page(layout, UINT64_MAX, &place), -ENOENT);
	fl_layout_free(layout);
}

static void each_region_counts_in_its_own_page_size(void **state)
{
	static const struct fl_region mixed[] = {
		{.gpa = 0, .offset = 0, .addr = 4 * G1, .len_bytes = 4 * K4, .page_size = K4},
		/* A gap in the image, as alignment to 2 MiB needs. */
		{.gpa = M2, .offset = M2, .addr = 5 * G1, .len_bytes = 3 * M2, .page_size = M2},
		{.gpa = G1, .offset = G1, .addr = 8 * G1, .len_bytes = 2 * G1, .page_size = G1},
	};
	struct fl_layout *layout = new_layout(mixed, 3);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_pages(layout), 4 + 3 + 2);
	assert_int_equal(fl_layout_image_len(layout), 3 * G1);
	assert_int_equal(fl_layout_by_addr(layout, 5 * G1 + M2 + 5000, &place), 0);
	assert_place(&place, 5, 2 * M2, 2 * M2, 5 * G1 + M2, 2);
	assert_int_equal(fl_layout_by_page(layout, 8, &place), 0);
	assert_place(&place, 8, 2 * G1, 2 * G1, 9 * G1, 1);
	assert_int_equal(fl_layout_by_offset(layout, 4 * K4, &place), -ENOENT);
	fl_layout_free(layout);
}

static void regions_may_lack_gpa_and_addr(void **state)
{
	static const struct fl_region bare[] = {
		{.gpa = FL_NOWHERE, .offset = 0, .addr = 0x1000, .len_bytes = K4, .page_size = K4},
		{.gpa = FL_NOWHERE,
		 .offset = K4,
		 .addr = FL_NOWHERE,
		 .len_bytes = K4,
		 .page_size = K4},
	};
	struct fl_layout *layout = new_layout(bare, 2);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_by_page(layout, 1, &place), 0);
	assert_place(&place, 1, K4, FL_NOWHERE, FL_NOWHERE, 1);
	assert_int_equal(fl_layout_by_addr(layout, 0x1fff, &place), 0);
	assert_place(&place, 0, 0, FL_NOWHERE, 0x1000, 1);
	assert_int_equal(fl_layout_by_gpa(layout, 0, &place), -ENOENT);
	assert_int_equal(fl_layout_by_gpa(layout, FL_NOWHERE, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, FL_NOWHERE, &place), -ENOENT);
	fl_layout_free(layout);
}

/* ---- regions that break a rule */

struct bad {
	struct fl_region region[2];
	const char *why;
};

static void refuse(const struct fl_region *regions, size_t count, int rc, const char *why)
{
	struct fl_layout *layout = NULL;
	struct fl_error err = {0};

	assert_int_equal(fl_layout_new(&layout, regions, count, NULL), rc);
	assert_int_equal(fl_layout_new(&layout, regions, count, &err), rc);
	assert_null(layout);
	assert_int_equal(err.code, rc);
	if (!strstr(err.text, why))
		fail_msg("'%s' does not say '%s'", err.text, why);
}

static struct fl_region changed(uint64_t gpa, uint64_t offset, uint64_t addr, uint64_t len_bytes,
				uint64_t page_size)
{
	return (struct fl_region){.gpa = gpa,
				  .offset = offset,
				  .addr = addr,
				  .len_bytes = len_bytes,
				  .page_size = page_size};
}

static void each_broken_rule_is_named_with_its_region(void **state)
{
	const struct fl_region good = changed(0, 0, G1, M2, K4);
	const uint64_t last = UINT64_MAX - K4 + 1; /* the last page: its end wraps to 0 */
	const struct bad bads[] = {
		{{good, changed(M2, M2, 3 * G1, 0, K4)}, "region 1: it is empty"},
		{{good, changed(M2, M2, 3 * G1, K4 + 1, K4)}, "region 1: length 0x1001"},
		{{good, changed(M2, M2, 3 * G1, K4, M2)}, "region 1: length"},
		{{good, changed(M2, M2, 3 * G1, M2, 0)}, "region 1: page size 0"},
		{{good, changed(M2, M2, 3 * G1, M2, 8192)}, "region 1: page size 8192"},
		{{good, changed(M2, M2, 3 * G1, M2, 4)}, "region 1: page size 4 "},
		{{good, changed(M2, M2, 3 * G1, M2, UINT64_MAX)}, "region 1: page size"},
		{{good, changed(M2, M2 + 1, 3 * G1, M2, K4)}, "region 1: offset 0x200001"},
		{{good, changed(M2 + 512, M2, 3 * G1, M2, K4)}, "region 1: gpa 0x200200"},
		{{good, changed(M2, M2, 3 * G1 + 8, M2, K4)}, "region 1: address 0xc0000008"},
		{{good, changed(M2, M2, 3 * G1 + K4, M2, M2)}, "region 1: address"},
		{{good, changed(M2, last, 3 * G1, K4, K4)}, "region 1: offset"},
		{{good, changed(last, M2, 3 * G1, K4, K4)}, "wraps"},
		{{good, changed(M2, M2, last, K4, K4)}, "region 1: address"},
		{{good, changed(M2, M2, 3 * G1, UINT64_MAX - K4 + 1, K4)}, "wraps"},
		{{good, changed(M2, M2 - K4, 3 * G1, M2, K4)}, "region 1: its offset"},
		{{good, changed(M2 - K4, M2, 3 * G1, M2, K4)}, "region 1: its gpa"},
		{{good, changed(M2, M2, G1 + M2 - K4, M2, K4)}, "region 1: its address"},
		{{good, changed(0, M2, 3 * G1, M2, K4)}, "its gpa 0x0"},
		{{changed(M2, M2, G1 - K4, M2, K4), good}, "region 1: its address 0x40000000"},
		{{good, good}, "inside region 0"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++)
		refuse(bads[i].region, 2, -EINVAL, bads[i].why);
}

static void too_few_and_too_many_regions_are_refused(void **state)
{
	struct fl_region many[FL_REGIONS_MAX + 1];
	struct fl_layout *layout;

	(void)state;
	for (size_t i = 0; i <= FL_REGIONS_MAX; i++)
		many[i] = changed(i * K4, i * K4, G1 + i * K4, K4, K4);
	refuse(many, 0, -EINVAL, "no region");
	refuse(many, FL_REGIONS_MAX + 1, -E2BIG, "65 regions");
	layout = new_layout(many, FL_REGIONS_MAX);
	/* Neighbours in every way, yet they stay regions of their own. */
	assert_int_equal(fl_layout_count(layout), FL_REGIONS_MAX);
	fl_layout_free(layout);
}

/* ---- remap and unmap */

static void a_part_that_moved_is_found_at_its_new_address(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_remap(layout, 0x200000 + 4 * K4, 0x900000, 8 * K4), 0);
	assert_int_equal(fl_layout_count(layout), 4);
	assert_int_equal(fl_layout_pages(layout), 24);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 5 * K4, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 3 * K4, &place), 0);
	assert_place(&place, 3, 3 * K4, 3 * K4, 0x200000 + 3 * K4, 1);
	assert_int_equal(fl_layout_by_addr(layout, 0x900000 + K4 + 5, &place), 0);
	assert_place(&place, 5, 5 * K4, 5 * K4, 0x900000 + K4, 7);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 12 * K4, &place), 0);
	assert_place(&place, 12, 12 * K4, 12 * K4, 0x200000 + 12 * K4, 4);
	assert_int_equal(fl_layout_by_gpa(layout, 11 * K4, &place), 0);
	assert_place(&place, 11, 11 * K4, 11 * K4, 0x900000 + 7 * K4, 1);
	fl_layout_free(layout);
}

static void moved_back_it_is_one_region_again(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(fl_layout_remap(layout, 0x200000 + 4 * K4, 0x900000, 8 * K4), 0);
		assert_int_equal(fl_layout_remap(layout, 0x900000, 0x200000 + 4 * K4, 8 * K4), 0);
		assert_int_equal(fl_layout_count(layout), 2);
	}
	assert_int_equal(fl_layout_by_page(layout, 0, &place), 0);
	assert_place(&place, 0, 0, 0, 0x200000, 16);
	fl_layout_free(layout);
}

/* One mremap() may take several regions along, and what is no guest memory between them. */
static void a_move_may_span_regions(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_remap(layout, 0x100000 + 6 * K4, 0xa00000 + 6 * K4, 0x100000),
			 0);
	assert_int_equal(fl_layout_by_addr(layout, 0x100000 + 5 * K4, &place), 0);
	assert_place(&place, 21, 21 * K4, 4 * G1 + 5 * K4, 0x100000 + 5 * K4, 1);
	assert_int_equal(fl_layout_by_addr(layout, 0xa00000 + 6 * K4, &place), 0);
	assert_place(&place, 22, 22 * K4, 4 * G1 + 6 * K4, 0xa00000 + 6 * K4, 2);
	assert_int_equal(fl_layout_by_addr(layout, 0xb00000, &place), 0);
	assert_place(&place, 0, 0, 0, 0xb00000, 6);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 6 * K4, &place), 0);
	assert_int_equal(place.page, 6);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000, &place), -ENOENT);
	fl_layout_free(layout);
}

/* As far as a region is concerned, the old and the new range may overlap. */
static void a_move_onto_itself_is_no_collision(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_remap(layout, 0x100000, 0x100000 + K4, 8 * K4), 0);
	assert_int_equal(fl_layout_by_addr(layout, 0x100000, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, 0x100000 + K4, &place), 0);
	assert_int_equal(place.page, 16);
	assert_int_equal(fl_layout_by_addr(layout, 0x100000 + 8 * K4, &place), 0);
	assert_int_equal(place.page, 23);
	fl_layout_free(layout);
}

static void an_unmapped_part_has_no_address(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_unmap(layout, 0x200000 + 4 * K4, 2 * K4), 0);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 4 * K4, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, 0x200000 + 6 * K4, &place), 0);
	assert_int_equal(place.page, 6);
	assert_int_equal(fl_layout_by_page(layout, 5, &place), 0);
	assert_place(&place, 5, 5 * K4, 5 * K4, FL_NOWHERE, 1);
	assert_int_equal(fl_layout_by_gpa(layout, 4 * K4, &place), 0);
	assert_place(&place, 4, 4 * K4, 4 * K4, FL_NOWHERE, 2);
	/* All of it, more than it, and again. */
	assert_int_equal(fl_layout_unmap(layout, 0, 0x10000000), 0);
	assert_int_equal(fl_layout_unmap(layout, 0, 0x10000000), 0);
	assert_int_equal(fl_layout_count(layout), 2);
	assert_int_equal(fl_layout_by_addr(layout, 0x100000, &place), -ENOENT);
	assert_int_equal(fl_layout_image_len(layout), 24 * K4);
	fl_layout_free(layout);
}

static void elsewhere_nothing_happens(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);

	(void)state;
	assert_int_equal(fl_layout_remap(layout, 0x500000, 0x100000, K4), 0);
	assert_int_equal(fl_layout_unmap(layout, 0x100000 - K4, K4), 0);
	assert_int_equal(fl_layout_unmap(layout, 0x100000 + 8 * K4, K4), 0);
	assert_int_equal(fl_layout_unmap(layout, 0x100000 + 4 * K4, 0), 0);
	assert_int_equal(fl_layout_count(layout), 2);
	fl_layout_free(layout);
}

static void impossible_moves_change_nothing(void **state)
{
	static const struct {
		uint64_t from, to, len_bytes;
		int rc;
	} bad[] = {
		{0x200001, 0x900000, K4, -EINVAL},
		{0x200000, 0x900001, K4, -EINVAL},
		{0x200000, 0x900000, K4 + 1, -EINVAL},
		{0x200000, UINT64_MAX - K4 + 1, 2 * K4, -EINVAL},
		{UINT64_MAX - K4 + 1, 0x900000, 2 * K4, -EINVAL},
		{0x200000, 0x100000, K4, -EEXIST},
		{0x200000, 0x100000 + 7 * K4, 2 * K4, -EEXIST},
		{0x200000, 0x200000 + 4 * K4, 2 * K4, -EEXIST},
		{0x200000 + 4 * K4, 0x200000 + 3 * K4, 2 * K4, -EEXIST},
		{0x200000 + 4 * K4, 0x200000 + 5 * K4, 2 * K4, -EEXIST},
	};
	struct fl_layout *layout = new_layout(two, 2);
	struct fl_place place;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fl_layout_remap(layout, bad[i].from, bad[i].to, bad[i].len_bytes),
				 bad[i].rc);
		assert_int_equal(fl_layout_count(layout), 2);
		assert_int_equal(fl_layout_by_addr(layout, 0x200000, &place), 0);
		assert_place(&place, 0, 0, 0, 0x200000, 16);
	}
	assert_int_equal(fl_layout_unmap(layout, 0x200000 + 1, K4), -EINVAL);
	assert_int_equal(fl_layout_unmap(layout, 0x200000, 100), -EINVAL);
	assert_int_equal(fl_layout_unmap(layout, 0x200000, UINT64_MAX - K4 + 1), -EINVAL);
	fl_layout_free(layout);
}

static void huge_pages_are_never_cut(void **state)
{
	static const struct fl_region huge = {
		.gpa = 0, .offset = 0, .addr = G1, .len_bytes = 4 * M2, .page_size = M2};
	struct fl_layout *layout = new_layout(&huge, 1);
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_unmap(layout, G1 + K4, M2), -EINVAL);
	assert_int_equal(fl_layout_unmap(layout, G1, M2 + K4), -EINVAL);
	assert_int_equal(fl_layout_remap(layout, G1, 2 * G1 + K4, M2), -EINVAL);
	assert_int_equal(fl_layout_remap(layout, G1 - K4, 2 * G1, 4 * M2 + 2 * K4), -EINVAL);
	assert_int_equal(fl_layout_count(layout), 1);
	assert_int_equal(fl_layout_remap(layout, G1 + M2, 2 * G1, M2), 0);
	assert_int_equal(fl_layout_by_addr(layout, 2 * G1 + 12345, &place), 0);
	assert_place(&place, 1, M2, M2, 2 * G1, 1);
	assert_int_equal(fl_layout_unmap(layout, G1 - K4, 2 * K4 + 4 * M2), 0);
	assert_int_equal(fl_layout_by_addr(layout, G1, &place), -ENOENT);
	assert_int_equal(fl_layout_by_addr(layout, 2 * G1, &place), 0);
	fl_layout_free(layout);
}

/* Every second page goes: each takes two parts more, until there is no more room. */
static void too_many_parts_are_refused_and_nothing_breaks(void **state)
{
	static const struct fl_region region = {
		.gpa = 0, .offset = 0, .addr = G1, .len_bytes = 1000 * K4, .page_size = K4};
	struct fl_layout *layout = new_layout(&region, 1);
	struct fl_place place;
	uint64_t gone = 0;
	size_t count;

	(void)state;
	while (!fl_layout_unmap(layout, G1 + (2 * gone + 1) * K4, K4))
		gone++;
	count = fl_layout_count(layout);
	assert_true(count >= (size_t)3 * FL_REGIONS_MAX);
	assert_int_equal(count, 2 * gone + 1);
	assert_int_equal(fl_layout_unmap(layout, G1 + (2 * gone + 1) * K4, K4), -ENOSPC);
	assert_int_equal(fl_layout_remap(layout, G1 + (2 * gone + 1) * K4, 9 * G1, K4), -ENOSPC);
	assert_int_equal(fl_layout_count(layout), count);
	for (uint64_t page = 0; page < 1000; page++) {
		int rc = page % 2 && page < 2 * gone ? -ENOENT : 0;

		assert_int_equal(fl_layout_by_addr(layout, G1 + page * K4, &place), rc);
		assert_int_equal(fl_layout_by_page(layout, page, &place), 0);
		assert_int_equal(place.offset, page * K4);
	}
	/* What needs no new parts still works, and makes room again. */
	assert_int_equal(fl_layout_unmap(layout, G1, 1000 * K4), 0);
	assert_int_equal(fl_layout_count(layout), 1);
	fl_layout_free(layout);
}

/* ---- against a list of addresses, one for each page */

#define PAGES 64
#define SPACE 256 /* pages of address space that they move about in */

static void check_against(const struct fl_layout *layout, const uint64_t *addr)
{
	uint64_t pages = 0;

	for (uint64_t page = 0; page < PAGES; page++) {
		struct fl_place place;

		assert_int_equal(fl_layout_by_page(layout, page, &place), 0);
		assert_place(&place, page, page * K4, page * K4, addr[page], place.pages_left);
		if (addr[page] == FL_NOWHERE)
			continue;
		assert_int_equal(fl_layout_by_addr(layout, addr[page] + page, &place), 0);
		assert_int_equal(place.page, page);
	}
	for (uint64_t at = 0; at < SPACE; at++) {
		struct fl_place place;
		uint64_t page = 0;

		while (page < PAGES && addr[page] != G1 + at * K4)
			page++;
		assert_int_equal(fl_layout_by_addr(layout, G1 + at * K4, &place),
				 page < PAGES ? 0 : -ENOENT);
	}
	for (size_t i = 0; i < fl_layout_count(layout); i++) {
		assert_int_equal(fl_layout_region(layout, i)->first_page, pages);
		pages += fl_layout_region(layout, i)->len_bytes / K4;
	}
	assert_int_equal(pages, PAGES);
}

static bool in_range(uint64_t addr, uint64_t from, uint64_t len_bytes)
{
	return addr != FL_NOWHERE && addr >= from && addr - from < len_bytes;
}

static int model_remap(uint64_t *addr, uint64_t from, uint64_t to, uint64_t len_bytes)
{
	bool any = false;

	for (uint64_t page = 0; page < PAGES; page++)
		any |= in_range(addr[page], from, len_bytes);
	for (uint64_t page = 0; page < PAGES && any; page++) {
		if (!in_range(addr[page], from, len_bytes) && in_range(addr[page], to, len_bytes))
			return -EEXIST;
	}
	for (uint64_t page = 0; page < PAGES; page++) {
		if (in_range(addr[page], from, len_bytes))
			addr[page] += to - from;
	}
	return 0;
}

static void random_moves_agree_with_a_list_of_addresses(void **state)
{
	struct fl_region regions[4];
	uint64_t addr[PAGES];
	unsigned int seed = 5;

	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		regions[i] = changed(i * 16 * K4, i * 16 * K4, G1 + (3 - i) * 32 * K4, 16 * K4, K4);
	for (int round = 0; round < 20; round++) {
		struct fl_layout *layout = new_layout(regions, 4);

		for (uint64_t page = 0; page < PAGES; page++)
			addr[page] = regions[page / 16].addr + page % 16 * K4;
		for (int step = 0; step < 40; step++) {
			uint64_t len_bytes = ((uint64_t)rand_r(&seed) % 24 + 1) * K4;
			uint64_t from = G1 + (uint64_t)rand_r(&seed) % (SPACE - 24) * K4;
			uint64_t to = G1 + (uint64_t)rand_r(&seed) % (SPACE - 24) * K4;

			if (step % 8 == 7) {
				assert_int_equal(fl_layout_unmap(layout, from, K4), 0);
				for (uint64_t page = 0; page < PAGES; page++)
					if (addr[page] == from)
						addr[page] = FL_NOWHERE;
			} else {
				assert_int_equal(fl_layout_remap(layout, from, to, len_bytes),
						 model_remap(addr, from, to, len_bytes));
			}
			check_against(layout, addr);
		}
		fl_layout_free(layout);
	}
}

static void lookups_and_moves_allocate_nothing(void **state)
{
	struct fl_layout *layout = new_layout(two, 2);
	uint64_t before = test_allocations();
	struct fl_place place;

	(void)state;
	assert_int_equal(fl_layout_by_addr(layout, 0x200000, &place), 0);
	assert_int_equal(fl_layout_by_gpa(layout, 0, &place), 0);
	assert_int_equal(fl_layout_remap(layout, 0x200000 + 4 * K4, 0x900000, 8 * K4), 0);
	assert_int_equal(fl_layout_unmap(layout, 0x900000, K4), 0);
	assert_int_equal(test_allocations(), before);
	fl_layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions_are_ordered_by_offset_and_numbered),
		cmocka_unit_test(every_name_of_a_page_finds_it),
		cmocka_unit_test(what_no_region_covers_is_not_found),
		cmocka_unit_test(each_region_counts_in_its_own_page_size),
		cmocka_unit_test(regions_may_lack_gpa_and_addr),
		cmocka_unit_test(each_broken_rule_is_named_with_its_region),
		cmocka_unit_test(too_few_and_too_many_regions_are_refused),
		cmocka_unit_test(a_part_that_moved_is_found_at_its_new_address),
		cmocka_unit_test(moved_back_it_is_one_region_again),
		cmocka_unit_test(a_move_may_span_regions),
		cmocka_unit_test(a_move_onto_itself_is_no_collision),
		cmocka_unit_test(an_unmapped_part_has_no_address),
		cmocka_unit_test(elsewhere_nothing_happens),
		cmocka_unit_test(impossible_moves_change_nothing),
		cmocka_unit_test(huge_pages_are_never_cut),
		cmocka_unit_test(too_many_parts_are_refused_and_nothing_breaks),
		cmocka_unit_test(random_moves_agree_with_a_list_of_addresses),
		cmocka_unit_test(lookups_and_moves_allocate_nothing),
	};

	return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
