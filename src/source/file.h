/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_FILE_H
#define FL_SOURCE_FILE_H

/*
 * A file source, its queues, and the two back-ends that read what the page cache lacks. Private
 * to file*.c; the theory is in file_queue.c.
 */

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>

#include "source/extents.h"

/* Threads of one queue where io_uring is refused. */
#define FL_FILE_THREADS 4

/* An opened image; never changes, any thread may use it. */
struct fl_file {
	struct fl_source head;
	int fd;
	unsigned int flags;
	uint64_t length;
	bool in_memory; /* tmpfs and its like: a read never waits for a device, but for swap */
	struct fl_extents extents;
};

/* A read at the back-end; one of the queue's table. */
struct fl_file_op {
	struct fl_read *read;
	struct fl_file_op *next;
	uint64_t done_bytes;
	int result;
	unsigned short again; /* resubmissions that brought nothing */
	bool busy;            /* known to the kernel (io_uring) */
};

struct fl_file_list {
	struct fl_file_op *first;
	struct fl_file_op **tail;
};

struct fl_file_queue;

/* How a read that the page cache cannot answer is done; each ends in fl_file_queue_end(). */
struct fl_file_backend {
	int (*start)(struct fl_file_queue *queue);
	int (*submit)(struct fl_file_queue *queue, struct fl_file_op *op);
	void (*reap)(struct fl_file_queue *queue);
	void (*stop)(struct fl_file_queue *queue);
};

extern const struct fl_file_backend fl_file_uring;
extern const struct fl_file_backend fl_file_threads;

struct fl_file_ring {
	struct io_uring uring;
	unsigned int busy; /* reads that the kernel has */
};

/* The lists, fills_running and max are guarded by lock; no other lock is taken under it. */
struct fl_file_pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct fl_file_list demand;
	struct fl_file_list fill;
	struct fl_file_list finished;
	unsigned int fills_running;
	unsigned int max;   /* threads wanted; those that there are, once started */
	unsigned int count; /* threads[] that run; the owner's */
	atomic_bool stop;
	pthread_t threads[FL_FILE_THREADS];
};

/* Belongs to one thread. */
struct fl_file_queue {
	struct fl_queue head;
	struct fl_file *file;
	const struct fl_file_backend *backend; /* NULL until the first submit */
	int event_fd;
	unsigned int depth;
	bool never_at_once;         /* the file system knows no RWF_NOWAIT */
	int ended;                  /* by the reap under way */
	struct fl_file_op *free;    /* the ones of ops[] not in use */
	struct fl_file_list failed; /* could not be started: ended by the next reap */
	union {
		struct fl_file_ring ring;
		struct fl_file_pool pool;
	};
	struct fl_file_op ops[];
};

int fl_file_queue_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue);

/* Ends the read of op, from within reap(); op is free then. */
void fl_file_queue_end(struct fl_file_queue *queue, struct fl_file_op *op, int result);

/* Makes the queue's descriptor readable. Any thread. */
void fl_file_queue_signal(const struct fl_file_queue *queue);

static inline void fl_file_list_init(struct fl_file_list *list)
{
	list->first = NULL;
	list->tail = &list->first;
}

static inline void fl_file_list_put(struct fl_file_list *list, struct fl_file_op *op)
{
	op->next = NULL;
	*list->tail = op;
	list->tail = &op->next;
}

static inline struct fl_file_op *fl_file_list_take(struct fl_file_list *list)
{
	struct fl_file_op *op = list->first;

	if (op) {
		list->first = op->next;
		if (!list->first)
			list->tail = &list->first;
	}
	return op;
}

/* Empties the list; the chain that was in it. */
static inline struct fl_file_op *fl_file_list_take_all(struct fl_file_list *list)
{
	struct fl_file_op *first = list->first;

	fl_file_list_init(list);
	return first;
}

#endif
