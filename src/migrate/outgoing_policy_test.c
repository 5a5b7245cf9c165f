/* SPDX-License-Identifier: MIT */
#include "support.h"
#include "migrate/outgoing_policy.h"
#include "util/clock.h"

#include <errno.h>
#include <string.h>

#define H   FL_MIGRATE_HYBRID
#define PRE FL_MIGRATE_PRECOPY
#define POS FL_MIGRATE_POSTCOPY
#define GO  FL_VERDICT_CONTINUE
#define SW  FL_VERDICT_SWITCH
#define NO  FL_VERDICT_FAIL
#define MIB (1ull << 20)

static void every_case(void **state)
{
	static const struct {
		enum fl_migrate_mode mode;
		uint32_t downtime_ms, round;
		uint64_t before, left, rate;
		enum fl_verdict verdict;
	} cases[] = {
		/* postcopy: at once, whatever is left */
		{POS, 0, 1, 100 * MIB, 100 * MIB, 0, SW},
		/* nothing left always fits */
		{PRE, 0, 1, 100 * MIB, 0, 0, SW},
		{H, 0, 1, 100 * MIB, 0, 0, SW},
		/* 100 MiB/s for 300 ms are 30 MiB */
		{PRE, 300, 1, 100 * MIB, 30 * MIB, 100 * MIB, SW},
		{PRE, 300, 1, 100 * MIB, 30 * MIB + 1, 100 * MIB, GO},
		{H, 300, 1, 1000 * MIB, 30 * MIB, 100 * MIB, SW},
		{H, 300, 1, 1000 * MIB, 31 * MIB, 100 * MIB, GO},
		/* a rate that is not known fits nothing */
		{PRE, 300, 1, 100 * MIB, 1, 0, GO},
		/* hybrid: as long as a round leaves no more than 70 % */
		{H, 0, 1, 100 * MIB, 70 * MIB, 100 * MIB, GO},
		{H, 0, 1, 100 * MIB, 70 * MIB + 1, 100 * MIB, SW},
		{H, 0, 2, 100 * MIB, 200 * MIB, 100 * MIB, SW},
		/* precopy does not care, until its rounds are over */
		{PRE, 0, 29, 100 * MIB, 200 * MIB, 100 * MIB, GO},
		{PRE, 0, 30, 100 * MIB, 10 * MIB, 100 * MIB, NO},
		{PRE, 300, 30, 100 * MIB, 10 * MIB, 100 * MIB, SW},
		{PRE, 0, 31, 100 * MIB, 10 * MIB, 100 * MIB, NO},
		/* hybrid moves then */
		{H, 0, 29, 100 * MIB, 10 * MIB, 100 * MIB, GO},
		{H, 0, 30, 100 * MIB, 10 * MIB, 100 * MIB, SW},
		/* figures that would overflow 64 bits */
		{H, 300, 1, UINT64_MAX, UINT64_MAX / 2, MIB, GO},
		{H, UINT32_MAX, 1, UINT64_MAX, UINT64_MAX / 2, UINT64_MAX, SW},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct fl_progress progress = {.mode = cases[i].mode,
					       .max_downtime_ms = cases[i].downtime_ms,
					       .max_rounds = 30,
					       .round = cases[i].round,
					       .before = cases[i].before,
					       .left = cases[i].left,
					       .rate = cases[i].rate,
					       .took_ns = FL_NS_PER_S};
		enum fl_verdict verdict = fl_policy(&progress, NULL);

		if (verdict != cases[i].verdict)
			fail_msg("case %zu: %d, expected %d", i, verdict, cases[i].verdict);
	}
}

static void failing_says_both_rates(void **state)
{
	struct fl_progress progress = {.mode = PRE,
				       .max_downtime_ms = 10,
				       .max_rounds = 4,
				       .round = 4,
				       .before = 50 * MIB,
				       .left = 40 * MIB,
				       .rate = 100 * MIB,
				       .took_ns = FL_NS_PER_S / 2};
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_policy(&progress, &err), NO);
	assert_int_equal(err.code, -ETIME);
	assert_string_equal(err.text,
			    "pre-copy does not converge: after 4 rounds 40960 KiB are left, which "
			    "do not fit 10 ms: 81920 KiB/s are written, 102400 KiB/s sent");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_case),
		cmocka_unit_test(failing_says_both_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
