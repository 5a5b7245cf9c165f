/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_FABRIC_TEST_H
#define FL_SOURCE_FABRIC_TEST_H

/* A process that exports an image over libfabric's tcp provider and loopback, and what reads it. */

#include "source/reads_test.h"

#include "source/fabric.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MIB         ((uint64_t)1 << 20)
#define IMAGE_BYTES (64 * MIB)
/* The export's second region lies a gap behind its first, in the image, and before it in memory. */
#define FIRST_BYTES  (24 * MIB)
#define GAP_BYTES    (8 * MIB)
#define SECOND_AT    (FIRST_BYTES + GAP_BYTES)
#define SECOND_BYTES (IMAGE_BYTES - SECOND_AT)
#define SEED         77
#define TIMEOUT_MS   60000

struct peer {
	pid_t pid;
	int life; /* the child goes when this is closed */
	uint8_t blob[FL_FABRIC_BLOB_MAX];
	size_t len;
};

/* The test and what it reads from. */
struct rig {
	int image;
	struct peer peer;
	struct fl_fabric_options options;
	struct fl_source *source;
	struct fl_queue *queue;
};

static inline void loopback(struct fl_fabric_options *options)
{
	fl_fabric_options_init(options);
	options->address = "127.0.0.1";
	options->timeout_ms = TIMEOUT_MS;
}

/* The memory that is exported, written once; each peer maps it. */
static inline int make_image(void **state)
{
	static int image;
	int fd = memfd_create("exported", MFD_CLOEXEC);
	char *at;

	if (fd < 0 || ftruncate(fd, (off_t)IMAGE_BYTES))
		return -1;
	at = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -1;
	test_pattern(at, SECOND_BYTES, SECOND_AT, SEED);
	test_pattern(at + SECOND_BYTES, FIRST_BYTES, 0, SEED);
	image = fd;
	*state = &image;
	return munmap(at, IMAGE_BYTES);
}

static inline int drop_image(void **state)
{
	int *image = *state;

	(void)close(*image);
	return 0;
}

static inline int export_image(struct fl_fabric **fabric, int image, struct fl_error *err)
{
	struct fl_fabric_options options;
	struct fl_fabric_memory memory[2];
	char *at = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, image, 0);

	if (at == MAP_FAILED)
		return -errno;
	memory[0] = (struct fl_fabric_memory){at, SECOND_AT, SECOND_BYTES};
	memory[1] = (struct fl_fabric_memory){at + SECOND_BYTES, 0, FIRST_BYTES};
	loopback(&options);
	return fl_fabric_export(fabric, memory, 2, &options, err);
}

static inline void child(int image, int out, int life)
{
	struct fl_fabric *fabric = NULL;
	struct fl_error err = {0};
	int ret = export_image(&fabric, image, &err);
	const void *blob;
	size_t len;
	char byte;

	if (ret) {
		(void)!write(out, err.text, strlen(err.text));
		_exit(2);
	}
	blob = fl_fabric_blob(fabric, &len);
	if (write(out, blob, len) != (ssize_t)len)
		_exit(3);
	(void)close(out);
	(void)!read(life, &byte, 1);
	fl_fabric_unexport(fabric);
	_exit(0);
}

static inline void start_peer(struct peer *peer, int image)
{
	int out[2], life[2];
	ssize_t got;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(life, O_CLOEXEC), 0);
	peer->pid = fork();
	assert_true(peer->pid >= 0);
	if (!peer->pid) {
		(void)close(out[0]);
		(void)close(life[1]);
		child(image, out[1], life[0]);
	}
	(void)close(out[1]);
	(void)close(life[0]);
	peer->life = life[1];
	peer->len = 0;
	while ((got = read(out[0], peer->blob + peer->len, sizeof(peer->blob) - peer->len)) > 0)
		peer->len += (size_t)got;
	(void)close(out[0]);
}

/* Returns how it ended. */
static inline int stop_peer(struct peer *peer)
{
	int status = -1;

	if (peer->pid <= 0)
		return -1;
	(void)close(peer->life);
	assert_int_equal(waitpid(peer->pid, &status, 0), peer->pid);
	peer->pid = 0;
	return status;
}

static inline void kill_peer(struct peer *peer)
{
	assert_int_equal(kill(peer->pid, SIGKILL), 0);
	assert_true(WIFSIGNALED(stop_peer(peer)));
}

static inline bool have_tcp(void)
{
	struct fl_fabric_offer offers[64];
	int count = fl_fabric_probe(offers, 64, NULL);

	for (int i = 0; i < count; i++) {
		if (!strncmp(offers[i].provider, "tcp", 3) &&
		    !strcmp(offers[i].address, "127.0.0.1"))
			return true;
	}
	return false;
}

static inline void open_source(struct rig *rig, const struct fl_fabric_memory *local, size_t count)
{
	struct fl_error err = {0};

	if (fl_source_fabric_open(&rig->source, rig->peer.blob, rig->peer.len, local, count,
				  &rig->options, &err))
		fail_msg("%s", err.text);
	rig->queue = queue_of(rig->source, 64);
}

static inline void close_queue(struct rig *rig)
{
	fl_queue_close(rig->queue);
	rig->queue = NULL;
}

static inline void close_source(struct rig *rig)
{
	close_queue(rig);
	fl_source_close(rig->source);
	rig->source = NULL;
}

static inline int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig->image = *(int *)*state;
	*state = rig;
	loopback(&rig->options);
	if (have_tcp())
		start_peer(&rig->peer, rig->image);
	return 0;
}

static inline int tear_down(void **state)
{
	struct rig *rig = *state;

	close_source(rig);
	if (rig->peer.pid > 0) {
		(void)kill(rig->peer.pid, SIGCONT);
		(void)stop_peer(&rig->peer);
	}
	free(rig);
	return 0;
}

static inline struct rig *rig_of(void **state)
{
	struct rig *rig = *state;

	SKIP_UNLESS(rig->peer.pid > 0, "other", "libfabric offers no tcp provider on loopback");
	if (rig->peer.len < 4 || memcmp(rig->peer.blob, "FLFB", 4))
		fail_msg("export: %.*s", (int)rig->peer.len, (const char *)rig->peer.blob);
	return rig;
}

static inline void *map_anon(uint64_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

/* Where a read's bytes go when it asks, and what it heard. */
struct target {
	struct job job;
	char *memory;     /* the image's bytes at 0 */
	uint8_t *arrived; /* for each unit, how often */
	uint64_t wanted;  /* bytes up to here, of the image */
	bool split;       /* into answers of different lengths */
};

static inline void *target_place(struct fl_read *read, uint64_t offset, uint64_t *len_bytes)
{
	struct target *target = read->ctx;

	assert_in_range(offset, read->offset, read->offset + read->len_bytes - 1);
	assert_true(*len_bytes && *len_bytes <= read->offset + read->len_bytes - offset);
	assert_int_equal(*len_bytes % 4096, 0);
	if (target->split && *len_bytes > 4096 * (offset / 4096 % 5 + 1))
		*len_bytes = 4096 * (offset / 4096 % 5 + 1);
	return offset < target->wanted ? target->memory + offset : NULL;
}

static inline void target_arrived(struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	struct target *target = read->ctx;

	assert_int_equal(target->job.ended, 0);
	for (uint64_t at = offset; at < offset + len_bytes; at += 4096)
		target->arrived[at / 4096]++;
}

static inline void target_done(struct fl_read *read)
{
	struct target *target = read->ctx;

	target->job.ended++;
}

static inline void target_init(struct target *target, char *memory, uint8_t *arrived,
			       uint64_t offset, uint64_t len)
{
	*target = (struct target){.memory = memory, .arrived = arrived, .wanted = UINT64_MAX};
	job_init(&target->job, NULL, len, offset);
	target->job.read.done = target_done;
	target->job.read.ctx = target;
	target->job.read.place = target_place;
	target->job.read.arrived = target_arrived;
}

#endif
