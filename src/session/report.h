/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_REPORT_H
#define FL_SESSION_REPORT_H

#include <jansson.h>

#include "session/server_internal.h"

/* What the daemon says about itself, as JSON; see faultline-control(5). NULL without memory. */
json_t *fl_report_server(const struct fl_server *server);
json_t *fl_report_sessions(const struct fl_server *server);

/* "hit", "miss", ...: stable names, also of the metrics. */
const char *fl_report_fault_name(enum fl_fault_kind kind);

#endif
