/* SPDX-License-Identifier: MIT */
/*
 * The loop of a session's thread.
 *
 * It runs the pager for as long as there is something to do, and looks after everything else (the
 * VMM's exit, orders) only now and then meanwhile: whatever those mean, they can wait some
 * milliseconds, and a fault cannot.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/epoll.h>
#include <string.h>
#include <unistd.h>

#include "session/session_internal.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

/* Runs of the pager in a row before the rest is looked at; each is a few hundred us at most. */
#define RUNS_MAX 32
/* While a guest is being filled: how often to see whether it is full, as long as it gets fuller. */
#define LOOK_FIRST_MS 10
#define LOOK_LAST_MS  1000
/* A guest that was released is watched this long for removals that were already under way. */
#define QUIET_MS 50

#define SEEN_VMM_EXIT (1u << 0)
#define SEEN_ORDER    (1u << 1)
#define SEEN_PAGER    0u

static int watch(struct fl_session *session, int fd, uint32_t seen)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = seen};

	return epoll_ctl(session->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* An epoll set, because poll(2) would queue up at all three again for each fault. */
static int watch_all(struct fl_session *session, struct fl_error *err)
{
	int rc;

	session->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	rc = session->epoll_fd < 0 ? -errno : 0;
	if (!rc)
		rc = watch(session, fl_pager_fd(session->pager), SEEN_PAGER);
	if (!rc)
		rc = watch(session, session->guest.pidfd, SEEN_VMM_EXIT);
	if (!rc)
		rc = watch(session, session->wake_fd, SEEN_ORDER);
	return rc ? fl_error_set(err, rc, "epoll: %s", strerror(-rc)) : 0;
}

static int wait_for_work(struct fl_session *session, int timeout_ms, unsigned int *seen)
{
	struct epoll_event events[3];
	int ready = epoll_wait(session->epoll_fd, events, 3, timeout_ms);

	*seen = 0;
	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < ready; i++)
		*seen |= events[i].data.u32;
	return ready;
}

/* 1 when the pager has more to do, 0 when it is idle, or why it failed. */
static int run_pager(struct fl_session *session)
{
	uint64_t spin_ns = session->endpoint->spin_us * FL_NS_PER_US;
	uint64_t idle_ns = 0;

	for (int runs = 0; runs < RUNS_MAX;) {
		int more = fl_pager_run(session->pager);
		uint64_t now;

		if (more < 0)
			return more;
		runs += more;
		if (more || !spin_ns) {
			idle_ns = 0;
			if (!more)
				return 0;
			continue;
		}
		now = fl_clock_ns();
		idle_ns = idle_ns ? idle_ns : now;
		if (now - idle_ns > spin_ns)
			return 0;
	}
	return 1;
}

static void obey(struct fl_session *session, unsigned int orders)
{
	if (orders & (ORDER_FILL | ORDER_DRAIN)) {
		fl_pager_fill(session->pager);
		session->filling = !session->full;
		session->look_ms = LOOK_FIRST_MS;
	}
	if (orders & ORDER_DRAIN && !session->draining) {
		session->draining = true;
		(void)pthread_mutex_lock(&session->lock);
		session->info.draining = true;
		(void)pthread_mutex_unlock(&session->lock);
	}
}

static unsigned int take_orders(struct fl_session *session)
{
	uint64_t count;

	(void)!read(session->wake_fd, &count, sizeof(count));
	return atomic_exchange(&session->orders, 0);
}

static bool is_time_to_look(const struct fl_session *session)
{
	return session->filling &&
	       fl_clock_ns() - session->looked_ns >= session->look_ms * FL_NS_PER_MS;
}

/* Is every page there? Asked rarely, because the answer takes a look at all figures. */
static void look_if_full(struct fl_session *session)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};

	session->looked_ns = fl_clock_ns();
	fl_pager_stats(session->pager, &stats);
	if (!stats.full_ns) {
		bool same = stats.left == session->looked_left;

		session->look_ms = same ? session->look_ms * 2 : LOOK_FIRST_MS;
		if (session->look_ms > LOOK_LAST_MS)
			session->look_ms = LOOK_LAST_MS;
		session->looked_left = stats.left;
		return;
	}
	session->full = true;
	session->filling = false;
	fl_session_set_state(session, FL_SESSION_FULL);
	if (session->hooks.full)
		session->hooks.full(session->hooks.ctx, stats.full_ns);
}

/*
 * Makes a VMM whose every page is present independent of us. A removal that had begun before its
 * range was released still waits for its event to be read. Nothing that goes wrong here is worth
 * the VMM's life: all that it still could need of us is given when its userfaultfd is closed.
 */
static void release_guest(struct fl_session *session)
{
	unsigned int seen = 0;
	int rc = fl_pager_release(session->pager);

	if (rc < 0 && rc != -ESRCH)
		fl_log(&session->log,
		       rc == -EINVAL || rc == -ENOENT ? FL_LOG_DEBUG : FL_LOG_WARNING,
		       "releasing the guest's memory: %s", strerror(-rc));
	do
		rc = run_pager(session);
	while (rc >= 0 && wait_for_work(session, QUIET_MS, &seen) > 0 && !seen);
	if (rc == -ESRCH)
		return;
	if (rc < 0)
		fl_log(&session->log, FL_LOG_WARNING, "the pager failed after the last page: %s",
		       strerror(-rc));
	fl_log(&session->log, FL_LOG_INFO, "released: the VMM needs no pager any more");
}

/* Asked to end: that harms nobody when every page is present. */
static int end_on_order(struct fl_session *session, struct fl_error *err)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};

	fl_pager_stats(session->pager, &stats);
	if (!stats.left) {
		release_guest(session);
		return 0;
	}
	return fl_error_set(err, -ECANCELED, "ended by request with %" PRIu64 " pages missing",
			    stats.left);
}

static int pager_failure(const struct fl_session *session, int rc, struct fl_error *err)
{
	return fl_error_set(err, rc, "%s: %s", fl_pager_error(session->pager), strerror(-rc));
}

static int serve(struct fl_session *session, struct fl_error *err)
{
	for (;;) {
		unsigned int seen;
		int more = run_pager(session);
		int rc;

		if (more == -ESRCH)
			return 0;
		if (more < 0)
			return pager_failure(session, more, err);
		if (is_time_to_look(session))
			look_if_full(session);
		if (session->full && session->draining) {
			release_guest(session);
			return 0;
		}
		rc = wait_for_work(session,
				   more               ? 0
				   : session->filling ? (int)session->look_ms
						      : -1,
				   &seen);
		if (rc < 0)
			return fl_error_set(err, rc, "poll: %s", strerror(-rc));
		if (seen & SEEN_VMM_EXIT)
			return 0;
		if (seen & SEEN_ORDER) {
			unsigned int orders = take_orders(session);

			if (orders & ORDER_END)
				return end_on_order(session, err);
			obey(session, orders);
		}
	}
}

int fl_session_serve(struct fl_session *session, struct fl_error *err)
{
	int rc = watch_all(session, err);

	session->look_ms = LOOK_FIRST_MS;
	if (!rc)
		rc = serve(session, err);
	/* A VMM can be gone before it was noticed that the last page had come. */
	if (session->filling)
		look_if_full(session);
	return rc;
}
