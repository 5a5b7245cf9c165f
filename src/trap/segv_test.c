/* SPDX-License-Identifier: MIT */
#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "trap/segv.h"

#ifdef __x86_64__
#define WRITE_FLAG FL_FAULT_WRITE
#else
#define WRITE_FLAG 0
#endif

#define THREADS    8
#define TOO_MANY   (FL_SEGV_SLOTS + 50)
#define ROUNDS     300
#define STACK_SIZE (256 << 10)

/* ---- faults ---- */

static size_t page_of(const struct rig *rig, const struct fl_event *event)
{
	return (event->addr - page_addr(&rig->ram, 0)) / rig->ram.page;
}

static void test_load_and_store(void **state)
{
	struct rig rig;
	struct actor actor;
	struct fl_event event;

	(void)state;
	rig_segv(&rig, 2);
	load_start(&actor, rig.ram.at + 5);
	event = next_fault(&rig, 0, 0);
	assert_int_equal(event.tid, atomic_load(&actor.tid));
	assert_int_equal(event.addr, page_addr(&rig.ram, 0) + 5);
	install_page(&rig, 0);
	assert_int_equal(actor_join(&actor), (unsigned char)rig.ram.alias[5]);
	assert_page(&rig.ram, 0);

	store_start(&actor, rig.ram.at + rig.ram.page, 0x33);
	next_fault(&rig, 1, WRITE_FLAG);
	install_zero_page(&rig, 1);
	actor_join(&actor);
	assert_int_equal(rig.ram.alias[rig.ram.page], 0x33);
	assert_no_event(rig.trap);
	rig_free(&rig);
}

/* Every thread its own page, and one page for them all. */
static void test_threads(void **state)
{
	struct actor actors[2 * THREADS];
	struct fl_event events[2 * THREADS];
	struct rig rig;
	int got = 0;

	(void)state;
	rig_segv(&rig, THREADS + 1);
	for (size_t i = 0; i < 2 * THREADS; i++)
		load_start(&actors[i], rig.ram.at + (i < THREADS ? i : THREADS) * rig.ram.page);
	for (size_t i = 0; i < 2 * THREADS; i++)
		actor_wait_asleep(&actors[i]);
	while (got < 2 * THREADS)
		got += fl_trap_read(rig.trap, events + got, (unsigned int)(2 * THREADS - got));
	for (size_t i = 0; i < 2 * THREADS; i++)
		assert_in_range(page_of(&rig, &events[i]), 0, THREADS);
	for (size_t i = 0; i <= THREADS; i++)
		install_page(&rig, i);
	for (size_t i = 0; i < 2 * THREADS; i++) {
		size_t page = i < THREADS ? i : THREADS;

		assert_int_equal(actor_join(&actors[i]),
				 (unsigned char)rig.ram.alias[page * rig.ram.page]);
	}
	assert_no_event(rig.trap);
	rig_free(&rig);
}

/* What does not fit stays, first come first served, and the descriptor stays readable. */
static void test_small_reads(void **state)
{
	struct actor actors[THREADS];
	struct rig rig;

	(void)state;
	rig_segv(&rig, THREADS);
	for (size_t i = 0; i < THREADS; i++) {
		load_start(&actors[i], rig.ram.at + i * rig.ram.page);
		actor_wait_asleep(&actors[i]);
	}
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(next_fault(&rig, i, 0).tid, atomic_load(&actors[i].tid));
	assert_no_event(rig.trap);
	for (size_t i = 0; i < THREADS; i++) {
		install_page(&rig, i);
		actor_join(&actors[i]);
	}
	rig_free(&rig);
}

struct crowd {
	struct actor actors[TOO_MANY];
	pthread_t threads[TOO_MANY];
	_Atomic size_t done;
};

static struct crowd crowd;

static void *crowd_main(void *arg)
{
	struct actor *actor = arg;

	actor->result = act_load(actor);
	atomic_fetch_add(&crowd.done, 1);
	return NULL;
}

static void crowd_start(const struct ram *ram)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	atomic_store(&crowd.done, 0);
	for (size_t i = 0; i < TOO_MANY; i++) {
		crowd.actors[i].at = ram->at + i * ram->page;
		assert_int_equal(
			pthread_create(&crowd.threads[i], &attr, crowd_main, &crowd.actors[i]), 0);
	}
	pthread_attr_destroy(&attr);
}

/* Who touched before his page was installed, and is reported after, is woken then. */
static void wake_the_late(struct rig *rig)
{
	struct pollfd fd = {.fd = fl_trap_fd(rig->trap), .events = POLLIN};
	struct fl_event event;

	while (atomic_load(&crowd.done) < TOO_MANY) {
		assert_true(poll(&fd, 1, 10) >= 0);
		while (fl_trap_read(rig->trap, &event, 1) > 0)
			assert_int_equal(fl_trap_wake(rig->trap, event.addr & ~(rig->ram.page - 1),
						      rig->ram.page),
					 0);
	}
}

/* More threads than slots: nobody is forgotten. */
static void test_more_threads_than_slots(void **state)
{
	struct rig rig;

	(void)state;
	rig_segv(&rig, TOO_MANY);
	crowd_start(&rig.ram);
	/* All slots are taken before the first is given back. */
	for (size_t i = 0; i < FL_SEGV_SLOTS; i++)
		assert_int_equal(next_event(rig.trap).kind, FL_EVENT_FAULT);
	for (size_t i = 0; i < TOO_MANY; i++)
		install_page(&rig, i);
	wake_the_late(&rig);
	for (size_t i = 0; i < TOO_MANY; i++) {
		assert_int_equal(pthread_join(crowd.threads[i], NULL), 0);
		assert_int_equal(crowd.actors[i].result,
				 (unsigned char)rig.ram.alias[i * rig.ram.page]);
	}
	rig_free(&rig);
}

/* A wake without an install sends the thread back to the same fault. */
static void test_wake(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_segv(&rig, 2);
	load_start(&actor, rig.ram.at);
	for (int i = 0; i < 3; i++) {
		next_fault(&rig, 0, 0);
		assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 1), rig.ram.page), 0);
		assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0), rig.ram.page), 0);
	}
	next_fault(&rig, 0, 0);
	/* Revealed without a wake the thread sleeps on. */
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page,
					FL_INSTALL_DONTWAKE),
			 rig.ram.page);
	actor_wait_asleep(&actor);
	assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0), rig.ram.page), 0);
	assert_int_equal(actor_join(&actor), 0);
	assert_no_event(rig.trap);
	rig_free(&rig);
}

/* A thread woken before its event was read is not reported any more. */
static void test_wake_before_read(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_segv(&rig, 1);
	load_start(&actor, rig.ram.at);
	actor_wait_asleep(&actor);
	install_page(&rig, 0);
	assert_int_equal(actor_join(&actor), (unsigned char)rig.ram.alias[0]);
	assert_no_event(rig.trap);
	rig_free(&rig);
}

static void test_poison(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_segv(&rig, 3);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 1), rig.ram.page, 0),
			 rig.ram.page);
	assert_int_equal(signal_of_load(rig.ram.at + rig.ram.page), SIGBUS);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	install_page(&rig, 0);
	actor_join(&actor);
	/* Release shows the rest, but not what is poisoned. */
	assert_int_equal(fl_trap_release(rig.trap, page_addr(&rig.ram, 0), rig.ram.len), 0);
	assert_int_equal(signal_of_load(rig.ram.at + rig.ram.page), SIGBUS);
	assert_page(&rig.ram, 0);
	assert_zero_page(&rig.ram, 2);
	rig_free(&rig);
}

/* ---- arming and releasing ---- */

static void test_arm_refuses(void **state)
{
	struct rig rig;
	uint64_t at;

	(void)state;
	rig_segv(&rig, 4);
	at = page_addr(&rig.ram, 0);
	assert_int_equal(fl_trap_arm(rig.trap, at, rig.ram.len, FL_TRAP_MINOR), -EOPNOTSUPP);
	assert_int_equal(fl_trap_arm(rig.trap, at, rig.ram.len, FL_TRAP_MISSING | FL_TRAP_WP),
			 -EOPNOTSUPP);
	assert_int_equal(fl_trap_arm(rig.trap, at + 1, rig.ram.page, FL_TRAP_MISSING), -EINVAL);
	assert_int_equal(fl_trap_arm(rig.trap, at, 1, FL_TRAP_MISSING), -EINVAL);
	assert_int_equal(fl_trap_protect(rig.trap, at, rig.ram.page, true), -EOPNOTSUPP);
	munmap(rig.ram.at + rig.ram.page, rig.ram.page);
	assert_int_equal(fl_trap_arm(rig.trap, at, rig.ram.len, FL_TRAP_MISSING), -EINVAL);
	rig_free(&rig);
}

/* In the middle of an armed range: what is on both sides stays armed. */
static void test_release_part(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_segv(&rig, 3);
	load_start(&actor, rig.ram.at + rig.ram.page);
	next_fault(&rig, 1, 0);
	assert_int_equal(fl_trap_release(rig.trap, page_addr(&rig.ram, 1), rig.ram.page), 0);
	assert_int_equal(actor_join(&actor), 0);
	assert_zero_page(&rig.ram, 1);
	load_start(&actor, rig.ram.at + 2 * rig.ram.page);
	next_fault(&rig, 2, 0);
	install_page(&rig, 2);
	actor_join(&actor);
	assert_page(&rig.ram, 2);
	rig_free(&rig);
}

struct hammer {
	volatile char *at;
	_Atomic bool stop;
};

__attribute__((no_sanitize("thread", "address"))) static void *hammer_main(void *arg)
{
	struct hammer *hammer = arg;

	while (!atomic_load_explicit(&hammer->stop, memory_order_relaxed))
		(void)*hammer->at;
	return NULL;
}

/*
 * Threads touch a page all the time while it is armed and released: some faults reach the handler
 * when the range is no longer armed, and must not be taken for the program's own.
 */
static void test_stale_faults(void **state)
{
	struct hammer hammer = {0};
	pthread_t threads[4];
	struct rig rig;

	(void)state;
	rig_segv(&rig, 1);
	hammer.at = rig.ram.at;
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, hammer_main, &hammer);
	for (int i = 0; i < ROUNDS; i++) {
		(void)next_event(rig.trap);
		assert_int_equal(fl_trap_release(rig.trap, page_addr(&rig.ram, 0), rig.ram.len), 0);
		assert_int_equal(
			fl_trap_arm(rig.trap, page_addr(&rig.ram, 0), rig.ram.len, FL_TRAP_MISSING),
			0);
	}
	atomic_store(&hammer.stop, true);
	assert_int_equal(fl_trap_release(rig.trap, page_addr(&rig.ram, 0), rig.ram.len), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	rig_free(&rig);
}

static void assert_range(const struct fl_segv_ranges *ranges, size_t i, uint64_t start,
			 uint64_t end)
{
	assert_true(i < ranges->count);
	assert_int_equal(ranges->range[i].start, start);
	assert_int_equal(ranges->range[i].end, end);
}

/* Steps of { add or del, start, end }, and then what must be armed, address by address. */
static void test_ranges(void **state)
{
	static const struct {
		bool add;
		uint64_t start;
		uint64_t end;
	} steps[] = {{true, 10, 20},  {true, 40, 50}, {true, 60, 70}, {true, 20, 25},
		     {true, 35, 40},  {true, 48, 62}, {false, 0, 12}, {false, 36, 38},
		     {false, 65, 90}, {false, 26, 30}};
	struct fl_segv_ranges *ranges = NULL;
	bool armed[100] = {false};

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct fl_segv_ranges *old = ranges;

		ranges = (steps[i].add ? fl_segv_ranges_add
				       : fl_segv_ranges_del)(old, steps[i].start, steps[i].end);
		free(old);
		for (uint64_t at = steps[i].start; at < steps[i].end; at++)
			armed[at] = steps[i].add;
		for (uint64_t at = 0; at < 100; at++)
			assert_int_equal(fl_segv_ranges_has(ranges, at), armed[at]);
	}
	assert_int_equal(ranges->count, 3);
	assert_range(ranges, 0, 12, 25);
	assert_range(ranges, 1, 35, 36);
	assert_range(ranges, 2, 38, 65);
	free(ranges);
}

/* ---- two traps, and closing ---- */

static void test_two_traps(void **state)
{
	struct rig one;
	struct rig two;
	struct actor actors[2];

	(void)state;
	rig_segv(&one, 1);
	rig_segv(&two, 1);
	load_start(&actors[0], one.ram.at);
	load_start(&actors[1], two.ram.at);
	next_fault(&two, 0, 0);
	next_fault(&one, 0, 0);
	install_page(&one, 0);
	actor_join(&actors[0]);
	rig_free(&one);
	/* The other one still works. */
	install_page(&two, 0);
	assert_int_equal(actor_join(&actors[1]), (unsigned char)two.ram.alias[0]);
	rig_free(&two);
}

static char *const unmapped = (char *)8;
static sigjmp_buf back;
static siginfo_t seen_info;
static void *volatile seen_context;
static volatile int seen_sig;
static volatile bool saw_usr2_blocked;
static volatile bool saw_segv_blocked;

static void note(int sig)
{
	sigset_t mask;

	seen_sig = sig;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	saw_usr2_blocked = sigismember(&mask, SIGUSR2);
	saw_segv_blocked = sigismember(&mask, SIGSEGV);
	siglongjmp(back, 1);
}

static void note_info(int sig, siginfo_t *info, void *context)
{
	seen_info = *info;
	seen_context = context;
	note(sig);
}

/* Loads in this thread, expecting a handler of ours to jump out. */
static void load_and_come_back(const volatile char *at)
{
	seen_sig = 0;
	seen_context = NULL;
	if (!sigsetjmp(back, 1)) {
		(void)*at;
		fail_msg("the load went through");
	}
	assert_int_equal(seen_sig, SIGSEGV);
}

static void *forbidden_page(void)
{
	void *at = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static void test_chain_to_a_handler(void **state)
{
	struct sigaction mine = {.sa_sigaction = note_info, .sa_flags = SA_SIGINFO};
	char *forbidden = forbidden_page();
	struct sigaction old;
	struct sigaction now;
	struct rig rig;

	(void)state;
	sigaddset(&mine.sa_mask, SIGUSR2);
	assert_int_equal(sigaction(SIGSEGV, &mine, &old), 0);
	rig_segv(&rig, 1);
	load_and_come_back(forbidden + 7);
	assert_ptr_equal(seen_info.si_addr, forbidden + 7);
	assert_int_equal(seen_info.si_code, SEGV_ACCERR);
	assert_non_null(seen_context);
	assert_true(saw_usr2_blocked);
	assert_true(saw_segv_blocked);
	load_and_come_back(unmapped);
	assert_ptr_equal(seen_info.si_addr, unmapped);
	assert_int_equal(seen_info.si_code, SEGV_MAPERR);
	assert_no_event(rig.trap);

	/* One with the plain signature, set behind the trap's back: ours is out of the way then. */
	rig_free(&rig);
	assert_int_equal(sigaction(SIGSEGV, NULL, &now), 0);
	assert_ptr_equal(now.sa_sigaction, note_info);
	mine = (struct sigaction){.sa_handler = note, .sa_flags = SA_NODEFER};
	assert_int_equal(sigaction(SIGSEGV, &mine, NULL), 0);
	rig_segv(&rig, 1);
	load_and_come_back(unmapped);
	assert_null(seen_context);
	assert_false(saw_usr2_blocked);
	assert_false(saw_segv_blocked);
	rig_free(&rig);
	munmap(forbidden, 4096);
	assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
}

static volatile int passed_on;

static void count_passed_on(int sig)
{
	(void)sig;
	passed_on++;
}

/*
 * The same with certainty: the handler is called as for a touch before the release. It sends the
 * thread back to try again, once for each release: a fault that stays is the program's own.
 */
static void test_late_handler(void **state)
{
	struct sigaction mine = {.sa_handler = count_passed_on};
	struct sigaction handler;
	struct sigaction old;
	siginfo_t info = {.si_signo = SIGSEGV, .si_code = SEGV_ACCERR};
	ucontext_t context;
	struct rig rig;

	(void)state;
	assert_int_equal(sigaction(SIGSEGV, &mine, &old), 0);
	rig_segv(&rig, 2);
	assert_int_equal(sigaction(SIGSEGV, NULL, &handler), 0);
	assert_int_equal(getcontext(&context), 0);
#ifdef __x86_64__
	context.uc_mcontext.gregs[REG_ERR] = 0;
#endif
	info.si_addr = rig.ram.at;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			fl_trap_release(rig.trap, page_addr(&rig.ram, (size_t)i), rig.ram.page), 0);
		handler.sa_sigaction(SIGSEGV, &info, &context);
		assert_int_equal(passed_on, i);
		handler.sa_sigaction(SIGSEGV, &info, &context);
		assert_int_equal(passed_on, i + 1);
	}
	rig_free(&rig);
	assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
	/* That handler blocked SIGSEGV, as for a real delivery, and nothing unblocked it. */
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &context.uc_sigmask, NULL), 0);
}

/* Whoever waits when the trap is closed goes on to the handler before, not to a page of zeros. */
static int64_t act_load_and_come_back(struct actor *actor)
{
	if (!sigsetjmp(back, 1))
		return act_load(actor);
	return -1;
}

static void test_close_with_a_waiter(void **state)
{
	struct sigaction mine = {.sa_sigaction = note_info, .sa_flags = SA_SIGINFO};
	struct sigaction old;
	struct actor actor;
	struct rig rig;

	(void)state;
	assert_int_equal(sigaction(SIGSEGV, &mine, &old), 0);
	rig_segv(&rig, 1);
	actor = (struct actor){.act = act_load_and_come_back, .at = rig.ram.at};
	actor_start(&actor);
	next_fault(&rig, 0, 0);
	fl_install_close(rig.install);
	fl_trap_close(rig.trap);
	assert_int_equal(actor_join(&actor), -1);
	assert_ptr_equal(seen_info.si_addr, rig.ram.at);
	ram_free(&rig.ram);
	assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
}

/* ---- what kills ---- */

struct child {
	void (*before)(int);
	bool send;
	bool armed;
};

/* In a child: the handler before is child->before, then SIGSEGV comes. */
static void be_child(const struct child *child, const struct rig *parent)
{
	struct rig rig;
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	if (!child->armed) {
		signal(SIGSEGV, child->before);
		rig_segv(&rig, 1);
	}
	if (child->send)
		kill(getpid(), SIGSEGV);
	else
		(void)*(volatile char *)(child->armed ? parent->ram.at : unmapped);
	_exit(0);
}

static int status_of(const struct child *child, const struct rig *parent)
{
	int pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		be_child(child, parent);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_chain_to_the_default(void **state)
{
	static const struct child sent = {.before = SIG_DFL, .send = true};
	static const struct child fault = {.before = SIG_DFL};
	static const struct child ignored = {.before = SIG_IGN, .send = true};
	static const struct child ignored_fault = {.before = SIG_IGN};

	(void)state;
	assert_int_equal(WTERMSIG(status_of(&fault, NULL)), SIGSEGV);
	assert_int_equal(WTERMSIG(status_of(&sent, NULL)), SIGSEGV);
	assert_int_equal(WTERMSIG(status_of(&ignored_fault, NULL)), SIGSEGV);
	assert_int_equal(status_of(&ignored, NULL), 0);
}

/* A forked child has the handler and the ranges, but no reader: it dies instead of waiting. */
static void test_forked_child_does_not_wait(void **state)
{
	static const struct child child = {.armed = true};
	struct sigaction plain = {.sa_handler = SIG_DFL};
	struct sigaction old;
	struct rig rig;

	(void)state;
	assert_int_equal(sigaction(SIGSEGV, &plain, &old), 0);
	rig_segv(&rig, 1);
	assert_int_equal(WTERMSIG(status_of(&child, &rig)), SIGSEGV);
	rig_free(&rig);
	assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
}

/* ---- signals while a thread waits ---- */

static sem_t delivered;
static volatile char *also_touched;
static volatile char also_seen;

static void on_usr1(int sig)
{
	(void)sig;
	if (also_touched)
		also_seen = *also_touched;
	sem_post(&delivered);
}

/* The signal is handled while the thread waits; its handler may even touch another page. */
static void test_signals_while_waiting(void **state)
{
	struct sigaction action = {.sa_handler = on_usr1};
	struct rig rig;
	struct actor actor;

	(void)state;
	SKIP_UNLESS(!UNDER_TSAN, "other", "ThreadSanitizer delays signals");
	sem_init(&delivered, 0, 0);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	rig_segv(&rig, 2);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	for (int i = 0; i < 3; i++) {
		pthread_kill(actor.thread, SIGUSR1);
		sem_wait(&delivered);
	}
	assert_no_event(rig.trap);
	also_touched = rig.ram.at + rig.ram.page;
	pthread_kill(actor.thread, SIGUSR1);
	next_fault(&rig, 1, 0);
	install_page(&rig, 1);
	sem_wait(&delivered);
	assert_int_equal(also_seen, rig.ram.alias[rig.ram.page]);
	also_touched = NULL;
	install_page(&rig, 0);
	assert_int_equal(actor_join(&actor), (unsigned char)rig.ram.alias[0]);
	rig_free(&rig);
}

static sigjmp_buf away;

static void jump_away(int sig)
{
	siglongjmp(away, sig);
}

static int64_t act_load_or_jump(struct actor *actor)
{
	if (sigsetjmp(away, 1))
		return -1;
	return act_load(actor);
}

/* A thread may leave its wait for good: its slot is free again once the page comes. */
static void test_jumping_out(void **state)
{
	struct sigaction action = {.sa_handler = jump_away};
	struct rig rig;
	struct actor actor;

	(void)state;
	SKIP_UNLESS(!UNDER_TSAN, "other", "ThreadSanitizer delays signals");
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	rig_segv(&rig, 1);
	for (size_t i = 0; i < FL_SEGV_SLOTS + 2; i++) {
		actor = (struct actor){.act = act_load_or_jump, .at = rig.ram.at};
		actor_start(&actor);
		next_fault(&rig, 0, 0);
		pthread_kill(actor.thread, SIGUSR1);
		assert_int_equal(actor_join(&actor), -1);
		assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0), rig.ram.page), 0);
	}
	rig_free(&rig);
}

static void test_leaves_no_descriptors(void **state)
{
	unsigned int fds = test_open_fds();
	struct rig rig;

	(void)state;
	for (int i = 0; i < 200; i++) {
		rig_segv(&rig, 1);
		rig_free(&rig);
	}
	assert_int_equal(test_open_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load_and_store),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_small_reads),
		cmocka_unit_test(test_more_threads_than_slots),
		cmocka_unit_test(test_wake),
		cmocka_unit_test(test_wake_before_read),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_arm_refuses),
		cmocka_unit_test(test_release_part),
		cmocka_unit_test(test_stale_faults),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_two_traps),
		cmocka_unit_test(test_chain_to_a_handler),
		cmocka_unit_test(test_late_handler),
		cmocka_unit_test(test_close_with_a_waiter),
		cmocka_unit_test(test_chain_to_the_default),
		cmocka_unit_test(test_forked_child_does_not_wait),
		cmocka_unit_test(test_signals_while_waiting),
		cmocka_unit_test(test_jumping_out),
		cmocka_unit_test(test_leaves_no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
