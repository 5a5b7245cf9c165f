/* SPDX-License-Identifier: MIT */
/* A sentence from a peer ends up in logs and on terminals: it must not be able to do more than say
 * something. */
#include "link/wire.h"

#include <string.h>

/* Length of the character that bytes begin with, 0 when they are none (RFC 3629). */
static uint32_t utf8_decode(const uint8_t *bytes, uint32_t len, uint32_t *character)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t size = bytes[0] < 0x80   ? 1
			: bytes[0] < 0xc0 ? 0
			: bytes[0] < 0xe0 ? 2
			: bytes[0] < 0xf0 ? 3
			: bytes[0] < 0xf8 ? 4
					  : 0;

	if (size == 0 || size > len)
		return 0;
	*character = size == 1 ? bytes[0] : bytes[0] & (0x7fu >> size);
	for (uint32_t i = 1; i < size; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		*character = *character << 6 | (bytes[i] & 0x3f);
	}
	return *character >= least[size] ? size : 0;
}

/* Not what controls a terminal, turns the direction of text or is no character at all. */
static bool can_be_shown(uint32_t character)
{
	if (character < 0x20 || (character >= 0x7f && character < 0xa0))
		return false;
	if (character >= 0x2028 && character <= 0x202e)
		return false;
	if (character >= 0x2066 && character <= 0x2069)
		return false;
	return character < 0xd800 || (character > 0xdfff && character <= 0x10ffff);
}

void fl_frame_text(char *text, size_t size, const void *payload, uint32_t len)
{
	const uint8_t *bytes = payload;
	size_t at = 0;

	while (len > 0) {
		uint32_t character = 0;
		uint32_t took = utf8_decode(bytes, len, &character);
		bool good = took > 0 && can_be_shown(character);
		uint32_t gives = good ? took : 1;

		if (took == 0)
			took = 1;
		if (at + gives >= size)
			break;
		memcpy(text + at, good ? (const void *)bytes : "?", gives);
		at += gives;
		bytes += took;
		len -= took;
	}
	text[at] = '\0';
}
