/* SPDX-License-Identifier: MIT */
/*
 * The incoming side. The library's threads call prepare(), load() and run(), in this order;
 * until run() has set the machine's place no other thread looks at its memory or vCPUs. The main
 * thread waits for run() or for the end; control threads ask how it goes.
 *
 * prepare() makes the whole machine but for its contents: memory mapped twice, the
 * userfaultfd (which the library registers), the VM and its vCPUs. load() sets registers.
 */
#include "arrive.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <faultline/trap.h>

#include "guest.h"
#include "report.h"
#include "save.h"
#include "util.h"

struct vmm_arrive {
	struct vmm_machine *machine;
	struct vmm_arrive_options options;
	struct fl_incoming *in; /* NULL once all is here: */
	json_t *last;           /* how it went */
	struct fl_tls *tls;
	struct fl_layout *layout; /* the library's, made in prepare() */
	struct fl_alias aliases[VMM_MAX_REGIONS];
	int fds[VMM_MAX_REGIONS];
	uint64_t fd_offsets[VMM_MAX_REGIONS];
	enum vmm_accel_choice accel; /* of the machine that comes */
	int listen_fd;
	char address[128];
	uint32_t timeout_ms;
	struct vmm_way way;
	/* under machine->lock */
	enum fl_migrate_phase phase; /* as ended() told it; MEETING before, and after a recovery */
	bool ran;
};

/* This thread's last text, as the library wants it. */
static int refuse(int ret, struct fl_error *err)
{
	if (!ret)
		return 0;
	err->code = ret;
	snprintf(err->text, sizeof(err->text), "%s", vmm_error_text());
	return ret;
}

static bool kvm_here(void)
{
	return !access("/dev/kvm", R_OK | W_OK);
}

/* A machine goes on on what it ran on, for in the middle of a command it can on nothing else. */
static int check_accel(struct vmm_arrive *arrive, const struct vmm_machine_info *info)
{
	enum vmm_accel_choice mine = arrive->options.accel;
	const char *theirs = vmm_accel_names[info->accel];

	if (mine != VMM_ACCEL_AUTO && mine != info->accel)
		return vmm_fail(EINVAL, "the machine runs on %s: this side is --accel %s", theirs,
				vmm_accel_names[mine]);
	if (info->accel == VMM_ACCEL_KVM && !kvm_here())
		return vmm_fail(EINVAL, "the machine runs on kvm: there is no /dev/kvm here");
	if (info->accel == VMM_ACCEL_KVM && arrive->options.trap == VMM_TRAP_SEGV)
		return vmm_fail(EINVAL, "the machine runs on kvm: --trap segv cannot serve it");
	arrive->accel = info->accel;
	return 0;
}

static int check_backing(const struct vmm_arrive *arrive, const struct vmm_layout *layout)
{
	const struct vmm_region *region = &layout->regions[0];

	if (arrive->options.backing >= 0 && arrive->options.backing != (int)region->backing)
		return vmm_fail(EINVAL,
				"the machine has pages of %llu bytes, which want --backing %s: this"
				" side is --backing %s",
				(unsigned long long)region->page_size,
				vmm_backing_names[region->backing],
				vmm_backing_names[arrive->options.backing]);
	if (region->page_size != 4 * KIB && arrive->options.trap == VMM_TRAP_SEGV)
		return vmm_fail(EINVAL,
				"the machine has huge pages: --trap segv cannot serve them");
	return 0;
}

static int open_uffd(struct vmm_arrive *arrive)
{
	struct vmm_memory *memory = &arrive->machine->memory;
	uint64_t features = UFFD_FEATURE_EVENT_REMOVE |
			    (memory->layout.regions[0].page_size == 4 * KIB
				     ? UFFD_FEATURE_MINOR_SHMEM
				     : UFFD_FEATURE_MINOR_HUGETLBFS);
	bool kvm = arrive->accel == VMM_ACCEL_KVM;
	enum fl_uffd_way way;
	struct fl_error err = {0};

	memory->kernel_faults = false;
	memory->no_discard = true;
	if (arrive->options.trap == VMM_TRAP_SEGV)
		return 0;
	memory->uffd = fl_uffd_open(features, kvm ? 0 : FL_UFFD_USER_MODE_ONLY, &way, &err);
	if (memory->uffd >= 0) {
		memory->kernel_faults = way != FL_UFFD_BY_SYSCALL_USER;
		memory->no_discard = false;
		return 0;
	}
	if (arrive->options.trap == VMM_TRAP_AUTO && !kvm &&
	    memory->layout.regions[0].page_size == 4 * KIB)
		return 0;
	return vmm_fail(-memory->uffd, "userfaultfd: %s", err.text);
}

static int make_machine(struct vmm_arrive *arrive, const struct vmm_layout *layout,
			unsigned int nr_vcpus)
{
	struct vmm_machine *machine = arrive->machine;
	int ret = vmm_machine_vcpus(machine, nr_vcpus);

	if (!ret)
		ret = vmm_memory_map(&machine->memory, layout);
	if (!ret)
		ret = vmm_memory_alias(&machine->memory);
	if (!ret)
		ret = vmm_guest_layout(&machine->memory, &arrive->layout);
	if (!ret)
		ret = open_uffd(arrive);
	machine->memory.partial = true;
	return ret ? ret : vmm_machine_accel(machine, arrive->accel);
}

static void lend(struct vmm_arrive *arrive, struct fl_incoming_memory *memory)
{
	const struct vmm_memory *mine = &arrive->machine->memory;

	vmm_guest_aliases(mine, arrive->aliases);
	for (unsigned int i = 0; i < mine->layout.nr_regions; i++) {
		arrive->fds[i] = mine->memfd;
		arrive->fd_offsets[i] = mine->layout.regions[i].offset;
	}
	*memory = (struct fl_incoming_memory){
		.layout = arrive->layout,
		.uffd = mine->uffd >= 0 ? mine->uffd : -1,
		.aliases = arrive->aliases,
		.fds = arrive->fds,
		.fd_offsets = arrive->fd_offsets,
		.count = mine->layout.nr_regions,
	};
}

static int prepare(struct vmm_arrive *arrive, const struct fl_region *regions, size_t count,
		   const char *config, size_t config_len)
{
	struct vmm_machine_info info;
	struct vmm_layout layout;
	char err[256];
	int ret;

	arrive->machine->times.request = vmm_now_ns();
	if (vmm_snapshot_parse_machine(config, config_len, &info, err, sizeof(err)))
		return vmm_fail(EINVAL, "the machine's description: %s", err);
	ret = vmm_guest_regions(regions, count, &layout);
	if (!ret)
		ret = check_accel(arrive, &info);
	if (!ret)
		ret = check_backing(arrive, &layout);
	return ret ? ret : make_machine(arrive, &layout, info.nr_vcpus);
}

static int on_prepare(void *ctx, const struct fl_region *regions, size_t count, const void *config,
		      size_t config_len, struct fl_incoming_memory *memory, struct fl_error *err)
{
	struct vmm_arrive *arrive = ctx;
	int ret = prepare(arrive, regions, count, config, config_len);

	if (!ret)
		lend(arrive, memory);
	return refuse(ret, err);
}

static int load(struct vmm_arrive *arrive, const void *data, size_t len)
{
	struct vmm_machine *machine = arrive->machine;
	AUTO_FREE struct vmm_state *state = malloc(sizeof(*state));
	AUTO_FREE void *copy = malloc(len ? len : 1); /* aligned, whatever @data is */
	struct vmm_machine_info info;
	int ret;

	if (!state || !copy)
		return vmm_fail(ENOMEM, "machine state: no memory");
	memcpy(copy, data, len);
	ret = vmm_load_whole(copy, len, &info, state);
	if (ret)
		return ret;
	if (info.nr_vcpus != machine->nr_vcpus || info.accel != arrive->accel)
		return vmm_fail(EINVAL,
				"machine state: not that of the machine that was announced");
	ret = vmm_adopt(machine, &info);
	machine->ended_ns = vmm_now_ns();
	machine->issued_ns = machine->ended_ns - info.running_ns;
	machine->mismatches = info.mismatches;
	machine->held = machine->pause = info.paused;
	return ret ? ret : machine->accel->load(machine, state);
}

static int on_load(void *ctx, const void *state, size_t len_bytes, struct fl_error *err)
{
	return refuse(load(ctx, state, len_bytes), err);
}

static int on_run(void *ctx)
{
	struct vmm_arrive *arrive = ctx;
	struct vmm_machine *machine = arrive->machine;
	int ret = vmm_machine_start(machine);

	if (ret)
		vmm_machine_fail(machine, vmm_error_text());
	pthread_mutex_lock(&machine->lock);
	arrive->ran = true;
	pthread_mutex_unlock(&machine->lock);
	vmm_set_place(machine, VMM_HERE);
	return ret;
}

static void on_ended(void *ctx, enum fl_migrate_phase phase)
{
	struct vmm_arrive *arrive = ctx;
	struct vmm_machine *machine = arrive->machine;

	pthread_mutex_lock(&machine->lock);
	arrive->phase = phase;
	if (phase == FL_MIGRATE_DONE)
		machine->memory.partial = false;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	eventfd_write(machine->wake_fd, 1);
}

static int on_way(void *ctx, enum fl_migrate_way kind, const void *blob, size_t len_bytes,
		  struct fl_source **source, struct fl_error *err)
{
	struct vmm_arrive *arrive = ctx;

	return refuse(vmm_way_open(&arrive->way, &arrive->options.way, &arrive->machine->memory,
				   arrive->timeout_ms, kind, blob, len_bytes, source),
		      err);
}

static const struct fl_incoming_calls calls = {
	.size = sizeof(calls),
	.prepare = on_prepare,
	.load = on_load,
	.run = on_run,
	.ended = on_ended,
	.way = on_way,
};

static void log_line(void *ctx, enum fl_log_level level, const char *text)
{
	(void)ctx;
	if (level <= FL_LOG_WARNING)
		vmm_say("%s", text);
}

static int listen_here(struct vmm_arrive *arrive)
{
	struct fl_error err = {0};

	arrive->listen_fd = fl_link_listen(arrive->options.listen, &err);
	if (arrive->listen_fd < 0)
		return vmm_fail(-arrive->listen_fd, "%s", err.text);
	if (fl_link_address(arrive->listen_fd, arrive->address, sizeof(arrive->address)))
		arrive->address[0] = '\0';
	fprintf(arrive->options.to_stderr ? stderr : stdout, "listening on %s\n", arrive->address);
	fflush(stdout);
	return 0;
}

static int start(struct vmm_arrive *arrive)
{
	struct fl_incoming_options how;
	struct fl_error err = {0};
	int ret = vmm_tls_open(&arrive->options.tls, &arrive->tls);

	fl_incoming_options_init(&how);
	how.flags = arrive->options.flags;
	if (arrive->options.timeout_ms)
		how.timeout_ms = (uint32_t)arrive->options.timeout_ms;
	if (arrive->options.window_bytes)
		how.window_bytes = (uint32_t)arrive->options.window_bytes;
	how.tls = arrive->tls;
	how.log.write = log_line;
	arrive->timeout_ms = how.timeout_ms;
	if (!ret)
		ret = vmm_way_accept(&arrive->way, &arrive->options.way, &how);
	if (!ret)
		ret = listen_here(arrive);
	if (ret)
		return ret;
	ret = fl_incoming_new(&arrive->in, arrive->listen_fd, &calls, arrive, &how, &err);
	return ret ? vmm_fail(-ret, "%s", err.text[0] ? err.text : strerror(-ret)) : 0;
}

int vmm_arrive_start(struct vmm_machine *machine, const struct vmm_arrive_options *options)
{
	struct vmm_arrive *arrive = calloc(1, sizeof(*arrive));
	int ret;

	if (!arrive)
		return vmm_fail(ENOMEM, "receive: no memory");
	arrive->machine = machine;
	arrive->options = *options;
	arrive->listen_fd = -1;
	pthread_mutex_lock(&machine->leave_lock);
	machine->arrive = arrive;
	ret = start(arrive);
	pthread_mutex_unlock(&machine->leave_lock);
	return ret;
}

/* Under machine->lock. A recovery that the other side began is not told; once it is DONE, `in` may be gone. */
static enum fl_migrate_phase phase_now(const struct vmm_arrive *arrive)
{
	struct fl_incoming_stats stats = {.size = sizeof(stats)};

	if (arrive->phase != FL_MIGRATE_LOST)
		return arrive->phase;
	fl_incoming_stats(arrive->in, &stats);
	return stats.phase == FL_MIGRATE_LOST ? FL_MIGRATE_LOST : FL_MIGRATE_FOLLOWING;
}

static bool is_over(enum fl_migrate_phase phase)
{
	return phase == FL_MIGRATE_DONE || phase == FL_MIGRATE_FAILED ||
	       phase == FL_MIGRATE_CANCELED;
}

static int why(const struct vmm_arrive *arrive, int code, const char *what)
{
	struct fl_error err = {0};

	fl_incoming_error(arrive->in, &err);
	return vmm_fail(code, "%s%s%s", what, err.code ? ": " : "", err.code ? err.text : "");
}

int vmm_arrive_run(struct vmm_machine *machine)
{
	struct vmm_arrive *arrive = machine->arrive;
	bool ran, quit;

	pthread_mutex_lock(&machine->lock);
	while (!arrive->ran && !is_over(arrive->phase) && !machine->quit)
		pthread_cond_wait(&machine->changed, &machine->lock);
	ran = arrive->ran;
	quit = machine->quit;
	pthread_mutex_unlock(&machine->lock);
	if (ran)
		return 0;
	return quit ? vmm_fail(ENOLINK, "no machine came: this side was told to end")
		    : why(arrive, ENOLINK, "no machine came to run here");
}

int vmm_arrive_await(struct vmm_machine *machine, bool patient, const bool *called_off)
{
	struct vmm_arrive *arrive = machine->arrive;
	enum fl_migrate_phase phase;
	bool quit, off;

	if (!arrive)
		return 0;
	pthread_mutex_lock(&machine->lock);
	while (!is_over(arrive->phase) && (patient || phase_now(arrive) != FL_MIGRATE_LOST) &&
	       !machine->quit && !(called_off && *called_off))
		pthread_cond_wait(&machine->changed, &machine->lock);
	phase = arrive->phase;
	quit = machine->quit;
	off = called_off && *called_off;
	pthread_mutex_unlock(&machine->lock);
	if (phase == FL_MIGRATE_DONE)
		return 0;
	if (quit)
		return vmm_fail(ECANCELED,
				"the machine is ending while its memory is still coming");
	if (off)
		return vmm_fail(ECANCELED, "called off while the machine's memory is still coming");
	return why(arrive, EREMOTEIO, "the machine's memory is not all here");
}

/* In one step: the other side may come, and bring all of it, at any moment. */
static bool change_phase(struct vmm_arrive *arrive, enum fl_migrate_phase from,
			 enum fl_migrate_phase to)
{
	bool is;

	pthread_mutex_lock(&arrive->machine->lock);
	is = phase_now(arrive) == from;
	if (is)
		arrive->phase = to;
	pthread_mutex_unlock(&arrive->machine->lock);
	return is;
}

static int recover(struct vmm_arrive *arrive, const char *to)
{
	int ret;

	if (!change_phase(arrive, FL_MIGRATE_LOST, FL_MIGRATE_MEETING))
		return vmm_fail(EINVAL, "the connection is not lost");
	ret = to ? fl_incoming_recover(arrive->in, to) : -EDESTADDRREQ;
	if (!ret)
		return 0;
	(void)change_phase(arrive, FL_MIGRATE_MEETING, FL_MIGRATE_LOST);
	return to ? vmm_fail(-ret, "recover: %s", strerror(-ret))
		  : vmm_fail(EINVAL, "wants --to HOST:PORT: it listens on %s all the time",
			     arrive->address);
}

int vmm_arrive_recover(struct vmm_machine *machine, const char *to)
{
	int ret;

	pthread_mutex_lock(&machine->leave_lock);
	ret = recover(machine->arrive, to);
	pthread_mutex_unlock(&machine->leave_lock);
	return ret;
}

bool vmm_arrive_settled(struct vmm_machine *machine)
{
	const struct vmm_arrive *arrive = machine->arrive;
	bool settled = true;

	pthread_mutex_lock(&machine->lock);
	if (arrive)
		settled = is_over(arrive->phase) || phase_now(arrive) == FL_MIGRATE_LOST;
	pthread_mutex_unlock(&machine->lock);
	return settled;
}

bool vmm_arrive_lacks(struct vmm_machine *machine, uint64_t *pages)
{
	struct fl_incoming_stats stats = {.size = sizeof(stats)};

	pthread_mutex_lock(&machine->leave_lock);
	if (machine->arrive && machine->arrive->in)
		fl_incoming_stats(machine->arrive->in, &stats);
	pthread_mutex_unlock(&machine->leave_lock);
	*pages = stats.pager.left;
	/* Even before GO: it may be on its way. What is all here needs nobody, whether that was heard or not. */
	return *pages && (stats.phase == FL_MIGRATE_SWITCHING ||
			  stats.phase == FL_MIGRATE_FOLLOWING || stats.phase == FL_MIGRATE_LOST);
}

static json_t *json_of(const struct vmm_arrive *arrive)
{
	struct fl_incoming_stats s = {.size = sizeof(s)};
	struct fl_error err = {0};
	json_t *json;

	fl_incoming_stats(arrive->in, &s);
	fl_incoming_error(arrive->in, &err);
	json = json_pack(
		"{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:f, s:I,"
		" s:I, s:I, s:I, s:i, s:o}",
		"direction", "incoming", "phase", fl_migrate_phase_name(s.phase), "listening",
		arrive->address, "round", (int)s.round, "received", (json_int_t)s.received,
		"precopy", (json_int_t)s.precopy, "zero", (json_int_t)s.zero, "torn",
		(json_int_t)s.torn, "due", (json_int_t)s.due, "clean", (json_int_t)s.clean,
		"clean_ms", (double)s.clean_ns / 1e6, "released", (json_int_t)s.released,
		"go_to_due_ms", (double)s.go_to_due_ns / 1e6, "total_ms", (double)s.total_ns / 1e6,
		"pages", (json_int_t)s.pager.pages, "left", (json_int_t)s.pager.left, "demand",
		(json_int_t)s.pager.demand, "fill", (json_int_t)s.pager.fill, "recoveries",
		(int)s.recoveries, "faults", vmm_report_faults(&s.pager));
	json_object_set_new(json, "way", json_string(vmm_way_name(s.way)));
	json_object_set_new(json, "by_way", json_integer((json_int_t)s.by_way));
	if (err.code)
		json_object_set_new(json, "error", json_string(err.text));
	return json;
}

json_t *vmm_arrive_json(struct vmm_machine *machine)
{
	json_t *json = NULL;

	pthread_mutex_lock(&machine->leave_lock);
	if (machine->arrive && machine->arrive->in)
		json = json_of(machine->arrive);
	else if (machine->arrive)
		json = json_deep_copy(machine->arrive->last);
	pthread_mutex_unlock(&machine->leave_lock);
	return json;
}

void vmm_arrive_close(struct vmm_machine *machine)
{
	struct vmm_arrive *arrive = machine->arrive;

	if (!arrive || !arrive->in)
		return;
	pthread_mutex_lock(&machine->leave_lock);
	arrive->last = json_of(arrive);
	fl_incoming_free(arrive->in);
	arrive->in = NULL;
	vmm_way_close(&arrive->way);
	vmm_close_fd(&arrive->listen_fd);
	pthread_mutex_unlock(&machine->leave_lock);
}

void vmm_arrive_end(struct vmm_machine *machine)
{
	struct vmm_arrive *arrive = machine->arrive;

	if (!arrive)
		return;
	/* The thread that awaits signals may be asking. */
	pthread_mutex_lock(&machine->leave_lock);
	machine->arrive = NULL;
	pthread_mutex_unlock(&machine->leave_lock);
	fl_incoming_free(arrive->in);
	vmm_way_close(&arrive->way);
	json_decref(arrive->last);
	fl_tls_free(arrive->tls);
	fl_layout_free(arrive->layout);
	vmm_close_fd(&arrive->listen_fd);
	free(arrive);
}
