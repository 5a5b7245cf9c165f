/* SPDX-License-Identifier: MIT */
#ifndef FL_INSTALL_ALIAS_H
#define FL_INSTALL_ALIAS_H

#include <faultline/install.h>

/* The second mappings of an install, ordered by the guest's addresses; never changed. */
struct fl_aliases {
	size_t count;
	struct fl_alias alias[FL_REGIONS_MAX];
};

/* -EINVAL for a wrong count, and for ranges that are empty, wrap, or overlap on either side. */
int fl_aliases_init(struct fl_aliases *aliases, const struct fl_alias *from, size_t count,
		    struct fl_error *err);

/*
 * Where addr is mapped a second time; NULL when it is not. *len_bytes: in: how much is wanted; out:
 * how much of it lies in that one alias.
 */
void *fl_aliases_find(const struct fl_aliases *aliases, uint64_t addr, uint64_t *len_bytes);

/* The whole range in one alias, or NULL. */
void *fl_aliases_place(const struct fl_aliases *aliases, uint64_t addr, uint64_t len_bytes);

/*
 * Contents for as much of the range as lies in one alias: from a buffer, or zeros when from is
 * NULL. Return: bytes written; -ENOENT when addr has no alias; -ENOMEM when there is no memory
 * behind it.
 */
int64_t fl_aliases_fill(const struct fl_aliases *aliases, uint64_t addr, const void *from,
			uint64_t len_bytes);

#endif
