/* SPDX-License-Identifier: MIT */
/*
 * uffd-client SOCKET IMAGE [OPTION...] [COMMAND...] - see client.h
 *
 * Options:
 *	--regions N	memory in N regions (1)
 *	--size BYTES	memory (the length of the image)
 *	--huge		2 MiB pages
 *	--form F	none, kib or both (both): which Firecracker to be
 *	--hang-up	close the socket after the handshake
 *	--forget	keep no userfaultfd of its own after the handshake
 *	--pieces N	say it N bytes at a time
 *	--raw TEXT	say this instead; "@FILE" for what is in a file
 *	--no-fd --two-fds --wrong-fd	what comes along
 *	--clones N	N processes do all this; "wait" waits for all of them
 *
 * Commands, in order:
 *	touch:T		T threads read every page, and compare it with the image
 *	read:OFF,LEN	likewise for a range
 *	remove:OFF,LEN	give a range back (MADV_DONTNEED), from then on it must be zeros
 *	storm:T,N	T threads read at random while N ranges are given back
 *	unmap:N		unmap region N
 *	sigbus:OFF	reading there must be a SIGBUS
 *	block:T		T threads read one page each and are not waited for
 *	say:TEXT	print a line
 *	wait		for a line on standard input
 *	closed		for the peer to close the socket
 *	crash		die by a signal
 *
 * Exit status 0 when all was as it should be.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/firecracker_json.h"
#include "client/peer.h"

_Noreturn void client_fail(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)fprintf(stderr, "uffd-client %d: %s\n", (int)getpid(), text);
	/* Other threads may wait for a page: exit() would run handlers beside them. */
	_exit(1);
}

static void connect_to(struct client *client)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(client->socket) >= sizeof(address.sun_path))
		client_fail("%s is too long", client->socket);
	strcpy(address.sun_path, client->socket);
	client->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (connect(client->sock, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_fail("%s: %s", client->socket, strerror(errno));
		/* Its backlog is full. */
		(void)poll(NULL, 0, 1);
	}
}

/* What --raw says: its length in *len. */
static char *raw_text(const char *raw, size_t *len)
{
	char *text = NULL;
	FILE *file;

	if (*raw != '@') {
		*len = strlen(raw);
		return strdup(raw);
	}
	file = fopen(raw + 1, "re");
	if (!file)
		client_fail("%s: %s", raw + 1, strerror(errno));
	text = malloc(4 * FL_FIRECRACKER_MESSAGE_MAX);
	*len = text ? fread(text, 1, 4 * FL_FIRECRACKER_MESSAGE_MAX, file) : 0;
	(void)fclose(file);
	return text;
}

/* A peer that has enough of us closes: what it does not read is no failure of ours. */
static void say(struct client *client)
{
	int fds[] = {client->wrong_fd ? client->image_fd : client->uffd, client->uffd};
	size_t fd_count = client->no_fd ? 0 : client->two_fds ? 2 : 1;
	size_t piece = client->piece_bytes;
	size_t len = 0;
	char *text = client->raw ? raw_text(client->raw, &len)
				 : fl_firecracker_format(client->regions, client->region_count,
							 client->form);

	if (!text)
		client_fail("no memory");
	len = client->raw ? len : strlen(text);
	for (size_t at = 0; at < len; at += piece) {
		size_t now = piece && piece < len - at ? piece : len - at;

		piece = piece ? piece : len;
		if (fl_peer_send(client->sock, text + at, now, fds, at ? 0 : fd_count))
			break;
	}
	free(text);
}

static void greet(struct client *client)
{
	struct fl_error err;

	connect_to(client);
	if (client->raw || client->piece_bytes || client->no_fd || client->two_fds ||
	    client->wrong_fd)
		say(client);
	else if (fl_firecracker_send(client->sock, client->regions, client->region_count,
				     client->uffd, client->form, &err))
		client_fail("%s", err.text);
	if (client->forget) {
		(void)close(client->uffd);
		client->uffd = -1;
	}
	if (client->hang_up) {
		(void)close(client->sock);
		client->sock = -1;
	}
}

static void wait_for_line(const struct client *client)
{
	char c = 0;

	if (client->ready_fd >= 0) {
		if (write(client->ready_fd, "r", 1) != 1 || read(client->go_fd, &c, 1) < 0)
			client_fail("clone: %s", strerror(errno));
		return;
	}
	while (c != '\n' && read(STDIN_FILENO, &c, 1) == 1)
		;
}

static void wait_until_closed(const struct client *client)
{
	char c;
	ssize_t got = recv(client->sock, &c, 1, 0);

	if (got > 0 || (got < 0 && errno != ECONNRESET))
		client_fail("the socket was not closed");
}

static void numbers(const char *text, unsigned long long *first, unsigned long long *second)
{
	char *end;

	*first = strtoull(text, &end, 0);
	*second = *end == ',' ? strtoull(end + 1, &end, 0) : 0;
	if (*end || end == text)
		client_fail("not a number: %s", text);
}

static void run_with_numbers(struct client *client, const char *command, const char *value)
{
	unsigned long long a, b;

	numbers(value, &a, &b);
	if (strncmp(command, "touch:", 6) == 0)
		client_touch(client, (unsigned int)a);
	else if (strncmp(command, "read:", 5) == 0)
		client_check(client, a, b);
	else if (strncmp(command, "remove:", 7) == 0)
		client_remove(client, a, b);
	else if (strncmp(command, "storm:", 6) == 0)
		client_storm(client, (unsigned int)a, (unsigned int)b);
	else if (strncmp(command, "unmap:", 6) == 0)
		client_unmap(client, a);
	else if (strncmp(command, "sigbus:", 7) == 0)
		client_sigbus(client, a);
	else if (strncmp(command, "block:", 6) == 0)
		client_block(client, (unsigned int)a);
	else
		client_fail("no such command: %s", command);
}

static void run_command(struct client *client, const char *command)
{
	const char *value = strchr(command, ':');

	if (strncmp(command, "say:", 4) == 0) {
		(void)printf("%s\n", value + 1);
		(void)fflush(stdout);
	} else if (strcmp(command, "wait") == 0) {
		wait_for_line(client);
	} else if (strcmp(command, "closed") == 0) {
		wait_until_closed(client);
	} else if (strcmp(command, "crash") == 0) {
		(void)raise(SIGKILL);
	} else if (value) {
		run_with_numbers(client, command, value + 1);
	} else {
		client_fail("no such command: %s", command);
	}
}

static int run(struct client *client)
{
	client_map(client);
	greet(client);
	for (int i = 0; i < client->command_count; i++)
		run_command(client, client->commands[i]);
	return 0;
}

/* Forks the clones; when all wait, lets the commands of ours run, which end with them. */
static int run_clones(struct client *client)
{
	int ready[2], go[2], failed = 0, status;
	char c;

	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		client_fail("pipe: %s", strerror(errno));
	for (unsigned int i = 0; i < client->clones; i++) {
		pid_t pid = fork();

		if (pid < 0)
			client_fail("fork: %s", strerror(errno));
		if (pid == 0) {
			(void)close(go[1]);
			client->ready_fd = ready[1];
			client->go_fd = go[0];
			_exit(run(client));
		}
	}
	(void)close(ready[1]);
	for (unsigned int i = 0; i < client->clones; i++)
		failed += read(ready[0], &c, 1) != 1;
	(void)printf("%u clones, %d failed\n", client->clones, failed);
	(void)fflush(stdout);
	wait_for_line(client);
	(void)close(go[1]);
	while (wait(&status) > 0)
		failed += status != 0;
	return failed != 0;
}

static void set_form(struct client *client, const char *name)
{
	static const char *const names[] = {"none", "kib", "both"};

	for (int i = 0; i < 3; i++) {
		if (strcmp(name, names[i]) == 0) {
			client->form = (enum fl_firecracker_form)i;
			return;
		}
	}
	client_fail("no such form: %s", name);
}

static void parse(struct client *client, int argc, char **argv)
{
	static const struct option options[] = {
		{"regions", 1, NULL, 'r'},  {"size", 1, NULL, 's'},    {"huge", 0, NULL, 'h'},
		{"form", 1, NULL, 'f'},     {"hang-up", 0, NULL, 'u'}, {"pieces", 1, NULL, 'p'},
		{"raw", 1, NULL, 'w'},      {"no-fd", 0, NULL, '0'},   {"two-fds", 0, NULL, '2'},
		{"wrong-fd", 0, NULL, 'x'}, {"clones", 1, NULL, 'c'},  {"forget", 0, NULL, 'g'},
		{NULL, 0, NULL, 0}};
	int found;

	while ((found = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (found) {
		case 'r':
			client->region_count = strtoul(optarg, NULL, 0);
			break;
		case 's':
			client->len = strtoull(optarg, NULL, 0);
			break;
		case 'h':
			client->page_size = 2u << 20;
			break;
		case 'f':
			set_form(client, optarg);
			break;
		case 'u':
			client->hang_up = true;
			break;
		case 'g':
			client->forget = true;
			break;
		case 'p':
			client->piece_bytes = strtoul(optarg, NULL, 0);
			break;
		case 'w':
			client->raw = optarg;
			break;
		case '0':
			client->no_fd = true;
			break;
		case '2':
			client->two_fds = true;
			break;
		case 'x':
			client->wrong_fd = true;
			break;
		case 'c':
			client->clones = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		default:
			exit(2);
		}
	}
	if (argc - optind < 2 || client->region_count < 1 || client->region_count > FL_REGIONS_MAX)
		client_fail("usage: uffd-client [OPTION...] SOCKET IMAGE [COMMAND...]");
	client->socket = argv[optind];
	client->image = argv[optind + 1];
	client->commands = argv + optind + 2;
	client->command_count = argc - optind - 2;
}

int main(int argc, char **argv)
{
	struct client client = {.page_size = 4096,
				.region_count = 1,
				.form = FL_FIRECRACKER_BOTH,
				.sock = -1,
				.ready_fd = -1,
				.go_fd = -1};
	struct stat file;

	(void)signal(SIGPIPE, SIG_IGN);
	parse(&client, argc, argv);
	client.image_fd = open(client.image, O_RDONLY | O_CLOEXEC);
	if (client.image_fd < 0 || fstat(client.image_fd, &file) < 0)
		client_fail("%s: %s", client.image, strerror(errno));
	if (!client.len)
		client.len = (uint64_t)file.st_size;
	return client.clones ? run_clones(&client) : run(&client);
}
