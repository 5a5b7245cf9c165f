// SPDX-License-Identifier: MIT
/*
 * init.c - the first process of the machine that kernel/boot starts: runs tests and powers off
 *
 * It reads /list, a test a line: name, seconds, seconds to repeat it for, and the command with
 * which the line ends, separated by tabs. What it has to say goes to the second serial port, where
 * the tests' output goes too; the first one is the kernel's.
 *
 *	##begin NAME SECONDS
 *	##end NAME exit|signal|hung|stuck NUMBER SPLATS MILLISECONDS
 *	##off
 *
 * SPLATS counts what the kernel complained of meanwhile: each is shown as a line that begins with
 * "kernel: ". A test that does not end in time is shown with all that it waits for, and killed;
 * "stuck" is one that even then does not end, after which no other is begun.
 *
 * With "faultline_host=1" on the kernel's command line, or "=shell", commands run among the host's
 * files, as QEMU shares them, with the tests in /tmp/tests.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

struct test {
	char *name;
	int limit_s, repeat_s;
	char *command;
};

struct outcome {
	const char *how;
	int number;
};

static int kmsg = -1;

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("init: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void mount_at(const char *type, const char *path, const char *options)
{
	mkdir(path, 0755);
	if (mount(type, path, type, 0, options) && errno != EBUSY)
		printf("init: mount %s: %s\n", path, strerror(errno));
}

static void mount_all(void)
{
	mount_at("proc", "/proc", NULL);
	mount_at("sysfs", "/sys", NULL);
	mount_at("devtmpfs", "/dev", NULL);
	mount_at("debugfs", "/sys/kernel/debug", NULL);
	mount_at("cgroup2", "/sys/fs/cgroup", NULL);
	mount_at("devpts", "/dev/pts", NULL);
	mount_at("tmpfs", "/dev/shm", NULL);
	mount_at("hugetlbfs", "/dev/hugepages", NULL);
	mount_at("tmpfs", "/tmp", NULL);
	write_file("/proc/sys/vm/nr_hugepages", "64");
}

/* So that MADV_PAGEOUT has somewhere to put pages: a RAM disk, with the header that mkswap writes. */
static void add_swap(void)
{
	struct {
		char boot[1024];
		uint32_t version, last_page;
		char rest[4096 - 1024 - 8 - 10];
		char magic[10];
	} header = {.version = 1, .magic = "SWAPSPACE2"};
	int fd = open("/dev/ram0", O_RDWR | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	header.last_page = (uint32_t)(size / 4096 - 1);
	if (size <= 0 || pwrite(fd, &header, sizeof(header), 0) < 0 || fsync(fd) ||
	    swapon("/dev/ram0", 0))
		printf("init: swap: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* The port as it is would turn newlines around, and echo. */
static void open_port(void)
{
	struct termios raw;
	int fd = open("/dev/ttyS1", O_RDWR);

	if (fd < 0)
		return;
	if (!tcgetattr(fd, &raw)) {
		cfmakeraw(&raw);
		cfsetspeed(&raw, B115200);
		tcsetattr(fd, TCSANOW, &raw);
	}
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

/* ---- what the kernel complains of */

static bool is_splat(const char *text)
{
	static const char *const begins[] = {"BUG:",
					     "WARNING:",
					     "INFO: task",
					     "INFO: possible",
					     "INFO: rcu",
					     "INFO: lockdep",
					     "INFO: trying to register",
					     "rcu: INFO",
					     "kernel BUG at",
					     "Oops",
					     "UBSAN:",
					     "KCSAN:",
					     "watchdog:",
					     "general protection",
					     "refcount_t:",
					     "Kernel panic"};

	for (size_t i = 0; i < sizeof(begins) / sizeof(*begins); i++)
		if (!strncmp(text, begins[i], strlen(begins[i])))
			return true;
	return false;
}

/* Everything that the kernel has said since the last time. */
static int count_splats(void)
{
	char record[8192];
	int splats = 0;

	for (;;) {
		ssize_t len = read(kmsg, record, sizeof(record) - 1);
		char *text;

		if (len < 0 && errno == EPIPE)
			continue; /* some of it was overwritten */
		if (len <= 0)
			return splats;
		record[len] = '\0';
		text = strchr(record, ';');
		if (!text || !is_splat(++text))
			continue;
		text[strcspn(text, "\n")] = '\0';
		printf("kernel: %s\n", text);
		splats++;
	}
}

/* ---- one that does not end */

static void print_file(const char *label, const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (len <= 0)
		return;
	text[len] = '\0';
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		printf("waits: %s%s\n", label, line);
}

static void print_thread(const char *pid, const char *tid)
{
	static const char *const files[] = {"comm", "syscall", "wchan", "stack"};
	char path[600], label[600];

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		snprintf(path, sizeof(path), "/proc/%s/task/%s/%s", pid, tid, files[i]);
		snprintf(label, sizeof(label), "%s/%s %s: ", pid, tid, files[i]);
		print_file(label, path);
	}
}

/* for_each_number(path, f, of) - calls f(of, name) for each number that is a name in there */
static void for_each_number(const char *path, void (*f)(const char *of, const char *name),
			    const char *of)
{
	DIR *dir = opendir(path);

	if (!dir)
		return;
	for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			f(of, entry->d_name);
	closedir(dir);
}

/* Kernel threads have no executable; we ourselves do not wait. */
static void print_process(const char *unused, const char *pid)
{
	char path[600], exe[16];

	(void)unused;
	snprintf(path, sizeof(path), "/proc/%s/exe", pid);
	if (!strcmp(pid, "1") || readlink(path, exe, sizeof(exe)) < 0)
		return;
	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	for_each_number(path, print_thread, pid);
}

/* ---- running */

/* A shell's port: echo, lines, and job control. */
static void make_terminal(void)
{
	struct termios cooked;

	if (ioctl(0, TIOCSCTTY, 0) || tcgetattr(0, &cooked))
		return;
	cooked.c_iflag |= ICRNL;
	cooked.c_oflag |= OPOST | ONLCR;
	cooked.c_lflag |= ISIG | ICANON | ECHO | ECHOE | IEXTEN;
	tcsetattr(0, TCSANOW, &cooked);
}

static _Noreturn void become(char *command)
{
	char *words[64], *shell[] = {"/bin/sh", "-c", command, NULL};
	const char *host = getenv("faultline_host");
	size_t count = 0;

	setsid();
	if (host) {
		if (!strcmp(host, "shell"))
			make_terminal();
		if (chroot("/host") || chdir("/tmp/tests")) {
			perror("/host");
			_exit(127);
		}
		execv(shell[0], shell);
		perror(shell[0]);
		_exit(127);
	}
	for (char *word = strtok(command, " "); word && count < 63; word = strtok(NULL, " "))
		words[count++] = word;
	words[count] = NULL;
	if (words[0] && !chdir("/tests"))
		execv(words[0], words);
	perror(command);
	_exit(127);
}

/* Waits for the child, or for any of what it left behind with pid -1; false when time is over. */
static bool reap(pid_t pid, double until_s, int *status)
{
	for (;;) {
		int one;
		pid_t ended = waitpid(-1, &one, WNOHANG);

		if (ended == pid && pid > 0) {
			*status = one;
			return true;
		}
		if (ended < 0)
			return true;
		if (ended > 0)
			continue;
		if (now_s() >= until_s)
			return false;
		poll(NULL, 0, 5);
	}
}

/* Nothing of it may be left for the next one. */
static bool kill_all(void)
{
	int status;

	return kill(-1, SIGKILL) || reap(-1, now_s() + 20, &status);
}

static struct outcome run_once(const struct test *test, double until_s)
{
	int status = 0;
	bool ended;
	pid_t pid = fork();

	if (!pid)
		become(test->command);
	ended = pid > 0 && reap(pid, until_s, &status);
	if (!ended) {
		for_each_number("/proc", print_process, NULL);
		write_file("/proc/sysrq-trigger", "w");
	}
	if (!kill_all())
		return (struct outcome){"stuck", 0};
	if (!ended)
		return (struct outcome){"hung", 0};
	if (WIFEXITED(status))
		return (struct outcome){"exit", WEXITSTATUS(status)};
	return (struct outcome){"signal", WTERMSIG(status)};
}

/* False when it is no use to go on. */
static bool run(const struct test *test)
{
	double start_s = now_s(), repeat_until_s = start_s + test->repeat_s;
	struct outcome outcome;

	printf("\n##begin %s %d\n", test->name, test->limit_s + test->repeat_s);
	do
		outcome = run_once(test, start_s + test->limit_s + test->repeat_s);
	while (!strcmp(outcome.how, "exit") && !outcome.number && now_s() < repeat_until_s);
	/* On a line of its own, whatever the test left on the last one. */
	printf("\n");
	int splats = count_splats();
	printf("##end %s %s %d %d %.0f\n", test->name, outcome.how, outcome.number, splats,
	       (now_s() - start_s) * 1000);
	return !!strcmp(outcome.how, "stuck");
}

static bool parse(char *line, struct test *test)
{
	char *limit, *repeat;

	line[strcspn(line, "\n")] = '\0';
	test->name = strtok(line, "\t");
	limit = strtok(NULL, "\t");
	repeat = strtok(NULL, "\t");
	test->command = strtok(NULL, "");
	if (!test->command)
		return false;
	test->limit_s = atoi(limit);
	test->repeat_s = atoi(repeat);
	return true;
}

static void share_host(void)
{
	mkdir("/host", 0755);
	if (mount("host", "/host", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=131072")) {
		printf("init: the host's files: %s\n", strerror(errno));
		return;
	}
	mount("/proc", "/host/proc", NULL, MS_BIND | MS_REC, NULL);
	mount("/sys", "/host/sys", NULL, MS_BIND | MS_REC, NULL);
	mount("/dev", "/host/dev", NULL, MS_BIND | MS_REC, NULL);
	mkdir("/tmp/tests", 0755);
	mount("/tests", "/tmp/tests", NULL, MS_BIND, NULL);
	mount("/tmp", "/host/tmp", NULL, MS_BIND | MS_REC, NULL);
}

int main(void)
{
	struct test test;
	char line[4096];
	FILE *list;

	mkdir("/dev", 0755);
	mount_at("devtmpfs", "/dev", NULL);
	open_port();
	mount_all();
	add_swap();
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/tmp", 1);
	setenv("TERM", "vt100", 1);
	if (getenv("faultline_host"))
		share_host();
	list = fopen("/list", "re");
	printf("##begin boot 60\n");
	printf("##end boot %s 0 %d %.0f\n", list && kmsg >= 0 ? "exit" : "stuck", count_splats(),
	       now_s() * 1000);
	while (list && fgets(line, sizeof(line), list))
		if (parse(line, &test) && !run(&test))
			break;
	printf("##off\n");
	fflush(stdout);
	tcdrain(1);
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
