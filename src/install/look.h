/* SPDX-License-Identifier: MIT */
#ifndef FL_INSTALL_LOOK_H
#define FL_INSTALL_LOOK_H

#include <faultline/install.h>

/* fl_install_look() where PAGEMAP_SCAN is not: by the page's entry alone. */
int fl_look_entry(int pagemap_fd, uint64_t addr);

#endif
