/* SPDX-License-Identifier: MIT */
/*
 * A machine moves, as a VMM's author sees it: both sides in one process, with the public headers and
 * the shared library alone. Its vCPUs are threads that write pages and check what they read, of which
 * each knows what it must hold: a page that is lost, stale or torn anywhere is seen where it runs.
 */
#include "proxy.h"
#include "support.h"
#include <faultline/faultline.h>

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VCPUS    2u
#define PAGES    3072u
#define PAGE     4096ul
#define LEN      (PAGES * PAGE)
#define HOLES_AT 1024u /* pages that nobody has touched yet */
#define HOLES    1024u
#define PATIENCE 60 /* seconds */
#define CONFIG   "two vCPUs"

/* What goes over as its state: what each page holds, 0 for zeros. Page p is of vCPU p % VCPUS. */
struct state {
	uint32_t sequence[PAGES];
};

struct machine {
	char *memory, *alias;
	int memfd, uffd;
	struct fl_layout *layout;
	struct fl_alias aliases;
	uint64_t fd_offset;

	struct state state;
	pthread_t vcpu[VCPUS];
	bool running;
	unsigned int pause_us; /* between two steps: how slowly it writes */
	atomic_bool stop;
	_Atomic uint64_t dirty[PAGES / 64];
	_Atomic uint64_t steps;
	_Atomic uint64_t wrong; /* 1 + the number of a page that was not as it must be */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int ends, stops, go_ons;
	enum fl_migrate_phase ended;
};

struct vcpu {
	struct machine *machine;
	unsigned int number;
};

/* --- the guest --- */

static uint64_t word_of(uint64_t page, uint64_t at, uint32_t sequence)
{
	return sequence ? (page << 40 ^ at << 33) * 0x9e3779b97f4a7c15u + sequence : 0;
}

/*
 * The library reads while the guest writes: that is what moving a running machine is. Like a real
 * guest's, these writes are not for ThreadSanitizer to see.
 */
__attribute__((no_sanitize("thread"))) static void write_page(struct machine *machine,
							      uint64_t page, uint32_t sequence)
{
	volatile uint64_t *words = (volatile uint64_t *)(machine->memory + page * PAGE);

	for (uint64_t at = 0; at < PAGE / 8; at++)
		words[at] = word_of(page, at, sequence);
	machine->state.sequence[page] = sequence;
	/* Only now: a write that is told of before it is over may be told of too early. */
	atomic_fetch_or(&machine->dirty[page / 64], UINT64_C(1) << page % 64);
}

__attribute__((no_sanitize("thread"))) static bool is_right(const struct machine *machine,
							    uint64_t page)
{
	volatile uint64_t *words = (volatile uint64_t *)(machine->memory + page * PAGE);

	for (uint64_t at = 0; at < PAGE / 8; at++)
		if (words[at] != word_of(page, at, machine->state.sequence[page]))
			return false;
	return true;
}

static void *vcpu_main(void *arg)
{
	struct vcpu vcpu = *(struct vcpu *)arg;
	struct machine *machine = vcpu.machine;
	unsigned int random = vcpu.number + (unsigned int)machine->steps;

	free(arg);
	while (!atomic_load(&machine->stop)) {
		uint64_t page = (uint64_t)rand_r(&random) % (PAGES / VCPUS) * VCPUS + vcpu.number;

		if (!is_right(machine, page))
			atomic_store(&machine->wrong, page + 1);
		/* Half of the memory is only read, and holes stay for a while. */
		if (page % 8 < 4 && (page % 128 < 8 || page - HOLES_AT >= HOLES))
			write_page(machine, page, machine->state.sequence[page] + 1);
		atomic_fetch_add(&machine->steps, 1);
		if (machine->pause_us)
			(void)usleep(machine->pause_us);
	}
	return NULL;
}

static void machine_run(struct machine *machine)
{
	atomic_store(&machine->stop, false);
	for (unsigned int i = 0; i < VCPUS; i++) {
		struct vcpu *vcpu = malloc(sizeof(*vcpu));

		*vcpu = (struct vcpu){machine, i};
		(void)pthread_create(&machine->vcpu[i], NULL, vcpu_main, vcpu);
	}
	machine->running = true;
}

static void machine_stop(struct machine *machine)
{
	atomic_store(&machine->stop, true);
	for (unsigned int i = 0; machine->running && i < VCPUS; i++)
		(void)pthread_join(machine->vcpu[i], NULL);
	machine->running = false;
}

static void await_steps(struct machine *machine, uint64_t more)
{
	uint64_t until = atomic_load(&machine->steps) + more;

	while (atomic_load(&machine->steps) < until)
		(void)poll(NULL, 0, 1);
}

/* --- memory --- */

static void machine_map(struct machine *machine)
{
	struct fl_region region = {
		.len_bytes = LEN, .page_size = PAGE, .backing = FL_BACKING_MEMFD};
	struct fl_error err;

	machine->memfd = memfd_create("guest", MFD_CLOEXEC);
	assert_int_equal(ftruncate(machine->memfd, LEN), 0);
	machine->memory = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, machine->memfd, 0);
	machine->alias = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, machine->memfd, 0);
	assert_true(machine->memory != MAP_FAILED && machine->alias != MAP_FAILED);
	region.addr = (uintptr_t)machine->memory;
	machine->aliases = (struct fl_alias){region.addr, machine->alias, LEN};
	assert_int_equal(fl_layout_new(&machine->layout, &region, 1, &err), 0);
}

static void machine_new(struct machine *machine)
{
	*machine = (struct machine){.memfd = -1, .uffd = -1};
	pthread_mutex_init(&machine->lock, NULL);
	pthread_cond_init(&machine->changed, NULL);
}

static void machine_free(struct machine *machine)
{
	machine_stop(machine);
	fl_layout_free(machine->layout);
	if (machine->memfd >= 0) {
		assert_int_equal(munmap(machine->memory, LEN), 0);
		assert_int_equal(munmap(machine->alias, LEN), 0);
		assert_int_equal(close(machine->memfd), 0);
	}
	if (machine->uffd >= 0)
		assert_int_equal(close(machine->uffd), 0);
	pthread_cond_destroy(&machine->changed);
	pthread_mutex_destroy(&machine->lock);
}

static void assert_right(struct machine *machine)
{
	assert_int_equal(atomic_load(&machine->wrong), 0);
	assert_false(machine->running);
	for (uint64_t page = 0; page < PAGES; page++)
		if (!is_right(machine, page))
			fail_msg("page %llu is wrong", (unsigned long long)page);
}

/* --- what the machine that leaves can do --- */

static int track(void *ctx, bool on)
{
	struct machine *machine = ctx;

	for (unsigned int i = 0; on && i < PAGES / 64; i++)
		atomic_store(&machine->dirty[i], 0);
	return 0;
}

static int collect(void *ctx, struct fl_pageset *dirty)
{
	struct machine *machine = ctx;

	for (unsigned int i = 0; i < PAGES / 64; i++) {
		uint64_t bits = atomic_exchange(&machine->dirty[i], 0);

		for (unsigned int bit = 0; bit < 64; bit++)
			if (bits >> bit & 1)
				(void)fl_pageset_add(dirty, i * 64 + bit, 1);
	}
	return 0;
}

static int holes(void *ctx, struct fl_pageset *zeros)
{
	struct machine *machine = ctx;
	off_t at = 0, end;

	while (at < (off_t)LEN) {
		at = lseek(machine->memfd, at, SEEK_HOLE);
		if (at < 0 || at >= (off_t)LEN)
			break;
		end = lseek(machine->memfd, at, SEEK_DATA);
		if (end < 0)
			end = (off_t)LEN;
		(void)fl_pageset_add(zeros, (uint64_t)at / PAGE, (uint64_t)(end - at) / PAGE);
		at = end;
	}
	return 0;
}

static void count(struct machine *machine, unsigned int *calls)
{
	pthread_mutex_lock(&machine->lock);
	(*calls)++;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
}

static int stop(void *ctx)
{
	struct machine *machine = ctx;

	machine_stop(machine);
	count(machine, &machine->stops);
	return 0;
}

static int save(void *ctx, void **state, size_t *len_bytes)
{
	struct machine *machine = ctx;

	*state = malloc(sizeof(machine->state));
	if (!*state)
		return -ENOMEM;
	*len_bytes = sizeof(machine->state);
	/* What devices do to memory when they are saved counts, too. */
	write_page(machine, 9, machine->state.sequence[9] + 1);
	memcpy(*state, &machine->state, sizeof(machine->state));
	return 0;
}

static void go_on(void *ctx)
{
	struct machine *machine = ctx;

	count(machine, &machine->go_ons);
	machine_run(machine);
}

static void ended(void *ctx, enum fl_migrate_phase phase)
{
	struct machine *machine = ctx;

	pthread_mutex_lock(&machine->lock);
	machine->ended = phase;
	pthread_mutex_unlock(&machine->lock);
	count(machine, &machine->ends);
}

static enum fl_migrate_phase wait_ended(struct machine *machine, unsigned int ends)
{
	enum fl_migrate_phase phase;
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	pthread_mutex_lock(&machine->lock);
	while (machine->ends < ends)
		assert_int_equal(pthread_cond_timedwait(&machine->changed, &machine->lock, &until),
				 0);
	phase = machine->ended;
	pthread_mutex_unlock(&machine->lock);
	return phase;
}

/* --- what the machine that arrives can do --- */

static int prepare(void *ctx, const struct fl_region *regions, size_t count_of, const void *config,
		   size_t config_len, struct fl_incoming_memory *memory, struct fl_error *err)
{
	struct machine *machine = ctx;

	if (count_of != 1 || regions[0].len_bytes != LEN || config_len != sizeof(CONFIG) ||
	    memcmp(config, CONFIG, config_len) != 0) {
		*err = (struct fl_error){-EINVAL, "not a machine of this test"};
		return -EINVAL;
	}
	machine_map(machine);
	*memory = (struct fl_incoming_memory){.layout = machine->layout,
					      .uffd = machine->uffd,
					      .aliases = &machine->aliases,
					      .fds = &machine->memfd,
					      .fd_offsets = &machine->fd_offset,
					      .count = 1};
	return 0;
}

/* Devices touch memory while they are loaded: pages 1 and 2 in this machine. */
static int load(void *ctx, const void *state, size_t len_bytes, struct fl_error *err)
{
	struct machine *machine = ctx;

	if (len_bytes != sizeof(machine->state)) {
		*err = (struct fl_error){-EINVAL, "not a state of this test"};
		return -EINVAL;
	}
	memcpy(&machine->state, state, len_bytes);
	if (!is_right(machine, 1) || !is_right(machine, 2)) {
		*err = (struct fl_error){-EIO, "memory is wrong while the state is loaded"};
		return -EIO;
	}
	return 0;
}

static int run(void *ctx)
{
	machine_run(ctx);
	return 0;
}

/* Another way than the link: what the other side exports, straight into the second mapping. */
static int way(void *ctx, enum fl_migrate_way kind, const void *blob, size_t len_bytes,
	       struct fl_source **source, struct fl_error *err)
{
	struct machine *machine = ctx;
	struct fl_fabric_memory memory = {.addr = machine->alias, .len_bytes = LEN};

	assert_int_equal(kind, FL_MIGRATE_BY_FABRIC);
	return fl_source_fabric_open(source, blob, len_bytes, &memory, 1, NULL, err);
}

/* --- a move --- */

struct move {
	struct machine *from, *to;
	struct fl_outgoing_options options;
	struct fl_outgoing *out;
	struct fl_incoming *in;
	int listen_fd;
	char address[128];
};

static void open_uffd(struct machine *machine)
{
	struct fl_error err;

	SKIP_UNLESS(fl_probe_one("uffd.minor-shmem") == 0, "uffd-minor", "no minor faults");
	machine->uffd = fl_uffd_open(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
					     UFFD_FEATURE_EVENT_REMOVE,
				     FL_UFFD_USER_MODE_ONLY, NULL, &err);
	SKIP_UNLESS(machine->uffd >= 0, "uffd", "%s", err.text);
}

static void move_begin(struct move *move, struct machine *from, struct machine *to,
		       enum fl_migrate_mode mode)
{
	struct fl_incoming_calls calls = {.size = sizeof(calls),
					  .prepare = prepare,
					  .load = load,
					  .run = run,
					  .ended = ended,
					  .way = way};
	struct fl_incoming_options options;
	struct fl_error err;

	fl_incoming_options_init(&options);
	options.ways = FL_MIGRATE_BY_FABRIC;
	options.timeout_ms = PATIENCE * 1000;
	*move = (struct move){.from = from, .to = to};
	machine_new(to);
	open_uffd(to);
	to->steps = from->steps;
	to->pause_us = from->pause_us;
	move->listen_fd = fl_link_listen("127.0.0.1:0", &err);
	assert_true(move->listen_fd >= 0);
	assert_int_equal(fl_link_address(move->listen_fd, move->address, sizeof(move->address)), 0);
	assert_int_equal(fl_incoming_new(&move->in, move->listen_fd, &calls, to, &options, &err),
			 0);
	fl_outgoing_options_init(&move->options);
	move->options.mode = mode;
	move->options.timeout_ms = PATIENCE * 1000; /* where it is slow, nobody is lost */
	move->options.config = CONFIG;
	move->options.config_len = sizeof(CONFIG);
}

static void move_start(struct move *move, const char *address)
{
	struct fl_outgoing_calls calls = {.size = sizeof(calls),
					  .track = track,
					  .collect = collect,
					  .stop = stop,
					  .save = save,
					  .go_on = go_on,
					  .ended = ended,
					  .holes = holes};
	struct fl_error err;

	assert_int_equal(fl_outgoing_new(&move->out, move->from->layout, &calls, move->from,
					 &move->options, &err),
			 0);
	assert_int_equal(fl_outgoing_start(move->out, address), 0);
}

static struct fl_outgoing_stats out_stats(struct move *move)
{
	struct fl_outgoing_stats stats = {.size = sizeof(stats)};

	fl_outgoing_stats(move->out, &stats);
	return stats;
}

static void assert_arrived(struct move *move, unsigned int ends)
{
	struct fl_error err;

	if (wait_ended(move->from, ends) != FL_MIGRATE_DONE) {
		fl_outgoing_error(move->out, &err);
		fail_msg("%s", err.text);
	}
	assert_int_equal(wait_ended(move->to, ends), FL_MIGRATE_DONE);
	assert_int_equal(move->from->stops, 1);
	assert_int_equal(move->from->go_ons, 0);
	assert_false(move->from->running);
	assert_true(out_stats(move).downtime_ns > 0);
	/* All memory is there, and it is the machine's own: it runs on. */
	await_steps(move->to, 2000);
	if (atomic_load(&move->to->wrong))
		fail_msg("page %llu was wrong",
			 (unsigned long long)atomic_load(&move->to->wrong) - 1);
}

static void move_end(struct move *move)
{
	fl_outgoing_free(move->out);
	fl_incoming_free(move->in);
	assert_int_equal(close(move->listen_fd), 0);
}

/* A machine that has run for a while, with memory that it wrote, and some that it did not. */
static void start_machine(struct machine *machine, unsigned int pause_us)
{
	machine_new(machine);
	machine_map(machine);
	machine->pause_us = pause_us;
	for (uint64_t page = 0; page < PAGES; page++)
		if (page - HOLES_AT >= HOLES)
			write_page(machine, page, 1);
	machine_run(machine);
	await_steps(machine, 100);
}

static void moves(enum fl_migrate_mode mode, unsigned int pause_us, uint32_t downtime_ms,
		  uint32_t flags, struct fl_outgoing_stats *stats)
{
	struct machine from, to;
	struct move move;

	start_machine(&from, pause_us);
	move_begin(&move, &from, &to, mode);
	move.options.max_downtime_ms = downtime_ms;
	move.options.flags = flags;
	move_start(&move, move.address);
	assert_arrived(&move, 1);
	*stats = out_stats(&move);
	assert_int_equal(stats->phase, FL_MIGRATE_DONE);
	move_end(&move);
	machine_stop(&to);
	assert_right(&to);
	machine_free(&to);
	machine_free(&from);
}

static void a_machine_moves_at_once_and_its_memory_follows(void **state)
{
	struct fl_outgoing_stats stats;

	(void)state;
	moves(FL_MIGRATE_POSTCOPY, 0, 0, 0, &stats);
	/* The one round that there is brings zeros alone. */
	assert_int_equal(stats.round, 0);
	assert_int_equal(stats.round_left, 0);
	assert_int_equal(stats.dirty_rate, 0);
	/* How long demands took is told by the side that waited. */
	assert_true(stats.waits.count > 0 && stats.waits.p50_ns > 0);
	assert_true(stats.waits.p50_ns <= stats.waits.p99_ns);
	assert_true(stats.waits.p99_ns <= stats.waits.max_ns);
	assert_true(stats.due > PAGES - HOLES - 1);
	assert_true(stats.demand > 0);
	assert_true(stats.zero > 0);
	/* Each page travels once. */
	assert_true(stats.demand + stats.background <= stats.due);
}

static void a_machine_that_writes_fast_moves_by_both_ways(void **state)
{
	struct fl_outgoing_stats stats;

	(void)state;
	moves(FL_MIGRATE_HYBRID, 0, 0, 0, &stats);
	assert_true(stats.precopy >= PAGES);
	assert_true(stats.due > 0 && stats.due < PAGES);
}

static void a_machine_that_writes_slowly_moves_with_its_memory(void **state)
{
	struct fl_outgoing_stats stats;

	(void)state;
	moves(FL_MIGRATE_PRECOPY, 500, 10000, 0, &stats);
	assert_true(stats.precopy >= PAGES);
	assert_int_equal(stats.due, 0);
	assert_int_equal(stats.demand + stats.background, 0);
}

static void contents_may_be_compressed(void **state)
{
	struct fl_outgoing_stats stats;

	(void)state;
	moves(FL_MIGRATE_HYBRID, 0, 0, FL_MIGRATE_LZ4, &stats);
	moves(FL_MIGRATE_POSTCOPY, 0, 0, FL_MIGRATE_ZSTD, &stats);
}

static bool exports(struct fl_fabric **fabric, struct machine *machine)
{
	struct fl_fabric_memory memory = {.addr = machine->memory, .len_bytes = LEN};
	struct fl_fabric_options options;
	struct fl_error err;
	int ret;

	fl_fabric_options_init(&options);
	options.address = "127.0.0.1";
	ret = fl_fabric_export(fabric, &memory, 1, &options, &err);
	if (ret && ret != -EOPNOTSUPP)
		fail_msg("%s", err.text);
	return !ret;
}

static void moves_by_fabric(enum fl_migrate_mode mode, unsigned int pause_us)
{
	struct fl_incoming_stats stats = {.size = sizeof(stats)};
	struct fl_fabric *fabric = NULL;
	struct machine from, to;
	struct move move;

	start_machine(&from, pause_us);
	SKIP_UNLESS(exports(&fabric, &from), "other", "libfabric has no tcp provider");
	move_begin(&move, &from, &to, mode);
	move.options.max_downtime_ms = 10000;
	move.options.way_kind = FL_MIGRATE_BY_FABRIC;
	move.options.way = fl_fabric_blob(fabric, &move.options.way_len);
	move_start(&move, move.address);
	assert_arrived(&move, 1);
	fl_incoming_stats(move.in, &stats);
	assert_int_equal(stats.way, FL_MIGRATE_BY_FABRIC);
	assert_true(stats.by_way > (mode == FL_MIGRATE_POSTCOPY ? PAGES / 8 : PAGES / 2));
	assert_true(out_stats(&move).bytes < LEN);
	move_end(&move);
	fl_fabric_unexport(fabric);
	machine_stop(&to);
	assert_right(&to);
	machine_free(&to);
	machine_free(&from);
}

static void memory_may_be_read_over_libfabric(void **state)
{
	(void)state;
	moves_by_fabric(FL_MIGRATE_POSTCOPY, 0);
	moves_by_fabric(FL_MIGRATE_HYBRID, 0);
	moves_by_fabric(FL_MIGRATE_PRECOPY, 500);
}

/* From one to the next, each time from where it has just arrived. */
static void a_machine_moves_on_and_on(void **state)
{
	static const enum fl_migrate_mode modes[] = {FL_MIGRATE_POSTCOPY, FL_MIGRATE_HYBRID,
						     FL_MIGRATE_POSTCOPY, FL_MIGRATE_PRECOPY,
						     FL_MIGRATE_HYBRID,   FL_MIGRATE_POSTCOPY};
	struct machine machines[7];

	(void)state;
	start_machine(&machines[0], 0);
	for (int i = 0; i < 6; i++) {
		struct move move;

		move_begin(&move, &machines[i], &machines[i + 1], modes[i]);
		move.options.max_downtime_ms = modes[i] == FL_MIGRATE_PRECOPY ? 60000 : 0;
		/* The ends of an arrival are not those of a departure. */
		machines[i].ends = 0;
		move_start(&move, move.address);
		assert_arrived(&move, 1);
		move_end(&move);
		machine_free(&machines[i]);
	}
	machine_stop(&machines[6]);
	assert_right(&machines[6]);
	machine_free(&machines[6]);
}

static void a_machine_that_is_called_back_is_unharmed(void **state)
{
	struct machine from, to;
	struct move move;

	(void)state;
	start_machine(&from, 0);
	move_begin(&move, &from, &to, FL_MIGRATE_HYBRID);
	move.options.bandwidth = 1u << 20; /* so that it is not over before it is called back */
	move_start(&move, move.address);
	while (out_stats(&move).phase == FL_MIGRATE_MEETING)
		(void)poll(NULL, 0, 1);
	assert_int_equal(fl_outgoing_cancel(move.out), 0);
	assert_int_equal(wait_ended(&from, 1), FL_MIGRATE_CANCELED);
	assert_int_equal(wait_ended(&to, 1), FL_MIGRATE_FAILED);
	assert_int_equal(from.stops, from.go_ons);
	await_steps(&from, 2000);
	machine_stop(&from);
	assert_right(&from);
	assert_false(to.running);
	move_end(&move);
	machine_free(&to);
	machine_free(&from);
}

/* --- a connection that is lost --- */

/* By the outgoing side that connects, or by the incoming one, to where the outgoing side listens. */
static void recovers(bool outgoing, uint64_t pages)
{
	struct machine from, to;
	struct proxy proxy;
	struct move move;
	char address[128];
	struct fl_error err;
	int listen_fd = fl_link_listen("127.0.0.1:0", &err);

	assert_int_equal(fl_link_address(listen_fd, address, sizeof(address)), 0);
	start_machine(&from, 0);
	move_begin(&move, &from, &to, FL_MIGRATE_POSTCOPY);
	move.options.bandwidth = 4u << 20; /* so that it is not over before it is cut */
	proxy_start(&proxy, move.address);
	move_start(&move, proxy.address);
	while (out_stats(&move).phase != FL_MIGRATE_FOLLOWING ||
	       out_stats(&move).demand + out_stats(&move).background < pages)
		(void)poll(NULL, 0, 1);
	proxy_cut(&proxy);
	assert_int_equal(wait_ended(&from, 1), FL_MIGRATE_LOST);
	assert_int_equal(wait_ended(&to, 1), FL_MIGRATE_LOST);
	assert_int_equal(fl_outgoing_cancel(move.out), -EINPROGRESS);
	if (outgoing) {
		assert_int_equal(fl_outgoing_recover(move.out, move.address, -1), 0);
	} else {
		assert_int_equal(fl_outgoing_recover(move.out, NULL, listen_fd), 0);
		assert_int_equal(fl_incoming_recover(move.in, address), 0);
	}
	assert_arrived(&move, 2);
	assert_int_equal(out_stats(&move).recoveries, 1);
	move_end(&move);
	machine_stop(&to);
	assert_right(&to);
	machine_free(&to);
	machine_free(&from);
	assert_int_equal(close(listen_fd), 0);
}

static void a_lost_connection_is_found_by_the_outgoing_side(void **state)
{
	(void)state;
	recovers(true, 1);
	recovers(true, 1000);
}

static void a_lost_connection_is_found_by_the_incoming_side(void **state)
{
	(void)state;
	recovers(false, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_moves_at_once_and_its_memory_follows),
		cmocka_unit_test(a_machine_that_writes_fast_moves_by_both_ways),
		cmocka_unit_test(a_machine_that_writes_slowly_moves_with_its_memory),
		cmocka_unit_test(contents_may_be_compressed),
		cmocka_unit_test(memory_may_be_read_over_libfabric),
		cmocka_unit_test(a_machine_moves_on_and_on),
		cmocka_unit_test(a_machine_that_is_called_back_is_unharmed),
		cmocka_unit_test(a_lost_connection_is_found_by_the_outgoing_side),
		cmocka_unit_test(a_lost_connection_is_found_by_the_incoming_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
