/* SPDX-License-Identifier: MIT */
/* Images that cannot be read, memory that cannot be had, faults where nothing is. */
#include "guest_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const enum guest_kind kinds[] = {GUEST_ANON, GUEST_MEMFD, GUEST_SEGV, GUEST_HUGETLB};

static void need_poison(void)
{
	SKIP_UNLESS(fl_probe_one("uffd.poison") == 0, "uffd-poison", "no UFFDIO_POISON");
}

/* One page of 32 cannot be read: only that is poisoned, whichever window it lies in. */
static void test_unreadable_page(void **state)
{
	char filter[64];

	(void)state;
	need_poison();
	for (size_t i = 0; i < 4; i++) {
		struct guest guest;
		struct fl_pager_stats stats;
		size_t size = kinds[i] == GUEST_HUGETLB ? 2u << 20 : 4096;
		size_t pages = kinds[i] == GUEST_HUGETLB ? 4 : 32, bad = pages / 4 + 1;

		(void)snprintf(filter, sizeof(filter), "error=EIO,range=%zu+%zu", bad * size, size);
		guest_start(&guest, &(struct guest_config){
					    .kind = kinds[i], .pages = pages, .filters = {filter}});
		guest_check(&guest, bad - 1);
		guest_check(&guest, bad + 1);
		assert_true(guest_is_poisoned(guest_addr(&guest, bad)));
		assert_true(guest_is_poisoned(guest_addr(&guest, bad) + size - 1));
		for (size_t page = 0; page < pages; page++)
			if (page != bad)
				guest_check(&guest, page);
		stats = guest_stats(&guest);
		assert_int_equal(stats.poisoned, 1);
		assert_int_equal(stats.left, 0);
		assert_true(stats.errors > 0);
		fl_pager_stop(guest.pager);
		(void)snprintf(filter, sizeof(filter), "offset 0x%zx cannot be read", bad * size);
		assert_non_null(strstr(guest.log, filter));
		guest_stop(&guest);
	}
}

/* Filling brings every page but the one that cannot be read, and poisons nothing. */
static void test_unreadable_fill(void **state)
{
	static const char *const filters[] = {"error=EIO,range=400K+4K", "error=EIO,range=0+4K",
					      "error=EIO,range=2044K+4K", "error=EIO,range=1M+4K"};

	(void)state;
	need_poison();
	for (size_t i = 0; i < 4; i++) {
		static const size_t bad[] = {100, 0, 511, 256};
		struct guest guest;

		guest_start(&guest, &(struct guest_config){.kind = kinds[i % 3],
							   .pages = 512,
							   .filters = {filters[i]},
							   .flags = FL_PAGER_FILL});
		guest_wait(guest_stats_now(&guest).left == 1);
		assert_int_equal(guest_stats(&guest).poisoned, 0);
		for (size_t page = 0; page < 512; page++)
			if (page != bad[i])
				guest_check(&guest, page);
		assert_int_equal(guest_stats(&guest).demand, 0);
		assert_true(guest_is_poisoned(guest_addr(&guest, bad[i])));
		guest_wait_full(&guest);
		guest_stop(&guest);
	}
}

/* Where nothing can be read filling does not try each page for itself. */
static void test_unreadable_stretch(void **state)
{
	struct guest guest;

	(void)state;
	need_poison();
	guest_start(&guest, &(struct guest_config){.pages = 8192,
						   .filters = {"error=EIO,range=16M+8M", "stats"},
						   .flags = FL_PAGER_FILL});
	guest_wait(guest_stats_now(&guest).fill >= 8192 - 2048 - 128);
	assert_true(guest_reads(&guest).errors < 200);
	guest_check(&guest, 0);
	guest_check(&guest, 8191);
	assert_true(guest_is_poisoned(guest_addr(&guest, 5000)));
	assert_int_equal(guest.ended, 1);
	guest_stop(&guest);
}

/* Threads that wait for good pages of a read that fails get them all the same. */
static void test_joined_failure(void **state)
{
	struct toucher touchers[8];
	struct guest guest;

	(void)state;
	need_poison();
	for (size_t i = 0; i < 3; i++) {
		guest_start(&guest, &(struct guest_config){
					    .kind = kinds[i],
					    .pages = 16,
					    .filters = {"error=EIO,range=60K+4K", "delay=2ms"},
					    .flags = i == 1 ? FL_PAGER_FILL : 0});
		for (size_t n = 0; n < 8; n++)
			toucher_start(&touchers[n], guest_addr(&guest, n));
		for (size_t n = 0; n < 8; n++)
			toucher_join(&touchers[n]);
		for (size_t page = 0; page < 15; page++)
			guest_check(&guest, page);
		assert_true(guest_is_poisoned(guest_addr(&guest, 15)));
		assert_int_equal(guest_stats(&guest).poisoned, 1);
		guest_stop(&guest);
	}
}

/* What passes by is tried again and does no harm. */
static void test_transient(void **state)
{
	struct guest guest;
	struct fl_pager_stats stats;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		guest_start(&guest, &(struct guest_config){
					    .kind = kinds[i],
					    .pages = 64,
					    .filters = {"error=EIO,first=3", "retry=5,first=1ms"},
					    .flags = i == 2 ? FL_PAGER_FILL : 0});
		guest_check_all(&guest);
		stats = guest_stats(&guest);
		assert_int_equal(stats.poisoned, 0);
		assert_int_equal(stats.errors, 0);
		guest_stop(&guest);
	}
}

/* A file that is cut while it is served never turns into zeros, holes or not. */
static void test_truncated(void **state)
{
	struct guest guest;

	(void)state;
	need_poison();
	for (size_t i = 0; i < 2; i++) {
		guest_start(&guest, &(struct guest_config){.kind = kinds[i],
							   .disk = i == 0,
							   .pages = 64,
							   .hole_at = 48 * 4096,
							   .hole_len = 8 * 4096});
		guest_check(&guest, 0);
		assert_int_equal(ftruncate(guest.image, 40 * 4096), 0);
		for (size_t page = 0; page < 40; page++)
			guest_check(&guest, page);
		for (size_t page = 40; page < 64; page++)
			assert_true(guest_is_poisoned(guest_addr(&guest, page)));
		assert_int_equal(guest_stats(&guest).poisoned, 24);
		guest_stop(&guest);
	}
}

/* A poisoned page that is given back is a page again. */
static void test_remove_poisoned(void **state)
{
	struct guest guest;
	char *at;

	(void)state;
	need_poison();
	guest_start(&guest, &(struct guest_config){.filters = {"error=EIO,range=4K+4K"}});
	at = guest_addr(&guest, 1);
	assert_true(guest_is_poisoned(at));
	assert_int_equal(madvise(at, 4096, MADV_DONTNEED), 0);
	guest_check_zero(&guest, 1);
	guest_stop(&guest);
}

/* The mark of a poisoned page goes with a hole punched in the file; the page stays poisoned. */
static void test_punch_poisoned(void **state)
{
	struct guest guest;
	char *at;

	(void)state;
	need_poison();
	guest_start(&guest, &(struct guest_config){.kind = GUEST_MEMFD,
						   .filters = {"error=EIO,range=4K+4K"}});
	at = guest_addr(&guest, 1);
	assert_true(guest_is_poisoned(at));
	assert_int_equal(
		fallocate(guest.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), 0);
	assert_true(guest_is_poisoned(at));
	guest_stop(&guest);
}

/* Registered, but no part of the guest. */
static void test_outside(void **state)
{
	struct guest guest;

	(void)state;
	need_poison();
	for (size_t i = 0; i < 2; i++) {
		guest_start(&guest, &(struct guest_config){.kind = kinds[i], .tail = true});
		assert_true(guest_is_poisoned(guest.mem + guest.len + 100));
		guest_check_all(&guest);
		fl_pager_stop(guest.pager);
		assert_non_null(strstr(guest.log, "outside the guest's memory"));
		assert_int_equal(guest.ended, 1);
		guest_stop(&guest);
	}
}

static void test_outside_hugetlb(void **state)
{
	struct guest guest;

	(void)state;
	need_poison();
	guest_start(&guest,
		    &(struct guest_config){.kind = GUEST_HUGETLB, .pages = 2, .tail = true});
	guest_check(&guest, 0);
	assert_true(guest_is_poisoned(guest.mem + guest.len + 5000));
	guest_check(&guest, 1);
	assert_int_equal(guest_stats(&guest).poisoned, 0);
	assert_non_null(strstr(guest.log, "outside the guest's memory"));
	assert_int_equal(guest.ended, 1);
	guest_stop(&guest);
}

/* A guest that touches such a page again and again does not fill the log. */
static void test_outside_often(void **state)
{
	struct guest guest;
	size_t lines = 0;

	(void)state;
	need_poison();
	guest_start(&guest, &(struct guest_config){.tail = true});
	for (size_t i = 0; i < 100; i++) {
		assert_true(guest_is_poisoned(guest.mem + guest.len));
		assert_int_equal(madvise(guest.mem + guest.len, 4096, MADV_DONTNEED), 0);
	}
	fl_pager_stop(guest.pager);
	for (const char *at = guest.log; (at = strstr(at, "it is poisoned")); at++)
		lines++;
	assert_int_equal(lines, 16 + 3); /* 16, 32, 64 */
	guest_stop(&guest);
}

/* Installs from a buffer that cannot be read, as often as it is told to. */
struct unreadable {
	struct fl_install install;
	struct fl_install *real;
	void *buf;
	unsigned int times;
};

static int64_t unreadable_copy(struct fl_install *install, uint64_t addr, const void *from,
			       uint64_t len_bytes, unsigned int flags)
{
	struct unreadable *self = (void *)install;

	if (self->times) {
		self->times--;
		from = self->buf;
	}
	return fl_install_copy(self->real, addr, from, len_bytes, flags);
}

static int64_t unreadable_poison(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
				 unsigned int flags)
{
	return fl_install_poison(((struct unreadable *)(void *)install)->real, addr, len_bytes,
				 flags);
}

/* The kernel says EFAULT of a page that is the guest's: its contents come later, or never; it does
 * not read as zeros. */
static void test_unreadable_buffer(void **state)
{
	static const struct fl_install_ops ops = {.size = sizeof(ops),
						  .version = FL_INSTALL_OPS_VERSION,
						  .name = "unreadable",
						  .copy = unreadable_copy,
						  .poison = unreadable_poison};
	struct unreadable install = {.install = {.ops = &ops}};
	struct guest guest;

	(void)state;
	need_poison();
	install.buf = mmap(NULL, 1u << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(install.buf, MAP_FAILED);
	for (size_t i = 0; i < 2; i++) {
		guest_start(&guest, &(struct guest_config){.pages = 16, .stopped = true});
		fl_pager_close(guest.pager);
		install.real = guest.install;
		install.times = i ? 13 : 3;
		guest.install = &install.install;
		guest.config.stopped = false;
		guest_pager(&guest, 0);
		assert_int_equal(guest_is_poisoned(guest_addr(&guest, 5)), i);
		for (size_t page = 0; page < 16; page++)
			if (!i || page != 5)
				guest_check(&guest, page);
		assert_int_equal(guest_stats(&guest).poisoned, i);
		assert_int_equal(guest_stats(&guest).removed, 0);
		assert_int_equal(guest.ended, 1);
		fl_pager_close(guest.pager);
		guest.pager = NULL;
		guest.install = install.real;
		guest_stop(&guest);
	}
	assert_int_equal(munmap(install.buf, 1u << 20), 0);
}

/* What could not be read is tried again when filling is asked for again. */
static void test_fill_again(void **state)
{
	struct guest guest;

	(void)state;
	guest_start(&guest, &(struct guest_config){.pages = 8192,
						   .filters = {"error=EIO,first=60", "stats"},
						   .flags = FL_PAGER_FILL});
	guest_wait(guest_stats_now(&guest).errors == 60 && guest_stats_now(&guest).fill);
	fl_pager_fill(guest.pager);
	guest_wait_full(&guest);
	assert_int_equal(guest_stats(&guest).fill, 8192);
	guest_check_all(&guest);
	guest_stop(&guest);
}

/* Takes huge pages until there is none left, whatever other processes do with theirs. */
static char *empty_pool(size_t *len)
{
	char *mem;

	*len = (test_lock_hugepages() + 64) << 21;
	mem = mmap(NULL, *len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	for (size_t at = 0; at < *len; at += 2u << 20) {
		if (madvise(mem + at, 2u << 20, MADV_POPULATE_WRITE))
			break;
	}
	return mem;
}

/* The kernel says EEXIST for want of a page; when there is one, its contents come. */
static void test_empty_pool(void **state)
{
	struct toucher toucher;
	struct guest guest;
	char *held;
	size_t len;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		guest_start(&guest, &(struct guest_config){.kind = GUEST_HUGETLB,
							   .pages = 4,
							   .pagemap = i % 2,
							   .stopped = true,
							   .flags = i / 2 ? FL_PAGER_FILL : 0});
		held = empty_pool(&len);
		assert_int_equal(fl_pager_start(guest.pager), 0);
		toucher_start(&toucher, guest_addr(&guest, 1));
		guest_wait(guest_stats_now(&guest).retries >= 3);
		assert_false(toucher.done);
		assert_int_equal(munmap(held, len), 0);
		toucher_join(&toucher);
		guest_check_all(&guest);
		fl_pager_stop(guest.pager);
		assert_non_null(strstr(guest.log, "the hugetlbfs pool is empty"));
		assert_int_equal(guest_stats(&guest).poisoned, 0);
		guest_stop(&guest);
	}
}

static void test_pool_stays_empty(void **state)
{
	struct guest guest;
	char *held;
	size_t len;

	(void)state;
	need_poison();
	for (size_t i = 0; i < 2; i++) {
		guest_start(&guest, &(struct guest_config){
					    .kind = GUEST_HUGETLB, .pages = 4, .pagemap = i == 0});
		guest_check(&guest, 0);
		held = empty_pool(&len);
		assert_true(guest_is_poisoned(guest_addr(&guest, 1)));
		assert_int_equal(munmap(held, len), 0);
		for (size_t page = 0; page < 4; page++)
			if (page != 1)
				guest_check(&guest, page);
		assert_true(guest_is_poisoned(guest_addr(&guest, 1)));
		assert_int_equal(guest_stats(&guest).poisoned, 1);
		assert_int_equal(guest.ended, 1);
		guest_stop(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unreadable_page),
		cmocka_unit_test(test_unreadable_fill),
		cmocka_unit_test(test_unreadable_stretch),
		cmocka_unit_test(test_joined_failure),
		cmocka_unit_test(test_transient),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_remove_poisoned),
		cmocka_unit_test(test_punch_poisoned),
		cmocka_unit_test(test_outside),
		cmocka_unit_test(test_outside_hugetlb),
		cmocka_unit_test(test_outside_often),
		cmocka_unit_test(test_unreadable_buffer),
		cmocka_unit_test(test_fill_again),
		cmocka_unit_test(test_empty_pool),
		cmocka_unit_test(test_pool_stays_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
