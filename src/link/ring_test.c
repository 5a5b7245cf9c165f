/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link/ring.h"
#include "util/error.h"

/* Both ends in one process; the worker's is played by a thread, or by the test. */
struct both {
	struct fl_ring ring;
	struct fl_ring_end end;
	int socks[2]; /* ours, the worker's */
	pthread_t thread;
	atomic_bool stop;
	uint64_t taken;
};

static void open_both(struct both *both, uint32_t entries)
{
	struct fl_error err;

	memset(both, 0, sizeof(*both));
	assert_int_equal(fl_ring_end_new(&both->end, entries), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both->socks), 0);
	assert_int_equal(fl_ring_open(&both->ring, both->end.shared_fd, dup(both->end.doorbell_fd),
				      dup(both->end.poller_fd), both->socks[0], &err),
			 0);
	both->ring.spin_us = 5;
}

static void close_both(struct both *both)
{
	fl_ring_close(&both->ring);
	fl_ring_end_close(&both->end);
	close(both->socks[0]);
	if (both->socks[1] >= 0)
		close(both->socks[1]);
}

/* What a copy ends with depends on all of what was asked, so an answer to another question shows. */
static int answer_to(const struct fl_ring_copy *copy)
{
	uint64_t sum = copy->remote_offset * 7 + copy->local_offset * 3 + copy->len_bytes;

	return -(int)(sum / 4096 % 4000);
}

static bool serve_one(struct both *both, bool fill)
{
	struct fl_ring_copy copy;
	int index = fl_ring_end_take(&both->end, fill, &copy);

	if (index < 0)
		return false;
	both->taken++;
	fl_ring_end_complete(&both->end, (uint32_t)index, answer_to(&copy));
	return true;
}

/* As a session does: round as long as there is something, then asleep until the doorbell. */
static void *worker_main(void *arg)
{
	struct both *both = arg;

	while (!atomic_load(&both->stop)) {
		struct pollfd poller = {.fd = both->end.doorbell_fd, .events = POLLIN};

		if (serve_one(both, false) || serve_one(both, true))
			continue;
		if (!fl_ring_end_sleep(&both->end, true))
			continue;
		/* Forever: a lost doorbell hangs the test. */
		(void)poll(&poller, 1, -1);
		fl_ring_end_awake(&both->end);
	}
	return NULL;
}

static void start_worker(struct both *both)
{
	assert_int_equal(pthread_create(&both->thread, NULL, worker_main, both), 0);
}

static void stop_worker(struct both *both)
{
	atomic_store(&both->stop, true);
	assert_int_equal(eventfd_write(both->end.doorbell_fd, 1), 0);
	assert_int_equal(pthread_join(both->thread, NULL), 0);
}

static int copy_once(struct fl_ring *ring, const struct fl_ring_copy *copy)
{
	int index = fl_ring_claim_wait(ring);
	int rc;

	if (index < 0)
		return index;
	fl_ring_publish(ring, (uint32_t)index, copy);
	rc = fl_ring_wait(ring, (uint32_t)index);
	fl_ring_release(ring, (uint32_t)index);
	return rc;
}

struct producer {
	struct both *both;
	unsigned int number, rounds, wrong;
};

static void *producer_main(void *arg)
{
	struct producer *producer = arg;

	for (unsigned int i = 0; i < producer->rounds; i++) {
		struct fl_ring_copy copy = {
			.remote_offset = (uint64_t)(producer->number * 100003 + i) * 4096,
			.local_offset = (uint64_t)i * 4096,
			.len_bytes = 4096 * (i % 5 + 1),
			.flags = (i + producer->number) % 7 ? 0 : FL_WORKER_FILL};

		producer->wrong += copy_once(&producer->both->ring, &copy) != answer_to(&copy);
	}
	return NULL;
}

static void run_producers(unsigned int threads, unsigned int rounds, uint32_t entries)
{
	struct producer *producers = calloc(threads, sizeof(*producers));
	pthread_t *ids = calloc(threads, sizeof(*ids));
	struct both both;

	open_both(&both, entries);
	start_worker(&both);
	for (unsigned int i = 0; i < threads; i++) {
		producers[i] = (struct producer){.both = &both, .number = i, .rounds = rounds};
		assert_int_equal(pthread_create(&ids[i], NULL, producer_main, &producers[i]), 0);
	}
	for (unsigned int i = 0; i < threads; i++) {
		assert_int_equal(pthread_join(ids[i], NULL), 0);
		assert_int_equal(producers[i].wrong, 0);
	}
	stop_worker(&both);
	assert_int_equal(both.taken, (uint64_t)threads * rounds);
	assert_int_equal(both.ring.copies, (uint64_t)threads * rounds);
	for (uint32_t word = 0; word < entries / 64; word++)
		assert_int_equal(both.ring.used[word], 0);
	close_both(&both);
	free(producers);
	free(ids);
}

static void few_threads_copy(void **state)
{
	(void)state;
	run_producers(4, 5000, 256);
}

/* More threads than entries: some wait for one to be free. */
static void more_threads_than_entries_copy(void **state)
{
	(void)state;
	run_producers(150, 60, 64);
}

static void every_entry_is_claimed_once(void **state)
{
	bool seen[FL_WORKER_RING_ENTRIES] = {false};
	struct both both;

	(void)state;
	open_both(&both, FL_WORKER_RING_ENTRIES);
	for (int i = 0; i < FL_WORKER_RING_ENTRIES; i++) {
		int index = fl_ring_claim(&both.ring);

		assert_in_range(index, 0, FL_WORKER_RING_ENTRIES - 1);
		assert_false(seen[index]);
		seen[index] = true;
	}
	assert_int_equal(fl_ring_claim(&both.ring), -EBUSY);
	fl_ring_release(&both.ring, 777);
	assert_int_equal(fl_ring_claim(&both.ring), 777);
	close_both(&both);
}

/* A copy costs a system call only if somebody sleeps. */
static void a_busy_worker_costs_no_system_call(void **state)
{
	struct fl_ring_copy copy = {.remote_offset = 8192, .len_bytes = 4096};
	struct both both;

	(void)state;
	open_both(&both, 64);
	for (int i = 0; i < 1000; i++) {
		int index = fl_ring_claim_wait(&both.ring);

		fl_ring_publish(&both.ring, (uint32_t)index, &copy);
		assert_true(serve_one(&both, false));
		assert_int_equal(fl_ring_wait(&both.ring, (uint32_t)index), answer_to(&copy));
		fl_ring_release(&both.ring, (uint32_t)index);
	}
	assert_int_equal(both.ring.copies, 1000);
	assert_int_equal(both.ring.doorbells + both.ring.sleeps + both.ring.full_sleeps, 0);
	assert_int_equal(both.end.tells, 0);

	assert_true(fl_ring_end_sleep(&both.end, true));
	fl_ring_publish(&both.ring, (uint32_t)fl_ring_claim(&both.ring), &copy);
	assert_int_equal(both.ring.doorbells, 1);
	close_both(&both);
}

/* Who polls is told of every end, and by one system call as long as it does not look. */
static void a_poller_is_told(void **state)
{
	struct fl_ring_copy copy = {.len_bytes = 4096, .flags = FL_WORKER_TELL};
	struct both both;
	uint64_t bits = 0, signals = 0;

	(void)state;
	open_both(&both, 64);
	fl_ring_poller_sleeps(&both.ring);
	for (int i = 0; i < 64; i++)
		fl_ring_publish(&both.ring, (uint32_t)fl_ring_claim(&both.ring), &copy);
	while (serve_one(&both, false))
		bits++;
	assert_int_equal(bits, 64);
	assert_int_equal(read(both.ring.poller_fd, &signals, sizeof(signals)), sizeof(signals));
	assert_int_equal(signals, 1);
	assert_int_equal(both.end.tells, 1);
	assert_true(fl_ring_told(&both.ring, 0) == UINT64_MAX);
	assert_true(fl_ring_told(&both.ring, 0) == 0);
	close_both(&both);
}

static void demand_is_taken_before_and_once(void **state)
{
	struct fl_ring_copy copy = {.len_bytes = 4096, .flags = FL_WORKER_FILL}, got;
	struct both both;
	int fill, hurried;

	(void)state;
	open_both(&both, 64);
	fill = fl_ring_claim(&both.ring);
	fl_ring_publish(&both.ring, (uint32_t)fill, &copy);
	hurried = fl_ring_claim(&both.ring);
	fl_ring_publish(&both.ring, (uint32_t)hurried, &copy);
	assert_int_equal(fl_ring_end_take(&both.end, false, &got), -EAGAIN);
	fl_ring_hurry(&both.ring, (uint32_t)hurried);
	assert_int_equal(fl_ring_end_take(&both.end, false, &got), hurried);
	assert_int_equal(fl_ring_end_take(&both.end, true, &got), fill);
	assert_int_equal(fl_ring_end_take(&both.end, true, &got), -EAGAIN);
	close_both(&both);
}

static void *die_soon(void *arg)
{
	struct both *both = arg;
	struct fl_ring_copy copy;

	/* The copy was taken, and will never end. */
	while (fl_ring_end_take(&both->end, false, &copy) < 0)
		;
	close(both->socks[1]);
	both->socks[1] = -1;
	return NULL;
}

static void a_dead_worker_hangs_nobody(void **state)
{
	struct fl_ring_copy copy = {.len_bytes = 4096};
	struct both both;
	pthread_t thread;

	(void)state;
	open_both(&both, 64);
	assert_int_equal(pthread_create(&thread, NULL, die_soon, &both), 0);
	assert_int_equal(copy_once(&both.ring, &copy), -EPIPE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	while (fl_ring_claim(&both.ring) >= 0)
		;
	assert_int_equal(fl_ring_claim_wait(&both.ring), -EPIPE);
	close_both(&both);
}

/* A VMM that writes what it likes: each entry is taken at most once at a time, and only with
 * READY. */
static void bits_at_random_do_nothing(void **state)
{
	struct fl_ring_copy copy;
	struct both both;
	int first;

	(void)state;
	open_both(&both, 64);
	both.end.shared->demand[0] = UINT64_MAX;
	/* Beyond the entries that there are. */
	both.end.shared->demand[1] = UINT64_MAX;
	both.end.shared->fill[0] = UINT64_MAX;
	for (uint32_t i = 0; i < 64; i++)
		both.end.entry[i].state = i == 5 ? FL_WORKER_READY | FL_WORKER_WAITER
						 : i * 7919 | 4;
	assert_int_equal(fl_ring_end_take(&both.end, false, &copy), 5);
	assert_int_equal(fl_ring_end_take(&both.end, false, &copy), -EAGAIN);
	assert_int_equal(fl_ring_end_take(&both.end, true, &copy), -EAGAIN);
	/* Given again while it is under way. */
	both.end.entry[5].state = FL_WORKER_READY;
	both.end.shared->demand[0] = 1 << 5;
	assert_int_equal(fl_ring_end_take(&both.end, false, &copy), -EAGAIN);
	fl_ring_end_complete(&both.end, 5, 0);
	assert_int_equal(both.end.entry[5].state, FL_WORKER_DONE);
	both.end.shared->demand[0] = 1 << 5;
	both.end.entry[5].state = FL_WORKER_READY;
	first = fl_ring_end_take(&both.end, false, &copy);
	assert_int_equal(first, 5);
	close_both(&both);
}

/* What is taken is a copy: what the VMM writes afterwards is not seen. */
static void an_entry_is_read_once(void **state)
{
	struct fl_ring_copy copy = {.remote_offset = 4096, .local_offset = 8192, .len_bytes = 4096};
	struct fl_ring_copy got;
	struct both both;
	int index;

	(void)state;
	open_both(&both, 64);
	index = fl_ring_claim(&both.ring);
	copy.flags = FL_WORKER_TELL;
	fl_ring_publish(&both.ring, (uint32_t)index, &copy);
	assert_int_equal(fl_ring_end_take(&both.end, false, &got), index);
	both.end.entry[index].flags = 0;
	both.end.entry[index].remote_offset = 1;
	assert_int_equal(got.remote_offset, 4096);
	fl_ring_end_complete(&both.end, (uint32_t)index, -EIO);
	assert_int_equal(fl_ring_told(&both.ring, 0), UINT64_C(1) << index);
	close_both(&both);
}

static void a_nonsense_result_is_an_error(void **state)
{
	static const int said[] = {1, 4096, -4096, INT32_MIN};
	struct both both;
	int result = 0;

	(void)state;
	open_both(&both, 64);
	for (size_t i = 0; i < sizeof(said) / sizeof(*said); i++) {
		both.end.entry[3].result = said[i];
		both.end.entry[3].state = FL_WORKER_DONE;
		assert_true(fl_ring_ended(&both.ring, 3, &result));
		assert_int_equal(result, -EPROTO);
	}
	close_both(&both);
}

static int open_made(int fd)
{
	struct fl_ring ring = {0};
	struct fl_error err;
	int rc = fl_ring_open(&ring, fd, -1, -1, -1, &err);

	assert_int_not_equal(rc, 0);
	close(fd);
	return rc;
}

static int made_ring(uint32_t magic, uint32_t version, uint32_t entries, int seals)
{
	struct fl_worker_ring head = {
		.magic = magic, .version = version, .entries = entries, .entry_bytes = 64};
	int fd = memfd_create("made", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1024 + 64 * 64), 0);
	assert_int_equal(pwrite(fd, &head, sizeof(head), 0), sizeof(head));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void a_broken_ring_is_refused(void **state)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_int_equal(open_made(null_fd), -EPROTO);
	assert_int_equal(open_made(made_ring(FL_WORKER_RING_MAGIC, 1, 64, 0)), -EPROTO);
	assert_int_equal(open_made(made_ring(0, 1, 64, F_SEAL_SHRINK)), -EPROTO);
	assert_int_equal(open_made(made_ring(FL_WORKER_RING_MAGIC, 2, 64, F_SEAL_SHRINK)),
			 -EPROTONOSUPPORT);
	/* More than there is memory for. */
	assert_int_equal(open_made(made_ring(FL_WORKER_RING_MAGIC, 1, 128, F_SEAL_SHRINK)),
			 -EPROTO);
	assert_int_equal(open_made(made_ring(FL_WORKER_RING_MAGIC, 1, 96, F_SEAL_SHRINK)), -EPROTO);
	assert_int_equal(open_made(made_ring(FL_WORKER_RING_MAGIC, 1, 0, F_SEAL_SHRINK)), -EPROTO);
}

/* ---- a signal handler that copies in the middle of a copy */

#define SIGNALS 500

static struct both *signalled;
static atomic_uint handled, handled_wrong;

/* Copies until all signals were handled, each in the middle of it. */
static void *signalled_main(void *arg)
{
	struct producer *producer = arg;
	struct producer one = {.both = producer->both, .rounds = 1};

	while (atomic_load(&handled) < SIGNALS) {
		one.number++;
		(void)producer_main(&one);
	}
	producer->wrong = one.wrong;
	return NULL;
}

static void on_signal(int number)
{
	struct fl_ring_copy copy = {.remote_offset = 4096 * 17, .len_bytes = 4096};
	int saved = errno;

	(void)number;
	if (copy_once(&signalled->ring, &copy) != answer_to(&copy))
		atomic_fetch_add(&handled_wrong, 1);
	atomic_fetch_add(&handled, 1);
	errno = saved;
}

static void a_handler_copies_within_a_copy(void **state)
{
	struct producer producer = {0};
	struct sigaction action = {.sa_handler = on_signal}, before;
	struct both both;
	pthread_t thread;

	(void)state;
	open_both(&both, 64);
	start_worker(&both);
	signalled = producer.both = &both;
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	assert_int_equal(pthread_create(&thread, NULL, signalled_main, &producer), 0);
	/* One at a time, each as soon as the one before was handled. */
	for (unsigned int i = 0; i < SIGNALS; i++) {
		assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
		while (atomic_load(&handled) == i)
			sched_yield();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(producer.wrong, 0);
	assert_int_equal(atomic_load(&handled_wrong), 0);
	stop_worker(&both);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
	close_both(&both);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_entry_is_claimed_once),
		cmocka_unit_test(few_threads_copy),
		cmocka_unit_test(more_threads_than_entries_copy),
		cmocka_unit_test(a_busy_worker_costs_no_system_call),
		cmocka_unit_test(a_poller_is_told),
		cmocka_unit_test(demand_is_taken_before_and_once),
		cmocka_unit_test(a_dead_worker_hangs_nobody),
		cmocka_unit_test(bits_at_random_do_nothing),
		cmocka_unit_test(an_entry_is_read_once),
		cmocka_unit_test(a_nonsense_result_is_an_error),
		cmocka_unit_test(a_broken_ring_is_refused),
		cmocka_unit_test(a_handler_copies_within_a_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
