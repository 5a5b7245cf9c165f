/* SPDX-License-Identifier: MIT */

/*
 * Reading over libfabric. Theory of operation
 *
 * A read is cut into pieces, each one fi_read(3) from the peer's memory to where the read's place()
 * says, or to its buffer: whole units within one region of the peer's, and of ours where memory must be
 * registered. What a provider cannot write to, since it is not registered, lands in memory of the queue's
 * own and is copied when it is told of.
 *
 *	submit -> todo -(post)-> pieces under way -(progress)-> landed -(deliver)-> arrived(), done()
 *
 * progress() only moves pieces that have completed to the list of those that have landed; deliver()
 * tells of them, and is called by reap() alone. That is what lets quiesce() make progress in the middle of
 * whatever its caller does.
 *
 * Demand and fill have an endpoint each, and so a connection each with providers that make
 * some, and demand is posted first. Fills have no more than FL_FABRIC_FILL_PIECES under way. hurry() makes
 * what is left of a fill a demand.
 *
 * Memory is written by a device, or by the provider within any call to it, from fi_read() to the
 * completion. There is no calling a read back (fi_cancel(3) is not for RMA with tcp and verbs); what ends
 * it in bounded time is fi_close(3) of the endpoint, after which buffers are no longer used. So a
 * read that is over its time ends the queue: cut_off() closes the endpoints, that read fails with
 * -ETIMEDOUT, and all others, then and later, with -ECONNRESET. A lost connection ends it likewise: the
 * provider would connect anew for each further read, and may not tell of one that the peer refuses.
 * Any other error ends its read alone.
 *
 * The tcp provider of libfabric before 1.18 frees a read twice when its endpoint is closed in the middle of
 * the answer. There, an endpoint with something under way is left alone instead, and what libfabric has for it
 * is lost: as it writes only within calls to it, and none will be made, that too is the end of writing.
 *
 * The user polls one descriptor: an epoll set of the completion queue's, a timer and an eventfd. The
 * queue's may be waited for only after fi_trywait(3) said so; when it says no, the eventfd is
 * signalled, and so it is for what has landed and was not told. The timer ticks every TICK_NS while
 * the provider takes no more (a connection that is being made is not told of by the
 * descriptor), or while reads are under way and it has no descriptor; else it looks at deadlines.
 */

#include "source/fabric_source.h"
#include "source/read.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#define TICK_NS    (200 * FL_NS_PER_US)
#define BATCH      16
#define TIMED_OUT  "a read took too long"
#define QUIESCE_MS 5
/* How long what is under way is waited for: when the queue is closed, and when a connection was lost,
 * where only the queue's other one can still bring something. */
#define CLOSE_NS     FL_NS_PER_S
#define LOST_NS      (20 * FL_NS_PER_MS)
#define CHECKS       8u /* deadlines are looked at so often in the time of one read */
#define BOUNCE_BYTES ((size_t)FL_FABRIC_PIECES * FL_FABRIC_PIECE_BYTES)

static struct fl_fabric_queue *to_queue(struct fl_queue *queue)
{
	return (struct fl_fabric_queue *)queue;
}

static void signal_queue(const struct fl_fabric_queue *queue)
{
	/* Fails only when the counter is full, and then it is readable. */
	(void)eventfd_write(queue->event_fd, 1);
}

static void put_op(struct fl_fabric_ops *list, struct fl_fabric_op *op)
{
	TAILQ_INSERT_TAIL(list, op, link);
	op->listed = true;
}

static void take_op(struct fl_fabric_ops *list, struct fl_fabric_op *op)
{
	TAILQ_REMOVE(list, op, link);
	op->listed = false;
}

static struct fl_fabric_ops *todo_of(struct fl_fabric_queue *queue, const struct fl_fabric_op *op)
{
	return op->fill ? &queue->fill : &queue->demand;
}

/* Nothing more is posted for it. It is over when nothing is under way either. */
static void op_given(struct fl_fabric_queue *queue, struct fl_fabric_op *op)
{
	if (op->given < op->read->len_bytes)
		take_op(todo_of(queue, op), op);
	op->given = op->read->len_bytes;
	if (!op->in_flight)
		put_op(&queue->over, op);
}

static void op_failed(struct fl_fabric_queue *queue, struct fl_fabric_op *op, int result)
{
	if (!op->result)
		op->result = result;
	if (op->given < op->read->len_bytes)
		op_given(queue, op);
}

/* A step of a read was posted, or is not wanted. */
static void op_advance(struct fl_fabric_queue *queue, struct fl_fabric_op *op, uint64_t len_bytes)
{
	if (op->given + len_bytes == op->read->len_bytes)
		op_given(queue, op);
	else
		op->given += len_bytes;
}

static void piece_free(struct fl_fabric_queue *queue, struct fl_fabric_piece *piece)
{
	piece->state = FL_PIECE_FREE;
	piece->next = queue->free_pieces;
	queue->free_pieces = piece;
}

/* A completion that is told twice counts once. */
static void piece_landed(struct fl_fabric_queue *queue, struct fl_fabric_piece *piece, int result)
{
	if (piece->state != FL_PIECE_POSTED)
		return;
	piece->state = FL_PIECE_LANDED;
	piece->result = result;
	piece->next = NULL;
	*queue->landed_tail = piece;
	queue->landed_tail = &piece->next;
	if (piece->fill)
		queue->fill_pieces--;
}

/* The registration that covers an address; cuts *len_bytes down to what it covers. */
static struct fid_mr *local_mr(const struct fl_fabric_source *source, const char *at,
			       uint64_t *len_bytes)
{
	for (size_t i = 0; i < source->count; i++) {
		const char *from = source->local[i].addr;

		if (at < from || at >= from + source->local[i].len_bytes)
			continue;
		if (*len_bytes > (uint64_t)(from + source->local[i].len_bytes - at))
			*len_bytes = (uint64_t)(from + source->local[i].len_bytes - at);
		return source->mrs[i];
	}
	return NULL;
}

/* Where to, with what registration; NULL when these bytes are not wanted. */
static char *piece_target(struct fl_fabric_queue *queue, struct fl_fabric_piece *piece, void **desc)
{
	struct fl_read *read = piece->op->read;
	struct fid_mr *mr;
	char *to;

	if (read->place)
		to = read->place(read, piece->offset, &piece->len_bytes);
	else
		to = (char *)read->buf + (piece->offset - read->offset);
	*desc = NULL;
	piece->bounced = false;
	if (!to || !queue->source->registers)
		return to;
	mr = local_mr(queue->source, to, &piece->len_bytes);
	if (!mr) {
		mr = queue->bounce_mr;
		to = piece->bounce;
		piece->bounced = true;
	}
	*desc = fi_mr_desc(mr);
	return to;
}

static ssize_t start_read(struct fl_fabric_queue *queue, struct fl_fabric_piece *piece, char *to,
			  void *desc)
{
	const struct fl_fabric_region *region =
		fl_fabric_region_at(&queue->source->desc, piece->offset);

	return fi_read(piece->fill ? queue->fill_ep : queue->demand_ep, to, piece->len_bytes, desc,
		       queue->peer, region->base + (piece->offset - region->offset), region->key,
		       &piece->context);
}

/* Posts the next piece of a read: false when there can be no more now. */
static bool post_piece(struct fl_fabric_queue *queue, struct fl_fabric_op *op)
{
	struct fl_fabric_piece *piece = queue->free_pieces;
	uint64_t left = op->read->len_bytes - op->given;
	ssize_t ret;
	void *desc;
	char *to;

	if (!piece)
		return false;
	piece->op = op;
	piece->fill = op->fill;
	piece->offset = op->read->offset + op->given;
	piece->len_bytes = left < FL_FABRIC_PIECE_BYTES ? left : FL_FABRIC_PIECE_BYTES;
	to = piece_target(queue, piece, &desc);
	if (!to) {
		op_advance(queue, op, piece->len_bytes);
		return true;
	}
	ret = start_read(queue, piece, to, desc);
	if (ret == -FI_EAGAIN) {
		queue->blocked = true;
		return false;
	}
	if (ret) {
		op_failed(queue, op, fl_fabric_errno(ret));
		queue->lost = queue->lost || op->result == -ECONNRESET;
		return !queue->lost;
	}
	queue->free_pieces = piece->next;
	piece->state = FL_PIECE_POSTED;
	queue->fill_pieces += piece->fill;
	op->in_flight++;
	op_advance(queue, op, piece->len_bytes);
	return true;
}

static void post(struct fl_fabric_queue *queue)
{
	struct fl_fabric_op *op;

	queue->blocked = false;
	while ((op = TAILQ_FIRST(&queue->demand))) {
		if (!post_piece(queue, op))
			return;
	}
	while ((op = TAILQ_FIRST(&queue->fill)) && queue->fill_pieces < FL_FABRIC_FILL_PIECES) {
		if (!post_piece(queue, op))
			return;
	}
}

static void completed_wrong(struct fl_fabric_queue *queue)
{
	struct fi_cq_err_entry error = {0};
	struct fl_fabric_piece *piece;

	if (fi_cq_readerr(queue->cq.cq, &error, 0) < 0 || !error.op_context)
		return;
	piece = error.op_context;
	fl_log(&queue->source->log, FL_LOG_DEBUG, "fabric read at offset 0x%" PRIx64 ": %s",
	       piece->offset, fi_strerror(error.err));
	piece_landed(queue, piece, fl_fabric_errno(error.err));
	queue->lost = queue->lost || piece->result == -ECONNRESET;
}

/* Lets the provider work, and takes what has completed. */
static void progress(struct fl_fabric_queue *queue)
{
	struct fi_cq_entry entries[BATCH];

	for (unsigned int i = 0; i < FL_FABRIC_PIECES / BATCH; i++) {
		ssize_t got = fi_cq_read(queue->cq.cq, entries, BATCH);

		for (ssize_t j = 0; j < got; j++)
			piece_landed(queue, entries[j].op_context, 0);
		if (got == -FI_EAVAIL)
			completed_wrong(queue);
		else if (got < BATCH)
			return;
	}
}

static bool is_posted(const struct fl_fabric_queue *queue)
{
	for (unsigned int i = 0; i < FL_FABRIC_PIECES; i++) {
		if (queue->pieces[i].state == FL_PIECE_POSTED)
			return true;
	}
	return false;
}

/* Waits for what is under way, for a time. */
static void settle(struct fl_fabric_queue *queue, uint64_t most_ns)
{
	struct pollfd pfd = {.fd = queue->cq.fd, .events = POLLIN};
	uint64_t until_ns = fl_clock_ns() + most_ns;

	while (is_posted(queue)) {
		progress(queue);
		if (fl_clock_ns() >= until_ns)
			return;
		if (is_posted(queue) && fl_fabric_cq_idle(&queue->source->port, &queue->cq))
			(void)poll(&pfd, 1, queue->cq.fd < 0 ? 1 : QUIESCE_MS);
	}
}

/* After this nothing is written to any memory: see above. */
static void close_ends(struct fl_fabric_queue *queue)
{
	/* It may stay readable, and nobody will read from it. */
	if (queue->cq.fd >= 0)
		(void)epoll_ctl(queue->epoll_fd, EPOLL_CTL_DEL, queue->cq.fd, NULL);
	queue->cq.fd = -1;
	if (queue->source->port.abandons && is_posted(queue)) {
		queue->demand_ep = queue->fill_ep = NULL;
		queue->av = NULL;
		queue->cq.cq = NULL;
		return;
	}
	fl_fabric_close(queue->demand_ep);
	fl_fabric_close(queue->fill_ep);
	fl_fabric_close(queue->av);
	fl_fabric_close(queue->cq.cq);
}

static void cut_off(struct fl_fabric_queue *queue, const char *why)
{
	uint64_t now_ns = fl_clock_ns();

	close_ends(queue);
	queue->broken = -ECONNRESET;
	fl_log(&queue->source->log, FL_LOG_WARNING, "fabric: %s; %u reads are ended", why,
	       queue->reads);
	for (unsigned int i = 0; i < queue->depth; i++) {
		struct fl_fabric_op *op = &queue->ops[i];

		if (op->read && (op->in_flight || op->given < op->read->len_bytes))
			op_failed(queue, op, now_ns >= op->deadline_ns ? -ETIMEDOUT : -ECONNRESET);
	}
	for (unsigned int i = 0; i < FL_FABRIC_PIECES; i++) {
		if (queue->pieces[i].state == FL_PIECE_POSTED)
			piece_landed(queue, &queue->pieces[i], -ECONNRESET);
	}
}

static void check_deadlines(struct fl_fabric_queue *queue)
{
	uint64_t now_ns = fl_clock_ns();

	if (!queue->reads || queue->broken || now_ns < queue->check_ns)
		return;
	queue->check_ns = now_ns + queue->source->timeout_ns / CHECKS;
	for (unsigned int i = 0; i < queue->depth; i++) {
		if (queue->ops[i].read && now_ns >= queue->ops[i].deadline_ns) {
			cut_off(queue, TIMED_OUT);
			return;
		}
	}
}

static void tell_arrived(const struct fl_fabric_piece *piece)
{
	struct fl_read *read = piece->op->read;

	if (read->arrived)
		read->arrived(read, piece->offset, piece->len_bytes);
}

/* What landed in memory of our own goes to where it is wanted now, which may be in several places. */
static void unbounce(struct fl_fabric_piece *piece)
{
	struct fl_read *read = piece->op->read;
	uint64_t len;

	if (!read->place) {
		memcpy((char *)read->buf + (piece->offset - read->offset), piece->bounce,
		       piece->len_bytes);
		tell_arrived(piece);
		return;
	}
	for (uint64_t at = 0; at < piece->len_bytes; at += len) {
		char *to;

		len = piece->len_bytes - at;
		to = read->place(read, piece->offset + at, &len);
		if (to) {
			memcpy(to, piece->bounce + at, len);
			if (read->arrived)
				read->arrived(read, piece->offset + at, len);
		}
	}
}

static void deliver(struct fl_fabric_queue *queue, struct fl_fabric_piece *piece)
{
	struct fl_fabric_op *op = piece->op;

	op->in_flight--;
	if (piece->result)
		op_failed(queue, op, piece->result);
	else if (piece->bounced)
		unbounce(piece);
	else
		tell_arrived(piece);
	piece_free(queue, piece);
	if (!op->in_flight && !op->listed)
		put_op(&queue->over, op);
}

static void deliver_landed(struct fl_fabric_queue *queue)
{
	struct fl_fabric_piece *piece = queue->landed, *next;

	queue->landed = NULL;
	queue->landed_tail = &queue->landed;
	for (; piece; piece = next) {
		next = piece->next;
		deliver(queue, piece);
	}
}

/* What a done() submits is over at the next reap() at the earliest. */
static void end_over(struct fl_fabric_queue *queue)
{
	struct fl_fabric_ops over = TAILQ_HEAD_INITIALIZER(over);
	struct fl_fabric_op *op;

	TAILQ_CONCAT(&over, &queue->over, link);
	while ((op = TAILQ_FIRST(&over))) {
		struct fl_read *read = op->read;

		take_op(&over, op);
		op->read = NULL;
		TAILQ_INSERT_TAIL(&queue->free, op, link);
		queue->reads--;
		queue->ended++;
		fl_read_end(read, op->result);
	}
}

static void set_timer(struct fl_fabric_queue *queue)
{
	struct itimerspec when = {{0}, {0}};
	uint64_t every_ns = 0;

	if (queue->reads && !queue->broken)
		every_ns = queue->blocked || queue->cq.fd < 0 ? TICK_NS
							      : queue->source->timeout_ns / CHECKS;
	if (every_ns == queue->timer_ns)
		return;
	queue->timer_ns = every_ns;
	when.it_value.tv_sec = (time_t)(every_ns / FL_NS_PER_S);
	when.it_value.tv_nsec = (long)(every_ns % FL_NS_PER_S);
	when.it_interval = when.it_value;
	(void)timerfd_settime(queue->timer_fd, 0, &when, NULL);
}

/* Makes the descriptor tell of all that is left to do. */
static void arm(struct fl_fabric_queue *queue)
{
	set_timer(queue);
	if (queue->landed || !TAILQ_EMPTY(&queue->over) || (queue->lost && !queue->broken) ||
	    (queue->reads && !queue->broken &&
	     !fl_fabric_cq_idle(&queue->source->port, &queue->cq)))
		signal_queue(queue);
}

static int fabric_reap(struct fl_queue *head)
{
	struct fl_fabric_queue *queue = to_queue(head);
	eventfd_t count;
	uint64_t ticks;

	queue->ended = 0;
	(void)eventfd_read(queue->event_fd, &count);
	if (read(queue->timer_fd, &ticks, sizeof(ticks)) < 0)
		ticks = 0;
	if (!queue->broken)
		progress(queue);
	check_deadlines(queue);
	if (queue->lost && !queue->broken) {
		settle(queue, LOST_NS);
		cut_off(queue, "the connection to the peer was lost");
	}
	deliver_landed(queue);
	if (!queue->broken)
		post(queue);
	end_over(queue);
	arm(queue);
	return queue->ended;
}

static int check_read(const struct fl_fabric_queue *queue, const struct fl_read *read)
{
	const struct fl_fabric_region *region =
		fl_fabric_region_at(&queue->source->desc, read->offset);

	if (queue->broken)
		return queue->broken;
	if (!read->len_bytes || read->offset % FL_FABRIC_UNIT || read->len_bytes % FL_FABRIC_UNIT)
		return -EINVAL;
	if (!region)
		return -ENODATA;
	if (read->offset < region->offset ||
	    read->len_bytes > region->offset + region->len_bytes - read->offset)
		return read->len_bytes > queue->source->length - read->offset ? -ENODATA : -EINVAL;
	return 0;
}

static int fabric_submit(struct fl_queue *head, struct fl_read *read)
{
	struct fl_fabric_queue *queue = to_queue(head);
	struct fl_fabric_op *op = TAILQ_FIRST(&queue->free);
	uint64_t now_ns = fl_clock_ns();
	int result = check_read(queue, read);

	if (!op)
		return -EBUSY;
	TAILQ_REMOVE(&queue->free, op, link);
	*op = (struct fl_fabric_op){.read = read,
				    .result = result,
				    .fill = read->flags & FL_READ_FILL,
				    .deadline_ns = now_ns + queue->source->timeout_ns};
	if (!queue->reads++)
		queue->check_ns = now_ns + queue->source->timeout_ns / CHECKS;
	if (result) {
		op->given = read->len_bytes;
		put_op(&queue->over, op);
	} else {
		put_op(todo_of(queue, op), op);
		post(queue);
	}
	arm(queue);
	return 0;
}

static int fabric_attempt(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	(void)queue;
	(void)buf;
	(void)len_bytes;
	(void)offset;
	return -EAGAIN;
}

static int fabric_fd(struct fl_queue *head)
{
	return to_queue(head)->epoll_fd;
}

static struct fl_fabric_op *find_op(struct fl_fabric_queue *queue, const struct fl_read *read)
{
	for (unsigned int i = 0; i < queue->depth; i++) {
		if (queue->ops[i].read == read)
			return &queue->ops[i];
	}
	return NULL;
}

static void fabric_hurry(struct fl_queue *head, struct fl_read *read, uint64_t offset,
			 uint64_t len_bytes)
{
	struct fl_fabric_queue *queue = to_queue(head);
	struct fl_fabric_op *op = find_op(queue, read);

	(void)len_bytes;
	/* What was posted comes as it comes. */
	if (!op || !op->fill || op->given >= read->len_bytes || offset - read->offset < op->given)
		return;
	take_op(&queue->fill, op);
	op->fill = false;
	TAILQ_INSERT_HEAD(&queue->demand, op, link);
	op->listed = true;
	post(queue);
	arm(queue);
}

static bool is_written(const struct fl_fabric_queue *queue, const struct fl_fabric_op *op)
{
	for (unsigned int i = 0; i < FL_FABRIC_PIECES; i++) {
		if (queue->pieces[i].state == FL_PIECE_POSTED && !queue->pieces[i].bounced &&
		    queue->pieces[i].op == op)
			return true;
	}
	return false;
}

static void fabric_quiesce(struct fl_queue *head, struct fl_read *read)
{
	struct fl_fabric_queue *queue = to_queue(head);
	struct fl_fabric_op *op = find_op(queue, read);
	struct pollfd pfd = {.fd = queue->cq.fd, .events = POLLIN};

	if (!op)
		return;
	while (is_written(queue, op)) {
		uint64_t now_ns;

		progress(queue);
		if (!is_written(queue, op))
			break;
		now_ns = fl_clock_ns();
		if (now_ns >= op->deadline_ns)
			cut_off(queue, TIMED_OUT);
		else if (fl_fabric_cq_idle(&queue->source->port, &queue->cq))
			(void)poll(&pfd, 1, queue->cq.fd < 0 ? 1 : QUIESCE_MS);
	}
	arm(queue);
}

static void fabric_queue_close(struct fl_queue *head)
{
	struct fl_fabric_queue *queue = to_queue(head);

	if (!queue->broken && queue->cq.cq)
		settle(queue,
		       queue->source->timeout_ns < CLOSE_NS ? queue->source->timeout_ns : CLOSE_NS);
	close_ends(queue);
	fl_fabric_close(queue->bounce_mr);
	if (queue->bounce)
		(void)munmap(queue->bounce, BOUNCE_BYTES);
	fl_fd_close(&queue->epoll_fd);
	fl_fd_close(&queue->event_fd);
	fl_fd_close(&queue->timer_fd);
	free(queue);
}

static const struct fl_queue_ops fabric_queue_ops = {
	.size = sizeof(struct fl_queue_ops),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = fabric_attempt,
	.submit = fabric_submit,
	.fd = fabric_fd,
	.reap = fabric_reap,
	.close = fabric_queue_close,
	.hurry = fabric_hurry,
	.quiesce = fabric_quiesce,
};

static int watch(const struct fl_fabric_queue *queue, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(queue->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int open_fds(struct fl_fabric_queue *queue)
{
	int ret;

	queue->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (queue->epoll_fd < 0 || queue->event_fd < 0 || queue->timer_fd < 0)
		return -errno;
	ret = watch(queue, queue->event_fd);
	if (!ret)
		ret = watch(queue, queue->timer_fd);
	if (!ret && queue->cq.fd >= 0)
		ret = watch(queue, queue->cq.fd);
	return ret;
}

static int open_bounce(struct fl_fabric_queue *queue)
{
	struct fl_fabric_memory memory = {.len_bytes = BOUNCE_BYTES};

	if (!queue->source->registers)
		return 0;
	queue->bounce = mmap(NULL, BOUNCE_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (queue->bounce == MAP_FAILED) {
		queue->bounce = NULL;
		return -ENOMEM;
	}
	memory.addr = queue->bounce;
	for (unsigned int i = 0; i < FL_FABRIC_PIECES; i++)
		queue->pieces[i].bounce = queue->bounce + (size_t)i * FL_FABRIC_PIECE_BYTES;
	return fl_fabric_register(&queue->source->port, &memory, FI_READ, 0, &queue->bounce_mr,
				  NULL);
}

static int open_ends(struct fl_fabric_queue *queue)
{
	const struct fl_fabric_port *port = &queue->source->port;
	struct fi_av_attr attr = {.type = FI_AV_UNSPEC, .count = 1};
	int ret = fl_fabric_cq_open(port, &queue->cq);

	if (!ret)
		ret = fi_av_open(port->domain, &attr, &queue->av, NULL);
	if (!ret)
		ret = fl_fabric_ep_open(port, &queue->cq, queue->av, &queue->demand_ep);
	if (!ret)
		ret = fl_fabric_ep_open(port, &queue->cq, queue->av, &queue->fill_ep);
	if (!ret &&
	    fi_av_insert(queue->av, queue->source->desc.address, 1, &queue->peer, 0, NULL) != 1)
		ret = -EADDRNOTAVAIL;
	return ret ? fl_fabric_errno(ret) : 0;
}

int fl_fabric_queue_open(struct fl_source *source, unsigned int depth, struct fl_queue **head)
{
	struct fl_fabric_queue *queue = calloc(1, sizeof(*queue) + depth * sizeof(queue->ops[0]));
	int ret;

	if (!queue)
		return -ENOMEM;
	queue->head.ops = &fabric_queue_ops;
	queue->source = (struct fl_fabric_source *)source;
	queue->depth = depth;
	queue->epoll_fd = queue->event_fd = queue->timer_fd = queue->cq.fd = -1;
	queue->landed_tail = &queue->landed;
	TAILQ_INIT(&queue->free);
	TAILQ_INIT(&queue->demand);
	TAILQ_INIT(&queue->fill);
	TAILQ_INIT(&queue->over);
	for (unsigned int i = 0; i < depth; i++)
		TAILQ_INSERT_TAIL(&queue->free, &queue->ops[i], link);
	for (unsigned int i = FL_FABRIC_PIECES; i--;)
		piece_free(queue, &queue->pieces[i]);
	ret = open_ends(queue);
	if (!ret)
		ret = open_fds(queue);
	if (!ret)
		ret = open_bounce(queue);
	if (ret) {
		fabric_queue_close(&queue->head);
		return ret;
	}
	*head = &queue->head;
	return 0;
}
