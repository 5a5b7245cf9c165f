/* SPDX-License-Identifier: MIT */
#include "migrate/outgoing_bucket.h"
#include "util/clock.h"

/* What an idle time may save up: small, so that no burst is seen by others on the link. */
#define BURST_NS (20 * FL_NS_PER_MS)

void fl_bucket_begin(struct fl_bucket *bucket, uint64_t rate, uint64_t now_ns)
{
	/* More than a link can carry is no limit, and in a day would overflow. */
	*bucket = (struct fl_bucket){.rate = rate >> 46 ? 0 : rate, .filled_ns = now_ns};
}

static int64_t tokens_in(const struct fl_bucket *bucket, uint64_t ns)
{
	return (int64_t)((unsigned __int128)bucket->rate * ns / FL_NS_PER_S);
}

static void fill(struct fl_bucket *bucket, uint64_t now_ns)
{
	int64_t most = tokens_in(bucket, BURST_NS) + 1, more;

	/* A day is enough for every debt, and keeps the product small. */
	if (now_ns - bucket->filled_ns > 86400 * FL_NS_PER_S) {
		bucket->tokens = most;
		bucket->filled_ns = now_ns;
		return;
	}
	more = tokens_in(bucket, now_ns - bucket->filled_ns);
	if (!more)
		return; /* time goes on counting until it makes a token */
	bucket->tokens = bucket->tokens + more < most ? bucket->tokens + more : most;
	bucket->filled_ns = now_ns;
}

uint64_t fl_bucket_due(struct fl_bucket *bucket, uint64_t now_ns)
{
	uint64_t debt;

	if (!bucket->rate)
		return 0;
	fill(bucket, now_ns);
	if (bucket->tokens > 0)
		return 0;
	debt = (uint64_t)(1 - bucket->tokens);
	return bucket->filled_ns + 1 +
	       (uint64_t)((unsigned __int128)debt * FL_NS_PER_S / bucket->rate);
}

void fl_bucket_take(struct fl_bucket *bucket, uint64_t bytes)
{
	if (bucket->rate)
		bucket->tokens -= (int64_t)bytes;
}
