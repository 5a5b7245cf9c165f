/* SPDX-License-Identifier: MIT */
/*
 * Taking a snapshot. It is written beside its place and renamed there when it
 * is whole, so that a directory of the asked-for name is always complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot.h"
#include "util.h"

static const char *const file_names[] = {"memory", "layout.json", "machine.json", "vcpus.bin"};

static json_t *layout_json(const struct vmm_layout *layout)
{
	json_t *regions = json_array();

	for (unsigned int i = 0; i < layout->nr_regions; i++) {
		const struct vmm_region *region = &layout->regions[i];

		json_array_append_new(regions, json_pack("{s:I, s:I, s:I, s:I, s:s}", "gpa",
							 (json_int_t)region->gpa, "size",
							 (json_int_t)region->size_bytes, "offset",
							 (json_int_t)region->offset, "page_size",
							 (json_int_t)region->page_size, "backing",
							 vmm_backing_names[region->backing]));
	}
	return json_pack("{s:i, s:I, s:I, s:o}", "version", VMM_LAYOUT_VERSION, "memory_size",
			 (json_int_t)vmm_layout_bytes(layout), "page_size",
			 (json_int_t)layout->regions[0].page_size, "regions", regions);
}

/* The command under way; called while every vCPU is parked. */
static json_t *running_json(const struct vmm_machine *machine)
{
	uint64_t seq = machine->cmd.payload.seq;
	json_t *busy = json_array();
	json_t *taken = json_array();

	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		if (machine->vcpus[i].busy)
			json_array_append_new(busy, json_integer(i));
		if (machine->vcpus[i].taken == seq)
			json_array_append_new(taken, json_integer(i));
	}
	if (json_array_size(busy))
		return json_pack("{s:s, s:I, s:o, s:o}", "command", machine->cmd.text, "seq",
				 (json_int_t)seq, "busy", busy, "taken", taken);
	json_decref(busy);
	json_decref(taken);
	return json_null();
}

static json_t *machine_json(const struct vmm_machine *machine, size_t state_len)
{
	return json_pack("{s:i, s:i, s:s, s:i, s:I, s:I, s:o}", "version", VMM_MACHINE_VERSION,
			 "vcpus", (int)machine->nr_vcpus, "accel", machine->accel->name,
			 "payload_abi", (int)PAYLOAD_ABI, "seq", (json_int_t)machine->seq,
			 "state_bytes", (json_int_t)state_len, "running", running_json(machine));
}

static int create(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd >= 0 ? fd : vmm_fail(errno, "create %s: %s", name, strerror(errno));
}

static int write_file(int dir_fd, const char *name, const void *data, size_t len)
{
	AUTO_FD fd = create(dir_fd, name);
	int ret = fd < 0 ? fd : vmm_write_all(fd, data, len);

	if (fd >= 0 && ret)
		return vmm_fail(-ret, "write %s: %s", name, strerror(-ret));
	return ret;
}

static int write_json(int dir_fd, const char *name, json_t *json)
{
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	json_decref(json);
	if (!text)
		return vmm_fail(ENOMEM, "write %s: no memory", name);
	return write_file(dir_fd, name, text, strlen(text));
}

static int write_state(struct vmm_machine *machine, int dir_fd)
{
	struct vmm_state_out out;
	int ret = vmm_state_begin(&out);

	if (!ret)
		ret = machine->accel->save(machine, &out);
	if (!ret) {
		vmm_state_end(&out);
		ret = write_file(dir_fd, "vcpus.bin", out.data, out.len);
	}
	if (!ret)
		ret = write_json(dir_fd, "machine.json", machine_json(machine, out.len));
	vmm_state_free(&out);
	return ret;
}

static int write_all(struct vmm_machine *machine, int dir_fd)
{
	AUTO_FD fd = create(dir_fd, "memory");
	int ret = fd < 0 ? fd : write_state(machine, dir_fd);

	if (!ret)
		ret = write_json(dir_fd, "layout.json", layout_json(&machine->memory.layout));
	if (!ret)
		ret = vmm_image_write(&machine->memory, fd);
	return ret;
}

static void remove_partial(const char *partial, int dir_fd)
{
	for (size_t i = 0; i < ARRAY_LEN(file_names); i++)
		unlinkat(dir_fd, file_names[i], 0);
	rmdir(partial);
}

/* The vCPUs are parked. */
static int write_directory(struct vmm_machine *machine, const char *path)
{
	AUTO_FREE char *partial = NULL;
	AUTO_FD dir_fd = -1;
	int ret;

	if (asprintf(&partial, "%s.partial-%d", path, (int)getpid()) < 0)
		return vmm_fail(ENOMEM, "snapshot %s: no memory", path);
	if (mkdir(partial, 0700))
		return vmm_fail(errno, "snapshot %s: %s", partial, strerror(errno));
	dir_fd = open(partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = dir_fd < 0 ? vmm_fail(errno, "snapshot %s: %s", partial, strerror(errno))
			 : write_all(machine, dir_fd);
	/* An empty directory may be in the place: rename(2) replaces it. */
	if (!ret && rename(partial, path))
		ret = vmm_fail(errno, "snapshot %s: %s", path, strerror(errno));
	if (ret)
		remove_partial(partial, dir_fd);
	return ret;
}

int vmm_snapshot_take(struct vmm_machine *machine, const char *path)
{
	int ret = 0;

	pthread_mutex_lock(&machine->operation);
	/* While the guest still runs: what is missing would make the pause long. */
	if (machine->memory.partial)
		ret = vmm_memory_pull(&machine->memory, !machine->quiet);
	if (!ret)
		ret = vmm_machine_pause(machine);
	if (!ret && machine->failure[0])
		ret = vmm_fail(EIO, "the machine has failed: %s", machine->failure);
	if (!ret)
		ret = write_directory(machine, path);
	if (!machine->held)
		vmm_machine_resume(machine);
	pthread_mutex_unlock(&machine->operation);
	return ret;
}
