/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNIT 4096

static void read_image(const struct client *client, unsigned char page[UNIT], uint64_t offset)
{
	if (pread(client->image_fd, page, UNIT, (off_t)offset) != UNIT)
		client_fail("reading the image at %llu: %s", (unsigned long long)offset,
			    strerror(errno));
}

/*
 * A page that is being removed may change from the image to zeros while it is looked at, but once
 * its removal is known it must be zeros, and it is never anything else than these two.
 */
static void check_unit(const struct client *client, uint64_t offset, bool racing)
{
	bool removed = __atomic_load_n(&client->removed[offset / UNIT], __ATOMIC_ACQUIRE);
	const unsigned char *at = client_at(client, offset);
	unsigned char page[UNIT];
	size_t i;

	read_image(client, page, offset);
	for (i = 0; i < UNIT; i++) {
		unsigned char is = __atomic_load_n(at + i, __ATOMIC_RELAXED);

		if (removed ? is != 0 : is != page[i] && !(racing && is == 0))
			client_fail("byte %llu is %02x, not %02x%s", (unsigned long long)offset + i,
				    is, removed ? 0 : page[i], removed ? " (given back)" : "");
	}
}

void client_check(const struct client *client, uint64_t offset, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += UNIT)
		check_unit(client, offset + at, false);
}

struct worker {
	const struct client *client;
	pthread_t thread;
	unsigned int index, count;
	atomic_bool *stop;
};

static struct worker *start_workers(const struct client *client, unsigned int count,
				    atomic_bool *stop, void *(*work)(void *))
{
	struct worker *workers = calloc(count, sizeof(*workers));

	for (unsigned int i = 0; workers && i < count; i++) {
		workers[i] =
			(struct worker){.client = client, .index = i, .count = count, .stop = stop};
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			client_fail("no thread");
	}
	return workers;
}

static void join_workers(struct worker *workers, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		(void)pthread_join(workers[i].thread, NULL);
	free(workers);
}

/* All threads touch all pages, each beginning elsewhere, so that they meet on many. */
static void *touch_all(void *arg)
{
	const struct worker *worker = arg;
	uint64_t units = worker->client->len / UNIT;
	uint64_t begin = units * worker->index / worker->count;

	for (uint64_t i = 0; i < units; i++)
		client_check(worker->client, (begin + i) % units * UNIT, UNIT);
	return NULL;
}

void client_touch(const struct client *client, unsigned int threads)
{
	join_workers(start_workers(client, threads, NULL, touch_all), threads);
}

void client_remove(struct client *client, uint64_t offset, uint64_t len)
{
	if (madvise(client_at(client, offset), len, MADV_DONTNEED) < 0)
		client_fail("MADV_DONTNEED: %s", strerror(errno));
	for (uint64_t at = 0; at < len; at += UNIT)
		__atomic_store_n(&client->removed[(offset + at) / UNIT], 1, __ATOMIC_RELEASE);
}

static void *touch_at_random(void *arg)
{
	const struct worker *worker = arg;
	uint64_t units = worker->client->len / UNIT;
	unsigned int seed = worker->index + 1;

	while (!atomic_load(worker->stop))
		check_unit(worker->client, (uint64_t)rand_r(&seed) % units * UNIT, true);
	return NULL;
}

/* Pages that were given back read as zeros at once, and so does what was touched meanwhile. */
void client_storm(struct client *client, unsigned int threads, unsigned int rounds)
{
	atomic_bool stop = false;
	struct worker *workers = start_workers(client, threads, &stop, touch_at_random);
	unsigned int seed = 4711;

	for (unsigned int i = 0; i < rounds; i++) {
		const struct fl_region *region =
			&client->regions[(size_t)rand_r(&seed) % client->region_count];
		uint64_t pages = region->len_bytes / region->page_size;
		uint64_t page = (uint64_t)rand_r(&seed) % pages;
		uint64_t count = 1 + (uint64_t)rand_r(&seed) % 8;
		uint64_t offset = region->offset + page * region->page_size;

		if (count > pages - page)
			count = pages - page;
		client_remove(client, offset, count * region->page_size);
		if (i % 2)
			check_unit(client, offset, false);
	}
	atomic_store(&stop, true);
	join_workers(workers, threads);
	client_check(client, 0, client->len);
}

static sigjmp_buf bus_jump;

static void on_sigbus(int signal)
{
	(void)signal;
	siglongjmp(bus_jump, 1);
}

void client_sigbus(const struct client *client, uint64_t offset)
{
	struct sigaction action = {.sa_handler = on_sigbus}, before;
	const volatile unsigned char *at = client_at(client, offset);
	unsigned char is;

	(void)sigaction(SIGBUS, &action, &before);
	if (sigsetjmp(bus_jump, 1) == 0) {
		is = *at;
		client_fail("byte %llu is %02x, not an error", (unsigned long long)offset, is);
	}
	(void)sigaction(SIGBUS, &before, NULL);
}

static void *touch_one(void *arg)
{
	const struct worker *worker = arg;
	uint64_t units = worker->client->len / UNIT;

	client_check(worker->client, units * worker->index / worker->count * UNIT, UNIT);
	return NULL;
}

void client_block(const struct client *client, unsigned int threads)
{
	static struct worker *blocked; /* never waited for, never freed */

	blocked = start_workers(client, threads, NULL, touch_one);
	if (!blocked)
		client_fail("no memory");
}
