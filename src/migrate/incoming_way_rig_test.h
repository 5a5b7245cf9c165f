/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_INCOMING_WAY_RIG_TEST_H
#define FL_MIGRATE_INCOMING_WAY_RIG_TEST_H

/*
 * A machine that arrives and reads by another way. The way is a source of the tests' own that reads what the
 * other side has, when the test lets it: it can hold reads, fail them, and be a device that writes late.
 */

#include "incoming_rig_test.h"

#define READS  1024
#define PIECE  (16u * 1024)
#define PLACES 256
#define NOPAGE (-1L)

struct place {
	struct fl_read *read;
	char *to;
	uint64_t offset, len;
};

struct fake {
	struct fl_source source;
	struct fl_source_ops ops;
	struct fl_queue queue;
	struct rig *rig;
	int fd;
	/* The engine's. */
	struct fl_read *reads[READS];
	unsigned int count;
	struct place places[PLACES]; /* that a device was given */
	unsigned int placed;
	/* Either's. */
	_Atomic bool hold;
	_Atomic int fail; /* all reads, with this; after so many pieces: */
	_Atomic unsigned int pieces;
	_Atomic long torn;          /* page whose reads have a wrong sum, */
	_Atomic unsigned int torns; /* for so many times */
	_Atomic unsigned int submits, hurries, quiesces, closes;
	char blob[16];
	int refuse; /* what way() says */
};

/* There is one at a time. */
extern struct fake fake;

/* Lets it look: after hold is over. */
void fake_kick(void);
/* With a way of such a source accepted; flags: FL_SOURCE_*. */
void way_begin(struct rig *rig, uint32_t flags, struct rig_options options);
void way_finish(struct rig *rig);
/* WAY, and RANGE. */
void way_say(struct rig *rig);
void way_say_range(struct rig *rig, size_t page, size_t count);
/* The script up to WAY, from then up to RUNNING, and from the due set to the end. */
void way_to_rounds(struct rig *rig);
void way_to_go(struct rig *rig);
void way_complete(struct rig *rig);

#endif
