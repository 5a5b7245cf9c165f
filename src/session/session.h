/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_SESSION_H
#define FL_SESSION_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include <faultline/faultline.h>

/*
 * One guest attached to a running daemon. See session.c for how it works.
 */

/*
 * What all sessions of one listening socket share. Set up before the first of them, constant while
 * any runs, except for recording.
 */
struct fl_endpoint {
	const char *socket_path;
	const char *image_path;
	struct fl_source *source;
	const struct fl_wset *replay; /* or NULL */
	const char *record_path;      /* or NULL */
	atomic_bool recording;        /* a session has taken that on, or has done it */
	uint32_t pager_flags;         /* FL_PAGER_FILL, FL_PAGER_RELEASE */
	uint32_t around_bytes;
	uint32_t spin_us;
	uint32_t timeout_ms; /* for the handshake */
	bool keep_vmm;       /* do not kill the VMM when its session fails */
};

/* The defaults: release, the library's fault-around, 10 s, kill. */
void fl_endpoint_init(struct fl_endpoint *endpoint);

enum fl_session_state {
	FL_SESSION_GREETING, /* connected; its handshake is awaited */
	FL_SESSION_SERVING,
	FL_SESSION_FULL, /* every page is present */
	FL_SESSION_ENDED,
	FL_SESSION_FAILED,
	FL_SESSION_STATES
};

const char *fl_session_state_name(enum fl_session_state state);

struct fl_session_info {
	uint64_t id;
	enum fl_session_state state;
	const struct fl_endpoint *endpoint;
	pid_t pid; /* 0 until it is known */
	size_t regions;
	uint64_t memory_bytes;
	uint64_t age_ns;
	bool draining;
	bool recording;
	bool greeted; /* it said a whole handshake */
	char error[200];
	struct fl_pager_stats stats;
};

struct fl_session;

/* Called by the session's own thread. */
struct fl_session_hooks {
	void (*full)(void *ctx, uint64_t full_ns); /* every page is present; or NULL */
	void (*over)(void *ctx); /* the last thing it does, it can be freed; or NULL */
	void *ctx;
};

/*
 * A session for an accepted connection, which is its own from now on, also on failure. Lines about
 * it go to log. -ENOMEM, -EMFILE.
 */
int fl_session_new(struct fl_session **session, uint64_t id, struct fl_endpoint *endpoint, int conn,
		   const struct fl_log *log, const struct fl_session_hooks *hooks);

/* Serves it to its end in the calling thread: 0 when it ended well, or why it failed. */
int fl_session_run(struct fl_session *session);

/* Serves it in a thread of its own; what pthread_create(3) returns, negated. */
int fl_session_start(struct fl_session *session);

/* From now on read ahead of need. Any thread. */
void fl_session_fill(struct fl_session *session);

/* Fill, make the VMM independent of us, and end. Any thread. */
void fl_session_drain(struct fl_session *session);

/* End now; a VMM that still needs pages is treated as on a failure. Any thread. */
void fl_session_end(struct fl_session *session);

/*
 * For who ends at once: kills the VMM unless it has all of its pages or is to be kept. Any thread.
 * 1 when it was sent the signal, 0 when it needs us no more or is gone; -ECANCELED when it is to be
 * kept, and what pidfd_send_signal(2) returns.
 */
int fl_session_kill(struct fl_session *session);

/* Waits for a VMM that was killed: true when it is gone. Any thread. */
bool fl_session_wait_for_kill(struct fl_session *session, int timeout_ms);

/* What it is and does. Any thread. */
void fl_session_info(struct fl_session *session, struct fl_session_info *info);

/* True when its thread has nothing more to do, and fl_session_free() will not wait. Any thread. */
bool fl_session_is_over(struct fl_session *session);

/* Joins its thread, which must have been told to end or be over, and frees it. NULL is fine. */
void fl_session_free(struct fl_session *session);

#endif
