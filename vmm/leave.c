/* SPDX-License-Identifier: MIT */
/*
 * The outgoing side. The library's thread calls stop(), save() and the others; control threads start,
 * cancel and ask. leave_lock keeps machine->leave alive while they do; the library's thread
 * never takes it, so that the last migration can be freed (which joins that thread) while
 * holding it. Of the rest of this struct only `settled` changes while the thread is at work.
 *
 * stop() ends with the machine marked as leaving, under `operation`: from then on nothing here may
 * write guest memory but the desk, and vCPUs are parked. go_on() takes the mark away.
 */
#include "leave.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "guest.h"
#include "report.h"
#include "save.h"
#include "uffd.h"
#include "util.h"

struct vmm_leave {
	struct vmm_machine *machine;
	struct fl_layout *layout;
	struct fl_tls *tls;
	struct fl_outgoing *out;
	char *config;
	char *to;
	enum fl_migrate_mode mode;
	char listening[128]; /* address of listen_fd */
	int listen_fd;       /* for a recovery, or -1 */
	bool settled;        /* atomic */
	struct vmm_way way;  /* the library's thread closes it in ended() */
};

static void set_settled(struct vmm_leave *leave, bool settled)
{
	__atomic_store_n(&leave->settled, settled, __ATOMIC_RELEASE);
	eventfd_write(leave->machine->wake_fd, 1);
}

/* The library hears a number; the sentence goes to whoever reads what we say. */
static int told(int ret)
{
	if (ret)
		vmm_say("migration: %s", vmm_error_text());
	return ret;
}

static int on_track(void *ctx, bool on)
{
	struct vmm_leave *leave = ctx;

	return told(vmm_dirty_track(leave->machine, on));
}

static int on_collect(void *ctx, struct fl_pageset *dirty)
{
	struct vmm_leave *leave = ctx;

	return told(vmm_dirty_collect(leave->machine, dirty));
}

static int on_holes(void *ctx, struct fl_pageset *zeros)
{
	struct vmm_leave *leave = ctx;

	return vmm_guest_holes(&leave->machine->memory, zeros);
}

static int on_stop(void *ctx)
{
	struct vmm_leave *leave = ctx;
	struct vmm_machine *machine = leave->machine;
	int ret = vmm_operation_begin(machine);

	if (ret)
		return ret;
	ret = vmm_machine_pause(machine);
	if (!ret && vmm_machine_failed(machine))
		ret = vmm_fail(EIO, "the machine has failed: %s", machine->failure);
	if (!ret)
		vmm_set_place(machine, VMM_LEAVING);
	else if (!machine->held)
		vmm_machine_resume(machine);
	vmm_operation_end(machine);
	return told(ret);
}

static int on_save(void *ctx, void **state, size_t *len_bytes)
{
	struct vmm_leave *leave = ctx;
	struct vmm_state_out out;
	int ret = vmm_save_whole(leave->machine, &out);

	if (ret) {
		vmm_state_free(&out);
		return told(ret);
	}
	*state = out.data;
	*len_bytes = out.len;
	return 0;
}

static void on_go_on(void *ctx)
{
	struct vmm_leave *leave = ctx;
	struct vmm_machine *machine = leave->machine;

	pthread_mutex_lock(&machine->operation);
	vmm_set_place(machine, VMM_HERE);
	if (!machine->held)
		vmm_machine_resume(machine);
	pthread_mutex_unlock(&machine->operation);
}

/* Settled first: whoever sees that the machine is gone may ask how it went. */
static void on_ended(void *ctx, enum fl_migrate_phase phase)
{
	struct vmm_leave *leave = ctx;
	struct vmm_machine *machine = leave->machine;

	if (phase != FL_MIGRATE_LOST)
		vmm_way_close(&leave->way);
	set_settled(leave, true);
	if (phase != FL_MIGRATE_DONE)
		return;
	pthread_mutex_lock(&machine->operation);
	vmm_set_place(machine, VMM_GONE);
	pthread_mutex_unlock(&machine->operation);
}

static const struct fl_outgoing_calls calls = {
	.size = sizeof(calls),
	.track = on_track,
	.collect = on_collect,
	.stop = on_stop,
	.save = on_save,
	.go_on = on_go_on,
	.ended = on_ended,
	.holes = on_holes,
};

static void log_line(void *ctx, enum fl_log_level level, const char *text)
{
	(void)ctx;
	if (level <= FL_LOG_WARNING)
		vmm_say("%s", text);
}

static void leave_free(struct vmm_leave *leave)
{
	if (!leave)
		return;
	fl_outgoing_free(leave->out);
	vmm_way_close(&leave->way);
	fl_tls_free(leave->tls);
	fl_layout_free(leave->layout);
	vmm_close_fd(&leave->listen_fd);
	free(leave->config);
	free(leave->to);
	free(leave);
}

static void fill(struct fl_outgoing_options *how, const struct vmm_leave *leave,
		 const struct vmm_leave_options *options)
{
	fl_outgoing_options_init(how);
	how->mode = options->mode;
	how->flags = options->flags;
	how->bandwidth = options->bandwidth;
	if (options->max_downtime_ms)
		how->max_downtime_ms = (uint32_t)options->max_downtime_ms;
	if (options->max_rounds)
		how->max_rounds = (uint32_t)options->max_rounds;
	if (options->timeout_ms)
		how->timeout_ms = (uint32_t)options->timeout_ms;
	how->config = leave->config;
	how->config_len = strlen(leave->config);
	how->tls = leave->tls;
	how->log.write = log_line;
}

static int build(struct vmm_leave *leave, const struct vmm_leave_options *options)
{
	struct fl_outgoing_options how;
	struct fl_error err = {0};
	int ret = vmm_tls_open(&options->tls, &leave->tls);

	if (!ret)
		ret = vmm_guest_layout(&leave->machine->memory, &leave->layout);
	if (ret)
		return ret;
	leave->mode = options->mode;
	leave->to = strdup(options->to);
	leave->config = vmm_describe(leave->machine, 0);
	if (!leave->to || !leave->config)
		return vmm_fail(ENOMEM, "migration: no memory");
	fill(&how, leave, options);
	ret = vmm_way_export(&leave->way, &options->way, &leave->machine->memory, &how);
	if (ret)
		return ret;
	ret = fl_outgoing_new(&leave->out, leave->layout, &calls, leave, &how, &err);
	return ret ? vmm_fail(-ret, "migration: %s", err.text[0] ? err.text : strerror(-ret)) : 0;
}

static struct vmm_leave *leave_new(struct vmm_machine *machine)
{
	struct vmm_leave *leave = calloc(1, sizeof(*leave));

	if (leave) {
		leave->machine = machine;
		leave->listen_fd = -1;
	}
	return leave;
}

/* With leave_lock held. */
static int start(struct vmm_machine *machine, const struct vmm_leave_options *options)
{
	int ret;

	leave_free(machine->leave);
	machine->leave = leave_new(machine);
	if (!machine->leave)
		return vmm_fail(ENOMEM, "migration: no memory");
	ret = build(machine->leave, options);
	if (!ret) {
		ret = fl_outgoing_start(machine->leave->out, options->to);
		if (ret)
			vmm_fail(-ret, "migration: %s", strerror(-ret));
	}
	if (ret) {
		leave_free(machine->leave);
		machine->leave = NULL;
	}
	return ret;
}

/* All memory must be here, and nobody else may watch it. */
static int make_ready(struct vmm_machine *machine)
{
	int ret = vmm_operation_begin(machine);

	if (ret)
		return ret;
	ret = vmm_make_whole(machine, true);
	if (!ret)
		vmm_uffd_release(&machine->memory);
	vmm_operation_end(machine);
	return ret;
}

/* Likewise. */
static int start_alone(struct vmm_machine *machine, const struct vmm_leave_options *options)
{
	if (vmm_place(machine) != VMM_HERE ||
	    (machine->leave && !__atomic_load_n(&machine->leave->settled, __ATOMIC_ACQUIRE)))
		return vmm_fail(EBUSY, "a migration is under way already");
	return start(machine, options);
}

/* With leave_lock held. */
static void set_called_off(struct vmm_machine *machine, bool called_off)
{
	pthread_mutex_lock(&machine->lock);
	__atomic_store_n(&machine->called_off, called_off, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
}

int vmm_leave_start(struct vmm_machine *machine, const struct vmm_leave_options *options)
{
	int ret;

	pthread_mutex_lock(&machine->leave_lock);
	machine->readying = true;
	set_called_off(machine, false);
	pthread_mutex_unlock(&machine->leave_lock);
	ret = make_ready(machine);
	pthread_mutex_lock(&machine->leave_lock);
	machine->readying = false;
	if (machine->called_off)
		ret = vmm_fail(ECANCELED, "the migration was canceled before it began");
	else if (!ret)
		ret = start_alone(machine, options);
	pthread_mutex_unlock(&machine->leave_lock);
	return ret;
}

static int none(void)
{
	return vmm_fail(ESRCH, "no migration is under way");
}

int vmm_leave_cancel(struct vmm_machine *machine)
{
	int ret;

	pthread_mutex_lock(&machine->leave_lock);
	ret = machine->leave ? fl_outgoing_cancel(machine->leave->out) : -ESRCH;
	if (ret == -ESRCH && machine->readying) {
		set_called_off(machine, true);
		ret = 0;
	}
	pthread_mutex_unlock(&machine->leave_lock);
	if (ret == -ESRCH)
		return none();
	if (ret == -EINPROGRESS)
		return vmm_fail(EINPROGRESS, "too late: the machine runs on the other host");
	return ret ? vmm_fail(-ret, "cancel: %s", strerror(-ret)) : 0;
}

static int listen_for_it(struct vmm_leave *leave, const char *address)
{
	struct fl_error err = {0};
	int fd = fl_link_listen(address, &err);

	if (fd < 0)
		return vmm_fail(-fd, "%s", err.text);
	leave->listen_fd = fd;
	if (fl_link_address(fd, leave->listening, sizeof(leave->listening)))
		leave->listening[0] = '\0';
	return 0;
}

static int recover(struct vmm_leave *leave, const char *to, const char *listen)
{
	struct fl_outgoing_stats stats = {.size = sizeof(stats)};
	int ret = 0;

	fl_outgoing_stats(leave->out, &stats);
	if (stats.phase != FL_MIGRATE_LOST)
		return vmm_fail(EINVAL, "the migration is not lost, but %s",
				fl_migrate_phase_name(stats.phase));
	if (!__atomic_load_n(&leave->settled, __ATOMIC_ACQUIRE))
		return vmm_fail(EALREADY, "a recovery is being tried already");
	/* The last try's, if any: it is over. */
	vmm_close_fd(&leave->listen_fd);
	leave->listening[0] = '\0';
	if (listen)
		ret = listen_for_it(leave, listen);
	if (ret)
		return ret;
	set_settled(leave, false);
	ret = fl_outgoing_recover(leave->out,
				  listen ? NULL
				  : to   ? to
					 : leave->to,
				  leave->listen_fd);
	if (!ret)
		return 0;
	set_settled(leave, true);
	return vmm_fail(-ret, "recover: %s", strerror(-ret));
}

int vmm_leave_recover(struct vmm_machine *machine, const char *to, const char *listen)
{
	int ret;

	pthread_mutex_lock(&machine->leave_lock);
	ret = machine->leave ? recover(machine->leave, to, listen) : none();
	pthread_mutex_unlock(&machine->leave_lock);
	return ret;
}

bool vmm_leave_settled(struct vmm_machine *machine)
{
	bool settled;

	pthread_mutex_lock(&machine->leave_lock);
	settled = !machine->leave || __atomic_load_n(&machine->leave->settled, __ATOMIC_ACQUIRE);
	pthread_mutex_unlock(&machine->leave_lock);
	return settled;
}

bool vmm_leave_owes(struct vmm_machine *machine, uint64_t *pages, bool *lost)
{
	struct fl_outgoing_stats stats = {.size = sizeof(stats)};

	pthread_mutex_lock(&machine->leave_lock);
	if (machine->leave)
		fl_outgoing_stats(machine->leave->out, &stats);
	pthread_mutex_unlock(&machine->leave_lock);
	*pages = stats.due_left;
	*lost = stats.phase == FL_MIGRATE_LOST;
	/* SWITCHING: it may be gone at any moment. */
	return *lost || stats.phase == FL_MIGRATE_SWITCHING || stats.phase == FL_MIGRATE_FOLLOWING;
}

/* In mode postcopy there are no rounds. */
static json_t *of_rounds(const struct vmm_leave *leave, uint64_t figure)
{
	return leave->mode == FL_MIGRATE_POSTCOPY ? json_null() : json_integer((json_int_t)figure);
}

static json_t *json_of(const struct vmm_leave *leave)
{
	struct fl_outgoing_stats s = {.size = sizeof(s)};
	struct fl_error err = {0};
	json_t *json;

	fl_outgoing_stats(leave->out, &s);
	fl_outgoing_error(leave->out, &err);
	json = json_pack(
		"{s:s, s:s, s:s, s:s, s:o, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I,"
		" s:I, s:I, s:f, s:f, s:i}",
		"direction", "outgoing", "phase", fl_migrate_phase_name(s.phase), "to", leave->to,
		"mode", vmm_mode_names[leave->mode], "round", of_rounds(leave, s.round), "pages",
		(json_int_t)s.pages, "round_left", of_rounds(leave, s.round_left), "dirty_rate",
		of_rounds(leave, s.dirty_rate), "rate", (json_int_t)s.rate, "precopy",
		(json_int_t)s.precopy, "zero", (json_int_t)s.zero, "due", (json_int_t)s.due,
		"due_left", (json_int_t)s.due_left, "demand", (json_int_t)s.demand, "background",
		(json_int_t)s.background, "clean", (json_int_t)s.clean, "bytes",
		(json_int_t)s.bytes, "saved_bytes", (json_int_t)s.wire_bytes_saved, "downtime_ms",
		(double)s.downtime_ns / 1e6, "total_ms", (double)s.total_ns / 1e6, "recoveries",
		(int)s.recoveries);
	if (s.waits.count)
		json_object_set_new(json, "faults",
				    json_pack("{s:o}", "miss", vmm_report_fault(&s.waits)));
	if (err.code)
		json_object_set_new(json, "error", json_string(err.text));
	if (leave->listening[0])
		json_object_set_new(json, "listening", json_string(leave->listening));
	json_object_set_new(json, "dirty_by", json_string(leave->machine->dirty->name));
	return json;
}

json_t *vmm_leave_json(struct vmm_machine *machine)
{
	json_t *json;

	pthread_mutex_lock(&machine->leave_lock);
	json = machine->leave ? json_of(machine->leave) : NULL;
	pthread_mutex_unlock(&machine->leave_lock);
	return json;
}

void vmm_leave_end(struct vmm_machine *machine)
{
	pthread_mutex_lock(&machine->leave_lock);
	leave_free(machine->leave);
	machine->leave = NULL;
	pthread_mutex_unlock(&machine->leave_lock);
}
