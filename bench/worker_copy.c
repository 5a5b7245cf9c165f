/* SPDX-License-Identifier: MIT */
/*
 * worker_copy FAULTLINE [ROUNDS] - what does it cost to have the network in another process?
 *
 * Two workers on this host, one that exports and one that imports, and beside them, in turns and
 * in the same run, the least that a copy of 4 KiB over TCP on loopback can take: a request of 32
 * bytes and an answer of 32 and 4096, between two processes that sleep in recv(2), and between two
 * that look without sleeping.
 *
 * The system calls of the copying thread are counted by the kernel's own means, not by the
 * library's counters: with system call user dispatch (prctl(2), PR_SET_SYSCALL_USER_DISPATCH)
 * every one of them is a SIGSYS.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <faultline/link.h>
#include <faultline/worker.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF          0
#define PR_SYS_DISPATCH_ON           1
#endif
#ifndef SYSCALL_DISPATCH_FILTER_ALLOW
#define SYSCALL_DISPATCH_FILTER_ALLOW 0
#define SYSCALL_DISPATCH_FILTER_BLOCK 1
#endif

#define PAGE       4096ul
#define HEAD       32ul
#define PAGES      4096ul
#define ROUNDS_MAX 1000000ul

static char folder[] = "/tmp/worker-copy.XXXXXX";
static pid_t children[4];
static int child_count;

static void clean(void)
{
	char path[64];

	for (int i = 0; i < child_count; i++) {
		(void)kill(children[i], SIGKILL);
		(void)waitpid(children[i], NULL, 0);
	}
	(void)snprintf(path, sizeof(path), "%s/a", folder);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/b", folder);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/peer", folder);
	(void)unlink(path);
	(void)rmdir(folder);
}

static _Noreturn void die(const char *what, const char *why)
{
	(void)fprintf(stderr, "worker_copy: %s: %s\n", what, why);
	clean();
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return one < other ? -1 : one > other;
}

static double quantile_us(uint64_t *ns, size_t count, double q)
{
	qsort(ns, count, sizeof(*ns), by_size);
	return (double)ns[(size_t)((double)(count - 1) * q)] / 1000;
}

/* ---- the bare loop */

static void exchange(int sock, void *buf, size_t len, bool send_it, bool spin)
{
	int flags = spin ? MSG_DONTWAIT : 0;

	for (size_t done = 0; done < len;) {
		ssize_t n = send_it ? send(sock, (char *)buf + done, len - done, MSG_NOSIGNAL)
				    : recv(sock, (char *)buf + done, len - done, flags);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			_exit(0);
	}
}

static _Noreturn void answer(int listener, bool spin)
{
	static char buf[HEAD + PAGE];
	int sock = accept(listener, NULL, NULL);
	int on = 1;

	(void)setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (;;) {
		exchange(sock, buf, HEAD, false, spin);
		exchange(sock, buf, sizeof(buf), true, spin);
	}
}

static int start_answerer(bool spin)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) < 0)
		die("a socket", strerror(errno));
	children[child_count] = fork();
	if (children[child_count] == 0)
		answer(listener, spin);
	child_count++;
	if (connect(sock, (struct sockaddr *)&address, len) < 0)
		die("connecting", strerror(errno));
	(void)setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)close(listener);
	return sock;
}

static void stop_child(int index)
{
	(void)kill(children[index], SIGKILL);
	(void)waitpid(children[index], NULL, 0);
	child_count--;
}

static void run_bare(uint64_t *ns, size_t rounds, bool spin)
{
	static char buf[HEAD + PAGE];
	int sock = start_answerer(spin);

	for (size_t i = 0; i < rounds + 100; i++) {
		uint64_t begin_ns = now_ns();

		exchange(sock, buf, HEAD, true, spin);
		exchange(sock, buf, sizeof(buf), false, spin);
		if (i >= 100)
			ns[i - 100] = now_ns() - begin_ns;
	}
	stop_child(child_count - 1);
	(void)close(sock);
}

/* ---- the workers */

static void start_worker(const char *faultline, const char *name, const char *listen_at,
			 const char *spin)
{
	char path[64];
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	pid = fork();
	if (pid == 0) {
		(void)execl(faultline, faultline, "worker", "--log-level", "warning", "--spin",
			    spin, "--socket", path, listen_at ? "--listen" : NULL, listen_at, NULL);
		_exit(127);
	}
	children[child_count++] = pid;
}

static struct fl_worker *connect_worker(const char *name, uint32_t spin_us)
{
	struct fl_worker_options options;
	struct fl_worker *worker = NULL;
	struct fl_error err;
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	fl_worker_options_init(&options);
	options.spin_us = spin_us;
	for (int i = 0; i < 1000; i++) {
		if (!fl_worker_connect(&worker, path, &options, &err))
			return worker;
		(void)poll(NULL, 0, 10);
	}
	die(path, err.text);
}

static int memory(unsigned char **map)
{
	int fd = memfd_create("worker_copy", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, PAGES * PAGE) < 0)
		die("memory", strerror(errno));
	*map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (*map == MAP_FAILED)
		die("memory", strerror(errno));
	return fd;
}

/* ---- counting system calls */

static volatile char selector;
static volatile uint64_t calls;

/* Counts the call and makes it. The kernel looks at the selector when the handler returns, too, so
 * it is left open for that, and one call more goes uncounted at most. */
#if defined(__x86_64__)
static void on_sys(int number, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)number;
	selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	calls++;
	regs[REG_RAX] = syscall(info->si_syscall, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
				regs[REG_R10], regs[REG_R8], regs[REG_R9]);
	if (regs[REG_RAX] < 0)
		regs[REG_RAX] = -errno;
}

static bool count_calls(bool on)
{
	struct sigaction action = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};

	(void)sigaction(SIGSYS, &action, NULL);
	selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	return prctl(PR_SET_SYSCALL_USER_DISPATCH, on ? PR_SYS_DISPATCH_ON : PR_SYS_DISPATCH_OFF, 0,
		     0, on ? &selector : NULL) == 0;
}
#else
static bool count_calls(bool on)
{
	return !on;
}
#endif

static void copy_one(struct fl_worker *worker, size_t i)
{
	uint64_t at = (i * 1327) % PAGES * PAGE;
	int rc = fl_worker_copy(worker, at, at, PAGE, 0);

	if (rc)
		die("copying", strerror(-rc));
}

static void run_worker(struct fl_worker *worker, uint64_t *ns, size_t rounds)
{
	for (size_t i = 0; i < rounds + 100; i++) {
		uint64_t begin_ns = now_ns();

		copy_one(worker, i);
		if (i >= 100)
			ns[i - 100] = now_ns() - begin_ns;
	}
}

static void show_calls(struct fl_worker *worker, size_t rounds)
{
	struct fl_worker_stats before = {.size = sizeof(before)}, after = before;
	uint64_t none = 0;

	fl_worker_stats(worker, &before);
	if (!count_calls(true)) {
		(void)printf("system calls                 cannot be counted here\n");
		return;
	}
	calls = 0;
	for (size_t i = 0; i < rounds; i++) {
		uint64_t seen = calls;

		selector = SYSCALL_DISPATCH_FILTER_BLOCK;
		copy_one(worker, i);
		selector = SYSCALL_DISPATCH_FILTER_ALLOW;
		none += calls == seen;
	}
	(void)count_calls(false);
	fl_worker_stats(worker, &after);
	(void)printf("copies without a system call %7.2f %%  of %zu; calls in all: %ju; by the "
		     "library's counters: %ju doorbells, %ju sleeps\n",
		     100.0 * (double)none / (double)rounds, rounds, (uintmax_t)calls,
		     (uintmax_t)(after.doorbells - before.doorbells),
		     (uintmax_t)(after.sleeps - before.sleeps));
}

static void show(const char *what, uint64_t *ns, size_t rounds, double base)
{
	double p50 = quantile_us(ns, rounds, 0.5);

	(void)printf("%-28s p50 %7.1f us  p99 %7.1f us", what, p50, quantile_us(ns, rounds, 0.99));
	if (base > 0)
		(void)printf("  %.2f times the bare loop that looks", p50 / base);
	(void)putchar('\n');
}

static struct fl_worker *set_up(const char *faultline, const char *spin, uint32_t spin_us)
{
	struct fl_worker_region region = {.len_bytes = PAGES * PAGE};
	struct fl_worker *exporter, *importer;
	uint8_t token[FL_WORKER_TOKEN_BYTES];
	unsigned char *map;
	struct fl_error err;
	char address[80] = "";
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(any);
	int probe = socket(AF_INET, SOCK_STREAM, 0);

	/* A port that is free. */
	if (bind(probe, (struct sockaddr *)&any, len) < 0 ||
	    getsockname(probe, (struct sockaddr *)&any, &len) < 0)
		die("a port", strerror(errno));
	(void)close(probe);
	(void)snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(any.sin_port));
	start_worker(faultline, "a", address, spin);
	start_worker(faultline, "b", NULL, spin);
	exporter = connect_worker("a", 0);
	importer = connect_worker("b", spin_us);
	region.fd = memory(&map);
	memset(map, 0x5a, PAGES * PAGE);
	if (fl_worker_export(exporter, &region, 1, token, &err))
		die("exporting", err.text);
	region.fd = memory(&map);
	if (fl_worker_import(importer, address, token, &region, 1, &err))
		die("importing", err.text);
	return importer;
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 20000;
	uint64_t *ns = calloc(ROUNDS_MAX, sizeof(*ns));
	struct fl_worker *worker;
	double base;

	if (argc < 2 || !ns || rounds < 100 || rounds > ROUNDS_MAX || !mkdtemp(folder)) {
		(void)fprintf(stderr, "usage: worker_copy FAULTLINE [ROUNDS]\n");
		return 2;
	}
	(void)printf("4 KiB over TCP on loopback, %zu times\n", rounds);
	run_bare(ns, rounds, true);
	base = quantile_us(ns, rounds, 0.5);
	show("bare loop that looks", ns, rounds, 0);
	run_bare(ns, rounds, false);
	show("bare loop that sleeps", ns, rounds, base);
	/* So long that nobody sleeps. */
	worker = set_up(argv[1], "1000000", 1000000);
	run_worker(worker, ns, rounds);
	show("workers that look", ns, rounds, base);
	show_calls(worker, rounds);
	fl_worker_close(worker);
	while (child_count)
		stop_child(child_count - 1);
	worker = set_up(argv[1], "20", 50);
	run_worker(worker, ns, rounds);
	show("workers, as usual", ns, rounds, base);
	fl_worker_close(worker);
	clean();
	free(ns);
	return 0;
}
