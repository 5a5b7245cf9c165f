/* SPDX-License-Identifier: MIT */
#include "incoming_rig_test.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "migrate/common.h"
#include "util/clock.h"
#include "util/compat.h"
#include "util/error.h"

#define HUGE (2u << 20)

/* --- the machine that arrives --- */

static void map_memory(struct rig *rig)
{
	rig->memfd = memfd_create("guest", MFD_CLOEXEC | (rig->options.hugetlb ? MFD_HUGETLB : 0));
	assert_true(rig->memfd >= 0);
	assert_int_equal(ftruncate(rig->memfd, (off_t)rig->len), 0);
	rig->mem = mmap(NULL, rig->len, PROT_READ | PROT_WRITE, MAP_SHARED, rig->memfd, 0);
	rig->alias = mmap(NULL, rig->len, PROT_READ | PROT_WRITE, MAP_SHARED, rig->memfd, 0);
	assert_ptr_not_equal(rig->mem, MAP_FAILED);
	assert_ptr_not_equal(rig->alias, MAP_FAILED);
}

static int make_layout(struct rig *rig, const struct fl_region *regions, size_t count)
{
	struct fl_region mine[FL_REGIONS_MAX];
	struct fl_error err;
	uint64_t at = 0;

	for (size_t i = 0; i < count; i++) {
		mine[i] = regions[i];
		mine[i].addr = (uint64_t)(uintptr_t)rig->mem + at;
		mine[i].backing = rig->options.hugetlb ? FL_BACKING_HUGETLB : FL_BACKING_MEMFD;
		if (rig->options.spoil == SPOIL_LAYOUT && i == 1)
			mine[i].gpa += HUGE;
		rig->aliases[i] =
			(struct fl_alias){mine[i].addr, rig->alias + at, mine[i].len_bytes};
		rig->fds[i] = rig->memfd;
		rig->fd_offsets[i] = at;
		at += mine[i].len_bytes;
	}
	if (rig->options.spoil == SPOIL_ALIAS)
		rig->aliases[1].len_bytes /= 2;
	if (rig->options.spoil == SPOIL_FILE)
		rig->fd_offsets[1] += rig->page_size;
	return fl_layout_new(&rig->layout, mine, count, &err);
}

static int prepare(void *ctx, const struct fl_region *regions, size_t count, const void *config,
		   size_t config_len, struct fl_incoming_memory *memory, struct fl_error *err)
{
	struct rig *rig = ctx;

	assert_int_equal(count, 2);
	memcpy(rig->config, config, config_len < sizeof(rig->config) ? config_len : 0);
	if (rig->options.prepare_result < 0)
		return fl_error_set(err, rig->options.prepare_result, "no room for this machine");
	map_memory(rig);
	assert_int_equal(make_layout(rig, regions, count), 0);
	*memory = (struct fl_incoming_memory){
		.layout = rig->layout,
		.uffd = rig->uffd,
		.aliases = rig->aliases,
		.fds = rig->fds,
		.fd_offsets = rig->fd_offsets,
		.count = rig->options.spoil == SPOIL_COUNT ? 1 : count,
	};
	return 0;
}

static int load(void *ctx, const void *state, size_t len_bytes, struct fl_error *err)
{
	struct rig *rig = ctx;

	rig->loading = true;
	if (len_bytes < sizeof(rig->state))
		memcpy(rig->state, state, len_bytes);
	if (rig->options.load_touches >= 0)
		(void)*(volatile char *)rig_at(rig, (size_t)rig->options.load_touches);
	rig->loaded = true;
	if (rig->options.load_result < 0)
		return fl_error_set(err, rig->options.load_result, "this state is of another age");
	return 0;
}

static __thread sigjmp_buf on_bus;

static void bus(int signal)
{
	(void)signal;
	siglongjmp(on_bus, 1);
}

static bool is_poisoned(const char *at)
{
	struct sigaction action = {.sa_handler = bus}, before;
	volatile bool poisoned = false;

	assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
	if (sigsetjmp(on_bus, 1) == 0)
		(void)*(const volatile char *)at;
	else
		poisoned = true;
	assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
	return poisoned;
}

static int run(void *ctx)
{
	struct rig *rig = ctx;

	if (rig->options.run_touches)
		rig->poisoned = is_poisoned(rig_at(rig, rig->options.run_touches));
	rig->ran = true;
	return rig->options.run_result;
}

static void ended(void *ctx, enum fl_migrate_phase phase)
{
	struct rig *rig = ctx;

	assert_true(rig->ends < RIG_ENDS);
	rig->end[rig->ends] = phase;
	rig->ends++;
}

static void open_uffd(struct rig *rig)
{
	uint64_t features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_MINOR_SHMEM |
			    UFFD_FEATURE_MISSING_SHMEM;
	struct fl_error err = {0};

	rig->uffd = -1;
	if (rig->options.segv)
		return;
	SKIP_UNLESS(fl_probe_one("uffd.minor-shmem") == 0, "uffd-minor", "no minor faults");
	if (rig->options.hugetlb)
		features |= UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_MISSING_HUGETLBFS;
	rig->uffd = fl_uffd_open(features, 0, NULL, &err);
	SKIP_UNLESS(rig->uffd >= 0, "uffd", "%s", err.text);
}

static void start_incoming(struct rig *rig)
{
	struct fl_incoming_calls calls = {.size = sizeof(calls),
					  .prepare = prepare,
					  .load = load,
					  .run = run,
					  .ended = ended,
					  .way = rig->options.way};
	struct fl_incoming_options options;
	struct fl_error err = {0};

	fl_incoming_options_init(&options);
	options.ways = rig->options.ways;
	if (rig->options.timeout_ms)
		options.timeout_ms = rig->options.timeout_ms;
	if (rig->options.window_bytes)
		options.window_bytes = rig->options.window_bytes;
	rig->listen_fd = fl_link_listen("127.0.0.1:0", &err);
	assert_true(rig->listen_fd >= 0);
	assert_int_equal(fl_link_address(rig->listen_fd, rig->address, sizeof(rig->address)), 0);
	assert_int_equal(fl_incoming_new(&rig->in, rig->listen_fd, &calls, rig, &options, &err), 0);
}

void rig_start(struct rig *rig, const struct rig_options *options)
{
	memset(rig, 0, sizeof(*rig));
	rig->options = *options;
	rig->pages = options->pages ? options->pages : 64;
	rig->page_size = options->hugetlb ? HUGE : 4096;
	rig->len = rig->pages * rig->page_size;
	rig->memfd = -1;
	if (options->hugetlb)
		SKIP_UNLESS(test_lock_hugepages() >= rig->pages, "hugetlb",
			    "too few free 2 MiB pages");
	open_uffd(rig);
	rig->truth =
		mmap(NULL, rig->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	rig->seed = calloc(rig->pages, sizeof(*rig->seed));
	assert_int_equal(fl_pageset_new(&rig->owed, rig->pages), 0);
	assert_int_equal(fl_pageset_add(rig->owed, 0, rig->pages), 0);
	for (size_t page = 0; page < rig->pages; page++)
		rig_write(rig, page, 1);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fl_pageset_new(&rig->peer[i].received, rig->pages), 0);
		assert_int_equal(fl_pageset_new(&rig->peer[i].torn, rig->pages), 0);
		assert_int_equal(fl_pageset_new(&rig->peer[i].paid, rig->pages), 0);
	}
	rig->now = &rig->peer[0];
	start_incoming(rig);
}

void rig_stop(struct rig *rig)
{
	rig_cut(rig);
	fl_incoming_free(rig->in);
	(void)close(rig->listen_fd);
	fl_layout_free(rig->layout);
	if (rig->uffd >= 0)
		(void)close(rig->uffd);
	if (rig->memfd >= 0) {
		(void)close(rig->memfd);
		(void)munmap(rig->mem, rig->len);
		(void)munmap(rig->alias, rig->len);
	}
	(void)munmap(rig->truth, rig->len);
	free(rig->seed);
	fl_pageset_free(rig->owed);
	for (size_t i = 0; i < 2; i++) {
		fl_pageset_free(rig->peer[i].received);
		fl_pageset_free(rig->peer[i].torn);
		fl_pageset_free(rig->peer[i].paid);
	}
}

/* --- the other side --- */

static void note_bits(struct fl_pageset *set, const struct fl_frame *frame, const void *payload)
{
	for (uint64_t bit = 0; bit < frame->len * 8ul; bit++)
		if (((const uint8_t *)payload)[bit / 8] >> bit % 8 & 1)
			assert_int_equal(fl_pageset_add(set, frame->offset + bit, 1), 0);
}

static int on_frame(void *ctx, const struct fl_frame *frame, const void *payload, bool demand)
{
	struct rig *rig = ctx;
	struct rig_peer *peer = rig->now;

	if (frame->type == FL_FRAME_PING) {
		rig_say(rig, 0, FL_FRAME_PONG, 0, 0, frame->id);
	} else if (frame->type == FL_FRAME_REQUEST) {
		assert_true(peer->requests < RIG_REQUESTS);
		peer->request[peer->requests++] =
			(struct rig_request){demand, frame->offset, frame->bytes};
	} else if (frame->type == FL_FRAME_RECEIVED) {
		note_bits(peer->received, frame, payload);
	} else if (frame->type == FL_FRAME_TORN) {
		assert_int_equal(peer->came[FL_FRAME_ROUND_ACK], peer->rounds - 1);
		note_bits(peer->torn, frame, payload);
	}
	peer->last[frame->type] = *frame;
	peer->came[frame->type]++;
	return 0;
}

static int main_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	return on_frame(ctx, frame, payload, false);
}

static int demand_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	return on_frame(ctx, frame, payload, true);
}

static const struct fl_conn_ops peer_ops[2] = {{.frame = main_frame}, {.frame = demand_frame}};

void rig_write(struct rig *rig, size_t page, uint64_t seed)
{
	char *at = rig->truth + page * rig->page_size;

	rig->seed[page] = seed;
	if (seed)
		test_pattern(at, rig->page_size, page * rig->page_size, seed);
	else
		memset(at, 0, rig->page_size);
}

static void take_pair(struct rig *rig, struct fl_pair *pair)
{
	struct rig_peer *peer = rig->now;

	memcpy(rig->session, pair->session, sizeof(rig->session));
	assert_int_equal(fl_conn_new(&peer->conn[0], pair->main, &peer_ops[0], rig), 0);
	assert_int_equal(fl_conn_new(&peer->conn[1], pair->demand, &peer_ops[1], rig), 0);
}

void rig_meet(struct rig *rig)
{
	struct fl_meet how = {.connect = rig->address,
			      .listen_fd = -1,
			      .role = FL_ROLE_OUTGOING,
			      .features = fl_migrate_way_features(rig->options.ways),
			      .timeout_ms = 30000,
			      .cancel_fd = -1};
	struct fl_log log = {0};
	struct fl_error err = {0};
	struct fl_pair pair;

	assert_int_equal(fl_meet(&how, &pair, &log, &err), 0);
	take_pair(rig, &pair);
}

void rig_meet_again(struct rig *rig, bool listens)
{
	struct fl_meet how = {.listen_fd = -1,
			      .role = FL_ROLE_OUTGOING,
			      .recover = true,
			      .timeout_ms = 30000,
			      .cancel_fd = -1};
	struct fl_log log = {0};
	struct fl_error err = {0};
	char address[128];
	struct fl_pair pair;

	memcpy(how.session, rig->session, sizeof(how.session));
	if (listens) {
		how.listen_fd = fl_link_listen("127.0.0.1:0", &err);
		assert_int_equal(fl_link_address(how.listen_fd, address, sizeof(address)), 0);
		rig_wait(rig_phase(rig) == FL_MIGRATE_LOST);
		assert_int_equal(fl_incoming_recover(rig->in, address), 0);
	} else {
		how.connect = rig->address;
	}
	rig->now = rig->now == &rig->peer[0] ? &rig->peer[1] : &rig->peer[0];
	for (int i = 0; i < 2; i++)
		fl_conn_free(rig->now->conn[i]);
	(void)fl_pageset_del(rig->now->received, 0, rig->pages);
	(void)fl_pageset_del(rig->now->paid, 0, rig->pages);
	*rig->now = (struct rig_peer){
		.received = rig->now->received, .torn = rig->now->torn, .paid = rig->now->paid};
	assert_int_equal(fl_meet(&how, &pair, &log, &err), 0);
	take_pair(rig, &pair);
	if (listens)
		(void)close(how.listen_fd);
}

void rig_cut(struct rig *rig)
{
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++) {
			fl_conn_free(rig->peer[i].conn[k]);
			rig->peer[i].conn[k] = NULL;
		}
}

uint64_t rig_deadline(void)
{
	return fl_clock_ns() + 60 * FL_NS_PER_S;
}

void rig_pause(uint64_t end_ns)
{
	assert_true(fl_clock_ns() < end_ns);
	(void)sched_yield();
}

static void flush(struct rig *rig)
{
	uint64_t end_ns = rig_deadline();

	for (int i = 0; i < 2; i++)
		while (rig->now->conn[i] && fl_conn_flush(rig->now->conn[i], UINT64_MAX) == 0)
			rig_pause(end_ns);
}

static void hear_once(struct rig *rig)
{
	struct rig_peer *peer = rig->now;

	for (int i = 0; i < 2; i++) {
		if (!peer->conn[i] || peer->result[i] < 0)
			continue;
		peer->result[i] = fl_conn_recv(peer->conn[i], UINT64_MAX);
		if (peer->result[i] < 0 && !peer->error.code) {
			peer->error = *fl_conn_error(peer->conn[i]);
			peer->error.code = peer->result[i];
		}
	}
	flush(rig);
}

void rig_hear(struct rig *rig, uint64_t end_ns)
{
	struct pollfd polls[2] = {{.fd = -1}, {.fd = -1}};

	assert_true(fl_clock_ns() < end_ns);
	for (int i = 0; i < 2; i++)
		if (rig->now->conn[i] && rig->now->result[i] >= 0)
			polls[i] = (struct pollfd){.fd = fl_conn_fd(rig->now->conn[i]),
						   .events = POLLIN};
	(void)poll(polls, 2, 1);
	hear_once(rig);
}

void rig_say_with(struct rig *rig, int conn, const struct fl_frame *frame, const void *payload,
		  uint32_t len)
{
	assert_int_equal(fl_conn_send(rig->now->conn[conn], frame, payload, len), 0);
	flush(rig);
}

void rig_say(struct rig *rig, int conn, uint8_t type, uint64_t offset, uint32_t bytes, uint32_t id)
{
	struct fl_frame frame = {.type = type, .offset = offset, .bytes = bytes, .id = id};

	rig_say_with(rig, conn, &frame, NULL, 0);
}

void rig_machine(struct rig *rig)
{
	static const char config[] = "two cpus";
	struct fl_region regions[2];
	uint8_t bytes[2 * FL_WIRE_REGION_BYTES + sizeof(config)];
	struct fl_frame frame = {.type = FL_FRAME_MACHINE, .bytes = sizeof(bytes), .id = 2};

	for (size_t i = 0; i < 2; i++)
		regions[i] = (struct fl_region){.gpa = i << 32,
						.offset = i * rig->len / 2,
						.addr = FL_NOWHERE,
						.len_bytes = rig->len / 2,
						.page_size = rig->page_size};
	fl_regions_encode(bytes, regions, 2);
	memcpy(bytes + sizeof(bytes) - sizeof(config), config, sizeof(config));
	rig_say_with(rig, 0, &frame, bytes, 10);
	frame.offset = 10;
	rig_say_with(rig, 0, &frame, bytes + 10, sizeof(bytes) - 10);
}

void rig_pages(struct rig *rig, int conn, size_t page, size_t count, bool torn)
{
	size_t most = rig->options.hugetlb ? 1 : FL_WIRE_PAGES_BYTES / rig->page_size;

	for (size_t end = page + count, part; page < end; page += part) {
		char *at = rig->truth + page * rig->page_size;

		part = end - page < most ? end - page : most;
		if (page < rig->pages / 2 && page + part > rig->pages / 2)
			part = rig->pages / 2 - page;
		if (!fl_conn_can_send_pages(rig->now->conn[conn]))
			flush(rig);
		assert_int_equal(fl_conn_send_pages(rig->now->conn[conn], page * rig->page_size, at,
						    (uint32_t)(part * rig->page_size)),
				 0);
		if (torn)
			at[rig->page_size - 1] ^= 0x55;
		flush(rig);
		if (torn)
			at[rig->page_size - 1] ^= 0x55;
	}
}

void rig_zero(struct rig *rig, int conn, size_t page, size_t count)
{
	rig_say(rig, conn, FL_FRAME_ZERO, page * rig->page_size, (uint32_t)(count * rig->page_size),
		0);
}

void rig_round(struct rig *rig, uint32_t id)
{
	(void)fl_pageset_del(rig->now->torn, 0, rig->pages);
	rig->now->rounds = id;
	rig_say(rig, 0, FL_FRAME_ROUND, 0, 0, id);
	rig_await(rig, FL_FRAME_ROUND_ACK, id);
	assert_int_equal(rig->now->last[FL_FRAME_ROUND_ACK].id, id);
}

void rig_state(struct rig *rig)
{
	static const char state[] = "registers";
	struct fl_frame frame = {.type = FL_FRAME_STATE, .bytes = sizeof(state)};

	rig_say_with(rig, 0, &frame, state, sizeof(state));
}

/* What is owed at this moment. */
void rig_due(struct rig *rig)
{
	uint8_t bits[512] = {0};
	struct fl_frame frame = {.type = FL_FRAME_DUE};

	assert_true(rig->pages <= sizeof(bits) * 8);
	for (size_t page = 0; page < rig->pages; page++)
		if (fl_pageset_has(rig->owed, page))
			bits[page / 8] |= (uint8_t)(1u << page % 8);
	rig_say_with(rig, 0, &frame, bits, (uint32_t)(rig->pages + 7) / 8);
	rig_say(rig, 0, FL_FRAME_DUE_END, fl_pageset_count(rig->owed), 0, 0);
}

void rig_to_rounds(struct rig *rig)
{
	rig_meet(rig);
	rig_machine(rig);
	rig_await(rig, FL_FRAME_PREPARED, 1);
}

void rig_to_ready(struct rig *rig)
{
	rig_to_rounds(rig);
	rig_pages(rig, 0, 0, rig->pages, false);
	(void)fl_pageset_del(rig->owed, 0, rig->pages);
	rig_round(rig, 1);
	rig_state(rig);
	rig_serve_until(rig, FL_FRAME_READY);
}

void rig_to_go(struct rig *rig)
{
	rig_to_ready(rig);
	rig_say(rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(rig, FL_FRAME_RUNNING, 1);
	assert_true(rig->ran);
}

void rig_await(struct rig *rig, uint8_t type, unsigned int count)
{
	uint64_t end_ns = rig_deadline();

	while (rig->now->came[type] < count) {
		if (rig->now->result[0] < 0)
			fail_msg("%s did not come: %s", fl_frame_name(type), rig->now->error.text);
		rig_hear(rig, end_ns);
	}
}

/* What is owed is paid once. */
void rig_answer(struct rig *rig, const struct rig_request *request)
{
	size_t page = request->offset / rig->page_size;
	size_t end = page + request->bytes / rig->page_size;

	for (; page < end; page++) {
		if (fl_pageset_has(rig->now->paid, page))
			continue; /* it was asked for on both connections */
		(void)fl_pageset_add(rig->now->paid, page, 1);
		if (!rig->no_clean && !fl_pageset_has(rig->owed, page))
			rig_say(rig, request->demand, FL_FRAME_CLEAN, page * rig->page_size,
				(uint32_t)rig->page_size, 0);
		else if (rig->seed[page])
			rig_pages(rig, request->demand, page, 1, false);
		else
			rig_zero(rig, request->demand, page, 1);
		(void)fl_pageset_del(rig->owed, page, 1);
	}
}

void rig_serve(struct rig *rig, uint64_t end_ns)
{
	struct rig_peer *peer = rig->now;

	rig_hear(rig, end_ns);
	while (peer->answered < peer->requests)
		rig_answer(rig, &peer->request[peer->answered++]);
}

void rig_serve_until(struct rig *rig, uint8_t type)
{
	unsigned int before = 0;

	rig_serve_while(rig, rig->now->came[type] == before);
}

struct rig_request rig_request(struct rig *rig)
{
	struct rig_peer *peer = rig->now;
	uint64_t end_ns = rig_deadline();

	while (peer->answered == peer->requests)
		rig_hear(rig, end_ns);
	return peer->request[peer->answered++];
}

/* --- the machine --- */

struct fl_incoming_stats rig_stats(const struct rig *rig)
{
	struct fl_incoming_stats stats = {.size = sizeof(stats)};

	fl_incoming_stats(rig->in, &stats);
	return stats;
}

enum fl_migrate_phase rig_phase(const struct rig *rig)
{
	return rig_stats(rig).phase;
}

void rig_ended(struct rig *rig, enum fl_migrate_phase phase, int code, const char *text)
{
	struct fl_error err;

	rig_wait(rig->ends > rig->heard);
	fl_incoming_error(rig->in, &err);
	if (rig->end[rig->heard++] != phase)
		fail_msg("%s instead of %s: %s", fl_migrate_phase_name(rig->end[rig->heard - 1]),
			 fl_migrate_phase_name(phase), err.text);
	assert_int_equal(rig_phase(rig), phase);
	if (err.code != code || (text && !strstr(err.text, text)))
		fail_msg("%d \"%s\" instead of %d \"%s\"", err.code, err.text, code,
			 text ? text : "");
}

char *rig_at(const struct rig *rig, size_t page)
{
	return rig->mem + page * rig->page_size;
}

static void check_bytes(const struct rig *rig, size_t page, const char *bytes)
{
	if (rig->seed[page])
		assert_filled(bytes, rig->page_size, page * rig->page_size, rig->seed[page]);
	else
		assert_int_equal(test_nonzero(bytes, rig->page_size), -1);
}

void rig_check(struct rig *rig, size_t page)
{
	check_bytes(rig, page, rig_at(rig, page));
}

void rig_check_all(struct rig *rig)
{
	for (size_t page = 0; page < rig->pages; page++)
		rig_check(rig, page);
}

void rig_finish(struct rig *rig)
{
	rig_due(rig);
	rig_serve_until(rig, FL_FRAME_COMPLETE);
	rig_say(rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(rig);
}

static void *touch(void *arg)
{
	struct rig_toucher *toucher = arg;

	memcpy(toucher->seen, rig_at(toucher->rig, toucher->page), toucher->rig->page_size);
	toucher->done = true;
	return NULL;
}

void rig_touch(struct rig_toucher *toucher, struct rig *rig, size_t page)
{
	toucher->rig = rig;
	toucher->page = page;
	toucher->done = false;
	toucher->seen = malloc(rig->page_size);
	assert_non_null(toucher->seen);
	assert_int_equal(pthread_create(&toucher->thread, NULL, touch, toucher), 0);
}

void rig_touched(struct rig_toucher *toucher)
{
	assert_int_equal(pthread_join(toucher->thread, NULL), 0);
	check_bytes(toucher->rig, toucher->page, toucher->seen);
	free(toucher->seen);
}
