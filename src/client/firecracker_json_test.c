/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/firecracker_json.h"

static struct fl_region regions[FL_REGIONS_MAX];
static struct fl_error err;

static int parse(const char *text)
{
	memset(&err, 0, sizeof(err));
	return fl_firecracker_parse(text, strlen(text), regions, &err);
}

static void reads_what_1_1_to_1_6_send(void **state)
{
	(void)state;
	assert_int_equal(parse("[{\"base_host_virt_addr\":140000000000001,\"size\":134217728,"
			       "\"offset\":0},{\"base_host_virt_addr\":4096,\"size\":8192,"
			       "\"offset\":134217728}]"),
			 -EINVAL);
	assert_string_equal(err.text, "region 0: base_host_virt_addr 140000000000001 is not a "
				      "multiple of its page size 4096");
	assert_int_equal(parse("[{\"base_host_virt_addr\":139637976727552,\"size\":134217728,"
			       "\"offset\":0},{\"base_host_virt_addr\":4096,\"size\":8192,"
			       "\"offset\":134217728}]"),
			 2);
	assert_int_equal(regions[0].addr, 139637976727552);
	assert_int_equal(regions[0].len_bytes, 134217728);
	assert_int_equal(regions[0].offset, 0);
	assert_int_equal(regions[0].page_size, 4096);
	assert_int_equal(regions[0].gpa, FL_NOWHERE);
	assert_int_equal(regions[0].backing, FL_BACKING_UNKNOWN);
	assert_int_equal(regions[1].addr, 4096);
	assert_int_equal(regions[1].offset, 134217728);
}

static void reads_what_1_7_to_1_11_send(void **state)
{
	(void)state;
	assert_int_equal(parse("[{\"base_host_virt_addr\":2097152,\"size\":4194304,\"offset\":0,"
			       "\"page_size_kib\":2097152}]"),
			 1);
	assert_int_equal(regions[0].page_size, 2097152);
}

static void reads_what_1_12_sends(void **state)
{
	(void)state;
	assert_int_equal(parse("[{\"base_host_virt_addr\":1073741824,\"size\":1073741824,"
			       "\"offset\":0,\"page_size\":1073741824,"
			       "\"page_size_kib\":1073741824}]"),
			 1);
	assert_int_equal(regions[0].page_size, 1073741824);
	assert_int_equal(parse(" [ { \"page_size\" : 4096, \"offset\" : 4096, \"size\" : 4096,\n"
			       "\"base_host_virt_addr\" : 0, \"is_new\" : [{}] } ]\n"),
			 1);
	assert_int_equal(regions[0].offset, 4096);
}

#define REGION(fields) "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0," fields "}]"
#define VALUES(addr, size, offset)                                                               \
	"[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":0},{\"base_host_virt_addr\":" addr \
	",\"size\":" size ",\"offset\":" offset "}]"

/* What is refused, with which errno, and what the reason says. */
static const struct {
	const char *text;
	int code;
	const char *says;
} refused[] = {
	{"", -EAGAIN, "byte 0"},
	{"[", -EAGAIN, "not JSON"},
	{"[{\"base_host_virt_addr\":4096,\"si", -EAGAIN, "not JSON"},
	{VALUES("4096", "4096", "4096") "x", -EINVAL, "not JSON"},
	{"hello", -EINVAL, "not JSON"},
	{"\x1b[2J", -EINVAL, "not JSON"},
	{"\"\\ud800\"", -EINVAL, "not JSON"},
	{"{}", -EINVAL, "not an array"},
	{"7", -EINVAL, "not an array"},
	{"null", -EINVAL, "not an array"},
	{"[]", -EINVAL, "no regions"},
	{"[{]", -EINVAL, "not JSON"},
	{"[hello,", -EINVAL, "not JSON"},
	{"[7]", -EINVAL, "region 0 is not an object"},
	{"[[]]", -EINVAL, "region 0 is not an object"},
	{"[{}]", -EINVAL, "region 0: base_host_virt_addr is missing"},
	{"[{\"base_host_virt_addr\":0}]", -EINVAL, "region 0: size is missing"},
	{"[{\"base_host_virt_addr\":0,\"size\":4096}]", -EINVAL, "region 0: offset is missing"},
	{VALUES("\"0\"", "4096", "4096"), -EINVAL, "region 1: base_host_virt_addr is not an int"},
	{VALUES("0", "4096.0", "4096"), -EINVAL, "region 1: size is not an integer"},
	{VALUES("0", "4096", "null"), -EINVAL, "region 1: offset is not an integer"},
	{VALUES("-4096", "4096", "4096"), -EINVAL, "region 1: base_host_virt_addr is negative"},
	{VALUES("0", "-1", "4096"), -EINVAL, "region 1: size is negative"},
	{VALUES("0", "4096", "18446744073709551616"), -EINVAL, "not JSON"},
	{VALUES("0", "0", "4096"), -EINVAL, "region 1: size is 0"},
	{VALUES("0", "4097", "4096"), -EINVAL,
	 "region 1: size 4097 is not a multiple of its page size 4096"},
	{VALUES("0", "4096", "100"), -EINVAL, "region 1: offset 100 is not a multiple"},
	{VALUES("1", "4096", "4096"), -EINVAL, "region 1: base_host_virt_addr 1 is not a multiple"},
	{REGION("\"page_size\":0"), -EINVAL, "region 0: page_size 0 is not"},
	{REGION("\"page_size\":8192"), -EINVAL, "region 0: page_size 8192 is not"},
	{REGION("\"page_size_kib\":4"), -EINVAL, "region 0: page_size_kib 4 is not"},
	{REGION("\"page_size\":\"4096\""), -EINVAL, "region 0: page_size is not an integer"},
	{REGION("\"page_size\":4096,\"page_size_kib\":2097152"), -EINVAL,
	 "region 0: page_size 4096 and page_size_kib 2097152 contradict"},
	{REGION("\"page_size\":2097152"), -EINVAL, "region 0: size 4096 is not a multiple"},
	{REGION("\"size\":4096"), -EINVAL, "not JSON"},
	{"[[[[[[[[[[[[[[[[[[", -EINVAL, "deeper"},
};

static void refuses_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		int rc = parse(refused[i].text);

		if (rc != refused[i].code || !strstr(err.text, refused[i].says))
			fail_msg("%s: %d, %s", refused[i].text, rc, err.text);
		assert_int_equal(err.code, rc);
		for (const char *c = err.text; *c; c++)
			assert_in_range((unsigned char)*c, ' ', '~');
	}
}

/* 2^63 - 4096 is the largest aligned value that the JSON library takes. */
static void refuses_ends_that_wrap(void **state)
{
	(void)state;
	assert_int_equal(parse(VALUES("9223372036854771712", "9223372036854771712", "4096")), 2);
	assert_int_equal(regions[1].addr, 9223372036854771712u);
	assert_int_equal(parse(VALUES("9223372036854775808", "4096", "4096")), -EINVAL);
}

static char *many(size_t count)
{
	static const char one[] = "{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0}";
	char *text = malloc(count * sizeof(one) + 2);
	char *end = text;

	assert_non_null(text);
	*end++ = '[';
	for (size_t i = 0; i < count; i++) {
		end = stpcpy(end, one);
		*end++ = i + 1 < count ? ',' : ']';
	}
	*end = '\0';
	return text;
}

static void takes_64_regions_and_no_more(void **state)
{
	char *text = many(64);

	(void)state;
	assert_int_equal(parse(text), 64);
	free(text);
	text = many(65);
	assert_int_equal(parse(text), -E2BIG);
	assert_non_null(strstr(err.text, "65 regions"));
	free(text);
}

static void takes_128_kib_and_no_more(void **state)
{
	char *text = malloc(FL_FIRECRACKER_MESSAGE_MAX + 1);

	(void)state;
	assert_non_null(text);
	memset(text, ' ', FL_FIRECRACKER_MESSAGE_MAX + 1);
	memcpy(text, REGION("\"page_size\":4096"), strlen(REGION("\"page_size\":4096")));
	assert_int_equal(fl_firecracker_parse(text, FL_FIRECRACKER_MESSAGE_MAX, regions, &err), 1);
	assert_int_equal(fl_firecracker_parse(text, FL_FIRECRACKER_MESSAGE_MAX + 1, regions, &err),
			 -EMSGSIZE);
	free(text);
}

static void needs_no_error_structure(void **state)
{
	(void)state;
	assert_int_equal(fl_firecracker_parse("[7]", 3, regions, NULL), -EINVAL);
}

/* Cut anywhere, a handshake is a beginning: never an error, never a whole. */
static void tells_a_beginning_from_an_error(void **state)
{
	static const char text[] = REGION("\"page_size\":4096,\"x\":\"\\\"]\"");
	struct fl_json_scan scan = {0};

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		assert_int_equal(fl_firecracker_parse(text, len, regions, &err), -EAGAIN);
		if (len)
			assert_int_equal(fl_json_scan(&scan, text + len - 1, 1), FL_JSON_MORE);
	}
	assert_int_equal(fl_json_scan(&scan, "]", 1), FL_JSON_WHOLE);
	assert_int_equal(parse(text), 1);
}

static void scans_what_is_no_json(void **state)
{
	struct fl_json_scan scan = {0};

	(void)state;
	assert_int_equal(fl_json_scan(&scan, " \n", 2), FL_JSON_MORE);
	assert_int_equal(fl_json_scan(&scan, "h", 1), FL_JSON_WHOLE);
	scan = (struct fl_json_scan){0};
	assert_int_equal(fl_json_scan(&scan, "[{\"}]\"", 6), FL_JSON_MORE);
	assert_int_equal(fl_json_scan(&scan, "]", 1), FL_JSON_WHOLE);
	scan = (struct fl_json_scan){0};
	assert_int_equal(fl_json_scan(&scan, "]", 1), FL_JSON_WHOLE);
	scan = (struct fl_json_scan){0};
	assert_int_equal(fl_json_scan(&scan, "[{[{[{[{[{[{[{[{[{", 18), FL_JSON_TOO_DEEP);
}

static void reads_what_it_writes(void **state)
{
	struct fl_region said[3], heard[3];

	(void)state;
	for (size_t i = 0; i < 3; i++)
		said[i] = (struct fl_region){.gpa = FL_NOWHERE,
					     .offset = i << 22,
					     .addr = (7 + 2 * i) << 30,
					     .len_bytes = 4u << 20,
					     .page_size = i == 1 ? 2u << 20 : 4096};
	for (int form = 0; form <= FL_FIRECRACKER_BOTH; form++) {
		char *text = fl_firecracker_format(said, 3, (enum fl_firecracker_form)form);

		assert_non_null(text);
		assert_int_equal(strstr(text, "page_size\":") != NULL, form == FL_FIRECRACKER_BOTH);
		assert_int_equal(strstr(text, "page_size_kib\":") != NULL,
				 form != FL_FIRECRACKER_NO_PAGE_SIZE);
		assert_int_equal(parse(text), 3);
		memcpy(heard, said, sizeof(heard));
		if (form == FL_FIRECRACKER_NO_PAGE_SIZE)
			heard[1].page_size = 4096;
		assert_memory_equal(regions, heard, sizeof(heard));
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_1_1_to_1_6_send),
		cmocka_unit_test(reads_what_1_7_to_1_11_send),
		cmocka_unit_test(reads_what_1_12_sends),
		cmocka_unit_test(refuses_what_is_wrong),
		cmocka_unit_test(refuses_ends_that_wrap),
		cmocka_unit_test(takes_64_regions_and_no_more),
		cmocka_unit_test(takes_128_kib_and_no_more),
		cmocka_unit_test(needs_no_error_structure),
		cmocka_unit_test(tells_a_beginning_from_an_error),
		cmocka_unit_test(scans_what_is_no_json),
		cmocka_unit_test(reads_what_it_writes),
	};

	return cmocka_run_group_tests_name("firecracker_json", tests, NULL, NULL);
}
