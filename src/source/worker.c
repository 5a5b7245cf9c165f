/* SPDX-License-Identifier: MIT */

/*
 * Remote memory through a page worker, as a source. Theory of operation
 *
 * The worker is another process and writes whenever it likes until a copy has ended. A page of the
 * guest can be removed while its contents are on their way, and is zeros from then on: so the
 * worker must not write to guest memory for a pager. Each copy goes to a slot of a staging area
 * instead, and reap() copies from the slot to where the read's place() says at that moment. That
 * costs one memcpy() a page and keeps all promises of FL_SOURCE_PIECES. (Holding REMOVE back until
 * the copy has ended would save it, at the price of a guest that waits for the network to give
 * memory back. Whoever calls fl_worker_copy() has to do just that.)
 *
 *	submit -> todo (demand, fill) -pump-> slots under way -reap-> arrived(), done()
 *
 * Reads are cut into pieces, short ones where someone waits. Fills leave slots for demands.
 *
 * The user polls one descriptor: an epoll set of the eventfd that the worker writes to and the
 * worker's socket, which hangs up when it dies. All reads end with -EPIPE then.
 */
#include "source/read.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "link/local.h"
#include "link/worker.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

#define UNIT         4096u
#define SLOTS        64u
#define SLOT_BYTES   (128u << 10)
#define DEMAND_BYTES (16u << 10) /* a piece that someone waits for */
#define FILL_SLOTS   32u
#define NO_SLOT      UINT8_MAX
#define CLOSE_NS     FL_NS_PER_S /* how long a worker that does not go on is waited for */

struct worker_source {
	struct fl_source head;
	struct fl_worker *worker;
	uint64_t length;
	unsigned char *staging;
	int fd;
	bool opened; /* its one queue; the pager's thread */
};

struct worker_op {
	struct fl_read *read;
	struct worker_op *next;
	uint64_t from, end; /* whole units around the read */
	uint64_t given;     /* asked for up to here */
	unsigned int in_flight;
	int result;
	bool fill;
};

struct worker_list {
	struct worker_op *first;
	struct worker_op **tail;
};

struct worker_slot {
	struct worker_op *op;
	uint64_t offset;
	uint32_t len_bytes;
	uint32_t index; /* in the ring */
	bool fill;
};

/* Belongs to one thread. */
struct worker_queue {
	struct fl_queue head;
	struct worker_source *source;
	struct fl_ring *ring;
	int epoll_fd;
	unsigned int fills; /* slots with them */
	int ended;          /* by the reap under way */
	uint64_t free_slots;
	struct worker_slot slot[SLOTS];
	uint8_t slot_of[FL_WORKER_RING_ENTRIES];
	struct worker_op *free;
	struct worker_list demand, fill, failed;
	unsigned int depth;
	struct worker_op ops[];
};

static struct worker_queue *to_queue(struct fl_queue *queue)
{
	return (struct worker_queue *)queue;
}

static struct worker_source *to_source(struct fl_source *source)
{
	return (struct worker_source *)source;
}

/* ---- lists */

static void list_init(struct worker_list *list)
{
	list->first = NULL;
	list->tail = &list->first;
}

static void list_put(struct worker_list *list, struct worker_op *op)
{
	op->next = NULL;
	*list->tail = op;
	list->tail = &op->next;
}

static void list_remove(struct worker_list *list, struct worker_op *op)
{
	struct worker_op **at = &list->first;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	if (!op->next)
		list->tail = at;
}

static struct worker_list *list_of(struct worker_queue *queue, const struct worker_op *op)
{
	return op->fill ? &queue->fill : &queue->demand;
}

static void signal_queue(const struct worker_queue *queue)
{
	(void)eventfd_write(queue->ring->poller_fd, 1);
}

/* ---- giving */

/* No more of it is asked for. */
static void stop_op(struct worker_queue *queue, struct worker_op *op)
{
	if (op->given == op->end)
		return;
	op->given = op->end;
	list_remove(list_of(queue, op), op);
	if (op->in_flight)
		return;
	list_put(&queue->failed, op);
	signal_queue(queue);
}

static void give_piece(struct worker_queue *queue, struct worker_op *op, uint32_t index)
{
	unsigned int number = (unsigned int)__builtin_ctzll(queue->free_slots);
	struct worker_slot *slot = &queue->slot[number];
	uint64_t most = op->fill ? SLOT_BYTES : DEMAND_BYTES;
	uint64_t left = op->end - op->given;
	struct fl_ring_copy copy = {.remote_offset = op->given,
				    .local_offset = FL_LOCAL_STAGING + number * SLOT_BYTES,
				    .len_bytes = (uint32_t)(left < most ? left : most),
				    .flags = FL_WORKER_TELL | (op->fill ? FL_WORKER_FILL : 0)};

	queue->free_slots &= queue->free_slots - 1;
	queue->slot_of[index] = (uint8_t)number;
	*slot = (struct worker_slot){op, op->given, copy.len_bytes, index, op->fill};
	queue->fills += op->fill;
	op->in_flight++;
	op->given += copy.len_bytes;
	if (op->given == op->end)
		list_remove(list_of(queue, op), op);
	fl_ring_publish(queue->ring, index, &copy);
}

static bool is_dead(const struct worker_queue *queue)
{
	return __atomic_load_n(&queue->ring->dead, __ATOMIC_RELAXED);
}

static struct worker_op *next_op(struct worker_queue *queue)
{
	if (queue->demand.first)
		return queue->demand.first;
	return queue->fills < FILL_SLOTS ? queue->fill.first : NULL;
}

/* An entry of the ring. Threads that copy for themselves may have them all: what ends of ours
 * gives us another try, so it is waited for only when there is nothing of ours. */
static int claim(struct worker_queue *queue)
{
	return queue->free_slots == UINT64_MAX ? fl_ring_claim_wait(queue->ring)
					       : fl_ring_claim(queue->ring);
}

static void pump(struct worker_queue *queue)
{
	struct worker_op *op;

	while (queue->free_slots && (op = next_op(queue)) != NULL) {
		int index = is_dead(queue) ? -EPIPE : claim(queue);

		if (index == -EBUSY)
			return;
		if (index >= 0) {
			give_piece(queue, op, (uint32_t)index);
			continue;
		}
		op->result = index;
		stop_op(queue, op);
	}
}

static int worker_attempt(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	(void)queue, (void)buf, (void)len_bytes, (void)offset;
	return -EAGAIN;
}

static int worker_submit(struct fl_queue *head, struct fl_read *read)
{
	struct worker_queue *queue = to_queue(head);
	struct worker_op *op = queue->free;

	if (!op)
		return -EBUSY;
	queue->free = op->next;
	*op = (struct worker_op){.read = read,
				 .from = read->offset / UNIT * UNIT,
				 .end = (read->offset + read->len_bytes + UNIT - 1) / UNIT * UNIT,
				 .fill = read->flags & FL_READ_FILL};
	op->given = op->from;
	list_put(list_of(queue, op), op);
	pump(queue);
	return 0;
}

static void worker_hurry(struct fl_queue *head, struct fl_read *read, uint64_t offset,
			 uint64_t len_bytes)
{
	struct worker_queue *queue = to_queue(head);

	for (unsigned int i = 0; i < SLOTS; i++) {
		struct worker_slot *slot = &queue->slot[i];

		if (slot->op && slot->op->read == read && slot->fill &&
		    slot->offset < offset + len_bytes && offset < slot->offset + slot->len_bytes)
			fl_ring_hurry(queue->ring, slot->index);
	}
	for (struct worker_op *op = queue->fill.first; op; op = op->next) {
		if (op->read != read)
			continue;
		list_remove(&queue->fill, op);
		op->fill = false;
		list_put(&queue->demand, op);
		break;
	}
	pump(queue);
}

/* ---- ending */

static void end_op(struct worker_queue *queue, struct worker_op *op)
{
	struct fl_read *read = op->read;
	int result = op->result;

	op->next = queue->free;
	queue->free = op;
	queue->ended++;
	fl_read_end(read, result);
}

/* From the slot to where it belongs, as far as it belongs to the read at all. */
static void deliver(struct fl_read *read, const unsigned char *from, uint64_t offset,
		    uint64_t len_bytes)
{
	uint64_t read_end = read->offset + read->len_bytes;
	uint64_t end = offset + len_bytes < read_end ? offset + len_bytes : read_end;

	if (offset < read->offset) {
		from += read->offset - offset;
		offset = read->offset;
	}
	while (offset < end) {
		uint64_t part = end - offset;
		void *to = (char *)read->buf + (offset - read->offset);

		if (read->place)
			to = read->place(read, offset, &part);
		if (to) {
			memcpy(to, from, part);
			if (read->arrived)
				read->arrived(read, offset, part);
		}
		from += part;
		offset += part;
	}
}

static void end_slot(struct worker_queue *queue, unsigned int number, int result)
{
	struct worker_slot slot = queue->slot[number];
	struct worker_op *op = slot.op;

	if (result && !op->result)
		op->result = result;
	if (!op->result)
		deliver(op->read, queue->source->staging + number * SLOT_BYTES, slot.offset,
			slot.len_bytes);
	queue->slot[number].op = NULL;
	queue->slot_of[slot.index] = NO_SLOT;
	queue->free_slots |= UINT64_C(1) << number;
	queue->fills -= slot.fill;
	fl_ring_release(queue->ring, slot.index);
	op->in_flight--;
	if (op->result && op->given != op->end) {
		op->given = op->end;
		list_remove(list_of(queue, op), op);
	}
	if (!op->in_flight && op->given == op->end)
		end_op(queue, op);
}

/* The bits are the worker's word, so they are compared with what is known. */
static bool end_told(struct worker_queue *queue)
{
	bool any = false;

	for (uint32_t word = 0; word < queue->ring->entries / 64; word++) {
		uint64_t bits = fl_ring_told(queue->ring, word);

		for (; bits; bits &= bits - 1) {
			uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
			uint8_t number = queue->slot_of[index];
			int result;

			if (number == NO_SLOT || !fl_ring_ended(queue->ring, index, &result))
				continue;
			end_slot(queue, number, result);
			any = true;
		}
	}
	return any;
}

static void end_failed(struct worker_queue *queue)
{
	while (queue->failed.first) {
		struct worker_op *op = queue->failed.first;

		list_remove(&queue->failed, op);
		end_op(queue, op);
	}
}

/* What had ended was told before it died. */
static void end_dead(struct worker_queue *queue)
{
	(void)epoll_ctl(queue->epoll_fd, EPOLL_CTL_DEL, queue->source->worker->sock, NULL);
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (queue->slot[i].op)
			end_slot(queue, i, -EPIPE);
	}
	pump(queue);
}

static int worker_reap(struct fl_queue *head)
{
	struct worker_queue *queue = to_queue(head);
	uint64_t signals;
	bool any;

	queue->ended = 0;
	(void)!read(queue->ring->poller_fd, &signals, sizeof(signals));
	any = end_told(queue);
	/* What is told between the two looks finds nobody asleep. */
	fl_ring_poller_sleeps(queue->ring);
	any |= end_told(queue);
	pump(queue);
	if (!any && fl_ring_is_dead(queue->ring)) {
		(void)end_told(queue);
		end_dead(queue);
	}
	end_failed(queue);
	return queue->ended;
}

static int worker_fd(struct fl_queue *queue)
{
	return to_queue(queue)->epoll_fd;
}

/* Nobody else waits for this one, so that the end comes by poller_fd at the latest. */
static bool wait_for(struct fl_ring *ring, uint32_t index, uint64_t until_ns)
{
	struct pollfd poller = {.fd = ring->poller_fd, .events = POLLIN};
	uint64_t signals, now_ns, left_ms;
	int result;

	while (!fl_ring_ended(ring, index, &result)) {
		fl_ring_poller_sleeps(ring);
		if (fl_ring_ended(ring, index, &result) || fl_ring_is_dead(ring))
			break;
		now_ns = fl_clock_ns();
		if (now_ns >= until_ns)
			return false;
		left_ms = (until_ns - now_ns) / FL_NS_PER_MS + 1;
		(void)poll(&poller, 1, left_ms < 100 ? (int)left_ms : 100);
		(void)!read(ring->poller_fd, &signals, sizeof(signals));
	}
	return true;
}

static void worker_queue_close(struct fl_queue *head)
{
	struct worker_queue *queue = to_queue(head);
	uint64_t until_ns = fl_clock_ns() + CLOSE_NS;
	bool all = true;

	for (unsigned int i = 0; i < SLOTS; i++) {
		if (!queue->slot[i].op)
			continue;
		if (wait_for(queue->ring, queue->slot[i].index, until_ns))
			fl_ring_release(queue->ring, queue->slot[i].index);
		else
			all = false;
	}
	/* What it may still write to is for no other queue. */
	queue->source->opened = !all;
	fl_fd_close(&queue->epoll_fd);
	free(queue);
}

static const struct fl_queue_ops queue_ops = {
	.size = sizeof(struct fl_queue_ops),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = worker_attempt,
	.submit = worker_submit,
	.fd = worker_fd,
	.reap = worker_reap,
	.close = worker_queue_close,
	.hurry = worker_hurry,
};

/* ---- the source */

static uint64_t worker_length(struct fl_source *source)
{
	return to_source(source)->length;
}

static void worker_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	extent->len_bytes = to_source(source)->length - offset;
	extent->zeros = false;
}

static int watch(int epoll_fd, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int make_poll(const struct worker_source *source, int *epoll_fd)
{
	int rc;

	*epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (*epoll_fd < 0)
		return -errno;
	rc = watch(*epoll_fd, source->worker->ring.poller_fd, EPOLLIN);
	/* EPOLLHUP alone, which is always reported. */
	return rc ? rc : watch(*epoll_fd, source->worker->sock, 0);
}

static int worker_open(struct fl_source *head, unsigned int depth, struct fl_queue **queue)
{
	struct worker_source *source = to_source(head);
	struct worker_queue *new;
	int rc;

	if (source->opened)
		return -EBUSY;
	new = calloc(1, sizeof(*new) + depth * sizeof(*new->ops));
	if (!new)
		return -ENOMEM;
	new->head.ops = &queue_ops;
	new->source = source;
	new->ring = &source->worker->ring;
	new->depth = depth;
	new->free_slots = UINT64_MAX;
	memset(new->slot_of, NO_SLOT, sizeof(new->slot_of));
	list_init(&new->demand);
	list_init(&new->fill);
	list_init(&new->failed);
	for (unsigned int i = 0; i < depth; i++)
		new->ops[i].next = i + 1 < depth ? &new->ops[i + 1] : NULL;
	new->free = new->ops;
	rc = make_poll(source, &new->epoll_fd);
	if (rc) {
		fl_fd_close(&new->epoll_fd);
		free(new);
		return rc;
	}
	fl_ring_poller_sleeps(new->ring);
	source->opened = true;
	*queue = &new->head;
	return 0;
}

static void worker_close(struct fl_source *head)
{
	struct worker_source *source = to_source(head);

	__atomic_store_n(&source->worker->sourced, 0, __ATOMIC_RELEASE);
	if (source->staging != MAP_FAILED)
		(void)munmap(source->staging, SLOTS * SLOT_BYTES);
	fl_fd_close(&source->fd);
	free(source);
}

static const struct fl_source_ops source_ops = {
	.size = sizeof(struct fl_source_ops),
	.version = FL_SOURCE_OPS_VERSION,
	.flags = FL_SOURCE_PIECES,
	.name = "worker",
	.length = worker_length,
	.extent = worker_extent,
	.open = worker_open,
	.close = worker_close,
};

static int make_staging(struct worker_source *source, struct fl_error *err)
{
	source->fd = memfd_create("faultline staging", MFD_CLOEXEC);
	if (source->fd < 0 || ftruncate(source->fd, SLOTS * SLOT_BYTES) < 0)
		return fl_error_set(err, -errno, "a staging area: %s", strerror(errno));
	source->staging = mmap(NULL, SLOTS * SLOT_BYTES, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_POPULATE, source->fd, 0);
	if (source->staging == MAP_FAILED)
		return fl_error_set(err, -errno, "a staging area: %s", strerror(errno));
	return fl_worker_give_staging(source->worker, source->fd, SLOTS * SLOT_BYTES, err);
}

int fl_source_worker_new(struct fl_source **source, struct fl_worker *worker, uint64_t len_bytes,
			 struct fl_error *err)
{
	struct worker_source *new;
	int rc;

	if (!len_bytes || len_bytes % UNIT || len_bytes > FL_WORKER_OFFSET_END)
		return fl_error_set(err, -EINVAL, "an image of that length cannot be");
	if (__atomic_exchange_n(&worker->sourced, 1, __ATOMIC_ACQ_REL))
		return fl_error_set(err, -EALREADY, "this connection has a source already");
	new = calloc(1, sizeof(*new));
	if (!new) {
		__atomic_store_n(&worker->sourced, 0, __ATOMIC_RELEASE);
		return fl_error_set(err, -ENOMEM, "no memory");
	}
	*new = (struct worker_source){.head.ops = &source_ops,
				      .worker = worker,
				      .length = len_bytes,
				      .staging = MAP_FAILED,
				      .fd = -1};
	rc = make_staging(new, err);
	if (rc) {
		worker_close(&new->head);
		return rc;
	}
	*source = &new->head;
	return 0;
}

int fl_source_worker_way(struct fl_source **source, struct fl_worker *worker, const void *blob,
			 size_t blob_len, uint64_t len_bytes, struct fl_error *err)
{
	char address[FL_WORKER_ADDRESS_MAX + 1] = "";
	size_t address_len = blob_len - FL_WORKER_TOKEN_BYTES;
	int rc;

	if (blob_len <= FL_WORKER_TOKEN_BYTES || blob_len > FL_WORKER_WAY_MAX ||
	    memchr((const uint8_t *)blob + FL_WORKER_TOKEN_BYTES, 0, address_len))
		return fl_error_set(err, -EBADMSG, "no descriptor of a page worker: %zu bytes",
				    blob_len);
	memcpy(address, (const uint8_t *)blob + FL_WORKER_TOKEN_BYTES, address_len);
	rc = fl_worker_import(worker, address, blob, NULL, 0, err);
	return rc ? rc : fl_source_worker_new(source, worker, len_bytes, err);
}
