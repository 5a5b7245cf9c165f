/* SPDX-License-Identifier: MIT */
/* The asking end of the control socket. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "control.h"
#include "report.h"
#include "util.h"

static int dial(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd, err;

	if (strlen(path) >= sizeof(addr.sun_path))
		return vmm_fail(ENAMETOOLONG, "control socket %s: the path is too long", path);
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	err = errno;
	vmm_close_fd(&fd);
	return vmm_fail(err, "control socket %s: %s", path, strerror(err));
}

static int send_line(int fd, json_t *request)
{
	AUTO_FREE char *text = json_dumps(request, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0, done = 0;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	text[len++] = '\n'; /* in place of the string's end: all of it goes at once */
	while (done < len) {
		n = send(fd, text + done, len - done, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

static int show(const json_t *answer, bool json)
{
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (json || !json_object_get(answer, "mismatches")) {
		json_dumpf(answer, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (json_object_get(answer, "first_mismatch")) {
		vmm_report_print(answer);
	} else {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	if (!json_is_true(json_object_get(answer, "ok")))
		return vmm_fail(EIO, "%s", error ? error : "refused");
	/* A command's answer tells its mismatches: they are a failure. */
	if (json_object_get(answer, "first_mismatch") &&
	    json_integer_value(json_object_get(answer, "mismatches")))
		return vmm_fail(EIO, "the guest found pages that are not what was written");
	return 0;
}

int vmm_control_send(const char *path, json_t *request)
{
	int fd = dial(path);
	int ret = fd < 0 ? fd : send_line(fd, request);

	json_decref(request);
	if (fd < 0 || !ret)
		return fd;
	close(fd);
	return vmm_fail(EIO, "control socket %s: the request could not be sent", path);
}

int vmm_control_receive(const char *path, int fd, json_t **answer)
{
	FILE *stream = fdopen(fd, "r");

	if (!stream) {
		close(fd);
		return vmm_fail(ENOMEM, "control socket %s: no memory", path);
	}
	*answer = json_loadf(stream, JSON_DISABLE_EOF_CHECK, NULL);
	fclose(stream);
	if (json_is_object(*answer))
		return 0;
	return vmm_fail(EPROTO, "control socket %s: closed without an answer", path);
}

int vmm_control_query(const char *path, json_t *request, json_t **answer)
{
	int fd = vmm_control_send(path, request);

	return fd < 0 ? fd : vmm_control_receive(path, fd, answer);
}

void vmm_control_no_answer(void)
{
	json_t *answer = json_pack("{s:b, s:s}", "ok", 0, "error", vmm_error_text());

	json_dumpf(answer, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(answer);
}

int vmm_control_ask(const char *path, json_t *request, bool json)
{
	json_t *answer = NULL;
	int ret = vmm_control_query(path, request, &answer);

	if (!ret)
		ret = show(answer, json);
	else if (json)
		vmm_control_no_answer();
	json_decref(answer);
	return ret;
}
