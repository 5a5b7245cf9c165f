/* SPDX-License-Identifier: MIT */

/*
 * The due set: which pages the machine wrote after they were sent. Until it is whole every page counts as
 * stale; then what is left of the rounds is right, and the pager has it without asking. A page that never
 * came right must be due: the other side that forgets one would leave the guest with wrong memory.
 */

#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <string.h>
#include <inttypes.h>

static bool is_there(const struct fl_incoming *in, uint64_t page)
{
	enum fl_page_state state = fl_table_state(in->table, page);

	return state == FL_PRESENT || state == FL_REMOVED || state == FL_POISONED ||
	       fl_table_owns(in->table, page, FL_CLAIM_ZERO);
}

static bool has_right(const struct fl_incoming *in, uint64_t page)
{
	return (fl_pageset_has(in->received, page) || fl_pageset_has(in->zeros, page)) &&
	       !fl_pageset_has(in->torn, page);
}

bool fl_incoming_valid(const struct fl_incoming *in, uint64_t page)
{
	return has_right(in, page) && !(in->due_whole && fl_pageset_has(in->due, page));
}

bool fl_incoming_all_due(const struct fl_incoming *in, uint64_t page, uint64_t pages)
{
	uint64_t first = page;

	return in->due_whole && fl_pageset_has(in->due, page) &&
	       fl_pageset_run(in->due, &first) >= pages;
}

int fl_incoming_due(struct fl_incoming *in, const struct fl_frame *frame, const void *payload)
{
	struct fl_error err = {0};
	int code = fl_bits_add(in->due_again ? in->due_again : in->due, in->pages, frame, payload,
			       &err);

	return code ? fl_incoming_break(in, code, "%s", err.text) : 0;
}

static uint64_t offset_of(const struct fl_incoming *in, uint64_t page)
{
	struct fl_place place = {0};

	(void)fl_layout_by_page(in->shape, page, &place);
	return place.offset;
}

/* Pages of a set from this one on. */
static uint64_t run_at(const struct fl_pageset *set, uint64_t page)
{
	uint64_t first = page, run = fl_pageset_has(set, page) ? fl_pageset_run(set, &first) : 0;

	return run;
}

/* Pages from this one on that are right or due. Before they are adopted, no page of received or
 * zeros is torn. */
static uint64_t accounted(const struct fl_incoming *in, uint64_t page)
{
	uint64_t run = run_at(in->received, page);

	if (!run)
		run = run_at(in->due, page);
	return run ? run : run_at(in->zeros, page);
}

/* Does the set name every page that is not right, and not there? */
static int check_due(struct fl_incoming *in)
{
	uint64_t page = 0, run;

	for (; page < in->pages; page += run) {
		run = accounted(in, page);
		if (run || is_there(in, page)) {
			run = run ? run : 1;
			continue;
		}
		return fl_incoming_break(
			in, -EBADMSG,
			"DUE_END: the page at offset 0x%" PRIx64 " is not due, but %s",
			offset_of(in, page),
			fl_pageset_has(in->torn, page) ? "what came of it is torn" : "never came");
	}
	return 0;
}

int fl_incoming_due_end(struct fl_incoming *in, const struct fl_frame *frame)
{
	struct fl_error err = {0};
	int code = fl_bits_end(in->due_again ? in->due_again : in->due, frame, &err);

	if (code)
		return fl_incoming_break(in, code, "%s", err.text);
	if (in->lack)
		return fl_incoming_recovered(in);
	code = check_due(in);
	if (code)
		return code;
	in->due_whole = true;
	fl_incoming_set(&in->count.due, frame->offset);
	fl_incoming_set(&in->count.due_end_ns, fl_clock_ns());
	return in->again == FL_AGAIN_DUE ? fl_incoming_recovered(in) : 0;
}

static void del_all(struct fl_pageset *from, const struct fl_pageset *pages)
{
	uint64_t page = 0, run;

	for (; (run = fl_pageset_run(pages, &page)); page += run)
		(void)fl_pageset_del(from, page, run);
}

bool fl_incoming_adopt(struct fl_incoming *in)
{
	struct fl_pager *pager = fl_incoming_pager(in);
	int err;

	if (!pager || !in->due_whole || in->adopted)
		return false;
	del_all(in->received, in->due);
	del_all(in->zeros, in->due);
	in->adopted = true;
	err = fl_pager_adopt(pager, in->received, in->zeros);
	if (err) /* they are read then, and answered by CLEAN */
		fl_log(&in->options.log, FL_LOG_WARNING, "clean pages cannot be adopted: %s",
		       strerrordesc_np(-err));
	fl_pager_fill(pager);
	return true;
}

static bool is_full(const struct fl_pager *pager)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};

	fl_pager_stats(pager, &stats);
	return stats.full_ns && !stats.left;
}

static void send_complete(struct fl_incoming *in)
{
	struct fl_frame complete = {.type = FL_FRAME_COMPLETE};
	struct fl_pager_stats stats = {.size = sizeof(stats)};
	uint8_t waits[FL_WIRE_WAITS_BYTES];

	if (in->tells_waits) {
		fl_pager_stats(fl_incoming_pager(in), &stats);
		fl_waits_encode(waits, &stats.faults[FL_FAULT_MISS]);
		complete.len = sizeof(waits);
	}
	fl_incoming_send_with(in, &complete, waits);
}

void fl_incoming_finish(struct fl_incoming *in)
{
	/* While it is busy, or waits for an answer, it is not worth asking for all figures. */
	if (in->stage == FL_STAGE_GONE && in->adopted && !in->more && !in->source.reads &&
	    is_full(fl_incoming_pager(in)))
		in->stage = FL_STAGE_COMPLETE;
	if (in->stage < FL_STAGE_COMPLETE)
		return;
	if (in->stage == FL_STAGE_COMPLETE && !in->complete_ns && in->has_run && in->main.conn &&
	    in->again == FL_AGAIN_NOTHING) {
		in->complete_ns = fl_clock_ns();
		send_complete(in);
	}
}
