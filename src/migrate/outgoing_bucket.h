/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_OUTGOING_BUCKET_H
#define FL_MIGRATE_OUTGOING_BUCKET_H

#include <stdint.h>

/*
 * A limit of bytes in a second: a bucket of tokens that fills with time. What is taken may be more
 * than is there, once; then it has to fill above nothing again. Belongs to one thread.
 */
struct fl_bucket {
	uint64_t rate; /* bytes a second; 0: no limit */
	int64_t tokens;
	uint64_t filled_ns;
};

void fl_bucket_begin(struct fl_bucket *bucket, uint64_t rate, uint64_t now_ns);
/* When something may be taken: 0 for now, else CLOCK_MONOTONIC in ns. */
uint64_t fl_bucket_due(struct fl_bucket *bucket, uint64_t now_ns);
void fl_bucket_take(struct fl_bucket *bucket, uint64_t bytes);

#endif
