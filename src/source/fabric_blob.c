/* SPDX-License-Identifier: MIT */

/*
 * The descriptor of an export as bytes, and what can be checked without libfabric. All of it is pure.
 *
 * Head, little-endian: magic 32 bits, version 16, regions 16, length of the provider's name 16, length
 * of the address 16, format of the address 32, 64 zero bits. Then the name, the address, and for
 * each region, in the order of offsets: key, base, offset, length, 64 bits each. Nothing behind.
 */

#include "source/fabric.h"
#include "util/error.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *put(uint8_t *at, uint64_t value, size_t bytes)
{
	value = htole64(value);
	memcpy(at, &value, bytes);
	return at + bytes;
}

static uint64_t get(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, at, bytes);
	return le64toh(value);
}

size_t fl_fabric_blob_encode(uint8_t *bytes, const struct fl_fabric_desc *desc)
{
	size_t name_len = strlen(desc->provider);
	uint8_t *at = bytes;

	at = put(at, FL_FABRIC_MAGIC, 4);
	at = put(at, FL_FABRIC_VERSION, 2);
	at = put(at, desc->count, 2);
	at = put(at, name_len, 2);
	at = put(at, desc->address_len, 2);
	at = put(at, desc->address_format, 4);
	at = put(at, 0, 8);
	memcpy(at, desc->provider, name_len);
	at += name_len;
	memcpy(at, desc->address, desc->address_len);
	at += desc->address_len;
	for (size_t i = 0; i < desc->count; i++) {
		at = put(at, desc->regions[i].key, 8);
		at = put(at, desc->regions[i].base, 8);
		at = put(at, desc->regions[i].offset, 8);
		at = put(at, desc->regions[i].len_bytes, 8);
	}
	return (size_t)(at - bytes);
}

static int bad(struct fl_error *err, const char *what)
{
	return fl_error_set(err, -EBADMSG, "fabric descriptor: %s", what);
}

/* What libfabric calls providers: lower case, and ";" between layers. */
static bool is_name(const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!at[i] || !strchr("abcdefghijklmnopqrstuvwxyz0123456789_-;", at[i]))
			return false;
	}
	return len > 0;
}

static int decode_head(struct fl_fabric_desc *desc, size_t *name_len, const uint8_t *bytes,
		       size_t len, struct fl_error *err)
{
	if (len < 6 || get(bytes, 4) != FL_FABRIC_MAGIC)
		return bad(err, "not one");
	if (get(bytes + 4, 2) != FL_FABRIC_VERSION)
		return fl_error_set(err, -EPROTONOSUPPORT,
				    "fabric descriptor: version %u, and %u is what is known here",
				    (unsigned int)get(bytes + 4, 2), FL_FABRIC_VERSION);
	if (len < FL_FABRIC_HEAD_BYTES)
		return bad(err, "cut short");
	desc->count = (uint16_t)get(bytes + 6, 2);
	*name_len = get(bytes + 8, 2);
	desc->address_len = (uint16_t)get(bytes + 10, 2);
	desc->address_format = (uint32_t)get(bytes + 12, 4);
	if (get(bytes + 16, 8))
		return bad(err, "reserved bits are set");
	if (!desc->count || desc->count > FL_FABRIC_REGIONS_MAX)
		return bad(err, "number of regions out of range");
	if (!*name_len || *name_len > FL_FABRIC_NAME_MAX)
		return bad(err, "length of the provider's name out of range");
	if (!desc->address_len || desc->address_len > FL_FABRIC_ADDRESS_MAX)
		return bad(err, "length of the address out of range");
	if (len != FL_FABRIC_HEAD_BYTES + *name_len + desc->address_len +
			   (size_t)desc->count * FL_FABRIC_REGION_BYTES)
		return bad(err, "wrong length");
	return 0;
}

static int check_region(const struct fl_fabric_region *region, uint64_t from, struct fl_error *err)
{
	if (!region->len_bytes || region->len_bytes % FL_FABRIC_UNIT ||
	    region->offset % FL_FABRIC_UNIT)
		return bad(err, "a region that is not whole units");
	if (region->offset < from)
		return bad(err, "regions out of order");
	if (region->len_bytes > INT64_MAX || region->offset > INT64_MAX - region->len_bytes)
		return bad(err, "a region beyond what an image can have");
	if (region->base > UINT64_MAX - region->len_bytes)
		return bad(err, "a region beyond the end of addresses");
	return 0;
}

int fl_fabric_blob_decode(struct fl_fabric_desc *desc, const uint8_t *bytes, size_t len,
			  struct fl_error *err)
{
	const uint8_t *at = bytes + FL_FABRIC_HEAD_BYTES;
	uint64_t from = 0;
	size_t name_len = 0;
	int ret;

	*desc = (struct fl_fabric_desc){0};
	ret = decode_head(desc, &name_len, bytes, len, err);
	if (ret)
		return ret;
	if (!is_name(at, name_len))
		return bad(err, "a provider's name with other than its letters");
	memcpy(desc->provider, at, name_len);
	at += name_len;
	memcpy(desc->address, at, desc->address_len);
	at += desc->address_len;
	for (size_t i = 0; i < desc->count; i++, at += FL_FABRIC_REGION_BYTES) {
		struct fl_fabric_region *region = &desc->regions[i];

		region->key = get(at, 8);
		region->base = get(at + 8, 8);
		region->offset = get(at + 16, 8);
		region->len_bytes = get(at + 24, 8);
		ret = check_region(region, from, err);
		if (ret)
			return ret;
		from = region->offset + region->len_bytes;
	}
	return 0;
}

const struct fl_fabric_region *fl_fabric_region_at(const struct fl_fabric_desc *desc,
						   uint64_t offset)
{
	for (size_t i = 0; i < desc->count; i++) {
		if (offset < desc->regions[i].offset + desc->regions[i].len_bytes)
			return &desc->regions[i];
	}
	return NULL;
}

static int by_offset(const void *a, const void *b)
{
	const struct fl_fabric_memory *one = a, *other = b;

	return (one->offset > other->offset) - (one->offset < other->offset);
}

int fl_fabric_memory_check(struct fl_fabric_memory *sorted, const struct fl_fabric_memory *memory,
			   size_t count, struct fl_error *err)
{
	uint64_t from = 0;

	if (count > FL_FABRIC_REGIONS_MAX)
		return fl_error_set(err, -EINVAL, "%zu ranges of memory: at most %u", count,
				    FL_FABRIC_REGIONS_MAX);
	if (!count)
		return 0;
	memcpy(sorted, memory, count * sizeof(*memory));
	qsort(sorted, count, sizeof(*sorted), by_offset);
	for (size_t i = 0; i < count; i++) {
		const struct fl_fabric_memory *range = &sorted[i];
		struct fl_fabric_region region = {.base = (uintptr_t)range->addr,
						  .offset = range->offset,
						  .len_bytes = range->len_bytes};

		if (!range->addr || check_region(&region, from, NULL))
			return fl_error_set(err, -EINVAL,
					    "memory at offset 0x%" PRIx64 ": %" PRIu64
					    " bytes that overlap, or are not whole units of %u",
					    range->offset, range->len_bytes, FL_FABRIC_UNIT);
		from = range->offset + range->len_bytes;
	}
	return 0;
}

void fl_fabric_options_init(struct fl_fabric_options *options)
{
	*options = (struct fl_fabric_options){
		.size = sizeof(*options), .provider = "tcp", .timeout_ms = 10000};
}

int fl_fabric_options_check(struct fl_fabric_options *checked,
			    const struct fl_fabric_options *options, struct fl_error *err)
{
	fl_fabric_options_init(checked);
	if (!options)
		return 0;
	if (options->size != sizeof(*options))
		return fl_error_set(err, -EINVAL, "fabric options of another version");
	*checked = *options;
	if (options->flags & ~(FL_FABRIC_POPULATE | FL_FABRIC_REGISTER))
		return fl_error_set(err, -EINVAL, "unknown fabric flags 0x%x", options->flags);
	if (!options->timeout_ms || options->timeout_ms > FL_FABRIC_TIMEOUT_MAX_MS)
		return fl_error_set(err, -EINVAL, "a fabric timeout of %u ms: 1 to %u",
				    options->timeout_ms, FL_FABRIC_TIMEOUT_MAX_MS);
	if (!options->provider || !*options->provider)
		return fl_error_set(err, -EINVAL, "no fabric provider named");
	return 0;
}
