/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_SQUEEZE_H
#define FL_LINK_SQUEEZE_H

/* Contents made smaller, and large again. Each belongs to one connection. */

#include "link/wire.h"

struct fl_squeeze;
struct fl_expand;

/* 0, -ENOMEM. */
int fl_squeeze_new(struct fl_squeeze **squeeze);
void fl_squeeze_free(struct fl_squeeze *squeeze);
/* A copy of contents that may be written meanwhile; as long as the next one is not made.
 * Compressors read what they compress more than once, and promise nothing when it changes. */
const uint8_t *fl_squeeze_copy(struct fl_squeeze *squeeze, const void *from, uint32_t len_bytes);
/* Compresses the copy as @flag says. The length of *@block, or 0 when it is not shorter. */
uint32_t fl_squeeze_block(struct fl_squeeze *squeeze, uint8_t flag, const uint8_t **block);

/* 0, -ENOMEM. */
int fl_expand_new(struct fl_expand **expand);
void fl_expand_free(struct fl_expand *expand);
/* Room for a block as it comes, and for what comes out of it: FL_WIRE_PAGE_MAX bytes each. */
uint8_t *fl_expand_block(struct fl_expand *expand);
uint8_t *fl_expand_room(struct fl_expand *expand);
/* Writes what the block of @len bytes expands to: exactly @bytes at @to, or -EBADMSG; never more.
 */
int fl_expand(struct fl_expand *expand, uint8_t flag, uint32_t len, void *to, uint32_t bytes,
	      struct fl_error *err);

#endif
