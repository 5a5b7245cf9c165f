/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/image.h"

#define LEN  65536
#define SEED 3

static char file[] = "/tmp/faultline-image-XXXXXX";
static char alias[64];
static struct fl_error err;

static int set_up(void **state)
{
	char buf[LEN];
	int fd = mkstemp(file);

	(void)state;
	test_pattern(buf, LEN, 0, SEED);
	(void)snprintf(alias, sizeof(alias), "%s-alias", file);
	if (fd < 0 || write(fd, buf, LEN) != LEN || symlink(file, alias) < 0)
		return -1;
	return close(fd);
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(file) | unlink(alias);
}

static void is_opened_once(void **state)
{
	static const char *const filters[] = {"stats"};
	struct fl_images images = {0};
	struct fl_image *first, *again, *by_alias, *filtered;
	unsigned int before = test_open_fds();
	unsigned int one;

	(void)state;
	assert_int_equal(fl_image_get(&images, file, NULL, 0, &first, &err), 0);
	one = test_open_fds();
	assert_int_equal(fl_image_get(&images, file, NULL, 0, &again, &err), 0);
	assert_int_equal(fl_image_get(&images, alias, NULL, 0, &by_alias, &err), 0);
	assert_ptr_equal(first, again);
	assert_ptr_equal(first, by_alias);
	assert_int_equal(first->refs, 3);
	assert_int_equal(test_open_fds(), one);
	/* Other filters are another way to see it. */
	assert_int_equal(fl_image_get(&images, file, filters, 1, &filtered, &err), 0);
	assert_ptr_not_equal(first, filtered);
	fl_image_put(&images, again);
	fl_image_put(&images, first);
	fl_image_put(&images, filtered);
	assert_ptr_equal(images.first, by_alias);
	fl_image_put(&images, by_alias);
	assert_null(images.first);
	assert_int_equal(test_open_fds(), before);
}

/* A page that can be read at the third try only. */
static void retries_unless_told_otherwise(void **state)
{
	static const char *const filters[] = {"error=EIO,first=2", "retry=1"};
	struct fl_images images = {0};
	struct fl_image *image;
	char buf[4096];

	(void)state;
	assert_int_equal(fl_image_get(&images, file, filters, 1, &image, &err), 0);
	assert_int_equal(fl_source_read(image->source, buf, sizeof(buf), 8192), 0);
	assert_filled(buf, sizeof(buf), 8192, SEED);
	fl_image_put(&images, image);
	assert_int_equal(fl_image_get(&images, file, filters, 2, &image, &err), 0);
	assert_int_equal(fl_source_read(image->source, buf, sizeof(buf), 8192), -EIO);
	fl_image_put(&images, image);
}

static void counts_with_a_stats_filter(void **state)
{
	static const char *const filters[] = {"stats"};
	struct fl_images images = {0};
	struct fl_source_stats stats;
	struct fl_image *image;
	char buf[4096];

	(void)state;
	assert_int_equal(fl_image_get(&images, file, filters, 1, &image, &err), 0);
	assert_int_equal(fl_source_read(image->source, buf, sizeof(buf), 0), 0);
	assert_int_equal(fl_filter_stats_read(image->stats, &stats), 0);
	assert_int_equal(stats.bytes, sizeof(buf));
	fl_image_put(&images, image);
}

static void names_what_is_wrong(void **state)
{
	static const char *const filters[] = {"nonsense=1"};
	struct fl_images images = {0};
	unsigned int before = test_open_fds();
	struct fl_image *image;

	(void)state;
	assert_int_equal(fl_image_get(&images, "/nonexistent", NULL, 0, &image, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent"));
	assert_int_equal(fl_image_get(&images, "/", NULL, 0, &image, &err), -EISDIR);
	assert_int_equal(fl_image_get(&images, file, filters, 1, &image, &err), -EINVAL);
	assert_non_null(strstr(err.text, "nonsense"));
	assert_null(images.first);
	assert_int_equal(test_open_fds(), before);
	fl_image_put(&images, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_opened_once),
		cmocka_unit_test(retries_unless_told_otherwise),
		cmocka_unit_test(counts_with_a_stats_filter),
		cmocka_unit_test(names_what_is_wrong),
	};

	return cmocka_run_group_tests_name("image", tests, set_up, tear_down);
}
