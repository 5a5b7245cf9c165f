/* SPDX-License-Identifier: MIT */
/* What HELLO, WELCOME and MACHINE carry. */
#include "link/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "link/bytes.h"
#include "util/error.h"

#define GIB (UINT64_C(1) << 30)

void fl_hello_encode(uint8_t bytes[FL_WIRE_HELLO_BYTES], const struct fl_wire_hello *hello)
{
	memset(bytes, 0, FL_WIRE_HELLO_BYTES);
	fl_put16(bytes, hello->version_min);
	fl_put16(bytes + 2, hello->version_max);
	bytes[4] = hello->channel;
	bytes[5] = hello->role;
	bytes[6] = hello->recover;
	fl_put32(bytes + 8, hello->features);
	memcpy(bytes + 16, hello->session, FL_WIRE_SESSION);
}

static int check_at_most(const char *field, unsigned int value, unsigned int max,
			 struct fl_error *err)
{
	if (value <= max)
		return 0;
	return fl_error_set(err, -EBADMSG, "HELLO: %s is %u, must be 0 to %u", field, value, max);
}

int fl_hello_decode(struct fl_wire_hello *hello, const uint8_t *bytes, uint32_t len,
		    struct fl_error *err)
{
	int rc;

	if (len != FL_WIRE_HELLO_BYTES)
		return fl_error_set(err, -EBADMSG, "HELLO: len is %u, must be %u", len,
				    FL_WIRE_HELLO_BYTES);
	*hello = (struct fl_wire_hello){
		.version_min = fl_get16(bytes),
		.version_max = fl_get16(bytes + 2),
		.channel = bytes[4],
		.role = bytes[5],
		.recover = bytes[6],
		.features = fl_get32(bytes + 8),
	};
	memcpy(hello->session, bytes + 16, FL_WIRE_SESSION);
	if (hello->version_min == 0 || hello->version_min > hello->version_max)
		return fl_error_set(err, -EBADMSG,
				    "HELLO: versions are %u to %u, must rise from 1 or more",
				    hello->version_min, hello->version_max);
	rc = check_at_most("connection", hello->channel, FL_CHANNEL_DEMAND, err);
	if (!rc)
		rc = check_at_most("role", hello->role, FL_ROLE_INCOMING, err);
	if (!rc)
		rc = check_at_most("recover", hello->recover, 1, err);
	return rc;
}

int fl_hello_agree(const struct fl_wire_hello *mine, const struct fl_wire_hello *theirs,
		   struct fl_error *err)
{
	uint16_t high = mine->version_max < theirs->version_max ? mine->version_max
								: theirs->version_max;

	if (high >= mine->version_min && high >= theirs->version_min)
		return high;
	return fl_error_set(err, -EPROTONOSUPPORT,
			    "no version in common: this side speaks %u to %u, the other %u to %u",
			    mine->version_min, mine->version_max, theirs->version_min,
			    theirs->version_max);
}

void fl_regions_encode(uint8_t *bytes, const struct fl_region *regions, size_t count)
{
	for (size_t i = 0; i < count; i++, bytes += FL_WIRE_REGION_BYTES) {
		fl_put64(bytes, regions[i].gpa);
		fl_put64(bytes + 8, regions[i].offset);
		fl_put64(bytes + 16, regions[i].len_bytes);
		fl_put64(bytes + 24, regions[i].page_size);
	}
}

static int judge(const struct fl_region *regions, size_t count, struct fl_error *err)
{
	struct fl_layout *layout = NULL;
	struct fl_error why = {0};
	int rc = fl_layout_new(&layout, regions, count, &why);

	fl_layout_free(layout);
	if (rc == -ENOMEM)
		return fl_error_set(err, rc, "MACHINE: no memory to look at its regions");
	return rc ? fl_error_set(err, -EBADMSG, "MACHINE: %.200s", why.text) : 0;
}

int fl_regions_decode(struct fl_region *regions, size_t count, const uint8_t *bytes, uint64_t len,
		      struct fl_error *err)
{
	if (count == 0 || count > FL_REGIONS_MAX)
		return fl_error_set(err, -EBADMSG, "MACHINE: regions are %zu, must be 1 to %d",
				    count, FL_REGIONS_MAX);
	if (len < count * FL_WIRE_REGION_BYTES)
		return fl_error_set(err, -EBADMSG,
				    "MACHINE: length is %" PRIu64 ", must be %zu for %zu regions",
				    len, count * FL_WIRE_REGION_BYTES, count);
	for (size_t i = 0; i < count; i++, bytes += FL_WIRE_REGION_BYTES) {
		regions[i] = (struct fl_region){
			.gpa = fl_get64(bytes),
			.offset = fl_get64(bytes + 8),
			.addr = FL_NOWHERE,
			.len_bytes = fl_get64(bytes + 16),
			.page_size = fl_get64(bytes + 24),
		};
		if (regions[i].page_size == GIB)
			return fl_error_set(err, -EOPNOTSUPP,
					    "MACHINE: region %zu: pages of 1 GiB cannot move", i);
	}
	return judge(regions, count, err);
}
