/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_SESSION_INTERNAL_H
#define FL_SESSION_SESSION_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "session/session.h"

/* What a session's thread has been asked to do: bits of fl_session.orders. */
#define ORDER_FILL  (1u << 0)
#define ORDER_DRAIN (1u << 1)
#define ORDER_END   (1u << 2)

/* What a guest is served with. Owned by the session's thread. */
struct fl_guest {
	int uffd; /* until the trap and the install have theirs */
	int pidfd;
	int pagemap_fd;
	struct fl_layout *layout;
	struct fl_table *table;
	struct fl_trap *trap;
	struct fl_install *install;
	struct fl_wset *record; /* or NULL */
};

struct fl_session {
	/* Constant. */
	uint64_t id;
	uint64_t started_ns;
	struct fl_endpoint *endpoint;
	struct fl_log out;
	struct fl_log log; /* to out, with the session's name before each line */
	struct fl_session_hooks hooks;
	int conn;
	int wake_fd; /* written after orders was changed */

	/* Any thread. */
	_Atomic unsigned int orders;
	atomic_bool over;

	/* Owned by who created the session. */
	pthread_t thread;
	bool has_thread;

	/* The session's own thread. */
	struct fl_guest guest;
	bool filling; /* being filled, and not full yet */
	bool full;
	bool draining;
	int epoll_fd;         /* of what it waits for */
	unsigned int look_ms; /* how often it is looked whether the guest is full, */
	uint64_t looked_left; /* how many pages were missing then, */
	uint64_t looked_ns;   /* and when that was */

	/* What others may see: written by the session's thread, under the lock. Nothing on the
	 * way of a fault takes it, and no other lock is taken while it is held. */
	pthread_mutex_t lock;
	struct fl_session_info info;
	struct fl_pager *pager; /* set while one runs */
	int vmm_pidfd;          /* the guest's pidfd while it is open, or -1 */
};

/* attach.c: receives the handshake and sets up the guest, without a pager yet. */
int fl_session_greet(struct fl_session *session, struct fl_error *err);
int fl_session_build(struct fl_session *session, struct fl_error *err);
/* Sets up the pager and lets others see it. */
int fl_session_attach(struct fl_session *session, struct fl_error *err);
/* Lets everything go that these made. */
void fl_session_detach(struct fl_session *session);

/* serve.c: serves the guest until the VMM is gone (0), it needs us no more (0), or it failed. */
int fl_session_serve(struct fl_session *session, struct fl_error *err);

/* session.c */
void fl_session_set_state(struct fl_session *session, enum fl_session_state state);
void fl_session_set_error(struct fl_session *session, const char *text);

#endif
