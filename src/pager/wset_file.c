/* SPDX-License-Identifier: MIT */
#include "pager/wset.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/error.h"
#include "util/fd.h"
#include "util/fnv.h"

#define SAMPLES    64u
#define SAMPLE_LEN 4096u

/* The longest file: every page of an image of 2^32 pages. */
#define FILE_MAX_LEN (WSET_HEADER_LEN + 4 * (uint64_t)UINT32_MAX)

/* Length, and 64 pages spread evenly: tells one image from another by 256 KiB of reading. */
static int identify(struct fl_source *image, uint64_t *id)
{
	uint64_t len = fl_source_length(image), hash, le_len = htole64(len);
	unsigned char sample[SAMPLE_LEN];

	hash = fl_fnv(FL_FNV_START, &le_len, sizeof(le_len));
	for (unsigned int i = 0; i < SAMPLES; i++) {
		uint64_t offset = len / SAMPLES * i;
		uint64_t n = len - offset < SAMPLE_LEN ? len - offset : SAMPLE_LEN;
		int err = fl_source_read(image, sample, n, offset);

		if (err < 0)
			return err;
		hash = fl_fnv(hash, sample, n);
	}
	*id = hash;
	return 0;
}

static int read_whole(int fd, void *bytes, size_t len_bytes)
{
	for (size_t at = 0; at < len_bytes;) {
		ssize_t n = read(fd, (char *)bytes + at, len_bytes - at);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int write_whole(int fd, const void *bytes, size_t len_bytes)
{
	for (size_t at = 0; at < len_bytes;) {
		ssize_t n = write(fd, (const char *)bytes + at, len_bytes - at);

		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* The bytes of a regular file that is not longer than a working set can be. */
static int slurp(const char *path, unsigned char **bytes, size_t *len_bytes, struct fl_error *err)
{
	fl_cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int code;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fl_error_set(err, -errno, "working set %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX_LEN)
		return fl_error_set(err, -EINVAL,
				    "working set %s: not a file of at most %" PRIu64 " bytes", path,
				    FILE_MAX_LEN);
	*len_bytes = (size_t)st.st_size;
	*bytes = malloc(*len_bytes + 1);
	if (!*bytes)
		return fl_error_set(err, -ENOMEM, "working set %s: no memory", path);
	code = read_whole(fd, *bytes, *len_bytes);
	if (code < 0) {
		free(*bytes);
		return fl_error_set(err, code, "working set %s: %s", path, strerror(-code));
	}
	return 0;
}

static int check_image(const struct fl_wset *set, const char *path, struct fl_source *image,
		       struct fl_error *err)
{
	uint64_t id;
	int code;

	if (set->image_len != fl_source_length(image))
		return fl_error_set(err, -ESTALE,
				    "working set %s belongs to an image of %" PRIu64
				    " bytes, this one has %" PRIu64,
				    path, set->image_len, fl_source_length(image));
	code = identify(image, &id);
	if (code < 0)
		return fl_error_set(err, code, "working set %s: its image cannot be read: %s", path,
				    strerror(-code));
	if (id != set->image_id)
		return fl_error_set(err, -ESTALE,
				    "working set %s belongs to an image with other contents", path);
	return 0;
}

int fl_wset_load(struct fl_wset **set, const char *path, struct fl_source *image,
		 struct fl_error *err)
{
	struct fl_error why = {0};
	struct fl_wset *s = NULL;
	unsigned char *bytes = NULL;
	size_t len_bytes = 0;
	int code = slurp(path, &bytes, &len_bytes, err);

	if (code < 0)
		return code;
	code = fl_wset_parse(&s, bytes, len_bytes, &why);
	free(bytes);
	if (code < 0)
		return fl_error_set(err, code, "working set %s: %s", path, why.text);
	code = check_image(s, path, image, err);
	if (code < 0) {
		fl_wset_free(s);
		return code;
	}
	*set = s;
	return 0;
}

static void put64(unsigned char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static void put32(unsigned char *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void serialise(const struct fl_wset *set, uint64_t image_id, unsigned char *file,
		      size_t len_bytes)
{
	memset(file, 0, WSET_HEADER_LEN);
	memcpy(file, WSET_MAGIC, 8);
	put32(file + 8, WSET_VERSION);
	put32(file + 12, set->shift);
	put64(file + 16, set->image_len);
	put64(file + 24, image_id);
	put64(file + 32, set->count);
	for (uint64_t i = 0; i < set->count; i++)
		put32(file + WSET_HEADER_LEN + 4 * i, set->pages[i]);
	put64(file + WSET_CHECKSUM_AT, fl_fnv(FL_FNV_START, file, len_bytes));
}

/* Beside the file first, so that the file itself is always whole. */
static int replace(const char *path, const unsigned char *bytes, size_t len_bytes)
{
	fl_cleanup_fd int fd = -1;
	char temporary[PATH_MAX];
	int code;

	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
		return -ENAMETOOLONG;
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	code = write_whole(fd, bytes, len_bytes);
	if (!code && (fchmod(fd, 0644) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0))
		code = -errno;
	if (code < 0)
		(void)unlink(temporary);
	return code;
}

int fl_wset_save(const struct fl_wset *set, const char *path, struct fl_source *image,
		 struct fl_error *err)
{
	size_t len_bytes = WSET_HEADER_LEN + 4 * (size_t)set->count;
	unsigned char *bytes;
	uint64_t id;
	int code;

	if (set->image_len != fl_source_length(image))
		return fl_error_set(err, -EINVAL,
				    "working set %s: made for %" PRIu64
				    " bytes, the image has %" PRIu64,
				    path, set->image_len, fl_source_length(image));
	code = identify(image, &id);
	if (code < 0)
		return fl_error_set(err, code, "working set %s: its image cannot be read: %s", path,
				    strerror(-code));
	bytes = malloc(len_bytes);
	if (!bytes)
		return fl_error_set(err, -ENOMEM, "working set %s: no memory", path);
	serialise(set, id, bytes, len_bytes);
	code = replace(path, bytes, len_bytes);
	free(bytes);
	if (code < 0)
		return fl_error_set(err, code, "working set %s: %s", path, strerror(-code));
	return 0;
}
