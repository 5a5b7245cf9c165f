/* SPDX-License-Identifier: MIT */
/*
 * Looking through a page-state table, eight cells at a time.
 *
 * The words are read by relaxed atomic loads, so that no byte of them is torn by the transitions
 * that others make meanwhile. They order nothing: a page that is found is looked at once more by
 * itself (load-acquire) before it is returned.
 */
#include "memory/table.h"

#include <endian.h>
#include <errno.h>
#include <unistd.h>

#define WORD_CELLS 8
#define EACH(byte) ((byte)*0x0101010101010101ULL) /* the same byte in each lane of a word */

/* Cells are bytes; this reads eight of them. */
typedef uint64_t __attribute__((may_alias)) cells_word;

/* Eight cells from page on, a multiple of 8; the lowest page in the lowest byte. */
static uint64_t load_word(const struct fl_table *table, uint64_t page)
{
	const cells_word *word = (const cells_word *)(const void *)&table->cells[page];

	return le64toh(__atomic_load_n(word, __ATOMIC_RELAXED));
}

static uint8_t load_cell(const struct fl_table *table, uint64_t page)
{
	return __atomic_load_n(&table->cells[page], __ATOMIC_RELAXED);
}

/* 0x80 in each lane that is not zero; lanes must be below 0x80, so that none carries over. */
static uint64_t nonzero_lanes(uint64_t word)
{
	return (word + EACH(0x7f)) & EACH(0x80);
}

/* 0x80 in each lane whose cell is in a state; see state_of() for what FL_POISONED is. */
static uint64_t lanes_in(uint64_t word, enum fl_page_state state)
{
	uint64_t mask = state == FL_POISONED ? FL_CELL_POISONED : FL_CELL_STATE;

	return nonzero_lanes((word & EACH(mask)) ^ EACH((uint64_t)state)) ^ EACH(0x80);
}

static uint64_t first_lane(uint64_t lanes)
{
	return (uint64_t)__builtin_ctzll(lanes) / 8;
}

/* Hops from word to word until one may hold what is looked for, or fewer than 8 cells are left. */
static uint64_t skip_words(const struct fl_table *table, enum fl_page_state state, uint64_t page,
			   uint64_t end)
{
	while (end - page >= WORD_CELLS) {
		uint64_t lanes = lanes_in(load_word(table, page), state);

		if (lanes)
			return page + first_lane(lanes);
		page += WORD_CELLS;
	}
	return page;
}

uint64_t fl_table_find(const struct fl_table *table, enum fl_page_state state, uint64_t page,
		       uint64_t end)
{
	uint64_t stop = end < table->pages ? end : table->pages;

	while (page < stop) {
		if (page % WORD_CELLS == 0)
			page = skip_words(table, state, page, stop);
		if (page < stop && fl_table_state(table, page) == state)
			return page;
		page++;
	}
	return end;
}

/* Sums of lanes: each of the low bits of a state, and of both low bits together, by themselves. */
struct tally {
	uint64_t odd;
	uint64_t two;
	uint64_t both;
	uint64_t poisoned;
};

static void tally_word(struct tally *tally, uint64_t word)
{
	uint64_t poisoned = (word >> 2) & EACH(1);
	uint64_t odd = word & EACH(1) & ~poisoned;
	uint64_t two = (word >> 1) & EACH(1) & ~poisoned;

	tally->odd += odd;
	tally->two += two;
	tally->both += odd & two;
	tally->poisoned += poisoned;
}

static uint64_t sum_lanes(uint64_t lanes)
{
	lanes = (lanes & 0x00ff00ff00ff00ffULL) + ((lanes >> 8) & 0x00ff00ff00ff00ffULL);
	return (lanes * 0x0001000100010001ULL) >> 48;
}

static void add_tally(uint64_t counts[FL_PAGE_STATES], const struct tally *tally)
{
	uint64_t both = sum_lanes(tally->both);

	counts[FL_PENDING] += sum_lanes(tally->odd) - both;
	counts[FL_PRESENT] += sum_lanes(tally->two) - both;
	counts[FL_REMOVED] += both;
	counts[FL_POISONED] += sum_lanes(tally->poisoned);
}

_Static_assert(FL_ABSENT == 0 && FL_PENDING == 1 && FL_PRESENT == 2 && FL_REMOVED == 3 &&
		       FL_POISONED == FL_CELL_POISONED,
	       "tally_word() reads states bit by bit");

static void count_part(const struct fl_table *table, uint64_t page, uint64_t end,
		       uint64_t counts[FL_PAGE_STATES])
{
	uint64_t whole = end / WORD_CELLS * WORD_CELLS;

	while (page < whole) {
		struct tally tally = {0};

		/* A lane holds 255 at most. */
		for (int i = 0; i < 255 && page < whole; i++, page += WORD_CELLS)
			tally_word(&tally, load_word(table, page));
		add_tally(counts, &tally);
	}
	for (; page < end; page++) {
		struct tally tally = {0};

		tally_word(&tally, load_cell(table, page));
		add_tally(counts, &tally);
	}
}

/*
 * The next part of the table that was ever written, from *page to *end. What was not is a hole of
 * the memfd: every page ABSENT, and a look at it would only make the kernel fill it in. It begins
 * and ends between pages of memory, and so between words.
 */
static bool written_part(const struct fl_table *table, uint64_t *page, uint64_t *end)
{
	off_t from = lseek(table->fd, (off_t)(FL_TABLE_CELLS + *page), SEEK_DATA);
	off_t to;

	*end = table->pages;
	if (from < 0)
		return errno != ENXIO && *page < table->pages;
	to = lseek(table->fd, from, SEEK_HOLE);
	*page = (uint64_t)from - FL_TABLE_CELLS;
	if (to > from && (uint64_t)to - FL_TABLE_CELLS < *end)
		*end = (uint64_t)to - FL_TABLE_CELLS;
	return *page < table->pages;
}

void fl_table_count(const struct fl_table *table, uint64_t counts[FL_PAGE_STATES])
{
	uint64_t page = 0, end;

	for (int state = 0; state < FL_PAGE_STATES; state++)
		counts[state] = 0;
	for (; written_part(table, &page, &end); page = end)
		count_part(table, page, end, counts);
	counts[FL_ABSENT] = table->pages - counts[FL_PENDING] - counts[FL_PRESENT] -
			    counts[FL_REMOVED] - counts[FL_POISONED];
}

static bool legal(uint8_t cell)
{
	uint8_t state = cell & FL_CELL_STATE;

	return state == FL_PENDING || (state <= FL_POISONED && cell == state);
}

bool fl_table_damaged(const struct fl_table *table, uint64_t *page)
{
	for (; *page < table->pages; ++*page) {
		/* Most of a table is uniform; skip what is ABSENT or PRESENT eight at a time. */
		while (*page % WORD_CELLS == 0 && table->pages - *page >= WORD_CELLS &&
		       (load_word(table, *page) & ~EACH((uint64_t)FL_PRESENT)) == 0)
			*page += WORD_CELLS;
		if (*page < table->pages && !legal(load_cell(table, *page)))
			return true;
	}
	return false;
}
