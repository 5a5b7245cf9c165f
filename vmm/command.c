/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

#define ON_STAMP  1u
#define ON_VERIFY 2u
#define ON_CHURN  4u

enum word_kind { WORD_SET, WORD_NUMBER };

/* One row an option: a bare word sets a constant, WORD=N a number. */
struct word {
	const char *name;
	unsigned int on;
	enum word_kind kind;
	size_t at; /* in struct payload_command */
	size_t width;
	uint64_t constant; /* or the smallest value */
	uint64_t max;
};

#define FIELD(f) offsetof(struct payload_command, f), sizeof(((struct payload_command *)0)->f)

static const struct word words[] = {
	{"full", ON_STAMP | ON_VERIFY, WORD_SET, FIELD(form), PAYLOAD_FORM_FULL, 0},
	{"light", ON_STAMP | ON_VERIFY, WORD_SET, FIELD(form), PAYLOAD_FORM_LIGHT, 0},
	{"fill", ON_STAMP, WORD_NUMBER, FIELD(fill), 0, 100},
	{"generation", ON_STAMP, WORD_NUMBER, FIELD(generation), 1, UINT32_MAX},
	{"seed", ON_STAMP | ON_VERIFY, WORD_NUMBER, FIELD(seed), 0, UINT64_MAX},
	{"sequential", ON_VERIFY, WORD_SET, FIELD(order), PAYLOAD_ORDER_SEQUENTIAL, 0},
	{"random", ON_VERIFY, WORD_SET, FIELD(order), PAYLOAD_ORDER_RANDOM, 0},
	{"stride", ON_VERIFY, WORD_NUMBER, FIELD(stride), 1, 1ull << 32},
	{"pages", ON_VERIFY, WORD_NUMBER, FIELD(limit), 1, 1ull << 40},
	{"shared", ON_VERIFY, WORD_SET, FIELD(shared), 1, 0},
	{"pages", ON_CHURN, WORD_NUMBER, FIELD(pages), 1, 1ull << 40},
	{"rounds", ON_CHURN, WORD_NUMBER, FIELD(rounds), 1, 1ull << 40},
};

static const struct {
	const char *name;
	uint32_t op;
	unsigned int on;
} ops[] = {
	{"stamp", PAYLOAD_OP_STAMP, ON_STAMP},
	{"verify", PAYLOAD_OP_VERIFY, ON_VERIFY},
	{"churn", PAYLOAD_OP_CHURN, ON_CHURN},
};

const char *const vmm_command_help =
	"Commands (NAME[:OPTION,...]):\n"
	"  stamp    write self-describing pages: full (whole pages, the default) or light (a\n"
	"           header and a word in each 512 bytes), fill=PERCENT of the pages, seed=N,\n"
	"           generation=N\n"
	"  verify   check every page: sequential (the default), random, stride=N (pages),\n"
	"           pages=N in all, shared (every vCPU checks every page), seed=N (of the\n"
	"           random order), full or light (how pages that must be zero are looked at)\n"
	"  churn    keep writing counters, checking what was there: pages=N (a vCPU's last N\n"
	"           pages), rounds=N (else until stop)\n"
	"  discard:GPA,LEN   give a range back, like a balloon: it must read as zeros after\n"
	"  stop     end the running command;  wait  for its end\n";

const char *vmm_op_name(uint32_t op)
{
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		if (ops[i].op == op)
			return ops[i].name;
	return "none";
}

static void put(struct payload_command *cmd, const struct word *word, uint64_t value)
{
	char *to = (char *)cmd + word->at;
	uint32_t narrow = (uint32_t)value;

	if (word->width == sizeof(narrow))
		memcpy(to, &narrow, sizeof(narrow));
	else
		memcpy(to, &value, sizeof(value));
	if (word->at == offsetof(struct payload_command, stride))
		cmd->order = PAYLOAD_ORDER_STRIDE;
}

static int apply(const char *item, char *value, unsigned int on, struct payload_command *cmd)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		const struct word *word = &words[i];
		uint64_t number = word->constant;

		if (!(word->on & on) || strcmp(word->name, item))
			continue;
		if ((word->kind == WORD_NUMBER) != (value != NULL))
			return -EINVAL;
		if (value && (vmm_parse_number(value, &number) || number < word->constant ||
			      number > word->max))
			return -ERANGE;
		put(cmd, word, number);
		return 0;
	}
	return -ENOENT;
}

static int parse_items(const char *text, char *items, unsigned int on, struct payload_command *cmd)
{
	char *rest = items;
	char *item;

	while ((item = strsep(&rest, ",")) != NULL) {
		char *value = strchr(item, '=');
		int ret;

		if (value)
			*value++ = '\0';
		ret = apply(item, value, on, cmd);
		if (ret)
			return vmm_fail(EINVAL, "command \"%s\": %s \"%s\"", text,
					ret == -ENOENT   ? "no such option"
					: ret == -ERANGE ? "number out of range in"
							 : "wrong form of option",
					item);
	}
	return 0;
}

static int parse_discard(const char *text, char *items, struct vmm_command *cmd)
{
	char *len = items ? strchr(items, ',') : NULL;

	cmd->kind = VMM_COMMAND_DISCARD;
	if (len)
		*len++ = '\0';
	if (!len || vmm_parse_size(items, &cmd->gpa) || vmm_parse_size(len, &cmd->len_bytes) ||
	    !cmd->len_bytes)
		return vmm_fail(EINVAL, "command \"%s\": wants discard:GPA,LEN", text);
	return 0;
}

static int parse_payload(const char *text, const char *name, char *items, struct vmm_command *cmd)
{
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		if (strcmp(ops[i].name, name))
			continue;
		cmd->payload = (struct payload_command){
			.op = ops[i].op,
			.fill = 100,
			.seed = 1,
			.stride = 1,
		};
		return items ? parse_items(text, items, ops[i].on, &cmd->payload) : 0;
	}
	return vmm_fail(EINVAL, "command \"%s\": no such command", text);
}

int vmm_command_parse(const char *text, struct vmm_command *cmd)
{
	char copy[VMM_COMMAND_TEXT];
	char *items;

	*cmd = (struct vmm_command){.kind = VMM_COMMAND_PAYLOAD};
	if (strlen(text) >= sizeof(copy))
		return vmm_fail(EINVAL, "command of %zu characters: at most %zu", strlen(text),
				sizeof(copy) - 1);
	strcpy(copy, text);
	strcpy(cmd->text, text);
	items = strchr(copy, ':');
	if (items)
		*items++ = '\0';
	if (!strcmp(copy, "discard"))
		return parse_discard(text, items, cmd);
	if (items || (strcmp(copy, "stop") && strcmp(copy, "wait")))
		return parse_payload(text, copy, items, cmd);
	cmd->kind = !strcmp(copy, "stop") ? VMM_COMMAND_STOP : VMM_COMMAND_WAIT;
	return 0;
}
