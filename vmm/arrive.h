/* SPDX-License-Identifier: MIT */
/* A machine that comes from another host: what this VMM does as the incoming side. */
#ifndef FAULTLINE_VMM_ARRIVE_H
#define FAULTLINE_VMM_ARRIVE_H

#include <jansson.h>

#include "inside.h"
#include "leave.h"
#include "machine.h"

struct vmm_arrive;

struct vmm_arrive_options {
	const char *listen;
	enum vmm_accel_choice accel;
	int backing; /* that memory must have, or -1: as its pages ask for */
	enum vmm_trap trap;
	uint32_t flags;
	uint64_t timeout_ms, window_bytes; /* 0: the library's default */
	struct vmm_tls_files tls;
	struct vmm_way_options way;
	bool to_stderr; /* where to say the address */
};

/**
 * vmm_arrive_start() - listen, say where, and let a machine come
 * @machine: with vmm_machine_begin() alone; becomes the one that comes
 * @options: used until vmm_arrive_end()
 *
 * Return: 0 or -errno.
 */
int vmm_arrive_start(struct vmm_machine *machine, const struct vmm_arrive_options *options);

/* vmm_arrive_run() - wait until the machine runs here. Return: 0; -errno when none came. */
int vmm_arrive_run(struct vmm_machine *machine);

/*
 * vmm_arrive_await() - wait until all memory is here. Return: 0, also for a machine that never
 * arrived but was made here; -ECANCELED when this one ends, or @called_off (or NULL) is set;
 * -EREMOTEIO when the connection is lost, and @patient is not set.
 */
int vmm_arrive_await(struct vmm_machine *machine, bool patient, const bool *called_off);

/* vmm_arrive_recover() - connect to the other side, which listens. Return: 0 or -errno. */
int vmm_arrive_recover(struct vmm_machine *machine, const char *to);

/* vmm_arrive_settled() - all is here, or the connection is lost, or nothing came */
bool vmm_arrive_settled(struct vmm_machine *machine);

/* vmm_arrive_lacks() - whether the machine may run here, and needs the other side still: for @pages */
bool vmm_arrive_lacks(struct vmm_machine *machine, uint64_t *pages);

/* vmm_arrive_json() - how far it is, to be released; NULL for a machine that was made here */
json_t *vmm_arrive_json(struct vmm_machine *machine);

/* vmm_arrive_close() - all memory is here: let go of what brought it, and listen no longer */
void vmm_arrive_close(struct vmm_machine *machine);

/* vmm_arrive_end() - after the vCPUs have ended */
void vmm_arrive_end(struct vmm_machine *machine);

#endif
