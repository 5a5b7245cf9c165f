/* SPDX-License-Identifier: MIT */

/*
 * The guest's mapping is PROT_NONE where the SIGSEGV trap armed it. The contents are written
 * through a second mapping; mprotect(2) then brings whole pages to sight, and the trap's waiters
 * are woken. As with continue.c, no one may ask for a page that is present.
 *
 * Every change of protection in the middle of a mapping splits it, and the kernel allows
 * vm.max_map_count mappings: a guest that is touched here and there can run into that, as ENOMEM.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "install/alias.h"
#include "util/error.h"
#include "util/fd.h"

/* @nothing: a file of no length; a mapping of it is all beyond its end */
struct reveal {
	struct fl_install install;
	struct fl_trap *trap;
	int nothing;
	uint64_t base_page;
	struct fl_aliases aliases;
};

static struct reveal *to_reveal(struct fl_install *install)
{
	return (struct reveal *)(void *)install;
}

static void *reveal_place(struct fl_install *install, uint64_t addr, uint64_t len_bytes)
{
	return fl_aliases_place(&to_reveal(install)->aliases, addr, len_bytes);
}

static bool is_visible(uint64_t addr)
{
	char byte;
	struct iovec to = {.iov_base = &byte, .iov_len = 1};
	struct iovec from = {.iov_base = (void *)(uintptr_t)addr, .iov_len = 1};

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

/*
 * mprotect(2) stops at the first mapping that it cannot split, with those before it done. What came
 * to sight must be reported as finished: the guest may have written to it already, and to install
 * it again would undo that.
 */
static int64_t visible_part(const struct reveal *reveal, uint64_t addr, uint64_t len_bytes)
{
	uint64_t done = 0;

	while (done < len_bytes && is_visible(addr + done))
		done += reveal->base_page;
	return (int64_t)done;
}

static int64_t show(const struct reveal *reveal, uint64_t addr, uint64_t len_bytes)
{
	void *at = (void *)(uintptr_t)addr;
	int64_t done;
	int rc;

	if (!mprotect(at, len_bytes, PROT_READ | PROT_WRITE))
		return (int64_t)len_bytes;
	rc = -errno;
	done = rc == -ENOMEM ? visible_part(reveal, addr, len_bytes) : 0;
	if (done)
		return done;
	/* ENOMEM is also said of a hole in the range, which msync(2) tells apart. */
	return rc == -ENOMEM && msync(at, len_bytes, MS_ASYNC) ? -ENOENT : rc;
}

static void wake(const struct reveal *reveal, uint64_t addr, int64_t done, unsigned int flags)
{
	if (done > 0 && !(flags & FL_INSTALL_DONTWAKE))
		(void)fl_trap_wake(reveal->trap, addr, (uint64_t)done);
}

static int64_t reveal_map(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			  unsigned int flags)
{
	struct reveal *reveal = to_reveal(install);
	int64_t done;

	if (flags & FL_INSTALL_WP)
		return -EOPNOTSUPP;
	if ((addr | len_bytes) & (reveal->base_page - 1))
		return -EINVAL;
	done = show(reveal, addr, len_bytes);
	wake(reveal, addr, done, flags);
	return done;
}

static int64_t reveal_copy(struct fl_install *install, uint64_t addr, const void *from,
			   uint64_t len_bytes, unsigned int flags)
{
	struct reveal *reveal = to_reveal(install);
	int64_t filled;

	if ((addr | len_bytes) & (reveal->base_page - 1))
		return -EINVAL;
	filled = fl_aliases_fill(&reveal->aliases, addr, from, len_bytes);
	return filled < 0 ? filled : reveal_map(install, addr, (uint64_t)filled, flags);
}

/* A hole in the file reads as zeros and costs no memory; where none can be made, zeros are written.
 */
static int64_t reveal_zero(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			   uint64_t page_size, unsigned int flags)
{
	struct reveal *reveal = to_reveal(install);
	void *place = fl_aliases_find(&reveal->aliases, addr, &len_bytes);

	(void)page_size;
	if (place && !madvise(place, len_bytes, MADV_REMOVE))
		return reveal_map(install, addr, len_bytes, flags);
	return reveal_copy(install, addr, NULL, len_bytes, flags);
}

static int64_t reveal_poison(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			     unsigned int flags)
{
	struct reveal *reveal = to_reveal(install);
	uint64_t within = len_bytes;

	/* Over guest memory only: MAP_FIXED would replace whatever else is there. */
	if (!fl_aliases_find(&reveal->aliases, addr, &within))
		return -ENOENT;
	if (mmap((void *)(uintptr_t)addr, within, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 reveal->nothing, 0) == MAP_FAILED)
		return -errno;
	wake(reveal, addr, (int64_t)within, flags);
	return (int64_t)within;
}

static void reveal_close(struct fl_install *install)
{
	struct reveal *reveal = to_reveal(install);

	fl_fd_close(&reveal->nothing);
	free(reveal);
}

static const struct fl_install_ops reveal_ops = {
	.size = sizeof(reveal_ops),
	.version = FL_INSTALL_OPS_VERSION,
	.name = "reveal",
	.place = reveal_place,
	.copy = reveal_copy,
	.zero = reveal_zero,
	.map = reveal_map,
	.poison = reveal_poison,
	.close = reveal_close,
};

static int open_nothing(struct fl_error *err)
{
	int fd = memfd_create("faultline-poison", MFD_CLOEXEC);

	if (fd < 0)
		return fl_error_set(err, -errno, "no file to poison pages with: error %d", errno);
	return fd;
}

int fl_install_reveal_new(struct fl_install **install, struct fl_trap *trap,
			  const struct fl_alias *aliases, size_t count, struct fl_error *err)
{
	struct reveal *reveal = calloc(1, sizeof(*reveal));
	int rc;

	if (!reveal)
		return fl_error_set(err, -ENOMEM, "out of memory");
	reveal->install.ops = &reveal_ops;
	reveal->trap = trap;
	reveal->base_page = (uint64_t)sysconf(_SC_PAGESIZE);
	reveal->nothing = -1;
	rc = fl_aliases_init(&reveal->aliases, aliases, count, err);
	if (!rc)
		rc = reveal->nothing = open_nothing(err);
	if (rc < 0) {
		reveal_close(&reveal->install);
		return rc;
	}
	*install = &reveal->install;
	return 0;
}
