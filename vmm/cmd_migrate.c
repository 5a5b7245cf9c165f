/* SPDX-License-Identifier: MIT */
/*
 * migrate: asks a running VMM, shows how it goes, and says how it went. One connection of the control
 * socket waits for the end; another asks for the figures meanwhile.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "control.h"
#include "leave.h"
#include "opts.h"
#include "progress.h"
#include "util.h"

#define REFRESH_MS 200

struct values {
	const char *control;
	const char *to;
	const char *listen;
	int mode;
	int compress;
	uint64_t max_downtime;
	uint64_t max_rounds;
	uint64_t bandwidth;
	uint64_t timeout;
	struct vmm_tls_files tls;
	struct vmm_way_options way;
	bool cancel;
	bool recover;
	bool status;
	bool json;
	bool quiet;
};

#define AT(field) offsetof(struct values, field)

static const struct vmm_opt opts[] = {
	{"control", OPT_TEXT, AT(control), "PATH", "the VMM's control socket", NULL},
	{"to", OPT_TEXT, AT(to), "HOST:PORT", "where faultline-vmm receive listens", NULL},
	{"mode", OPT_CHOICE, AT(mode), "hybrid|precopy|postcopy", "when the machine moves (hybrid)",
	 vmm_mode_names},
	{"max-downtime", OPT_NUMBER, AT(max_downtime), "MS",
	 "pre-copy until the rest takes so long (300)", NULL},
	{"max-rounds", OPT_NUMBER, AT(max_rounds), "N", "pre-copy in at most N rounds (30)", NULL},
	{"bandwidth", OPT_SIZE, AT(bandwidth), "RATE", "at most RATE bytes a second (no limit)",
	 NULL},
	{"compress", OPT_CHOICE, AT(compress), "none|lz4|zstd|any", "what to offer (none)",
	 vmm_compress_names},
	{"timeout", OPT_NUMBER, AT(timeout), "MS", "a silent peer is lost after (10000)", NULL},
	{"tls-cert", OPT_TEXT, AT(tls.cert), "FILE", "TLS: the VMM's certificate", NULL},
	{"tls-key", OPT_TEXT, AT(tls.key), "FILE", "TLS: its private key", NULL},
	{"tls-authority", OPT_TEXT, AT(tls.authority), "FILE",
	 "TLS: who must have signed the peer's", NULL},
	{"worker", OPT_TEXT, AT(way.worker), "SOCKET",
	 "let the other side's page worker read by ours", NULL},
	{"fabric", OPT_TEXT, AT(way.fabric), "PROVIDER[,DOMAIN][@ADDRESS]",
	 "let the other side read by libfabric", NULL},
	{"cancel", OPT_FLAG, AT(cancel), NULL, "call off the one under way", NULL},
	{"recover", OPT_FLAG, AT(recover), NULL, "meet again after the connection was lost", NULL},
	{"listen", OPT_TEXT, AT(listen), "HOST:PORT",
	 "with --recover: wait there for the other side", NULL},
	{"status", OPT_FLAG, AT(status), NULL, "only say how far it is", NULL},
	{"json", OPT_FLAG, AT(json), NULL, "no progress; print the answer as it came", NULL},
	{"quiet", OPT_FLAG, AT(quiet), NULL, "no progress", NULL},
	{0},
};

static bool is_set(uint64_t value)
{
	return value != VMM_UNSET;
}

/* Each by itself. */
static int check_values(const struct values *values)
{
	int ret =
		vmm_opts_range("--max-downtime", values->max_downtime, 1, VMM_MS_MAX, VMM_MS_RANGE);

	if (!ret)
		ret = vmm_opts_range("--max-rounds", values->max_rounds, 1, UINT32_MAX,
				     "1 to 4294967295");
	if (!ret)
		ret = vmm_opts_range("--bandwidth", values->bandwidth, 1, VMM_BANDWIDTH_MAX,
				     "1 to 65535G (without it there is no limit)");
	if (!ret)
		ret = vmm_opts_range("--timeout", values->timeout, 1, VMM_MS_MAX, VMM_MS_RANGE);
	if (!ret)
		ret = vmm_tls_check(&values->tls);
	if (!ret)
		ret = vmm_way_check(&values->way);
	if (!ret)
		ret = vmm_address_check("--to", values->to);
	return ret ? ret : vmm_address_check("--listen", values->listen);
}

static int check(const struct values *values)
{
	const struct vmm_tls_files *tls = &values->tls;
	bool tune = values->mode || values->compress || is_set(values->max_downtime) ||
		    is_set(values->max_rounds) || is_set(values->bandwidth) ||
		    is_set(values->timeout) || tls->cert || tls->key || tls->authority ||
		    values->way.worker || values->way.fabric;
	bool other = values->cancel || values->recover || values->status;

	if (!values->control)
		return vmm_fail(EINVAL, "--control PATH is missing");
	if (values->cancel + values->recover + values->status > 1)
		return vmm_fail(EINVAL, "wants one of --cancel, --recover and --status");
	if (!other && !values->to)
		return vmm_fail(EINVAL, "--to HOST:PORT is missing");
	if (values->listen && (!values->recover || values->to))
		return vmm_fail(EINVAL, "--listen goes with --recover, and without --to");
	if (other && (tune || (values->to && !values->recover)))
		return vmm_fail(EINVAL, "%s takes no option that says how to migrate",
				values->cancel    ? "--cancel"
				: values->recover ? "--recover"
						  : "--status");
	if (values->way.worker && values->way.fabric)
		return vmm_fail(EINVAL, "wants one of --worker and --fabric");
	/* What is read by another way is not sent by us, and after the switch nobody counts it. */
	if (is_set(values->bandwidth) && (values->way.worker || values->way.fabric) &&
	    values->mode != FL_MIGRATE_PRECOPY)
		return vmm_fail(EINVAL,
				"--bandwidth does not limit what %s reads after the switch: wants "
				"--mode precopy, or one of the two",
				values->way.worker ? "--worker" : "--fabric");
	return check_values(values);
}

static void put_number(json_t *request, const char *key, uint64_t value)
{
	if (is_set(value))
		json_object_set_new(request, key, json_integer((json_int_t)value));
}

static void put_text(json_t *request, const char *key, const char *value)
{
	if (value)
		json_object_set_new(request, key, json_string(value));
}

/* The VMM has another working directory. */
static void put_path(json_t *request, const char *key, const char *path)
{
	AUTO_FREE char *full = path ? realpath(path, NULL) : NULL;

	put_text(request, key, full ? full : path);
}

static json_t *request_of(const struct values *values)
{
	json_t *request = json_object();

	put_text(request, "do",
		 values->cancel    ? "migrate-cancel"
		 : values->recover ? "migrate-recover"
		 : values->status  ? "migrate-status"
				   : "migrate");
	put_text(request, "to", values->to);
	put_text(request, "listen", values->listen);
	if (values->cancel || values->recover || values->status)
		return request;
	put_text(request, "mode", vmm_mode_names[values->mode]);
	put_text(request, "compress", vmm_compress_names[values->compress]);
	put_number(request, "max_downtime_ms", values->max_downtime);
	put_number(request, "max_rounds", values->max_rounds);
	put_number(request, "bandwidth", values->bandwidth);
	put_number(request, "timeout_ms", values->timeout);
	put_path(request, "worker", values->way.worker);
	put_text(request, "fabric", values->way.fabric);
	put_path(request, "tls_cert", values->tls.cert);
	put_path(request, "tls_key", values->tls.key);
	put_path(request, "tls_authority", values->tls.authority);
	return request;
}

/* Until the answer is there. */
static void watch(const struct values *values, int fd)
{
	struct vmm_progress_line line = {.off = values->json || values->quiet};
	struct pollfd answer = {.fd = fd, .events = POLLIN};
	json_t *status;
	int n;

	while ((n = poll(&answer, 1, REFRESH_MS)) <= 0) {
		if (n < 0 && errno != EINTR)
			break;
		if (line.off)
			continue;
		status = NULL;
		if (!vmm_control_query(values->control, json_pack("{s:s}", "do", "migrate-status"),
				       &status))
			vmm_progress_show(&line, status);
		json_decref(status);
	}
	vmm_progress_end(&line);
}

static int say(const struct values *values, const json_t *answer)
{
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (values->json || values->status || values->cancel) {
		json_dumpf(answer, stdout, values->json ? JSON_COMPACT : JSON_INDENT(2));
		putchar('\n');
	} else if (json_object_get(answer, "phase")) {
		vmm_progress_summary(answer);
	}
	if (json_is_true(json_object_get(answer, "ok")))
		return 0;
	return vmm_fail(EIO, "%s", error ? error : "refused");
}

static int migrate(const struct values *values)
{
	int fd = vmm_control_send(values->control, request_of(values));
	json_t *answer = NULL;
	int ret = fd < 0 ? fd : 0;

	if (!ret) {
		watch(values, fd);
		ret = vmm_control_receive(values->control, fd, &answer);
	}
	if (!ret)
		ret = say(values, answer);
	else if (values->json)
		vmm_control_no_answer();
	json_decref(answer);
	return ret;
}

int vmm_cmd_migrate(int argc, char **argv)
{
	const struct vmm_verb verb = {
		"migrate",
		"--control PATH (--to HOST:PORT | --cancel | --recover | --status) [OPTION...]",
		"Lets a running machine move to another host, or calls that off before the "
		"switch,\n"
		"or lets both sides meet again after their connection was lost.",
		opts,
		0,
		0,
		NULL};
	struct values values = {.max_downtime = VMM_UNSET,
				.max_rounds = VMM_UNSET,
				.bandwidth = VMM_UNSET,
				.timeout = VMM_UNSET};
	struct vmm_list words = {0};
	int ret = vmm_opts_parse(&verb, argc, argv, &values, &words);

	if (ret)
		return ret == VMM_PARSE_HELP ? EXIT_OK : EXIT_USAGE;
	ret = check(&values) ? EXIT_USAGE : migrate(&values) ? EXIT_FAILED : EXIT_OK;
	if (ret)
		fprintf(stderr, "faultline-vmm migrate: %s\n", vmm_error_text());
	return ret;
}
