/* SPDX-License-Identifier: MIT */
#include "cli/bench.h"

#include <errno.h>
#include <stdlib.h>

#include "util/clock.h"

#define PAGE 4096u

struct toucher {
	const struct bench_touch *how;
	const volatile char *mem;
	size_t pages;
	double *ns; /* of each touch */
	pthread_barrier_t *start;
	pthread_t thread;
};

/* Odd multipliers permute numbers modulo a power of two: no table, and no pattern to guess. */
static size_t scattered(size_t i, size_t pages)
{
	return i * 0x9e3779b1u & (pages - 1);
}

static void *touch_main(void *arg)
{
	struct toucher *self = arg;

	(void)pthread_barrier_wait(self->start);
	for (size_t i = 0; i < self->pages; i++) {
		size_t page = self->how->random ? scattered(i, self->pages) : i;
		uint64_t before_ns = fl_clock_ns();

		(void)self->mem[page * PAGE];
		self->ns[i] = (double)(fl_clock_ns() - before_ns);
		for (size_t n = 0; n < self->how->work; n++) {
			for (size_t at = 0; at < PAGE; at += 8)
				(void)self->mem[page * PAGE + at];
		}
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

int bench_touch(const struct bench_memory *memory, const struct bench_touch *touch,
		struct bench_times *times)
{
	struct toucher touchers[BENCH_THREADS_MAX] = {{0}};
	size_t pages = memory->len / PAGE, share = pages / touch->threads;
	double *ns = calloc(pages, sizeof(*ns));
	pthread_barrier_t start;
	uint64_t start_ns;

	if (!ns || pthread_barrier_init(&start, NULL, touch->threads + 1)) {
		free(ns);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < touch->threads; i++) {
		touchers[i] = (struct toucher){.how = touch,
					       .mem = memory->mem + i * share * PAGE,
					       .pages = share,
					       .ns = ns + i * share,
					       .start = &start};
		/* The barrier counts on every thread: without one there is no going on. */
		if (pthread_create(&touchers[i].thread, NULL, touch_main, &touchers[i]))
			abort();
	}
	(void)pthread_barrier_wait(&start);
	start_ns = fl_clock_ns();
	for (unsigned int i = 0; i < touch->threads; i++)
		(void)pthread_join(touchers[i].thread, NULL);
	times->total_ns = (double)(fl_clock_ns() - start_ns);
	times->median_ns = bench_median(ns, share * touch->threads);
	free(ns);
	(void)pthread_barrier_destroy(&start);
	return 0;
}
