/* SPDX-License-Identifier: MIT */
/*
 * Taking a snapshot. It is written beside its place and renamed there when it
 * is whole, so that a directory of the asked-for name is always complete.
 *
 * A thread of its own takes it, for it may come upon a page that nobody brings
 * any more (a page-fault handler was killed), and a thread that sleeps there
 * cannot be woken. When the machine is told to end and that thread does not, it
 * is abandoned: what it has written is removed, and the process must end by
 * _exit(2), with guest memory mapped to the last.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "save.h"
#include "snapshot.h"
#include "util.h"

#define GRACE_SECONDS 1

struct taking {
	struct vmm_machine *machine;
	char *path;
	char *partial; /* what an abandoned one has begun */
	pthread_t thread;
	bool done; /* under machine->lock */
	int ret;
	char error[512];
};

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
	AUTO_FREE char *text = NULL;
	int ret = vmm_save(machine, &out);

	if (!ret)
		ret = write_file(dir_fd, "vcpus.bin", out.data, out.len);
	if (!ret)
		text = vmm_describe(machine, out.len);
	if (!ret && !text)
		ret = vmm_fail(ENOMEM, "write machine.json: no memory");
	if (!ret && text)
		ret = write_file(dir_fd, "machine.json", text, strlen(text));
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

/* Where it gets its name, unless it was given up meanwhile: then it is being removed. */
static int publish(struct vmm_machine *machine, const char *partial, const char *path)
{
	int ret = 0;

	pthread_mutex_lock(&machine->lock);
	if (machine->abandoned)
		ret = vmm_fail(ECANCELED, "the machine is ending");
	else if (rename(partial, path)) /* replaces an empty directory */
		ret = vmm_fail(errno, "snapshot %s: %s", path, strerror(errno));
	pthread_mutex_unlock(&machine->lock);
	return ret;
}

static void set_partial(struct vmm_machine *machine, const char *partial)
{
	pthread_mutex_lock(&machine->lock);
	machine->partial = partial;
	pthread_mutex_unlock(&machine->lock);
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
	set_partial(machine, partial);
	dir_fd = open(partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = dir_fd < 0 ? vmm_fail(errno, "snapshot %s: %s", partial, strerror(errno))
			 : write_all(machine, dir_fd);
	if (!ret)
		ret = publish(machine, partial, path);
	if (ret)
		remove_partial(partial, dir_fd);
	set_partial(machine, NULL);
	return ret;
}

static int take(struct vmm_machine *machine, const char *path)
{
	int ret = vmm_operation_begin(machine);

	if (ret)
		return ret;
	/* While the guest still runs: what is missing would make the pause long. */
	ret = vmm_make_whole(machine, false);
	if (!ret)
		ret = vmm_machine_pause(machine);
	if (!ret && vmm_machine_failed(machine))
		ret = vmm_fail(EIO, "the machine has failed: %s", machine->failure);
	if (!ret)
		ret = write_directory(machine, path);
	if (!machine->held)
		vmm_machine_resume(machine);
	vmm_operation_end(machine);
	return ret;
}

static void *take_thread(void *arg)
{
	struct taking *taking = arg;
	struct vmm_machine *machine = taking->machine;

	taking->ret = take(machine, taking->path);
	snprintf(taking->error, sizeof(taking->error), "%s", vmm_error_text());
	pthread_mutex_lock(&machine->lock);
	taking->done = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	return NULL;
}

/* Until it is done, or not in time after the machine was told to end. Return: whether it is. */
static bool await(struct taking *taking)
{
	struct vmm_machine *machine = taking->machine;
	struct timespec until;
	int err = 0;

	pthread_mutex_lock(&machine->lock);
	while (!taking->done && !machine->quit)
		pthread_cond_wait(&machine->changed, &machine->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += GRACE_SECONDS;
	while (!taking->done && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&machine->changed, &machine->lock, &until);
	machine->abandoned = !taking->done;
	if (machine->abandoned && machine->partial)
		taking->partial = strdup(machine->partial);
	pthread_mutex_unlock(&machine->lock);
	return !machine->abandoned;
}

/* The thread stays behind with all that it uses, until the process ends. */
static int abandon(struct taking *taking)
{
	AUTO_FD dir_fd = -1;

	pthread_detach(taking->thread);
	if (taking->partial) {
		dir_fd = open(taking->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		remove_partial(taking->partial, dir_fd);
	}
	return vmm_fail(EINTR, "snapshot %s: given up, for the machine is ending%s", taking->path,
			taking->partial ? "" : ": pages are missing that nobody brings");
}

static int finish(struct taking *taking)
{
	int ret;

	pthread_join(taking->thread, NULL);
	ret = taking->ret;
	/* To be told from a command that was cut short, which may be no failure. */
	if (ret == -ECANCELED)
		ret = vmm_fail(EINTR, "snapshot %s: %s", taking->path, taking->error);
	else if (ret)
		vmm_fail(-ret, "%s", taking->error);
	free(taking->path);
	free(taking);
	return ret;
}

int vmm_snapshot_take(struct vmm_machine *machine, const char *path)
{
	struct taking *taking = calloc(1, sizeof(*taking));
	int err = ENOMEM;

	if (taking) {
		taking->machine = machine;
		taking->path = strdup(path);
		if (taking->path)
			err = pthread_create(&taking->thread, NULL, take_thread, taking);
	}
	if (!err)
		return await(taking) ? finish(taking) : abandon(taking);
	if (taking)
		free(taking->path);
	free(taking);
	return vmm_fail(err, "snapshot %s: %s", path, strerror(err));
}
