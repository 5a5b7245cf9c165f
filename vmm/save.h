/* SPDX-License-Identifier: MIT */
/*
 * A machine without its memory: what it is (text, JSON) and what its vCPUs hold (state.h). A
 * snapshot keeps the two in files; a migration sends the text first, for the other side to make such
 * a machine, and then one state with the text of that moment inside.
 */
#ifndef FAULTLINE_VMM_SAVE_H
#define FAULTLINE_VMM_SAVE_H

#include <stddef.h>

#include "machine.h"
#include "snapshot.h"

/* vmm_describe() - the text; @state_len goes into it. Return: to be freed, or NULL. */
char *vmm_describe(struct vmm_machine *machine, size_t state_len);

/* vmm_save() - the vCPUs, which are parked; also after a failure @out is to be freed. Return: 0 or
 * -errno. */
int vmm_save(struct vmm_machine *machine, struct vmm_state_out *out);

/* vmm_save_whole() - likewise, with the text inside */
int vmm_save_whole(struct vmm_machine *machine, struct vmm_state_out *out);

/**
 * vmm_load_whole() - read what vmm_save_whole() wrote; nothing is done with it
 * @data: the bytes, aligned to 8; @state points into them
 * @len: how many
 * @info: receives what the machine was doing
 * @state: receives the vCPUs
 *
 * Return: 0 or -EINVAL.
 */
int vmm_load_whole(const void *data, size_t len, struct vmm_machine_info *info,
		   struct vmm_state *state);

/* vmm_check_registers() - kvm needs those of every vCPU. Return: 0, or -EINVAL with a text. */
int vmm_check_registers(const struct vmm_machine_info *info, const struct vmm_state *state);

/* vmm_adopt() - what the machine was doing, before its vCPUs start. Return: 0 or -EINVAL. */
int vmm_adopt(struct vmm_machine *machine, const struct vmm_machine_info *info);

#endif
