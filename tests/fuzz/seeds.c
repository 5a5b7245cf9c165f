/* SPDX-License-Identifier: MIT */
/*
 * seeds FOLDER - gives every file of a folder to a fuzz harness once
 *
 * Stands in for libFuzzer in builds by other compilers and under other sanitizers. Each input is
 * copied to a block of its own length, so that a read past its end is seen.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int try_file(const char *folder, const char *name)
{
	static uint8_t buf[1 << 20];
	char path[4096];
	uint8_t *copy;
	size_t len;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "re");
	if (!file)
		return -1;
	len = fread(buf, 1, sizeof(buf), file);
	fclose(file);
	copy = malloc(len ? len : 1);
	if (!copy)
		return -1;
	for (size_t i = 0; i < len; i++)
		copy[i] = buf[i];
	printf("%s\n", path);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	return 0;
}

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	const struct dirent *entry;
	int tried = 0;

	if (!dir) {
		fprintf(stderr, "usage: seeds FOLDER\n");
		return 1;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (try_file(argv[1], entry->d_name) < 0)
			return 1;
		tried++;
	}
	closedir(dir);
	printf("%d inputs\n", tried);
	return tried ? 0 : 1;
}
