/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 * ===================
 *
 * A session is one thread. It receives the handshake, sets up the guest's parts, and then polls
 * three things: the pager, the VMM's pidfd and its own eventfd, through which others give it
 * orders. So there is one place that sees a VMM die, and one that decides how a session ends:
 *
 *	greeting -> serving -> full -> ended	the VMM is gone, or needs us no more
 *	    |          |         '---> failed	and its VMM is killed, unless told otherwise
 *	    '----------'
 *
 * Sessions share an endpoint, which does not change, and a source, which was made to be shared.
 * They share no lock: what harms one of them cannot be noticed by another.
 *
 * EOF on the connection means nothing: Firecracker before 1.12 closes it at once. The connection is
 * kept open all the same, so that a VMM that watches it sees when its pager is gone.
 *
 * When a session fails, its VMM would wait for ever at its next missing page, or, if it kept no
 * userfaultfd of its own, read zeros that are none. Ending it is the lesser evil and the default.
 * It is dead before its userfaultfd is closed, so that no thread of it sees a wrong page. Where it
 * is to be kept, to be looked at, or may not be killed by us, its userfaultfd is kept too until it
 * is gone, whatever we are asked to do meanwhile.
 *
 * Only a peer that has said a whole handshake, with a userfaultfd, is treated as a VMM. Another one
 * is sent away with a line in the log.
 */
#include "session/session.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/session_internal.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

/* Address space only: what is not touched costs nothing. */
#define STACK_BYTES (256u * 1024)
/* How long a killed VMM may take to die before its userfaultfd is closed all the same. */
#define KILL_WAIT_MS 5000

void fl_endpoint_init(struct fl_endpoint *endpoint)
{
	*endpoint = (struct fl_endpoint){.pager_flags = FL_PAGER_RELEASE,
					 .around_bytes = FL_AROUND_DEFAULT,
					 .timeout_ms = 10000};
}

const char *fl_session_state_name(enum fl_session_state state)
{
	static const char *const names[FL_SESSION_STATES] = {
		[FL_SESSION_GREETING] = "greeting", [FL_SESSION_SERVING] = "serving",
		[FL_SESSION_FULL] = "full",         [FL_SESSION_ENDED] = "ended",
		[FL_SESSION_FAILED] = "failed",
	};

	return names[state];
}

/* The pid was set before the session had a thread, or by the thread that calls this. */
static void write_line(void *ctx, enum fl_log_level level, const char *text)
{
	const struct fl_session *session = ctx;

	if (session->info.pid)
		fl_log(&session->out, level, "session %" PRIu64 " (pid %d): %s", session->id,
		       (int)session->info.pid, text);
	else
		fl_log(&session->out, level, "session %" PRIu64 ": %s", session->id, text);
}

void fl_session_set_state(struct fl_session *session, enum fl_session_state state)
{
	(void)pthread_mutex_lock(&session->lock);
	session->info.state = state;
	(void)pthread_mutex_unlock(&session->lock);
}

void fl_session_set_error(struct fl_session *session, const char *text)
{
	(void)pthread_mutex_lock(&session->lock);
	(void)snprintf(session->info.error, sizeof(session->info.error), "%s", text);
	session->info.state = FL_SESSION_FAILED;
	(void)pthread_mutex_unlock(&session->lock);
}

/* For the log, until the handshake brings the same with a pidfd. */
static pid_t peer_pid(int conn)
{
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);

	(void)getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	return cred.pid;
}

int fl_session_new(struct fl_session **session, uint64_t id, struct fl_endpoint *endpoint, int conn,
		   const struct fl_log *log, const struct fl_session_hooks *hooks)
{
	struct fl_session *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	if (!s)
		goto fail;
	*s = (struct fl_session){.id = id,
				 .endpoint = endpoint,
				 .conn = conn,
				 .started_ns = fl_clock_ns(),
				 .guest = {.uffd = -1, .pidfd = -1, .pagemap_fd = -1},
				 .vmm_pidfd = -1,
				 .info = {.id = id, .endpoint = endpoint, .pid = peer_pid(conn)},
				 .epoll_fd = -1,
				 .lock = PTHREAD_MUTEX_INITIALIZER};
	s->out = *log;
	s->log = (struct fl_log){.write = write_line, .ctx = s};
	s->info.stats.size = sizeof(s->info.stats);
	if (hooks)
		s->hooks = *hooks;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = -errno;
	if (s->wake_fd < 0)
		goto fail;
	*session = s;
	return 0;
fail:
	free(s);
	(void)close(conn);
	return rc;
}

/* Orders are for a session that serves: none of them ends this. True when the VMM is gone. */
static bool wait_for_exit(int pidfd, int timeout_ms)
{
	struct pollfd gone = {.fd = pidfd, .events = POLLIN};
	int rc;

	do
		rc = poll(&gone, 1, timeout_ms);
	while (rc < 0 && errno == EINTR);
	return rc > 0;
}

/* One line, and the end of the VMM; or a wait for it where it lives on. */
static void fail(struct fl_session *session, int rc, struct fl_error *err)
{
	int pidfd = session->guest.pidfd;

	/* Where nobody had more to say, the error has a name. */
	if (!*err->text)
		(void)fl_error_set(err, rc, "%s", strerror(-rc));
	fl_session_set_error(session, err->text);
	if (session->endpoint->keep_vmm) {
		fl_log(&session->log, FL_LOG_ERROR, "failed: %s; its VMM is left waiting",
		       err->text);
		(void)wait_for_exit(pidfd, -1);
	} else if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) == 0 || errno == ESRCH) {
		fl_log(&session->log, FL_LOG_ERROR, "failed: %s; its VMM was killed", err->text);
		(void)wait_for_exit(pidfd, KILL_WAIT_MS);
	} else {
		fl_log(&session->log, FL_LOG_ERROR,
		       "failed: %s; its VMM could not be killed, and is left waiting: %s",
		       err->text, strerror(errno));
		(void)wait_for_exit(pidfd, -1);
	}
}

/* A peer that leaves early may only have looked whether somebody is here. */
static void refuse(struct fl_session *session, int rc, struct fl_error *err)
{
	if (!*err->text)
		(void)fl_error_set(err, rc, "%s", strerror(-rc));
	fl_session_set_error(session, err->text);
	fl_log(&session->log, rc == -ECONNRESET ? FL_LOG_INFO : FL_LOG_ERROR, "refused: %s",
	       err->text);
}

static int serve_guest(struct fl_session *session, struct fl_error *err)
{
	int rc = fl_session_build(session, err);

	if (!rc)
		rc = fl_session_attach(session, err);
	if (rc)
		return rc;
	fl_log(&session->log, FL_LOG_INFO, "attached: %" PRIu64 " MiB in %zu region%s from %s",
	       session->info.memory_bytes >> 20, session->info.regions,
	       session->info.regions == 1 ? "" : "s", session->endpoint->image_path);
	return fl_session_serve(session, err);
}

int fl_session_run(struct fl_session *session)
{
	struct fl_error err = {.text = ""};
	int rc = fl_session_greet(session, &err);

	if (rc && session->guest.pidfd < 0) {
		refuse(session, rc, &err);
	} else {
		if (!rc)
			rc = serve_guest(session, &err);
		if (rc)
			fail(session, rc, &err);
	}
	fl_session_detach(session);
	if (!rc) {
		fl_session_set_state(session, FL_SESSION_ENDED);
		fl_log(&session->log, FL_LOG_INFO,
		       "ended; pages: %" PRIu64 " by demand, %" PRIu64 " around, %" PRIu64
		       " filled, %" PRIu64 " missing",
		       session->info.stats.demand, session->info.stats.around,
		       session->info.stats.fill, session->info.stats.left);
	}
	return rc;
}

static void *run(void *arg)
{
	struct fl_session *session = arg;
	struct fl_session_hooks hooks = session->hooks;

	(void)fl_session_run(session);
	atomic_store(&session->over, true);
	if (hooks.over)
		hooks.over(hooks.ctx);
	return NULL;
}

int fl_session_start(struct fl_session *session)
{
	int rc = fl_thread_start(&session->thread, STACK_BYTES, run, session);

	session->has_thread = rc == 0;
	return rc;
}

static void order(struct fl_session *session, unsigned int orders)
{
	uint64_t one = 1;

	atomic_fetch_or(&session->orders, orders);
	(void)!write(session->wake_fd, &one, sizeof(one));
}

void fl_session_fill(struct fl_session *session)
{
	order(session, ORDER_FILL);
}

void fl_session_drain(struct fl_session *session)
{
	order(session, ORDER_DRAIN);
}

/* A peer that is still greeting is hung up on, which ends its wait. */
void fl_session_end(struct fl_session *session)
{
	order(session, ORDER_END);
	(void)shutdown(session->conn, SHUT_RDWR);
}

void fl_session_info(struct fl_session *session, struct fl_session_info *info)
{
	(void)pthread_mutex_lock(&session->lock);
	*info = session->info;
	if (session->pager)
		fl_pager_stats(session->pager, &info->stats);
	(void)pthread_mutex_unlock(&session->lock);
	if (info->state == FL_SESSION_SERVING && info->stats.full_ns)
		info->state = FL_SESSION_FULL;
	info->age_ns = fl_clock_ns() - session->started_ns;
}

int fl_session_kill(struct fl_session *session)
{
	struct fl_session_info info;
	int rc = 0;

	fl_session_info(session, &info);
	if (info.stats.pages && !info.stats.left)
		return 0;
	(void)pthread_mutex_lock(&session->lock);
	if (session->vmm_pidfd >= 0) {
		rc = 1;
		if (session->endpoint->keep_vmm)
			rc = -ECANCELED;
		else if (pidfd_send_signal(session->vmm_pidfd, SIGKILL, NULL, 0) < 0)
			rc = errno == ESRCH ? 0 : -errno;
	}
	(void)pthread_mutex_unlock(&session->lock);
	return rc;
}

/* The lock is held meanwhile: without it the pidfd could be closed. */
bool fl_session_wait_for_kill(struct fl_session *session, int timeout_ms)
{
	bool gone = true;

	(void)pthread_mutex_lock(&session->lock);
	if (session->vmm_pidfd >= 0)
		gone = wait_for_exit(session->vmm_pidfd, timeout_ms);
	(void)pthread_mutex_unlock(&session->lock);
	return gone;
}

bool fl_session_is_over(struct fl_session *session)
{
	return atomic_load(&session->over);
}

void fl_session_free(struct fl_session *session)
{
	if (!session)
		return;
	if (session->has_thread)
		(void)pthread_join(session->thread, NULL);
	fl_session_detach(session);
	fl_fd_close(&session->conn);
	fl_fd_close(&session->wake_fd);
	(void)pthread_mutex_destroy(&session->lock);
	free(session);
}
