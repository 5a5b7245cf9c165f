/* SPDX-License-Identifier: MIT */
#ifndef FL_PAGER_PAGER_H
#define FL_PAGER_PAGER_H

/*
 * Theory of operation
 * ===================
 *
 * One thread runs a pager, and everything below belongs to it, except what is marked atomic. That
 * is what makes REMOVE events safe without a lock: the kernel lets a MADV_DONTNEED go on only after
 * its event was read, and this thread marks the pages REMOVED before it installs anything again. So
 * an install can never put old contents over a page that was given back.
 *
 * The work is done in units called fetches: a run of pages of one region, claimed in the page-state
 * table, on their way from the source to the guest:
 *
 *	free -> reading (in the source's queue) -> ready (being installed) -> free
 *
 * A page-cache hit goes through all of this within one call. What an install cannot finish, because
 * the kernel says EAGAIN or ENOMEM, stays ready with a time when it is tried again: it is never
 * forgotten, and never waited for in place. A fetch says which page someone waits for (demand) or
 * that nobody does (fill); a fault on a page that a fill has under way turns it into a demand.
 *
 * fl_pager_run() does, in this order: events of the trap, demand fetches, and one step of filling,
 * STEP_BYTES long. A fault never waits for more than that step. Nothing is allocated after
 * fl_pager_new(): fetches and their buffers are a fixed pool. When the pool runs out, the trap is
 * not read any more, so that further faults stay in the kernel's queue, until a fetch is free
 * again. Only when an install waits for a REMOVE event behind those faults are they read all the
 * same: their threads sleep on, and are woken to fault anew when a fetch is free.
 *
 * A source may deliver a read in pieces (FL_SOURCE_PIECES), which then go straight into the second
 * mapping: see pieces.c. Contents may also be in place from the start: see adopt.c.
 *
 * The same page may be reported by many threads, and by one more after it came. What such a late
 * event finds is a page that the table calls present, as it does one that went away unnoticed. The
 * kernel tells them apart, in the call that would install zeros: see touch_present().
 */

#include <faultline/pager.h>

#include <pthread.h>
#include <stdatomic.h>

#include "util/histogram.h"

/* What one step of filling may install before faults are looked at again, in bytes. */
#define STEP_BYTES (128u * 1024)
/* What one fill read asks of a source that does not have it at hand, in bytes. */
#define FILL_BYTES (512u * 1024)
/* What filling near a fault goes through, and near how many faults, before it turns elsewhere. */
#define NEAR_BYTES  (1024u * 1024)
#define NEAR_FAULTS 4u
/* After so many failed reads in a row, filling no longer looks for the pages that can be read. */
#define FILL_FAILURES 32u
#define DEMAND_SLOTS  64u
#define EVENT_BATCH   64u
/* How many pages that are not in the working set may come along to make one run of two. */
#define REPLAY_GAP 3u
#define NO_PAGE    UINT64_MAX
#define UNIT_BYTES 4096u
/* How many pages that are in place one step maps: some 75 us of the kernel's time. */
#define ADOPT_PAGES 256u
/* So many poisoned pages get a line each in the log. */
#define LOG_LINES 16u
/* A fault, in fl_event's flags: it was reported before its page came. */
#define FAULT_EARLY (1u << 31)

/* Where the contents of a page go while its read comes in pieces. */
enum fl_way {
	FL_WAY_UNKNOWN,
	FL_WAY_PLACE,  /* straight into the second mapping, which has memory for all of the page */
	FL_WAY_BUFFER, /* into the fetch's own buffer */
	FL_WAY_ZEROS   /* nowhere: they are zeros, and someone waits for them */
};

struct fl_fetch_page {
	uint64_t joined_ns; /* since when the first of those waits */
	uint32_t joined;    /* who faulted on it while it was under way */
	enum fl_way way;
};

struct fl_fetch {
	struct fl_read read;
	struct fl_pager *pager;
	struct fl_fetch *next; /* in the list it is in: free or ready */
	bool fill;             /* what it is for, all its life: filling, or demand */
	bool busy;             /* holds claims */
	bool zeros;            /* nothing to read: zeros are installed */
	bool placed;           /* the contents stand in the second mapping and only need mapping */
	bool poison;           /* the page cannot be supplied */
	bool replay;           /* a fill that the working set asked for */
	bool adopted;          /* its contents were in place before */
	bool reading;          /* in the source's queue, */
	bool pieces; /* whence its contents come in pieces; what is not in units is not there */
	bool came;   /* and some page of it was there, */
	bool listed; /* in a list of those that are ready */
	enum fl_claim claim; /* how its pages were claimed: FETCH or ZERO */
	enum fl_fault_kind kind;
	uint64_t page;   /* first page, */
	uint64_t pages;  /* how many, */
	uint64_t done;   /* and how many of them, from the first on, are settled or not ours */
	uint64_t demand; /* the page that a fault waits for, or NO_PAGE */
	uint64_t since_ns;
	uint64_t joined;            /* further faults that wait for pages of it */
	unsigned int tries;         /* installs in a row that got nowhere, */
	unsigned int starved;       /* and that lacked memory */
	uint64_t due_ns;            /* when the next one is, 0 for at once */
	char *buf;                  /* its own buffer */
	char *from;                 /* its contents: buf, or a place in the second mapping */
	struct fl_fetch_page *each; /* of its pages */
	uint64_t *units;            /* a bit for each piece of UNIT_BYTES that is in place */
};

struct fl_fetch_list {
	struct fl_fetch *head;
	struct fl_fetch **tail;
};

/* Written by the pager's thread, read by any: relaxed, each figure stands alone. */
struct fl_counters {
	_Atomic uint64_t left, demand, around, fill, replay, zero, removed, poisoned;
	_Atomic uint64_t duplicates, retries, errors, full_ns;
	_Atomic uint64_t adopted, released, adopt_ns;
};

struct fl_fill {
	bool on;
	uint64_t cursor;          /* all pages before it were looked at */
	unsigned int failures;    /* reads in a row that failed */
	uint64_t replay_next;     /* index in the plan of the working set of what comes next */
	bool replay_again;        /* pages of it may be absent that were come to before */
	uint64_t run_at, run_end; /* pages of it that were put together into a run */
	struct {
		uint64_t at, end;
	} near[NEAR_FAULTS]; /* pages behind the last faults, the newest first */
	bool near_last;      /* the read before was one of those */
};

struct fl_adopt {
	const struct fl_pageset *ready, *zeros;
	struct fl_fetch *fetch; /* its own: it never has to wait for one */
	bool on;
	bool stuck;      /* no range can be let go any more */
	uint64_t cursor; /* all pages before it were looked at */
	uint64_t least;  /* runs of fewer pages are mapped */
	uint64_t since_ns;
};

struct fl_pager {
	struct fl_pager_parts parts;
	struct fl_pager_options options;
	uint64_t pages;
	uint64_t started_ns;
	struct fl_queue *queue;
	int epoll_fd, kick_fd, timer_fd;
	uint64_t timer_ns; /* what timer_fd is set to, 0 when it is not */
	bool listening;    /* the trap is in the epoll set */
	char error[200];   /* why it failed, for people */
	int failed;        /* negative errno: the session has ended */

	struct fl_fetch *fetches; /* for demand, for filling, and the one of adopt */
	unsigned int demand_slots, fetch_count;
	uint64_t fill_bytes;        /* the longest read ahead of need */
	bool pieces;                /* the source delivers in pieces */
	struct fl_fetch_page *each; /* of all fetches */
	uint64_t *units;
	char *arena;
	size_t arena_len;
	struct fl_fetch *free_demand, *free_fill;
	struct fl_fetch_list ready_demand, ready_fill;
	unsigned int reading, reading_demand;
	uint64_t outside;                /* faults outside the guest's memory that were poisoned */
	uint64_t missed_from, missed_to; /* addresses of faults that found no fetch free */
	bool starved;                    /* memory was lacking, and that was logged */
	bool told_gone;                  /* that a range is not registered was said */
	bool partly;                     /* part of an absent page went, and that was logged */
	struct fl_event events[EVENT_BATCH];
	struct fl_fill fill;
	struct fl_adopt adopt;
	struct fl_pageset *released; /* pages whose range the trap was told to let go */

	struct fl_counters count;
	struct fl_histogram latency[FL_FAULT_KINDS];

	_Atomic unsigned int requests; /* REQUEST_*, set by any thread, with a write to kick_fd */
	_Atomic uint64_t kicks;        /* writes to kick_fd, counted before they are done, */
	uint64_t kicked;               /* and those that were read */
	_Atomic bool stopping;
	pthread_t thread;
	bool running; /* thread is valid; owned by whoever calls start and stop */
};

#define REQUEST_RUN  (1u << 0) /* look around, and notice that it is to stop */
#define REQUEST_FILL (1u << 1)

/* The single writer needs no locked instruction. */
static inline void fl_count(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* Is what happened this often before worth a line in the log? Then each is for a while; of the rest
 * those whose number is a power of 2. */
static inline bool fl_pager_logs(uint64_t before)
{
	return before < LOG_LINES || !(before & (before - 1));
}

/* events.c: takes what the trap reports and answers it; false when there was nothing. */
bool fl_pager_events(struct fl_pager *pager);
/* Marks a page that is no longer the guest's; the waiters of a claim that this voids are returned.
 */
unsigned int fl_pager_removed(struct fl_pager *pager, uint64_t page);

/* fetch.c: the life of a fetch. */
int fl_fetch_pool_new(struct fl_pager *pager);
void fl_fetch_pool_free(struct fl_pager *pager);
/* Gives the memory of all buffers back; it comes again as they are used. */
void fl_fetch_pool_trim(struct fl_pager *pager);
struct fl_fetch *fl_fetch_get(struct fl_pager *pager, bool demand);
struct fl_fetch *fl_fetch_of(struct fl_pager *pager, uint64_t page);
void fl_fetch_begin(struct fl_fetch *fetch, uint64_t page, enum fl_claim claim);
static inline struct fl_fetch_page *fl_fetch_page(struct fl_fetch *fetch, uint64_t page)
{
	return &fetch->each[page - fetch->page];
}
static inline bool fl_fetch_owns(const struct fl_fetch *fetch, uint64_t page)
{
	return fl_table_owns(fetch->pager->parts.table, page, fetch->claim);
}
/* Does someone wait for this page of it? */
static inline bool fl_fetch_is_waited(struct fl_fetch *fetch, uint64_t page)
{
	return page == fetch->demand || fl_fetch_page(fetch, page)->joined;
}
/* The page that someone waits for, or the first of several; NO_PAGE when nobody does. */
uint64_t fl_fetch_waited(struct fl_fetch *fetch);
/* Reads now, or starts to: true when the contents are there. A demand is cut down to the page that
 * was touched when only that is at hand. */
bool fl_fetch_read_now(struct fl_fetch *fetch);
void fl_fetch_submit(struct fl_fetch *fetch);
void fl_fetch_ready(struct fl_fetch *fetch);
/* Gives up the claims outside [page, page + pages); whoever had come to wait there touches again.
 */
void fl_fetch_cut_down(struct fl_fetch *fetch, uint64_t page, uint64_t pages);
/* Ends the claims on what is left of a fetch, so that others may take the pages on. */
void fl_fetch_give_up(struct fl_fetch *fetch);
void fl_fetch_free(struct fl_fetch *fetch);
/* Installs all demand fetches that are due. */
void fl_fetch_serve(struct fl_pager *pager);
/* Does an install wait to be tried again, perhaps for events to be read first? */
bool fl_fetch_waits(const struct fl_pager *pager);
/* Installs what of it is there. */
void fl_fetch_serve_one(struct fl_fetch *fetch);
/* Makes a fill that a fault has run into a demand, or hurries the page. */
void fl_fetch_join(struct fl_fetch *fetch, uint64_t page, uint64_t now_ns);

/* install.c: brings a fetch's contents into the guest. */
/* It has one page, which is not to be had: the install will poison it. */
void fl_fetch_poison(struct fl_fetch *fetch, const char *why, int code);
enum fl_progress {
	FL_PROGRESS_DONE,
	FL_PROGRESS_MORE,
	FL_PROGRESS_LATER,
	FL_PROGRESS_READING /* the rest has not come yet */
};
enum fl_progress fl_fetch_install(struct fl_fetch *fetch, uint64_t budget_bytes);

/* pieces.c: reads that come in pieces. */
void fl_pieces_begin(struct fl_fetch *fetch);
/* The read has failed: what has not come of it is given up; false when all of that is still to be
 * decided. A fetch that is in a list keeps what has come. */
bool fl_pieces_drop_rest(struct fl_fetch *fetch);
/* Has all come that is still ours? */
bool fl_pieces_all(const struct fl_fetch *fetch);
/* Has all of a page come? */
bool fl_pieces_has(const struct fl_fetch *fetch, uint64_t page, uint64_t page_size);

/* adopt.c: pages whose contents were in place before. */
bool fl_adopt_step(struct fl_pager *pager);
/* The page is not to be read: mapping it is enough, or it is zeros. */
static inline bool fl_adopt_has(const struct fl_pager *pager, uint64_t page)
{
	const struct fl_adopt *adopt = &pager->adopt;

	return (adopt->ready && fl_pageset_has(adopt->ready, page)) ||
	       (adopt->zeros && fl_pageset_has(adopt->zeros, page));
}
/* A page is touched: what is known to be zeros becomes that. */
void fl_adopt_touch(struct fl_pager *pager, uint64_t page);

/* release.c: lets a run of pages of one region go, all present or given back. Return: as
 * fl_trap_release(), and what madvise(2) returns. */
int fl_release_run(struct fl_pager *pager, const struct fl_place *place, uint64_t pages);
/* Was its range let go? Then it is not ours to install. */
bool fl_release_has(const struct fl_pager *pager, uint64_t page);

/* fill.c: one step ahead of need; true when there is more to do at once. */
bool fl_fill_step(struct fl_pager *pager);
void fl_fill_start(struct fl_pager *pager);
/* Lets filling come to pages again that are absent once more, from this one on. */
void fl_fill_again(struct fl_pager *pager, uint64_t page);
/* What lies behind this page comes first, where that is asked for. */
void fl_fill_near(struct fl_pager *pager, const struct fl_place *place);

/* pager.c: the session ends, because of code. */
void fl_pager_fail(struct fl_pager *pager, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void fl_pager_wake(struct fl_pager *pager, uint64_t addr, uint64_t len_bytes);
/* Lets the pager look around. */
void fl_pager_kick(struct fl_pager *pager);
/* Wakes those whose faults were missed. */
void fl_pager_wake_missed(struct fl_pager *pager);

#endif
