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
	struct fl_outgoing *out; /* or NULL: it has not left yet */
	_Atomic uint64_t stopped_ns;
	int event_fd, fd;
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
	struct leaving *leaving = ctx;

	leaving->stopped_ns = bench_now_ns();
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

/* To the child: an address to leave for, or none, to be told how it went. It answers once memory is filled,
 * and each question. */
struct order {
	char address[64];
};

static int leave_for(struct leaving *leaving, const char *address)
{
	struct fl_outgoing_options options;
	struct fl_error err = {0};
	int code;

	fl_outgoing_free(leaving->out);
	leaving->out = NULL;
	fl_outgoing_options_init(&options);
	options.mode = leaving->machine->mode;
	options.bandwidth = leaving->machine->bandwidth;
	options.max_rounds = 1;
	code = fl_outgoing_new(&leaving->out, leaving->layout, &outgoing_calls, leaving, &options,
			       &err);
	if (!code)
		code = fl_outgoing_start(leaving->out, address);
	return code ? failed("outgoing", code, err.text) : 0;
}

static int tell(struct leaving *leaving)
{
	struct bench_told told = {.stats.size = sizeof(told.stats)};

	if (leaving->out)
		fl_outgoing_stats(leaving->out, &told.stats);
	told.stopped_ns = leaving->stopped_ns;
	return write(leaving->fd, &told, sizeof(told)) == sizeof(told) ? 0 : -EIO;
}

/* What the other side ends before all has arrived is LOST, and its own affair. */
static int check_ended(struct leaving *leaving)
{
	struct fl_error err = {0};
	eventfd_t phase;

	if (eventfd_read(leaving->event_fd, &phase) || phase != FL_MIGRATE_FAILED + 1)
		return 0;
	fl_outgoing_error(leaving->out, &err);
	return failed("outgoing", -EIO, err.text);
}

/* The child: fills its memory, and does as it is told until the parent hangs up. */
static int leave(const struct bench_machine *machine, int fd)
{
	struct leaving leaving = {
		.machine = machine, .event_fd = eventfd(0, EFD_CLOEXEC), .fd = fd};
	struct pollfd polls[] = {{.fd = fd, .events = POLLIN},
				 {.fd = leaving.event_fd, .events = POLLIN}};
	struct order order;
	int code = make_memory(&leaving);

	if (code)
		return failed("outgoing", code, NULL);
	code = tell(&leaving);
	while (!code && poll(polls, 2, -1) > 0) {
		if (polls[1].revents)
			code = check_ended(&leaving);
		if (!polls[0].revents || code)
			continue;
		if (recv(fd, &order, sizeof(order), 0) != sizeof(order))
			return 0;
		code = order.address[0] ? leave_for(&leaving, order.address) : tell(&leaving);
	}
	return code;
}

static int say(const struct bench_leaver *leaver, const struct order *order)
{
	return send(leaver->fd, order, sizeof(*order), MSG_NOSIGNAL) == sizeof(*order) ? 0 : -EIO;
}

static int hear(const struct bench_leaver *leaver, struct bench_told *told)
{
	return recv(leaver->fd, told, sizeof(*told), 0) == sizeof(*told) ? 0 : -EIO;
}

int bench_ask(struct bench_leaver *leaver, struct bench_told *told)
{
	const struct order order = {0};
	int code = say(leaver, &order);

	return code ? code : hear(leaver, told);
}

int bench_leaver_start(struct bench_leaver *leaver, const struct bench_machine *machine)
{
	struct bench_told told;
	int fds[2];

	leaver->machine = *machine;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -errno;
	leaver->pid = fork();
	if (!leaver->pid) {
		(void)close(fds[0]);
		_exit(leave(&leaver->machine, fds[1]) ? 1 : 0);
	}
	(void)close(fds[1]);
	leaver->fd = fds[0];
	return hear(leaver, &told);
}

void bench_leaver_end(struct bench_leaver *leaver)
{
	if (leaver->pid <= 0)
		return;
	(void)kill(leaver->pid, SIGKILL);
	(void)waitpid(leaver->pid, NULL, 0);
	(void)close(leaver->fd);
	leaver->pid = 0;
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

	arrival->ran_ns = bench_now_ns();
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

int bench_arrive_from(struct bench_arrival *arrival, struct bench_leaver *leaver)
{
	struct fl_error err = {0};
	struct order order = {0};
	int code;

	memset(arrival, 0, sizeof(*arrival));
	arrival->machine = leaver->machine;
	arrival->event_fd = eventfd(0, EFD_CLOEXEC);
	code = make_room(arrival);
	if (!code)
		code = fl_link_address(arrival->listen_fd, order.address, sizeof(order.address));
	if (!code)
		code = fl_incoming_new(&arrival->incoming, arrival->listen_fd, &incoming_calls,
				       arrival, NULL, &err);
	return code ? failed("incoming", code, err.text) : say(leaver, &order);
}

int bench_arrive(struct bench_arrival *arrival, const struct bench_machine *machine)
{
	struct bench_leaver leaver;
	int code = bench_leaver_start(&leaver, machine);

	if (!code)
		code = bench_arrive_from(arrival, &leaver);
	arrival->own = leaver;
	return code;
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

void bench_leave(struct bench_arrival *arrival)
{
	uint64_t len = arrival->machine.len_bytes;

	bench_leaver_end(&arrival->own);
	fl_incoming_free(arrival->incoming);
	fl_layout_free(arrival->layout);
	(void)munmap(arrival->guest, len);
	(void)munmap(arrival->alias, len);
	(void)close(arrival->uffd);
	(void)close(arrival->memfd);
	(void)close(arrival->listen_fd);
	(void)close(arrival->event_fd);
}
