/* SPDX-License-Identifier: MIT */
/*
 * A working-set file. Each input is tried as it is and with its checksum put right, which no
 * amount of chance would find.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "pager/wset.h"
#include "util/fnv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void parse(const uint8_t *data, size_t len)
{
	struct fl_wset *set = NULL;
	struct fl_error err = {0};
	int code = fl_wset_parse(&set, data, len, &err);

	if (code < 0) {
		must(!set && err.code == code && err.text[0] != '\0');
		return;
	}
	must(fl_wset_count(set) == (len - WSET_HEADER_LEN) / 4);
	for (uint64_t i = 0; i < fl_wset_count(set); i++) {
		must(fl_wset_offset(set, i) % fl_wset_page_size(set) == 0);
		must(fl_wset_offset(set, i) < set->image_len);
	}
	fl_wset_free(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint64_t checksum;
	uint8_t *copy;

	parse(data, len);
	if (len < WSET_HEADER_LEN)
		return 0;
	copy = malloc(len);
	if (!copy)
		abort();
	memcpy(copy, data, len);
	memset(copy + WSET_CHECKSUM_AT, 0, sizeof(checksum));
	checksum = htole64(fl_fnv(FL_FNV_START, copy, len));
	memcpy(copy + WSET_CHECKSUM_AT, &checksum, sizeof(checksum));
	parse(copy, len);
	free(copy);
	return 0;
}
