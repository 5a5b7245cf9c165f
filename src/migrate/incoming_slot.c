/* SPDX-License-Identifier: MIT */
#include "migrate/incoming_slot.h"
#include "util/clock.h"

#include <errno.h>

static bool covers(const struct fl_incoming_read *slot, uint64_t offset)
{
	return offset >= slot->read->offset && offset - slot->read->offset < slot->read->len_bytes;
}

struct fl_incoming_read *fl_slot_find(const struct fl_incoming *in, uint64_t offset, bool coming)
{
	struct fl_incoming_read *slot = in->source.reads;

	for (; slot; slot = slot->next)
		if (covers(slot, offset) &&
		    fl_slot_has(coming ? slot->coming : slot->asked, fl_slot_unit(slot, offset)))
			return slot;
	return NULL;
}

uint64_t fl_slot_run(const struct fl_incoming_read *slot, const uint64_t *bits, uint64_t offset,
		     uint64_t len_bytes)
{
	uint64_t end = slot->read->offset + slot->read->len_bytes, at = offset;

	if (len_bytes < end - offset)
		end = offset + len_bytes;
	while (at < end && fl_slot_has(bits, fl_slot_unit(slot, at)))
		at += FL_WIRE_UNIT;
	return at - offset;
}

void fl_slot_progress(struct fl_incoming *in)
{
	in->source.progress_ns = fl_clock_ns();
}

struct fl_incoming_read *fl_slot_owing(const struct fl_incoming *in)
{
	struct fl_incoming_read *slot = in->source.reads;

	while (slot && slot->by_way)
		slot = slot->next;
	return slot;
}

static void unlink_slot(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	struct fl_incoming_read **at = &in->source.reads;

	while (*at != slot)
		at = &(*at)->next;
	*at = slot->next;
	slot->next = in->source.free;
	in->source.free = slot;
}

void fl_slot_came(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t *bits,
		  uint64_t offset, uint64_t len_bytes)
{
	for (uint64_t at = offset; at < offset + len_bytes; at += FL_WIRE_UNIT) {
		fl_slot_drop(bits, fl_slot_unit(slot, at));
		if (fl_slot_has(slot->hurried, fl_slot_unit(slot, at))) {
			fl_slot_drop(slot->hurried, fl_slot_unit(slot, at));
			in->source.hurried--;
		}
	}
	slot->left -= len_bytes;
	if (bits != slot->way)
		fl_slot_progress(in);
}

void fl_slot_end(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	struct fl_read *read = slot->read;

	if (slot->left || slot->by_way)
		return;
	unlink_slot(in, slot);
	in->source.ended++;
	read->result = 0;
	read->done(read);
}

void fl_slot_fail(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	struct fl_read *read = slot->read;

	for (uint64_t unit = 0; unit < read->len_bytes / FL_WIRE_UNIT; unit++)
		in->source.hurried -= fl_slot_has(slot->hurried, unit);
	unlink_slot(in, slot);
	in->source.ended++;
	read->result = -ECONNRESET;
	read->done(read);
}

void fl_slot_deliver(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t *bits,
		     uint64_t offset, uint64_t len_bytes, bool placed)
{
	fl_slot_came(in, slot, bits, offset, len_bytes);
	if (placed && slot->read->arrived)
		slot->read->arrived(slot->read, offset, len_bytes);
	fl_slot_end(in, slot);
}

void *fl_slot_place(const struct fl_incoming_read *slot, uint64_t offset, uint64_t *len_bytes)
{
	struct fl_read *read = slot->read;

	return read->place ? read->place(read, offset, len_bytes)
			   : (char *)read->buf + (offset - read->offset);
}

/* Requests are for whole pages: of one that came in part, all of it is asked for again. */
static void recall_page(struct fl_incoming_read *slot, uint64_t first, uint64_t units)
{
	bool whole_came = true;

	for (uint64_t unit = first; unit < first + units; unit++)
		if (fl_slot_has(slot->asked, unit) || fl_slot_has(slot->coming, unit))
			whole_came = false;
	if (whole_came)
		return;
	for (uint64_t unit = first; unit < first + units; unit++) {
		if (!fl_slot_has(slot->asked, unit) && !fl_slot_has(slot->coming, unit))
			slot->left += FL_WIRE_UNIT; /* and comes a second time */
		fl_slot_drop(slot->coming, unit);
		fl_slot_put(slot->asked, unit);
	}
}

void fl_slot_recall(struct fl_incoming *in, struct fl_incoming_read *slot)
{
	uint64_t units;

	for (uint64_t unit = 0; unit < slot->read->len_bytes / FL_WIRE_UNIT; unit += units) {
		(void)fl_incoming_page(in, slot->read->offset + unit * FL_WIRE_UNIT);
		units = in->last_region->page_size / FL_WIRE_UNIT;
		recall_page(slot, unit, units);
	}
}

void fl_incoming_recall(struct fl_incoming *in)
{
	for (struct fl_incoming_read *slot = in->source.reads; slot; slot = slot->next)
		if (!slot->by_way)
			fl_slot_recall(in, slot);
}

uint64_t fl_incoming_answer_due(const struct fl_incoming *in)
{
	if (!in->main.conn || in->again != FL_AGAIN_NOTHING || !fl_slot_owing(in))
		return UINT64_MAX;
	return in->source.progress_ns + in->options.timeout_ms * FL_NS_PER_MS;
}

uint64_t fl_incoming_asked(const struct fl_incoming *in)
{
	return fl_slot_owing(in)->read->offset;
}
