/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_MIGRATE_H
#define FAULTLINE_MIGRATE_H

/*
 * Live migration: a running machine moves to another host at once, and its memory follows.
 *
 * A VMM keeps its vCPUs and devices, and lends the library its guest memory. On the host that the
 * machine leaves it makes a struct fl_outgoing, on the one it moves to a struct fl_incoming. Each
 * runs in one thread of its own and calls the VMM back. docs/migration.md has the phases and what
 * the VMM does at each; docs/page-link.md what goes over the wire.
 */

#include <stdbool.h>
#include <faultline/common.h>
#include <faultline/link.h>
#include <faultline/memory.h>
#include <faultline/pager.h>
#include <faultline/source.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * enum fl_migrate_mode - when the machine moves
 * @FL_MIGRATE_HYBRID: after pre-copy rounds, as soon as another would not help; the rest follows
 * @FL_MIGRATE_PRECOPY: when what is left can be sent within the downtime; never before
 * @FL_MIGRATE_POSTCOPY: at once; all memory follows
 */
enum fl_migrate_mode { FL_MIGRATE_HYBRID, FL_MIGRATE_PRECOPY, FL_MIGRATE_POSTCOPY };

/**
 * enum fl_migrate_phase - how far it is
 * @FL_MIGRATE_MEETING: connections are made, memory is got ready
 * @FL_MIGRATE_ROUNDS: pre-copy
 * @FL_MIGRATE_SWITCHING: vCPUs are stopped; from here until GO the machine runs nowhere
 * @FL_MIGRATE_FOLLOWING: it runs on the incoming side, and its memory follows
 * @FL_MIGRATE_LOST: likewise, but the connection is lost: waits for a recovery
 * @FL_MIGRATE_DONE: all memory has arrived
 * @FL_MIGRATE_CANCELED: ended before GO as asked, the machine goes on where it was
 * @FL_MIGRATE_FAILED: ended before GO by an error, likewise
 */
enum fl_migrate_phase {
	FL_MIGRATE_MEETING,
	FL_MIGRATE_ROUNDS,
	FL_MIGRATE_SWITCHING,
	FL_MIGRATE_FOLLOWING,
	FL_MIGRATE_LOST,
	FL_MIGRATE_DONE,
	FL_MIGRATE_CANCELED,
	FL_MIGRATE_FAILED
};

/**
 * fl_migrate_phase_name() - a phase as text
 * @phase: the phase
 *
 * Return: "meeting", "rounds", "switching", "following", "lost", "done", "canceled", "failed".
 */
FL_API const char *fl_migrate_phase_name(enum fl_migrate_phase phase);

/** FL_MIGRATE_ZSTD - offer to compress contents with zstd */
#define FL_MIGRATE_ZSTD (1u << 0)
/** FL_MIGRATE_LZ4 - offer to compress contents with lz4; preferred where both sides offer both */
#define FL_MIGRATE_LZ4 (1u << 1)

/**
 * enum fl_migrate_way - how contents move, besides the page link; each but the first also a bit of a mask
 * @FL_MIGRATE_BY_LINK: only by the page link's own connections
 * @FL_MIGRATE_BY_FABRIC: read over libfabric (faultline/fabric.h): the descriptor is fl_fabric_blob()'s
 * @FL_MIGRATE_BY_WORKER: read by a page worker (faultline/worker.h): fl_worker_way()'s
 *
 * With another way the link still carries the description of the machine, its state, which pages are due,
 * zeros of pre-copy rounds, and whatever the way cannot bring.
 */
enum fl_migrate_way { FL_MIGRATE_BY_LINK = 0, FL_MIGRATE_BY_FABRIC = 1, FL_MIGRATE_BY_WORKER = 2 };

/** FL_MIGRATE_WAY_MAX - the longest descriptor of a way, in bytes */
#define FL_MIGRATE_WAY_MAX (64u * 1024)

/**
 * struct fl_outgoing_calls - what the VMM that the machine leaves must be able to do
 * @size: sizeof(struct fl_outgoing_calls) as the caller was compiled
 * @track: begin (@on) to record which pages are written, or stop to. A page counts as written from its first write
 *	after the last @collect() (or after this call), whoever wrote it: vCPUs, KVM, the VMM, devices.
 *	0 or a negative errno
 * @collect: add to @dirty the pages written since the last call, and forget them. A write that is
 *	not over when it is called may count for this call or the next, but must count for one that
 *	begins after its end. 0 or a negative errno
 * @stop: stop vCPUs and all else that writes guest memory. 0; a negative errno, and nothing is stopped
 * @save: the machine's state, all but its memory: set *@state to memory of malloc(3) and *@len_bytes;
 *	the library frees it. Called stopped. 0 or a negative errno
 * @go_on: the migration ended before the switch: run again. Only called after @stop
 * @ended: the migration is over (DONE, CANCELED, FAILED) or was interrupted (LOST): called by the
 *	migration's thread each time with the phase; the reason is fl_outgoing_error(). May be NULL
 * @holes: add to @zeros pages that are zeros, as far as that is known without looking at them: holes of
 *	the file (SEEK_HOLE, lseek(2)), untouched anonymous memory (/proc/PID/pagemap). They travel as a few
 *	frames, and reading them would allocate them. Called once, after track(on). 0 or a negative
 *	errno. May be NULL: none is known
 *
 * All are called with the ctx that fl_outgoing_new() was given, and in this order: track(on), holes,
 * collect..., stop, save, collect, track(off), but for go_on and ended. They are called by the
 * migration's thread, but for the last collect() and track(off) of a machine that runs on the other side
 * already: those have a thread of their own, so that neither the machine nor a demand waits for them. While
 * one runs the other side hears nothing of this one: each must take less than the timeout.
 */
struct fl_outgoing_calls {
	size_t size;
	int (*track)(void *ctx, bool on);
	int (*collect)(void *ctx, struct fl_pageset *dirty);
	int (*stop)(void *ctx);
	int (*save)(void *ctx, void **state, size_t *len_bytes);
	void (*go_on)(void *ctx);
	void (*ended)(void *ctx, enum fl_migrate_phase phase);
	int (*holes)(void *ctx, struct fl_pageset *zeros);
};

/**
 * struct fl_outgoing_options - how a machine leaves; start from fl_outgoing_options_init()
 * @size: sizeof(struct fl_outgoing_options) as the caller was compiled
 * @mode: when it moves
 * @flags: FL_MIGRATE_*
 * @max_downtime_ms: pre-copy is done when what is left can be sent in this time, in milliseconds
 * @max_rounds: mode precopy fails, mode hybrid switches, after so many rounds
 * @bandwidth: most bytes a second for rounds and background, 0 for no limit. Demand is not limited. What the
 *	other side reads by another way is limited in rounds only, for after the switch nothing of it passes here:
 *	a VMM that promises a limit offers no way, or mode precopy only
 * @timeout_ms: a peer that is silent for so long is lost, in milliseconds; one that is not READY so
 *	long after vCPUs were stopped has failed
 * @config: what the VMM tells its peer of the machine: vCPUs, devices; opaque to the library
 * @config_len: its length in bytes, up to 1 MiB
 * @tls: or NULL for plain TCP; used until the migration is freed
 * @log: where messages go
 * @way_kind: by what else contents can be read. Where the other side does not read by it, the link does it all
 * @way: its descriptor, for the other side's way(). The VMM has exported all of its memory, with the offsets of
 *	the layout, and keeps it so until DONE, CANCELED, FAILED, or fl_outgoing_free()
 * @way_len: its length in bytes, 1 to FL_MIGRATE_WAY_MAX; 0 without one
 */
struct fl_outgoing_options {
	size_t size;
	enum fl_migrate_mode mode;
	uint32_t flags;
	uint32_t max_downtime_ms;
	uint32_t max_rounds;
	uint64_t bandwidth;
	uint32_t timeout_ms;
	const void *config;
	size_t config_len;
	const struct fl_tls *tls;
	struct fl_log log;
	enum fl_migrate_way way_kind;
	const void *way;
	size_t way_len;
};

/**
 * struct fl_outgoing - a machine that leaves; opaque. Any thread may call its functions.
 */
struct fl_outgoing;

/**
 * fl_outgoing_options_init() - the defaults
 * @options: set to: hybrid, no flags, 300 ms, 30 rounds, no limit, 10 s, no config, no TLS, no log, no other way
 */
FL_API void fl_outgoing_options_init(struct fl_outgoing_options *options);

/**
 * fl_outgoing_new() - let a machine leave
 * @out: receives the migration; nothing happens before fl_outgoing_start()
 * @layout: guest memory, each region's addr readable in this process as long as the migration is not freed. Every page must be
 *	there or come by itself: a machine that is itself still arriving cannot leave
 * @calls: what the VMM can do; copied
 * @ctx: handed to them
 * @options: or NULL for the defaults; copied, @config and @way too
 * @err: receives the reason, or NULL
 *
 * Return: 0; -EINVAL for an option out of range, -EOPNOTSUPP for a region with pages of 1 GiB or without an addr,
 * -ENOMEM, -EMFILE.
 */
FL_API int fl_outgoing_new(struct fl_outgoing **out, const struct fl_layout *layout,
			   const struct fl_outgoing_calls *calls, void *ctx,
			   const struct fl_outgoing_options *options, struct fl_error *err);

/**
 * fl_outgoing_start() - connect and go
 * @out: the migration
 * @address: of the incoming side, as for fl_link_connect()
 *
 * Return: 0: a thread is at work; -EALREADY; -ENOMEM; what pthread_create(3) returns, negated.
 */
FL_API int fl_outgoing_start(struct fl_outgoing *out, const char *address);

/**
 * fl_outgoing_cancel() - call the migration off
 * @out: the migration
 *
 * Before GO: the machine goes on here; ended() tells when. After GO a migration cannot be called off: the machine is
 * not here any more. But a recovery that is being tried can: ended() is told LOST again, with -ECANCELED as
 * the reason, and another one may be tried.
 *
 * Return: 0: it will end, unless GO (or the end of the recovery) comes first; -EINPROGRESS after GO, when no
 * recovery is being tried; -ESRCH when it has ended.
 */
FL_API int fl_outgoing_cancel(struct fl_outgoing *out);

/**
 * fl_outgoing_recover() - meet again after the connection was lost
 * @out: the migration, in phase LOST
 * @address: to connect to, or NULL to use @listen_fd
 * @listen_fd: a listening socket on which the incoming side will come; the caller's, used until it has
 *
 * Returns at once; the phase tells when it goes on (FOLLOWING) or that it failed again (LOST). With @listen_fd it
 * waits for the incoming side without limit, until fl_outgoing_cancel() ends the recovery.
 *
 * Return: 0; -EINVAL when it is not lost, or there is neither @address nor @listen_fd; -EALREADY when a recovery is being tried; -ENOMEM.
 */
FL_API int fl_outgoing_recover(struct fl_outgoing *out, const char *address, int listen_fd);

/**
 * struct fl_outgoing_stats - how far it is
 * @size: sizeof(struct fl_outgoing_stats) as the caller was compiled
 * @phase: now
 * @round: the round under way, or the last; 0 before the first, and in mode postcopy, which sends nothing
 *	but zeros before the switch: likewise @round_left and @dirty_rate
 * @pages: pages of the machine
 * @round_left: pages of this round not sent yet
 * @dirty_rate: pages written in a second, as the last round saw it
 * @rate: bytes sent in a second, as the last second (or round) saw it; 0 while it is lost
 * @precopy: pages sent in rounds, repeated ones too
 * @zero: pages that travelled as zeros, of all kinds
 * @due: pages that were due at the switch
 * @due_left: of these, pages not sent yet; those that are read by another way are not told of until all are
 * @demand: pages sent because they were waited for
 * @background: pages sent after the switch because the other side filled up
 * @clean: requests that were answered by saying that nothing changed
 * @bytes: sent in all, on the wire
 * @wire_bytes_saved: by compression
 * @downtime_ns: from stopping vCPUs to hearing that they run, 0 before
 * @total_ns: from the start until now, or until it ended
 * @recoveries: how often it was recovered
 * @waits: how long demands took, as the incoming side saw it (its FL_FAULT_MISS): told at the end. 0 before, and where
 *	the other side does not tell
 */
struct fl_outgoing_stats {
	size_t size;
	enum fl_migrate_phase phase;
	uint32_t round;
	uint64_t pages;
	uint64_t round_left;
	uint64_t dirty_rate;
	uint64_t rate;
	uint64_t precopy;
	uint64_t zero;
	uint64_t due;
	uint64_t due_left;
	uint64_t demand;
	uint64_t background;
	uint64_t clean;
	uint64_t bytes;
	uint64_t wire_bytes_saved;
	uint64_t downtime_ns;
	uint64_t total_ns;
	uint32_t recoveries;
	struct fl_fault_stats waits;
};

/**
 * fl_outgoing_stats() - how far it is
 * @out: the migration
 * @stats: @size set by the caller; receives the figures, each exact, together a snapshot in motion
 */
FL_API void fl_outgoing_stats(const struct fl_outgoing *out, struct fl_outgoing_stats *stats);

/**
 * fl_outgoing_error() - why it failed or was lost
 * @out: the migration
 * @err: receives the code and a sentence; code 0 when there was no error
 */
FL_API void fl_outgoing_error(const struct fl_outgoing *out, struct fl_error *err);

/**
 * fl_outgoing_free() - end it
 * @out: the migration, or NULL; not from within its calls
 *
 * Before GO this is fl_outgoing_cancel() and waits for it; after GO and before DONE it gives the
 * machine's memory up, and the machine with it.
 */
FL_API void fl_outgoing_free(struct fl_outgoing *out);

/**
 * struct fl_incoming_memory - guest memory, made by the VMM for a machine that arrives
 * @layout: the regions, addr being the mapping that KVM is given, in which nothing was touched yet. All
 *	shared memory (memfd or hugetlbfs)
 * @uffd: a userfaultfd with UFFD_FEATURE_MINOR_SHMEM (and _MINOR_HUGETLBFS, _EVENT_REMOVE), which the library registers
 *	the regions with; or -1: the SIGSEGV trap (threads of this process only)
 * @aliases: a second mapping of each region, read-write, which nothing traps
 * @fds: the file of each region and
 * @fd_offsets: where in it the region begins, in bytes: to give back what became zeros
 * @count: of regions, aliases, fds, fd_offsets
 *
 * All of it is the VMM's and must stay until the migration is freed.
 */
struct fl_incoming_memory {
	struct fl_layout *layout;
	int uffd;
	const struct fl_alias *aliases;
	const int *fds;
	const uint64_t *fd_offsets;
	size_t count;
};

/**
 * struct fl_incoming_calls - what the VMM that a machine moves to must be able to do
 * @size: sizeof(struct fl_incoming_calls) as the caller was compiled
 * @prepare: make memory for @regions (addr FL_NOWHERE) and a machine as @config says, vCPUs not running. Must
 *	end within the timeout, of both sides: the other one hears nothing of this one meanwhile, and takes it
 *	for lost. 0; a negative errno with a sentence in @err, which the other side hears
 * @load: take the machine's state. May touch guest memory: what it touches is fetched. 0; a negative
 *	errno with a sentence in @err
 * @run: the machine is ours: let vCPUs run. 0 or a negative errno
 * @ended: it is over (DONE, FAILED) or was interrupted (LOST); likewise FAILED when no machine came to
 *	run here. DONE comes when the other side has heard that all is here, or had the timeout to come back
 *	and hear it. May be NULL
 * @way: after prepare(): make a source of the descriptor of a way, @kind being one of the options' ways. It reads
 *	the image that the layout describes, and becomes the migration's. fl_source_fabric_open(),
 *	fl_source_worker_way(). 0; a negative errno with a sentence in @err, which ends the migration. May be
 *	NULL where the options accept no way
 *
 * prepare(), way() and ended() are called by the migration's thread; load() and run() by another one,
 * while the migration's thread serves faults.
 */
struct fl_incoming_calls {
	size_t size;
	int (*prepare)(void *ctx, const struct fl_region *regions, size_t count, const void *config,
		       size_t config_len, struct fl_incoming_memory *memory, struct fl_error *err);
	int (*load)(void *ctx, const void *state, size_t len_bytes, struct fl_error *err);
	int (*run)(void *ctx);
	void (*ended)(void *ctx, enum fl_migrate_phase phase);
	int (*way)(void *ctx, enum fl_migrate_way kind, const void *blob, size_t len_bytes,
		   struct fl_source **source, struct fl_error *err);
};

/**
 * struct fl_incoming_options - how a machine arrives; start from fl_incoming_options_init()
 * @size: sizeof(struct fl_incoming_options) as the caller was compiled
 * @flags: FL_MIGRATE_*
 * @timeout_ms: a peer that is silent for so long is lost, in milliseconds
 * @window_bytes: how much is asked for in the background at a time, 128 KiB to 64 MiB
 * @tls: or NULL for plain TCP; used until the migration is freed
 * @log: where messages go
 * @ways: kinds of ways by which contents may be read besides, a mask of enum fl_migrate_way
 */
struct fl_incoming_options {
	size_t size;
	uint32_t flags;
	uint32_t timeout_ms;
	uint32_t window_bytes;
	const struct fl_tls *tls;
	struct fl_log log;
	uint32_t ways;
};

/**
 * struct fl_incoming - a machine that arrives; opaque. Any thread may call its functions.
 */
struct fl_incoming;

/**
 * fl_incoming_options_init() - the defaults
 * @options: set to: no flags, 10 s, 2 MiB, no TLS, no log, no ways
 */
FL_API void fl_incoming_options_init(struct fl_incoming_options *options);

/**
 * fl_incoming_new() - wait for a machine to arrive
 * @in: receives the migration
 * @listen_fd: a listening stream socket, of fl_link_listen() for example; the caller's, to stay open
 *	as long as the migration: a recovery comes by it too
 * @calls: what the VMM can do; copied
 * @ctx: handed to them
 * @options: or NULL for the defaults; copied
 * @err: receives the reason, or NULL
 *
 * A thread is at work when it returns. A peer that breaks the rules before it has met is closed
 * and the next one waited for; the first that has met decides what becomes of this.
 *
 * Return: 0; -EINVAL for an option out of range, -ENOTSOCK, -ENOMEM, -EMFILE; what pthread_create(3) returns,
 * negated.
 */
FL_API int fl_incoming_new(struct fl_incoming **in, int listen_fd,
			   const struct fl_incoming_calls *calls, void *ctx,
			   const struct fl_incoming_options *options, struct fl_error *err);

/**
 * fl_incoming_recover() - meet again after the connection was lost, by connecting
 * @in: the migration, in phase LOST; it listens, too
 * @address: of the outgoing side, which was told to listen
 *
 * Return: 0; -EINVAL when it is not lost; -EALREADY when a recovery is being tried; -ENOMEM.
 */
FL_API int fl_incoming_recover(struct fl_incoming *in, const char *address);

/**
 * struct fl_incoming_stats - how far it is
 * @size: sizeof(struct fl_incoming_stats) as the caller was compiled
 * @phase: now
 * @round: the round under way, or the last
 * @received: bytes received in all, on the wire
 * @precopy: pages that came in rounds, repeated ones too
 * @zero: pages that came as zeros, in rounds or after
 * @torn: pages that came in rounds while they were being written, and came or will come again
 * @due: pages that were due at the switch
 * @clean: pages that were at hand when the due set came, and
 * @clean_ns: how long it took to let the guest have all of them, in ns
 * @released: of these, pages that were had by unregistering their range
 * @go_to_due_ns: how long the machine ran before the due set was whole, in ns
 * @pager: how faults were served; all 0 before the switch
 * @way: by what else contents are read; FL_MIGRATE_BY_LINK also when the other way has failed
 * @by_way: pages that came by it, in rounds (repeated ones too) and after
 * @total_ns: from the meeting until now, or until it ended
 * @recoveries: how often it was recovered
 */
struct fl_incoming_stats {
	size_t size;
	enum fl_migrate_phase phase;
	uint32_t round;
	uint64_t received;
	uint64_t precopy;
	uint64_t zero;
	uint64_t torn;
	uint64_t due;
	uint64_t clean;
	uint64_t clean_ns;
	uint64_t released;
	uint64_t go_to_due_ns;
	struct fl_pager_stats pager;
	enum fl_migrate_way way;
	uint64_t by_way;
	uint64_t total_ns;
	uint32_t recoveries;
};

/**
 * fl_incoming_stats() - how far it is
 * @in: the migration
 * @stats: @size set by the caller; receives the figures, each exact, together a snapshot in motion
 */
FL_API void fl_incoming_stats(const struct fl_incoming *in, struct fl_incoming_stats *stats);

/**
 * fl_incoming_error() - why it failed or was lost
 * @in: the migration
 * @err: receives the code and a sentence; code 0 when there was no error
 */
FL_API void fl_incoming_error(const struct fl_incoming *in, struct fl_error *err);

/**
 * fl_incoming_free() - end it
 * @in: the migration, or NULL; not from within its calls
 *
 * In phase FOLLOWING or LOST, vCPUs that wait for a page wait on: stop or kill them first. A run() that is
 * still under way is waited for. In phase LOST nobody brings what it touches: such pages are poisoned, and
 * it has a SIGBUS.
 */
FL_API void fl_incoming_free(struct fl_incoming *in);

#ifdef __cplusplus
}
#endif
#endif
