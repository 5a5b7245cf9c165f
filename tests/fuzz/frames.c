/* SPDX-License-Identifier: MIT */
/*
 * A connection of the page link, and what a peer may send on it.
 *
 *	'r' STEP PLACE bytes...		the bytes as they are
 *	's' STEP PLACE frames...	frames, whose sums are put right here
 *
 * No amount of chance would find a sum. STEP says in what pieces bytes come, PLACE what the owner
 * answers when it is asked where contents go. Of a frame in form 's' there are the first 24 bytes of
 * the head, and then: of PAGES one byte, the first of those that its units are filled with; of
 * compressed ones the block; of all others the payload.
 */
#include <endian.h>
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "link/conn.h"

#define IMAGE_LEN  (2 * FL_WIRE_PAGE_MAX)
#define EMIT_MAX   (6u << 20)
#define HEAD_SHORT 24u /* without its sum */
#define SUM_WRONG  0x80u
#define PIECES_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The stream reads from bytes[at, end), and swallows what it is given. */
struct feed {
	struct fl_stream stream;
	uint8_t *bytes;
	size_t at, end;
	uint64_t random;
	uint8_t step;
	unsigned int calls;
	bool held; /* the last call gave nothing */
};

struct owner {
	struct fl_conn *conn;
	uint8_t *image;
	uint64_t random;
	uint8_t manner;
	uint64_t next; /* offset of the unit of a frame that is told of next */
	uint64_t left; /* of that frame, in bytes */
	void *answer[FL_WIRE_PAGE_MAX / FL_WIRE_UNIT]; /* of place(), for each unit of the frame */
};

static void must(bool holds)
{
	if (!holds)
		abort();
}

static uint32_t dice(uint64_t *random, uint32_t sides)
{
	*random = *random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*random >> 33) % sides;
}

static int64_t feed_recv(struct fl_stream *stream, const struct iovec *iov, int count)
{
	struct feed *feed = (struct feed *)stream;
	size_t most = feed->end - feed->at, moved = 0;

	must(count > 0 && count <= 64);
	feed->held = !feed->held && feed->step && dice(&feed->random, 4) == 0;
	if (feed->held)
		return -EAGAIN;
	if (feed->step && most > 1 && feed->calls++ < PIECES_MAX)
		most = 1 + dice(&feed->random, 1u << (feed->step % 18));
	for (int i = 0; i < count; i++) {
		size_t len = iov[i].iov_len;

		must(len > 0);
		/* All that is asked for must be there, whether or not it is filled. */
		((uint8_t *)iov[i].iov_base)[0] = 0xee;
		((uint8_t *)iov[i].iov_base)[len - 1] = 0xee;
		if (len > most - moved)
			len = most - moved;
		if (len > feed->end - feed->at)
			len = feed->end - feed->at;
		if (len)
			memcpy(iov[i].iov_base, feed->bytes + feed->at, len);
		feed->at += len;
		moved += len;
	}
	return (int64_t)moved;
}

static int64_t feed_send(struct fl_stream *stream, const struct iovec *iov, int count)
{
	int64_t sum = 0;

	(void)stream;
	for (int i = 0; i < count; i++)
		sum += (int64_t)iov[i].iov_len;
	return sum;
}

static int feed_fd(const struct fl_stream *stream)
{
	(void)stream;
	return -1;
}

static short feed_events(const struct fl_stream *stream)
{
	(void)stream;
	return 0;
}

static bool feed_pending(const struct fl_stream *stream)
{
	return ((const struct feed *)stream)->step & 0x80;
}

static void feed_close(struct fl_stream *stream)
{
	(void)stream;
}

static const struct fl_stream_ops feed_ops = {
	.size = sizeof(feed_ops),
	.version = FL_STREAM_OPS_VERSION,
	.name = "feed",
	.fd = feed_fd,
	.recv = feed_recv,
	.send = feed_send,
	.events = feed_events,
	.pending = feed_pending,
	.close = feed_close,
};

static void look_inside(const struct fl_frame *frame, const void *payload)
{
	struct fl_region regions[FL_REGIONS_MAX];
	struct fl_wire_hello hello;
	struct fl_error err = {0};

	if (frame->type == FL_FRAME_HELLO &&
	    fl_hello_decode(&hello, payload, frame->len, &err) == 0)
		must(hello.version_min > 0 && hello.version_min <= hello.version_max);
	if (frame->type == FL_FRAME_MACHINE &&
	    fl_regions_decode(regions, frame->id, payload, frame->len, &err) == 0)
		must(regions[0].len_bytes > 0 && regions[0].addr == FL_NOWHERE);
	must((err.code == 0) == (err.text[0] == '\0'));
}

/* What is right to receive is right to send. */
static int on_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct owner *owner = ctx;

	must(frame->type != FL_FRAME_PAGES && frame->type != FL_FRAME_ERROR);
	must(owner->left == 0);
	look_inside(frame, payload);
	must(fl_conn_send(owner->conn, frame, payload, frame->len) == 0);
	must(fl_conn_flush(owner->conn, UINT64_MAX) == 1);
	return owner->manner == 0xff && dice(&owner->random, 16) == 0 ? -EPROTO : 0;
}

static void *on_place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	struct owner *owner = ctx;
	uint64_t unit = (offset - frame->offset) / FL_WIRE_UNIT;
	uint64_t place = offset % FL_WIRE_PAGE_MAX / FL_WIRE_UNIT * FL_WIRE_UNIT;
	bool nowhere = owner->manner & 1 && dice(&owner->random, 3) == 0;

	must(offset >= frame->offset && offset % FL_WIRE_UNIT == 0);
	must(*len_bytes > 0 && *len_bytes <= frame->bytes - (offset - frame->offset));
	if (owner->manner & 2)
		*len_bytes = (1 + dice(&owner->random, (uint32_t)(*len_bytes / FL_WIRE_UNIT))) *
			     FL_WIRE_UNIT;
	if (owner->manner & 4 && dice(&owner->random, 8) == 0)
		place += FL_WIRE_PAGE_MAX / 2;
	for (uint64_t i = 0; i < *len_bytes / FL_WIRE_UNIT; i++)
		owner->answer[unit + i] = nowhere ? NULL : owner->image + place + i * FL_WIRE_UNIT;
	return nowhere ? NULL : owner->image + place;
}

static void told(struct owner *owner, const struct fl_frame *frame, uint64_t offset,
		 uint64_t len_bytes)
{
	must(len_bytes > 0 && len_bytes % FL_WIRE_UNIT == 0);
	if (owner->left == 0) {
		owner->next = frame->offset;
		owner->left = frame->bytes;
	}
	must(offset == owner->next && len_bytes <= owner->left);
	owner->next += len_bytes;
	owner->left -= len_bytes;
}

static int on_pages(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		    bool right)
{
	struct owner *owner = ctx;

	must(frame->type == FL_FRAME_PAGES);
	told(owner, frame, offset, len_bytes);
	for (uint64_t i = 0; i < len_bytes; i += FL_WIRE_UNIT) {
		const uint8_t *unit = owner->answer[(offset - frame->offset + i) / FL_WIRE_UNIT];

		/* Units are filled with one byte by every peer but those that send bytes or blocks.
		 */
		must(unit);
		if (right && owner->manner & 8 && !frame->flags)
			must(memcmp(unit, unit + 1, FL_WIRE_UNIT - 1) == 0);
	}
	return 0;
}

static int on_dropped(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes)
{
	told(ctx, frame, offset, len_bytes);
	return 0;
}

static const struct fl_conn_ops ops = {on_frame, on_place, on_pages, on_dropped};

static void emit(struct feed *feed, const void *bytes, size_t len)
{
	must(feed->end + len <= EMIT_MAX);
	if (len)
		memcpy(feed->bytes + feed->end, bytes, len);
	feed->end += len;
}

/* What the block expands to, as far as it does: the sums of that. */
static void sums_of_block(const struct fl_frame *frame, const uint8_t *block, size_t len,
			  uint64_t *sums)
{
	uint8_t *room = calloc(1, FL_WIRE_PAGE_MAX);

	must(room);
	if (frame->flags == FL_FRAME_LZ4)
		(void)LZ4_decompress_safe((const char *)block, (char *)room, (int)len,
					  (int)frame->bytes);
	else
		(void)ZSTD_decompress(room, frame->bytes, block, len);
	fl_unit_sums(sums, room, frame->bytes);
	free(room);
}

/* Bytes of the payload after the sums; how many of them the input has. */
static size_t contents_of(const struct fl_frame *frame, const uint8_t *data, size_t len,
			  uint64_t *sums, uint8_t *contents)
{
	uint32_t want = frame->len - fl_frame_summed(frame);
	size_t has = want < len ? want : len;

	if (frame->flags) {
		memcpy(contents, data, has);
		sums_of_block(frame, data, has, sums);
		return has;
	}
	for (uint32_t i = 0; i < frame->bytes / FL_WIRE_UNIT; i++) {
		memset(contents + i * FL_WIRE_UNIT, (int)(data[0] + i), FL_WIRE_UNIT);
		sums[i] = fl_unit_sum(contents + i * FL_WIRE_UNIT) +
			  (data[0] & SUM_WRONG && i % 3 == 1);
	}
	return frame->bytes;
}

/* Puts one frame on the wire. Returns how much of the input it took. */
static size_t emit_frame(struct feed *feed, const uint8_t *data, size_t len, uint64_t *chain)
{
	static uint64_t sums[FL_WIRE_PAGE_MAX / FL_WIRE_UNIT];
	static uint8_t contents[FL_WIRE_PAGES_MAX];
	uint8_t head[FL_WIRE_HEAD_BYTES] = {0};
	struct fl_frame frame;
	bool chained, good;
	size_t size;
	uint64_t sum;

	memcpy(head, data, HEAD_SHORT);
	head[0] = FL_WIRE_MAGIC & 0xff;
	head[1] = FL_WIRE_MAGIC >> 8;
	data += HEAD_SHORT;
	len -= HEAD_SHORT;
	good = fl_frame_decode(&frame, head, NULL) == 0;
	if (!good || feed->end + sizeof(head) + frame.len > EMIT_MAX) {
		emit(feed, head, good ? 0 : sizeof(head));
		return SIZE_MAX;
	}
	chained = frame.type != FL_FRAME_HELLO && frame.type != FL_FRAME_WELCOME;
	if (frame.type == FL_FRAME_PAGES) {
		if (len == 0)
			return SIZE_MAX;
		size = contents_of(&frame, data, len, sums, contents);
		for (uint32_t i = 0; i < frame.bytes / FL_WIRE_UNIT; i++)
			sums[i] = htole64(sums[i]);
		sum = fl_frame_encode(head, &frame, sums, fl_frame_summed(&frame), *chain);
		emit(feed, head, sizeof(head));
		emit(feed, sums, fl_frame_summed(&frame));
		emit(feed, contents, size);
		size = frame.flags ? size : 1;
	} else {
		size = frame.len < len ? frame.len : len;
		if (size < frame.len)
			return SIZE_MAX;
		sum = fl_frame_encode(head, &frame, data, frame.len, chained ? *chain : 0);
		emit(feed, head, sizeof(head));
		emit(feed, data, size);
	}
	if (chained)
		*chain = sum;
	return HEAD_SHORT + size;
}

static void emit_frames(struct feed *feed, const uint8_t *data, size_t len)
{
	uint64_t chain = 0;

	while (len >= HEAD_SHORT) {
		size_t took = emit_frame(feed, data, len, &chain);

		if (took > len)
			break;
		data += took;
		len -= took;
	}
}

/* Until the stream ends, as it must: every call takes something, or the stream held it back. */
static void receive(struct owner *owner, struct feed *feed)
{
	int rc;

	do {
		size_t before = feed->at;

		rc = fl_conn_recv(owner->conn, 1 + dice(&feed->random, 1u << 18));
		must(rc < 0 || feed->at > before || feed->held);
	} while (rc >= 0);
	must(fl_conn_error(owner->conn)->code == rc && fl_conn_error(owner->conn)->text[0]);
	for (const char *c = fl_conn_error(owner->conn)->text; *c; c++)
		must((unsigned char)*c >= ' ' && *c != 0x7f);
	must(fl_conn_recv(owner->conn, 1) == rc);
	if (rc == -ECONNRESET)
		must(feed->at == feed->end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct feed feed = {.stream = {&feed_ops}};
	struct owner owner = {0};

	if (len < 3 || len > EMIT_MAX)
		return 0;
	feed.step = data[1];
	feed.random = owner.random = (uint64_t)data[1] << 8 | data[2];
	owner.manner = data[2];
	feed.bytes = malloc(EMIT_MAX);
	owner.image = malloc(IMAGE_LEN);
	must(feed.bytes && owner.image);
	if (data[0] == 's') {
		emit_frames(&feed, data + 3, len - 3);
	} else {
		emit(&feed, data + 3, len - 3);
		owner.manner &= (uint8_t)~8u;
	}
	must(fl_conn_new(&owner.conn, &feed.stream, &ops, &owner) == 0);
	receive(&owner, &feed);
	fl_conn_free(owner.conn);
	free(feed.bytes);
	free(owner.image);
	return 0;
}
