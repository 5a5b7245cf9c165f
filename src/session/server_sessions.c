/* SPDX-License-Identifier: MIT */
/* The sessions of the daemon: how they come, how they are drained, how they go. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/server_internal.h"
#include "util/clock.h"
#include "util/log.h"

/* How long VMMs that were killed may take to die before the daemon ends all the same. */
#define KILL_WAIT_NS (2 * FL_NS_PER_S)

struct fl_session *fl_server_find(const struct fl_server *server, uint64_t id)
{
	const struct fl_server_session *each = server->sessions;

	while (each && each->id != id)
		each = each->next;
	return each ? each->session : NULL;
}

/* Called by a session's thread. */
static void session_is_over(void *ctx)
{
	const struct fl_server *server = ctx;
	uint64_t one = 1;

	(void)!write(server->over_fd, &one, sizeof(one));
}

void fl_server_listen(struct fl_server *server, bool on)
{
	for (uint32_t i = 0; i < server->config->endpoint_count; i++)
		(void)fl_server_watch(server, server->listeners[i].fd, on ? EPOLLIN : 0,
				      FL_SERVER_ENDPOINT, i);
	server->resume_ns = on ? 0 : fl_clock_ns() + FL_NS_PER_S;
}

static int begin_session(struct fl_server *server, struct fl_endpoint *endpoint, int conn)
{
	struct fl_session_hooks hooks = {.over = session_is_over, .ctx = server};
	struct fl_server_session *entry = calloc(1, sizeof(*entry));
	int rc;

	if (!entry) {
		(void)close(conn);
		return -ENOMEM;
	}
	rc = fl_session_new(&entry->session, server->next_id, endpoint, conn, server->log, &hooks);
	if (!rc)
		rc = fl_session_start(entry->session);
	if (rc) {
		fl_session_free(entry->session);
		free(entry);
		return rc;
	}
	entry->id = server->next_id++;
	server->session_count++;
	server->totals.accepted++;
	entry->next = server->sessions;
	server->sessions = entry;
	return 0;
}

/* Connections wait in the backlog until a session has ended, or a second has passed. */
static void pause_accepting(struct fl_server *server, const char *why)
{
	if (!server->full_said)
		fl_log(server->log, FL_LOG_WARNING, "%zu sessions: no more for now: %s",
		       server->session_count, why);
	server->full_said = true;
	fl_server_listen(server, false);
}

void fl_server_accept(struct fl_server *server, uint32_t endpoint)
{
	while (server->session_count < server->session_max) {
		int conn = fl_listener_accept(&server->listeners[endpoint]);
		int rc = conn;

		/* No more of them; but a thread that cannot be had is EAGAIN as well. */
		if (conn == -EAGAIN)
			return;
		if (conn >= 0) {
			rc = begin_session(server, &server->config->endpoints[endpoint], conn);
			if (rc)
				fl_log(server->log, FL_LOG_ERROR,
				       "a connection to %s was dropped: %s",
				       server->config->endpoints[endpoint].socket_path,
				       strerror(-rc));
		}
		if (rc) {
			pause_accepting(server, strerror(-rc));
			return;
		}
		server->full_said = false;
	}
	pause_accepting(server, "descriptors are used up");
}

void fl_server_reap(struct fl_server *server)
{
	struct fl_server_session **at = &server->sessions;
	uint64_t count;

	(void)!read(server->over_fd, &count, sizeof(count));
	while (*at) {
		struct fl_server_session *entry = *at;
		struct fl_session_info info;

		if (!fl_session_is_over(entry->session)) {
			at = &entry->next;
			continue;
		}
		fl_session_info(entry->session, &info);
		fl_totals_add(&server->totals, &info);
		fl_session_free(entry->session);
		*at = entry->next;
		free(entry);
		server->session_count--;
	}
	if (server->resume_ns)
		server->resume_ns = 1;
}

static uint64_t missing_bytes(const struct fl_server *server)
{
	const struct fl_server_session *each;
	uint64_t bytes = 0;

	for (each = server->sessions; each; each = each->next) {
		struct fl_session_info info;

		fl_session_info(each->session, &info);
		if (info.stats.pages)
			bytes += info.memory_bytes / info.stats.pages * info.stats.left;
	}
	return bytes;
}

void fl_server_report(struct fl_server *server)
{
	size_t count = server->session_count;

	fl_log(server->log, FL_LOG_INFO, "draining: %zu session%s, %" PRIu64 " MiB to go", count,
	       count == 1 ? "" : "s", missing_bytes(server) >> 20);
	server->progress_ns = fl_clock_ns() + FL_NS_PER_S;
}

void fl_server_drain(struct fl_server *server)
{
	struct fl_server_session *each;

	if (server->draining)
		return;
	server->draining = true;
	server->listening = false;
	server->resume_ns = 0;
	for (size_t i = 0; i < server->config->endpoint_count; i++)
		fl_listener_close(&server->listeners[i]);
	for (each = server->sessions; each; each = each->next)
		fl_session_drain(each->session);
	fl_server_report(server);
}

/* Their userfaultfds are closed when we are gone: they must not run on then. */
static void wait_for_killed(struct fl_server *server)
{
	uint64_t end_ns = fl_clock_ns() + KILL_WAIT_NS;
	struct fl_server_session *each;

	for (each = server->sessions; each; each = each->next) {
		uint64_t now = fl_clock_ns();
		int timeout_ms = now < end_ns ? (int)((end_ns - now) / FL_NS_PER_MS) : 0;

		if (each->killed && !fl_session_wait_for_kill(each->session, timeout_ms))
			fl_log(server->log, FL_LOG_WARNING,
			       "session %" PRIu64 ": its VMM was killed, and is not gone yet",
			       each->id);
	}
}

int fl_server_give_up(struct fl_server *server)
{
	uint64_t missing = missing_bytes(server);
	struct fl_server_session *each;
	size_t killed = 0, left = 0;

	for (each = server->sessions; each; each = each->next) {
		int rc = fl_session_kill(each->session);

		each->killed = rc > 0;
		killed += rc > 0;
		left += rc < 0;
	}
	wait_for_killed(server);
	fl_log(server->log, FL_LOG_WARNING,
	       "ending at once with %" PRIu64 " MiB missing: VMs killed: %zu, left waiting: %zu",
	       missing >> 20, killed, left);
	return 1;
}
