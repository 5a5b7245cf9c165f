/* SPDX-License-Identifier: MIT */
#include "cli/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/error.h"

#define PAGE      4096u
#define FILL_STEP (2u * 1024 * 1024)

static int write_image(int fd, size_t len)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (size_t at = 0; at < len; at += PAGE) {
		for (size_t i = 0; i < PAGE / sizeof(*page); i++)
			page[i] = at + i;
		if (pwrite(fd, page, PAGE, (off_t)at) != PAGE)
			return errno ? -errno : -ENOSPC;
	}
	return 0;
}

int bench_image_open(struct bench_image *image, size_t len, struct fl_error *err)
{
	const char *dir = getenv("TMPDIR");
	char path[64];
	int code;

	if (!dir)
		dir = "/var/tmp";
	image->len = len;
	image->source = NULL;
	image->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (image->fd < 0)
		return fl_error_set(err, -errno, "no temporary file in %s: %s", dir,
				    strerror(errno));
	code = write_image(image->fd, len);
	if (code < 0)
		return fl_error_set(err, code, "writing an image of %zu MiB to %s: %s", len >> 20,
				    dir, strerror(-code));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
	return fl_source_file_open(&image->source, path, 0, err);
}

void bench_image_close(struct bench_image *image)
{
	fl_source_close(image->source);
	if (image->fd >= 0)
		(void)close(image->fd);
}

int bench_memory_open(struct bench_memory *memory, size_t len, struct fl_error *err)
{
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	memory->len = len;
	memory->uffd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, err);
	if (memory->uffd < 0)
		return memory->uffd;
	memory->mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->mem == MAP_FAILED)
		return fl_error_set(err, -errno, "no memory: %s", strerror(errno));
	/* A guest of small pages: huge ones would be another benchmark. */
	(void)madvise(memory->mem, len, MADV_NOHUGEPAGE);
	range.range.start = (uint64_t)(uintptr_t)memory->mem;
	range.range.len = len;
	if (ioctl(memory->uffd, UFFDIO_REGISTER, &range) < 0)
		return fl_error_set(err, -errno, "UFFDIO_REGISTER: %s", strerror(errno));
	return 0;
}

void bench_memory_close(struct bench_memory *memory)
{
	(void)munmap(memory->mem, memory->len);
	(void)close(memory->uffd);
}

static int copy(int uffd, void *to, const void *from, size_t len)
{
	struct uffdio_copy arg = {
		.dst = (uint64_t)(uintptr_t)to, .src = (uint64_t)(uintptr_t)from, .len = len};

	return ioctl(uffd, UFFDIO_COPY, &arg) < 0 && errno != EEXIST ? -errno : 0;
}

static void *bare_main(void *arg)
{
	struct bench_bare *bare = arg;
	char *mem = bare->memory->mem;
	struct pollfd fds[2] = {{.fd = bare->memory->uffd, .events = POLLIN},
				{.fd = bare->stop_fd, .events = POLLIN}};
	struct uffd_msg msg;

	for (;;) {
		if (poll(fds, 2, -1) < 0 || fds[1].revents)
			return NULL;
		if (read(bare->memory->uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		size_t at = (msg.arg.pagefault.address - (uint64_t)(uintptr_t)mem) & ~(PAGE - 1ul);

		if (pread(bare->image->fd, bare->page, PAGE, (off_t)at) != PAGE ||
		    copy(bare->memory->uffd, mem + at, bare->page, PAGE) < 0)
			return NULL;
	}
}

int bench_bare_start(struct bench_bare *bare, struct bench_memory *memory,
		     struct bench_image *image)
{
	bare->memory = memory;
	bare->image = image;
	bare->stop_fd = eventfd(0, EFD_CLOEXEC);
	bare->page = aligned_alloc(PAGE, PAGE);
	if (bare->stop_fd < 0 || !bare->page)
		return -ENOMEM;
	return -pthread_create(&bare->thread, NULL, bare_main, bare);
}

void bench_bare_stop(struct bench_bare *bare)
{
	uint64_t one = 1;

	(void)!write(bare->stop_fd, &one, sizeof(one));
	(void)pthread_join(bare->thread, NULL);
	(void)close(bare->stop_fd);
	free(bare->page);
}

int bench_bare_fill(struct bench_memory *memory, struct bench_image *image)
{
	char *step = aligned_alloc(PAGE, FILL_STEP);
	int err = step ? 0 : -ENOMEM;

	for (size_t at = 0; at < memory->len && !err; at += FILL_STEP) {
		if (pread(image->fd, step, FILL_STEP, (off_t)at) != FILL_STEP)
			err = -EIO;
		else
			err = copy(memory->uffd, memory->mem + at, step, FILL_STEP);
	}
	free(step);
	return err;
}

static int open_parts(struct bench_pager *pager, struct bench_memory *memory, struct fl_error *err)
{
	struct fl_region region = {.gpa = 0,
				   .addr = (uint64_t)(uintptr_t)memory->mem,
				   .len_bytes = memory->len,
				   .page_size = PAGE,
				   .backing = FL_BACKING_ANON};
	int code = fl_layout_new(&pager->parts.layout, &region, 1, err);

	if (!code)
		code = fl_table_new(&pager->parts.table, fl_layout_pages(pager->parts.layout));
	if (!code)
		code = fl_trap_uffd_new(&pager->parts.trap, memory->uffd, err);
	if (!code)
		code = fl_install_copy_new(&pager->parts.install, memory->uffd, err);
	return code;
}

int bench_pager_open(struct bench_pager *pager, struct bench_memory *memory,
		     struct bench_image *image, const struct fl_pager_options *options,
		     struct fl_error *err)
{
	int code;

	*pager = (struct bench_pager){.parts.source = image->source};
	code = open_parts(pager, memory, err);
	if (!code)
		code = fl_pager_new(&pager->pager, &pager->parts, options, err);
	if (code < 0)
		bench_pager_close(pager);
	return code;
}

void bench_pager_close(struct bench_pager *pager)
{
	fl_pager_close(pager->pager);
	fl_install_close(pager->parts.install);
	fl_trap_close(pager->parts.trap);
	fl_table_free(pager->parts.table);
	fl_layout_free(pager->parts.layout);
}
