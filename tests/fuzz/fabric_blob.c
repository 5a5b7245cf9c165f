/* SPDX-License-Identifier: MIT */
/*
 * A fabric descriptor, which comes from the peer. Each input is tried as it is and behind a head that
 * fits its length, which chance would hardly find. What is taken must keep every promise of
 * src/source/fabric.h, and be encoded to the same bytes again.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "source/fabric.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_regions(const struct fl_fabric_desc *desc)
{
	uint64_t end = 0;

	for (size_t i = 0; i < desc->count; i++) {
		const struct fl_fabric_region *region = &desc->regions[i];

		must(region->offset >= end && region->len_bytes > 0);
		must(region->offset % FL_FABRIC_UNIT == 0 &&
		     region->len_bytes % FL_FABRIC_UNIT == 0);
		end = region->offset + region->len_bytes;
		must(end > region->offset && end <= INT64_MAX);
		must(region->base + region->len_bytes >= region->base);
		must(fl_fabric_region_at(desc, region->offset) == region);
		must(fl_fabric_region_at(desc, end - 1) == region);
	}
	must(!fl_fabric_region_at(desc, end));
}

static void decode(const uint8_t *data, size_t len)
{
	uint8_t again[FL_FABRIC_BLOB_MAX];
	struct fl_fabric_desc desc;
	struct fl_error err = {0};
	int code = fl_fabric_blob_decode(&desc, data, len, &err);

	if (code < 0) {
		must(err.code == code && err.text[0] != '\0');
		return;
	}
	must(desc.count >= 1 && desc.count <= FL_FABRIC_REGIONS_MAX);
	must(desc.address_len >= 1 && desc.address_len <= FL_FABRIC_ADDRESS_MAX);
	must(memchr(desc.provider, 0, sizeof(desc.provider)) && desc.provider[0]);
	check_regions(&desc);
	must(fl_fabric_blob_encode(again, &desc) == len && !memcmp(again, data, len));
}

/* The first byte says how many regions, the second how long the name is; the rest is what follows. */
static void decode_behind_a_head(const uint8_t *data, size_t len)
{
	static const uint8_t head[16] = "FLFB\1\0\0\0\0\0\0\0\2";
	size_t count = len < 2 ? 1 : data[0] % FL_FABRIC_REGIONS_MAX + 1u;
	size_t name = len < 2 ? 1 : data[1] % FL_FABRIC_NAME_MAX + 1u;
	size_t all = FL_FABRIC_HEAD_BYTES + name + 16 + count * FL_FABRIC_REGION_BYTES;
	uint8_t *bytes = calloc(1, all);

	if (!bytes)
		abort();
	memcpy(bytes, head, sizeof(head));
	bytes[6] = (uint8_t)count;
	bytes[8] = (uint8_t)name;
	bytes[10] = 16;
	if (len > 2)
		memcpy(bytes + FL_FABRIC_HEAD_BYTES, data + 2,
		       len - 2 < all - FL_FABRIC_HEAD_BYTES ? len - 2 : all - FL_FABRIC_HEAD_BYTES);
	decode(bytes, all);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	decode(data, len);
	decode_behind_a_head(data, len);
	return 0;
}
