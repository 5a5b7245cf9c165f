/* SPDX-License-Identifier: MIT */
/*
 * fabric-read [--json] [MIB] - reading another process's memory over libfabric's tcp provider and
 * loopback, beside a bare loop of send(2) and recv(2)
 *
 * Both bring the same bytes (512 MiB unless said otherwise) from a process that has them into a fresh
 * memfd of this one, three times in turn; the medians are compared. Reads are pipelined, of
 * 128, 256 and 512 KiB, and not checked here: that is for tests.
 */
#include <faultline/faultline.h>

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 3
#define DEPTH  16u
#define CHUNK  (256u << 10)

static const uint64_t sizes[] = {128 << 10, 256 << 10, 512 << 10};

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "fabric-read: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec at;

	(void)clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static char *fresh(uint64_t len)
{
	int fd = memfd_create("fresh", MFD_CLOEXEC);
	char *at;

	must(fd >= 0 && !ftruncate(fd, (off_t)len), "memfd");
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(at != MAP_FAILED, "mmap");
	(void)close(fd);
	return at;
}

/* The child: exports its memory, then sends it whole for each byte that it is asked with. */
static void serve(int control, char *memory, uint64_t len)
{
	struct fl_fabric_memory range = {memory, 0, len};
	struct fl_fabric_options options;
	struct fl_fabric *fabric;
	struct fl_error err;
	const void *blob;
	size_t blob_len;
	char byte;

	fl_fabric_options_init(&options);
	options.address = "127.0.0.1";
	if (fl_fabric_export(&fabric, &range, 1, &options, &err)) {
		fprintf(stderr, "fabric-read: %s\n", err.text);
		_exit(1);
	}
	blob = fl_fabric_blob(fabric, &blob_len);
	must(send(control, blob, blob_len, 0) == (ssize_t)blob_len, "send");
	while (recv(control, &byte, 1, 0) == 1) {
		for (uint64_t at = 0; at < len;) {
			uint64_t left = len - at;
			ssize_t sent = send(control, memory + at, left < CHUNK ? left : CHUNK,
					    MSG_NOSIGNAL);

			must(sent > 0, "send");
			at += (uint64_t)sent;
		}
	}
	fl_fabric_unexport(fabric);
	_exit(0);
}

static int connect_to(pid_t *child, uint64_t len)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd;

	must(memory != MAP_FAILED, "mmap");
	memset(memory, 'x', len);
	must(listener >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof(address)) &&
		     !listen(listener, 1) &&
		     !getsockname(listener, (struct sockaddr *)&address, &size),
	     "listen");
	*child = fork();
	must(*child >= 0, "fork");
	if (!*child)
		serve(accept(listener, NULL, NULL), memory, len);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)), "connect");
	(void)close(listener);
	(void)munmap(memory, len);
	return fd;
}

/* MiB in a second. */
static double receive(int fd, uint64_t len)
{
	char *to = fresh(len);
	double start = now();

	must(send(fd, "", 1, MSG_NOSIGNAL) == 1, "send");
	for (uint64_t at = 0; at < len;) {
		uint64_t left = len - at;
		ssize_t got = recv(fd, to + at, left < CHUNK ? left : CHUNK, 0);

		must(got > 0, "recv");
		at += (uint64_t)got;
	}
	start = now() - start;
	(void)munmap(to, len);
	return (double)len / (1 << 20) / start;
}

struct flight {
	struct fl_read read;
	struct run *run;
};

struct run {
	struct fl_queue *queue;
	char *to;
	uint64_t len, size, next, done;
};

static void *place(struct fl_read *read, uint64_t offset, uint64_t *len_bytes)
{
	const struct flight *flight = read->ctx;

	(void)len_bytes;
	return flight->run->to + offset;
}

static void done(struct fl_read *read)
{
	struct flight *flight = read->ctx;
	struct run *run = flight->run;

	errno = -read->result;
	must(!read->result, "read");
	run->done += read->len_bytes;
	if (run->next >= run->len)
		return;
	read->offset = run->next;
	run->next += run->size;
	must(!fl_queue_submit(run->queue, read), "submit");
}

static double read_all(struct fl_source *source, uint64_t len, uint64_t size)
{
	struct run run = {.to = fresh(len), .len = len, .size = size};
	struct flight flights[DEPTH];
	struct pollfd pfd = {.events = POLLIN};
	double start;

	must(!fl_queue_open(source, DEPTH, &run.queue), "queue");
	/* The connection is made by a read that does not count. */
	for (int warm = 1; warm >= 0; warm--) {
		run.done = run.next = 0;
		run.len = warm ? size : len;
		start = now();
		for (unsigned int i = 0; i < DEPTH && run.next < run.len; i++) {
			flights[i] = (struct flight){.run = &run};
			flights[i].read = (struct fl_read){.offset = run.next,
							   .len_bytes = size,
							   .place = place,
							   .done = done,
							   .ctx = &flights[i]};
			run.next += size;
			must(!fl_queue_submit(run.queue, &flights[i].read), "submit");
		}
		pfd.fd = fl_queue_fd(run.queue);
		while (run.done < run.len) {
			(void)poll(&pfd, 1, -1);
			(void)fl_queue_reap(run.queue);
		}
	}
	start = now() - start;
	fl_queue_close(run.queue);
	(void)munmap(run.to, len);
	return (double)len / (1 << 20) / start;
}

static int by_value(const void *a, const void *b)
{
	double one = *(const double *)a, other = *(const double *)b;

	return (one > other) - (one < other);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(values[0]), by_value);
	return values[ROUNDS / 2];
}

static void report(bool json, bool last, uint64_t size, double ours, double beside)
{
	unsigned int kib = (unsigned int)(size >> 10);

	if (json)
		printf("{\"name\": \"fabric-read-%u\", \"ours\": %.1f, \"beside\": %.1f, "
		       "\"unit\": \"MiB/s\", \"ratio\": %.3f, \"limit\": 0, \"within\": true, "
		       "\"what\": \"fi_read of %u KiB by the tcp provider, beside send and "
		       "recv\"}%s\n",
		       kib, ours, beside, ours / beside, kib, last ? "]" : ",");
	else
		printf("%4u KiB  %8.0f MiB/s  beside %8.0f MiB/s  ratio %.2f\n", kib, ours, beside,
		       ours / beside);
}

int main(int argc, char **argv)
{
	bool json = argc > 1 && !strcmp(argv[1], "--json");
	uint64_t len = (argc > 1 + json ? strtoull(argv[1 + json], NULL, 10) : 512) << 20;
	double bare[ROUNDS], ours[sizeof(sizes) / sizeof(sizes[0])][ROUNDS];
	size_t count = sizeof(sizes) / sizeof(sizes[0]);
	uint8_t blob[FL_FABRIC_BLOB_MAX];
	struct fl_source *source;
	struct fl_error err;
	ssize_t blob_len;
	pid_t child;
	int fd;

	must(len && len < UINT64_C(1) << 40, "MIB");
	fd = connect_to(&child, len);
	blob_len = recv(fd, blob, sizeof(blob), 0);
	if (blob_len <= 0 ||
	    fl_source_fabric_open(&source, blob, (size_t)blob_len, NULL, 0, NULL, &err)) {
		fprintf(stderr, "fabric-read: %s\n", blob_len > 0 ? err.text : "no descriptor");
		return 1;
	}
	for (int round = 0; round < ROUNDS; round++) {
		bare[round] = receive(fd, len);
		for (size_t i = 0; i < count; i++)
			ours[i][round] = read_all(source, len, sizes[i]);
	}
	if (json)
		printf("[");
	for (size_t i = 0; i < count; i++)
		report(json, i + 1 == count, sizes[i], median(ours[i]), median(bare));
	fl_source_close(source);
	(void)close(fd);
	(void)waitpid(child, NULL, 0);
	return 0;
}
