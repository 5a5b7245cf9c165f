/* SPDX-License-Identifier: MIT */
#ifndef FL_PAGER_WSET_H
#define FL_PAGER_WSET_H

#include <faultline/pager.h>

/*
 * A replay should bring early what was touched early, but read in large runs. So the plan cuts the
 * set into stretches, each twice as long as the one before, and puts each in the order of the
 * image: the first pages come nearly as they were touched, and later ones, of which the replay is
 * ahead, in ever longer runs.
 */
#define WSET_STRETCH_FIRST 64u
#define WSET_STRETCH_MAX   4096u

/*
 * The file, all numbers little-endian, documented in faultline-wset(5):
 *
 *	 0	magic "FLWSET01"
 *	 8	u32 version, 1
 *	12	u32 page shift: 12, 21 or 30
 *	16	u64 length of the image in bytes
 *	24	u64 identity of the image
 *	32	u64 number of pages that follow
 *	40	u64 checksum: FNV-1a over the whole file with this field zero
 *	48	u32 page numbers: offset >> page shift, in the order of first touch
 */
#define WSET_MAGIC       "FLWSET01"
#define WSET_VERSION     1u
#define WSET_HEADER_LEN  48u
#define WSET_CHECKSUM_AT 40u

struct fl_wset {
	uint32_t *pages;         /* in the order of first touch */
	uint32_t *plan;          /* the same as they are replayed, or NULL */
	uint64_t plan_count;     /* of those, how many were there when it was made */
	struct fl_pageset *seen; /* the same, to tell a page that is in it already */
	uint64_t count;
	uint64_t room;      /* for so many */
	unsigned int shift; /* of the page size */
	uint64_t image_len;
	uint64_t image_id; /* of a set that was parsed */
};

/* How many pages a replay has, and the offset in the image of the one that it has as number index.
 */
uint64_t fl_wset_planned_count(const struct fl_wset *set);
uint64_t fl_wset_planned(const struct fl_wset *set, uint64_t index);

#endif
