/* SPDX-License-Identifier: MIT */
#ifndef FL_MEMORY_TABLE_FORMAT_H
#define FL_MEMORY_TABLE_FORMAT_H

/*
 * The page-state table as it lies in its memfd, for any process that maps it:
 *
 *	byte 0			struct fl_table_header, written before the table is shown to anyone
 *	FL_TABLE_CELLS		one byte for each page, its cell
 *
 * A cell:
 *
 *	bits 0-2	enum fl_page_state
 *	bit 3		PENDING only: zeros are due, the page had been removed
 *	bits 4-7	PENDING only: enum fl_waiter, who waits
 *
 * Outside PENDING the bits 3 to 7 are 0. A fresh memfd is all zeros: every page ABSENT.
 */

#include <faultline/memory.h>

#define FL_TABLE_MAGIC   0x454c424154504c46ULL /* "FLPTABLE" */
#define FL_TABLE_VERSION 1
#define FL_TABLE_CELLS   4096

#define FL_CELL_STATE    0x07
#define FL_CELL_POISONED 0x04 /* the bit that only FL_POISONED has */
#define FL_CELL_ZEROS    0x08
#define FL_CELL_WAITERS  0xf0

/* All numbers in the byte order of the host: the table never leaves it. */
struct fl_table_header {
	uint64_t magic;
	uint32_t version;
	uint32_t cells;
	uint64_t pages;
};

#endif
