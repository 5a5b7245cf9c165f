/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <stdio.h>
#include <string.h>

#include <faultline/pager.h>

#include "util.h"

static void add(struct payload_result *sum, const struct payload_result *one)
{
	sum->pages += one->pages;
	sum->stamped += one->stamped;
	sum->churned += one->churned;
	sum->zero += one->zero;
	sum->unknown += one->unknown;
	sum->mismatches += one->mismatches;
	if (one->rounds < sum->rounds)
		sum->rounds = one->rounds;
	if (one->status > sum->status)
		sum->status = one->status;
}

static json_t *mismatch_json(unsigned int vcpu, const struct payload_result *result)
{
	char gpa[32], want[32], got[32];

	snprintf(gpa, sizeof(gpa), "0x%llx", (unsigned long long)result->bad_gpa);
	snprintf(want, sizeof(want), "0x%016llx", (unsigned long long)result->want);
	snprintf(got, sizeof(got), "0x%016llx", (unsigned long long)result->got);
	return json_pack("{s:i, s:s, s:I, s:s, s:s}", "vcpu", (int)vcpu, "gpa", gpa, "byte",
			 (json_int_t)result->bad_byte, "want", want, "got", got);
}

static const char *status_text(uint32_t status)
{
	switch (status) {
	case PAYLOAD_OK:
		return "ok";
	case PAYLOAD_MISMATCH:
		return "mismatch";
	case PAYLOAD_BAD_AREA:
		return "refused: a machine's churn area keeps its size and must fit its share";
	default:
		return "refused: unknown to the payload";
	}
}

json_t *vmm_report_command(struct vmm_machine *machine)
{
	struct vmm_command cmd;
	uint64_t ns;
	struct payload_result sum = {.rounds = UINT64_MAX};
	json_t *first = NULL;

	pthread_mutex_lock(&machine->lock);
	cmd = machine->cmd;
	ns = machine->ended_ns > machine->issued_ns ? machine->ended_ns - machine->issued_ns : 0;
	pthread_mutex_unlock(&machine->lock);

	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		const struct payload_result *result = &vmm_mailbox(machine, i)->result;

		if (result->seq != cmd.payload.seq)
			continue;
		add(&sum, result);
		if (result->mismatches && !first)
			first = mismatch_json(i, result);
	}
	if (sum.rounds == UINT64_MAX)
		sum.rounds = 0;
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o?}", "command",
			 cmd.text, "status", status_text(sum.status), "pages",
			 (json_int_t)sum.pages, "stamped", (json_int_t)sum.stamped, "churned",
			 (json_int_t)sum.churned, "zero", (json_int_t)sum.zero, "unknown",
			 (json_int_t)sum.unknown, "rounds", (json_int_t)sum.rounds, "mismatches",
			 (json_int_t)sum.mismatches, "ms", (double)ns / 1e6, "first_mismatch",
			 first);
}

static long long count(const json_t *report, const char *key)
{
	return json_integer_value(json_object_get(report, key));
}

static const char *word(const json_t *report, const char *key)
{
	const char *text = json_string_value(json_object_get(report, key));

	return text ? text : "";
}

void vmm_report_print(const json_t *report)
{
	const json_t *first = json_object_get(report, "first_mismatch");

	printf("%s: %s, %lld pages (stamped %lld, churned %lld, zero %lld, unknown %lld),"
	       " %lld mismatches, %.1f ms\n",
	       word(report, "command"), word(report, "status"), count(report, "pages"),
	       count(report, "stamped"), count(report, "churned"), count(report, "zero"),
	       count(report, "unknown"), count(report, "mismatches"),
	       json_real_value(json_object_get(report, "ms")));
	if (json_is_object(first))
		printf("  first mismatch: page at gpa %s, byte %lld: want %s, got %s (vCPU %lld)\n",
		       word(first, "gpa"), count(first, "byte"), word(first, "want"),
		       word(first, "got"), count(first, "vcpu"));
	fflush(stdout);
}

static json_t *since(const struct vmm_machine *machine, uint64_t when)
{
	if (!when)
		return json_null();
	return json_real((double)(when - machine->times.request) / 1e3);
}

json_t *vmm_report_times(const struct vmm_machine *machine)
{
	const struct vmm_times *times = &machine->times;
	uint64_t enter = __atomic_load_n(&times->enter, __ATOMIC_RELAXED);
	uint64_t first = __atomic_load_n(&times->first_exit, __ATOMIC_RELAXED);

	return json_pack("{s:o, s:o, s:f, s:o, s:o}", "memory_ready_us",
			 since(machine, times->memory_ready), "enter_us", since(machine, enter),
			 "memslots_us", (double)times->memslots_ns / 1e3, "first_instruction_us",
			 since(machine, first), "first_instruction_without_memslots_us",
			 since(machine, first ? first - times->memslots_ns : 0));
}

json_t *vmm_report_fault(const struct fl_fault_stats *fault)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)fault->count, "p50_ns",
			 (json_int_t)fault->p50_ns, "p99_ns", (json_int_t)fault->p99_ns, "max_ns",
			 (json_int_t)fault->max_ns);
}

json_t *vmm_report_faults(const struct fl_pager_stats *stats)
{
	static const char *const names[FL_FAULT_KINDS] = {
		[FL_FAULT_HIT] = "hit",       [FL_FAULT_MISS] = "miss",
		[FL_FAULT_JOINED] = "joined", [FL_FAULT_ZERO] = "zero",
		[FL_FAULT_MAPPED] = "mapped",
	};
	json_t *faults = json_object();

	for (int kind = 0; kind < FL_FAULT_KINDS; kind++)
		json_object_set_new(faults, names[kind], vmm_report_fault(&stats->faults[kind]));
	return faults;
}
