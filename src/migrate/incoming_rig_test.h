/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_INCOMING_RIG_TEST_H
#define FL_MIGRATE_INCOMING_RIG_TEST_H

/*
 * A machine that arrives, on real memory and a real trap, and the other side of it, scripted: the test
 * says every frame. What the other side has (its truth) describes itself, see test_pattern(), with a seed
 * for each page that changes when the page is written.
 */

#include "support.h"
#include <faultline/migrate.h>

#include <pthread.h>
#include <stdatomic.h>

#include "link/conn.h"
#include "link/meet.h"

#define RIG_REQUESTS 4096
#define RIG_ENDS     64

struct rig_options {
	size_t pages;       /* 0: 64; halved into two regions */
	bool hugetlb, segv; /* 2 MiB pages; SIGSEGV instead of userfaultfd */
	uint32_t timeout_ms;
	uint32_t window_bytes;
	int prepare_result, load_result, run_result;
	long load_touches;  /* page that load() reads, or -1 */
	size_t run_touches; /* page that run() reads, or 0 */
	int spoil;          /* SPOIL_*: what prepare() gets wrong */
	uint32_t ways;      /* that are accepted, and offered */
	int (*way)(void *ctx, enum fl_migrate_way kind, const void *blob, size_t len_bytes,
		   struct fl_source **source, struct fl_error *err);
};

enum { SPOIL_NOTHING, SPOIL_LAYOUT, SPOIL_COUNT, SPOIL_ALIAS, SPOIL_FILE };

struct rig_request {
	bool demand;
	uint64_t offset;
	uint32_t bytes;
};

struct rig_peer {
	struct fl_conn *conn[2]; /* main, demand */
	int result[2];           /* of the last receiving: negative when it has ended */
	struct fl_error error;
	unsigned int came[FL_FRAME_TYPES];
	struct fl_frame last[FL_FRAME_TYPES];
	struct rig_request request[RIG_REQUESTS];
	unsigned int rounds;                /* said */
	unsigned int requests, answered;    /* answered: those before it were dealt with */
	struct fl_pageset *received, *torn; /* as RECEIVED and TORN have said */
	struct fl_pageset *paid;            /* answered, in whatever way */
};

struct rig {
	struct rig_options options;
	size_t page_size, pages, len;
	int listen_fd;
	char address[128];
	char config[16];

	/* The machine that arrives. */
	int memfd, uffd;
	char *mem, *alias;
	struct fl_layout *layout;
	struct fl_alias aliases[2];
	int fds[2];
	uint64_t fd_offsets[2];
	struct fl_incoming *in;
	_Atomic bool loading, loaded, ran;
	_Atomic bool poisoned; /* what run() read */
	char state[16];
	_Atomic unsigned int ends;
	unsigned int heard; /* of them, by rig_ended() */
	enum fl_migrate_phase end[RIG_ENDS];

	/* Where it comes from. */
	struct rig_peer peer[2]; /* one side and, for a recovery, that side again */
	struct rig_peer *now;
	char *truth;
	uint64_t *seed;          /* of each page; 0: zeros */
	struct fl_pageset *owed; /* pages that are due, or were never sent */
	bool no_clean;           /* everything asked for is answered with contents */
	uint8_t session[FL_WIRE_SESSION];
};

/* With the other side's truth made, and nothing said. Skips what the machine cannot. */
void rig_start(struct rig *rig, const struct rig_options *options);
void rig_stop(struct rig *rig);

/* The other side. */
void rig_write(struct rig *rig, size_t page, uint64_t seed); /* seed 0: zeros */
void rig_meet(struct rig *rig);
/* Anew, with the session, by connecting or by being connected to. */
void rig_meet_again(struct rig *rig, bool listens);
void rig_cut(struct rig *rig);
void rig_say(struct rig *rig, int conn, uint8_t type, uint64_t offset, uint32_t bytes, uint32_t id);
void rig_say_with(struct rig *rig, int conn, const struct fl_frame *frame, const void *payload,
		  uint32_t len);
void rig_machine(struct rig *rig);
/* The contents of pages as they are in truth; @torn: other contents than their sums say. */
void rig_pages(struct rig *rig, int conn, size_t page, size_t count, bool torn);
void rig_zero(struct rig *rig, int conn, size_t page, size_t count);
void rig_round(struct rig *rig, uint32_t id);
void rig_state(struct rig *rig);
void rig_due(struct rig *rig);
/* Everything up to a phase, with all pages in round 1. */
void rig_to_rounds(struct rig *rig);
void rig_to_ready(struct rig *rig);
void rig_to_go(struct rig *rig);

/* Receives what comes until a frame of a type has come @count times in all. */
void rig_await(struct rig *rig, uint8_t type, unsigned int count);
/* Answers all requests as the protocol says, until a frame of a type has come. */
void rig_serve_until(struct rig *rig, uint8_t type);
#define rig_serve_while(rig, condition)            \
	do {                                       \
		uint64_t rig_end = rig_deadline(); \
		while (condition)                  \
			rig_serve(rig, rig_end);   \
	} while (0)
#define rig_wait(condition)                        \
	do {                                       \
		uint64_t rig_end = rig_deadline(); \
		while (!(condition))               \
			rig_pause(rig_end);        \
	} while (0)
uint64_t rig_deadline(void);
void rig_pause(uint64_t end_ns);
void rig_serve(struct rig *rig, uint64_t end_ns);
/* Takes what comes, without answering. */
void rig_hear(struct rig *rig, uint64_t end_ns);
/* One request, whichever connection it came by, that was not dealt with; waits for it. */
struct rig_request rig_request(struct rig *rig);
void rig_answer(struct rig *rig, const struct rig_request *request);

/* The machine. */
enum fl_migrate_phase rig_phase(const struct rig *rig);
struct fl_incoming_stats rig_stats(const struct rig *rig);
/* Waits for the next ended(), which must be with @phase, and for what it says why. */
void rig_ended(struct rig *rig, enum fl_migrate_phase phase, int code, const char *text);
char *rig_at(const struct rig *rig, size_t page);
/* Reads a page as the guest does and compares it with the truth. */
void rig_check(struct rig *rig, size_t page);
void rig_check_all(struct rig *rig);
/* Everything from GO on, to the end. */
void rig_finish(struct rig *rig);

/* A thread of the guest that reads a page. */
struct rig_toucher {
	pthread_t thread;
	struct rig *rig;
	size_t page;
	_Atomic bool done;
	char *seen;
};

void rig_touch(struct rig_toucher *toucher, struct rig *rig, size_t page);
/* Joins, and checks what it saw. */
void rig_touched(struct rig_toucher *toucher);

#endif
