/* SPDX-License-Identifier: MIT */

/*
 * A raw image in a file or on a block device: opening it, and what is known of it without a read.
 *
 * Holes are found once, when the file is opened. A file that has been cut since has lost what its
 * holes said, too: an answer of zeros is given only while the file is at least as long as it was
 * (one statx(2) that asks no server). When it is not, all of it counts as data, and a read behind
 * its new end fails with -ENODATA. A file that was cut and grown again, like any image that
 * somebody writes to, cannot be told from the one that was opened.
 */

#include "source/file.h"
#include "util/error.h"
#include "util/fd.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static struct fl_file *to_file(struct fl_source *source)
{
	return (struct fl_file *)source;
}

static uint64_t file_length(struct fl_source *source)
{
	return to_file(source)->length;
}

static bool still_whole(const struct fl_file *file)
{
	struct statx now;

	if (statx(file->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &now))
		return false;
	return (now.stx_mask & STATX_SIZE) && now.stx_size >= file->length;
}

static void file_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	struct fl_file *file = to_file(source);

	fl_extents_lookup(&file->extents, offset, file->length, extent);
	if (extent->zeros && !still_whole(file))
		extent->zeros = false;
}

static void file_close(struct fl_source *source)
{
	struct fl_file *file = to_file(source);

	fl_extents_free(&file->extents);
	fl_fd_close(&file->fd);
	free(file);
}

static const struct fl_source_ops file_source_ops = {
	.size = sizeof(struct fl_source_ops),
	.version = FL_SOURCE_OPS_VERSION,
	.name = "file",
	.length = file_length,
	.extent = file_extent,
	.open = fl_file_queue_open,
	.close = file_close,
};

/*
 * O_NONBLOCK, so that a FIFO without a writer cannot hold us; taken back, since io_uring would
 * answer -EAGAIN for each page that has to be read.
 */
static int open_image(const char *path, struct fl_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int flags;

	if (fd < 0)
		return fl_error_set(err, -errno, "%s: %s", path, strerror(errno));
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
		int ret = fl_error_set(err, -errno, "%s: %s", path, strerror(errno));

		fl_fd_close(&fd);
		return ret;
	}
	return fd;
}

static int image_length(int fd, const char *path, uint64_t *length, struct fl_error *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return fl_error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fl_error_set(err, -EISDIR, "%s: is a directory, not an image", path);
	if (S_ISREG(st.st_mode))
		*length = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return fl_error_set(err, -EINVAL, "%s: neither a file nor a block device", path);
	else if (ioctl(fd, BLKGETSIZE64, length))
		return fl_error_set(err, -errno, "%s: %s", path, strerror(errno));
	if (!*length)
		return fl_error_set(err, -ENODATA, "%s: is empty", path);
	return 0;
}

/* These know no RWF_NOWAIT, and do not need it: what they have is in memory. */
static bool is_in_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC ||
					 fs.f_type == HUGETLBFS_MAGIC);
}

int fl_source_file_open(struct fl_source **source, const char *path, unsigned int flags,
			struct fl_error *err)
{
	fl_cleanup_fd int fd = -1;
	struct fl_file *file;
	uint64_t length = 0;
	int ret;

	if (flags & ~FL_FILE_NO_URING)
		return fl_error_set(err, -EINVAL, "%s: unknown flags 0x%x", path, flags);
	fd = open_image(path, err);
	if (fd < 0)
		return fd;
	ret = image_length(fd, path, &length, err);
	if (ret)
		return ret;
	file = calloc(1, sizeof(*file));
	if (!file || fl_extents_find(&file->extents, fd, length, FL_EXTENTS_MAX)) {
		free(file);
		return fl_error_set(err, -ENOMEM, "%s: out of memory", path);
	}
	file->head.ops = &file_source_ops;
	file->fd = fl_fd_take(&fd);
	file->flags = flags;
	file->length = length;
	file->in_memory = is_in_memory(file->fd);
	*source = &file->head;
	return 0;
}
