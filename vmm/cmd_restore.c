/* SPDX-License-Identifier: MIT */
/*
 * restore: map the memory, see to its contents (read it all now, hand it to a
 * page-fault handler, or serve it from inside), make the machine, load the
 * vCPUs, run. Nothing may touch guest memory before its userfaultfd is
 * registered and handed over: such a page would be taken for a page of zeros.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "drive.h"
#include "inside.h"
#include "opts.h"
#include "snapshot.h"
#include "uffd.h"
#include "util.h"

struct values {
	const char *uffd;
	bool eager;
	bool inside;
	bool fill;
	int trap; /* or -1: not said */
	int form;
	int accel;
	int dirty;
	int backing; /* or -1 */
	const char *control;
	const char *snapshot;
	struct vmm_list commands;
	bool json;
	bool quiet;
};

struct restore {
	struct vmm_machine machine;
	struct vmm_snapshot snapshot;
	struct vmm_inside_options how;
	char *image;
	int handler_fd; /* the handshake's socket: its end tells the handler that we ended */
};

#define AT(field) offsetof(struct values, field)

static const struct vmm_opt opts[] = {
	{"uffd", OPT_TEXT, AT(uffd), "SOCKET", "hand the memory to the page-fault handler there",
	 NULL},
	{"eager", OPT_FLAG, AT(eager), NULL, "read the whole memory file first", NULL},
	{"inside", OPT_FLAG, AT(inside), NULL, "serve page faults in this process", NULL},
	{"trap", OPT_CHOICE, AT(trap), "auto|uffd|segv", "with --inside: how faults are noticed",
	 vmm_trap_names},
	{"fill", OPT_FLAG, AT(fill), NULL, "with --inside: read the rest in the background", NULL},
	{"form", OPT_CHOICE, AT(form), "both|kib|none", "with --uffd: page-size fields (both)",
	 vmm_form_names},
	{"accel", OPT_CHOICE, AT(accel), "auto|kvm|thread", "what runs the vCPUs (auto)",
	 vmm_accel_names},
	{"backing", OPT_CHOICE, AT(backing), "anon|memfd|hugetlbfs", "instead of the snapshot's",
	 vmm_backing_names},
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

static const struct vmm_verb verb = {"restore",
				     "DIR (--uffd SOCKET | --eager | --inside) [OPTION...]",
				     "Goes on from the snapshot in DIR.",
				     opts,
				     1,
				     1,
				     NULL};

/* --accel auto is settled here, for it decides which userfaultfd will do. */
static enum vmm_accel_choice settle_accel(int choice)
{
	if (choice == VMM_ACCEL_AUTO && !access("/dev/kvm", R_OK | W_OK))
		return VMM_ACCEL_KVM;
	return (enum vmm_accel_choice)choice;
}

static int supply(struct restore *r, const struct values *values, enum vmm_accel_choice accel)
{
	struct vmm_memory *memory = &r->machine.memory;
	bool kvm = accel == VMM_ACCEL_KVM;
	int ret;

	if (values->eager)
		return vmm_snapshot_read_memory(&r->snapshot, memory);
	if (values->inside)
		return vmm_inside_start(memory, &r->how, &r->machine.inside);
	ret = vmm_uffd_register(memory, !kvm);
	return ret ? ret : vmm_handshake(memory, values->uffd, values->form, &r->handler_fd);
}

/* The trap decides what the memory must be made of. */
static int settle_inside(struct restore *r, const struct values *values, const char *dir,
			 enum vmm_accel_choice accel)
{
	if (!values->inside)
		return 0;
	if (asprintf(&r->image, "%s/memory", dir) < 0)
		return vmm_fail(ENOMEM, "%s: no memory", dir);
	r->how = (struct vmm_inside_options){
		.image = r->image,
		.trap = values->trap < 0 ? VMM_TRAP_AUTO : (enum vmm_trap)values->trap,
		.kvm = accel == VMM_ACCEL_KVM,
		.fill = values->fill,
	};
	return vmm_inside_settle(&r->how, &r->snapshot.layout);
}

static int build(struct restore *r, const struct values *values, const char *dir)
{
	enum vmm_accel_choice accel = settle_accel(values->accel);
	struct vmm_machine *machine = &r->machine;
	int ret = vmm_snapshot_open(dir, &r->snapshot);

	if (!ret)
		ret = values->backing < 0 ? 0
					  : vmm_layout_rebase(&r->snapshot.layout,
							      (enum vmm_backing)values->backing);
	if (!ret)
		ret = settle_inside(r, values, dir, accel);
	if (!ret)
		ret = vmm_machine_init(machine, r->snapshot.info.nr_vcpus);
	if (!ret)
		ret = vmm_memory_map(&machine->memory, &r->snapshot.layout);
	if (!ret)
		ret = vmm_drive_signals(machine);
	if (!ret)
		ret = supply(r, values, accel);
	machine->times.memory_ready = vmm_now_ns();
	if (!ret)
		ret = vmm_machine_accel(machine, accel);
	if (!ret)
		ret = vmm_snapshot_adopt(&r->snapshot, machine);
	return ret ? ret : machine->accel->load(machine, &r->snapshot.state);
}

static void release(struct restore *r)
{
	vmm_inside_stop(r->machine.inside);
	free(r->image);
	vmm_machine_free(&r->machine);
	vmm_snapshot_close(&r->snapshot);
	vmm_close_fd(&r->handler_fd);
}

static int check(const struct values *values)
{
	if (!!values->uffd + values->eager + values->inside != 1)
		return vmm_fail(EINVAL, "wants one of --uffd SOCKET, --eager and --inside");
	if (values->trap >= 0 && !values->inside)
		return vmm_fail(EINVAL, "--trap goes with --inside only");
	if (values->fill && !values->inside)
		return vmm_fail(EINVAL, "--fill goes with --inside only");
	if (vmm_dirty_check((enum vmm_dirty_choice)values->dirty,
			    values->accel == VMM_ACCEL_THREAD))
		return -EINVAL;
	return vmm_drive_check(&values->commands);
}

static int drive(struct restore *r, const struct values *values)
{
	const struct vmm_drive what = {
		.machine = &r->machine,
		.verb = "restore",
		.commands = &values->commands,
		.control = values->control,
		.snapshot = values->snapshot,
		.how = values->eager    ? "eager"
		       : values->inside ? "inside"
					: "uffd",
		.json = values->json,
	};

	return vmm_drive(&what);
}

int vmm_cmd_restore(int argc, char **argv)
{
	struct restore r = {
		.machine = {.times.request = vmm_now_ns(),
			    .memory = {.memfd = -1, .uffd = -1},
			    .wake_fd = -1},
		.snapshot = {.dir_fd = -1, .memory_fd = -1},
		.handler_fd = -1,
	};
	struct vmm_verb with_help = verb;
	struct values values = {.trap = -1, .backing = -1};
	struct vmm_list words = {0};
	int ret;

	with_help.more = vmm_command_help;
	ret = vmm_opts_parse(&with_help, argc, argv, &values, &words);
	if (ret)
		return ret == VMM_PARSE_HELP ? EXIT_OK : EXIT_USAGE;
	r.machine.quiet = values.quiet;
	r.machine.dirty_choice = (enum vmm_dirty_choice)values.dirty;
	if (check(&values)) {
		fprintf(stderr, "faultline-vmm restore: %s\n", vmm_error_text());
		return EXIT_USAGE;
	}
	ret = build(&r, &values, words.items[0]);
	if (ret)
		fprintf(stderr, "faultline-vmm restore: %s\n", vmm_error_text());
	ret = ret ? EXIT_FAILED : drive(&r, &values);
	release(&r);
	return ret;
}
