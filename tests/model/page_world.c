/* SPDX-License-Identifier: MIT */
#include "page_world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memory/table_format.h"
#include "table_ref.h"

#define VCPUS      2
#define JOBS       3
#define EVENTS_MAX 2

const struct world_rules world_rules_kept = {.serial = true,
					     .rearm_waits = true,
					     .rearm_idle = true,
					     .rearm_first = true,
					     .crash_between = true,
					     .wake_all = true,
					     .say_who_waits = true};

const char world_wrong_contents[] = "the guest can see what it must not";
const char world_wrong_fetch[] = "two fetches of one page";
const char world_wrong_settle[] = "a claim was ended by a fetch that did not have it";
const char world_wrong_waiters[] = "waiters were lost or returned twice";
const char world_wrong_pending[] = "pending, but nobody works on it";
const char world_wrong_table[] = "the table disagrees with the design";

static const char *const reasons[] = {NULL,
				      world_wrong_contents,
				      world_wrong_fetch,
				      world_wrong_settle,
				      world_wrong_waiters,
				      world_wrong_pending,
				      world_wrong_table};

enum reason {
	ALL_WELL,
	WRONG_CONTENTS,
	WRONG_FETCH,
	WRONG_SETTLE,
	WRONG_WAITERS,
	WRONG_PENDING,
	WRONG_TABLE
};

/* What the guest finds where it looks, or nothing. */
enum contents { NOTHING, IMAGE, ZEROS, POISON };

enum vcpu_mode { RUNS, SLEEPS, DONE, DIED };

enum job_step { NO_JOB, READ, CHECK, INSTALL, SETTLE, WAKE };

enum remover_step { R_IDLE, R_POSTED, R_READ, R_WAKE, R_END };

enum holder { NOBODY, A_JOB, THE_REMOVER, THE_REARMER };

struct vcpu {
	uint8_t mode;
	uint8_t touches;
	uint8_t events;
};

/* Jobs hold what their claim returned; live tells whether that claim still stands in truth. */
struct job {
	uint8_t step;
	uint8_t claim;
	uint8_t live;
	uint8_t contents; /* what is to be installed */
	uint8_t state;    /* what the page is settled as */
	uint8_t waiters;  /* to be woken */
};

struct world {
	uint8_t cell;
	uint8_t mapped; /* what the kernel has there */
	uint8_t due;    /* what a guest that looks must see */
	uint8_t source; /* what a fetch reads */
	uint8_t owed;   /* waiter bits that were taken on and not yet returned */
	uint8_t holder; /* of the right to install and remove */
	uint8_t reason;
	uint8_t remover;
	uint8_t remover_waiters;
	uint8_t zapped;
	struct world_budget left;
	struct vcpu vcpu[VCPUS];
	struct job job[JOBS];
};

struct context {
	const struct world_rules *rules;
	struct fl_table *table;
	uint8_t *cell; /* of the table's one page */
};

static const uint8_t vcpu_bit[VCPUS] = {FL_WAITER_UFFD, FL_WAITER_EXIT};

static void blame(struct world *world, enum reason reason)
{
	if (!world->reason)
		world->reason = (uint8_t)reason;
}

/* ---- the table, with the reference at its side */

static void put_cell(const struct context *context, const struct world *world)
{
	__atomic_store_n(context->cell, world->cell, __ATOMIC_RELAXED);
}

/* Takes over what the table made of the cell, if it is what the reference made of it. */
static void get_cell(const struct context *context, struct world *world, struct ref_cell wanted,
		     bool same)
{
	world->cell = __atomic_load_n(context->cell, __ATOMIC_RELAXED);
	if (!same || world->cell != ref_encode(wanted))
		blame(world, WRONG_TABLE);
}

static enum fl_claim do_claim(const struct context *context, struct world *world, uint8_t waiter)
{
	struct ref_cell ref = ref_decode(world->cell);
	enum fl_claim wanted = ref_claim(&ref, (enum fl_waiter)waiter);
	enum fl_claim claim;

	put_cell(context, world);
	claim = fl_table_claim(context->table, 0, (enum fl_waiter)waiter);
	get_cell(context, world, ref, claim == wanted);
	if (claim == FL_CLAIM_FETCH || claim == FL_CLAIM_ZERO || claim == FL_CLAIM_JOINED)
		world->owed |= waiter;
	return claim;
}

/* What was returned must be all that was owed. */
static void take_waiters(struct world *world, unsigned int waiters)
{
	if (waiters != world->owed)
		blame(world, WRONG_WAITERS);
	world->owed = 0;
}

static struct job *live_job(struct world *world)
{
	for (int i = 0; i < JOBS; i++) {
		if (world->job[i].step && world->job[i].live)
			return &world->job[i];
	}
	return NULL;
}

static void void_live_job(struct world *world)
{
	struct job *live = live_job(world);

	if (live)
		live->live = false;
}

static int do_settle(const struct context *context, struct world *world, struct job *job)
{
	struct ref_cell ref = ref_decode(world->cell);
	const struct job *live = live_job(world);
	enum fl_claim claim = (enum fl_claim)job->claim;
	enum fl_page_state state = (enum fl_page_state)job->state;
	unsigned int waiters, wanted;
	int rc, wanted_rc = ref_settle(&ref, claim, state, &wanted);

	put_cell(context, world);
	rc = fl_table_settle(context->table, 0, claim, state, &waiters);
	get_cell(context, world, ref, rc == wanted_rc && waiters == wanted);
	job->waiters = (uint8_t)waiters;
	if (rc) {
		if (waiters || job->live)
			blame(world, WRONG_SETTLE);
		return rc;
	}
	/* Of two claims of zeros either may end: the contents are the same. */
	if (live != job && !(live && live->claim == FL_CLAIM_ZERO && claim == FL_CLAIM_ZERO))
		blame(world, WRONG_SETTLE);
	void_live_job(world);
	take_waiters(world, waiters);
	return 0;
}

static bool do_owns(const struct context *context, struct world *world, enum fl_claim claim)
{
	struct ref_cell ref = ref_decode(world->cell);
	bool owns;

	put_cell(context, world);
	owns = fl_table_owns(context->table, 0, claim);
	get_cell(context, world, ref, owns == ref_owns(&ref, claim));
	return owns;
}

static unsigned int do_remove(const struct context *context, struct world *world)
{
	struct ref_cell ref = ref_decode(world->cell);
	unsigned int wanted = ref_remove(&ref);
	unsigned int waiters;

	put_cell(context, world);
	waiters = fl_table_remove(context->table, 0);
	get_cell(context, world, ref, waiters == wanted);
	void_live_job(world);
	take_waiters(world, waiters);
	return waiters;
}

static void do_rearm(const struct context *context, struct world *world)
{
	struct ref_cell ref = ref_decode(world->cell);
	int wanted = ref_rearm(&ref);

	put_cell(context, world);
	get_cell(context, world, ref, fl_table_rearm(context->table, 0) == wanted);
}

static void do_recover(const struct context *context, struct world *world)
{
	struct ref_cell ref = ref_decode(world->cell);
	uint64_t wanted = ref_recover(&ref);

	put_cell(context, world);
	get_cell(context, world, ref, fl_table_recover(context->table) == wanted);
	world->owed = 0;
}

/* ---- jobs */

static struct job *free_job(struct world *world)
{
	for (int i = 0; i < JOBS; i++) {
		if (!world->job[i].step)
			return &world->job[i];
	}
	return NULL;
}

static void end_job(struct job *job)
{
	*job = (struct job){.step = NO_JOB};
}

static void start_job(struct world *world, enum fl_claim claim)
{
	struct job *job = free_job(world);

	if (live_job(world))
		blame(world, WRONG_FETCH);
	*job = (struct job){.step = claim == FL_CLAIM_FETCH ? READ : CHECK,
			    .claim = (uint8_t)claim,
			    .live = true,
			    .contents = ZEROS,
			    .state = FL_PRESENT};
}

static bool take_hold(const struct context *context, struct world *world, enum holder holder)
{
	if (!context->rules->serial)
		return true;
	if (world->holder)
		return false;
	world->holder = (uint8_t)holder;
	return true;
}

static void let_go(const struct context *context, struct world *world)
{
	if (context->rules->serial)
		world->holder = NOBODY;
}

static void wake(struct world *world, unsigned int waiters)
{
	for (int i = 0; i < VCPUS; i++) {
		if ((waiters & vcpu_bit[i]) && world->vcpu[i].mode == SLEEPS)
			world->vcpu[i].mode = RUNS;
	}
}

static bool job_check(const struct context *context, struct world *world, struct job *job)
{
	if (!take_hold(context, world, A_JOB))
		return false;
	if (do_owns(context, world, (enum fl_claim)job->claim)) {
		job->step = INSTALL;
	} else {
		let_go(context, world);
		end_job(job);
	}
	return true;
}

static void job_install(const struct context *context, struct world *world, struct job *job)
{
	let_go(context, world);
	if (world->remover == R_POSTED) { /* EAGAIN: an event must be read first */
		job->step = CHECK;
		return;
	}
	if (world->mapped == NOTHING)
		world->mapped = job->contents;
	else /* EEXIST: it is there */
		job->state = FL_PRESENT;
	job->step = SETTLE;
}

static void job_settle(const struct context *context, struct world *world, struct job *job)
{
	if (do_settle(context, world, job) || !job->waiters)
		end_job(job);
	else
		job->step = WAKE;
}

static void job_wake(const struct context *context, struct world *world, struct job *job)
{
	wake(world, context->rules->wake_all ? job->waiters : job->waiters & FL_WAITER_UFFD);
	end_job(job);
}

static bool job_go(const struct context *context, struct world *world, struct job *job)
{
	switch (job->step) {
	case READ:
		job->contents = world->source;
		job->step = CHECK;
		return true;
	case CHECK:
		return job_check(context, world, job);
	case INSTALL:
		job_install(context, world, job);
		return true;
	case SETTLE:
		job_settle(context, world, job);
		return true;
	case WAKE:
		job_wake(context, world, job);
		return true;
	default:
		return false;
	}
}

/* Instead of a read that succeeds. Zeros are given up instead of installed. */
static bool job_give_up(struct world *world, struct job *job)
{
	bool may = job->step == READ || (job->step == CHECK && job->claim == FL_CLAIM_ZERO);

	if (!may || !world->left.give_ups)
		return false;
	world->left.give_ups--;
	job->state = FL_ABSENT;
	job->step = SETTLE;
	return true;
}

static bool job_poison(struct world *world, struct job *job)
{
	if (job->step != READ || !world->left.poisons)
		return false;
	world->left.poisons--;
	job->contents = POISON;
	job->state = FL_POISONED;
	job->step = CHECK;
	return true;
}

/* ---- vCPUs and their events */

static bool vcpu_touch(struct world *world, struct vcpu *vcpu)
{
	if (vcpu->mode != RUNS || vcpu->events == EVENTS_MAX)
		return false;
	if (world->mapped == NOTHING) {
		vcpu->mode = SLEEPS;
		vcpu->events++;
	} else if (world->mapped == POISON) {
		vcpu->mode = DIED;
	} else if (--vcpu->touches == 0) {
		vcpu->mode = DONE;
	}
	return true;
}

/*
 * The pager claims for an event. What is present but was reported missing went away unnoticed:
 * it is removed, and the same event finds it so. That is the pager's thread's affair.
 */
static bool vcpu_event(const struct context *context, struct world *world, int i)
{
	struct vcpu *vcpu = &world->vcpu[i];
	bool present = (world->cell & FL_CELL_STATE) == FL_PRESENT;
	enum fl_claim claim;

	if (!vcpu->events || !free_job(world))
		return false;
	if (present && context->rules->serial && world->holder)
		return false;
	claim = do_claim(context, world, context->rules->say_who_waits ? vcpu_bit[i] : 0);
	if (claim == FL_CLAIM_PRESENT) {
		(void)do_remove(context, world);
		return true;
	}
	vcpu->events--;
	if (claim == FL_CLAIM_FETCH || claim == FL_CLAIM_ZERO)
		start_job(world, claim);
	else if (claim == FL_CLAIM_POISONED)
		wake(world, vcpu_bit[i]);
	return true;
}

/* A vCPU that was woken takes along an event that nobody had read. */
static bool vcpu_unqueue(struct vcpu *vcpu)
{
	if (!vcpu->events || vcpu->mode == SLEEPS)
		return false;
	vcpu->events--;
	return true;
}

/* ---- everybody else */

static bool fill(const struct context *context, struct world *world)
{
	enum fl_claim claim;

	if (!world->left.fills || !free_job(world))
		return false;
	world->left.fills--;
	claim = do_claim(context, world, FL_WAITER_NONE);
	if (claim == FL_CLAIM_FETCH || claim == FL_CLAIM_ZERO)
		start_job(world, claim);
	return true;
}

static bool remover_go(const struct context *context, struct world *world)
{
	switch (world->remover) {
	case R_IDLE:
		if (!world->left.removes)
			return false;
		world->left.removes--;
		world->zapped = false;
		world->remover = R_POSTED;
		return true;
	case R_POSTED:
		if (!take_hold(context, world, THE_REMOVER))
			return false;
		world->remover = R_READ;
		return true;
	case R_READ:
		world->remover_waiters = (uint8_t)do_remove(context, world);
		let_go(context, world);
		world->remover = R_WAKE;
		return true;
	case R_WAKE:
		wake(world, context->rules->wake_all ? world->remover_waiters
						     : world->remover_waiters & FL_WAITER_UFFD);
		world->remover_waiters = 0;
		world->remover = R_END;
		return true;
	default:
		if (!world->zapped)
			return false;
		world->remover = R_IDLE;
		world->zapped = false;
		return true;
	}
}

static bool zap(struct world *world)
{
	if (world->remover < R_READ || world->zapped)
		return false;
	world->zapped = true;
	world->mapped = NOTHING;
	world->due = ZEROS;
	return true;
}

static bool voided_fetch(const struct world *world)
{
	for (int i = 0; i < JOBS; i++) {
		const struct job *job = &world->job[i];

		if (job->step && job->claim == FL_CLAIM_FETCH && !job->live && job->step != WAKE)
			return true;
	}
	return false;
}

static bool may_rearm(const struct context *context, const struct world *world)
{
	/* What is poisoned cannot be read, and so not be saved. */
	if (!world->left.rearms || (world->cell & FL_CELL_STATE) != FL_PRESENT ||
	    world->mapped == POISON)
		return false;
	if (context->rules->rearm_idle && world->remover != R_IDLE)
		return false;
	return !context->rules->rearm_waits || !voided_fetch(world);
}

/*
 * The contents go to the source; then the page is rearmed, and only then taken away: a pager that
 * dies in between leaves a page that is absent in the table and there for the guest, which harms
 * nobody. The other way round the guest would get zeros.
 */
static bool rearm(const struct context *context, struct world *world)
{
	bool second = world->holder == THE_REARMER;

	if (!second) {
		if (!may_rearm(context, world) || !take_hold(context, world, THE_REARMER))
			return false;
		world->left.rearms--;
		world->source = world->mapped == IMAGE ? IMAGE : ZEROS;
	}
	if (second != context->rules->rearm_first)
		do_rearm(context, world);
	else
		world->mapped = NOTHING;
	if (second)
		let_go(context, world);
	return true;
}

static bool crash(const struct context *context, struct world *world)
{
	if (!world->left.crashes)
		return false;
	if (context->rules->crash_between && world->remover == R_READ)
		return false;
	world->left.crashes--;
	memset(world->job, 0, sizeof(world->job));
	world->holder = NOBODY;
	if (world->remover == R_READ || world->remover == R_WAKE)
		world->remover = R_END;
	world->remover_waiters = 0;
	do_recover(context, world);
	for (int i = 0; i < VCPUS; i++)
		world->vcpu[i].events = 0;
	wake(world, FL_CELL_WAITERS);
	return true;
}

/* ---- for explore() */

enum action {
	VCPU0_TOUCHES,
	VCPU1_TOUCHES,
	VCPU0_EVENT,
	VCPU1_EVENT,
	VCPU0_UNQUEUES,
	VCPU1_UNQUEUES,
	JOB0_GOES,
	JOB1_GOES,
	JOB2_GOES,
	JOB0_GIVES_UP,
	JOB1_GIVES_UP,
	JOB2_GIVES_UP,
	JOB0_POISONS,
	JOB1_POISONS,
	JOB2_POISONS,
	FILLS,
	REMOVER_GOES,
	ZAPS,
	REARMS,
	CRASHES,
	ACTIONS
};

const char *world_action_name(unsigned int action)
{
	static const char *const names[ACTIONS] = {"vCPU 0 touches",
						   "vCPU 1 touches",
						   "event of vCPU 0 is claimed",
						   "event of vCPU 1 is claimed",
						   "vCPU 0 unqueues",
						   "vCPU 1 unqueues",
						   "job 0 goes on",
						   "job 1 goes on",
						   "job 2 goes on",
						   "job 0 gives up",
						   "job 1 gives up",
						   "job 2 gives up",
						   "job 0 poisons",
						   "job 1 poisons",
						   "job 2 poisons",
						   "fill claims",
						   "remover goes on",
						   "kernel zaps",
						   "rearm goes on",
						   "pager dies"};

	return names[action];
}

static bool act_on(const struct context *context, struct world *world, unsigned int action)
{
	switch (action) {
	case VCPU0_TOUCHES:
	case VCPU1_TOUCHES:
		return vcpu_touch(world, &world->vcpu[action - VCPU0_TOUCHES]);
	case VCPU0_EVENT:
	case VCPU1_EVENT:
		return vcpu_event(context, world, (int)action - VCPU0_EVENT);
	case VCPU0_UNQUEUES:
	case VCPU1_UNQUEUES:
		return vcpu_unqueue(&world->vcpu[action - VCPU0_UNQUEUES]);
	case FILLS:
		return fill(context, world);
	case REMOVER_GOES:
		return remover_go(context, world);
	case ZAPS:
		return zap(world);
	case REARMS:
		return rearm(context, world);
	case CRASHES:
		return crash(context, world);
	default:
		break;
	}
	if (action >= JOB0_POISONS)
		return job_poison(world, &world->job[action - JOB0_POISONS]);
	if (action >= JOB0_GIVES_UP)
		return job_give_up(world, &world->job[action - JOB0_GIVES_UP]);
	return job_go(context, world, &world->job[action - JOB0_GOES]);
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct job));
}

static bool act(void *ctx, void *state, unsigned int action)
{
	struct world *world = state;

	if (!act_on(ctx, world, action))
		return false;
	/* Which slot a job is in makes no difference: states that differ by that alone are one. */
	qsort(world->job, JOBS, sizeof(world->job[0]), by_bytes);
	return true;
}

/* While a removal is under way the guest may see the old and the new, both. */
static bool wrong_contents(const struct world *world)
{
	return world->remover == R_IDLE && (world->mapped == IMAGE || world->mapped == ZEROS) &&
	       world->mapped != world->due;
}

static const char *wrong(void *ctx, const void *state)
{
	struct world world = *(const struct world *)state;
	bool pending = (world.cell & FL_CELL_STATE) == FL_PENDING;

	(void)ctx;
	if (wrong_contents(&world))
		blame(&world, WRONG_CONTENTS);
	if (pending != (live_job(&world) != NULL))
		blame(&world, WRONG_PENDING);
	return reasons[world.reason];
}

static bool finished(void *ctx, const void *state)
{
	const struct world *world = state;

	(void)ctx;
	for (int i = 0; i < VCPUS; i++) {
		if (world->vcpu[i].mode == RUNS || world->vcpu[i].mode == SLEEPS ||
		    world->vcpu[i].events)
			return false;
	}
	for (int i = 0; i < JOBS; i++) {
		if (world->job[i].step)
			return false;
	}
	return world->remover == R_IDLE && world->holder == NOBODY;
}

int world_explore(const struct world_rules *rules, const struct world_budget *budget,
		  struct explore_result *result)
{
	const size_t map_len = FL_TABLE_CELLS + 1;
	struct context context = {.rules = rules};
	const struct explore_world world = {.state_size = sizeof(struct world),
					    .actions = ACTIONS,
					    .ctx = &context,
					    .act = act,
					    .wrong = wrong,
					    .finished = finished};
	struct world start = {.cell = FL_ABSENT, .due = IMAGE, .source = IMAGE, .left = *budget};
	int rc = fl_table_new(&context.table, 1);
	uint8_t *map;

	if (rc)
		return rc;
	map = mmap(NULL, map_len, PROT_READ | PROT_WRITE, MAP_SHARED, fl_table_fd(context.table),
		   0);
	if (map == MAP_FAILED) {
		fl_table_free(context.table);
		return -ENOMEM;
	}
	context.cell = map + FL_TABLE_CELLS;
	for (int i = 0; i < VCPUS; i++)
		start.vcpu[i].touches = budget->touches;
	rc = explore(&world, &start, result);
	(void)munmap(map, map_len);
	fl_table_free(context.table);
	return rc;
}
