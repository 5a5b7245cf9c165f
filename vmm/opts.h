/* SPDX-License-Identifier: MIT */
/* Options by table: one row an option, the help made from the same rows. */
#ifndef FAULTLINE_VMM_OPTS_H
#define FAULTLINE_VMM_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMM_LIST_MAX 64

enum vmm_opt_kind {
	OPT_FLAG,   /* bool */
	OPT_TEXT,   /* const char * */
	OPT_SIZE,   /* uint64_t, in bytes */
	OPT_NUMBER, /* uint64_t */
	OPT_CHOICE, /* int: index into choices */
	OPT_LIST,   /* struct vmm_list */
};

struct vmm_list {
	unsigned int nr;
	const char *items[VMM_LIST_MAX];
};

struct vmm_opt {
	const char *name;
	enum vmm_opt_kind kind;
	size_t at;       /* offset of the value in the values struct */
	const char *arg; /* what the argument is called in the help */
	const char *help;
	const char *const *choices; /* NULL-terminated */
};

struct vmm_verb {
	const char *name;
	const char *arguments; /* for the usage line */
	const char *summary;
	const struct vmm_opt *opts;        /* ends with an empty name */
	unsigned int min_words, max_words; /* positional words */
	const char *more;                  /* appended to the help */
};

#define VMM_PARSE_HELP 1

/**
 * vmm_opts_parse() - read the words after the verb
 * @verb: its table
 * @argc: how many words
 * @argv: the words
 * @values: the struct that the table's offsets point into
 * @words: receives the positional words
 *
 * Prints the error, or the help when asked for.
 *
 * Return: 0, VMM_PARSE_HELP, or -EINVAL.
 */
int vmm_opts_parse(const struct vmm_verb *verb, int argc, char **argv, void *values,
		   struct vmm_list *words);

/* A number or size that was not given, where 0 would be one that was. */
#define VMM_UNSET UINT64_MAX

/**
 * vmm_opts_range() - is what was given in the range?
 * @name: the option, "--timeout"
 * @value: VMM_UNSET is right
 * @min: the least it can be
 * @max: the most
 * @range: both, for the message: "1 to 86400000"
 *
 * Return: 0, or -EINVAL with a text.
 */
int vmm_opts_range(const char *name, uint64_t value, uint64_t min, uint64_t max, const char *range);

#endif
