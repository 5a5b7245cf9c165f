/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_SERVER_INTERNAL_H
#define FL_SESSION_SERVER_INTERNAL_H

#include <sys/epoll.h>

#include "session/image.h"
#include "session/listener.h"
#include "session/server.h"

/* What a readable descriptor is: travels through epoll(7) as its cookie. */
enum fl_server_kind {
	FL_SERVER_SIGNAL,
	FL_SERVER_OVER,     /* a session has ended */
	FL_SERVER_ENDPOINT, /* index: of the endpoint */
	FL_SERVER_CONTROL,
	FL_SERVER_CONTROL_PEER, /* index: of the peer */
	FL_SERVER_METRICS
};

union fl_server_cookie {
	struct {
		uint32_t kind;
		uint32_t index;
	};
	uint64_t u64;
};

/* Sums over the sessions that have ended. */
struct fl_totals {
	uint64_t accepted, ended, failed, refused;
	struct fl_pager_stats stats; /* counters only */
};

struct fl_server_session {
	struct fl_server_session *next;
	uint64_t id;
	struct fl_session *session;
	bool killed; /* by the second signal */
};

struct fl_control;
struct fl_metrics;

/* Belongs to the main thread, all of it. */
struct fl_server {
	const struct fl_server_config *config;
	const struct fl_log *log;
	uint64_t started_ns;
	int epoll_fd;
	int signal_fd;
	int over_fd;                   /* eventfd that sessions write when they are over */
	struct fl_listener *listeners; /* one for each endpoint */
	bool listening;
	uint64_t resume_ns; /* accepting is paused until then; 0 when it is not */
	struct fl_server_session *sessions;
	size_t session_count;
	size_t session_max; /* that there are descriptors for */
	bool full_said;     /* that there are no more of them */
	uint64_t next_id;
	struct fl_totals totals;
	bool draining;
	bool done;
	uint64_t progress_ns; /* when the next line about draining is due */
	struct fl_control *control;
	struct fl_metrics *metrics;
};

/* server.c: has a descriptor watched, or watched for something else. */
int fl_server_watch(struct fl_server *server, int fd, uint32_t events, enum fl_server_kind kind,
		    uint32_t index);

/* server_open.c */
int fl_server_open(struct fl_server *server, struct fl_error *err);
void fl_server_announce(const struct fl_server *server);
void fl_server_close(struct fl_server *server);

/* server_sessions.c */
void fl_server_listen(struct fl_server *server, bool on);
void fl_server_accept(struct fl_server *server, uint32_t endpoint);
void fl_server_reap(struct fl_server *server);
void fl_server_drain(struct fl_server *server);
/* Says how far draining has come. */
void fl_server_report(struct fl_server *server);
/* Kills VMMs that would see wrong pages, and says so; the exit status. */
int fl_server_give_up(struct fl_server *server);
/* The session with an id, or NULL. */
struct fl_session *fl_server_find(const struct fl_server *server, uint64_t id);

/* totals.c: adds a session's counters. */
void fl_totals_add(struct fl_totals *totals, const struct fl_session_info *info);
/* The counters of all sessions ever, those that run included. */
void fl_totals_all(const struct fl_server *server, struct fl_totals *totals);

/* control.c */
int fl_control_open(struct fl_control **control, struct fl_server *server, const char *path,
		    struct fl_error *err);
void fl_control_accept(struct fl_control *control);
void fl_control_ready(struct fl_control *control, uint32_t index, uint32_t events);
void fl_control_close(struct fl_control *control);

/* metrics.c */
int fl_metrics_open(struct fl_metrics **metrics, struct fl_server *server, const char *where,
		    struct fl_error *err);
void fl_metrics_ready(struct fl_metrics *metrics);
/* How long the main loop may sleep at most for it, in milliseconds, or -1. */
int fl_metrics_timeout_ms(struct fl_metrics *metrics);
void fl_metrics_close(struct fl_metrics *metrics);

/* metrics_text.c: to be freed with free(3); NULL without memory. */
char *fl_metrics_format(const struct fl_server *server, size_t *len);

#endif
