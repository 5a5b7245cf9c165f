/* SPDX-License-Identifier: MIT */
/* Pages by index, each vCPU's share of them, and the orders they are visited in. */
#include "env.h"

uint64_t payload_total(const struct payload_mailbox *mailbox)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < mailbox->nr_ranges; i++)
		total += mailbox->ranges[i].pages;
	return total;
}

uint64_t payload_gpa(const struct payload_mailbox *mailbox, uint64_t index)
{
	uint32_t i = 0;

	while (i + 1 < mailbox->nr_ranges && index >= mailbox->ranges[i].pages)
		index -= mailbox->ranges[i++].pages;
	return mailbox->ranges[i].gpa + index * PAYLOAD_PAGE_SIZE;
}

struct payload_slice payload_share(const struct payload_mailbox *mailbox, uint32_t vcpu)
{
	uint64_t total = payload_total(mailbox);
	uint64_t first = total * vcpu / mailbox->nr_vcpus;

	return (struct payload_slice){
		.first = first,
		.pages = total * (vcpu + 1) / mailbox->nr_vcpus - first,
	};
}

uint32_t payload_owner(const struct payload_mailbox *mailbox, uint64_t index)
{
	uint32_t vcpu = 0;

	while (vcpu + 1 < mailbox->nr_vcpus &&
	       index >= payload_total(mailbox) * (vcpu + 1) / mailbox->nr_vcpus)
		vcpu++;
	return vcpu;
}

static uint32_t bits_for(uint64_t pages)
{
	uint32_t bits = 2;

	while ((1ull << bits) < pages)
		bits++;
	return bits;
}

/* A permutation of [0, 2^bits): odd factors and shifted xors are bijections. */
static uint64_t permute(uint64_t x, uint32_t bits, uint64_t seed)
{
	uint64_t mask = (1ull << bits) - 1;
	uint32_t half = bits / 2;

	x = (x + seed) & mask;
	x = (x * 0x9e3779b97f4a7c15ull) & mask;
	x ^= x >> half;
	x = (x * 0xbf58476d1ce4e5b9ull + seed) & mask;
	x ^= x >> half;
	return x;
}

/* Steps of a whole visit; some of them name no page (see payload_visit). */
uint64_t payload_steps(const struct payload_command *cmd, uint64_t pages)
{
	switch (cmd->order) {
	case PAYLOAD_ORDER_RANDOM:
		return 1ull << bits_for(pages);
	case PAYLOAD_ORDER_STRIDE:
		return (pages + cmd->stride - 1) / cmd->stride * cmd->stride;
	default:
		return pages;
	}
}

/* The page of a step, or a number >= pages when the step names none. */
uint64_t payload_visit(const struct payload_command *cmd, uint64_t pages, uint64_t step)
{
	uint64_t per_pass;

	switch (cmd->order) {
	case PAYLOAD_ORDER_RANDOM:
		return permute(step, bits_for(pages), cmd->seed);
	case PAYLOAD_ORDER_STRIDE:
		per_pass = (pages + cmd->stride - 1) / cmd->stride;
		return step % per_pass * cmd->stride + step / per_pass;
	default:
		return step;
	}
}
