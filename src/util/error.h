/* SPDX-License-Identifier: MIT */
#ifndef FL_UTIL_ERROR_H
#define FL_UTIL_ERROR_H

#include <faultline/common.h>

/* Fills *err (which may be NULL) and returns code, a negative errno, so that a caller can return
 * it. */
int fl_error_set(struct fl_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
