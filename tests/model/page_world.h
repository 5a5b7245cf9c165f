/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MODEL_PAGE_WORLD_H
#define TESTS_MODEL_PAGE_WORLD_H

/*
 * Theory of operation: everybody who can do something to one page, as a world for explore().
 *
 *	vCPU 0 and 1	touch the page; where it is not mapped they sleep and an event says so. They
 *			are caught by traps of two kinds, so each has a waiter bit of its own.
 *	events		are claimed in the table, and may come twice, late, or for nothing
 *	jobs		are what a claim started: read the source (or give up, or poison), check
 *			that the claim still stands, install, settle, wake. A job whose claim was
 *			voided goes on until it notices.
 *	fill		claims with no one waiting
 *	remover		the guest gives the page back: the kernel posts an event and holds installs
 *			off (EAGAIN), the pager reads it and tells the table, and from the reading
 *			on the kernel may zap the page at any time
 *	rearm		the page goes back to the source, to be fetched anew
 *	crash		the pager dies: its jobs, and the events that it had read, are lost; the
 *			next one recovers the table and wakes everybody
 *
 * Each action makes at most one call of the real table, which is put into the state's cell before
 * and read after, and compared with the reference (table_ref.h) each time.
 *
 * The rules that a pager must keep (see src/memory/table.c) can be switched off one by one: the
 * world must then go wrong, or it would not have been looking.
 */

#include "explore.h"

struct world_rules {
	/* Installs and removals exclude each other: one thread does both, or a lock. */
	bool serial;
	/* No rearm while a voided fetch is on its way. */
	bool rearm_waits;
	/* No rearm while a removal of the page is under way: the kernel may not have zapped yet. */
	bool rearm_idle;
	/* The table is told of a rearm before the page is taken away. */
	bool rearm_first;
	/* Never a crash between reading a REMOVE event and telling the table. */
	bool crash_between;
	/* Whoever settles or removes wakes all bits that he was given, not just his own trap's. */
	bool wake_all;
	/* Every event is claimed with the waiter bit of its trap. */
	bool say_who_waits;
};

extern const struct world_rules world_rules_kept;

/* How often each may happen. */
struct world_budget {
	uint8_t touches; /* of each vCPU */
	uint8_t fills;
	uint8_t removes;
	uint8_t rearms;
	uint8_t give_ups;
	uint8_t poisons;
	uint8_t crashes;
};

/* What was violated, as explore() reports it. */
extern const char world_wrong_contents[]; /* "the guest can see what it must not" */
extern const char world_wrong_fetch[];    /* "two fetches of one page" */
extern const char world_wrong_settle[];   /* "a claim was ended by a fetch that did not have it" */
extern const char world_wrong_waiters[];  /* "waiters were lost or returned twice" */
extern const char world_wrong_pending[];  /* "pending, but nobody works on it" */
extern const char world_wrong_table[];    /* "the table disagrees with the design" */

/* Explores the world; 0 or a negative errno of fl_table_new() or explore(). */
int world_explore(const struct world_rules *rules, const struct world_budget *budget,
		  struct explore_result *result);

/* The name of an action of a story. */
const char *world_action_name(unsigned int action);

#endif
