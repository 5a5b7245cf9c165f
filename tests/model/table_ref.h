/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MODEL_TABLE_REF_H
#define TESTS_MODEL_TABLE_REF_H

/*
 * The page-state machine as the design tells it, with no regard for bits, words or threads: what
 * the real table is measured by.
 */

#include <stdbool.h>
#include <stdint.h>
#include <faultline/memory.h>

struct ref_cell {
	enum fl_page_state state;
	bool zeros;
	unsigned int waiters;
};

/* All cells that can be: the four states nobody works in, and PENDING with any waiters. */
#define REF_CELLS 36

struct ref_cell ref_cell_at(unsigned int index);

uint8_t ref_encode(struct ref_cell cell);
struct ref_cell ref_decode(uint8_t byte);

enum fl_claim ref_claim(struct ref_cell *cell, enum fl_waiter waiter);
int ref_settle(struct ref_cell *cell, enum fl_claim claim, enum fl_page_state state,
	       unsigned int *waiters);
bool ref_owns(const struct ref_cell *cell, enum fl_claim claim);
unsigned int ref_remove(struct ref_cell *cell);
int ref_rearm(struct ref_cell *cell);
uint64_t ref_recover(struct ref_cell *cell);

#endif
