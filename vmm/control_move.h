/* SPDX-License-Identifier: MIT */
/* What the control socket can ask of migrations, on both sides. */
#ifndef FAULTLINE_VMM_CONTROL_MOVE_H
#define FAULTLINE_VMM_CONTROL_MOVE_H

#include <jansson.h>

#include "machine.h"

/*
 * vmm_control_move() - migrate, migrate-status, migrate-cancel, migrate-recover. Return: the answer,
 * or NULL when it is to be given when the migration is settled.
 */
json_t *vmm_control_move(struct vmm_machine *machine, const json_t *request);

/* vmm_control_moves() - whether such a request waits for that, if it waits */
bool vmm_control_moves(const json_t *request);

/* vmm_control_listens() - whether it is a recovery that waits for the other side without limit */
bool vmm_control_listens(const json_t *request);

/* vmm_control_moved() - the answer if it is settled, or NULL */
json_t *vmm_control_moved(struct vmm_machine *machine);

/* vmm_control_add_moves() - to the answer to status */
void vmm_control_add_moves(struct vmm_machine *machine, json_t *status);

#endif
