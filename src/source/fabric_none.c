/* SPDX-License-Identifier: MIT */

/* Built in place of the rest of the fabric where there is no libfabric. */

#include <faultline/fabric.h>

#include "util/error.h"

#include <errno.h>

static int none(struct fl_error *err)
{
	return fl_error_set(err, -EOPNOTSUPP, "this Faultline was built without libfabric");
}

int fl_fabric_export(struct fl_fabric **fabric, const struct fl_fabric_memory *memory, size_t count,
		     const struct fl_fabric_options *options, struct fl_error *err)
{
	(void)fabric;
	(void)memory;
	(void)count;
	(void)options;
	return none(err);
}

const void *fl_fabric_blob(const struct fl_fabric *fabric, size_t *len_bytes)
{
	(void)fabric;
	*len_bytes = 0;
	return NULL;
}

void fl_fabric_unexport(struct fl_fabric *fabric)
{
	(void)fabric;
}

int fl_source_fabric_open(struct fl_source **source, const void *blob, size_t len_bytes,
			  const struct fl_fabric_memory *local, size_t count,
			  const struct fl_fabric_options *options, struct fl_error *err)
{
	(void)source;
	(void)blob;
	(void)len_bytes;
	(void)local;
	(void)count;
	(void)options;
	return none(err);
}

int fl_fabric_probe(struct fl_fabric_offer *offers, size_t max, struct fl_error *err)
{
	(void)offers;
	(void)max;
	return none(err);
}
