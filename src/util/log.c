/* SPDX-License-Identifier: MIT */
#include "util/log.h"

#include <stdarg.h>
#include <stdio.h>

void fl_log(const struct fl_log *log, enum fl_log_level level, const char *format, ...)
{
	char text[512];
	va_list args;

	if (!log || !log->write)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log->write(log->ctx, level, text);
}

const char *fl_version(void)
{
	return FL_VERSION;
}
