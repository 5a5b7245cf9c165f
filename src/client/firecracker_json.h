/* SPDX-License-Identifier: MIT */
#ifndef FL_CLIENT_FIRECRACKER_JSON_H
#define FL_CLIENT_FIRECRACKER_JSON_H

#include <stdbool.h>
#include <faultline/firecracker.h>

/*
 * Finds the end of a JSON array in a stream without reading any byte twice, and without recursion.
 * It takes anything; whether the text is JSON at all is for fl_firecracker_parse() to say.
 */
struct fl_json_scan {
	unsigned int depth;
	uint32_t objects; /* a bit for each open bracket, the innermost lowest: is it a brace? */
	bool begun, in_string, escaped;
};

enum fl_json_verdict { FL_JSON_MORE, FL_JSON_WHOLE, FL_JSON_TOO_DEEP };

/* More bytes of the text. MORE until the array is closed, or until it can be none. */
enum fl_json_verdict fl_json_scan(struct fl_json_scan *scan, const char *text, size_t len_bytes);

/* The handshake as text, to be freed with free(3); NULL without memory. */
char *fl_firecracker_format(const struct fl_region *regions, size_t count,
			    enum fl_firecracker_form form);

#endif
