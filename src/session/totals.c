/* SPDX-License-Identifier: MIT */
#include "session/server_internal.h"

static void add_stats(struct fl_pager_stats *to, const struct fl_pager_stats *from)
{
	to->pages += from->pages;
	to->left += from->left;
	to->demand += from->demand;
	to->around += from->around;
	to->fill += from->fill;
	to->replay += from->replay;
	to->zero += from->zero;
	to->removed += from->removed;
	to->poisoned += from->poisoned;
	to->duplicates += from->duplicates;
	to->retries += from->retries;
	to->errors += from->errors;
	for (int kind = 0; kind < FL_FAULT_KINDS; kind++)
		to->faults[kind].count += from->faults[kind].count;
}

void fl_totals_add(struct fl_totals *totals, const struct fl_session_info *info)
{
	add_stats(&totals->stats, &info->stats);
	if (info->state == FL_SESSION_ENDED)
		totals->ended++;
	else if (info->state == FL_SESSION_FAILED && info->greeted)
		totals->failed++;
	else if (info->state == FL_SESSION_FAILED)
		totals->refused++;
}

void fl_totals_all(const struct fl_server *server, struct fl_totals *totals)
{
	const struct fl_server_session *each;

	*totals = server->totals;
	for (each = server->sessions; each; each = each->next) {
		struct fl_session_info info;

		fl_session_info(each->session, &info);
		add_stats(&totals->stats, &info.stats);
	}
}
