/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "cmd.h"
#include "drive.h"
#include "opts.h"
#include "util.h"

struct values {
	uint64_t memory;
	uint64_t vcpus;
	uint64_t hole;
	int accel;
	int dirty;
	int backing;
	const char *control;
	const char *snapshot;
	struct vmm_list commands;
	bool json;
	bool quiet;
};

#define AT(field) offsetof(struct values, field)

static const struct vmm_opt opts[] = {
	{"memory", OPT_SIZE, AT(memory), "SIZE", "guest memory, 4M to 64G (256M)", NULL},
	{"vcpus", OPT_NUMBER, AT(vcpus), "N", "vCPUs, 1 to 64 (1)", NULL},
	{"accel", OPT_CHOICE, AT(accel), "auto|kvm|thread", "what runs the vCPUs (auto)",
	 vmm_accel_names},
	{"backing", OPT_CHOICE, AT(backing), "anon|memfd|hugetlbfs",
	 "what memory is made of (anon)", vmm_backing_names},
	{"hole", OPT_SIZE, AT(hole), "GPA", "where the hole that ends at 4G begins (3G)", NULL},
	{"dirty", OPT_CHOICE, AT(dirty), "auto|log|ring|wp",
	 "how writes are recorded for a migration (auto)", vmm_dirty_names},
	{"command", OPT_LIST, AT(commands), "CMD", "run it; may be given again, in order", NULL},
	{"snapshot", OPT_TEXT, AT(snapshot), "DIR", "save the machine there after the commands",
	 NULL},
	{"control", OPT_TEXT, AT(control), "PATH", "keep running, listen on this Unix socket",
	 NULL},
	{"json", OPT_FLAG, AT(json), NULL, "report as one JSON object", NULL},
	{"quiet", OPT_FLAG, AT(quiet), NULL, "no guest console, no notices", NULL},
	{0},
};

static int check(const struct values *values, struct vmm_layout *layout)
{
	int ret = vmm_opts_range("--vcpus", values->vcpus, 1, PAYLOAD_MAX_VCPUS, "1 to 64");

	if (!ret)
		ret = vmm_layout_make(values->memory, values->hole, values->backing, layout);
	if (!ret)
		ret = vmm_dirty_check((enum vmm_dirty_choice)values->dirty,
				      values->accel == VMM_ACCEL_THREAD);
	return ret ? ret : vmm_drive_check(&values->commands);
}

static int build(struct vmm_machine *machine, const struct values *values,
		 const struct vmm_layout *layout)
{
	int ret = vmm_machine_init(machine, (unsigned int)values->vcpus);

	if (!ret)
		ret = vmm_memory_map(&machine->memory, layout);
	if (!ret)
		ret = vmm_boot_memory(machine);
	if (!ret)
		ret = vmm_machine_accel(machine, values->accel);
	for (unsigned int i = 0; !ret && i < machine->nr_vcpus; i++)
		ret = machine->accel->boot(&machine->vcpus[i]);
	return ret ? ret : vmm_drive_signals(machine);
}

int vmm_cmd_run(int argc, char **argv)
{
	const struct vmm_verb verb = {
		"run", "[OPTION...]",   "Starts a guest and runs commands in it.", opts, 0,
		0,     vmm_command_help};
	struct values values = {.memory = 256 * MIB, .vcpus = 1, .hole = VMM_HOLE_START};
	struct vmm_machine machine = {
		.times.request = vmm_now_ns(), .memory = {.memfd = -1, .uffd = -1}, .wake_fd = -1};
	struct vmm_layout layout;
	struct vmm_list words = {0};
	int ret = vmm_opts_parse(&verb, argc, argv, &values, &words);

	if (ret)
		return ret == VMM_PARSE_HELP ? EXIT_OK : EXIT_USAGE;
	if (check(&values, &layout)) {
		fprintf(stderr, "faultline-vmm run: %s\n", vmm_error_text());
		return EXIT_USAGE;
	}
	machine.quiet = values.quiet;
	machine.dirty_choice = (enum vmm_dirty_choice)values.dirty;
	ret = build(&machine, &values, &layout);
	if (ret) {
		fprintf(stderr, "faultline-vmm run: %s\n", vmm_error_text());
		vmm_machine_free(&machine);
		return EXIT_FAILED;
	}

	const struct vmm_drive drive = {
		.machine = &machine,
		.verb = "run",
		.commands = &values.commands,
		.control = values.control,
		.snapshot = values.snapshot,
		.json = values.json,
	};

	ret = vmm_drive(&drive);
	vmm_machine_free(&machine);
	return ret;
}
