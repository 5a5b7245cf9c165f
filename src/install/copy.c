/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "install/uffdio.h"
#include "util/error.h"
#include "util/fd.h"

/* One buffer of zeros serves pages of up to 2 MiB, another those of up to 1 GiB. */
#define ZEROS       2
#define ZEROS_SMALL (UINT64_C(1) << 21)
#define ZEROS_LARGE (UINT64_C(1) << 30)

struct copy {
	struct fl_install install;
	int uffd;
	uint64_t base_page;
	_Atomic(void *) zeros[ZEROS];
};

static struct copy *to_copy(struct fl_install *install)
{
	return (struct copy *)(void *)install;
}

static uint64_t zeros_len(size_t which)
{
	return which ? ZEROS_LARGE : ZEROS_SMALL;
}

/* Made at first need, and by any thread: read-only anonymous memory costs page tables, no pages. */
static void *get_zeros(struct copy *copy, uint64_t page_size)
{
	size_t which = page_size > ZEROS_SMALL;
	void *zeros = atomic_load(&copy->zeros[which]);
	void *mine;

	if (zeros || page_size > zeros_len(which))
		return zeros && page_size <= zeros_len(which) ? zeros : NULL;
	mine = mmap(NULL, zeros_len(which), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	if (mine == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong(&copy->zeros[which], &zeros, mine))
		return mine;
	(void)munmap(mine, zeros_len(which));
	return zeros;
}

static int64_t copy_copy(struct fl_install *install, uint64_t addr, const void *from,
			 uint64_t len_bytes, unsigned int flags)
{
	return fl_uffdio_copy(to_copy(install)->uffd, addr, from, len_bytes, flags);
}

static int64_t copy_zeros(struct copy *copy, uint64_t addr, uint64_t len_bytes, uint64_t page_size,
			  unsigned int flags)
{
	const void *zeros = get_zeros(copy, page_size);
	int64_t done = 0;

	if (!zeros)
		return -ENOMEM;
	while ((uint64_t)done < len_bytes) {
		int64_t rc =
			fl_uffdio_copy(copy->uffd, addr + (uint64_t)done, zeros, page_size, flags);

		if (rc < 0)
			return done ? done : rc;
		done += rc;
	}
	return done;
}

/* hugetlbfs answers EINVAL to UFFDIO_ZEROPAGE, which cannot install write-protected either. */
static int64_t copy_zero(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			 uint64_t page_size, unsigned int flags)
{
	struct copy *copy = to_copy(install);

	if (page_size > copy->base_page || (flags & FL_INSTALL_WP))
		return copy_zeros(copy, addr, len_bytes, page_size, flags);
	return fl_uffdio_zeropage(copy->uffd, addr, len_bytes, flags);
}

/* For shared memory that is also registered MINOR: its page cache may be filled by others. */
static int64_t copy_map(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			unsigned int flags)
{
	return fl_uffdio_continue(to_copy(install)->uffd, addr, len_bytes, flags);
}

static int64_t copy_poison(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			   unsigned int flags)
{
	return fl_uffdio_poison(to_copy(install)->uffd, addr, len_bytes, flags);
}

static void copy_close(struct fl_install *install)
{
	struct copy *copy = to_copy(install);

	for (size_t i = 0; i < ZEROS; i++) {
		void *zeros = atomic_load(&copy->zeros[i]);

		if (zeros)
			(void)munmap(zeros, zeros_len(i));
	}
	fl_fd_close(&copy->uffd);
	free(copy);
}

static const struct fl_install_ops copy_ops = {
	.size = sizeof(copy_ops),
	.version = FL_INSTALL_OPS_VERSION,
	.name = "copy",
	.copy = copy_copy,
	.zero = copy_zero,
	.map = copy_map,
	.poison = copy_poison,
	.close = copy_close,
};

int fl_install_copy_new(struct fl_install **install, int uffd, struct fl_error *err)
{
	struct copy *copy = calloc(1, sizeof(*copy));

	if (!copy)
		return fl_error_set(err, -ENOMEM, "out of memory");
	copy->install.ops = &copy_ops;
	copy->base_page = (uint64_t)sysconf(_SC_PAGESIZE);
	copy->uffd = fl_uffdio_dup(uffd, err);
	if (copy->uffd < 0) {
		int rc = copy->uffd;

		free(copy);
		return rc;
	}
	*install = &copy->install;
	return 0;
}
