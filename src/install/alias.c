/* SPDX-License-Identifier: MIT */
#include "install/alias.h"

#include <errno.h>
#include <string.h>

#include "util/compat.h"
#include "util/error.h"

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

static int check(const struct fl_alias *from, size_t index, struct fl_error *err)
{
	const struct fl_alias *alias = &from[index];
	uintptr_t at = (uintptr_t)alias->alias;

	if (!alias->len_bytes || !alias->alias)
		return fl_error_set(err, -EINVAL, "alias %zu is empty", index);
	if (alias->addr + alias->len_bytes < alias->addr || at + alias->len_bytes < at)
		return fl_error_set(err, -EINVAL, "alias %zu wraps", index);
	for (size_t i = 0; i < index; i++)
		if (overlap(alias->addr, alias->len_bytes, from[i].addr, from[i].len_bytes) ||
		    overlap(at, alias->len_bytes, (uintptr_t)from[i].alias, from[i].len_bytes))
			return fl_error_set(err, -EINVAL, "aliases %zu and %zu overlap", i, index);
	return 0;
}

static void insert(struct fl_aliases *aliases, const struct fl_alias *alias)
{
	size_t at = aliases->count++;

	for (; at && aliases->alias[at - 1].addr > alias->addr; at--)
		aliases->alias[at] = aliases->alias[at - 1];
	aliases->alias[at] = *alias;
}

int fl_aliases_init(struct fl_aliases *aliases, const struct fl_alias *from, size_t count,
		    struct fl_error *err)
{
	aliases->count = 0;
	if (!count || count > FL_REGIONS_MAX)
		return fl_error_set(err, -EINVAL, "%zu aliases: 1 to %d are possible", count,
				    FL_REGIONS_MAX);
	for (size_t i = 0; i < count; i++) {
		int rc = check(from, i, err);

		if (rc)
			return rc;
		insert(aliases, &from[i]);
	}
	return 0;
}

void *fl_aliases_find(const struct fl_aliases *aliases, uint64_t addr, uint64_t *len_bytes)
{
	size_t low = 0;
	size_t high = aliases->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct fl_alias *alias = &aliases->alias[mid];

		if (addr < alias->addr) {
			high = mid;
		} else if (addr - alias->addr >= alias->len_bytes) {
			low = mid + 1;
		} else {
			uint64_t left = alias->len_bytes - (addr - alias->addr);

			*len_bytes = *len_bytes < left ? *len_bytes : left;
			return (char *)alias->alias + (addr - alias->addr);
		}
	}
	return NULL;
}

void *fl_aliases_place(const struct fl_aliases *aliases, uint64_t addr, uint64_t len_bytes)
{
	uint64_t found = len_bytes;
	void *place = fl_aliases_find(aliases, addr, &found);

	return found == len_bytes ? place : NULL;
}

/*
 * Writing to shared memory that cannot be had (an empty huge page pool, a full tmpfs, a file made
 * shorter) is a SIGBUS, which a process that serves many guests must not take. Populating first
 * makes it an error, and costs no more than the page fault that it saves. EINVAL: a kernel before
 * 5.14, where we go on without.
 */
static int populate(void *place, uint64_t len_bytes)
{
	int rc;

	do {
		rc = madvise(place, len_bytes, MADV_POPULATE_WRITE);
	} while (rc && (errno == EINTR || errno == EAGAIN));
	return rc && errno != EINVAL ? -ENOMEM : 0;
}

int64_t fl_aliases_fill(const struct fl_aliases *aliases, uint64_t addr, const void *from,
			uint64_t len_bytes)
{
	void *place = fl_aliases_find(aliases, addr, &len_bytes);
	int rc;

	if (!place)
		return -ENOENT;
	rc = populate(place, len_bytes);
	if (rc)
		return rc;
	if (from)
		memcpy(place, from, len_bytes);
	else
		memset(place, 0, len_bytes);
	return (int64_t)len_bytes;
}
