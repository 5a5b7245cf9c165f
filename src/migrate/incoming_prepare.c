/* SPDX-License-Identifier: MIT */

/*
 * MACHINE: the VMM makes memory of the shape that was announced, and nothing that it says of it is
 * believed where it can be checked: a page that went to the wrong place would be the guest's.
 */

#include "migrate/incoming.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define GIGANTIC (UINT64_C(1) << 30)

/* The regions, in the order of their offsets; the configuration is what follows them. */
static int decode(struct fl_incoming *in, struct fl_error *err)
{
	struct fl_region regions[FL_REGIONS_MAX];
	uint32_t count = in->machine.id;
	int code;

	if (!count || count > FL_REGIONS_MAX)
		return fl_error_set(err, -EBADMSG, "MACHINE: %u regions, 1 to %d are possible",
				    count, FL_REGIONS_MAX);
	if (in->machine.len < (uint64_t)count * FL_WIRE_REGION_BYTES)
		return fl_error_set(err, -EBADMSG,
				    "MACHINE: %" PRIu64 " bytes do not hold %u regions",
				    in->machine.len, count);
	code = fl_regions_decode(regions, count, in->machine.bytes,
				 (uint64_t)count * FL_WIRE_REGION_BYTES, err);
	for (uint32_t i = 0; !code && i < count; i++)
		if (regions[i].page_size >= GIGANTIC)
			return fl_error_set(err, -EOPNOTSUPP,
					    "MACHINE: region %u has pages of 1 GiB", i);
	return code ? code : fl_layout_new(&in->shape, regions, count, err);
}

static int call_prepare(struct fl_incoming *in, struct fl_error *err)
{
	size_t count = fl_layout_count(in->shape);
	size_t skip = count * FL_WIRE_REGION_BYTES;
	struct fl_region regions[FL_REGIONS_MAX];
	int code;

	for (size_t i = 0; i < count; i++)
		regions[i] = *fl_layout_region(in->shape, i);
	code = in->calls.prepare(in->ctx, regions, count, in->machine.bytes + skip,
				 in->machine.len - skip, &in->memory, err);
	if (code < 0 && !err->code)
		return fl_error_set(err, code, "the machine cannot be made here: %s",
				    strerrordesc_np(-code));
	return code < 0 ? code : 0;
}

static int check_region(const struct fl_incoming_memory *memory, const struct fl_region *want,
			size_t i, struct fl_error *err)
{
	const struct fl_region *region = fl_layout_region(memory->layout, i);

	if (region->gpa != want->gpa || region->offset != want->offset ||
	    region->len_bytes != want->len_bytes || region->page_size != want->page_size)
		return fl_error_set(err, -EINVAL,
				    "region %zu of the memory that was made is not as announced",
				    i);
	if (region->addr == FL_NOWHERE)
		return fl_error_set(err, -EINVAL, "region %zu is not mapped", i);
	if (region->backing == FL_BACKING_ANON || region->backing == FL_BACKING_GMEM)
		return fl_error_set(err, -EOPNOTSUPP, "region %zu is not shared memory", i);
	return 0;
}

/* The file must hold the region: a hole punched elsewhere would be somebody else's. */
static int check_file(const struct fl_incoming_memory *memory, size_t i, struct fl_error *err)
{
	const struct fl_region *region = fl_layout_region(memory->layout, i);
	struct stat file;

	if (fstat(memory->fds[i], &file) < 0)
		return fl_error_set(err, -errno, "the file of region %zu: %s", i,
				    strerrordesc_np(errno));
	if (file.st_size < 0 || memory->fd_offsets[i] > (uint64_t)file.st_size ||
	    region->len_bytes > (uint64_t)file.st_size - memory->fd_offsets[i])
		return fl_error_set(err, -EINVAL,
				    "region %zu does not lie in its file of %" PRIu64 " bytes", i,
				    (uint64_t)file.st_size);
	return 0;
}

static int check_memory(const struct fl_incoming *in, struct fl_error *err)
{
	const struct fl_incoming_memory *memory = &in->memory;
	size_t count = fl_layout_count(in->shape);
	int code = 0;

	if (!memory->layout || !memory->aliases || !memory->fds || !memory->fd_offsets)
		return fl_error_set(err, -EINVAL, "the memory that was made lacks a part");
	if (memory->count != count || fl_layout_count(memory->layout) != count)
		return fl_error_set(err, -EINVAL,
				    "%zu regions were announced, memory was made for %zu", count,
				    memory->count);
	for (size_t i = 0; !code && i < count; i++) {
		code = check_region(memory, fl_layout_region(in->shape, i), i, err);
		if (!code)
			code = check_file(memory, i, err);
	}
	return code;
}

static int open_trap(struct fl_incoming *in, struct fl_error *err)
{
	const struct fl_incoming_memory *memory = &in->memory;
	int code;

	if (memory->uffd >= 0) {
		code = fl_trap_uffd_new(&in->trap, memory->uffd, err);
		return code ? code
			    : fl_install_continue_new(&in->install, memory->uffd, memory->aliases,
						      memory->count, err);
	}
	code = fl_trap_segv_new(&in->trap, err);
	return code ? code
		    : fl_install_reveal_new(&in->install, in->trap, memory->aliases, memory->count,
					    err);
}

static int arm(struct fl_incoming *in, struct fl_error *err)
{
	unsigned int modes = FL_TRAP_MISSING | (in->memory.uffd >= 0 ? FL_TRAP_MINOR : 0);

	for (size_t i = 0; i < in->memory.count; i++) {
		const struct fl_region *region = fl_layout_region(in->memory.layout, i);
		int code = fl_trap_arm(in->trap, region->addr, region->len_bytes, modes);

		if (code < 0)
			return fl_error_set(err, code, "region %zu cannot be watched: %s", i,
					    strerrordesc_np(-code));
	}
	return 0;
}

/* What receiving goes by: one array, that nothing the guest does changes. */
static int note_regions(struct fl_incoming *in, struct fl_error *err)
{
	for (size_t i = 0; i < in->memory.count; i++) {
		const struct fl_region *region = fl_layout_region(in->memory.layout, i);
		char *alias = fl_install_place(in->install, region->addr, region->len_bytes);

		if (!alias)
			return fl_error_set(err, -EINVAL, "region %zu has no second mapping", i);
		in->regions[i] = (struct fl_incoming_region){
			.offset = region->offset,
			.len_bytes = region->len_bytes,
			.page_size = region->page_size,
			.first_page = region->first_page,
			.alias = alias,
			.fd = in->memory.fds[i],
			.fd_offset = in->memory.fd_offsets[i],
		};
	}
	in->region_count = in->memory.count;
	return 0;
}

static int make_sets(struct fl_incoming *in, struct fl_error *err)
{
	int code;

	in->pages = fl_layout_pages(in->shape);
	code = fl_pageset_new(&in->received, in->pages);
	if (!code)
		code = fl_pageset_new(&in->zeros, in->pages);
	if (!code)
		code = fl_pageset_new(&in->torn, in->pages);
	if (!code)
		code = fl_pageset_new(&in->due, in->pages);
	if (!code)
		code = fl_table_new(&in->table, in->pages);
	if (code)
		return fl_error_set(err, code, "no memory to keep book of %" PRIu64 " pages",
				    in->pages);
	return 0;
}

void fl_incoming_prepare(struct fl_incoming *in)
{
	struct fl_frame prepared = {.type = FL_FRAME_PREPARED};
	struct fl_error err = {0};
	int code = decode(in, &err);

	if (!code)
		code = call_prepare(in, &err);
	if (!code)
		code = check_memory(in, &err);
	if (!code)
		code = open_trap(in, &err);
	if (!code)
		code = arm(in, &err);
	if (!code)
		code = note_regions(in, &err);
	if (!code)
		code = make_sets(in, &err);
	fl_blob_free(&in->machine);
	if (code) {
		(void)fl_incoming_break(in, code, "%s", err.text);
		return;
	}
	fl_alive_begin(&in->alive, in->options.timeout_ms,
		       fl_clock_ns()); /* nothing was heard meanwhile */
	in->stage = FL_STAGE_ROUNDS;
	fl_incoming_phase(in, FL_MIGRATE_ROUNDS);
	fl_incoming_send(in, &prepared);
}

void fl_incoming_memory_free(struct fl_incoming *in)
{
	fl_install_close(in->install);
	fl_trap_close(in->trap);
	fl_table_free(in->table);
	fl_pageset_free(in->received);
	fl_pageset_free(in->zeros);
	fl_pageset_free(in->torn);
	fl_pageset_free(in->due);
	fl_pageset_free(in->lack);
	fl_pageset_free(in->due_again);
	fl_pageset_free(in->have);
	fl_layout_free(in->shape);
	fl_blob_free(&in->machine);
	fl_blob_free(&in->state);
}
