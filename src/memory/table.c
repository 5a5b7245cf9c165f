/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: one byte a page, its cell (see table_format.h), is all that threads and
 * processes agree by. Every transition is one compare-exchange (or exchange) of that byte; there
 * is no lock, and a thread that dies between two of them leaves a legal table behind.
 *
 *	claim	ABSENT -> PENDING; REMOVED -> PENDING, zeros due; PENDING -> one more waiter bit
 *	settle	PENDING -> PRESENT, POISONED, or back to where the claim came from
 *	remove	any -> REMOVED
 *	rearm	PRESENT -> ABSENT
 *	adopt	ABSENT -> PRESENT, for contents that were in place before anybody claimed the page
 *
 * Waiter bits are set by claim and taken by exactly one of settle and remove, in the same
 * operation that ends PENDING: a waiter is either in what was taken, or finds that it came late
 * and goes around again. None is lost and none is woken twice for one wait.
 *
 * "Zeros are due" tells the two kinds of claim apart. When a page is removed under a fetch and
 * touched again, it is pending once more, but for zeros: the late fetch sees that it owns nothing
 * and its settle is refused. Two claims of the same kind cannot be told apart. For zeros that is no
 * harm: either brings the same contents, and whoever settles gets the waiters. For fetches, and for
 * what the table cannot see at all, callers keep rules (tests/model/page_world.h shows what comes
 * of breaking each):
 *   - Who removes, and who checks fl_table_owns() and then installs, exclude each other: between
 *     the check and the install the page could be removed. A single thread that reads the events
 *     and installs keeps this by itself.
 *   - A page is rearmed only when no fetch of it that was voided is still on its way, and no
 *     removal: the kernel may not have zapped yet what it reported.
 *   - A page is rearmed first and taken away from the guest then, lest one who dies between leaves
 *     a page that is present in the table and gone from the guest, which means zeros.
 *
 * Memory orders, by who must see what:
 *   - A joiner's claim (release) pairs with settle and remove (acquire): what it did to be woken,
 *     such as entering a list of sleepers, is seen by whoever wakes. That is why joining writes
 *     even when the bit is set already: a load alone would order nothing.
 *   - settle (release) pairs with claim, state and owns (acquire): who finds PRESENT sees the
 *     contents that were installed.
 *   - remove and rearm (release) pair with claim (acquire): what was done before, such as saving
 *     the contents, is seen by whoever fills the page anew.
 *   - Every write to a cell is a read-modify-write, so it also continues the release sequences of
 *     those before it: settle synchronises with all joiners, not with the last one only.
 */
#include "memory/table.h"

#include <errno.h>

/* A foreign process may write what it likes: any state that does not exist counts as poisoned. */
static enum fl_page_state state_of(uint8_t cell)
{
	return cell & FL_CELL_POISONED ? FL_POISONED : (enum fl_page_state)(cell & FL_CELL_STATE);
}

static uint8_t load(const struct fl_table *table, uint64_t page)
{
	return __atomic_load_n(&table->cells[page], __ATOMIC_ACQUIRE);
}

/* On failure *seen is what the cell holds now. */
static bool swap(struct fl_table *table, uint64_t page, uint8_t *seen, uint8_t next)
{
	return __atomic_compare_exchange_n(&table->cells[page], seen, next, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

enum fl_page_state fl_table_state(const struct fl_table *table, uint64_t page)
{
	return state_of(load(table, page));
}

/* What a touch finds in a cell, and what the cell becomes by it. */
static enum fl_claim touch(uint8_t seen, uint8_t waiter, uint8_t *next)
{
	*next = seen;
	switch (state_of(seen)) {
	case FL_ABSENT:
		*next = FL_PENDING | waiter;
		return FL_CLAIM_FETCH;
	case FL_REMOVED:
		*next = FL_PENDING | FL_CELL_ZEROS | waiter;
		return FL_CLAIM_ZERO;
	case FL_PENDING:
		*next = seen | waiter;
		return FL_CLAIM_JOINED;
	case FL_PRESENT:
		return FL_CLAIM_PRESENT;
	case FL_POISONED:
	default:
		return FL_CLAIM_POISONED;
	}
}

enum fl_claim fl_table_claim(struct fl_table *table, uint64_t page, enum fl_waiter waiter)
{
	uint8_t seen = load(table, page);
	uint8_t bit = (uint8_t)waiter & FL_CELL_WAITERS;
	enum fl_claim claim;
	uint8_t next;

	do {
		claim = touch(seen, bit, &next);
		/* Nothing to say, or nobody to be woken. */
		if (next == seen && (claim != FL_CLAIM_JOINED || !bit))
			return claim;
	} while (!swap(table, page, &seen, next));
	return claim;
}

static bool stands(uint8_t cell, enum fl_claim claim)
{
	uint8_t zeros = claim == FL_CLAIM_ZERO ? FL_CELL_ZEROS : 0;

	return (cell & (FL_CELL_STATE | FL_CELL_ZEROS)) == (FL_PENDING | zeros);
}

static bool settles(enum fl_claim claim, enum fl_page_state state)
{
	return (claim == FL_CLAIM_FETCH || claim == FL_CLAIM_ZERO) &&
	       (state == FL_PRESENT || state == FL_POISONED || state == FL_ABSENT);
}

int fl_table_settle(struct fl_table *table, uint64_t page, enum fl_claim claim,
		    enum fl_page_state state, unsigned int *waiters)
{
	uint8_t seen = load(table, page);

	if (waiters)
		*waiters = 0;
	if (!settles(claim, state))
		return -EINVAL;
	if (claim == FL_CLAIM_ZERO && state == FL_ABSENT)
		state = FL_REMOVED;
	do {
		if (!stands(seen, claim))
			return -ECANCELED;
	} while (!swap(table, page, &seen, (uint8_t)state));
	if (waiters)
		*waiters = seen & FL_CELL_WAITERS;
	return 0;
}

bool fl_table_owns(const struct fl_table *table, uint64_t page, enum fl_claim claim)
{
	return (claim == FL_CLAIM_FETCH || claim == FL_CLAIM_ZERO) &&
	       stands(load(table, page), claim);
}

unsigned int fl_table_remove(struct fl_table *table, uint64_t page)
{
	uint8_t seen = __atomic_exchange_n(&table->cells[page], FL_REMOVED, __ATOMIC_ACQ_REL);

	return state_of(seen) == FL_PENDING ? seen & FL_CELL_WAITERS : 0;
}

int fl_table_rearm(struct fl_table *table, uint64_t page)
{
	uint8_t seen = FL_PRESENT;

	return swap(table, page, &seen, FL_ABSENT) ? 0 : -EBUSY;
}

uint64_t fl_table_adopt(struct fl_table *table, uint64_t page, uint64_t count)
{
	uint64_t adopted = 0;

	for (uint64_t end = page + count; page < end; page++) {
		uint8_t seen = FL_ABSENT;

		adopted += swap(table, page, &seen, FL_PRESENT);
	}
	return adopted;
}

uint64_t fl_table_recover(struct fl_table *table)
{
	uint64_t voided = 0;
	uint64_t page = 0;

	for (;;) {
		uint8_t seen;

		page = fl_table_find(table, FL_PENDING, page, table->pages);
		if (page >= table->pages)
			return voided;
		seen = load(table, page);
		if (state_of(seen) == FL_PENDING &&
		    swap(table, page, &seen, seen & FL_CELL_ZEROS ? FL_REMOVED : FL_ABSENT))
			voided++;
	}
}
