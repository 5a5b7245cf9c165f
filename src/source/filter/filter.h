/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_FILTER_H
#define FL_SOURCE_FILTER_H

/*
 * What all filters share: a source that owns the source below, a queue that owns a queue below.
 *
 * A filter says what it does with a read by attempt() and submit(). It admits a read, passes it on
 * with a frame or holds it for a time, and in the end lets it leave:
 *
 *	submit() -> fl_filter_admit() -> fl_filter_pass() -> queue below -> the frame's done()
 *	                 |                     ^                              |       |
 *	                 '-> fl_filter_hold() -+- due()          (try again) -'       v
 *	                                       '---------------------------> fl_filter_leave()
 *
 * The frame is pushed by pass() and popped before done(), so a read that is held has none; its
 * words stay where they are (fl_filter_words()). Since the filter admits no more reads than the
 * queue below has room for, a read that it held is never refused there.
 */

#include "source/filter/timer.h"

struct fl_filter_queue;

struct fl_filter_kind {
	struct fl_source_ops source; /* its flags: what it keeps of the source below */
	struct fl_queue_ops queue;
	/* The time of a read that was held has come; NULL for a filter that holds none. */
	void (*due)(struct fl_filter_queue *queue, struct fl_read *read);
};

/* Never changes, but for atomic counters behind it; a filter puts what it needs behind this. */
struct fl_filter {
	struct fl_source head;
	struct fl_source_ops ops; /* the kind's, with the flags of this one */
	const struct fl_filter_kind *kind;
	struct fl_source *below;
	unsigned int level; /* filters from here down */
};

/* Belongs to one thread. */
struct fl_filter_queue {
	struct fl_queue head;
	struct fl_filter *filter;
	struct fl_queue *below;
	int below_fd;
	int poll_fd; /* the epoll descriptor of the filters from here down, or -1 */
	unsigned int depth;
	unsigned int in_flight;
	int ended;           /* by the reap under way */
	struct fl_hold hold; /* of kinds with due() */
};

/*
 * Wraps *source; size is that of the structure that struct fl_filter stands at the head of.
 * Return: 0, *source is the filter then; -E2BIG, -ENOMEM.
 */
int fl_filter_new(struct fl_source **source, const struct fl_filter_kind *kind, size_t size);

/* Whether source is a filter of that kind. */
bool fl_filter_is(const struct fl_source *source, const struct fl_filter_kind *kind);

uint64_t fl_filter_length(struct fl_source *source);
void fl_filter_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent);
int fl_filter_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue);
void fl_filter_close(struct fl_source *source);

int fl_filter_attempt(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset);
int fl_filter_fd(struct fl_queue *queue);
int fl_filter_reap(struct fl_queue *queue);
/* Passes it on for a read that is below, not for one that is held. */
void fl_filter_hurry(struct fl_queue *queue, struct fl_read *read, uint64_t offset,
		     uint64_t len_bytes);
void fl_filter_queue_close(struct fl_queue *queue);

/* its_flags: FL_SOURCE_PIECES where pieces of a read may come while the filter knows nothing of it:
 * not where a read that has failed is passed on once more. */
#define FL_FILTER_SOURCE_OPS(its_name, its_extent, its_flags)                            \
	{                                                                                \
		.size = sizeof(struct fl_source_ops), .version = FL_SOURCE_OPS_VERSION,  \
		.flags = (its_flags), .name = (its_name), .length = fl_filter_length,    \
		.extent = (its_extent), .open = fl_filter_open, .close = fl_filter_close \
	}

#define FL_FILTER_QUEUE_OPS(its_attempt, its_submit)                                             \
	{                                                                                        \
		.size = sizeof(struct fl_queue_ops), .version = FL_QUEUE_OPS_VERSION,            \
		.attempt = (its_attempt), .submit = (its_submit), .fd = fl_filter_fd,            \
		.reap = fl_filter_reap, .close = fl_filter_queue_close, .hurry = fl_filter_hurry \
	}

static inline struct fl_filter_queue *fl_filter_queue(struct fl_queue *queue)
{
	return (struct fl_filter_queue *)queue;
}

/* The words of this filter's frame; valid from admission until the read leaves. */
static inline uint64_t *fl_filter_words(struct fl_read *read)
{
	return read->frames[read->depth].words;
}

/* Takes a read in. Return: 0; -EBUSY when the queue is full, -E2BIG when the frames are used up. */
int fl_filter_admit(struct fl_filter_queue *queue, struct fl_read *read);

/* Takes back the admission of a read that submit() refuses after all; returns ret. */
int fl_filter_refuse(struct fl_filter_queue *queue, int ret);

/* Submits the read below; done is called when it ended there. Return: as fl_queue_submit(). */
int fl_filter_pass(struct fl_filter_queue *queue, struct fl_read *read,
		   void (*done)(struct fl_read *read, struct fl_read_frame *frame));

/* Calls due() with the read after that time, from reap(). */
void fl_filter_hold(struct fl_filter_queue *queue, struct fl_read *read, uint64_t wait_ns);

/* Ends the read; from reap(). */
void fl_filter_leave(struct fl_filter_queue *queue, struct fl_read *read, int result);

#endif
