/* SPDX-License-Identifier: MIT */
#ifndef FL_UTIL_LOG_H
#define FL_UTIL_LOG_H

#include <faultline/common.h>

/* One message to the caller's log; nothing happens when log or its write() is NULL. Allocates
 * nothing. */
void fl_log(const struct fl_log *log, enum fl_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
