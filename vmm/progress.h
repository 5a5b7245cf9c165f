/* SPDX-License-Identifier: MIT */
/* How a migration goes, for people. */
#ifndef FAULTLINE_VMM_PROGRESS_H
#define FAULTLINE_VMM_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>

struct vmm_progress_line {
	bool off;
	bool shown; /* a line stands that will be drawn over */
	char last[256];
};

/* vmm_progress_show() - one line on stderr: drawn anew on a terminal, else when it has changed */
void vmm_progress_show(struct vmm_progress_line *line, const json_t *status);

/* vmm_progress_end() - leave the last line standing */
void vmm_progress_end(struct vmm_progress_line *line);

/* vmm_progress_summary() - how it went, on stdout */
void vmm_progress_summary(const json_t *result);

#endif
