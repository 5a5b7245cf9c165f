/* SPDX-License-Identifier: MIT */
/*
 * The JSON of Firecracker's handshake, read and written.
 *
 * It comes from a process that is not trusted. Jansson parses recursively, so nesting is bounded
 * before it sees the text: a session's thread has a small stack. After that everything is checked
 * field by field, and each error names the region by its index and the field by its name.
 */
#include "client/firecracker_json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "util/error.h"

/* An array of objects is 2; unknown fields may nest a little. */
#define DEPTH_MAX 16

#define PAGE_SIZE_DEFAULT 4096

/* Jansson's handles, let go at the end of the scope. */
static void release_json(json_t **json)
{
	json_decref(*json);
}
#define cleanup_json __attribute__((cleanup(release_json)))

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void scan_in_string(struct fl_json_scan *scan, char c)
{
	if (scan->escaped)
		scan->escaped = false;
	else if (c == '\\')
		scan->escaped = true;
	else if (c == '"')
		scan->in_string = false;
}

static bool close_bracket(struct fl_json_scan *scan, char c)
{
	bool object = scan->objects & 1;

	scan->objects >>= 1;
	if (scan->depth)
		scan->depth--;
	return object == (c == '}');
}

/* One byte outside of strings; true when the value has ended with it, or is none. */
static bool scan_byte(struct fl_json_scan *scan, char c)
{
	if (!scan->begun && is_space(c))
		return false;
	scan->begun = true;
	if (c == '"') {
		scan->in_string = true;
	} else if (c == '[' || c == '{') {
		scan->depth++;
		scan->objects = scan->objects << 1 | (c == '{');
	} else if ((c == ']' || c == '}') && !close_bracket(scan, c)) {
		return true;
	}
	return scan->depth == 0;
}

enum fl_json_verdict fl_json_scan(struct fl_json_scan *scan, const char *text, size_t len_bytes)
{
	for (size_t i = 0; i < len_bytes; i++) {
		if (scan->in_string)
			scan_in_string(scan, text[i]);
		else if (scan_byte(scan, text[i]))
			return FL_JSON_WHOLE;
		if (scan->depth > DEPTH_MAX)
			return FL_JSON_TOO_DEEP;
	}
	return FL_JSON_MORE;
}

/* The integer of a field: 1, or 0 when it is not there. */
static int get_u64(json_t *object, size_t index, const char *field, uint64_t *value,
		   struct fl_error *err)
{
	json_t *json = json_object_get(object, field);

	if (!json)
		return 0;
	if (!json_is_integer(json))
		return fl_error_set(err, -EINVAL, "region %zu: %s is not an integer", index, field);
	if (json_integer_value(json) < 0)
		return fl_error_set(err, -EINVAL, "region %zu: %s is negative", index, field);
	*value = (uint64_t)json_integer_value(json);
	return 1;
}

static int need_u64(json_t *object, size_t index, const char *field, uint64_t *value,
		    struct fl_error *err)
{
	int rc = get_u64(object, index, field, value, err);

	if (rc == 0)
		return fl_error_set(err, -EINVAL, "region %zu: %s is missing", index, field);
	return rc < 0 ? rc : 0;
}

/* "page_size_kib" is in bytes in every release that sends it. */
static int get_page_size(json_t *object, size_t index, uint64_t *page_size, struct fl_error *err)
{
	uint64_t old = 0;
	uint64_t now = 0;
	int has_old = get_u64(object, index, "page_size_kib", &old, err);
	int has_now;

	if (has_old < 0)
		return has_old;
	has_now = get_u64(object, index, "page_size", &now, err);
	if (has_now < 0)
		return has_now;
	if (has_old && has_now && old != now)
		return fl_error_set(err, -EINVAL,
				    "region %zu: page_size %" PRIu64 " and page_size_kib %" PRIu64
				    " contradict each other",
				    index, now, old);
	*page_size = has_now ? now : has_old ? old : PAGE_SIZE_DEFAULT;
	if (*page_size != 4096 && *page_size != 2u << 20 && *page_size != 1u << 30)
		return fl_error_set(err, -EINVAL,
				    "region %zu: %s %" PRIu64 " is not 4096, 2097152 or 1073741824",
				    index, has_now ? "page_size" : "page_size_kib", *page_size);
	return 0;
}

static int check_aligned(size_t index, const char *field, uint64_t value, uint64_t page_size,
			 struct fl_error *err)
{
	if (page_size && value % page_size == 0)
		return 0;
	return fl_error_set(err, -EINVAL,
			    "region %zu: %s %" PRIu64
			    " is not a multiple of its page size %" PRIu64,
			    index, field, value, page_size);
}

static int check_end(size_t index, const char *field, uint64_t start, uint64_t len_bytes,
		     struct fl_error *err)
{
	if (start <= UINT64_MAX - len_bytes)
		return 0;
	return fl_error_set(err, -EINVAL, "region %zu: %s %" PRIu64 " plus size %" PRIu64 " wraps",
			    index, field, start, len_bytes);
}

static int check_region(const struct fl_region *region, size_t index, struct fl_error *err)
{
	int rc;

	if (region->len_bytes == 0)
		return fl_error_set(err, -EINVAL, "region %zu: size is 0", index);
	rc = check_aligned(index, "size", region->len_bytes, region->page_size, err);
	if (!rc)
		rc = check_aligned(index, "offset", region->offset, region->page_size, err);
	if (!rc)
		rc = check_aligned(index, "base_host_virt_addr", region->addr, region->page_size,
				   err);
	if (!rc)
		rc = check_end(index, "offset", region->offset, region->len_bytes, err);
	if (!rc)
		rc = check_end(index, "base_host_virt_addr", region->addr, region->len_bytes, err);
	return rc;
}

static int parse_region(json_t *object, size_t index, struct fl_region *region,
			struct fl_error *err)
{
	int rc;

	if (!json_is_object(object))
		return fl_error_set(err, -EINVAL, "region %zu is not an object", index);
	*region = (struct fl_region){.gpa = FL_NOWHERE, .backing = FL_BACKING_UNKNOWN};
	rc = need_u64(object, index, "base_host_virt_addr", &region->addr, err);
	if (!rc)
		rc = need_u64(object, index, "size", &region->len_bytes, err);
	if (!rc)
		rc = need_u64(object, index, "offset", &region->offset, err);
	if (!rc)
		rc = get_page_size(object, index, &region->page_size, err);
	return rc ? rc : check_region(region, index, err);
}

/*
 * The reason, printable whatever a peer sent: jansson quotes the text near an error. An error at
 * the very end of a text that is not closed can be mended by what follows.
 */
static int json_failure(const json_error_t *why, bool at_end, struct fl_error *err)
{
	char text[sizeof(why->text)];
	size_t i;

	for (i = 0; i < sizeof(text) - 1 && why->text[i]; i++)
		text[i] = why->text[i] < ' ' || why->text[i] > '~' ? '?' : why->text[i];
	text[i] = '\0';
	return fl_error_set(err, at_end ? -EAGAIN : -EINVAL, "handshake is not JSON at byte %d: %s",
			    why->position, text);
}

static json_t *load(const char *text, size_t len_bytes, int *rc, struct fl_error *err)
{
	struct fl_json_scan scan = {0};
	enum fl_json_verdict verdict = fl_json_scan(&scan, text, len_bytes);
	json_error_t why;
	json_t *json;

	if (verdict == FL_JSON_TOO_DEEP) {
		*rc = fl_error_set(err, -EINVAL, "handshake nests deeper than %d", DEPTH_MAX);
		return NULL;
	}
	json = json_loadb(text, len_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!json)
		*rc = json_failure(&why, verdict == FL_JSON_MORE && why.position >= (int)len_bytes,
				   err);
	return json;
}

int fl_firecracker_parse(const char *text, size_t len_bytes,
			 struct fl_region regions[FL_REGIONS_MAX], struct fl_error *err)
{
	cleanup_json json_t *array = NULL;
	size_t count;
	int rc = 0;

	if (len_bytes > FL_FIRECRACKER_MESSAGE_MAX)
		return fl_error_set(err, -EMSGSIZE, "handshake is longer than %u bytes",
				    FL_FIRECRACKER_MESSAGE_MAX);
	array = load(text, len_bytes, &rc, err);
	if (!array)
		return rc;
	if (!json_is_array(array))
		return fl_error_set(err, -EINVAL, "handshake is not an array of regions");
	count = json_array_size(array);
	if (count == 0)
		return fl_error_set(err, -EINVAL, "handshake has no regions");
	if (count > FL_REGIONS_MAX)
		return fl_error_set(err, -E2BIG, "handshake has %zu regions, more than %d", count,
				    FL_REGIONS_MAX);
	for (size_t i = 0; i < count; i++) {
		rc = parse_region(json_array_get(array, i), i, &regions[i], err);
		if (rc)
			return rc;
	}
	return (int)count;
}

static json_t *format_region(const struct fl_region *region, enum fl_firecracker_form form)
{
	json_t *object = json_pack("{sIsIsI}", "base_host_virt_addr", (json_int_t)region->addr,
				   "size", (json_int_t)region->len_bytes, "offset",
				   (json_int_t)region->offset);
	json_int_t page_size = (json_int_t)region->page_size;
	int rc = object ? 0 : -1;

	if (!rc && form == FL_FIRECRACKER_BOTH)
		rc = json_object_set_new(object, "page_size", json_integer(page_size));
	if (!rc && form != FL_FIRECRACKER_NO_PAGE_SIZE)
		rc = json_object_set_new(object, "page_size_kib", json_integer(page_size));
	if (rc) {
		json_decref(object);
		return NULL;
	}
	return object;
}

char *fl_firecracker_format(const struct fl_region *regions, size_t count,
			    enum fl_firecracker_form form)
{
	cleanup_json json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		if (json_array_append_new(array, format_region(&regions[i], form)))
			return NULL;
	}
	return json_dumps(array, JSON_COMPACT);
}
