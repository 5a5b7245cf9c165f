/* SPDX-License-Identifier: MIT */
#include "support.h"
#include "pager/wset.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fnv.h"

#define IMAGE_PAGES 100
#define IMAGE_LEN   (IMAGE_PAGES * 4096)

static char dir[] = "/tmp/wset-test-XXXXXX";
static char path[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/set", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

static struct fl_source *open_image(int fd)
{
	struct fl_source *source = NULL;
	struct fl_error err;
	char name[64];

	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	assert_int_equal(fl_source_file_open(&source, name, 0, &err), 0);
	return source;
}

static struct fl_wset *make_set(void)
{
	struct fl_wset *set = NULL;

	assert_int_equal(fl_wset_new(&set, IMAGE_LEN, 4096), 0);
	assert_int_equal(fl_wset_add(set, 7 * 4096), 0);
	assert_int_equal(fl_wset_add(set, 99 * 4096 + 4095), 0);
	assert_int_equal(fl_wset_add(set, 0), 0);
	return set;
}

static void test_add(void **state)
{
	struct fl_wset *set = make_set();

	(void)state;
	assert_int_equal(fl_wset_add(set, 7 * 4096 + 1), 0);
	assert_int_equal(fl_wset_add(set, IMAGE_LEN), -ERANGE);
	assert_int_equal(fl_wset_add(set, UINT64_MAX), -ERANGE);
	assert_int_equal(fl_wset_count(set), 3);
	assert_int_equal(fl_wset_offset(set, 0), 7 * 4096);
	assert_int_equal(fl_wset_offset(set, 1), 99 * 4096);
	assert_int_equal(fl_wset_offset(set, 2), 0);
	assert_int_equal(fl_wset_page_size(set), 4096);
	for (uint64_t page = 0; page < IMAGE_PAGES; page++)
		assert_int_equal(fl_wset_add(set, page * 4096), 0);
	assert_int_equal(fl_wset_count(set), IMAGE_PAGES);
	fl_wset_free(set);
}

static void test_new(void **state)
{
	struct fl_wset *set = NULL;

	(void)state;
	assert_int_equal(fl_wset_new(&set, IMAGE_LEN, 8192), -EINVAL);
	assert_int_equal(fl_wset_new(&set, IMAGE_LEN, 0), -EINVAL);
	assert_int_equal(fl_wset_new(&set, UINT64_MAX, 4096), -EFBIG);
	assert_null(set);
	/* The last page of an image need not be whole. */
	assert_int_equal(fl_wset_new(&set, (2u << 20) + 1, 2u << 20), 0);
	assert_int_equal(fl_wset_add(set, 2u << 20), 0);
	assert_int_equal(fl_wset_offset(set, 0), 2u << 20);
	fl_wset_free(set);
	fl_wset_free(NULL);
}

static unsigned int entries(void)
{
	unsigned int count = 0;
	DIR *open = opendir(dir);

	assert_non_null(open);
	while (readdir(open))
		count++;
	(void)closedir(open);
	return count - 2;
}

static void test_save_and_load(void **state)
{
	int fd = test_image(IMAGE_LEN, 1);
	struct fl_source *image = open_image(fd);
	struct fl_wset *set = make_set(), *loaded = NULL;
	struct fl_error err;
	struct stat before, after;

	(void)state;
	assert_int_equal(fl_wset_save(set, path, image, &err), 0);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(before.st_size, WSET_HEADER_LEN + 3 * 4);
	assert_int_equal(fl_wset_load(&loaded, path, image, &err), 0);
	assert_int_equal(fl_wset_count(loaded), 3);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(fl_wset_offset(loaded, i), fl_wset_offset(set, i));
	/* Replaced, not written over: whoever has it open reads on in the old one. */
	assert_int_equal(fl_wset_add(loaded, 4096), 0);
	assert_int_equal(fl_wset_save(loaded, path, image, &err), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_int_not_equal(after.st_ino, before.st_ino);
	assert_int_equal(after.st_size, before.st_size + 4);
	assert_int_equal(entries(), 1);
	fl_wset_free(loaded);
	fl_wset_free(set);
	fl_source_close(image);
	(void)close(fd);
}

static void test_other_image(void **state)
{
	int fds[3] = {test_image(IMAGE_LEN, 1), test_image(IMAGE_LEN, 2),
		      test_image(IMAGE_LEN + 4096, 1)};
	struct fl_wset *set = make_set(), *loaded = NULL;
	struct fl_source *images[3];
	struct fl_error err;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		images[i] = open_image(fds[i]);
	assert_int_equal(fl_wset_save(set, path, images[2], &err), -EINVAL);
	assert_int_equal(fl_wset_save(set, path, images[0], &err), 0);
	assert_int_equal(fl_wset_load(&loaded, path, images[1], &err), -ESTALE);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(fl_wset_load(&loaded, path, images[2], &err), -ESTALE);
	assert_non_null(strstr(err.text, path));
	assert_null(loaded);
	for (size_t i = 0; i < 3; i++) {
		fl_source_close(images[i]);
		(void)close(fds[i]);
	}
	fl_wset_free(set);
}

static void test_bad_paths(void **state)
{
	int fd = test_image(IMAGE_LEN, 1);
	struct fl_source *image = open_image(fd);
	struct fl_wset *set = make_set(), *loaded = NULL;
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_wset_load(&loaded, "/nowhere/set", image, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere/set"));
	assert_int_equal(fl_wset_load(&loaded, dir, image, &err), -EINVAL);
	assert_int_equal(fl_wset_load(&loaded, "/dev/zero", image, &err), -EINVAL);
	assert_int_equal(fl_wset_save(set, "/nowhere/set", image, &err), -ENOENT);
	/* A failed save leaves nothing behind. */
	assert_true(fl_wset_save(set, dir, image, &err) < 0);
	assert_int_equal(access(dir, F_OK), 0);
	assert_null(loaded);
	fl_wset_free(set);
	fl_source_close(image);
	(void)close(fd);
}

struct file {
	unsigned char bytes[WSET_HEADER_LEN + 4 * 4];
	size_t len;
};

static void put32(struct file *file, size_t at, uint32_t value)
{
	value = htole32(value);
	memcpy(file->bytes + at, &value, sizeof(value));
}

static void put64(struct file *file, size_t at, uint64_t value)
{
	value = htole64(value);
	memcpy(file->bytes + at, &value, sizeof(value));
}

static void seal(struct file *file)
{
	put64(file, WSET_CHECKSUM_AT, 0);
	put64(file, WSET_CHECKSUM_AT, fl_fnv(FL_FNV_START, file->bytes, file->len));
}

static struct file good_file(void)
{
	struct file file = {.len = sizeof(file.bytes)};

	memcpy(file.bytes, WSET_MAGIC, 8);
	put32(&file, 8, WSET_VERSION);
	put32(&file, 12, 12);
	put64(&file, 16, IMAGE_LEN);
	put64(&file, 24, 4711);
	put64(&file, 32, 4);
	for (uint32_t i = 0; i < 4; i++)
		put32(&file, WSET_HEADER_LEN + 4 * i, 99 - i);
	seal(&file);
	return file;
}

static void test_parse(void **state)
{
	struct file file = good_file();
	struct fl_wset *set = NULL;
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_wset_parse(&set, file.bytes, file.len, &err), 0);
	assert_int_equal(fl_wset_count(set), 4);
	assert_int_equal(fl_wset_offset(set, 0), 99 * 4096);
	assert_int_equal(fl_wset_offset(set, 3), 96 * 4096);
	/* What was parsed can be added to. */
	assert_int_equal(fl_wset_add(set, 98 * 4096), 0);
	assert_int_equal(fl_wset_count(set), 4);
	fl_wset_free(set);
}

static void refuses(const struct file *file, const char *named)
{
	struct fl_wset *set = NULL;
	struct fl_error err = {0};

	assert_int_equal(fl_wset_parse(&set, file->bytes, file->len, &err), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_non_null(strstr(err.text, named));
	assert_null(set);
	assert_int_equal(fl_wset_parse(&set, file->bytes, file->len, NULL), -EINVAL);
}

static void test_malformed_header(void **state)
{
	static const struct {
		size_t at, bytes;
		uint64_t value;
		const char *named;
	} changes[] = {
		{0, 4, 0, "byte 0"},
		{8, 4, 2, "version 2"},
		{12, 4, 13, "byte 12"},
		{12, 4, 64, "byte 12"},
		{12, 4, 21, "beyond the image"},
		{16, 8, UINT64_MAX, "byte 16"},
		{16, 8, 98 * 4096, "beyond the image"},
		{16, 8, 0, "beyond the image"},
		{32, 8, 3, "byte 32"},
		{32, 8, 5, "byte 32"},
		{32, 8, (UINT64_C(1) << 62) + 4, "byte 32"},
		{32, 8, UINT64_MAX, "byte 32"},
		{48, 4, 100, "at byte 48"},
		{60, 4, UINT32_MAX, "at byte 60"},
		{56, 4, 99, "listed twice, at byte 56"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct file file = good_file();

		if (changes[i].bytes == 4)
			put32(&file, changes[i].at, (uint32_t)changes[i].value);
		else
			put64(&file, changes[i].at, changes[i].value);
		seal(&file);
		refuses(&file, changes[i].named);
	}
}

/* Without a new checksum any change is noticed, in any byte. */
static void test_checksum(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(((struct file *)NULL)->bytes); i++) {
		struct file file = good_file();

		file.bytes[i] ^= 0x10;
		refuses(&file, i >= WSET_CHECKSUM_AT ? "checksum" : "");
	}
}

static void test_truncated(void **state)
{
	struct file file = good_file();

	(void)state;
	while (file.len-- > 0)
		refuses(&file, file.len < WSET_HEADER_LEN ? "header" : "byte 32");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_save_and_load),
		cmocka_unit_test(test_other_image),
		cmocka_unit_test(test_bad_paths),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_malformed_header),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
