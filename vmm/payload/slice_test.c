/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <stdlib.h>

#include "env.h"

static struct payload_mailbox two_ranges(uint64_t first, uint64_t second, uint32_t vcpus)
{
	return (struct payload_mailbox){
		.nr_vcpus = vcpus,
		.nr_ranges = 2,
		.ranges = {{0x200000, first}, {0x100000000, second}},
	};
}

static void pages_are_numbered_across_ranges(void **state)
{
	struct payload_mailbox mailbox = two_ranges(10, 5, 1);

	(void)state;
	assert_int_equal(payload_total(&mailbox), 15);
	assert_int_equal(payload_gpa(&mailbox, 0), 0x200000);
	assert_int_equal(payload_gpa(&mailbox, 9), 0x209000);
	assert_int_equal(payload_gpa(&mailbox, 10), 0x100000000);
	assert_int_equal(payload_gpa(&mailbox, 14), 0x100004000);
}

static void every_page_has_one_owner(void **state)
{
	(void)state;
	for (uint32_t vcpus = 1; vcpus <= 5; vcpus++) {
		struct payload_mailbox mailbox = two_ranges(10, 7, vcpus);
		uint64_t next = 0;

		for (uint32_t vcpu = 0; vcpu < vcpus; vcpu++) {
			struct payload_slice share = payload_share(&mailbox, vcpu);

			assert_int_equal(share.first, next);
			for (uint64_t i = 0; i < share.pages; i++)
				assert_int_equal(payload_owner(&mailbox, next++), vcpu);
		}
		assert_int_equal(next, 17);
	}
}

/* Steps that name no page are skipped by the caller; all others must hit each page once. */
static void visits_each_page_once(const struct payload_command *cmd, uint64_t pages)
{
	unsigned char *seen = calloc(pages, 1);
	uint64_t steps = payload_steps(cmd, pages), hits = 0;

	for (uint64_t step = 0; step < steps; step++) {
		uint64_t page = payload_visit(cmd, pages, step);

		if (page >= pages)
			continue;
		assert_int_equal(seen[page], 0);
		seen[page] = 1;
		hits++;
	}
	assert_int_equal(hits, pages);
	free(seen);
}

static void every_order_visits_each_page_once(void **state)
{
	static const uint64_t sizes[] = {1, 2, 3, 4, 5, 63, 64, 65, 1000, 4096, 5001};
	static const uint64_t strides[] = {1, 2, 7, 64, 6000};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct payload_command cmd = {.order = PAYLOAD_ORDER_SEQUENTIAL};

		visits_each_page_once(&cmd, sizes[i]);
		cmd.order = PAYLOAD_ORDER_RANDOM;
		for (cmd.seed = 0; cmd.seed < 20; cmd.seed++)
			visits_each_page_once(&cmd, sizes[i]);
		cmd.order = PAYLOAD_ORDER_STRIDE;
		for (size_t s = 0; s < sizeof(strides) / sizeof(strides[0]); s++) {
			cmd.stride = strides[s];
			visits_each_page_once(&cmd, sizes[i]);
		}
	}
}

/* Random: neighbours in time are hardly ever neighbours in memory, and seeds differ. */
static void a_random_order_is_no_walk(void **state)
{
	struct payload_command one = {.order = PAYLOAD_ORDER_RANDOM, .seed = 1};
	struct payload_command two = {.order = PAYLOAD_ORDER_RANDOM, .seed = 2};
	unsigned int near = 0, same = 0;

	(void)state;
	for (uint64_t step = 1; step < 4096; step++) {
		uint64_t at = payload_visit(&one, 4096, step);
		uint64_t before = payload_visit(&one, 4096, step - 1);

		near += at - before + 16 < 32;
		same += at == payload_visit(&two, 4096, step);
	}
	assert_true(near < 4096 / 20);
	assert_true(same < 4096 / 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_numbered_across_ranges),
		cmocka_unit_test(every_page_has_one_owner),
		cmocka_unit_test(every_order_visits_each_page_once),
		cmocka_unit_test(a_random_order_is_no_walk),
	};

	return cmocka_run_group_tests_name("vmm-slice", tests, NULL, NULL);
}
