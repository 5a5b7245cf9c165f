/* SPDX-License-Identifier: MIT */
#include "migrate/outgoing_rig_test.h"
#include "util/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PATIENCE_MS 60000

uint64_t rig_size(uint64_t page)
{
	return page < SMALL ? SMALL_SIZE : LARGE_SIZE;
}

uint64_t rig_offset(uint64_t page)
{
	return page < SMALL ? page * SMALL_SIZE : LARGE_AT + (page - SMALL) * LARGE_SIZE;
}

static uint8_t *page_of(const struct rig *rig, uint64_t page)
{
	return page < SMALL ? rig->memory[0] + page * SMALL_SIZE
			    : rig->memory[1] + (page - SMALL) * LARGE_SIZE;
}

const uint8_t *rig_page(const struct rig *rig, uint64_t page)
{
	return page_of(rig, page);
}

static uint64_t page_at(uint64_t offset)
{
	return offset < LARGE_AT ? offset / SMALL_SIZE : SMALL + (offset - LARGE_AT) / LARGE_SIZE;
}

/* --- the machine --- */

void rig_write(struct rig *rig, uint64_t page)
{
	rig->seed[page] = ++rig->seeds;
	test_pattern(page_of(rig, page), rig_size(page), rig_offset(page), rig->seed[page]);
	if (rig->tracking)
		assert_int_equal(fl_pageset_add(rig->dirty, page, 1), 0);
}

void rig_zero(struct rig *rig, uint64_t page, uint64_t count)
{
	for (; count--; page++) {
		rig->seed[page] = 0;
		memset(page_of(rig, page), 0, rig_size(page));
		if (rig->tracking)
			assert_int_equal(fl_pageset_add(rig->dirty, page, 1), 0);
	}
}

static int track(void *ctx, bool on)
{
	struct rig *rig = ctx;

	if (rig->fail_track)
		return rig->fail_track;
	rig->tracking = on;
	return 0;
}

/* Different pages each time, so that no round is like another. */
static void machine_works(struct rig *rig)
{
	for (unsigned int i = 0; i < rig->write_each; i++)
		rig_write(rig, (rig->collects * 7 + i) % ALL);
}

static int collect(void *ctx, struct fl_pageset *dirty)
{
	struct rig *rig = ctx;
	uint64_t page = 0, run;

	if (rig->at_collect)
		rig->at_collect(rig);
	if (rig->fail_collect)
		return rig->fail_collect;
	if (!rig->stopped)
		machine_works(rig);
	rig->collects++;
	while ((run = fl_pageset_run(rig->dirty, &page))) {
		(void)fl_pageset_add(dirty, page, run);
		(void)fl_pageset_del(rig->dirty, page, run);
		page += run;
	}
	return 0;
}

static int holes(void *ctx, struct fl_pageset *zeros)
{
	struct rig *rig = ctx;
	uint64_t page = 0, run;

	while (!rig->fail_holes && (run = fl_pageset_run(rig->known, &page))) {
		(void)fl_pageset_add(zeros, page, run);
		page += run;
	}
	return rig->fail_holes;
}

static void count(struct rig *rig, unsigned int *calls)
{
	pthread_mutex_lock(&rig->lock);
	(*calls)++;
	pthread_cond_broadcast(&rig->changed);
	pthread_mutex_unlock(&rig->lock);
}

static int stop(void *ctx)
{
	struct rig *rig = ctx;

	machine_works(rig);
	count(rig, &rig->stops);
	rig->stopped = !rig->fail_stop;
	return rig->fail_stop;
}

/* What a device writes when it is saved has to be told of, too. */
static int save(void *ctx, void **state, size_t *len_bytes)
{
	struct rig *rig = ctx;

	count(rig, &rig->saves);
	if (rig->fail_save)
		return rig->fail_save;
	rig_write(rig, 5);
	*len_bytes = rig->state ? rig->state_len : sizeof(STATE);
	*state = malloc(*len_bytes);
	memcpy(*state, rig->state ? rig->state : STATE, *len_bytes);
	return 0;
}

static void go_on(void *ctx)
{
	struct rig *rig = ctx;

	rig->stopped = false;
	count(rig, &rig->go_ons);
}

static void ended(void *ctx, enum fl_migrate_phase phase)
{
	struct rig *rig = ctx;

	pthread_mutex_lock(&rig->lock);
	rig->ended = phase;
	pthread_mutex_unlock(&rig->lock);
	count(rig, &rig->ends);
}

/* Whoever is told may ask. */
static void log_write(void *ctx, enum fl_log_level level, const char *text)
{
	struct rig *rig = ctx;
	struct fl_error err;

	(void)level;
	fl_outgoing_error(rig->out, &err);
	if (rig->at_log)
		rig->at_log(rig, text);
}

/* --- the rig --- */

static void *map_aligned(size_t len)
{
	uint8_t *at = mmap(NULL, len + LARGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	assert_ptr_not_equal(at, MAP_FAILED);
	before = (LARGE_SIZE - (uintptr_t)at % LARGE_SIZE) % LARGE_SIZE;
	if (before)
		assert_int_equal(munmap(at, before), 0);
	assert_int_equal(munmap(at + before + len, LARGE_SIZE - before), 0);
	return at + before;
}

static void make_layout(struct rig *rig)
{
	struct fl_region regions[2] = {
		{.gpa = 0, .len_bytes = SMALL * SMALL_SIZE, .page_size = SMALL_SIZE},
		{.gpa = 1u << 30,
		 .offset = LARGE_AT,
		 .len_bytes = LARGE * LARGE_SIZE,
		 .page_size = LARGE_SIZE}};

	for (int i = 0; i < 2; i++) {
		rig->memory[i] = map_aligned(regions[i].len_bytes);
		regions[i].addr = (uintptr_t)rig->memory[i];
	}
	assert_int_equal(fl_layout_new(&rig->layout, regions, 2, NULL), 0);
}

void rig_begin(struct rig *rig, enum fl_migrate_mode mode)
{
	*rig = (struct rig){.with_holes = true};
	pthread_mutex_init(&rig->lock, NULL);
	pthread_cond_init(&rig->changed, NULL);
	make_layout(rig);
	assert_int_equal(fl_pageset_new(&rig->dirty, ALL), 0);
	assert_int_equal(fl_pageset_new(&rig->known, ALL), 0);
	for (uint64_t page = 0; page < ALL; page++)
		rig_write(rig, page);
	fl_outgoing_options_init(&rig->options);
	rig->options.mode = mode;
	rig->options.config = CONFIG;
	rig->options.config_len = sizeof(CONFIG);
	rig->options.log = (struct fl_log){.write = log_write, .ctx = rig};
	rig->listen_fd = fl_link_listen("127.0.0.1:0", NULL);
	assert_true(rig->listen_fd >= 0);
	assert_int_equal(fl_link_address(rig->listen_fd, rig->address, sizeof(rig->address)), 0);
	rig->peer.rig = rig;
	rig->peer.image = malloc(IMAGE_LEN);
	memset(rig->peer.image, 0xee, IMAGE_LEN);
	assert_int_equal(fl_pageset_new(&rig->peer.due, ALL), 0);
}

void rig_start(struct rig *rig)
{
	struct fl_outgoing_calls calls = {.size = sizeof(calls),
					  .track = track,
					  .collect = collect,
					  .stop = stop,
					  .save = save,
					  .go_on = go_on,
					  .ended = ended};
	struct fl_error err;

	if (rig->with_holes)
		calls.holes = holes;
	assert_int_equal(fl_outgoing_new(&rig->out, rig->layout, &calls, rig, &rig->options, &err),
			 0);
	if (rig->give_way_ns)
		rig->out->give_way_ns = rig->give_way_ns;
	assert_int_equal(fl_outgoing_start(rig->out, rig->address), 0);
}

enum fl_migrate_phase rig_wait(struct rig *rig, unsigned int ends)
{
	enum fl_migrate_phase phase;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	pthread_mutex_lock(&rig->lock);
	while (rig->ends < ends)
		assert_int_equal(pthread_cond_timedwait(&rig->changed, &rig->lock, &until), 0);
	assert_int_equal(rig->ends, ends);
	phase = rig->ended;
	pthread_mutex_unlock(&rig->lock);
	return phase;
}

struct fl_outgoing_stats rig_stats(struct rig *rig)
{
	struct fl_outgoing_stats stats = {.size = sizeof(stats)};

	fl_outgoing_stats(rig->out, &stats);
	return stats;
}

void rig_assert_error(struct rig *rig, int code, const char *text)
{
	struct fl_error err;

	fl_outgoing_error(rig->out, &err);
	if (err.code != code || !strstr(err.text, text))
		fail_msg("%d \"%s\", expected %d \"%s\"", err.code, err.text, code, text);
}

void rig_end(struct rig *rig)
{
	fl_outgoing_free(rig->out);
	peer_cut(&rig->peer);
	free(rig->peer.image);
	fl_blob_free(&rig->peer.machine);
	fl_blob_free(&rig->peer.state);
	fl_pageset_free(rig->peer.due);
	fl_pageset_free(rig->dirty);
	fl_pageset_free(rig->known);
	fl_layout_free(rig->layout);
	assert_int_equal(munmap(rig->memory[0], SMALL * SMALL_SIZE), 0);
	assert_int_equal(munmap(rig->memory[1], LARGE * LARGE_SIZE), 0);
	assert_int_equal(close(rig->listen_fd), 0);
	pthread_cond_destroy(&rig->changed);
	pthread_mutex_destroy(&rig->lock);
}

/* --- the peer takes --- */

static void flush(struct fl_conn *conn)
{
	struct pollfd poll_fd = {.fd = fl_conn_fd(conn), .events = POLLOUT};

	while (!fl_conn_flush(conn, UINT64_MAX))
		assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
}

static void note_pages(struct peer *peer, uint64_t offset, uint64_t len, bool contents)
{
	while (len) {
		uint64_t page = page_at(offset), size = rig_size(page);

		assert_true(offset < IMAGE_LEN && offset % size == 0 && len >= size);
		peer->answered[page]++;
		peer->travelled[page] += contents;
		offset += size;
		len -= size;
	}
}

static void note_way(struct peer *peer, const struct fl_frame *frame, const void *payload)
{
	peer->way = *frame;
	assert_true(frame->len <= sizeof(peer->way_said));
	memcpy(peer->way_said, payload, frame->len);
}

/* By the way that was named: this process's own memory. */
static void read_range(struct peer *peer, const struct fl_frame *frame)
{
	uint64_t end = frame->offset + frame->bytes;

	for (uint64_t at = frame->offset; at < end; at += rig_size(page_at(at)))
		memcpy(peer->image + at, rig_page(peer->rig, page_at(at)), rig_size(page_at(at)));
	note_pages(peer, frame->offset, frame->bytes, true);
}

static void note(struct peer *peer, const struct fl_frame *frame, const void *payload)
{
	struct fl_frame pong = {.type = FL_FRAME_PONG, .id = frame->id};
	int ret = 0;

	peer->came[frame->type]++;
	if (frame->type == FL_FRAME_MACHINE)
		ret = fl_blob_add(&peer->machine, frame, payload, &peer->why);
	else if (frame->type == FL_FRAME_STATE)
		ret = fl_blob_add(&peer->state, frame, payload, &peer->why);
	else if (frame->type == FL_FRAME_DUE)
		ret = fl_bits_add(peer->due, ALL, frame, payload, &peer->why);
	else if (frame->type == FL_FRAME_DUE_END)
		peer->due_said = frame->offset;
	else if (frame->type == FL_FRAME_ROUND)
		peer->round = frame->id;
	else if (frame->type == FL_FRAME_ZERO)
		memset(peer->image + frame->offset, 0, frame->bytes);
	else if (frame->type == FL_FRAME_WAY)
		note_way(peer, frame, payload);
	else if (frame->type == FL_FRAME_RANGE)
		read_range(peer, frame);
	else if (frame->type == FL_FRAME_PING && !peer->mute)
		ret = fl_conn_send(peer->conn[0], &pong, NULL, 0);
	assert_true(ret >= 0);
	if (frame->type == FL_FRAME_ZERO || frame->type == FL_FRAME_CLEAN)
		note_pages(peer, frame->offset, frame->bytes, frame->type == FL_FRAME_ZERO);
	peer->zero_frames += frame->type == FL_FRAME_ZERO;
	peer->clean_frames += frame->type == FL_FRAME_CLEAN;
}

static int main_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	note(ctx, frame, payload);
	return 0;
}

static int demand_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct peer *peer = ctx;

	peer->on_demand++;
	note(peer, frame, payload);
	return 0;
}

static void *place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	struct peer *peer = ctx;

	(void)frame;
	assert_true(offset < IMAGE_LEN && *len_bytes <= IMAGE_LEN - offset);
	return peer->image + offset;
}

static int pages_came(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		      bool right)
{
	struct peer *peer = ctx;

	assert_true(right);
	if (offset + len_bytes < frame->offset + frame->bytes)
		return 0;
	assert_true(frame->bytes <= FL_WIRE_PAGES_BYTES || frame->bytes == LARGE_SIZE);
	peer->pages_frames++;
	peer->came[FL_FRAME_PAGES]++;
	note_pages(peer, frame->offset, frame->bytes, true);
	return 0;
}

static int pages_on_demand(void *ctx, const struct fl_frame *frame, uint64_t offset,
			   uint64_t len_bytes, bool right)
{
	((struct peer *)ctx)->on_demand += offset + len_bytes == frame->offset + frame->bytes;
	return pages_came(ctx, frame, offset, len_bytes, right);
}

static void pump_conn(struct peer *peer, struct fl_conn *conn, short revents)
{
	int ret = 1;

	if (!conn || (!revents && !fl_conn_pending(conn)))
		return;
	/* One step at a time, so that what is waited for is not run over by much. */
	ret = fl_conn_recv(conn, 1);
	if (ret < 0) {
		peer->rc = ret;
		peer->why = *fl_conn_error(conn);
	} else {
		flush(conn);
	}
}

static void pump(struct peer *peer)
{
	struct pollfd fds[2] = {{.fd = -1}, {.fd = -1}};
	bool pending = false;

	for (int i = 0; i < 2; i++) {
		if (!peer->conn[1 - i])
			continue;
		fds[i] = (struct pollfd){.fd = fl_conn_fd(peer->conn[1 - i]), .events = POLLIN};
		pending = pending || fl_conn_pending(peer->conn[1 - i]);
	}
	if (poll(fds, 2, pending ? 0 : PATIENCE_MS) == 0 && !pending)
		fail_msg("nothing came");
	pump_conn(peer, peer->conn[1], fds[0].revents);
	if (!peer->rc)
		pump_conn(peer, peer->conn[0], fds[1].revents);
}

/* Several may come at once: those that were not waited for yet are still to be had. */
bool peer_takes(struct peer *peer, uint8_t type)
{
	while (!peer->rc && peer->came[type] == peer->taken[type])
		pump(peer);
	if (peer->came[type] == peer->taken[type])
		return false;
	peer->taken[type]++;
	return true;
}

void peer_await(struct peer *peer, uint8_t type)
{
	if (!peer_takes(peer, type))
		fail_msg("%s instead of %s", peer->why.text, fl_frame_name(type));
}

void peer_await_pages(struct peer *peer, uint64_t page, uint64_t count)
{
	for (uint64_t end = page + count; page < end; page++)
		while (!peer->answered[page]) {
			if (peer->rc)
				fail_msg("%s", peer->why.text);
			pump(peer);
		}
}

/* --- the peer sends --- */

void peer_send(struct peer *peer, enum fl_channel channel, const struct fl_frame *frame,
	       const void *payload, uint32_t len)
{
	assert_int_equal(fl_conn_send(peer->conn[channel], frame, payload, len), 0);
	flush(peer->conn[channel]);
}

void peer_say(struct peer *peer, uint8_t type)
{
	struct fl_frame frame = {.type = type};

	peer_send(peer, FL_CHANNEL_MAIN, &frame, NULL, 0);
}

void peer_ask(struct peer *peer, enum fl_channel channel, uint64_t page, uint64_t count)
{
	struct fl_frame frame = {.type = FL_FRAME_REQUEST,
				 .offset = rig_offset(page),
				 .bytes = (uint32_t)(count * rig_size(page))};

	peer_send(peer, channel, &frame, NULL, 0);
}

/* --- the script --- */

static void take_pair(struct peer *peer, const struct fl_pair *pair)
{
	static const struct fl_conn_ops ops[2] = {
		{.frame = main_frame, .place = place, .pages = pages_came},
		{.frame = demand_frame, .place = place, .pages = pages_on_demand}};

	memcpy(peer->session, pair->session, sizeof(peer->session));
	assert_int_equal(fl_conn_new(&peer->conn[0], pair->main, &ops[0], peer), 0);
	assert_int_equal(fl_conn_new(&peer->conn[1], pair->demand, &ops[1], peer), 0);
	peer->rc = 0;
}

static void meet(struct rig *rig, const struct fl_meet *how)
{
	struct fl_pair pair;
	struct fl_log log = {0};
	struct fl_error err;

	if (fl_meet(how, &pair, &log, &err))
		fail_msg("%s", err.text);
	take_pair(&rig->peer, &pair);
}

void peer_meet(struct rig *rig)
{
	struct fl_meet how = {.listen_fd = rig->listen_fd,
			      .role = FL_ROLE_INCOMING,
			      .features = FL_FEATURE_LZ4 | FL_FEATURE_ZSTD |
					  fl_migrate_way_features(rig->peer.ways),
			      .timeout_ms = PATIENCE_MS,
			      .cancel_fd = -1};

	meet(rig, &how);
}

void peer_meet_again(struct rig *rig, const char *connect)
{
	struct fl_meet how = {.connect = connect,
			      .listen_fd = rig->listen_fd,
			      .role = FL_ROLE_INCOMING,
			      .recover = true,
			      .timeout_ms = PATIENCE_MS,
			      .cancel_fd = -1};

	memcpy(how.session, rig->peer.session, sizeof(how.session));
	memset(rig->peer.answered, 0, sizeof(rig->peer.answered));
	(void)fl_pageset_del(rig->peer.due, 0, ALL);
	meet(rig, &how);
}

void peer_cut_one(struct peer *peer, enum fl_channel channel)
{
	fl_conn_free(peer->conn[channel]);
	peer->conn[channel] = NULL;
}

void peer_cut(struct peer *peer)
{
	peer_cut_one(peer, FL_CHANNEL_MAIN);
	peer_cut_one(peer, FL_CHANNEL_DEMAND);
}

void peer_to_machine(struct rig *rig)
{
	struct peer *peer = &rig->peer;

	peer_meet(rig);
	while (!peer->machine.begun || peer->machine.have < peer->machine.len)
		peer_await(peer, FL_FRAME_MACHINE);
}

void peer_to_rounds(struct rig *rig)
{
	peer_to_machine(rig);
	peer_say(&rig->peer, FL_FRAME_PREPARED);
}

void peer_to_state(struct rig *rig)
{
	struct peer *peer = &rig->peer;
	unsigned int acked = 0;

	peer_to_rounds(rig);
	while (!peer->state.begun || peer->state.have < peer->state.len) {
		struct fl_frame ack = {.type = FL_FRAME_ROUND_ACK, .id = peer->round};

		if (peer->rc)
			fail_msg("%s", peer->why.text);
		if (peer->round != acked)
			peer_send(peer, FL_CHANNEL_MAIN, &ack, NULL, 0);
		acked = peer->round;
		pump(peer);
	}
	/* What rounds brought is no answer. */
	memset(peer->answered, 0, sizeof(peer->answered));
	memset(peer->travelled, 0, sizeof(peer->travelled));
}

void peer_to_go(struct rig *rig)
{
	peer_to_state(rig);
	peer_say(&rig->peer, FL_FRAME_READY);
	peer_await(&rig->peer, FL_FRAME_GO);
}

void peer_to_due_end(struct rig *rig)
{
	struct peer *peer = &rig->peer;

	peer_to_go(rig);
	peer_await(peer, FL_FRAME_DUE_END);
	assert_int_equal(fl_pageset_count(peer->due), peer->due_said);
}

static void ask_due(struct peer *peer)
{
	uint64_t page = 0, run;

	while ((run = fl_pageset_run(peer->due, &page))) {
		run = page < SMALL ? (page + run > SMALL ? SMALL - page : run) : 1;
		run = run < 512 ? run : 512;
		peer_ask(peer, FL_CHANNEL_MAIN, page, run);
		peer_await_pages(peer, page, run);
		page += run;
	}
}

void peer_to_bye(struct rig *rig)
{
	struct peer *peer = &rig->peer;

	peer_say(peer, FL_FRAME_RUNNING);
	ask_due(peer);
	peer_say(peer, FL_FRAME_COMPLETE);
	peer_await(peer, FL_FRAME_BYE);
}

void assert_same_memory(struct rig *rig)
{
	for (uint64_t page = 0; page < ALL; page++) {
		const uint8_t *is = rig->peer.image + rig_offset(page);

		if (rig->seed[page])
			assert_filled(is, rig_size(page), rig_offset(page), rig->seed[page]);
		else
			assert_int_equal(test_nonzero(is, rig_size(page)), -1);
	}
}
