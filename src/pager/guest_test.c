/* SPDX-License-Identifier: MIT */
#include "guest_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/compat.h"
#include "util/clock.h"

#define REGIONS_MAX 8

static void keep_log(void *ctx, enum fl_log_level level, const char *text)
{
	struct guest *guest = ctx;
	size_t at = strlen(guest->log);

	(void)level;
	(void)snprintf(guest->log + at, sizeof(guest->log) - at, "%s\n", text);
}

static void ended(void *ctx, int result)
{
	struct guest *guest = ctx;

	guest->ended = result;
}

/* A file whose cached pages are read at once, which a memfd's are not. */
static int disk_image(size_t len)
{
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *bytes = malloc(len);

	assert_non_null(bytes);
	assert_true(fd >= 0);
	test_pattern(bytes, len, 0, GUEST_SEED);
	assert_int_equal(pwrite(fd, bytes, len, 0), len);
	free(bytes);
	return fd;
}

static void open_image(struct guest *guest)
{
	struct fl_error err;
	char path[64];

	guest->image = -1;
	guest->source = guest->config.source;
	if (guest->source)
		return;
	guest->image = guest->config.disk ? disk_image(guest->len)
					  : test_image(guest->len, GUEST_SEED);
	if (guest->config.hole_len)
		assert_int_equal(fallocate(guest->image, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)guest->config.hole_at,
					   (off_t)guest->config.hole_len),
				 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", guest->image);
	assert_int_equal(fl_source_file_open(&guest->source, path, 0, &err), 0);
	for (size_t i = 0; i < 4 && guest->config.filters[i]; i++)
		assert_int_equal(fl_filter_parse(&guest->source, guest->config.filters[i], &err),
				 0);
}

static void map_memory(struct guest *guest)
{
	int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;

	guest->memfd = -1;
	if (guest->config.kind == GUEST_ANON || guest->config.kind == GUEST_HUGETLB) {
		if (guest->config.kind == GUEST_HUGETLB)
			flags |= MAP_HUGETLB | MAP_NORESERVE;
		if (guest->config.shared)
			flags = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB;
		guest->mem = mmap(NULL, guest->map_len, prot, flags, -1, 0);
		assert_ptr_not_equal(guest->mem, MAP_FAILED);
		return;
	}
	guest->memfd = memfd_create(
		"guest", MFD_CLOEXEC | (guest->config.kind == GUEST_HUGE_MEMFD ? MFD_HUGETLB : 0));
	assert_true(guest->memfd >= 0);
	assert_int_equal(ftruncate(guest->memfd, (off_t)guest->map_len), 0);
	guest->mem = mmap(NULL, guest->map_len, prot, MAP_SHARED, guest->memfd, 0);
	guest->alias = mmap(NULL, guest->map_len, prot, MAP_SHARED, guest->memfd, 0);
	assert_ptr_not_equal(guest->mem, MAP_FAILED);
	assert_ptr_not_equal(guest->alias, MAP_FAILED);
}

static void make_layout(struct guest *guest)
{
	struct fl_region regions[REGIONS_MAX] = {{0}};
	size_t count = guest->config.regions;
	size_t share = guest->config.pages / count * guest->page_size;
	size_t gap = guest->config.gap * guest->page_size;
	struct fl_error err;

	assert_true(count <= REGIONS_MAX);
	for (size_t i = 0; i < count; i++) {
		regions[i].gpa = FL_NOWHERE;
		regions[i].offset = i * share;
		regions[i].addr = (uint64_t)(uintptr_t)guest->mem + i * (share + gap);
		regions[i].len_bytes = i + 1 < count ? share : guest->len - i * share;
		regions[i].page_size = guest->page_size;
	}
	assert_int_equal(fl_layout_new(&guest->layout, regions, count, &err), 0);
	assert_int_equal(fl_table_new(&guest->table, fl_layout_pages(guest->layout)), 0);
}

static void arm(struct guest *guest, unsigned int modes)
{
	for (size_t i = 0; i < fl_layout_count(guest->layout); i++) {
		const struct fl_region *region = fl_layout_region(guest->layout, i);
		uint64_t tail = guest->config.tail ? guest->page_size : 0;

		assert_int_equal(
			fl_trap_arm(guest->trap, region->addr, region->len_bytes + tail, modes), 0);
	}
}

static void open_segv(struct guest *guest)
{
	struct fl_alias alias = {(uint64_t)(uintptr_t)guest->mem, guest->alias, guest->map_len};
	struct fl_error err;

	guest->uffd = -1;
	assert_int_equal(fl_trap_segv_new(&guest->trap, &err), 0);
	assert_int_equal(fl_install_reveal_new(&guest->install, guest->trap, &alias, 1, &err), 0);
	arm(guest, FL_TRAP_MISSING);
}

/* fl_uffd_open() refuses to report forks, but a VMM may have asked for it. */
static int open_fork_uffd(uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features | UFFD_FEATURE_EVENT_FORK};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	return fd;
}

static void open_uffd(struct guest *guest)
{
	struct fl_alias alias = {(uint64_t)(uintptr_t)guest->mem, guest->alias, guest->map_len};
	uint64_t features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP |
			    UFFD_FEATURE_EVENT_UNMAP;
	unsigned int modes = FL_TRAP_MISSING | (guest->config.wp ? FL_TRAP_WP : 0);
	struct fl_error err = {0};

	if (guest->alias) {
		SKIP_UNLESS(fl_probe_one("uffd.minor-shmem") == 0, "uffd-minor", "no minor faults");
		features |= guest->config.kind == GUEST_HUGE_MEMFD
				    ? UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_MISSING_HUGETLBFS
				    : UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM;
		modes |= FL_TRAP_MINOR;
	}
	if (guest->config.kind == GUEST_HUGETLB)
		features |= UFFD_FEATURE_MISSING_HUGETLBFS;
	if (guest->config.wp && fl_probe_one("uffd.wp-unpopulated") == 0)
		features |= UFFD_FEATURE_WP_UNPOPULATED;
	guest->uffd = guest->config.fork ? open_fork_uffd(features)
					 : fl_uffd_open(features, 0, NULL, &err);
	SKIP_UNLESS(guest->uffd >= 0, "uffd", "%s", err.text);
	assert_int_equal(fl_trap_uffd_new(&guest->trap, guest->uffd, &err), 0);
	if (guest->alias && !guest->config.copy)
		assert_int_equal(
			fl_install_continue_new(&guest->install, guest->uffd, &alias, 1, &err), 0);
	else
		assert_int_equal(fl_install_copy_new(&guest->install, guest->uffd, &err), 0);
	arm(guest, modes);
}

void guest_pager(struct guest *guest, uint32_t flags)
{
	struct fl_pager_options *options = &guest->options;
	struct fl_error err;

	guest->ended = 1;
	guest->parts = (struct fl_pager_parts){guest->layout, guest->table, guest->trap,
					       guest->install, guest->source};
	fl_pager_options_init(options);
	options->flags = flags;
	if (guest->config.around)
		options->around_bytes = guest->config.around;
	if (guest->config.window)
		options->window_bytes = guest->config.window;
	if (guest->config.pagemap)
		options->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	options->record = guest->config.record;
	options->replay = guest->config.replay;
	options->log = (struct fl_log){keep_log, guest};
	options->ended = ended;
	options->ctx = guest;
	assert_int_equal(fl_pager_new(&guest->pager, &guest->parts, options, &err), 0);
	if (!guest->config.stopped)
		assert_int_equal(fl_pager_start(guest->pager), 0);
}

static bool is_huge(enum guest_kind kind)
{
	return kind == GUEST_HUGETLB || kind == GUEST_HUGE_MEMFD;
}

void guest_start(struct guest *guest, const struct guest_config *config)
{
	memset(guest, 0, sizeof(*guest));
	guest->config = *config;
	if (!guest->config.pages)
		guest->config.pages = 256;
	if (!guest->config.regions)
		guest->config.regions = 1;
	guest->page_size = is_huge(config->kind) ? 2u << 20 : 4096;
	guest->len = guest->config.pages * guest->page_size;
	guest->map_len = guest->len +
			 guest->page_size * (config->tail + guest->config.regions * config->gap);
	if (is_huge(config->kind))
		SKIP_UNLESS(test_lock_hugepages() >= guest->config.pages, "hugetlb",
			    "too few free 2 MiB pages");
	map_memory(guest);
	open_image(guest);
	make_layout(guest);
	if (config->kind == GUEST_SEGV)
		open_segv(guest);
	else
		open_uffd(guest);
	guest_pager(guest, config->flags);
}

void guest_stop(struct guest *guest)
{
	fl_pager_close(guest->pager);
	fl_install_close(guest->install);
	fl_trap_close(guest->trap);
	fl_source_close(guest->source);
	fl_table_free(guest->table);
	fl_layout_free(guest->layout);
	if (guest->uffd >= 0)
		(void)close(guest->uffd);
	if (guest->memfd >= 0)
		(void)close(guest->memfd);
	if (guest->config.pagemap)
		(void)close(guest->options.pagemap_fd);
	if (guest->image >= 0)
		(void)close(guest->image);
	(void)munmap(guest->mem, guest->map_len);
	if (guest->alias)
		(void)munmap(guest->alias, guest->map_len);
}

char *guest_addr(const struct guest *guest, size_t page)
{
	size_t share = guest->config.pages / guest->config.regions;
	size_t region = page / share < guest->config.regions ? page / share
							     : guest->config.regions - 1;

	return guest->mem + (page + region * guest->config.gap) * guest->page_size;
}

void guest_check(struct guest *guest, size_t page)
{
	assert_filled(guest_addr(guest, page), guest->page_size, page * guest->page_size,
		      GUEST_SEED);
}

void guest_check_all(struct guest *guest)
{
	for (size_t page = 0; page < guest->config.pages; page++)
		guest_check(guest, page);
}

void guest_check_zero(struct guest *guest, size_t page)
{
	assert_int_equal(test_nonzero(guest_addr(guest, page), guest->page_size), -1);
}

struct fl_pager_stats guest_stats_now(const struct guest *guest)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};

	fl_pager_stats(guest->pager, &stats);
	return stats;
}

struct fl_pager_stats guest_stats(struct guest *guest)
{
	struct fl_pager_stats stats;

	fl_pager_stop(guest->pager);
	stats = guest_stats_now(guest);
	if (!guest->config.stopped && guest->ended == 1)
		assert_int_equal(fl_pager_start(guest->pager), 0);
	return stats;
}

struct fl_source_stats guest_reads(struct guest *guest)
{
	struct fl_source_stats stats;

	assert_int_equal(fl_filter_stats_read(guest->source, &stats), 0);
	return stats;
}

uint64_t guest_deadline(void)
{
	return fl_clock_ns() + 60 * FL_NS_PER_S;
}

void guest_pause(uint64_t end_ns)
{
	assert_true(fl_clock_ns() < end_ns);
	(void)sched_yield();
}

void guest_wait_full(struct guest *guest)
{
	guest_wait(guest_stats_now(guest).full_ns || guest->ended != 1);
	assert_int_equal(guest->ended, 1);
}

void guest_wait_ended(struct guest *guest)
{
	guest_wait(guest->ended != 1);
	fl_pager_stop(guest->pager);
}

int guest_run(struct guest *guest, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fl_pager_fd(guest->pager), .events = POLLIN};
	int result = 0;

	if (poll(&poll_fd, 1, timeout_ms) <= 0)
		return 0;
	do
		result = fl_pager_run(guest->pager);
	while (result > 0);
	return result;
}

static __thread sigjmp_buf on_bus;

static void bus(int signal)
{
	(void)signal;
	siglongjmp(on_bus, 1);
}

bool guest_is_poisoned(const char *at)
{
	struct sigaction action = {.sa_handler = bus}, before;
	volatile bool poisoned = false;

	assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
	if (sigsetjmp(on_bus, 1) == 0)
		(void)*(const volatile char *)at;
	else
		poisoned = true;
	assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
	return poisoned;
}

static void *touch(void *arg)
{
	struct toucher *toucher = arg;

	toucher->seen = *(const volatile char *)toucher->at;
	toucher->done = true;
	return NULL;
}

void toucher_start(struct toucher *toucher, const char *at)
{
	pthread_attr_t attr;

	toucher->at = at;
	toucher->done = false;
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, 128 * 1024), 0);
	assert_int_equal(pthread_create(&toucher->thread, &attr, touch, toucher), 0);
	assert_int_equal(pthread_attr_destroy(&attr), 0);
}

void toucher_join(struct toucher *toucher)
{
	assert_int_equal(pthread_join(toucher->thread, NULL), 0);
}

/* What the kernel says of a userfaultfd in /proc/self/fdinfo. */
unsigned int guest_waiting(const struct guest *guest, unsigned int *pending)
{
	unsigned int unread = 0, total = 0;
	char path[64], line[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", guest->uffd);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		(void)sscanf(line, "pending: %u", &unread);
		(void)sscanf(line, "total: %u", &total);
	}
	(void)fclose(file);
	if (pending)
		*pending = unread;
	return total;
}
