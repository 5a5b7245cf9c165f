/* SPDX-License-Identifier: MIT */
/* What the peer says arrived with a wrong sum: written meanwhile, or damaged on the way. */
#include "migrate/outgoing_rig_test.h"

#include <errno.h>
#include <string.h>

static void torn(struct rig *rig, uint64_t first, uint8_t bits)
{
	struct fl_frame frame = {.type = FL_FRAME_TORN, .offset = first};

	peer_send(&rig->peer, FL_CHANNEL_MAIN, &frame, &bits, 1);
}

static void ack(struct rig *rig, uint32_t round)
{
	struct fl_frame frame = {.type = FL_FRAME_ROUND_ACK, .id = round};

	peer_send(&rig->peer, FL_CHANNEL_MAIN, &frame, NULL, 0);
}

static void to_round(struct rig *rig)
{
	peer_to_rounds(rig);
	peer_await(&rig->peer, FL_FRAME_ROUND);
}

/* The peer hears it, the machine goes on if it was stopped, and nothing was switched. */
static void assert_damaged(struct rig *rig, const char *text, unsigned int go_ons)
{
	assert_false(peer_takes(&rig->peer, FL_FRAME_GO));
	assert_int_equal(rig->peer.rc, -EREMOTEIO);
	assert_non_null(strstr(rig->peer.why.text, text));
	peer_cut(&rig->peer);
	assert_int_equal(rig_wait(rig, 1), FL_MIGRATE_FAILED);
	rig_assert_error(rig, -EBADMSG, text);
	assert_int_equal(rig->go_ons, go_ons);
	assert_false(rig->tracking);
	rig_end(rig);
}

/* Pages 0 to 29 are written in the first round, 7 to 36 in the second. */
static void begin(struct rig *rig, enum fl_migrate_mode mode)
{
	rig_begin(rig, mode);
	rig->options.max_downtime_ms = mode == FL_MIGRATE_PRECOPY ? 60000 : 0;
	rig->write_each = 30;
	rig_start(rig);
}

static void what_was_written_comes_again(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_HYBRID);
	to_round(&rig);
	torn(&rig, 0, 0xff); /* in frames as they come */
	torn(&rig, 16, 0x81);
	ack(&rig, 1);
	peer_await(&rig.peer, FL_FRAME_ROUND);
	torn(&rig, 30, 0x01); /* another one, and the old ones are forgotten */
	ack(&rig, 2);
	while (!rig.peer.state.begun || rig.peer.state.have < rig.peer.state.len)
		peer_await(&rig.peer, FL_FRAME_STATE);
	memset(rig.peer.answered, 0, sizeof(rig.peer.answered));
	peer_say(&rig.peer, FL_FRAME_READY);
	peer_await(&rig.peer, FL_FRAME_DUE_END);
	assert_true(fl_pageset_has(rig.peer.due, 30));
	peer_to_bye(&rig);
	assert_int_equal(rig_wait(&rig, 1), FL_MIGRATE_DONE);
	assert_same_memory(&rig);
	rig_end(&rig);
}

static void what_was_not_written_ends_it(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_HYBRID);
	to_round(&rig);
	torn(&rig, 24, 0x81); /* 24 was written, 31 was not */
	ack(&rig, 1);
	assert_damaged(&rig, "the page at offset 0x1f000 arrived with a wrong checksum", 0);

	/* A large one; the set is looked at anew in each round. */
	begin(&rig, FL_MIGRATE_HYBRID);
	to_round(&rig);
	torn(&rig, 3, 0x01);
	ack(&rig, 1);
	peer_await(&rig.peer, FL_FRAME_ROUND);
	torn(&rig, SMALL + 1, 0x01);
	ack(&rig, 2);
	assert_damaged(&rig, "the page at offset 0x600000 arrived with a wrong checksum", 0);
}

/* With vCPUs stopped nothing is written: whatever is torn then was damaged. */
static void the_last_round_of_precopy_has_none(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_PRECOPY);
	to_round(&rig);
	ack(&rig, 1);
	peer_await(&rig.peer, FL_FRAME_ROUND);
	torn(&rig, 5, 0x01);
	ack(&rig, 2);
	assert_damaged(&rig, "the page at offset 0x5000 arrived with a wrong checksum", 1);
	assert_int_equal(rig.peer.came[FL_FRAME_STATE], 0);
}

static void it_comes_between_a_round_and_its_end(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_MIGRATE_HYBRID);
	peer_to_machine(&rig);
	torn(&rig, 0, 1);
	assert_damaged(&rig, "TORN came in phase meeting", 0);

	begin(&rig, FL_MIGRATE_HYBRID);
	to_round(&rig);
	torn(&rig, SMALL + LARGE, 1);
	assert_damaged(&rig, "TORN: page 603 of 603", 0);

	begin(&rig, FL_MIGRATE_HYBRID);
	peer_to_state(&rig);
	torn(&rig, 0, 1);
	assert_damaged(&rig, "TORN came in phase switching", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_comes_again),
		cmocka_unit_test(what_was_not_written_ends_it),
		cmocka_unit_test(the_last_round_of_precopy_has_none),
		cmocka_unit_test(it_comes_between_a_round_and_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
