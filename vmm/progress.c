/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

static long long count(const json_t *status, const char *key)
{
	return json_integer_value(json_object_get(status, key));
}

static const char *word(const json_t *status, const char *key)
{
	const char *text = json_string_value(json_object_get(status, key));

	return text ? text : "";
}

static double mib(long long bytes)
{
	return (double)bytes / (double)MIB;
}

/* Then there are no rounds but one of zeros. */
static bool is_postcopy(const json_t *status)
{
	return !strcmp(word(status, "mode"), "postcopy");
}

static void outgoing(const json_t *status, char *text, size_t room)
{
	size_t len = 0;

	if (!strcmp(word(status, "phase"), "rounds") && is_postcopy(status))
		snprintf(text, room, "rounds: %lld of %lld pages told to be zeros",
			 count(status, "zero"), count(status, "pages"));
	else if (!strcmp(word(status, "phase"), "rounds"))
		snprintf(text, room, "rounds: round %lld, %lld of %lld pages left",
			 count(status, "round"), count(status, "round_left"),
			 count(status, "pages"));
	else
		snprintf(text, room, "%s: %lld of %lld pages left, %lld on demand",
			 word(status, "phase"), count(status, "due_left"), count(status, "due"),
			 count(status, "demand"));
	/* Neither is known before a round, or a second, was seen whole. */
	len = strlen(text);
	if (!strcmp(word(status, "phase"), "rounds") && count(status, "round") > 1)
		snprintf(text + len, room - len, ", %lld written a second",
			 count(status, "dirty_rate"));
	len = strlen(text);
	if (count(status, "rate"))
		snprintf(text + len, room - len, ", %.1f MiB/s", mib(count(status, "rate")));
}

static void incoming(const json_t *status, char *text, size_t room)
{
	const json_t *miss = json_object_get(json_object_get(status, "faults"), "miss");

	snprintf(text, room,
		 "%s: %lld of %lld pages left, %lld on demand, a demand takes %.1f us (p50)",
		 word(status, "phase"), count(status, "left"), count(status, "pages"),
		 count(status, "demand"), (double)count(miss, "p50_ns") / 1e3);
}

void vmm_progress_show(struct vmm_progress_line *line, const json_t *status)
{
	char text[sizeof(line->last)];

	if (!json_object_get(status, "phase"))
		return;
	if (!strcmp(word(status, "direction"), "incoming"))
		incoming(status, text, sizeof(text));
	else
		outgoing(status, text, sizeof(text));
	if (!strcmp(text, line->last))
		return;
	strcpy(line->last, text);
	if (isatty(STDERR_FILENO)) {
		fprintf(stderr, "\r\033[K%s", text);
		line->shown = true;
	} else {
		fprintf(stderr, "%s\n", text);
	}
	fflush(stderr);
}

void vmm_progress_end(struct vmm_progress_line *line)
{
	if (line->shown)
		fputc('\n', stderr);
	line->shown = false;
}

static void print_demands(const json_t *result)
{
	const json_t *miss = json_object_get(json_object_get(result, "faults"), "miss");

	if (count(miss, "count"))
		printf("  a demand took %.1f us (p50), %.1f us (p99), %.1f us at most\n",
		       (double)count(miss, "p50_ns") / 1e3, (double)count(miss, "p99_ns") / 1e3,
		       (double)count(miss, "max_ns") / 1e3);
}

static void print_outgoing(const json_t *result)
{
	printf("migration to %s: %s\n"
	       "  downtime %.2f ms, %.1f ms in all, %lld bytes sent (%lld saved by compression)\n",
	       word(result, "to"), word(result, "phase"),
	       json_real_value(json_object_get(result, "downtime_ms")),
	       json_real_value(json_object_get(result, "total_ms")), count(result, "bytes"),
	       count(result, "saved_bytes"));
	if (is_postcopy(result))
		printf("  pages: %lld of zeros before the switch, ", count(result, "precopy"));
	else
		printf("  pages: %lld in %lld rounds, ", count(result, "precopy"),
		       count(result, "round"));
	printf("%lld due at the switch: %lld on demand, %lld in the background; %lld of all as"
	       " zeros\n",
	       count(result, "due"), count(result, "demand"), count(result, "background"),
	       count(result, "zero"));
	print_demands(result);
}

static void print_incoming(const json_t *result)
{
	printf("migration to here: %s\n"
	       "  pages: %lld in rounds, %lld due at the switch, %lld on demand, %lld in the"
	       " background\n",
	       word(result, "phase"), count(result, "precopy"), count(result, "due"),
	       count(result, "demand"), count(result, "fill"));
	print_demands(result);
}

void vmm_progress_summary(const json_t *result)
{
	if (!strcmp(word(result, "direction"), "incoming"))
		print_incoming(result);
	else
		print_outgoing(result);
}
