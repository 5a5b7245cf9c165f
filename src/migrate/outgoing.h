/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_OUTGOING_H
#define FL_MIGRATE_OUTGOING_H

/*
 * A machine that leaves: what the files of it share. outgoing.c has the theory of operation.
 */

#include <faultline/migrate.h>

#include <pthread.h>
#include <stdatomic.h>

#include "link/meet.h"
#include "migrate/common.h"
#include "migrate/outgoing_bucket.h"

#define FL_OUTGOING_CONFIG_MAX (1024u * 1024)

/* What was asked for and is not answered: pages of one region. */
struct fl_asked {
	uint64_t page, count;
};

/* One connection, and what was asked on it. */
struct fl_side {
	struct fl_conn *conn; /* or NULL: there is none now */
	const char *name;
	struct fl_outgoing *out;
	_Atomic uint64_t *pages; /* the figure that counts what is sent on it after the switch */
	struct fl_asked asked[FL_WIRE_REQUESTS];
	uint32_t first, count;
};

/* Written by the migration's thread alone, read by any: each figure for itself, so relaxed. */
struct fl_outgoing_figures {
	_Atomic uint64_t round, round_left, dirty_rate, rate, precopy, zero, due, due_left;
	_Atomic uint64_t demand, background, clean, bytes, saved, downtime_ns, recoveries;
	_Atomic uint64_t began_ns, ended_ns;
	_Atomic uint64_t waits, wait_p50_ns, wait_p99_ns, wait_max_ns; /* over there */
};

struct fl_outgoing {
	/* Set by fl_outgoing_new() and fl_outgoing_start(), then only read. */
	struct fl_layout *layout;
	uint64_t pages;
	struct fl_outgoing_calls calls;
	void *ctx;
	struct fl_outgoing_options options;
	void *config, *way;
	char *address;
	pthread_t thread;
	int wake_fd;          /* an eventfd: one of the flags below was set */
	uint64_t give_way_ns; /* how long the search for what is due waits for RUNNING */

	/* Any thread. */
	atomic_int phase;
	atomic_bool started, cancel, quit;
	atomic_bool recover_off; /* the recovery under way is called off; set under the lock */
	atomic_bool committed;   /* the first byte of GO is out: set by the migration's thread */
	struct fl_outgoing_figures figures;

	pthread_mutex_t lock; /* a leaf: nothing is called with it held. Guards: */
	struct fl_error error;
	bool recovering;       /* a recovery is asked for or being tried */
	char *recover_address; /* of it, or NULL: */
	int recover_fd;

	/* The migration's thread alone. */
	struct fl_side main, demand;
	struct fl_alive alive;
	struct fl_bucket bucket;
	struct fl_error why; /* of what ends this connection; code 0 as long as nothing does */
	uint8_t session[FL_WIRE_SESSION];
	uint32_t expected; /* which types of frames may come on main now, a bit each */
	uint32_t came;     /* which of those that come once have */
	uint32_t round;
	bool tracking, stopped, serving;
	bool wants_room; /* main is waited for until the kernel takes more */
	bool going;      /* GO is queued */
	uint64_t go_at;  /* what main had sent when it was */
	uint64_t stop_ns, go_ns;
	uint64_t closed_bytes, closed_saved; /* of connections that are closed */
	uint32_t features;                   /* of these connections */
	bool by_way;          /* rounds name what is to be read by the way, instead of sending it */
	uint64_t named_bytes; /* that were */
	uint64_t rate_ns, rate_bytes; /* since when the rate is measured, and from what; or 0 */
	struct fl_pageset *left;  /* due: pages that the incoming side has no right contents of */
	struct fl_pageset *zeros; /* pages known as zeros without looking */
	struct fl_pageset *due;   /* those that were left at the switch */
	struct fl_pageset *answered; /* what these connections have carried since the switch */
	struct fl_pageset *received; /* in a recovery */
	struct fl_pageset *fresh;    /* written last: of the thread that finds what is due */
	pthread_t finder;
	bool finding, finder_runs; /* it was begun; as a thread, to be joined */
	_Atomic bool found;        /* it has ended */
	int fresh_ret;
	bool undecided;          /* every page counts as due */
	struct fl_pageset *torn; /* came with a wrong sum: must be among what is collected next */
	uint64_t due_page;       /* DUE frames have been sent up to here */
	bool due_ended;
	void *state;
	size_t state_len;
	uint8_t bits[FL_BITS_BYTES];
};

/* A figure of which this thread is the only writer. */
static inline void fl_count(_Atomic uint64_t *figure, uint64_t more)
{
	atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + more,
			      memory_order_relaxed);
}

static inline void fl_figure(_Atomic uint64_t *figure, uint64_t value)
{
	atomic_store_explicit(figure, value, memory_order_relaxed);
}

static inline uint32_t fl_frame_bit(uint8_t type)
{
	return UINT32_C(1) << type;
}

/* Each returns 0, or a negative errno that ends this connection, with the reason in out->why. */

/* outgoing_turn.c: connections */
int fl_outgoing_meet(struct fl_outgoing *out, const struct fl_meet *how);
/*
 * One turn: sends what waits, and takes what came; waits for either until @until_ns (0: not at all,
 * UINT64_MAX: as long as the peer lives). -ECANCELED: asked to end. -ETIMEDOUT: the peer is silent.
 */
int fl_outgoing_turn(struct fl_outgoing *out, uint64_t until_ns);
/* Until a frame of this type has come. */
int fl_outgoing_await(struct fl_outgoing *out, uint8_t type);
int fl_outgoing_flush(struct fl_outgoing *out, struct fl_side *side, uint64_t budget_bytes);
/* Queues a frame without payload, waiting for room. */
int fl_outgoing_say(struct fl_outgoing *out, uint8_t type, uint64_t offset, uint32_t id);
/* Queues a blob whole, waiting for room. */
int fl_outgoing_send_blob(struct fl_outgoing *out, uint8_t type, uint32_t id, const void *bytes,
			  uint64_t len);
void fl_outgoing_phase(struct fl_outgoing *out, enum fl_migrate_phase phase);
/* -ECANCELED: to be freed, or what is under way is called off. */
int fl_outgoing_asked_to_end(struct fl_outgoing *out);
/* Does this connection take another step's worth now? */
bool fl_side_takes(const struct fl_side *side);

/* outgoing_part.c: tells the peer why, as far as it listens, and closes both connections. */
void fl_outgoing_part(struct fl_outgoing *out);

/* outgoing_stats.c: what was sent, and how fast. Once in a turn. */
void fl_outgoing_count(struct fl_outgoing *out);

/* outgoing_rounds.c */
int fl_outgoing_rounds(struct fl_outgoing *out);
/* Sends all pages that are left as one more round, and waits until it is in place. */
int fl_outgoing_round(struct fl_outgoing *out);
int fl_outgoing_collect(struct fl_outgoing *out);
/* What came with a wrong sum was written since, and is left: else -EBADMSG. */
int fl_outgoing_check_torn(struct fl_outgoing *out);

/* outgoing_due.c. What is due: begin to find it, if it is time; when it is, or UINT64_MAX; is it known; wait
 * until it is. */
void fl_outgoing_find_due(struct fl_outgoing *out);
uint64_t fl_outgoing_find_due_at(const struct fl_outgoing *out);
bool fl_outgoing_due_known(struct fl_outgoing *out);
void fl_outgoing_await_due(struct fl_outgoing *out);
int fl_outgoing_track(struct fl_outgoing *out, bool on);
/* Bytes of the pages of a set. */
uint64_t fl_outgoing_bytes(const struct fl_outgoing *out, const struct fl_pageset *set);
/*
 * Queues one frame with the contents of pages from @page on, at most @count of one region, as ZERO
 * where they are. Returns how many pages that was; 0: the connection takes none now; negative errno.
 */
int64_t fl_outgoing_send(struct fl_outgoing *out, struct fl_side *side, uint64_t page,
			 uint64_t count);

/* outgoing_switch.c */
int fl_outgoing_switch(struct fl_outgoing *out);
/* GO, and then the set that is due. */
int fl_outgoing_go(struct fl_outgoing *out);

/* outgoing_serve.c */
int fl_outgoing_request(struct fl_side *side, const struct fl_frame *frame);
void fl_outgoing_forget(struct fl_side *side);
/* Answers: demand, then one step of the background where @background. */
int fl_outgoing_serve(struct fl_outgoing *out, bool background);
/* When fl_outgoing_serve() has something to do: 0 for now, UINT64_MAX for not before a frame comes. */
uint64_t fl_outgoing_serve_due(struct fl_outgoing *out, bool background);
int fl_outgoing_follow(struct fl_outgoing *out);

/* outgoing_recover.c */
void fl_outgoing_lost(struct fl_outgoing *out);
/* It is over, one way or the other. Under the lock. */
void fl_outgoing_end_recovery(struct fl_outgoing *out, enum fl_migrate_phase phase);
/* Waits until fl_outgoing_recover() was called, and tries. -ECANCELED: it is being freed. */
int fl_outgoing_rejoin(struct fl_outgoing *out);

#endif
