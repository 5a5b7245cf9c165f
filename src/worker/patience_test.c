/* SPDX-License-Identifier: MIT */
/*
 * How long is waited, and for whom: a peer that talks without saying anything, one that says
 * nothing, and a worker that answers too late.
 */
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "link/conn.h"
#include "link/local.h"
#include "link/meet.h"
#include "link/worker.h"
#include "worker/server.h"

#define LEN (1ul << 20)

struct world {
	char folder[64], path[80], peer[80];
	struct fl_worker_config config;
	pthread_t server;
	int rc;
	struct fl_error err;
	int peer_fd; /* listens */
	int memory_fd;
};

static const uint8_t token[FL_WORKER_TOKEN_BYTES] = "a token, surely";

static void *serve(void *arg)
{
	struct world *world = arg;

	world->rc = fl_worker_serve(&world->config, &world->err);
	return NULL;
}

static int set_up(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct fl_error err;

	strcpy(world->folder, "/tmp/patience-test.XXXXXX");
	assert_non_null(mkdtemp(world->folder));
	(void)snprintf(world->path, sizeof(world->path), "%s/worker", world->folder);
	(void)snprintf(world->peer, sizeof(world->peer), "unix:%s/peer", world->folder);
	world->peer_fd = fl_link_listen(world->peer, &err);
	assert_true(world->peer_fd >= 0);
	world->memory_fd = memfd_create("memory", MFD_CLOEXEC);
	assert_int_equal(ftruncate(world->memory_fd, LEN), 0);
	world->config = (struct fl_worker_config){
		.socket_path = world->path, .spin_us = 20, .stop_fd = eventfd(0, EFD_CLOEXEC)};
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	int rc;

	close(world->config.stop_fd);
	close(world->memory_fd);
	close(world->peer_fd);
	(void)unlink(world->peer + strlen("unix:"));
	(void)unlink(world->path);
	rc = rmdir(world->folder);
	free(world);
	return rc;
}

static struct fl_worker *start_worker(struct world *world, unsigned int timeout_ms)
{
	struct fl_worker *worker = NULL;
	struct fl_error err;

	world->config.timeout_ms = timeout_ms;
	assert_int_equal(pthread_create(&world->server, NULL, serve, world), 0);
	while (fl_worker_connect(&worker, world->path, NULL, &err))
		(void)poll(NULL, 0, 5);
	return worker;
}

/* Far less than what the worker waits for its peers, and far more than it should take. */
static void stop_worker(struct world *world, unsigned int seconds)
{
	struct timespec until;

	assert_int_equal(eventfd_write(world->config.stop_fd, 1), 0);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	assert_int_equal(pthread_timedjoin_np(world->server, NULL, &until), 0);
	assert_int_equal(world->rc, 0);
}

static int import(const struct world *world, struct fl_worker *worker, struct fl_error *err)
{
	struct fl_worker_region region = {.len_bytes = LEN, .fd = world->memory_fd};

	return fl_worker_import(worker, world->peer, token, &region, 1, err);
}

/* ---- a peer that is alive, and never comes to the point */

static int any_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	(void)ctx, (void)frame, (void)payload;
	return 0;
}

static void *talk(void *arg)
{
	static const struct fl_conn_ops ops = {.frame = any_frame};
	const struct fl_frame pong = {.type = FL_FRAME_PONG};
	struct world *world = arg;
	struct fl_meet how = {.listen_fd = world->peer_fd,
			      .role = FL_ROLE_OUTGOING,
			      .recover = true,
			      .features = FL_FEATURE_WORKER,
			      .cancel_fd = -1};
	struct fl_log log = {0};
	struct fl_conn *conn = NULL;
	struct fl_pair pair = {0};
	struct fl_error err;
	int rc;

	memcpy(how.session, token, sizeof(how.session));
	rc = fl_meet(&how, &pair, &log, &err);
	if (!rc)
		rc = fl_conn_new(&conn, pair.main, &ops, NULL);
	while (rc >= 0) {
		struct pollfd poller = {.fd = fl_conn_fd(conn), .events = POLLOUT};

		do {
			rc = fl_conn_send(conn, &pong, NULL, 0);
		} while (!rc);
		rc = fl_conn_flush(conn, UINT64_MAX);
		(void)poll(&poller, 1, 1000);
	}
	fl_conn_free(conn);
	fl_stream_close(pair.demand);
	return NULL;
}

static void one_who_only_talks_is_given_up(void **state)
{
	struct world *world = *state;
	struct fl_worker *worker = start_worker(world, 1000);
	struct fl_error err = {0};
	pthread_t peer;

	assert_int_equal(pthread_create(&peer, NULL, talk, world), 0);
	assert_int_equal(import(world, worker, &err), -ETIMEDOUT);
	/* It is the worker who says so, in time. */
	assert_null(strstr(err.text, "the worker does not answer"));
	assert_int_equal(pthread_join(peer, NULL), 0);
	fl_worker_close(worker);
	stop_worker(world, 30);
}

/* ---- a peer that says nothing, and a worker that is told to end */

struct asker {
	struct world *world;
	struct fl_worker *worker;
	int rc;
};

static void *ask(void *arg)
{
	struct asker *asker = arg;
	struct fl_error err;

	asker->rc = import(asker->world, asker->worker, &err);
	return NULL;
}

static void an_end_waits_for_no_peer(void **state)
{
	struct world *world = *state;
	struct asker asker = {.world = world, .worker = start_worker(world, 3600000)};
	struct pollfd poller = {.fd = world->peer_fd, .events = POLLIN};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, ask, &asker), 0);
	assert_int_equal(poll(&poller, 1, 20000), 1);
	stop_worker(world, 30);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(asker.rc == -ECANCELED || asker.rc == -EPIPE);
	fl_worker_close(asker.worker);
}

/* ---- a worker that answers late, played by the test */

struct late {
	int listen_fd, sock;
	struct fl_ring_end ring;
};

static void answer(const struct late *late, const int *fds, size_t count)
{
	const struct fl_local ok = {
		.magic = FL_LOCAL_MAGIC, .version = FL_LOCAL_VERSION, .type = FL_LOCAL_OK};

	assert_int_equal(fl_local_send(late->sock, &ok, fds, count, 1000), 0);
}

static void *greet(void *arg)
{
	struct late *late = arg;
	const int fds[] = {late->ring.shared_fd, late->ring.doorbell_fd, late->ring.poller_fd};

	/* The socket does not block. */
	(void)poll(&(struct pollfd){.fd = late->listen_fd, .events = POLLIN}, 1, 20000);
	late->sock = accept(late->listen_fd, NULL, NULL);
	answer(late, fds, 3);
	return NULL;
}

static void a_late_answer_is_none(void **state)
{
	struct world *world = *state;
	struct late late = {.listen_fd = world->peer_fd, .sock = -1};
	struct fl_worker_region region = {.len_bytes = LEN, .fd = world->memory_fd};
	struct fl_worker_options options;
	struct fl_worker *worker = NULL;
	uint8_t given[FL_WORKER_TOKEN_BYTES];
	struct fl_error err = {0};
	pthread_t thread;

	assert_int_equal(fl_ring_end_new(&late.ring, 64), 0);
	assert_int_equal(pthread_create(&thread, NULL, greet, &late), 0);
	fl_worker_options_init(&options);
	options.timeout_ms = 1000;
	assert_int_equal(fl_worker_connect(&worker, world->peer + strlen("unix:"), &options, &err),
			 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(fl_worker_export(worker, &region, 1, given, &err), -ETIMEDOUT);
	answer(&late, NULL, 0);
	assert_int_equal(import(world, worker, &err), -EPIPE);
	assert_non_null(strstr(err.text, "connect anew"));
	fl_worker_close(worker);
	close(late.sock);
	fl_ring_end_close(&late.ring);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_who_only_talks_is_given_up),
		TEST(an_end_waits_for_no_peer),
		TEST(a_late_answer_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
