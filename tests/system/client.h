/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SYSTEM_CLIENT_H
#define TESTS_SYSTEM_CLIENT_H

/*
 * uffd-client: a VMM for tests, as bad as a test wants it to be. It has guest memory, but no guest:
 * its own threads touch the pages, and every byte is compared with the image.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <faultline/firecracker.h>

struct client {
	/* As asked for. */
	const char *socket;
	const char *image;
	uint64_t len; /* of all memory */
	uint64_t page_size;
	size_t region_count;
	enum fl_firecracker_form form;
	bool hang_up; /* close the socket after the handshake, as Firecracker before 1.12 */
	bool forget;  /* close the userfaultfd after the handshake */
	bool no_fd, two_fds, wrong_fd;
	const char *raw;     /* what to say instead of the handshake */
	size_t piece_bytes;  /* say it in pieces */
	unsigned int clones; /* this many processes do it */

	struct fl_region regions[FL_REGIONS_MAX];
	int image_fd;
	int uffd;
	int sock;
	unsigned char *removed; /* one for each 4 KiB of memory: given back, so zeros */
	char **commands;
	int command_count;
	int ready_fd, go_fd; /* of a clone */
};

/* Prints what is wrong, and ends with status 1. */
_Noreturn void client_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* client_memory.c: memory, registered. */
void client_map(struct client *client);
void client_unmap(const struct client *client, uint64_t region);
unsigned char *client_at(const struct client *client, uint64_t offset);

/* client_check.c: touches whole pages and compares them; fails unless all is as it should be. */
void client_check(const struct client *client, uint64_t offset, uint64_t len);
void client_touch(const struct client *client, unsigned int threads);
/* Gives a range back, and sees zeros from then on. */
void client_remove(struct client *client, uint64_t offset, uint64_t len);
/* Removes at random while threads touch at random. */
void client_storm(struct client *client, unsigned int threads, unsigned int rounds);
/* Touching this page must be a SIGBUS. */
void client_sigbus(const struct client *client, uint64_t offset);
/* Threads that touch pages, and are never waited for. */
void client_block(const struct client *client, unsigned int threads);

#endif
