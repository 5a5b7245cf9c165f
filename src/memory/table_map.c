/* SPDX-License-Identifier: MIT */
/* The memfd of a page-state table: made, sealed, handed over, checked, mapped. */
#include "memory/table.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/error.h"
#include "util/fd.h"

/* Since Linux 6.3; a system may insist on it (vm.memfd_noexec). Implies MFD_ALLOW_SEALING. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* With these nobody can make a mapped cell go away, which would be a SIGBUS on the fault path. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int file_len(uint64_t pages, off_t *len)
{
	return __builtin_add_overflow(pages, FL_TABLE_CELLS, len) ? -EFBIG : 0;
}

static int map_table(struct fl_table *table)
{
	off_t len;
	int rc = file_len(table->pages, &len);
	void *map;

	if (rc)
		return rc;
	map = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, table->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	table->map_len = (size_t)len;
	table->map = map;
	table->cells = (uint8_t *)map + FL_TABLE_CELLS;
	return 0;
}

static int open_memfd(void)
{
	int fd = memfd_create("faultline-table", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("faultline-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

static int make_file(uint64_t pages)
{
	const struct fl_table_header header = {.magic = FL_TABLE_MAGIC,
					       .version = FL_TABLE_VERSION,
					       .cells = FL_TABLE_CELLS,
					       .pages = pages};
	fl_cleanup_fd int fd = -1;
	ssize_t written;
	off_t len;
	int rc = file_len(pages, &len);

	if (rc)
		return rc;
	fd = open_memfd();
	if (fd < 0)
		return fd;
	if (ftruncate(fd, len))
		return -errno;
	written = pwrite(fd, &header, sizeof(header), 0);
	if (written != (ssize_t)sizeof(header))
		return written < 0 ? -errno : -EIO;
	if (fcntl(fd, F_ADD_SEALS, SEALS))
		return -errno;
	return fl_fd_take(&fd);
}

static int make_table(struct fl_table **table, int fd, uint64_t pages)
{
	struct fl_table *made = calloc(1, sizeof(*made));
	int rc;

	if (!made)
		return -ENOMEM;
	made->fd = fd;
	made->pages = pages;
	rc = map_table(made);
	if (rc) {
		free(made);
		return rc;
	}
	*table = made;
	return 0;
}

int fl_table_new(struct fl_table **table, uint64_t pages)
{
	fl_cleanup_fd int fd = make_file(pages);
	int rc;

	if (fd < 0)
		return fd;
	rc = make_table(table, fd, pages);
	if (!rc)
		(void)fl_fd_take(&fd);
	return rc;
}

/* The size first: it is sealed, so what is read afterwards cannot go away. */
static int check_size(int fd, uint64_t pages, struct fl_error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat stat;
	off_t len;

	if (seals < 0 && errno != EINVAL)
		return fl_error_set(err, -errno, "page table: its seals: %s", strerror(errno));
	if (seals < 0 || (seals & SEALS) != SEALS)
		return fl_error_set(err, -EINVAL, "page table: not a sealed memfd");
	if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return fl_error_set(err, -EINVAL, "page table: sealed against writing");
	if (fstat(fd, &stat))
		return fl_error_set(err, -errno, "page table: its size: %s", strerror(errno));
	if (file_len(pages, &len) || stat.st_size != len)
		return fl_error_set(err, -EINVAL,
				    "page table: %jd bytes do not hold exactly %" PRIu64 " pages",
				    (intmax_t)stat.st_size, pages);
	return 0;
}

static int check_header(int fd, uint64_t pages, struct fl_error *err)
{
	struct fl_table_header header = {0};
	ssize_t got = pread(fd, &header, sizeof(header), 0);

	if (got < 0)
		return fl_error_set(err, -errno, "page table: its header: %s", strerror(errno));
	if (got != (ssize_t)sizeof(header) || header.magic != FL_TABLE_MAGIC)
		return fl_error_set(err, -EINVAL, "page table: this memfd is something else");
	if (header.version != FL_TABLE_VERSION || header.cells != FL_TABLE_CELLS)
		return fl_error_set(err, -EINVAL,
				    "page table: version %" PRIu32 ", but only %d is known",
				    header.version, FL_TABLE_VERSION);
	if (header.pages != pages)
		return fl_error_set(err, -EINVAL,
				    "page table: of %" PRIu64 " pages, but the guest has %" PRIu64,
				    header.pages, pages);
	return 0;
}

static int check_cells(const struct fl_table *table, struct fl_error *err)
{
	uint64_t page = 0;

	if (!fl_table_damaged(table, &page))
		return 0;
	return fl_error_set(err, -EINVAL, "page table: page %" PRIu64 " has no legal state", page);
}

int fl_table_attach(struct fl_table **table, int fd, uint64_t pages, struct fl_error *err)
{
	fl_cleanup_fd int own = -1;
	struct fl_table *made;
	int rc = check_size(fd, pages, err);

	if (!rc)
		rc = check_header(fd, pages, err);
	if (rc)
		return rc;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return fl_error_set(err, -errno, "page table: %s", strerror(errno));
	rc = make_table(&made, own, pages);
	if (rc)
		return fl_error_set(err, rc, "page table: %s", strerror(-rc));
	(void)fl_fd_take(&own);
	rc = check_cells(made, err);
	if (rc) {
		fl_table_free(made);
		return rc;
	}
	*table = made;
	return 0;
}

void fl_table_free(struct fl_table *table)
{
	if (!table)
		return;
	(void)munmap(table->map, table->map_len);
	fl_fd_close(&table->fd);
	free(table);
}

int fl_table_fd(const struct fl_table *table)
{
	return table->fd;
}
