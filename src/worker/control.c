/* SPDX-License-Identifier: MIT */

/*
 * What a VMM says on its socket: link/local.h. A question that cannot be granted is answered with
 * an error and changes nothing; a message that breaks the rules ends the session.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "worker/server.h"
#include "worker/session.h"

/* A VMM that does not take a short answer is not one to wait for. */
#define ANSWER_MS 1000
/* Messages that are heard in one go. */
#define MESSAGES (FL_WORKER_REGIONS_MAX + 1)

static int say(struct fl_worker_session *session, struct fl_local *message, const int *fds,
	       size_t fd_count)
{
	message->magic = FL_LOCAL_MAGIC;
	message->version = FL_LOCAL_VERSION;
	return fl_local_send(session->sock, message, fds, fd_count, ANSWER_MS);
}

static int reply(struct fl_worker_session *session, int rc, const struct fl_error *err)
{
	struct fl_local message = {.type = rc < 0 ? FL_LOCAL_ERROR : FL_LOCAL_OK};

	if (rc < 0) {
		message.code = rc;
		memcpy(message.text, err->text, strnlen(err->text, sizeof(err->text) - 1));
	}
	return say(session, &message, NULL, 0);
}

static int on_hello(struct fl_worker_session *session)
{
	const int fds[FL_LOCAL_FDS] = {session->ring.shared_fd, session->ring.doorbell_fd,
				       session->ring.poller_fd};
	struct fl_local message = {.type = FL_LOCAL_OK};
	struct fl_error err;
	int rc;

	if (session->in.message.version != FL_LOCAL_VERSION) {
		rc = fl_error_set(&err, -EPROTONOSUPPORT,
				  "no version in common: the worker speaks %u, the VMM %u",
				  FL_LOCAL_VERSION, session->in.message.version);
		(void)reply(session, rc, &err);
		return rc;
	}
	session->greeted = true;
	return say(session, &message, fds, FL_LOCAL_FDS);
}

static void forget_offered(struct fl_worker_session *session)
{
	while (session->offered_count)
		fl_fd_close(&session->offered[--session->offered_count].fd);
}

static int on_region(struct fl_worker_session *session)
{
	struct fl_local_in *in = &session->in;

	if (!in->message.count)
		forget_offered(session);
	if (in->fd_count != 1 || in->message.count != session->offered_count ||
	    session->offered_count == FL_WORKER_REGIONS_MAX)
		return -EPROTO;
	session->offered[session->offered_count++] =
		(struct fl_worker_region){.offset = in->message.offset,
					  .len_bytes = in->message.len_bytes,
					  .fd = in->fds[0],
					  .fd_offset = in->message.fd_offset};
	in->fd_count = 0;
	return 0;
}

/* Maps what was offered; nothing of it when one cannot be. */
static int map_offered(struct fl_worker_session *session, struct fl_memory *memory, bool writable,
		       struct fl_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < session->offered_count && !rc; i++) {
		const struct fl_worker_region *region = &session->offered[i];

		rc = region->offset >= FL_WORKER_OFFSET_END
			     ? fl_error_set(err, -EINVAL, "region %zu: its offset is too large", i)
			     : fl_memory_add(memory, region, writable, err);
	}
	forget_offered(session);
	if (rc)
		fl_memory_drop(memory, 0, FL_WORKER_OFFSET_END);
	return rc;
}

static int export_memory(struct fl_worker_session *session, struct fl_local *message,
			 struct fl_error *err)
{
	int rc;

	if (session->remote.count)
		return fl_error_set(err, -EALREADY, "this VMM exports already");
	if (!session->offered_count || session->offered_count != session->in.message.count)
		return fl_error_set(err, -EINVAL, "no regions to export");
	rc = map_offered(session, &session->remote, false, err);
	if (rc)
		return rc;
	if (getrandom(message->token, sizeof(message->token), 0) != sizeof(message->token)) {
		fl_memory_drop(&session->remote, 0, FL_WORKER_OFFSET_END);
		return fl_error_set(err, -EIO, "no random numbers for a token");
	}
	(void)pthread_mutex_lock(&session->lock);
	memcpy(session->token, message->token, sizeof(session->token));
	session->exported = true;
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

static int on_export(struct fl_worker_session *session)
{
	struct fl_local message = {.type = FL_LOCAL_OK};
	const char *listen = session->config->listen;
	struct fl_error err;
	int rc = export_memory(session, &message, &err);

	if (rc)
		return reply(session, rc, &err);
	fl_log(&session->config->log, FL_LOG_INFO, "vmm %lu: exports %zu region%s", session->number,
	       session->remote.count, session->remote.count == 1 ? "" : "s");
	if (listen)
		memcpy(message.text, listen, strnlen(listen, sizeof(message.text) - 1));
	return say(session, &message, NULL, 0);
}

/* Becomes readable when the VMM goes, or says anything, and when the worker is to end. */
static int open_cancel(const struct fl_worker_session *session)
{
	struct epoll_event event = {.events = EPOLLIN};
	fl_cleanup_fd int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, session->sock, &event) ||
	    epoll_ctl(fd, EPOLL_CTL_ADD, session->config->stop_fd, &event))
		return -errno;
	return fl_fd_take(&fd);
}

static int import_memory(struct fl_worker_session *session, struct fl_error *err)
{
	const struct fl_local *message = &session->in.message;
	fl_cleanup_fd int cancel_fd = -1;
	int rc = 0;

	if (message->count != session->offered_count)
		return fl_error_set(err, -EINVAL, "%u regions were announced, %zu came",
				    message->count, session->offered_count);
	/* Nothing may be under way to memory that is about to be unmapped. */
	fl_import_unlink(&session->import,
			 session->import.lost ? session->import.lost : -ECONNRESET);
	if (session->offered_count) {
		fl_memory_drop(&session->local, 0, FL_WORKER_OFFSET_END);
		rc = map_offered(session, &session->local, true, err);
	}
	if (rc)
		return rc;
	cancel_fd = open_cancel(session);
	if (cancel_fd < 0)
		return fl_error_set(err, cancel_fd, "importing: %s", strerror(-cancel_fd));
	return fl_import_link(&session->import, message->text, message->token, session->config->tls,
			      cancel_fd, err);
}

static int on_import(struct fl_worker_session *session)
{
	struct fl_error err = {0};
	int rc = import_memory(session, &err);

	if (!rc)
		fl_log(&session->config->log, FL_LOG_INFO, "vmm %lu: imports from %s",
		       session->number, session->in.message.text);
	return reply(session, rc, &err);
}

static int on_staging(struct fl_worker_session *session)
{
	const struct fl_local *message = &session->in.message;
	struct fl_error err = {0};
	int rc;

	if (session->in.fd_count != 1)
		return -EPROTO;
	fl_memory_drop(&session->local, FL_LOCAL_STAGING, UINT64_MAX);
	if (message->len_bytes > FL_LOCAL_STAGING_MAX) {
		rc = fl_error_set(&err, -EINVAL, "a staging area that is too long");
	} else {
		struct fl_worker_region region = {.offset = FL_LOCAL_STAGING,
						  .len_bytes = message->len_bytes,
						  .fd = session->in.fds[0]};

		rc = fl_memory_add(&session->local, &region, true, &err);
	}
	return reply(session, rc, &err);
}

static int dispatch(struct fl_worker_session *session)
{
	unsigned int type = session->in.message.type;

	if (type == FL_LOCAL_HELLO && !session->greeted)
		return on_hello(session);
	if (!session->greeted)
		return -EPROTO;
	switch (type) {
	case FL_LOCAL_REGION:
		return on_region(session);
	case FL_LOCAL_EXPORT:
		return on_export(session);
	case FL_LOCAL_IMPORT:
		return on_import(session);
	case FL_LOCAL_STAGING_AREA:
		return on_staging(session);
	default:
		return -EPROTO;
	}
}

int fl_worker_session_hear(struct fl_worker_session *session)
{
	int rc = 1;

	for (int i = 0; i < MESSAGES && rc > 0; i++) {
		rc = fl_local_recv(session->sock, &session->in);
		if (rc <= 0)
			break;
		rc = dispatch(session);
		fl_local_drop(&session->in);
		rc = rc < 0 ? rc : 1;
	}
	return rc < 0 ? rc : 0;
}
