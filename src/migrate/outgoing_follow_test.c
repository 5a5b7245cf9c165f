/* SPDX-License-Identifier: MIT */
/* After the switch: who asks gets, each page once; and a lost connection is found again. */
#include "migrate/outgoing_rig_test.h"
#include "util/clock.h"

#include <errno.h>
#include <string.h>

/* Slow: the first frame of the background, and then nothing for the length of a test. */
#define SLOW 1

static void to_running(struct rig *rig)
{
	peer_to_due_end(rig);
	peer_say(&rig->peer, FL_FRAME_RUNNING);
}

static void postcopy(struct rig *rig, uint64_t bandwidth)
{
	rig_begin(rig, FL_MIGRATE_POSTCOPY);
	rig->options.bandwidth = bandwidth;
	rig_start(rig);
}

static void complete(struct rig *rig)
{
	peer_say(&rig->peer, FL_FRAME_COMPLETE);
	peer_await(&rig->peer, FL_FRAME_BYE);
	peer_cut(&rig->peer);
}

static void the_peer_tells_how_long_it_waited(void **state)
{
	const struct fl_frame frame = {.type = FL_FRAME_COMPLETE, .len = FL_WIRE_WAITS_BYTES};
	const struct fl_fault_stats waits = {3, 100, 200, 300}, wrong = {3, 200, 100, 300};
	uint8_t payload[FL_WIRE_WAITS_BYTES];
	struct fl_outgoing_stats stats;
	struct rig rig;

	(void)state;
	postcopy(&rig, 0);
	to_running(&rig);
	fl_waits_encode(payload, &waits);
	peer_send(&rig.peer, FL_CHANNEL_MAIN, &frame, payload, sizeof(payload));
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
	stats = rig_stats(&rig);
	assert_memory_equal(&stats.waits, &waits, sizeof(waits));
	rig_end(&rig);

	/* What cannot be is none of an end: it is lost, and can be recovered. */
	postcopy(&rig, 0);
	to_running(&rig);
	fl_waits_encode(payload, &wrong);
	peer_send(&rig.peer, FL_CHANNEL_MAIN, &frame, payload, sizeof(payload));
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -EBADMSG, "COMPLETE: ");
	assert_int_equal(rig_stats(&rig).waits.count, 0);
	rig_end(&rig);
}

static void every_page_travels_once(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	postcopy(&rig, 0);
	to_running(&rig);
	/* Asked for on both, in this order and that, and in other pieces. */
	for (uint64_t page = 0; page < SMALL; page += 40) {
		peer_ask(peer, FL_CHANNEL_MAIN, page, 40);
		peer_ask(peer, FL_CHANNEL_DEMAND, page + 39, 1);
		peer_ask(peer, FL_CHANNEL_DEMAND, page + 3, 7);
	}
	for (uint64_t page = SMALL; page < ALL; page++) {
		peer_ask(peer, FL_CHANNEL_DEMAND, page, 1);
		peer_ask(peer, FL_CHANNEL_MAIN, page, 1);
	}
	peer_await_pages(peer, 0, ALL);
	complete(&rig);
	for (uint64_t page = 0; page < ALL; page++) {
		assert_int_equal(peer->travelled[page], 1);
		assert_int_equal(peer->answered[page], 1);
	}
	assert_same_memory(&rig);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
	assert_int_equal(rig_stats(&rig).demand + rig_stats(&rig).background, ALL);
	assert_int_equal(rig_stats(&rig).due_left, 0);
	rig_end(&rig);
}

/* Until the set is known every page counts as due: what was sent then is in the set all the same. */
static void before_the_set_is_known_all_is_due(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig_start(&rig);
	peer_to_state(&rig);
	peer_ask(peer, FL_CHANNEL_DEMAND, 0, 10);
	peer_ask(peer, FL_CHANNEL_MAIN, 0, 20);
	peer_await_pages(peer, 0, 20);
	for (uint64_t page = 0; page < 20; page++)
		assert_int_equal(peer->answered[page], 1);
	assert_int_equal(peer->clean_frames, 0);
	peer_say(peer, FL_FRAME_READY);
	peer_await(peer, FL_FRAME_DUE_END);
	for (uint64_t page = 0; page < 20; page++)
		assert_true(fl_pageset_has(peer->due, page));
	/* Those, and not the ones that are clean and were not asked for. */
	assert_int_equal(peer->due_said, 20);
	peer_say(peer, FL_FRAME_RUNNING);
	complete(&rig);
	assert_same_memory(&rig);
	rig_end(&rig);
}

/* What is due is looked for, and told, once vCPUs are known to run: demand is served meanwhile. */
static void the_set_gives_way_to_vcpus(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig.give_way_ns = 3600 * FL_NS_PER_S;
	rig_start(&rig);
	peer_to_go(&rig);
	for (uint64_t page = 0; page < 200; page++) {
		peer_ask(peer, FL_CHANNEL_DEMAND, page, 1);
		peer_await_pages(peer, page, 1);
		assert_int_equal(peer->travelled[page], 1);
	}
	assert_int_equal(peer->came[FL_FRAME_DUE] + peer->came[FL_FRAME_DUE_END], 0);
	peer_say(peer, FL_FRAME_RUNNING);
	peer_await(peer, FL_FRAME_DUE_END);
	assert_int_equal(peer->due_said, 200); /* page 5 is one of them */
	complete(&rig);
	assert_same_memory(&rig);
	rig_end(&rig);
}

/* A request that crosses DUE_END on its way. */
static void what_is_not_due_is_clean_once(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig_start(&rig);
	peer_to_due_end(&rig);
	assert_int_equal(peer->due_said, 1); /* page 5 */
	peer_ask(peer, FL_CHANNEL_DEMAND, 0, 10);
	peer_await_pages(peer, 0, 10);
	peer_ask(peer, FL_CHANNEL_MAIN, 0, 20);
	peer_await_pages(peer, 0, 20);
	for (uint64_t page = 0; page < 20; page++)
		assert_int_equal(peer->answered[page], 1);
	assert_int_equal(peer->travelled[5], 1);
	assert_int_equal(peer->clean_frames, 3); /* 0 to 4, 6 to 9; 10 to 19 */
	assert_int_equal(rig_stats(&rig).clean, 3);
	peer_say(peer, FL_FRAME_RUNNING);
	complete(&rig);
	assert_same_memory(&rig);
	rig_end(&rig);
}

/* What was written last cannot be told: nothing that is there is trusted, and nothing is lost. */
static void a_set_that_cannot_be_collected_is_all(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig.fail_collect = -EIO;
	rig_start(&rig);
	peer_to_due_end(&rig);
	assert_int_equal(rig.peer.due_said, ALL);
	peer_to_bye(&rig);
	assert_same_memory(&rig);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
	rig_end(&rig);
}

/* The limit is for the background: demand goes by it, and before it. */
static void demand_overtakes_the_background(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	postcopy(&rig, SLOW);
	to_running(&rig);
	peer_ask(peer, FL_CHANNEL_MAIN, 0, 512);
	peer_await_pages(peer, 0, 1);
	for (uint64_t page = 100; page < 500; page++)
		peer_ask(peer, FL_CHANNEL_DEMAND, page, 1);
	peer_ask(peer, FL_CHANNEL_DEMAND, SMALL, 1);
	peer_await_pages(peer, 100, 400);
	peer_await_pages(peer, SMALL, 1);
	/* No more of the background than the one frame of before. */
	assert_int_equal(rig_stats(&rig).background, 32);
	assert_int_equal(rig_stats(&rig).demand, 401);
	assert_int_equal(peer->travelled[32], 0);
	assert_int_equal(peer->on_demand, 401);
	rig_end(&rig);
}

static void as_many_requests_as_the_protocol_has(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	postcopy(&rig, SLOW);
	to_running(&rig);
	peer_ask(peer, FL_CHANNEL_MAIN, 0, 512);
	peer_await_pages(peer, 0, 32);
	for (unsigned int i = 1; i < FL_WIRE_REQUESTS; i++)
		peer_ask(peer, FL_CHANNEL_MAIN, 512, 1);
	/* They are there, and nothing is wrong: demand is served, also behind them. */
	peer_ask(peer, FL_CHANNEL_DEMAND, SMALL, 1);
	peer_await_pages(peer, SMALL, 1);
	peer_ask(peer, FL_CHANNEL_MAIN, 513, 1);
	assert_false(peer_takes(peer, FL_FRAME_BYE));
	peer_cut(peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -EBADMSG,
			 "REQUEST on the main connection: more than 1024 are unanswered");
	assert_int_equal(rig.go_ons, 0);
	rig_end(&rig);
}

/* What the guest gave back over there is never asked for. */
static void complete_does_not_need_all(void **state)
{
	struct rig rig;

	(void)state;
	postcopy(&rig, 0);
	to_running(&rig);
	peer_ask(&rig.peer, FL_CHANNEL_DEMAND, 7, 1);
	peer_await_pages(&rig.peer, 7, 1);
	complete(&rig);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
	assert_int_equal(rig_stats(&rig).due_left, ALL - 1);
	assert_int_equal(rig_stats(&rig).demand, 1);
	rig_end(&rig);
}

/* While it follows, the rate is that of the last second: here, of the limit. */
static void the_rate_is_told_while_it_follows(void **state)
{
	struct fl_frame ping = {.type = FL_FRAME_PING};
	struct rig rig;
	uint64_t before;

	(void)state;
	postcopy(&rig, 1u << 20);
	to_running(&rig);
	before = rig_stats(&rig).rate;
	peer_ask(&rig.peer, FL_CHANNEL_MAIN, 0, 512);
	for (uint64_t page = SMALL; page < ALL; page++)
		peer_ask(&rig.peer, FL_CHANNEL_MAIN, page, 1);
	while (rig_stats(&rig).rate == before || rig_stats(&rig).rate < 128u << 10) {
		peer_send(&rig.peer, FL_CHANNEL_MAIN, &ping, NULL, 0);
		peer_await(&rig.peer, FL_FRAME_PONG);
	}
	assert_true(rig_stats(&rig).rate < 64u << 20);
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	assert_int_equal(rig_stats(&rig).rate, 0);
	rig_end(&rig);
}

/* --- found again --- */

static void received(struct rig *rig, const struct fl_pageset *set, uint64_t said, bool gone)
{
	struct fl_frame frame = {.type = FL_FRAME_RECEIVED};
	struct fl_frame end = {.type = FL_FRAME_RECEIVED_END, .offset = said, .id = gone};
	static uint8_t bits[FL_BITS_BYTES];
	uint64_t page = 0;

	while (fl_bits_next(set, &page, &frame, bits))
		peer_send(&rig->peer, FL_CHANNEL_MAIN, &frame, bits, frame.len);
	peer_send(&rig->peer, FL_CHANNEL_MAIN, &end, NULL, 0);
}

static struct fl_pageset *answered_of(struct rig *rig)
{
	struct fl_pageset *set;

	assert_int_equal(fl_pageset_new(&set, ALL), 0);
	for (uint64_t page = 0; page < ALL; page++)
		if (rig->peer.answered[page])
			(void)fl_pageset_add(set, page, 1);
	return set;
}

/* The outgoing side connects, or it listens. */
static void meet_again(struct rig *rig, bool connects)
{
	if (connects)
		assert_int_equal(fl_outgoing_recover(rig->out, rig->address, -1), 0);
	else
		assert_int_equal(fl_outgoing_recover(rig->out, NULL, rig->listen_fd), 0);
	assert_int_equal(fl_outgoing_recover(rig->out, rig->address, -1), -EALREADY);
	peer_meet_again(rig, connects ? NULL : rig->address);
}

static void ask_all_due(struct peer *peer)
{
	uint64_t page = 0;

	while (fl_pageset_run(peer->due, &page)) {
		peer_ask(peer, FL_CHANNEL_MAIN, page, 1);
		peer_await_pages(peer, page, 1);
		page++;
	}
}

/* Some pages were asked for, some arrived; of those, some are said to be there. */
static void recovers(bool connects)
{
	struct fl_pageset *there;
	struct rig rig;
	struct peer *peer = &rig.peer;
	uint64_t downtime_ns, bytes;

	postcopy(&rig, 0);
	to_running(&rig);
	peer_ask(peer, FL_CHANNEL_MAIN, 0, 100);
	peer_ask(peer, FL_CHANNEL_DEMAND, SMALL + 1, 1);
	peer_await_pages(peer, 0, 100);
	peer_await_pages(peer, SMALL + 1, 1);
	downtime_ns = rig_stats(&rig).downtime_ns;
	assert_true(downtime_ns > 0);
	peer_ask(peer, FL_CHANNEL_MAIN, 100, 400); /* on its way when it is cut */
	peer_cut(peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	bytes = rig_stats(&rig).bytes;
	assert_int_equal(fl_outgoing_cancel(rig.out), -EINPROGRESS);

	there = answered_of(&rig);
	(void)fl_pageset_del(there, 50, 50); /* those never made it */
	memset(peer->image + rig_offset(50), 0xee, 50 * SMALL_SIZE);
	meet_again(&rig, connects);
	received(&rig, there, fl_pageset_count(there), true);
	peer_await(peer, FL_FRAME_GO);
	peer_await(peer, FL_FRAME_DUE_END);
	assert_int_equal(peer->due_said, ALL - 51);
	assert_int_equal(fl_pageset_count(peer->due), ALL - 51);
	assert_false(fl_pageset_has(peer->due, 49));
	assert_true(fl_pageset_has(peer->due, 50));
	assert_false(fl_pageset_has(peer->due, SMALL + 1));
	ask_all_due(peer);
	assert_int_equal(rig_stats(&rig).due_left, 0);
	/* What is there is clean, were it asked for. */
	peer_ask(peer, FL_CHANNEL_DEMAND, 3, 1);
	peer_await_pages(peer, 3, 1);
	assert_int_equal(peer->clean_frames, 1);
	complete(&rig);
	assert_int_equal(rig_wait(&rig, 2), FL_MIGRATE_DONE);
	assert_same_memory(&rig);
	rig_assert_error(&rig, 0, "");
	assert_int_equal(rig_stats(&rig).recoveries, 1);
	assert_int_equal(rig_stats(&rig).downtime_ns, downtime_ns);
	assert_true(rig_stats(&rig).bytes > bytes);
	assert_int_equal(rig.go_ons, 0);
	fl_pageset_free(there);
	rig_end(&rig);
}

static void recovers_by_connecting(void **state)
{
	(void)state;
	recovers(true);
}

static void recovers_by_listening(void **state)
{
	(void)state;
	recovers(false);
}

/* What arrived stays arrived, and what did not stays due, however often. */
static void recovers_again_and_again(void **state)
{
	struct fl_pageset *there;
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	postcopy(&rig, 0);
	to_running(&rig);
	assert_int_equal(fl_pageset_new(&there, ALL), 0);
	for (unsigned int i = 0; i < 5; i++) {
		peer_ask(peer, FL_CHANNEL_MAIN, i * 100, 100);
		peer_await_pages(peer, i * 100, 60);
		(void)fl_pageset_add(there, i * 100, 60);
		peer_cut(peer);
		assert_int_equal(rig_wait(&rig, i + 1), FL_MIGRATE_LOST);
		meet_again(&rig, i % 2);
		received(&rig, there, (i + 1) * 60, true);
		peer_await(peer, FL_FRAME_DUE_END);
		assert_int_equal(peer->due_said, ALL - (i + 1) * 60);
	}
	ask_all_due(peer);
	complete(&rig);
	assert_int_equal(rig_wait(&rig, 6), FL_MIGRATE_DONE);
	assert_same_memory(&rig);
	assert_int_equal(rig_stats(&rig).recoveries, 5);
	fl_pageset_free(there);
	rig_end(&rig);
}

/* The two connections are not in step: a demand may come before the set is whole. */
static void a_demand_may_overtake_the_set(void **state)
{
	struct fl_pageset *none;
	struct rig rig;

	(void)state;
	postcopy(&rig, 0);
	to_running(&rig);
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	meet_again(&rig, true);
	peer_ask(&rig.peer, FL_CHANNEL_DEMAND, 77, 1);
	assert_int_equal(fl_pageset_new(&none, ALL), 0);
	received(&rig, none, 0, true);
	peer_await_pages(&rig.peer, 77, 1);
	assert_int_equal(rig.peer.travelled[77], 1);
	fl_pageset_free(none);
	rig_end(&rig);
}

/* COMPLETE or BYE were lost. */
static void an_end_that_was_lost_is_said_again(void **state)
{
	struct fl_pageset *all;
	struct rig rig;

	(void)state;
	postcopy(&rig, 0);
	to_running(&rig);
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	meet_again(&rig, true);
	assert_int_equal(fl_pageset_new(&all, ALL), 0);
	(void)fl_pageset_add(all, 0, ALL);
	received(&rig, all, ALL, true);
	peer_await(&rig.peer, FL_FRAME_DUE_END);
	assert_int_equal(rig.peer.due_said, 0);
	assert_int_equal(rig.peer.came[FL_FRAME_GO], 2);
	complete(&rig);
	assert_int_equal(rig_wait(&rig, 2), FL_MIGRATE_DONE);
	fl_pageset_free(all);
	rig_end(&rig);
}

static void lose(struct rig *rig)
{
	postcopy(rig, 0);
	to_running(rig);
	peer_cut(&rig->peer);
	assert_int_equal(rig_wait(rig, 1), FL_MIGRATE_LOST);
	rig_assert_error(rig, -ECONNRESET, "connection");
}

static void go_on_and_end(struct rig *rig, unsigned int ends)
{
	struct fl_pageset *none;

	assert_int_equal(fl_pageset_new(&none, ALL), 0);
	meet_again(rig, true);
	received(rig, none, 0, true);
	peer_await(&rig->peer, FL_FRAME_DUE_END);
	ask_all_due(&rig->peer);
	complete(rig);
	assert_int_equal(rig_wait(rig, ends), FL_MIGRATE_DONE);
	assert_same_memory(rig);
	assert_int_equal(rig->go_ons, 0);
	fl_pageset_free(none);
}

static void a_recovery_that_fails_can_be_tried_again(void **state)
{
	struct fl_pageset *set;
	struct rig rig;

	(void)state;
	lose(&rig);
	assert_int_equal(fl_outgoing_recover(rig.out, NULL, -1), -EINVAL);
	/* Nobody there. */
	assert_int_equal(fl_outgoing_recover(rig.out, "unix:/nowhere/at/all", -1), 0);
	assert_int_equal(rig_wait(&rig, 2), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -ENOENT, "/nowhere/at/all");
	/* Cut before the set is whole. */
	meet_again(&rig, true);
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 3), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -ECONNRESET, "connection");
	/* A set that is none. */
	assert_int_equal(fl_pageset_new(&set, ALL + 1), 0);
	(void)fl_pageset_add(set, ALL, 1);
	meet_again(&rig, true);
	received(&rig, set, 1, true);
	assert_false(peer_takes(&rig.peer, FL_FRAME_GO));
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 4), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -EBADMSG, "RECEIVED: page 603 of 603");
	/* A set that is not whole. */
	(void)fl_pageset_del(set, ALL, 1);
	(void)fl_pageset_add(set, 9, 3);
	meet_again(&rig, true);
	received(&rig, set, 4, true);
	assert_false(peer_takes(&rig.peer, FL_FRAME_GO));
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 5), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -EBADMSG, "RECEIVED_END: says 4 pages, 3 came");
	/* None of it has changed what is due. */
	go_on_and_end(&rig, 6);
	assert_int_equal(rig_stats(&rig).recoveries, 1);
	fl_pageset_free(set);
	rig_end(&rig);
}

static void a_peer_of_another_session_is_refused(void **state)
{
	struct rig rig;

	(void)state;
	lose(&rig);
	rig.peer.session[0] ^= 1;
	assert_int_equal(fl_outgoing_recover(rig.out, NULL, rig.listen_fd), 0);
	{
		struct fl_meet how = {.connect = rig.address,
				      .role = FL_ROLE_INCOMING,
				      .recover = true,
				      .timeout_ms = 10000,
				      .cancel_fd = -1};
		struct fl_pair pair;
		struct fl_log log = {0};
		struct fl_error err;

		memcpy(how.session, rig.peer.session, sizeof(how.session));
		assert_true(fl_meet(&how, &pair, &log, &err) < 0);
		/* It waits on, for the right one. */
		how.session[0] ^= 1;
		assert_int_equal(fl_meet(&how, &pair, &log, &err), 0);
		fl_stream_close(pair.main);
		fl_stream_close(pair.demand);
	}
	assert_int_equal(rig_wait(&rig, 2), FL_MIGRATE_LOST);
	rig.peer.session[0] ^= 1;
	go_on_and_end(&rig, 3);
	rig_end(&rig);
}

/* Silence in a recovery, and freed while it waits for someone to come. */
static void a_recovery_does_not_hang(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig.options.timeout_ms = 500;
	rig_start(&rig);
	to_running(&rig);
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	meet_again(&rig, true);
	assert_int_equal(rig_wait(&rig, 2), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -ETIMEDOUT, "nothing came for 500 ms");
	peer_cut(&rig.peer);
	assert_int_equal(fl_outgoing_recover(rig.out, NULL, rig.listen_fd), 0);
	rig_end(&rig);
	assert_int_equal(rig.go_ons, 0);
}

/* Nobody comes, and one does not want to wait: the next try is another one. */
static void a_recovery_can_be_called_off(void **state)
{
	struct rig rig;

	(void)state;
	lose(&rig);
	assert_int_equal(fl_outgoing_cancel(rig.out), -EINPROGRESS);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(fl_outgoing_recover(rig.out, NULL, rig.listen_fd), 0);
		/* Also one that has met, and waits for RECEIVED. */
		if (i == 2)
			peer_meet_again(&rig, rig.address);
		assert_int_equal(fl_outgoing_cancel(rig.out), 0);
		assert_int_equal(rig_wait(&rig, 2 + i), FL_MIGRATE_LOST);
		rig_assert_error(&rig, -ECANCELED, "the recovery was called off");
		assert_int_equal(fl_outgoing_cancel(rig.out), -EINPROGRESS);
	}
	/* Main has nothing to say of it: who missed GO would forget the machine. */
	peer_cut_one(&rig.peer, FL_CHANNEL_DEMAND);
	assert_false(peer_takes(&rig.peer, FL_FRAME_CANCEL));
	assert_int_equal(rig.peer.rc, -ECONNRESET);
	peer_cut(&rig.peer);
	go_on_and_end(&rig, 5);
	rig_end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_page_travels_once),
		cmocka_unit_test(the_peer_tells_how_long_it_waited),
		cmocka_unit_test(before_the_set_is_known_all_is_due),
		cmocka_unit_test(the_set_gives_way_to_vcpus),
		cmocka_unit_test(what_is_not_due_is_clean_once),
		cmocka_unit_test(a_set_that_cannot_be_collected_is_all),
		cmocka_unit_test(demand_overtakes_the_background),
		cmocka_unit_test(as_many_requests_as_the_protocol_has),
		cmocka_unit_test(complete_does_not_need_all),
		cmocka_unit_test(the_rate_is_told_while_it_follows),
		cmocka_unit_test(recovers_by_connecting),
		cmocka_unit_test(recovers_by_listening),
		cmocka_unit_test(recovers_again_and_again),
		cmocka_unit_test(a_demand_may_overtake_the_set),
		cmocka_unit_test(an_end_that_was_lost_is_said_again),
		cmocka_unit_test(a_recovery_that_fails_can_be_tried_again),
		cmocka_unit_test(a_peer_of_another_session_is_refused),
		cmocka_unit_test(a_recovery_does_not_hang),
		cmocka_unit_test(a_recovery_can_be_called_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
