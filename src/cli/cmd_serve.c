/* SPDX-License-Identifier: MIT */
/*
 * faultline serve: reads its options into endpoints, opens the images, and hands over to the
 * server.
 *
 * An option that stands before the first --socket is a default for all sockets; after a --socket it
 * is for that one. So the options are one structure, copied at each --socket.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "session/image.h"
#include "session/journal.h"
#include "session/server.h"
#include "util/error.h"

#define SOCKETS_MAX 256
#define FILTERS_MAX (FL_READ_FRAMES - 1)
/* How long the last lines may take to be read before the daemon ends without them. */
#define LOG_WAIT_MS 1000

struct socket_options {
	const char *socket;
	const char *memory;
	const char *record;
	const char *replay;
	const char *filters[FILTERS_MAX];
	size_t filter_count;
	bool fill, no_release, keep_vmm;
	bool around_said;
	uint32_t around_bytes, spin_us, timeout_ms;
};

/* What stands behind one endpoint and must be let go. */
struct opened {
	struct fl_image *image;
	struct fl_wset *replay;
};

struct serve {
	struct socket_options sockets[SOCKETS_MAX];
	size_t count;
	struct socket_options defaults;
	const char *control;
	bool no_control;
	const char *metrics;
	enum fl_log_level level;

	struct fl_journal journal;
	bool log_is_stuck; /* its reader takes nothing, and the journal waits for it */
	struct fl_images images;
	struct fl_endpoint *endpoints;
	struct opened *opened;
};

static struct socket_options *current(void *ctx)
{
	struct serve *serve = ctx;

	return serve->count ? &serve->sockets[serve->count - 1] : &serve->defaults;
}

static int set_socket(void *ctx, const char *value, struct fl_error *err)
{
	struct serve *serve = ctx;

	if (serve->count == SOCKETS_MAX)
		return fl_error_set(err, -E2BIG, "more than %d sockets", SOCKETS_MAX);
	serve->sockets[serve->count] = serve->defaults;
	serve->sockets[serve->count++].socket = value;
	return 0;
}

static int set_memory(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	current(ctx)->memory = value;
	return 0;
}

static int set_record(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	current(ctx)->record = value;
	return 0;
}

static int set_replay(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	current(ctx)->replay = value;
	return 0;
}

static int set_fill(void *ctx, const char *value, struct fl_error *err)
{
	(void)value, (void)err;
	current(ctx)->fill = true;
	return 0;
}

static int set_no_fill(void *ctx, const char *value, struct fl_error *err)
{
	(void)value, (void)err;
	current(ctx)->fill = false;
	return 0;
}

static int set_release(void *ctx, const char *value, struct fl_error *err)
{
	(void)value, (void)err;
	current(ctx)->no_release = false;
	return 0;
}

static int set_no_release(void *ctx, const char *value, struct fl_error *err)
{
	(void)value, (void)err;
	current(ctx)->no_release = true;
	return 0;
}

static int set_around(void *ctx, const char *value, struct fl_error *err)
{
	uint64_t bytes;
	int rc = cli_parse_size(value, FL_AROUND_MAX, &bytes, err);

	if (rc)
		return rc;
	if (bytes & (bytes - 1))
		return fl_error_set(err, -EINVAL, "%s is not a power of two", value);
	current(ctx)->around_bytes = bytes ? (uint32_t)bytes : 1;
	current(ctx)->around_said = true;
	return 0;
}

static int set_filter(void *ctx, const char *value, struct fl_error *err)
{
	struct socket_options *options = current(ctx);

	if (options->filter_count == FILTERS_MAX)
		return fl_error_set(err, -E2BIG, "more than %d filters", FILTERS_MAX);
	options->filters[options->filter_count++] = value;
	return 0;
}

static int set_timeout(void *ctx, const char *value, struct fl_error *err)
{
	uint64_t seconds = 0;
	int rc = cli_parse_number(value, 1, 3600, &seconds, err);

	current(ctx)->timeout_ms = (uint32_t)seconds * 1000;
	return rc;
}

static int set_spin(void *ctx, const char *value, struct fl_error *err)
{
	uint64_t spin_us = 0;
	int rc = cli_parse_number(value, 0, 1000000, &spin_us, err);

	current(ctx)->spin_us = (uint32_t)spin_us;
	return rc;
}

static int set_on_failure(void *ctx, const char *value, struct fl_error *err)
{
	bool keep = strcmp(value, "leave") == 0;

	if (!keep && strcmp(value, "kill") != 0)
		return fl_error_set(err, -EINVAL, "'%s' is neither kill nor leave", value);
	current(ctx)->keep_vmm = keep;
	return 0;
}

static int set_control(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct serve *)ctx)->control = value;
	((struct serve *)ctx)->no_control = !*value || strcmp(value, "none") == 0;
	return 0;
}

static int set_metrics(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct serve *)ctx)->metrics = value;
	return 0;
}

static int set_log_level(void *ctx, const char *value, struct fl_error *err)
{
	int rc = fl_journal_level(value, &((struct serve *)ctx)->level);

	return rc ? fl_error_set(err, rc, "'%s' is not error, warning, info or debug", value) : 0;
}

static const struct cli_option options[] = {
	{"socket", 's', "PATH", "wait here for VMs; again for another socket", set_socket},
	{"memory", 'm', "FILE", "the memory image to serve", set_memory},
	{"fill", 'f', NULL, "read ahead of need until a guest is whole", set_fill},
	{"no-fill", 0, NULL, "read what is touched only (default)", set_no_fill},
	{"around", 'a', "SIZE", "install this much around a fault (default 64K, 0 for none)",
	 set_around},
	{"record", 'r', "FILE", "write the working set of the first VM", set_record},
	{"replay", 'p', "FILE", "read the pages of a working set first", set_replay},
	{"filter", 0, "SPEC", "wrap the image: stats, delay=, error=, retry=; may be repeated",
	 set_filter},
	{"release", 0, NULL, "let go of guests that are whole (default)", set_release},
	{"no-release", 0, NULL, "keep serving guests that are whole", set_no_release},
	{"on-failure", 0, "WHAT", "kill (default) or leave a VM whose session failed",
	 set_on_failure},
	{"timeout", 't', "SECONDS", "time for a VM to say its handshake (default 10)", set_timeout},
	{"spin", 0, "US", "look for the next fault this long before sleeping (default 0)",
	 set_spin},
	{"control", 'c', "PATH", "control socket, or none", set_control},
	{"metrics", 0, "ADDRESS", "Prometheus metrics on 127.0.0.1:PORT, [::1]:PORT or unix:PATH",
	 set_metrics},
	{"log-level", 'l', "LEVEL", "error, warning, info (default) or debug", set_log_level},
};

static const struct cli_usage usage = {
	.command = "faultline serve",
	.synopsis = "--socket PATH --memory FILE [OPTION...] [--socket PATH ...]",
	.summary = "Supplies the memory of VMs that connect to a socket, page by page, from an\n"
		   "image. Options before the first --socket are for all of them.",
	.options = options,
	.option_count = sizeof(options) / sizeof(*options),
};

/* The set is written when the VM has ended: that it can be is asked now. */
static int check_record_path(const struct serve *serve, size_t index, struct fl_error *err)
{
	const char *path = serve->sockets[index].record;
	char *copy = strdup(path);
	struct stat st;
	int code = 0;

	if (!copy)
		return fl_error_set(err, -ENOMEM, "out of memory");
	if (access(dirname(copy), W_OK | X_OK) < 0)
		code = fl_error_set(err, -errno, "--record %s: %s", path, strerror(errno));
	else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		code = fl_error_set(err, -EINVAL, "--record %s: exists and is no file", path);
	free(copy);
	for (size_t i = 0; i < index && !code; i++) {
		if (serve->sockets[i].record && strcmp(serve->sockets[i].record, path) == 0)
			code = fl_error_set(err, -EINVAL, "--record %s: for two sockets", path);
	}
	return code;
}

/* A precise set is wanted: nothing may come that was not touched. */
static int check_record(struct socket_options *o, struct fl_error *err)
{
	if (!o->record)
		return 0;
	if (o->fill || o->replay || (o->around_said && o->around_bytes > 4096))
		return fl_error_set(err, -EINVAL,
				    "socket %s: --record cannot be combined with %s: it would hide "
				    "what the VM touches",
				    o->socket,
				    o->fill     ? "--fill"
				    : o->replay ? "--replay"
						: "--around");
	o->around_bytes = 1;
	return 0;
}

static int check(struct serve *serve, struct fl_error *err)
{
	if (!serve->count)
		return fl_error_set(err, -EINVAL, "a --socket is needed");
	for (size_t i = 0; i < serve->count; i++) {
		int rc;

		if (!serve->sockets[i].memory)
			return fl_error_set(err, -EINVAL, "socket %s has no --memory",
					    serve->sockets[i].socket);
		rc = check_record(&serve->sockets[i], err);
		if (!rc && serve->sockets[i].record)
			rc = check_record_path(serve, i, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int open_endpoint(struct serve *serve, size_t index, struct fl_error *err)
{
	const struct socket_options *o = &serve->sockets[index];
	struct fl_endpoint *endpoint = &serve->endpoints[index];
	struct opened *opened = &serve->opened[index];
	int rc;

	fl_endpoint_init(endpoint);
	rc = fl_image_get(&serve->images, o->memory, o->filters, o->filter_count, &opened->image,
			  err);
	if (rc)
		return rc;
	if (o->replay)
		rc = fl_wset_load(&opened->replay, o->replay, opened->image->source, err);
	endpoint->socket_path = o->socket;
	endpoint->image_path = o->memory;
	endpoint->source = opened->image->source;
	endpoint->replay = opened->replay;
	endpoint->record_path = o->record;
	endpoint->pager_flags = (o->fill ? FL_PAGER_FILL : 0) |
				(o->no_release ? 0 : FL_PAGER_RELEASE);
	endpoint->around_bytes = o->around_bytes;
	endpoint->spin_us = o->spin_us;
	endpoint->timeout_ms = o->timeout_ms;
	endpoint->keep_vmm = o->keep_vmm;
	return rc;
}

static int open_endpoints(struct serve *serve, struct fl_error *err)
{
	int rc = 0;

	serve->endpoints = calloc(serve->count, sizeof(*serve->endpoints));
	serve->opened = calloc(serve->count, sizeof(*serve->opened));
	if (!serve->endpoints || !serve->opened)
		return fl_error_set(err, -ENOMEM, "no memory");
	for (size_t i = 0; i < serve->count && !rc; i++)
		rc = open_endpoint(serve, i, err);
	return rc;
}

static void close_endpoints(struct serve *serve)
{
	for (size_t i = 0; serve->opened && i < serve->count; i++) {
		fl_wset_free(serve->opened[i].replay);
		fl_image_put(&serve->images, serve->opened[i].image);
	}
	free(serve->endpoints);
	free(serve->opened);
}

static int run(struct serve *serve, struct fl_error *err)
{
	struct fl_server_config config;
	char *control = NULL;
	int rc;

	serve->journal.level = serve->level;
	rc = fl_journal_detach(&serve->journal);
	if (rc)
		return fl_error_set(err, rc, "starting the log: %s", strerror(-rc));
	if (!serve->no_control && !serve->control)
		control = cli_control_path();
	config = (struct fl_server_config){.endpoints = serve->endpoints,
					   .endpoint_count = serve->count,
					   .images = &serve->images,
					   .control_path = serve->no_control ? NULL
							   : serve->control  ? serve->control
									     : control,
					   .control_optional = !serve->control,
					   .metrics = serve->metrics,
					   .log = fl_journal_log(&serve->journal)};
	rc = fl_server_run(&config, err);
	free(control);
	serve->log_is_stuck = fl_journal_stop(&serve->journal, LOG_WAIT_MS) != 0;
	return rc;
}

int cmd_serve(int argc, char **argv)
{
	struct serve *serve = calloc(1, sizeof(*serve));
	struct fl_error err = {.text = "failed"};
	int status;
	int rc;

	if (!serve)
		return CLI_FAILED;
	serve->level = FL_LOG_INFO;
	fl_journal_open(&serve->journal, STDERR_FILENO, "faultline", FL_LOG_INFO);
	serve->defaults =
		(struct socket_options){.around_bytes = FL_AROUND_DEFAULT, .timeout_ms = 10000};
	status = cli_parse(&usage, argc, argv, serve, NULL);
	if (status >= 0) {
		free(serve);
		return status;
	}
	rc = check(serve, &err);
	status = rc ? CLI_USAGE : CLI_FAILED;
	if (!rc)
		rc = open_endpoints(serve, &err);
	if (!rc)
		rc = run(serve, &err);
	/* The journal, or sessions that were given up, still use all of this. */
	if (rc > 0 || serve->log_is_stuck)
		_exit(rc ? CLI_FAILED : CLI_OK);
	if (rc < 0)
		fprintf(stderr, "faultline serve: %s\n", err.text);
	fl_journal_close(&serve->journal);
	close_endpoints(serve);
	free(serve);
	return rc ? status : CLI_OK;
}
