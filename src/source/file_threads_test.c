/* SPDX-License-Identifier: MIT */

/* The order in which threads take reads; no thread runs here. */

#include "source/reads_test.h"
#include "source/file_threads.c"

#define OPS 6

struct pool_fixture {
	struct fl_file_pool pool;
	struct fl_read reads[OPS];
	struct fl_file_op ops[OPS];
};

/* The first two reads are demands, the others fills; fills were there first. */
static void setup_pool(struct pool_fixture *fix, unsigned int max)
{
	*fix = (struct pool_fixture){.pool.max = max};
	fl_file_list_init(&fix->pool.demand);
	fl_file_list_init(&fix->pool.fill);
	fl_file_list_init(&fix->pool.finished);
	for (int i = OPS - 1; i >= 0; i--) {
		fix->reads[i].flags = i < 2 ? 0 : FL_READ_FILL;
		fix->ops[i].read = &fix->reads[i];
		fl_file_list_put(i < 2 ? &fix->pool.demand : &fix->pool.fill, &fix->ops[i]);
	}
}

static void demands_overtake_fills(void **state)
{
	static struct pool_fixture fix;

	(void)state;
	setup_pool(&fix, OPS + 1);
	assert_ptr_equal(take(&fix.pool), &fix.ops[1]);
	assert_ptr_equal(take(&fix.pool), &fix.ops[0]);
	for (int i = OPS - 1; i >= 2; i--)
		assert_ptr_equal(take(&fix.pool), &fix.ops[i]);
	assert_null(take(&fix.pool));
}

static void fills_leave_one_thread_free(void **state)
{
	static struct pool_fixture fix;
	struct fl_file_queue queue = {.event_fd = -1};
	struct fl_file_op late = {.read = &fix.reads[0]};

	(void)state;
	setup_pool(&fix, 3);
	(void)fl_file_list_take_all(&fix.pool.demand);
	assert_ptr_equal(take(&fix.pool), &fix.ops[5]);
	assert_ptr_equal(take(&fix.pool), &fix.ops[4]);
	assert_null(take(&fix.pool));
	fl_file_list_put(&fix.pool.demand, &late);
	assert_ptr_equal(take(&fix.pool), &late);
	/* One of them is finished: the next may go. */
	queue.pool.fills_running = fix.pool.fills_running;
	fl_file_list_init(&queue.pool.finished);
	finish(&queue, &fix.ops[5]);
	assert_int_equal(queue.pool.fills_running, 1);
	assert_ptr_equal(queue.pool.finished.first, &fix.ops[5]);
	fix.pool.fills_running = queue.pool.fills_running;
	assert_ptr_equal(take(&fix.pool), &fix.ops[3]);
	assert_null(take(&fix.pool));
}

static void a_single_thread_does_all(void **state)
{
	static struct pool_fixture fix;

	(void)state;
	setup_pool(&fix, 1);
	assert_ptr_equal(take(&fix.pool), &fix.ops[1]);
	assert_ptr_equal(take(&fix.pool), &fix.ops[0]);
	assert_ptr_equal(take(&fix.pool), &fix.ops[5]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(demands_overtake_fills),
		cmocka_unit_test(fills_leave_one_thread_free),
		cmocka_unit_test(a_single_thread_does_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
