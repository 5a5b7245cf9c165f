/* SPDX-License-Identifier: MIT */
#include "control_move.h"

#include <string.h>

#include "arrive.h"
#include "control.h"
#include "leave.h"
#include "util.h"

static json_t *refuse(const char *why)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", why);
}

static const char *text(const json_t *request, const char *key)
{
	return json_string_value(json_object_get(request, key));
}

static int choice(const json_t *request, const char *key, const char *const *names, int *value)
{
	const char *got = text(request, key);

	for (int i = 0; got && names[i]; i++) {
		if (!strcmp(got, names[i])) {
			*value = i;
			return 0;
		}
	}
	return json_object_get(request, key) ? -1 : 0;
}

/* Up to @max; 0 when it is not there. */
static int number(const json_t *request, const char *key, uint64_t max, uint64_t *value)
{
	const json_t *found = json_object_get(request, key);
	json_int_t got = json_integer_value(found);

	*value = (uint64_t)got;
	return found && (!json_is_integer(found) || got < 1 || (uint64_t)got > max) ? -1 : 0;
}

static const char *read_options(const json_t *request, struct vmm_leave_options *options)
{
	int mode = FL_MIGRATE_HYBRID, compress = 0;

	options->to = text(request, "to");
	options->tls = (struct vmm_tls_files){text(request, "tls_cert"), text(request, "tls_key"),
					      text(request, "tls_authority")};
	options->way = (struct vmm_way_options){text(request, "worker"), text(request, "fabric")};
	if (!options->to)
		return "migrate: \"to\" is missing";
	if (choice(request, "mode", vmm_mode_names, &mode))
		return "migrate: \"mode\" wants hybrid, precopy or postcopy";
	if (choice(request, "compress", vmm_compress_names, &compress))
		return "migrate: \"compress\" wants none, lz4, zstd or any";
	if (number(request, "max_downtime_ms", VMM_MS_MAX, &options->max_downtime_ms) ||
	    number(request, "max_rounds", UINT32_MAX, &options->max_rounds) ||
	    number(request, "bandwidth", VMM_BANDWIDTH_MAX, &options->bandwidth) ||
	    number(request, "timeout_ms", VMM_MS_MAX, &options->timeout_ms))
		return "migrate: a number is none, or 0, or too large";
	if (options->bandwidth && (options->way.worker || options->way.fabric) &&
	    mode != FL_MIGRATE_PRECOPY)
		return "migrate: \"bandwidth\" does not limit what \"worker\" or \"fabric\" reads "
		       "after the switch: wants \"mode\" precopy, or one of the two";
	options->mode = (enum fl_migrate_mode)mode;
	options->flags = vmm_compress_flags(compress);
	return NULL;
}

static json_t *do_migrate(struct vmm_machine *machine, const json_t *request)
{
	struct vmm_leave_options options = {0};
	const char *wrong = read_options(request, &options);

	if (wrong)
		return refuse(wrong);
	return vmm_leave_start(machine, &options) ? refuse(vmm_error_text()) : NULL;
}

static bool is_arriving(struct vmm_machine *machine)
{
	json_t *arrive = vmm_arrive_json(machine), *leave = vmm_leave_json(machine);
	bool arriving = arrive && !leave;

	json_decref(arrive);
	json_decref(leave);
	return arriving;
}

static json_t *do_recover(struct vmm_machine *machine, const json_t *request)
{
	const char *to = text(request, "to"), *listen = text(request, "listen");
	int ret;

	if (!is_arriving(machine))
		ret = vmm_leave_recover(machine, to, listen);
	else if (listen)
		return refuse("migrate-recover: this side listens all the time");
	else
		ret = vmm_arrive_recover(machine, to);
	return ret ? refuse(vmm_error_text()) : NULL;
}

/* The last one, of either direction. */
static json_t *last(struct vmm_machine *machine)
{
	json_t *json = vmm_leave_json(machine);

	return json ? json : vmm_arrive_json(machine);
}

static json_t *do_status(struct vmm_machine *machine)
{
	json_t *json = last(machine);

	if (!json)
		return refuse("there was no migration");
	json_object_set_new(json, "ok", json_true());
	return json;
}

static json_t *do_cancel(struct vmm_machine *machine)
{
	return vmm_leave_cancel(machine) ? refuse(vmm_error_text()) : json_pack("{s:b}", "ok", 1);
}

json_t *vmm_control_move(struct vmm_machine *machine, const json_t *request)
{
	const char *what = vmm_control_name(request);

	if (!strcmp(what, "migrate"))
		return do_migrate(machine, request);
	if (!strcmp(what, "migrate-status"))
		return do_status(machine);
	if (!strcmp(what, "migrate-cancel"))
		return do_cancel(machine);
	if (!strcmp(what, "migrate-recover"))
		return do_recover(machine, request);
	return refuse("no such request");
}

bool vmm_control_moves(const json_t *request)
{
	return !strncmp(vmm_control_name(request), "migrate", strlen("migrate"));
}

bool vmm_control_listens(const json_t *request)
{
	return !strcmp(vmm_control_name(request), "migrate-recover") && text(request, "listen");
}

json_t *vmm_control_moved(struct vmm_machine *machine)
{
	const char *phase, *error;
	json_t *json;

	if (!vmm_leave_settled(machine) || !vmm_arrive_settled(machine))
		return NULL;
	json = last(machine);
	if (!json)
		return refuse("the migration is over, and another one could not begin");
	phase = text(json, "phase");
	error = text(json, "error");
	json_object_set_new(json, "ok", json_boolean(phase && !strcmp(phase, "done")));
	if (!error && phase && strcmp(phase, "done") != 0)
		json_object_set_new(json, "error", json_sprintf("the migration was %s", phase));
	return json;
}

void vmm_control_add_moves(struct vmm_machine *machine, json_t *status)
{
	json_t *arrive = vmm_arrive_json(machine), *leave = vmm_leave_json(machine);

	if (arrive)
		json_object_set_new(status, "incoming", arrive);
	if (leave)
		json_object_set_new(status, "outgoing", leave);
}
