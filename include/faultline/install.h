/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_INSTALL_H
#define FAULTLINE_INSTALL_H

/*
 * Installs: making pages present so that no one can see them half filled.
 *
 * An install speaks in host virtual addresses of the VMM. It knows nothing of page states: the
 * pager decides what may be installed and what an answer means.
 */

#include <stdbool.h>
#include <faultline/common.h>
#include <faultline/memory.h>
#include <faultline/trap.h>

#ifdef __cplusplus
extern "C" {
#endif

/** FL_INSTALL_DONTWAKE - do not wake those who wait: the caller will, or nobody does */
#define FL_INSTALL_DONTWAKE (1u << 0)
/** FL_INSTALL_WP - install write-protected */
#define FL_INSTALL_WP (1u << 1)

struct fl_install;

/** FL_INSTALL_OPS_VERSION - version of struct fl_install_ops described here */
#define FL_INSTALL_OPS_VERSION 1

/**
 * struct fl_install_ops - one kind of install
 * @size: sizeof(struct fl_install_ops) as the implementation was compiled; later fields are absent
 * @version: FL_INSTALL_OPS_VERSION
 * @flags: none yet, 0
 * @name: "copy", "continue", "reveal"
 * @place: where contents may be written directly before map(), or NULL when copy() needs a buffer
 * @copy: fill pages from a buffer and make them present
 * @zero: make pages present that read as zeros
 * @map: make pages present whose contents are in the page cache already
 * @poison: make touching the pages a memory error
 * @close: free the install
 *
 * All four installs return how many bytes they finished: a positive multiple of the page size,
 * possibly less than asked: go on from there; or a negative errno when not even one page was
 * finished. The functions documented below call these and say what they return.
 */
struct fl_install_ops {
	uint32_t size;
	uint32_t version;
	uint32_t flags;
	const char *name;
	void *(*place)(struct fl_install *install, uint64_t addr, uint64_t len_bytes);
	int64_t (*copy)(struct fl_install *install, uint64_t addr, const void *from,
			uint64_t len_bytes, unsigned int flags);
	int64_t (*zero)(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			uint64_t page_size, unsigned int flags);
	int64_t (*map)(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
		       unsigned int flags);
	int64_t (*poison)(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			  unsigned int flags);
	void (*close)(struct fl_install *install);
};

/**
 * struct fl_install - the head of every install
 * @ops: its kind
 */
struct fl_install {
	const struct fl_install_ops *ops;
};

/**
 * fl_install_copy_new() - install by UFFDIO_COPY and UFFDIO_ZEROPAGE
 * @install: receives the install
 * @uffd: the userfaultfd that the ranges are registered with; duplicated
 * @err: receives the reason, or NULL
 *
 * Zeros on hugetlbfs, where UFFDIO_ZEROPAGE answers EINVAL, are a UFFDIO_COPY of zeros.
 *
 * Return: 0; -ENOMEM, -EMFILE, -EBADF.
 */
FL_API int fl_install_copy_new(struct fl_install **install, int uffd, struct fl_error *err);

/**
 * struct fl_alias - a second mapping of a range of guest memory, that never faults
 * @addr: host virtual address of the range in the guest's mapping
 * @alias: the same bytes, mapped read-write in this process without any trap
 * @len_bytes: length of both
 */
struct fl_alias {
	uint64_t addr;
	void *alias;
	uint64_t len_bytes;
};

/**
 * fl_install_continue_new() - install by writing a second mapping, then UFFDIO_CONTINUE
 * @install: receives the install
 * @uffd: the userfaultfd, ranges registered MISSING and MINOR together; duplicated
 * @aliases: @count second mappings; copied
 * @count: 1 to FL_REGIONS_MAX
 * @err: receives the reason, or NULL
 *
 * For shared memory (memfd, hugetlbfs). poison() is UFFDIO_POISON.
 *
 * Return: 0; -EINVAL for overlapping or empty aliases, -ENOMEM, -EMFILE, -EBADF.
 */
FL_API int fl_install_continue_new(struct fl_install **install, int uffd,
				   const struct fl_alias *aliases, size_t count,
				   struct fl_error *err);

/**
 * fl_install_reveal_new() - install by writing a second mapping, then mprotect(2)
 * @install: receives the install
 * @trap: the SIGSEGV trap whose waiters are woken; must outlive the install
 * @aliases: @count second mappings; copied
 * @count: 1 to FL_REGIONS_MAX
 * @err: receives the reason, or NULL
 *
 * The companion of fl_trap_segv_new(). poison() maps a page beyond the end of an empty file over
 * the poisoned one: touching it is a SIGBUS.
 *
 * Return: 0; -EINVAL for overlapping or empty aliases, -ENOMEM, -EMFILE.
 */
FL_API int fl_install_reveal_new(struct fl_install **install, struct fl_trap *trap,
				 const struct fl_alias *aliases, size_t count,
				 struct fl_error *err);

/**
 * fl_install_place() - where the contents of a range may be written directly
 * @install: the install
 * @addr: host virtual address in the VMM, page aligned
 * @len_bytes: length
 *
 * Return: memory of @len_bytes to fill before fl_install_map(); NULL when fl_install_copy() from a
 * buffer is the way, or when the range is not in one alias.
 */
FL_API void *fl_install_place(struct fl_install *install, uint64_t addr, uint64_t len_bytes);

/**
 * fl_install_copy() - fill pages from a buffer and make them present
 * @install: the install
 * @addr: host virtual address in the VMM, page aligned
 * @from: the contents, @len_bytes; page aligned is fastest
 * @len_bytes: a multiple of the page size
 * @flags: FL_INSTALL_*
 *
 * Return: bytes finished, possibly fewer than asked; -EEXIST: the first page is there already;
 * -EAGAIN: the mapping is changing: read events, then try again; -ENOMEM: no memory now;
 * -ENOENT or -EFAULT: the range is not (or no longer) registered, or @from is not readable;
 * -ESRCH: the address space is gone; -EINVAL; -EOPNOTSUPP: this install has no FL_INSTALL_WP.
 */
FL_API int64_t fl_install_copy(struct fl_install *install, uint64_t addr, const void *from,
			       uint64_t len_bytes, unsigned int flags);

/**
 * fl_install_zero() - make pages present that read as zeros
 * @install: the install
 * @addr: host virtual address in the VMM, page aligned
 * @len_bytes: a multiple of @page_size
 * @page_size: of the region, in bytes
 * @flags: FL_INSTALL_*
 *
 * Return: as fl_install_copy().
 */
FL_API int64_t fl_install_zero(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			       uint64_t page_size, unsigned int flags);

/**
 * fl_install_map() - make pages present whose contents are in the page cache already
 * @install: the install
 * @addr: host virtual address in the VMM, page aligned
 * @len_bytes: a multiple of the page size
 * @flags: FL_INSTALL_*
 *
 * Return: as fl_install_copy(); -EFAULT also when a page is not in the cache; -EOPNOTSUPP when this
 * install cannot.
 */
FL_API int64_t fl_install_map(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			      unsigned int flags);

/**
 * fl_install_poison() - make touching the pages a memory error (SIGBUS, or a machine check)
 * @install: the install
 * @addr: host virtual address in the VMM, page aligned
 * @len_bytes: a multiple of the page size
 * @flags: FL_INSTALL_DONTWAKE or 0
 *
 * Return: as fl_install_copy(); -EOPNOTSUPP when the kernel lacks UFFDIO_POISON.
 */
FL_API int64_t fl_install_poison(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
				 unsigned int flags);

/**
 * fl_install_close() - free an install
 * @install: the install, or NULL
 */
FL_API void fl_install_close(struct fl_install *install);

/**
 * fl_install_look() - is a page present in a process?
 * @pagemap_fd: /proc/PID/pagemap of the VMM, opened by the caller
 * @addr: host virtual address of the page
 *
 * Asks the kernel (PAGEMAP_SCAN, else the page's pagemap entry), for when answers contradict each
 * other: an empty hugetlbfs pool makes UFFDIO_COPY answer EEXIST for a page that is absent.
 *
 * Return: 1 when it is present or swapped out; 0 when not; -EBADF, -EPERM, and what read(2)
 * returns.
 */
FL_API int fl_install_look(int pagemap_fd, uint64_t addr);

#ifdef __cplusplus
}
#endif
#endif
