/* SPDX-License-Identifier: MIT */
/* The verbs that talk to a running VMM: control and snapshot. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "control.h"
#include "opts.h"
#include "util.h"

struct values {
	const char *control;
	bool json;
	bool wait;
};

#define AT(field) offsetof(struct values, field)

static const struct vmm_opt snapshot_opts[] = {
	{"control", OPT_TEXT, AT(control), "PATH", "the VMM's control socket", NULL},
	{"json", OPT_FLAG, AT(json), NULL, "print the answer as it came", NULL},
	{0},
};

static const struct vmm_opt control_opts[] = {
	{"control", OPT_TEXT, AT(control), "PATH", "the VMM's control socket", NULL},
	{"wait", OPT_FLAG, AT(wait), NULL, "command: wait for its end, print the result", NULL},
	{"json", OPT_FLAG, AT(json), NULL, "print the answer as it came", NULL},
	{0},
};

static int parse(const struct vmm_verb *verb, int argc, char **argv, struct values *values,
		 struct vmm_list *words)
{
	int ret = vmm_opts_parse(verb, argc, argv, values, words);

	if (!ret && !values->control) {
		fprintf(stderr, "faultline-vmm %s: --control PATH is missing\n", verb->name);
		return -EINVAL;
	}
	return ret;
}

static int ask(const char *verb, const struct values *values, json_t *request)
{
	if (!vmm_control_ask(values->control, request, values->json))
		return EXIT_OK;
	fprintf(stderr, "faultline-vmm %s: %s\n", verb, vmm_error_text());
	return EXIT_FAILED;
}

/* The VMM has another working directory. Return: to be freed, or NULL. */
static char *absolute(const char *path)
{
	char here[PATH_MAX];
	char *full;

	if (path[0] == '/')
		return strdup(path);
	if (!getcwd(here, sizeof(here)) || asprintf(&full, "%s/%s", here, path) < 0)
		return NULL;
	return full;
}

static json_t *snapshot_request(const char *dir)
{
	AUTO_FREE char *path = absolute(dir);

	return path ? json_pack("{s:s, s:s}", "do", "snapshot", "dir", path) : NULL;
}

int vmm_cmd_snapshot(int argc, char **argv)
{
	const struct vmm_verb verb = {
		"snapshot",
		"--control PATH DIR",
		"Lets a running VMM pause its vCPUs wherever they are, save the machine into the\n"
		"directory DIR (which must not exist, or be empty), and go on.",
		snapshot_opts,
		1,
		1,
		NULL};
	struct values values = {0};
	struct vmm_list words = {0};
	int ret = parse(&verb, argc, argv, &values, &words);

	if (ret)
		return ret == VMM_PARSE_HELP ? EXIT_OK : EXIT_USAGE;
	return ask("snapshot", &values, snapshot_request(words.items[0]));
}

/* Whether WHAT takes an argument. */
static const struct {
	const char *name;
	bool argument;
} requests[] = {
	{"status", false}, {"pause", false},  {"resume", false},  {"wait", false},
	{"quit", false},   {"command", true}, {"snapshot", true},
};

static int check_request(const struct vmm_list *words)
{
	const char *what = words->items[0];

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		if (strcmp(what, requests[i].name) != 0)
			continue;
		if (requests[i].argument == (words->nr == 2))
			return 0;
		return vmm_fail(EINVAL, "%s: %s", what,
				requests[i].argument ? "wants an argument" : "takes no argument");
	}
	return vmm_fail(EINVAL,
			"%s: no such request: wants status, pause, resume, wait, quit, command CMD"
			" or snapshot DIR",
			what);
}

static json_t *control_request(const struct values *values, const struct vmm_list *words)
{
	const char *what = words->items[0];

	if (words->nr == 1)
		return json_pack("{s:s}", "do", what);
	if (!strcmp(what, "snapshot"))
		return snapshot_request(words->items[1]);
	return json_pack("{s:s, s:s, s:b}", "do", what, "text", words->items[1], "wait",
			 values->wait);
}

int vmm_cmd_control(int argc, char **argv)
{
	const struct vmm_verb verb = {
		"control",
		"--control PATH WHAT [ARGUMENT]",
		"Asks a running VMM. WHAT is status, pause, resume, wait, quit, command CMD or\n"
		"snapshot DIR.",
		control_opts,
		1,
		2,
		NULL};
	struct values values = {0};
	struct vmm_list words = {0};
	int ret = parse(&verb, argc, argv, &values, &words);

	if (ret)
		return ret == VMM_PARSE_HELP ? EXIT_OK : EXIT_USAGE;
	if (check_request(&words)) {
		fprintf(stderr, "faultline-vmm control: %s\n", vmm_error_text());
		return EXIT_USAGE;
	}
	return ask("control", &values, control_request(&values, &words));
}
