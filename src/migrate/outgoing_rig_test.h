/* SPDX-License-Identifier: MIT */
#ifndef FL_OUTGOING_RIG_TEST_H
#define FL_OUTGOING_RIG_TEST_H

/*
 * What the tests of the outgoing side share: a machine whose memory and written pages the test
 * decides, and the incoming side as a script: the test's thread speaks the page link over real
 * sockets, a frame at a time, and keeps an image of what it was sent.
 */

#include "support.h"
#include "migrate/outgoing.h"

#include <faultline/link.h>

#define SMALL      600u /* pages of 4 KiB, at offset 0 */
#define LARGE      3u   /* pages of 2 MiB, behind a gap */
#define ALL        (SMALL + LARGE)
#define SMALL_SIZE 4096u
#define LARGE_SIZE (2u << 20)
#define LARGE_AT   (4u << 20) /* offset */
#define IMAGE_LEN  (LARGE_AT + LARGE * LARGE_SIZE)
#define CONFIG     "what the machine is"
#define STATE      "how far it is"

struct peer {
	struct rig *rig;
	struct fl_conn *conn[2]; /* by enum fl_channel; NULL: cut */
	uint8_t session[FL_WIRE_SESSION];
	uint8_t *image;
	unsigned int travelled[ALL]; /* how often contents or ZERO came for a page */
	unsigned int answered[ALL];  /* likewise, and CLEAN */
	struct fl_blob machine, state;
	struct fl_pageset *due;
	uint64_t due_said; /* by DUE_END */
	uint64_t zero_frames, clean_frames, pages_frames, on_demand;
	unsigned int came[FL_FRAME_TYPES];  /* frames on both connections */
	unsigned int taken[FL_FRAME_TYPES]; /* of these, waited for */
	uint32_t round;
	bool mute;           /* answers no PING */
	uint32_t ways;       /* that it can read by, */
	struct fl_frame way; /* and what came of that */
	char way_said[16];
	int rc; /* what ended receiving, or 0 */
	struct fl_error why;
};

struct rig {
	uint8_t *memory[2]; /* of the regions */
	struct fl_layout *layout;
	struct fl_outgoing_options options;
	struct fl_outgoing *out;
	int listen_fd;
	char address[128];
	struct peer peer;

	/* The machine: of the migration's thread while it runs. */
	uint64_t seed[ALL];               /* what test_pattern() made a page of; 0: zeros */
	struct fl_pageset *dirty, *known; /* collect() and holes() tell of these */
	unsigned int write_each;          /* collect() first writes so many pages */
	unsigned int collects;
	uint64_t seeds;
	bool stopped, tracking;
	int fail_track, fail_collect, fail_stop, fail_save, fail_holes; /* by these errors */
	void *state;                                                    /* NULL: STATE */
	size_t state_len;
	bool with_holes;
	uint64_t give_way_ns;                              /* 0: as it is */
	void (*at_collect)(struct rig *rig);               /* called by it, or NULL */
	void (*at_log)(struct rig *rig, const char *text); /* likewise, with each message */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int stops, go_ons, saves, ends; /* calls */
	enum fl_migrate_phase ended;             /* the last */
};

/* Memory full of patterns, and options that do not wait long: mode, then start. */
void rig_begin(struct rig *rig, enum fl_migrate_mode mode);
/* Another kind of page; not once it was started, but from within the machine's calls. */
void rig_write(struct rig *rig, uint64_t page);
void rig_zero(struct rig *rig, uint64_t page, uint64_t count);
void rig_start(struct rig *rig);
/* Until ended() was called @ends times in all; the phase it was told. */
enum fl_migrate_phase rig_wait(struct rig *rig, unsigned int ends);
struct fl_outgoing_stats rig_stats(struct rig *rig);
/* Its error must have this code and this in its text. */
void rig_assert_error(struct rig *rig, int code, const char *text);
void rig_end(struct rig *rig);

uint64_t rig_offset(uint64_t page);
uint64_t rig_size(uint64_t page);
const uint8_t *rig_page(const struct rig *rig, uint64_t page);

void peer_meet(struct rig *rig);
/* Meets again: by connecting, or by being connected to. */
void peer_meet_again(struct rig *rig, const char *connect);
void peer_cut(struct peer *peer);
void peer_cut_one(struct peer *peer, enum fl_channel channel);
/* Until the next frame of this type has come; fails the test when the connection ends instead. */
void peer_await(struct peer *peer, uint8_t type);
/* Likewise, or until the connection ends: then false. */
bool peer_takes(struct peer *peer, uint8_t type);
void peer_send(struct peer *peer, enum fl_channel channel, const struct fl_frame *frame,
	       const void *payload, uint32_t len);
void peer_say(struct peer *peer, uint8_t type);
void peer_ask(struct peer *peer, enum fl_channel channel, uint64_t page, uint64_t count);
/* Until every page of these has been answered. */
void peer_await_pages(struct peer *peer, uint64_t page, uint64_t count);

/* The script up to a frame: each does what those before it do. */
void peer_to_machine(struct rig *rig);
void peer_to_rounds(struct rig *rig);
/* Acknowledges rounds until STATE is whole. */
void peer_to_state(struct rig *rig);
void peer_to_go(struct rig *rig);
void peer_to_due_end(struct rig *rig);
/* Asks for all that is due, and ends it. */
void peer_to_bye(struct rig *rig);
/* The peer's image is the machine's memory. */
void assert_same_memory(struct rig *rig);

#endif
