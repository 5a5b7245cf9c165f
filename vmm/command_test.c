/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <string.h>

#include "command.h"
#include "util.h"

static struct vmm_command parsed(const char *text)
{
	struct vmm_command cmd;

	if (vmm_command_parse(text, &cmd))
		fail_msg("%s", vmm_error_text());
	assert_string_equal(cmd.text, text);
	return cmd;
}

static void commands_have_defaults(void **state)
{
	struct payload_command stamp = parsed("stamp").payload;
	struct payload_command verify = parsed("verify").payload;

	(void)state;
	assert_int_equal(stamp.op, PAYLOAD_OP_STAMP);
	assert_int_equal(stamp.fill, 100);
	assert_int_equal(stamp.generation, 0);
	assert_int_equal(verify.op, PAYLOAD_OP_VERIFY);
	assert_int_equal(verify.order, PAYLOAD_ORDER_SEQUENTIAL);
	assert_int_equal(verify.limit, 0);
	assert_int_equal(parsed("churn").payload.rounds, 0);
	assert_int_equal(parsed("stop").kind, VMM_COMMAND_STOP);
	assert_int_equal(parsed("wait").kind, VMM_COMMAND_WAIT);
}

static void options_land_in_their_fields(void **state)
{
	struct payload_command stamp = parsed("stamp:light,fill=30,seed=0x1f,generation=7").payload;
	struct payload_command verify = parsed("verify:stride=9,pages=100,shared").payload;
	struct payload_command churn = parsed("churn:pages=12,rounds=3").payload;
	struct vmm_command discard = parsed("discard:0x200000,64K");

	(void)state;
	assert_int_equal(stamp.form, PAYLOAD_FORM_LIGHT);
	assert_int_equal(stamp.fill, 30);
	assert_int_equal(stamp.seed, 0x1f);
	assert_int_equal(stamp.generation, 7);
	assert_int_equal(verify.order, PAYLOAD_ORDER_STRIDE);
	assert_int_equal(verify.stride, 9);
	assert_int_equal(verify.limit, 100);
	assert_int_equal(verify.shared, 1);
	assert_int_equal(parsed("verify:random").payload.order, PAYLOAD_ORDER_RANDOM);
	assert_int_equal(churn.pages, 12);
	assert_int_equal(churn.limit, 0);
	assert_int_equal(churn.rounds, 3);
	assert_int_equal(discard.kind, VMM_COMMAND_DISCARD);
	assert_int_equal(discard.gpa, 0x200000);
	assert_int_equal(discard.len_bytes, 65536);
}

static void what_is_wrong_is_named(void **state)
{
	static const struct {
		const char *text, *error;
	} wrong[] = {
		{"", "command \"\": no such command"},
		{"stamp:", "command \"stamp:\": no such option \"\""},
		{"stamp:full,", "command \"stamp:full,\": no such option \"\""},
		{"stamp:rounds=1", "command \"stamp:rounds=1\": no such option \"rounds\""},
		{"stamp:full=1", "command \"stamp:full=1\": wrong form of option \"full\""},
		{"stamp:fill", "command \"stamp:fill\": wrong form of option \"fill\""},
		{"stamp:fill=", "command \"stamp:fill=\": number out of range in \"fill\""},
		{"stamp:fill=-1", "command \"stamp:fill=-1\": number out of range in \"fill\""},
		{"verify:stride=0",
		 "command \"verify:stride=0\": number out of range in \"stride\""},
		{"verify:pages=99999999999999999999",
		 "command \"verify:pages=99999999999999999999\": number out of range in \"pages\""},
		{"discard", "command \"discard\": wants discard:GPA,LEN"},
		{"discard:4M,0", "command \"discard:4M,0\": wants discard:GPA,LEN"},
		{"discard:4M,1Q", "command \"discard:4M,1Q\": wants discard:GPA,LEN"},
		{"stop:now", "command \"stop:now\": no such command"},
	};
	struct vmm_command cmd;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		assert_int_equal(vmm_command_parse(wrong[i].text, &cmd), -EINVAL);
		assert_string_equal(vmm_error_text(), wrong[i].error);
	}
}

static void a_command_has_a_longest_length(void **state)
{
	char text[VMM_COMMAND_TEXT + 1];
	struct vmm_command cmd;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[VMM_COMMAND_TEXT] = '\0';
	assert_int_equal(vmm_command_parse(text, &cmd), -EINVAL);
	assert_non_null(strstr(vmm_error_text(), "at most 159"));
}

static void sizes_have_units(void **state)
{
	uint64_t size;

	(void)state;
	assert_int_equal(vmm_parse_size("2g", &size), 0);
	assert_int_equal(size, 2 * GIB);
	assert_int_equal(vmm_parse_size("3MiB", &size), 0);
	assert_int_equal(size, 3 * MIB);
	assert_int_equal(vmm_parse_size("17179869184G", &size), -EINVAL);
	assert_int_equal(vmm_parse_size("4MB", &size), -EINVAL);
	assert_int_equal(vmm_parse_size("-4M", &size), -EINVAL);
	assert_int_equal(vmm_parse_size("M", &size), -EINVAL);
	assert_int_equal(vmm_parse_size("", &size), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_have_defaults),
		cmocka_unit_test(options_land_in_their_fields),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(a_command_has_a_longest_length),
		cmocka_unit_test(sizes_have_units),
	};

	return cmocka_run_group_tests_name("vmm-command", tests, NULL, NULL);
}
