/* SPDX-License-Identifier: MIT */
/*
 * worker-client export SOCKET BYTES SEED TOKEN_FILE
 *	exports memory with a pattern in it, every 8th run of 16 pages zeros; the token goes to
 *	the file; stays
 *	until standard input ends. With "cut" as a line there, the memory is cut to nothing. When
 *	its worker dies
 *	it connects again and exports anew.
 * worker-client import SOCKET ADDRESS BYTES SEED TOKEN_FILE MODE THREADS [again]
 *	imports it, and lets threads look at every page in an order of their own. MODE:
 *	fault   a thread that touches a page which is not there gets a SIGBUS, and resolves it
 *	itself, in the handler
 *	copy	fl_worker_copy() and a look
 *	pager	a pager with a source made of the worker
 *	With "again", lost workers and links are made anew. Else the first error is printed, and
 *	the status is 3.
 *
 * Exit status 0 when all contents were right.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <faultline/faultline.h>

#include "support.h"
#include "util/compat.h"

#define PAGE        4096ul
#define THREADS_MAX 64
/* Local offsets are not the remote ones. */
#define SHIFT (UINT64_C(64) << 20)

struct client {
	const char *socket, *address, *token_file, *mode;
	uint64_t len, seed;
	unsigned int threads;
	bool again;
	int fd;             /* the memory */
	unsigned char *map; /* as the guest sees it */
	int uffd;
	struct fl_table *table;
	struct fl_worker *_Atomic worker;
	_Atomic unsigned int users;  /* threads within fl_worker_copy() */
	_Atomic int failed;          /* what a copy failed with, to be mended */
	_Atomic unsigned int mended; /* how often it was */
	_Atomic unsigned int ended;  /* threads */
};

static struct client client;

static _Noreturn void die(const char *what, int rc, const char *text)
{
	(void)fprintf(stderr, "worker-client: %s: %s %s\n", what,
		      rc ? strerrorname_np(rc < 0 ? -rc : rc) : "", text);
	_exit(rc ? 3 : 1);
}

static bool is_zero_page(uint64_t page)
{
	return page / 16 % 8 == 7;
}

static void check_page(const unsigned char *at, uint64_t page)
{
	ptrdiff_t wrong = is_zero_page(page) ? test_nonzero(at, PAGE)
					     : test_mismatch(at, PAGE, page * PAGE, client.seed);

	if (wrong >= 0)
		die("contents are wrong", 0, page == 0 ? "page 0" : "a page");
}

/* ---- the way of a fault; all of it is async-signal-safe */

/* -EPIPE too when the worker is being exchanged. */
static int copy_page(uint64_t page)
{
	struct fl_worker *worker;
	int rc;

	(void)atomic_fetch_add(&client.users, 1);
	worker = atomic_load(&client.worker);
	rc = worker ? fl_worker_copy(worker, page * PAGE, SHIFT + page * PAGE, PAGE, 0) : -EPIPE;
	(void)atomic_fetch_sub(&client.users, 1);
	return rc;
}

/* Asks the main thread to mend it, and waits until it has. */
static void wait_for_mending(int rc, unsigned int mended)
{
	const struct timespec wait = {.tv_nsec = 1000000};

	if (!client.again)
		die("copying", rc, "");
	atomic_store(&client.failed, rc);
	while (atomic_load(&client.mended) == mended)
		(void)nanosleep(&wait, NULL);
}

static void show_page(uint64_t page)
{
	struct uffdio_continue args = {
		.range = {.start = (uint64_t)(uintptr_t)client.map + page * PAGE, .len = PAGE},
		.mode = UFFDIO_CONTINUE_MODE_DONTWAKE};

	while (ioctl(client.uffd, UFFDIO_CONTINUE, &args) < 0 && errno != EEXIST) {
		if (errno != EAGAIN)
			die("UFFDIO_CONTINUE", errno, "");
	}
}

static void resolve(uint64_t page)
{
	for (;;) {
		unsigned int mended = atomic_load(&client.mended);
		enum fl_claim claim = fl_table_claim(client.table, page, FL_WAITER_NONE);
		int rc;

		if (claim == FL_CLAIM_PRESENT)
			return;
		if (claim == FL_CLAIM_JOINED) {
			(void)sched_yield();
			continue;
		}
		rc = copy_page(page);
		if (!rc)
			show_page(page);
		(void)fl_table_settle(client.table, page, claim, rc ? FL_ABSENT : FL_PRESENT, NULL);
		if (rc)
			wait_for_mending(rc, mended);
	}
}

static void on_bus(int number, siginfo_t *info, void *context)
{
	uint64_t at = (uint64_t)((unsigned char *)info->si_addr - client.map);
	int saved = errno;

	(void)number, (void)context;
	if (at >= client.len)
		die("SIGBUS", EFAULT, "outside of the guest's memory");
	resolve(at / PAGE);
	errno = saved;
}

/* ---- threads that look at every page */

static void copy_and_look(uint64_t page)
{
	for (;;) {
		unsigned int mended = atomic_load(&client.mended);
		int rc = copy_page(page);

		if (!rc)
			break;
		wait_for_mending(rc, mended);
	}
	check_page(client.map + page * PAGE, page);
}

static void *toucher(void *arg)
{
	uint64_t pages = client.len / PAGE;
	uint64_t number = (uint64_t)(uintptr_t)arg;
	/* Odd, so it visits every page of a power of two. */
	uint64_t step = (number * 2654435761u) | 1;

	for (uint64_t i = 0; i < pages; i++) {
		uint64_t page = (number * 977 + i * step) % pages;

		if (strcmp(client.mode, "copy") != 0)
			check_page(client.map + page * PAGE, page);
		else if (i % client.threads == number % client.threads)
			copy_and_look((i * step) % pages);
	}
	(void)atomic_fetch_add(&client.ended, 1);
	return NULL;
}

/* ---- connecting */

static bool read_token(uint8_t token[FL_WORKER_TOKEN_BYTES])
{
	FILE *file = fopen(client.token_file, "re");
	size_t got = file ? fread(token, 1, FL_WORKER_TOKEN_BYTES, file) : 0;

	if (file)
		(void)fclose(file);
	return got == FL_WORKER_TOKEN_BYTES;
}

static int try_import(struct fl_worker *worker, struct fl_error *err)
{
	struct fl_worker_region region = {
		.offset = SHIFT, .len_bytes = client.len, .fd = client.fd};
	uint8_t token[FL_WORKER_TOKEN_BYTES];

	if (!read_token(token))
		return -ENOENT;
	return fl_worker_import(worker, client.address, token, &region, 1, err);
}

/* Until it works: a worker may just be starting. */
static void mend(int rc)
{
	struct fl_worker *worker = atomic_load(&client.worker);
	struct fl_error err = {0};

	(void)fprintf(stderr, "worker-client: mending %s\n", strerrorname_np(-rc));
	for (int i = 0; i < 3000 && rc; i++) {
		if (rc == -EPIPE || !worker) {
			atomic_store(&client.worker, NULL);
			while (atomic_load(&client.users))
				(void)sched_yield();
			fl_worker_close(worker);
			worker = NULL;
			rc = fl_worker_connect(&worker, client.socket, NULL, &err);
		}
		if (worker)
			rc = try_import(worker, &err);
		if (rc)
			(void)poll(NULL, 0, 10);
	}
	if (rc)
		die("mending", rc, err.text);
	atomic_store(&client.worker, worker);
}

static void wait_for_threads(void)
{
	while (atomic_load(&client.ended) < client.threads) {
		int rc = atomic_load(&client.failed);

		(void)poll(NULL, 0, 5);
		if (!rc)
			continue;
		mend(rc);
		atomic_store(&client.failed, 0);
		(void)atomic_fetch_add(&client.mended, 1);
	}
}

/* ---- memory */

static void make_memory(bool fill)
{
	client.fd = memfd_create("worker-client", MFD_CLOEXEC);
	if (client.fd < 0 || ftruncate(client.fd, (off_t)client.len) < 0)
		die("memory", errno, "");
	client.map = mmap(NULL, client.len, PROT_READ | PROT_WRITE, MAP_SHARED, client.fd, 0);
	if (client.map == MAP_FAILED)
		die("memory", errno, "");
	for (uint64_t page = 0; fill && page < client.len / PAGE; page++) {
		if (!is_zero_page(page))
			test_pattern(client.map + page * PAGE, PAGE, page * PAGE, client.seed);
	}
}

static void register_memory(uint64_t features)
{
	struct uffdio_register args = {
		.range = {.start = (uint64_t)(uintptr_t)client.map, .len = client.len},
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR};
	struct fl_error err;

	client.uffd = fl_uffd_open(features | UFFD_FEATURE_MINOR_SHMEM, FL_UFFD_USER_MODE_ONLY,
				   NULL, &err);
	if (client.uffd < 0)
		die("userfaultfd", client.uffd, err.text);
	if (ioctl(client.uffd, UFFDIO_REGISTER, &args) < 0)
		die("UFFDIO_REGISTER", errno, "");
}

/* ---- modes */

static void start_threads(pthread_t *threads)
{
	for (unsigned int i = 0; i < client.threads; i++) {
		if (pthread_create(&threads[i], NULL, toucher, (void *)(uintptr_t)(i + 1)))
			die("a thread", EAGAIN, "");
	}
}

static void run_threads(void)
{
	pthread_t threads[THREADS_MAX] = {0};

	start_threads(threads);
	wait_for_threads();
	for (unsigned int i = 0; i < client.threads; i++)
		(void)pthread_join(threads[i], NULL);
}

static void run_faults(void)
{
	struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
	uint64_t counts[FL_PAGE_STATES];

	if (fl_table_new(&client.table, client.len / PAGE) < 0)
		die("a table", ENOMEM, "");
	register_memory(UFFD_FEATURE_SIGBUS);
	(void)sigaction(SIGBUS, &action, NULL);
	run_threads();
	fl_table_count(client.table, counts);
	if (counts[FL_PRESENT] != client.len / PAGE)
		die("the table", 0, "has pages that are not present");
	fl_table_free(client.table);
	(void)close(client.uffd);
}

static void run_pager(void)
{
	struct fl_region region = {.gpa = FL_NOWHERE,
				   .addr = (uint64_t)(uintptr_t)client.map,
				   .len_bytes = client.len,
				   .page_size = PAGE,
				   .backing = FL_BACKING_MEMFD};
	struct fl_alias alias = {.addr = region.addr, .len_bytes = client.len};
	struct fl_pager_parts parts = {0};
	struct fl_pager_options options;
	struct fl_pager *pager;
	struct fl_error err;

	alias.alias = mmap(NULL, client.len, PROT_READ | PROT_WRITE, MAP_SHARED, client.fd, 0);
	register_memory(0);
	fl_pager_options_init(&options);
	options.flags = FL_PAGER_FILL;
	if (fl_layout_new(&parts.layout, &region, 1, &err) ||
	    fl_table_new(&parts.table, client.len / PAGE) ||
	    fl_trap_uffd_new(&parts.trap, client.uffd, &err) ||
	    fl_install_continue_new(&parts.install, client.uffd, &alias, 1, &err) ||
	    fl_source_worker_new(&parts.source, client.worker, client.len, &err) ||
	    fl_pager_new(&pager, &parts, &options, &err) || fl_pager_start(pager))
		die("a pager", EINVAL, err.text);
	run_threads();
	fl_pager_close(pager);
	fl_source_close(parts.source);
	fl_install_close(parts.install);
	fl_trap_close(parts.trap);
	fl_table_free(parts.table);
	fl_layout_free(parts.layout);
	(void)close(client.uffd);
	(void)munmap(alias.alias, client.len);
}

static int import(void)
{
	struct fl_worker_stats stats = {.size = sizeof(stats)};
	struct fl_worker *worker = NULL;
	struct fl_error err = {0};
	int rc = fl_worker_connect(&worker, client.socket, NULL, &err);

	make_memory(false);
	if (!rc)
		rc = try_import(worker, &err);
	if (rc)
		die("importing", rc, err.text);
	atomic_store(&client.worker, worker);
	(void)printf("imported\n");
	(void)fflush(stdout);
	if (strcmp(client.mode, "fault") == 0)
		run_faults();
	else if (strcmp(client.mode, "pager") == 0)
		run_pager();
	else
		run_threads();
	worker = atomic_load(&client.worker);
	fl_worker_stats(worker, &stats);
	(void)printf("right: copies %ju doorbells %ju sleeps %ju full %ju mended %u\n",
		     (uintmax_t)stats.copies, (uintmax_t)stats.doorbells, (uintmax_t)stats.sleeps,
		     (uintmax_t)stats.full, atomic_load(&client.mended));
	fl_worker_close(worker);
	(void)munmap(client.map, client.len);
	(void)close(client.fd);
	return 0;
}

/* ---- exporting */

static struct fl_worker *export_once(struct fl_error *err)
{
	struct fl_worker_region region = {.len_bytes = client.len, .fd = client.fd};
	uint8_t token[FL_WORKER_TOKEN_BYTES];
	struct fl_worker *worker = NULL;
	char name[4096];
	FILE *file;
	int rc = fl_worker_connect(&worker, client.socket, NULL, err);

	if (!rc)
		rc = fl_worker_export(worker, &region, 1, token, err);
	if (rc) {
		fl_worker_close(worker);
		return NULL;
	}
	/* Whole or not at all. */
	(void)snprintf(name, sizeof(name), "%s.new", client.token_file);
	file = fopen(name, "we");
	if (!file || fwrite(token, 1, sizeof(token), file) != sizeof(token) || fclose(file) ||
	    rename(name, client.token_file))
		die(name, errno, "");
	return worker;
}

static struct fl_worker *export_anew(void)
{
	struct fl_error err = {0};

	for (int i = 0; i < 3000; i++) {
		struct fl_worker *worker = export_once(&err);

		if (worker)
			return worker;
		(void)poll(NULL, 0, 10);
	}
	die("exporting", err.code, err.text);
}

static int export(void)
{
	struct fl_error err = {0};
	struct fl_worker *worker;

	make_memory(true);
	worker = export_once(&err);
	if (!worker)
		die("exporting", err.code, err.text);
	for (;;) {
		struct pollfd pollers[] = {{.fd = STDIN_FILENO, .events = POLLIN},
					   {.fd = fl_worker_fd(worker)}};
		char line[16] = "";

		(void)poll(pollers, 2, -1);
		if (pollers[1].revents) {
			fl_worker_close(worker);
			worker = export_anew();
		}
		if (!pollers[0].revents)
			continue;
		if (read(STDIN_FILENO, line, sizeof(line) - 1) <= 0)
			break;
		if (strncmp(line, "cut", 3) != 0)
			continue;
		if (ftruncate(client.fd, 0) < 0)
			die("cutting", errno, "");
		(void)printf("cut\n");
		(void)fflush(stdout);
	}
	fl_worker_close(worker);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "export") == 0) {
		client = (struct client){.socket = argv[2],
					 .len = strtoull(argv[3], NULL, 0),
					 .seed = strtoull(argv[4], NULL, 0),
					 .token_file = argv[5]};
		return export();
	}
	if ((argc == 9 || argc == 10) && strcmp(argv[1], "import") == 0) {
		client = (struct client){.socket = argv[2],
					 .address = argv[3],
					 .len = strtoull(argv[4], NULL, 0),
					 .seed = strtoull(argv[5], NULL, 0),
					 .token_file = argv[6],
					 .mode = argv[7],
					 .threads = (unsigned int)strtoul(argv[8], NULL, 0),
					 .again = argc == 10};
		if (client.threads >= 1 && client.threads <= THREADS_MAX)
			return import();
	}
	die("usage", EINVAL, "see the first lines of worker-client.c");
}
