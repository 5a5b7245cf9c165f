/* SPDX-License-Identifier: MIT */
#include "migrate/outgoing_policy.h"
#include "util/error.h"

#include <errno.h>

/* A round that leaves more than this of what it began with is not worth another. */
#define SHRINK_PERCENT 70

#define KIB 1024

/* Can what is left be sent while the machine stands still? */
static bool fits(const struct fl_progress *progress)
{
	unsigned __int128 can = (unsigned __int128)progress->rate * progress->max_downtime_ms;

	return !progress->left || (unsigned __int128)progress->left * 1000 <= can;
}

static bool shrinks(const struct fl_progress *progress)
{
	return (unsigned __int128)progress->left * 100 <=
	       (unsigned __int128)progress->before * SHRINK_PERCENT;
}

static enum fl_verdict fail(const struct fl_progress *progress, struct fl_error *err)
{
	uint64_t written = fl_in_a_second(progress->left, progress->took_ns);

	(void)fl_error_set(
		err, -ETIME,
		"pre-copy does not converge: after %u rounds %llu KiB are left, which do "
		"not fit %u ms: %llu KiB/s are written, %llu KiB/s sent",
		progress->round, (unsigned long long)progress->left / KIB,
		progress->max_downtime_ms, (unsigned long long)written / KIB,
		(unsigned long long)progress->rate / KIB);
	return FL_VERDICT_FAIL;
}

enum fl_verdict fl_policy(const struct fl_progress *progress, struct fl_error *err)
{
	bool last = progress->round >= progress->max_rounds;

	if (progress->mode == FL_MIGRATE_POSTCOPY || fits(progress))
		return FL_VERDICT_SWITCH;
	if (progress->mode == FL_MIGRATE_HYBRID && (last || !shrinks(progress)))
		return FL_VERDICT_SWITCH;
	return last ? fail(progress, err) : FL_VERDICT_CONTINUE;
}
