/* SPDX-License-Identifier: MIT */

/* A source that reads over libfabric: what is the same for all its queues. See fabric_queue.c. */

#include "source/fabric_source.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <stdlib.h>

static struct fl_fabric_source *to_fabric(struct fl_source *source)
{
	return (struct fl_fabric_source *)source;
}

static uint64_t fabric_length(struct fl_source *source)
{
	return to_fabric(source)->length;
}

static void fabric_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	const struct fl_fabric_region *region =
		fl_fabric_region_at(&to_fabric(source)->desc, offset);

	extent->zeros = !region || offset < region->offset;
	if (!region)
		extent->len_bytes = UINT64_MAX - offset;
	else if (extent->zeros)
		extent->len_bytes = region->offset - offset;
	else
		extent->len_bytes = region->offset + region->len_bytes - offset;
}

static void fabric_close(struct fl_source *source)
{
	struct fl_fabric_source *fabric = to_fabric(source);

	fl_fabric_unregister(fabric->mrs, fabric->count);
	fl_fabric_port_close(&fabric->port);
	free(fabric);
}

static const struct fl_source_ops fabric_source_ops = {
	.size = sizeof(struct fl_source_ops),
	.version = FL_SOURCE_OPS_VERSION,
	.flags = FL_SOURCE_DIRECT,
	.name = "fabric",
	.length = fabric_length,
	.extent = fabric_extent,
	.open = fl_fabric_queue_open,
	.close = fabric_close,
};

static int register_local(struct fl_fabric_source *fabric, uint32_t flags, struct fl_error *err)
{
	int ret = 0;

	fabric->registers = flags & FL_FABRIC_REGISTER ||
			    fabric->port.info->domain_attr->mr_mode & FI_MR_LOCAL;
	for (size_t i = 0; i < fabric->count && !ret; i++) {
		if (fabric->registers)
			ret = fl_fabric_register(&fabric->port, &fabric->local[i], FI_READ, flags,
						 &fabric->mrs[i], err);
		else if (flags & FL_FABRIC_POPULATE)
			ret = fl_fabric_populate(&fabric->local[i], true, err);
	}
	return ret;
}

static int open_source(struct fl_fabric_source *fabric, const struct fl_fabric_options *options,
		       const void *blob, size_t len_bytes, struct fl_error *err)
{
	const struct fl_fabric_region *last;
	int ret = fl_fabric_blob_decode(&fabric->desc, blob, len_bytes, err);

	if (ret)
		return ret;
	last = &fabric->desc.regions[fabric->desc.count - 1];
	fabric->length = last->offset + last->len_bytes;
	fabric->timeout_ns = options->timeout_ms * FL_NS_PER_MS;
	fabric->log = options->log;
	ret = fl_fabric_port_import(&fabric->port, options, &fabric->desc, err);
	return ret ? ret : register_local(fabric, options->flags, err);
}

int fl_source_fabric_open(struct fl_source **source, const void *blob, size_t len_bytes,
			  const struct fl_fabric_memory *local, size_t count,
			  const struct fl_fabric_options *options, struct fl_error *err)
{
	struct fl_fabric_options checked;
	struct fl_fabric_source *fabric;
	int ret = fl_fabric_options_check(&checked, options, err);

	if (ret)
		return ret;
	fabric = calloc(1, sizeof(*fabric));
	if (!fabric)
		return fl_error_set(err, -ENOMEM, "no memory for a fabric source");
	fabric->head.ops = &fabric_source_ops;
	ret = fl_fabric_memory_check(fabric->local, local, count, err);
	if (!ret) {
		fabric->count = count;
		ret = open_source(fabric, &checked, blob, len_bytes, err);
	}
	if (ret) {
		fabric_close(&fabric->head);
		return ret;
	}
	*source = &fabric->head;
	return 0;
}
