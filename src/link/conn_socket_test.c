/* SPDX-License-Identifier: MIT */
/* Connections over real sockets, each side in a thread of its own. */
#include "support.h"
#include "link/conn.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEED  11
#define LEN   (32u << 20)
#define FRAME FL_WIRE_PAGES_BYTES

struct side {
	struct fl_conn *conn;
	uint8_t *memory;
	const uint8_t *original; /* what it must become */
	uint64_t right;          /* bytes that came */
	uint32_t requests;       /* that came */
	uint32_t answered;
	int rc;
};

static void put_error(struct side *side, int rc)
{
	if (!side->rc)
		side->rc = rc;
}

static int on_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct side *side = ctx;

	(void)payload;
	if (frame->type != FL_FRAME_REQUEST)
		return -EPROTO;
	side->requests++;
	return 0;
}

static void *on_place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	const struct side *side = ctx;

	(void)frame;
	return offset + *len_bytes <= LEN ? side->memory + offset : NULL;
}

static int on_pages(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		    bool right)
{
	struct side *side = ctx;

	(void)frame;
	if (!right || memcmp(side->memory + offset, side->original + offset, len_bytes) != 0)
		return -EBADMSG;
	side->right += len_bytes;
	return 0;
}

static const struct fl_conn_ops ops = {on_frame, on_place, on_pages, NULL};

static void pump(struct side *side)
{
	struct pollfd polled = {.fd = fl_conn_fd(side->conn), .events = fl_conn_events(side->conn)};
	int rc;

	if (!fl_conn_pending(side->conn))
		(void)poll(&polled, 1, 10000);
	rc = fl_conn_flush(side->conn, 256u * 1024);
	if (rc >= 0)
		rc = fl_conn_recv(side->conn, 256u * 1024);
	if (rc < 0)
		put_error(side, rc);
}

/* Answers requests in the order in which they come. */
static void *answer(void *arg)
{
	struct side *side = arg;

	while (!side->rc && (side->answered < LEN / FRAME || fl_conn_unsent(side->conn))) {
		uint64_t offset = (uint64_t)side->answered * FRAME;

		if (side->requests > side->answered && fl_conn_can_send_pages(side->conn)) {
			put_error(side, fl_conn_send_pages(side->conn, offset,
							   side->memory + offset, FRAME));
			side->answered++;
			(void)fl_conn_flush(side->conn, 256u * 1024);
		} else {
			pump(side);
		}
	}
	return NULL;
}

/* Asks for everything, with a few requests under way. */
static void ask(struct side *side)
{
	uint32_t asked = 0;

	while (!side->rc && side->right < LEN) {
		while (asked < LEN / FRAME && asked < side->right / FRAME + 16) {
			struct fl_frame request = {.type = FL_FRAME_REQUEST,
						   .offset = (uint64_t)asked++ * FRAME,
						   .bytes = FRAME};

			put_error(side, fl_conn_send(side->conn, &request, NULL, 0));
		}
		pump(side);
	}
}

static void open_side(struct side *side, int fd)
{
	struct fl_stream *stream;

	memset(side, 0, sizeof(*side));
	side->memory = calloc(1, LEN);
	assert_non_null(side->memory);
	assert_int_equal(fl_stream_socket_new(&stream, fd), 0);
	assert_int_equal(fl_conn_new(&side->conn, stream, &ops, side), 0);
}

/* Each other frame can be compressed. */
static void fill(uint8_t *memory)
{
	test_pattern(memory, LEN, 0, SEED);
	for (uint32_t at = 0; at < LEN; at += 2 * FRAME)
		memset(memory + at, (int)(at / FRAME), FRAME);
}

static void move(uint8_t compress)
{
	struct side out, in;
	struct fl_conn_stats stats;
	pthread_t thread;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	open_side(&out, fds[0]);
	open_side(&in, fds[1]);
	fill(out.memory);
	in.original = out.memory;
	assert_int_equal(fl_conn_compress(out.conn, compress), 0);
	assert_int_equal(pthread_create(&thread, NULL, answer, &out), 0);
	ask(&in);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(in.rc, 0);
	assert_int_equal(out.rc, 0);
	assert_int_equal(in.right, LEN);
	assert_memory_equal(in.memory, out.memory, LEN);
	fl_conn_stats(out.conn, &stats);
	assert_int_equal(stats.saved_bytes > LEN / 3, compress != 0);
	/* One side goes, the other hears of it. */
	fl_conn_free(out.conn);
	while (!in.rc)
		pump(&in);
	assert_int_equal(in.rc, -ECONNRESET);
	fl_conn_free(in.conn);
	free(out.memory);
	free(in.memory);
}

static void everything_arrives(void **state)
{
	unsigned int fds = test_open_fds();

	(void)state;
	move(0);
	assert_int_equal(test_open_fds(), fds);
}

static void everything_arrives_compressed(void **state)
{
	(void)state;
	move(FL_FRAME_LZ4);
	move(FL_FRAME_ZSTD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_arrives),
		cmocka_unit_test(everything_arrives_compressed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
