/* SPDX-License-Identifier: MIT */
/* Reading over libfabric from a peer that lies, hangs or dies, and not reading any more. */
#include "source/fabric_test.h"

static void a_wrong_key_reads_nothing(void **state)
{
	struct rig *rig = rig_of(state);
	struct fl_fabric_desc desc;
	struct peer good = rig->peer;
	char buf[8192];

	assert_int_equal(fl_fabric_blob_decode(&desc, rig->peer.blob, rig->peer.len, NULL), 0);
	desc.regions[0].key ^= 0x10;
	rig->peer.len = fl_fabric_blob_encode(rig->peer.blob, &desc);
	open_source(rig, NULL, 0);
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(submit_and_wait(rig->queue, buf, sizeof(buf), 0), -ECONNRESET);
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal((uint8_t)buf[i], 0xee);
	close_source(rig);
	/* Who has the keys is served as before. */
	rig->peer = good;
	open_source(rig, NULL, 0);
	assert_int_equal(submit_and_wait(rig->queue, buf, sizeof(buf), 0), 0);
	assert_filled(buf, sizeof(buf), 0, SEED);
}

/* What lies beside an exported region in the peer's memory is out of reach, whatever we ask for. */
static void beyond_a_region_nothing_is_read(void **state)
{
	struct rig *rig = rig_of(state);
	struct fl_fabric_desc desc;
	char buf[8192];

	assert_int_equal(fl_fabric_blob_decode(&desc, rig->peer.blob, rig->peer.len, NULL), 0);
	desc.regions[1].len_bytes += 4096;
	rig->peer.len = fl_fabric_blob_encode(rig->peer.blob, &desc);
	open_source(rig, NULL, 0);
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(submit_and_wait(rig->queue, buf, sizeof(buf), IMAGE_BYTES - 4096),
			 -ECONNRESET);
	assert_int_equal((uint8_t)buf[0], 0xee);
	assert_int_equal(submit_and_wait(rig->queue, buf, 4096, IMAGE_BYTES - 4096), -ECONNRESET);
	close_queue(rig);
	rig->queue = queue_of(rig->source, 1);
	assert_int_equal(submit_and_wait(rig->queue, buf, 4096, IMAGE_BYTES - 4096), 0);
	assert_filled(buf, 4096, IMAGE_BYTES - 4096, SEED);
}

static void a_peer_that_is_killed_ends_its_reads(void **state)
{
	enum { JOBS = 32 };
	struct rig *rig = rig_of(state);
	struct job jobs[JOBS];
	char *buf = map_anon(JOBS * MIB);
	int ended = 0;

	open_source(rig, NULL, 0);
	for (unsigned int i = 0; i < JOBS; i++) {
		job_init(&jobs[i], buf + i * MIB, MIB, SECOND_AT + i * MIB);
		assert_int_equal(fl_queue_submit(rig->queue, &jobs[i].read), 0);
	}
	while (!ended)
		ended += wait_and_reap(rig->queue);
	kill_peer(&rig->peer);
	reap_reads(rig->queue, JOBS - ended);
	ended = 0;
	for (unsigned int i = 0; i < JOBS; i++) {
		assert_int_equal(jobs[i].ended, 1);
		if (jobs[i].read.result) {
			assert_int_equal(jobs[i].read.result, -ECONNRESET);
			ended++;
		} else {
			assert_filled(jobs[i].read.buf, MIB, jobs[i].read.offset, SEED);
		}
	}
	assert_in_range(ended, 1, JOBS - 1);
	assert_int_equal(submit_and_wait(rig->queue, buf, MIB, 0), -ECONNRESET);
	assert_int_equal(munmap(buf, JOBS * MIB), 0);
}

static void a_peer_that_is_gone_before_the_first_read(void **state)
{
	struct rig *rig = rig_of(state);
	char buf[4096];
	int result;

	rig->options.timeout_ms = 500;
	open_source(rig, NULL, 0);
	kill_peer(&rig->peer);
	result = submit_and_wait(rig->queue, buf, sizeof(buf), 0);
	assert_true(result == -ETIMEDOUT || result == -ECONNRESET);
	assert_int_equal(submit_and_wait(rig->queue, buf, sizeof(buf), 0), -ECONNRESET);
}

/* Makes sure that the peer has done all that it was asked for before: it answers another queue. */
static void peer_answers(struct rig *rig)
{
	struct fl_queue *queue = queue_of(rig->source, 1);
	char buf[4096];

	assert_int_equal(submit_and_wait(queue, buf, sizeof(buf), 0), 0);
	fl_queue_close(queue);
}

static void stop_answers(struct rig *rig)
{
	int status;

	assert_int_equal(kill(rig->peer.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(rig->peer.pid, &status, WUNTRACED), rig->peer.pid);
	assert_true(WIFSTOPPED(status));
}

static void a_peer_that_hangs_costs_a_timeout_and_writes_no_more(void **state)
{
	struct rig *rig = rig_of(state);
	char *buf = map_anon(2 * MIB);
	struct job jobs[3];

	rig->options.timeout_ms = 3000;
	open_source(rig, NULL, 0);
	assert_int_equal(submit_and_wait(rig->queue, buf, 4096, 0), 0);
	stop_answers(rig);
	job_init(&jobs[0], buf, MIB, 0);
	job_init(&jobs[1], buf + MIB, MIB, MIB);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fl_queue_submit(rig->queue, &jobs[i].read), 0);
	reap_reads(rig->queue, 2);
	assert_int_equal(jobs[0].read.result, -ETIMEDOUT);
	assert_true(jobs[1].read.result == -ETIMEDOUT || jobs[1].read.result == -ECONNRESET);
	memset(buf, 0xee, 2 * MIB);
	assert_int_equal(submit_and_wait(rig->queue, buf, 4096, 0), -ECONNRESET);
	/* Bounded however often it is polled: nothing is left to do. */
	assert_int_equal(fl_queue_reap(rig->queue), 0);
	assert_false(is_readable(fl_queue_fd(rig->queue)));
	assert_int_equal(kill(rig->peer.pid, SIGCONT), 0);
	rig->options.timeout_ms = TIMEOUT_MS;
	close_source(rig);
	open_source(rig, NULL, 0);
	peer_answers(rig);
	for (uint64_t i = 0; i < 2 * MIB; i++)
		assert_int_equal((uint8_t)buf[i], 0xee);
	assert_int_equal(munmap(buf, 2 * MIB), 0);
}

/* Nothing of it is written once quiesce() has returned, and what is not wanted any more is not read. */
static void a_read_is_quiesced(void **state)
{
	struct rig *rig = rig_of(state);
	uint8_t *arrived = calloc(IMAGE_BYTES / 4096, 1);
	char *memory = map_anon(IMAGE_BYTES), *copy = map_anon(16 * MIB);
	struct target target;
	uint64_t came = 0;

	open_source(rig, NULL, 0);
	peer_answers(rig);
	target_init(&target, memory, arrived, SECOND_AT, 16 * MIB);
	assert_int_equal(fl_queue_submit(rig->queue, &target.job.read), 0);
	while (!arrived[SECOND_AT / 4096])
		assert_int_equal(wait_and_reap(rig->queue), 0);
	fl_queue_quiesce(rig->queue, &target.job.read);
	assert_int_equal(target.job.ended, 0);
	target.wanted = 0;
	memcpy(copy, memory + SECOND_AT, 16 * MIB);
	reap_reads(rig->queue, 1);
	peer_answers(rig);
	assert_int_equal(target.job.read.result, 0);
	assert_memory_equal(copy, memory + SECOND_AT, 16 * MIB);
	for (uint64_t at = SECOND_AT; at < SECOND_AT + 16 * MIB; at += 4096) {
		assert_in_range(arrived[at / 4096], 0, 1);
		came += arrived[at / 4096];
		if (arrived[at / 4096])
			assert_filled(memory + at, 4096, at, SEED);
		else
			assert_int_equal(test_nonzero(memory + at, 4096), -1);
	}
	assert_in_range(came, 1, 16 * MIB / 4096 - 1);
	/* Without anything under way it is nothing. */
	fl_queue_quiesce(rig->queue, &target.job.read);
	free(arrived);
	assert_int_equal(munmap(memory, IMAGE_BYTES), 0);
	assert_int_equal(munmap(copy, 16 * MIB), 0);
}

static void a_read_of_a_peer_that_hangs_is_quiesced(void **state)
{
	struct rig *rig = rig_of(state);
	uint8_t *arrived = calloc(IMAGE_BYTES / 4096, 1);
	char *memory = map_anon(MIB);
	struct fl_queue *queue;
	struct target target;

	open_source(rig, NULL, 0);
	rig->options.timeout_ms = 3000;
	queue = rig->queue;
	{
		struct rig hasty = *rig;

		open_source(&hasty, NULL, 0);
		assert_int_equal(submit_and_wait(hasty.queue, memory, 4096, 0), 0);
		stop_answers(rig);
		target_init(&target, memory, arrived, 0, MIB);
		assert_int_equal(fl_queue_submit(hasty.queue, &target.job.read), 0);
		fl_queue_quiesce(hasty.queue, &target.job.read);
		assert_int_equal(target.job.ended, 0);
		memset(memory, 0xee, MIB);
		assert_int_equal(kill(rig->peer.pid, SIGCONT), 0);
		rig->queue = queue;
		peer_answers(rig);
		reap_reads(hasty.queue, 1);
		assert_int_equal(target.job.read.result, -ETIMEDOUT);
		close_source(&hasty);
	}
	for (uint64_t i = 0; i < MIB; i++)
		assert_int_equal((uint8_t)memory[i], 0xee);
	assert_int_equal(test_nonzero(arrived, IMAGE_BYTES / 4096), -1);
	free(arrived);
	assert_int_equal(munmap(memory, MIB), 0);
}

static void a_queue_is_closed_with_reads_under_way(void **state)
{
	struct rig *rig = rig_of(state);
	char *buf = map_anon(16 * MIB);
	struct job jobs[16];

	open_source(rig, NULL, 0);
	for (unsigned int i = 0; i < 16; i++) {
		job_init(&jobs[i], buf + i * MIB, MIB, i * MIB);
		assert_int_equal(fl_queue_submit(rig->queue, &jobs[i].read), 0);
	}
	(void)wait_and_reap(rig->queue);
	close_queue(rig);
	memset(buf, 0xee, 16 * MIB);
	rig->queue = queue_of(rig->source, 1);
	peer_answers(rig);
	for (uint64_t i = 0; i < 16 * MIB; i++)
		assert_int_equal((uint8_t)buf[i], 0xee);
	job_init(&jobs[0], buf, 4096, 0);
	job_init(&jobs[1], buf, 4096, 0);
	assert_int_equal(fl_queue_submit(rig->queue, &jobs[0].read), 0);
	assert_int_equal(fl_queue_submit(rig->queue, &jobs[1].read), -EBUSY);
	close_queue(rig);
	assert_int_equal(munmap(buf, 16 * MIB), 0);
}

static void an_export_that_ends_ends_its_reads(void **state)
{
	struct rig *rig = rig_of(state);
	struct fl_fabric *fabric = NULL;
	char buf[4096];
	const void *blob;

	assert_int_equal(export_image(&fabric, rig->image, NULL), 0);
	blob = fl_fabric_blob(fabric, &rig->peer.len);
	memcpy(rig->peer.blob, blob, rig->peer.len);
	open_source(rig, NULL, 0);
	assert_int_equal(submit_and_wait(rig->queue, buf, sizeof(buf), SECOND_AT), 0);
	assert_filled(buf, sizeof(buf), SECOND_AT, SEED);
	fl_fabric_unexport(fabric);
	assert_int_equal(submit_and_wait(rig->queue, buf, sizeof(buf), 0), -ECONNRESET);
}

static int open_with(struct rig *rig, const char *provider, const struct fl_fabric_desc *desc,
		     struct fl_error *err)
{
	uint8_t bytes[FL_FABRIC_BLOB_MAX];
	size_t len = fl_fabric_blob_encode(bytes, desc);

	rig->options.provider = provider;
	return fl_source_fabric_open(&rig->source, bytes, len, NULL, 0, &rig->options, err);
}

static void a_descriptor_is_not_trusted(void **state)
{
	struct rig *rig = rig_of(state);
	struct fl_fabric_desc good, desc;
	struct fl_error err = {0};

	assert_int_equal(fl_fabric_blob_decode(&good, rig->peer.blob, rig->peer.len, NULL), 0);
	/* It names neither another provider than we allow, nor one that there is not. */
	assert_int_equal(open_with(rig, "verbs", &good, &err), -EPERM);
	assert_non_null(strstr(err.text, "verbs"));
	assert_int_equal(open_with(rig, "tc", &good, &err), -EPERM);
	assert_int_equal(open_with(rig, "tcp,nosuch0", &good, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "nosuch0"));
	desc = good;
	strcpy(desc.provider, "tcp;ofi_none");
	assert_int_equal(open_with(rig, "tcp", &desc, &err), -EOPNOTSUPP);
	/* Nor an address that is none. */
	desc = good;
	desc.address_len--;
	assert_int_equal(open_with(rig, "tcp", &desc, &err), -EBADMSG);
	desc = good;
	desc.address[0] ^= 0x40;
	assert_int_equal(open_with(rig, "tcp", &desc, &err), -EBADMSG);
	desc = good;
	desc.address_format = 12345;
	assert_int_equal(open_with(rig, "tcp", &desc, &err), -EBADMSG);
	assert_int_equal(fl_source_fabric_open(&rig->source, "no", 2, NULL, 0, NULL, &err),
			 -EBADMSG);
	assert_null(rig->source);
	assert_int_equal(open_with(rig, "tcp", &good, &err), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_wrong_key_reads_nothing),
		TEST(beyond_a_region_nothing_is_read),
		TEST(a_peer_that_is_killed_ends_its_reads),
		TEST(a_peer_that_is_gone_before_the_first_read),
		TEST(a_peer_that_hangs_costs_a_timeout_and_writes_no_more),
		TEST(a_read_is_quiesced),
		TEST(a_read_of_a_peer_that_hangs_is_quiesced),
		TEST(a_queue_is_closed_with_reads_under_way),
		TEST(an_export_that_ends_ends_its_reads),
		TEST(a_descriptor_is_not_trusted),
	};

	return cmocka_run_group_tests(tests, make_image, drop_image);
}
