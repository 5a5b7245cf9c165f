/* SPDX-License-Identifier: MIT */
/*
 * layout.json and machine.json. They come from outside: every number is bounded
 * before it is used, and nothing here opens, maps or allocates by what they say.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "snapshot.h"
#include "util.h"

/* Here, so that the parsers stand alone. */
const char *const vmm_accel_names[] = {"auto", "kvm", "thread", NULL};

struct parser {
	char *err;
	size_t err_len;
};

static int bad(const struct parser *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int bad(const struct parser *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->err, p->err_len, format, args);
	va_end(args);
	return -EINVAL;
}

static void drop_json(json_t **json)
{
	json_decref(*json);
}

#define AUTO_JSON __attribute__((cleanup(drop_json))) json_t

/* An integer in [0, max]. */
static int number(const struct parser *p, const json_t *object, const char *key, uint64_t max,
		  uint64_t *value)
{
	const json_t *found = json_object_get(object, key);
	json_int_t got = json_integer_value(found);

	if (!json_is_integer(found))
		return bad(p, "\"%s\" is missing or no integer", key);
	if (got < 0 || (uint64_t)got > max)
		return bad(p, "\"%s\" is %lld: wants 0 to %llu", key, (long long)got,
			   (unsigned long long)max);
	*value = (uint64_t)got;
	return 0;
}

/* The same, or 0 when it is not there. */
static int maybe_number(const struct parser *p, const json_t *object, const char *key, uint64_t max,
			uint64_t *value)
{
	*value = 0;
	return json_object_get(object, key) ? number(p, object, key, max, value) : 0;
}

static int name(const struct parser *p, const json_t *object, const char *key,
		const char *const *names, int *value)
{
	const char *got = json_string_value(json_object_get(object, key));

	if (!got)
		return bad(p, "\"%s\" is missing or no string", key);
	for (*value = 0; names[*value]; ++*value)
		if (!strcmp(names[*value], got))
			return 0;
	return bad(p, "\"%s\" is \"%.40s\", which is unknown", key, got);
}

static int load(const struct parser *p, const char *text, size_t len, uint64_t version,
		json_t **root)
{
	json_error_t error;
	uint64_t got = 0;
	int ret;

	if (len > VMM_JSON_MAX_BYTES)
		return bad(p, "%zu bytes, more than %u", len, VMM_JSON_MAX_BYTES);
	*root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!*root)
		return bad(p, "line %d: %s", error.line, error.text);
	if (!json_is_object(*root))
		return bad(p, "not a JSON object");
	ret = number(p, *root, "version", INT64_MAX, &got);
	if (!ret && got != version)
		return bad(p, "version is %llu: this program reads version %llu",
			   (unsigned long long)got, (unsigned long long)version);
	return ret;
}

static int read_region(const struct parser *p, const json_t *object, struct vmm_region *region)
{
	int backing = 0;
	int ret = number(p, object, "gpa", VMM_MAX_MEMORY + VMM_HOLE_END, &region->gpa);

	if (!ret)
		ret = number(p, object, "size", VMM_MAX_MEMORY, &region->size_bytes);
	if (!ret)
		ret = number(p, object, "offset", VMM_MAX_MEMORY, &region->offset);
	if (!ret)
		ret = number(p, object, "page_size", 1ull << 30, &region->page_size);
	if (!ret)
		ret = name(p, object, "backing", vmm_backing_names, &backing);
	region->backing = (enum vmm_backing)backing;
	return ret;
}

static int check_region(const struct parser *p, const struct vmm_layout *layout, unsigned int i)
{
	const struct vmm_region *region = &layout->regions[i];
	uint64_t page = region->backing == VMM_BACKING_HUGETLBFS ? 2 * MIB : 4 * KIB;
	uint64_t end = 0, offset = 0;

	if (i) {
		end = region[-1].gpa + region[-1].size_bytes;
		offset = region[-1].offset + region[-1].size_bytes;
	}
	if (region->page_size != page)
		return bad(p, "region %u: page size %llu is not that of %s, %llu", i,
			   (unsigned long long)region->page_size,
			   vmm_backing_names[region->backing], (unsigned long long)page);
	if (!region->size_bytes || (region->size_bytes | region->gpa) % page)
		return bad(p, "region %u: gpa 0x%llx or size %llu is no multiple of the page size",
			   i, (unsigned long long)region->gpa,
			   (unsigned long long)region->size_bytes);
	if (region->gpa < end || (i && region->backing != region[-1].backing))
		return bad(
			p,
			"region %u: overlaps, precedes or differs in backing from the one before",
			i);
	if (region->offset != offset)
		return bad(p, "region %u: offset %llu is not the sum of the sizes before, %llu", i,
			   (unsigned long long)region->offset, (unsigned long long)offset);
	return 0;
}

static int read_regions(const struct parser *p, const json_t *array, struct vmm_layout *layout)
{
	size_t n = json_array_size(array);

	if (!json_is_array(array) || !n || n > VMM_MAX_REGIONS)
		return bad(p, "\"regions\" is missing or has not 1 to %d entries", VMM_MAX_REGIONS);
	for (unsigned int i = 0; i < n; i++) {
		int ret = read_region(p, json_array_get(array, i), &layout->regions[i]);

		if (!ret)
			ret = check_region(p, layout, i);
		if (ret)
			return ret;
	}
	layout->nr_regions = (unsigned int)n;
	return 0;
}

int vmm_snapshot_parse_layout(const char *text, size_t len, struct vmm_layout *layout, char *err,
			      size_t err_len)
{
	const struct parser p = {err, err_len};
	AUTO_JSON *root = NULL;
	uint64_t total = 0;
	int ret = load(&p, text, len, VMM_LAYOUT_VERSION, &root);

	*layout = (struct vmm_layout){0};
	if (!ret)
		ret = read_regions(&p, json_object_get(root, "regions"), layout);
	if (!ret)
		ret = number(&p, root, "memory_size", VMM_MAX_MEMORY, &total);
	if (!ret && total != vmm_layout_bytes(layout))
		return bad(&p, "\"memory_size\" is %llu, the regions add up to %llu",
			   (unsigned long long)total, (unsigned long long)vmm_layout_bytes(layout));
	if (!ret && (layout->regions[0].gpa || layout->regions[0].size_bytes < VMM_MIN_MEMORY))
		return bad(&p, "region 0 does not begin at gpa 0 with at least 4M");
	return ret;
}

/* A list of vCPU numbers as flags. */
static int read_vcpus(const struct parser *p, const json_t *array, unsigned int nr_vcpus,
		      bool *flags)
{
	if (!json_is_array(array) || json_array_size(array) > nr_vcpus)
		return bad(p, "\"running\": a list of vCPUs is missing or too long");
	for (size_t i = 0; i < json_array_size(array); i++) {
		const json_t *entry = json_array_get(array, i);
		json_int_t vcpu = json_integer_value(entry);

		if (!json_is_integer(entry) || vcpu < 0 || vcpu >= nr_vcpus)
			return bad(p, "\"running\" names a vCPU that is none");
		flags[vcpu] = true;
	}
	return 0;
}

static int read_running(const struct parser *p, const json_t *running,
			struct vmm_machine_info *info)
{
	const char *text = json_string_value(json_object_get(running, "command"));
	int ret;

	if (!running || json_is_null(running))
		return 0;
	if (!text || !*text || strlen(text) >= sizeof(info->running))
		return bad(p, "\"running\" has no command");
	strcpy(info->running, text);
	ret = number(p, running, "seq", info->seq, &info->running_seq);
	if (!ret && !info->running_seq)
		return bad(p, "\"running\": \"seq\" is 0");
	if (!ret)
		ret = maybe_number(p, running, "elapsed_ns", INT64_MAX, &info->running_ns);
	if (!ret)
		ret = read_vcpus(p, json_object_get(running, "busy"), info->nr_vcpus, info->busy);
	if (!ret)
		ret = read_vcpus(p, json_object_get(running, "taken"), info->nr_vcpus, info->taken);
	return ret;
}

static int read_ended(const struct parser *p, const json_t *ended, struct vmm_machine_info *info)
{
	int ret = read_running(p, ended, info);

	info->idle = true;
	memset(info->busy, 0, sizeof(info->busy));
	memset(info->taken, 1, sizeof(info->taken));
	return ret;
}

int vmm_snapshot_parse_machine(const char *text, size_t len, struct vmm_machine_info *info,
			       char *err, size_t err_len)
{
	const struct parser p = {err, err_len};
	AUTO_JSON *root = NULL;
	uint64_t vcpus = 0, abi = 0;
	int accel = 0;
	int ret = load(&p, text, len, VMM_MACHINE_VERSION, &root);

	*info = (struct vmm_machine_info){0};
	if (!ret)
		ret = number(&p, root, "vcpus", PAYLOAD_MAX_VCPUS, &vcpus);
	if (!ret && !vcpus)
		return bad(&p, "\"vcpus\" is 0");
	if (!ret)
		ret = number(&p, root, "payload_abi", UINT32_MAX, &abi);
	if (!ret && abi != PAYLOAD_ABI)
		return bad(&p, "payload ABI is %llu: this program's is %u", (unsigned long long)abi,
			   PAYLOAD_ABI);
	if (!ret)
		ret = name(&p, root, "accel", vmm_accel_names, &accel);
	if (!ret && accel == VMM_ACCEL_AUTO)
		return bad(&p, "\"accel\" names no accelerator");
	if (!ret)
		ret = number(&p, root, "seq", INT64_MAX, &info->seq);
	if (!ret)
		ret = number(&p, root, "state_bytes", VMM_STATE_MAX_BYTES, &info->state_len);
	if (!ret)
		ret = maybe_number(&p, root, "mismatches", INT64_MAX, &info->mismatches);
	info->paused = json_is_true(json_object_get(root, "paused"));
	info->nr_vcpus = (unsigned int)vcpus;
	info->accel = (enum vmm_accel_choice)accel;
	if (!ret)
		ret = read_running(&p, json_object_get(root, "running"), info);
	return ret || info->running[0] ? ret : read_ended(&p, json_object_get(root, "ended"), info);
}
