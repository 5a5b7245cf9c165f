/* SPDX-License-Identifier: MIT */
/*
 * A guest whose memory is read over libfabric from another process, by the public headers alone. All
 * of that memory is in the page cache before, as it is where a device pins it, or where reads that
 * failed have left a part of it; and yet every page must be fetched before it is seen.
 */
#include "support.h"
#include <faultline/faultline.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 2048
#define PAGE  4096ul
#define LEN   (PAGES * PAGE)
#define SEED  23
#define STALE 24

struct world {
	pid_t peer;
	int life;
	uint8_t blob[FL_FABRIC_BLOB_MAX];
	size_t blob_len;
	struct fl_fabric_options options;

	int memfd, uffd;
	char *mem, *alias;
	struct fl_pager_parts parts;
	struct fl_pager *pager;
};

static bool have_tcp(void)
{
	struct fl_fabric_offer offers[64];
	int count = fl_fabric_probe(offers, 64, NULL);

	for (int i = 0; i < count; i++) {
		if (!strncmp(offers[i].provider, "tcp", 3) &&
		    !strcmp(offers[i].address, "127.0.0.1"))
			return true;
	}
	return false;
}

static void peer_main(const struct fl_fabric_options *options, int out, int life)
{
	struct fl_fabric_memory memory = {.len_bytes = LEN};
	struct fl_fabric *fabric;
	const void *blob;
	size_t len;
	char byte;

	memory.addr = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory.addr == MAP_FAILED)
		_exit(2);
	test_pattern(memory.addr, LEN, 0, SEED);
	if (fl_fabric_export(&fabric, &memory, 1, options, NULL))
		_exit(3);
	blob = fl_fabric_blob(fabric, &len);
	if (write(out, blob, len) != (ssize_t)len)
		_exit(4);
	(void)close(out);
	(void)!read(life, &byte, 1);
	fl_fabric_unexport(fabric);
	_exit(0);
}

static void start_peer(struct world *world)
{
	int out[2], life[2];
	ssize_t got;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(life, O_CLOEXEC), 0);
	world->peer = fork();
	assert_true(world->peer >= 0);
	if (!world->peer) {
		(void)close(life[1]);
		peer_main(&world->options, out[1], life[0]);
	}
	(void)close(out[1]);
	(void)close(life[0]);
	world->life = life[1];
	while ((got = read(out[0], world->blob + world->blob_len,
			   sizeof(world->blob) - world->blob_len)) > 0)
		world->blob_len += (size_t)got;
	(void)close(out[0]);
	assert_true(world->blob_len > 0);
}

static void end_peer(struct world *world)
{
	int status;

	(void)close(world->life);
	assert_int_equal(waitpid(world->peer, &status, 0), world->peer);
	assert_int_equal(status, 0);
}

/* Two mappings of a memfd, the first of them trapped. */
static void map_guest(struct world *world)
{
	struct fl_pager_parts *parts = &world->parts;
	struct fl_region region = {
		.len_bytes = LEN, .page_size = PAGE, .backing = FL_BACKING_MEMFD};
	struct fl_alias alias = {.len_bytes = LEN};
	struct fl_error err;

	world->memfd = memfd_create("guest", MFD_CLOEXEC);
	assert_int_equal(ftruncate(world->memfd, (off_t)LEN), 0);
	world->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, world->memfd, 0);
	world->alias = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, world->memfd, 0);
	assert_ptr_not_equal(world->mem, MAP_FAILED);
	assert_ptr_not_equal(world->alias, MAP_FAILED);
	region.addr = alias.addr = (uintptr_t)world->mem;
	alias.alias = world->alias;
	assert_int_equal(fl_layout_new(&parts->layout, &region, 1, &err), 0);
	assert_int_equal(fl_table_new(&parts->table, PAGES), 0);
	assert_int_equal(fl_trap_uffd_new(&parts->trap, world->uffd, &err), 0);
	if (fl_trap_arm(parts->trap, region.addr, LEN, FL_TRAP_MISSING | FL_TRAP_MINOR))
		fail_msg("arm");
	assert_int_equal(fl_install_continue_new(&parts->install, world->uffd, &alias, 1, &err), 0);
}

static uint64_t populated(const struct world *world)
{
	struct stat stat;

	assert_int_equal(fstat(world->memfd, &stat), 0);
	return (uint64_t)stat.st_blocks * 512;
}

static void open_source(struct world *world)
{
	struct fl_fabric_memory local = {world->alias, 0, LEN};
	struct fl_error err = {0};

	if (fl_source_fabric_open(&world->parts.source, world->blob, world->blob_len, &local, 1,
				  &world->options, &err))
		fail_msg("%s", err.text);
}

static void run_pager(struct world *world, uint32_t flags)
{
	struct fl_pager_options options;
	struct fl_error err = {0};

	fl_pager_options_init(&options);
	options.flags = flags;
	if (fl_pager_new(&world->pager, &world->parts, &options, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fl_pager_start(world->pager), 0);
}

static void start(struct world *world)
{
	struct fl_error err;

	*world = (struct world){0};
	SKIP_UNLESS(have_tcp(), "other", "libfabric offers no tcp provider on loopback");
	world->uffd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, &err);
	SKIP_UNLESS(world->uffd >= 0, "uffd", "%s", err.text);
	fl_fabric_options_init(&world->options);
	world->options.address = "127.0.0.1";
	world->options.timeout_ms = 60000;
	start_peer(world);
	map_guest(world);
}

static void end(struct world *world)
{
	fl_pager_close(world->pager);
	fl_install_close(world->parts.install);
	fl_trap_close(world->parts.trap);
	fl_source_close(world->parts.source);
	fl_table_free(world->parts.table);
	fl_layout_free(world->parts.layout);
	assert_int_equal(munmap(world->mem, LEN), 0);
	assert_int_equal(munmap(world->alias, LEN), 0);
	assert_int_equal(close(world->memfd), 0);
	assert_int_equal(close(world->uffd), 0);
	end_peer(world);
}

static struct fl_pager_stats stats_of(const struct world *world)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};

	fl_pager_stats(world->pager, &stats);
	return stats;
}

static void all_is_absent(const struct world *world)
{
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(fl_table_state(world->parts.table, page), FL_ABSENT);
}

/* Populated by being registered, and full of what is not the guest's, besides. */
static void a_page_that_is_there_was_not_received(void **state)
{
	struct world world;
	struct fl_pager_stats stats;

	(void)state;
	start(&world);
	assert_int_equal(populated(&world), 0);
	world.options.flags = FL_FABRIC_POPULATE | FL_FABRIC_REGISTER;
	open_source(&world);
	assert_true(populated(&world) >= LEN);
	test_pattern(world.alias, LEN, 0, STALE);
	all_is_absent(&world);
	run_pager(&world, 0);
	for (size_t page = 0; page < PAGES; page += 3)
		assert_filled(world.mem + page * PAGE, PAGE, page * PAGE, SEED);
	for (size_t page = 0; page < PAGES; page++)
		assert_filled(world.mem + page * PAGE, PAGE, page * PAGE, SEED);
	fl_pager_stop(world.pager);
	stats = stats_of(&world);
	assert_int_equal(stats.demand + stats.around + stats.fill, PAGES);
	assert_int_equal(stats.left + stats.errors + stats.poisoned, 0);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(fl_table_state(world.parts.table, page), FL_PRESENT);
	end(&world);
}

struct straight {
	struct fl_read read;
	const struct world *world;
	uint64_t arrived;
	bool ended;
};

static void *into_alias(struct fl_read *read, uint64_t offset, uint64_t *len_bytes)
{
	const struct straight *straight = read->ctx;

	(void)len_bytes;
	return straight->world->alias + offset;
}

static void count_arrived(struct fl_read *read, uint64_t offset, uint64_t len_bytes)
{
	struct straight *straight = read->ctx;

	(void)offset;
	straight->arrived += len_bytes;
}

static void ended(struct fl_read *read)
{
	struct straight *straight = read->ctx;

	straight->ended = true;
}

/* A read straight into guest memory that fails when part of it is there leaves pages in the page cache
 * that nobody may take for received: the pager that comes after fetches all of them. */
static void what_a_failed_read_left_was_not_received(void **state)
{
	struct straight straight = {.read = {.len_bytes = LEN,
					     .done = ended,
					     .place = into_alias,
					     .arrived = count_arrived}};
	struct fl_queue *queue;
	struct world world;

	(void)state;
	start(&world);
	open_source(&world);
	straight.world = &world;
	straight.read.ctx = &straight;
	assert_int_equal(fl_queue_open(world.parts.source, 1, &queue), 0);
	assert_int_equal(fl_queue_submit(queue, &straight.read), 0);
	while (!straight.arrived)
		(void)fl_queue_reap(queue);
	assert_false(straight.ended);
	fl_queue_close(queue);
	assert_in_range(populated(&world), PAGE, LEN);
	assert_in_range(straight.arrived, PAGE, LEN - PAGE);
	all_is_absent(&world);
	/* Were a page taken for received, this would be seen. */
	for (size_t page = 0; page < PAGES; page++) {
		if (world.alias[page * PAGE + 8] || world.alias[page * PAGE + 16])
			test_pattern(world.alias + page * PAGE, PAGE, page * PAGE, STALE);
	}
	run_pager(&world, FL_PAGER_FILL);
	for (size_t page = PAGES; page--;)
		assert_filled(world.mem + page * PAGE, PAGE, page * PAGE, SEED);
	fl_pager_stop(world.pager);
	assert_int_equal(stats_of(&world).errors + stats_of(&world).poisoned, 0);
	end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_that_is_there_was_not_received),
		cmocka_unit_test(what_a_failed_read_left_was_not_received),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
