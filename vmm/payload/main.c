/* SPDX-License-Identifier: MIT */
/* The payload's loop: ask for a command, run it, report. */
#include "env.h"

static enum payload_end begin(struct payload_env *env)
{
	struct payload_mailbox *mailbox = env->mailbox;

	mailbox->result = (struct payload_result){
		.seq = mailbox->cmd.seq,
		.op = mailbox->cmd.op,
	};
	mailbox->next = 0;
	__atomic_store_n(&mailbox->progress, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&mailbox->begun, mailbox->cmd.seq, __ATOMIC_RELEASE);
	return mailbox->cmd.op == PAYLOAD_OP_CHURN ? payload_churn_begin(env) : PAYLOAD_LEFT;
}

/* Runs the mailbox's command from where it stands. */
static enum payload_end resume(struct payload_env *env)
{
	switch (env->mailbox->cmd.op) {
	case PAYLOAD_OP_NONE:
		return PAYLOAD_DONE;
	case PAYLOAD_OP_STAMP:
		return payload_stamp_run(env);
	case PAYLOAD_OP_VERIFY:
		return payload_verify_run(env);
	case PAYLOAD_OP_CHURN:
		return payload_churn_run(env);
	default:
		env->mailbox->result.status = PAYLOAD_BAD_OP;
		return PAYLOAD_DONE;
	}
}

/* Waits for a command. Return: 0, or -1 when the machine ends. */
static int next(struct payload_env *env)
{
	uint32_t answer;

	do {
		payload_out(env, PAYLOAD_PORT_REQUEST, env->mailbox->vcpu);
		answer = payload_in(env, PAYLOAD_PORT_NEXT);
		if (answer == PAYLOAD_ANSWER_HALT)
			return -1;
	} while (answer != PAYLOAD_ANSWER_RUN);
	return 0;
}

static void report(struct payload_env *env)
{
	struct payload_result *result = &env->mailbox->result;

	if (result->mismatches)
		result->status = PAYLOAD_MISMATCH;
	env->mailbox->state = PAYLOAD_IDLE;
	payload_out(env, PAYLOAD_PORT_REPORT, result->status);
}

void payload_main(struct payload_env *env)
{
	struct payload_mailbox *mailbox = env->mailbox;

	for (;;) {
		if (mailbox->state != PAYLOAD_RUNNING) {
			if (next(env))
				return;
			if (begin(env) == PAYLOAD_DONE) {
				report(env);
				continue;
			}
			mailbox->state = PAYLOAD_RUNNING;
		}
		if (resume(env) == PAYLOAD_LEFT)
			return;
		report(env);
	}
}
