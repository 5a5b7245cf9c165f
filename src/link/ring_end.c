/* SPDX-License-Identifier: MIT */

/*
 * The ring, the worker's end; ring.c has the theory.
 *
 * Whatever the VMM writes into the ring is taken once, into memory of the worker's own, and judged
 * there. What is under way is remembered in flying[], never in the ring: a VMM that changes an
 * entry meanwhile, sets bits at random or gives an entry twice harms its own copies and nothing
 * else.
 */
#include "link/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/fd.h"

static size_t shared_bytes(uint32_t entries)
{
	return sizeof(struct fl_worker_ring) + entries * sizeof(struct fl_worker_entry);
}

static int make_shared(uint32_t entries, struct fl_worker_ring **map)
{
	fl_cleanup_fd int fd = memfd_create("faultline ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)shared_bytes(entries)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	at = mmap(NULL, shared_bytes(entries), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*map = at;
	return fl_fd_take(&fd);
}

int fl_ring_end_new(struct fl_ring_end *end, uint32_t entries)
{
	struct fl_worker_ring *map = NULL;

	*end = (struct fl_ring_end){.entries = entries, .doorbell_fd = -1, .poller_fd = -1};
	end->shared_fd = make_shared(entries, &map);
	if (end->shared_fd < 0 || !map)
		return end->shared_fd;
	end->shared = map;
	end->entry = (void *)((char *)map + sizeof(struct fl_worker_ring));
	end->shared->magic = FL_WORKER_RING_MAGIC;
	end->shared->version = FL_WORKER_RING_VERSION;
	end->shared->entries = entries;
	end->shared->entry_bytes = sizeof(struct fl_worker_entry);
	end->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	end->poller_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (end->doorbell_fd < 0 || end->poller_fd < 0) {
		int rc = -errno;

		fl_ring_end_close(end);
		return rc;
	}
	return 0;
}

void fl_ring_end_close(struct fl_ring_end *end)
{
	if (end->shared)
		(void)munmap(end->shared, shared_bytes(end->entries));
	end->shared = NULL;
	fl_fd_close(&end->shared_fd);
	fl_fd_close(&end->doorbell_fd);
	fl_fd_close(&end->poller_fd);
}

static uint64_t *bitmap(const struct fl_ring_end *end, bool fill)
{
	return fill ? end->shared->fill : end->shared->demand;
}

bool fl_ring_end_ready(const struct fl_ring_end *end, bool fill)
{
	for (uint32_t word = 0; word < end->entries / 64; word++) {
		if (end->taken[fill][word] ||
		    __atomic_load_n(&bitmap(end, fill)[word], __ATOMIC_SEQ_CST))
			return true;
	}
	return false;
}

/* Copies the entry: each field is read once. False when it was not given to us. */
static bool read_entry(struct fl_ring_end *end, uint32_t index, struct fl_ring_copy *copy)
{
	const struct fl_worker_entry *entry = &end->entry[index];
	uint32_t state = __atomic_load_n(&entry->state, __ATOMIC_ACQUIRE);
	uint64_t bit = UINT64_C(1) << (index % 64);

	if (end->flying[index / 64] & bit || (state & ~FL_WORKER_WAITER) != FL_WORKER_READY)
		return false;
	copy->remote_offset = __atomic_load_n(&entry->remote_offset, __ATOMIC_RELAXED);
	copy->local_offset = __atomic_load_n(&entry->local_offset, __ATOMIC_RELAXED);
	copy->len_bytes = __atomic_load_n(&entry->len_bytes, __ATOMIC_RELAXED);
	copy->flags = __atomic_load_n(&entry->flags, __ATOMIC_RELAXED);
	end->flying[index / 64] |= bit;
	if (copy->flags & FL_WORKER_TELL)
		end->tell[index / 64] |= bit;
	else
		end->tell[index / 64] &= ~bit;
	return true;
}

/* Words in turn, so that the first ones do not keep the last ones waiting. */
int fl_ring_end_take(struct fl_ring_end *end, bool fill, struct fl_ring_copy *copy)
{
	uint32_t words = end->entries / 64;

	for (uint32_t i = 0; i < words; i++) {
		uint32_t word = end->cursor[fill] % words;
		uint64_t *taken = &end->taken[fill][word];
		uint64_t *given = &bitmap(end, fill)[word];

		if (!*taken && __atomic_load_n(given, __ATOMIC_RELAXED))
			*taken = __atomic_exchange_n(given, 0, __ATOMIC_SEQ_CST);
		while (*taken) {
			uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(*taken);

			*taken &= *taken - 1;
			if (read_entry(end, index, copy))
				return (int)index;
		}
		end->cursor[fill] = word + 1;
	}
	return -EAGAIN;
}

static void tell(struct fl_ring_end *end, uint32_t index)
{
	static const uint64_t one = 1;
	uint32_t *sleeps = &end->shared->poller_sleeps;

	(void)__atomic_fetch_or(&end->shared->done[index / 64], UINT64_C(1) << (index % 64),
				__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(sleeps, __ATOMIC_SEQ_CST) ||
	    !__atomic_exchange_n(sleeps, 0, __ATOMIC_SEQ_CST))
		return;
	end->tells++;
	(void)!write(end->poller_fd, &one, sizeof(one));
}

void fl_ring_end_complete(struct fl_ring_end *end, uint32_t index, int result)
{
	struct fl_worker_entry *entry = &end->entry[index];
	uint64_t bit = UINT64_C(1) << (index % 64);
	uint32_t seen;

	end->flying[index / 64] &= ~bit;
	__atomic_store_n(&entry->result, result, __ATOMIC_RELAXED);
	seen = __atomic_exchange_n(&entry->state, FL_WORKER_DONE, __ATOMIC_ACQ_REL);
	if (seen & FL_WORKER_WAITER) {
		end->wakes++;
		(void)syscall(SYS_futex, &entry->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
	if (end->tell[index / 64] & bit)
		tell(end, index);
}

bool fl_ring_end_sleep(struct fl_ring_end *end, bool fill)
{
	__atomic_store_n(&end->shared->worker_sleeps, 1, __ATOMIC_SEQ_CST);
	if (!fl_ring_end_ready(end, false) && !(fill && fl_ring_end_ready(end, true)))
		return true;
	fl_ring_end_awake(end);
	return false;
}

void fl_ring_end_awake(struct fl_ring_end *end)
{
	uint64_t count;

	/* Relaxed: a doorbell that comes late wakes us once for nothing. */
	__atomic_store_n(&end->shared->worker_sleeps, 0, __ATOMIC_RELAXED);
	(void)!read(end->doorbell_fd, &count, sizeof(count));
}
