/* SPDX-License-Identifier: MIT */
#include "incoming_way_rig_test.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fake fake;

static struct fake *of_queue(struct fl_queue *queue)
{
	return (struct fake *)(void *)((char *)queue - offsetof(struct fake, queue));
}

void fake_kick(void)
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
	fake_kick();
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
	write_placed(read);
	of_queue(queue)->quiesces++; /* whoever sees it may write what was read */
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

void way_begin(struct rig *rig, uint32_t flags, struct rig_options options)
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

void way_finish(struct rig *rig)
{
	bool had = *fake.blob;

	rig_stop(rig);
	assert_int_equal(fake.closes, had ? 2 : 0);
	close(fake.fd);
}

void way_say(struct rig *rig)
{
	struct fl_frame frame = {.type = FL_FRAME_WAY, .id = FL_MIGRATE_BY_WORKER};

	rig_say_with(rig, 0, &frame, "over there", 11);
}

void way_to_rounds(struct rig *rig)
{
	rig_to_rounds(rig);
	way_say(rig);
}

void way_to_go(struct rig *rig)
{
	rig_state(rig);
	rig_serve_until(rig, FL_FRAME_READY);
	rig_say(rig, 0, FL_FRAME_GO, 0, 0, 0);
	rig_await(rig, FL_FRAME_RUNNING, 1);
}

void way_complete(struct rig *rig)
{
	rig_serve_until(rig, FL_FRAME_COMPLETE);
	rig_say(rig, 0, FL_FRAME_BYE, 0, 0, 0);
	rig_ended(rig, FL_MIGRATE_DONE, 0, "");
	rig_check_all(rig);
}

void way_say_range(struct rig *rig, size_t page, size_t count)
{
	rig_say(rig, 0, FL_FRAME_RANGE, page * rig->page_size, (uint32_t)(count * rig->page_size),
		0);
}
