/* SPDX-License-Identifier: MIT */
/*
 * The payload's view of its machine. The same sources are compiled twice: bare
 * (the guest: identity-mapped memory, real ports) and with PAYLOAD_NATIVE (in
 * the VMM, one thread a vCPU: memory at a base address, ports as callbacks).
 */
#ifndef FAULTLINE_VMM_PAYLOAD_ENV_H
#define FAULTLINE_VMM_PAYLOAD_ENV_H

#include "abi.h"

/* The guest is compiled with -ffreestanding, the VMM is not. */
#define PAYLOAD_NATIVE __STDC_HOSTED__

#if PAYLOAD_NATIVE
struct payload_io {
	void (*out)(void *ctx, uint16_t port, uint32_t value);
	uint32_t (*in)(void *ctx, uint16_t port);
	int (*pause_point)(void *ctx); /* not 0: leave now, the mailbox says where */
};
#endif

struct payload_env {
	struct payload_mailbox *mailbox;
#if PAYLOAD_NATIVE
	unsigned char *base;
	const struct payload_io *io;
	void *ctx;
#endif
};

#if PAYLOAD_NATIVE
static inline void *payload_at(const struct payload_env *env, uint64_t gpa)
{
	return env->base + gpa;
}

static inline void payload_out(const struct payload_env *env, uint16_t port, uint32_t value)
{
	env->io->out(env->ctx, port, value);
}

static inline uint32_t payload_in(const struct payload_env *env, uint16_t port)
{
	return env->io->in(env->ctx, port);
}

static inline int payload_leave(const struct payload_env *env)
{
	return env->io->pause_point(env->ctx);
}
#else
static inline void *payload_at(const struct payload_env *env, uint64_t gpa)
{
	(void)env;
	return (void *)(uintptr_t)gpa;
}

static inline void payload_out(const struct payload_env *env, uint16_t port, uint32_t value)
{
	(void)env;
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint32_t payload_in(const struct payload_env *env, uint16_t port)
{
	uint32_t value;

	(void)env;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline int payload_leave(const struct payload_env *env)
{
	(void)env;
	return 0;
}
#endif

static inline struct payload_mailbox *payload_mailbox(const struct payload_env *env, uint32_t vcpu)
{
	return payload_at(env, PAYLOAD_MAILBOX_GPA + (uint64_t)vcpu * PAYLOAD_PAGE_SIZE);
}

static inline int payload_stopped(const struct payload_env *env)
{
	return __atomic_load_n(&env->mailbox->stop, __ATOMIC_RELAXED) == env->mailbox->cmd.seq;
}

/* How a command's function ended. */
enum payload_end { PAYLOAD_DONE, PAYLOAD_LEFT };

struct payload_slice {
	uint64_t first;
	uint64_t pages;
};

/* main.c */
void payload_main(struct payload_env *env);

/* slice.c: pages by index, shares by vCPU, orders of visit */
uint64_t payload_total(const struct payload_mailbox *mailbox);
uint64_t payload_gpa(const struct payload_mailbox *mailbox, uint64_t index);
struct payload_slice payload_share(const struct payload_mailbox *mailbox, uint32_t vcpu);
uint32_t payload_owner(const struct payload_mailbox *mailbox, uint64_t index);
uint64_t payload_steps(const struct payload_command *cmd, uint64_t pages);
uint64_t payload_visit(const struct payload_command *cmd, uint64_t pages, uint64_t step);

/* page.c: what a page holds */
int payload_filled(uint64_t gpa, uint32_t fill);
void payload_write_stamp(uint64_t *page, uint64_t gpa, const struct payload_stamp *stamp);
void payload_write_churn(uint64_t *page, uint64_t gpa, uint64_t seq, uint64_t counter);
uint64_t payload_churn_counter(const struct payload_churn *churn, uint64_t local);
void payload_check(struct payload_env *env, uint64_t index);

/* stamp.c, verify.c, churn.c */
enum payload_end payload_stamp_run(struct payload_env *env);
enum payload_end payload_verify_run(struct payload_env *env);
enum payload_end payload_churn_begin(struct payload_env *env);
enum payload_end payload_churn_run(struct payload_env *env);

/* console.c */
void payload_print(const struct payload_env *env, const char *text);
void payload_print_hex(const struct payload_env *env, uint64_t value);

#endif
