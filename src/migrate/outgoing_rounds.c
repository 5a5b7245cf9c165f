/* SPDX-License-Identifier: MIT */

/*
 * Pre-copy. One set says it all: out->left, the pages of which the incoming side has no right
 * contents. It begins with all; what is sent leaves it, what collect() tells of comes back. When
 * vCPUs stop, it is what is due.
 *
 * Contents may be written while they are sent. Their sums are made before, so the incoming side sees
 * that, or it does not matter: a page that was written after it was taken out of the set is told of by
 * the next collect(), because it was written after the last one. So torn pages are sent again, and none
 * has to be locked or copied here. The incoming side says which they were: one that was not written was
 * damaged on the way, and that is found before the switch.
 */

#include "migrate/outgoing.h"
#include "migrate/outgoing_policy.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <string.h>

/* How far zeros are looked for at a time, so that no turn takes long. */
#define ZEROS_BYTES FL_WIRE_PAGE_MAX
/* Zeros that are known without looking can go in long runs. */
#define KNOWN_ZEROS_BYTES (1u << 30)
/* Below this, time is mostly that of a round trip and says little of the rate. */
#define RATE_BYTES (1u << 20)
/* Small ones; large ones fill the connection before. */
#define FRAMES_A_TURN 16

/* --- one frame of contents --- */

static bool is_zero(const uint8_t *page, uint64_t page_size)
{
	for (uint64_t at = 0; at < page_size; at += FL_WIRE_UNIT)
		if (!fl_unit_is_zero(page + at))
			return false;
	return true;
}

/* How many of the next pages are all zeros, or else how many in a row are not. */
static uint64_t alike(const uint8_t *from, uint64_t page_size, uint64_t count, bool *zero)
{
	uint64_t limit = FL_WIRE_PAGES_BYTES / page_size, n = 1;

	*zero = is_zero(from, page_size);
	if (*zero)
		limit = ZEROS_BYTES / page_size;
	if (count > limit)
		count = limit;
	while (n < count && is_zero(from + n * page_size, page_size) == *zero)
		n++;
	return n;
}

static int send_zero(struct fl_outgoing *out, struct fl_side *side, uint64_t offset, uint64_t bytes,
		     uint64_t pages)
{
	struct fl_frame frame = {.type = FL_FRAME_ZERO, .offset = offset, .bytes = (uint32_t)bytes};
	int ret = fl_conn_send(side->conn, &frame, NULL, 0);

	if (!ret)
		fl_count(&out->figures.zero, pages);
	return ret;
}

/* What a frame took counts against the limit, as it travels. */
static int64_t sent(struct fl_outgoing *out, const struct fl_side *side, uint64_t pages,
		    uint64_t unsent, int ret)
{
	if (ret == -ENOBUFS || ret == -EBUSY)
		return 0;
	if (ret)
		return fl_conn_reason(side->conn, side->name, ret, &out->why);
	if (side == &out->main)
		fl_bucket_take(&out->bucket, fl_conn_unsent(side->conn) - unsent);
	return (int64_t)pages;
}

int64_t fl_outgoing_send(struct fl_outgoing *out, struct fl_side *side, uint64_t page,
			 uint64_t count)
{
	uint64_t unsent = fl_conn_unsent(side->conn), bytes;
	struct fl_place place;
	const uint8_t *from;
	bool zero;
	int ret;

	if (!fl_conn_can_send_pages(side->conn))
		return 0;
	(void)fl_layout_by_page(out->layout, page, &place);
	from = (const uint8_t *)(uintptr_t)place.addr;
	if (count > place.pages_left)
		count = place.pages_left;
	count = alike(from, place.region->page_size, count, &zero);
	bytes = count * place.region->page_size;
	if (zero)
		ret = send_zero(out, side, place.offset, bytes, count);
	else
		ret = fl_conn_send_pages(side->conn, place.offset, from, (uint32_t)bytes);
	return sent(out, side, count, unsent, ret);
}

/* Likewise, but what is not zeros is read by the other side itself. */
static int64_t name_range(struct fl_outgoing *out, uint64_t page, uint64_t count)
{
	struct fl_frame frame = {.type = FL_FRAME_RANGE};
	uint64_t unsent = fl_conn_unsent(out->main.conn), bytes;
	struct fl_place place;
	bool zero;
	int ret;

	(void)fl_layout_by_page(out->layout, page, &place);
	if (count > place.pages_left)
		count = place.pages_left;
	count = alike((const uint8_t *)(uintptr_t)place.addr, place.region->page_size, count,
		      &zero);
	bytes = count * place.region->page_size;
	frame.offset = place.offset;
	frame.bytes = (uint32_t)bytes;
	if (zero)
		ret = send_zero(out, &out->main, place.offset, bytes, count);
	else
		ret = fl_conn_send(out->main.conn, &frame, NULL, 0);
	if (!ret && !zero) {
		out->named_bytes += bytes;
		fl_bucket_take(&out->bucket, bytes);
	}
	return sent(out, &out->main, count, unsent, ret);
}

/* --- a round --- */

static void sent_in_round(struct fl_outgoing *out, uint64_t page, uint64_t count)
{
	(void)fl_pageset_del(out->left, page, count);
	fl_count(&out->figures.precopy, count);
	fl_count(&out->figures.round_left, -count);
}

/* One frame of a run of known zeros: pages sent, or 0, or a negative errno. */
static int64_t send_known(struct fl_outgoing *out, uint64_t page, uint64_t count)
{
	struct fl_place place;
	uint64_t limit;

	(void)fl_layout_by_page(out->layout, page, &place);
	limit = KNOWN_ZEROS_BYTES / place.region->page_size;
	if (count > place.pages_left)
		count = place.pages_left;
	if (count > limit)
		count = limit;
	return sent(
		out, &out->main, count, fl_conn_unsent(out->main.conn),
		send_zero(out, &out->main, place.offset, count * place.region->page_size, count));
}

/* When main takes more: 0 for now. While it is full it says itself when it is not. */
static uint64_t send_due(struct fl_outgoing *out)
{
	if (!fl_side_takes(&out->main))
		return UINT64_MAX;
	return fl_bucket_due(&out->bucket, fl_clock_ns());
}

static int64_t send_next(struct fl_outgoing *out, uint64_t page, uint64_t run, bool known)
{
	if (known)
		return send_known(out, page, run);
	return out->by_way ? name_range(out, page, run)
			   : fl_outgoing_send(out, &out->main, page, run);
}

/* As many frames as main takes at once, at most a few. */
static int send_some(struct fl_outgoing *out, const struct fl_pageset *set, uint64_t *page,
		     bool known)
{
	uint64_t run;
	int64_t done;
	int ret;

	for (int i = 0; i < FRAMES_A_TURN; i++) {
		run = send_due(out) ? 0 : fl_pageset_run(set, page);
		if (!run)
			return 0;
		done = send_next(out, *page, run, known);
		if (done <= 0)
			return (int)done;
		sent_in_round(out, *page, (uint64_t)done);
		*page += (uint64_t)done;
		ret = fl_outgoing_flush(out, &out->main, UINT64_MAX);
		if (ret)
			return ret;
	}
	return 0;
}

/* All pages of a set, which takes its course while they leave out->left. */
static int send_set(struct fl_outgoing *out, const struct fl_pageset *set, bool known)
{
	uint64_t page = 0;
	int ret = 0;

	while (!ret && fl_pageset_run(set, &page)) {
		ret = send_some(out, set, &page, known);
		if (!ret)
			ret = fl_outgoing_turn(out, send_due(out));
	}
	return ret;
}

uint64_t fl_outgoing_bytes(const struct fl_outgoing *out, const struct fl_pageset *set)
{
	uint64_t page = 0, run, bytes = 0;
	struct fl_place place;

	while ((run = fl_pageset_run(set, &page))) {
		(void)fl_layout_by_page(out->layout, page, &place);
		if (run > place.pages_left)
			run = place.pages_left;
		bytes += run * place.region->page_size;
		page += run;
	}
	return bytes;
}

static void begin_round(struct fl_outgoing *out, uint64_t pages)
{
	out->round++;
	out->came &= ~fl_frame_bit(FL_FRAME_ROUND_ACK);
	fl_figure(&out->figures.round, out->round);
	fl_figure(&out->figures.round_left, pages);
}

static int end_round(struct fl_outgoing *out)
{
	int ret;

	out->expected |= fl_frame_bit(FL_FRAME_ROUND_ACK) | fl_frame_bit(FL_FRAME_TORN);
	ret = fl_outgoing_say(out, FL_FRAME_ROUND, 0, out->round);
	return ret ? ret : fl_outgoing_await(out, FL_FRAME_ROUND_ACK);
}

int fl_outgoing_round(struct fl_outgoing *out)
{
	int ret;

	begin_round(out, fl_pageset_count(out->left));
	ret = send_set(out, out->left, false);
	return ret ? ret : end_round(out);
}

/* --- all rounds --- */

int fl_outgoing_track(struct fl_outgoing *out, bool on)
{
	int ret = out->calls.track(out->ctx, on);

	if (ret)
		return fl_error_set(&out->why, ret, "recording what is written: %s",
				    strerrordesc_np(-ret));
	out->tracking = on;
	return 0;
}

int fl_outgoing_check_torn(struct fl_outgoing *out)
{
	uint64_t page = 0;
	struct fl_place place;

	for (; fl_pageset_run(out->torn, &page); page++) {
		if (!fl_pageset_has(out->left, page)) {
			(void)fl_layout_by_page(out->layout, page, &place);
			return fl_error_set(&out->why, -EBADMSG,
					    "the page at offset 0x%llx arrived with a wrong "
					    "checksum, and was not written meanwhile",
					    (unsigned long long)place.offset);
		}
	}
	return fl_pageset_del(out->torn, 0, out->pages);
}

int fl_outgoing_collect(struct fl_outgoing *out)
{
	int ret = out->calls.collect(out->ctx, out->left);

	return ret ? fl_error_set(&out->why, ret, "collecting what was written: %s",
				  strerrordesc_np(-ret))
		   : fl_outgoing_check_torn(out);
}

/* The first round's zeros. They are asked for with recording on: what is written later is told of. */
static int send_zeros(struct fl_outgoing *out)
{
	int ret = 0;

	if (out->calls.holes)
		ret = out->calls.holes(out->ctx, out->zeros);
	if (ret)
		return fl_error_set(&out->why, ret, "finding holes: %s", strerrordesc_np(-ret));
	begin_round(out, out->options.mode == FL_MIGRATE_POSTCOPY ? fl_pageset_count(out->zeros)
								  : out->pages);
	return send_set(out, out->zeros, true);
}

static int first_round(struct fl_outgoing *out)
{
	int ret = send_zeros(out);

	if (!ret && out->options.mode != FL_MIGRATE_POSTCOPY)
		ret = send_set(out, out->left, false);
	return ret ? ret : end_round(out);
}

static uint64_t figure_of(const _Atomic uint64_t *figure)
{
	return atomic_load_explicit(figure, memory_order_relaxed);
}

static uint64_t moved_bytes(const struct fl_outgoing *out)
{
	return figure_of(&out->figures.bytes) + out->named_bytes;
}

/* What a round that began then has shown. */
static void measure(struct fl_outgoing *out, struct fl_progress *progress, uint64_t began_ns,
		    uint64_t bytes_before)
{
	uint64_t took_ns = fl_clock_ns() - began_ns;
	uint64_t bytes = moved_bytes(out) - bytes_before;

	/* What is sent is zeros, and what is written is not looked at. */
	if (progress->mode == FL_MIGRATE_POSTCOPY)
		return;
	if (bytes >= RATE_BYTES || !progress->rate)
		progress->rate = fl_in_a_second(bytes, took_ns);
	progress->took_ns = took_ns;
	progress->round = out->round;
	progress->left = fl_outgoing_bytes(out, out->left);
	fl_figure(&out->figures.rate, progress->rate);
	fl_figure(&out->figures.dirty_rate, fl_in_a_second(fl_pageset_count(out->left), took_ns));
}

static int one_round(struct fl_outgoing *out, struct fl_progress *progress)
{
	uint64_t began_ns = fl_clock_ns(), bytes = moved_bytes(out);
	int ret;

	progress->before = fl_outgoing_bytes(out, out->left);
	ret = out->round ? fl_outgoing_round(out) : first_round(out);
	/* What follows is only worth it when a round is: postcopy collects once, after stop(). */
	if (!ret && progress->mode != FL_MIGRATE_POSTCOPY)
		ret = fl_outgoing_collect(out);
	if (!ret)
		measure(out, progress, began_ns, bytes);
	return ret;
}

int fl_outgoing_rounds(struct fl_outgoing *out)
{
	struct fl_progress progress = {.mode = out->options.mode,
				       .max_downtime_ms = out->options.max_downtime_ms,
				       .max_rounds = out->options.max_rounds};
	enum fl_verdict verdict = FL_VERDICT_CONTINUE;
	int ret = fl_outgoing_track(out, true);

	fl_bucket_begin(&out->bucket, out->options.bandwidth, fl_clock_ns());
	while (!ret && verdict == FL_VERDICT_CONTINUE) {
		ret = one_round(out, &progress);
		if (!ret)
			verdict = fl_policy(&progress, &out->why);
	}
	return verdict == FL_VERDICT_FAIL ? out->why.code : ret;
}
