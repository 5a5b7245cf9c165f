/* SPDX-License-Identifier: MIT */
/*
 * Frames. One table says what each type can be; whatever it does not allow is refused by name, when
 * a frame is made as when one comes.
 */
#include "link/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* a state on the stack */
#include <xxhash.h>

#include "link/bytes.h"
#include "util/error.h"

#define SUMMED_HEAD   24u /* bytes of a head that its sum covers */
#define SUM_BYTES     8u  /* of one unit */
#define ERRNO_MAX     4095u
#define PAGE_NR_MAX   (UINT64_MAX / FL_WIRE_UNIT)
#define WHOLE_UNITS   ((uint32_t)-1 / FL_WIRE_UNIT * FL_WIRE_UNIT)
#define ALL_FRAME_IDS UINT32_MAX

/* What offset and bytes of a head mean. */
enum about {
	ABOUT_NOTHING, /* both are 0 */
	ABOUT_UNITS,   /* whole units of the image */
	ABOUT_PIECE,   /* the payload's position in something larger, and the length of that */
	ABOUT_NUMBER   /* a page's number, or how many pages; bytes is 0 */
};

struct rule {
	const char *name;
	enum about about;
	uint32_t len_min, len_max;
	uint32_t bytes_min, bytes_max;
	uint32_t id_min, id_max;
	uint8_t flags;
};

/* clang-format off */
#define BARE(type)       {.name = (type)}
#define ANSWER(type)     {.name = (type), .about = ABOUT_UNITS, .bytes_max = WHOLE_UNITS}
#define WITH_ID(type, min, max) {.name = (type), .id_min = (min), .id_max = (max)}
#define HELLO(type)      {.name = (type), .len_min = FL_WIRE_HELLO_BYTES, .len_max = FL_WIRE_HELLO_BYTES}
#define BITMAP(type)     {.name = (type), .about = ABOUT_NUMBER, .len_min = 1, .len_max = FL_WIRE_CONTROL_MAX}

static const struct rule rules[FL_FRAME_TYPES] = {
	[FL_FRAME_HELLO] = HELLO("HELLO"),
	[FL_FRAME_WELCOME] = HELLO("WELCOME"),
	[FL_FRAME_MACHINE] = {.name = "MACHINE", .about = ABOUT_PIECE,
			      .len_min = 1, .len_max = FL_WIRE_CONTROL_MAX,
			      .bytes_min = FL_WIRE_REGION_BYTES, .bytes_max = FL_WIRE_BLOB_MAX,
			      .id_min = 1, .id_max = FL_REGIONS_MAX},
	[FL_FRAME_PREPARED] = BARE("PREPARED"),
	[FL_FRAME_PAGES] = {.name = "PAGES", .about = ABOUT_UNITS,
			    .len_min = SUM_BYTES + 1, .len_max = FL_WIRE_PAGES_MAX,
			    .bytes_max = FL_WIRE_PAGE_MAX,
			    .flags = FL_FRAME_ZSTD | FL_FRAME_LZ4},
	[FL_FRAME_ZERO] = ANSWER("ZERO"),
	[FL_FRAME_CLEAN] = ANSWER("CLEAN"),
	[FL_FRAME_RANGE] = ANSWER("RANGE"),
	[FL_FRAME_ROUND] = WITH_ID("ROUND", 1, ALL_FRAME_IDS),
	[FL_FRAME_ROUND_ACK] = WITH_ID("ROUND_ACK", 1, ALL_FRAME_IDS),
	[FL_FRAME_STATE] = {.name = "STATE", .about = ABOUT_PIECE,
			    .len_max = FL_WIRE_CONTROL_MAX, .bytes_max = FL_WIRE_BLOB_MAX},
	[FL_FRAME_READY] = BARE("READY"),
	[FL_FRAME_GO] = BARE("GO"),
	[FL_FRAME_RUNNING] = BARE("RUNNING"),
	[FL_FRAME_DUE] = BITMAP("DUE"),
	[FL_FRAME_DUE_END] = {.name = "DUE_END", .about = ABOUT_NUMBER},
	[FL_FRAME_REQUEST] = {.name = "REQUEST", .about = ABOUT_UNITS,
			      .bytes_max = FL_WIRE_REQUEST_MAX},
	[FL_FRAME_RECEIVED] = BITMAP("RECEIVED"),
	[FL_FRAME_RECEIVED_END] = {.name = "RECEIVED_END", .about = ABOUT_NUMBER, .id_max = 1},
	[FL_FRAME_COMPLETE] = {.name = "COMPLETE", .len_max = FL_WIRE_WAITS_BYTES},
	[FL_FRAME_BYE] = BARE("BYE"),
	[FL_FRAME_PING] = WITH_ID("PING", 0, ALL_FRAME_IDS),
	[FL_FRAME_PONG] = WITH_ID("PONG", 0, ALL_FRAME_IDS),
	[FL_FRAME_CANCEL] = BARE("CANCEL"),
	[FL_FRAME_ERROR] = {.name = "ERROR", .len_max = FL_WIRE_CONTROL_MAX,
			    .id_min = 1, .id_max = ERRNO_MAX},
	[FL_FRAME_WAY] = {.name = "WAY", .len_min = 1, .len_max = FL_WIRE_CONTROL_MAX,
			  .id_min = 1, .id_max = FL_WIRE_WAYS},
	[FL_FRAME_TORN] = BITMAP("TORN"),
};
/* clang-format on */

const char *fl_frame_name(uint8_t type)
{
	return type < FL_FRAME_TYPES ? rules[type].name : NULL;
}

static int check_between(const struct rule *rule, const char *field, uint64_t value, uint64_t min,
			 uint64_t max, struct fl_error *err)
{
	if (value >= min && value <= max)
		return 0;
	if (min == max)
		return fl_error_set(err, -EBADMSG, "%s: %s is %" PRIu64 ", must be %" PRIu64,
				    rule->name, field, value, min);
	return fl_error_set(err, -EBADMSG, "%s: %s is %" PRIu64 ", must be %" PRIu64 " to %" PRIu64,
			    rule->name, field, value, min, max);
}

static int check_multiple(const struct rule *rule, const char *field, uint64_t value, uint32_t of,
			  struct fl_error *err)
{
	if (value % of == 0)
		return 0;
	return fl_error_set(err, -EBADMSG, "%s: %s is %" PRIu64 ", must be a multiple of %u",
			    rule->name, field, value, of);
}

static int check_flags(const struct rule *rule, uint8_t flags, struct fl_error *err)
{
	if (flags & ~rule->flags)
		return fl_error_set(err, -EBADMSG, "%s: flags are 0x%x, can be 0x%x at most",
				    rule->name, flags, rule->flags);
	if (flags & (flags - 1))
		return fl_error_set(err, -EBADMSG, "%s: flags are 0x%x, must be one of them",
				    rule->name, flags);
	return 0;
}

static int check_units(const struct rule *rule, const struct fl_frame *frame, struct fl_error *err)
{
	int rc = check_multiple(rule, "offset", frame->offset, FL_WIRE_UNIT, err);

	if (!rc)
		rc = check_multiple(rule, "bytes", frame->bytes, FL_WIRE_UNIT, err);
	if (!rc)
		rc = check_between(rule, "bytes", frame->bytes, FL_WIRE_UNIT, rule->bytes_max, err);
	if (!rc && frame->offset > UINT64_MAX - frame->bytes)
		rc = fl_error_set(err, -EBADMSG,
				  "%s: offset is %" PRIu64 ", with bytes %u it must not wrap",
				  rule->name, frame->offset, frame->bytes);
	return rc;
}

static int check_piece(const struct rule *rule, const struct fl_frame *frame, struct fl_error *err)
{
	uint64_t min = frame->id * (uint64_t)FL_WIRE_REGION_BYTES;
	int rc = check_between(rule, "bytes", frame->bytes, min, rule->bytes_max, err);

	if (!rc && frame->len == 0 && frame->bytes > 0)
		rc = check_between(rule, "len", frame->len, 1, rule->len_max, err);
	if (!rc)
		rc = check_between(rule, "len", frame->len, 0, frame->bytes, err);
	if (!rc)
		rc = check_between(rule, "offset", frame->offset, 0, frame->bytes - frame->len,
				   err);
	return rc;
}

static int check_about(const struct rule *rule, const struct fl_frame *frame, struct fl_error *err)
{
	int rc;

	switch (rule->about) {
	case ABOUT_UNITS:
		return check_units(rule, frame, err);
	case ABOUT_PIECE:
		return check_piece(rule, frame, err);
	case ABOUT_NUMBER:
		rc = check_between(rule, "offset", frame->offset, 0,
				   PAGE_NR_MAX - 8 * (uint64_t)frame->len, err);
		break;
	case ABOUT_NOTHING:
	default:
		rc = check_between(rule, "offset", frame->offset, 0, 0, err);
	}
	return rc ? rc : check_between(rule, "bytes", frame->bytes, 0, 0, err);
}

/* More than FL_WIRE_PAGES_BYTES can only be one large page. Compressed contents that did not shrink
 * would have been sent as they are. */
static int check_pages(const struct rule *rule, const struct fl_frame *frame, struct fl_error *err)
{
	uint32_t sums = fl_frame_summed(frame);
	uint32_t whole = sums + frame->bytes;

	if (frame->bytes > FL_WIRE_PAGES_BYTES && frame->bytes != FL_WIRE_PAGE_MAX)
		return fl_error_set(
			err, -EBADMSG, "%s: bytes is %u, must be at most %u or one page of %u",
			rule->name, frame->bytes, FL_WIRE_PAGES_BYTES, FL_WIRE_PAGE_MAX);
	if (frame->bytes == FL_WIRE_PAGE_MAX && frame->offset % FL_WIRE_PAGE_MAX)
		return check_multiple(rule, "offset", frame->offset, FL_WIRE_PAGE_MAX, err);
	if (frame->flags)
		return check_between(rule, "len", frame->len, sums + 1, whole - 1, err);
	return check_between(rule, "len", frame->len, whole, whole, err);
}

int fl_frame_check(const struct fl_frame *frame, struct fl_error *err)
{
	const struct rule *rule = &rules[frame->type < FL_FRAME_TYPES ? frame->type : 0];
	int rc;

	if (!rule->name)
		return fl_error_set(err, -EBADMSG, "type %u: there is no such frame", frame->type);
	rc = check_flags(rule, frame->flags, err);
	if (!rc)
		rc = check_between(rule, "len", frame->len, rule->len_min, rule->len_max, err);
	if (!rc)
		rc = check_between(rule, "id", frame->id, rule->id_min, rule->id_max, err);
	if (!rc)
		rc = check_about(rule, frame, err);
	if (!rc && frame->type == FL_FRAME_PAGES)
		rc = check_pages(rule, frame, err);
	return rc;
}

uint32_t fl_frame_summed(const struct fl_frame *frame)
{
	return frame->type == FL_FRAME_PAGES ? frame->bytes / FL_WIRE_UNIT * SUM_BYTES : frame->len;
}

static uint64_t frame_sum(const uint8_t *head, const void *payload, uint32_t summed, uint64_t chain)
{
	XXH3_state_t state;

	XXH3_INITSTATE(&state);
	(void)XXH3_64bits_reset_withSeed(&state, chain);
	(void)XXH3_64bits_update(&state, head, SUMMED_HEAD);
	if (summed)
		(void)XXH3_64bits_update(&state, payload, summed);
	return XXH3_64bits_digest(&state);
}

uint64_t fl_frame_encode(uint8_t head[FL_WIRE_HEAD_BYTES], const struct fl_frame *frame,
			 const void *payload, uint32_t summed, uint64_t chain)
{
	uint64_t sum;

	fl_put16(head, FL_WIRE_MAGIC);
	head[2] = frame->type;
	head[3] = frame->flags;
	fl_put32(head + 4, frame->len);
	fl_put64(head + 8, frame->offset);
	fl_put32(head + 16, frame->bytes);
	fl_put32(head + 20, frame->id);
	sum = frame_sum(head, payload, summed, chain);
	fl_put64(head + SUMMED_HEAD, sum);
	return sum;
}

int fl_frame_decode(struct fl_frame *frame, const uint8_t head[FL_WIRE_HEAD_BYTES],
		    struct fl_error *err)
{
	if (fl_get16(head) != FL_WIRE_MAGIC)
		return fl_error_set(err, -EBADMSG, "no frame: magic is 0x%04x, must be 0x%04x",
				    fl_get16(head), FL_WIRE_MAGIC);
	*frame = (struct fl_frame){
		.type = head[2],
		.flags = head[3],
		.len = fl_get32(head + 4),
		.offset = fl_get64(head + 8),
		.bytes = fl_get32(head + 16),
		.id = fl_get32(head + 20),
	};
	return fl_frame_check(frame, err);
}

int fl_frame_verify(const uint8_t head[FL_WIRE_HEAD_BYTES], const void *payload, uint32_t summed,
		    uint64_t chain, uint64_t *sum, struct fl_error *err)
{
	uint64_t must = frame_sum(head, payload, summed, chain);
	uint64_t is = fl_get64(head + SUMMED_HEAD);
	const char *name = fl_frame_name(head[2]);

	if (is != must)
		return fl_error_set(err, -EBADMSG,
				    "%s: sum is %016" PRIx64 ", must be %016" PRIx64
				    ": frames were lost, repeated, reordered or changed",
				    name ? name : "frame", is, must);
	*sum = is;
	return 0;
}
