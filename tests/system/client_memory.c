/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <faultline/trap.h>

/* Nobody else maps between two regions: they lie in one reservation, with a gap after each. */
static void map_region(struct client *client, size_t index, char *at)
{
	struct fl_region *region = &client->regions[index];
	int huge = client->page_size > 4096 ? MAP_HUGETLB | (21 << MAP_HUGE_SHIFT) : 0;
	struct uffdio_register arm = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	void *mem = mmap(at, region->len_bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED | huge, -1, 0);

	if (mem == MAP_FAILED)
		client_fail("mmap: %s", strerror(errno));
	/* A kernel that installs 2 MiB at a touch would hide what is tested. */
	(void)madvise(mem, region->len_bytes, MADV_NOHUGEPAGE);
	region->addr = (uint64_t)(uintptr_t)mem;
	arm.range.start = region->addr;
	arm.range.len = region->len_bytes;
	if (ioctl(client->uffd, UFFDIO_REGISTER, &arm) < 0)
		client_fail("UFFDIO_REGISTER: %s", strerror(errno));
}

/* Regions of about the same size, each one page shorter or longer than its neighbours. */
static void lay_out(struct client *client)
{
	uint64_t pages = client->len / client->page_size;
	uint64_t offset = 0;

	if (pages < client->region_count)
		client_fail("more regions than pages");
	for (size_t i = 0; i < client->region_count; i++) {
		uint64_t end = pages * (i + 1) / client->region_count * client->page_size;

		client->regions[i] = (struct fl_region){.gpa = FL_NOWHERE,
							.offset = offset,
							.len_bytes = end - offset,
							.page_size = client->page_size};
		offset = end;
	}
}

void client_map(struct client *client)
{
	uint64_t gap = client->page_size;
	uint64_t room = client->len + (client->region_count + 1) * gap;
	struct fl_error err;
	char *at;

	client->uffd = fl_uffd_open(UFFD_FEATURE_EVENT_REMOVE, FL_UFFD_USER_MODE_ONLY, NULL, &err);
	if (client->uffd < 0)
		client_fail("%s", err.text);
	lay_out(client);
	at = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		client_fail("mmap: %s", strerror(errno));
	at += gap - (uintptr_t)at % gap;
	for (size_t i = 0; i < client->region_count; i++) {
		map_region(client, i, at);
		at += client->regions[i].len_bytes + gap;
	}
	client->removed = mmap(NULL, client->len / 4096 + 1, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (client->removed == MAP_FAILED)
		client_fail("mmap: %s", strerror(errno));
}

unsigned char *client_at(const struct client *client, uint64_t offset)
{
	for (size_t i = 0; i < client->region_count; i++) {
		const struct fl_region *region = &client->regions[i];

		if (offset - region->offset < region->len_bytes)
			return (unsigned char *)(uintptr_t)region->addr + (offset - region->offset);
	}
	client_fail("offset %llu is in no region", (unsigned long long)offset);
}

void client_unmap(const struct client *client, uint64_t region)
{
	const struct fl_region *r = &client->regions[region];

	if (region >= client->region_count || munmap((void *)(uintptr_t)r->addr, r->len_bytes) < 0)
		client_fail("cannot unmap region %llu", (unsigned long long)region);
}
