/* SPDX-License-Identifier: MIT */
/* What a daemon said about itself, for people: lines of at most about 110 columns. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "util/clock.h"

void cli_format_ns(char text[9], uint64_t ns)
{
	if (ns < 10 * FL_NS_PER_US)
		(void)snprintf(text, 9, "%.1f us", (double)ns / FL_NS_PER_US);
	else if (ns < 10 * FL_NS_PER_MS)
		(void)snprintf(text, 9, "%u us", (unsigned int)(ns / FL_NS_PER_US));
	else if (ns < 10 * FL_NS_PER_S)
		(void)snprintf(text, 9, "%u ms", (unsigned int)(ns / FL_NS_PER_MS));
	else
		(void)snprintf(text, 9, "%u s", (unsigned int)(ns / FL_NS_PER_S % 1000000));
}

void cli_format_bytes(char text[10], uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit < sizeof(units) / sizeof(*units) - 1) {
		value /= 1024;
		unit++;
	}
	(void)snprintf(text, 10, unit && value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void put(const struct cli_lines *lines, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void put(const struct cli_lines *lines, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	lines->line(lines->ctx, text);
}

static uint64_t get(json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *get_text(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "?";
}

/* The faults of all kinds that had to read something, by the worst of their latencies. */
static void format_latency(json_t *session, char p50[9], char p99[9], uint64_t *faults)
{
	json_t *kinds = json_object_get(session, "faults");
	uint64_t most = 0, p50_ns = 0, p99_ns = 0;
	const char *name;
	json_t *kind;

	*faults = 0;
	json_object_foreach(kinds, name, kind)
	{
		uint64_t count = get(kind, "count");

		*faults += count;
		if (count > most) {
			most = count;
			p50_ns = get(kind, "p50_ns");
		}
		if (get(kind, "p99_ns") > p99_ns)
			p99_ns = get(kind, "p99_ns");
	}
	cli_format_ns(p50, p50_ns);
	cli_format_ns(p99, p99_ns);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static void show_session(json_t *session, const struct cli_lines *lines)
{
	json_t *pages = json_object_get(session, "pages");
	uint64_t total = get(pages, "total"), left = get(pages, "left"), faults;
	char memory[10], p50[9], p99[9];
	const char *error = get_text(session, "error");

	cli_format_bytes(memory, get(session, "bytes"));
	format_latency(session, p50, p99, &faults);
	put(lines,
	    "%7" PRIu64 " %8" PRIu64 " %-9s %9s %5.1f%% %9" PRIu64 " %9" PRIu64 " %9" PRIu64
	    " %8s %8s %s",
	    get(session, "session"), get(session, "pid"),
	    json_is_true(json_object_get(session, "draining")) ? "draining"
							       : get_text(session, "state"),
	    memory, total ? 100.0 * (double)(total - left) / (double)total : 0.0, faults,
	    get(pages, "fill"), get(pages, "poisoned"), p50, p99,
	    base_name(get_text(session, "memory")));
	if (*error && strcmp(error, "?") != 0)
		put(lines, "                 %s", error);
}

void cli_show_daemon(json_t *stat, const struct cli_lines *lines)
{
	json_t *totals = json_object_get(stat, "totals");
	json_t *pages = json_object_get(totals, "pages");
	uint64_t up_s = get(stat, "uptime_ms") / 1000;

	put(lines, "faultline %s, pid %" PRIu64 ", up %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 "%s",
	    get_text(stat, "version"), get(stat, "pid"), up_s / 3600, up_s / 60 % 60, up_s % 60,
	    json_is_true(json_object_get(stat, "draining")) ? ", draining" : "");
	put(lines,
	    "sessions: %zu now, %" PRIu64 " accepted, %" PRIu64 " ended, %" PRIu64
	    " failed, %" PRIu64 " refused",
	    json_array_size(json_object_get(stat, "sessions")), get(totals, "accepted"),
	    get(totals, "ended"), get(totals, "failed"), get(totals, "refused"));
	put(lines,
	    "pages: %" PRIu64 " by demand, %" PRIu64 " around, %" PRIu64 " filled (%" PRIu64
	    " replayed), %" PRIu64 " zeros, %" PRIu64 " removed, %" PRIu64 " poisoned",
	    get(pages, "demand"), get(pages, "around"), get(pages, "fill"), get(pages, "replay"),
	    get(pages, "zero"), get(pages, "removed"), get(pages, "poisoned"));
}

void cli_show_sessions(json_t *stat, const struct cli_lines *lines)
{
	json_t *sessions = json_object_get(stat, "sessions");
	json_t *session;
	size_t i;

	put(lines, "%7s %8s %-9s %9s %6s %9s %9s %9s %8s %8s %s", "SESSION", "PID", "STATE",
	    "MEMORY", "THERE", "FAULTS", "FILLED", "POISONED", "P50", "P99", "IMAGE");
	json_array_foreach(sessions, i, session) show_session(session, lines);
}
