/* SPDX-License-Identifier: MIT */
/* The guest build only: from entry.S into the common payload. */
#include "env.h"

void payload_start(uint64_t vcpu);
void *memset(void *to, int value, unsigned long len);
void *memcpy(void *restrict to, const void *restrict from, unsigned long len);

void payload_start(uint64_t vcpu)
{
	struct payload_env env = {0};

	env.mailbox = payload_mailbox(&env, (uint32_t)vcpu);
	payload_main(&env);
}

/* A freestanding compiler may still call these two. */
void *memset(void *to, int value, unsigned long len)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(value) : "memory");
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, unsigned long len)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(len) : : "memory");
	return to;
}
