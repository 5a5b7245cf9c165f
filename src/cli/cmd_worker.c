/* SPDX-License-Identifier: MIT */
/* faultline worker: reads its options, and hands over to the page worker. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "link/address.h"
#include "session/journal.h"
#include "util/error.h"
#include "util/fd.h"
#include "worker/server.h"

struct worker {
	struct fl_worker_config config;
	const char *cert, *key, *authority;
	enum fl_log_level level;
	struct fl_journal journal;
};

static int set_socket(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct worker *)ctx)->config.socket_path = value;
	return 0;
}

static int set_listen(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct worker *)ctx)->config.listen = value;
	return 0;
}

static int set_cert(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct worker *)ctx)->cert = value;
	return 0;
}

static int set_key(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct worker *)ctx)->key = value;
	return 0;
}

static int set_authority(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct worker *)ctx)->authority = value;
	return 0;
}

static int set_timeout(void *ctx, const char *value, struct fl_error *err)
{
	uint64_t seconds = 0;
	int rc = cli_parse_number(value, 2, 3600, &seconds, err);

	((struct worker *)ctx)->config.timeout_ms = (unsigned int)seconds * 1000;
	return rc;
}

static int set_spin(void *ctx, const char *value, struct fl_error *err)
{
	uint64_t spin_us = 0;
	int rc = cli_parse_number(value, 0, 1000000, &spin_us, err);

	((struct worker *)ctx)->config.spin_us = (unsigned int)spin_us;
	return rc;
}

static int set_log_level(void *ctx, const char *value, struct fl_error *err)
{
	int rc = fl_journal_level(value, &((struct worker *)ctx)->level);

	return rc ? fl_error_set(err, rc, "'%s' is not error, warning, info or debug", value) : 0;
}

static const struct cli_option options[] = {
	{"socket", 's', "PATH", "wait here for VMs of this host", set_socket},
	{"listen", 'L', "ADDRESS",
	 "wait here, on HOST:PORT, for workers that copy what was exported", set_listen},
	{"tls-cert", 0, "FILE", "our certificate; with the two below, the link is TLS 1.3",
	 set_cert},
	{"tls-key", 0, "FILE", "its private key", set_key},
	{"tls-ca", 0, "FILE", "the authority that other workers' certificates must come from",
	 set_authority},
	{"timeout", 't', "SECONDS", "a worker that is silent for so long is lost (default 10)",
	 set_timeout},
	{"spin", 0, "US", "look for more to do this long before sleeping (default 20)", set_spin},
	{"log-level", 'l', "LEVEL", "error, warning, info (default) or debug", set_log_level},
};

static const struct cli_usage usage = {
	.command = "faultline worker",
	.synopsis = "--socket PATH [--listen HOST:PORT] [OPTION...]",
	.summary =
		"The network of virtual machines that want it out of their process: copies their\n"
		"memory from and to other workers.",
	.options = options,
	.option_count = sizeof(options) / sizeof(*options),
};

static int check(const struct worker *worker, struct fl_error *err)
{
	struct fl_address address;
	bool any = worker->cert || worker->key || worker->authority;

	if (!worker->config.socket_path)
		return fl_error_set(err, -EINVAL, "a --socket is needed");
	if (any && !(worker->cert && worker->key && worker->authority))
		return fl_error_set(err, -EINVAL,
				    "--tls-cert, --tls-key and --tls-ca belong together");
	return worker->config.listen ? fl_address_parse(&address, worker->config.listen, err) : 0;
}

/* SIGTERM and SIGINT as a descriptor; to be called before there is a second thread. */
static int stop_signals(struct fl_error *err)
{
	sigset_t set;
	int fd;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	/* Whoever reads our log may go, and so may the terminal; the VMs must not freeze for that. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd >= 0 ? fd : fl_error_set(err, -errno, "signals: %s", strerror(errno));
}

/* A VMM may give a descriptor for each region; and nothing here is to gain by a program of root's. */
static void settle_process(void)
{
	struct rlimit limit = {0};

	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int run(struct worker *worker, struct fl_error *err)
{
	fl_cleanup_fd int stop_fd = stop_signals(err);
	struct fl_tls *tls = NULL;
	int rc = stop_fd < 0 ? stop_fd : 0;

	if (!rc && worker->cert)
		rc = fl_tls_new(&tls, worker->cert, worker->key, worker->authority, err);
	if (rc)
		return rc;
	settle_process();
	fl_journal_open(&worker->journal, STDERR_FILENO, "faultline", worker->level);
	worker->config.tls = tls;
	worker->config.stop_fd = stop_fd;
	worker->config.log = fl_journal_log(&worker->journal);
	rc = fl_worker_serve(&worker->config, err);
	fl_tls_free(tls);
	return rc;
}

int cmd_worker(int argc, char **argv)
{
	struct worker worker = {.config = {.timeout_ms = 10000, .spin_us = 20},
				.level = FL_LOG_INFO};
	struct fl_error err = {.text = "failed"};
	int status = cli_parse(&usage, argc, argv, &worker, NULL);
	int rc;

	if (status >= 0)
		return status;
	rc = check(&worker, &err);
	status = rc ? CLI_USAGE : CLI_FAILED;
	if (!rc)
		rc = run(&worker, &err);
	if (rc)
		fprintf(stderr, "faultline worker: %s\n", err.text);
	return rc ? status : CLI_OK;
}
