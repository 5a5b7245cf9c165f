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

/* Guards everything below against other callers; handlers do not take it. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct fl_segv *) traps[TRAPS_MAX];
static unsigned int open_traps;
static bool installed;

static _Atomic(struct sigaction *) before;
static _Atomic uint32_t readers;
static _Atomic uint32_t generation;
static __thread uint32_t seen_generation __attribute__((tls_model("initial-exec")));

static void wait_for_readers(void)
{
	while (atomic_load(&readers))
		(void)sched_yield();
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

/* True when the address is in an armed range; *wait says what to wait for then. */
static bool catch_fault(uint64_t addr, uint32_t flags, struct fl_segv_wait *wait)
{
	struct fl_segv *segv;

	*wait = (struct fl_segv_wait){.word = NULL};
	atomic_fetch_add(&readers, 1);
	segv = find_trap(addr);
	if (segv)
		fl_segv_post(segv, addr, flags, wait);
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

static void wait_for_wake(const struct fl_segv_wait *wait, const ucontext_t *context)
{
	sigset_t mask;

	get_mask(context, &mask);
	(void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
	fl_segv_wait(wait);
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

	/* As the kernel would have set it; sigorset(3) is not in every C library. */
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
	/* A real fault cannot be ignored: the kernel takes the default action then. */
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
	struct fl_segv_wait wait;

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
	int rc;

	if (installed)
		return 0;
	old = malloc(sizeof(*old));
	if (!old)
		return -ENOMEM;
	(void)sigfillset(&ours.sa_mask);
	if (sigaction(SIGSEGV, NULL, old)) {
		rc = -errno;
		free(old);
		return rc;
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
	fl_segv_empty(segv);
	fl_fd_close(&segv->event_fd);
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
