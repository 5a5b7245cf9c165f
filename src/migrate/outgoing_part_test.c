/* SPDX-License-Identifier: MIT */
/* What is said last, and on which connection: by that the peer knows whose the machine is. */
#include "migrate/outgoing_rig_test.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>

static void postcopy(struct rig *rig)
{
	rig_begin(rig, FL_MIGRATE_POSTCOPY);
	rig_start(rig);
}

static void bad_request(struct peer *peer, enum fl_channel channel)
{
	struct fl_frame frame = {
		.type = FL_FRAME_REQUEST, .bytes = 4096, .offset = SMALL * SMALL_SIZE};

	peer_send(peer, channel, &frame, NULL, 0);
}

/* What comes on one connection until it ends; the other one is not looked at. */
static int hear_one(struct peer *peer, enum fl_channel channel)
{
	struct fl_conn *other = peer->conn[1 - channel];
	int rc;

	peer->conn[1 - channel] = NULL;
	(void)peer_takes(peer, FL_FRAME_BYE);
	rc = peer->rc;
	peer->rc = 0;
	peer->conn[1 - channel] = other;
	return rc;
}

/* Before GO: on main, and demand neither says it nor ends before. */
static void before_go_main_says_it(void **state)
{
	static const enum fl_channel channels[] = {FL_CHANNEL_MAIN, FL_CHANNEL_DEMAND};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct rig rig;
		struct peer *peer = &rig.peer;

		postcopy(&rig);
		peer_to_state(&rig);
		bad_request(peer, channels[i]);
		assert_int_equal(hear_one(peer, FL_CHANNEL_MAIN), -EREMOTEIO);
		assert_non_null(strstr(peer->why.text, "are in no region"));
		peer_cut_one(peer, FL_CHANNEL_MAIN);
		assert_int_equal(hear_one(peer, FL_CHANNEL_DEMAND), -ECONNRESET);
		peer_cut(peer);
		assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
		assert_int_equal(rig.go_ons, 1);
		rig_end(&rig);
	}
}

/* A peer that ends it on demand has not heard on main what became of the machine. */
static void an_error_on_demand_is_answered_on_main(void **state)
{
	struct fl_error why = {-EIO, "no more of this"};
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	postcopy(&rig);
	peer_to_state(&rig);
	fl_conn_send_error(peer->conn[FL_CHANNEL_DEMAND], &why);
	assert_int_equal(hear_one(peer, FL_CHANNEL_MAIN), -ECONNRESET);
	assert_int_equal(peer->came[FL_FRAME_CANCEL], 1);
	peer_cut(peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
	rig_assert_error(&rig, -EREMOTEIO, "no more of this");
	rig_end(&rig);
}

/* One that lives, and answers PING, but never gets ready: the machine does not stand still for ever. */
static void a_peer_that_is_never_ready_is_not_waited_for(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig.options.timeout_ms = 1500; /* longer than the second after which PING comes */
	rig_start(&rig);
	peer_to_state(&rig);
	assert_int_equal(hear_one(peer, FL_CHANNEL_MAIN), -EREMOTEIO);
	assert_non_null(strstr(peer->why.text, "was not READY in 1500 ms"));
	peer_cut(peer);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
	rig_assert_error(&rig, -ETIMEDOUT, "was not READY");
	assert_int_equal(rig.go_ons, 1);
	rig_end(&rig);
}

static void lose(struct rig *rig)
{
	postcopy(rig);
	peer_to_due_end(rig);
	peer_say(&rig->peer, FL_FRAME_RUNNING);
	peer_cut(&rig->peer);
	assert_int_equal(rig_wait(rig, 1), FL_MIGRATE_LOST);
}

/* In a recovery, until GO is said again: a peer that never had it would forget the machine. */
static void a_recovery_says_nothing_on_main_before_go(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	lose(&rig);
	assert_int_equal(fl_outgoing_recover(rig.out, NULL, rig.listen_fd), 0);
	peer_meet_again(&rig, rig.address);
	bad_request(peer, FL_CHANNEL_MAIN);
	assert_int_equal(hear_one(peer, FL_CHANNEL_DEMAND), -EREMOTEIO);
	assert_non_null(strstr(peer->why.text, "REQUEST came in phase lost"));
	peer_cut_one(peer, FL_CHANNEL_DEMAND);
	assert_int_equal(hear_one(peer, FL_CHANNEL_MAIN), -ECONNRESET);
	assert_int_equal(peer->came[FL_FRAME_CANCEL], 0);
	peer_cut(peer);
	assert_int_equal(rig_wait(&rig, 2), FL_MIGRATE_LOST);
	rig_end(&rig);
}

/* CANCEL is for what can be called off. */
static void given_up_after_go_is_an_error(void **state)
{
	struct rig rig;
	struct peer *peer = &rig.peer;

	(void)state;
	postcopy(&rig);
	peer_to_due_end(&rig);
	fl_outgoing_free(rig.out);
	rig.out = NULL;
	assert_int_equal(hear_one(peer, FL_CHANNEL_MAIN), -EREMOTEIO);
	assert_non_null(strstr(peer->why.text, "the migration was ended"));
	assert_int_equal(peer->came[FL_FRAME_CANCEL], 0);
	assert_int_equal(rig.go_ons, 0);
	rig_end(&rig);
}

/* --- what the peer says last, from within the migration's thread --- */

static sem_t let_go; /* the test's thread has let go of the peer */
static bool ended_before_collect;

static void error_and_cut(struct rig *rig)
{
	struct fl_error why = {-ENOSPC, "no room for such a machine"};

	if (!rig->peer.conn[FL_CHANNEL_MAIN])
		return;
	assert_int_equal(sem_wait(&let_go), 0);
	fl_conn_send_error(rig->peer.conn[FL_CHANNEL_MAIN], &why);
	peer_cut(&rig->peer);
}

/* Both connections have ended when they are looked at: demand is first, main knows more. */
static void an_error_is_found_behind_the_end_of_demand(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_HYBRID);
	rig.at_collect = error_and_cut;
	rig_start(&rig);
	peer_to_rounds(&rig);
	peer_await(&rig.peer, FL_FRAME_ROUND);
	peer_send(&rig.peer, FL_CHANNEL_MAIN,
		  &(struct fl_frame){.type = FL_FRAME_ROUND_ACK, .id = 1}, NULL, 0);
	assert_int_equal(sem_post(&let_go), 0);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_FAILED);
	rig_assert_error(&rig, -EREMOTEIO, "main connection: the other side: no room for such");
	rig_end(&rig);
}

static void complete_and_cut(struct rig *rig, const char *text)
{
	if (strcmp(text, "migration: following"))
		return;
	assert_int_equal(sem_wait(&let_go), 0);
	peer_say(&rig->peer, FL_FRAME_RUNNING);
	peer_say(&rig->peer, FL_FRAME_COMPLETE);
	peer_cut(&rig->peer);
}

/* It has all: that it does not wait for BYE changes nothing. */
static void complete_is_the_end_also_without_bye(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig.at_log = complete_and_cut;
	rig_start(&rig);
	peer_to_state(&rig);
	peer_say(&rig.peer, FL_FRAME_READY);
	assert_int_equal(sem_post(&let_go), 0);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
	rig_assert_error(&rig, 0, "");
	rig_end(&rig);
}

/* Half a second in which nothing may end: what ends it does not wait for that, and is seen soon. */
static void stay_until_ended(struct rig *rig)
{
	struct timespec until;
	int rc = 0;

	assert_int_equal(sem_wait(&let_go), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 500 * 1000 * 1000;
	if (until.tv_nsec >= 1000 * 1000 * 1000) {
		until.tv_nsec -= 1000 * 1000 * 1000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&rig->lock);
	while (!rig->ends && !rc)
		rc = pthread_cond_timedwait(&rig->changed, &rig->lock, &until);
	ended_before_collect = rig->ends > 0;
	pthread_mutex_unlock(&rig->lock);
}

/* The peer says that it has all while what is due is still looked for: the VMM's calls end first. */
static void the_end_waits_for_what_is_due(void **state)
{
	struct rig rig;

	(void)state;
	rig_begin(&rig, FL_MIGRATE_POSTCOPY);
	rig.at_collect = stay_until_ended;
	rig_start(&rig);
	peer_to_state(&rig);
	peer_say(&rig.peer, FL_FRAME_READY);
	peer_await(&rig.peer, FL_FRAME_GO);
	peer_say(&rig.peer, FL_FRAME_RUNNING);
	peer_say(&rig.peer, FL_FRAME_COMPLETE);
	assert_int_equal(sem_post(&let_go), 0);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
	assert_false(ended_before_collect);
	assert_int_equal(rig.collects, 1);
	rig_end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(before_go_main_says_it),
		cmocka_unit_test(an_error_on_demand_is_answered_on_main),
		cmocka_unit_test(a_peer_that_is_never_ready_is_not_waited_for),
		cmocka_unit_test(a_recovery_says_nothing_on_main_before_go),
		cmocka_unit_test(given_up_after_go_is_an_error),
		cmocka_unit_test(an_error_is_found_behind_the_end_of_demand),
		cmocka_unit_test(complete_is_the_end_also_without_bye),
		cmocka_unit_test(the_end_waits_for_what_is_due),
	};

	assert_int_equal(sem_init(&let_go, 0, 0), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
