/* SPDX-License-Identifier: MIT */
#include "pager/wset.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/error.h"
#include "util/fnv.h"

static bool known_shift(unsigned int shift)
{
	return shift == 12 || shift == 21 || shift == 30;
}

static int wset_new(struct fl_wset **set, uint64_t image_len, unsigned int shift)
{
	struct fl_wset *s;
	uint64_t room = (image_len >> shift) + ((image_len & ((UINT64_C(1) << shift) - 1)) != 0);

	if (room > UINT32_MAX)
		return -EFBIG;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	if (fl_pageset_new(&s->seen, room) < 0) {
		free(s);
		return -ENOMEM;
	}
	s->room = room;
	s->shift = shift;
	s->image_len = image_len;
	s->pages = mmap(NULL, (room + 1) * sizeof(*s->pages), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->pages == MAP_FAILED) {
		fl_pageset_free(s->seen);
		free(s);
		return -ENOMEM;
	}
	*set = s;
	return 0;
}

int fl_wset_new(struct fl_wset **set, uint64_t image_len, uint64_t page_size)
{
	for (unsigned int shift = 12; shift <= 30; shift += 9) {
		if (page_size == UINT64_C(1) << shift)
			return wset_new(set, image_len, shift);
	}
	return -EINVAL;
}

void fl_wset_free(struct fl_wset *set)
{
	if (!set)
		return;
	(void)munmap(set->pages, (set->room + 1) * sizeof(*set->pages));
	fl_pageset_free(set->seen);
	free(set->plan);
	free(set);
}

int fl_wset_add(struct fl_wset *set, uint64_t offset)
{
	uint64_t page = offset >> set->shift;

	if (offset >= set->image_len)
		return -ERANGE;
	/* A page may be touched for the first time twice, when it was not to be had before. */
	if (fl_pageset_has(set->seen, page))
		return 0;
	(void)fl_pageset_add(set->seen, page, 1);
	set->pages[set->count++] = (uint32_t)page;
	return 0;
}

uint64_t fl_wset_count(const struct fl_wset *set)
{
	return set->count;
}

uint64_t fl_wset_offset(const struct fl_wset *set, uint64_t index)
{
	return (uint64_t)set->pages[index] << set->shift;
}

uint64_t fl_wset_planned(const struct fl_wset *set, uint64_t index)
{
	return (uint64_t)(set->plan ? set->plan : set->pages)[index] << set->shift;
}

uint64_t fl_wset_planned_count(const struct fl_wset *set)
{
	return set->plan ? set->plan_count : set->count;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int fl_wset_plan(struct fl_wset *set)
{
	uint64_t stretch = WSET_STRETCH_FIRST, len;
	uint32_t *plan = malloc((set->count + 1) * sizeof(*plan));

	if (!plan)
		return -ENOMEM;
	memcpy(plan, set->pages, set->count * sizeof(*plan));
	for (uint64_t at = 0; at < set->count; at += len) {
		len = set->count - at < stretch ? set->count - at : stretch;
		qsort(plan + at, len, sizeof(*plan), by_number);
		if (stretch < WSET_STRETCH_MAX)
			stretch *= 2;
	}
	free(set->plan);
	set->plan = plan;
	set->plan_count = set->count;
	return 0;
}

uint64_t fl_wset_page_size(const struct fl_wset *set)
{
	return UINT64_C(1) << set->shift;
}

static uint32_t get32(const unsigned char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const unsigned char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static int check_header(const unsigned char *file, size_t len_bytes, struct fl_error *err)
{
	static const unsigned char no_checksum[8];
	uint64_t hash;

	if (len_bytes < WSET_HEADER_LEN)
		return fl_error_set(err, -EINVAL, "%zu bytes are no working set: its header has %u",
				    len_bytes, WSET_HEADER_LEN);
	if (memcmp(file, WSET_MAGIC, 8) != 0)
		return fl_error_set(err, -EINVAL,
				    "no working set: byte 0 does not begin with " WSET_MAGIC);
	if (get32(file + 8) != WSET_VERSION)
		return fl_error_set(err, -EINVAL,
				    "working set of version %" PRIu32 ", version %u is known",
				    get32(file + 8), WSET_VERSION);
	if (!known_shift(get32(file + 12)))
		return fl_error_set(err, -EINVAL,
				    "page shift %" PRIu32 " at byte 12: not 12, 21 or 30",
				    get32(file + 12));
	if (get64(file + 32) != (len_bytes - WSET_HEADER_LEN) / 4 ||
	    (len_bytes - WSET_HEADER_LEN) % 4)
		return fl_error_set(err, -EINVAL,
				    "%" PRIu64
				    " pages announced at byte 32, the file has %zu bytes",
				    get64(file + 32), len_bytes);
	hash = fl_fnv(FL_FNV_START, file, WSET_CHECKSUM_AT);
	hash = fl_fnv(hash, no_checksum, sizeof(no_checksum));
	hash = fl_fnv(hash, file + WSET_HEADER_LEN, len_bytes - WSET_HEADER_LEN);
	if (hash != get64(file + WSET_CHECKSUM_AT))
		return fl_error_set(err, -EINVAL, "checksum at byte %u does not match",
				    WSET_CHECKSUM_AT);
	return 0;
}

static int parse_pages(struct fl_wset *set, const unsigned char *file, uint64_t count,
		       struct fl_error *err)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = WSET_HEADER_LEN + 4 * i;
		uint32_t page = get32(file + at);

		if (fl_pageset_has(set->seen, page))
			return fl_error_set(err, -EINVAL,
					    "page %" PRIu32 " is listed twice, at byte %" PRIu64,
					    page, at);
		if (fl_pageset_add(set->seen, page, 1) < 0)
			return fl_error_set(err, -EINVAL,
					    "page %" PRIu32 " at byte %" PRIu64
					    " lies beyond the image",
					    page, at);
		set->pages[set->count++] = page;
	}
	return 0;
}

int fl_wset_parse(struct fl_wset **set, const void *bytes, size_t len_bytes, struct fl_error *err)
{
	const unsigned char *file = bytes;
	struct fl_wset *s = NULL;
	int code = check_header(file, len_bytes, err);

	if (code < 0)
		return code;
	code = wset_new(&s, get64(file + 16), get32(file + 12));
	if (code == -EFBIG)
		return fl_error_set(err, -EINVAL,
				    "image of %" PRIu64 " bytes at byte 16 is too long",
				    get64(file + 16));
	if (code < 0)
		return fl_error_set(err, code,
				    "no memory for a working set of an image of %" PRIu64 " bytes",
				    get64(file + 16));
	s->image_id = get64(file + 24);
	code = parse_pages(s, file, get64(file + 32), err);
	if (!code && fl_wset_plan(s) < 0)
		code = fl_error_set(err, -ENOMEM, "no memory for %" PRIu64 " pages", s->count);
	if (code < 0) {
		fl_wset_free(s);
		return code;
	}
	*set = s;
	return 0;
}
