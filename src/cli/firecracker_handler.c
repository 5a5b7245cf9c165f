/* SPDX-License-Identifier: MIT */
/*
 * faultline-firecracker-handler SOCKET MEMFILE [APF_SOCKET]
 *
 * One VM, one process: the form in which Firecracker's own test framework starts a page-fault
 * handler, as root in a chroot that holds this program, the image and nothing else. So it is linked
 * statically, needs neither /proc nor /dev, and speaks on standard output. It ends with its VM, and
 * kills it when it cannot go on.
 *
 * As "...fault_all..." it fills the whole guest at once and says how long that took, in the words
 * that the framework looks for at the very beginning of the output; so nothing else is said before.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "session/image.h"
#include "session/journal.h"
#include "session/listener.h"
#include "session/session.h"
#include "util/error.h"

#define PROGRAM "faultline-firecracker-handler"

static const char help[] =
	"usage: " PROGRAM " [--fault-all] SOCKET MEMFILE [APF_SOCKET]\n\n"
	"Serves the memory of one Firecracker VM, restored from MEMFILE, on SOCKET, and ends with\n"
	"it. APF_SOCKET is accepted and not used. With --fault-all, or called by a name that has\n"
	"\"fault_all\" in it, everything is filled at once.\n";

struct handler {
	const char *socket_path;
	const char *image_path;
	bool fault_all;
	struct fl_journal journal;
	struct fl_log log;
};

/* Lines about what comes after the first one, which is not written by the journal. */
static void on_full(void *ctx, uint64_t full_ns)
{
	struct handler *handler = ctx;

	if (!handler->fault_all)
		return;
	(void)dprintf(STDOUT_FILENO, "Finished Faulting All: %" PRIu64 "us\n", full_ns / 1000);
	handler->journal.level = FL_LOG_INFO;
}

/* 0 when told what to do; else the exit status is *status. */
static int parse(struct handler *handler, int argc, char **argv, int *status)
{
	const char *name = strrchr(argv[0], '/');
	int at = 1;

	handler->fault_all = strstr(name ? name : argv[0], "fault_all") != NULL;
	*status = 2;
	for (; at < argc && argv[at][0] == '-' && argv[at][1] == '-'; at++) {
		if (strcmp(argv[at], "--fault-all") == 0) {
			handler->fault_all = true;
			continue;
		}
		*status = strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "--version") == 0 ? 0
												: 2;
		if (strcmp(argv[at], "--version") == 0)
			printf(PROGRAM " %s\n", fl_version());
		else
			(void)fputs(help, *status ? stderr : stdout);
		return 1;
	}
	if (argc - at < 2 || argc - at > 3) {
		(void)fputs(help, stderr);
		return 1;
	}
	handler->socket_path = argv[at];
	handler->image_path = argv[at + 1];
	return 0;
}

/* Peers that leave without a handshake only looked whether somebody is here. */
static int serve_one(struct handler *handler, struct fl_listener *listener,
		     struct fl_endpoint *endpoint, struct fl_error *err)
{
	struct fl_session_hooks hooks = {.full = on_full, .ctx = handler};
	struct pollfd poller = {.fd = listener->fd, .events = POLLIN};
	struct fl_session *session;
	int conn;
	int rc;

	do {
		conn = poll(&poller, 1, -1) < 0 ? -errno : fl_listener_accept(listener);
		if (conn == -EAGAIN || conn == -EINTR) {
			rc = -ECONNRESET;
			continue;
		}
		if (conn < 0)
			return fl_error_set(err, conn, "accepting: %s", strerror(-conn));
		rc = fl_session_new(&session, 1, endpoint, conn, &handler->log, &hooks);
		if (rc)
			return fl_error_set(err, rc, "session: %s", strerror(-rc));
		rc = fl_session_run(session);
		fl_session_free(session);
	} while (rc == -ECONNRESET);
	return rc ? fl_error_set(err, rc, "the session failed") : 0;
}

static int run(struct handler *handler, struct fl_error *err)
{
	struct fl_images images = {0};
	struct fl_endpoint endpoint;
	struct fl_listener listener;
	struct fl_image *image;
	int rc = fl_image_get(&images, handler->image_path, NULL, 0, &image, err);

	if (rc)
		return rc;
	fl_endpoint_init(&endpoint);
	endpoint.socket_path = handler->socket_path;
	endpoint.image_path = handler->image_path;
	endpoint.source = image->source;
	if (handler->fault_all)
		endpoint.pager_flags |= FL_PAGER_FILL;
	rc = fl_listener_open(&listener, handler->socket_path, 0777, err);
	if (!rc) {
		rc = serve_one(handler, &listener, &endpoint, err);
		fl_listener_close(&listener);
	}
	fl_image_put(&images, image);
	return rc;
}

int main(int argc, char **argv)
{
	struct handler handler = {0};
	struct fl_error err = {.text = "failed"};
	int status;

	if (parse(&handler, argc, argv, &status))
		return status;
	/* Whoever reads standard output may go; the VM must not freeze for that. */
	(void)signal(SIGPIPE, SIG_IGN);
	fl_journal_open(&handler.journal, STDOUT_FILENO, PROGRAM,
			handler.fault_all ? FL_LOG_ERROR : FL_LOG_INFO);
	handler.log = fl_journal_log(&handler.journal);
	if (run(&handler, &err) == 0)
		return 0;
	handler.log.write(handler.log.ctx, FL_LOG_ERROR, err.text);
	return 1;
}
