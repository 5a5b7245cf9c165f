/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_PAGER_H
#define FAULTLINE_PAGER_H

/*
 * The pager: the engine for one guest. It turns faults into reads of a source and reads into
 * installs, and fills the rest in the background.
 *
 * One thread runs a pager: one of the caller's, which polls fl_pager_fd() and calls fl_pager_run(),
 * or one of the pager's own, started by fl_pager_start(). Pagers share nothing with each other
 * except sources, which never change.
 */

#include <faultline/common.h>
#include <faultline/memory.h>
#include <faultline/trap.h>
#include <faultline/install.h>
#include <faultline/source.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct fl_wset - a working set: pages in the order of their first touch; opaque
 *
 * Pages are kept as offsets in the image, so that a set recorded from one guest can be replayed
 * for any guest restored from the same image.
 */
struct fl_wset;

/**
 * fl_wset_new() - an empty working set, to record into
 * @set: receives the set
 * @image_len: length of the image in bytes
 * @page_size: unit in bytes: 4 KiB, 2 MiB or 1 GiB
 *
 * Room for every page of the image is reserved now, so that recording allocates nothing; memory is
 * used as pages are added.
 *
 * Return: 0; -EINVAL for another @page_size, -EFBIG for an image of 2^32 pages or more, -ENOMEM.
 */
FL_API int fl_wset_new(struct fl_wset **set, uint64_t image_len, uint64_t page_size);

/**
 * fl_wset_add() - a page was touched for the first time
 * @set: a set made by fl_wset_new()
 * @offset: any byte of the page, in the image
 *
 * A page that is in the set already keeps its place.
 *
 * Return: 0; -ERANGE when the offset lies outside the image.
 */
FL_API int fl_wset_add(struct fl_wset *set, uint64_t offset);

/**
 * fl_wset_count() - how many pages are in a set
 * @set: the set
 *
 * Return: the number of pages.
 */
FL_API uint64_t fl_wset_count(const struct fl_wset *set);

/**
 * fl_wset_offset() - one page of a set
 * @set: the set
 * @index: its place in the order of first touch, below fl_wset_count()
 *
 * Return: the offset of its first byte in the image.
 */
FL_API uint64_t fl_wset_offset(const struct fl_wset *set, uint64_t index);

/**
 * fl_wset_plan() - make a recorded set ready to be replayed in large reads
 * @set: the set; nothing may be added or replayed meanwhile
 *
 * fl_wset_parse() and fl_wset_load() do this themselves. A set without a plan is replayed page by
 * page in the order of first touch; pages that are added later are left out of a plan made before.
 *
 * Return: 0; -ENOMEM, the set is as before then.
 */
FL_API int fl_wset_plan(struct fl_wset *set);

/**
 * fl_wset_page_size() - the unit of a set
 * @set: the set
 *
 * Return: bytes.
 */
FL_API uint64_t fl_wset_page_size(const struct fl_wset *set);

/**
 * fl_wset_parse() - read the bytes of a working-set file, see faultline-wset(5)
 * @set: receives the set
 * @bytes: the whole file
 * @len_bytes: its length
 * @err: receives the reason, naming what and at which byte, or NULL
 *
 * Return: 0; -EINVAL for anything malformed: magic, version, unit, length, checksum, a page beyond
 * the image or listed twice; -ENOMEM.
 */
FL_API int fl_wset_parse(struct fl_wset **set, const void *bytes, size_t len_bytes,
			 struct fl_error *err);

/**
 * fl_wset_load() - read a working-set file and check that it belongs to an image
 * @set: receives the set
 * @path: the file
 * @image: the image that it is for
 * @err: receives the reason, naming @path, or NULL
 *
 * An image is recognised by its length and a checksum over 64 pages spread evenly over it. A set
 * only says what to read early, so an image that is taken for another costs time, never contents.
 *
 * Return: 0; -EINVAL when the file is malformed; -ESTALE when it belongs to another image; -ENOMEM,
 * what open(2) and read(2) return, and what reading the image returns.
 */
FL_API int fl_wset_load(struct fl_wset **set, const char *path, struct fl_source *image,
			struct fl_error *err);

/**
 * fl_wset_save() - write a working-set file
 * @set: the set
 * @path: the file; replaced at once when it exists, so that no one reads half of it
 * @image: the image that it was recorded from
 * @err: receives the reason, naming @path, or NULL
 *
 * Return: 0; -EINVAL when the image has another length than the set was made for; what open(2),
 * write(2), fsync(2) and rename(2) return, and what reading the image returns.
 */
FL_API int fl_wset_save(const struct fl_wset *set, const char *path, struct fl_source *image,
			struct fl_error *err);

/**
 * fl_wset_free() - let a set go
 * @set: the set, or NULL
 */
FL_API void fl_wset_free(struct fl_wset *set);

/** FL_PAGER_FILL - read ahead of need, until every page is present */
#define FL_PAGER_FILL (1u << 0)
/** FL_PAGER_RELEASE - when every page is present, release the trap: native speed from then on */
#define FL_PAGER_RELEASE (1u << 1)
/** FL_PAGER_TAKEOVER - the table comes from a pager that died: void its claims, wake everyone */
#define FL_PAGER_TAKEOVER (1u << 2)
/** FL_PAGER_NEAR - fill near the page that was touched last first, then the rest in order */
#define FL_PAGER_NEAR (1u << 3)

/** FL_AROUND_DEFAULT - bytes that are installed around a fault, unless said otherwise */
#define FL_AROUND_DEFAULT (64u * 1024)
/** FL_AROUND_MAX - most bytes that can be installed around a fault */
#define FL_AROUND_MAX (2u * 1024 * 1024)
/** FL_WINDOW_DEFAULT - bytes of fill reads under way at a time, unless said otherwise */
#define FL_WINDOW_DEFAULT (2u * 1024 * 1024)
/** FL_WINDOW_MAX - most bytes of fill reads that can be under way */
#define FL_WINDOW_MAX (64u * 1024 * 1024)

/**
 * struct fl_pager_options - how a pager behaves; start from fl_pager_options_init()
 * @size: sizeof(struct fl_pager_options) as the caller was compiled
 * @flags: FL_PAGER_*
 * @around_bytes: how much is installed around a fault: a power of two, at most FL_AROUND_MAX; up
 *	to a page size turns it off
 * @window_bytes: how much filling may have under way at a time, 128 KiB to FL_WINDOW_MAX: in reads of
 *	512 KiB (or the window, when that is less), or of a page each where pages are larger
 * @spin_us: how long the pager's own thread looks for the next fault before it sleeps, in
 *	microseconds: trades processor time for latency
 * @pagemap_fd: /proc/PID/pagemap of the VMM for contradicting answers, or -1; the caller keeps it
 * @record: a set that first touches are added to, or NULL; it must outlive the pager
 * @replay: a set that is filled first, with or without FL_PAGER_FILL, or NULL; likewise
 * @log: where messages go
 * @ended: called once by the pager's own thread, with what fl_pager_run() returned, when it ends
 *	without fl_pager_stop(); or NULL
 * @ctx: handed to @ended
 */
struct fl_pager_options {
	size_t size;
	uint32_t flags;
	uint32_t around_bytes;
	uint32_t window_bytes;
	uint32_t spin_us;
	int pagemap_fd;
	struct fl_wset *record;
	const struct fl_wset *replay;
	struct fl_log log;
	void (*ended)(void *ctx, int result);
	void *ctx;
};

/**
 * struct fl_pager_parts - what a pager works with; all of it must outlive the pager
 * @layout: the guest's memory; changed only by the thread that runs the pager
 * @table: its page states
 * @trap: reports the faults
 * @install: makes pages present
 * @source: has the contents
 */
struct fl_pager_parts {
	struct fl_layout *layout;
	struct fl_table *table;
	struct fl_trap *trap;
	struct fl_install *install;
	struct fl_source *source;
};

/**
 * enum fl_fault_kind - how a fault was answered
 * @FL_FAULT_HIT: the source answered at once
 * @FL_FAULT_MISS: the source had to be waited for
 * @FL_FAULT_JOINED: the page was on its way already
 * @FL_FAULT_ZERO: zeros: a hole of the image, or a page that the guest gave back
 * @FL_FAULT_MAPPED: the page was present and only had to be mapped (minor), or write-enabled
 */
enum fl_fault_kind { FL_FAULT_HIT, FL_FAULT_MISS, FL_FAULT_JOINED, FL_FAULT_ZERO, FL_FAULT_MAPPED };

/** FL_FAULT_KINDS - how many kinds there are */
#define FL_FAULT_KINDS 5

/**
 * struct fl_fault_stats - the faults of one kind
 * @count: how many
 * @p50_ns: median time from reading the fault to waking its thread, in ns
 * @p99_ns: 99th percentile of it
 * @max_ns: the longest
 */
struct fl_fault_stats {
	uint64_t count;
	uint64_t p50_ns;
	uint64_t p99_ns;
	uint64_t max_ns;
};

/**
 * struct fl_pager_stats - what a pager has done so far
 * @size: sizeof(struct fl_pager_stats) as the caller was compiled
 * @pages: pages of the guest
 * @left: pages that were neither installed, removed nor poisoned yet
 * @demand: pages that came because they were touched
 * @around: pages that came with a page that was touched
 * @fill: pages that came ahead of need
 * @replay: of those, pages of the working set, and the few between two of them
 * @adopted: pages that were in place already, and were mapped, released or known as zeros; counted
 *	neither as demand nor as fill
 * @released: of these, pages whose range was released
 * @adopt_ns: time from fl_pager_adopt() until all of them were had, in ns; 0 before
 * @zero: pages of any of these ways that came without a read, as zeros
 * @removed: pages that the guest gave back, each time counted
 * @poisoned: pages that could not be supplied
 * @duplicates: faults that only had to be woken, because their page was present already
 * @retries: installs that were tried again
 * @errors: reads of the source that failed for good
 * @faults: by how they were answered; zeros count once
 * @full_ns: time from fl_pager_new() until no page was left, 0 while some are, in ns
 */
struct fl_pager_stats {
	size_t size;
	uint64_t pages;
	uint64_t left;
	uint64_t demand;
	uint64_t around;
	uint64_t fill;
	uint64_t replay;
	uint64_t adopted;
	uint64_t released;
	uint64_t adopt_ns;
	uint64_t zero;
	uint64_t removed;
	uint64_t poisoned;
	uint64_t duplicates;
	uint64_t retries;
	uint64_t errors;
	struct fl_fault_stats faults[FL_FAULT_KINDS];
	uint64_t full_ns;
};

struct fl_pager;

/**
 * fl_pager_options_init() - the defaults
 * @options: set to: no flags, FL_AROUND_DEFAULT, no spinning, no pagemap, no sets, no log
 */
FL_API void fl_pager_options_init(struct fl_pager_options *options);

/**
 * fl_pager_new() - a pager for one guest
 * @pager: receives the pager
 * @parts: what it works with
 * @options: how it behaves, or NULL for the defaults
 * @err: receives the reason, or NULL
 *
 * All memory is had here: serving faults allocates nothing.
 *
 * Return: 0; -EINVAL for an option out of range or a source shorter than the layout; -ENOMEM,
 * -EMFILE, and what epoll_create1(2), eventfd(2), timerfd_create(2) and fl_queue_open() return.
 */
FL_API int fl_pager_new(struct fl_pager **pager, const struct fl_pager_parts *parts,
			const struct fl_pager_options *options, struct fl_error *err);

/**
 * fl_pager_close() - end a pager; its thread is stopped first
 * @pager: the pager, or NULL
 *
 * Claims under way are given up, so that the table says what is true. Threads that wait for a page
 * go on waiting: the trap is still the caller's, and another pager can take over.
 */
FL_API void fl_pager_close(struct fl_pager *pager);

/**
 * fl_pager_fd() - what to poll (POLLIN) before fl_pager_run(), for those with a loop of their own
 * @pager: the pager
 *
 * Return: the descriptor, which stays the pager's.
 */
FL_API int fl_pager_fd(const struct fl_pager *pager);

/**
 * fl_pager_run() - serve all that is ready, and at most one step of filling; never blocks
 * @pager: the pager; only one thread may run it
 *
 * A step of filling is short, so that a fault which comes meanwhile hardly waits.
 *
 * Return: 1 when there is more to do at once; 0 when there is nothing until the descriptor is
 * readable; a negative errno when the session has failed and serves no more: -ESRCH the VMM is
 * gone, -EOPNOTSUPP it forked or a page could not be poisoned, or what the trap or an install
 * failed with; fl_pager_error() has the reason.
 */
FL_API int fl_pager_run(struct fl_pager *pager);

/**
 * fl_pager_error() - why a pager serves no more
 * @pager: the pager; to be asked by the thread that runs it, by @ended, or when it is stopped
 *
 * Return: a sentence without an end, valid as long as the pager; "" when it has not failed.
 */
FL_API const char *fl_pager_error(const struct fl_pager *pager);

/**
 * fl_pager_start() - let a thread of the pager's own run it
 * @pager: the pager
 *
 * Return: 0; -EALREADY; what pthread_create(3) returns, negated.
 */
FL_API int fl_pager_start(struct fl_pager *pager);

/**
 * fl_pager_stop() - end the pager's own thread
 * @pager: the pager
 *
 * Returns when the thread has ended; what it had claimed stays claimed until the pager is started
 * again or closed.
 */
FL_API void fl_pager_stop(struct fl_pager *pager);

/**
 * fl_pager_fill() - from now on read ahead of need, as FL_PAGER_FILL does
 * @pager: the pager; any thread may ask
 */
FL_API void fl_pager_fill(struct fl_pager *pager);

/**
 * fl_pager_adopt() - contents of pages are in place already: let the guest have them
 * @pager: the pager; for the thread that runs it, or before it runs
 * @ready: pages whose contents stand in the second mapping, or NULL. Must stay, unchanged, as long
 *	as the pager
 * @zeros: pages that read as zeros and that the page cache does not have, or NULL; likewise
 *
 * A page that is absent and in @ready is mapped without a read: when it is touched, and step by
 * step as part of filling, before anything is read for it, also without FL_PAGER_FILL. Long runs are
 * had by releasing their range from the trap, which costs no more than a few microseconds however
 * long they are; their pages count as present, those of @zeros too. Elsewhere a page that is absent
 * and in @zeros becomes removed: zeros when it is touched. Pages of other states are left as they
 * are; those that are present or removed may be released together with their neighbours. At most
 * once.
 *
 * Return: 0; -EALREADY; -EINVAL when the install has no second mapping of a page of @ready.
 */
FL_API int fl_pager_adopt(struct fl_pager *pager, const struct fl_pageset *ready,
			  const struct fl_pageset *zeros);

/**
 * fl_pager_release() - every page is there: let the trap go, so that the guest needs nobody
 * @pager: the pager; for the thread that runs it, or when it is stopped
 *
 * What FL_PAGER_RELEASE does by itself. Ranges that were released before are left alone: they may
 * have been unmapped since, or be somebody else's. What the guest gave back reads as zeros, and is
 * taken out of the second mapping for that. A removal that had begun before still waits for its
 * event to be read, so the pager is to be run on for a while.
 *
 * Return: 0; -EBUSY while pages are left; the first error of fl_trap_release() or madvise(2), with
 * everything else released; -ESRCH when the address space is gone.
 */
FL_API int fl_pager_release(struct fl_pager *pager);

/**
 * fl_pager_stats() - what a pager has done so far
 * @pager: the pager; any thread may ask
 * @stats: @size set by the caller; receives the figures, each exact, together a snapshot in motion
 */
FL_API void fl_pager_stats(const struct fl_pager *pager, struct fl_pager_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
