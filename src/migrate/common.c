/* SPDX-License-Identifier: MIT */
#include "link/bytes.h"
#include "link/stream.h"
#include "migrate/common.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

const char *fl_migrate_phase_name(enum fl_migrate_phase phase)
{
	static const char *const names[] = {
		[FL_MIGRATE_MEETING] = "meeting",     [FL_MIGRATE_ROUNDS] = "rounds",
		[FL_MIGRATE_SWITCHING] = "switching", [FL_MIGRATE_FOLLOWING] = "following",
		[FL_MIGRATE_LOST] = "lost",           [FL_MIGRATE_DONE] = "done",
		[FL_MIGRATE_CANCELED] = "canceled",   [FL_MIGRATE_FAILED] = "failed",
	};

	return (size_t)phase < sizeof(names) / sizeof(*names) ? names[phase] : "unknown";
}

static int blob_begin(struct fl_blob *blob, const struct fl_frame *frame, struct fl_error *err)
{
	if (frame->bytes > FL_WIRE_BLOB_MAX)
		return fl_error_set(err, -EBADMSG, "%s: %u bytes are more than may come",
				    fl_frame_name(frame->type), frame->bytes);
	if (frame->bytes) {
		blob->bytes = malloc(frame->bytes);
		if (!blob->bytes)
			return fl_error_set(err, -ENOMEM, "%s: no memory for %u bytes",
					    fl_frame_name(frame->type), frame->bytes);
	}
	blob->len = frame->bytes;
	blob->id = frame->id;
	blob->begun = true;
	return 0;
}

/* Every piece brings something, so that a peer cannot go on for ever. */
static bool follows(const struct fl_blob *blob, const struct fl_frame *frame)
{
	return frame->bytes == blob->len && frame->id == blob->id && frame->offset == blob->have &&
	       frame->len <= blob->len - blob->have && (frame->len || !blob->len);
}

int fl_blob_add(struct fl_blob *blob, const struct fl_frame *frame, const void *payload,
		struct fl_error *err)
{
	int ret;

	if (blob->begun && blob->have == blob->len)
		return fl_error_set(err, -EBADMSG, "%s: a piece after the whole",
				    fl_frame_name(frame->type));
	ret = blob->begun ? 0 : blob_begin(blob, frame, err);
	if (ret)
		return ret;
	if (!follows(blob, frame))
		return fl_error_set(err, -EBADMSG,
				    "%s: %u bytes at %llu of %u do not follow %llu of %llu",
				    fl_frame_name(frame->type), frame->len,
				    (unsigned long long)frame->offset, frame->bytes,
				    (unsigned long long)blob->have, (unsigned long long)blob->len);
	if (frame->len)
		memcpy(blob->bytes + blob->have, payload, frame->len);
	blob->have += frame->len;
	return blob->have == blob->len;
}

void fl_blob_free(struct fl_blob *blob)
{
	free(blob->bytes);
	*blob = (struct fl_blob){0};
}

int fl_blob_send(struct fl_conn *conn, uint8_t type, uint32_t id, const void *bytes, uint64_t len,
		 uint64_t *sent)
{
	struct fl_frame frame = {.type = type, .id = id, .bytes = (uint32_t)len};

	do {
		uint64_t left = len - *sent;
		uint32_t piece = left < FL_WIRE_CONTROL_MAX ? (uint32_t)left : FL_WIRE_CONTROL_MAX;
		const uint8_t *from = piece ? (const uint8_t *)bytes + *sent : NULL;
		int ret;

		frame.offset = *sent;
		ret = fl_conn_send(conn, &frame, from, piece);
		if (ret)
			return ret == -ENOBUFS ? 0 : ret;
		*sent += piece;
	} while (*sent < len);
	return 1;
}

static void set_bits(uint8_t *bits, uint64_t first, uint64_t end)
{
	for (; first < end && first % 8; first++)
		bits[first / 8] |= (uint8_t)(1u << first % 8);
	if (first < end) {
		memset(bits + first / 8, 0xff, (end - first) / 8);
		first += (end - first) / 8 * 8;
	}
	for (; first < end; first++)
		bits[first / 8] |= (uint8_t)(1u << first % 8);
}

/* A gap so wide that a new head is cheaper than its zeros. */
#define GAP_PAGES (FL_WIRE_HEAD_BYTES * 8u)

bool fl_bits_next(const struct fl_pageset *set, uint64_t *page, struct fl_frame *frame,
		  uint8_t payload[FL_BITS_BYTES])
{
	uint64_t run = fl_pageset_run(set, page);
	uint64_t start = *page, limit = start + FL_BITS_PAGES, end = start;

	if (!run)
		return false;
	memset(payload, 0, FL_BITS_BYTES);
	while (run && *page < limit && *page - end <= GAP_PAGES) {
		end = run < limit - *page ? *page + run : limit;
		set_bits(payload, *page - start, end - start);
		*page = end;
		run = fl_pageset_run(set, page);
	}
	frame->offset = start;
	frame->len = (uint32_t)((end - start + 7) / 8);
	*page = end;
	return true;
}

int fl_bits_add(struct fl_pageset *set, uint64_t pages, const struct fl_frame *frame,
		const void *payload, struct fl_error *err)
{
	const uint8_t *bits = payload;
	uint64_t count = (uint64_t)frame->len * 8, first = 0, end;

	while (first < count) {
		if (!(first % 8) && !bits[first / 8]) {
			first += 8;
			continue;
		}
		if (!(bits[first / 8] >> first % 8 & 1)) {
			first++;
			continue;
		}
		end = first + 1;
		while (end < count && (bits[end / 8] >> end % 8 & 1))
			end += !(end % 8) && bits[end / 8] == 0xff ? 8 : 1;
		if (frame->offset >= pages || end > pages - frame->offset)
			return fl_error_set(err, -EBADMSG, "%s: page %llu of %llu",
					    fl_frame_name(frame->type),
					    (unsigned long long)(frame->offset + end - 1),
					    (unsigned long long)pages);
		(void)fl_pageset_add(set, frame->offset + first, end - first);
		first = end;
	}
	return 0;
}

int fl_bits_end(const struct fl_pageset *set, const struct fl_frame *frame, struct fl_error *err)
{
	uint64_t count = fl_pageset_count(set);

	if (count != frame->offset)
		return fl_error_set(err, -EBADMSG, "%s: says %llu pages, %llu came",
				    fl_frame_name(frame->type), (unsigned long long)frame->offset,
				    (unsigned long long)count);
	return 0;
}

void fl_alive_begin(struct fl_alive *alive, uint32_t timeout_ms, uint64_t now_ns)
{
	*alive = (struct fl_alive){.timeout_ns = timeout_ms * FL_NS_PER_MS, .began_ns = now_ns};
	alive->ping_ns = alive->timeout_ns / 4 < FL_NS_PER_S ? alive->timeout_ns / 4 : FL_NS_PER_S;
}

bool fl_alive_frame(struct fl_alive *alive, struct fl_conn *conn, const struct fl_frame *frame)
{
	struct fl_frame pong = {.type = FL_FRAME_PONG, .id = frame->id};

	(void)alive;
	/* A queue that is full says as much as a PONG: it may be left out. */
	if (frame->type == FL_FRAME_PING)
		(void)fl_conn_send(conn, &pong, NULL, 0);
	return frame->type == FL_FRAME_PING || frame->type == FL_FRAME_PONG;
}

static uint64_t later(uint64_t one, uint64_t other)
{
	return one > other ? one : other;
}

static uint64_t sooner(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

/* Only what is to be sent and does not go counts, from when it was first seen not to. */
static bool is_stuck(struct fl_stuck *stuck, const struct fl_conn *conn, uint64_t now_ns,
		     uint64_t timeout_ns)
{
	struct fl_conn_stats stats;

	fl_conn_stats(conn, &stats);
	if (!fl_conn_unsent(conn)) {
		stuck->since_ns = 0;
		return false;
	}
	if (!stuck->since_ns || stats.sent_bytes != stuck->sent_bytes) {
		stuck->since_ns = now_ns;
		stuck->sent_bytes = stats.sent_bytes;
	}
	return now_ns - stuck->since_ns >= timeout_ns;
}

static void ping(struct fl_alive *alive, struct fl_conn *main, const struct fl_conn_stats *stats,
		 uint64_t now_ns)
{
	struct fl_frame frame = {.type = FL_FRAME_PING, .id = alive->id + 1};

	/* What waits to be sent says it too, when it goes. */
	if (fl_conn_unsent(main) ||
	    now_ns < later(stats->last_sent_ns, alive->began_ns) + alive->ping_ns)
		return;
	if (!fl_conn_send(main, &frame, NULL, 0))
		alive->id++;
}

int fl_alive_check(struct fl_alive *alive, struct fl_conn *main, const struct fl_conn *demand,
		   uint64_t now_ns, struct fl_error *err)
{
	unsigned long long timeout_ms = alive->timeout_ns / FL_NS_PER_MS;
	struct fl_conn_stats stats;

	fl_conn_stats(main, &stats);
	if (now_ns >= later(stats.last_received_ns, alive->began_ns) + alive->timeout_ns)
		return fl_error_set(err, -ETIMEDOUT, "main connection: nothing came for %llu ms",
				    timeout_ms);
	if (is_stuck(&alive->main, main, now_ns, alive->timeout_ns))
		return fl_error_set(err, -ETIMEDOUT, "main connection: took nothing for %llu ms",
				    timeout_ms);
	if (is_stuck(&alive->demand, demand, now_ns, alive->timeout_ns))
		return fl_error_set(err, -ETIMEDOUT, "demand connection: took nothing for %llu ms",
				    timeout_ms);
	ping(alive, main, &stats, now_ns);
	return 0;
}

uint64_t fl_alive_due(const struct fl_alive *alive, const struct fl_conn *main)
{
	struct fl_conn_stats stats;
	uint64_t due_ns;

	fl_conn_stats(main, &stats);
	due_ns = later(stats.last_received_ns, alive->began_ns) + alive->timeout_ns;
	if (!fl_conn_unsent(main))
		due_ns =
			sooner(due_ns, later(stats.last_sent_ns, alive->began_ns) + alive->ping_ns);
	if (alive->main.since_ns)
		due_ns = sooner(due_ns, alive->main.since_ns + alive->timeout_ns);
	if (alive->demand.since_ns)
		due_ns = sooner(due_ns, alive->demand.since_ns + alive->timeout_ns);
	return due_ns;
}

void fl_waits_encode(uint8_t payload[FL_WIRE_WAITS_BYTES], const struct fl_fault_stats *waits)
{
	fl_put64(payload, waits->count);
	fl_put64(payload + 8, waits->p50_ns);
	fl_put64(payload + 16, waits->p99_ns);
	fl_put64(payload + 24, waits->max_ns);
}

int fl_waits_decode(struct fl_fault_stats *waits, const struct fl_frame *frame, const void *payload,
		    struct fl_error *err)
{
	const uint8_t *bytes = payload;

	*waits = (struct fl_fault_stats){0};
	if (!frame->len)
		return 0;
	if (frame->len != FL_WIRE_WAITS_BYTES)
		return fl_error_set(err, -EBADMSG, "COMPLETE: len is %u, must be 0 or %u",
				    frame->len, FL_WIRE_WAITS_BYTES);
	*waits = (struct fl_fault_stats){fl_get64(bytes), fl_get64(bytes + 8), fl_get64(bytes + 16),
					 fl_get64(bytes + 24)};
	if (waits->count <= INT64_MAX && waits->p50_ns <= waits->p99_ns &&
	    waits->p99_ns <= waits->max_ns && waits->max_ns <= INT64_MAX)
		return 0;
	return fl_error_set(err, -EBADMSG, "COMPLETE: no demands take so long");
}

void fl_socket_drain(int fd, int cancel_fd, uint64_t end_ns)
{
	char bytes[16384];
	const struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	int64_t n = 1;

	(void)shutdown(fd, SHUT_WR);
	while (n > 0 && fl_clock_ns() < end_ns) {
		n = fl_socket_recv(fd, &iov, 1);
		if (n == -EAGAIN)
			n = !fl_socket_wait(fd, POLLIN, cancel_fd, end_ns);
	}
}

int fl_frame_unexpected(const struct fl_frame *frame, enum fl_migrate_phase phase,
			struct fl_error *err)
{
	return fl_error_set(err, -EBADMSG, "%s came in phase %s", fl_frame_name(frame->type),
			    fl_migrate_phase_name(phase));
}

int fl_conn_reason(const struct fl_conn *conn, const char *which, int code, struct fl_error *err)
{
	const struct fl_error *why = fl_conn_error(conn);

	if (why && why->code)
		return fl_error_set(err, code, "%s connection: %.200s", which, why->text);
	return fl_error_set(err, code, "%s connection: %s", which, strerrordesc_np(-code));
}

uint32_t fl_migrate_features(uint32_t flags)
{
	return FL_FEATURE_WAITS | (flags & FL_MIGRATE_ZSTD ? FL_FEATURE_ZSTD : 0) |
	       (flags & FL_MIGRATE_LZ4 ? FL_FEATURE_LZ4 : 0);
}

uint8_t fl_migrate_compression(uint32_t features)
{
	if (features & FL_FEATURE_LZ4)
		return FL_FRAME_LZ4;
	return features & FL_FEATURE_ZSTD ? FL_FRAME_ZSTD : 0;
}

uint32_t fl_migrate_way_features(uint32_t ways)
{
	return (ways & FL_MIGRATE_BY_FABRIC ? FL_FEATURE_FABRIC : 0) |
	       (ways & FL_MIGRATE_BY_WORKER ? FL_FEATURE_WORKER : 0);
}
