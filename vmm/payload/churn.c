/* SPDX-License-Identifier: MIT */
/*
 * churn: keep writing counters with checksums to the last pages of one's share,
 * in turn, checking what each page held before. The mailbox's position says
 * what every page must hold, so a page that went back in time is found.
 *
 * The area is the same for the life of the machine, and a stop waits for the
 * first round: so after a churn every page of the area is the work of that
 * churn, and one earlier position is all that must be remembered.
 */
#include "env.h"

static enum payload_end refuse(struct payload_mailbox *mailbox)
{
	mailbox->result.status = PAYLOAD_BAD_AREA;
	return PAYLOAD_DONE;
}

/* Return: PAYLOAD_LEFT to go on with payload_churn_run(), PAYLOAD_DONE if refused. */
enum payload_end payload_churn_begin(struct payload_env *env)
{
	struct payload_mailbox *mailbox = env->mailbox;
	struct payload_slice share = payload_share(mailbox, mailbox->vcpu);
	uint64_t pages = mailbox->cmd.pages;

	if (!pages)
		pages = mailbox->churn.pages ? mailbox->churn.pages : (share.pages + 7) / 8;
	if (pages > share.pages || (mailbox->churn.pages && pages != mailbox->churn.pages))
		return refuse(mailbox);
	mailbox->churn_before = mailbox->churn;
	mailbox->churn = (struct payload_churn){.seq = mailbox->cmd.seq, .pages = pages};
	return PAYLOAD_LEFT;
}

static void turn(struct payload_env *env, uint64_t index)
{
	struct payload_mailbox *mailbox = env->mailbox;
	struct payload_churn *churn = &mailbox->churn;
	uint64_t gpa = payload_gpa(mailbox, index);

	payload_check(env, index);
	payload_write_churn(payload_at(env, gpa), gpa, churn->seq, churn->round + 1);
	if (++churn->next == churn->pages) {
		churn->round++;
		churn->next = 0;
	}
	mailbox->result.rounds = churn->round;
}

static int over(const struct payload_env *env)
{
	const struct payload_mailbox *mailbox = env->mailbox;

	if (mailbox->cmd.rounds && mailbox->churn.round >= mailbox->cmd.rounds)
		return 1;
	return mailbox->churn.round && payload_stopped(env);
}

enum payload_end payload_churn_run(struct payload_env *env)
{
	struct payload_mailbox *mailbox = env->mailbox;
	struct payload_slice share = payload_share(mailbox, mailbox->vcpu);
	uint64_t first = share.first + share.pages - mailbox->churn.pages;

	while (!over(env)) {
		if (payload_leave(env))
			return PAYLOAD_LEFT;
		turn(env, first + mailbox->churn.next);
		__atomic_store_n(&mailbox->progress, mailbox->result.pages, __ATOMIC_RELAXED);
	}
	return PAYLOAD_DONE;
}
