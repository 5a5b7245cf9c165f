/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/error.h"
#include "util/fd.h"

#define ANSWER_TIMEOUT_S 10

char *cli_control_path(void)
{
	const char *directory = getenv("XDG_RUNTIME_DIR");
	char *path = NULL;

	if (asprintf(&path, "%s/faultline.sock", directory && *directory ? directory : "/run") < 0)
		return NULL;
	return path;
}

static int connect_to(const char *path, struct fl_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
	int fl_cleanup_fd fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return fl_error_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fl_error_set(err, -errno, "socket: %m");
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fl_error_set(err, -errno, "no daemon answers on %s: %m", path);
	return fl_fd_take(&fd);
}

static json_t *exchange(int fd, const char *path, const char *command, struct fl_error *err)
{
	char request[64];
	int len = snprintf(request, sizeof(request), "{\"command\":\"%s\"}\n", command);
	json_error_t why;
	json_t *answer;

	if (send(fd, request, (size_t)len, MSG_NOSIGNAL) != len) {
		fl_error_set(err, -errno, "%s: %m", path);
		return NULL;
	}
	answer = json_loadfd(fd, JSON_DISABLE_EOF_CHECK, &why);
	if (!answer)
		fl_error_set(err, -EBADMSG, "%s: no answer that can be understood", path);
	return answer;
}

static json_t *ask(const char *path, const char *command, struct fl_error *err)
{
	int fl_cleanup_fd fd = connect_to(path, err);
	json_t *answer;
	const char *error;

	if (fd < 0)
		return NULL;
	answer = exchange(fd, path, command, err);
	error = json_string_value(json_object_get(answer, "error"));
	if (error) {
		fl_error_set(err, -EREMOTEIO, "%s: %s", path, error);
		json_decref(answer);
		answer = NULL;
	}
	return answer;
}

json_t *cli_ask(const char *path, const char *command, struct fl_error *err)
{
	char *usual = path ? NULL : cli_control_path();
	json_t *answer = NULL;

	if (path || usual)
		answer = ask(path ? path : usual, command, err);
	else
		fl_error_set(err, -ENOMEM, "no memory");
	free(usual);
	return answer;
}
