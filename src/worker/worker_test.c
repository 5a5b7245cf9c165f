/* SPDX-License-Identifier: MIT */
/*
 * Two workers and their VMMs in one process: real sockets, real rings, real memory.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <faultline/source.h>

#include "link/conn.h"
#include "link/local.h"
#include "link/meet.h"
#include "link/worker.h"
#include "worker/memory.h"
#include "worker/server.h"

#define PAGE 4096ul
#define LEN  (4ul << 20)
#define SEED 5

/* ---- workers */

struct side {
	struct fl_worker_config config;
	char path[64], address[80];
	pthread_t thread;
	int rc;
	struct fl_error err;
};

static char folder[] = "/tmp/worker-test.XXXXXX";

static void *side_main(void *arg)
{
	struct side *side = arg;

	side->rc = fl_worker_serve(&side->config, &side->err);
	return NULL;
}

static struct fl_worker *try_connect(const struct side *side)
{
	struct fl_worker *worker = NULL;
	struct fl_error err;

	for (int i = 0; i < 2000; i++) {
		if (fl_worker_connect(&worker, side->path, NULL, &err) == 0)
			return worker;
		(void)poll(NULL, 0, 5);
	}
	fail_msg("%s", err.text);
	return NULL;
}

static void start_side(struct side *side, const char *name)
{
	memset(side, 0, sizeof(*side));
	(void)snprintf(side->path, sizeof(side->path), "%s/%s", folder, name);
	(void)snprintf(side->address, sizeof(side->address), "unix:%s/%s.link", folder, name);
	side->config = (struct fl_worker_config){.socket_path = side->path,
						 .listen = side->address,
						 .timeout_ms = 3000,
						 .spin_us = 20,
						 .stop_fd = eventfd(0, EFD_CLOEXEC)};
	assert_int_equal(pthread_create(&side->thread, NULL, side_main, side), 0);
	fl_worker_close(try_connect(side));
}

static void stop_side(struct side *side)
{
	assert_int_equal(eventfd_write(side->config.stop_fd, 1), 0);
	assert_int_equal(pthread_join(side->thread, NULL), 0);
	assert_int_equal(side->rc, 0);
	close(side->config.stop_fd);
	(void)unlink(side->address + strlen("unix:"));
}

/* ---- VMMs */

struct world {
	struct side out, in;
	struct fl_worker *exporter, *importer;
	int remote_fd, local_fd;
	unsigned char *remote, *local;
	uint8_t token[FL_WORKER_TOKEN_BYTES];
};

static unsigned char *map(int fd)
{
	void *at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static int blank(void)
{
	int fd = memfd_create("blank", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, LEN), 0);
	return fd;
}

static int import_it(struct world *world, struct fl_worker *worker, int fd, struct fl_error *err)
{
	struct fl_worker_region region = {.offset = 8 * LEN, .len_bytes = LEN, .fd = fd};

	return fl_worker_import(worker, world->out.address, world->token, &region, 1, err);
}

static int set_up(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct fl_worker_region region = {.offset = LEN, .len_bytes = LEN};
	struct fl_error err;

	strcpy(folder, "/tmp/worker-test.XXXXXX");
	assert_non_null(world);
	assert_non_null(mkdtemp(folder));
	start_side(&world->out, "out");
	start_side(&world->in, "in");
	world->remote_fd = region.fd = test_image(LEN, SEED);
	world->local_fd = blank();
	world->remote = map(world->remote_fd);
	world->local = map(world->local_fd);
	/* Zeros in it, and one page between them that is not. */
	memset(world->remote + 64 * PAGE, 0, 64 * PAGE);
	test_pattern(world->remote + 96 * PAGE, PAGE, 96 * PAGE, SEED);
	world->exporter = try_connect(&world->out);
	world->importer = try_connect(&world->in);
	assert_int_equal(fl_worker_export(world->exporter, &region, 1, world->token, &err), 0);
	assert_int_equal(import_it(world, world->importer, world->local_fd, &err), 0);
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;

	fl_worker_close(world->exporter);
	fl_worker_close(world->importer);
	stop_side(&world->in);
	stop_side(&world->out);
	munmap(world->remote, LEN);
	munmap(world->local, LEN);
	close(world->remote_fd);
	close(world->local_fd);
	free(world);
	return rmdir(folder);
}

/* Offset 0 of the image is at LEN on the one side and at 8 * LEN on the other. */
static int copy(struct fl_worker *worker, uint64_t at, uint64_t len)
{
	return fl_worker_copy(worker, LEN + at, 8 * LEN + at, len, 0);
}

static void assert_copied(const struct world *world)
{
	assert_int_equal(copy(world->importer, 0, LEN), 0);
	assert_memory_equal(world->remote, world->local, LEN);
}

/* ---- tests */

static void everything_is_copied(void **state)
{
	struct world *world = *state;

	memset(world->local, 0xee, LEN);
	assert_int_equal(copy(world->importer, 96 * PAGE, PAGE), 0);
	assert_filled(world->local + 96 * PAGE, PAGE, 96 * PAGE, SEED);
	assert_int_equal(world->local[95 * PAGE], 0xee);
	assert_int_equal(world->local[97 * PAGE], 0xee);
	/* Zeros are written, too. */
	assert_int_equal(copy(world->importer, 64 * PAGE, 16 * PAGE), 0);
	assert_int_equal(test_nonzero(world->local + 64 * PAGE, 16 * PAGE), -1);
	assert_copied(world);
	/* To where it does not lie on the other side. */
	assert_int_equal(
		fl_worker_copy(world->importer, LEN, 8 * LEN + 7 * PAGE, PAGE, FL_WORKER_FILL), 0);
	assert_filled(world->local + 7 * PAGE, PAGE, 0, SEED);
}

static void what_cannot_be_is_refused(void **state)
{
	struct world *world = *state;
	struct fl_worker *worker = world->importer;
	struct fl_worker *fresh = try_connect(&world->in);

	assert_int_equal(fl_worker_copy(worker, LEN + 1, 8 * LEN, PAGE, 0), -EINVAL);
	assert_int_equal(fl_worker_copy(worker, LEN, 8 * LEN + 512, PAGE, 0), -EINVAL);
	assert_int_equal(fl_worker_copy(worker, LEN, 8 * LEN, 0, 0), -EINVAL);
	assert_int_equal(fl_worker_copy(worker, LEN, 8 * LEN, PAGE + 8, 0), -EINVAL);
	assert_int_equal(fl_worker_copy(worker, LEN, 8 * LEN, PAGE, 8), -EINVAL);
	assert_int_equal(fl_worker_copy(worker, 0, 8 * LEN, PAGE, 0), -ERANGE);
	assert_int_equal(fl_worker_copy(worker, 2 * LEN - PAGE, 8 * LEN, 2 * PAGE, 0), -ERANGE);
	assert_int_equal(fl_worker_copy(worker, LEN, 9 * LEN - PAGE, 2 * PAGE, 0), -ERANGE);
	assert_int_equal(fl_worker_copy(worker, LEN, FL_LOCAL_STAGING, PAGE, 0), -ERANGE);
	assert_int_equal(fl_worker_copy(worker, UINT64_MAX - 4095, 8 * LEN, PAGE, 0), -ERANGE);
	assert_int_equal(copy(fresh, 0, PAGE), -ENOTCONN);
	fl_worker_close(fresh);
	/* None of it has ended anything. */
	assert_copied(world);
}

static void a_wrong_token_is_refused(void **state)
{
	struct world *world = *state;
	struct fl_worker *other = try_connect(&world->in);
	struct fl_error err;

	world->token[3] ^= 1;
	assert_int_equal(import_it(world, other, world->local_fd, &err), -EPERM);
	assert_non_null(strstr(err.text, "nothing is exported under this token"));
	assert_int_equal(copy(other, 0, PAGE), -ENOTCONN);
	world->token[3] ^= 1;
	assert_int_equal(import_it(world, other, world->local_fd, &err), 0);
	assert_int_equal(copy(other, 0, PAGE), 0);
	fl_worker_close(other);
}

static void regions_are_judged(void **state)
{
	struct world *world = *state;
	struct fl_worker_region regions[2] = {
		{.offset = 0, .len_bytes = LEN, .fd = world->remote_fd},
		{.offset = LEN - PAGE, .len_bytes = LEN, .fd = world->remote_fd}};
	struct fl_worker *worker = try_connect(&world->out);
	uint8_t token[FL_WORKER_TOKEN_BYTES];
	int pipes[2];
	struct fl_error err;

	assert_int_equal(fl_worker_export(world->exporter, regions, 1, token, &err), -EALREADY);
	assert_int_equal(fl_worker_export(worker, regions, 2, token, &err), -EINVAL);
	assert_non_null(strstr(err.text, "overlaps"));
	regions[1] = (struct fl_worker_region){
		.offset = LEN, .len_bytes = LEN, .fd = world->remote_fd, .fd_offset = PAGE};
	assert_int_equal(fl_worker_export(worker, regions, 2, token, &err), -EINVAL);
	assert_int_equal(pipe(pipes), 0);
	regions[1] = (struct fl_worker_region){.offset = LEN, .len_bytes = PAGE, .fd = pipes[0]};
	assert_int_equal(fl_worker_export(worker, regions, 2, token, &err), -EBADF);
	/* A file, but no memory. */
	regions[1].fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fl_worker_export(worker, regions, 2, token, &err), -EBADF);
	close(regions[1].fd);
	regions[1].fd = -1;
	assert_int_equal(fl_worker_export(worker, regions, 2, token, &err), -EBADF);
	regions[1].offset = FL_WORKER_OFFSET_END;
	regions[1].fd = world->remote_fd;
	assert_int_equal(fl_worker_export(worker, regions, 2, token, &err), -EINVAL);
	/* After all that it can still be done right. */
	regions[1].offset = LEN;
	assert_int_equal(fl_worker_export(worker, regions, 2, token, &err), 0);
	close(pipes[0]);
	close(pipes[1]);
	fl_worker_close(worker);
}

struct hammer {
	struct fl_worker *worker;
	unsigned char *local;
	unsigned int number;
	int rc;
	ptrdiff_t wrong;
};

static void *hammer_main(void *arg)
{
	struct hammer *hammer = arg;

	hammer->wrong = -1;
	for (uint64_t i = 0; i < 600 && !hammer->rc && hammer->wrong < 0; i++) {
		uint64_t page = (hammer->number * 128 + i) % 512 + 128;

		hammer->rc = copy(hammer->worker, page * PAGE, PAGE);
		if (!hammer->rc)
			hammer->wrong =
				test_mismatch(hammer->local + page * PAGE, PAGE, page * PAGE, SEED);
	}
	return NULL;
}

static void many_threads_copy(void **state)
{
	struct world *world = *state;
	struct hammer hammers[8];
	pthread_t threads[8];

	for (unsigned int i = 0; i < 8; i++) {
		hammers[i] = (struct hammer){world->importer, world->local, i, 0, -1};
		assert_int_equal(pthread_create(&threads[i], NULL, hammer_main, &hammers[i]), 0);
	}
	for (unsigned int i = 0; i < 8; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(hammers[i].rc, 0);
		assert_int_equal(hammers[i].wrong, -1);
	}
}

/* Whatever one VMM writes into its ring, another one's copies are right, and its own, later, too. */
static void a_hostile_ring_harms_nobody(void **state)
{
	struct world *world = *state;
	struct fl_worker *hostile = try_connect(&world->in);
	struct hammer hammer = {world->importer, world->local, 1, 0, -1};
	struct fl_worker_ring *shared = hostile->ring.shared;
	uint64_t random = 88172645463325252u;
	int own_fd = blank();
	struct fl_error err;
	pthread_t thread;

	assert_int_equal(import_it(world, hostile, own_fd, &err), 0);
	assert_int_equal(pthread_create(&thread, NULL, hammer_main, &hammer), 0);
	for (unsigned int i = 0; i < 20000; i++) {
		struct fl_worker_entry *entry = &hostile->ring.entry[i % 256];

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		entry->remote_offset = random % 5 ? LEN + random % LEN / PAGE * PAGE : random;
		entry->local_offset = random % 7 ? 8 * LEN + random % LEN / PAGE * PAGE
						 : random << 9;
		entry->len_bytes = random % 3 ? PAGE : (uint32_t)random;
		entry->flags = (uint32_t)random & 7;
		__atomic_store_n(&entry->state, random % 4 ? FL_WORKER_READY : (uint32_t)random,
				 __ATOMIC_RELEASE);
		(void)__atomic_fetch_or(&shared->demand[random % 16], random * 3, __ATOMIC_SEQ_CST);
		(void)__atomic_fetch_or(&shared->fill[random % 16], random * 5, __ATOMIC_SEQ_CST);
		assert_int_equal(eventfd_write(hostile->ring.doorbell_fd, 1), 0);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(hammer.rc, 0);
	assert_int_equal(hammer.wrong, -1);
	fl_worker_close(hostile);
	close(own_fd);
	assert_copied(world);
}

/* cmocka has taken SIGBUS for itself while a test runs. */
static void take_bus(void)
{
	assert_int_equal(fl_memory_guard_init(), 0);
}

static void wait_gone(const struct fl_worker *worker)
{
	struct pollfd poller = {.fd = fl_worker_fd(worker)};

	assert_int_equal(poll(&poller, 1, 20000), 1);
	assert_true(poller.revents & POLLHUP);
}

/* A VMM cuts the memory that its worker writes to: its session ends, with a name, and no other
 * does. */
static void memory_that_is_cut_ends_its_session(void **state)
{
	struct world *world = *state;
	struct fl_worker *cutter = try_connect(&world->in);
	int fd = blank();
	struct fl_error err;
	int rc;

	take_bus();
	assert_int_equal(import_it(world, cutter, fd, &err), 0);
	assert_int_equal(copy(cutter, 0, PAGE), 0);
	assert_int_equal(ftruncate(fd, 16 * PAGE), 0);
	/* Zeros are written by the worker itself, other contents by the kernel for it. */
	rc = copy(cutter, 64 * PAGE, PAGE);
	assert_int_equal(rc, -EFAULT);
	wait_gone(cutter);
	assert_int_equal(copy(cutter, 0, PAGE), -EPIPE);
	fl_worker_close(cutter);
	cutter = try_connect(&world->in);
	assert_int_equal(ftruncate(fd, LEN), 0);
	assert_int_equal(import_it(world, cutter, fd, &err), 0);
	assert_int_equal(ftruncate(fd, 16 * PAGE), 0);
	assert_int_equal(copy(cutter, 128 * PAGE, PAGE), -EFAULT);
	fl_worker_close(cutter);
	close(fd);
	assert_copied(world);
}

/* The exporting VMM cuts its own: whoever copies is told, and gets no zeros for contents. */
static void exported_memory_that_is_cut_is_an_error(void **state)
{
	struct world *world = *state;
	struct fl_worker_region region = {.len_bytes = LEN, .fd = test_image(LEN, 9)};
	struct fl_worker_region local = {.len_bytes = LEN, .fd = blank()};
	struct fl_worker *cutter = try_connect(&world->out), *reader = try_connect(&world->in);
	uint8_t token[FL_WORKER_TOKEN_BYTES];
	struct fl_error err;

	take_bus();
	assert_int_equal(fl_worker_export(cutter, &region, 1, token, &err), 0);
	assert_int_equal(fl_worker_import(reader, world->out.address, token, &local, 1, &err), 0);
	assert_int_equal(fl_worker_copy(reader, 0, 0, PAGE, 0), 0);
	assert_int_equal(ftruncate(region.fd, PAGE), 0);
	assert_int_equal(fl_worker_copy(reader, 8 * PAGE, 0, PAGE, 0), -ECONNRESET);
	wait_gone(cutter);
	fl_worker_close(cutter);
	fl_worker_close(reader);
	close(region.fd);
	close(local.fd);
	assert_copied(world);
}

static void a_lost_link_is_made_anew(void **state)
{
	struct world *world = *state;
	struct fl_worker_region region = {.offset = LEN, .len_bytes = LEN, .fd = world->remote_fd};
	struct fl_error err;

	stop_side(&world->out);
	assert_int_equal(copy(world->importer, 0, PAGE), -ECONNRESET);
	assert_int_equal(copy(world->importer, PAGE, PAGE), -ECONNRESET);
	assert_true(fl_worker_import(world->importer, world->out.address, world->token, NULL, 0,
				     &err) < 0);
	fl_worker_close(world->exporter);
	start_side(&world->out, "out");
	world->exporter = try_connect(&world->out);
	assert_int_equal(fl_worker_export(world->exporter, &region, 1, world->token, &err), 0);
	assert_int_equal(
		fl_worker_import(world->importer, world->out.address, world->token, NULL, 0, &err),
		0);
	assert_copied(world);
}

static void a_worker_that_ends_is_told(void **state)
{
	struct world *world = *state;
	struct fl_error err;

	stop_side(&world->in);
	assert_int_equal(copy(world->importer, 0, PAGE), -EPIPE);
	assert_int_equal(copy(world->importer, 0, PAGE), -EPIPE);
	assert_int_equal(
		fl_worker_import(world->importer, world->out.address, world->token, NULL, 0, &err),
		-EPIPE);
	fl_worker_close(world->importer);
	start_side(&world->in, "in");
	world->importer = try_connect(&world->in);
	assert_int_equal(import_it(world, world->importer, world->local_fd, &err), 0);
	assert_copied(world);
}

/* ---- another worker that breaks the rules, played by the test */

struct stranger {
	struct fl_conn *conn;
	struct fl_conn *other;
	unsigned int regions;
};

static int stranger_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	(void)payload;
	((struct stranger *)ctx)->regions += frame->type == FL_FRAME_MACHINE;
	return 0;
}

static void *stranger_place(void *ctx, const struct fl_frame *frame, uint64_t offset,
			    uint64_t *len_bytes)
{
	(void)ctx, (void)frame, (void)offset, (void)len_bytes;
	return NULL;
}

static int stranger_pages(void *ctx, const struct fl_frame *frame, uint64_t offset,
			  uint64_t len_bytes, bool right)
{
	(void)ctx, (void)frame, (void)offset, (void)len_bytes, (void)right;
	return 0;
}

static const struct fl_conn_ops stranger_ops = {
	.frame = stranger_frame, .place = stranger_place, .pages = stranger_pages};

static void visit(struct world *world, struct stranger *stranger)
{
	struct fl_meet how = {.connect = world->out.address,
			      .listen_fd = -1,
			      .role = FL_ROLE_INCOMING,
			      .recover = true,
			      .features = FL_FEATURE_WORKER,
			      .cancel_fd = -1};
	struct fl_log log = {0};
	struct fl_pair pair;
	struct fl_error err;

	memcpy(how.session, world->token, sizeof(how.session));
	assert_int_equal(fl_meet(&how, &pair, &log, &err), 0);
	*stranger = (struct stranger){0};
	assert_int_equal(fl_conn_new(&stranger->conn, pair.demand, &stranger_ops, stranger), 0);
	assert_int_equal(fl_conn_new(&stranger->other, pair.main, &stranger_ops, stranger), 0);
}

/* Until the other side ends it: why. */
static int ended_by(struct stranger *stranger)
{
	int rc;

	do {
		struct pollfd poller = {.fd = fl_conn_fd(stranger->conn), .events = POLLIN};

		(void)fl_conn_flush(stranger->conn, UINT64_MAX);
		assert_int_equal(poll(&poller, 1, 20000), 1);
		rc = fl_conn_recv(stranger->conn, UINT64_MAX);
	} while (rc >= 0);
	fl_conn_free(stranger->conn);
	fl_conn_free(stranger->other);
	return rc;
}

static void a_stranger_harms_nobody(void **state)
{
	static const struct fl_frame bad[] = {
		{.type = FL_FRAME_REQUEST, .offset = 0, .bytes = PAGE},
		{.type = FL_FRAME_REQUEST, .offset = 2 * LEN - PAGE, .bytes = 2 * PAGE},
		{.type = FL_FRAME_ZERO, .offset = LEN, .bytes = PAGE},
		{.type = FL_FRAME_GO},
		{.type = FL_FRAME_COMPLETE},
	};
	struct world *world = *state;
	struct stranger stranger;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		visit(world, &stranger);
		assert_int_equal(fl_conn_send(stranger.conn, &bad[i], NULL, 0), 0);
		assert_int_equal(ended_by(&stranger), -EREMOTEIO);
		assert_copied(world);
	}
	/* More at a time than the protocol has. */
	visit(world, &stranger);
	for (unsigned int i = 0; i < 3 * FL_WIRE_REQUESTS; i++) {
		const struct fl_frame request = {
			.type = FL_FRAME_REQUEST, .offset = LEN, .bytes = 1 << 20};

		assert_int_equal(fl_conn_send(stranger.conn, &request, NULL, 0), 0);
	}
	assert_true(ended_by(&stranger) < 0);
	assert_copied(world);
}

/* ---- the source */

static void remote_memory_is_a_source(void **state)
{
	struct world *world = *state;
	static unsigned char buf[300000];
	struct fl_source *source, *second;
	struct fl_error err;

	assert_int_equal(fl_source_worker_new(&source, world->importer, 2 * LEN, &err), 0);
	assert_int_equal(fl_source_worker_new(&second, world->importer, 2 * LEN, &err), -EALREADY);
	assert_int_equal(fl_source_length(source), 2 * LEN);
	assert_int_equal(fl_source_read(source, buf, sizeof(buf), LEN), 0);
	assert_memory_equal(buf, world->remote, sizeof(buf));
	assert_int_equal(fl_source_read(source, buf, 5001, LEN + 12345), 0);
	assert_memory_equal(buf, world->remote + 12345, 5001);
	assert_int_equal(fl_source_read(source, buf, PAGE, 0), -ERANGE);
	fl_source_close(source);
	assert_int_equal(fl_source_worker_new(&source, world->importer, 2 * LEN, &err), 0);
	assert_int_equal(fl_source_read(source, buf, PAGE, 2 * LEN - PAGE), 0);
	assert_memory_equal(buf, world->remote + LEN - PAGE, PAGE);
	fl_source_close(source);
}

#define READS 40

struct reads {
	struct fl_read read[READS];
	unsigned char *buf;
	unsigned int ended, failed;
	bool taken[LEN / PAGE];
};

static void count_end(struct fl_read *read)
{
	struct reads *reads = read->ctx;

	reads->ended++;
	reads->failed += read->result != 0;
}

static void *place(struct fl_read *read, uint64_t offset, uint64_t *len_bytes)
{
	struct reads *reads = read->ctx;

	/* Never more than three pages lie together, and some are not wanted. */
	if (*len_bytes > 3 * PAGE)
		*len_bytes = 3 * PAGE;
	return (offset / PAGE) % 31 == 30 && *len_bytes == PAGE ? NULL : reads->buf + offset - LEN;
}

static void arrived(struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	struct reads *reads = read->ctx;

	for (uint64_t page = (offset - LEN) / PAGE; len_bytes; page++, len_bytes -= PAGE) {
		assert_false(reads->taken[page]);
		reads->taken[page] = true;
	}
}

static void submit_all(struct fl_queue *queue, struct reads *reads)
{
	for (unsigned int i = 0; i < READS; i++) {
		reads->read[i] = (struct fl_read){.buf = reads->buf + i * 25 * PAGE,
						  .offset = LEN + i * 25 * PAGE,
						  .len_bytes = 25 * PAGE,
						  .flags = i % 3 ? FL_READ_FILL : 0,
						  .done = count_end,
						  .ctx = reads,
						  .place = i % 2 ? place : NULL,
						  .arrived = i % 2 ? arrived : NULL};
		assert_int_equal(fl_queue_submit(queue, &reads->read[i]), 0);
	}
}

static void reap_all(struct fl_queue *queue, struct reads *reads)
{
	struct pollfd poller = {.fd = fl_queue_fd(queue), .events = POLLIN};

	while (reads->ended < READS) {
		assert_int_equal(poll(&poller, 1, 20000), 1);
		(void)fl_queue_reap(queue);
	}
}

static void assert_read(const struct world *world, const struct reads *reads)
{
	for (uint64_t page = 0; page < READS * 25; page++) {
		unsigned int number = (unsigned int)(page / 25);

		if (number % 2 == 0 ? !reads->read[number].result : reads->taken[page])
			assert_memory_equal(reads->buf + page * PAGE, world->remote + page * PAGE,
					    PAGE);
	}
}

static void many_reads_are_under_way(void **state)
{
	struct world *world = *state;
	struct reads *reads = calloc(1, sizeof(*reads));
	struct fl_source *source;
	struct fl_queue *queue, *second;
	struct fl_error err;

	reads->buf = malloc(LEN);
	assert_int_equal(fl_source_worker_new(&source, world->importer, 2 * LEN, &err), 0);
	assert_int_equal(fl_queue_open(source, READS, &queue), 0);
	assert_int_equal(fl_queue_open(source, 1, &second), -EBUSY);
	submit_all(queue, reads);
	assert_int_equal(fl_queue_submit(queue, &(struct fl_read){.len_bytes = PAGE}), -EBUSY);
	fl_queue_hurry(queue, &reads->read[38], reads->read[38].offset, PAGE);
	fl_queue_hurry(queue, &reads->read[1], reads->read[1].offset, 25 * PAGE);
	/* A thread of the VMM copies for itself meanwhile. */
	assert_copied(world);
	reap_all(queue, reads);
	assert_int_equal(reads->failed, 0);
	assert_read(world, reads);
	/* Closed with reads under way: what the worker still writes is waited for. */
	submit_all(queue, reads);
	fl_queue_close(queue);
	fl_source_close(source);
	free(reads->buf);
	free(reads);
	assert_copied(world);
}

static void reads_end_with_their_worker(void **state)
{
	struct world *world = *state;
	struct reads *reads = calloc(1, sizeof(*reads));
	struct fl_source *source;
	struct fl_queue *queue;
	struct fl_error err;

	reads->buf = malloc(LEN);
	assert_int_equal(fl_source_worker_new(&source, world->importer, 2 * LEN, &err), 0);
	assert_int_equal(fl_queue_open(source, READS, &queue), 0);
	submit_all(queue, reads);
	stop_side(&world->in);
	reap_all(queue, reads);
	assert_read(world, reads);
	/* And so do those that come later. */
	reads->ended = reads->failed = 0;
	submit_all(queue, reads);
	reap_all(queue, reads);
	assert_int_equal(reads->failed, READS);
	assert_int_equal(reads->read[3].result, -EPIPE);
	fl_queue_close(queue);
	fl_source_close(source);
	free(reads->buf);
	free(reads);
	start_side(&world->in, "in");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* What a migration takes with it, from one VMM to the other. */
static void an_export_is_found_by_its_descriptor(void **state)
{
	struct world *world = *state;
	uint8_t blob[FL_WORKER_WAY_MAX], bad[FL_WORKER_WAY_MAX + 1] = {0};
	unsigned char *seen = malloc(LEN);
	struct fl_source *source = NULL;
	struct fl_error err;
	char *longest = calloc(1, FL_WORKER_ADDRESS_MAX + 2);
	int len = fl_worker_way(world->exporter, world->token, NULL, blob);

	assert_int_equal(len, FL_WORKER_TOKEN_BYTES + strlen(world->out.address));
	assert_memory_equal(blob, world->token, FL_WORKER_TOKEN_BYTES);
	assert_memory_equal(blob + FL_WORKER_TOKEN_BYTES, world->out.address,
			    strlen(world->out.address));
	assert_int_equal(
		fl_source_worker_way(&source, world->importer, blob, (size_t)len, 2 * LEN, &err),
		0);
	assert_int_equal(fl_source_read(source, seen, LEN, LEN), 0);
	assert_memory_equal(seen, world->remote, LEN);
	fl_source_close(source);

	assert_int_equal(fl_worker_way(world->importer, world->token, NULL, blob), -EDESTADDRREQ);
	assert_int_equal(fl_worker_way(world->exporter, world->token, "", blob), -EINVAL);
	memset(longest, 'a', FL_WORKER_ADDRESS_MAX + 1);
	assert_int_equal(fl_worker_way(world->exporter, world->token, longest, blob), -EINVAL);
	longest[FL_WORKER_ADDRESS_MAX] = 0;
	assert_int_equal(fl_worker_way(world->exporter, world->token, longest, blob),
			 FL_WORKER_WAY_MAX);
	for (size_t wrong = 0; wrong <= sizeof(bad); wrong += sizeof(bad) / 17)
		assert_int_equal(
			fl_source_worker_way(&source, world->importer, bad, wrong, LEN, &err),
			-EBADMSG);
	free(longest);
	free(seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(everything_is_copied),
		TEST(an_export_is_found_by_its_descriptor),
		TEST(what_cannot_be_is_refused),
		TEST(a_wrong_token_is_refused),
		TEST(regions_are_judged),
		TEST(many_threads_copy),
		TEST(a_hostile_ring_harms_nobody),
		TEST(memory_that_is_cut_ends_its_session),
		TEST(exported_memory_that_is_cut_is_an_error),
		TEST(a_lost_link_is_made_anew),
		TEST(a_worker_that_ends_is_told),
		TEST(a_stranger_harms_nobody),
		TEST(remote_memory_is_a_source),
		TEST(many_reads_are_under_way),
		TEST(reads_end_with_their_worker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
