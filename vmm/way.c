/* SPDX-License-Identifier: MIT */
/*
 * The outgoing side exports its memory before the migration begins, and the library hands the descriptor to
 * the other side, which makes a source of it. Memory that libfabric has registered may be pinned: a page that
 * the guest discarded would be read as it was before, so that is refused meanwhile.
 */
#include "way.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "guest.h"
#include "util.h"

static int failed(int ret, const char *what, const struct fl_error *err)
{
	return vmm_fail(-ret, "%s: %s", what, err->text[0] ? err->text : strerror(-ret));
}

static int connect_worker(struct vmm_way *way, const char *path, uint32_t timeout_ms)
{
	struct fl_worker_options options;
	struct fl_error err = {0};
	int ret;

	fl_worker_options_init(&options);
	options.timeout_ms = timeout_ms;
	ret = fl_worker_connect(&way->worker, path, &options, &err);
	return ret ? failed(ret, "page worker", &err) : 0;
}

static int export_to_worker(struct vmm_way *way, const struct vmm_memory *memory,
			    struct fl_outgoing_options *how)
{
	struct fl_worker_region regions[VMM_MAX_REGIONS];
	uint8_t token[FL_WORKER_TOKEN_BYTES];
	struct fl_error err = {0};
	int ret;

	for (unsigned int i = 0; i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		regions[i] = (struct fl_worker_region){.offset = region->offset,
						       .len_bytes = region->size_bytes,
						       .fd = memory->memfd,
						       .fd_offset = region->offset};
	}
	ret = fl_worker_export(way->worker, regions, memory->layout.nr_regions, token, &err);
	if (ret)
		return failed(ret, "page worker", &err);
	ret = fl_worker_way(way->worker, token, NULL, way->blob);
	if (ret == -EDESTADDRREQ)
		return vmm_fail(EDESTADDRREQ, "page worker: it listens on no address that another"
					      " host could be told");
	if (ret < 0)
		return vmm_fail(-ret, "page worker: %s", strerror(-ret));
	how->way_kind = FL_MIGRATE_BY_WORKER;
	how->way = way->blob;
	how->way_len = (size_t)ret;
	return 0;
}

struct fabric_text {
	char provider[128], address[128];
};

/* PROVIDER[,DOMAIN][@ADDRESS] */
static int read_fabric(const char *text, struct fabric_text *parts)
{
	const char *at = strchrnul(text, '@');

	if (at == text || (size_t)(at - text) >= sizeof(parts->provider) ||
	    strlen(at) > sizeof(parts->address) || (*at && !at[1]))
		return vmm_fail(EINVAL, "--fabric %s: wants PROVIDER[,DOMAIN][@ADDRESS]", text);
	memcpy(parts->provider, text, (size_t)(at - text));
	parts->provider[at - text] = 0;
	strcpy(parts->address, *at ? at + 1 : "");
	return 0;
}

int vmm_way_check(const struct vmm_way_options *options)
{
	struct fabric_text parts;

	return options->fabric ? read_fabric(options->fabric, &parts) : 0;
}

static void fill_fabric(struct fl_fabric_options *options, const struct fabric_text *parts,
			uint32_t timeout_ms)
{
	fl_fabric_options_init(options);
	options->provider = parts->provider;
	options->address = parts->address[0] ? parts->address : NULL;
	options->timeout_ms = timeout_ms < 3600000 ? timeout_ms : 3600000;
}

static int export_to_fabric(struct vmm_way *way, const char *text, struct vmm_memory *memory,
			    struct fl_outgoing_options *how)
{
	struct fl_fabric_memory ranges[VMM_MAX_REGIONS];
	struct fl_fabric_options options;
	struct fl_error err = {0};
	struct fabric_text parts = {0};
	int ret = read_fabric(text, &parts);

	if (ret)
		return ret;
	for (unsigned int i = 0; i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];

		ranges[i] = (struct fl_fabric_memory){memory->base + region->gpa, region->offset,
						      region->size_bytes};
	}
	fill_fabric(&options, &parts, how->timeout_ms);
	options.log = how->log;
	way->memory = memory;
	__atomic_store_n(&memory->pinned, true, __ATOMIC_SEQ_CST);
	ret = fl_fabric_export(&way->fabric, ranges, memory->layout.nr_regions, &options, &err);
	if (ret)
		return failed(ret, "libfabric", &err);
	how->way_kind = FL_MIGRATE_BY_FABRIC;
	how->way = fl_fabric_blob(way->fabric, &how->way_len);
	return 0;
}

int vmm_way_export(struct vmm_way *way, const struct vmm_way_options *options,
		   struct vmm_memory *memory, struct fl_outgoing_options *how)
{
	int ret;

	if (options->worker && options->fabric)
		return vmm_fail(EINVAL, "wants one of --worker and --fabric");
	if (options->fabric)
		return export_to_fabric(way, options->fabric, memory, how);
	if (!options->worker)
		return 0;
	if (memory->memfd < 0)
		return vmm_fail(EINVAL,
				"--worker: a worker maps files, and the machine's memory is none:"
				" --backing memfd or hugetlbfs");
	ret = connect_worker(way, options->worker, how->timeout_ms);
	return ret ? ret : export_to_worker(way, memory, how);
}

int vmm_way_accept(struct vmm_way *way, const struct vmm_way_options *options,
		   struct fl_incoming_options *how)
{
	struct fabric_text parts = {0};
	int ret = 0;

	if (options->worker) {
		how->ways |= FL_MIGRATE_BY_WORKER;
		ret = connect_worker(way, options->worker, how->timeout_ms);
	}
	if (!ret && options->fabric) {
		how->ways |= FL_MIGRATE_BY_FABRIC;
		ret = read_fabric(options->fabric, &parts);
	}
	return ret;
}

static int open_fabric(const char *text, const struct vmm_memory *memory, uint32_t timeout_ms,
		       const void *blob, size_t len_bytes, struct fl_source **source)
{
	struct fl_fabric_memory ranges[VMM_MAX_REGIONS];
	struct fl_alias aliases[VMM_MAX_REGIONS];
	struct fl_fabric_options options;
	struct fl_error err = {0};
	struct fabric_text parts = {0};
	int ret = read_fabric(text, &parts);

	if (ret)
		return ret;
	vmm_guest_aliases(memory, aliases);
	for (unsigned int i = 0; i < memory->layout.nr_regions; i++)
		ranges[i] = (struct fl_fabric_memory){aliases[i].alias,
						      memory->layout.regions[i].offset,
						      memory->layout.regions[i].size_bytes};
	fill_fabric(&options, &parts, timeout_ms);
	ret = fl_source_fabric_open(source, blob, len_bytes, ranges, memory->layout.nr_regions,
				    &options, &err);
	return ret ? failed(ret, "libfabric", &err) : 0;
}

int vmm_way_open(struct vmm_way *way, const struct vmm_way_options *options,
		 const struct vmm_memory *memory, uint32_t timeout_ms, enum fl_migrate_way kind,
		 const void *blob, size_t len_bytes, struct fl_source **source)
{
	struct fl_error err = {0};
	int ret;

	if (kind == FL_MIGRATE_BY_FABRIC)
		return open_fabric(options->fabric, memory, timeout_ms, blob, len_bytes, source);
	ret = fl_source_worker_way(source, way->worker, blob, len_bytes,
				   vmm_layout_bytes(&memory->layout), &err);
	return ret ? failed(ret, "page worker", &err) : 0;
}

void vmm_way_close(struct vmm_way *way)
{
	fl_worker_close(way->worker);
	fl_fabric_unexport(way->fabric);
	if (way->memory)
		__atomic_store_n(&way->memory->pinned, false, __ATOMIC_SEQ_CST);
	*way = (struct vmm_way){0};
}

const char *vmm_way_name(enum fl_migrate_way kind)
{
	return kind == FL_MIGRATE_BY_WORKER   ? "worker"
	       : kind == FL_MIGRATE_BY_FABRIC ? "fabric"
					      : "link";
}
