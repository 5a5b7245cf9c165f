/* SPDX-License-Identifier: MIT */
/* Text from the guest, a byte at a time. */
#include "env.h"

void payload_print(const struct payload_env *env, const char *text)
{
	for (; *text; text++)
		payload_out(env, PAYLOAD_PORT_CONSOLE, (unsigned char)*text);
}

void payload_print_hex(const struct payload_env *env, uint64_t value)
{
	int shift = 60;

	while (shift && !(value >> shift))
		shift -= 4;
	payload_print(env, "0x");
	for (; shift >= 0; shift -= 4)
		payload_out(env, PAYLOAD_PORT_CONSOLE, "0123456789abcdef"[value >> shift & 15]);
}
