/* SPDX-License-Identifier: MIT */
/*
 * What a VMM's author writes, with the public headers and the shared library alone: a guest's
 * memory, handed over by Firecracker's handshake, supplied from an image, its working set recorded,
 * saved, and replayed.
 */
#include "support.h"
#include <faultline/faultline.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGES 512
#define PAGE  4096ul
#define LEN   (PAGES * PAGE)
#define SEED  11

/* The VMM's side: memory, registered, and what it says of it. */
struct vmm {
	char *mem;
	int uffd;
	struct fl_region region;
};

static void vmm_start(struct vmm *vmm)
{
	struct fl_trap *trap;
	struct fl_error err;

	vmm->uffd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, &err);
	SKIP_UNLESS(vmm->uffd >= 0, "uffd", "%s", err.text);
	vmm->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(vmm->mem, MAP_FAILED);
	vmm->region = (struct fl_region){.gpa = 0,
					 .addr = (uintptr_t)vmm->mem,
					 .len_bytes = LEN,
					 .page_size = PAGE,
					 .backing = FL_BACKING_ANON};
	assert_int_equal(fl_trap_uffd_new(&trap, vmm->uffd, &err), 0);
	assert_int_equal(fl_trap_arm(trap, vmm->region.addr, LEN, FL_TRAP_MISSING), 0);
	fl_trap_close(trap);
}

static void vmm_end(struct vmm *vmm)
{
	assert_int_equal(munmap(vmm->mem, LEN), 0);
	assert_int_equal(close(vmm->uffd), 0);
}

/* The handler's side: everything from what the handshake said. */
struct handler {
	struct fl_hello hello;
	struct fl_pager_parts parts;
	struct fl_pager *pager;
};

static void handler_start(struct handler *handler, struct vmm *vmm, const char *image,
			  const struct fl_pager_options *options)
{
	struct fl_pager_parts *parts = &handler->parts;
	struct fl_error err;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(
		fl_firecracker_send(pair[0], &vmm->region, 1, vmm->uffd, FL_FIRECRACKER_BOTH, &err),
		0);
	assert_int_equal(fl_firecracker_receive(pair[1], 10000, &handler->hello, &err), 0);
	assert_int_equal(handler->hello.pid, getpid());
	assert_int_equal(
		fl_layout_new(&parts->layout, handler->hello.regions, handler->hello.count, &err),
		0);
	assert_int_equal(fl_table_new(&parts->table, fl_layout_pages(parts->layout)), 0);
	assert_int_equal(fl_trap_uffd_new(&parts->trap, handler->hello.uffd, &err), 0);
	assert_int_equal(fl_install_copy_new(&parts->install, handler->hello.uffd, &err), 0);
	assert_int_equal(fl_source_file_open(&parts->source, image, 0, &err), 0);
	assert_int_equal(fl_filter_parse(&parts->source, "stats", &err), 0);
	assert_int_equal(fl_pager_new(&handler->pager, parts, options, &err), 0);
	assert_int_equal(fl_pager_start(handler->pager), 0);
	assert_int_equal(close(pair[0]), 0);
	assert_int_equal(close(pair[1]), 0);
}

static void handler_end(struct handler *handler)
{
	fl_pager_close(handler->pager);
	fl_install_close(handler->parts.install);
	fl_trap_close(handler->parts.trap);
	fl_source_close(handler->parts.source);
	fl_table_free(handler->parts.table);
	fl_layout_free(handler->parts.layout);
	(void)close(handler->hello.uffd);
	(void)close(handler->hello.pidfd);
}

static void touch_odd_pages(struct vmm *vmm)
{
	for (size_t page = 1; page < PAGES; page += 2)
		assert_filled(vmm->mem + page * PAGE, PAGE, page * PAGE, SEED);
}

static struct fl_pager_stats stats_of(struct handler *handler)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};

	fl_pager_stats(handler->pager, &stats);
	return stats;
}

static void record(const char *image, const char *path)
{
	struct fl_pager_options options;
	struct handler handler = {0};
	struct fl_error err;
	struct vmm vmm;

	fl_pager_options_init(&options);
	options.around_bytes = 0;
	assert_int_equal(fl_wset_new(&options.record, LEN, PAGE), 0);
	vmm_start(&vmm);
	handler_start(&handler, &vmm, image, &options);
	touch_odd_pages(&vmm);
	fl_pager_stop(handler.pager);
	assert_int_equal(stats_of(&handler).demand, PAGES / 2);
	assert_int_equal(fl_wset_save(options.record, path, handler.parts.source, &err), 0);
	handler_end(&handler);
	vmm_end(&vmm);
	fl_wset_free(options.record);
}

static void replay(const char *image, const char *path)
{
	struct fl_pager_options options;
	struct handler handler = {0};
	struct fl_source *source;
	struct fl_wset *set;
	struct fl_error err;
	struct vmm vmm;

	fl_pager_options_init(&options);
	assert_int_equal(fl_source_file_open(&source, image, 0, &err), 0);
	assert_int_equal(fl_wset_load(&set, path, source, &err), 0);
	fl_source_close(source);
	assert_int_equal(fl_wset_count(set), PAGES / 2);
	options.replay = set;
	vmm_start(&vmm);
	handler_start(&handler, &vmm, image, &options);
	/* The pages between two of the set come along: all but the first. */
	while (stats_of(&handler).replay < PAGES - 1)
		(void)usleep(1000);
	touch_odd_pages(&vmm);
	assert_int_equal(stats_of(&handler).demand, 0);
	handler_end(&handler);
	vmm_end(&vmm);
	fl_wset_free(set);
}

static void test_restore(void **state)
{
	int image = test_image(LEN, SEED);
	unsigned int fds;
	char path[64], dir[] = "/tmp/faultline-api.XXXXXX", set[64];

	(void)state;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", image);
	assert_non_null(mkdtemp(dir));
	(void)snprintf(set, sizeof(set), "%s/wset", dir);
	fds = test_open_fds();
	record(path, set);
	replay(path, set);
	assert_int_equal(test_open_fds(), fds);
	assert_int_equal(unlink(set), 0);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(close(image), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
