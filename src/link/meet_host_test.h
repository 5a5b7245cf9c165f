/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_MEET_HOST_TEST_H
#define FL_LINK_MEET_HOST_TEST_H

/*
 * For the tests of meetings. One side of each is ours, in a thread: the host. The other one is ours too, or
 * a stranger: a plain socket on which the test says what it likes.
 */

#include <pthread.h>

#include "link/meet.h"
#include "link/stream.h"

#define MEET_LONG_MS 30000 /* that a test never gets to */
#define FRAME_BYTES  (FL_WIRE_HEAD_BYTES + FL_WIRE_HELLO_BYTES)

/* A folder with the certificates that these were made of. */
extern char meet_folder[128];
extern struct fl_tls *host_tls, *peer_tls;

/* A meeting in a thread. */
struct host {
	pthread_t thread;
	struct fl_meet how;
	struct fl_pair pair;
	struct fl_error err;
	char address[FL_LINK_TEXT];
	int rc;
	pthread_mutex_t lock;
	char said[16384]; /* all messages, under the lock */
};

int meet_set_up(void **state);
int meet_tear_down(void **state);
/* Waits on @listen_on for an outgoing side; a test changes how before it starts. */
void host_init(struct host *host, const char *listen_on);
void host_start(struct host *host);
void host_join(struct host *host);
void host_cancel(struct host *host);
void pair_close(struct fl_pair *pair);
void host_free(struct host *host);
/* The other side of ours. */
struct fl_meet host_caller(const struct host *host);
void wait_for(int fd);
/* Both have met, and each connection leads to its like. */
void check_pairs(const struct fl_pair *a, const struct fl_pair *b);
/* The right one comes, and meets a host that has been through something. */
void right_one_meets(struct host *host);
int stranger(const struct host *host);
void say(int fd, const void *bytes, size_t len);
/* All of it, or what there is before the end. */
size_t hear(int fd, void *to, size_t len);
struct fl_wire_hello good_hello(enum fl_channel channel);
void make_frame(uint8_t bytes[FRAME_BYTES], enum fl_frame_type type,
		const struct fl_wire_hello *hello);
void say_frame(int fd, enum fl_frame_type type, const struct fl_wire_hello *hello);
/* Reads a frame of such a type; its payload in @payload, NUL behind it. */
struct fl_frame hear_frame(int fd, enum fl_frame_type type, char payload[512]);
/* ERROR with that errno and sentence, then the end. */
void hear_error(int fd, int code, const char *text);
void hear_welcome(int fd, struct fl_wire_hello *hello);
/* As a stranger, but by the rules: a main connection that was welcomed. */
int welcomed(const struct host *host, struct fl_wire_hello *welcome);

#endif
