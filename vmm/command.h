/* SPDX-License-Identifier: MIT */
/* Commands as a user writes them: NAME[:OPTION[,OPTION...]]. */
#ifndef FAULTLINE_VMM_COMMAND_H
#define FAULTLINE_VMM_COMMAND_H

#include <stdint.h>

#include "payload/abi.h"

enum vmm_command_kind {
	VMM_COMMAND_PAYLOAD, /* the vCPUs run it */
	VMM_COMMAND_DISCARD,
	VMM_COMMAND_STOP, /* end the running one, and wait */
	VMM_COMMAND_WAIT, /* for the running one */
};

#define VMM_COMMAND_TEXT 160

struct vmm_command {
	enum vmm_command_kind kind;
	char text[VMM_COMMAND_TEXT]; /* as it was written */
	struct payload_command payload;
	uint64_t gpa; /* discard */
	uint64_t len_bytes;
};

extern const char *const vmm_command_help;

/* vmm_command_parse() - Return: 0, or -EINVAL with a text (vmm_fail()). */
int vmm_command_parse(const char *text, struct vmm_command *cmd);

/* vmm_op_name() - stamp, verify, churn */
const char *vmm_op_name(uint32_t op);

#endif
