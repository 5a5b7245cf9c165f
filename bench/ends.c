/* SPDX-License-Identifier: MIT */
#include "ends.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u

uint64_t bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void bench_fill_page(void *page, uint64_t offset)
{
	uint64_t *word = page, value = offset * 0x9e3779b97f4a7c15u + 1;

	for (unsigned int i = 0; i < PAGE / sizeof(*word); i++)
		word[i] = value += 0x9e3779b97f4a7c15u;
}

static int failed(const char *what, int code, const char *text)
{
	fprintf(stderr, "bench: %s: %s\n", what, text && text[0] ? text : strerror(-code));
	return code;
}

/* ---- the side that it leaves, in a child */

struct leaving {
	const struct bench_machine *machine;
	struct fl_layout *layout;
	char *memory;
	unsigned int collects;
	int event_fd;
};

static int track(void *ctx, bool on)
{
	(void)ctx;
	(void)on;
	return 0;
}

/* What was dirty when it stopped: the same share for every run, spread by a fixed generator. Rounds
 * before saw nothing written. */
static int collect(void *ctx, struct fl_pageset *dirty)
{
	struct leaving *leaving = ctx;
	uint64_t pages = leaving->machine->len_bytes / PAGE, seed = 1;
	uint64_t count = (uint64_t)((double)pages * leaving->machine->dirty);

	for (uint64_t i = 0; i < count; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		(void)fl_pageset_add(dirty, (seed >> 20) % pages, 1);
	}
	return 0;
}

static int stop(void *ctx)
{
	(void)ctx;
	return 0;
}

static int save(void *ctx, void **state, size_t *len_bytes)
{
	(void)ctx;
	*len_bytes = PAGE;
	*state = calloc(1, PAGE);
	return *state ? 0 : -ENOMEM;
}

static void go_on(void *ctx)
{
	(void)ctx;
}

static void ended(void *ctx, enum fl_migrate_phase phase)
{
	struct leaving *leaving = ctx;

	(void)eventfd_write(leaving->event_fd, (eventfd_t)phase + 1);
}

static const struct fl_outgoing_calls outgoing_calls = {
	.size = sizeof(outgoing_calls),
	.track = track,
	.collect = collect,
	.stop = stop,
	.save = save,
	.go_on = go_on,
	.ended = ended,
};

static int make_memory(struct leaving *leaving)
{
	uint64_t len = leaving->machine->len_bytes;
	struct fl_region region = {.len_bytes = len, .page_size = PAGE, .backing = FL_BACKING_ANON};

	leaving->memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (leaving->memory == MAP_FAILED)
		return -errno;
	for (uint64_t at = 0; at < len; at += PAGE)
		bench_fill_page(leaving->memory + at, at);
	region.addr = (uintptr_t)leaving->memory;
	return fl_layout_new(&leaving->layout, &region, 1, NULL);
}

/* The child: ready, then at a byte from the parent it leaves. */
static int leave(const struct bench_machine *machine, const char *address, int fd)
{
	struct leaving leaving = {.machine = machine, .event_fd = eventfd(0, EFD_CLOEXEC)};
	struct fl_outgoing_stats stats = {.size = sizeof(stats)};
	struct fl_outgoing_options options;
	struct fl_outgoing *out;
	struct fl_error err = {0};
	eventfd_t phase;
	char go = 0;
	int code = make_memory(&leaving);

	fl_outgoing_options_init(&options);
	options.mode = machine->mode;
	options.bandwidth = machine->bandwidth;
	options.max_rounds = 1;
	if (!code)
		code = fl_outgoing_new(&out, leaving.layout, &outgoing_calls, &leaving, &options,
				       &err);
	if (code)
		return failed("outgoing", code, err.text);
	if (write(fd, &go, 1) != 1 || read(fd, &go, 1) != 1)
		return -EIO;
	code = fl_outgoing_start(out, address);
	if (!code && !eventfd_read(leaving.event_fd, &phase) && phase != FL_MIGRATE_DONE + 1) {
		fl_outgoing_error(out, &err);
		return failed("outgoing", -EIO, err.text);
	}
	fl_outgoing_stats(out, &stats);
	return write(fd, &stats, sizeof(stats)) == sizeof(stats) ? code : -EIO;
}

/* ---- the side where it arrives */

static int prepare(void *ctx, const struct fl_region *regions, size_t count, const void *config,
		   size_t config_len, struct fl_incoming_memory *memory, struct fl_error *err)
{
	struct bench_arrival *arrival = ctx;
	struct fl_region region = regions[0];

	(void)config;
	(void)config_len;
	if (count != 1 || region.len_bytes != arrival->machine.len_bytes)
		return -EINVAL;
	region.addr = (uintptr_t)arrival->guest;
	region.backing = FL_BACKING_MEMFD;
	arrival->aliases = (struct fl_alias){region.addr, arrival->alias, region.len_bytes};
	*memory = (struct fl_incoming_memory){.uffd = arrival->uffd,
					      .aliases = &arrival->aliases,
					      .fds = &arrival->memfd,
					      .fd_offsets = &arrival->fd_offset,
					      .count = 1};
	(void)fl_layout_new(&arrival->layout, &region, 1, err);
	memory->layout = arrival->layout;
	return arrival->layout ? 0 : -EINVAL;
}

static int load(void *ctx, const void *state, size_t len_bytes, struct fl_error *err)
{
	(void)ctx;
	(void)state;
	(void)len_bytes;
	(void)err;
	return 0;
}

static int run(void *ctx)
{
	struct bench_arrival *arrival = ctx;

	arrival->running = 1;
	return eventfd_write(arrival->event_fd, 1);
}

static void arrived(void *ctx, enum fl_migrate_phase phase)
{
	struct bench_arrival *arrival = ctx;

	arrival->ended = (int)phase + 1;
	(void)eventfd_write(arrival->event_fd, 1);
}

static const struct fl_incoming_calls incoming_calls = {
	.size = sizeof(incoming_calls),
	.prepare = prepare,
	.load = load,
	.run = run,
	.ended = arrived,
};

static int make_room(struct bench_arrival *arrival)
{
	uint64_t len = arrival->machine.len_bytes;
	struct fl_error err = {0};

	arrival->memfd = memfd_create("bench", MFD_CLOEXEC);
	if (arrival->memfd < 0 || ftruncate(arrival->memfd, (off_t)len))
		return -errno;
	arrival->guest = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, arrival->memfd, 0);
	arrival->alias = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, arrival->memfd, 0);
	if (arrival->guest == MAP_FAILED || arrival->alias == MAP_FAILED)
		return -errno;
	arrival->uffd = fl_uffd_open(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE,
				     FL_UFFD_USER_MODE_ONLY, NULL, &err);
	if (arrival->uffd < 0)
		return failed("userfaultfd", arrival->uffd, err.text);
	arrival->listen_fd = fl_link_listen("127.0.0.1:0", &err);
	return arrival->listen_fd < 0 ? failed("listen", arrival->listen_fd, err.text) : 0;
}

static int start_child(struct bench_arrival *arrival)
{
	char address[64], ready;
	int fds[2], code = fl_link_address(arrival->listen_fd, address, sizeof(address));

	if (code || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return code ? code : -errno;
	arrival->outgoing = fork();
	if (!arrival->outgoing)
		_exit(leave(&arrival->machine, address, fds[1]) ? 1 : 0);
	(void)close(fds[1]);
	arrival->report_fd = fds[0];
	return read(fds[0], &ready, 1) == 1 ? 0 : -EIO;
}

int bench_arrive(struct bench_arrival *arrival, const struct bench_machine *machine)
{
	struct fl_error err = {0};
	int code;

	memset(arrival, 0, sizeof(*arrival));
	arrival->machine = *machine;
	arrival->event_fd = eventfd(0, EFD_CLOEXEC);
	code = make_room(arrival);
	if (!code)
		code = start_child(arrival);
	if (!code)
		code = fl_incoming_new(&arrival->incoming, arrival->listen_fd, &incoming_calls,
				       arrival, NULL, &err);
	if (code)
		return failed("incoming", code, err.text);
	return write(arrival->report_fd, "", 1) == 1 ? 0 : -EIO;
}

static int await(struct bench_arrival *arrival, const _Atomic int *what)
{
	struct fl_error err = {0};
	eventfd_t count;

	while (!*what && !arrival->ended)
		(void)eventfd_read(arrival->event_fd, &count);
	if (!arrival->ended || arrival->ended == FL_MIGRATE_DONE + 1)
		return 0;
	fl_incoming_error(arrival->incoming, &err);
	return failed("incoming", -EIO, err.text);
}

int bench_await_run(struct bench_arrival *arrival)
{
	return await(arrival, &arrival->running);
}

int bench_await_done(struct bench_arrival *arrival)
{
	return await(arrival, &arrival->ended);
}

int bench_leave(struct bench_arrival *arrival, struct fl_outgoing_stats *stats)
{
	uint64_t len = arrival->machine.len_bytes;
	int code = 0;

	if (stats && read(arrival->report_fd, stats, sizeof(*stats)) != sizeof(*stats))
		code = -EIO;
	if (arrival->outgoing > 0) {
		(void)kill(arrival->outgoing, SIGKILL);
		(void)waitpid(arrival->outgoing, NULL, 0);
	}
	fl_incoming_free(arrival->incoming);
	fl_layout_free(arrival->layout);
	(void)munmap(arrival->guest, len);
	(void)munmap(arrival->alias, len);
	(void)close(arrival->uffd);
	(void)close(arrival->memfd);
	(void)close(arrival->listen_fd);
	(void)close(arrival->report_fd);
	(void)close(arrival->event_fd);
	return code;
}
