/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_INCOMING_H
#define FL_MIGRATE_INCOMING_H

/*
 * Theory of operation
 * ===================
 *
 * A machine that arrives has one thread, the engine, and everything below belongs to it, except what
 * is marked otherwise. It meets the other side, receives pre-copy rounds straight into the second
 * mapping, and from the switch on runs the pager as well. Then the two connections are what the pager's
 * source reads from: the engine sleeps on the pager's descriptor, the pager calls fl_queue_reap() on the
 * queue of incoming_source.c, and that takes what the connections have, frames of control included. Who
 * asks for what is the pager's business; the source only knows which bytes were asked for and did not come.
 *
 * Other threads, each with a small mailbox under the lock: the *guest* thread calls load() and run(), which
 * may touch guest memory and so wait for the engine; up to two *meetings* wait for the other side to come
 * back, or go to it. They post, and kick event_fd. Before READY, when it cannot come back, the one that
 * listens tells another machine that there is one already.
 *
 * What is known of a page before the due set is whole stands in three sets: @received, its contents are
 * in the second mapping and right; @zeros, the page cache has nothing and zeros are right; @torn, what
 * the page cache has is not right: it was written while it was read, or a transfer of it was begun and not
 * ended. A page is in one of them at most. What a round brought may be stale: only DUE_END tells, or CLEAN.
 *
 * Stages go one way. How an end of the connection is taken depends on them:
 *
 *	MACHINE, ROUNDS, LOADING	failed: the machine goes on where it was
 *	READY	lost: GO may be on its way, so the machine may be ours. Only the other side's word on main
 *		(CANCEL, ERROR) says that it is not; once it has come back it is committed, and cannot.
 *		Whatever ended, what main still has is heard before that is judged
 *	GONE	lost: the machine is ours, and waits for its pages
 *	COMPLETE	all is here, but the other side may not know: it may come back for that for as
 *		long as the timeout, then it is done
 *
 * Nothing frees a connection while its functions are on the stack: what goes wrong is kept in @broken, and
 * acted upon when the engine comes round.
 */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include <faultline/migrate.h>

#include "link/conn.h"
#include "link/meet.h"
#include "migrate/common.h"
#include "migrate/incoming_way.h"

/* What is taken from main at a time, between two looks at faults and demand, in bytes: in rounds, when there
 * are none, and after. A new page of memory costs about 1 us, so that a step takes some 30 us. */
#define FL_INCOMING_STEP       (128u * 1024)
#define FL_INCOMING_SERVE_STEP (32u * 1024)

enum fl_incoming_stage {
	FL_STAGE_MACHINE,  /* until memory is there */
	FL_STAGE_ROUNDS,   /* until the state is whole */
	FL_STAGE_LOADING,  /* until READY was sent */
	FL_STAGE_READY,    /* until GO came */
	FL_STAGE_GONE,     /* the machine is ours, until every page is there */
	FL_STAGE_COMPLETE, /* until BYE */
	FL_STAGE_DONE
};

/* What a recovery waits for from the other side. */
enum fl_incoming_again { FL_AGAIN_NOTHING, FL_AGAIN_GO, FL_AGAIN_DUE };

/* One region, as the other side numbers it. */
struct fl_incoming_region {
	uint64_t offset, len_bytes, page_size, first_page;
	char *alias; /* of its first byte */
	int fd;
	uint64_t fd_offset;
};

/* Pages of one region. */
struct fl_incoming_range {
	const struct fl_incoming_region *region;
	uint64_t offset, len_bytes;
	uint64_t page, pages;
};

/* One connection, and the PAGES frame that is coming by it. */
struct fl_incoming_side {
	struct fl_incoming *in;
	struct fl_conn *conn; /* or NULL: none now */
	const char *name;
	short events;                       /* that the epoll set waits for */
	uint64_t frame_offset, frame_bytes; /* checked; frame_bytes 0 between frames */
	uint64_t populated;                 /* offset up to which memory was had for it */
	uint64_t page;                      /* page whose units are coming, and */
	bool right;                         /* are all so far? */
};

/* A thread that meets the other side once more, or refuses who comes. Under fl_incoming.lock: done, result,
 * pair, err. */
struct fl_incoming_meeting {
	struct fl_incoming *in;
	pthread_t thread;
	bool running;  /* the thread is to be joined */
	bool refuses;  /* everyone: nobody can have lost us yet */
	int cancel_fd; /* ends it */
	char *address; /* to connect to, or NULL: listens */
	bool done;
	int result;
	struct fl_pair pair;
	struct fl_error err;
};

/* What the guest thread is to do and has done, under fl_incoming.lock. */
struct fl_incoming_guest {
	pthread_t thread;
	bool running; /* to be joined */
	pthread_cond_t word;
	bool go, leave;   /* said to it */
	bool loaded, ran; /* said by it */
	bool ended;       /* it calls the VMM no more */
	int load_result, run_result;
	struct fl_error err;
};

struct fl_incoming_read;

/* The pager's source, and the one queue that it has: see incoming_source.c, and of its reads incoming_slot.h. */
struct fl_incoming_source {
	struct fl_source source;
	struct fl_queue queue;
	struct fl_incoming_read *slots, *free;
	struct fl_incoming_read *reads; /* outstanding */
	unsigned int hurried;           /* pages asked for by hurry that did not come */
	unsigned int ended;             /* reads ended since reap() began */
	uint64_t progress_ns; /* when something that was asked for came, or was first asked for */
	bool reaped;          /* since the engine last looked */
	bool settle;          /* what needs no answer any more is to be let go */
	bool ask;             /* all that is outstanding is to be asked for again */
	bool forsaken;        /* what the link would have to bring comes no more */
};

/* A set of pages that the other side is told, as many frames at a time as its connection takes. */
struct fl_incoming_tell {
	const struct fl_pageset *set; /* or NULL: nothing is to be told */
	uint64_t page;                /* what comes before it was told */
	uint8_t type;                 /* of its frames, and */
	struct fl_frame end;          /* the frame behind them */
};

/* Written by the engine, read by any: relaxed, each figure stands alone. */
struct fl_incoming_counters {
	_Atomic uint64_t received, precopy, zero, torn, due, by_way;
	_Atomic uint64_t met_ns, go_ns, due_end_ns, ended_ns;
	_Atomic uint32_t round, recoveries, way;
};

struct fl_incoming {
	/* Never changed after fl_incoming_new(). */
	struct fl_incoming_calls calls;
	void *ctx;
	struct fl_incoming_options options;
	int listen_fd;
	sigset_t signals; /* that whoever made it had blocked: the VMM's calls have the same */
	int event_fd;     /* something was posted */
	int cancel_fd;    /* readable for ever: the end */
	int epoll_fd;     /* has both connections, and the way's queue */
	pthread_t thread;

	/* For any thread. */
	_Atomic int phase;
	_Atomic bool stopping;
	_Atomic(struct fl_pager *) pager; /* set once */
	struct fl_incoming_counters count;
	pthread_mutex_t lock; /* a leaf: nothing else is locked or called while it is held */
	struct fl_error error;
	char *recover;   /* address that recover() gave, to be taken by the engine */
	bool recovering; /* it was taken, and is being tried */

	/* The guest thread and the meetings have mailboxes under the lock; the rest is the engine's. */
	struct fl_incoming_guest guest;
	struct fl_incoming_meeting listener, caller;

	/* The engine's alone. */
	enum fl_incoming_stage stage;
	struct fl_incoming_side main, demand;
	struct fl_error broken; /* code 0: nothing */
	bool called_off;        /* the other side's own word on main: it does not go on */
	bool fatal;             /* what went wrong is not the connection */
	bool deaf;              /* listening for the other side failed */
	bool over;              /* nothing more is to be done */
	bool more;              /* there may be more to do at once */
	unsigned int unreaped;  /* runs of the pager since it reaped the queue */
	struct fl_alive alive;
	uint64_t bytes_before;            /* received by connections before these */
	uint8_t session[FL_WIRE_SESSION]; /* never changed once met: meetings read it */

	struct fl_blob machine, state;
	struct fl_layout *shape; /* as announced: offsets and pages, no addresses */
	struct fl_incoming_region regions[FL_REGIONS_MAX];
	size_t region_count;
	const struct fl_incoming_region *last_region; /* that was asked for */
	uint64_t pages;
	struct fl_incoming_memory memory;
	struct fl_trap *trap;
	struct fl_install *install;
	struct fl_table *table;
	struct fl_pageset *received, *zeros, *torn;

	struct fl_incoming_source source;
	struct fl_incoming_way way;
	struct fl_pageset *due;
	struct fl_pageset *lack;      /* in a recovery after DUE_END: what must be due again, */
	struct fl_pageset *due_again; /* and what is said to be */
	bool due_whole, adopted;      /* adopted: received and zeros stay as they are */
	uint64_t complete_ns;         /* when COMPLETE was sent */
	bool tells_waits;             /* it has to say how long demands took */
	uint64_t lost_ns;             /* when there was a connection last; 0 while there is one */
	bool has_run;                 /* what run() returned was taken */

	enum fl_incoming_again again;
	struct fl_pageset *have;      /* what RECEIVED says */
	struct fl_incoming_tell tell; /* TORN and ROUND_ACK, or RECEIVED and RECEIVED_END */
};

/* incoming.c */
/* Keeps the first reason why the connection cannot go on. Returns code. */
int fl_incoming_break(struct fl_incoming *in, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void fl_incoming_phase(struct fl_incoming *in, enum fl_migrate_phase phase);
void fl_incoming_kick(struct fl_incoming *in);
/* Queues a frame on main; what fails breaks the connection. */
void fl_incoming_send(struct fl_incoming *in, const struct fl_frame *frame);
/* The same, with frame->len bytes of payload. */
void fl_incoming_send_with(struct fl_incoming *in, const struct fl_frame *frame,
			   const void *payload);

static inline void fl_incoming_count(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static inline void fl_incoming_set(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline uint64_t fl_incoming_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline struct fl_pager *fl_incoming_pager(const struct fl_incoming *in)
{
	return atomic_load_explicit(&in->pager, memory_order_acquire);
}

/* incoming_conn.c: the two connections. */
int fl_incoming_attach(struct fl_incoming *in, struct fl_pair *pair);
void fl_incoming_detach(struct fl_incoming *in);
/* Takes what came, demand first; true when there may be more at once. */
bool fl_incoming_take(struct fl_incoming *in);
void fl_incoming_flush(struct fl_incoming *in);
/* The same of demand alone: who waits for a page has waited long enough. */
void fl_incoming_flush_demand(struct fl_incoming *in);
/* What main still has, of a connection that is broken: GO, or that it was called off. */
void fl_incoming_hear_out(struct fl_incoming *in);
/* Says goodbye with in->broken, so that the other side hears it, and closes. */
void fl_incoming_part(struct fl_incoming *in);

/* incoming_frame.c: what comes. */
extern const struct fl_conn_ops fl_incoming_conn_ops;
/* Whole pages of one region? -EBADMSG breaks the connection, naming @what. */
int fl_incoming_range(struct fl_incoming *in, const char *what, uint64_t offset, uint64_t len_bytes,
		      struct fl_incoming_range *range);
/* The number of the page at an offset that was checked. */
uint64_t fl_incoming_page(struct fl_incoming *in, uint64_t offset);

/* incoming_prepare.c: MACHINE. */
void fl_incoming_prepare(struct fl_incoming *in);
void fl_incoming_memory_free(struct fl_incoming *in);

/* incoming_precopy.c: rounds. */
void *fl_incoming_round_place(struct fl_incoming_side *side, uint64_t offset, uint64_t *len_bytes);
int fl_incoming_round_pages(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes,
			    bool right);
int fl_incoming_round_zero(struct fl_incoming *in, const struct fl_incoming_range *range);
/* Memory behind a range of the second mapping: -ENOMEM instead of a SIGBUS later. */
int fl_incoming_populate(struct fl_incoming_side *side, char *at, uint64_t offset,
			 uint64_t len_bytes);
/* The file has nothing there any more. */
int fl_incoming_punch(const struct fl_incoming_range *range);

/* incoming_switch.c: STATE, READY, GO, RUNNING. */
int fl_incoming_switch(struct fl_incoming *in);
void fl_incoming_go(struct fl_incoming *in);
/* What the guest thread has posted. */
void fl_incoming_guest_posted(struct fl_incoming *in);
/* Is it within one of the VMM's calls, which may wait for a page? */
bool fl_incoming_guest_busy(struct fl_incoming *in);
/* Ends the guest thread: what it waits for in load() comes no more. */
void fl_incoming_guest_stop(struct fl_incoming *in);

/* incoming_source.c: what the pager asks for. */
extern const struct fl_source_ops fl_incoming_source_ops;

/* incoming_answer.c: what is answered. */
void *fl_incoming_answer_place(struct fl_incoming_side *side, uint64_t offset, uint64_t *len_bytes);
int fl_incoming_answer_begin(struct fl_incoming_side *side, const struct fl_incoming_range *range);
int fl_incoming_answer_pages(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes,
			     bool right);
int fl_incoming_answer_dropped(struct fl_incoming_side *side, uint64_t offset, uint64_t len_bytes);
int fl_incoming_answer_zero(struct fl_incoming_side *side, const struct fl_incoming_range *range);
int fl_incoming_answer_clean(struct fl_incoming_side *side, const struct fl_incoming_range *range);

/* incoming_slot.c: what is outstanding. */
/* The connection is gone: what was coming is to be asked for again. */
void fl_incoming_recall(struct fl_incoming *in);
/* When an answer is late: CLOCK_MONOTONIC in ns; UINT64_MAX when nothing is asked for. */
uint64_t fl_incoming_answer_due(const struct fl_incoming *in);
/* Some offset that is asked for. */
uint64_t fl_incoming_asked(const struct fl_incoming *in);

/* incoming_source.c */
/* What the way reads for a slot: where to, what came, and that the read is over; @in_buf: of a source that knows no
 * pieces, so that all of it came to the read's buffer. */
void *fl_incoming_slot_place(struct fl_incoming_read *slot, uint64_t offset, uint64_t *len_bytes);
void fl_incoming_slot_arrived(struct fl_incoming *in, struct fl_incoming_read *slot,
			      uint64_t offset, uint64_t len_bytes);
void fl_incoming_slot_over(struct fl_incoming *in, struct fl_incoming_read *slot, int result,
			   bool in_buf);

/* incoming_due.c: the due set, and the end. */
int fl_incoming_due(struct fl_incoming *in, const struct fl_frame *frame, const void *payload);
int fl_incoming_due_end(struct fl_incoming *in, const struct fl_frame *frame);
/* Is what there is of a page right, as far as is known? */
bool fl_incoming_valid(const struct fl_incoming *in, uint64_t page);
/* Is it known that each of these pages is due? */
bool fl_incoming_all_due(const struct fl_incoming *in, uint64_t page, uint64_t pages);
/* Lets the pager have what is clean, once it can; true when it was done now. */
bool fl_incoming_adopt(struct fl_incoming *in);
/* Looks whether every page is there, and ends it. */
void fl_incoming_finish(struct fl_incoming *in);

/* incoming_recover.c */
void fl_incoming_meeting_stop(struct fl_incoming *in, struct fl_incoming_meeting *meeting);
/* Lets the other side come back; before READY, tells whoever comes that a machine is on its way. */
void fl_incoming_listen(struct fl_incoming *in);
/* The connection is lost: waits for another one. */
void fl_incoming_lose(struct fl_incoming *in);
/* What the meetings and recover() have posted. */
void fl_incoming_recover_posted(struct fl_incoming *in);
/* What is to be told, as much as the connection takes now. */
void fl_incoming_tell(struct fl_incoming *in);
/* The due set came again, whole. */
int fl_incoming_recovered(struct fl_incoming *in);

#endif
