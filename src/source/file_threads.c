/* SPDX-License-Identifier: MIT */

/*
 * Reads by threads, where io_uring is refused. Theory of operation
 *
 * A few threads belong to one queue and are started by its first submit. Demands are taken before
 * fills, and fills never occupy the last thread, so that a demand waits for no fill. A finished
 * read goes to a list that the queue's owner takes as a whole; the eventfd is signalled when that
 * list stops being empty.
 *
 * A read passes from the owner to a worker and back under the pool's lock, and belongs to one of
 * them at a time. The lock is held for the moving of pointers alone.
 */

#include "source/file.h"
#include "util/thread.h"

#include <errno.h>
#include <unistd.h>

/* What a thread reads before it looks whether the queue is being closed. */
#define STEP_BYTES (8ULL << 20)
/* The deepest a worker gets is pread(). */
#define STACK_BYTES (256u << 10)

static int read_step(struct fl_file_queue *queue, struct fl_file_op *op)
{
	const struct fl_read *read = op->read;
	uint64_t left = read->len_bytes - op->done_bytes;
	ssize_t got = pread(queue->file->fd, (char *)read->buf + op->done_bytes,
			    left < STEP_BYTES ? left : STEP_BYTES,
			    (off_t)(read->offset + op->done_bytes));

	if (got < 0)
		return errno == EINTR ? 0 : -errno;
	if (!got)
		return -ENODATA;
	op->done_bytes += (uint64_t)got;
	return 0;
}

static int read_whole(struct fl_file_queue *queue, struct fl_file_op *op)
{
	while (op->done_bytes < op->read->len_bytes) {
		int ret = read_step(queue, op);

		if (ret)
			return ret;
		if (atomic_load_explicit(&queue->pool.stop, memory_order_relaxed))
			return -ECANCELED;
	}
	return 0;
}

static bool is_fill(const struct fl_file_op *op)
{
	return op->read->flags & FL_READ_FILL;
}

/* Under the lock. */
static struct fl_file_op *take(struct fl_file_pool *pool)
{
	struct fl_file_op *op = fl_file_list_take(&pool->demand);

	if (!op && (pool->fills_running + 1 < pool->max || pool->max == 1)) {
		op = fl_file_list_take(&pool->fill);
		if (op)
			pool->fills_running++;
	}
	return op;
}

/* Under the lock. */
static void finish(struct fl_file_queue *queue, struct fl_file_op *op)
{
	struct fl_file_pool *pool = &queue->pool;

	if (is_fill(op))
		pool->fills_running--;
	if (!pool->finished.first)
		fl_file_queue_signal(queue);
	fl_file_list_put(&pool->finished, op);
}

static void *worker(void *arg)
{
	struct fl_file_queue *queue = arg;
	struct fl_file_pool *pool = &queue->pool;

	pthread_mutex_lock(&pool->lock);
	while (!atomic_load_explicit(&pool->stop, memory_order_relaxed)) {
		struct fl_file_op *op = take(pool);

		if (!op) {
			pthread_cond_wait(&pool->work, &pool->lock);
			continue;
		}
		pthread_mutex_unlock(&pool->lock);
		op->result = read_whole(queue, op);
		pthread_mutex_lock(&pool->lock);
		finish(queue, op);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static int start_workers(struct fl_file_queue *queue)
{
	struct fl_file_pool *pool = &queue->pool;
	int ret = 0;

	pthread_mutex_lock(&pool->lock);
	while (!ret && pool->count < pool->max) {
		ret = fl_thread_start(&pool->threads[pool->count], STACK_BYTES, worker, queue);
		if (!ret)
			pool->count++;
	}
	/* Fewer will do. */
	pool->max = pool->count;
	pthread_mutex_unlock(&pool->lock);
	return pool->count ? 0 : ret;
}

static void pool_destroy(struct fl_file_pool *pool)
{
	(void)pthread_cond_destroy(&pool->work);
	(void)pthread_mutex_destroy(&pool->lock);
}

static int threads_start(struct fl_file_queue *queue)
{
	struct fl_file_pool *pool = &queue->pool;
	int ret;

	*pool = (struct fl_file_pool){.max = queue->depth};
	if (pool->max > FL_FILE_THREADS)
		pool->max = FL_FILE_THREADS;
	fl_file_list_init(&pool->demand);
	fl_file_list_init(&pool->fill);
	fl_file_list_init(&pool->finished);
	(void)pthread_mutex_init(&pool->lock, NULL);
	(void)pthread_cond_init(&pool->work, NULL);
	ret = start_workers(queue);
	if (ret)
		pool_destroy(pool);
	return ret;
}

static int threads_submit(struct fl_file_queue *queue, struct fl_file_op *op)
{
	struct fl_file_pool *pool = &queue->pool;

	pthread_mutex_lock(&pool->lock);
	fl_file_list_put(is_fill(op) ? &pool->fill : &pool->demand, op);
	pthread_mutex_unlock(&pool->lock);
	(void)pthread_cond_signal(&pool->work);
	return 0;
}

static void threads_reap(struct fl_file_queue *queue)
{
	struct fl_file_pool *pool = &queue->pool;
	struct fl_file_op *op, *next;

	pthread_mutex_lock(&pool->lock);
	op = fl_file_list_take_all(&pool->finished);
	pthread_mutex_unlock(&pool->lock);
	for (; op; op = next) {
		next = op->next;
		fl_file_queue_end(queue, op, op->result);
	}
}

static void threads_stop(struct fl_file_queue *queue)
{
	struct fl_file_pool *pool = &queue->pool;

	pthread_mutex_lock(&pool->lock);
	atomic_store_explicit(&pool->stop, true, memory_order_relaxed);
	pthread_mutex_unlock(&pool->lock);
	(void)pthread_cond_broadcast(&pool->work);
	for (unsigned int i = 0; i < pool->count; i++)
		(void)pthread_join(pool->threads[i], NULL);
	pool_destroy(pool);
}

const struct fl_file_backend fl_file_threads = {
	.start = threads_start,
	.submit = threads_submit,
	.reap = threads_reap,
	.stop = threads_stop,
};
