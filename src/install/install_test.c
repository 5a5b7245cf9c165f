/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <faultline/install.h>

/* An install of a caller's own, as an older or a younger one would bring it. */

static int calls;

static int64_t own_copy(struct fl_install *install, uint64_t addr, const void *from,
			uint64_t len_bytes, unsigned int flags)
{
	(void)install;
	calls++;
	return addr == 4096 && from == &calls && flags == FL_INSTALL_DONTWAKE ? (int64_t)len_bytes
									      : -EINVAL;
}

static int64_t own_poison(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			  unsigned int flags)
{
	(void)install;
	(void)addr;
	(void)flags;
	calls++;
	return (int64_t)len_bytes;
}

static void own_close(struct fl_install *install)
{
	(void)install;
	calls++;
}

static const struct fl_install_ops own_ops = {
	.size = sizeof(own_ops),
	.version = FL_INSTALL_OPS_VERSION,
	.name = "own",
	.copy = own_copy,
	.poison = own_poison,
	.close = own_close,
};

static void test_calls(void **state)
{
	struct fl_install install = {&own_ops};

	(void)state;
	calls = 0;
	assert_int_equal(fl_install_copy(&install, 4096, &calls, 8192, FL_INSTALL_DONTWAKE), 8192);
	assert_int_equal(fl_install_poison(&install, 4096, 4096, 0), 4096);
	fl_install_close(&install);
	assert_int_equal(calls, 3);
	/* What it does not have. */
	assert_null(fl_install_place(&install, 4096, 4096));
	assert_int_equal(fl_install_map(&install, 4096, 4096, 0), -EOPNOTSUPP);
	assert_int_equal(fl_install_zero(&install, 4096, 4096, 4096, 0), -EOPNOTSUPP);
	fl_install_close(NULL);
}

static void test_older_and_younger_ops(void **state)
{
	struct fl_install_ops ops = own_ops;
	struct fl_install install = {&ops};

	(void)state;
	/* Compiled when poison() was not there yet: what lies behind the end is not called. */
	ops.size = offsetof(struct fl_install_ops, poison);
	calls = 0;
	assert_int_equal(fl_install_poison(&install, 4096, 4096, 0), -EOPNOTSUPP);
	fl_install_close(&install);
	assert_int_equal(calls, 0);
	/* Longer is fine, of another version is not. */
	ops.size = sizeof(ops) + 64;
	assert_int_equal(fl_install_poison(&install, 4096, 4096, 0), 4096);
	ops.version++;
	assert_int_equal(fl_install_poison(&install, 4096, 4096, 0), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_older_and_younger_ops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
