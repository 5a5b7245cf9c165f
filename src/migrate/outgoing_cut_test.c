/* SPDX-License-Identifier: MIT */
/*
 * What may go wrong at every step: the connection is cut, the peer says nothing, reads nothing, or says
 * what it must not. Before GO the machine goes on where it was, once; after GO it never does.
 */
#include "migrate/outgoing_rig_test.h"
#include "util/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* --- the steps: each leaves the peer with the frame it names --- */

static void to_nothing(struct rig *rig)
{
	(void)rig;
}

static void to_first_pages(struct rig *rig)
{
	peer_to_rounds(rig);
	peer_await(&rig->peer, FL_FRAME_PAGES);
}

static void to_first_zero(struct rig *rig)
{
	peer_to_rounds(rig);
	peer_await(&rig->peer, FL_FRAME_ZERO);
}

static void to_first_round(struct rig *rig)
{
	peer_to_rounds(rig);
	peer_await(&rig->peer, FL_FRAME_ROUND);
}

static void ack(struct rig *rig, uint32_t round)
{
	struct fl_frame frame = {.type = FL_FRAME_ROUND_ACK, .id = round};

	peer_send(&rig->peer, FL_CHANNEL_MAIN, &frame, NULL, 0);
}

static void to_second_round(struct rig *rig)
{
	to_first_round(rig);
	ack(rig, 1);
	peer_await(&rig->peer, FL_FRAME_ROUND);
}

static void to_first_state(struct rig *rig)
{
	to_second_round(rig);
	ack(rig, 2);
	peer_await(&rig->peer, FL_FRAME_STATE);
}

static void to_request(struct rig *rig)
{
	peer_to_state(rig);
	peer_ask(&rig->peer, FL_CHANNEL_DEMAND, 3, 1);
	peer_await_pages(&rig->peer, 3, 1);
}

static void to_due(struct rig *rig)
{
	peer_to_state(rig);
	peer_say(&rig->peer, FL_FRAME_READY);
	peer_await(&rig->peer, FL_FRAME_DUE);
}

static void to_running(struct rig *rig)
{
	peer_to_due_end(rig);
	peer_say(&rig->peer, FL_FRAME_RUNNING);
}

static void to_answer(struct rig *rig)
{
	to_running(rig);
	peer_ask(&rig->peer, FL_CHANNEL_MAIN, 0, 10);
	peer_await_pages(&rig->peer, 0, 1);
}

static void to_demand_answer(struct rig *rig)
{
	to_running(rig);
	peer_ask(&rig->peer, FL_CHANNEL_DEMAND, 0, 1);
	peer_await_pages(&rig->peer, 0, 1);
}

static const struct step {
	const char *name;
	void (*to)(struct rig *rig);
	bool stopped, gone;
} steps[] = {
	{"MACHINE", peer_to_machine, false, false},
	{"PREPARED", peer_to_rounds, false, false},
	{"ZERO", to_first_zero, false, false},
	{"PAGES", to_first_pages, false, false},
	{"ROUND", to_first_round, false, false},
	{"ROUND 2", to_second_round, false, false},
	{"STATE", to_first_state, true, false},
	{"all of STATE", peer_to_state, true, false},
	{"REQUEST", to_request, true, false},
	{"GO", peer_to_go, true, true},
	{"DUE", to_due, true, true},
	{"DUE_END", peer_to_due_end, true, true},
	{"RUNNING", to_running, true, true},
	{"an answer", to_answer, true, true},
	{"an answer to demand", to_demand_answer, true, true},
};

#define STEPS (sizeof(steps) / sizeof(*steps))

static void begin(struct rig *rig)
{
	rig_begin(rig, FL_MIGRATE_HYBRID);
	rig_zero(rig, 0, 1);
	(void)fl_pageset_add(rig->known, 0, 1);
	rig->options.max_downtime_ms = 0;
	rig->write_each = 30;
}

static void assert_ended(struct rig *rig, const struct step *step)
{
	enum fl_migrate_phase phase = rig_wait(rig, 1);

	if (phase != (step->gone ? FL_MIGRATE_LOST : FL_MIGRATE_FAILED) ||
	    rig->go_ons != (step->stopped && !step->gone) || rig->tracking)
		fail_msg("%s: phase %s, go_on called %u times, %s", step->name,
			 fl_migrate_phase_name(phase), rig->go_ons,
			 rig->tracking ? "tracking" : "not tracking");
	assert_int_equal(rig_stats(rig).phase, phase);
}

static void a_cut_at_every_step(void **state)
{
	(void)state;
	for (size_t i = 0; i < STEPS; i++) {
		struct rig rig;
		struct fl_error err;

		begin(&rig);
		rig_start(&rig);
		steps[i].to(&rig);
		peer_cut(&rig.peer);
		assert_ended(&rig, &steps[i]);
		fl_outgoing_error(rig.out, &err);
		assert_true(err.code == -ECONNRESET || err.code == -EPIPE);
		assert_non_null(strstr(err.text, " connection: "));
		rig_end(&rig);
		assert_int_equal(rig.go_ons, steps[i].stopped && !steps[i].gone);
	}
}

/* One of the two is as good as both. */
static void a_cut_of_one_connection(void **state)
{
	(void)state;
	for (size_t i = 0; i < STEPS; i++) {
		struct rig rig;

		begin(&rig);
		rig_start(&rig);
		steps[i].to(&rig);
		peer_cut_one(&rig.peer, i % 2);
		/* The other one ends, too, and there main says why: the machine stays. */
		(void)peer_takes(&rig.peer, FL_FRAME_BYE);
		assert_int_equal(rig.peer.rc, i % 2 ? -EREMOTEIO : -ECONNRESET);
		peer_cut(&rig.peer);
		assert_ended(&rig, &steps[i]);
		rig_end(&rig);
	}
}

/* Whether GO was out cannot be known from here: but it is one or the other, and go_on() fits it. */
static void a_cut_behind_ready(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		enum fl_migrate_phase phase;
		struct rig rig;

		begin(&rig);
		rig_start(&rig);
		peer_to_state(&rig);
		peer_say(&rig.peer, FL_FRAME_READY);
		peer_cut(&rig.peer);
		phase = rig_wait(&rig, 1);
		if (phase == FL_MIGRATE_LOST)
			assert_int_equal(rig.go_ons, 0);
		else
			assert_int_equal(rig.go_ons, 1);
		assert_true(phase == FL_MIGRATE_LOST || phase == FL_MIGRATE_FAILED);
		rig_end(&rig);
	}
}

static void silence_at_every_step(void **state)
{
	static const struct step none = {"nothing", to_nothing, false, false};

	(void)state;
	for (size_t i = 0; i <= STEPS; i++) {
		const struct step *step = i < STEPS ? &steps[i] : &none;
		struct fl_error err;
		struct rig rig;

		begin(&rig);
		rig.options.timeout_ms = 500;
		rig_start(&rig);
		step->to(&rig);
		assert_ended(&rig, step);
		fl_outgoing_error(rig.out, &err);
		if (err.code != -ETIMEDOUT)
			fail_msg("%s: %s", step->name, err.text);
		rig_end(&rig);
	}
}

/* It talks, so it lives; but it takes nothing. Talks until the other side has had enough. */
static void talk(struct rig *rig)
{
	struct fl_frame ping = {.type = FL_FRAME_PING};
	bool ended = false;

	while (!ended) {
		struct timespec until;

		if (!fl_conn_send(rig->peer.conn[0], &ping, NULL, 0))
			(void)fl_conn_flush(rig->peer.conn[0], UINT64_MAX);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 20000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_mutex_lock(&rig->lock);
		if (!rig->ends)
			(void)pthread_cond_timedwait(&rig->changed, &rig->lock, &until);
		ended = rig->ends > 0;
		pthread_mutex_unlock(&rig->lock);
	}
}

static void a_peer_that_reads_nothing(void **state)
{
	int small = 65536;
	struct rig rig;

	(void)state;
	for (int i = 0; i < 3; i++) {
		rig_begin(&rig, i ? FL_MIGRATE_POSTCOPY : FL_MIGRATE_HYBRID);
		assert_int_equal(
			setsockopt(rig.listen_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
		rig.options.timeout_ms = 1000;
		rig_start(&rig);
		if (i) {
			to_running(&rig);
			for (uint64_t page = 0; page < LARGE; page++)
				peer_ask(&rig.peer, i == 1 ? FL_CHANNEL_MAIN : FL_CHANNEL_DEMAND,
					 SMALL + page, 1);
		} else {
			peer_to_rounds(&rig);
		}
		talk(&rig);
		assert_int_equal(rig_wait(&rig, 1), i ? FL_MIGRATE_LOST : FL_MIGRATE_FAILED);
		rig_assert_error(&rig, -ETIMEDOUT,
				 i == 2 ? "demand connection: took nothing for 1000 ms"
					: "main connection: took nothing for 1000 ms");
		rig_end(&rig);
	}
}

/* Each step, and a frame that is wrong there. */
static const struct {
	struct step step;
	enum fl_channel channel;
	struct fl_frame frame;
	const char *text;
} wrong[] = {
	{{"", peer_to_machine, false, false},
	 0,
	 {.type = FL_FRAME_READY},
	 "READY came in phase meeting"},
	{{"", peer_to_machine, false, false}, 0, {.type = FL_FRAME_HELLO, .len = 32}, "HELLO"},
	{{"", peer_to_machine, false, false},
	 0,
	 {.type = FL_FRAME_REQUEST, .bytes = 4096},
	 "REQUEST came in phase meeting"},
	{{"", peer_to_machine, false, false},
	 1,
	 {.type = FL_FRAME_PREPARED},
	 "PREPARED came on the demand connection in phase meeting"},
	{{"", peer_to_machine, false, false},
	 1,
	 {.type = FL_FRAME_REQUEST, .bytes = 4096},
	 "REQUEST came on the demand connection in phase meeting"},
	{{"", peer_to_rounds, false, false},
	 0,
	 {.type = FL_FRAME_PREPARED},
	 "PREPARED came in phase "},
	{{"", to_first_round, false, false},
	 0,
	 {.type = FL_FRAME_ROUND_ACK, .id = 2},
	 "ROUND_ACK: of round 2, in round 1"},
	{{"", to_first_round, false, false},
	 0,
	 {.type = FL_FRAME_RUNNING},
	 "RUNNING came in phase rounds"},
	{{"", to_first_round, false, false},
	 0,
	 {.type = FL_FRAME_COMPLETE},
	 "COMPLETE came in phase rounds"},
	{{"", to_first_round, false, false},
	 0,
	 {.type = FL_FRAME_REQUEST, .bytes = 4096},
	 "REQUEST came in phase rounds"},
	{{"", to_first_round, false, false}, 0, {.type = FL_FRAME_GO}, "GO came in phase rounds"},
	{{"", to_first_round, false, false},
	 0,
	 {.type = FL_FRAME_RECEIVED_END},
	 "RECEIVED_END came in phase rounds"},
	{{"", to_first_round, false, false},
	 1,
	 {.type = FL_FRAME_PING},
	 "PING came on the demand connection in phase rounds"},
	{{"", peer_to_state, true, false},
	 0,
	 {.type = FL_FRAME_ROUND_ACK, .id = 2},
	 "ROUND_ACK came in phase switching"},
	{{"", peer_to_state, true, false},
	 0,
	 {.type = FL_FRAME_RUNNING},
	 "RUNNING came in phase switching"},
	{{"", peer_to_state, true, false},
	 0,
	 {.type = FL_FRAME_COMPLETE},
	 "COMPLETE came in phase switching"},
	{{"", peer_to_state, true, false},
	 0,
	 {.type = FL_FRAME_REQUEST, .bytes = 4096, .offset = LARGE_AT},
	 "REQUEST on the main connection: 4096 bytes at offset 4194304 are not whole "
	 "pages"},
	{{"", peer_to_due_end, true, true},
	 0,
	 {.type = FL_FRAME_READY},
	 "READY came in phase following"},
	{{"", peer_to_due_end, true, true},
	 0,
	 {.type = FL_FRAME_BYE},
	 "BYE came in phase following"},
	{{"", peer_to_due_end, true, true},
	 0,
	 {.type = FL_FRAME_RECEIVED_END},
	 "RECEIVED_END came in phase following"},
	{{"", to_running, true, true},
	 0,
	 {.type = FL_FRAME_RUNNING},
	 "RUNNING came in phase following"},
	{{"", to_running, true, true},
	 1,
	 {.type = FL_FRAME_COMPLETE},
	 "COMPLETE came on the demand connection in phase following"},
	{{"", to_running, true, true},
	 0,
	 {.type = FL_FRAME_REQUEST, .bytes = 4096, .offset = SMALL * SMALL_SIZE},
	 "REQUEST on the main connection: 4096 bytes at offset 2457600 are in no region"},
	{{"", to_running, true, true},
	 1,
	 {.type = FL_FRAME_REQUEST, .bytes = 8192, .offset = (SMALL - 1) * SMALL_SIZE},
	 "REQUEST on the demand connection: 8192 bytes at offset 2453504 leave their "
	 "region"},
	{{"", to_running, true, true},
	 1,
	 {.type = FL_FRAME_REQUEST, .bytes = 2u << 20, .offset = LARGE_AT + 4096},
	 "REQUEST on the demand connection: 2097152 bytes at offset 4198400 are not whole "
	 "pages"},
	{{"", to_running, true, true},
	 1,
	 {.type = FL_FRAME_REQUEST, .bytes = 4096, .offset = UINT64_MAX / 4096 * 4096 - 4096},
	 "are in no region"},
};

static void frames_out_of_place(void **state)
{
	static const uint8_t payload[32];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		const struct fl_frame *frame = &wrong[i].frame;
		struct rig rig;

		begin(&rig);
		rig_start(&rig);
		wrong[i].step.to(&rig);
		peer_send(&rig.peer, wrong[i].channel, frame, payload, frame->len);
		/* The peer hears it, in these words. */
		assert_false(peer_takes(&rig.peer, FL_FRAME_BYE));
		assert_int_equal(rig.peer.rc, -EREMOTEIO);
		if (!strstr(rig.peer.why.text, wrong[i].text))
			fail_msg("\"%s\", expected \"%s\"", rig.peer.why.text, wrong[i].text);
		peer_cut(&rig.peer);
		assert_ended(&rig, &wrong[i].step);
		rig_assert_error(&rig, -EBADMSG, wrong[i].text);
		rig_end(&rig);
	}
}

static void contents_never_come_to_this_side(void **state)
{
	static const uint8_t zeros[4096];
	struct rig rig;

	(void)state;
	begin(&rig);
	rig_start(&rig);
	to_running(&rig);
	assert_int_equal(fl_conn_send_pages(rig.peer.conn[0], 0, zeros, sizeof(zeros)), 0);
	assert_int_equal(fl_conn_flush(rig.peer.conn[0], UINT64_MAX), 1);
	assert_false(peer_takes(&rig.peer, FL_FRAME_BYE));
	peer_cut(&rig.peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_LOST);
	rig_assert_error(&rig, -EBADMSG, "PAGES came in phase following");
	rig_end(&rig);
}

/* A sentence of the peer's is the reason, at every step. */
static void an_error_of_the_peers_at_every_step(void **state)
{
	struct fl_error why = {-ENOSPC, "no room for such a machine"};

	(void)state;
	for (size_t i = 0; i < STEPS; i++) {
		struct rig rig;

		begin(&rig);
		rig_start(&rig);
		steps[i].to(&rig);
		fl_conn_send_error(rig.peer.conn[0], &why);
		assert_ended(&rig, &steps[i]);
		rig_assert_error(&rig, -EREMOTEIO, "no room for such a machine");
		rig_end(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_at_every_step),
		cmocka_unit_test(a_cut_of_one_connection),
		cmocka_unit_test(a_cut_behind_ready),
		cmocka_unit_test(silence_at_every_step),
		cmocka_unit_test(a_peer_that_reads_nothing),
		cmocka_unit_test(frames_out_of_place),
		cmocka_unit_test(contents_never_come_to_this_side),
		cmocka_unit_test(an_error_of_the_peers_at_every_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
