/* SPDX-License-Identifier: MIT */
/*
 * Contents. A step asks the owner where they go, receives there, and looks at the units that have
 * become whole. Between two steps the owner may change its mind: a unit is only reported as being
 * in its place when all its parts went there.
 */
#include "link/conn_parts.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "util/error.h"

#define STEP_MAX   (256u * 1024) /* what was received is still in the cache when it is summed */
#define PIECES_MAX 63            /* with what is read ahead, as many as a stream takes */

enum kind { KIND_RIGHT, KIND_WRONG, KIND_DROPPED };

/* Bytes that lie together: where, or NULL for nowhere. */
struct piece {
	uint8_t *at;
	uint32_t len;
};

struct plan {
	struct piece piece[PIECES_MAX];
	int count;
	uint32_t len;
};

/* Units of one kind, to be reported at once. */
struct run {
	enum kind kind;
	uint32_t pos, len;
};

static uint32_t min32(uint64_t one, uint64_t other)
{
	return (uint32_t)(one < other ? one : other);
}

/* Where do contents from a unit on go? An answer that is no whole units is made one. */
static struct piece ask(struct fl_conn *conn, uint32_t pos)
{
	const struct fl_frame *frame = &conn->in.frame;
	uint64_t len = frame->bytes - pos;
	uint8_t *at = conn->ops->place(conn->ctx, frame, frame->offset + pos, &len);

	len -= len % FL_WIRE_UNIT;
	return (struct piece){at, len ? min32(len, frame->bytes - pos) : FL_WIRE_UNIT};
}

static void plan_piece(struct plan *plan, struct piece piece, uint32_t most)
{
	piece.len = min32(piece.len, most - plan->len);
	/* As much as a step drops at a time is as much as there is scratch. */
	if (!piece.at)
		piece.len = min32(piece.len, CONN_SCRATCH);
	if (piece.len == 0 || plan->count == PIECES_MAX)
		return;
	plan->piece[plan->count++] = piece;
	plan->len += piece.len;
}

/* The unit that was begun, if it still goes where its first part went. Returns where to go on. */
static uint32_t plan_begun(struct fl_conn *conn, struct plan *plan, uint32_t most)
{
	struct conn_in *in = &conn->in;
	uint32_t had = in->got % FL_WIRE_UNIT;
	struct piece piece;

	if (had == 0)
		return in->got;
	piece = ask(conn, in->got - had);
	if (piece.at != in->begun || !piece.at) {
		in->begun = NULL;
		piece = (struct piece){NULL, FL_WIRE_UNIT};
	}
	piece.at = piece.at ? piece.at + had : NULL;
	piece.len -= had;
	plan_piece(plan, piece, most);
	return in->got + plan->len;
}

/* What is to be received next: @limit_bytes, and then to the end of a unit. */
static void plan_step(struct fl_conn *conn, struct plan *plan, uint64_t limit_bytes)
{
	uint32_t from = conn->in.got;
	uint32_t most = min32(limit_bytes, STEP_MAX);
	uint32_t pos, before;

	most += (FL_WIRE_UNIT - (from + most) % FL_WIRE_UNIT) % FL_WIRE_UNIT;
	most = min32(most, conn->in.frame.bytes - from);
	plan->count = 0;
	plan->len = 0;
	pos = plan_begun(conn, plan, most);
	do {
		before = plan->len;
		if (before < most)
			plan_piece(plan, ask(conn, pos), most);
		pos = from + plan->len;
	} while (plan->len != before && pos % FL_WIRE_UNIT == 0);
}

static int report(struct fl_conn *conn, struct run *run)
{
	const struct fl_conn_ops *ops = conn->ops;
	const struct fl_frame *frame = &conn->in.frame;
	uint64_t offset = frame->offset + run->pos;
	int rc = 0;

	if (run->len == 0)
		return 0;
	if (run->kind != KIND_DROPPED)
		rc = ops->pages(conn->ctx, frame, offset, run->len, run->kind == KIND_RIGHT);
	else if (ops->dropped)
		rc = ops->dropped(conn->ctx, frame, offset, run->len);
	if (rc < 0)
		return fl_error_set(&conn->error, rc, "PAGES: %s", strerror(-rc));
	return 0;
}

static int add_unit(struct fl_conn *conn, struct run *run, uint32_t pos, const uint8_t *unit)
{
	enum kind kind = KIND_DROPPED;
	int rc;

	if (unit)
		kind = fl_unit_sum(unit) == conn->in.sums[pos / FL_WIRE_UNIT] ? KIND_RIGHT
									      : KIND_WRONG;
	if (run->len > 0 && run->kind == kind) {
		run->len += FL_WIRE_UNIT;
		return 0;
	}
	rc = report(conn, run);
	*run = (struct run){kind, pos, FL_WIRE_UNIT};
	return rc;
}

/* Part of a piece has come: its units are looked at, the last may be left unfinished. */
static int settle_piece(struct fl_conn *conn, struct run *run, struct piece piece)
{
	struct conn_in *in = &conn->in;
	int rc = 0;

	while (piece.len > 0 && rc >= 0) {
		uint32_t had = in->got % FL_WIRE_UNIT;
		uint32_t part = min32(piece.len, FL_WIRE_UNIT - had);
		uint8_t *unit = piece.at ? piece.at - had : NULL;

		if (had + part == FL_WIRE_UNIT)
			rc = add_unit(conn, run, in->got - had, unit);
		else
			in->begun = unit;
		in->got += part;
		piece.len -= part;
		piece.at = piece.at ? piece.at + part : NULL;
	}
	return rc;
}

static int settle(struct fl_conn *conn, const struct plan *plan, uint32_t bytes)
{
	struct run run = {0};
	int rc = 0;

	for (int i = 0; i < plan->count && bytes > 0 && rc >= 0; i++) {
		struct piece piece = plan->piece[i];

		piece.len = min32(piece.len, bytes);
		bytes -= piece.len;
		rc = settle_piece(conn, &run, piece);
	}
	return rc < 0 ? rc : report(conn, &run);
}

static uint32_t take_ahead(struct conn_in *in, const struct iovec *iov, int count)
{
	uint32_t from = in->at;

	for (int i = 0; i < count && in->at < in->end; i++) {
		uint32_t part = min32(iov[i].iov_len, in->end - in->at);

		memcpy(iov[i].iov_base, in->buf + in->at, part);
		in->at += part;
	}
	return in->at - from;
}

/* From what was read ahead, if there is some, else from the stream, then with what comes after. */
static int64_t take_into(struct fl_conn *conn, struct iovec *iov, int count, uint32_t len,
			 bool is_last, bool *dry)
{
	struct conn_in *in = &conn->in;
	int64_t taken;

	if (in->at < in->end)
		return take_ahead(in, iov, count);
	in->at = in->end = 0;
	if (is_last)
		iov[count++] = (struct iovec){in->buf, CONN_AHEAD_PAGES};
	taken = fl_conn_take(conn, iov, count, dry);
	if (taken > len) {
		in->end = (uint32_t)(taken - len);
		return len;
	}
	return taken;
}

static int64_t take_plain(struct fl_conn *conn, uint64_t limit_bytes, bool *dry)
{
	struct conn_in *in = &conn->in;
	struct iovec iov[PIECES_MAX + 1];
	struct plan plan;
	int64_t taken;
	int rc;

	plan_step(conn, &plan, limit_bytes);
	for (int i = 0; i < plan.count; i++) {
		struct piece *piece = &plan.piece[i];

		iov[i] = (struct iovec){piece->at ? piece->at : in->scratch, piece->len};
	}
	taken = take_into(conn, iov, plan.count, plan.len, in->got + plan.len == in->want, dry);
	if (taken <= 0)
		return taken;
	rc = settle(conn, &plan, (uint32_t)taken);
	return rc < 0 ? rc : taken;
}

/* Straight into its place where that is in one piece, else by way of a buffer. */
static int expand(struct fl_conn *conn)
{
	struct conn_in *in = &conn->in;
	const struct fl_frame *frame = &in->frame;
	struct piece piece = ask(conn, 0);
	uint8_t *room = fl_expand_room(in->expand);
	bool direct = piece.len == frame->bytes;
	struct run run = {0};
	int rc = 0;

	in->got = 0;
	if (piece.at || !direct)
		rc = fl_expand(in->expand, frame->flags, in->want, direct ? piece.at : room,
			       frame->bytes, &conn->error);
	while (!rc && in->got < frame->bytes) {
		if (!direct)
			piece = ask(conn, in->got);
		if (!direct && piece.at)
			memcpy(piece.at, room + in->got, piece.len);
		rc = settle_piece(conn, &run, piece);
	}
	if (!rc)
		rc = report(conn, &run);
	in->got = in->want;
	return rc;
}

static int64_t take_block(struct fl_conn *conn, uint64_t limit_bytes, bool *dry)
{
	struct conn_in *in = &conn->in;
	uint32_t len = min32(in->want - in->got, limit_bytes > STEP_MAX ? STEP_MAX : limit_bytes);
	struct iovec iov[2] = {{fl_expand_block(in->expand) + in->got, len}};
	int64_t taken = take_into(conn, iov, 1, len, in->got + len == in->want, dry);
	int rc = 0;

	if (taken <= 0)
		return taken;
	in->got += (uint32_t)taken;
	if (in->got == in->want)
		rc = expand(conn);
	return rc < 0 ? rc : taken;
}

int64_t fl_conn_take_contents(struct fl_conn *conn, uint64_t limit_bytes, bool *dry)
{
	struct conn_in *in = &conn->in;
	int64_t taken = in->frame.flags ? take_block(conn, limit_bytes, dry)
					: take_plain(conn, limit_bytes, dry);

	if (taken > 0 && in->got == in->want) {
		in->want = 0;
		in->ahead = CONN_AHEAD_PAGES;
	}
	return taken;
}
