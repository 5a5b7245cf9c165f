/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_COMMON_H
#define FAULTLINE_COMMON_H

/*
 * What every room of libfaultline shares: how errors and messages reach the caller.
 *
 * Functions return 0 or a positive count on success and a negative errno on failure. Those that
 * can fail for a reason worth a sentence also take a struct fl_error. The library never prints.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FL_API __attribute__((visibility("default")))

/**
 * struct fl_error - one clear sentence about what went wrong, and where
 * @code: negative errno, the same that the function returned
 * @text: NUL-terminated text for people, without a newline; cut when too long
 */
struct fl_error {
	int code;
	char text[252];
};

/**
 * enum fl_log_level - how much a message matters
 * @FL_LOG_ERROR: something that a session ends or degrades by
 * @FL_LOG_WARNING: something that an operator should look at
 * @FL_LOG_INFO: a milestone: attached, filled, ended
 * @FL_LOG_DEBUG: for those who work on Faultline
 */
enum fl_log_level { FL_LOG_ERROR, FL_LOG_WARNING, FL_LOG_INFO, FL_LOG_DEBUG };

/**
 * struct fl_log - where the library's messages go
 * @write: called with one message, a line without its newline; NULL drops messages. It may be
 *	called from any thread that runs a pager and must not call back into that pager.
 * @ctx: handed to @write
 */
struct fl_log {
	void (*write)(void *ctx, enum fl_log_level level, const char *text);
	void *ctx;
};

/**
 * fl_version() - the version of the library that is running
 *
 * Return: a static string such as "0.1.0".
 */
FL_API const char *fl_version(void);

#ifdef __cplusplus
}
#endif
#endif
