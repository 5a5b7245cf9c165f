/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_OUTGOING_POLICY_H
#define FL_MIGRATE_OUTGOING_POLICY_H

#include <faultline/migrate.h>

#include "util/clock.h"

/* When pre-copy has done what it can: a pure function, asked after each round. */

enum fl_verdict { FL_VERDICT_CONTINUE, FL_VERDICT_SWITCH, FL_VERDICT_FAIL };

struct fl_progress {
	enum fl_migrate_mode mode;
	uint32_t max_downtime_ms;
	uint32_t max_rounds;
	uint32_t round;   /* rounds that are over, 1 and up */
	uint64_t before;  /* bytes that the last round had to send */
	uint64_t left;    /* bytes written meanwhile */
	uint64_t rate;    /* bytes sent in a second, 0 when it is not known */
	uint64_t took_ns; /* how long the last round took */
};

static inline uint64_t fl_in_a_second(uint64_t count, uint64_t ns)
{
	return ns ? (uint64_t)((unsigned __int128)count * FL_NS_PER_S / ns) : 0;
}

/* FAIL only in mode precopy: -ETIME with both rates in @err, which may be NULL. */
enum fl_verdict fl_policy(const struct fl_progress *progress, struct fl_error *err);

#endif
