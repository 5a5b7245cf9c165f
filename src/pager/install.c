/* SPDX-License-Identifier: MIT */
#include "pager/pager.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "util/clock.h"
#include "util/log.h"

/* An install that gets nowhere is tried again at once, then after 20 us, 40 us, ... 5 ms. */
#define AGAIN_AT_ONCE  3u
#define AGAIN_FIRST_NS (20 * FL_NS_PER_US)
#define AGAIN_LAST_NS  (5 * FL_NS_PER_MS)
/* One that lacks memory after 1 ms, 2 ms, ... 256 ms, and then no more. */
#define NO_MEMORY_TRIES    12u
#define NO_MEMORY_FIRST_NS FL_NS_PER_MS
#define NO_MEMORY_LAST_NS  (256 * FL_NS_PER_MS)

static uint64_t backoff(unsigned int tries, uint64_t first_ns, uint64_t last_ns)
{
	uint64_t wait_ns = tries < 20 ? first_ns << tries : last_ns;

	return wait_ns < last_ns ? wait_ns : last_ns;
}

static enum fl_progress later(struct fl_fetch *fetch, uint64_t wait_ns)
{
	fl_count(&fetch->pager->count.retries, 1);
	fetch->tries++;
	fetch->due_ns = wait_ns ? fl_clock_ns() + wait_ns : 0;
	return FL_PROGRESS_LATER;
}

static enum fl_progress again(struct fl_fetch *fetch)
{
	if (fetch->tries < AGAIN_AT_ONCE)
		return later(fetch, 0);
	return later(fetch, backoff(fetch->tries - AGAIN_AT_ONCE, AGAIN_FIRST_NS, AGAIN_LAST_NS));
}

static enum fl_way way_of(const struct fl_fetch *fetch, uint64_t index)
{
	return fetch->pieces ? fetch->each[index].way : FL_WAY_UNKNOWN;
}

static void count_pages(struct fl_fetch *fetch, uint64_t first, uint64_t pages)
{
	struct fl_counters *count = &fetch->pager->count;
	bool touched = fetch->demand >= first && fetch->demand < first + pages;

	if (fetch->adopted) {
		fl_count(&count->adopted, pages);
	} else if (fetch->fill) {
		fl_count(&count->fill, pages);
	} else {
		fl_count(&count->demand, touched);
		fl_count(&count->around, pages - touched);
	}
	if (fetch->replay)
		fl_count(&count->replay, pages);
	if (fetch->zeros || way_of(fetch, first - fetch->page) == FL_WAY_ZEROS)
		fl_count(&count->zero, pages);
}

/* Who faulted on a page while it was under way. */
static void count_joined(struct fl_fetch *fetch, struct fl_fetch_page *each, uint64_t now_ns)
{
	for (; each->joined; each->joined--) {
		fl_histogram_record(&fetch->pager->latency[FL_FAULT_JOINED],
				    now_ns - each->joined_ns);
		fetch->joined--;
	}
}

/* The waits that ended with these pages. */
static void count_faults(struct fl_fetch *fetch, uint64_t first, uint64_t pages)
{
	bool demanded = fetch->since_ns && fetch->demand >= first && fetch->demand < first + pages;
	uint64_t now_ns;

	if (!demanded && !fetch->joined)
		return;
	now_ns = fl_clock_ns();
	if (demanded)
		fl_histogram_record(&fetch->pager->latency[fetch->kind], now_ns - fetch->since_ns);
	if (demanded)
		fetch->since_ns = 0;
	for (uint64_t i = 0; i < pages && fetch->joined; i++)
		count_joined(fetch, fl_fetch_page(fetch, first + i), now_ns);
}

static void settled(struct fl_fetch *fetch, uint64_t first, uint64_t pages,
		    enum fl_page_state state)
{
	struct fl_pager *pager = fetch->pager;

	for (uint64_t i = 0; i < pages; i++)
		(void)fl_table_settle(pager->parts.table, first + i, fetch->claim, state, NULL);
	if (fetch->claim == FL_CLAIM_FETCH)
		fl_count(&pager->count.left, -pages);
	if (first == fetch->page + fetch->done)
		fetch->done += pages;
	fetch->tries = 0;
	fetch->starved = 0;
	fetch->due_ns = 0;
	count_faults(fetch, first, pages);
}

static enum fl_progress install_poison(struct fl_fetch *fetch, const struct fl_place *place);

/* Is a page that EEXIST was said of really there? Only a UFFDIO_COPY on hugetlbfs says so of an
 * empty pool, too. When that cannot be found out, it is as if it were not: poisoning it will tell.
 */
static bool is_there(struct fl_fetch *fetch, const struct fl_place *place)
{
	struct fl_pager *pager = fetch->pager;
	uint64_t page_size = place->region->page_size;

	if (fetch->poison || page_size <= 4096 ||
	    fl_install_place(pager->parts.install, place->addr, page_size))
		return true;
	return fl_install_look(pager->options.pagemap_fd, place->addr) > 0;
}

static void log_poison(struct fl_pager *pager, const struct fl_place *place, const char *why,
		       int code)
{
	uint64_t before = atomic_load_explicit(&pager->count.poisoned, memory_order_relaxed);

	/* A whole image may be bad: every page is counted, but not every page gets a line. */
	if (!fl_pager_logs(before))
		return;
	fl_log(&pager->options.log, FL_LOG_ERROR,
	       "page at offset 0x%" PRIx64 " %s: %s; it is poisoned, as %" PRIu64 " before it",
	       place->offset, why, strerror(-code), before);
}

void fl_fetch_poison(struct fl_fetch *fetch, const char *why, int code)
{
	struct fl_place place;

	fetch->poison = true;
	(void)fl_layout_by_page(fetch->pager->parts.layout, fetch->page, &place);
	log_poison(fetch->pager, &place, why, code);
}

static enum fl_progress poison_one(struct fl_fetch *fetch, const struct fl_place *place,
				   const char *why)
{
	log_poison(fetch->pager, place, why, -ENOMEM);
	return install_poison(fetch, place);
}

static enum fl_progress no_memory(struct fl_fetch *fetch, const struct fl_place *place,
				  const char *why)
{
	struct fl_pager *pager = fetch->pager;
	unsigned int tries = fetch->starved++;

	if (!pager->starved)
		fl_log(&pager->options.log, FL_LOG_WARNING,
		       "no memory for the page at offset 0x%" PRIx64 ": %s", place->offset, why);
	pager->starved = true;
	/* What came in pieces may not be had a second time: it is kept as long as nobody waits. */
	if (tries < NO_MEMORY_TRIES || (fetch->pieces && !fl_fetch_is_waited(fetch, place->page)))
		return later(fetch, backoff(tries, NO_MEMORY_FIRST_NS, NO_MEMORY_LAST_NS));
	if (fetch->pieces)
		return poison_one(fetch, place, why);
	/* Nobody need wait for the pages beside the one that is waited for. */
	fl_fill_again(pager, fetch->page + fetch->done);
	if (fetch->demand == NO_PAGE || fetch->demand < fetch->page + fetch->done) {
		fl_fetch_give_up(fetch);
		return FL_PROGRESS_DONE;
	}
	fl_fetch_cut_down(fetch, fetch->demand, 1);
	fl_fetch_poison(fetch, why, -ENOMEM);
	return FL_PROGRESS_MORE;
}

/* Nothing was supplied: no time to be counted, but whoever waits touches again. */
static enum fl_progress only_wake(struct fl_fetch *fetch, const struct fl_place *place)
{
	if (place->page == fetch->demand)
		fetch->since_ns = 0;
	fl_pager_wake(fetch->pager, place->addr, place->region->page_size);
	return FL_PROGRESS_MORE;
}

static enum fl_progress already_there(struct fl_fetch *fetch, const struct fl_place *place)
{
	fl_count(&fetch->pager->count.duplicates, place->page == fetch->demand);
	if (place->page == fetch->demand)
		fetch->since_ns = 0;
	settled(fetch, place->page, 1, FL_PRESENT);
	return only_wake(fetch, place);
}

/* The VMM unmapped the range without an event, or never registered it: what is touched there is not
 * ours to supply. The kernel gives it zeros, which the VMM's author should know. */
static enum fl_progress range_gone(struct fl_fetch *fetch, const struct fl_place *place)
{
	struct fl_pager *pager = fetch->pager;

	if (place->addr != FL_NOWHERE && !pager->told_gone) {
		pager->told_gone = true;
		fl_log(&pager->options.log, FL_LOG_WARNING,
		       "the page at offset 0x%" PRIx64 ", address 0x%" PRIx64
		       ", is not registered with the userfaultfd: it and its like are not supplied",
		       place->offset, place->addr);
	}
	(void)fl_pager_removed(pager, place->page);
	return only_wake(fetch, place);
}

/* Was it installed by UFFDIO_COPY? Its EFAULT is about the buffer of ours that it reads from, which
 * may have to come back from swap. */
static bool is_copied(struct fl_fetch *fetch, const struct fl_place *place)
{
	uint64_t page_size = place->region->page_size;
	bool zeros = fetch->zeros || way_of(fetch, place->page - fetch->page) == FL_WAY_ZEROS;

	return !fetch->poison && (!zeros || page_size > 4096) &&
	       !fl_install_place(fetch->pager->parts.install, place->addr, page_size);
}

/* What the kernel's answer to an install means: the table of answers in docs/theory.md. */
static enum fl_progress answered(struct fl_fetch *fetch, const struct fl_place *place, int err)
{
	switch (err) {
	case -EEXIST:
		if (is_there(fetch, place))
			return already_there(fetch, place);
		return no_memory(fetch, place, "the hugetlbfs pool is empty");
	case -EAGAIN:
		return again(fetch);
	case -ENOMEM:
		return no_memory(fetch, place, "out of memory");
	case -EFAULT:
		if (is_copied(fetch, place))
			return no_memory(fetch, place, "its contents could not be read back");
		return range_gone(fetch, place);
	case -ENOENT:
		return range_gone(fetch, place);
	case -ESRCH:
		fl_pager_fail(fetch->pager, err, "the VMM's address space is gone");
		return FL_PROGRESS_LATER;
	default:
		fl_pager_fail(fetch->pager, err,
			      "installing the page at offset 0x%" PRIx64 " failed", place->offset);
		return FL_PROGRESS_LATER;
	}
}

static enum fl_progress install_poison(struct fl_fetch *fetch, const struct fl_place *place)
{
	struct fl_pager *pager = fetch->pager;
	int64_t done =
		fl_install_poison(pager->parts.install, place->addr, place->region->page_size, 0);

	if (done > 0) {
		fl_count(&pager->count.poisoned, 1);
		settled(fetch, place->page, 1, FL_POISONED);
		return FL_PROGRESS_MORE;
	}
	if (done == -ENOMEM || done == -EOPNOTSUPP) {
		fl_pager_fail(pager, -EOPNOTSUPP,
			      "the page at offset 0x%" PRIx64 " cannot be supplied, nor poisoned",
			      place->offset);
		return FL_PROGRESS_LATER;
	}
	return answered(fetch, place, (int)done);
}

/* Is this page still ours, and there? */
static bool can_install(struct fl_fetch *fetch, uint64_t page, uint64_t page_size)
{
	return fl_fetch_owns(fetch, page) &&
	       (!fetch->pieces || fetch->poison || fl_pieces_has(fetch, page, page_size));
}

/* Passes over what is settled, or was given back by the guest meanwhile. */
static void pass_over(struct fl_fetch *fetch)
{
	while (fetch->done < fetch->pages && !fl_fetch_owns(fetch, fetch->page + fetch->done)) {
		if (fetch->page + fetch->done == fetch->demand)
			fetch->since_ns = 0; /* its removal ended that wait */
		fetch->done++;
	}
}

/* The next pages that can be installed together, in bytes; 0 when there are none (now). */
static uint64_t next_run(struct fl_fetch *fetch, uint64_t budget_bytes, struct fl_place *place)
{
	struct fl_pager *pager = fetch->pager;
	uint64_t page_size, limit, budget, pages = 1, i;

	pass_over(fetch);
	if (fl_layout_by_page(pager->parts.layout, fetch->page, place) < 0)
		return 0;
	page_size = place->region->page_size;
	for (i = fetch->done; i < fetch->pages; i++) {
		if (can_install(fetch, fetch->page + i, page_size))
			break;
	}
	if (i >= fetch->pages || fl_layout_by_page(pager->parts.layout, fetch->page + i, place) < 0)
		return 0;
	limit = fetch->pages - i;
	if (limit > place->pages_left)
		limit = place->pages_left;
	budget = budget_bytes / page_size;
	if (limit > budget)
		limit = budget ? budget : 1;
	while (pages < limit && way_of(fetch, i + pages) == way_of(fetch, i) &&
	       can_install(fetch, place->page + pages, page_size))
		pages++;
	return pages * page_size;
}

/* UFFDIO_ZEROPAGE takes the mark of write-protection, where no page is, for a page: the thread
 * would fault again for ever. UFFDIO_COPY knows the difference, and keeps the protection. */
static int64_t install_zeros(struct fl_fetch *fetch, const struct fl_place *place, uint64_t len)
{
	struct fl_install *install = fetch->pager->parts.install;
	uint64_t page_size = place->region->page_size;
	int64_t done = fl_install_zero(install, place->addr, len, page_size, 0);

	if (done != -EEXIST || page_size > 4096 ||
	    fl_install_place(install, place->addr, page_size))
		return done;
	memset(fetch->buf, 0, page_size);
	done = fl_install_copy(install, place->addr, fetch->buf, page_size, FL_INSTALL_WP);
	return done > 0 ? done : -EEXIST;
}

static int64_t install_run(struct fl_fetch *fetch, const struct fl_place *place, uint64_t len)
{
	struct fl_install *install = fetch->pager->parts.install;
	enum fl_way way;

	if (place->addr == FL_NOWHERE)
		return -ENOENT;
	way = way_of(fetch, place->page - fetch->page);
	if (fetch->zeros || way == FL_WAY_ZEROS)
		return install_zeros(fetch, place, len);
	if (fetch->placed || way == FL_WAY_PLACE)
		return fl_install_map(install, place->addr, len, 0);
	return fl_install_copy(install, place->addr,
			       fetch->from + (place->page - fetch->page) * place->region->page_size,
			       len, 0);
}

static enum fl_progress install_next(struct fl_fetch *fetch, uint64_t *budget_bytes)
{
	struct fl_place place;
	uint64_t len = next_run(fetch, *budget_bytes, &place);
	int64_t done;

	if (!len)
		return fetch->reading ? FL_PROGRESS_READING : FL_PROGRESS_DONE;
	if (fetch->poison)
		return install_poison(fetch, &place);
	done = install_run(fetch, &place, len);
	if (done <= 0)
		return answered(fetch, &place, (int)done);
	fetch->pager->starved = false;
	count_pages(fetch, place.page, (uint64_t)done / place.region->page_size);
	settled(fetch, place.page, (uint64_t)done / place.region->page_size, FL_PRESENT);
	*budget_bytes -= (uint64_t)done < *budget_bytes ? (uint64_t)done : *budget_bytes;
	return FL_PROGRESS_MORE;
}

enum fl_progress fl_fetch_install(struct fl_fetch *fetch, uint64_t budget_bytes)
{
	enum fl_progress progress;

	do
		progress = install_next(fetch, &budget_bytes);
	while (progress == FL_PROGRESS_MORE && budget_bytes && fetch->done < fetch->pages);
	if (fetch->done < fetch->pages)
		return progress;
	return fetch->reading ? FL_PROGRESS_READING : FL_PROGRESS_DONE;
}
