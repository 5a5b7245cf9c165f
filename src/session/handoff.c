/* SPDX-License-Identifier: MIT */
/*
 * Handing a guest from one process to another.
 *
 * What makes a pager replaceable is that nothing about its guest is known to it alone: the page
 * states are in a memfd, the faults that nobody has answered stay in the kernel, and waiters that
 * lost their event with a dead reader are woken by the next one and fault again. So a guest is
 * three descriptors (userfaultfd, table, pidfd) and a description of fixed length, of both ends'
 * byte order, since both are on one machine:
 *
 *	struct wire_head, then FL_REGIONS_MAX struct wire_region, those beyond count all zeros
 *
 * in one message with the descriptors as SCM_RIGHTS, in that order. Whoever keeps one can send it
 * any number of times: to a pager that takes over, and again to the one after that.
 */
#include "session/handoff.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "client/peer.h"
#include "trap/uffd.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

#define MAGIC   0x31304f444e484c46ULL /* "FLHNDO01" */
#define VERSION 1u
#define FDS     3

struct wire_head {
	uint64_t magic;
	uint32_t version;
	uint32_t count;
	uint64_t pages;
	int32_t pid;
	uint32_t zero;
};

struct wire_region {
	uint64_t gpa, offset, addr, len_bytes, page_size;
	uint32_t backing;
	uint32_t zero;
};

struct wire {
	struct wire_head head;
	struct wire_region regions[FL_REGIONS_MAX];
};

_Static_assert(sizeof(struct wire) == 32 + FL_REGIONS_MAX * 48, "the wire format has no padding");

int fl_handoff_describe(struct fl_handoff *handoff, const struct fl_layout *layout, int uffd,
			int table_fd, int pidfd, pid_t pid, struct fl_error *err)
{
	size_t count = fl_layout_count(layout);

	if (count > FL_REGIONS_MAX)
		return fl_error_set(err, -E2BIG,
				    "the guest was split into %zu regions, more than %d", count,
				    FL_REGIONS_MAX);
	*handoff = (struct fl_handoff){.count = count,
				       .pages = fl_layout_pages(layout),
				       .pid = pid,
				       .uffd = uffd,
				       .table_fd = table_fd,
				       .pidfd = pidfd};
	for (size_t i = 0; i < count; i++)
		handoff->regions[i] = *fl_layout_region(layout, i);
	return 0;
}

int fl_handoff_send(int sock, const struct fl_handoff *handoff, struct fl_error *err)
{
	int fds[FDS] = {handoff->uffd, handoff->table_fd, handoff->pidfd};
	struct wire wire = {.head = {.magic = MAGIC,
				     .version = VERSION,
				     .count = (uint32_t)handoff->count,
				     .pages = handoff->pages,
				     .pid = handoff->pid}};
	int rc;

	for (size_t i = 0; i < handoff->count; i++) {
		const struct fl_region *region = &handoff->regions[i];

		wire.regions[i] = (struct wire_region){.gpa = region->gpa,
						       .offset = region->offset,
						       .addr = region->addr,
						       .len_bytes = region->len_bytes,
						       .page_size = region->page_size,
						       .backing = region->backing};
	}
	rc = fl_peer_send(sock, &wire, sizeof(wire), fds, FDS);
	return rc ? fl_error_set(err, rc, "sending a handoff: %s", strerror(-rc)) : 0;
}

static int check_head(const struct wire_head *head, struct fl_error *err)
{
	if (head->magic != MAGIC)
		return fl_error_set(err, -EBADMSG, "this is no handoff");
	if (head->version != VERSION)
		return fl_error_set(err, -EBADMSG, "handoff of version %" PRIu32 ", not %u",
				    head->version, VERSION);
	if (head->count < 1 || head->count > FL_REGIONS_MAX)
		return fl_error_set(err, -EBADMSG, "handoff with %" PRIu32 " regions", head->count);
	if (head->zero || head->pid < 0)
		return fl_error_set(err, -EBADMSG, "handoff with a head that is not right");
	return 0;
}

static int take_regions(struct fl_handoff *handoff, const struct wire *wire, struct fl_error *err)
{
	for (size_t i = 0; i < wire->head.count; i++) {
		const struct wire_region *from = &wire->regions[i];

		if (from->backing > FL_BACKING_GMEM || from->zero)
			return fl_error_set(err, -EBADMSG, "handoff: region %zu is not right", i);
		handoff->regions[i] = (struct fl_region){.gpa = from->gpa,
							 .offset = from->offset,
							 .addr = from->addr,
							 .len_bytes = from->len_bytes,
							 .page_size = from->page_size,
							 .backing = (enum fl_backing)from->backing};
	}
	handoff->count = wire->head.count;
	handoff->pages = wire->head.pages;
	handoff->pid = wire->head.pid;
	return 0;
}

/* They come with the first byte; any others are too many. */
static int take_fds(struct fl_handoff *handoff, struct fl_piece *piece, bool first,
		    struct fl_error *err)
{
	size_t expected = first ? FDS : 0;

	if (piece->fd_count != expected || piece->fds_cut) {
		fl_peer_drop(piece, 0);
		return fl_error_set(err, -EBADMSG, "handoff without exactly %d descriptors", FDS);
	}
	if (!first)
		return 0;
	handoff->uffd = piece->fds[0];
	handoff->table_fd = piece->fds[1];
	handoff->pidfd = piece->fds[2];
	return 0;
}

static int check_fds(const struct fl_handoff *handoff, struct fl_error *err)
{
	if (!fl_uffd_is(handoff->uffd))
		return fl_error_set(err, -EBADMSG, "handoff: descriptor 0 is no userfaultfd");
	if (!fl_peer_is_pidfd(handoff->pidfd))
		return fl_error_set(err, -EBADMSG, "handoff: descriptor 2 is no pidfd");
	return 0;
}

static int receive_wire(int sock, uint64_t deadline_ns, struct wire *wire,
			struct fl_handoff *handoff, struct fl_error *err)
{
	size_t at = 0;

	while (at < sizeof(*wire)) {
		struct fl_piece piece;
		int rc = fl_peer_receive(sock, (char *)wire + at, sizeof(*wire) - at, deadline_ns,
					 &piece);

		if (!rc && piece.len_bytes == 0) {
			fl_peer_drop(&piece, 0);
			rc = -ECONNRESET;
		}
		if (rc)
			return fl_error_set(err, rc, "receiving a handoff: %s", strerror(-rc));
		rc = take_fds(handoff, &piece, at == 0, err);
		if (rc)
			return rc;
		at += piece.len_bytes;
	}
	return 0;
}

int fl_handoff_receive(int sock, unsigned int timeout_ms, struct fl_handoff *handoff,
		       struct fl_error *err)
{
	uint64_t deadline_ns = fl_clock_ns() + timeout_ms * FL_NS_PER_MS;
	struct wire wire;
	int rc;

	memset(handoff, 0, sizeof(*handoff));
	handoff->uffd = handoff->table_fd = handoff->pidfd = -1;
	rc = receive_wire(sock, deadline_ns, &wire, handoff, err);
	if (!rc)
		rc = check_head(&wire.head, err);
	if (!rc)
		rc = take_regions(handoff, &wire, err);
	if (!rc)
		rc = check_fds(handoff, err);
	if (rc)
		fl_handoff_drop(handoff);
	return rc;
}

void fl_handoff_drop(struct fl_handoff *handoff)
{
	fl_fd_close(&handoff->uffd);
	fl_fd_close(&handoff->table_fd);
	fl_fd_close(&handoff->pidfd);
}
