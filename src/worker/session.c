/* SPDX-License-Identifier: MIT */

/*
 * One VMM. Theory of operation
 *
 * The thread goes round: the ring and the importing end, the exporting end, every now and then the
 * socket. While there is something to do, and for a short time after, it does so without sleeping:
 * then a VMM finds worker_sleeps unset and asks for a copy without a system call. Then it says
 * that it sleeps, looks once more, and polls everything.
 *
 * At the end, connections are closed before memory is unmapped, and the VMM's socket last of all:
 * it is what tells the VMM that nothing is written any more.
 */
#include "worker/session.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "link/meet_parts.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"
#include "worker/server.h"

#define STACK_BYTES (512u << 10)
#define TICK_NS     FL_NS_PER_S
/* The socket is looked at this often however much there is to do. */
#define LOOK_NS FL_NS_PER_MS
#define POLLERS (3 + 2 + FL_EXPORT_CONNS)

static void signal_fd(int fd)
{
	static const uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

/* ---- arrivals */

bool fl_worker_session_has(struct fl_worker_session *session, const uint8_t *token)
{
	bool has;

	(void)pthread_mutex_lock(&session->lock);
	has = session->exported && fl_meet_same_session(session->token, token);
	(void)pthread_mutex_unlock(&session->lock);
	return has;
}

bool fl_worker_session_arrive(struct fl_worker_session *session, const uint8_t *token,
			      struct fl_stream *stream, enum fl_channel channel)
{
	bool taken = false;

	(void)pthread_mutex_lock(&session->lock);
	if (session->exported && fl_meet_same_session(session->token, token) &&
	    session->arrivals < FL_ARRIVALS_MAX) {
		session->arrival[session->arrivals++] = (struct fl_arrival){stream, channel};
		taken = true;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (taken)
		signal_fd(session->wake_fd);
	return taken;
}

static void admit_arrivals(struct fl_worker_session *session)
{
	struct fl_arrival arrival[FL_ARRIVALS_MAX];
	uint64_t signals;
	size_t count;

	(void)!read(session->wake_fd, &signals, sizeof(signals));
	(void)pthread_mutex_lock(&session->lock);
	count = session->arrivals;
	memcpy(arrival, session->arrival, count * sizeof(*arrival));
	session->arrivals = 0;
	(void)pthread_mutex_unlock(&session->lock);
	for (size_t i = 0; i < count; i++)
		fl_export_admit(&session->export, arrival[i].stream, arrival[i].channel);
}

/* ---- the loop */

/* What to poll: the VMM's socket and wake_fd first, and with @all the rest. */
static size_t pollers_of(struct fl_worker_session *session, struct pollfd *pollers, bool all,
			 bool *pending)
{
	size_t count = 2;

	pollers[0] = (struct pollfd){.fd = session->sock, .events = POLLIN};
	pollers[1] = (struct pollfd){.fd = session->wake_fd, .events = POLLIN};
	if (!all)
		return count;
	pollers[count++] = (struct pollfd){.fd = session->ring.doorbell_fd, .events = POLLIN};
	count += fl_import_poll(&session->import, pollers + count, pending);
	return count + fl_export_poll(&session->export, pollers + count, pending);
}

/* Looks at the socket; sleeps until something happens, or for @timeout_ms. */
static int look(struct fl_worker_session *session, bool sleep, int timeout_ms)
{
	bool fill = fl_import_takes_fill(&session->import);
	struct pollfd pollers[POLLERS];
	bool pending = false;
	size_t count = pollers_of(session, pollers, sleep, &pending);

	if (sleep && !pending && fl_ring_end_sleep(&session->ring, fill)) {
		(void)poll(pollers, count, timeout_ms);
		fl_ring_end_awake(&session->ring);
	} else {
		(void)poll(pollers, count, 0);
	}
	if (pollers[1].revents)
		admit_arrivals(session);
	return pollers[0].revents ? fl_worker_session_hear(session) : 0;
}

static int check_memory(struct fl_worker_session *session)
{
	if (!session->local.broken && !session->remote.broken)
		return 0;
	fl_log(&session->config->log, FL_LOG_ERROR,
	       "vmm %lu: its memory was cut, or has no page left", session->number);
	return -EFAULT;
}

static void tick(struct fl_worker_session *session, uint64_t now_ns)
{
	fl_import_tick(&session->import, now_ns);
	fl_export_tick(&session->export, now_ns);
}

/* One round; @looked_ns is when the socket was looked at. */
static int go_round(struct fl_worker_session *session, uint64_t *looked_ns, uint64_t *ticked_ns)
{
	uint64_t spin_ns = session->config->spin_us * FL_NS_PER_US;
	uint64_t now_ns = fl_clock_ns();
	bool due = now_ns - *looked_ns >= LOOK_NS;
	bool did = fl_import_step(&session->import, due);
	bool sleep;
	int rc = check_memory(session);

	did |= fl_export_step(&session->export);
	if (did)
		session->last_ns = now_ns;
	sleep = !did && now_ns - session->last_ns >= spin_ns;
	if (!rc && (sleep || due)) {
		rc = look(session, sleep, (int)(TICK_NS / FL_NS_PER_MS));
		*looked_ns = sleep ? 0 : now_ns;
	}
	/* Whoever else could run does: the VMM's threads, another worker on this host. */
	if (!did && !sleep)
		(void)sched_yield();
	if (now_ns - *ticked_ns >= TICK_NS) {
		tick(session, now_ns);
		*ticked_ns = now_ns;
	}
	return rc;
}

static void end(struct fl_worker_session *session, int rc)
{
	const struct fl_log *log = &session->config->log;

	if (rc == -EPIPE || !rc)
		fl_log(log, FL_LOG_INFO, "vmm %lu: has gone", session->number);
	else
		fl_log(log, FL_LOG_WARNING, "vmm %lu: is given up: %s", session->number,
		       rc == -EPROTO ? "it breaks the rules" : strerror(-rc));
	(void)pthread_mutex_lock(&session->lock);
	session->exported = false;
	(void)pthread_mutex_unlock(&session->lock);
	fl_import_unlink(&session->import, rc == -EFAULT ? -EFAULT : -ECONNRESET);
	fl_export_end(&session->export);
	fl_memory_guard(NULL, NULL);
	fl_memory_drop(&session->local, 0, UINT64_MAX);
	fl_memory_drop(&session->remote, 0, UINT64_MAX);
	fl_fd_close(&session->sock);
}

static void *session_main(void *arg)
{
	struct fl_worker_session *session = arg;
	uint64_t looked_ns = 0, ticked_ns = fl_clock_ns();
	int rc = 0;

	fl_memory_guard(&session->local, &session->remote);
	while (!rc && !atomic_load_explicit(&session->stop, memory_order_relaxed))
		rc = go_round(session, &looked_ns, &ticked_ns);
	end(session, rc);
	/* Release: the server frees what we have written. */
	atomic_store_explicit(&session->ended, true, memory_order_release);
	signal_fd(session->ended_fd);
	return NULL;
}

/* ---- beginning and end */

static int prepare(struct fl_worker_session *session)
{
	const struct fl_worker_config *config = session->config;
	int rc = fl_ring_end_new(&session->ring, FL_RING_ENTRIES);

	if (rc)
		return rc;
	session->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (session->wake_fd < 0)
		return -errno;
	session->import = (struct fl_import){.ring = &session->ring,
					     .memory = &session->local,
					     .log = config->log,
					     .timeout_ms = config->timeout_ms,
					     .lost = -ENOTCONN};
	session->export = (struct fl_export){
		.memory = &session->remote, .log = config->log, .timeout_ms = config->timeout_ms};
	return fl_thread_start(&session->thread, STACK_BYTES, session_main, session);
}

static void free_parts(struct fl_worker_session *session)
{
	for (size_t i = 0; i < session->arrivals; i++)
		fl_stream_close(session->arrival[i].stream);
	while (session->offered_count)
		fl_fd_close(&session->offered[--session->offered_count].fd);
	fl_local_drop(&session->in);
	fl_ring_end_close(&session->ring);
	fl_fd_close(&session->sock);
	fl_fd_close(&session->wake_fd);
	(void)pthread_mutex_destroy(&session->lock);
	free(session);
}

int fl_worker_session_new(struct fl_worker_session **session, const struct fl_worker_config *config,
			  int sock, int ended_fd, unsigned long number)
{
	struct fl_worker_session *new = calloc(1, sizeof(*new));
	int rc;

	if (!new) {
		fl_fd_close(&sock);
		return -ENOMEM;
	}
	new->config = config;
	new->sock = sock;
	new->wake_fd = -1;
	new->ended_fd = ended_fd;
	new->number = number;
	(void)pthread_mutex_init(&new->lock, NULL);
	rc = prepare(new);
	if (rc) {
		free_parts(new);
		return rc;
	}
	*session = new;
	return 0;
}

void fl_worker_session_free(struct fl_worker_session *session)
{
	atomic_store_explicit(&session->stop, true, memory_order_relaxed);
	signal_fd(session->wake_fd);
	(void)pthread_join(session->thread, NULL);
	free_parts(session);
}
