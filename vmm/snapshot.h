/* SPDX-License-Identifier: MIT */
/*
 * A snapshot is a directory:
 *   memory        the image: the regions' bytes one after another, holes for zeros
 *   layout.json   version, and for each region gpa, size, offset, page size, backing
 *   machine.json  version, accelerator, vCPUs, what ran, the length of vcpus.bin
 *   vcpus.bin     the vCPUs' state (state.h)
 */
#ifndef FAULTLINE_VMM_SNAPSHOT_H
#define FAULTLINE_VMM_SNAPSHOT_H

#include <stddef.h>

#include "machine.h"

#define VMM_LAYOUT_VERSION  1
#define VMM_MACHINE_VERSION 1
#define VMM_JSON_MAX_BYTES  (256u << 10)

struct vmm_machine_info {
	unsigned int nr_vcpus;
	enum vmm_accel_choice accel; /* that took the snapshot */
	uint64_t seq;
	uint64_t state_len;             /* of vcpus.bin */
	char running[VMM_COMMAND_TEXT]; /* the command under way, or empty: */
	bool idle;                      /* or the last, which has ended, for who asks how it went */
	uint64_t running_seq;
	uint64_t running_ns;           /* for so long */
	bool paused;                   /* by the user */
	uint64_t mismatches;           /* found so far */
	bool busy[PAYLOAD_MAX_VCPUS];  /* who has not finished it */
	bool taken[PAYLOAD_MAX_VCPUS]; /* and who has begun */
};

/**
 * vmm_snapshot_parse_layout() - read layout.json; a pure function
 * @text: the bytes, need not be NUL-terminated
 * @len: how many
 * @layout: receives the regions: checked, ascending, not overlapping
 * @err: receives one sentence on failure
 * @err_len: its room
 *
 * Return: 0 or -EINVAL.
 */
int vmm_snapshot_parse_layout(const char *text, size_t len, struct vmm_layout *layout, char *err,
			      size_t err_len);

/* vmm_snapshot_parse_machine() - the same for machine.json */
int vmm_snapshot_parse_machine(const char *text, size_t len, struct vmm_machine_info *info,
			       char *err, size_t err_len);

/* A snapshot opened and checked, its memory not yet read. */
struct vmm_snapshot {
	int dir_fd;
	int memory_fd;
	const char *path;
	struct vmm_layout layout;
	struct vmm_machine_info info;
	void *state_bytes;
	struct vmm_state state;
};

int vmm_snapshot_open(const char *path, struct vmm_snapshot *snapshot);
void vmm_snapshot_close(struct vmm_snapshot *snapshot);

/* vmm_snapshot_read_memory() - all data of the image into the mapped regions */
int vmm_snapshot_read_memory(const struct vmm_snapshot *snapshot, struct vmm_memory *memory);

/* vmm_snapshot_adopt() - what the machine was doing, before its vCPUs start */
int vmm_snapshot_adopt(const struct vmm_snapshot *snapshot, struct vmm_machine *machine);

/*
 * vmm_snapshot_take() - pull what is missing, pause the vCPUs wherever they are,
 * write the directory (which must not exist), resume. Return: 0 or -errno.
 */
int vmm_snapshot_take(struct vmm_machine *machine, const char *path);

/* vmm_image_write() - the memory file of a paused machine. Return: 0 or -errno. */
int vmm_image_write(const struct vmm_memory *memory, int fd);

#endif
