/* SPDX-License-Identifier: MIT */
#include "link/squeeze.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "util/error.h"

#define ZSTD_LEVEL 1

/* The buffers are as large as the largest page; of what is never touched nothing is used. */
struct fl_squeeze {
	ZSTD_CCtx *zstd;
	void *lz4; /* here, because its size is more than a small stack should bear */
	uint8_t *copy;
	uint8_t *block;
	uint32_t len;
};

struct fl_expand {
	ZSTD_DCtx *zstd;
	uint8_t *block;
	uint8_t *room;
};

int fl_squeeze_new(struct fl_squeeze **squeeze)
{
	struct fl_squeeze *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->zstd = ZSTD_createCCtx();
	made->lz4 = malloc((size_t)LZ4_sizeofState());
	made->copy = malloc(FL_WIRE_PAGE_MAX);
	made->block = malloc(FL_WIRE_PAGE_MAX);
	if (!made->zstd || !made->lz4 || !made->copy || !made->block) {
		fl_squeeze_free(made);
		return -ENOMEM;
	}
	*squeeze = made;
	return 0;
}

void fl_squeeze_free(struct fl_squeeze *squeeze)
{
	if (!squeeze)
		return;
	ZSTD_freeCCtx(squeeze->zstd);
	free(squeeze->lz4);
	free(squeeze->copy);
	free(squeeze->block);
	free(squeeze);
}

const uint8_t *fl_squeeze_copy(struct fl_squeeze *squeeze, const void *from, uint32_t len_bytes)
{
	memcpy(squeeze->copy, from, len_bytes);
	squeeze->len = len_bytes;
	return squeeze->copy;
}

/* Room for one byte less than there is: what needs more has not shrunk. */
uint32_t fl_squeeze_block(struct fl_squeeze *squeeze, uint8_t flag, const uint8_t **block)
{
	uint32_t room = squeeze->len - 1;
	size_t len;

	*block = squeeze->block;
	if (flag == FL_FRAME_LZ4)
		return (uint32_t)LZ4_compress_fast_extState(
			squeeze->lz4, (const char *)squeeze->copy, (char *)squeeze->block,
			(int)squeeze->len, (int)room, 1);
	len = ZSTD_compressCCtx(squeeze->zstd, squeeze->block, room, squeeze->copy, squeeze->len,
				ZSTD_LEVEL);
	return ZSTD_isError(len) ? 0 : (uint32_t)len;
}

int fl_expand_new(struct fl_expand **expand)
{
	struct fl_expand *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->zstd = ZSTD_createDCtx();
	made->block = malloc(FL_WIRE_PAGE_MAX);
	made->room = malloc(FL_WIRE_PAGE_MAX);
	if (!made->zstd || !made->block || !made->room) {
		fl_expand_free(made);
		return -ENOMEM;
	}
	*expand = made;
	return 0;
}

void fl_expand_free(struct fl_expand *expand)
{
	if (!expand)
		return;
	ZSTD_freeDCtx(expand->zstd);
	free(expand->block);
	free(expand->room);
	free(expand);
}

uint8_t *fl_expand_block(struct fl_expand *expand)
{
	return expand->block;
}

uint8_t *fl_expand_room(struct fl_expand *expand)
{
	return expand->room;
}

int fl_expand(struct fl_expand *expand, uint8_t flag, uint32_t len, void *to, uint32_t bytes,
	      struct fl_error *err)
{
	bool lz4 = flag == FL_FRAME_LZ4;
	int64_t made;

	if (lz4) {
		made = LZ4_decompress_safe((const char *)expand->block, to, (int)len, (int)bytes);
	} else {
		size_t size = ZSTD_decompressDCtx(expand->zstd, to, bytes, expand->block, len);

		made = ZSTD_isError(size) ? -1 : (int64_t)size;
	}
	if (made == bytes)
		return 0;
	if (made < 0)
		return fl_error_set(err, -EBADMSG,
				    "PAGES: its %s block does not expand to %u bytes",
				    lz4 ? "lz4" : "zstd", bytes);
	return fl_error_set(err, -EBADMSG, "PAGES: its %s block expands to %lld bytes, must be %u",
			    lz4 ? "lz4" : "zstd", (long long)made, bytes);
}
