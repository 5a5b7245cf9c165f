/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

/* splitmix64's mixing step: one word says nothing about its neighbours. */
static uint64_t word_at(uint64_t pos, uint64_t seed)
{
	uint64_t x = pos / sizeof(uint64_t) + seed * 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

void test_pattern(void *buf, size_t len, uint64_t pos, uint64_t seed)
{
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t word = word_at(pos + i, seed);

		memcpy((char *)buf + i, &word, sizeof(word));
	}
}

ptrdiff_t test_mismatch(const void *buf, size_t len, uint64_t pos, uint64_t seed)
{
	const unsigned char *bytes = buf;

	for (size_t i = 0; i < len; i++) {
		uint64_t word = word_at(pos + i, seed);

		if (bytes[i] != ((const unsigned char *)&word)[i % sizeof(word)])
			return (ptrdiff_t)i;
	}
	return -1;
}

ptrdiff_t test_nonzero(const void *buf, size_t len)
{
	const unsigned char *bytes = buf;

	for (size_t i = 0; i < len; i++) {
		if (bytes[i])
			return (ptrdiff_t)i;
	}
	return -1;
}

int test_image(size_t len, uint64_t seed)
{
	int fd = memfd_create("test image", MFD_CLOEXEC);
	void *map;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	test_pattern(map, len, 0, seed);
	munmap(map, len);
	return fd;
}

unsigned int test_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 3; /* ".", ".." and the directory itself */
}

unsigned long test_lock_hugepages(void)
{
	static const char pool[] = "/sys/kernel/mm/hugepages/hugepages-2048kB";
	static int lock = -1;
	unsigned long count = 0;
	FILE *file;

	if (lock < 0)
		lock = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return 0;
	file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	if (!file)
		return 0;
	if (fscanf(file, "%lu", &count) != 1)
		count = 0;
	fclose(file);
	return count;
}

/*
 * Counting. Where a sanitizer owns malloc() it tells us of each call; elsewhere we stand in front
 * of the C library's, which sees the calls of every other library of the process too.
 */
static atomic_uint_fast64_t allocations;

uint64_t test_allocations(void)
{
	return atomic_load(&allocations);
}

static inline void count(void)
{
	atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
}

#ifndef __has_feature /* clang's way to ask; gcc defines the macros */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)

typedef void malloc_hook(const volatile void *ptr, size_t size);
typedef void free_hook(const volatile void *ptr);
int __sanitizer_install_malloc_and_free_hooks(malloc_hook *on_malloc, free_hook *on_free);

static void on_malloc(const volatile void *ptr, size_t size)
{
	(void)ptr;
	(void)size;
	count();
}

static void on_free(const volatile void *ptr)
{
	(void)ptr;
}

__attribute__((constructor)) static void install_hooks(void)
{
	__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}

#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *ptr, size_t size);
void *__libc_memalign(size_t align, size_t size);

void *malloc(size_t size)
{
	count();
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	count();
	return __libc_calloc(n, size);
}

void *realloc(void *ptr, size_t size)
{
	count();
	return __libc_realloc(ptr, size);
}

void *memalign(size_t align, size_t size)
{
	count();
	return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	count();
	return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
	void *ptr;

	count();
	ptr = __libc_memalign(align, size);
	if (!ptr)
		return ENOMEM;
	*out = ptr;
	return 0;
}

#endif
