/* SPDX-License-Identifier: MIT */
/* What the page link is measured against: bare loops over a TCP connection of loopback. */
#include "ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xxhash.h>

#define PAGE  4096u
#define CHUNK (128u * 1024)
#define SUMS  (CHUNK / PAGE)

static int tcp_pair(int fds[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, code = 0;

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listening, (struct sockaddr *)&address, len) || listen(listening, 1) ||
	    getsockname(listening, (struct sockaddr *)&address, &len) ||
	    connect(fds[0], (struct sockaddr *)&address, len))
		code = -errno;
	fds[1] = code ? -1 : accept(listening, NULL, NULL);
	(void)close(listening);
	for (int i = 0; i < 2 && !code; i++)
		(void)setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return code;
}

static void take_sums(uint64_t *sums, const char *from)
{
	for (unsigned int i = 0; i < SUMS; i++)
		sums[i] = XXH3_64bits(from + i * PAGE, PAGE);
}

static int send_all(int fd, const char *from, size_t len)
{
	while (len) {
		ssize_t put = send(fd, from, len, MSG_NOSIGNAL);

		if (put < 0)
			return -errno;
		from += put;
		len -= (size_t)put;
	}
	return 0;
}

static int recv_all(int fd, void *to, size_t len)
{
	ssize_t got = recv(fd, to, len, MSG_WAITALL);

	return got == (ssize_t)len ? 0 : -EIO;
}

/* The child: fills memory, says so, and sends. */
static int send_memory(int fd, uint64_t len)
{
	char *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sums[SUMS];
	int code = 0;

	if (memory == MAP_FAILED)
		return -errno;
	for (uint64_t at = 0; at < len; at += PAGE)
		bench_fill_page(memory + at, at);
	(void)send_all(fd, "", 1);
	for (uint64_t at = 0; at < len && !code; at += CHUNK) {
		take_sums(sums, memory + at);
		code = send_all(fd, (char *)sums, sizeof(sums));
		if (!code)
			code = send_all(fd, memory + at, CHUNK);
	}
	return code;
}

static int receive_memory(int fd, char *memory, uint64_t len)
{
	uint64_t sums[SUMS], mine[SUMS];
	int code = 0;

	for (uint64_t at = 0; at < len && !code; at += CHUNK) {
		code = recv_all(fd, sums, sizeof(sums));
		if (!code)
			code = recv_all(fd, memory + at, CHUNK);
		take_sums(mine, memory + at);
		if (memcmp(sums, mine, sizeof(sums)))
			code = -EBADMSG;
	}
	return code;
}

double bench_bare_stream(uint64_t len_bytes)
{
	int fds[2], memfd = memfd_create("bench", MFD_CLOEXEC), code = tcp_pair(fds);
	uint64_t begin;
	char *memory, ready;
	pid_t child;

	if (code || ftruncate(memfd, (off_t)len_bytes))
		return -EIO;
	memory = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	child = fork();
	if (!child)
		_exit(send_memory(fds[0], len_bytes) ? 1 : 0);
	(void)close(fds[0]);
	code = recv_all(fds[1], &ready, 1);
	begin = bench_now_ns();
	if (!code)
		code = receive_memory(fds[1], memory, len_bytes);
	begin = bench_now_ns() - begin;
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
	(void)munmap(memory, len_bytes);
	(void)close(memfd);
	(void)close(fds[1]);
	return code ? code : (double)begin / 1e9;
}

static int answer_pings(int fd)
{
	char page[PAGE], byte;

	bench_fill_page(page, 0);
	while (!recv_all(fd, &byte, 1)) {
		if (send_all(fd, page, sizeof(page)))
			return 1;
	}
	return 0;
}

int bench_ping_start(struct bench_ping *ping)
{
	int fds[2], code = tcp_pair(fds);

	if (code)
		return code;
	ping->child = fork();
	if (!ping->child) {
		(void)close(fds[0]);
		_exit(answer_pings(fds[1]));
	}
	(void)close(fds[1]);
	ping->fd = fds[0];
	return 0;
}

int64_t bench_ping_once(struct bench_ping *ping)
{
	uint64_t begin = bench_now_ns();
	char page[PAGE];
	int code = send_all(ping->fd, "", 1);

	if (!code)
		code = recv_all(ping->fd, page, sizeof(page));
	return code ? code : (int64_t)(bench_now_ns() - begin);
}

void bench_ping_stop(struct bench_ping *ping)
{
	(void)close(ping->fd);
	(void)kill(ping->child, SIGKILL);
	(void)waitpid(ping->child, NULL, 0);
}
