/* SPDX-License-Identifier: MIT */
#include "table_ref.h"

#include <errno.h>

#include "memory/table_format.h"

struct ref_cell ref_cell_at(unsigned int index)
{
	static const enum fl_page_state quiet[] = {FL_ABSENT, FL_PRESENT, FL_REMOVED, FL_POISONED};

	if (index < 4)
		return (struct ref_cell){.state = quiet[index]};
	index -= 4;
	return (struct ref_cell){
		.state = FL_PENDING, .zeros = index & 1, .waiters = (index >> 1) << 4};
}

uint8_t ref_encode(struct ref_cell cell)
{
	unsigned int byte = (unsigned int)cell.state | cell.waiters;

	return (uint8_t)(cell.zeros ? byte | FL_CELL_ZEROS : byte);
}

struct ref_cell ref_decode(uint8_t byte)
{
	return (struct ref_cell){.state = (enum fl_page_state)(byte & FL_CELL_STATE),
				 .zeros = byte & FL_CELL_ZEROS,
				 .waiters = byte & FL_CELL_WAITERS};
}

enum fl_claim ref_claim(struct ref_cell *cell, enum fl_waiter waiter)
{
	switch (cell->state) {
	case FL_PRESENT:
		return FL_CLAIM_PRESENT;
	case FL_POISONED:
		return FL_CLAIM_POISONED;
	case FL_PENDING:
		cell->waiters |= waiter;
		return FL_CLAIM_JOINED;
	case FL_REMOVED:
		*cell = (struct ref_cell){FL_PENDING, true, waiter};
		return FL_CLAIM_ZERO;
	case FL_ABSENT:
	default:
		*cell = (struct ref_cell){FL_PENDING, false, waiter};
		return FL_CLAIM_FETCH;
	}
}

bool ref_owns(const struct ref_cell *cell, enum fl_claim claim)
{
	return cell->state == FL_PENDING && claim == (cell->zeros ? FL_CLAIM_ZERO : FL_CLAIM_FETCH);
}

int ref_settle(struct ref_cell *cell, enum fl_claim claim, enum fl_page_state state,
	       unsigned int *waiters)
{
	*waiters = 0;
	if (!ref_owns(cell, claim))
		return -ECANCELED;
	*waiters = cell->waiters;
	if (cell->zeros && state == FL_ABSENT)
		state = FL_REMOVED;
	*cell = (struct ref_cell){.state = state};
	return 0;
}

unsigned int ref_remove(struct ref_cell *cell)
{
	unsigned int waiters = cell->waiters;

	*cell = (struct ref_cell){.state = FL_REMOVED};
	return waiters;
}

int ref_rearm(struct ref_cell *cell)
{
	if (cell->state != FL_PRESENT)
		return -EBUSY;
	*cell = (struct ref_cell){.state = FL_ABSENT};
	return 0;
}

uint64_t ref_recover(struct ref_cell *cell)
{
	if (cell->state != FL_PENDING)
		return 0;
	*cell = (struct ref_cell){.state = cell->zeros ? FL_REMOVED : FL_ABSENT};
	return 1;
}
