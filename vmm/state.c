/* SPDX-License-Identifier: MIT */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define STATE_MAGIC 0x454154535f4d4c46ull /* "FLM_STAE", little-endian */

struct header {
	uint64_t magic;
	uint32_t version;
	uint32_t nr_chunks;
	uint64_t payload_len;
	uint64_t checksum;
};

struct chunk_header {
	uint32_t tag;
	uint32_t vcpu;
	uint64_t len;
};

static size_t padded(size_t len)
{
	return (len + 7) & ~(size_t)7;
}

static int append(struct vmm_state_out *out, const void *data, size_t len)
{
	size_t need = out->len + padded(len);

	if (need > VMM_STATE_MAX_BYTES)
		return vmm_fail(EFBIG, "machine state: over %u bytes", VMM_STATE_MAX_BYTES);
	if (need > out->room) {
		size_t room = need * 2;
		unsigned char *more = realloc(out->data, room);

		if (!more)
			return vmm_fail(ENOMEM, "machine state: no memory");
		out->data = more;
		out->room = room;
	}
	memset(out->data + out->len, 0, padded(len));
	if (len)
		memcpy(out->data + out->len, data, len);
	out->len = need;
	return 0;
}

int vmm_state_begin(struct vmm_state_out *out)
{
	struct header header = {0};

	*out = (struct vmm_state_out){0};
	return append(out, &header, sizeof(header));
}

int vmm_state_add(struct vmm_state_out *out, uint32_t tag, uint32_t vcpu, const void *data,
		  size_t len)
{
	struct chunk_header header = {tag, vcpu, len};
	int ret = append(out, &header, sizeof(header));

	if (out->nr_chunks == VMM_STATE_MAX_CHUNKS)
		return vmm_fail(EFBIG, "machine state: over %u chunks", VMM_STATE_MAX_CHUNKS);
	if (ret)
		return ret;
	out->nr_chunks++;
	return append(out, data, len);
}

void vmm_state_end(struct vmm_state_out *out)
{
	struct header header = {
		.magic = STATE_MAGIC,
		.version = VMM_STATE_VERSION,
		.nr_chunks = out->nr_chunks,
		.payload_len = out->len - sizeof(header),
		.checksum = vmm_fnv64(out->data + sizeof(header), out->len - sizeof(header)),
	};

	memcpy(out->data, &header, sizeof(header));
}

void vmm_state_free(struct vmm_state_out *out)
{
	free(out->data);
	*out = (struct vmm_state_out){0};
}

static int bad(char *err, size_t err_len, const char *what, unsigned long long got)
{
	snprintf(err, err_len, "%s (%llu)", what, got);
	return -EINVAL;
}

static int parse_header(const unsigned char *data, size_t len, struct header *header, char *err,
			size_t err_len)
{
	if (len < sizeof(*header))
		return bad(err, err_len, "shorter than its header", len);
	memcpy(header, data, sizeof(*header));
	if (header->magic != STATE_MAGIC)
		return bad(err, err_len, "not a machine state: wrong magic", header->magic);
	if (header->version != VMM_STATE_VERSION)
		return bad(err, err_len, "unknown version", header->version);
	if (header->payload_len != len - sizeof(*header))
		return bad(err, err_len, "length differs from its header", len);
	if (header->nr_chunks > VMM_STATE_MAX_CHUNKS)
		return bad(err, err_len, "too many chunks", header->nr_chunks);
	if (header->checksum != vmm_fnv64(data + sizeof(*header), len - sizeof(*header)))
		return bad(err, err_len, "checksum does not match", header->checksum);
	return 0;
}

int vmm_state_parse(const void *data, size_t len, struct vmm_state *state, char *err,
		    size_t err_len)
{
	const unsigned char *bytes = data;
	struct header header;
	size_t at = sizeof(header);
	int ret = parse_header(bytes, len, &header, err, err_len);

	state->nr_chunks = 0;
	for (uint32_t i = 0; !ret && i < header.nr_chunks; i++) {
		struct chunk_header chunk;

		if (len - at < sizeof(chunk))
			return bad(err, err_len, "ends inside chunk", i);
		memcpy(&chunk, bytes + at, sizeof(chunk));
		at += sizeof(chunk);
		if (chunk.len > len - at || padded((size_t)chunk.len) > len - at)
			return bad(err, err_len, "ends inside chunk", i);
		state->chunks[state->nr_chunks++] =
			(struct vmm_chunk){chunk.tag, chunk.vcpu, bytes + at, (size_t)chunk.len};
		at += padded((size_t)chunk.len);
	}
	if (!ret && at != len)
		return bad(err, err_len, "bytes after the last chunk", len - at);
	return ret;
}

const struct vmm_chunk *vmm_state_find(const struct vmm_state *state, uint32_t tag, uint32_t vcpu)
{
	for (unsigned int i = 0; i < state->nr_chunks; i++)
		if (state->chunks[i].tag == tag && state->chunks[i].vcpu == vcpu)
			return &state->chunks[i];
	return NULL;
}
