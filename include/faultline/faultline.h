/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_FAULTLINE_H
#define FAULTLINE_FAULTLINE_H

/* All of libfaultline. */

#include <faultline/common.h>
#include <faultline/memory.h>
#include <faultline/trap.h>
#include <faultline/install.h>
#include <faultline/source.h>
#include <faultline/fabric.h>
#include <faultline/pager.h>
#include <faultline/link.h>
#include <faultline/migrate.h>
#include <faultline/worker.h>
#include <faultline/firecracker.h>

#endif
