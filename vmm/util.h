/* SPDX-License-Identifier: MIT */
/* Small things every file of the VMM uses: errors with a text, sizes, time. */
#ifndef FAULTLINE_VMM_UTIL_H
#define FAULTLINE_VMM_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#define KIB          1024ull
#define MIB          (1024 * KIB)
#define GIB          (1024 * MIB)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/**
 * vmm_fail() - remember what went wrong, for this thread
 * @err: a positive errno
 * @format: one sentence that names what and where
 *
 * Return: -@err, to be returned on.
 */
int vmm_fail(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* vmm_error_text() - the text of this thread's last vmm_fail() */
const char *vmm_error_text(void);

/* vmm_say() - a line on stderr, prefixed with the program's name */
void vmm_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* vmm_parse_size() - "4096", "64K", "256M", "2G" in bytes. Return: 0 or -EINVAL. */
int vmm_parse_size(const char *text, uint64_t *bytes);

/* vmm_parse_number() - decimal or 0x. Return: 0 or -EINVAL. */
int vmm_parse_number(const char *text, uint64_t *value);

/* vmm_now_ns() - CLOCK_MONOTONIC */
uint64_t vmm_now_ns(void);

/* vmm_read_whole() - a file of at most @max bytes, NUL-terminated, to be freed. Return: 0 or
 * -errno. */
int vmm_read_whole(int dir_fd, const char *name, size_t max, char **text, size_t *len);

/* vmm_write_all() - write(2) until done. Return: 0 or -errno. */
int vmm_write_all(int fd, const void *data, size_t len);

/* vmm_fnv64() - FNV-1a (64 bits) of @len bytes: catches accidents, not malice */
uint64_t vmm_fnv64(const void *data, size_t len);

static inline void vmm_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vmm_free_ptr(void *pointer_to_pointer);

#define AUTO_FD   __attribute__((cleanup(vmm_close_fd))) int
#define AUTO_FREE __attribute__((cleanup(vmm_free_ptr)))

#endif
