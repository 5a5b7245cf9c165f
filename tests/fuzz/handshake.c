/* SPDX-License-Identifier: MIT */
/*
 * Firecracker's handshake, as any process that can connect may say it.
 *
 * What is accepted must keep the parser's promises, must come back the same when we say it
 * ourselves, and must be safe to make a layout of.
 */
#include <stdlib.h>
#include <string.h>

#include "client/firecracker_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_region(const struct fl_region *region)
{
	must(region->page_size == 4096 || region->page_size == 2u << 20 ||
	     region->page_size == 1u << 30);
	must(region->len_bytes > 0);
	must(region->addr + region->len_bytes - 1 >= region->addr);
	must(region->offset + region->len_bytes - 1 >= region->offset);
}

static void say_again(const struct fl_region *regions, int count)
{
	struct fl_region again[FL_REGIONS_MAX];
	char *text = fl_firecracker_format(regions, (size_t)count, FL_FIRECRACKER_BOTH);

	must(text);
	must(fl_firecracker_parse(text, strlen(text), again, NULL) == count);
	for (int i = 0; i < count; i++) {
		must(again[i].addr == regions[i].addr && again[i].offset == regions[i].offset);
		must(again[i].len_bytes == regions[i].len_bytes);
		must(again[i].page_size == regions[i].page_size);
	}
	free(text);
}

static void lay_out(const struct fl_region *regions, int count)
{
	struct fl_layout *layout = NULL;
	struct fl_error err = {0};
	int code = fl_layout_new(&layout, regions, (size_t)count, &err);

	must(code == err.code && (code < 0) == (err.text[0] != '\0'));
	if (code == 0)
		must(fl_layout_pages(layout) > 0);
	fl_layout_free(layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fl_region regions[FL_REGIONS_MAX];
	struct fl_json_scan scan = {0};
	struct fl_error err = {0};
	int count = fl_firecracker_parse((const char *)data, len, regions, &err);

	must(count != 0 && count <= FL_REGIONS_MAX);
	if (count < 0) {
		must(err.code == count && err.text[0] != '\0');
		return 0;
	}
	/* Whatever is a message must be seen to end, or the receiver would wait for more. */
	must(fl_json_scan(&scan, (const char *)data, len) == FL_JSON_WHOLE);
	for (int i = 0; i < count; i++)
		check_region(&regions[i]);
	say_again(regions, count);
	lay_out(regions, count);
	return 0;
}
