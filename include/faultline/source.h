/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_SOURCE_H
#define FAULTLINE_SOURCE_H

/*
 * Sources: where page contents come from; and filters: sources wrapped around a source.
 *
 * A source (a file, zeros) is shared by any number of pagers and never changes once opened. Each
 * pager reads it through a queue of its own, which belongs to the thread that runs that pager:
 * no lock is shared between guests.
 *
 * A read first asks fl_queue_try(), which answers at once or not at all. What it cannot answer is
 * given to fl_queue_submit() and ends in the read's done(), called from fl_queue_reap(). One read
 * structure carries a small stack of frames, so that a filter keeps its state for a read without
 * allocating: it pushes a frame on the way down and pops it on the way up.
 */

#include <stdbool.h>
#include <faultline/common.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fl_read;
struct fl_source;
struct fl_queue;

/** FL_READ_FRAMES - how many filters can be stacked on a source */
#define FL_READ_FRAMES 8

/**
 * struct fl_read_frame - what one filter keeps for a read while the layer below works on it
 * @done: called with the read when the layer below ended it; @done of the frame is popped already
 * @owner: the filter's queue
 * @words: whatever it needs: a count of tries, a start time in ns
 */
struct fl_read_frame {
	void (*done)(struct fl_read *read, struct fl_read_frame *frame);
	void *owner;
	uint64_t words[2];
};

/** FL_READ_FILL - nobody waits for this read: a demand may overtake it */
#define FL_READ_FILL (1u << 0)

/**
 * struct fl_read - one read under way
 * @buf: where the contents go, @len_bytes
 * @offset: position in the image, in bytes
 * @len_bytes: length; must lie within the source
 * @flags: FL_READ_*
 * @result: 0 when @buf is filled whole; negative errno when not
 * @done: called once, by the thread that calls fl_queue_reap(), when the read has ended
 * @ctx: for the one who submitted it
 * @depth: frames in use
 * @frames: the filters' frames
 * @next: for whoever holds the read now, to put it in a list
 * @due_ns: for a filter that holds the read for a time: CLOCK_MONOTONIC, in ns
 * @place: for sources with FL_SOURCE_PIECES or FL_SOURCE_DIRECT, or NULL for @buf: where bytes from an offset within the
 *	read on may be written now. Cuts *@len_bytes down to what is together there, to whole units of
 *	4096 bytes. Asked anew for every step of a transfer: the answer holds until fl_queue_reap() returns;
 *	with FL_SOURCE_DIRECT until those bytes have arrived(), the read has ended, or fl_queue_quiesce()
 *	returned. NULL: those bytes are not wanted any more
 * @arrived: likewise, or NULL: a piece is in place, whole and right; pieces come in any order, each byte
 *	once, all of them before @done
 * @zeros: likewise, or NULL: a piece, of whole units of 4096 bytes, reads as zeros, and nothing was written for
 *	it: instead of @place and @arrived, so that zeros need no memory. A source may never call it, and
 *	must not where it is NULL
 */
struct fl_read {
	void *buf;
	uint64_t offset;
	uint64_t len_bytes;
	uint32_t flags;
	int result;
	void (*done)(struct fl_read *read);
	void *ctx;
	unsigned int depth;
	struct fl_read_frame frames[FL_READ_FRAMES];
	struct fl_read *next;
	uint64_t due_ns;
	void *(*place)(struct fl_read *read, uint64_t offset, uint64_t *len_bytes);
	void (*arrived)(struct fl_read *read, uint64_t offset, uint64_t len_bytes);
	void (*zeros)(struct fl_read *read, uint64_t offset, uint64_t len_bytes);
};

/** FL_QUEUE_OPS_VERSION - version of struct fl_queue_ops described here */
#define FL_QUEUE_OPS_VERSION 1

/**
 * struct fl_queue_ops - how one kind of source is read
 * @size: sizeof(struct fl_queue_ops) as the implementation was compiled; later fields are absent
 * @version: FL_QUEUE_OPS_VERSION
 * @flags: none yet, 0
 * @attempt: fill the buffer at once, or say -EAGAIN; never blocks on a device or a network
 * @submit: start a read that ends in its done()
 * @fd: the descriptor that is readable when reap() has something to do, or -1 when that never is
 * @reap: end all reads that are finished; returns how many
 * @close: wait for the reads in flight, drop them without done(), and free the queue
 * @hurry: someone waits for a part of a read that was submitted with FL_READ_FILL; NULL where that
 *	changes nothing
 * @quiesce: return when nothing of a read is being written; of sources with FL_SOURCE_DIRECT
 */
struct fl_queue_ops {
	uint32_t size;
	uint32_t version;
	uint32_t flags;
	int (*attempt)(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset);
	int (*submit)(struct fl_queue *queue, struct fl_read *read);
	int (*fd)(struct fl_queue *queue);
	int (*reap)(struct fl_queue *queue);
	void (*close)(struct fl_queue *queue);
	void (*hurry)(struct fl_queue *queue, struct fl_read *read, uint64_t offset,
		      uint64_t len_bytes);
	void (*quiesce)(struct fl_queue *queue, struct fl_read *read);
};

/**
 * struct fl_queue - the head of every queue; belongs to one thread
 * @ops: its kind
 */
struct fl_queue {
	const struct fl_queue_ops *ops;
};

/**
 * FL_SOURCE_PIECES - reads end piece by piece, written by the thread that reaps and by nothing else
 *
 * Such a source fills memory through the read's place(), so that contents can go straight to where the
 * guest will see them: nothing is written behind the back of the thread that runs the pager.
 */
#define FL_SOURCE_PIECES (1u << 0)

/**
 * FL_SOURCE_DIRECT - reads end piece by piece, written by a device at any time
 *
 * As FL_SOURCE_PIECES, but what the read's place() answered is written behind the back of the thread
 * that runs the pager, until the piece has arrived(). Before such memory is used for anything else,
 * zeros above all, fl_queue_quiesce() must have returned.
 */
#define FL_SOURCE_DIRECT (1u << 1)

/** FL_SOURCE_OPS_VERSION - version of struct fl_source_ops described here */
#define FL_SOURCE_OPS_VERSION 1

/**
 * struct fl_extent - a stretch of an image that is alike
 * @len_bytes: how far it goes from the offset that was asked for
 * @zeros: it reads as zeros, and need not be read
 */
struct fl_extent {
	uint64_t len_bytes;
	bool zeros;
};

/**
 * struct fl_source_ops - one kind of source
 * @size: sizeof(struct fl_source_ops) as the implementation was compiled; later fields are absent
 * @version: FL_SOURCE_OPS_VERSION
 * @flags: FL_SOURCE_PIECES, FL_SOURCE_DIRECT or 0
 * @name: "file", "zero", "retry", ...
 * @length: length of the image in bytes; UINT64_MAX when it has no end
 * @extent: what is known, without any I/O, of the bytes from an offset on
 * @open: a queue with room for depth reads at a time
 * @close: free the source; of a filter, the source below too
 */
struct fl_source_ops {
	uint32_t size;
	uint32_t version;
	uint32_t flags;
	const char *name;
	uint64_t (*length)(struct fl_source *source);
	void (*extent)(struct fl_source *source, uint64_t offset, struct fl_extent *extent);
	int (*open)(struct fl_source *source, unsigned int depth, struct fl_queue **queue);
	void (*close)(struct fl_source *source);
};

/**
 * struct fl_source - the head of every source; shared, never changed once opened
 * @ops: its kind
 */
struct fl_source {
	const struct fl_source_ops *ops;
};

/** FL_FILE_NO_URING - read a file by threads even where io_uring is offered (for tests) */
#define FL_FILE_NO_URING (1u << 0)

/**
 * fl_source_file_open() - a raw image file, or a block device
 * @source: receives the source
 * @path: the file; opened read-only
 * @flags: FL_FILE_*
 * @err: receives the reason, naming @path, or NULL
 *
 * What the page cache holds is answered at once (preadv2(2) with RWF_NOWAIT), and so is a file of
 * tmpfs or hugetlbfs, which waits for swap at worst; the rest is read by
 * io_uring, or by a few threads where that is refused. Holes (lseek(2) SEEK_HOLE) are found when
 * the file is opened and are zeros without a read. A read that ends before its length is an error
 * (-ENODATA): a file that was cut while served never turns into zeros, neither by its reads nor by
 * its holes.
 *
 * Return: 0; -EISDIR or -EINVAL when it is neither a file nor a block device, -EINVAL for unknown
 * @flags, -ENODATA when it is empty, -ENOMEM, and what open(2) and fstat(2) return.
 */
FL_API int fl_source_file_open(struct fl_source **source, const char *path, unsigned int flags,
			       struct fl_error *err);

/**
 * fl_source_zero_open() - zeros, without an end
 * @source: receives the source
 *
 * Return: 0; -ENOMEM.
 */
FL_API int fl_source_zero_open(struct fl_source **source);

/**
 * struct fl_source_stats - what a statistics filter counted, over all its queues
 * @attempts: reads answered at once
 * @submits: reads that had to wait
 * @errors: reads that failed
 * @bytes: bytes delivered
 */
struct fl_source_stats {
	uint64_t attempts;
	uint64_t submits;
	uint64_t errors;
	uint64_t bytes;
};

/**
 * fl_filter_stats_new() - count what passes
 * @source: in: the source to wrap, owned by the filter from then on; out: the filter
 *
 * Return: 0; -E2BIG when FL_READ_FRAMES filters are stacked already, -ENOMEM; @source is unchanged
 * then.
 */
FL_API int fl_filter_stats_new(struct fl_source **source);

/**
 * fl_filter_stats_read() - what a statistics filter has counted
 * @source: a source made by fl_filter_stats_new()
 * @stats: receives the counts; any thread may ask
 *
 * Return: 0; -EINVAL when @source is no statistics filter.
 */
FL_API int fl_filter_stats_read(struct fl_source *source, struct fl_source_stats *stats);

/**
 * fl_filter_delay_new() - let every read take longer
 * @source: in: the source to wrap; out: the filter
 * @delay_us: how much longer, in microseconds
 *
 * Return: 0; -E2BIG when FL_READ_FRAMES filters are stacked already, -ENOMEM; @source is unchanged
 * then.
 */
FL_API int fl_filter_delay_new(struct fl_source **source, uint64_t delay_us);

/**
 * struct fl_error_rule - which reads an error filter fails
 * @code: positive errno they fail with
 * @every: every n-th read that touches the range fails; 1 for all
 * @first: only the first n that would fail do; 0 for no limit
 * @offset: start of the range, in bytes of the image
 * @len_bytes: its length; 0 for up to the end
 */
struct fl_error_rule {
	int code;
	uint64_t every;
	uint64_t first;
	uint64_t offset;
	uint64_t len_bytes;
};

/**
 * fl_filter_error_new() - fail some reads
 * @source: in: the source to wrap; out: the filter
 * @rule: which ones
 *
 * What is known to be zeros within the range counts as data, so that it is read and can fail.
 *
 * Return: 0; -EINVAL for a @code or @every that is not positive, -E2BIG when FL_READ_FRAMES filters
 * are stacked already, -ENOMEM; @source is unchanged then.
 */
FL_API int fl_filter_error_new(struct fl_source **source, const struct fl_error_rule *rule);

/**
 * struct fl_retry_policy - how often and how patiently to try again
 * @tries: how many times a read is tried in all, 1 or more
 * @first_ms: wait before the second try, in milliseconds; doubled for each further one
 * @max_ms: the longest wait
 */
struct fl_retry_policy {
	unsigned int tries;
	unsigned int first_ms;
	unsigned int max_ms;
};

/**
 * fl_filter_retry_new() - try failed reads again, with bounded backoff
 * @source: in: the source to wrap; out: the filter
 * @policy: how often
 *
 * What waiting cannot change is not tried again: -ENODATA, -EINVAL, -EBADF, -EFAULT, -EOPNOTSUPP,
 * -EPERM, -EACCES.
 *
 * Return: 0; -EINVAL for no tries at all, -E2BIG when FL_READ_FRAMES filters are stacked already,
 * -ENOMEM; @source is unchanged then.
 */
FL_API int fl_filter_retry_new(struct fl_source **source, const struct fl_retry_policy *policy);

/**
 * fl_filter_parse() - wrap a source as a line of text says
 * @source: in: the source to wrap; out: the filter
 * @spec: "stats", "delay=2ms" (us, ms, s), "error=EIO[,every=N][,first=N][,range=OFFSET+LENGTH]",
 *	"retry=TRIES[,first=10ms][,max=500ms]"; numbers may end in K, M or G where they are bytes
 * @err: receives the reason, naming what is wrong in @spec, or NULL
 *
 * Return: 0; -EINVAL for text that is none of these, -E2BIG when more than FL_READ_FRAMES filters
 * are stacked, -ENOMEM; @source is unchanged then.
 */
FL_API int fl_filter_parse(struct fl_source **source, const char *spec, struct fl_error *err);

/**
 * fl_source_length() - length of the image
 * @source: the source
 *
 * Return: bytes; UINT64_MAX when it has no end.
 */
FL_API uint64_t fl_source_length(struct fl_source *source);

/**
 * fl_source_extent() - what is known, without any I/O, of the bytes from an offset on
 * @source: the source
 * @offset: below its length
 * @extent: receives how far the stretch goes and whether it is all zeros
 */
FL_API void fl_source_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent);

/**
 * fl_source_read() - read and wait, for those who have no loop of their own
 * @source: the source
 * @buf: receives the bytes
 * @len_bytes: how many
 * @offset: position in the image
 *
 * Opens a queue for the one read; zeros are filled in where the source has holes.
 *
 * Return: 0; -ENODATA when the source ends earlier; what the source's reads fail with; -ENOMEM.
 */
FL_API int fl_source_read(struct fl_source *source, void *buf, uint64_t len_bytes, uint64_t offset);

/**
 * fl_source_close() - let a source go, and the sources it wraps; its queues must be closed
 * @source: the source, or NULL
 */
FL_API void fl_source_close(struct fl_source *source);

/**
 * fl_queue_open() - a way to read a source, for one thread
 * @source: the source, which must outlive the queue
 * @depth: how many reads may be in flight at a time, 1 to 4096
 * @queue: receives the queue
 *
 * Return: 0; -EINVAL for a @depth out of range, -ENOMEM, -EMFILE, -ENFILE.
 */
FL_API int fl_queue_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue);

/**
 * fl_queue_try() - read now or not at all
 * @queue: the queue
 * @buf: receives the bytes
 * @len_bytes: how many
 * @offset: position in the image
 *
 * Return: 0 when @buf is filled whole; -EAGAIN when the read has to be submitted, also when it
 * would fail: what it fails with is told there.
 */
FL_API int fl_queue_try(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset);

/**
 * fl_queue_submit() - start a read
 * @queue: the queue
 * @read: the read, with @buf, @offset, @len_bytes, @flags and @done set and @depth 0; it must stay
 *	until done() was called
 *
 * done() is never called from within this function; it may submit further reads itself. Allocates
 * nothing, but for a file's first one, which starts what reads in the background.
 *
 * Return: 0; -EBUSY when as many reads as the queue has room for are in flight, -E2BIG when filters
 * of others have used up the frames.
 */
FL_API int fl_queue_submit(struct fl_queue *queue, struct fl_read *read);

/**
 * fl_queue_fd() - what to poll (POLLIN) for finished reads
 * @queue: the queue
 *
 * While reads of a file are in flight, the kernel's work for them may interrupt what the thread
 * sleeps in: poll(2) and epoll_wait(2) can return -1 with EINTR without a signal.
 *
 * Return: the descriptor, which stays the queue's; -1 when every read is answered by fl_queue_try()
 * (one that is submitted nevertheless ends at the next fl_queue_reap()).
 */
FL_API int fl_queue_fd(struct fl_queue *queue);

/**
 * fl_queue_reap() - end the reads that are finished, without blocking
 * @queue: the queue
 *
 * Return: how many reads of this queue's user were ended, each by a call of its done().
 */
FL_API int fl_queue_reap(struct fl_queue *queue);

/**
 * fl_queue_hurry() - someone waits for a part of a read that nobody waited for
 * @queue: the queue
 * @read: a read of it that is under way
 * @offset: of the part, in the image
 * @len_bytes: its length
 */
FL_API void fl_queue_hurry(struct fl_queue *queue, struct fl_read *read, uint64_t offset,
			   uint64_t len_bytes);

/**
 * fl_queue_quiesce() - wait until nothing of a read is being written
 * @queue: the queue
 * @read: a read of it that is under way
 *
 * Does nothing for sources without FL_SOURCE_DIRECT. Calls neither arrived() nor done(): what came
 * meanwhile is told by the next fl_queue_reap(), and what was not begun asks place() anew there.
 * Waits for the device, no longer than until the read's own timeout; what is not over then is cut off,
 * and with it all reads of the queue.
 */
FL_API void fl_queue_quiesce(struct fl_queue *queue, struct fl_read *read);

/**
 * fl_queue_close() - wait for what the device still writes, and free the queue
 * @queue: the queue, or NULL; reads in flight are dropped, their done() is not called
 */
FL_API void fl_queue_close(struct fl_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
