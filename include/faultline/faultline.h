/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_FAULTLINE_H
#define FAULTLINE_FAULTLINE_H

/* All of libfaultline. */

#include <faultline/common.h>
#include <faultline/memory.h>
#include <faultline/trap.h>
#include <faultline/install.h>
#include <faultline/source.h>
#include <faultline/pager.h>
#include <faultline/firecracker.h>

#endif
