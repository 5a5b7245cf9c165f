/* SPDX-License-Identifier: MIT */
#include "worker/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "link/local.h"
#include "util/error.h"

#define UNIT 4096u

static int check_shape(const struct fl_memory *memory, const struct fl_worker_region *region,
		       struct fl_error *err)
{
	uint64_t end = region->offset + region->len_bytes;

	if ((region->offset | region->len_bytes | region->fd_offset) % UNIT || !region->len_bytes)
		return fl_error_set(err, -EINVAL,
				    "region at offset 0x%" PRIx64 ": not aligned to 4096 bytes, or "
				    "empty",
				    region->offset);
	if (end < region->offset ||
	    (end > FL_WORKER_OFFSET_END && region->offset < FL_LOCAL_STAGING) ||
	    region->fd_offset + region->len_bytes < region->fd_offset ||
	    region->fd_offset + region->len_bytes > INT64_MAX)
		return fl_error_set(err, -EINVAL,
				    "region at offset 0x%" PRIx64 ": 0x%" PRIx64
				    " bytes are too many",
				    region->offset, region->len_bytes);
	for (size_t i = 0; i < memory->count; i++) {
		const struct fl_memory_piece *other = &memory->piece[i];

		if (region->offset < other->offset + other->len_bytes && other->offset < end)
			return fl_error_set(err, -EINVAL,
					    "region at offset 0x%" PRIx64 ": overlaps the one at "
					    "0x%" PRIx64,
					    region->offset, other->offset);
	}
	return 0;
}

static int check_file(const struct fl_worker_region *region, struct fl_error *err)
{
	struct stat st;

	/* Memory has seals. A file of a file system could keep whoever touches it waiting for ever. */
	if (fcntl(region->fd, F_GET_SEALS) < 0 || fstat(region->fd, &st) < 0)
		return fl_error_set(err, -EBADF,
				    "region at offset 0x%" PRIx64
				    ": its descriptor is no memory (memfd, tmpfs, hugetlbfs)",
				    region->offset);
	if ((uint64_t)st.st_size < region->fd_offset + region->len_bytes)
		return fl_error_set(err, -EINVAL,
				    "region at offset 0x%" PRIx64 ": ends beyond its file of %jd "
				    "bytes",
				    region->offset, (intmax_t)st.st_size);
	return 0;
}

int fl_memory_add(struct fl_memory *memory, const struct fl_worker_region *region, bool writable,
		  struct fl_error *err)
{
	int rc = check_shape(memory, region, err);
	void *at;

	if (!rc)
		rc = check_file(region, err);
	if (!rc && memory->count == sizeof(memory->piece) / sizeof(*memory->piece))
		rc = fl_error_set(err, -E2BIG, "too many regions");
	if (rc)
		return rc;
	at = mmap(NULL, region->len_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
		  MAP_SHARED, region->fd, (off_t)region->fd_offset);
	if (at == MAP_FAILED)
		return fl_error_set(err, -errno,
				    "region at offset 0x%" PRIx64 ": cannot be mapped: %s",
				    region->offset, strerror(errno));
	(void)madvise(at, region->len_bytes, MADV_DONTDUMP);
	memory->piece[memory->count++] =
		(struct fl_memory_piece){region->offset, region->len_bytes, at};
	return 0;
}

void fl_memory_drop(struct fl_memory *memory, uint64_t from, uint64_t end)
{
	size_t kept = 0;

	for (size_t i = 0; i < memory->count; i++) {
		struct fl_memory_piece piece = memory->piece[i];

		if (piece.offset >= from && piece.offset < end)
			(void)munmap(piece.at, piece.len_bytes);
		else
			memory->piece[kept++] = piece;
	}
	memory->count = kept;
}

void *fl_memory_find(const struct fl_memory *memory, uint64_t offset, uint64_t len_bytes)
{
	for (size_t i = 0; i < memory->count; i++) {
		const struct fl_memory_piece *piece = &memory->piece[i];

		if (offset >= piece->offset && offset - piece->offset < piece->len_bytes)
			return len_bytes <= piece->len_bytes - (offset - piece->offset)
				       ? piece->at + (offset - piece->offset)
				       : NULL;
	}
	return NULL;
}

/* ---- the guard: the one thing here that belongs to the process, as signal handlers do */

static _Thread_local struct fl_memory *guarded[2];

void fl_memory_guard(struct fl_memory *one, struct fl_memory *other)
{
	sigset_t bus;

	guarded[0] = one;
	guarded[1] = other;
	(void)sigemptyset(&bus);
	(void)sigaddset(&bus, SIGBUS);
	(void)pthread_sigmask(SIG_UNBLOCK, &bus, NULL);
}

/* The whole piece: a part of a mapping of large pages cannot be replaced. */
static bool replace(struct fl_memory *memory, const unsigned char *addr)
{
	for (size_t i = 0; memory && i < memory->count; i++) {
		struct fl_memory_piece *piece = &memory->piece[i];

		if (addr < piece->at || addr >= piece->at + piece->len_bytes)
			continue;
		memory->broken = 1;
		return mmap(piece->at, piece->len_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
			    0) != MAP_FAILED;
	}
	return false;
}

/* Returning tries the access again; where it is none of ours, the default action then ends it. */
static void on_bus(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	if (!replace(guarded[0], info->si_addr) && !replace(guarded[1], info->si_addr))
		(void)signal(number, SIG_DFL);
	errno = saved;
}

int fl_memory_guard_init(void)
{
	struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};

	(void)sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}
