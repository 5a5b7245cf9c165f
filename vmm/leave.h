/* SPDX-License-Identifier: MIT */
/* A machine that leaves for another host: what this VMM does as the outgoing side. */
#ifndef FAULTLINE_VMM_LEAVE_H
#define FAULTLINE_VMM_LEAVE_H

#include <jansson.h>

#include <faultline/migrate.h>

#include "machine.h"
#include "way.h"

struct vmm_leave;

extern const char *const vmm_mode_names[];     /* in the order of enum fl_migrate_mode */
extern const char *const vmm_compress_names[]; /* none, lz4, zstd, any */

/* vmm_compress_flags() - FL_MIGRATE_* for an index into them */
uint32_t vmm_compress_flags(int choice);

/* What --timeout, --max-downtime and --bandwidth can be: a day in ms, and what is still a limit. */
#define VMM_MS_MAX        86400000ull
#define VMM_MS_RANGE      "1 to 86400000 (ms)"
#define VMM_BANDWIDTH_MAX (65535ull << 30)

struct vmm_tls_files {
	const char *cert, *key, *authority; /* all or none */
};

/* vmm_tls_check() - all or none. Return: 0, or -EINVAL with a text. */
int vmm_tls_check(const struct vmm_tls_files *files);

/* vmm_address_check() - @text (or NULL), given with @option, can be an address. Return: 0, or -EINVAL
 * with a text. */
int vmm_address_check(const char *option, const char *text);

/* vmm_tls_open() - *@tls is NULL without files. Return: 0 or -errno. */
int vmm_tls_open(const struct vmm_tls_files *files, struct fl_tls **tls);

struct vmm_leave_options {
	const char *to;
	enum fl_migrate_mode mode;
	uint32_t flags;
	uint64_t max_downtime_ms, max_rounds, bandwidth, timeout_ms; /* 0: the library's default */
	struct vmm_tls_files tls;
	struct vmm_way_options way;
};

/**
 * vmm_leave_start() - let the machine leave; the ones below tell how it goes
 * @machine: here, and not leaving already; what a lazy restore or a migration to
 *	this place has not brought yet is waited for first
 * @options: to where, and how
 *
 * Return: 0: it is under way; or -errno.
 */
int vmm_leave_start(struct vmm_machine *machine, const struct vmm_leave_options *options);

/* vmm_leave_cancel() - also of one that still waits for missing pages. Return: 0, or -errno with a text: too
 * late, or there is none. */
int vmm_leave_cancel(struct vmm_machine *machine);

/* vmm_leave_recover() - connect to @to (NULL: where it went), or wait on @listen. Return: 0 or
 * -errno. */
int vmm_leave_recover(struct vmm_machine *machine, const char *to, const char *listen);

/* vmm_leave_settled() - no migration is under way: it ended, waits to be recovered, or never began */
bool vmm_leave_settled(struct vmm_machine *machine);

/* vmm_leave_owes() - whether the machine runs elsewhere and needs this side still: for @pages, 0 when it is
 * not known how many; @lost: and a recovery before */
bool vmm_leave_owes(struct vmm_machine *machine, uint64_t *pages, bool *lost);

/* vmm_leave_json() - how far it is, to be released; NULL when there was none */
json_t *vmm_leave_json(struct vmm_machine *machine);

/* vmm_leave_end() - at the end of the program; calls off what is under way */
void vmm_leave_end(struct vmm_machine *machine);

#endif
