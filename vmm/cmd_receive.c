/* SPDX-License-Identifier: MIT */
/* receive: wait for a machine from another host, and be it from then on. */
#include <stdio.h>

#include "cmd.h"
#include "drive.h"
#include "opts.h"
#include "util.h"

struct values {
	const char *listen;
	const char *control;
	int accel;
	int dirty;
	int backing; /* or -1 */
	int trap;
	int compress;
	uint64_t timeout;
	uint64_t window;
	struct vmm_tls_files tls;
	struct vmm_way_options way;
	const char *snapshot;
	struct vmm_list commands;
	bool json;
	bool quiet;
};

#define AT(field) offsetof(struct values, field)

static const struct vmm_opt opts[] = {
	{"listen", OPT_TEXT, AT(listen), "HOST:PORT", "where the machine will come; port 0 for any",
	 NULL},
	{"accel", OPT_CHOICE, AT(accel), "auto|kvm|thread", "what it must run on (auto: any)",
	 vmm_accel_names},
	{"backing", OPT_CHOICE, AT(backing), "memfd|hugetlbfs",
	 "what its memory must be made of (as its pages ask for)", vmm_backing_names},
	{"trap", OPT_CHOICE, AT(trap), "auto|uffd|segv", "how page faults are noticed (auto)",
	 vmm_trap_names},
	{"dirty", OPT_CHOICE, AT(dirty), "auto|log|ring|wp",
	 "how writes are recorded when it leaves", vmm_dirty_names},
	{"compress", OPT_CHOICE, AT(compress), "none|lz4|zstd|any", "what to offer (any)",
	 vmm_compress_names},
	{"window", OPT_SIZE, AT(window), "SIZE", "asked for ahead of need, 128K to 64M (2M)", NULL},
	{"timeout", OPT_NUMBER, AT(timeout), "MS", "a silent peer is lost after (10000)", NULL},
	{"tls-cert", OPT_TEXT, AT(tls.cert), "FILE", "TLS: our certificate", NULL},
	{"tls-key", OPT_TEXT, AT(tls.key), "FILE", "TLS: its private key", NULL},
	{"tls-authority", OPT_TEXT, AT(tls.authority), "FILE",
	 "TLS: who must have signed the peer's", NULL},
	{"worker", OPT_TEXT, AT(way.worker), "SOCKET",
	 "read by the page worker there, when offered", NULL},
	{"fabric", OPT_TEXT, AT(way.fabric), "PROVIDER[,DOMAIN]", "read by libfabric, when offered",
	 NULL},
	{"command", OPT_LIST, AT(commands), "CMD", "then run it; may be given again, in order",
	 NULL},
	{"snapshot", OPT_TEXT, AT(snapshot), "DIR", "save the machine there after the commands",
	 NULL},
	{"control", OPT_TEXT, AT(control), "PATH", "keep running, listen on this Unix socket",
	 NULL},
	{"json", OPT_FLAG, AT(json), NULL, "report as one JSON object", NULL},
	{"quiet", OPT_FLAG, AT(quiet), NULL, "no guest console, no notices", NULL},
	{0},
};

static int check(const struct values *values)
{
	int ret;

	if (!values->listen)
		return vmm_fail(1, "--listen HOST:PORT is missing");
	if (values->backing == VMM_BACKING_ANON)
		return vmm_fail(1, "--backing anon: memory that moves in is shared: memfd or"
				   " hugetlbfs");
	if (values->trap == VMM_TRAP_SEGV && values->accel == VMM_ACCEL_KVM)
		return vmm_fail(1, "--trap segv: catches threads of this process only, KVM is"
				   " none: use --accel thread");
	ret = vmm_address_check("--listen", values->listen);
	if (!ret)
		ret = vmm_opts_range("--timeout", values->timeout, 1, VMM_MS_MAX, VMM_MS_RANGE);
	if (!ret)
		ret = vmm_opts_range("--window", values->window, 128 * KIB, 64 * MIB,
				     "128K to 64M");
	if (!ret)
		ret = vmm_tls_check(&values->tls);
	if (!ret)
		ret = vmm_way_check(&values->way);
	if (!ret)
		ret = vmm_dirty_check((enum vmm_dirty_choice)values->dirty,
				      values->accel == VMM_ACCEL_THREAD);
	return ret ? ret : vmm_drive_check(&values->commands);
}

static int receive(const struct values *values, struct vmm_machine *machine)
{
	const struct vmm_arrive_options arrive = {
		.listen = values->listen,
		.accel = (enum vmm_accel_choice)values->accel,
		.backing = values->backing,
		.trap = (enum vmm_trap)values->trap,
		.flags = vmm_compress_flags(values->compress),
		.timeout_ms = values->timeout,
		.window_bytes = values->window,
		.tls = values->tls,
		.way = values->way,
		.to_stderr = values->json,
	};
	const struct vmm_drive drive = {
		.machine = machine,
		.verb = "receive",
		.commands = &values->commands,
		.control = values->control,
		.snapshot = values->snapshot,
		.arrive = &arrive,
		.json = values->json,
	};
	int ret = vmm_machine_begin(machine);

	if (!ret)
		ret = vmm_drive_signals(machine);
	if (!ret)
		return vmm_drive(&drive);
	fprintf(stderr, "faultline-vmm receive: %s\n", vmm_error_text());
	return EXIT_FAILED;
}

int vmm_cmd_receive(int argc, char **argv)
{
	const struct vmm_verb verb = {"receive",
				      "--listen HOST:PORT [OPTION...]",
				      "Waits for a machine that migrates here, and runs it on.",
				      opts,
				      0,
				      0,
				      vmm_command_help};
	struct values values = {.backing = -1, .compress = 3, .timeout = 10000, .window = 2 * MIB};
	struct vmm_machine machine = {.times.request = vmm_now_ns(),
				      .memory = {.memfd = -1, .uffd = -1},
				      .wake_fd = -1,
				      .place = VMM_AWAITED};
	struct vmm_list words = {0};
	int ret = vmm_opts_parse(&verb, argc, argv, &values, &words);

	if (ret)
		return ret == VMM_PARSE_HELP ? EXIT_OK : EXIT_USAGE;
	if (check(&values)) {
		fprintf(stderr, "faultline-vmm receive: %s\n", vmm_error_text());
		return EXIT_USAGE;
	}
	machine.quiet = values.quiet;
	machine.dirty_choice = (enum vmm_dirty_choice)values.dirty;
	ret = receive(&values, &machine);
	vmm_arrive_end(&machine);
	/* One that began to run here when this side was told to end already. */
	if (vmm_machine_stop(&machine))
		_exit(EXIT_FAILED);
	vmm_machine_free(&machine);
	return ret;
}
