/* SPDX-License-Identifier: MIT */

/*
 * The exporting end. Theory of operation
 *
 * Every connection that named the token stands alone: REQUESTs come in by it, and are answered on
 * it, in their order and each from its first byte to its last, by PAGES and ZERO frames. (So the
 * importing end knows what an answer belongs to without a number.) Connections of channel demand
 * are served before others, and of the rest no more is given to the kernel at a time than a demand
 * may wait for.
 *
 * What a peer asks for is judged here: a request out of range, or one too many, ends its
 * connection with a sentence, and no other.
 */
#include "worker/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

/* Bytes not given to the kernel yet, from when on no more is prepared. */
#define AHEAD_BYTES (256u << 10)
/* What the others may send between two looks at demand. */
#define STEP_BYTES FL_WIRE_PAGES_BYTES
#define RECV_BYTES (64u << 10)

/* ---- what comes */

static int queue_request(struct fl_export_conn *c, const struct fl_frame *frame)
{
	if (c->tail - c->head == FL_WIRE_REQUESTS)
		return fl_error_set(&c->err, -EBADMSG, "more than %u requests at a time",
				    FL_WIRE_REQUESTS);
	if (!frame->bytes || (frame->offset | frame->bytes) % FL_WIRE_UNIT ||
	    !fl_memory_find(c->export->memory, frame->offset, frame->bytes))
		return fl_error_set(&c->err, -ERANGE,
				    "a request for %u bytes at offset 0x%" PRIx64
				    ", which are not all in one region",
				    frame->bytes, frame->offset);
	c->request[c->tail++ % FL_WIRE_REQUESTS] =
		(struct fl_export_request){frame->offset, frame->bytes};
	return 0;
}

static int on_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct fl_export_conn *c = ctx;
	struct fl_frame pong = {.type = FL_FRAME_PONG, .id = frame->id};
	const char *name = fl_frame_name(frame->type);

	(void)payload;
	switch (frame->type) {
	case FL_FRAME_REQUEST:
		return queue_request(c, frame);
	case FL_FRAME_PING:
		return fl_conn_send(c->conn, &pong, NULL, 0);
	default:
		return fl_error_set(&c->err, -EBADMSG,
				    "%s, which a worker that imports does not send",
				    name ? name : "a frame");
	}
}

static void *no_place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	(void)ctx, (void)frame, (void)offset, (void)len_bytes;
	return NULL;
}

static int no_pages(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		    bool right)
{
	struct fl_export_conn *c = ctx;

	(void)frame, (void)offset, (void)len_bytes, (void)right;
	return fl_error_set(&c->err, -EBADMSG, "PAGES, which a worker that imports does not send");
}

static const struct fl_conn_ops conn_ops = {
	.frame = on_frame, .place = no_place, .pages = no_pages};

/* ---- what goes */

/* How many bytes from here on are all zeros, or all not; whole units. */
static uint32_t run_of(const unsigned char *at, uint32_t max, bool zeros)
{
	uint32_t len = 0;

	while (len < max && fl_unit_is_zero(at + len) == zeros)
		len += FL_WIRE_UNIT;
	return len;
}

static int answer_part(struct fl_export_conn *c, struct fl_export_request *request)
{
	const struct fl_memory *memory = c->export->memory;
	const unsigned char *at = fl_memory_find(memory, request->offset, request->left);
	bool zeros = fl_unit_is_zero(at);
	uint32_t max = zeros || request->left < FL_WIRE_PAGES_BYTES ? request->left
								    : FL_WIRE_PAGES_BYTES;
	uint32_t len = run_of(at, max, zeros);
	struct fl_frame zero = {.type = FL_FRAME_ZERO, .offset = request->offset, .bytes = len};
	int rc;

	/* It was written between the two looks. */
	if (!len) {
		zeros = false;
		len = FL_WIRE_UNIT;
	}
	rc = zeros ? fl_conn_send(c->conn, &zero, NULL, 0)
		   : fl_conn_send_pages(c->conn, request->offset, at, len);
	/* What was looked at may have been the zeros of fl_memory_guard(). */
	if (memory->broken)
		return fl_error_set(&c->err, -EFAULT, "the memory that was exported was cut");
	if (!rc) {
		request->offset += len;
		request->left -= len;
	}
	return rc;
}

static int answer(struct fl_export_conn *c)
{
	int rc = 0;

	if (c->export->memory->broken)
		return fl_error_set(&c->err, -EFAULT, "the memory that was exported was cut");
	while (!rc && c->head != c->tail && fl_conn_can_send_pages(c->conn) &&
	       fl_conn_unsent(c->conn) < AHEAD_BYTES) {
		struct fl_export_request *request = &c->request[c->head % FL_WIRE_REQUESTS];

		rc = answer_part(c, request);
		if (!rc && !request->left)
			c->head++;
	}
	return rc;
}

/* ---- connections */

static void end_conn(struct fl_export *export, size_t index, int rc)
{
	struct fl_export_conn *c = export->conn[index];
	const struct fl_error *err = c->err.code ? &c->err : fl_conn_error(c->conn);

	if (rc == -ECONNRESET && !c->err.code)
		fl_log(&export->log, FL_LOG_DEBUG, "an importing worker has gone");
	else
		fl_log(&export->log, FL_LOG_WARNING, "a connection of an importing worker: %s",
		       err->code ? err->text : strerror(-rc));
	/* Not even an error: with it would go what was made of memory that is not the VMM's. */
	if (c->err.code && !export->memory->broken)
		fl_conn_send_error(c->conn, &c->err);
	fl_conn_free(c->conn);
	free(c);
	export->conn[index] = export->conn[--export->count];
}

static int send_regions(struct fl_export_conn *c)
{
	uint8_t bytes[FL_WORKER_REGIONS_MAX * FL_WIRE_REGION_BYTES];
	struct fl_region regions[FL_WORKER_REGIONS_MAX];
	const struct fl_memory *memory = c->export->memory;
	uint32_t len = (uint32_t)(memory->count * FL_WIRE_REGION_BYTES);
	struct fl_frame frame = {
		.type = FL_FRAME_MACHINE, .bytes = len, .id = (uint32_t)memory->count};

	for (size_t i = 0; i < memory->count; i++)
		regions[i] = (struct fl_region){.gpa = FL_NOWHERE,
						.offset = memory->piece[i].offset,
						.addr = FL_NOWHERE,
						.len_bytes = memory->piece[i].len_bytes,
						.page_size = FL_WIRE_UNIT};
	fl_regions_encode(bytes, regions, memory->count);
	return fl_conn_send(c->conn, &frame, bytes, len);
}

void fl_export_admit(struct fl_export *export, struct fl_stream *stream, enum fl_channel channel)
{
	struct fl_export_conn *c = NULL;
	int rc = -EBUSY;

	if (export->count < FL_EXPORT_CONNS) {
		c = calloc(1, sizeof(*c));
		rc = c ? fl_conn_new(&c->conn, stream, &conn_ops, c) : -ENOMEM;
	}
	if (rc) {
		fl_log(&export->log, FL_LOG_WARNING, "an importing worker was not admitted: %s",
		       strerror(-rc));
		free(c);
		fl_stream_close(stream);
		return;
	}
	c->export = export;
	c->channel = channel;
	c->admitted_ns = fl_clock_ns();
	export->conn[export->count++] = c;
	rc = channel == FL_CHANNEL_MAIN ? send_regions(c) : 0;
	if (rc)
		end_conn(export, export->count - 1, rc);
}

/* 1 it did something, 0 not, negative errno it has ended. */
static int serve(struct fl_export_conn *c)
{
	bool demand = c->channel == FL_CHANNEL_DEMAND;
	struct fl_conn_stats before, after;
	int rc;

	fl_conn_stats(c->conn, &before);
	rc = fl_conn_recv(c->conn, RECV_BYTES);
	if (rc >= 0)
		rc = answer(c);
	if (rc >= 0)
		rc = fl_conn_flush(c->conn, demand ? UINT64_MAX : STEP_BYTES);
	fl_conn_stats(c->conn, &after);
	return rc < 0 ? rc
		      : before.sent_bytes != after.sent_bytes ||
				before.received_bytes != after.received_bytes;
}

static bool step(struct fl_export *export, enum fl_channel channel)
{
	bool did = false;

	for (size_t i = export->count; i-- > 0;) {
		int rc;

		if (export->conn[i]->channel != channel)
			continue;
		rc = serve(export->conn[i]);
		if (rc < 0)
			end_conn(export, i, rc);
		did |= rc != 0;
	}
	return did;
}

bool fl_export_step(struct fl_export *export)
{
	bool did = step(export, FL_CHANNEL_DEMAND);

	return step(export, FL_CHANNEL_MAIN) || did;
}

void fl_export_tick(struct fl_export *export, uint64_t now_ns)
{
	for (size_t i = export->count; i-- > 0;) {
		struct fl_export_conn *c = export->conn[i];
		struct fl_conn_stats stats;

		fl_conn_stats(c->conn, &stats);
		if (stats.last_received_ns < c->admitted_ns)
			stats.last_received_ns = c->admitted_ns;
		if (now_ns <= stats.last_received_ns + export->timeout_ms * FL_NS_PER_MS)
			continue;
		(void)fl_error_set(&c->err, -ETIMEDOUT, "silent for %u ms", export->timeout_ms);
		end_conn(export, i, -ETIMEDOUT);
	}
}

size_t fl_export_poll(const struct fl_export *export, struct pollfd *pollers, bool *pending)
{
	for (size_t i = 0; i < export->count; i++) {
		pollers[i] = (struct pollfd){.fd = fl_conn_fd(export->conn[i]->conn),
					     .events = fl_conn_events(export->conn[i]->conn)};
		*pending |= fl_conn_pending(export->conn[i]->conn);
	}
	return export->count;
}

void fl_export_end(struct fl_export *export)
{
	while (export->count)
		end_conn(export, export->count - 1, -ECONNRESET);
}
