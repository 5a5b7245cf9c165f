/* SPDX-License-Identifier: MIT */
#include "link/wire.h"

#include <string.h>
#include <xxhash.h>

uint64_t fl_unit_sum(const void *unit)
{
	return XXH3_64bits(unit, FL_WIRE_UNIT);
}

void fl_unit_sums(uint64_t *sums, const void *from, uint64_t len_bytes)
{
	const uint8_t *unit = from;

	for (uint64_t i = 0; i < len_bytes / FL_WIRE_UNIT; i++)
		sums[i] = fl_unit_sum(unit + i * FL_WIRE_UNIT);
}

/* The first word, and then every word like the one before it. */
bool fl_unit_is_zero(const void *unit)
{
	const uint8_t *bytes = unit;
	uint64_t first;

	memcpy(&first, bytes, sizeof(first));
	return first == 0 &&
	       memcmp(bytes, bytes + sizeof(first), FL_WIRE_UNIT - sizeof(first)) == 0;
}
