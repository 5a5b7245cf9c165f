/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "snapshot.h"
#include "util.h"

#define REGION(gpa, size, offset)                               \
	"{\"gpa\":" gpa ",\"size\":" size ",\"offset\":" offset \
	",\"page_size\":4096,\"backing\":\"memfd\"}"
#define LAYOUT(size, regions) "{\"version\":1,\"memory_size\":" size ",\"regions\":[" regions "]}"

static void a_layout_is_read(void **state)
{
	static const char text[] = LAYOUT("6291456", REGION("0", "4194304", "0") "," REGION(
							     "4294967296", "2097152", "4194304"));
	struct vmm_layout layout;
	char err[200] = "";

	(void)state;
	if (vmm_snapshot_parse_layout(text, strlen(text), &layout, err, sizeof(err)))
		fail_msg("%s", err);
	assert_int_equal(layout.nr_regions, 2);
	assert_int_equal(layout.regions[1].gpa, 4 * GIB);
	assert_int_equal(layout.regions[1].size_bytes, 2 * MIB);
	assert_int_equal(layout.regions[1].offset, 4 * MIB);
	assert_int_equal(layout.regions[1].backing, VMM_BACKING_MEMFD);
}

static void layouts_that_contradict_themselves_are_refused(void **state)
{
	static const struct {
		const char *text, *error;
	} wrong[] = {
		{"", "line 1: "},
		{"{", "line 1: "},
		{"{\"version\":1,\"version\":1}", "duplicate"},
		{"{}", "\"version\" is missing"},
		{"{\"version\":2}", "version is 2"},
		{"{\"version\":-1}", "\"version\" is -1"},
		{LAYOUT("1", ""), "1 to 8"},
		{LAYOUT("1", "3"), "\"gpa\" is missing"},
		{LAYOUT("4194304", REGION("4096", "4194304", "0")), "does not begin at gpa 0"},
		{LAYOUT("4096", REGION("0", "4096", "0")), "at least 4M"},
		{LAYOUT("4194305", REGION("0", "4194304", "0")), "add up to 4194304"},
		{LAYOUT("4194304", REGION("0", "4194304", "4096")), "offset 4096"},
		{LAYOUT("4194304", REGION("0", "9223372036854775807", "0")), "\"size\" is"},
		{LAYOUT("8388608",
			REGION("0", "4194304", "0") "," REGION("4190208", "4194304", "4194304")),
		 "region 1: overlaps"},
		/* Each fits its bounds, the sum does not. */
		{LAYOUT("68719476736", REGION("0", "68719476736", "0") "," REGION(
					       "68719476736", "68719476736", "68719476736")),
		 "add up to 137438953472"},
	};
	struct vmm_layout layout;
	char err[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		size_t len = strlen(wrong[i].text);

		err[0] = '\0';
		assert_int_equal(
			vmm_snapshot_parse_layout(wrong[i].text, len, &layout, err, sizeof(err)),
			-EINVAL);
		if (!strstr(err, wrong[i].error))
			fail_msg("%s: says \"%s\", not \"%s\"", wrong[i].text, err, wrong[i].error);
	}
}

#define MACHINE(rest)                                                               \
	"{\"version\":1,\"vcpus\":3,\"accel\":\"kvm\",\"payload_abi\":2,\"seq\":9," \
	"\"state_bytes\":32" rest "}"

static void a_machine_is_read(void **state)
{
	static const char text[] =
		MACHINE(",\"running\":{\"command\":\"churn\",\"seq\":9,\"busy\":[0,2],"
			"\"taken\":[2]}");
	struct vmm_machine_info info;
	char err[200] = "";

	(void)state;
	if (vmm_snapshot_parse_machine(text, strlen(text), &info, err, sizeof(err)))
		fail_msg("%s", err);
	assert_int_equal(info.nr_vcpus, 3);
	assert_int_equal(info.accel, VMM_ACCEL_KVM);
	assert_string_equal(info.running, "churn");
	assert_true(info.busy[0] && !info.busy[1] && info.busy[2]);
	assert_true(!info.taken[0] && !info.taken[1] && info.taken[2]);
}

static void machines_that_lie_are_refused(void **state)
{
	static const char *const running[] = {
		"{}",
		"{\"command\":\"\",\"seq\":9,\"busy\":[],\"taken\":[]}",
		"{\"command\":\"churn\",\"seq\":10,\"busy\":[0],\"taken\":[]}",
		"{\"command\":\"churn\",\"seq\":0,\"busy\":[0],\"taken\":[]}",
		"{\"command\":\"churn\",\"seq\":9,\"busy\":[3],\"taken\":[]}",
		"{\"command\":\"churn\",\"seq\":9,\"busy\":[-1],\"taken\":[]}",
		"{\"command\":\"churn\",\"seq\":9,\"busy\":[0,1,2,0],\"taken\":[]}",
		"{\"command\":\"churn\",\"seq\":9,\"busy\":[0]}",
	};
	struct vmm_machine_info info;
	char text[400], err[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(running); i++) {
		int len = snprintf(text, sizeof(text), MACHINE(",\"running\":%s"), running[i]);

		assert_int_equal(
			vmm_snapshot_parse_machine(text, (size_t)len, &info, err, sizeof(err)),
			-EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_layout_is_read),
		cmocka_unit_test(layouts_that_contradict_themselves_are_refused),
		cmocka_unit_test(a_machine_is_read),
		cmocka_unit_test(machines_that_lie_are_refused),
	};

	return cmocka_run_group_tests_name("vmm-snapshot-parse", tests, NULL, NULL);
}
