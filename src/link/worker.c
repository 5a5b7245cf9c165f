/* SPDX-License-Identifier: MIT */

/*
 * A VMM's connection to its page worker: questions and answers on a socket (local.h), copies
 * through the ring (ring.c).
 */
#include "link/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "link/local.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

#define SPIN_MAX_US 1000000u

void fl_worker_options_init(struct fl_worker_options *options)
{
	*options = (struct fl_worker_options){
		.size = sizeof(*options), .spin_us = 50, .timeout_ms = 30000};
}

/* ---- questions */

static int receive(struct fl_worker *worker, struct fl_local_in *in, struct fl_error *err)
{
	uint64_t end_ns = fl_clock_ns() + worker->options.timeout_ms * FL_NS_PER_MS;
	int rc = fl_local_recv(worker->sock, in);

	while (rc == 0) {
		struct pollfd poller = {.fd = worker->sock, .events = POLLIN};
		uint64_t now_ns = fl_clock_ns();

		if (now_ns >= end_ns)
			return fl_error_set(err, -ETIMEDOUT, "the worker does not answer");
		(void)poll(&poller, 1, (int)((end_ns - now_ns) / FL_NS_PER_MS) + 1);
		rc = fl_local_recv(worker->sock, in);
	}
	if (rc == -EPIPE)
		return fl_error_set(err, rc, "the worker is gone");
	if (rc < 0)
		return fl_error_set(err, rc, "the worker's answer: %s", strerror(-rc));
	return 0;
}

/* The answer, which the worker gave with as many descriptors as this. Those are the caller's. */
static int answer(struct fl_worker *worker, struct fl_local *message, int *fds, size_t fd_count,
		  struct fl_error *err)
{
	struct fl_local_in in = {0};
	int rc = receive(worker, &in, err);

	/* It would be taken for that of the next question. */
	worker->astray = rc != 0;
	*message = in.message;
	if (!rc && message->type == FL_LOCAL_ERROR && message->code < 0 && message->code >= -4095)
		rc = fl_error_set(err, message->code, "%.*s", (int)sizeof(message->text),
				  message->text);
	else if (!rc && (message->type != FL_LOCAL_OK || in.fd_count != fd_count))
		rc = fl_error_set(err, -EPROTO, "the worker's answer is of type %u", message->type);
	if (!rc && fd_count) {
		memcpy(fds, in.fds, fd_count * sizeof(*fds));
		in.fd_count = 0;
	}
	fl_local_drop(&in);
	return rc;
}

static int say(struct fl_worker *worker, struct fl_local *message, const int *fd,
	       struct fl_error *err)
{
	int rc;

	if (worker->astray)
		return fl_error_set(err, -EPIPE,
				    "the worker has not answered before: connect anew");
	message->magic = FL_LOCAL_MAGIC;
	message->version = FL_LOCAL_VERSION;
	rc = fl_local_send(worker->sock, message, fd, fd ? 1 : 0, worker->options.timeout_ms);
	if (rc == -EPIPE || rc == -ECONNRESET)
		return fl_error_set(err, -EPIPE, "the worker is gone");
	if (rc == -EBADF)
		return fl_error_set(err, rc, "a region's descriptor is not open");
	return rc ? fl_error_set(err, rc, "speaking to the worker: %s", strerror(-rc)) : 0;
}

static int ask(struct fl_worker *worker, struct fl_local *message, struct fl_error *err)
{
	int rc = say(worker, message, NULL, err);

	return rc ? rc : answer(worker, message, NULL, 0, err);
}

static int give_regions(struct fl_worker *worker, const struct fl_worker_region *regions,
			size_t count, struct fl_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < count && !rc; i++) {
		struct fl_local message = {.type = FL_LOCAL_REGION,
					   .count = (uint32_t)i,
					   .offset = regions[i].offset,
					   .len_bytes = regions[i].len_bytes,
					   .fd_offset = regions[i].fd_offset};

		rc = say(worker, &message, &regions[i].fd, err);
	}
	return rc;
}

/* ---- connecting */

static int connect_to(const char *path, struct fl_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	fl_cleanup_fd int sock = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return fl_error_set(err, -EINVAL, "%s: too long for a socket", path);
	strcpy(address.sun_path, path);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fl_error_set(err, -errno, "%s: %s", path, strerror(errno));
	return fl_fd_take(&sock);
}

static int greet(struct fl_worker *worker, const char *path, struct fl_error *err)
{
	struct fl_local message = {.type = FL_LOCAL_HELLO};
	int fds[FL_LOCAL_FDS];
	int rc = say(worker, &message, NULL, err);

	if (!rc)
		rc = answer(worker, &message, fds, FL_LOCAL_FDS, err);
	if (rc)
		return rc;
	rc = fl_ring_open(&worker->ring, fds[0], fds[1], fds[2], worker->sock, err);
	fl_fd_close(&fds[0]);
	if (rc) {
		fl_fd_close(&fds[1]);
		fl_fd_close(&fds[2]);
		return rc;
	}
	(void)path;
	worker->ring.spin_us = worker->options.spin_us;
	return 0;
}

static int take_options(struct fl_worker *worker, const struct fl_worker_options *options,
			struct fl_error *err)
{
	fl_worker_options_init(&worker->options);
	if (!options)
		return 0;
	if (options->size < sizeof(*options) || options->spin_us > SPIN_MAX_US ||
	    !options->timeout_ms || options->timeout_ms > 3600000)
		return fl_error_set(err, -EINVAL, "an option is out of range");
	worker->options = *options;
	return 0;
}

int fl_worker_connect(struct fl_worker **worker, const char *path,
		      const struct fl_worker_options *options, struct fl_error *err)
{
	struct fl_worker *new = calloc(1, sizeof(*new));
	int rc;

	if (!new)
		return fl_error_set(err, -ENOMEM, "no memory");
	new->sock = -1;
	(void)pthread_mutex_init(&new->asking, NULL);
	rc = take_options(new, options, err);
	if (!rc)
		rc = new->sock = connect_to(path, err);
	if (rc >= 0)
		rc = greet(new, path, err);
	if (rc < 0) {
		fl_worker_close(new);
		return rc;
	}
	*worker = new;
	return 0;
}

void fl_worker_close(struct fl_worker *worker)
{
	if (!worker)
		return;
	fl_ring_close(&worker->ring);
	fl_fd_close(&worker->sock);
	(void)pthread_mutex_destroy(&worker->asking);
	free(worker);
}

/* ---- memory */

int fl_worker_export(struct fl_worker *worker, const struct fl_worker_region *regions, size_t count,
		     uint8_t token[FL_WORKER_TOKEN_BYTES], struct fl_error *err)
{
	struct fl_local message = {.type = FL_LOCAL_EXPORT, .count = (uint32_t)count};
	int rc;

	if (!count || count > FL_WORKER_REGIONS_MAX)
		return fl_error_set(err, -EINVAL, "%zu regions: 1 to %d can be", count,
				    FL_WORKER_REGIONS_MAX);
	(void)pthread_mutex_lock(&worker->asking);
	rc = give_regions(worker, regions, count, err);
	if (!rc)
		rc = ask(worker, &message, err);
	(void)pthread_mutex_unlock(&worker->asking);
	if (rc)
		return rc;
	memcpy(token, message.token, sizeof(message.token));
	memcpy(worker->address, message.text, sizeof(worker->address));
	worker->address[sizeof(worker->address) - 1] = 0;
	return 0;
}

/* One that says no more than "here" says nothing to another host. */
static bool is_everywhere(const char *address)
{
	return !*address || !strncmp(address, "0.0.0.0:", 8) || !strncmp(address, "[::]:", 5);
}

int fl_worker_way(const struct fl_worker *worker, const uint8_t token[FL_WORKER_TOKEN_BYTES],
		  const char *address, uint8_t blob[FL_WORKER_WAY_MAX])
{
	size_t len;

	if (!address && is_everywhere(worker->address))
		return -EDESTADDRREQ;
	address = address ? address : worker->address;
	len = strlen(address);
	if (!len || len > FL_WORKER_ADDRESS_MAX)
		return -EINVAL;
	memcpy(blob, token, FL_WORKER_TOKEN_BYTES);
	memcpy(blob + FL_WORKER_TOKEN_BYTES, address, len);
	return (int)(FL_WORKER_TOKEN_BYTES + len);
}

int fl_worker_import(struct fl_worker *worker, const char *address,
		     const uint8_t token[FL_WORKER_TOKEN_BYTES],
		     const struct fl_worker_region *regions, size_t count, struct fl_error *err)
{
	struct fl_local message = {.type = FL_LOCAL_IMPORT, .count = (uint32_t)count};
	int rc = 0;

	if (count > FL_WORKER_REGIONS_MAX || !regions != !count)
		return fl_error_set(err, -EINVAL, "%zu regions: 1 to %d can be", count,
				    FL_WORKER_REGIONS_MAX);
	if (strlen(address) >= sizeof(message.text))
		return fl_error_set(err, -EINVAL, "the address is too long");
	strcpy(message.text, address);
	memcpy(message.token, token, sizeof(message.token));
	(void)pthread_mutex_lock(&worker->asking);
	rc = give_regions(worker, regions, count, err);
	if (!rc)
		rc = ask(worker, &message, err);
	(void)pthread_mutex_unlock(&worker->asking);
	if (!rc)
		__atomic_store_n(&worker->imported, 1, __ATOMIC_RELEASE);
	return rc;
}

int fl_worker_give_staging(struct fl_worker *worker, int fd, uint64_t len_bytes,
			   struct fl_error *err)
{
	struct fl_local message = {.type = FL_LOCAL_STAGING_AREA, .len_bytes = len_bytes};
	int rc;

	(void)pthread_mutex_lock(&worker->asking);
	rc = say(worker, &message, &fd, err);
	if (!rc)
		rc = answer(worker, &message, NULL, 0, err);
	(void)pthread_mutex_unlock(&worker->asking);
	return rc;
}

/* ---- copies */

static int copy_entry(struct fl_worker *worker, const struct fl_ring_copy *copy)
{
	int index = fl_ring_claim_wait(&worker->ring);
	int rc;

	if (index < 0)
		return index;
	fl_ring_publish(&worker->ring, (uint32_t)index, copy);
	rc = fl_ring_wait(&worker->ring, (uint32_t)index);
	fl_ring_release(&worker->ring, (uint32_t)index);
	return rc;
}

int fl_worker_copy(struct fl_worker *worker, uint64_t remote_offset, uint64_t local_offset,
		   uint64_t len_bytes, unsigned int flags)
{
	int saved = errno;
	int rc = 0;

	if ((remote_offset | local_offset | len_bytes) % 4096 || !len_bytes ||
	    flags & ~FL_WORKER_FILL)
		return -EINVAL;
	if (remote_offset >= FL_WORKER_OFFSET_END || local_offset >= FL_WORKER_OFFSET_END ||
	    len_bytes > FL_WORKER_OFFSET_END)
		return -ERANGE;
	if (__atomic_load_n(&worker->ring.dead, __ATOMIC_RELAXED))
		return -EPIPE;
	if (!__atomic_load_n(&worker->imported, __ATOMIC_ACQUIRE))
		return -ENOTCONN;
	while (len_bytes && !rc) {
		struct fl_ring_copy copy = {.remote_offset = remote_offset,
					    .local_offset = local_offset,
					    .len_bytes = len_bytes < FL_WORKER_COPY_MAX
								 ? (uint32_t)len_bytes
								 : FL_WORKER_COPY_MAX,
					    .flags = flags};

		rc = copy_entry(worker, &copy);
		remote_offset += copy.len_bytes;
		local_offset += copy.len_bytes;
		len_bytes -= copy.len_bytes;
	}
	errno = saved;
	return rc;
}

int fl_worker_fd(const struct fl_worker *worker)
{
	return worker->sock;
}

void fl_worker_stats(const struct fl_worker *worker, struct fl_worker_stats *stats)
{
	const struct fl_ring *ring = &worker->ring;

	stats->copies = __atomic_load_n(&ring->copies, __ATOMIC_RELAXED);
	stats->doorbells = __atomic_load_n(&ring->doorbells, __ATOMIC_RELAXED);
	stats->sleeps = __atomic_load_n(&ring->sleeps, __ATOMIC_RELAXED);
	stats->full = __atomic_load_n(&ring->full_sleeps, __ATOMIC_RELAXED);
}
