/* SPDX-License-Identifier: MIT */

/*
 * The ring, the VMM's end. Theory of operation
 *
 * An entry is a cache line in shared memory. Which entries are in use is known to the VMM alone
 * (used[]): a broken worker cannot give one to two threads. A thread claims an entry by setting a
 * bit there, fills it in, and publishes it by setting its bit in one of two shared bitmaps. Both
 * are single atomic steps: there is no moment at which a thread that is interrupted holds up
 * another, and a signal handler may do all of it in the middle of a thread that does the same. A
 * queue of tickets would not do: the handler would wait for a ticket that its own thread has drawn
 * and not yet filled.
 *
 * Orders, paired:
 *
 *	fields of the entry, state READY | release   -> acquire | worker: load of state
 *	contents, result, state DONE     | release   -> acquire | VMM: load of state
 *	bit in demand or fill            | seq_cst          seq_cst | worker_sleeps = 1
 *	load of worker_sleeps            | seq_cst          seq_cst | load of demand and fill
 *	bit in done                      | seq_cst          seq_cst | poller_sleeps = 1
 *	load of poller_sleeps            | seq_cst          seq_cst | load of done
 *	bit in used cleared              | seq_cst          seq_cst | full + 1
 *	load of full                     | seq_cst          seq_cst | load of used
 *
 * The last six are the same game three times: each side writes, then reads what the other writes,
 * all sequentially consistent, so at least one of them sees the other: nobody sleeps while there
 * is something for it.
 *
 * A worker that dies wakes nobody. So whoever sleeps looks every SLEEP_MS whether the worker's
 * socket has hung up, which the kernel does once the last thread of the worker has let go of its
 * descriptors; that comes after its memory, so nothing is written any more then.
 *
 * A worker that is stopped (SIGSTOP) is waited for without end. To give up would be to hand a page to
 * the guest that the worker writes to once it goes on: only a worker that is dead writes no more. It is
 * for whoever watches the worker to kill it; then all waits end.
 */
#include "link/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

#define SLEEP_MS 20
/* Looks between two looks at the clock. */
#define SPINS 64

/* Else they would be made with locks, which two processes do not share. */
_Static_assert(__atomic_always_lock_free(sizeof(uint64_t), 0), "64-bit atomics without locks");
_Static_assert(sizeof(struct fl_worker_entry) == 64, "an entry is a cache line");
_Static_assert(sizeof(struct fl_worker_ring) == 1024, "entries follow at byte 1024");

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static long futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static int check(const struct fl_worker_ring *shared, uint64_t bytes, struct fl_error *err)
{
	if (shared->magic != FL_WORKER_RING_MAGIC)
		return fl_error_set(err, -EPROTO, "the worker's ring is none");
	if (shared->version != FL_WORKER_RING_VERSION)
		return fl_error_set(err, -EPROTONOSUPPORT,
				    "the worker's ring has version %u, we know version %u",
				    shared->version, FL_WORKER_RING_VERSION);
	if (shared->entry_bytes != sizeof(struct fl_worker_entry) || shared->entries < 64 ||
	    shared->entries > FL_WORKER_RING_ENTRIES || shared->entries & (shared->entries - 1) ||
	    bytes < sizeof(*shared) + (uint64_t)shared->entries * sizeof(struct fl_worker_entry))
		return fl_error_set(err, -EPROTO, "the worker's ring has %u entries of %u bytes",
				    shared->entries, shared->entry_bytes);
	return 0;
}

/* Memory that could be cut while it is mapped is not accepted: touching it would be a SIGBUS. */
static int check_file(int fd, uint64_t *bytes, struct fl_error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
	    (uint64_t)st.st_size < sizeof(struct fl_worker_ring) || st.st_size > 1 << 20)
		return fl_error_set(err, -EPROTO, "the worker's ring is no sealed memory");
	*bytes = (uint64_t)st.st_size;
	return 0;
}

int fl_ring_open(struct fl_ring *ring, int shared_fd, int doorbell_fd, int poller_fd, int worker_fd,
		 struct fl_error *err)
{
	uint64_t bytes = 0;
	int rc = check_file(shared_fd, &bytes, err);
	void *map;

	if (rc)
		return rc;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, 0);
	if (map == MAP_FAILED)
		return fl_error_set(err, -errno, "mapping the worker's ring: %s", strerror(errno));
	rc = check(map, bytes, err);
	if (rc) {
		(void)munmap(map, bytes);
		return rc;
	}
	*ring = (struct fl_ring){.shared = map,
				 .entry = (void *)((char *)map + sizeof(struct fl_worker_ring)),
				 .entries = ((struct fl_worker_ring *)map)->entries,
				 .doorbell_fd = doorbell_fd,
				 .poller_fd = poller_fd,
				 .worker_fd = worker_fd};
	return 0;
}

void fl_ring_close(struct fl_ring *ring)
{
	if (!ring->shared)
		return;
	(void)munmap(ring->shared, sizeof(struct fl_worker_ring) +
					   ring->entries * sizeof(struct fl_worker_entry));
	ring->shared = NULL;
	fl_fd_close(&ring->doorbell_fd);
	fl_fd_close(&ring->poller_fd);
}

bool fl_ring_is_dead(struct fl_ring *ring)
{
	struct pollfd poller = {.fd = ring->worker_fd};

	if (__atomic_load_n(&ring->dead, __ATOMIC_RELAXED))
		return true;
	if (poll(&poller, 1, 0) != 1 || !(poller.revents & (POLLHUP | POLLERR | POLLNVAL)))
		return false;
	__atomic_store_n(&ring->dead, 1, __ATOMIC_RELAXED);
	return true;
}

/* The lowest free entry: its cache line was used last. */
int fl_ring_claim(struct fl_ring *ring)
{
	for (uint32_t word = 0; word < ring->entries / 64; word++) {
		uint64_t seen = __atomic_load_n(&ring->used[word], __ATOMIC_SEQ_CST);

		while (~seen) {
			uint64_t bit = ~seen & (seen + 1);

			if (__atomic_compare_exchange_n(&ring->used[word], &seen, seen | bit, false,
							__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				return (int)(word * 64 + (uint32_t)__builtin_ctzll(bit));
		}
	}
	return -EBUSY;
}

int fl_ring_claim_wait(struct fl_ring *ring)
{
	const struct timespec timeout = {.tv_nsec = SLEEP_MS * (long)FL_NS_PER_MS};
	int index = fl_ring_claim(ring);

	if (index >= 0)
		return index;
	(void)__atomic_fetch_add(&ring->full, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		uint32_t freed = __atomic_load_n(&ring->freed, __ATOMIC_SEQ_CST);

		index = fl_ring_claim(ring);
		if (index >= 0)
			break;
		(void)__atomic_fetch_add(&ring->full_sleeps, 1, __ATOMIC_RELAXED);
		(void)futex(&ring->freed, FUTEX_WAIT_PRIVATE, freed, &timeout);
		if (fl_ring_is_dead(ring)) {
			index = -EPIPE;
			break;
		}
	}
	(void)__atomic_fetch_sub(&ring->full, 1, __ATOMIC_SEQ_CST);
	return index;
}

void fl_ring_release(struct fl_ring *ring, uint32_t index)
{
	__atomic_store_n(&ring->entry[index].state, FL_WORKER_FREE, __ATOMIC_RELAXED);
	(void)__atomic_fetch_and(&ring->used[index / 64], ~(UINT64_C(1) << (index % 64)),
				 __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&ring->full, __ATOMIC_SEQ_CST))
		return;
	(void)__atomic_fetch_add(&ring->freed, 1, __ATOMIC_SEQ_CST);
	(void)futex(&ring->freed, FUTEX_WAKE_PRIVATE, 1, NULL);
}

/* Sets the bit, and wakes the worker if it sleeps. */
static void give(struct fl_ring *ring, uint64_t *bitmap, uint32_t index)
{
	static const uint64_t one = 1;
	uint32_t *sleeps = &ring->shared->worker_sleeps;

	(void)__atomic_fetch_or(&bitmap[index / 64], UINT64_C(1) << (index % 64), __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(sleeps, __ATOMIC_SEQ_CST) ||
	    !__atomic_exchange_n(sleeps, 0, __ATOMIC_SEQ_CST))
		return;
	(void)__atomic_fetch_add(&ring->doorbells, 1, __ATOMIC_RELAXED);
	(void)!write(ring->doorbell_fd, &one, sizeof(one));
}

void fl_ring_publish(struct fl_ring *ring, uint32_t index, const struct fl_ring_copy *copy)
{
	struct fl_worker_entry *entry = &ring->entry[index];
	struct fl_worker_ring *shared = ring->shared;

	entry->remote_offset = copy->remote_offset;
	entry->local_offset = copy->local_offset;
	entry->len_bytes = copy->len_bytes;
	entry->flags = copy->flags;
	__atomic_store_n(&entry->result, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->state, FL_WORKER_READY, __ATOMIC_RELEASE);
	(void)__atomic_fetch_add(&ring->copies, 1, __ATOMIC_RELAXED);
	give(ring, copy->flags & FL_WORKER_FILL ? shared->fill : shared->demand, index);
}

/* The worker then finds the entry twice, and takes no notice of the second time. */
void fl_ring_hurry(struct fl_ring *ring, uint32_t index)
{
	give(ring, ring->shared->demand, index);
}

bool fl_ring_ended(struct fl_ring *ring, uint32_t index, int *result)
{
	struct fl_worker_entry *entry = &ring->entry[index];
	int said;

	if (__atomic_load_n(&entry->state, __ATOMIC_ACQUIRE) != FL_WORKER_DONE)
		return false;
	said = __atomic_load_n(&entry->result, __ATOMIC_RELAXED);
	*result = said > 0 || said < -4095 ? -EPROTO : said;
	return true;
}

static bool spin(struct fl_ring *ring, uint32_t index, int *result)
{
	uint64_t end_ns = fl_clock_ns() + ring->spin_us * FL_NS_PER_US;

	do {
		for (int i = 0; i < SPINS; i++) {
			if (fl_ring_ended(ring, index, result))
				return true;
			relax();
		}
	} while (fl_clock_ns() < end_ns);
	return false;
}

/* Says that someone sleeps, and does: until woken, or for a short time. */
static void doze(struct fl_ring *ring, uint32_t index)
{
	const struct timespec timeout = {.tv_nsec = SLEEP_MS * (long)FL_NS_PER_MS};
	uint32_t *state = &ring->entry[index].state;
	uint32_t seen = FL_WORKER_READY;

	/* Relaxed: nothing is read on the strength of it. */
	if (!__atomic_compare_exchange_n(state, &seen, FL_WORKER_READY | FL_WORKER_WAITER, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
	    seen == FL_WORKER_DONE)
		return;
	(void)__atomic_fetch_add(&ring->sleeps, 1, __ATOMIC_RELAXED);
	(void)futex(state, FUTEX_WAIT, FL_WORKER_READY | FL_WORKER_WAITER, &timeout);
}

int fl_ring_wait(struct fl_ring *ring, uint32_t index)
{
	int result = 0;

	if (spin(ring, index, &result))
		return result;
	while (!fl_ring_ended(ring, index, &result)) {
		doze(ring, index);
		/* It may have ended the copy before it died. */
		if (!fl_ring_ended(ring, index, &result) && fl_ring_is_dead(ring) &&
		    !fl_ring_ended(ring, index, &result))
			return -EPIPE;
	}
	return result;
}

uint64_t fl_ring_told(struct fl_ring *ring, uint32_t word)
{
	uint64_t *done = &ring->shared->done[word];

	if (!__atomic_load_n(done, __ATOMIC_SEQ_CST))
		return 0;
	return __atomic_exchange_n(done, 0, __ATOMIC_SEQ_CST);
}

void fl_ring_poller_sleeps(struct fl_ring *ring)
{
	__atomic_store_n(&ring->shared->poller_sleeps, 1, __ATOMIC_SEQ_CST);
}
