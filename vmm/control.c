/* SPDX-License-Identifier: MIT */
/*
 * The socket's thread: it polls the listener, the clients and the machine's
 * wake_fd. Requests are done one at a time. What may have to wait for vCPUs or
 * for pages of the guest is done by a thread of its own, the job, so that status
 * and quit are always answered. Nearly every job is over at once: the socket's
 * thread waits a moment for it, and other clients notice nothing. From then on
 * (for a snapshot, from the start) they are refused with "busy". The wait for a
 * command's end, or a migration's, is put off without a thread, so that another client can stop the
 * command or cancel the migration meanwhile; the result is then read by a job, for its pages may be
 * missing. Answers are
 * short and clients local: they are written at once, without MSG_DONTWAIT, but
 * with a time limit on the socket.
 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "control_job.h"
#include "control_move.h"
#include "leave.h"
#include "util.h"

#define MAX_CLIENTS  16
#define MAX_LINE     4096
#define SEND_SECONDS 2
#define STOP_SECONDS 4
#define JOB_SECONDS  1

enum waits { WAITS_NOT, WAITS_FOR_COMMAND, WAITS_FOR_MOVE, WAITS_FOR_JOB };

struct client {
	int fd; /* or -1 */
	enum waits waits;
	bool listens; /* what it waits for is a recovery that goes on only as long as it does */
	size_t len;
	char line[MAX_LINE];
};

struct vmm_control {
	struct vmm_machine *machine;
	pthread_t thread;
	int listen_fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct client clients[MAX_CLIENTS];
	struct vmm_job
		job; /* its client, if that is still there, is the one that waits for a job */
};

static void drop(struct client *client)
{
	vmm_close_fd(&client->fd);
	client->waits = WAITS_NOT;
	client->len = 0;
}

static void reply(struct client *client, json_t *answer)
{
	AUTO_FREE char *text = json_dumps(answer, JSON_COMPACT);
	AUTO_FREE char *line = NULL;
	int len = asprintf(&line, "%s\n", text ? text : "{\"ok\":false}");

	json_decref(answer);
	client->waits = WAITS_NOT;
	if (len < 0 || send(client->fd, line, (size_t)len, MSG_NOSIGNAL) != len)
		drop(client);
}

/* No answer is one that comes with the end of the command, or of the migration. */
static void answered(struct client *client, bool moves, json_t *answer)
{
	client->waits = moves ? WAITS_FOR_MOVE : WAITS_FOR_COMMAND;
	if (answer)
		reply(client, answer);
}

static json_t *busy(const struct vmm_control *control)
{
	return json_pack("{s:b, s:s+}", "ok", 0, "error",
			 "busy with a request: ", vmm_control_name(control->job.request));
}

/* Return: the client who has the answer now, or NULL. */
static struct client *end_job(struct vmm_control *control, unsigned int seconds)
{
	bool moves = vmm_control_moves(control->job.request);
	json_t *answer = NULL;

	if (vmm_job_end(&control->job, seconds, &answer))
		return NULL;
	for (unsigned int i = 0; i < MAX_CLIENTS; i++) {
		if (control->clients[i].waits == WAITS_FOR_JOB) {
			answered(&control->clients[i], moves, answer);
			return &control->clients[i];
		}
	}
	json_decref(answer);
	return NULL;
}

static void start_job(struct vmm_control *control, struct client *client, json_t *request)
{
	bool snapshot = !strcmp(vmm_control_name(request), "snapshot");

	if (vmm_job_start(&control->job, control->machine, request)) {
		reply(client, json_pack("{s:b, s:s}", "ok", 0, "error", vmm_error_text()));
		return;
	}
	client->waits = WAITS_FOR_JOB;
	if (!snapshot)
		end_job(control, JOB_SECONDS);
}

static void request(struct vmm_control *control, struct client *client, const char *line)
{
	json_t *parsed = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

	client->listens = vmm_control_listens(parsed);
	if (vmm_control_quick(parsed)) {
		answered(client, vmm_control_moves(parsed),
			 vmm_control_do(control->machine, parsed));
		json_decref(parsed);
	} else if (control->job.running) {
		reply(client, busy(control));
		json_decref(parsed);
	} else {
		start_job(control, client, parsed);
	}
}

/* Whole lines in the buffer, one request each, none while an answer is owed. */
static void requests(struct vmm_control *control, struct client *client)
{
	char *end;

	while (client->fd >= 0 && !client->waits &&
	       (end = memchr(client->line, '\n', client->len)) != NULL) {
		size_t used = (size_t)(end - client->line) + 1;
		char line[MAX_LINE];

		memcpy(line, client->line, used);
		line[used - 1] = '\0';
		client->len -= used;
		memmove(client->line, client->line + used, client->len);
		request(control, client, line);
	}
}

static void receive(struct vmm_control *control, struct client *client)
{
	ssize_t n =
		recv(client->fd, client->line + client->len, MAX_LINE - client->len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (client->waits == WAITS_FOR_MOVE && client->listens)
			(void)vmm_leave_cancel(control->machine);
		drop(client);
		return;
	}
	client->len += (size_t)n;
	requests(control, client);
	if (client->len == MAX_LINE)
		drop(client);
}

static void welcome(struct vmm_control *control)
{
	struct timeval limit = {.tv_sec = SEND_SECONDS};
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	for (unsigned int i = 0; i < MAX_CLIENTS; i++) {
		if (control->clients[i].fd < 0) {
			control->clients[i].fd = fd;
			return;
		}
	}
	close(fd);
}

static bool command_over(struct vmm_machine *machine)
{
	return !vmm_busy(machine) || vmm_machine_failed(machine) || vmm_place(machine) == VMM_GONE;
}

/* Return: the answer that @client waits for, if it is time, and nothing must be waited for. */
static json_t *due_answer(struct vmm_control *control, struct client *client)
{
	struct vmm_machine *machine = control->machine;

	if (client->waits == WAITS_FOR_MOVE)
		return vmm_control_moved(machine);
	if (client->waits != WAITS_FOR_COMMAND || !command_over(machine))
		return NULL;
	if (!vmm_control_needs_pages(machine))
		return vmm_control_result(machine);
	if (!control->job.running)
		start_job(control, client,
			  json_pack("{s:s, s:s}", "do", "command", "text", "wait"));
	return NULL;
}

static void settle_waits(struct vmm_control *control)
{
	for (unsigned int i = 0; i < MAX_CLIENTS; i++) {
		struct client *client = &control->clients[i];
		json_t *answer = client->fd >= 0 ? due_answer(control, client) : NULL;

		if (answer)
			reply(client, answer);
		requests(control, client);
	}
}

static void serve(struct vmm_control *control, const struct pollfd *polls)
{
	eventfd_t count;

	if (polls[0].revents)
		eventfd_read(control->machine->wake_fd, &count);
	if (vmm_job_done(&control->job)) {
		struct client *client = end_job(control, JOB_SECONDS);

		if (client)
			requests(control, client);
	}
	settle_waits(control);
	for (unsigned int i = 0; i < MAX_CLIENTS; i++)
		if (control->clients[i].fd >= 0 && polls[2 + i].revents)
			receive(control, &control->clients[i]);
	/* Who has asked for what is there already. */
	settle_waits(control);
	if (polls[1].revents)
		welcome(control);
}

static bool ending(struct vmm_machine *machine)
{
	return __atomic_load_n(&machine->quit, __ATOMIC_RELAXED);
}

static void *control_thread(void *arg)
{
	struct vmm_control *control = arg;

	while (!ending(control->machine)) {
		struct pollfd polls[2 + MAX_CLIENTS] = {
			{.fd = control->machine->wake_fd, .events = POLLIN},
			{.fd = control->listen_fd, .events = POLLIN},
		};

		for (unsigned int i = 0; i < MAX_CLIENTS; i++)
			polls[2 + i] = (struct pollfd){
				.fd = control->clients[i].fd,
				.events = control->clients[i].waits ? 0 : POLLIN,
			};
		if (poll(polls, ARRAY_LEN(polls), -1) > 0)
			serve(control, polls);
	}
	/* A migration that is over ends the machine, and its asker must hear of it. */
	settle_waits(control);
	return NULL;
}

/* A socket that nobody listens on any more is left over from a VMM that was killed. */
static bool left_over(const struct sockaddr_un *addr)
{
	AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	if (lstat(addr->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	return connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) && errno == ECONNREFUSED;
}

static int listen_on(struct vmm_control *control, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	control->listen_fd = fd;
	if (fd < 0)
		return vmm_fail(errno, "make a socket: %s", strerror(errno));
	if (strlen(path) >= sizeof(addr.sun_path))
		return vmm_fail(ENAMETOOLONG, "control socket %s: the path is too long", path);
	strcpy(addr.sun_path, path);
	if (left_over(&addr))
		unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return vmm_fail(errno, "control socket %s: %s", path, strerror(errno));
	strcpy(control->path, path);
	if (chmod(path, 0600) || listen(fd, MAX_CLIENTS))
		return vmm_fail(errno, "control socket %s: %s", path, strerror(errno));
	return 0;
}

static void release(struct vmm_control *control)
{
	for (unsigned int i = 0; i < MAX_CLIENTS; i++)
		drop(&control->clients[i]);
	vmm_close_fd(&control->listen_fd);
	if (control->path[0])
		unlink(control->path);
	free(control);
}

int vmm_control_start(struct vmm_machine *machine, const char *path, struct vmm_control **out)
{
	struct vmm_control *control = calloc(1, sizeof(*control));
	int ret;

	if (!control)
		return vmm_fail(ENOMEM, "control socket %s: no memory", path);
	control->machine = machine;
	for (unsigned int i = 0; i < MAX_CLIENTS; i++)
		control->clients[i].fd = -1;
	ret = listen_on(control, path);
	if (!ret) {
		ret = pthread_create(&control->thread, NULL, control_thread, control);
		if (ret)
			ret = vmm_fail(ret, "control socket %s: %s", path, strerror(ret));
	}
	if (ret)
		release(control);
	else
		*out = control;
	return ret;
}

int vmm_control_stop(struct vmm_control *control)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	eventfd_write(control->machine->wake_fd, 1);
	if (pthread_timedjoin_np(control->thread, NULL, &until))
		return vmm_fail(ETIMEDOUT, "the control socket's thread did not end");
	if (control->job.running)
		end_job(control, STOP_SECONDS);
	if (control->job.running)
		return vmm_fail(ETIMEDOUT, "a request of the control socket did not end");
	release(control);
	return 0;
}
