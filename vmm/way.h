/* SPDX-License-Identifier: MIT */
/* Another way than the page link for a machine's memory: a page worker, or libfabric. */
#ifndef FAULTLINE_VMM_WAY_H
#define FAULTLINE_VMM_WAY_H

#include <faultline/fabric.h>
#include <faultline/migrate.h>
#include <faultline/worker.h>

#include "memory.h"

/* NULL each: not that way. */
struct vmm_way_options {
	const char *worker; /* socket of this host's worker */
	const char *fabric; /* PROVIDER[,DOMAIN][@ADDRESS] */
};

/* Start from zeros. */
struct vmm_way {
	struct fl_worker *worker;
	struct fl_fabric *fabric;
	struct vmm_memory *memory; /* of which it keeps the pages, or NULL */
	uint8_t blob[FL_WORKER_WAY_MAX];
};

/* vmm_way_check() - whether the options can be read. Return: 0, or -EINVAL with a text. */
int vmm_way_check(const struct vmm_way_options *options);

/**
 * vmm_way_export() - let our memory be read that way, and say so in @how
 * @way: to be closed when the machine has gone, or stays
 * @options: one way at most
 * @memory: for a worker a memfd; for libfabric no page of it can be discarded as long as it lasts
 * @how: its way_kind, way and way_len are set; its timeout_ms and log hold here, too
 *
 * Return: 0, also when no way was asked for; or -errno.
 */
int vmm_way_export(struct vmm_way *way, const struct vmm_way_options *options,
		   struct vmm_memory *memory, struct fl_outgoing_options *how);

/* vmm_way_accept() - the ways that are asked for, as struct fl_incoming_options has them; connects to the worker. Return:
 * 0 or -errno. */
int vmm_way_accept(struct vmm_way *way, const struct vmm_way_options *options,
		   struct fl_incoming_options *how);

/* vmm_way_open() - the other side's memory as a source, as fl_incoming_calls.way(). Return: 0 or -errno. */
int vmm_way_open(struct vmm_way *way, const struct vmm_way_options *options,
		 const struct vmm_memory *memory, uint32_t timeout_ms, enum fl_migrate_way kind,
		 const void *blob, size_t len_bytes, struct fl_source **source);

/* vmm_way_close() - after the sources that were made of it */
void vmm_way_close(struct vmm_way *way);

/* vmm_way_name() - "link", "fabric", "worker" */
const char *vmm_way_name(enum fl_migrate_way kind);

#endif
