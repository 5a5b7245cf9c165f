/* SPDX-License-Identifier: MIT */
/* stamp: each vCPU writes its share of the pages, every one self-describing. */
#include "env.h"

static void declare(struct payload_mailbox *mailbox)
{
	const struct payload_command *cmd = &mailbox->cmd;
	struct payload_stamp *stamp = &mailbox->stamp;

	stamp->seq = cmd->seq;
	stamp->seed = cmd->seed;
	stamp->generation = cmd->generation ? cmd->generation : stamp->generation + 1;
	stamp->form = cmd->form ? cmd->form : PAYLOAD_FORM_FULL;
	stamp->fill = cmd->fill;
	if (stamp->max_fill < cmd->fill)
		stamp->max_fill = cmd->fill;
}

enum payload_end payload_stamp_run(struct payload_env *env)
{
	struct payload_mailbox *mailbox = env->mailbox;
	struct payload_slice share = payload_share(mailbox, mailbox->vcpu);

	if (mailbox->stamp.seq != mailbox->cmd.seq)
		declare(mailbox);
	while (mailbox->next < share.pages) {
		uint64_t gpa = payload_gpa(mailbox, share.first + mailbox->next);

		if (payload_leave(env))
			return PAYLOAD_LEFT;
		if (payload_filled(gpa, mailbox->stamp.fill)) {
			payload_write_stamp(payload_at(env, gpa), gpa, &mailbox->stamp);
			mailbox->result.pages++;
			mailbox->result.stamped++;
		}
		mailbox->next++;
		__atomic_store_n(&mailbox->progress, mailbox->next, __ATOMIC_RELAXED);
	}
	return PAYLOAD_DONE;
}
