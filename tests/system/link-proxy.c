/* SPDX-License-Identifier: MIT */
/*
 * link-proxy - a bad network between two sides of a migration
 *
 *	link-proxy HOST:PORT [OPTION...]
 *
 * Listens on 127.0.0.1, prints the port, and passes every connection on to HOST:PORT. Bytes are
 * counted over all connections in both directions (or one, see --way), and once:
 *
 *	--cut N		all connections are reset when N bytes have passed
 *	--mute N	nothing passes any more, but nothing is closed either, until new connections come
 *	--flip N	the byte with number N has a bit changed
 *	--way out|in	only bytes from the connecting side (out), or to it (in), count
 *	--rate N	at most N bytes a second pass in each direction of each connection, always
 *	--times N	--cut happens N times, counting anew from each time on
 *
 * After that everything passes, so that a recovery can be tried through the same proxy. SIGUSR1 cuts at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS   64
#define PIPE_SZ (256 * 1024)

/* One direction of one connection. */
struct way {
	int from, to;
	bool out; /* from the side that connected */
	bool ended;
	char buf[PIPE_SZ];
	size_t at, len;
	double credit; /* bytes that may pass now */
};

struct pair {
	bool used;
	bool muted;
	int fd[2];
	struct way way[2];
};

struct plan {
	uint64_t cut, mute, flip, rate; /* 0: never */
	unsigned int times;
	const char *only;
};

static struct pair pairs[PAIRS];
static struct plan plan = {.times = 1};
static uint64_t passed;
static volatile sig_atomic_t cut_now;

static void on_usr1(int sig)
{
	(void)sig;
	cut_now = 1;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "link-proxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void reset(int fd)
{
	struct linger hard = {1, 0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	(void)close(fd);
}

static void end_pair(struct pair *pair)
{
	reset(pair->fd[0]);
	reset(pair->fd[1]);
	pair->used = false;
}

static void cut_all(void)
{
	for (int i = 0; i < PAIRS; i++)
		if (pairs[i].used)
			end_pair(&pairs[i]);
}

static bool counts(const struct way *way)
{
	return !plan.only || !strcmp(plan.only, way->out ? "out" : "in");
}

/* What happens to bytes that are about to pass. Returns how many of them still do. */
static size_t harm(struct pair *pair, const struct way *way, char *buf, size_t len)
{
	if (!counts(way))
		return len;
	if (plan.flip && plan.flip > passed && plan.flip <= passed + len) {
		buf[plan.flip - passed - 1] ^= 4;
		plan.flip = 0;
	}
	if (plan.cut && passed + len >= plan.cut)
		len = plan.cut > passed ? plan.cut - passed : 0;
	if (plan.mute && passed + len >= plan.mute) {
		for (int i = 0; i < PAIRS; i++)
			pairs[i].muted = true;
		plan.mute = 0;
		pair->muted = true;
	}
	passed += len;
	return len;
}

static bool cut_is_due(void)
{
	if (!cut_now && !(plan.cut && passed >= plan.cut))
		return false;
	if (!cut_now && !--plan.times)
		plan.cut = 0;
	cut_now = 0;
	passed = 0;
	return true;
}

static void fill(struct pair *pair, struct way *way)
{
	ssize_t got = recv(way->from, way->buf, sizeof(way->buf), MSG_DONTWAIT);

	if (got > 0) {
		way->at = 0;
		way->len = harm(pair, way, way->buf, (size_t)got);
	} else if (!got) {
		way->ended = true;
		(void)shutdown(way->to, SHUT_WR);
	} else if (errno != EAGAIN && errno != EINTR) {
		end_pair(pair);
	}
}

static void drain(struct pair *pair, struct way *way)
{
	size_t len = way->len;
	ssize_t put;

	if (plan.rate && (double)len > way->credit)
		len = way->credit > 0 ? (size_t)way->credit : 0;
	if (!len)
		return;
	put = send(way->to, way->buf + way->at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (put < 0 && errno != EAGAIN && errno != EINTR) {
		end_pair(pair);
	} else if (put > 0) {
		way->at += (size_t)put;
		way->len -= (size_t)put;
		way->credit -= (double)put;
	}
}

static void step(struct pair *pair, double passed_s)
{
	for (int i = 0; i < 2 && pair->used && !pair->muted; i++) {
		struct way *way = &pair->way[i];

		way->credit += passed_s * (double)plan.rate;
		if (way->credit > (double)plan.rate / 20)
			way->credit = (double)plan.rate / 20;
		if (!way->len && !way->ended)
			fill(pair, way);
		if (pair->used && way->len)
			drain(pair, way);
	}
	if (pair->used && pair->way[0].ended && pair->way[1].ended)
		end_pair(pair);
}

static int dial(const struct addrinfo *to)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		die("socket");
	if (connect(fd, to->ai_addr, to->ai_addrlen) < 0) {
		(void)close(fd);
		return -1;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void take(int listen_fd, const struct addrinfo *to)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC), other, one = 1, i = 0;

	if (fd < 0)
		return;
	while (i < PAIRS && pairs[i].used)
		i++;
	other = i < PAIRS ? dial(to) : -1;
	if (other < 0) {
		reset(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pairs[i].used = true;
	pairs[i].muted = false;
	pairs[i].fd[0] = fd;
	pairs[i].fd[1] = other;
	for (int n = 0; n < 2; n++) {
		struct way *way = &pairs[i].way[n];

		way->from = pairs[i].fd[n];
		way->to = pairs[i].fd[!n];
		way->out = !n;
		way->ended = false;
		way->len = 0;
		way->credit = 0;
	}
}

static int wait_for(int listen_fd, int timeout_ms)
{
	struct pollfd fds[1 + 2 * PAIRS] = {{.fd = listen_fd, .events = POLLIN}};
	nfds_t n = 1;

	for (int i = 0; i < PAIRS; i++) {
		for (int w = 0; w < 2 && pairs[i].used && !pairs[i].muted; w++) {
			struct way *way = &pairs[i].way[w];

			if (!way->len && !way->ended)
				fds[n++] = (struct pollfd){.fd = way->from, .events = POLLIN};
			else if (way->len && !plan.rate)
				fds[n++] = (struct pollfd){.fd = way->to, .events = POLLOUT};
		}
	}
	(void)poll(fds, n, timeout_ms);
	return fds[0].revents & POLLIN;
}

static void run(int listen_fd, const struct addrinfo *to)
{
	double before_s = now_s(), at_s;

	for (;;) {
		if (wait_for(listen_fd, plan.rate ? 2 : 1000))
			take(listen_fd, to);
		at_s = now_s();
		for (int i = 0; i < PAIRS && !cut_now; i++) {
			if (pairs[i].used)
				step(&pairs[i], at_s - before_s);
		}
		before_s = at_s;
		if (cut_is_due())
			cut_all();
	}
}

static int listen_on(uint16_t *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		die("listen");
	*port = ntohs(address.sin_port);
	return fd;
}

static struct addrinfo *resolve(char *text)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
	char *colon = strrchr(text, ':');

	if (!colon) {
		errno = EINVAL;
		die(text);
	}
	*colon = '\0';
	if (getaddrinfo(text, colon + 1, &hints, &list)) {
		errno = EINVAL;
		die(text);
	}
	return list;
}

static void parse(int argc, char **argv)
{
	for (int i = 2; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 10);

		if (!strcmp(argv[i], "--cut"))
			plan.cut = value;
		else if (!strcmp(argv[i], "--mute"))
			plan.mute = value;
		else if (!strcmp(argv[i], "--flip"))
			plan.flip = value;
		else if (!strcmp(argv[i], "--rate"))
			plan.rate = value;
		else if (!strcmp(argv[i], "--times"))
			plan.times = (unsigned int)value;
		else if (!strcmp(argv[i], "--way"))
			plan.only = argv[i + 1];
		else
			exit(2);
	}
}

int main(int argc, char **argv)
{
	struct sigaction usr1 = {.sa_handler = on_usr1};
	uint16_t port;
	int fd;

	if (argc < 2 || argc % 2)
		return 2;
	parse(argc, argv);
	(void)sigaction(SIGUSR1, &usr1, NULL);
	fd = listen_on(&port);
	printf("%u\n", port);
	(void)fflush(stdout);
	run(fd, resolve(argv[1]));
}
