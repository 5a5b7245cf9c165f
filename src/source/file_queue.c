/* SPDX-License-Identifier: MIT */

/*
 * Reading a file. Theory of operation
 *
 * attempt() is one preadv2(2) with RWF_NOWAIT: it copies what the page cache holds, and gives up
 * where a device would have to be waited for. A file system without RWF_NOWAIT says so once; one
 * that keeps its files in memory (tmpfs, hugetlbfs) is read without that flag, and waits for swap
 * only, which whoever puts snapshots there has chosen.
 *
 * What is submitted goes to a back-end: io_uring (file_uring.c), or, where that is refused or not
 * wanted, a few threads of the queue's own (file_threads.c). The back-end is made by the first
 * submit: a guest whose image is in the page cache never has one, and an idle queue is nothing
 * but its table and an eventfd. No back-end can be refused when the queue is opened, since threads
 * need no leave; should not even one thread be had at the first submit, that read ends with the
 * error, and the next one tries again.
 *
 * The eventfd is what the user polls. A back-end signals it at least once after each read it
 * finished. reap() empties it first and then looks for finished reads, at most as many as the
 * queue is deep: what is finished meanwhile has made it readable again, so nothing is missed, and
 * a done() that submits again cannot keep reap() from returning.
 *
 * The table of reads is made when the queue is opened; from then on nothing is allocated but by
 * the start of the back-end. All of it belongs to the one thread that uses the queue, but for what
 * file_threads.c has under its lock.
 */

#include "source/file.h"
#include "source/read.h"
#include "util/fd.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

static struct fl_file_queue *to_file_queue(struct fl_queue *queue)
{
	return (struct fl_file_queue *)queue;
}

static int file_attempt(struct fl_queue *head, void *buf, uint64_t len_bytes, uint64_t offset)
{
	struct fl_file_queue *queue = to_file_queue(head);
	struct iovec iov = {.iov_base = buf, .iov_len = len_bytes};
	ssize_t got;

	if (queue->never_at_once)
		return -EAGAIN;
	got = preadv2(queue->file->fd, &iov, 1, (off_t)offset,
		      queue->file->in_memory ? 0 : RWF_NOWAIT);
	if (got >= 0 && (uint64_t)got == len_bytes)
		return 0;
	if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
		queue->never_at_once = true;
	return -EAGAIN;
}

static int start_backend(struct fl_file_queue *queue)
{
	int ret;

	if (!(queue->file->flags & FL_FILE_NO_URING) && !fl_file_uring.start(queue)) {
		queue->backend = &fl_file_uring;
		return 0;
	}
	ret = fl_file_threads.start(queue);
	if (!ret)
		queue->backend = &fl_file_threads;
	return ret;
}

static int start_op(struct fl_file_queue *queue, struct fl_file_op *op)
{
	if (!queue->backend) {
		int ret = start_backend(queue);

		if (ret)
			return ret;
	}
	return queue->backend->submit(queue, op);
}

static int file_submit(struct fl_queue *head, struct fl_read *read)
{
	struct fl_file_queue *queue = to_file_queue(head);
	struct fl_file_op *op = queue->free;
	int ret;

	if (!op)
		return -EBUSY;
	queue->free = op->next;
	*op = (struct fl_file_op){.read = read};
	/* From here on op is the back-end's, unless that refused it. */
	ret = start_op(queue, op);
	if (ret) {
		op->result = ret;
		fl_file_list_put(&queue->failed, op);
		fl_file_queue_signal(queue);
	}
	return 0;
}

static int file_fd(struct fl_queue *head)
{
	return to_file_queue(head)->event_fd;
}

void fl_file_queue_signal(const struct fl_file_queue *queue)
{
	/* Fails only when the counter is full, and then it is readable. */
	(void)eventfd_write(queue->event_fd, 1);
}

void fl_file_queue_end(struct fl_file_queue *queue, struct fl_file_op *op, int result)
{
	struct fl_read *read = op->read;

	op->next = queue->free;
	queue->free = op;
	queue->ended++;
	fl_read_end(read, result);
}

static int file_reap(struct fl_queue *head)
{
	struct fl_file_queue *queue = to_file_queue(head);
	struct fl_file_op *op, *next;
	eventfd_t count;

	queue->ended = 0;
	(void)eventfd_read(queue->event_fd, &count);
	for (op = fl_file_list_take_all(&queue->failed); op; op = next) {
		next = op->next;
		fl_file_queue_end(queue, op, op->result);
	}
	if (queue->backend)
		queue->backend->reap(queue);
	return queue->ended;
}

static void file_queue_close(struct fl_queue *head)
{
	struct fl_file_queue *queue = to_file_queue(head);

	if (queue->backend)
		queue->backend->stop(queue);
	fl_fd_close(&queue->event_fd);
	free(queue);
}

static const struct fl_queue_ops file_queue_ops = {
	.size = sizeof(struct fl_queue_ops),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = file_attempt,
	.submit = file_submit,
	.fd = file_fd,
	.reap = file_reap,
	.close = file_queue_close,
};

int fl_file_queue_open(struct fl_source *source, unsigned int depth, struct fl_queue **head)
{
	struct fl_file_queue *queue = calloc(1, sizeof(*queue) + depth * sizeof(queue->ops[0]));

	if (!queue)
		return -ENOMEM;
	queue->head.ops = &file_queue_ops;
	queue->file = (struct fl_file *)source;
	queue->depth = depth;
	queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->event_fd < 0) {
		int ret = -errno;

		free(queue);
		return ret;
	}
	fl_file_list_init(&queue->failed);
	for (unsigned int i = depth; i--;) {
		queue->ops[i].next = queue->free;
		queue->free = &queue->ops[i];
	}
	*head = &queue->head;
	return 0;
}
