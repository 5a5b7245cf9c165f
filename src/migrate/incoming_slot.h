/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_INCOMING_SLOT_H
#define FL_MIGRATE_INCOMING_SLOT_H

/*
 * Reads of the pager that are outstanding. Each has a slot, from submit() until all of its units have come.
 * A unit is in one of three sets, or has come: *asked* of the link; *coming*, part of a PAGES frame that has
 * begun; on its *way* by another way. The slots are the engine's. incoming_source.c makes them and asks,
 * incoming_answer.c takes what the link answers, and the book is kept here.
 */

#include "migrate/incoming.h"

#define FL_SLOT_WORDS (FL_WIRE_REQUEST_MAX / FL_WIRE_UNIT / 64)

struct fl_incoming_read {
	struct fl_read *read;
	struct fl_incoming_read *next;
	struct fl_incoming_way_read *by_way; /* that does all of it; NULL: it is the link's */
	uint64_t left;                       /* bytes that did not come */
	uint64_t asked[FL_SLOT_WORDS], coming[FL_SLOT_WORDS], hurried[FL_SLOT_WORDS],
		way[FL_SLOT_WORDS];
};

static inline uint64_t fl_slot_unit(const struct fl_incoming_read *slot, uint64_t offset)
{
	return (offset - slot->read->offset) / FL_WIRE_UNIT;
}

static inline bool fl_slot_has(const uint64_t *bits, uint64_t unit)
{
	return bits[unit / 64] >> unit % 64 & 1;
}

static inline void fl_slot_put(uint64_t *bits, uint64_t unit)
{
	bits[unit / 64] |= UINT64_C(1) << unit % 64;
}

static inline void fl_slot_drop(uint64_t *bits, uint64_t unit)
{
	bits[unit / 64] &= ~(UINT64_C(1) << unit % 64);
}

/* The read that waits for a unit, with that unit asked for or coming; NULL: none. */
struct fl_incoming_read *fl_slot_find(const struct fl_incoming *in, uint64_t offset, bool coming);
/* How far from a unit on the same holds, up to @len_bytes. */
uint64_t fl_slot_run(const struct fl_incoming_read *slot, const uint64_t *bits, uint64_t offset,
		     uint64_t len_bytes);
/* Where the contents go; NULL: nobody wants them any more. */
void *fl_slot_place(const struct fl_incoming_read *slot, uint64_t offset, uint64_t *len_bytes);
/* Units that lie together came, of those in @bits. The read is not ended by that: see fl_slot_end(). */
void fl_slot_came(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t *bits,
		  uint64_t offset, uint64_t len_bytes);
/* The same, in their place or nowhere; the pager is told, and the read ended with the last of them. */
void fl_slot_deliver(struct fl_incoming *in, struct fl_incoming_read *slot, uint64_t *bits,
		     uint64_t offset, uint64_t len_bytes, bool placed);
/* Ends the read, if all has come: the slot may be another one's then. */
void fl_slot_end(struct fl_incoming *in, struct fl_incoming_read *slot);
/* The read fails. What the pager then asks anew is one more, and ends at single pages. */
void fl_slot_fail(struct fl_incoming *in, struct fl_incoming_read *slot);
/* A read of which the link has something to answer, or NULL. */
struct fl_incoming_read *fl_slot_owing(const struct fl_incoming *in);
/* Something that was asked for came, or is asked for. */
void fl_slot_progress(struct fl_incoming *in);
/* Of what came in part, all is to be asked for again. */
void fl_slot_recall(struct fl_incoming *in, struct fl_incoming_read *slot);
/* incoming_answer.c: a page that is clean, or units of it, is given from the second mapping. */
int fl_slot_clean(struct fl_incoming *in, uint64_t page, uint64_t offset, uint64_t len_bytes);

#endif
