/* SPDX-License-Identifier: MIT */
#include "session/report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"

const char *fl_report_fault_name(enum fl_fault_kind kind)
{
	static const char *const names[FL_FAULT_KINDS] = {
		[FL_FAULT_HIT] = "hit",       [FL_FAULT_MISS] = "miss",
		[FL_FAULT_JOINED] = "joined", [FL_FAULT_ZERO] = "zero",
		[FL_FAULT_MAPPED] = "mapped",
	};

	return names[kind];
}

/* JSON is UTF-8, and a path is any bytes. */
static json_t *report_text(const char *text)
{
	json_t *json = json_string(text);
	char *copy = json ? NULL : strdup(text);

	if (!copy)
		return json;
	for (char *c = copy; *c; c++)
		*c = *c & 0x80 ? '?' : *c;
	json = json_string(copy);
	free(copy);
	return json;
}

static json_t *report_faults(const struct fl_pager_stats *stats)
{
	json_t *faults = json_object();

	for (int kind = 0; kind < FL_FAULT_KINDS; kind++) {
		const struct fl_fault_stats *fault = &stats->faults[kind];

		(void)json_object_set_new(faults, fl_report_fault_name((enum fl_fault_kind)kind),
					  json_pack("{sIsIsIsI}", "count", (json_int_t)fault->count,
						    "p50_ns", (json_int_t)fault->p50_ns, "p99_ns",
						    (json_int_t)fault->p99_ns, "max_ns",
						    (json_int_t)fault->max_ns));
	}
	return faults;
}

static json_t *report_pages(const struct fl_pager_stats *stats)
{
	return json_pack("{sIsIsIsIsIsIsIsIsI}", "total", (json_int_t)stats->pages, "left",
			 (json_int_t)stats->left, "demand", (json_int_t)stats->demand, "around",
			 (json_int_t)stats->around, "fill", (json_int_t)stats->fill, "replay",
			 (json_int_t)stats->replay, "zero", (json_int_t)stats->zero, "removed",
			 (json_int_t)stats->removed, "poisoned", (json_int_t)stats->poisoned);
}

static json_t *report_session(struct fl_session *session)
{
	struct fl_session_info info;

	fl_session_info(session, &info);
	return json_pack("{sI ss sI so so sI sI sI sb sb so so sI sI sI sI so}", "session",
			 (json_int_t)info.id, "state", fl_session_state_name(info.state), "pid",
			 (json_int_t)info.pid, "socket", report_text(info.endpoint->socket_path),
			 "memory", report_text(info.endpoint->image_path), "regions",
			 (json_int_t)info.regions, "bytes", (json_int_t)info.memory_bytes, "age_ms",
			 (json_int_t)(info.age_ns / FL_NS_PER_MS), "draining", info.draining,
			 "recording", info.recording, "pages", report_pages(&info.stats), "faults",
			 report_faults(&info.stats), "duplicates",
			 (json_int_t)info.stats.duplicates, "retries",
			 (json_int_t)info.stats.retries, "errors", (json_int_t)info.stats.errors,
			 "full_ms", (json_int_t)(info.stats.full_ns / FL_NS_PER_MS), "error",
			 report_text(info.error));
}

/* The newest session comes first in the list, and last here. */
json_t *fl_report_sessions(const struct fl_server *server)
{
	json_t *sessions = json_array();
	const struct fl_server_session *each;

	for (each = server->sessions; each; each = each->next)
		(void)json_array_insert_new(sessions, 0, report_session(each->session));
	return sessions;
}

static json_t *report_images(const struct fl_server *server)
{
	json_t *images = json_array();
	const struct fl_image *image = server->config->images ? server->config->images->first
							      : NULL;

	for (; image; image = image->next) {
		struct fl_source_stats stats;
		json_t *object = json_pack("{so so sI sI}", "path", report_text(image->path),
					   "filters", report_text(image->filters), "bytes",
					   (json_int_t)fl_source_length(image->source), "sockets",
					   (json_int_t)image->refs);

		if (image->stats && fl_filter_stats_read(image->stats, &stats) == 0)
			(void)json_object_set_new(object, "reads",
						  json_pack("{sI sI sI sI}", "attempts",
							    (json_int_t)stats.attempts, "submits",
							    (json_int_t)stats.submits, "errors",
							    (json_int_t)stats.errors, "bytes",
							    (json_int_t)stats.bytes));
		(void)json_array_append_new(images, object);
	}
	return images;
}

json_t *fl_report_server(const struct fl_server *server)
{
	struct fl_totals totals;

	fl_totals_all(server, &totals);
	return json_pack("{ss sI sI sb so so s{sI sI sI sI so so}}", "version", fl_version(), "pid",
			 (json_int_t)getpid(), "uptime_ms",
			 (json_int_t)((fl_clock_ns() - server->started_ns) / FL_NS_PER_MS),
			 "draining", server->draining, "images", report_images(server), "sessions",
			 fl_report_sessions(server), "totals", "accepted",
			 (json_int_t)totals.accepted, "ended", (json_int_t)totals.ended, "failed",
			 (json_int_t)totals.failed, "refused", (json_int_t)totals.refused, "pages",
			 report_pages(&totals.stats), "faults", report_faults(&totals.stats));
}
