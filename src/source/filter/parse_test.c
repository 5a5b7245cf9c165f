/* SPDX-License-Identifier: MIT */
#include "source/reads_test.h"
#include "util/clock.h"

static struct fl_source *filtered_zeros(const char *spec)
{
	struct fl_source *source = NULL;
	struct fl_error err = {0};

	assert_int_equal(fl_source_zero_open(&source), 0);
	if (fl_filter_parse(&source, spec, &err))
		fail_msg("%s", err.text);
	return source;
}

static void assert_name(const char *spec, const char *name)
{
	struct fl_source *source = filtered_zeros(spec);

	assert_string_equal(source->ops->name, name);
	fl_source_close(source);
}

static void every_filter_has_a_text(void **state)
{
	(void)state;
	assert_name("stats", "stats");
	assert_name("delay=2ms", "delay");
	assert_name("delay=0us", "delay");
	assert_name("error=EIO", "error");
	assert_name("error=ETIMEDOUT,every=3,first=2,range=0x10000+64K", "error");
	assert_name("retry=5", "retry");
	assert_name("retry=5,first=1s,max=20s", "retry");
	assert_name("retry=5,max=1500us", "retry");
}

/* How long a read is held: the delay that was understood. */
static void assert_delay(const char *spec, uint64_t ns)
{
	struct fl_source *source = filtered_zeros(spec);
	struct fl_queue *queue = queue_of(source, 1);
	uint64_t before_ns = fl_clock_ns();
	struct job job;
	char buf[8];

	job_init(&job, buf, 8, 0);
	assert_int_equal(fl_queue_submit(queue, &job.read), 0);
	assert_true(job.read.due_ns >= before_ns + ns);
	assert_true(job.read.due_ns <= fl_clock_ns() + ns);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void times_have_units(void **state)
{
	(void)state;
	assert_delay("delay=1500us", 1500 * FL_NS_PER_US);
	assert_delay("delay=20ms", 20 * FL_NS_PER_MS);
	assert_delay("delay=3s", 3 * FL_NS_PER_S);
	assert_delay("delay=0x10ms", 16 * FL_NS_PER_MS);
}

static void ranges_have_suffixes(void **state)
{
	struct fl_source *source = filtered_zeros("error=EIO,range=2M+0x3K");
	struct fl_queue *queue = queue_of(source, 1);
	struct fl_extent extent;
	char buf[8];

	(void)state;
	fl_source_extent(source, 0, &extent);
	assert_true(extent.zeros);
	assert_int_equal(extent.len_bytes, 2 << 20);
	fl_source_extent(source, 2 << 20, &extent);
	assert_false(extent.zeros);
	assert_int_equal(extent.len_bytes, 3 << 10);
	assert_int_equal(submit_and_wait(queue, buf, 8, (2 << 20) - 8), 0);
	assert_int_equal(submit_and_wait(queue, buf, 8, 2 << 20), -EIO);
	fl_queue_close(queue);
	fl_source_close(source);
}

static void options_are_understood(void **state)
{
	struct fl_source *source = filtered_zeros("error=ENOMEM,first=1,every=2");
	struct fl_queue *queue = queue_of(source, 1);
	char buf[8];

	(void)state;
	assert_int_equal(submit_and_wait(queue, buf, 8, 0), 0);
	assert_int_equal(submit_and_wait(queue, buf, 8, 0), -ENOMEM);
	for (int i = 0; i < 4; i++)
		assert_int_equal(submit_and_wait(queue, buf, 8, 0), 0);
	fl_queue_close(queue);
	fl_source_close(source);
}

static const struct {
	const char *spec;
	const char *about; /* part of the error's text */
} refused[] = {
	{"", "\"\""},
	{"cache", "\"cache\""},
	{"cache=1", "\"cache\""},
	{"=EIO", "\"\""},
	{"stats=1", "\"1\""},
	{"stats=", "takes no value"},
	{"delay", "delay=2ms"},
	{"delay=", "\"\""},
	{"delay=2", "\"2\""},
	{"delay=ms", "\"ms\""},
	{"delay=2msx", "\"2msx\""},
	{"delay=-2ms", "\"-2ms\""},
	{"delay= 2ms", "\" 2ms\""},
	{"delay=0xms", "\"0xms\""},
	{"delay=99999999999999999999s", "99999999999999999999s"},
	{"delay=18446744073709551615s", "18446744073709551615s"},
	{"delay=2ms,", "\"\" is not KEY=VALUE"},
	{"delay=2ms,first=1", "no option \"first\""},
	{"error=", "\"\""},
	{"error=EFOO", "\"EFOO\""},
	{"error=5", "\"5\""},
	{"error=EIO,every", "\"every\""},
	{"error=EIO,every=0", "every: \"0\""},
	{"error=EIO,every=3x", "every: \"3x\""},
	{"error=EIO,evry=3", "no option \"evry\""},
	{"error=EIO,=3", "\"=3\""},
	{"error=EIO,first=", "first: \"\""},
	{"error=EIO,range=4K", "range: \"4K\""},
	{"error=EIO,range=4K+", "range: \"4K+\""},
	{"error=EIO,range=+4K", "range: \"+4K\""},
	{"error=EIO,range=4K+0", "range: \"4K+0\""},
	{"error=EIO,range=4T+4K", "range: \"4T+4K\""},
	{"error=EIO,range=4K+4KB", "range: \"4K+4KB\""},
	{"error=EIO,range=18446744073709551615G+1", "18446744073709551615G"},
	{"retry=0", "\"0\""},
	{"retry=4294967296", "\"4294967296\""},
	{"retry=3,first=10", "first: \"10\""},
	{"retry=3,max=4294968s", "max: \"4294968s\""},
	{"retry=3,,", "\"\" is not KEY=VALUE"},
};

static void bad_text_is_refused_with_its_part(void **state)
{
	struct fl_source *source, *before;

	(void)state;
	assert_int_equal(fl_source_zero_open(&source), 0);
	before = source;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct fl_error err = {0};

		if (fl_filter_parse(&source, refused[i].spec, &err) != -EINVAL)
			fail_msg("taken: %s", refused[i].spec);
		assert_int_equal(err.code, -EINVAL);
		if (!strstr(err.text, refused[i].about))
			fail_msg("%s: %s", refused[i].spec, err.text);
		assert_ptr_equal(source, before);
	}
	assert_int_equal(fl_filter_parse(&source, "delay=2", NULL), -EINVAL);
	fl_source_close(source);
}

static void long_text_is_refused(void **state)
{
	struct fl_source *source;
	struct fl_error err = {0};
	char spec[1000];

	(void)state;
	memset(spec, 'x', sizeof(spec));
	spec[sizeof(spec) - 1] = '\0';
	assert_int_equal(fl_source_zero_open(&source), 0);
	assert_int_equal(fl_filter_parse(&source, spec, &err), -EINVAL);
	assert_non_null(strstr(err.text, "too long"));
	spec[159] = '\0';
	assert_int_equal(fl_filter_parse(&source, spec, &err), -EINVAL);
	assert_non_null(strstr(err.text, "no filter"));
	fl_source_close(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_filter_has_a_text),
		cmocka_unit_test(times_have_units),
		cmocka_unit_test(ranges_have_suffixes),
		cmocka_unit_test(options_are_understood),
		cmocka_unit_test(bad_text_is_refused_with_its_part),
		cmocka_unit_test(long_text_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
