/* SPDX-License-Identifier: MIT */
/* The three files of a snapshot that are read before its memory: the first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void layout(const char *text, size_t len)
{
	struct vmm_layout layout;
	char err[256] = "";
	uint64_t end = 0, offset = 0;

	if (vmm_snapshot_parse_layout(text, len, &layout, err, sizeof(err)) < 0) {
		must(err[0] != '\0');
		return;
	}
	must(layout.nr_regions > 0 && layout.nr_regions <= VMM_MAX_REGIONS);
	for (unsigned int i = 0; i < layout.nr_regions; i++) {
		const struct vmm_region *region = &layout.regions[i];

		must(region->gpa >= end && region->offset == offset && region->size_bytes > 0);
		end = region->gpa + region->size_bytes;
		offset += region->size_bytes;
		must(end > region->gpa && offset <= VMM_MAX_MEMORY);
	}
}

static void machine(const char *text, size_t len)
{
	struct vmm_machine_info info;
	char err[256] = "";

	if (vmm_snapshot_parse_machine(text, len, &info, err, sizeof(err)) < 0) {
		must(err[0] != '\0');
		return;
	}
	must(info.nr_vcpus > 0 && info.nr_vcpus <= PAYLOAD_MAX_VCPUS);
	must(info.state_len <= VMM_STATE_MAX_BYTES);
	must(memchr(info.running, '\0', sizeof(info.running)));
}

static void vcpus(const void *data, size_t len)
{
	static struct vmm_state state;
	char err[256] = "";

	if (vmm_state_parse(data, len, &state, err, sizeof(err)) < 0) {
		must(err[0] != '\0');
		return;
	}
	must(state.nr_chunks <= VMM_STATE_MAX_CHUNKS);
	for (unsigned int i = 0; i < state.nr_chunks; i++) {
		const struct vmm_chunk *chunk = &state.chunks[i];
		size_t at = (size_t)((const char *)chunk->data - (const char *)data);

		must(at <= len && chunk->len <= len - at && at % 8 == 0);
	}
}

/* As it is, then with the length and the checksum that the header should have. */
static void vcpus_both_ways(uint8_t *data, size_t len)
{
	enum { LEN_AT = 16, CHECKSUM_AT = 24, HEADER_LEN = 32 };
	uint64_t payload_len, checksum;

	vcpus(data, len);
	if (len < HEADER_LEN)
		return;
	payload_len = len - HEADER_LEN;
	checksum = vmm_fnv64(data + HEADER_LEN, payload_len);
	memcpy(data + LEN_AT, &payload_len, sizeof(payload_len));
	memcpy(data + CHECKSUM_AT, &checksum, sizeof(checksum));
	vcpus(data, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *copy;

	if (len < 2)
		return 0;
	copy = malloc(len - 1); /* aligned as the parser asks, and ends where it ends */
	if (!copy)
		abort();
	memcpy(copy, data + 1, len - 1);
	if (data[0] == 'l')
		layout((const char *)copy, len - 1);
	else if (data[0] == 'm')
		machine((const char *)copy, len - 1);
	else
		vcpus_both_ways(copy, len - 1);
	free(copy);
	return 0;
}
