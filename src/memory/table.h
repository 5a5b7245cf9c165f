/* SPDX-License-Identifier: MIT */
#ifndef FL_MEMORY_TABLE_H
#define FL_MEMORY_TABLE_H

/* What the files of struct fl_table share. */

#include <faultline/memory.h>

#include "memory/table_format.h"

/*
 * Written once, before any other thread sees it. The cells are shared with threads and processes
 * and are touched by atomic operations alone.
 */
struct fl_table {
	int fd;
	uint64_t pages;
	size_t map_len;
	void *map;
	uint8_t *cells;
};

/* Finds the first cell at or after *page that no transition can have made; false: there is none. */
bool fl_table_damaged(const struct fl_table *table, uint64_t *page);

/* Pages whose contents are in place already: those of @count that are ABSENT become PRESENT. For the
 * thread that would claim them; nobody waits for an absent page. Return: how many. */
uint64_t fl_table_adopt(struct fl_table *table, uint64_t page, uint64_t count);

#endif
