/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_WORKER_H
#define FAULTLINE_WORKER_H

/*
 * The page worker: the network of a VMM, in another process.
 *
 * `faultline worker` (faultline-worker(1)) maps guest memory that a VMM gives it as descriptors.
 * The VMM that a machine leaves exports its memory and gets a token; the VMM it moves to imports
 * by the address of the other worker and that token, and then asks for copies from remote to local
 * memory through a ring in shared memory. Contents go from memory to socket and from socket to
 * memory, both in the workers: the VMM has no connection to another host.
 *
 * The way of a fault: the thread that met it claims the page (fl_table_claim()), calls
 * fl_worker_copy() into the memory's file, makes the page visible in its own mapping
 * (UFFDIO_CONTINUE with UFFDIO_CONTINUE_MODE_DONTWAKE: nobody sleeps), settles the claim
 * (fl_table_settle()) and goes on. No other thread of the VMM takes part, and while the worker is
 * busy no system call is made to ask and to wait. All of these may be called in a signal handler.
 *
 * The worker writes to the memory's file until the copy has ended. So whoever gives pages back (a
 * balloon, a hole punched) must wait for a claim on them to be settled first: else contents that
 * are still on their way would show up where zeros are due. A pager is kept from that by its
 * source, see fl_source_worker_new().
 */

#include <stdbool.h>
#include <faultline/common.h>
#include <faultline/source.h>

#ifdef __cplusplus
extern "C" {
#endif

/** FL_WORKER_TOKEN_BYTES - length of a token: whoever has it may read what was exported */
#define FL_WORKER_TOKEN_BYTES 16

/** FL_WORKER_ADDRESS_MAX - the longest address of a worker, in bytes without a final NUL */
#define FL_WORKER_ADDRESS_MAX 255

/** FL_WORKER_WAY_MAX - the longest that fl_worker_way() makes, in bytes */
#define FL_WORKER_WAY_MAX (FL_WORKER_TOKEN_BYTES + FL_WORKER_ADDRESS_MAX)

/** FL_WORKER_REGIONS_MAX - how many pieces of memory a VMM may give */
#define FL_WORKER_REGIONS_MAX 64

/** FL_WORKER_OFFSET_END - offsets in an image are below this */
#define FL_WORKER_OFFSET_END (UINT64_C(1) << 62)

/** FL_WORKER_COPY_MAX - the longest copy that one entry of the ring can ask for, in bytes */
#define FL_WORKER_COPY_MAX (2u * 1024 * 1024)

/** FL_WORKER_RING_MAGIC - the first word of a ring */
#define FL_WORKER_RING_MAGIC 0x52574c46u
/** FL_WORKER_RING_VERSION - version of struct fl_worker_ring described here */
#define FL_WORKER_RING_VERSION 1
/** FL_WORKER_RING_ENTRIES - how many entries a ring of this version can have: 64 * 16 */
#define FL_WORKER_RING_ENTRIES 1024
/** FL_WORKER_RING_WORDS - words of a bitmap of entries */
#define FL_WORKER_RING_WORDS (FL_WORKER_RING_ENTRIES / 64)

/** FL_WORKER_FREE - nobody uses the entry */
#define FL_WORKER_FREE 0u
/** FL_WORKER_READY - the entry is filled in: the worker may take it */
#define FL_WORKER_READY 1u
/** FL_WORKER_DONE - the copy has ended, @result is set */
#define FL_WORKER_DONE 2u
/** FL_WORKER_WAITER - a bit besides FL_WORKER_READY: someone sleeps on the state word */
#define FL_WORKER_WAITER (1u << 8)

/** FL_WORKER_FILL - nobody waits for it: every other copy goes first */
#define FL_WORKER_FILL (1u << 0)
/** FL_WORKER_TELL - set the entry's bit in @done when it has ended, and wake the poller */
#define FL_WORKER_TELL (1u << 1)

/**
 * struct fl_worker_entry - one copy: 64 bytes, a cache line
 * @state: FL_WORKER_FREE, _READY, _DONE; the futex(2) word (not FUTEX_PRIVATE) of who waits
 * @result: 0 or a negative errno
 * @remote_offset: in the image of the exporting side, a multiple of 4096
 * @local_offset: in the image of this side, a multiple of 4096
 * @len_bytes: a multiple of 4096, at most FL_WORKER_COPY_MAX; within one region on either side
 * @flags: FL_WORKER_FILL, FL_WORKER_TELL
 * @user: whatever the VMM wants to find again; the worker does not look at it
 * @unused: 0
 */
struct fl_worker_entry {
	uint32_t state;
	int32_t result;
	uint64_t remote_offset;
	uint64_t local_offset;
	uint32_t len_bytes;
	uint32_t flags;
	uint64_t user;
	uint64_t unused[3];
};

/**
 * struct fl_worker_ring - the head of the shared memory between a VMM and its worker: 1024 bytes
 * @magic: FL_WORKER_RING_MAGIC
 * @version: FL_WORKER_RING_VERSION
 * @entries: how many struct fl_worker_entry follow at byte 1024: a power of two, 64 or more
 * @entry_bytes: sizeof(struct fl_worker_entry)
 * @unused0: 0, up to the next cache line
 * @worker_sleeps: the worker sleeps, or is about to: who takes this from 1 to 0 writes to the
 *	doorbell
 * @unused1: 0
 * @poller_sleeps: likewise of the VMM's poller, set by the VMM; the worker writes to its eventfd
 * @unused2: 0
 * @demand: one bit for each entry: it is READY and was given to the worker, which clears the bit
 * @fill: likewise, for copies that nobody waits for
 * @done: one bit for each entry with FL_WORKER_TELL that has ended; the VMM clears it
 * @unused3: 0
 *
 * In the byte order of the host. Made by the worker in a memfd that cannot change its size.
 *
 * Any thread of the VMM may ask for a copy. Which entries are in use the VMM keeps for itself. It
 * fills one in, stores READY (release), sets the entry's bit in @demand or @fill and looks at
 * @worker_sleeps (both sequentially consistent). The worker clears bits (sequentially consistent
 * after it has said that it sleeps), copies, stores @result, then exchanges the state for DONE
 * (acquire and release) and wakes the futex if the old state had the waiter bit. A bit that is set
 * twice, or for an entry that is not READY, does nothing.
 */
struct fl_worker_ring {
	uint32_t magic;
	uint32_t version;
	uint32_t entries;
	uint32_t entry_bytes;
	uint64_t unused0[6];
	uint32_t worker_sleeps;
	uint32_t unused1[15];
	uint32_t poller_sleeps;
	uint32_t unused2[15];
	uint64_t demand[FL_WORKER_RING_WORDS];
	uint64_t fill[FL_WORKER_RING_WORDS];
	uint64_t done[FL_WORKER_RING_WORDS];
	uint64_t unused3[56];
};

/**
 * struct fl_worker_region - a piece of guest memory
 * @offset: position of its first byte in the image, a multiple of 4096
 * @len_bytes: its length, a multiple of 4096
 * @fd: the file that it is in (memfd, hugetlbfs); the caller's
 * @fd_offset: where in the file it begins, in bytes, a multiple of 4096, of hugetlbfs of its page
 *	size
 */
struct fl_worker_region {
	uint64_t offset;
	uint64_t len_bytes;
	int fd;
	uint64_t fd_offset;
};

/**
 * struct fl_worker_options - how a VMM waits; start from fl_worker_options_init()
 * @size: sizeof(struct fl_worker_options) as the caller was compiled
 * @spin_us: how long fl_worker_copy() looks before it sleeps, in microseconds: trades processor
 *	time for latency, and system calls for none
 * @timeout_ms: how long the worker may take to answer fl_worker_import() and the like, in
 *	milliseconds
 */
struct fl_worker_options {
	size_t size;
	uint32_t spin_us;
	uint32_t timeout_ms;
};

/**
 * struct fl_worker - a VMM's connection to its worker; opaque
 *
 * Any thread may call its functions, except that none may be in one when it is closed.
 */
struct fl_worker;

/**
 * fl_worker_options_init() - the defaults
 * @options: set to: 50 us, 30 s
 */
FL_API void fl_worker_options_init(struct fl_worker_options *options);

/**
 * fl_worker_connect() - connect to the worker of this host
 * @worker: receives the connection
 * @path: the worker's socket
 * @options: or NULL for the defaults
 * @err: receives the reason, naming @path, or NULL
 *
 * Return: 0; -EINVAL for an option out of range; -EPROTONOSUPPORT when the worker speaks another
 * version (the reason says both); -EPROTO for something that is no worker; -ENOMEM, -EMFILE, and
 * what connect(2) returns.
 */
FL_API int fl_worker_connect(struct fl_worker **worker, const char *path,
			     const struct fl_worker_options *options, struct fl_error *err);

/**
 * fl_worker_export() - let whoever has the token copy from this memory
 * @worker: the connection
 * @regions: @count pieces of memory, that must not shrink
 * @count: 1 to FL_WORKER_REGIONS_MAX
 * @token: receives the token; it is of no use without a worker that listens (--listen)
 * @err: receives the reason, or NULL
 *
 * Until the connection is closed. Memory that is written while it is copied arrives torn, or as an
 * error of that copy (-EBADMSG), so the machine should not run any more.
 *
 * Return: 0; -EALREADY when this connection exports already; -EINVAL for regions that overlap or
 * are not aligned, -EBADF for a descriptor that is no memory; -EPIPE when the worker is gone;
 * -ETIMEDOUT, after which this connection takes no more questions (-EPIPE: connect anew), while copies
 * go on; -ENOMEM.
 */
FL_API int fl_worker_export(struct fl_worker *worker, const struct fl_worker_region *regions,
			    size_t count, uint8_t token[FL_WORKER_TOKEN_BYTES],
			    struct fl_error *err);

/**
 * fl_worker_way() - an export as the descriptor that a migration takes with it
 * @worker: the connection that exports
 * @token: of the export
 * @address: where other hosts reach its worker, as for fl_link_connect(); NULL for where it says that it listens
 * @blob: receives the descriptor: for struct fl_outgoing_options, with FL_MIGRATE_BY_WORKER
 *
 * Whoever has it may read what was exported.
 *
 * Return: its length in bytes; -EINVAL for an @address that is empty or too long; -EDESTADDRREQ when there is
 * none, and the worker does not listen for others, or on every address of the host.
 */
FL_API int fl_worker_way(const struct fl_worker *worker, const uint8_t token[FL_WORKER_TOKEN_BYTES],
			 const char *address, uint8_t blob[FL_WORKER_WAY_MAX]);

/**
 * fl_worker_import() - connect to exported memory
 * @worker: the connection
 * @address: of the other worker, as for fl_link_connect()
 * @token: of the export
 * @regions: memory that copies may go to, or NULL for the same as before
 * @count: how many, 1 to FL_WORKER_REGIONS_MAX; 0 with NULL
 * @err: receives the reason, or NULL
 *
 * Once the link to the other worker was lost, this makes a new one. Copies under way on an old
 * link end with -ECONNRESET; memory that was given before is not mapped any more.
 *
 * Return: 0; -EPERM when the other side does not know @token; -EINVAL, -EBADF as
 * fl_worker_export(); -EPIPE when the worker is gone; what connecting and fl_tls fail with:
 * -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT, -EPROTO, ...
 */
FL_API int fl_worker_import(struct fl_worker *worker, const char *address,
			    const uint8_t token[FL_WORKER_TOKEN_BYTES],
			    const struct fl_worker_region *regions, size_t count,
			    struct fl_error *err);

/**
 * fl_worker_copy() - copy from remote memory to local memory, and wait for it
 * @worker: the connection, that has imported
 * @remote_offset: in the image of the other side, a multiple of 4096
 * @local_offset: in our image, a multiple of 4096
 * @len_bytes: a multiple of 4096, within one region on either side
 * @flags: FL_WORKER_FILL or 0
 *
 * Contents go to the file of the region: they are to be had in every mapping of it, a page that is
 * not in the mapping yet by UFFDIO_CONTINUE. The worker writes for as long as the call lasts, and
 * no longer. Contents are checked: 0 is a promise. After an error what the range holds is not
 * known.
 *
 * Async-signal-safe: allocates nothing, takes no lock, and may be called in a handler that
 * interrupted another such call. errno is kept. A signal does not end the wait, and neither does time: a
 * silent link is the worker's to notice (its --timeout), and a worker that is stopped could still write
 * when it goes on, so it has to be killed for the wait to end, with -EPIPE.
 *
 * Return: 0; -EINVAL for what is not aligned or unknown @flags; -ERANGE for what is not in one
 * region; -EPIPE the worker is gone (connect anew); -ENOTCONN nothing was imported yet;
 * -ECONNRESET or -ETIMEDOUT the link to the other worker is lost (import anew); -EBADMSG contents
 * arrived wrong, or were written on the other side meanwhile; -EFAULT local memory cannot be
 * written (the file was cut, or has no page left); -EPROTO the worker answers nonsense.
 */
FL_API int fl_worker_copy(struct fl_worker *worker, uint64_t remote_offset, uint64_t local_offset,
			  uint64_t len_bytes, unsigned int flags);

/**
 * fl_worker_fd() - a descriptor that tells when the worker is gone
 * @worker: the connection
 *
 * Return: the descriptor, which stays the connection's: POLLHUP, and nothing else is to be done
 * with it.
 */
FL_API int fl_worker_fd(const struct fl_worker *worker);

/**
 * struct fl_worker_stats - what a VMM's side of the ring has done
 * @size: sizeof(struct fl_worker_stats) as the caller was compiled
 * @copies: entries that were given to the worker
 * @doorbells: system calls made to wake the worker, which slept
 * @sleeps: system calls made to wait for the end of a copy
 * @full: system calls made to wait for an entry to be free
 */
struct fl_worker_stats {
	size_t size;
	uint64_t copies;
	uint64_t doorbells;
	uint64_t sleeps;
	uint64_t full;
};

/**
 * fl_worker_stats() - what a VMM's side of the ring has done
 * @worker: the connection
 * @stats: @size set by the caller; receives the figures
 */
FL_API void fl_worker_stats(const struct fl_worker *worker, struct fl_worker_stats *stats);

/**
 * fl_worker_close() - end a connection: what was exported is exported no more
 * @worker: the connection, or NULL; sources made of it must be closed
 */
FL_API void fl_worker_close(struct fl_worker *worker);

/**
 * fl_source_worker_new() - remote memory as a source, for a pager
 * @source: receives the source
 * @worker: the connection, which must outlive it; imported, now or later
 * @len_bytes: length of the image, a multiple of 4096
 * @err: receives the reason, or NULL
 *
 * Offsets in the source are remote offsets. A page can be given back by the guest while its
 * contents are on their way, so the worker never writes to guest memory for a pager: it writes to
 * a staging area, a memfd of 8 MiB, from which the pager's thread copies what is still wanted when
 * it reaps (FL_SOURCE_PIECES). It has one queue at a time; opening another one is -EBUSY. Threads
 * may call fl_worker_copy() on the same connection meanwhile.
 *
 * Return: 0; -EALREADY when @worker has a source; -EINVAL; -EPIPE; -ENOMEM, -EMFILE.
 */
FL_API int fl_source_worker_new(struct fl_source **source, struct fl_worker *worker,
				uint64_t len_bytes, struct fl_error *err);

/**
 * fl_source_worker_way() - the other side's memory as a source, by the descriptor of fl_worker_way()
 * @source: receives the source
 * @worker: the connection, which must outlive it
 * @blob: the descriptor; the worker connects to where it says
 * @blob_len: its length in bytes
 * @len_bytes: length of the image, a multiple of 4096
 * @err: receives the reason, or NULL
 *
 * fl_worker_import() and fl_source_worker_new() in one: what way() of struct fl_incoming_calls has to do.
 *
 * Return: 0; -EBADMSG for a descriptor that is none; as fl_worker_import() and fl_source_worker_new().
 */
FL_API int fl_source_worker_way(struct fl_source **source, struct fl_worker *worker,
				const void *blob, size_t blob_len, uint64_t len_bytes,
				struct fl_error *err);

#ifdef __cplusplus
}
#endif
#endif
