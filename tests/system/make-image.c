/* SPDX-License-Identifier: MIT */
/*
 * make-image FILE BYTES SEED [HOLES] - an image whose every word says where it stands
 * (test_pattern), with a hole of 64 KiB before each 64 KiB of contents when HOLES is given
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support.h"

#define STEP 65536

int main(int argc, char **argv)
{
	static char buf[STEP];
	unsigned long long len = argc > 3 ? strtoull(argv[2], NULL, 0) : 0;
	unsigned long long seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	int fd = len ? open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0) {
		perror("make-image FILE BYTES SEED [HOLES]");
		return 1;
	}
	for (unsigned long long at = argc > 4 ? STEP : 0; at<len; at += argc> 4 ? 2 * STEP : STEP) {
		size_t now = len - at < STEP ? (size_t)(len - at) : STEP;

		test_pattern(buf, now, at, seed);
		if (pwrite(fd, buf, now, (off_t)at) != (ssize_t)now) {
			perror(argv[1]);
			return 1;
		}
	}
	return close(fd) ? 1 : 0;
}
