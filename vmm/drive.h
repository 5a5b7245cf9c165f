/* SPDX-License-Identifier: MIT */
/* From a machine that is ready to the program's exit status: what run and restore share. */
#ifndef FAULTLINE_VMM_DRIVE_H
#define FAULTLINE_VMM_DRIVE_H

#include "arrive.h"
#include "machine.h"
#include "opts.h"

struct vmm_drive {
	struct vmm_machine *machine;
	const char *verb;
	const struct vmm_list *commands;
	const char *control;                     /* keep running and listen here, or NULL */
	const char *snapshot;                    /* taken after the commands, or NULL */
	const char *how;                         /* restore: uffd, eager, inside; or NULL */
	const struct vmm_arrive_options *arrive; /* receive: the machine comes first; or NULL */
	bool json;
};

/* vmm_drive_check() - all commands can be read, before anything is started. Return: 0 or -EINVAL.
 */
int vmm_drive_check(const struct vmm_list *commands);

/* vmm_drive_signals() - before any thread is made: SIGTERM and SIGINT end the machine */
int vmm_drive_signals(struct vmm_machine *machine);

/* vmm_drive() - run it, report. Return: the exit status. Does not return when a vCPU hangs. */
int vmm_drive(const struct vmm_drive *drive);

#endif
