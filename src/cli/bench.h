/* SPDX-License-Identifier: MIT */
#ifndef FL_CLI_BENCH_H
#define FL_CLI_BENCH_H

/*
 * faultline bench: the pager beside a bare loop of the same system calls, in the same run.
 *
 * Each benchmark alternates rounds of the two and takes the median of each, because timings of one
 * machine drift together; only their ratio says something. A guest is memory of this process,
 * registered with a userfaultfd, served by another thread of this process.
 */

#include <faultline/faultline.h>

#include <pthread.h>
#include <stdbool.h>

#define BENCH_THREADS_MAX 64

struct bench_options {
	unsigned int rounds;
	bool quick; /* an eighth of the memory */
	bool json;
	uint32_t spin_us;
	const char *only; /* name of the one benchmark to run, or NULL */
};

/* The memory image: a file of which the page cache holds everything. */
struct bench_image {
	int fd;
	size_t len;
	struct fl_source *source;
};

int bench_image_open(struct bench_image *image, size_t len, struct fl_error *err);
void bench_image_close(struct bench_image *image);

/* Memory that nobody has touched, registered MISSING. */
struct bench_memory {
	char *mem;
	size_t len;
	int uffd;
};

int bench_memory_open(struct bench_memory *memory, size_t len, struct fl_error *err);
void bench_memory_close(struct bench_memory *memory);

/* The yardstick: poll, read one event, pread a page, UFFDIO_COPY. */
struct bench_bare {
	struct bench_memory *memory;
	struct bench_image *image;
	int stop_fd;
	char *page;
	pthread_t thread;
};

int bench_bare_start(struct bench_bare *bare, struct bench_memory *memory,
		     struct bench_image *image);
void bench_bare_stop(struct bench_bare *bare);
/* The yardstick of filling: pread and UFFDIO_COPY, 2 MiB at a time. */
int bench_bare_fill(struct bench_memory *memory, struct bench_image *image);

/* The pager and all it needs. */
struct bench_pager {
	struct fl_pager_parts parts;
	struct fl_pager *pager;
};

/* Not started: bench_touch() needs fl_pager_start(), a fill is run by the thread that measures it.
 */
int bench_pager_open(struct bench_pager *pager, struct bench_memory *memory,
		     struct bench_image *image, const struct fl_pager_options *options,
		     struct fl_error *err);
void bench_pager_close(struct bench_pager *pager);

/* How threads touch memory: each its own part of it, every page once. */
struct bench_touch {
	unsigned int threads;
	bool random;       /* in an order without a pattern; else ascending */
	unsigned int work; /* how many times a page is read over after its first touch */
};

struct bench_times {
	double median_ns; /* of the touches of all threads */
	double total_ns;  /* from the first touch to the last */
};

int bench_touch(const struct bench_memory *memory, const struct bench_touch *touch,
		struct bench_times *times);

double bench_median(double *values, size_t count);

/* What a benchmark found: two medians in the same unit, and their ratio. */
struct bench_result {
	double ours, bare;
	double ratio;
};

struct bench {
	const char *name;
	const char *what; /* what ours and bare are */
	const char *unit;
	const char *ratio; /* what is divided by what */
	double limit;      /* the ratio that is aimed at, */
	bool at_least;     /* or more; else or less */
	int (*run)(const struct bench_options *options, struct bench_result *result,
		   struct fl_error *err);
};

extern const struct bench bench_table[];
extern const size_t bench_count;

#endif
