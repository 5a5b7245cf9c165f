/* SPDX-License-Identifier: MIT */

/*
 * The importing end. Theory of operation
 *
 * Copies that someone waits for go to the connection for demand, others to main, where no more is
 * asked for at a time than the window. The exporting end answers each connection in the order of
 * its requests (export.c), so the answer to the oldest copy of a channel is the only one that may
 * come; anything else is an error of the link. Contents are received where the copy wants them.
 *
 * Nothing is written for a copy after it has ended: it ends when its last byte has come and was
 * checked, or when the link is lost, and then only after the connections are gone.
 */
#include "worker/import.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "link/meet.h"
#include "link/stream.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#define FILL_WINDOW (1u << 20)
#define RECV_BYTES  (512u << 10)
#define PING_NS     FL_NS_PER_S

/* ---- what comes */

static bool is_idle(const struct fl_import_channel *channel)
{
	return channel->head == channel->tail;
}

static struct fl_import_copy *oldest(struct fl_import_channel *channel)
{
	return &channel->copy[channel->head % FL_WIRE_REQUESTS];
}

static void complete(struct fl_import *import, uint32_t index, int result)
{
	/* What was written then went to memory that nobody sees. */
	if (!result && import->memory->broken)
		result = -EFAULT;
	fl_ring_end_complete(import->ring, index, result);
}

/* The next bytes of the oldest copy have come. */
static void advance(struct fl_import_channel *channel, uint32_t bytes)
{
	struct fl_import_copy *copy = oldest(channel);

	copy->done += bytes;
	channel->under_way -= bytes;
	if (copy->done < copy->asked.len_bytes)
		return;
	complete(channel->import, copy->index, copy->result);
	channel->head++;
}

/* Where the answer goes, or NULL when it answers nothing. */
static void *place_of(struct fl_import_channel *channel, uint64_t offset, uint64_t *len_bytes)
{
	const struct fl_import_copy *copy = oldest(channel);
	uint64_t at = offset - copy->asked.remote_offset;

	if (is_idle(channel) || offset < copy->asked.remote_offset || at < copy->done ||
	    at >= copy->asked.len_bytes)
		return NULL;
	if (*len_bytes > copy->asked.len_bytes - at)
		*len_bytes = copy->asked.len_bytes - at;
	return fl_memory_find(channel->import->memory, copy->asked.local_offset + at, *len_bytes);
}

static int not_asked(struct fl_import_channel *channel, const struct fl_frame *frame)
{
	return fl_error_set(&channel->import->err, -EBADMSG,
			    "%s for %u bytes at offset 0x%" PRIx64 ", which is not their turn",
			    fl_frame_name(frame->type), frame->bytes, frame->offset);
}

static bool is_next(struct fl_import_channel *channel, uint64_t offset, uint64_t bytes)
{
	const struct fl_import_copy *copy = oldest(channel);

	return !is_idle(channel) && offset == copy->asked.remote_offset + copy->done &&
	       bytes <= copy->asked.len_bytes - copy->done;
}

static void *on_place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	(void)frame;
	return place_of(ctx, offset, len_bytes);
}

static int on_pages(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		    bool right)
{
	struct fl_import_channel *channel = ctx;

	if (!is_next(channel, offset, len_bytes))
		return not_asked(channel, frame);
	if (!right)
		oldest(channel)->result = -EBADMSG;
	advance(channel, (uint32_t)len_bytes);
	return 0;
}

static int on_dropped(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes)
{
	(void)offset, (void)len_bytes;
	return not_asked(ctx, frame);
}

static int on_zero(struct fl_import_channel *channel, const struct fl_frame *frame)
{
	uint64_t len = frame->bytes;
	void *at;

	if (!frame->bytes || !is_next(channel, frame->offset, frame->bytes))
		return not_asked(channel, frame);
	at = place_of(channel, frame->offset, &len);
	if (!at || len < frame->bytes)
		return not_asked(channel, frame);
	memset(at, 0, len);
	advance(channel, frame->bytes);
	return 0;
}

static int on_regions(struct fl_import_channel *channel, const struct fl_frame *frame,
		      const void *payload)
{
	struct fl_import *import = channel->import;
	int rc;

	if (import->remote_count || channel != &import->channel[FL_CHANNEL_MAIN] || frame->offset ||
	    frame->bytes != frame->len)
		return fl_error_set(&import->err, -EBADMSG, "MACHINE comes again, or in parts");
	rc = fl_regions_decode(import->remote, frame->id, payload, frame->len, &import->err);
	if (!rc)
		import->remote_count = frame->id;
	return rc;
}

static int on_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct fl_import_channel *channel = ctx;
	struct fl_frame pong = {.type = FL_FRAME_PONG, .id = frame->id};
	const char *name = fl_frame_name(frame->type);

	switch (frame->type) {
	case FL_FRAME_ZERO:
		return on_zero(channel, frame);
	case FL_FRAME_MACHINE:
		return on_regions(channel, frame, payload);
	case FL_FRAME_PING:
		return fl_conn_send(channel->conn, &pong, NULL, 0);
	case FL_FRAME_PONG:
		return 0;
	default:
		return fl_error_set(&channel->import->err, -EBADMSG,
				    "%s, which a worker that exports does not send",
				    name ? name : "a frame");
	}
}

static const struct fl_conn_ops conn_ops = {
	.frame = on_frame, .place = on_place, .pages = on_pages, .dropped = on_dropped};

/* ---- the link */

void fl_import_unlink(struct fl_import *import, int rc)
{
	for (int i = 0; i < 2; i++) {
		fl_conn_free(import->channel[i].conn);
		import->channel[i].conn = NULL;
	}
	import->lost = rc;
	import->remote_count = 0;
	for (int i = 0; i < 2; i++) {
		struct fl_import_channel *channel = &import->channel[i];

		for (; !is_idle(channel); channel->head++)
			complete(import, oldest(channel)->index, rc);
		channel->under_way = 0;
	}
}

/* A few names for all the ways in which a connection ends. */
static int lost_by(int rc)
{
	switch (rc) {
	case -ETIMEDOUT:
	case -EBADMSG:
	case -EFAULT:
		return rc;
	default:
		return -ECONNRESET;
	}
}

static const char *why(const struct fl_import *import, int channel, int rc)
{
	const struct fl_error *err = fl_conn_error(import->channel[channel].conn);

	if (import->err.code)
		return import->err.text;
	return err->code ? err->text : strerror(-rc);
}

/* A message that is wrong is no wrong page: copies end as with a link that is gone. */
static void lose(struct fl_import *import, int channel, int rc)
{
	fl_log(&import->log, FL_LOG_WARNING, "the link to the exporting worker is lost: %s",
	       why(import, channel, rc));
	if (import->err.code)
		fl_conn_send_error(import->channel[channel].conn, &import->err);
	fl_import_unlink(import, rc == -EBADMSG ? -ECONNRESET : lost_by(rc));
}

static int make_conns(struct fl_import *import, struct fl_pair *pair)
{
	struct fl_stream *stream[2] = {
		[FL_CHANNEL_MAIN] = pair->main, [FL_CHANNEL_DEMAND] = pair->demand};
	int rc = 0;

	for (int i = 0; i < 2; i++) {
		struct fl_import_channel *channel = &import->channel[i];

		channel->import = import;
		channel->head = channel->tail = 0;
		rc = rc ? rc : fl_conn_new(&channel->conn, stream[i], &conn_ops, channel);
		if (rc)
			fl_stream_close(stream[i]);
	}
	return rc;
}

/* The other side says first of all what there is. */
static int hear_regions(struct fl_import *import, int cancel_fd)
{
	struct fl_conn *conn = import->channel[FL_CHANNEL_MAIN].conn;
	uint64_t deadline_ns = fl_clock_ns() + import->timeout_ms * FL_NS_PER_MS;

	for (;;) {
		int rc = fl_conn_recv(conn, FL_WIRE_CONTROL_MAX);

		if (import->remote_count)
			return 0;
		if (rc < 0)
			return rc;
		/* Not even for one who has something else to say all the time. */
		if (fl_clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
		if (rc > 0)
			continue;
		rc = fl_socket_wait(fl_conn_fd(conn), fl_conn_events(conn), cancel_fd, deadline_ns);
		if (rc < 0)
			return rc;
	}
}

int fl_import_link(struct fl_import *import, const char *address, const uint8_t *token,
		   const struct fl_tls *tls, int cancel_fd, struct fl_error *err)
{
	struct fl_meet how = {.connect = address,
			      .listen_fd = -1,
			      .tls = tls,
			      .role = FL_ROLE_INCOMING,
			      .recover = true,
			      .features = FL_FEATURE_WORKER,
			      .timeout_ms = import->timeout_ms,
			      .cancel_fd = cancel_fd};
	struct fl_pair pair;
	int rc;

	memcpy(how.session, token, sizeof(how.session));
	rc = fl_meet(&how, &pair, &import->log, err);
	if (rc)
		return rc;
	import->err.code = 0;
	rc = make_conns(import, &pair);
	if (!rc)
		rc = hear_regions(import, cancel_fd);
	if (rc) {
		(void)fl_error_set(err, rc, "%s: %.200s", address,
				   import->channel[FL_CHANNEL_MAIN].conn
					   ? why(import, FL_CHANNEL_MAIN, rc)
					   : strerror(-rc));
		fl_import_unlink(import, -ENOTCONN);
		return rc;
	}
	import->lost = 0;
	import->linked_ns = fl_clock_ns();
	return 0;
}

/* ---- what is asked for */

static bool is_remote(const struct fl_import *import, uint64_t offset, uint64_t len_bytes)
{
	for (size_t i = 0; i < import->remote_count; i++) {
		const struct fl_region *region = &import->remote[i];

		if (offset >= region->offset && offset - region->offset < region->len_bytes)
			return len_bytes <= region->len_bytes - (offset - region->offset);
	}
	return false;
}

/* The VMM may have written anything. */
static int judge(const struct fl_import *import, const struct fl_ring_copy *copy)
{
	if ((copy->remote_offset | copy->local_offset | copy->len_bytes) % FL_WIRE_UNIT ||
	    !copy->len_bytes || copy->len_bytes > FL_WORKER_COPY_MAX ||
	    copy->flags & ~(FL_WORKER_FILL | FL_WORKER_TELL))
		return -EINVAL;
	if (import->memory->broken)
		return -EFAULT;
	if (import->lost)
		return import->lost;
	if (!is_remote(import, copy->remote_offset, copy->len_bytes) ||
	    !fl_memory_find(import->memory, copy->local_offset, copy->len_bytes))
		return -ERANGE;
	return 0;
}

static int request(struct fl_import_channel *channel, uint32_t index,
		   const struct fl_ring_copy *copy)
{
	struct fl_frame frame = {
		.type = FL_FRAME_REQUEST, .offset = copy->remote_offset, .bytes = copy->len_bytes};

	channel->copy[channel->tail++ % FL_WIRE_REQUESTS] =
		(struct fl_import_copy){.index = index, .asked = *copy};
	channel->under_way += copy->len_bytes;
	return fl_conn_send(channel->conn, &frame, NULL, 0);
}

static bool has_room(const struct fl_import_channel *channel)
{
	return channel->tail - channel->head < FL_WIRE_REQUESTS;
}

bool fl_import_takes_fill(const struct fl_import *import)
{
	const struct fl_import_channel *channel = &import->channel[FL_CHANNEL_MAIN];

	return has_room(channel) && channel->under_way < FILL_WINDOW;
}

/* One copy out of the ring: 1; 0 when there is none; negative errno: the link is lost. */
static int take(struct fl_import *import, enum fl_channel to)
{
	struct fl_ring_copy copy;
	int index = fl_ring_end_take(import->ring, to == FL_CHANNEL_MAIN, &copy);
	int rc;

	if (index < 0)
		return 0;
	rc = judge(import, &copy);
	if (rc) {
		complete(import, (uint32_t)index, rc);
		return 1;
	}
	rc = request(&import->channel[to], (uint32_t)index, &copy);
	return rc < 0 ? rc : 1;
}

/* No more than there are entries: a VMM that gives what is refused, again and again, would keep us from
 * all else. */
static int take_all(struct fl_import *import, enum fl_channel to, bool *did)
{
	uint32_t most = import->ring->entries;
	int rc = 0;

	while (most-- && (to == FL_CHANNEL_MAIN ? fl_import_takes_fill(import)
						: has_room(&import->channel[to]))) {
		rc = take(import, to);
		if (rc <= 0)
			break;
		*did = true;
	}
	return rc;
}

static int serve(struct fl_import *import, enum fl_channel which, bool look, bool *did)
{
	struct fl_import_channel *channel = &import->channel[which];
	struct fl_conn_stats before, after;
	int rc = take_all(import, which, did);

	if (rc < 0 || !channel->conn)
		return rc;
	if (fl_conn_unsent(channel->conn))
		rc = fl_conn_flush(channel->conn, UINT64_MAX);
	if (rc < 0)
		return rc;
	if (!channel->under_way && !look)
		return 0;
	fl_conn_stats(channel->conn, &before);
	rc = fl_conn_recv(channel->conn, RECV_BYTES);
	fl_conn_stats(channel->conn, &after);
	*did |= before.received_bytes != after.received_bytes;
	return rc;
}

bool fl_import_step(struct fl_import *import, bool look)
{
	bool did = false;
	int rc = serve(import, FL_CHANNEL_DEMAND, look, &did);

	if (rc < 0 && !import->lost) {
		lose(import, FL_CHANNEL_DEMAND, rc);
		return true;
	}
	rc = serve(import, FL_CHANNEL_MAIN, look, &did);
	if (rc < 0 && !import->lost) {
		lose(import, FL_CHANNEL_MAIN, rc);
		return true;
	}
	return did;
}

/* ---- liveness */

static int check_channel(struct fl_import *import, struct fl_import_channel *channel,
			 uint64_t now_ns)
{
	struct fl_frame ping = {.type = FL_FRAME_PING};
	struct fl_conn_stats stats;

	fl_conn_stats(channel->conn, &stats);
	if (stats.last_received_ns < import->linked_ns)
		stats.last_received_ns = import->linked_ns;
	if (now_ns > stats.last_received_ns + import->timeout_ms * FL_NS_PER_MS)
		return fl_error_set(&import->err, -ETIMEDOUT, "it is silent for %u ms",
				    import->timeout_ms);
	if (now_ns < stats.last_sent_ns + PING_NS)
		return 0;
	return fl_conn_send(channel->conn, &ping, NULL, 0);
}

void fl_import_tick(struct fl_import *import, uint64_t now_ns)
{
	for (int i = 0; i < 2 && !import->lost; i++) {
		int rc = check_channel(import, &import->channel[i], now_ns);

		if (rc < 0)
			lose(import, i, rc);
	}
}

size_t fl_import_poll(const struct fl_import *import, struct pollfd *pollers, bool *pending)
{
	size_t count = 0;

	for (int i = 0; i < 2 && import->channel[i].conn; i++) {
		pollers[count++] =
			(struct pollfd){.fd = fl_conn_fd(import->channel[i].conn),
					.events = fl_conn_events(import->channel[i].conn)};
		*pending |= fl_conn_pending(import->channel[i].conn);
	}
	return count;
}
