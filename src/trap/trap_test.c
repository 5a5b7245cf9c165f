/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <faultline/trap.h>

/* A trap of a caller's own, as an older or a younger one would bring it. */

static int calls;

static int own_fd(struct fl_trap *trap)
{
	(void)trap;
	return 77;
}

static int own_wake(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes)
{
	(void)trap;
	calls++;
	return addr == 4096 && len_bytes == 8192 ? 0 : -EINVAL;
}

static int own_protect(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, bool on)
{
	(void)trap;
	(void)addr;
	(void)len_bytes;
	calls++;
	return on;
}

static int own_arm(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, unsigned int modes)
{
	(void)trap;
	(void)addr;
	(void)len_bytes;
	calls++;
	return (int)modes;
}

static void own_close(struct fl_trap *trap)
{
	(void)trap;
	calls++;
}

static const struct fl_trap_ops own_ops = {
	.size = sizeof(own_ops),
	.version = FL_TRAP_OPS_VERSION,
	.flags = FL_TRAP_MISSING | FL_TRAP_WP,
	.name = "own",
	.fd = own_fd,
	.arm = own_arm,
	.wake = own_wake,
	.protect = own_protect,
	.close = own_close,
};

static void test_calls(void **state)
{
	struct fl_trap trap = {&own_ops};
	struct fl_event event;

	(void)state;
	calls = 0;
	assert_int_equal(fl_trap_fd(&trap), 77);
	assert_int_equal(fl_trap_wake(&trap, 4096, 8192), 0);
	assert_int_equal(fl_trap_protect(&trap, 0, 4096, true), 1);
	assert_int_equal(fl_trap_arm(&trap, 0, 4096, FL_TRAP_WP), FL_TRAP_WP);
	fl_trap_close(&trap);
	assert_int_equal(calls, 4);
	/* What it does not have. */
	assert_int_equal(fl_trap_read(&trap, &event, 1), -EOPNOTSUPP);
	assert_int_equal(fl_trap_release(&trap, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(fl_trap_arm(&trap, 0, 4096, FL_TRAP_MINOR), -EOPNOTSUPP);
	fl_trap_close(NULL);
}

static void test_wrong_arguments_do_not_arrive(void **state)
{
	struct fl_trap trap = {&own_ops};
	struct fl_event event;

	(void)state;
	calls = 0;
	assert_int_equal(fl_trap_read(&trap, &event, 0), -EINVAL);
	assert_int_equal(fl_trap_arm(&trap, 0, 0, FL_TRAP_WP), -EINVAL);
	assert_int_equal(fl_trap_arm(&trap, 0, 4096, 0), -EINVAL);
	assert_int_equal(fl_trap_arm(&trap, UINT64_MAX - 4095, 8192, FL_TRAP_WP), -EINVAL);
	assert_int_equal(fl_trap_wake(&trap, UINT64_MAX - 4095, 8192), -EINVAL);
	assert_int_equal(fl_trap_release(&trap, 0, 0), -EINVAL);
	assert_int_equal(fl_trap_protect(&trap, 0, 0, true), -EINVAL);
	assert_int_equal(calls, 0);
}

/* Compiled when protect() was not there yet: what lies behind its end is not called. */
static void test_older_ops(void **state)
{
	struct fl_trap_ops older = own_ops;
	struct fl_trap trap = {&older};

	(void)state;
	older.size = offsetof(struct fl_trap_ops, protect);
	calls = 0;
	assert_int_equal(fl_trap_protect(&trap, 0, 4096, true), -EOPNOTSUPP);
	fl_trap_close(&trap);
	assert_int_equal(calls, 0);
	assert_int_equal(fl_trap_wake(&trap, 4096, 8192), 0);
	assert_int_equal(calls, 1);
}

static void test_younger_ops(void **state)
{
	struct fl_trap_ops younger = own_ops;
	struct fl_trap trap = {&younger};

	(void)state;
	/* Longer is fine, of another version is not. */
	younger.size += 64;
	assert_int_equal(fl_trap_fd(&trap), 77);
	younger.version++;
	assert_int_equal(fl_trap_fd(&trap), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_wrong_arguments_do_not_arrive),
		cmocka_unit_test(test_older_ops),
		cmocka_unit_test(test_younger_ops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
