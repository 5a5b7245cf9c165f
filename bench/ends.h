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

/* Where it arrives. */
struct bench_arrival {
	struct bench_machine machine;
	pid_t outgoing;
	int report_fd; /* the outgoing side's stats come by it */
	int listen_fd, memfd, uffd;
	char *guest, *alias; /* mapped once there */
	struct fl_layout *layout;
	struct fl_alias aliases;
	uint64_t fd_offset;
	struct fl_incoming *incoming;
	int event_fd; /* readable: it runs, or it ended */
	_Atomic int running, ended;
};

/* Contents of the page at an offset: every word differs, and never zeros. */
void bench_fill_page(void *page, uint64_t offset);

/* Starts both. The outgoing side's memory is ready and its process waits before anything is timed. */
int bench_arrive(struct bench_arrival *arrival, const struct bench_machine *machine);
/* Waits until it runs; until it has all arrived. -EIO with a line on stderr when it failed. */
int bench_await_run(struct bench_arrival *arrival);
int bench_await_done(struct bench_arrival *arrival);
/* Ends both, whether it has all arrived or not. @stats may be NULL; of a machine that has all arrived. */
int bench_leave(struct bench_arrival *arrival, struct fl_outgoing_stats *stats);

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
