/* SPDX-License-Identifier: MIT */
/* What happened, for people and as JSON. */
#ifndef FAULTLINE_VMM_REPORT_H
#define FAULTLINE_VMM_REPORT_H

#include <jansson.h>

#include "machine.h"

/* vmm_report_command() - the sum of the vCPUs' results of the last command, which has ended */
json_t *vmm_report_command(struct vmm_machine *machine);

/* vmm_report_print() - one or two lines of text for it, on stdout */
void vmm_report_print(const json_t *report);

/* vmm_report_times() - when the guest ran, measured from the request */
json_t *vmm_report_times(const struct vmm_machine *machine);

/* vmm_report_faults() - a pager's faults by kind, as in `faultline stat --json`, to be released */
struct fl_pager_stats;
json_t *vmm_report_faults(const struct fl_pager_stats *stats);

/* vmm_report_fault() - likewise, of one kind */
struct fl_fault_stats;
json_t *vmm_report_fault(const struct fl_fault_stats *fault);

#endif
