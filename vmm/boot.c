/* SPDX-License-Identifier: MIT */
/* What stands in guest memory before the first instruction: code, page tables, mailboxes. */
#include "boot.h"

#include <errno.h>
#include <string.h>

#include "machine.h"
#include "util.h"

#define TABLE_WORDS   512u
#define ENTRY_TABLE   0x3ull  /* present, writable */
#define ENTRY_PAGE_2M 0x83ull /* and a large page */

struct payload_mailbox *vmm_mailbox(const struct vmm_machine *machine, unsigned int vcpu)
{
	return vmm_memory_addr(&machine->memory,
			       PAYLOAD_MAILBOX_GPA + (uint64_t)vcpu * PAYLOAD_PAGE_SIZE,
			       PAYLOAD_PAGE_SIZE);
}

void vmm_mailbox_wrote(struct vmm_machine *machine, unsigned int vcpu)
{
	vmm_memory_wrote(&machine->memory, PAYLOAD_MAILBOX_GPA + (uint64_t)vcpu * PAYLOAD_PAGE_SIZE,
			 PAYLOAD_PAGE_SIZE);
}

static bool gib_has_memory(const struct vmm_layout *layout, uint64_t gib)
{
	for (unsigned int i = 0; i < layout->nr_regions; i++) {
		const struct vmm_region *region = &layout->regions[i];

		if (gib * GIB < region->gpa + region->size_bytes && region->gpa < (gib + 1) * GIB)
			return true;
	}
	return false;
}

/* Identity, 2 MiB pages: one directory for each GiB that has memory. */
static void build_tables(struct vmm_machine *machine)
{
	const struct vmm_layout *layout = &machine->memory.layout;
	uint64_t *root = vmm_memory_addr(&machine->memory, PAYLOAD_TABLES_GPA, PAYLOAD_TABLES_MAX);
	uint64_t *pointers = root + TABLE_WORDS;
	uint64_t next = PAYLOAD_TABLES_GPA + 2 * PAYLOAD_PAGE_SIZE;
	uint64_t gibs = (machine->memory.window_bytes + GIB - 1) / GIB;

	root[0] = (PAYLOAD_TABLES_GPA + PAYLOAD_PAGE_SIZE) | ENTRY_TABLE;
	for (uint64_t gib = 0; gib < gibs; gib++) {
		uint64_t *directory = root + (next - PAYLOAD_TABLES_GPA) / sizeof(*root);

		if (!gib_has_memory(layout, gib))
			continue;
		pointers[gib] = next | ENTRY_TABLE;
		for (uint64_t i = 0; i < TABLE_WORDS; i++)
			directory[i] = (gib * GIB + i * 2 * MIB) | ENTRY_PAGE_2M;
		next += PAYLOAD_PAGE_SIZE;
	}
}

/* Ranges that commands may write: all of memory from PAYLOAD_FIRST_GPA. */
static void list_ranges(const struct vmm_layout *layout, struct payload_mailbox *mailbox)
{
	for (unsigned int i = 0; i < layout->nr_regions; i++) {
		uint64_t gpa = layout->regions[i].gpa;
		uint64_t size = layout->regions[i].size_bytes;

		if (gpa < PAYLOAD_FIRST_GPA) {
			size -= PAYLOAD_FIRST_GPA - gpa;
			gpa = PAYLOAD_FIRST_GPA;
		}
		mailbox->ranges[mailbox->nr_ranges++] =
			(struct payload_range){gpa, size / PAYLOAD_PAGE_SIZE};
	}
}

static void init_mailbox(struct vmm_machine *machine, unsigned int vcpu)
{
	struct payload_mailbox *mailbox = vmm_mailbox(machine, vcpu);

	*mailbox = (struct payload_mailbox){
		.magic = PAYLOAD_MAGIC,
		.abi = PAYLOAD_ABI,
		.vcpu = vcpu,
		.nr_vcpus = machine->nr_vcpus,
	};
	list_ranges(&machine->memory.layout, mailbox);
}

int vmm_boot_memory(struct vmm_machine *machine)
{
	void *code = vmm_memory_addr(&machine->memory, PAYLOAD_CODE_GPA, PAYLOAD_CODE_MAX);

	if (!code || vmm_payload_image_len > PAYLOAD_CODE_MAX)
		return vmm_fail(EINVAL, "guest memory: no room for the payload at gpa 0x%x",
				PAYLOAD_CODE_GPA);
	memcpy(code, vmm_payload_image, vmm_payload_image_len);
	build_tables(machine);
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		init_mailbox(machine, i);
	return 0;
}
