/* SPDX-License-Identifier: MIT */

/*
 * What the link answers. PAGES are received where the pager wants them, ZERO and CLEAN need no contents.
 * An answer for anything that was not asked for is an error: that each page travels once is what the
 * other side's own book depends on. The queue is reaped meanwhile: see incoming_source.c.
 */

#include "migrate/incoming_slot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* What the page cache has of these pages is about to be written over. */
static void spoil(struct fl_incoming *in, const struct fl_incoming_range *range)
{
	if (!in->adopted) {
		(void)fl_pageset_del(in->received, range->page, range->pages);
		(void)fl_pageset_del(in->zeros, range->page, range->pages);
	}
	(void)fl_pageset_add(in->torn, range->page, range->pages);
}

static int unasked(struct fl_incoming *in, const char *what, uint64_t offset)
{
	return fl_incoming_break(in, -EBADMSG, "%s: offset 0x%" PRIx64 " was not asked for", what,
				 offset);
}

int fl_incoming_answer_begin(struct fl_incoming_side *side, const struct fl_incoming_range *range)
{
	struct fl_incoming *in = side->in;
	uint64_t at, end = range->offset + range->len_bytes;
	struct fl_incoming_read *slot;

	for (at = range->offset; at < end; at += FL_WIRE_UNIT)
		if (!fl_slot_find(in, at, false))
			return unasked(in, "PAGES", at);
	for (at = range->offset; at < end; at += FL_WIRE_UNIT) {
		slot = fl_slot_find(in, at, false);
		fl_slot_drop(slot->asked, fl_slot_unit(slot, at));
		fl_slot_put(slot->coming, fl_slot_unit(slot, at));
	}
	spoil(in, range);
	return 0;
}

void *fl_incoming_answer_place(struct fl_incoming_side *side, uint64_t offset, uint64_t *len_bytes)
{
	struct fl_incoming_read *slot = fl_slot_find(side->in, offset, true);
	uint64_t end = side->frame_offset + side->frame_bytes;

	if (!slot)
		return NULL;
	if (*len_bytes > end - offset)
		*len_bytes = end - offset;
	if (*len_bytes > FL_INCOMING_SERVE_STEP) /* what comes in one step is had in one step */
		*len_bytes = FL_INCOMING_SERVE_STEP;
	*len_bytes = fl_slot_run(slot, slot->coming, offset, *len_bytes);
	return fl_slot_place(slot, offset, len_bytes);
}

/* All of the pages that end within these units are right: what spoil() said of them is over. */
static void unspoil(struct fl_incoming *in, struct fl_incoming_side *side, uint64_t offset,
		    uint64_t len_bytes)
{
	for (uint64_t at = offset; at < offset + len_bytes; at += FL_WIRE_UNIT) {
		uint64_t page = fl_incoming_page(in, at);
		uint64_t within = (at - in->last_region->offset) % in->last_region->page_size;

		if (!within)
			side->page = page;
		if (within + FL_WIRE_UNIT != in->last_region->page_size || side->page != page)
			continue;
		(void)fl_pageset_del(in->torn, page, 1);
		if (!in->adopted)
			(void)fl_pageset_add(in->received, page, 1);
	}
}

/* Units of PAGES, one run of each read after the other. */
static int settle(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes, bool placed)
{
	struct fl_incoming *in = side->in;

	while (len_bytes) {
		struct fl_incoming_read *slot = fl_slot_find(in, offset, true);
		uint64_t run;

		if (!slot)
			return unasked(in, "PAGES", offset);
		run = fl_slot_run(slot, slot->coming, offset, len_bytes);
		fl_slot_deliver(in, slot, slot->coming, offset, run, placed);
		offset += run;
		len_bytes -= run;
	}
	return 0;
}

int fl_incoming_answer_pages(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes,
			     bool right)
{
	if (!right)
		return fl_incoming_break(side->in, -EBADMSG,
					 "PAGES: wrong sum of the contents at offset 0x%" PRIx64,
					 offset);
	unspoil(side->in, side, offset, len_bytes);
	return settle(side, offset, len_bytes, true);
}

int fl_incoming_answer_dropped(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes)
{
	side->page = UINT64_MAX; /* the page that it belongs to is not right */
	return settle(side, offset, len_bytes, false);
}

/* Where a run goes, and how long it is, with the read that asked for it. */
static struct fl_incoming_read *answer_to(struct fl_incoming *in, uint64_t offset,
					  uint64_t *len_bytes, char **at)
{
	struct fl_incoming_read *slot = fl_slot_find(in, offset, false);

	if (!slot)
		return NULL;
	*len_bytes = fl_slot_run(slot, slot->asked, offset, *len_bytes);
	*at = fl_slot_place(slot, offset, len_bytes);
	*len_bytes -= *len_bytes % FL_WIRE_UNIT;
	if (!*at && !*len_bytes)
		*len_bytes = FL_WIRE_UNIT;
	return slot;
}

/* Zeros, up to as many bytes as that: they need no memory as long as nobody reads them. Returns how many
 * were given; 0: they were not asked for. */
static uint64_t give_zeros(struct fl_incoming *in, uint64_t offset, uint64_t run)
{
	struct fl_incoming_read *slot = fl_slot_find(in, offset, false);
	char *at;

	if (slot && slot->read->zeros) {
		run = fl_slot_run(slot, slot->asked, offset, run);
		fl_slot_came(in, slot, slot->asked, offset, run);
		slot->read->zeros(slot->read, offset, run);
		fl_slot_end(in, slot);
		return run;
	}
	slot = answer_to(in, offset, &run, &at);
	if (!slot)
		return 0;
	if (at)
		memset(at, 0, run);
	fl_slot_deliver(in, slot, slot->asked, offset, run, at != NULL);
	return run;
}

int fl_incoming_answer_zero(struct fl_incoming_side *side, const struct fl_incoming_range *range)
{
	struct fl_incoming *in = side->in;
	uint64_t offset = range->offset, end = offset + range->len_bytes, run;

	for (; offset < end; offset += run) {
		run = give_zeros(in, offset, end - offset);
		if (!run)
			return unasked(in, "ZERO", offset);
	}
	fl_incoming_count(&in->count.zero, range->pages);
	return 0;
}

/* Contents that are right already are given: they stand in the second mapping. */
static void give_clean(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t offset,
		       uint64_t run, char *at)
{
	const char *from = in->last_region->alias + (offset - in->last_region->offset);

	if (at && at != from)
		memcpy(at, from, run);
	fl_slot_deliver(in, slot, slot->asked, offset, run, at != NULL);
}

int fl_slot_clean(struct fl_incoming *in, uint64_t page, uint64_t offset, uint64_t len_bytes)
{
	uint64_t end = offset + len_bytes, run;
	struct fl_incoming_read *slot;
	char *at;

	for (; offset < end; offset += run) {
		if (fl_pageset_has(in->zeros, page)) {
			run = give_zeros(in, offset, end - offset);
			if (!run)
				return unasked(in, "CLEAN", offset);
			continue;
		}
		run = end - offset;
		slot = answer_to(in, offset, &run, &at);
		if (!slot)
			return unasked(in, "CLEAN", offset);
		give_clean(in, slot, offset, run, at);
	}
	return 0;
}

int fl_incoming_answer_clean(struct fl_incoming_side *side, const struct fl_incoming_range *range)
{
	struct fl_incoming *in = side->in;
	uint64_t page_size = range->region->page_size;
	int err = 0;

	for (uint64_t i = 0; !err && i < range->pages; i++) {
		uint64_t page = range->page + i, offset = range->offset + i * page_size;

		(void)fl_incoming_page(in, offset); /* the region that is looked at */
		if (!fl_slot_find(in, offset, false))
			return unasked(in, "CLEAN", offset);
		if (!fl_incoming_valid(in, page))
			return fl_incoming_break(in, -EBADMSG,
						 "CLEAN: what there is of offset 0x%" PRIx64
						 " is not right",
						 offset);
		err = fl_slot_clean(in, page, offset, page_size);
	}
	return err;
}
