/* SPDX-License-Identifier: MIT */
/*
 * The two ends of a migration for benchmarks: a machine that is nothing but memory leaves a child process, and
 * arrives in this one, over loopback TCP.
 */
#ifndef FAULTLINE_BENCH_ENDS_H
#define FAULTLINE_BENCH_ENDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <faultline/migrate.h>

/* What leaves, and how. */
struct bench_machine {
	uint64_t len_bytes;
	enum fl_migrate_mode mode;
	uint64_t bandwidth; /* bytes a second, 0 for all */
	double dirty;       /* share of pages that is dirty at the switch, picked at random */
};

/* The process that it leaves, once or again and again: each time from the beginning, with the same contents. */
struct bench_leaver {
	struct bench_machine machine;
	pid_t pid;
	int fd; /* orders go there, answers come */
};

/* What it says of the last time. */
struct bench_told {
	struct fl_outgoing_stats stats;
	uint64_t
		stopped_ns; /* when stop() had returned, by bench_now_ns(): the clock of both processes */
};

/* Where it arrives. */
struct bench_arrival {
	struct bench_machine machine;
	struct bench_leaver own; /* pid 0: it came from another */
	int listen_fd, memfd, uffd;
	char *guest, *alias; /* mapped once there */
	struct fl_layout *layout;
	struct fl_alias aliases;
	uint64_t fd_offset;
	struct fl_incoming *incoming;
	int event_fd; /* readable: it runs, or it ended */
	_Atomic int running, ended;
	_Atomic uint64_t ran_ns; /* when run() was called */
};

/* Contents of the page at an offset: every word differs, and never zeros. */
void bench_fill_page(void *page, uint64_t offset);

/* Its memory is filled when this returns, before anything is timed. */
int bench_leaver_start(struct bench_leaver *leaver, const struct bench_machine *machine);
void bench_leaver_end(struct bench_leaver *leaver);
/* What is known of it now. */
int bench_ask(struct bench_leaver *leaver, struct bench_told *told);

/* Starts both sides; the second, from a leaver that is there already. */
int bench_arrive(struct bench_arrival *arrival, const struct bench_machine *machine);
int bench_arrive_from(struct bench_arrival *arrival, struct bench_leaver *leaver);
/* Waits until it runs; until it has all arrived. -EIO with a line on stderr when it failed. */
int bench_await_run(struct bench_arrival *arrival);
int bench_await_done(struct bench_arrival *arrival);
/* Ends it, whether it has all arrived or not. */
void bench_leave(struct bench_arrival *arrival);

/* The bare loop beside it: a child sends @len_bytes by send(2), 128 KiB at a time with the sums of their
 * pages, this process receives it into a fresh memfd and checks them. Seconds, or negative errno. */
double bench_bare_stream(uint64_t len_bytes);

/* A child that answers each byte on a connection of its own with 4 KiB: a bare ping. */
struct bench_ping {
	pid_t child;
	int fd;
};
int bench_ping_start(struct bench_ping *ping);
/* One round trip, in ns; negative errno. */
int64_t bench_ping_once(struct bench_ping *ping);
void bench_ping_stop(struct bench_ping *ping);

uint64_t bench_now_ns(void);

#endif
