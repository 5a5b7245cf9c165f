/* SPDX-License-Identifier: MIT */
#ifndef FL_TRAP_UFFD_H
#define FL_TRAP_UFFD_H

#include <faultline/trap.h>

/* A raw userfaultfd of one way, UFFDIO_API not done; negative errno. */
int fl_uffd_raw(enum fl_uffd_way way);

/* UFFDIO_API; *offered (or NULL) receives every feature that the kernel has. */
int fl_uffd_api(int fd, uint64_t features, uint64_t *offered);

/* Is it a userfaultfd, of whatever process? Found without changing its state, and without /proc. */
bool fl_uffd_is(int fd);

/* The name of one UFFD_FEATURE_* bit as the probe table spells it, "uffd.poison"; NULL if unknown.
 */
const char *fl_uffd_feature_name(uint64_t bit);

#endif
