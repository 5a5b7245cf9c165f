/* SPDX-License-Identifier: MIT */

/*
 * Reads by io_uring. Theory of operation
 *
 * Each read is one request at a time and is handed over at once: the submission ring is empty
 * between calls. The ring tells of completions by the queue's eventfd. A short completion is
 * continued with a further request until the read is whole or the file ends.
 *
 * A demand is issued by the submitting thread: the kernel starts the I/O and returns, which is the
 * shortest way. A fill, or a large read, goes to the kernel's workers (IOSQE_ASYNC), since the
 * pages of it that are cached would be copied before the submission returns, while demands wait.
 *
 * Completion work may run in the submitting thread and interrupts what it sleeps in: epoll_wait(2)
 * can return EINTR without a signal.
 *
 * No setup flag ties the ring to a thread, so that a queue may be opened, used and closed by
 * different ones in turn. IORING_SETUP_COOP_TASKRUN (Linux 5.19) spares interrupts of a running
 * thread: reap() enters the kernel to read the eventfd, and so never misses work put off.
 */

#include "source/file.h"

#include <errno.h>

/* More at once is left to workers; the system call would copy for longer than faults should wait.
 */
#define INLINE_MAX_BYTES (1ULL << 20)
/* One request, well below what one read(2) may carry. */
#define STEP_MAX_BYTES (1ULL << 30)
/* How many answers in a row that ask for another try are believed. */
#define AGAIN_MAX 64

/*
 * liburing maps and unmaps rings unseen by ThreadSanitizer, which takes a ring at the address of
 * one that another thread closed for the same memory. These tell it of the order between the two.
 */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
static char mapping_order;

static void ring_was_mapped(void)
{
	__tsan_acquire(&mapping_order);
}

static void ring_is_unmapped(void)
{
	__tsan_release(&mapping_order);
}
#else
static void ring_was_mapped(void)
{
}

static void ring_is_unmapped(void)
{
}
#endif

static int ring_init(struct fl_file_queue *queue, unsigned int flags)
{
	struct io_uring_params params = {.flags = flags};
	struct io_uring *uring = &queue->ring.uring;
	int ret = io_uring_queue_init_params(queue->depth, uring, &params);

	if (ret)
		return ret;
	ring_was_mapped();
	/* Came with Linux 5.6, as did IORING_OP_READ. */
	if (!(params.features & IORING_FEAT_RW_CUR_POS))
		ret = -EOPNOTSUPP;
	else
		ret = io_uring_register_eventfd(uring, queue->event_fd);
	if (ret)
		io_uring_queue_exit(uring);
	return ret;
}

static int uring_start(struct fl_file_queue *queue)
{
	int ret = ring_init(queue, IORING_SETUP_COOP_TASKRUN);

	if (ret == -EINVAL)
		ret = ring_init(queue, 0);
	queue->ring.busy = 0;
	return ret;
}

static void prepare(const struct fl_file_queue *queue, struct io_uring_sqe *sqe,
		    struct fl_file_op *op)
{
	const struct fl_read *read = op->read;
	uint64_t left = read->len_bytes - op->done_bytes;
	uint64_t step = left < STEP_MAX_BYTES ? left : STEP_MAX_BYTES;

	io_uring_prep_read(sqe, queue->file->fd, (char *)read->buf + op->done_bytes,
			   (unsigned int)step, read->offset + op->done_bytes);
	if ((read->flags & FL_READ_FILL) || step > INLINE_MAX_BYTES || op->again)
		sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, op);
}

/* Hands over all that stands in the submission ring. */
static int hand_over(struct io_uring *uring)
{
	while (io_uring_sq_ready(uring)) {
		int ret = io_uring_submit(uring);

		if (!ret)
			return -EAGAIN;
		if (ret < 0 && ret != -EINTR)
			return ret;
	}
	return 0;
}

static int uring_submit(struct fl_file_queue *queue, struct fl_file_op *op)
{
	struct io_uring *uring = &queue->ring.uring;
	struct io_uring_sqe *sqe = io_uring_get_sqe(uring);
	int ret;

	if (!sqe) {
		/* Full of requests that were given up; see below. */
		ret = hand_over(uring);
		sqe = io_uring_get_sqe(uring);
		if (!sqe)
			return ret ? ret : -EAGAIN;
	}
	prepare(queue, sqe, op);
	ret = hand_over(uring);
	if (ret) {
		/* It stays in the ring, and must not read into a buffer that is given back. */
		io_uring_prep_nop(sqe);
		io_uring_sqe_set_data(sqe, NULL);
		return ret;
	}
	op->busy = true;
	queue->ring.busy++;
	return 0;
}

/*
 * Whether to ask again after res. When the thread that had submitted a request is no more, the
 * request ends with -ECANCELED, or with -EFAULT for want of its memory map; a second -EFAULT means
 * what it says.
 */
static bool is_passing(const struct fl_file_op *op, int res)
{
	return res == -EAGAIN || res == -EINTR || res == -ECANCELED ||
	       (res == -EFAULT && !op->again);
}

/* A request of op came back with res. True when there is no more to do; its result is set then. */
static bool completed(struct fl_file_op *op, int res)
{
	if (res > 0) {
		op->done_bytes += (unsigned int)res;
		op->again = 0;
		op->result = 0;
		return op->done_bytes == op->read->len_bytes;
	}
	if (is_passing(op, res) && ++op->again < AGAIN_MAX)
		return false;
	op->result = res;
	/* The file ended; of nothing, nothing is whole. */
	if (!res && op->read->len_bytes)
		op->result = -ENODATA;
	return true;
}

static void uring_complete(struct fl_file_queue *queue, struct fl_file_op *op, int res)
{
	op->busy = false;
	queue->ring.busy--;
	if (!completed(op, res)) {
		op->result = uring_submit(queue, op);
		if (!op->result)
			return;
	}
	fl_file_queue_end(queue, op, op->result);
}

static void uring_reap(struct fl_file_queue *queue)
{
	struct io_uring *uring = &queue->ring.uring;
	unsigned int reads = 0;
	struct io_uring_cqe *cqe;

	while (reads < queue->depth && !io_uring_peek_cqe(uring, &cqe)) {
		struct fl_file_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(uring, cqe);
		if (!op)
			continue;
		uring_complete(queue, op, res);
		reads++;
	}
}

/* Requests that no worker has begun end at once; the others are waited for anyway. */
static void cancel_all(struct fl_file_queue *queue)
{
	struct io_uring *uring = &queue->ring.uring;

	for (unsigned int i = 0; i < queue->depth; i++) {
		struct io_uring_sqe *sqe;

		if (!queue->ops[i].busy)
			continue;
		sqe = io_uring_get_sqe(uring);
		if (!sqe)
			break;
		io_uring_prep_cancel(sqe, &queue->ops[i], 0);
		io_uring_sqe_set_data(sqe, NULL);
	}
	(void)hand_over(uring);
}

/* The kernel must be done with the buffers before the caller gets them back. */
static void uring_stop(struct fl_file_queue *queue)
{
	struct io_uring *uring = &queue->ring.uring;

	if (queue->ring.busy)
		cancel_all(queue);
	while (queue->ring.busy) {
		struct io_uring_cqe *cqe;
		int ret = io_uring_wait_cqe(uring, &cqe);

		if (ret == -EINTR || ret == -EAGAIN)
			continue;
		if (ret)
			break;
		if (io_uring_cqe_get_data(cqe))
			queue->ring.busy--;
		io_uring_cqe_seen(uring, cqe);
	}
	ring_is_unmapped();
	io_uring_queue_exit(uring);
}

const struct fl_file_backend fl_file_uring = {
	.start = uring_start,
	.submit = uring_submit,
	.reap = uring_reap,
	.stop = uring_stop,
};
