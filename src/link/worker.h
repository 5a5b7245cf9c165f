/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_WORKER_H
#define FL_LINK_WORKER_H

/* A VMM's connection to its page worker: what the source made of it needs to know. */

#include <pthread.h>

#include "link/ring.h"

struct fl_worker {
	int sock;
	struct fl_ring ring;
	struct fl_worker_options options;
	pthread_mutex_t asking; /* one question at a time on sock; never held by fl_worker_copy() */
	bool astray;            /* under asking: an answer may still come that nobody waits for */
	uint32_t imported;      /* once it was, atomic: before that a copy is -ENOTCONN */
	uint32_t sourced;       /* it has a source, atomic */
	char address[FL_WORKER_ADDRESS_MAX + 1]; /* where the worker listens, once it exports */
};

/* Gives the worker an area to write to at local offset FL_LOCAL_STAGING and up. */
int fl_worker_give_staging(struct fl_worker *worker, int fd, uint64_t len_bytes,
			   struct fl_error *err);

#endif
