/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include <faultline/trap.h>

#include "cli/cli.h"

#define PROBES_MAX 64

struct probe_options {
	bool json;
};

static int set_json(void *ctx, const char *value, struct fl_error *err)
{
	(void)value, (void)err;
	((struct probe_options *)ctx)->json = true;
	return 0;
}

static const struct cli_option options[] = {
	{"json", 'j', NULL, "print JSON", set_json},
};

static const struct cli_usage usage = {
	.command = "faultline probe",
	.synopsis = "[OPTION...]",
	.summary = "Tries everything that Faultline can make use of, and shows what this kernel\n"
		   "offers to this user and what will therefore be used.",
	.options = options,
	.option_count = sizeof(options) / sizeof(*options),
};

static int print_json(const struct fl_probe *probes, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *object = json_pack("{ss ss ss sb}", "name", probes[i].name, "what",
					   probes[i].what, "use", probes[i].use, "offered",
					   probes[i].offered);

		if (!probes[i].offered)
			(void)json_object_set_new(object, "reason",
						  json_string(strerror(-probes[i].reason)));
		(void)json_array_append_new(array, object);
	}
	(void)json_dumpf(array, stdout, JSON_INDENT(2));
	(void)putchar('\n');
	json_decref(array);
	return CLI_OK;
}

static int print_table(const struct fl_probe *probes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct fl_probe *probe = &probes[i];

		printf("%-3s  %-24s %s%s%s%s\n", probe->offered ? "yes" : "no", probe->name,
		       probe->what, probe->offered ? "" : " (",
		       probe->offered ? "" : strerror(-probe->reason), probe->offered ? "" : ")");
		printf("     %-24s -> %s\n", "", probe->use);
	}
	return CLI_OK;
}

int cmd_probe(int argc, char **argv)
{
	struct probe_options o = {0};
	struct fl_probe probes[PROBES_MAX];
	int status = cli_parse(&usage, argc, argv, &o, NULL);
	size_t count;

	if (status >= 0)
		return status;
	count = fl_probe_all(probes, PROBES_MAX);
	if (count > PROBES_MAX)
		count = PROBES_MAX;
	return o.json ? print_json(probes, count) : print_table(probes, count);
}
