/* SPDX-License-Identifier: MIT */
/* Reading over libfabric: what comes, where it goes, and in what order. */
#include "source/fabric_test.h"

#include <sys/stat.h>

static uint64_t next_random(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

/* Some whole units within one region, at most max bytes. */
static void random_range(uint64_t *random, uint64_t max, uint64_t *offset, uint64_t *len)
{
	bool second = next_random(random) & 1;
	uint64_t units = (second ? SECOND_BYTES : FIRST_BYTES) / 4096;
	uint64_t at = next_random(random) % units;

	*len = next_random(random) % (max / 4096) + 1;
	if (*len > units - at)
		*len = units - at;
	*len *= 4096;
	*offset = at * 4096 + (second ? SECOND_AT : 0);
}

/* Reads to buffers, 16 at a time and of all lengths, each checked byte by byte. */
static void read_at_random(struct rig *rig, unsigned int rounds)
{
	enum { JOBS = 16 };
	struct job jobs[JOBS];
	uint64_t random = 4711, offset, len;
	char *buf = map_anon(JOBS * 2 * MIB);

	for (unsigned int round = 0; round < rounds; round++) {
		memset(buf, 0xee, JOBS * 2 * MIB);
		for (unsigned int i = 0; i < JOBS; i++) {
			random_range(&random, i & 1 ? 2 * MIB : 64 << 10, &offset, &len);
			job_init(&jobs[i], buf + i * 2 * MIB, len, offset);
			jobs[i].read.flags = i & 2 ? FL_READ_FILL : 0;
			assert_int_equal(fl_queue_submit(rig->queue, &jobs[i].read), 0);
		}
		reap_reads(rig->queue, JOBS);
		for (unsigned int i = 0; i < JOBS; i++) {
			const struct fl_read *read = &jobs[i].read;

			assert_int_equal(jobs[i].ended, 1);
			assert_int_equal(read->result, 0);
			assert_filled(read->buf, read->len_bytes, read->offset, SEED);
			if (read->len_bytes < 2 * MIB)
				assert_int_equal(((uint8_t *)read->buf)[read->len_bytes], 0xee);
		}
	}
	assert_int_equal(munmap(buf, JOBS * 2 * MIB), 0);
}

static void the_probe_names_tcp(void **state)
{
	struct fl_fabric_offer offers[64];
	int count = fl_fabric_probe(offers, 64, NULL);
	bool waits = false;

	(void)rig_of(state);
	for (int i = 0; i < count; i++) {
		assert_true(offers[i].provider[0] && offers[i].domain[0]);
		waits = waits || (!strncmp(offers[i].provider, "tcp", 3) && offers[i].waits);
		for (int j = 0; j < i; j++)
			assert_memory_not_equal(&offers[i], &offers[j], sizeof(offers[i]));
	}
	assert_true(waits);
	assert_int_equal(fl_fabric_probe(offers, 1, NULL), 1);
}

static void random_reads_are_right(void **state)
{
	struct rig *rig = rig_of(state);
	unsigned int fds;

	open_source(rig, NULL, 0);
	read_at_random(rig, 6);
	close_source(rig);
	fds = test_open_fds();
	open_source(rig, NULL, 0);
	read_at_random(rig, 1);
	close_source(rig);
	assert_int_equal(test_open_fds(), fds);
	assert_int_equal(stop_peer(&rig->peer), 0);
}

static void memory_that_is_not_registered_is_reached_by_a_copy(void **state)
{
	struct rig *rig = rig_of(state);

	rig->options.flags = FL_FABRIC_REGISTER;
	open_source(rig, NULL, 0);
	read_at_random(rig, 3);
}

static void reading_without_a_loop_and_across_the_gap(void **state)
{
	struct rig *rig = rig_of(state);
	char *buf = map_anon(GAP_BYTES + 2 * MIB);

	open_source(rig, NULL, 0);
	assert_int_equal(fl_source_length(rig->source), IMAGE_BYTES);
	memset(buf, 0xee, GAP_BYTES + 2 * MIB);
	assert_int_equal(fl_source_read(rig->source, buf, GAP_BYTES + 2 * MIB, FIRST_BYTES - MIB),
			 0);
	assert_filled(buf, MIB, FIRST_BYTES - MIB, SEED);
	assert_int_equal(test_nonzero(buf + MIB, GAP_BYTES), -1);
	assert_filled(buf + MIB + GAP_BYTES, MIB, SECOND_AT, SEED);
	assert_int_equal(munmap(buf, GAP_BYTES + 2 * MIB), 0);
}

static void what_is_out_of_range_is_refused(void **state)
{
	static const struct {
		uint64_t offset, len;
		int result;
	} wrong[] = {
		{1, 4096, -EINVAL},
		{0, 4095, -EINVAL},
		{0, 0, -EINVAL},
		{FIRST_BYTES, 4096, -EINVAL},        /* in the gap */
		{FIRST_BYTES - 4096, 8192, -EINVAL}, /* into it */
		{SECOND_AT - 4096, 8192, -EINVAL},   /* out of it */
		{IMAGE_BYTES, 4096, -ENODATA},
		{IMAGE_BYTES - 4096, 8192, -ENODATA},
		{UINT64_MAX - 4095, 4096, -ENODATA},
		{0, UINT64_MAX - 4095, -ENODATA},
	};
	struct rig *rig = rig_of(state);
	char buf[4096];

	open_source(rig, NULL, 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int result = submit_and_wait(rig->queue, buf, wrong[i].len, wrong[i].offset);

		if (result != wrong[i].result)
			fail_msg("read %zu: %d", i, result);
	}
	assert_int_equal(submit_and_wait(rig->queue, buf, sizeof(buf), SECOND_AT), 0);
	assert_filled(buf, sizeof(buf), SECOND_AT, SEED);
}

static void read_straight(struct rig *rig, char *memory, bool split)
{
	uint8_t *arrived = calloc(IMAGE_BYTES / 4096, 1);
	struct target targets[56];
	unsigned int count = 0;

	for (uint64_t at = 0; at < IMAGE_BYTES; at += MIB) {
		if (at >= FIRST_BYTES && at < SECOND_AT)
			continue;
		target_init(&targets[count], memory, arrived, at, MIB);
		targets[count].split = split;
		targets[count].job.read.flags = (at & MIB) ? FL_READ_FILL : 0;
		assert_int_equal(fl_queue_submit(rig->queue, &targets[count++].job.read), 0);
	}
	reap_reads(rig->queue, (int)count);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(targets[i].job.read.result, 0);
	for (uint64_t unit = 0; unit < IMAGE_BYTES / 4096; unit++)
		assert_int_equal(arrived[unit],
				 unit < FIRST_BYTES / 4096 || unit >= SECOND_AT / 4096);
	assert_filled(memory, FIRST_BYTES, 0, SEED);
	assert_int_equal(test_nonzero(memory + FIRST_BYTES, GAP_BYTES), -1);
	assert_filled(memory + SECOND_AT, SECOND_BYTES, SECOND_AT, SEED);
	free(arrived);
}

static char *map_memfd(int *fd)
{
	char *memory;

	*fd = memfd_create("local", MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, (off_t)IMAGE_BYTES), 0);
	memory = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void reads_go_straight_into_place(void **state)
{
	struct rig *rig = rig_of(state);
	int fd;
	char *memory = map_memfd(&fd);

	open_source(rig, NULL, 0);
	read_straight(rig, memory, true);
	(void)munmap(memory, IMAGE_BYTES);
	(void)close(fd);
}

/* Registered in two ranges that meet within a read; the rest of it by way of copies. */
static void reads_go_straight_into_registered_memory(void **state)
{
	struct rig *rig = rig_of(state);
	int fd;
	char *memory = map_memfd(&fd);
	uint64_t at = 10 * MIB + (36 << 10), end = 50 * MIB + 4096;
	struct fl_fabric_memory local[] = {{memory, 0, at}, {memory + at, at, end - at}};

	rig->options.flags = FL_FABRIC_REGISTER;
	open_source(rig, local, 2);
	read_straight(rig, memory, false);
	(void)munmap(memory, IMAGE_BYTES);
	(void)close(fd);
}

/* Registered by hardware, memory is there and stays there. That means nothing, as the pager's test of
 * it shows (tests/api/fabric_test.c). */
static void memory_can_be_populated_when_it_is_registered(void **state)
{
	struct rig *rig = rig_of(state);
	int fd;
	char *memory = map_memfd(&fd);
	struct fl_fabric_memory local = {memory, 0, IMAGE_BYTES};
	struct stat stat;

	assert_int_equal(fstat(fd, &stat), 0);
	assert_int_equal(stat.st_blocks, 0);
	rig->options.flags = FL_FABRIC_REGISTER | FL_FABRIC_POPULATE;
	open_source(rig, &local, 1);
	assert_int_equal(fstat(fd, &stat), 0);
	assert_true((uint64_t)stat.st_blocks * 512 >= IMAGE_BYTES);
	assert_int_equal(test_nonzero(memory, IMAGE_BYTES), -1);
	(void)munmap(memory, IMAGE_BYTES);
	(void)close(fd);
}

struct order {
	struct job job;
	unsigned int *count, nth;
};

static void order_done(struct fl_read *read)
{
	struct order *order = read->ctx;

	order->nth = ++*order->count;
}

static void demand_overtakes_fill(void **state)
{
	enum { FILLS = 32, HURRIED = FILLS - 1 };
	struct rig *rig = rig_of(state);
	struct order orders[FILLS + 1] = {0};
	unsigned int count = 0;
	char *buf = map_anon((FILLS + 1) * MIB);

	open_source(rig, NULL, 0);
	for (unsigned int i = 0; i <= FILLS; i++) {
		struct fl_read *read = &orders[i].job.read;

		job_init(&orders[i].job, buf + i * MIB, i < FILLS ? MIB : 4096,
			 SECOND_AT + i % 32 * MIB);
		read->ctx = &orders[i];
		read->done = order_done;
		read->flags = i < FILLS ? FL_READ_FILL : 0;
		orders[i].count = &count;
		assert_int_equal(fl_queue_submit(rig->queue, read), 0);
	}
	fl_queue_hurry(rig->queue, &orders[HURRIED].job.read, orders[HURRIED].job.read.offset,
		       4096);
	reap_reads(rig->queue, FILLS + 1);
	assert_in_range(orders[FILLS].nth, 1, FILLS - 1);
	assert_true(orders[HURRIED].nth < orders[HURRIED - 1].nth);
	for (unsigned int i = 0; i <= FILLS; i++) {
		assert_int_equal(orders[i].job.read.result, 0);
		assert_filled(buf + i * MIB, orders[i].job.read.len_bytes,
			      orders[i].job.read.offset, SEED);
	}
	assert_int_equal(munmap(buf, (FILLS + 1) * MIB), 0);
}

static void options_are_checked(void **state)
{
	struct fl_fabric_memory memory = {(void *)0x10000, 0, 4096};
	struct fl_fabric_options options;
	struct fl_fabric *fabric = NULL;
	struct fl_error err = {0};

	(void)state;
	fl_fabric_options_init(&options);
	options.timeout_ms = 0;
	assert_int_equal(fl_fabric_export(&fabric, &memory, 1, &options, &err), -EINVAL);
	fl_fabric_options_init(&options);
	options.flags = 1u << 31;
	assert_int_equal(fl_fabric_export(&fabric, &memory, 1, &options, &err), -EINVAL);
	fl_fabric_options_init(&options);
	options.provider = "";
	assert_int_equal(fl_fabric_export(&fabric, &memory, 1, &options, &err), -EINVAL);
	fl_fabric_options_init(&options);
	options.size--;
	assert_int_equal(fl_fabric_export(&fabric, &memory, 1, &options, &err), -EINVAL);
	assert_int_equal(fl_fabric_export(&fabric, &memory, 0, NULL, &err), -EINVAL);
	fl_fabric_options_init(&options);
	options.provider = "nosuch";
	assert_int_equal(fl_fabric_export(&fabric, &memory, 1, &options, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "nosuch"));
	options.provider = "tcp";
	options.address = "198.51.100.1";
	assert_true(fl_fabric_export(&fabric, &memory, 1, &options, &err) < 0);
	assert_true(err.text[0]);
	assert_null(fabric);
	fl_fabric_unexport(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_probe_names_tcp),
		TEST(random_reads_are_right),
		TEST(memory_that_is_not_registered_is_reached_by_a_copy),
		TEST(reading_without_a_loop_and_across_the_gap),
		TEST(what_is_out_of_range_is_refused),
		TEST(reads_go_straight_into_place),
		TEST(reads_go_straight_into_registered_memory),
		TEST(memory_can_be_populated_when_it_is_registered),
		TEST(demand_overtakes_fill),
		cmocka_unit_test(options_are_checked),
	};

	return cmocka_run_group_tests(tests, make_image, drop_image);
}
