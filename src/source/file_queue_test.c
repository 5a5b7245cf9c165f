/* SPDX-License-Identifier: MIT */

/* Reading files: the same tests for io_uring and for the threads that stand in for it. */

#include "source/reads_test.h"
#include "source/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGE        4096ULL
#define MIB         (1ULL << 20)
#define SEED        11
#define DEPTH       64u
#define IMAGE_BYTES (4 * MIB + 24)

struct backend {
	const char *name;
	unsigned int flags;
	const struct fl_file_backend *ops;
};

static const struct backend by_uring = {"io_uring", 0, &fl_file_uring};
static const struct backend by_threads = {"threads", FL_FILE_NO_URING, &fl_file_threads};

struct fixture {
	const struct backend *backend;
	int fd;
	struct fl_source *source;
	struct fl_queue *queue;
	char *buf; /* IMAGE_BYTES */
};

static bool uring_is_offered(void)
{
	struct io_uring uring;

	if (io_uring_queue_init(1, &uring, 0))
		return false;
	io_uring_queue_exit(&uring);
	return true;
}

/* An image in memory: what is submitted goes to the back-end, whether it is cached or not. */
static struct fixture start(void **state)
{
	struct fixture fix = {.backend = *state};

	SKIP_UNLESS(fix.backend != &by_uring || uring_is_offered(), "io_uring", "refused");
	fix.fd = test_image(IMAGE_BYTES, SEED);
	fix.source = source_of_fd(fix.fd, fix.backend->flags);
	fix.queue = queue_of(fix.source, DEPTH);
	fix.buf = calloc(1, IMAGE_BYTES);
	assert_non_null(fix.buf);
	return fix;
}

static const struct fl_file_backend *backend_of(const struct fl_queue *queue)
{
	return ((const struct fl_file_queue *)queue)->backend;
}

static void finish(struct fixture *fix)
{
	fl_queue_close(fix->queue);
	fl_source_close(fix->source);
	close(fix->fd);
	free(fix->buf);
}

static void reads_of_any_place_and_length(void **state)
{
	struct fixture fix = start(state);
	static const uint64_t lengths[] = {8, 4096, 4104, 65536, 2 * MIB, IMAGE_BYTES};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint64_t last = IMAGE_BYTES - lengths[i];
		const uint64_t offsets[] = {0, last / 2 / 8 * 8, last};

		for (size_t at = 0; at < 3; at++) {
			memset(fix.buf, 0, IMAGE_BYTES);
			assert_int_equal(
				submit_and_wait(fix.queue, fix.buf, lengths[i], offsets[at]), 0);
			assert_filled(fix.buf, lengths[i], offsets[at], SEED);
			if (lengths[i] + PAGE <= IMAGE_BYTES)
				assert_int_equal(test_nonzero(fix.buf + lengths[i], PAGE), -1);
		}
	}
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, 0, 8), 0);
	assert_ptr_equal(backend_of(fix.queue), fix.backend->ops);
	finish(&fix);
}

/* Where the i-th of many reads goes: far from the one before. */
static uint64_t place(unsigned int i)
{
	return (uint64_t)(i * 37 % DEPTH) * 65536;
}

static void many_reads_in_flight_each_end_once(void **state)
{
	struct fixture fix = start(state);
	static struct job jobs[DEPTH];

	for (int round = 0; round < 20; round++) {
		memset(fix.buf, 0, IMAGE_BYTES);
		for (unsigned int i = 0; i < DEPTH; i++) {
			uint64_t offset = place(i);

			job_init(&jobs[i], fix.buf + offset, 65536, offset);
			jobs[i].read.flags = i % 3 ? FL_READ_FILL : 0;
			assert_int_equal(fl_queue_submit(fix.queue, &jobs[i].read), 0);
			assert_int_equal(jobs[i].ended, 0);
		}
		reap_reads(fix.queue, DEPTH);
		for (unsigned int i = 0; i < DEPTH; i++) {
			assert_int_equal(jobs[i].ended, 1);
			assert_int_equal(jobs[i].read.result, 0);
		}
		assert_filled(fix.buf, DEPTH * 65536, 0, SEED);
		assert_int_equal(fl_queue_reap(fix.queue), 0);
		assert_false(is_readable(fl_queue_fd(fix.queue)));
	}
	finish(&fix);
}

static void one_read_too_many_is_refused(void **state)
{
	struct fixture fix = start(state);
	static struct job jobs[DEPTH + 1];

	for (unsigned int i = 0; i <= DEPTH; i++) {
		job_init(&jobs[i], fix.buf + i * 8, 8, i * 8);
		assert_int_equal(fl_queue_submit(fix.queue, &jobs[i].read), i < DEPTH ? 0 : -EBUSY);
	}
	reap_reads(fix.queue, DEPTH);
	assert_int_equal(jobs[DEPTH].ended, 0);
	assert_int_equal(test_nonzero(fix.buf + DEPTH * 8, 8), -1);
	assert_int_equal(fl_queue_submit(fix.queue, &jobs[DEPTH].read), 0);
	reap_reads(fix.queue, 1);
	assert_filled(fix.buf, (DEPTH + 1) * 8, 0, SEED);
	finish(&fix);
}

struct chain {
	struct job job;
	struct fl_queue *queue;
	unsigned int left;
	bool in_submit;
	bool broken;
};

static void next_page(struct fl_read *read)
{
	struct chain *chain = read->ctx;

	chain->broken |= chain->in_submit || read->result;
	if (!--chain->left)
		return;
	read->offset += PAGE;
	read->buf = (char *)read->buf + PAGE;
	chain->in_submit = true;
	chain->broken |= fl_queue_submit(chain->queue, read) != 0;
	chain->in_submit = false;
}

/* At depth 1 the read that ends must have made room before done() is called. */
static void a_done_may_submit(void **state)
{
	struct fixture fix = start(state);
	struct chain chain = {.left = 100, .queue = queue_of(fix.source, 1)};

	job_init(&chain.job, fix.buf, PAGE, 0);
	chain.job.read.done = next_page;
	chain.job.read.ctx = &chain;
	assert_int_equal(fl_queue_submit(chain.queue, &chain.job.read), 0);
	for (int left = 100; left;) {
		int ended = wait_and_reap(chain.queue);

		/* However quick the reads are, reap() returns. */
		assert_in_range(ended, 0, 1);
		left -= ended;
	}
	assert_false(chain.broken);
	assert_int_equal(chain.left, 0);
	assert_filled(fix.buf, 100 * PAGE, 0, SEED);
	fl_queue_close(chain.queue);
	finish(&fix);
}

static void a_read_over_the_end_is_an_error(void **state)
{
	struct fixture fix = start(state);

	assert_int_equal(fl_queue_try(fix.queue, fix.buf, 16, IMAGE_BYTES - 8), -EAGAIN);
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, 16, IMAGE_BYTES - 8), -ENODATA);
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, 8, IMAGE_BYTES), -ENODATA);
	finish(&fix);
}

static void a_file_cut_while_served_is_an_error(void **state)
{
	struct fixture fix = start(state);

	assert_int_equal(submit_and_wait(fix.queue, fix.buf, PAGE, 3 * MIB), 0);
	assert_int_equal(ftruncate(fix.fd, 2 * MIB + 8), 0);
	assert_int_equal(fl_queue_try(fix.queue, fix.buf, PAGE, 3 * MIB), -EAGAIN);
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, PAGE, 3 * MIB), -ENODATA);
	assert_int_equal(fl_queue_try(fix.queue, fix.buf, PAGE, 2 * MIB), -EAGAIN);
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, PAGE, 2 * MIB), -ENODATA);
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, 2 * MIB + 8, 0), 0);
	assert_filled(fix.buf, 2 * MIB + 8, 0, SEED);
	finish(&fix);
}

static void an_error_of_the_device_is_told(void **state)
{
	struct fixture fix = start(state);

	/* No memory to read into: -EFAULT, and only for that read. */
	assert_int_equal(submit_and_wait(fix.queue, NULL, PAGE, 0), -EFAULT);
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, PAGE, 0), 0);
	assert_filled(fix.buf, PAGE, 0, SEED);
	finish(&fix);
}

/* How many threads of this process sleep in futex(2). */
static unsigned int threads_in_futex(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int count = 0;
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char path[300];
		long number = -1;
		FILE *file;

		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/syscall", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		count += fscanf(file, "%ld", &number) == 1 && number == SYS_futex;
		(void)fclose(file);
	}
	(void)closedir(dir);
	return count;
}

static void nothing_is_allocated_per_read(void **state)
{
	struct fixture fix = start(state);
	static struct job jobs[DEPTH];
	uint64_t before;

	/* The first one starts the back-end; a thread's start may allocate in that thread. */
	assert_int_equal(submit_and_wait(fix.queue, fix.buf, PAGE, 0), 0);
	while (fix.backend == &by_threads && threads_in_futex() < FL_FILE_THREADS)
		(void)sched_yield();
	before = test_allocations();
	for (int round = 0; round < 10; round++) {
		for (unsigned int i = 0; i < DEPTH; i++) {
			(void)fl_queue_try(fix.queue, fix.buf + i * 8, 8, i * 8);
			job_init(&jobs[i], fix.buf + i * 8, 8, i * 8);
			if (fl_queue_submit(fix.queue, &jobs[i].read))
				jobs[i].ended = 1000;
		}
		for (int left = DEPTH; left > 0;)
			left -= wait_and_reap(fix.queue);
	}
	assert_int_equal(test_allocations(), before);
	for (unsigned int i = 0; i < DEPTH; i++)
		assert_int_equal(jobs[i].ended, 1);
	assert_filled(fix.buf, DEPTH * 8, 0, SEED);
	finish(&fix);
}

/* A file of the file system that temporary files are on, most likely a disk; unlinked. */
static int disk_image(uint64_t len)
{
	char path[] = "/var/tmp/faultline-image-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	char *page = malloc(MIB);

	assert_true(fd >= 0);
	assert_non_null(page);
	assert_int_equal(unlink(path), 0);
	for (uint64_t offset = 0; offset < len; offset += MIB) {
		test_pattern(page, MIB, offset, SEED);
		assert_int_equal(pwrite(fd, page, MIB, (off_t)offset), MIB);
	}
	free(page);
	return fd;
}

/* Takes the file out of the page cache; false where that cannot be (a file system in memory). */
static bool evict(int fd, uint64_t len)
{
	static unsigned char resident[16 * MIB / PAGE];
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	bool any = false;

	assert_true(map != MAP_FAILED);
	assert_true(len / PAGE <= sizeof(resident));
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(mincore(map, len, resident), 0);
	for (uint64_t i = 0; i < len / PAGE; i++)
		any |= resident[i] & 1;
	assert_int_equal(munmap(map, len), 0);
	return !any;
}

static bool knows_nowait(int fd)
{
	char byte;
	struct iovec iov = {&byte, 1};

	return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

#define COLD_BYTES (16 * MIB)
#define COLD_STEP  (COLD_BYTES / DEPTH)

static void what_the_page_cache_holds_is_answered_at_once(void **state)
{
	int fd = disk_image(MIB);
	bool knows = knows_nowait(fd);
	struct fl_source *source = source_of_fd(fd, 0);
	struct fl_queue *queue = queue_of(source, 1);
	static char buf[MIB];

	(void)state;
	if (knows) {
		assert_int_equal(fl_queue_try(queue, buf, MIB, 0), 0);
		assert_filled(buf, MIB, 0, SEED);
		/* Half an answer is none. */
		assert_int_equal(fl_queue_try(queue, buf, 16, MIB - 8), -EAGAIN);
		assert_int_equal(fl_queue_try(queue, buf, 8, MIB - 8), 0);
		assert_null(backend_of(queue));
	}
	fl_queue_close(queue);
	fl_source_close(source);
	close(fd);
	SKIP_UNLESS(knows, "other", "no RWF_NOWAIT on /var/tmp");
}

static void a_file_in_memory_is_answered_at_once(void **state)
{
	int fd = test_image(MIB, SEED);
	struct fl_source *source = source_of_fd(fd, 0);
	struct fl_queue *queue = queue_of(source, 1);
	static char buf[MIB];

	(void)state;
	assert_int_equal(fl_queue_try(queue, buf, MIB, 0), 0);
	assert_filled(buf, MIB, 0, SEED);
	assert_int_equal(fl_queue_try(queue, buf, 16, MIB - 8), -EAGAIN);
	assert_null(backend_of(queue));
	fl_queue_close(queue);
	fl_source_close(source);
	close(fd);
}

static void what_it_does_not_hold_is_submitted(void **state)
{
	struct fixture fix = start(state);
	int fd = disk_image(COLD_BYTES);
	struct fl_source *source = source_of_fd(fd, fix.backend->flags);
	struct fl_queue *queue = queue_of(source, DEPTH);
	static struct job jobs[DEPTH];
	bool cold = evict(fd, COLD_BYTES);
	int missed = 0;

	for (unsigned int i = 0; i < DEPTH; i++) {
		char *page = fix.buf + i * PAGE;

		job_init(&jobs[i], page, PAGE, i * COLD_STEP);
		if (!fl_queue_try(queue, page, PAGE, i * COLD_STEP))
			continue;
		missed++;
		assert_int_equal(fl_queue_submit(queue, &jobs[i].read), 0);
	}
	reap_reads(queue, missed);
	for (unsigned int i = 0; i < DEPTH; i++)
		assert_filled(fix.buf + i * PAGE, PAGE, i * COLD_STEP, SEED);
	fl_queue_close(queue);
	fl_source_close(source);
	close(fd);
	finish(&fix);
	SKIP_UNLESS(cold, "other", "/var/tmp is kept in memory");
	/* One or the other may have been quick; all of them cannot. */
	assert_in_range(missed, DEPTH / 2, DEPTH);
}

/* The device must be done with the buffers when close() returns. */
static void closing_with_reads_in_flight(void **state)
{
	struct fixture fix = start(state);
	int fd = disk_image(COLD_BYTES);
	struct fl_source *source = source_of_fd(fd, fix.backend->flags);
	char *buf = malloc(COLD_BYTES);
	static struct job jobs[16];
	unsigned int fds = test_open_fds();

	assert_non_null(buf);
	for (int round = 0; round < 4; round++) {
		struct fl_queue *queue = queue_of(source, 16);

		(void)evict(fd, COLD_BYTES);
		for (unsigned int i = 0; i < 16; i++) {
			job_init(&jobs[i], buf + i * MIB, MIB, i * MIB);
			jobs[i].read.flags = i % 2 ? FL_READ_FILL : 0;
			assert_int_equal(fl_queue_submit(queue, &jobs[i].read), 0);
		}
		fl_queue_close(queue);
		memset(buf, 0, COLD_BYTES);
		/* As long as the reads would have taken: whatever came late would show. */
		(void)evict(fd, COLD_BYTES);
		assert_int_equal(fl_source_read(source, fix.buf, 4 * MIB, 12 * MIB), 0);
		assert_int_equal(test_nonzero(buf, COLD_BYTES), -1);
		for (unsigned int i = 0; i < 16; i++)
			assert_int_equal(jobs[i].ended, 0);
	}
	assert_int_equal(test_open_fds(), fds);
	fl_source_close(source);
	close(fd);
	free(buf);
	finish(&fix);
}

static void closing_with_what_nobody_reaped(void **state)
{
	struct fixture fix = start(state);
	struct pollfd pfd = {.fd = fl_queue_fd(fix.queue), .events = POLLIN};
	struct job job;

	job_init(&job, fix.buf, PAGE, 0);
	assert_int_equal(fl_queue_submit(fix.queue, &job.read), 0);
	assert_int_equal(poll(&pfd, 1, 60000), 1);
	finish(&fix);
	assert_int_equal(job.ended, 0);
}

/* Files of the kernel know no RWF_NOWAIT, and give a page at a time: every longer read is short. */
static void short_reads_are_continued(void **state)
{
	static const char path[] = "/sys/kernel/btf/vmlinux";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct fixture fix;
	struct fl_source *source = NULL;
	struct fl_queue *queue;
	char *expected, *got;
	uint64_t len = 40 * PAGE + 100;

	SKIP_UNLESS(fd >= 0, "other", "no %s", path);
	fix = start(state);
	expected = malloc(len);
	got = calloc(1, len);
	assert_non_null(expected);
	assert_non_null(got);
	for (uint64_t done = 0; done < len;) {
		ssize_t ret = pread(fd, expected + done, len - done, (off_t)done);

		assert_true(ret > 0);
		done += (uint64_t)ret;
	}
	assert_int_equal(fl_source_file_open(&source, path, fix.backend->flags, NULL), 0);
	queue = queue_of(source, 2);
	assert_int_equal(fl_queue_try(queue, got, len, 0), -EAGAIN);
	assert_int_equal(submit_and_wait(queue, got, len, 0), 0);
	assert_memory_equal(got, expected, len);
	fl_queue_close(queue);
	fl_source_close(source);
	free(expected);
	free(got);
	close(fd);
	finish(&fix);
}

static void without_nowait_it_is_not_asked_again(void **state)
{
	static const char path[] = "/sys/kernel/btf/vmlinux";
	struct fl_source *source = NULL;
	struct fl_queue *queue;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool missing = fd >= 0 && !knows_nowait(fd);
	char buf[8];

	(void)state;
	if (fd >= 0)
		close(fd);
	SKIP_UNLESS(missing, "other", "no %s, or it knows RWF_NOWAIT", path);
	assert_int_equal(fl_source_file_open(&source, path, 0, NULL), 0);
	queue = queue_of(source, 2);
	assert_false(((struct fl_file_queue *)queue)->never_at_once);
	assert_int_equal(fl_queue_try(queue, buf, 8, 0), -EAGAIN);
	assert_true(((struct fl_file_queue *)queue)->never_at_once);
	assert_int_equal(fl_queue_try(queue, buf, 8, 0), -EAGAIN);
	fl_queue_close(queue);
	fl_source_close(source);
}

/* Address space for len bytes, in which all but the last MiB is the same MiB again and again. */
static char *folded_buffer(uint64_t len)
{
	int fd = memfd_create("folded", MFD_CLOEXEC);
	char *buf = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(fd >= 0 && buf != MAP_FAILED);
	assert_int_equal(ftruncate(fd, 8 * MIB), 0);
	for (uint64_t at = 0; at + 8 * MIB < len; at += 8 * MIB)
		assert_true(mmap(buf + at, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				 fd, 0) != MAP_FAILED);
	close(fd);
	return buf;
}

/* More than one request of the back-end carries: the last pages come by a later one. */
static void a_read_of_many_steps(void **state)
{
	struct fixture fix = start(state);
	const uint64_t steps = fix.backend == &by_uring ? 1024 * MIB : 16 * MIB;
	const uint64_t len = steps + 2 * PAGE;
	struct fl_source *source;
	struct fl_queue *queue;
	char *buf = folded_buffer(len);

	assert_int_equal(ftruncate(fix.fd, (off_t)len), 0);
	test_pattern(fix.buf, 2 * PAGE, steps, SEED);
	assert_int_equal(pwrite(fix.fd, fix.buf, 2 * PAGE, (off_t)steps), 2 * PAGE);
	source = source_of_fd(fix.fd, fix.backend->flags);
	queue = queue_of(source, 1);
	assert_int_equal(submit_and_wait(queue, buf, len, 0), 0);
	assert_filled(buf + steps, 2 * PAGE, steps, SEED);
	assert_int_equal(submit_and_wait(queue, buf, len, PAGE), -ENODATA);
	fl_queue_close(queue);
	fl_source_close(source);
	assert_int_equal(munmap(buf, len), 0);
	finish(&fix);
}

/* A thread that submits and is gone before what it submitted came back. */
static void *submit_all(void *arg)
{
	struct job *jobs = arg;

	for (unsigned int i = 0; i < DEPTH; i++)
		if (fl_queue_submit(jobs[DEPTH].read.ctx, &jobs[i].read))
			return arg;
	return NULL;
}

static void a_queue_may_change_hands(void **state)
{
	struct fixture fix = start(state);
	int fd = disk_image(COLD_BYTES);
	struct fl_source *source = source_of_fd(fd, fix.backend->flags);
	struct fl_queue *queue = queue_of(source, DEPTH);
	char *buf = calloc(1, COLD_BYTES);
	static struct job jobs[DEPTH + 1];
	pthread_t thread;
	void *failed;

	assert_non_null(buf);
	(void)evict(fd, COLD_BYTES);
	for (unsigned int i = 0; i < DEPTH; i++) {
		job_init(&jobs[i], buf + i * COLD_STEP, COLD_STEP, i * COLD_STEP);
		jobs[i].read.flags = i % 2 ? FL_READ_FILL : 0;
	}
	jobs[DEPTH].read.ctx = queue;
	assert_int_equal(pthread_create(&thread, NULL, submit_all, jobs), 0);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	reap_reads(queue, DEPTH);
	for (unsigned int i = 0; i < DEPTH; i++)
		assert_int_equal(jobs[i].read.result, 0);
	assert_filled(buf, COLD_BYTES, 0, SEED);
	fl_queue_close(queue);
	fl_source_close(source);
	free(buf);
	close(fd);
	finish(&fix);
}

/* One guest: reads the whole image by a queue of its own, every read submitted. */
static void *read_image(void *arg)
{
	struct fl_source *source = arg;
	struct fl_queue *queue;
	struct job jobs[8];
	char *buf = calloc(1, IMAGE_BYTES);
	bool good = buf && !fl_queue_open(source, 8, &queue);
	uint64_t offset = 0;

	if (!good) {
		free(buf);
		return arg;
	}
	while (good && offset + 8 * PAGE <= IMAGE_BYTES) {
		int left = 8;

		for (int i = 0; i < 8; i++, offset += PAGE) {
			job_init(&jobs[i], buf + offset, PAGE, offset);
			good &= !fl_queue_submit(queue, &jobs[i].read);
		}
		while (good && left > 0)
			left -= wait_and_reap(queue);
		for (int i = 0; i < 8; i++)
			good &= !jobs[i].read.result;
	}
	fl_queue_close(queue);
	good = good && test_mismatch(buf, offset, 0, SEED) == -1;
	free(buf);
	return good ? NULL : arg;
}

static void guests_share_a_source(void **state)
{
	struct fixture fix = start(state);
	pthread_t guests[4];
	void *failed;

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&guests[i], NULL, read_image, fix.source), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(guests[i], &failed), 0);
		assert_null(failed);
	}
	finish(&fix);
}

#define STATE(backend) ((void *)(uintptr_t) & (backend))
#define BOTH(name)                                                      \
	{#name " (io_uring)", name, NULL, NULL, STATE(by_uring)},       \
	{                                                               \
#name " (threads)", name, NULL, NULL, STATE(by_threads) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(reads_of_any_place_and_length),
		BOTH(many_reads_in_flight_each_end_once),
		BOTH(one_read_too_many_is_refused),
		BOTH(a_done_may_submit),
		BOTH(a_read_over_the_end_is_an_error),
		BOTH(a_file_cut_while_served_is_an_error),
		BOTH(an_error_of_the_device_is_told),
		BOTH(nothing_is_allocated_per_read),
		cmocka_unit_test(what_the_page_cache_holds_is_answered_at_once),
		cmocka_unit_test(a_file_in_memory_is_answered_at_once),
		BOTH(what_it_does_not_hold_is_submitted),
		BOTH(closing_with_reads_in_flight),
		BOTH(closing_with_what_nobody_reaped),
		BOTH(short_reads_are_continued),
		cmocka_unit_test(without_nowait_it_is_not_asked_again),
		BOTH(a_read_of_many_steps),
		BOTH(a_queue_may_change_hands),
		BOTH(guests_share_a_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
