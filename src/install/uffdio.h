/* SPDX-License-Identifier: MIT */
#ifndef FL_INSTALL_UFFDIO_H
#define FL_INSTALL_UFFDIO_H

#include <faultline/install.h>

/*
 * The ioctls that resolve faults, ioctl_userfaultfd(2), with one answer for all: bytes finished, or
 * a negative errno when not even one page was. The kernel stops at the first page that it cannot do
 * and, when some were done before it, tells only how many: whoever goes on from there learns why.
 */
int64_t fl_uffdio_copy(int uffd, uint64_t addr, const void *from, uint64_t len_bytes,
		       unsigned int flags);
int64_t fl_uffdio_zeropage(int uffd, uint64_t addr, uint64_t len_bytes, unsigned int flags);
int64_t fl_uffdio_continue(int uffd, uint64_t addr, uint64_t len_bytes, unsigned int flags);

/* -EOPNOTSUPP when the kernel does not know it. */
int64_t fl_uffdio_poison(int uffd, uint64_t addr, uint64_t len_bytes, unsigned int flags);

/* A descriptor of our own for an install; negative errno. */
int fl_uffdio_dup(int uffd, struct fl_error *err);

#endif
