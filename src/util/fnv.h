/* SPDX-License-Identifier: MIT */
#ifndef FL_UTIL_FNV_H
#define FL_UTIL_FNV_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a, 64 bits (draft-eastlake-fnv): finds accidents, not forgeries. */
#define FL_FNV_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t fl_fnv(uint64_t hash, const void *bytes, size_t len_bytes)
{
	const unsigned char *at = bytes;

	for (size_t i = 0; i < len_bytes; i++)
		hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
