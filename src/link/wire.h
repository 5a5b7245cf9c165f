/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_WIRE_H
#define FL_LINK_WIRE_H

/*
 * The page link on the wire: docs/page-link.md in C. Pure functions over bytes: nothing here reads
 * a socket. What comes from a peer goes through fl_frame_decode() and fl_hello_decode(), which check
 * everything that can be checked without knowing the state of the migration.
 */

#include <stdbool.h>
#include <stdint.h>

#include <faultline/common.h>
#include <faultline/memory.h>

#define FL_WIRE_MAGIC       0x4c46u
#define FL_WIRE_VERSION_MIN 1u
#define FL_WIRE_VERSION_MAX 1u
#define FL_WIRE_HEAD_BYTES  32u
#define FL_WIRE_UNIT        4096u
#define FL_WIRE_CONTROL_MAX (64u * 1024)        /* payload of all frames but PAGES */
#define FL_WIRE_PAGES_BYTES (128u * 1024)       /* contents of a PAGES frame, or one page */
#define FL_WIRE_PAGE_MAX    (2u * 1024 * 1024)  /* the largest page that can move */
#define FL_WIRE_PAGES_MAX   (4u * 1024 * 1024)  /* payload of PAGES: sums and contents */
#define FL_WIRE_BLOB_MAX    (64u * 1024 * 1024) /* MACHINE and STATE */
#define FL_WIRE_REQUEST_MAX (2u * 1024 * 1024)
#define FL_WIRE_WAITS_BYTES 32u   /* of COMPLETE: count, p50, p99, max: 64 bits each */
#define FL_WIRE_REQUESTS    1024u /* unanswered on one connection */
#define FL_WIRE_SESSION     16u
#define FL_WIRE_WAYS        2u /* kinds of WAY: 1 fabric, 2 worker */

enum fl_frame_type {
	FL_FRAME_HELLO = 1,
	FL_FRAME_WELCOME,
	FL_FRAME_MACHINE,
	FL_FRAME_PREPARED,
	FL_FRAME_PAGES,
	FL_FRAME_ZERO,
	FL_FRAME_CLEAN,
	FL_FRAME_RANGE,
	FL_FRAME_ROUND,
	FL_FRAME_ROUND_ACK,
	FL_FRAME_STATE,
	FL_FRAME_READY,
	FL_FRAME_GO,
	FL_FRAME_RUNNING,
	FL_FRAME_DUE,
	FL_FRAME_DUE_END,
	FL_FRAME_REQUEST,
	FL_FRAME_RECEIVED,
	FL_FRAME_RECEIVED_END,
	FL_FRAME_COMPLETE,
	FL_FRAME_BYE,
	FL_FRAME_PING,
	FL_FRAME_PONG,
	FL_FRAME_CANCEL,
	FL_FRAME_ERROR,
	FL_FRAME_WAY,
	FL_FRAME_TORN,
	FL_FRAME_TYPES
};

#define FL_FRAME_ZSTD (1u << 0) /* PAGES: the contents are one zstd frame */
#define FL_FRAME_LZ4  (1u << 1) /* PAGES: the contents are one lz4 block */

#define FL_FEATURE_ZSTD   (1u << 0)
#define FL_FEATURE_LZ4    (1u << 1)
#define FL_FEATURE_FABRIC (1u << 2) /* pages may be read over libfabric */
#define FL_FEATURE_WORKER (1u << 3) /* pages may be read by a page worker */
#define FL_FEATURE_WAITS  (1u << 4) /* COMPLETE tells how long demands took */

enum fl_role { FL_ROLE_OUTGOING, FL_ROLE_INCOMING };
enum fl_channel { FL_CHANNEL_MAIN, FL_CHANNEL_DEMAND };

/* One frame's head, in host order. */
struct fl_frame {
	uint8_t type;
	uint8_t flags;
	uint32_t len;
	uint64_t offset;
	uint32_t bytes;
	uint32_t id;
};

/* What HELLO and WELCOME carry. On the wire: at 0 the lowest version and at 2 the highest, 16 bits
 * each; at 4, 5, 6 channel, role, recover, 8 bits each; at 8 features, 32 bits; at 16 the session.
 * The rest is zero when sent and not looked at when received. */
struct fl_wire_hello {
	uint16_t version_min;
	uint16_t version_max;
	uint8_t channel;
	uint8_t role;
	uint8_t recover;
	uint32_t features;
	uint8_t session[FL_WIRE_SESSION];
};

#define FL_WIRE_HELLO_BYTES  32u
#define FL_WIRE_REGION_BYTES 32u /* gpa, offset, len_bytes, page_size: 64 bits each */

/* The name of a type as errors give it: "PAGES"; "type 77" is the caller's to print when NULL. */
const char *fl_frame_name(uint8_t type);

/*
 * Writes a head. @chain is the sum of the frame before, 0 for the first and for HELLO and WELCOME;
 * @payload is what is summed: the whole payload, of PAGES its sums only (@summed bytes of it).
 * Returns the frame's own sum, to be the next one's chain.
 */
uint64_t fl_frame_encode(uint8_t head[FL_WIRE_HEAD_BYTES], const struct fl_frame *frame,
			 const void *payload, uint32_t summed, uint64_t chain);

/*
 * Can there be such a frame? What fl_frame_decode() asks of a head, for those who make one: -EBADMSG
 * with a sentence that names the type, the field, what it is and what it must be.
 */
int fl_frame_check(const struct fl_frame *frame, struct fl_error *err);

/*
 * Reads a head and checks it by itself: magic, type, flags, lengths that its type can have. -EBADMSG
 * with a sentence that names the type and the field. The sum is checked by fl_frame_verify() once the
 * payload (of PAGES: its sums) is there.
 */
int fl_frame_decode(struct fl_frame *frame, const uint8_t head[FL_WIRE_HEAD_BYTES],
		    struct fl_error *err);

/* Returns 0 and the frame's sum in @sum, or -EBADMSG: wrong sum, which names the type. */
int fl_frame_verify(const uint8_t head[FL_WIRE_HEAD_BYTES], const void *payload, uint32_t summed,
		    uint64_t chain, uint64_t *sum, struct fl_error *err);

/* How many bytes of the payload are summed: of PAGES 8 for each unit of frame->bytes, else len. */
uint32_t fl_frame_summed(const struct fl_frame *frame);

/* What a peer's ERROR says, safe to show: UTF-8 without control characters, NUL-terminated, cut to
 * @size bytes. */
void fl_frame_text(char *text, size_t size, const void *payload, uint32_t len);

/* The sum of one unit, and of many. */
uint64_t fl_unit_sum(const void *unit);
void fl_unit_sums(uint64_t *sums, const void *from, uint64_t len_bytes);
/* Are they all zeros? */
bool fl_unit_is_zero(const void *unit);

void fl_hello_encode(uint8_t bytes[FL_WIRE_HELLO_BYTES], const struct fl_wire_hello *hello);
/* -EBADMSG for bytes that cannot be a hello. The versions are not judged. */
int fl_hello_decode(struct fl_wire_hello *hello, const uint8_t *bytes, uint32_t len,
		    struct fl_error *err);
/* The version that both can speak, the highest; -EPROTONOSUPPORT with a sentence that says both. */
int fl_hello_agree(const struct fl_wire_hello *mine, const struct fl_wire_hello *theirs,
		   struct fl_error *err);

/* The description of a machine: regions, then what the VMM has to say. */
void fl_regions_encode(uint8_t *bytes, const struct fl_region *regions, size_t count);
/* Decodes @count regions and lets fl_layout_new() judge them; addr is FL_NOWHERE. -EBADMSG; -EOPNOTSUPP
 * for pages of 1 GiB; -ENOMEM. */
int fl_regions_decode(struct fl_region *regions, size_t count, const uint8_t *bytes, uint64_t len,
		      struct fl_error *err);

#endif
