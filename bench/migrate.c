/* SPDX-License-Identifier: MIT */
/*
 * bench-migrate - what a migration costs beside the least that could do the same, over loopback TCP
 *
 *	bench-migrate [--rounds N] [--only NAME] [--quick]
 *
 * Prints the rows of bench/run as JSON. Ours and what is beside it are measured in turns, and the
 * medians are compared.
 */
#include "ends.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MIB        (UINT64_C(1) << 20)
#define PAGE       4096u
#define ROUNDS_MAX 31u
#define TOUCHES    400u
#define PAUSES     5u /* in a round: a switch is short */

struct settings {
	unsigned int rounds;
	const char *only;
	bool quick;
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *values, unsigned int count, double q)
{
	qsort(values, count, sizeof(*values), compare);
	return values[(unsigned int)((double)(count - 1) * q + 0.5)];
}

static double median(double *values, unsigned int count)
{
	return quantile(values, count, 0.5);
}

/* @limit above 0: the ratio may be at most that; below 0: it must be at least -@limit; 0: no aim. */
static json_t *row(const char *name, const char *what, const char *unit, double ours, double beside,
		   double limit)
{
	double ratio = ours / beside;
	bool within = limit < 0 ? ratio >= -limit : limit == 0 || ratio <= limit;

	return json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:b}", "name", name, "what", what,
			 "unit", unit, "ours", ours, "beside", beside, "ratio", ratio, "limit",
			 limit < 0 ? -limit : limit, "within", within);
}

/* A whole migration; how long it took from the start until all was there, in s. */
static double move(const struct bench_machine *machine, struct fl_incoming_stats *in)
{
	struct bench_arrival arrival;
	uint64_t begin;
	double took;

	if (bench_arrive(&arrival, machine))
		return -1;
	begin = bench_now_ns();
	if (bench_await_done(&arrival))
		return -1;
	took = (double)(bench_now_ns() - begin) / 1e9;
	if (in) {
		in->size = sizeof(*in);
		fl_incoming_stats(arrival.incoming, in);
	}
	bench_leave(&arrival);
	return took;
}

/* ---- push: how fast memory travels */

static int push(const struct settings *settings, json_t *rows)
{
	struct bench_machine rounds = {.len_bytes = settings->quick ? 64 * MIB : 1024 * MIB,
				       .mode = FL_MIGRATE_PRECOPY};
	struct bench_machine follows = {.len_bytes = rounds.len_bytes, .mode = FL_MIGRATE_POSTCOPY};
	double pushed[ROUNDS_MAX], pulled[ROUNDS_MAX], bare[ROUNDS_MAX];
	double gib = (double)rounds.len_bytes / 1024 / MIB;

	for (unsigned int i = 0; i < settings->rounds; i++) {
		bare[i] = gib / bench_bare_stream(rounds.len_bytes);
		pushed[i] = gib / move(&rounds, NULL);
		pulled[i] = gib / move(&follows, NULL);
		if (bare[i] <= 0 || pushed[i] <= 0 || pulled[i] <= 0)
			return -1;
	}
	json_array_append_new(rows, row("push", "a round of pre-copy | send and recv with the sums",
					"GiB/s", median(pushed, settings->rounds),
					median(bare, settings->rounds), -0.8));
	json_array_append_new(
		rows, row("follow", "the background after the switch, pages mapped | the same loop",
			  "GiB/s", median(pulled, settings->rounds), median(bare, settings->rounds),
			  -0.8));
	return 0;
}

/* ---- downtime: does it depend on the size? */

/* Microseconds from the machine's stop on one side to run() on the other, and as the outgoing side tells it. */
struct pauses {
	struct bench_leaver leaver;
	double here[ROUNDS_MAX], told[ROUNDS_MAX];
};

static int pause_once(struct pauses *pauses, unsigned int round)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	struct bench_told told = {0};
	struct bench_arrival arrival;

	if (bench_arrive_from(&arrival, &pauses->leaver) || bench_await_run(&arrival))
		return -1;
	/* Nobody is asked before it is over: that would be in the way. */
	do
		(void)nanosleep(&moment, NULL);
	while (!bench_ask(&pauses->leaver, &told) && !told.stats.downtime_ns && !arrival.ended);
	bench_leave(&arrival);
	pauses->here[round] = ((double)arrival.ran_ns - (double)told.stopped_ns) / 1e3;
	pauses->told[round] = (double)told.stats.downtime_ns / 1e3;
	return pauses->told[round] > 0 ? 0 : -1;
}

static int pauses_start(struct pauses *pauses, uint64_t len)
{
	const struct bench_machine machine = {.len_bytes = len, .mode = FL_MIGRATE_POSTCOPY};

	return bench_leaver_start(&pauses->leaver, &machine);
}

/* The same two machines, whose memory is filled once, leave in turns. */
static int pause_of(const struct settings *settings, json_t *rows)
{
	const char *what = settings->quick ? "post-copy switch of 64 MiB | 16 MiB"
					   : "post-copy switch of 8 GiB | 256 MiB";
	unsigned int rounds = settings->rounds * PAUSES < ROUNDS_MAX ? settings->rounds * PAUSES
								     : ROUNDS_MAX;
	static struct pauses small, large;
	int code = pauses_start(&small, settings->quick ? 16 * MIB : 256 * MIB);

	if (!code)
		code = pauses_start(&large, settings->quick ? 64 * MIB : 8192 * MIB);
	for (unsigned int i = 0; i < rounds && !code; i++) {
		code = pause_once(i % 2 ? &large : &small, i);
		if (!code)
			code = pause_once(i % 2 ? &small : &large, i);
	}
	bench_leaver_end(&small.leaver);
	bench_leaver_end(&large.leaver);
	if (code)
		return -1;
	json_array_append_new(rows, row("downtime", what, "us", median(large.here, rounds),
					median(small.here, rounds), 1.5));
	json_array_append_new(rows, row("downtime-told", what, "us", median(large.told, rounds),
					median(small.told, rounds), 1.5));
	return 0;
}

/* ---- demand: what a fault waits, with the background at work and without */

struct touches {
	double us[TOUCHES];
	double ping_us[TOUCHES];
	unsigned int count;
};

/* Touches pages that have not come yet, now and then, in an order without a pattern. */
static int touch(struct bench_arrival *arrival, struct bench_ping *ping, struct touches *touches)
{
	const struct timespec pause = {.tv_nsec = 300000};
	uint64_t pages = arrival->machine.len_bytes / PAGE, seed = 7;
	unsigned char there;

	for (touches->count = 0; touches->count < TOUCHES && !arrival->ended;) {
		uint64_t page = (seed = seed * 6364136223846793005u + 1442695040888963407u) >> 20;
		char *addr = arrival->guest + page % pages * PAGE;
		uint64_t begin;

		if (mincore(addr, PAGE, &there) || there & 1)
			continue; /* in the page cache: no fault is sure */
		begin = bench_now_ns();
		(void)*(volatile char *)addr;
		touches->us[touches->count] = (double)(bench_now_ns() - begin) / 1e3;
		touches->ping_us[touches->count++] = (double)bench_ping_once(ping) / 1e3;
		(void)nanosleep(&pause, NULL);
	}
	return touches->count < 20 ? -1 : 0;
}

static int touch_while(uint64_t bandwidth, uint64_t len, struct touches *touches)
{
	struct bench_machine machine = {
		.len_bytes = len, .mode = FL_MIGRATE_POSTCOPY, .bandwidth = bandwidth};
	struct bench_arrival arrival;
	struct bench_ping ping;
	int code;

	if (bench_ping_start(&ping) || bench_arrive(&arrival, &machine) ||
	    bench_await_run(&arrival))
		return -1;
	code = touch(&arrival, &ping, touches);
	bench_leave(&arrival);
	bench_ping_stop(&ping);
	return code;
}

static int demand(const struct settings *settings, json_t *rows)
{
	double busy[ROUNDS_MAX], idle[ROUNDS_MAX], tail[ROUNDS_MAX], ping[ROUNDS_MAX];
	uint64_t len = settings->quick ? 256 * MIB : 2048 * MIB;
	struct touches touches;

	for (unsigned int i = 0; i < settings->rounds; i++) {
		if (touch_while(1, len, &touches))
			return -1;
		idle[i] = median(touches.us, touches.count);
		if (touch_while(0, len, &touches))
			return -1;
		busy[i] = median(touches.us, touches.count);
		tail[i] = quantile(touches.us, touches.count, 0.99);
		ping[i] = quantile(touches.ping_us, touches.count, 0.99);
	}
	json_array_append_new(
		rows, row("demand-busy", "p50 of a fault, background saturating | link idle", "us",
			  median(busy, settings->rounds), median(idle, settings->rounds), 3));
	json_array_append_new(
		rows, row("demand-p99", "p99 of a fault | of a bare 4 KiB ping beside it", "us",
			  median(tail, settings->rounds), median(ping, settings->rounds), 0));
	return 0;
}

/* ---- release: clean pages, once the due set is there */

static double memcpy_ms(uint64_t len)
{
	char *to = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *from = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t begin;

	if (to == MAP_FAILED || from == MAP_FAILED)
		return -1;
	memset(to, 1, len);
	memset(from, 2, len);
	begin = bench_now_ns();
	memcpy(to, from, len);
	begin = bench_now_ns() - begin;
	(void)munmap(to, len);
	(void)munmap(from, len);
	return (double)begin / 1e6;
}

static int release_of(const struct settings *settings, double dirty, const char *name,
		      const char *what, double aim, json_t *rows)
{
	struct bench_machine machine = {.len_bytes = settings->quick ? 64 * MIB : 1024 * MIB,
					.mode = FL_MIGRATE_HYBRID,
					.dirty = dirty};
	double ours[ROUNDS_MAX], beside[ROUNDS_MAX], scale = 1024.0 * MIB;

	for (unsigned int i = 0; i < settings->rounds; i++) {
		struct fl_incoming_stats in = {0};

		beside[i] = memcpy_ms(machine.len_bytes) * scale / (double)machine.len_bytes;
		if (move(&machine, &in) < 0 || !in.clean_ns)
			return -1;
		ours[i] = (double)in.clean_ns / 1e6 * scale / ((double)in.clean * PAGE);
	}
	json_array_append_new(rows, row(name, what, "ms/GiB", median(ours, settings->rounds),
					median(beside, settings->rounds), aim));
	return 0;
}

static int release(const struct settings *settings, json_t *rows)
{
	int code = release_of(settings, 0, "release-clean", "clean memory released | memcpy", 0.33,
			      rows);

	if (!code)
		code = release_of(settings, 0.001, "release-0.1%",
				  "clean pages beside 0.1 % dirty ones released | memcpy", 0.33,
				  rows);
	if (!code)
		code = release_of(settings, 0.02, "release-2%",
				  "clean pages beside 2 % dirty ones released | memcpy", 0, rows);
	return code;
}

/* ---- */

static const struct {
	const char *name;
	int (*run)(const struct settings *settings, json_t *rows);
} benches[] = {
	{"push", push},
	{"downtime", pause_of},
	{"demand", demand},
	{"release", release},
};

static int parse(int argc, char **argv, struct settings *settings)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--quick"))
			settings->quick = true;
		else if (!strcmp(argv[i], "--only") && i + 1 < argc)
			settings->only = argv[++i];
		else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
			settings->rounds = (unsigned int)atoi(argv[++i]);
		else
			return -1;
	}
	return settings->rounds >= 1 && settings->rounds <= ROUNDS_MAX ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct settings settings = {.rounds = 5};
	json_t *rows = json_array();
	int code = 0;

	if (parse(argc, argv, &settings)) {
		fprintf(stderr, "usage: bench-migrate [--rounds 1..%u] [--only NAME] [--quick]\n",
			ROUNDS_MAX);
		return 2;
	}
	for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]) && !code; i++) {
		if (!settings.only || !strcmp(settings.only, benches[i].name))
			code = benches[i].run(&settings, rows);
		if (code)
			fprintf(stderr, "bench-migrate: %s did not run\n", benches[i].name);
	}
	json_dumpf(rows, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(rows);
	return code ? 1 : 0;
}
