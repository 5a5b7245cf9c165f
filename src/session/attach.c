/* SPDX-License-Identifier: MIT */
/* How a session comes to its guest: the handshake, then every part that a pager works with. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "session/session_internal.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"

/*
 * For the cases where the kernel's answers contradict each other; serving goes on without. The
 * number could have been given to another process meanwhile: not if ours is still alive after.
 */
static int open_pagemap(pid_t pid, int pidfd)
{
	struct pollfd alive = {.fd = pidfd, .events = POLLIN};
	char path[40];
	int fd;

	if (pid <= 0)
		return -1;
	(void)snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && poll(&alive, 1, 0) != 0)
		fl_fd_close(&fd);
	return fd;
}

int fl_session_greet(struct fl_session *session, struct fl_error *err)
{
	struct fl_guest *guest = &session->guest;
	struct fl_hello hello;
	int rc = fl_firecracker_receive(session->conn, session->endpoint->timeout_ms, &hello, err);

	if (rc)
		return rc;
	guest->uffd = hello.uffd;
	guest->pidfd = hello.pidfd;
	guest->pagemap_fd = open_pagemap(hello.pid, hello.pidfd);
	(void)pthread_mutex_lock(&session->lock);
	session->vmm_pidfd = hello.pidfd;
	session->info.pid = hello.pid;
	session->info.greeted = true;
	session->info.regions = hello.count;
	for (size_t i = 0; i < hello.count; i++)
		session->info.memory_bytes += hello.regions[i].len_bytes;
	(void)pthread_mutex_unlock(&session->lock);
	return fl_layout_new(&guest->layout, hello.regions, hello.count, err);
}

/* Named by its index in the order of offsets, as all of the layout's errors. */
static int check_image(const struct fl_session *session, struct fl_error *err)
{
	const struct fl_layout *layout = session->guest.layout;
	uint64_t image_len = fl_source_length(session->endpoint->source);

	for (size_t i = 0; i < fl_layout_count(layout); i++) {
		const struct fl_region *region = fl_layout_region(layout, i);

		if (region->offset > image_len || region->len_bytes > image_len - region->offset)
			return fl_error_set(err, -EINVAL,
					    "region %zu (offset %" PRIu64 ", size %" PRIu64
					    ") lies beyond the image %s of %" PRIu64 " bytes",
					    i, region->offset, region->len_bytes,
					    session->endpoint->image_path, image_len);
	}
	return 0;
}

static uint64_t smallest_page(const struct fl_layout *layout)
{
	uint64_t smallest = UINT64_MAX;

	for (size_t i = 0; i < fl_layout_count(layout); i++) {
		uint64_t page_size = fl_layout_region(layout, i)->page_size;

		smallest = page_size < smallest ? page_size : smallest;
	}
	return smallest;
}

/*
 * The first guest of a socket is recorded; those that come later are not. No VM dies for want of a
 * recording: the next one is recorded then.
 */
static void begin_recording(struct fl_session *session)
{
	struct fl_endpoint *endpoint = session->endpoint;
	int rc;

	if (!endpoint->record_path || atomic_exchange(&endpoint->recording, true))
		return;
	rc = fl_wset_new(&session->guest.record, fl_source_length(endpoint->source),
			 smallest_page(session->guest.layout));
	if (rc) {
		fl_log(&session->log, FL_LOG_WARNING, "it is not recorded: %s", strerror(-rc));
		atomic_store(&endpoint->recording, false);
		return;
	}
	(void)pthread_mutex_lock(&session->lock);
	session->info.recording = true;
	(void)pthread_mutex_unlock(&session->lock);
}

int fl_session_build(struct fl_session *session, struct fl_error *err)
{
	struct fl_guest *guest = &session->guest;
	int rc = check_image(session, err);

	if (rc)
		return rc;
	rc = fl_table_new(&guest->table, fl_layout_pages(guest->layout));
	if (rc)
		return fl_error_set(err, rc, "page-state table: %s", strerror(-rc));
	rc = fl_trap_uffd_new(&guest->trap, guest->uffd, err);
	if (!rc)
		rc = fl_install_copy_new(&guest->install, guest->uffd, err);
	if (rc)
		return rc;
	/* Both have duplicates of their own. */
	fl_fd_close(&guest->uffd);
	begin_recording(session);
	return 0;
}

int fl_session_attach(struct fl_session *session, struct fl_error *err)
{
	struct fl_guest *guest = &session->guest;
	const struct fl_endpoint *endpoint = session->endpoint;
	struct fl_pager_parts parts = {.layout = guest->layout,
				       .table = guest->table,
				       .trap = guest->trap,
				       .install = guest->install,
				       .source = endpoint->source};
	struct fl_pager_options options;
	struct fl_pager *pager;
	int rc;

	fl_pager_options_init(&options);
	options.flags = endpoint->pager_flags;
	options.around_bytes = endpoint->around_bytes;
	options.pagemap_fd = guest->pagemap_fd;
	options.record = guest->record;
	options.replay = endpoint->replay;
	options.log = session->log;
	rc = fl_pager_new(&pager, &parts, &options, err);
	if (rc)
		return rc;
	session->filling = endpoint->pager_flags & FL_PAGER_FILL;
	(void)pthread_mutex_lock(&session->lock);
	session->pager = pager;
	session->info.state = FL_SESSION_SERVING;
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

/* The file is written when the guest is gone, so that it costs the guest nothing. */
static void end_recording(struct fl_session *session)
{
	struct fl_endpoint *endpoint = session->endpoint;
	struct fl_wset *record = session->guest.record;
	struct fl_error err;

	if (!record)
		return;
	if (fl_wset_count(record) == 0)
		/* It never ran: the next one is worth recording. */
		atomic_store(&endpoint->recording, false);
	else if (fl_wset_save(record, endpoint->record_path, endpoint->source, &err))
		fl_log(&session->log, FL_LOG_ERROR, "the working set is lost: %s", err.text);
	else
		fl_log(&session->log, FL_LOG_INFO, "wrote a working set of %" PRIu64 " pages to %s",
		       fl_wset_count(record), endpoint->record_path);
	fl_wset_free(record);
	session->guest.record = NULL;
}

static void forget_pager(struct fl_session *session)
{
	struct fl_pager *pager = session->pager;

	if (!pager)
		return;
	(void)pthread_mutex_lock(&session->lock);
	session->info.stats.size = sizeof(session->info.stats);
	fl_pager_stats(pager, &session->info.stats);
	session->pager = NULL;
	(void)pthread_mutex_unlock(&session->lock);
	fl_pager_close(pager);
}

void fl_session_detach(struct fl_session *session)
{
	struct fl_guest *guest = &session->guest;

	fl_fd_close(&session->epoll_fd);
	forget_pager(session);
	end_recording(session);
	fl_install_close(guest->install);
	fl_trap_close(guest->trap);
	fl_table_free(guest->table);
	fl_layout_free(guest->layout);
	fl_fd_close(&guest->uffd);
	(void)pthread_mutex_lock(&session->lock);
	session->vmm_pidfd = -1;
	(void)pthread_mutex_unlock(&session->lock);
	fl_fd_close(&guest->pidfd);
	fl_fd_close(&guest->pagemap_fd);
	*guest = (struct fl_guest){.uffd = -1, .pidfd = -1, .pagemap_fd = -1};
}
