/* SPDX-License-Identifier: MIT */
#include <faultline/memory.h>

#include <errno.h>
#include <stdlib.h>

#define WORD_BITS 64

/* Owned by whoever made it: one thread at a time. Bits at and above pages are always clear. */
struct fl_pageset {
	uint64_t pages;
	uint64_t words;
	uint64_t word[];
};

int fl_pageset_new(struct fl_pageset **set, uint64_t pages)
{
	uint64_t words = pages / WORD_BITS + (pages % WORD_BITS != 0);
	struct fl_pageset *made;
	size_t size;

	if (__builtin_mul_overflow(words, sizeof(uint64_t), &size) ||
	    __builtin_add_overflow(size, sizeof(*made), &size))
		return -ENOMEM;
	made = calloc(1, size);
	if (!made)
		return -ENOMEM;
	made->pages = pages;
	made->words = words;
	*set = made;
	return 0;
}

void fl_pageset_free(struct fl_pageset *set)
{
	free(set);
}

static bool fits(const struct fl_pageset *set, uint64_t page, uint64_t count)
{
	return page <= set->pages && count <= set->pages - page;
}

/* The bits of one word that pages [page, end) have, where page lies in that word. */
static uint64_t range_mask(uint64_t page, uint64_t end)
{
	uint64_t first = page % WORD_BITS;
	uint64_t mask = UINT64_MAX << first;

	if (end - page < WORD_BITS - first)
		mask &= ~(UINT64_MAX << (first + (end - page)));
	return mask;
}

static uint64_t next_word(uint64_t page)
{
	return (page / WORD_BITS + 1) * WORD_BITS;
}

int fl_pageset_add(struct fl_pageset *set, uint64_t page, uint64_t count)
{
	if (!fits(set, page, count))
		return -ERANGE;
	for (uint64_t end = page + count; page < end; page = next_word(page))
		set->word[page / WORD_BITS] |= range_mask(page, end);
	return 0;
}

int fl_pageset_del(struct fl_pageset *set, uint64_t page, uint64_t count)
{
	if (!fits(set, page, count))
		return -ERANGE;
	for (uint64_t end = page + count; page < end; page = next_word(page))
		set->word[page / WORD_BITS] &= ~range_mask(page, end);
	return 0;
}

bool fl_pageset_has(const struct fl_pageset *set, uint64_t page)
{
	return page < set->pages && (set->word[page / WORD_BITS] >> (page % WORD_BITS) & 1);
}

uint64_t fl_pageset_count(const struct fl_pageset *set)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < set->words; i++)
		count += (uint64_t)__builtin_popcountll(set->word[i]);
	return count;
}

/*
 * The first page at or after this one whose bit is on (or off); set->pages or more when there is
 * none. Bits that belong to no page are off.
 */
static uint64_t next_bit(const struct fl_pageset *set, uint64_t page, bool on)
{
	for (; page < set->pages; page = next_word(page)) {
		uint64_t bits = set->word[page / WORD_BITS];

		bits = (on ? bits : ~bits) & (UINT64_MAX << (page % WORD_BITS));
		if (bits)
			return page / WORD_BITS * WORD_BITS + (uint64_t)__builtin_ctzll(bits);
	}
	return page;
}

uint64_t fl_pageset_run(const struct fl_pageset *set, uint64_t *page)
{
	uint64_t first = next_bit(set, *page, true);

	if (first >= set->pages)
		return 0;
	*page = first;
	return next_bit(set, first, false) - first;
}
