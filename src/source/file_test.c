/* SPDX-License-Identifier: MIT */

/* Opening files, their holes, and files that are cut while open. */

#include "source/reads_test.h"
#include "source/file.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096ULL
#define SEED 7

static void assert_refused(const char *path, unsigned int flags, int code, const char *reason)
{
	unsigned int fds = test_open_fds();
	struct fl_source *source = NULL;
	struct fl_error err = {0};

	assert_int_equal(fl_source_file_open(&source, path, flags, &err), code);
	assert_int_equal(err.code, code);
	assert_ptr_equal(strstr(err.text, path), err.text);
	assert_non_null(strstr(err.text, reason));
	assert_null(source);
	assert_int_equal(fl_source_file_open(&source, path, flags, NULL), code);
	assert_int_equal(test_open_fds(), fds);
}

static void what_is_no_image_is_refused(void **state)
{
	char dir[] = "/tmp/faultline-file-XXXXXX";
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_refused(dir, 0, -EISDIR, "directory");
	assert_refused("/dev/null", 0, -EINVAL, "neither a file nor a block device");
	(void)snprintf(path, sizeof(path), "%s/image", dir);
	assert_refused(path, 0, -ENOENT, "No such file");
	/* Nobody will ever write to it: opening must not wait. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(path, 0, -EINVAL, "neither a file nor a block device");
	assert_int_equal(unlink(path), 0);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_refused(path, 0, -ENODATA, "empty");
	assert_int_equal(truncate(path, 1), 0);
	assert_refused(path, 0x80, -EINVAL, "0x80");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void a_file_is_read_whole_and_only_so_far(void **state)
{
	const uint64_t length = 5 * PAGE + 40;
	int fd = test_image(length, SEED);
	struct fl_source *source = source_of_fd(fd, 0);
	char *buf = malloc(length + 8);

	(void)state;
	assert_non_null(buf);
	assert_int_equal(fl_source_length(source), length);
	assert_string_equal(source->ops->name, "file");
	/* Left non-blocking, io_uring would answer -EAGAIN for what is not cached. */
	assert_int_equal(fcntl(((struct fl_file *)source)->fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fl_source_read(source, buf, length, 0), 0);
	assert_filled(buf, length, 0, SEED);
	assert_int_equal(fl_source_read(source, buf, 16, 2 * PAGE - 8), 0);
	assert_filled(buf, 16, 2 * PAGE - 8, SEED);
	assert_int_equal(fl_source_read(source, buf, 0, length), 0);
	assert_int_equal(fl_source_read(source, buf, length + 1, 0), -ENODATA);
	assert_int_equal(fl_source_read(source, buf, 8, length - 7), -ENODATA);
	assert_int_equal(fl_source_read(source, buf, 8, UINT64_MAX - 3), -ENODATA);
	fl_source_close(source);
	free(buf);
	close(fd);
}

static void assert_extent(struct fl_source *source, uint64_t offset, bool zeros, uint64_t len_bytes)
{
	struct fl_extent extent;

	fl_source_extent(source, offset, &extent);
	assert_int_equal(extent.zeros, zeros);
	assert_int_equal(extent.len_bytes, len_bytes);
}

/* 16 pages: four of data, eight of hole, four of data. */
static int holed_image(void)
{
	int fd = test_image(16 * PAGE, SEED);

	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE, 8 * PAGE), 0);
	return fd;
}

static void holes_are_zeros(void **state)
{
	int fd = holed_image();
	struct fl_source *source = source_of_fd(fd, 0);
	static char buf[16 * PAGE];

	(void)state;
	assert_extent(source, 0, false, 4 * PAGE);
	assert_extent(source, 4 * PAGE, true, 8 * PAGE);
	assert_extent(source, 7 * PAGE + 1, true, 5 * PAGE - 1);
	assert_extent(source, 12 * PAGE, false, 4 * PAGE);
	memset(buf, 0xaa, sizeof(buf));
	assert_int_equal(fl_source_read(source, buf, sizeof(buf), 0), 0);
	assert_filled(buf, 4 * PAGE, 0, SEED);
	assert_int_equal(test_nonzero(buf + 4 * PAGE, 8 * PAGE), -1);
	assert_filled(buf + 12 * PAGE, 4 * PAGE, 12 * PAGE, SEED);
	fl_source_close(source);
	close(fd);
}

static void holes_are_not_read(void **state)
{
	int fd = holed_image();
	struct fl_source *source = source_of_fd(fd, 0);
	struct fl_source_stats stats;
	static char buf[16 * PAGE];

	(void)state;
	assert_int_equal(fl_filter_stats_new(&source), 0);
	assert_int_equal(fl_source_read(source, buf, sizeof(buf), 0), 0);
	assert_int_equal(fl_filter_stats_read(source, &stats), 0);
	assert_int_equal(stats.bytes, 8 * PAGE);
	fl_source_close(source);
	close(fd);
}

static void the_holes_of_a_file_that_was_cut_are_no_zeros(void **state)
{
	int fd = holed_image();
	struct fl_source *source = source_of_fd(fd, 0);
	static char buf[PAGE];

	(void)state;
	assert_extent(source, 6 * PAGE, true, 6 * PAGE);
	assert_int_equal(ftruncate(fd, 6 * PAGE), 0);
	assert_extent(source, 6 * PAGE, false, 6 * PAGE);
	assert_int_equal(fl_source_read(source, buf, PAGE, 6 * PAGE), -ENODATA);
	assert_int_equal(fl_source_read(source, buf, PAGE, 5 * PAGE), 0);
	assert_int_equal(test_nonzero(buf, PAGE), -1);
	assert_int_equal(fl_source_length(source), 16 * PAGE);
	fl_source_close(source);
	close(fd);
}

static void a_file_that_grew_is_served_as_it_was(void **state)
{
	int fd = holed_image();
	struct fl_source *source = source_of_fd(fd, 0);

	(void)state;
	assert_int_equal(ftruncate(fd, 32 * PAGE), 0);
	assert_extent(source, 4 * PAGE, true, 8 * PAGE);
	assert_int_equal(fl_source_length(source), 16 * PAGE);
	fl_source_close(source);
	close(fd);
}

/* A loop device over fd, in path; its descriptor, or -1 where there is none to be had. */
static int loop_device(int fd, char *path, size_t size)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = {.fd = (uint32_t)fd};
	int loop = -1;

	for (int tries = 0; control >= 0 && loop < 0 && tries < 16; tries++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			break;
		(void)snprintf(path, size, "/dev/loop%d", number);
		loop = open(path, O_RDWR | O_CLOEXEC);
		config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config)) {
			close(loop);
			loop = -1; /* another process was quicker */
		}
	}
	if (control >= 0)
		close(control);
	return loop;
}

static void a_block_device_is_an_image(void **state)
{
	int fd = test_image(64 * PAGE, SEED);
	struct fl_source *source = NULL;
	static char buf[64 * PAGE];
	char path[32];
	int loop = loop_device(fd, path, sizeof(path));

	(void)state;
	if (loop < 0)
		close(fd);
	SKIP_UNLESS(loop >= 0, "other", "no loop device: %s", strerror(errno));
	assert_int_equal(fl_source_file_open(&source, path, 0, NULL), 0);
	assert_int_equal(fl_source_length(source), 64 * PAGE);
	assert_extent(source, PAGE, false, 63 * PAGE);
	assert_int_equal(fl_source_read(source, buf, sizeof(buf), 0), 0);
	assert_filled(buf, sizeof(buf), 0, SEED);
	fl_source_close(source);
	close(loop);
	close(fd);
}

static void an_open_file_is_one_descriptor_and_leaves_none(void **state)
{
	int fd = test_image(PAGE, SEED);
	unsigned int fds = test_open_fds();
	struct fl_source *source = source_of_fd(fd, 0);
	struct fl_queue *queue = queue_of(source, 256);
	static char buf[PAGE];

	(void)state;
	/* The file and what is polled: an idle queue has no ring. */
	assert_int_equal(test_open_fds(), fds + 2);
	assert_int_equal(submit_and_wait(queue, buf, PAGE, 0), 0);
	fl_queue_close(queue);
	fl_source_close(source);
	assert_int_equal(test_open_fds(), fds);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_image_is_refused),
		cmocka_unit_test(a_file_is_read_whole_and_only_so_far),
		cmocka_unit_test(holes_are_zeros),
		cmocka_unit_test(holes_are_not_read),
		cmocka_unit_test(the_holes_of_a_file_that_was_cut_are_no_zeros),
		cmocka_unit_test(a_file_that_grew_is_served_as_it_was),
		cmocka_unit_test(a_block_device_is_an_image),
		cmocka_unit_test(an_open_file_is_one_descriptor_and_leaves_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
