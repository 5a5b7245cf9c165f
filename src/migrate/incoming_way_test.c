/* SPDX-License-Identifier: MIT */

/*
 * A machine that arrives and reads by another way. The way is a source of the test's own that reads what the
 * other side has, when the test lets it: it can hold reads, fail them, and be a device that writes late.
 */

#include "incoming_rig_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define READS  1024
#define PIECE  (16u * 1024)
#define PLACES 256
#define NOPAGE (-1L)

struct place {
	struct fl_read *read;
	char *to;
	uint64_t offset, len;
};

struct fake {
	struct fl_source source;
	struct fl_source_ops ops;
	struct fl_queue queue;
	struct rig *rig;
	int fd;
	/* The engine's. */
	struct fl_read *reads[READS];
	unsigned int count;
	struct place places[PLACES]; /* that a device was given */
	unsigned int placed;
	/* Either's. */
	_Atomic bool hold;
	_Atomic int fail; /* all reads, with this; after so many pieces: */
	_Atomic unsigned int pieces;
	_Atomic long torn;          /* page whose reads have a wrong sum, */
	_Atomic unsigned int torns; /* for so many times */
	_Atomic unsigned int submits, hurries, quiesces, closes;
	char blob[16];
	int refuse; /* what way() says */
};

static struct fake fake;

static struct fake *of_queue(struct fl_queue *queue)
{
	return (struct fake *)(void *)((char *)queue - offsetof(struct fake, queue));
}

static void kick(void)
{
	assert_int_equal(eventfd_write(fake.fd, 1), 0);
}

static char *truth_at(uint64_t offset)
{
	return fake.rig->truth + offset;
}

/* Where a device will write is asked when the read begins. */
static void place_all(struct fl_read *read)
{
	uint64_t at = 0, len;

	for (; at < read->len_bytes; at += len) {
		char *to;

		len = read->len_bytes - at;
		to = read->place ? read->place(read, read->offset + at, &len)
				 : (char *)read->buf + at;
		if (!to)
			continue;
		assert_true(fake.placed < PLACES);
		fake.places[fake.placed++] = (struct place){read, to, read->offset + at, len};
	}
}

/* The device comes to it. */
static void write_placed(const struct fl_read *read)
{
	for (unsigned int i = 0; i < fake.placed; i++) {
		struct place *place = &fake.places[i];

		if (place->read == read && place->to) {
			memcpy(place->to, truth_at(place->offset), place->len);
			place->to = NULL;
		}
	}
}

static int fake_attempt(struct fl_queue *queue, void *buf, uint64_t len, uint64_t offset)
{
	(void)queue, (void)buf, (void)len, (void)offset;
	return -EAGAIN;
}

static int fake_submit(struct fl_queue *queue, struct fl_read *read)
{
	(void)of_queue(queue);
	if (fake.count == READS)
		return -EBUSY;
	fake.reads[fake.count++] = read;
	fake.submits++;
	if (fake.ops.flags & FL_SOURCE_DIRECT)
		place_all(read);
	kick();
	return 0;
}

static int fake_fd(struct fl_queue *queue)
{
	return of_queue(queue)->fd;
}

static bool is_torn(const struct fl_read *read)
{
	uint64_t offset = (uint64_t)fake.torn * fake.rig->page_size;

	if (fake.torn == NOPAGE || !fake.torns || offset < read->offset ||
	    offset >= read->offset + read->len_bytes)
		return false;
	fake.torns--;
	return true;
}

/* False when the read is to fail here. */
static bool bring_pieces(struct fl_read *read)
{
	uint64_t at = 0, len;

	for (; at < read->len_bytes; at += len) {
		char *to;

		if (fake.fail && !fake.pieces)
			return false;
		len = read->len_bytes - at < PIECE ? read->len_bytes - at : PIECE;
		to = read->place ? read->place(read, read->offset + at, &len)
				 : (char *)read->buf + at;
		if (to)
			memcpy(to, truth_at(read->offset + at), len);
		if (to && read->arrived)
			read->arrived(read, read->offset + at, len);
		if (fake.pieces)
			fake.pieces--;
	}
	return true;
}

static bool bring_placed(struct fl_read *read)
{
	write_placed(read);
	for (unsigned int i = 0; i < fake.placed; i++)
		if (fake.places[i].read == read && read->arrived)
			read->arrived(read, fake.places[i].offset, fake.places[i].len);
	return !fake.fail;
}

static bool bring(struct fl_read *read)
{
	if (fake.ops.flags & FL_SOURCE_DIRECT)
		return bring_placed(read);
	if (fake.ops.flags & FL_SOURCE_PIECES || fake.fail)
		return bring_pieces(read);
	memcpy(read->buf, truth_at(read->offset), read->len_bytes);
	return true;
}

static void end(struct fl_read *read)
{
	read->result = is_torn(read) ? -EBADMSG : 0;
	if (!read->result && !bring(read))
		read->result = fake.fail;
	for (unsigned int i = 0; i < fake.placed; i++)
		if (fake.places[i].read == read)
			fake.places[i].read = NULL;
	read->done(read);
}

static int fake_reap(struct fl_queue *queue)
{
	struct fl_read *reads[READS];
	unsigned int count = fake.count;
	eventfd_t kicks;

	(void)eventfd_read(of_queue(queue)->fd, &kicks);
	if (fake.hold)
		return 0;
	memcpy(reads, fake.reads, sizeof(reads));
	fake.count = 0;
	for (unsigned int i = 0; i < count; i++)
		end(reads[i]);
	return (int)count;
}

static void fake_close(struct fl_queue *queue)
{
	of_queue(queue)->closes++;
}

static void fake_hurry(struct fl_queue *queue, struct fl_read *read, uint64_t offset, uint64_t len)
{
	assert_true(offset >= read->offset && offset + len <= read->offset + read->len_bytes);
	of_queue(queue)->hurries++;
}

static void fake_quiesce(struct fl_queue *queue, struct fl_read *read)
{
	of_queue(queue)->quiesces++;
	write_placed(read);
}

static const struct fl_queue_ops fake_queue_ops = {
	.size = sizeof(fake_queue_ops),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = fake_attempt,
	.submit = fake_submit,
	.fd = fake_fd,
	.reap = fake_reap,
	.close = fake_close,
	.hurry = fake_hurry,
	.quiesce = fake_quiesce,
};

static uint64_t fake_length(struct fl_source *source)
{
	(void)source;
	return fake.rig->len;
}

static void fake_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	(void)source;
	*extent = (struct fl_extent){.len_bytes = fake.rig->len - offset};
}

static int fake_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue)
{
	(void)source, (void)depth;
	fake.queue.ops = &fake_queue_ops;
	*queue = &fake.queue;
	return 0;
}

static void fake_source_close(struct fl_source *source)
{
	(void)source;
	fake.closes++;
}

/* --- what the VMM does --- */

static int make_way(void *ctx, enum fl_migrate_way kind, const void *blob, size_t len_bytes,
		    struct fl_source **source, struct fl_error *err)
{
	assert_ptr_equal(ctx, fake.rig);
	assert_int_equal(kind, FL_MIGRATE_BY_WORKER);
	if (fake.refuse) {
		*err = (struct fl_error){.code = fake.refuse, .text = "no worker on this host"};
		return fake.refuse;
	}
	memcpy(fake.blob, blob, len_bytes < sizeof(fake.blob) ? len_bytes : sizeof(fake.blob));
	*source = &fake.source;
	return 0;
}

static void begin(struct rig *rig, uint32_t flags, struct rig_options options)
{
	memset(&fake, 0, sizeof(fake));
	fake.rig = rig;
	fake.torn = NOPAGE;
	fake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fake.ops = (struct fl_source_ops){.size = sizeof(fake.ops),
					  .version = FL_SOURCE_OPS_VERSION,
					  .flags = flags,
					  .name = "fake",
					  .length = fake_length,
					  .extent = fake_extent,
					  .open = fake_open,
					  .close = fake_source_close};
	fake.source.ops = &fake.ops;
	options.ways = FL_MIGRATE_BY_WORKER | FL_MIGRATE_BY_FABRIC;
	options.way = make_way;
	options.load_touches = -1;
	rig_start(rig, &options);
}

static void finish(struct rig *rig)
{
	bool had = *fake.blob;

	rig_stop(rig);
	assert_int_equal(fake.closes, had ? 2 : 0);
	close(fake.fd);
}

static void say_way(struct rig *rig)
{
	struct fl_frame frame = {.type = FL_FRAME_WAY, .id = FL_MIGRATE_BY_WORKER};

	rig_say_with(rig, 0, &frame, "over there", 11);
}

static void to_way(struct rig *rig)
{
	rig_to_rounds(rig);
	say_way(rig);
}

static void to_go(struct rig *rig)
{
	rig_state(rig);
	rig_serve_until(rig, FL_FRAME_READY);
	rig_say(rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(rig, FL_FRAME_RUNNING, 1);
}

static void complete(struct rig *rig)
{
	rig_serve_until(rig, FL_FRAME_COMPLETE);
	rig_say(rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(rig);
}

static void say_range(struct rig *rig, size_t page, size_t count)
{
	rig_say(rig, 0, FL_FRAME_RANGE, page * rig->page_size, (uint32_t)(count * rig->page_size),
		0);
}

/* --- after the switch --- */

static void all_by_the_way(uint32_t flags, struct rig_options options)
{
	struct fl_incoming_stats stats;
	struct rig rig;

	begin(&rig, flags, options);
	to_way(&rig);
	to_go(&rig);
	assert_string_equal(fake.blob, "over there");
	assert_int_equal(fake.submits, 0);
	rig_due(&rig);
	complete(&rig);
	stats = rig_stats(&rig);
	assert_int_equal(rig.now->requests, 0);
	assert_int_equal(stats.by_way, rig.pages);
	assert_int_equal(stats.way, FL_MIGRATE_BY_WORKER);
	assert_int_equal(stats.pager.fill, rig.pages);
	finish(&rig);
}

static void test_all_by_the_way(void **state)
{
	(void)state;
	all_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	all_by_the_way(FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024});
	all_by_the_way(0, (struct rig_options){.pages = 1024});
	all_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 256, .segv = true});
}

static void test_all_by_the_way_hugetlb(void **state)
{
	(void)state;
	all_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 8, .hugetlb = true});
	all_by_the_way(FL_SOURCE_DIRECT, (struct rig_options){.pages = 8, .hugetlb = true});
	all_by_the_way(0, (struct rig_options){.pages = 8, .hugetlb = true});
}

/* Only the other side knows what is clean; of what is not due, nothing is read by the way after either. */
static void test_before_due_end_the_link_is_asked(void **state)
{
	struct rig_toucher early, late;
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	to_way(&rig);
	rig_pages(&rig, 0, 0, rig.pages, false);
	rig_round(&rig, 1);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	rig_write(&rig, 9, 2);
	rig_write(&rig, 40, 2);
	(void)fl_pageset_add(rig.owed, 9, 1);
	(void)fl_pageset_add(rig.owed, 40, 1);
	to_go(&rig);
	rig_touch(&early, &rig, 9);
	rig_serve_while(&rig, !early.done);
	rig_touched(&early);
	assert_int_equal(rig.now->requests, 1);
	assert_int_equal(fake.submits, 0);
	(void)fl_pageset_add(rig.owed, 9, 1); /* the set is as it was */
	fake.hold = true;
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_touch(&late, &rig, 40);
	fake.hold = false;
	kick();
	complete(&rig);
	rig_touched(&late);
	assert_int_equal(rig.now->requests, 1);
	assert_int_equal(rig_stats(&rig).by_way, 1);
	finish(&rig);
}

/* A fault on what is on its way in the background. */
static void test_demand_hurries(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	fake.hold = true;
	to_way(&rig);
	to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_touch(&one, &rig, 5);
	rig_wait(fake.hurries > 0);
	assert_false(one.done);
	fake.hold = false;
	kick();
	complete(&rig);
	rig_touched(&one);
	assert_int_equal(rig.now->requests, 0);
	finish(&rig);
}

/* --- when it fails --- */

static void fails(uint32_t flags, struct rig_options options, unsigned int pieces)
{
	struct rig_toucher one;
	struct rig rig;

	begin(&rig, flags, options);
	fake.hold = true;
	to_way(&rig);
	to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_touch(&one, &rig, rig.pages - 1);
	fake.pieces = pieces;
	fake.fail = -EPIPE;
	fake.hold = false;
	kick();
	complete(&rig);
	rig_touched(&one);
	assert_true(rig.now->requests > 0);
	assert_int_equal(rig_stats(&rig).way, FL_MIGRATE_BY_LINK);
	assert_int_equal(rig_stats(&rig).pager.poisoned, 0);
	assert_int_equal(rig_stats(&rig).pager.errors, 0);
	finish(&rig);
}

static void test_a_way_that_fails_is_the_links(void **state)
{
	(void)state;
	fails(FL_SOURCE_PIECES, (struct rig_options){.pages = 1024}, 0);
	fails(FL_SOURCE_PIECES, (struct rig_options){.pages = 1024}, 3);
	fails(FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024}, 0);
	fails(0, (struct rig_options){.pages = 1024}, 0);
}

/* Of a page that came in part, all of it is asked for. */
static void test_a_way_that_fails_within_a_huge_page(void **state)
{
	(void)state;
	fails(FL_SOURCE_PIECES, (struct rig_options){.pages = 8, .hugetlb = true}, 5);
}

static void test_a_wrong_sum_is_that_reads_alone(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	to_way(&rig);
	to_go(&rig);
	fake.torn = 700;
	fake.torns = 1;
	fake.hold = true;
	rig_due(&rig);
	rig_wait(fake.submits > 0); /* from here on nothing is asked of the link */
	rig_touch(&one, &rig, 700);
	fake.hold = false;
	kick();
	complete(&rig);
	rig_touched(&one);
	assert_true(rig.now->requests > 0);
	assert_int_equal(fake.torns, 0);
	assert_int_equal(rig_stats(&rig).way, FL_MIGRATE_BY_WORKER);
	assert_true(rig_stats(&rig).by_way >= rig.pages / 2);
	finish(&rig);
}

/* Says nothing any more, and is not waited for longer than the timeout. */
static void test_a_silent_way_is_abandoned(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024, .timeout_ms = 1000});
	fake.hold = true;
	to_way(&rig);
	to_go(&rig);
	rig_due(&rig);
	rig_touch(&one, &rig, 77);
	complete(&rig);
	rig_touched(&one);
	assert_true(fake.quiesces > 0);
	assert_int_equal(rig_stats(&rig).by_way, 0);
	assert_int_equal(rig_stats(&rig).way, FL_MIGRATE_BY_LINK);
	finish(&rig);
}

/* The link is lost: the way needs it not. */
static void test_goes_on_without_the_link(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	fake.hold = true;
	to_way(&rig);
	to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	rig_touch(&one, &rig, 900);
	fake.hold = false;
	kick();
	rig_touched(&one);
	rig_wait(rig_stats(&rig).by_way == rig.pages);
	rig_meet_again(&rig, false);
	rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
	assert_int_equal(fl_pageset_count(rig.now->received), rig.pages);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_say(&rig, 0, FL_FRAME_DUE_END, 0, 0, 0);
	rig_await(&rig, FL_FRAME_COMPLETE, 1);
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_wait(rig_phase(&rig) == FL_MIGRATE_DONE);
	rig_check_all(&rig);
	assert_int_equal(rig.now->requests, 0);
	finish(&rig);
}

/* Lost while it brings pages, and recovered: it goes on, and nothing is asked of the link. */
static void test_goes_on_after_a_recovery(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 1024});
	fake.hold = true;
	to_way(&rig);
	to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	rig_cut(&rig);
	rig_ended(&rig, FL_MIGRATE_LOST, -ECONNRESET, NULL);
	rig_meet_again(&rig, false);
	rig_await(&rig, FL_FRAME_RECEIVED_END, 1);
	rig_say(&rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_due(&rig);
	fake.hold = false;
	kick();
	complete(&rig);
	assert_int_equal(rig.now->requests, 0);
	assert_int_equal(rig_stats(&rig).by_way, rig.pages);
	finish(&rig);
}

/* A device still writes what the guest has given back: no zeros before it has finished. */
static void test_given_back_while_a_device_writes(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024});
	fake.hold = true;
	to_way(&rig);
	to_go(&rig);
	rig_due(&rig);
	rig_wait(fake.submits > 0);
	assert_int_equal(madvise(rig_at(&rig, 4), 4 * rig.page_size, MADV_REMOVE), 0);
	/* It brings what was there before the machine was given zeros. */
	rig_wait(fake.quiesces > 0);
	assert_int_equal(test_nonzero(rig_at(&rig, 5), rig.page_size), -1);
	for (size_t page = 4; page < 8; page++)
		rig_write(&rig, page, 0);
	test_pattern(rig_at(&rig, 6), rig.page_size, 6 * rig.page_size, 9);
	fake.hold = false;
	kick();
	rig_serve_until(&rig, FL_FRAME_COMPLETE);
	rig_write(&rig, 6, 9); /* and what the guest writes stays */
	rig_say(&rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(&rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(&rig);
	assert_true(fake.quiesces > 0);
	finish(&rig);
}

/* All of memory is populated, as by a device that pins it: nothing of it counts as received. */
static void test_what_is_populated_is_not_received(void **state)
{
	struct rig_toucher one;
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_DIRECT, (struct rig_options){.pages = 64});
	fake.hold = true;
	to_way(&rig);
	memset(rig.alias, 0xee, rig.len);
	to_go(&rig);
	rig_touch(&one, &rig, 3); /* before DUE_END */
	rig_serve_while(&rig, !one.done);
	rig_touched(&one);
	(void)fl_pageset_add(rig.owed, 3, 1);
	rig_due(&rig);
	rig_touch(&one, &rig, 50);
	rig_wait(fake.submits > 0);
	fake.hold = false;
	kick();
	complete(&rig);
	rig_touched(&one);
	assert_int_equal(rig_stats(&rig).clean, 0);
	finish(&rig);
}

/* --- rounds --- */

static void round_by_the_way(uint32_t flags, struct rig_options options)
{
	struct rig rig;

	begin(&rig, flags, options);
	fake.hold = true;
	to_way(&rig);
	say_range(&rig, 0, rig.pages / 2);
	rig_zero(&rig, 0, rig.pages / 2, 1);
	rig_write(&rig, rig.pages / 2, 0);
	say_range(&rig, rig.pages / 2 + 1, rig.pages / 2 - 1);
	rig_say(&rig, 0, FL_FRAME_ROUND, 0, 0, 1);
	rig_say(&rig, 0, FL_FRAME_PING, 0, 0, 7);
	rig_await(&rig, FL_FRAME_PONG, 1);
	assert_int_equal(rig.now->came[FL_FRAME_ROUND_ACK], 0); /* not before it is there */
	fake.hold = false;
	kick();
	rig_await(&rig, FL_FRAME_ROUND_ACK, 1);
	assert_int_equal(rig.now->came[FL_FRAME_TORN], 0);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	to_go(&rig);
	rig_due(&rig);
	complete(&rig);
	assert_int_equal(rig.now->requests, 0);
	assert_int_equal(rig_stats(&rig).by_way, rig.pages - 1);
	assert_int_equal(rig_stats(&rig).precopy, rig.pages);
	assert_int_equal(rig_stats(&rig).clean, rig.pages);
	finish(&rig);
}

static void test_a_round_by_the_way(void **state)
{
	(void)state;
	round_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 4096});
	round_by_the_way(FL_SOURCE_DIRECT, (struct rig_options){.pages = 1024});
	round_by_the_way(0, (struct rig_options){.pages = 1024});
}

static void test_a_round_by_the_way_hugetlb(void **state)
{
	(void)state;
	round_by_the_way(FL_SOURCE_PIECES, (struct rig_options){.pages = 8, .hugetlb = true});
}

/* A read of many pages has a wrong sum because of one: that one is torn, and no other. */
static void test_a_page_that_is_written_is_torn(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.pages = 128});
	fake.torn = 5;
	fake.torns = 2; /* the run, and the page */
	to_way(&rig);
	say_range(&rig, 0, 64);
	say_range(&rig, 64, 64);
	rig_round(&rig, 1);
	assert_int_equal(rig.now->came[FL_FRAME_TORN], 1);
	assert_int_equal(fl_pageset_count(rig.now->torn), 1);
	assert_true(fl_pageset_has(rig.now->torn, 5));
	assert_int_equal(rig_stats(&rig).torn, 1);
	fake.torn = 70;
	fake.torns = 1; /* the run alone: nothing is torn */
	rig_write(&rig, 70, 3);
	say_range(&rig, 64, 64);
	rig_round(&rig, 2);
	assert_int_equal(rig.now->came[FL_FRAME_TORN], 2); /* 5 again */
	assert_int_equal(fl_pageset_count(rig.now->torn), 1);
	(void)fl_pageset_del(rig.owed, 0, rig.pages);
	(void)fl_pageset_add(rig.owed, 5, 1);
	to_go(&rig);
	rig_due(&rig);
	complete(&rig);
	finish(&rig);
}

static void test_a_way_that_fails_in_a_round_ends_it(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	fake.fail = -EPIPE;
	to_way(&rig);
	say_range(&rig, 0, 32);
	rig_ended(&rig, FL_MIGRATE_FAILED, -EPIPE, "the page worker brings no pages: Broken pipe");
	finish(&rig);
}

static void test_a_silent_way_ends_a_round(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){.timeout_ms = 1000});
	fake.hold = true;
	to_way(&rig);
	say_range(&rig, 0, 32);
	rig_serve_while(&rig, rig.ends == 0);
	rig_ended(&rig, FL_MIGRATE_FAILED, -ETIMEDOUT, "the page worker brings no pages");
	finish(&rig);
}

static void test_no_way_ends_it(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	fake.refuse = -ENOENT;
	to_way(&rig);
	rig_ended(&rig, FL_MIGRATE_FAILED, -ENOENT,
		  "the page worker cannot be read by: no worker on this host");
	finish(&rig);
}

/* --- what must not come --- */

static void say_twice(struct rig *rig)
{
	say_way(rig);
}

static void say_another(struct rig *rig)
{
	say_range(rig, 31, 1);
	say_range(rig, 0, 32);
}

static void send_pages(struct rig *rig)
{
	say_range(rig, 0, 2);
	rig_pages(rig, 0, 1, 1, false);
}

static void send_zero(struct rig *rig)
{
	say_range(rig, 0, 2);
	rig_zero(rig, 0, 0, 1);
}

static void send_state(struct rig *rig)
{
	say_range(rig, 0, 2);
	rig_state(rig);
}

static void send_due(struct rig *rig)
{
	say_range(rig, 0, 2);
	rig_say(rig, 0, FL_FRAME_DUE_END, 0, 0, 0);
}

static void range_after_round(struct rig *rig)
{
	say_range(rig, 0, 2);
	rig_say(rig, 0, FL_FRAME_ROUND, 0, 0, 1);
	say_range(rig, 2, 2);
}

static void range_beyond(struct rig *rig)
{
	say_range(rig, 31, 2);
}

static void test_what_must_not_come(void **state)
{
	static const struct {
		void (*say)(struct rig *rig);
		const char *text;
	} cases[] = {
		{say_twice, "WAY came in phase rounds"},
		{say_another, "RANGE: the pages at offset 0x0 were named by RANGE before"},
		{send_pages, "PAGES: the pages at offset 0x1000 were named"},
		{send_zero, "ZERO: the pages at offset 0x0 were named"},
		{send_state, "STATE came in phase rounds"},
		{send_due, "DUE_END came in phase rounds"},
		{range_after_round, "RANGE came in phase rounds"},
		{range_beyond, "RANGE: 8192 bytes at offset 0x1f000 reach beyond"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct rig rig;

		begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
		fake.hold = true;
		to_way(&rig);
		cases[i].say(&rig);
		rig_ended(&rig, FL_MIGRATE_FAILED, -EBADMSG, cases[i].text);
		finish(&rig);
	}
}

static void test_range_without_a_way(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig, FL_SOURCE_PIECES, (struct rig_options){0});
	rig_to_rounds(&rig);
	say_range(&rig, 0, 2);
	rig_ended(&rig, FL_MIGRATE_FAILED, -EBADMSG, "RANGE came in phase rounds");
	finish(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_by_the_way),
		cmocka_unit_test(test_all_by_the_way_hugetlb),
		cmocka_unit_test(test_before_due_end_the_link_is_asked),
		cmocka_unit_test(test_demand_hurries),
		cmocka_unit_test(test_a_way_that_fails_is_the_links),
		cmocka_unit_test(test_a_way_that_fails_within_a_huge_page),
		cmocka_unit_test(test_a_wrong_sum_is_that_reads_alone),
		cmocka_unit_test(test_a_silent_way_is_abandoned),
		cmocka_unit_test(test_goes_on_without_the_link),
		cmocka_unit_test(test_goes_on_after_a_recovery),
		cmocka_unit_test(test_given_back_while_a_device_writes),
		cmocka_unit_test(test_what_is_populated_is_not_received),
		cmocka_unit_test(test_a_round_by_the_way),
		cmocka_unit_test(test_a_round_by_the_way_hugetlb),
		cmocka_unit_test(test_a_page_that_is_written_is_torn),
		cmocka_unit_test(test_a_way_that_fails_in_a_round_ends_it),
		cmocka_unit_test(test_a_silent_way_ends_a_round),
		cmocka_unit_test(test_no_way_ends_it),
		cmocka_unit_test(test_what_must_not_come),
		cmocka_unit_test(test_range_without_a_way),
	};

	return cmocka_run_group_tests_name("incoming_way", tests, NULL, NULL);
}
