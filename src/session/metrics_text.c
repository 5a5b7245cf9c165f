/* SPDX-License-Identifier: MIT */
/* The figures, in Prometheus' text format 0.0.4. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "session/report.h"
#include "util/clock.h"

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP faultline_%s %s\n# TYPE faultline_%s %s\n", name, help, name, type);
}

static void put_value(FILE *out, const char *name, const char *type, const char *help,
		      uint64_t value)
{
	put_head(out, name, type, help);
	fprintf(out, "faultline_%s %" PRIu64 "\n", name, value);
}

static void put_pages(FILE *out, const struct fl_pager_stats *stats)
{
	const struct {
		const char *way;
		uint64_t count;
	} ways[] = {{"demand", stats->demand}, {"around", stats->around}, {"fill", stats->fill}};

	put_head(out, "pages_total", "counter", "Pages made present, by how they came.");
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		fprintf(out, "faultline_pages_total{way=\"%s\"} %" PRIu64 "\n", ways[i].way,
			ways[i].count);
	put_value(out, "pages_replayed_total", "counter",
		  "Filled pages that a working set asked for.", stats->replay);
	put_value(out, "pages_zero_total", "counter", "Pages that came as zeros, without a read.",
		  stats->zero);
	put_value(out, "pages_removed_total", "counter", "Pages that guests gave back.",
		  stats->removed);
	put_value(out, "pages_poisoned_total", "counter", "Pages that could not be supplied.",
		  stats->poisoned);
	put_value(out, "install_retries_total", "counter", "Installs that were tried again.",
		  stats->retries);
	put_value(out, "read_errors_total", "counter", "Reads of images that failed for good.",
		  stats->errors);
}

static void put_faults(FILE *out, const struct fl_pager_stats *stats)
{
	put_head(out, "faults_total", "counter", "Faults, by how they were answered.");
	for (int kind = 0; kind < FL_FAULT_KINDS; kind++)
		fprintf(out, "faultline_faults_total{kind=\"%s\"} %" PRIu64 "\n",
			fl_report_fault_name((enum fl_fault_kind)kind), stats->faults[kind].count);
	put_value(out, "duplicate_faults_total", "counter",
		  "Faults on pages that were present already.", stats->duplicates);
}

static void put_sessions(FILE *out, const struct fl_server *server, const struct fl_totals *totals)
{
	size_t states[FL_SESSION_STATES] = {0};
	const struct fl_server_session *each;

	for (each = server->sessions; each; each = each->next) {
		struct fl_session_info info;

		fl_session_info(each->session, &info);
		states[info.state]++;
	}
	put_head(out, "sessions", "gauge", "Sessions that there are, by state.");
	for (int state = 0; state < FL_SESSION_STATES; state++)
		fprintf(out, "faultline_sessions{state=\"%s\"} %zu\n",
			fl_session_state_name((enum fl_session_state)state), states[state]);
	put_value(out, "sessions_accepted_total", "counter", "Connections that became sessions.",
		  totals->accepted);
	put_value(out, "sessions_ended_total", "counter", "Sessions that ended well.",
		  totals->ended);
	put_value(out, "sessions_failed_total", "counter", "Sessions that failed.", totals->failed);
	put_value(out, "sessions_refused_total", "counter", "Peers whose handshake was refused.",
		  totals->refused);
}

/* Latencies cannot be summed up over sessions, so each has its own. */
static void put_latencies(FILE *out, const struct fl_session_info *info)
{
	for (int kind = 0; kind < FL_FAULT_KINDS; kind++) {
		const struct fl_fault_stats *fault = &info->stats.faults[kind];
		const char *name = fl_report_fault_name((enum fl_fault_kind)kind);

		if (!fault->count)
			continue;
		fprintf(out,
			"faultline_session_fault_seconds{session=\"%" PRIu64
			"\",kind=\"%s\",quantile=\"0.5\"} %.9f\n"
			"faultline_session_fault_seconds{session=\"%" PRIu64
			"\",kind=\"%s\",quantile=\"0.99\"} %.9f\n"
			"faultline_session_fault_seconds{session=\"%" PRIu64
			"\",kind=\"%s\",quantile=\"1\"} %.9f\n",
			info->id, name, (double)fault->p50_ns / FL_NS_PER_S, info->id, name,
			(double)fault->p99_ns / FL_NS_PER_S, info->id, name,
			(double)fault->max_ns / FL_NS_PER_S);
	}
}

static void put_each_session(FILE *out, const struct fl_server *server)
{
	const struct fl_server_session *each;
	struct fl_session_info info;

	put_head(out, "session_pages_left", "gauge", "Pages of a guest that are not there yet.");
	for (each = server->sessions; each; each = each->next) {
		fl_session_info(each->session, &info);
		fprintf(out,
			"faultline_session_pages_left{session=\"%" PRIu64 "\",pid=\"%d\"} %" PRIu64
			"\n",
			info.id, (int)info.pid, info.stats.left);
	}
	put_head(out, "session_fault_seconds", "gauge",
		 "Time from reading a fault to waking its thread, by quantile.");
	for (each = server->sessions; each; each = each->next) {
		fl_session_info(each->session, &info);
		put_latencies(out, &info);
	}
}

char *fl_metrics_format(const struct fl_server *server, size_t *len)
{
	struct fl_totals totals;
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (!out)
		return NULL;
	fl_totals_all(server, &totals);
	put_head(out, "build_info", "gauge", "The version that is running.");
	fprintf(out, "faultline_build_info{version=\"%s\"} 1\n", fl_version());
	put_value(out, "draining", "gauge", "1 while the daemon is to end.", server->draining);
	put_sessions(out, server, &totals);
	put_pages(out, &totals.stats);
	put_faults(out, &totals.stats);
	put_each_session(out, server);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
