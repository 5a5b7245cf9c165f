/* SPDX-License-Identifier: MIT */

/*
 * Theory of operation
 *
 * A signal handler gets no context, so the traps of a process stand in one list: `traps`. An entry
 * is filled once and then used by one trap after another, never freed: a thread may still be
 * looking at its slot when the trap is closed.
 *
 * The handler runs in two stages. In the first all signals are blocked, it takes no lock and never
 * waits: it counts itself into `readers`, finds the trap whose ranges hold the address, claims a
 * slot, pushes it on the trap's queue, writes the eventfd, and counts itself out. In the second
 * it unblocks what was unblocked before and sleeps on the slot's futex until the slot's generation
 * changes; then it returns and the instruction tries again. Without a free slot it sleeps until one
 * is freed and lets the instruction fault anew, so no event is ever dropped.
 *
 * Whoever changes what a handler may look at (the armed ranges, the handler to chain to, a closed
 * trap) puts the new thing in place and waits until `readers` was zero once; both are sequentially
 * consistent, so a handler that counted itself in later sees the new thing.
 *
 * A wake that comes between the touch and the claim of the slot finds nobody. That loses nothing:
 * the event still reaches the reader, who sees that the page is present and wakes again.
 *
 * A touch may also be caught after its range was disarmed. Such a stale fault must not go to the
 * handler before ours, where it would kill the process. `generation` is incremented before a
 * range leaves the list; a thread that has not seen the new value returns once to try again, and if
 * the fault is real it comes back with the value seen.
 */

#include "trap/segv.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "util/fd.h"

#define TRAPS_MAX 64
#define BUSY_BITS (FL_SEGV_QUEUED | FL_SEGV_WAITING)

/* Guards everything below against other callers; handlers do not take it. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct fl_segv *) traps[TRAPS_MAX];
static unsigned int open_traps;
static bool installed;

static _Atomic(struct sigaction *) before;
static _Atomic uint32_t readers;
static _Atomic uint32_t generation;
static __thread uint32_t seen_generation __attribute__((tls_model("initial-exec")));

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void wait_for_readers(void)
{
	while (atomic_load(&readers))
		(void)sched_yield();
}

static void announce_free(struct fl_segv *segv)
{
	if (!atomic_load(&segv->starved))
		return;
	atomic_fetch_add(&segv->freed, 1);
	futex_wake(&segv->freed);
}

/* ---- the handler, first stage ---- */

/* Why an access failed, as far as the processor says: bits of x86's page-fault error code. */
static unsigned long error_code(const ucontext_t *context)
{
#ifdef __x86_64__
	return (unsigned long)context->uc_mcontext.gregs[REG_ERR];
#else
	(void)context;
	return 0;
#endif
}

#define ERROR_WRITE 0x02u
#define ERROR_FETCH 0x10u

static struct fl_segv *find_trap(uint64_t addr)
{
	for (size_t i = 0; i < TRAPS_MAX; i++) {
		struct fl_segv *segv = atomic_load(&traps[i]);
		const struct fl_segv_ranges *ranges = segv ? atomic_load(&segv->ranges) : NULL;

		if (!segv)
			break;
		/* A forked child has the list, but no one who reads its events. */
		if (ranges && fl_segv_ranges_has(ranges, addr) && segv->pid == getpid())
			return segv;
	}
	return NULL;
}

/* A slot that is now queued and waiting; *state receives the state to wait on. */
static struct fl_segv_slot *claim_slot(struct fl_segv *segv, uint32_t tid, uint32_t *state)
{
	for (uint32_t i = 0; i < FL_SEGV_SLOTS; i++) {
		struct fl_segv_slot *slot = &segv->slots[(tid + i) % FL_SEGV_SLOTS];
		uint32_t old = atomic_load(&slot->state);

		if (old & BUSY_BITS)
			continue;
		*state = old | BUSY_BITS;
		if (atomic_compare_exchange_strong(&slot->state, &old, *state))
			return slot;
	}
	return NULL;
}

static void push_slot(struct fl_segv *segv, struct fl_segv_slot *slot)
{
	const uint64_t one = 1;
	uint32_t mine = (uint32_t)(slot - segv->slots) + 1;
	uint32_t head = atomic_load(&segv->head);

	do {
		atomic_store(&slot->next, head);
	} while (!atomic_compare_exchange_weak(&segv->head, &head, mine));
	/* Cannot fail: the counter would have to be at its limit of 2^64 - 2. Whoever pushed on an
	 * empty queue tells the reader for those who follow. */
	if (!head)
		(void)!write(segv->event_fd, &one, sizeof(one));
}

/* What the second stage waits on. */
struct wait {
	_Atomic uint32_t *word;
	uint32_t value;
	struct fl_segv *starving;
};

/* Looks again after `starved` says that somebody looks: pairs with announce_free(). */
static struct fl_segv_slot *claim_last(struct fl_segv *segv, uint32_t tid, struct wait *wait)
{
	struct fl_segv_slot *slot;
	uint32_t state;
	uint32_t freed;

	atomic_fetch_add(&segv->starved, 1);
	freed = atomic_load(&segv->freed);
	slot = claim_slot(segv, tid, &state);
	if (slot) {
		atomic_fetch_sub(&segv->starved, 1);
		*wait = (struct wait){.word = &slot->state, .value = state};
	} else {
		*wait = (struct wait){.word = &segv->freed, .value = freed, .starving = segv};
	}
	return slot;
}

static void post_fault(struct fl_segv *segv, uint64_t addr, uint32_t flags, struct wait *wait)
{
	uint32_t tid = (uint32_t)syscall(SYS_gettid);
	struct fl_segv_slot *slot = claim_slot(segv, tid, &wait->value);

	if (slot)
		wait->word = &slot->state;
	else
		slot = claim_last(segv, tid, wait);
	if (!slot)
		return;
	atomic_store(&slot->addr, addr);
	atomic_store(&slot->flags, flags);
	atomic_store(&slot->tid, tid);
	push_slot(segv, slot);
}

/* True when the address is in an armed range; *wait says what to wait for then. */
static bool catch_fault(uint64_t addr, uint32_t flags, struct wait *wait)
{
	struct fl_segv *segv;

	*wait = (struct wait){.word = NULL};
	atomic_fetch_add(&readers, 1);
	segv = find_trap(addr);
	if (segv)
		post_fault(segv, addr, flags, wait);
	atomic_fetch_sub(&readers, 1);
	return segv != NULL;
}

static bool is_stale(void)
{
	uint32_t now = atomic_load(&generation);

	if (seen_generation == now)
		return false;
	seen_generation = now;
	return true;
}

/* ---- the handler, second stage ---- */

/* The signals that were blocked when the fault happened; the kernel fills this much of the set. */
static void get_mask(const ucontext_t *context, sigset_t *mask)
{
	(void)sigemptyset(mask);
	memcpy(mask, &context->uc_sigmask, _NSIG / CHAR_BIT);
}

static void wait_for_wake(const struct wait *wait, const ucontext_t *context)
{
	sigset_t mask;
	uint32_t now;

	get_mask(context, &mask);
	(void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (wait->starving) {
		futex_wait(wait->word, wait->value);
		atomic_fetch_sub(&wait->starving->starved, 1);
		return;
	}
	/* The reader clears QUEUED meanwhile; a signal, or anything else, may end the sleep early.
	 */
	for (now = wait->value; now / FL_SEGV_GENERATION == wait->value / FL_SEGV_GENERATION;
	     now = atomic_load(wait->word))
		futex_wait(wait->word, now);
}

/* ---- the handler that was there before ---- */

static void default_action(int sig, siginfo_t *info)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	(void)sigaction(sig, &action, NULL);
	/* A signal that somebody sent does not come again by itself. */
	if (info->si_code <= 0)
		(void)syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, info);
}

static void call_handler(const struct sigaction *action, int sig, siginfo_t *info, void *context)
{
	sigset_t mask;

	/* As the kernel would have set it. Sets are or-ed bit by bit: sigorset(3) is not portable.
	 */
	get_mask(context, &mask);
	for (int i = 1; i < _NSIG; i++)
		if (sigismember(&action->sa_mask, i) == 1)
			(void)sigaddset(&mask, i);
	if (!(action->sa_flags & SA_NODEFER))
		(void)sigaddset(&mask, sig);
	(void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (action->sa_flags & SA_SIGINFO)
		action->sa_sigaction(sig, info, context);
	else
		action->sa_handler(sig);
}

static void pass_on(int sig, siginfo_t *info, void *context)
{
	struct sigaction action;

	atomic_fetch_add(&readers, 1);
	action = *atomic_load(&before);
	atomic_fetch_sub(&readers, 1);
	if (!(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	/* A real fault cannot be ignored: the kernel takes the default action then, and so do we.
	 */
	if (!(action.sa_flags & SA_SIGINFO) &&
	    (action.sa_handler == SIG_IGN || action.sa_handler == SIG_DFL))
		default_action(sig, info);
	else
		call_handler(&action, sig, info, context);
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
	int saved = errno;
	unsigned long why = error_code(context);
	uint32_t flags = why & ERROR_WRITE ? FL_FAULT_WRITE : 0;
	struct wait wait;

	/* Fetching an instruction from revealed memory fails for good: it is never executable. */
	if (info->si_code != SEGV_ACCERR || (why & ERROR_FETCH))
		pass_on(sig, info, context);
	else if (catch_fault((uintptr_t)info->si_addr, flags, &wait))
		wait_for_wake(&wait, context);
	else if (!is_stale())
		pass_on(sig, info, context);
	errno = saved;
}

/* ---- for callers, under list_lock ---- */

static int install_handler(void)
{
	struct sigaction ours = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction *old;

	if (installed)
		return 0;
	old = malloc(sizeof(*old));
	if (!old)
		return -ENOMEM;
	(void)sigfillset(&ours.sa_mask);
	if (sigaction(SIGSEGV, NULL, old)) {
		free(old);
		return -errno;
	}
	old = atomic_exchange(&before, old);
	wait_for_readers();
	free(old);
	if (sigaction(SIGSEGV, &ours, NULL))
		return -errno;
	installed = true;
	return 0;
}

/* When somebody put his handler over ours, he may call ours: it stays, and passes everything on. */
static void restore_handler(void)
{
	struct sigaction now;

	if (sigaction(SIGSEGV, NULL, &now) || !(now.sa_flags & SA_SIGINFO) ||
	    now.sa_sigaction != on_segv)
		return;
	if (!sigaction(SIGSEGV, atomic_load(&before), NULL))
		installed = false;
}

/* An entry of the list that no trap uses, made if need be. */
static struct fl_segv *find_entry(void)
{
	for (size_t i = 0; i < TRAPS_MAX; i++) {
		struct fl_segv *segv = atomic_load(&traps[i]);

		if (segv && atomic_load(&segv->ranges))
			continue;
		if (segv)
			return segv;
		segv = calloc(1, sizeof(*segv));
		if (segv)
			(void)pthread_mutex_init(&segv->reader, NULL);
		atomic_store(&traps[i], segv);
		return segv;
	}
	return NULL;
}

static int open_entry(struct fl_segv *segv)
{
	struct fl_segv_ranges *none = calloc(1, sizeof(*none));
	int rc;

	if (!none)
		return -ENOMEM;
	segv->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = segv->event_fd < 0 ? -errno : install_handler();
	if (rc) {
		fl_fd_close(&segv->event_fd);
		free(none);
		return rc;
	}
	segv->pid = getpid();
	atomic_store(&segv->ranges, none);
	open_traps++;
	return 0;
}

int fl_segv_open(struct fl_segv **segv)
{
	int rc = -ENOMEM;

	(void)pthread_mutex_lock(&list_lock);
	*segv = find_entry();
	if (*segv)
		rc = open_entry(*segv);
	(void)pthread_mutex_unlock(&list_lock);
	return rc;
}

/* The queue is dropped and everybody is sent back to his instruction. */
static void empty_entry(struct fl_segv *segv)
{
	segv->taken = 0;
	atomic_store(&segv->head, 0);
	for (size_t i = 0; i < FL_SEGV_SLOTS; i++)
		(void)atomic_fetch_and(&segv->slots[i].state, ~FL_SEGV_QUEUED);
	fl_segv_wake(segv, 0, UINT64_MAX);
	announce_free(segv);
	fl_fd_close(&segv->event_fd);
}

void fl_segv_close(struct fl_segv *segv)
{
	struct fl_segv_ranges *ranges;

	(void)pthread_mutex_lock(&list_lock);
	atomic_fetch_add(&generation, 1);
	ranges = atomic_exchange(&segv->ranges, NULL);
	if (!--open_traps)
		restore_handler();
	wait_for_readers();
	free(ranges);
	empty_entry(segv);
	(void)pthread_mutex_unlock(&list_lock);
}

/* *ranges: in: to put in place; out: what was there, which no handler looks at any more. */
static void swap_ranges(struct fl_segv *segv, struct fl_segv_ranges **ranges)
{
	*ranges = atomic_exchange(&segv->ranges, *ranges);
	wait_for_readers();
}

static int arm(struct fl_segv *segv, const struct fl_segv_change *change)
{
	struct fl_segv_ranges *ranges =
		fl_segv_ranges_add(atomic_load(&segv->ranges), change->start, change->end);
	int rc;

	if (!ranges)
		return -ENOMEM;
	swap_ranges(segv, &ranges);
	rc = change->protect(change);
	if (rc) {
		atomic_fetch_add(&generation, 1);
		swap_ranges(segv, &ranges);
	}
	free(ranges);
	return rc;
}

static int disarm(struct fl_segv *segv, const struct fl_segv_change *change)
{
	struct fl_segv_ranges *ranges =
		fl_segv_ranges_del(atomic_load(&segv->ranges), change->start, change->end);
	int rc = ranges ? change->protect(change) : -ENOMEM;

	if (!rc) {
		atomic_fetch_add(&generation, 1);
		swap_ranges(segv, &ranges);
	}
	free(ranges);
	return rc;
}

int fl_segv_change(struct fl_segv *segv, const struct fl_segv_change *change)
{
	int rc;

	(void)pthread_mutex_lock(&list_lock);
	rc = change->arm ? arm(segv, change) : disarm(segv, change);
	(void)pthread_mutex_unlock(&list_lock);
	return rc;
}

/* ---- the reader and the waker ---- */

/* Handlers push in front: the list is turned round, so that who came first is served first. */
static void take_queue(struct fl_segv *segv)
{
	uint32_t at = atomic_exchange(&segv->head, 0);
	uint32_t first = 0;

	while (at) {
		struct fl_segv_slot *slot = &segv->slots[at - 1];
		uint32_t next = atomic_load(&slot->next);

		atomic_store(&slot->next, first);
		first = at;
		at = next;
	}
	segv->taken = first;
}

/* False when the thread was woken already. */
static bool take_slot(struct fl_segv *segv, struct fl_segv_slot *slot, struct fl_event *event)
{
	*event = (struct fl_event){
		.kind = FL_EVENT_FAULT,
		.addr = atomic_load(&slot->addr),
		.flags = atomic_load(&slot->flags),
		.tid = atomic_load(&slot->tid),
	};
	segv->taken = atomic_load(&slot->next);
	if (atomic_fetch_and(&slot->state, ~FL_SEGV_QUEUED) & FL_SEGV_WAITING)
		return true;
	announce_free(segv);
	return false;
}

unsigned int fl_segv_take(struct fl_segv *segv, struct fl_event *events, unsigned int max)
{
	uint64_t count = 1;
	unsigned int taken = 0;

	(void)!read(segv->event_fd, &count, sizeof(count));
	if (!segv->taken)
		take_queue(segv);
	while (segv->taken && taken < max)
		if (take_slot(segv, &segv->slots[segv->taken - 1], &events[taken]))
			taken++;
	/* Something is left, or was pushed on the queue that was not empty: stay readable. */
	count = 1;
	if (segv->taken || atomic_load(&segv->head))
		(void)!write(segv->event_fd, &count, sizeof(count));
	return taken;
}

static void wake_slot(struct fl_segv *segv, struct fl_segv_slot *slot, uint64_t start, uint64_t end)
{
	uint32_t state = atomic_load(&slot->state);

	while (state & FL_SEGV_WAITING) {
		uint64_t addr = atomic_load(&slot->addr);
		uint32_t done = (state & ~FL_SEGV_WAITING) + FL_SEGV_GENERATION;

		if (addr < start || addr >= end)
			return;
		if (!atomic_compare_exchange_weak(&slot->state, &state, done))
			continue;
		futex_wake(&slot->state);
		if (!(done & FL_SEGV_QUEUED))
			announce_free(segv);
		return;
	}
}

void fl_segv_wake(struct fl_segv *segv, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < FL_SEGV_SLOTS; i++)
		wake_slot(segv, &segv->slots[i], start, end);
}
