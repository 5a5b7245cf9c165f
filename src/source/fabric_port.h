/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_FABRIC_PORT_H
#define FL_SOURCE_FABRIC_PORT_H

/* A provider's fabric and domain, opened: what an export and a source have in common. */

#include <stdbool.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "source/fabric.h"

struct fl_fabric_port {
	struct fi_info *info;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	bool abandons; /* endpoints must not be closed while they read: see fabric_queue.c */
};

/* A completion queue; fd is what to poll after fi_trywait(), -1 where there is no such thing. */
struct fl_fabric_cq {
	struct fid_cq *cq;
	int fd;
};

/* Opens what options->provider and options->address name, to be read. Whether it fails or not, the port
 * is to be closed. */
int fl_fabric_port_export(struct fl_fabric_port *port, const struct fl_fabric_options *options,
			  struct fl_error *err);
/* Opens what can read the peer's memory, if options->provider allows it. */
int fl_fabric_port_import(struct fl_fabric_port *port, const struct fl_fabric_options *options,
			  const struct fl_fabric_desc *peer, struct fl_error *err);
void fl_fabric_port_close(struct fl_fabric_port *port);

int fl_fabric_cq_open(const struct fl_fabric_port *port, struct fl_fabric_cq *cq);
/* May fd be waited for? Not when there is something to read from the queue at once. */
bool fl_fabric_cq_idle(const struct fl_fabric_port *port, const struct fl_fabric_cq *cq);
/* An endpoint that is enabled, with that queue for its completions. */
int fl_fabric_ep_open(const struct fl_fabric_port *port, const struct fl_fabric_cq *cq,
		      struct fid_av *av, struct fid_ep **ep);
/* Has all of a range there, to be written or only to be read. */
int fl_fabric_populate(const struct fl_fabric_memory *memory, bool write, struct fl_error *err);
/* Registers a range for FI_READ (ours to read into) or FI_REMOTE_READ (theirs to read), all of it there
 * first when that is asked for by flags. */
int fl_fabric_register(const struct fl_fabric_port *port, const struct fl_fabric_memory *memory,
		       uint64_t access, uint32_t flags, struct fid_mr **mr, struct fl_error *err);
void fl_fabric_unregister(struct fid_mr **mrs, size_t count);

/* Closes and forgets; NULL is fine. */
#define fl_fabric_close(object)                         \
	do {                                            \
		if (object)                             \
			(void)fi_close(&(object)->fid); \
		(object) = NULL;                        \
	} while (0)

/* What libfabric calls an error, of either sign, as a negative errno: all the ways in which it says
 * that the peer is gone are -ECONNRESET. */
int fl_fabric_errno(long code);

#endif
