/* SPDX-License-Identifier: MIT */
#include "cli/bench.h"

#include <errno.h>
#include <string.h>

#include "util/clock.h"
#include "util/error.h"

#define MIB        (1024u * 1024)
#define ROUNDS_MAX 99u
#define PAGE       4096u

static int round_bare(struct bench_image *image, size_t len, const struct bench_touch *touch,
		      struct bench_times *times, struct fl_error *err)
{
	struct bench_memory memory;
	struct bench_bare bare;
	int code = bench_memory_open(&memory, len, err);

	if (code < 0)
		return code;
	code = bench_bare_start(&bare, &memory, image);
	if (!code) {
		code = bench_touch(&memory, touch, times);
		bench_bare_stop(&bare);
	}
	bench_memory_close(&memory);
	return code < 0 ? fl_error_set(err, code, "bare loop: %s", strerror(-code)) : 0;
}

static int round_ours(struct bench_image *image, size_t len, const struct bench_touch *touch,
		      const struct fl_pager_options *options, struct bench_times *times,
		      struct fl_pager_stats *stats, struct fl_error *err)
{
	struct bench_memory memory;
	struct bench_pager pager;
	int code = bench_memory_open(&memory, len, err);

	if (code < 0)
		return code;
	code = bench_pager_open(&pager, &memory, image, options, err);
	if (!code) {
		code = fl_pager_start(pager.pager);
		if (!code)
			code = bench_touch(&memory, touch, times);
		if (stats) {
			stats->size = sizeof(*stats);
			fl_pager_stats(pager.pager, stats);
		}
		bench_pager_close(&pager);
	}
	bench_memory_close(&memory);
	return code;
}

static int demand(const struct bench_options *options, unsigned int threads,
		  struct bench_result *result, struct fl_error *err)
{
	size_t len = (options->quick ? 8 : 64) * MIB;
	struct bench_touch touch = {.threads = threads, .random = true};
	double ours[ROUNDS_MAX] = {0}, bare[ROUNDS_MAX] = {0};
	struct fl_pager_options how;
	struct bench_image image;
	struct bench_times times = {0};
	int code = bench_image_open(&image, len, err);

	fl_pager_options_init(&how);
	how.around_bytes = 0;
	how.spin_us = options->spin_us;
	for (unsigned int i = 0; i < options->rounds && !code; i++) {
		code = round_bare(&image, len, &touch, &times, err);
		bare[i] = times.median_ns / 1000;
		if (!code)
			code = round_ours(&image, len, &touch, &how, &times, NULL, err);
		ours[i] = times.median_ns / 1000;
	}
	bench_image_close(&image);
	if (code < 0)
		return code;
	result->ours = bench_median(ours, options->rounds);
	result->bare = bench_median(bare, options->rounds);
	result->ratio = result->ours / result->bare;
	return 0;
}

static int demand_one(const struct bench_options *options, struct bench_result *result,
		      struct fl_error *err)
{
	return demand(options, 1, result, err);
}

static int demand_four(const struct bench_options *options, struct bench_result *result,
		       struct fl_error *err)
{
	return demand(options, 4, result, err);
}

static double gib_per_s(size_t len, uint64_t took_ns)
{
	return (double)len / (1024.0 * MIB) / ((double)took_ns / 1e9);
}

static int fill_bare(struct bench_image *image, size_t len, double *speed, struct fl_error *err)
{
	struct bench_memory memory;
	uint64_t start_ns;
	int code = bench_memory_open(&memory, len, err);

	if (code < 0)
		return code;
	start_ns = fl_clock_ns();
	code = bench_bare_fill(&memory, image);
	*speed = gib_per_s(len, fl_clock_ns() - start_ns);
	bench_memory_close(&memory);
	return code < 0 ? fl_error_set(err, code, "bare fill: %s", strerror(-code)) : 0;
}

/* In the thread that measures, as the bare loop: what two threads cost each other is not asked. */
static int run_until_full(struct fl_pager *pager, struct fl_pager_stats *stats)
{
	int more = 1;

	do
		more = fl_pager_run(pager);
	while (more > 0);
	fl_pager_stats(pager, stats);
	if (more < 0)
		return more;
	return stats->full_ns ? 0 : -EIO;
}

static int fill_ours(struct bench_image *image, size_t len, double *speed, struct fl_error *err)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};
	struct fl_pager_options how;
	struct bench_memory memory;
	struct bench_pager pager;
	int code = bench_memory_open(&memory, len, err);

	if (code < 0)
		return code;
	fl_pager_options_init(&how);
	how.flags = FL_PAGER_FILL;
	code = bench_pager_open(&pager, &memory, image, &how, err);
	if (!code) {
		code = run_until_full(pager.pager, &stats);
		*speed = gib_per_s(len, stats.full_ns);
		bench_pager_close(&pager);
	}
	bench_memory_close(&memory);
	return code;
}

static int fill(const struct bench_options *options, struct bench_result *result,
		struct fl_error *err)
{
	size_t len = (size_t)(options->quick ? 128 : 1024) * MIB;
	double ours[ROUNDS_MAX] = {0}, bare[ROUNDS_MAX] = {0};
	struct bench_image image;
	int code = bench_image_open(&image, len, err);

	for (unsigned int i = 0; i < options->rounds && !code; i++) {
		code = fill_bare(&image, len, &bare[i], err);
		if (!code)
			code = fill_ours(&image, len, &ours[i], err);
	}
	bench_image_close(&image);
	if (code < 0)
		return code;
	result->ours = bench_median(ours, options->rounds);
	result->bare = bench_median(bare, options->rounds);
	result->ratio = result->ours / result->bare;
	return 0;
}

static double pages_per_ms(size_t len, const struct bench_times *times)
{
	size_t pages = len / PAGE;

	return (double)pages / times->total_ns * 1e6;
}

static int around(const struct bench_options *options, struct bench_result *result,
		  struct fl_error *err)
{
	size_t len = (options->quick ? 16 : 128) * MIB;
	struct bench_touch touch = {.threads = 1};
	double with[ROUNDS_MAX] = {0}, without[ROUNDS_MAX] = {0};
	struct fl_pager_options how;
	struct bench_image image;
	struct bench_times times = {0};
	int code = bench_image_open(&image, len, err);

	fl_pager_options_init(&how);
	for (unsigned int i = 0; i < options->rounds && !code; i++) {
		how.around_bytes = 0;
		code = round_ours(&image, len, &touch, &how, &times, NULL, err);
		without[i] = pages_per_ms(len, &times);
		how.around_bytes = FL_AROUND_DEFAULT;
		if (!code)
			code = round_ours(&image, len, &touch, &how, &times, NULL, err);
		with[i] = pages_per_ms(len, &times);
	}
	bench_image_close(&image);
	if (code < 0)
		return code;
	result->ours = bench_median(with, options->rounds);
	result->bare = bench_median(without, options->rounds);
	result->ratio = result->ours / result->bare;
	return 0;
}

static uint64_t fault_count(const struct fl_pager_stats *stats)
{
	uint64_t count = 0;

	for (unsigned int kind = 0; kind < FL_FAULT_KINDS; kind++)
		count += stats->faults[kind].count;
	return count;
}

/* One run that records, and one that replays what was recorded. */
static int record_and_replay(struct bench_image *image, size_t len, double *recorded,
			     double *replayed, struct fl_error *err)
{
	struct bench_touch touch = {.threads = 1, .random = true, .work = 1};
	struct fl_pager_options how;
	struct fl_pager_stats stats = {0};
	struct bench_times times = {0};
	struct fl_wset *set;
	int code = fl_wset_new(&set, len, PAGE);

	if (code < 0)
		return fl_error_set(err, code, "no memory for a working set");
	fl_pager_options_init(&how);
	how.around_bytes = 0;
	how.record = set;
	code = round_ours(image, len, &touch, &how, &times, &stats, err);
	*recorded = (double)fault_count(&stats);
	if (!code)
		code = fl_wset_plan(set);
	how.around_bytes = FL_AROUND_DEFAULT;
	how.record = NULL;
	how.replay = set;
	if (!code)
		code = round_ours(image, len, &touch, &how, &times, &stats, err);
	*replayed = (double)fault_count(&stats);
	fl_wset_free(set);
	return code;
}

static int replay(const struct bench_options *options, struct bench_result *result,
		  struct fl_error *err)
{
	size_t len = (options->quick ? 16 : 64) * MIB;
	double recorded[ROUNDS_MAX] = {0}, replayed[ROUNDS_MAX] = {0};
	struct bench_image image;
	int code = bench_image_open(&image, len, err);

	for (unsigned int i = 0; i < options->rounds && !code; i++)
		code = record_and_replay(&image, len, &recorded[i], &replayed[i], err);
	bench_image_close(&image);
	if (code < 0)
		return code;
	result->ours = bench_median(replayed, options->rounds);
	result->bare = bench_median(recorded, options->rounds);
	result->ratio = result->ours / result->bare;
	return 0;
}

const struct bench bench_table[] = {
	{"demand-1", "single demand faults, 1 thread: pager | bare loop", "us", "pager / bare",
	 1.15, false, demand_one},
	{"demand-4", "single demand faults, 4 threads: pager | bare loop", "us", "pager / bare",
	 1.15, false, demand_four},
	{"fill", "eager fill from the page cache: pager | bare loop of 2 MiB steps", "GiB/s",
	 "pager / bare", 0.9, true, fill},
	{"around", "sequential touch: with fault-around | without", "pages/ms", "with / without", 3,
	 true, around},
	{"replay", "demand faults: replaying a working set | recording it", "faults",
	 "replay / record", 0.1, false, replay},
};

const size_t bench_count = sizeof(bench_table) / sizeof(bench_table[0]);
