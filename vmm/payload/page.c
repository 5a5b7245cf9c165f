/* SPDX-License-Identifier: MIT */
/*
 * What a page holds and what it should hold.
 *
 * A stamped page describes itself: magic, its GPA, seed, generation and form,
 * a checksum of these, and a body derived from them, over the whole page (full)
 * or the last word of each 512 bytes (light). What a page should hold is decided
 * by its last writer: the stamp, its owner's churn, or a discard; nothing else
 * writes, so a page that none of them touched is zero.
 *
 * A discard may come while a page is being checked. The VMM marks the range as
 * in flux, drops the pages, then marks it zero; a check that fails looks at the
 * marks again and is repeated when they changed.
 */
#include "env.h"

#define BODY_STEP 0x9e3779b97f4a7c15ull

enum expect { EXPECT_ZERO, EXPECT_STAMP, EXPECT_CHURN, EXPECT_UNKNOWN };

struct expectation {
	enum expect what;
	uint64_t seq;
	uint64_t churn_seq;
	uint64_t counter;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

int payload_filled(uint64_t gpa, uint32_t fill)
{
	return fill >= 100 || mix(gpa + BODY_STEP) % 100 < fill;
}

static uint64_t stamp_word(const struct payload_stamp *stamp)
{
	return (uint64_t)stamp->form << 32 | stamp->generation;
}

static uint64_t body_key(uint64_t gpa, const struct payload_stamp *stamp)
{
	return mix(gpa ^ mix(stamp->seed + stamp_word(stamp)));
}

void payload_write_stamp(uint64_t *page, uint64_t gpa, const struct payload_stamp *stamp)
{
	uint64_t key = body_key(gpa, stamp);

	page[0] = PAYLOAD_STAMP_MAGIC;
	page[1] = gpa;
	page[2] = stamp->seed;
	page[3] = stamp_word(stamp);
	page[4] = ~key;
	if (stamp->form == PAYLOAD_FORM_LIGHT) {
		for (uint64_t i = 63; i < PAYLOAD_PAGE_WORDS; i += 64)
			page[i] = key + i * BODY_STEP;
		return;
	}
	for (uint64_t i = 5; i < PAYLOAD_PAGE_WORDS; i++)
		page[i] = key + i * BODY_STEP;
}

void payload_write_churn(uint64_t *page, uint64_t gpa, uint64_t seq, uint64_t counter)
{
	page[0] = PAYLOAD_CHURN_MAGIC;
	page[1] = gpa;
	page[2] = seq;
	page[3] = counter;
	page[4] = mix(gpa ^ mix(seq ^ mix(counter)));
	page[PAYLOAD_PAGE_WORDS - 1] = ~page[4];
}

struct bad {
	uint64_t word;
	uint64_t want;
	uint64_t got;
};

/* Compares one word. Return: 1 when it differs (the first difference is kept). */
static int differs(const uint64_t *page, uint64_t word, uint64_t want, struct bad *bad)
{
	uint64_t got = *(const volatile uint64_t *)&page[word];

	if (got == want)
		return 0;
	*bad = (struct bad){.word = word, .want = want, .got = got};
	return 1;
}

static int check_head(const uint64_t *page, const uint64_t want[5], struct bad *bad)
{
	for (uint64_t i = 0; i < 5; i++)
		if (differs(page, i, want[i], bad))
			return 1;
	return 0;
}

static int check_stamp(const uint64_t *page, uint64_t gpa, const struct payload_stamp *stamp,
		       struct bad *bad)
{
	uint64_t key = body_key(gpa, stamp);
	uint64_t step = stamp->form == PAYLOAD_FORM_LIGHT ? 64 : 1;
	const uint64_t head[5] = {PAYLOAD_STAMP_MAGIC, gpa, stamp->seed, stamp_word(stamp), ~key};

	if (check_head(page, head, bad))
		return 1;
	for (uint64_t i = step == 64 ? 63 : 5; i < PAYLOAD_PAGE_WORDS; i += step)
		if (differs(page, i, key + i * BODY_STEP, bad))
			return 1;
	return 0;
}

static int check_churn(const uint64_t *page, uint64_t gpa, const struct expectation *e,
		       struct bad *bad)
{
	uint64_t sum = mix(gpa ^ mix(e->churn_seq ^ mix(e->counter)));
	const uint64_t head[5] = {PAYLOAD_CHURN_MAGIC, gpa, e->churn_seq, e->counter, sum};

	return check_head(page, head, bad) || differs(page, PAYLOAD_PAGE_WORDS - 1, ~sum, bad);
}

static int check_zero(const uint64_t *page, uint32_t form, struct bad *bad)
{
	static const uint64_t head[5];
	uint64_t step = form == PAYLOAD_FORM_LIGHT ? 64 : 1;

	if (check_head(page, head, bad))
		return 1;
	for (uint64_t i = step == 64 ? 63 : 5; i < PAYLOAD_PAGE_WORDS; i += step)
		if (differs(page, i, 0, bad))
			return 1;
	return 0;
}

/* The counter that page `local` of the churn's pages holds; 0 is not yet written. */
uint64_t payload_churn_counter(const struct payload_churn *churn, uint64_t local)
{
	return churn->round + (local < churn->next);
}

static void expect_churn(const struct payload_churn *churn, uint64_t local, struct expectation *e)
{
	uint64_t counter = payload_churn_counter(churn, local);

	if (!counter || churn->seq <= e->seq)
		return;
	*e = (struct expectation){EXPECT_CHURN, churn->seq, churn->seq, counter};
}

/* What the last writer of the page left, discards aside. */
static struct expectation expected(const struct payload_env *env, uint64_t index, uint64_t gpa)
{
	uint32_t owner = payload_owner(env->mailbox, index);
	const struct payload_mailbox *mailbox = payload_mailbox(env, owner);
	const struct payload_stamp *stamp = &mailbox->stamp;
	struct payload_slice share = payload_share(mailbox, owner);
	uint64_t local = index - share.first;
	struct expectation e = {EXPECT_ZERO, 0, 0, 0};

	if (payload_filled(gpa, stamp->fill))
		e = (struct expectation){EXPECT_STAMP, stamp->seq, 0, 0};
	else if (payload_filled(gpa, stamp->max_fill))
		e = (struct expectation){EXPECT_UNKNOWN, 0, 0, 0};
	if (mailbox->churn.pages && local >= share.pages - mailbox->churn.pages) {
		local -= share.pages - mailbox->churn.pages;
		expect_churn(&mailbox->churn_before, local, &e);
		expect_churn(&mailbox->churn, local, &e);
	}
	return e;
}

/* The latest discard of the page that came after `seq`, as its state. */
static uint32_t discarded(const struct payload_mailbox *mailbox, uint64_t gpa, uint64_t seq)
{
	uint32_t found = PAYLOAD_DISCARD_FREE;

	for (uint32_t i = 0; i < PAYLOAD_MAX_DISCARDS; i++) {
		const struct payload_discard *d = &mailbox->discards[i];
		uint32_t state = __atomic_load_n(&d->state, __ATOMIC_ACQUIRE);

		if (state == PAYLOAD_DISCARD_FREE)
			break;
		if (d->seq > seq && gpa - d->gpa < d->len_bytes) {
			if (state == PAYLOAD_DISCARD_FLUX)
				return state;
			found = state;
		}
	}
	return found;
}

static uint32_t zero_form(const struct payload_mailbox *mailbox)
{
	return mailbox->cmd.form ? mailbox->cmd.form : mailbox->stamp.form;
}

static int check_once(const struct payload_mailbox *mailbox, const uint64_t *page, uint64_t gpa,
		      const struct expectation *e, struct bad *bad)
{
	switch (e->what) {
	case EXPECT_STAMP:
		return check_stamp(page, gpa, &mailbox->stamp, bad);
	case EXPECT_CHURN:
		return check_churn(page, gpa, e, bad);
	case EXPECT_ZERO:
		return check_zero(page, zero_form(mailbox), bad);
	default:
		(void)*(const volatile uint64_t *)page; /* still a touch */
		return 0;
	}
}

static void count(struct payload_result *result, enum expect what)
{
	result->pages++;
	if (what == EXPECT_STAMP)
		result->stamped++;
	else if (what == EXPECT_CHURN)
		result->churned++;
	else if (what == EXPECT_ZERO)
		result->zero++;
	else
		result->unknown++;
}

static void blame(struct payload_env *env, uint64_t gpa, const struct bad *bad)
{
	struct payload_result *result = &env->mailbox->result;

	if (result->mismatches++)
		return;
	result->bad_gpa = gpa;
	result->bad_byte = bad->word * sizeof(uint64_t);
	result->want = bad->want;
	result->got = bad->got;
	payload_print(env, "page ");
	payload_print_hex(env, gpa);
	payload_print(env, " is not what was written\n");
}

/* Checks the page, counts it, and keeps the first mismatch in the result. */
void payload_check(struct payload_env *env, uint64_t index)
{
	struct payload_mailbox *mailbox = env->mailbox;
	uint64_t gpa = payload_gpa(mailbox, index);
	const uint64_t *page = payload_at(env, gpa);
	struct expectation e, last = expected(env, index, gpa);
	struct bad bad;
	uint32_t state;
	int wrong;

	do {
		e = last;
		state = discarded(mailbox, gpa, e.seq);
		if (state == PAYLOAD_DISCARD_ZERO)
			e.what = EXPECT_ZERO;
		else if (state == PAYLOAD_DISCARD_FLUX)
			e.what = EXPECT_UNKNOWN;
		wrong = check_once(mailbox, page, gpa, &e, &bad);
	} while (wrong && discarded(mailbox, gpa, last.seq) != state);
	count(&mailbox->result, e.what);
	if (wrong)
		blame(env, gpa, &bad);
}
