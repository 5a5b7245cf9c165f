/* SPDX-License-Identifier: MIT */
#include "opts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

static void print_option(const struct vmm_opt *opt)
{
	char left[64];

	snprintf(left, sizeof(left), "--%s%s%s", opt->name, opt->arg ? " " : "",
		 opt->arg ? opt->arg : "");
	printf("  %-26s %s\n", left, opt->help);
}

static void print_help(const struct vmm_verb *verb)
{
	printf("usage: faultline-vmm %s %s\n\n%s\n\n", verb->name, verb->arguments, verb->summary);
	for (const struct vmm_opt *opt = verb->opts; opt->name; opt++)
		print_option(opt);
	printf("  %-26s %s\n", "--help", "this text");
	if (verb->more)
		printf("\n%s", verb->more);
}

static int complain(const struct vmm_verb *verb, const char *name, const char *what,
		    const char *value)
{
	fprintf(stderr, "faultline-vmm %s: %s: %s%s%s (see faultline-vmm %s --help)\n", verb->name,
		name, what, value ? ": " : "", value ? value : "", verb->name);
	return -EINVAL;
}

static const struct vmm_opt *find(const struct vmm_verb *verb, const char *name, size_t len)
{
	for (const struct vmm_opt *opt = verb->opts; opt->name; opt++)
		if (strlen(opt->name) == len && !strncmp(opt->name, name, len))
			return opt;
	return NULL;
}

static int store_choice(const struct vmm_opt *opt, const char *value, int *to)
{
	for (int i = 0; opt->choices[i]; i++) {
		if (!strcmp(opt->choices[i], value)) {
			*to = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int store_item(const char *value, struct vmm_list *list)
{
	if (list->nr == VMM_LIST_MAX)
		return -EINVAL;
	list->items[list->nr++] = value;
	return 0;
}

/* Also refuses what stands for nothing at all. */
static int store_number(int ret, const uint64_t *value)
{
	return ret || *value == VMM_UNSET ? -EINVAL : 0;
}

static int store(const struct vmm_opt *opt, const char *value, void *values)
{
	void *to = (char *)values + opt->at;

	switch (opt->kind) {
	case OPT_FLAG:
		*(bool *)to = true;
		return 0;
	case OPT_TEXT:
		*(const char **)to = value;
		return *value ? 0 : -EINVAL;
	case OPT_SIZE:
		return store_number(vmm_parse_size(value, to), to);
	case OPT_NUMBER:
		return store_number(vmm_parse_number(value, to), to);
	case OPT_CHOICE:
		return store_choice(opt, value, to);
	case OPT_LIST:
		return store_item(value, to);
	}
	return -EINVAL;
}

/* One --option and its value. Return: words used, or -EINVAL. */
static int option(const struct vmm_verb *verb, int left, char **argv, void *values)
{
	const char *name = argv[0] + 2;
	const char *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct vmm_opt *opt = find(verb, name, len);
	const char *value = equals ? equals + 1 : NULL;
	int used = 1;

	if (!opt)
		return complain(verb, argv[0], "no such option", NULL);
	if (opt->kind == OPT_FLAG && value)
		return complain(verb, argv[0], "takes no value", NULL);
	if (opt->kind != OPT_FLAG && !value) {
		if (left < 2)
			return complain(verb, argv[0], "wants a value", opt->arg);
		value = argv[1];
		used = 2;
	}
	if (store(opt, value, values))
		return complain(verb, argv[0], opt->arg ? opt->arg : "bad value", value);
	return used;
}

int vmm_opts_parse(const struct vmm_verb *verb, int argc, char **argv, void *values,
		   struct vmm_list *words)
{
	for (int i = 0, used; i < argc; i += used) {
		used = 1;
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			print_help(verb);
			return VMM_PARSE_HELP;
		}
		if (!strncmp(argv[i], "--", 2))
			used = option(verb, argc - i, argv + i, values);
		else if (words->nr == verb->max_words)
			return complain(verb, argv[i], "one word too many", NULL);
		else
			words->items[words->nr++] = argv[i];
		if (used < 0)
			return used;
	}
	if (words->nr < verb->min_words)
		return complain(verb, "missing", verb->arguments, NULL);
	return 0;
}

int vmm_opts_range(const char *name, uint64_t value, uint64_t min, uint64_t max, const char *range)
{
	if (value == VMM_UNSET || (value >= min && value <= max))
		return 0;
	return vmm_fail(EINVAL, "%s: wants %s", name, range);
}
