/* SPDX-License-Identifier: MIT */
#ifndef FL_PAGER_WSET_H
#define FL_PAGER_WSET_H

#include <faultline/pager.h>

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
	uint32_t *pages; /* in the order of first touch */
	uint64_t count;
	uint64_t room;      /* for so many */
	unsigned int shift; /* of the page size */
	uint64_t image_len;
	uint64_t image_id; /* of a set that was parsed */
};

#endif
