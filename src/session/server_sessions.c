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

struct fl_session *fl_server_find(const struct fl_server *server, uint64_t id)
{
	const struct fl_server_session *each;
	struct fl_session_info info;

	for (each = server->sessions; each; each = each->next) {
		fl_session_info(each->session, &info);
		if (info.id == id)
			return each->session;
	}
	return NULL;
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
	server->next_id++;
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

		if (conn >= 0)
			rc = begin_session(server, &server->config->endpoints[endpoint], conn);
		if (rc == -EAGAIN)
			return;
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

int fl_server_give_up(struct fl_server *server)
{
	size_t count = server->session_count;

	fl_log(server->log, FL_LOG_WARNING,
	       "ending at once: %zu VM%s left waiting for %" PRIu64 " MiB", count,
	       count == 1 ? " is" : "s are", missing_bytes(server) >> 20);
	return 1;
}
