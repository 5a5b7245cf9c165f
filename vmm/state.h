/* SPDX-License-Identifier: MIT */
/*
 * Machine state in a file: a header (magic, version, length, checksum) and
 * chunks of (tag, vCPU, length, bytes), each padded to 8 bytes.
 */
#ifndef FAULTLINE_VMM_STATE_H
#define FAULTLINE_VMM_STATE_H

#include <stddef.h>
#include <stdint.h>

#define VMM_STATE_VERSION    1u
#define VMM_STATE_MAX_BYTES  (64u << 20)
#define VMM_STATE_MAX_CHUNKS 1024u
#define VMM_STATE_VM         UINT32_MAX /* the "vCPU" of what belongs to the whole machine */

enum vmm_state_tag {
	VMM_STATE_CPUID = 1,
	VMM_STATE_REGS,
	VMM_STATE_SREGS,
	VMM_STATE_FPU,
	VMM_STATE_XSAVE,
	VMM_STATE_XCRS,
	VMM_STATE_MSRS,
	VMM_STATE_LAPIC,
	VMM_STATE_MP_STATE,
	VMM_STATE_EVENTS,
	VMM_STATE_DEBUGREGS,
	VMM_STATE_CLOCK,
	VMM_STATE_MACHINE, /* what it is and does, as text: save.h */
	VMM_STATE_TAGS,
};

struct vmm_chunk {
	uint32_t tag;
	uint32_t vcpu;
	const void *data; /* aligned to 8 bytes */
	size_t len;
};

struct vmm_state {
	unsigned int nr_chunks;
	struct vmm_chunk chunks[VMM_STATE_MAX_CHUNKS];
};

/* A state being put together. */
struct vmm_state_out {
	unsigned char *data;
	size_t len;
	size_t room;
	uint32_t nr_chunks;
};

int vmm_state_begin(struct vmm_state_out *out);
int vmm_state_add(struct vmm_state_out *out, uint32_t tag, uint32_t vcpu, const void *data,
		  size_t len);
void vmm_state_end(struct vmm_state_out *out);
void vmm_state_free(struct vmm_state_out *out);

/**
 * vmm_state_parse() - find the chunks of a state file; a pure function
 * @data: the file's bytes, aligned to 8; @state points into them
 * @len: how many
 * @state: receives the chunks
 * @err: receives one sentence on failure
 * @err_len: its room
 *
 * Return: 0 or -EINVAL.
 */
int vmm_state_parse(const void *data, size_t len, struct vmm_state *state, char *err,
		    size_t err_len);

/* vmm_state_find() - the chunk, or NULL */
const struct vmm_chunk *vmm_state_find(const struct vmm_state *state, uint32_t tag, uint32_t vcpu);

#endif
