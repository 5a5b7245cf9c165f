/* SPDX-License-Identifier: MIT */
/* verify: check pages in the order asked for, one's own share or all of them. */
#include "env.h"

static int enough(const struct payload_mailbox *mailbox)
{
	return mailbox->cmd.limit && mailbox->result.pages >= mailbox->cmd.limit;
}

enum payload_end payload_verify_run(struct payload_env *env)
{
	struct payload_mailbox *mailbox = env->mailbox;
	const struct payload_command *cmd = &mailbox->cmd;
	struct payload_slice share = payload_share(mailbox, mailbox->vcpu);
	uint64_t steps;

	if (cmd->shared)
		share = (struct payload_slice){0, payload_total(mailbox)};
	steps = payload_steps(cmd, share.pages);
	while (mailbox->next < steps && !enough(mailbox) && !payload_stopped(env)) {
		uint64_t local = payload_visit(cmd, share.pages, mailbox->next);

		if (payload_leave(env))
			return PAYLOAD_LEFT;
		if (local < share.pages)
			payload_check(env, share.first + local);
		mailbox->next++;
		__atomic_store_n(&mailbox->progress, mailbox->result.pages, __ATOMIC_RELAXED);
	}
	return PAYLOAD_DONE;
}
