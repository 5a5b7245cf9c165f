/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_FABRIC_H
#define FL_SOURCE_FABRIC_H

/*
 * What both sides of a read over libfabric share. The theory is in fabric_queue.c for the side that
 * reads, in fabric_export.c for the side that is read; the descriptor between them, in
 * docs/fabric.md, is encoded and checked in fabric_blob.c, which knows nothing of libfabric.
 */

#include <faultline/fabric.h>

#define FL_FABRIC_MAGIC          0x42464c46u /* the letters FLFB */
#define FL_FABRIC_VERSION        1u
#define FL_FABRIC_HEAD_BYTES     24u
#define FL_FABRIC_REGION_BYTES   32u
#define FL_FABRIC_NAME_MAX       63u
#define FL_FABRIC_ADDRESS_MAX    256u
#define FL_FABRIC_TIMEOUT_MAX_MS 3600000u

/* One range that can be read: bytes at base + n with key are those of the image at offset + n. */
struct fl_fabric_region {
	uint64_t key;
	uint64_t base;
	uint64_t offset;
	uint64_t len_bytes;
};

/* What a descriptor says. */
struct fl_fabric_desc {
	char provider[FL_FABRIC_NAME_MAX + 1];
	uint32_t address_format; /* FI_SOCKADDR_IN and so on: part of libfabric's ABI */
	uint16_t address_len;
	uint16_t count;
	uint8_t address[FL_FABRIC_ADDRESS_MAX];
	struct fl_fabric_region regions[FL_FABRIC_REGIONS_MAX]; /* in the order of offsets */
};

/* fabric_blob.c. Writes at most FL_FABRIC_BLOB_MAX bytes; returns how many. */
size_t fl_fabric_blob_encode(uint8_t *bytes, const struct fl_fabric_desc *desc);
/* 0, -EBADMSG, -EPROTONOSUPPORT. */
int fl_fabric_blob_decode(struct fl_fabric_desc *desc, const uint8_t *bytes, size_t len,
			  struct fl_error *err);
/* Checks ranges of our own, and writes them in the order of offsets: 0, -EINVAL. */
int fl_fabric_memory_check(struct fl_fabric_memory *sorted, const struct fl_fabric_memory *memory,
			   size_t count, struct fl_error *err);
/* What lies at an offset: the first region that ends behind it, or NULL. */
const struct fl_fabric_region *fl_fabric_region_at(const struct fl_fabric_desc *desc,
						   uint64_t offset);
/* Checks options, or NULL for the defaults, and copies them: 0, -EINVAL. */
int fl_fabric_options_check(struct fl_fabric_options *checked,
			    const struct fl_fabric_options *options, struct fl_error *err);

#endif
