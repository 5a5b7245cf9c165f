/* SPDX-License-Identifier: MIT */

/*
 * Filters as a line of text: NAME, or NAME=VALUE with options ,KEY=VALUE behind it. Two tables say
 * what there is; every error quotes the part of the line that it is about.
 */

#include <faultline/source.h>

#include "util/error.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* All that any filter can be told. */
struct settings {
	uint64_t delay_us;
	struct fl_error_rule rule;
	struct fl_retry_policy policy;
};

/* A value's kind: reads text, or says false. */
typedef bool value_fn(const char *text, void *value);

/* The number that text starts with, decimal or 0x...; NULL when there is none, or it is too large.
 */
static const char *number(const char *text, uint64_t *value)
{
	int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	const char *digits = base == 16 ? text + 2 : text;
	char *end;

	if (!isxdigit((unsigned char)*digits))
		return NULL;
	errno = 0;
	*value = strtoull(digits, &end, base);
	return errno || end == digits ? NULL : end;
}

static bool scale(uint64_t *value, uint64_t factor)
{
	return !__builtin_mul_overflow(*value, factor, value);
}

static bool count_value(const char *text, void *value)
{
	const char *end = number(text, value);

	return end && !*end;
}

static bool positive_value(const char *text, void *value)
{
	return count_value(text, value) && *(uint64_t *)value;
}

static bool tries_value(const char *text, void *value)
{
	uint64_t tries;

	if (!positive_value(text, &tries) || tries > UINT_MAX)
		return false;
	*(unsigned int *)value = (unsigned int)tries;
	return true;
}

static bool us_value(const char *text, void *value)
{
	const char *unit = number(text, value);

	if (!unit)
		return false;
	if (!strcmp(unit, "us"))
		return true;
	if (!strcmp(unit, "ms"))
		return scale(value, 1000);
	return !strcmp(unit, "s") && scale(value, 1000000);
}

/* Parts of a millisecond count as a whole one. */
static bool ms_value(const char *text, void *value)
{
	uint64_t us, ms;

	if (!us_value(text, &us))
		return false;
	ms = us / 1000 + !!(us % 1000);
	if (ms > UINT_MAX)
		return false;
	*(unsigned int *)value = (unsigned int)ms;
	return true;
}

static bool errno_value(const char *text, void *value)
{
	for (int code = 1; code < 4096; code++) {
		const char *name = strerrorname_np(code);

		if (name && !strcmp(name, text)) {
			*(int *)value = code;
			return true;
		}
	}
	return false;
}

static const char *bytes(const char *text, uint64_t *value)
{
	static const char suffixes[] = "KMG";
	const char *end = number(text, value);
	const char *suffix = end && *end ? strchr(suffixes, *end) : NULL;

	if (!suffix)
		return end;
	return scale(value, 1ULL << (10 * (suffix - suffixes + 1))) ? end + 1 : NULL;
}

static bool range_value(const char *text, void *value)
{
	struct fl_error_rule *rule = value;
	const char *end = bytes(text, &rule->offset);

	if (!end || *end != '+')
		return false;
	end = bytes(end + 1, &rule->len_bytes);
	return end && !*end && rule->len_bytes;
}

/* What a filter can be told; key is "" for the value behind its name. */
static const struct option {
	const char *filter;
	const char *key;
	value_fn *value;
	size_t where;
	const char *wanted;
} options[] = {
	{"delay", "", us_value, offsetof(struct settings, delay_us),
	 "a time (a number and us, ms or s)"},
	{"error", "", errno_value, offsetof(struct settings, rule.code),
	 "the name of an error (EIO)"},
	{"error", "every", positive_value, offsetof(struct settings, rule.every),
	 "a number above 0"},
	{"error", "first", count_value, offsetof(struct settings, rule.first), "a number"},
	{"error", "range", range_value, offsetof(struct settings, rule),
	 "a range (OFFSET+LENGTH, numbers with K, M, G or without)"},
	{"retry", "", tries_value, offsetof(struct settings, policy.tries), "a number above 0"},
	{"retry", "first", ms_value, offsetof(struct settings, policy.first_ms),
	 "a time (a number and us, ms or s)"},
	{"retry", "max", ms_value, offsetof(struct settings, policy.max_ms),
	 "a time (a number and us, ms or s)"},
};

static int make_stats(struct fl_source **source, const struct settings *settings)
{
	(void)settings;
	return fl_filter_stats_new(source);
}

static int make_delay(struct fl_source **source, const struct settings *settings)
{
	return fl_filter_delay_new(source, settings->delay_us);
}

static int make_error(struct fl_source **source, const struct settings *settings)
{
	return fl_filter_error_new(source, &settings->rule);
}

static int make_retry(struct fl_source **source, const struct settings *settings)
{
	return fl_filter_retry_new(source, &settings->policy);
}

static const struct filter {
	const char *name;
	const char *example; /* NULL when it takes no value */
	int (*make)(struct fl_source **source, const struct settings *settings);
} filters[] = {
	{"stats", NULL, make_stats},
	{"delay", "delay=2ms", make_delay},
	{"error", "error=EIO", make_error},
	{"retry", "retry=5", make_retry},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct filter *find_filter(const char *name)
{
	for (size_t i = 0; i < COUNT(filters); i++)
		if (!strcmp(filters[i].name, name))
			return &filters[i];
	return NULL;
}

static const struct option *find_option(const char *filter, const char *key)
{
	for (size_t i = 0; i < COUNT(options); i++) {
		const struct option *option = &options[i];

		if (!strcmp(option->filter, filter) && !strcmp(option->key, key))
			return option;
	}
	return NULL;
}

static int apply(struct settings *settings, const char *filter, const char *key, const char *value,
		 struct fl_error *err)
{
	const struct option *option = find_option(filter, key);
	const char *colon = *key ? ": " : "";

	if (!option)
		return fl_error_set(err, -EINVAL, "filter %s: no option \"%s\"", filter, key);
	if (!option->value(value, (char *)settings + option->where))
		return fl_error_set(err, -EINVAL, "filter %s: %s%s\"%s\" is not %s", filter, key,
				    colon, value, option->wanted);
	return 0;
}

/* KEY=VALUE,KEY=VALUE... behind the first value; text is cut up. */
static int parse_options(struct settings *settings, const char *filter, char *text,
			 struct fl_error *err)
{
	char *key;

	while ((key = strsep(&text, ","))) {
		char *value = strchr(key, '=');
		int ret;

		if (!value)
			return fl_error_set(err, -EINVAL, "filter %s: \"%s\" is not KEY=VALUE",
					    filter, key);
		*value++ = '\0';
		if (!*key)
			return fl_error_set(err, -EINVAL, "filter %s: \"=%s\" is not KEY=VALUE",
					    filter, value);
		ret = apply(settings, filter, key, value, err);
		if (ret)
			return ret;
	}
	return 0;
}

static int parse(struct settings *settings, const struct filter **filter, char *text,
		 struct fl_error *err)
{
	char *name = strsep(&text, "=");
	char *value;
	int ret;

	*filter = find_filter(name);
	if (!*filter)
		return fl_error_set(err, -EINVAL,
				    "no filter \"%s\" (there are stats, delay, error, retry)",
				    name);
	if (!(*filter)->example)
		return text ? fl_error_set(err, -EINVAL, "filter %s: takes no value, not \"%s\"",
					   name, text)
			    : 0;
	if (!text)
		return fl_error_set(err, -EINVAL, "filter %s: needs a value, as in \"%s\"", name,
				    (*filter)->example);
	value = strsep(&text, ",");
	ret = apply(settings, name, "", value, err);
	return ret ? ret : parse_options(settings, name, text, err);
}

int fl_filter_parse(struct fl_source **source, const char *spec, struct fl_error *err)
{
	struct settings settings = {
		.rule = {.every = 1},
		.policy = {.first_ms = 10, .max_ms = 500},
	};
	const struct filter *filter;
	size_t len = strlen(spec);
	char text[160]; /* so that a quoted part fits into an error */
	int ret;

	if (len >= sizeof(text))
		return fl_error_set(err, -EINVAL, "filter \"%.80s...\": too long", spec);
	memcpy(text, spec, len + 1);
	ret = parse(&settings, &filter, text, err);
	if (ret)
		return ret;
	ret = filter->make(source, &settings);
	if (ret == -E2BIG)
		return fl_error_set(err, ret, "filter %s: more than %d filters on one source", spec,
				    FL_READ_FRAMES);
	if (ret)
		return fl_error_set(err, ret, "filter %s: %s", spec, strerror(-ret));
	return 0;
}
