/* SPDX-License-Identifier: MIT */

/*
 * What the kernel really answers (docs: the table of the same name in the design), each seen here
 * on the kernel that runs. What a test does by a bare ioctl or system call is the kernel's side of
 * it; what it does by fl_*() is ours.
 */

#include "trap/rig_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS        40
#define REMOVED_PAGES 2048
#define SPARE_PAGES   32

static int64_t copy_page(struct rig *rig, size_t page, size_t pages, const void *from)
{
	return fl_install_copy(rig->install, page_addr(&rig->ram, page), from,
			       pages * rig->ram.page, 0);
}

static int look(const struct rig *rig, size_t page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int there;

	assert_true(fd >= 0);
	there = fl_install_look(fd, page_addr(&rig->ram, page));
	close(fd);
	return there;
}

static void *all_contents(const struct ram *ram)
{
	char *contents = aligned_alloc(ram->page, ram->len);

	assert_non_null(contents);
	for (size_t i = 0; i < ram->len / ram->page; i++) {
		char *page = page_contents(ram, i);

		memcpy(contents + i * ram->page, page, ram->page);
		free(page);
	}
	return contents;
}

/* EEXIST: already there, and left alone. With pages before it: those are finished. */
static void test_exists_and_partial(void **state)
{
	struct rig rig;
	char *contents;

	(void)state;
	rig_new(&rig, RAM_ANON, 5, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	contents = all_contents(&rig.ram);
	install_zero_page(&rig, 2);
	assert_int_equal(copy_page(&rig, 0, 5, contents), 2 * rig.ram.page);
	assert_int_equal(copy_page(&rig, 2, 3, contents), -EEXIST);
	assert_int_equal(copy_page(&rig, 3, 2, contents + 3 * rig.ram.page), 2 * rig.ram.page);
	assert_page(&rig.ram, 0);
	assert_page(&rig.ram, 1);
	assert_zero_page(&rig.ram, 2);
	assert_page(&rig.ram, 3);
	assert_page(&rig.ram, 4);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 4), rig.ram.page, rig.ram.page, 0),
		-EEXIST);
	assert_page(&rig.ram, 4);
	free(contents);
	rig_free(&rig);
}

/* A thread that touches between our look and the install: EEXIST must be followed by a wake. */
static void test_exists_wakes_nobody(void **state)
{
	struct rig rig;
	struct actor actor;
	char *contents;

	(void)state;
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	assert_int_equal(fl_install_copy(rig.install, page_addr(&rig.ram, 0), contents,
					 rig.ram.page, FL_INSTALL_DONTWAKE),
			 rig.ram.page);
	assert_int_equal(copy_page(&rig, 0, 1, contents), -EEXIST);
	actor_wait_asleep(&actor);
	assert_int_equal(fl_trap_wake(rig.trap, page_addr(&rig.ram, 0), rig.ram.page), 0);
	assert_int_equal(actor_join(&actor), (unsigned char)contents[0]);
	free(contents);
	rig_free(&rig);
}

/* All pages of the pool, but for those already reserved. */
static struct ram take_pool(void)
{
	struct ram pool;
	unsigned long count = test_lock_hugepages();

	SKIP_UNLESS(count >= 2, "hugetlb", "%lu free pages of 2 MiB, 2 wanted", count);
	ram_new(&pool, RAM_HUGE_ANON, count);
	for (size_t i = 0; i < count; i++)
		pool.at[i * pool.page] = 1;
	return pool;
}

/* A mapping of huge pages that has none reserved. */
static void rig_unreserved(struct rig *rig, size_t pages)
{
	struct fl_error err = {0};

	memset(rig, 0, sizeof(*rig));
	rig->ram = (struct ram){.memfd = -1, .page = 2 << 20, .len = pages * (2 << 20)};
	rig->ram.at = mmap(NULL, rig->ram.len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE |
				   21 << MAP_HUGE_SHIFT,
			   -1, 0);
	assert_true(rig->ram.at != MAP_FAILED);
	rig->uffd = fl_uffd_open(0, 0, NULL, &err);
	SKIP_UNLESS(rig->uffd >= 0, "uffd", "%s", err.text);
	assert_int_equal(fl_trap_uffd_new(&rig->trap, rig->uffd, NULL), 0);
	assert_int_equal(
		fl_trap_arm(rig->trap, page_addr(&rig->ram, 0), rig->ram.len, FL_TRAP_MISSING), 0);
	rig_copy(rig);
}

/* The first page that there is no memory for; others may have given some back just now. */
static size_t first_refused(struct rig *rig, const void *contents)
{
	for (size_t i = 0; i < SPARE_PAGES; i++)
		if (copy_page(rig, i, 1, contents) != (int64_t)rig->ram.page)
			return i;
	fail_msg("the pool does not get empty");
	return 0;
}

/* EEXIST for a page that is absent, from an empty pool; a look tells. */
static void test_exists_from_an_empty_pool(void **state)
{
	struct ram pool = take_pool();
	struct rig rig;
	char *contents;
	size_t page;

	(void)state;
	rig_unreserved(&rig, SPARE_PAGES);
	contents = page_contents(&rig.ram, 0);
	page = first_refused(&rig, contents);
	assert_int_equal(copy_page(&rig, page, 1, contents), -EEXIST);
	assert_int_equal(look(&rig, page), 0);
	/* One page given back, and the same call goes through. */
	munmap(pool.at, pool.page);
	assert_int_equal(copy_page(&rig, page, 1, contents), rig.ram.page);
	assert_int_equal(look(&rig, page), 1);
	assert_int_equal(copy_page(&rig, page, 1, contents), -EEXIST);
	assert_filled(rig.ram.at + page * rig.ram.page, rig.ram.page, 0, RIG_SEED);
	free(contents);
	rig_free(&rig);
	pool.at += pool.page;
	pool.len -= pool.page;
	ram_free(&pool);
}

/* EAGAIN while a REMOVE waits to be read; afterwards it goes through. */
static void test_again_while_a_remove_is_pending(void **state)
{
	struct rig rig;
	struct actor actor;
	struct fl_event event;
	int64_t done;
	char *contents;

	(void)state;
	rig_new(&rig, RAM_ANON, 4, FL_TRAP_MISSING | FL_TRAP_WP, UFFD_FEATURE_EVENT_REMOVE);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	actor = (struct actor){
		.act = act_madvise,
		.at = rig.ram.at + 2 * rig.ram.page,
		.len = rig.ram.page,
		.number = MADV_DONTNEED,
	};
	actor_start(&actor);
	actor_wait_asleep(&actor);
	/* Not where it removes, but anywhere. */
	assert_int_equal(copy_page(&rig, 0, 1, contents), -EAGAIN);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 0), rig.ram.page, rig.ram.page, 0),
		-EAGAIN);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 -EAGAIN);
	assert_int_equal(fl_install_map(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 -EAGAIN);
	assert_int_equal(fl_trap_protect(rig.trap, page_addr(&rig.ram, 0), rig.ram.page, true),
			 -EAGAIN);
	event = next_event(rig.trap);
	assert_int_equal(event.kind, FL_EVENT_REMOVE);
	/* It also comes without any event, until the thread that removes has run. */
	do {
		done = copy_page(&rig, 0, 1, contents);
	} while (done == -EAGAIN && !sched_yield());
	assert_int_equal(done, rig.ram.page);
	assert_int_equal(actor_join(&actor), 0);
	assert_page(&rig.ram, 0);
	free(contents);
	rig_free(&rig);
}

/* One round: the last page is copied as soon as that is possible while all pages are removed. */
static void copy_during_a_remove(struct rig *rig, size_t last, const char *contents)
{
	struct actor remover = {
		.act = act_madvise,
		.at = rig->ram.at,
		.len = rig->ram.len,
		.number = MADV_DONTNEED,
	};
	int64_t done;

	/* Something to remove, which takes its time. */
	assert_int_equal(fl_install_zero(rig->install, page_addr(&rig->ram, 0),
					 last * rig->ram.page, rig->ram.page, 0),
			 last * rig->ram.page);
	actor_start(&remover);
	assert_int_equal(next_event(rig->trap).kind, FL_EVENT_REMOVE);
	do {
		done = copy_page(rig, last, 1, contents);
	} while (done == -EAGAIN);
	assert_int_equal(done, rig->ram.page);
	assert_int_equal(actor_join(&remover), 0);
}

/* Such a copy may be zapped by what was under way: then the page is missing again, and touching it
 * is a new fault. Either way is seen as what it is. */
static void test_copy_during_a_remove(void **state)
{
	size_t last = REMOVED_PAGES;
	struct rig rig;
	struct actor actor;
	char *contents;
	int zapped = 0;

	(void)state;
	rig_new(&rig, RAM_ANON, last + 1, FL_TRAP_MISSING, UFFD_FEATURE_EVENT_REMOVE);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, last);
	for (int i = 0; i < ROUNDS; i++) {
		copy_during_a_remove(&rig, last, contents);
		if (look(&rig, last)) {
			assert_page(&rig.ram, last);
		} else {
			zapped++;
			load_start(&actor, rig.ram.at + last * rig.ram.page);
			next_fault(&rig, last, 0);
			install_zero_page(&rig, last);
			assert_int_equal(actor_join(&actor), 0);
		}
		actor = (struct actor){
			.act = act_madvise,
			.at = rig.ram.at + last * rig.ram.page,
			.len = rig.ram.page,
			.number = MADV_DONTNEED,
		};
		actor_start(&actor);
		assert_int_equal(next_event(rig.trap).kind, FL_EVENT_REMOVE);
		assert_int_equal(actor_join(&actor), 0);
	}
	print_message("%d of %d copies were zapped\n", zapped, ROUNDS);
	free(contents);
	rig_free(&rig);
}

/* ENOENT where nothing is registered or mapped; EFAULT where the contents cannot be read, and what
 * came before that is finished. */
static void test_range_is_gone(void **state)
{
	struct rig rig;
	char *contents;

	(void)state;
	rig_new(&rig, RAM_ANON, 4, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	contents = all_contents(&rig.ram);
	assert_int_equal(fl_trap_release(rig.trap, page_addr(&rig.ram, 2), 2 * rig.ram.page), 0);
	assert_int_equal(copy_page(&rig, 2, 1, contents), -ENOENT);
	munmap(rig.ram.at + 3 * rig.ram.page, rig.ram.page);
	assert_int_equal(copy_page(&rig, 3, 1, contents), -ENOENT);
	assert_int_equal(mprotect(contents + rig.ram.page, rig.ram.page, PROT_NONE), 0);
	assert_int_equal(copy_page(&rig, 0, 2, contents), rig.ram.page);
	assert_int_equal(copy_page(&rig, 1, 1, contents + rig.ram.page), -EFAULT);
	assert_int_equal(mprotect(contents + rig.ram.page, rig.ram.page, PROT_READ | PROT_WRITE),
			 0);
	assert_page(&rig.ram, 0);
	free(contents);
	rig_free(&rig);
}

static void test_invalid(void **state)
{
	struct rig rig;
	uint64_t at;
	char *contents;

	(void)state;
	rig_new(&rig, RAM_ANON, 2, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	at = page_addr(&rig.ram, 0);
	assert_int_equal(fl_install_copy(rig.install, at + 1, contents, 4096, 0), -EINVAL);
	assert_int_equal(fl_install_copy(rig.install, at, contents, 1, 0), -EINVAL);
	assert_int_equal(fl_install_copy(rig.install, at, contents, 0, 0), -EINVAL);
	assert_int_equal(fl_install_copy(rig.install, at, contents, 4096, 1u << 9), -EINVAL);
	assert_int_equal(fl_install_zero(rig.install, at, 4096, 0, 0), -EINVAL);
	assert_int_equal(fl_install_zero(rig.install, at, 4096, 2 << 20, 0), -EINVAL);
	assert_int_equal(fl_install_poison(rig.install, at, 4096, FL_INSTALL_WP), -EINVAL);
	assert_int_equal(fl_install_copy(rig.install, UINT64_MAX - 4095, contents, 8192, 0),
			 -EINVAL);
	free(contents);
	rig_free(&rig);
}

/* ESRCH from everything that would change the address space of a VMM that is dead. */
static void test_dead_vmm(void **state)
{
	struct fl_install *install;
	struct vmm vmm;
	char page[4096] = {0};

	(void)state;
	vmm_start(&vmm, 1 << 20, 0);
	assert_int_equal(fl_install_copy_new(&install, vmm.uffd, NULL), 0);
	assert_int_equal(fl_install_copy(install, vmm.addr, page, sizeof(page), 0), -ENOENT);
	vmm_kill(&vmm);
	assert_int_equal(fl_install_copy(install, vmm.addr, page, sizeof(page), 0), -ESRCH);
	assert_int_equal(fl_install_zero(install, vmm.addr, sizeof(page), sizeof(page), 0), -ESRCH);
	assert_int_equal(fl_install_zero(install, vmm.addr, 2 << 20, 2 << 20, 0), -ESRCH);
	assert_int_equal(fl_install_map(install, vmm.addr, sizeof(page), 0), -ESRCH);
	if (!fl_probe_one("uffd.poison"))
		assert_int_equal(fl_install_poison(install, vmm.addr, sizeof(page), 0), -ESRCH);
	fl_install_close(install);
	close(vmm.uffd);
}

/* UFFDIO_ZEROPAGE is EINVAL on hugetlbfs: zeros are a COPY there, in pieces of a page. */
static void test_zeros_on_hugetlbfs(void **state)
{
	struct uffdio_zeropage zero = {0};
	struct rig rig;

	(void)state;
	rig_new(&rig, RAM_HUGE_ANON, 3, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	zero.range = (struct uffdio_range){page_addr(&rig.ram, 0), rig.ram.page};
	assert_true(ioctl(rig.uffd, UFFDIO_ZEROPAGE, &zero) < 0);
	assert_int_equal(errno, EINVAL);
	install_page(&rig, 2);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 0), rig.ram.len, rig.ram.page, 0),
		2 * rig.ram.page);
	assert_int_equal(
		fl_install_zero(rig.install, page_addr(&rig.ram, 2), rig.ram.page, rig.ram.page, 0),
		-EEXIST);
	assert_zero_page(&rig.ram, 0);
	assert_zero_page(&rig.ram, 1);
	assert_page(&rig.ram, 2);
	rig_free(&rig);
}

static void poison_page(struct rig *rig, size_t page)
{
	assert_int_equal(
		fl_install_poison(rig->install, page_addr(&rig->ram, page), rig->ram.page, 0),
		rig->ram.page);
}

/* A COPY over POISON goes through, so who installs must know what is poisoned; nothing else does.
 */
static void copy_over_poison(enum ram_kind kind)
{
	struct rig rig;
	char *contents;

	rig_new(&rig, kind, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	poison_page(&rig, 0);
	assert_int_equal(fl_install_poison(rig.install, page_addr(&rig.ram, 0), rig.ram.page, 0),
			 -EEXIST);
	if (kind == RAM_ANON)
		assert_int_equal(fl_install_zero(rig.install, page_addr(&rig.ram, 0), rig.ram.page,
						 rig.ram.page, 0),
				 -EEXIST);
	assert_int_equal(signal_of_load(rig.ram.at), SIGBUS);
	assert_int_equal(copy_page(&rig, 0, 1, contents), rig.ram.page);
	assert_page(&rig.ram, 0);
	free(contents);
	rig_free(&rig);
}

static void test_copy_over_poison(void **state)
{
	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	copy_over_poison(RAM_ANON);
	copy_over_poison(RAM_MEMFD);
}

static void test_copy_over_poison_on_hugetlbfs(void **state)
{
	(void)state;
	SKIP_UNLESS(!fl_probe_one("uffd.poison"), "uffd-poison", "this kernel has none");
	copy_over_poison(RAM_HUGE_ANON);
	copy_over_poison(RAM_HUGE_MEMFD);
}

/* A hole punched in a memfd raises no event; the next touch is a missing fault like the first. */
static void test_hole_punch_is_silent(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_MEMFD, 2, FL_TRAP_MISSING, UFFD_FEATURE_EVENT_REMOVE);
	rig_copy(&rig);
	install_page(&rig, 0);
	assert_int_equal(fallocate(rig.ram.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   (off_t)rig.ram.page),
			 0);
	assert_no_event(rig.trap);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	install_zero_page(&rig, 0);
	assert_int_equal(actor_join(&actor), 0);
	rig_free(&rig);
}

/* MINOR registered alone lets a hole read as zeros; with MISSING it is reported. */
static void test_minor_alone_misses_holes(void **state)
{
	struct rig rig;
	struct actor actor;

	(void)state;
	rig_new(&rig, RAM_MEMFD, 1, FL_TRAP_MINOR, UFFD_FEATURE_MINOR_SHMEM);
	load_start(&actor, rig.ram.at);
	assert_int_equal(actor_join(&actor), 0);
	assert_no_event(rig.trap);
	rig_free(&rig);

	rig_new(&rig, RAM_MEMFD, 1, FL_TRAP_MISSING | FL_TRAP_MINOR, UFFD_FEATURE_MINOR_SHMEM);
	rig_copy(&rig);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	install_page(&rig, 0);
	assert_int_equal(actor_join(&actor), (unsigned char)rig.ram.alias[0]);
	rig_free(&rig);
}

/* A page in the cache was not received: a COPY is refused, and what is in the cache is wrong. */
static void test_cache_is_not_receipt(void **state)
{
	struct rig rig;
	struct actor actor;
	char *contents;

	(void)state;
	rig_new(&rig, RAM_MEMFD, 1, FL_TRAP_MISSING | FL_TRAP_MINOR, UFFD_FEATURE_MINOR_SHMEM);
	assert_int_equal(fallocate(rig.ram.memfd, 0, 0, (off_t)rig.ram.len), 0);
	contents = page_contents(&rig.ram, 0);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, FL_FAULT_MINOR);
	rig_copy(&rig);
	assert_int_equal(copy_page(&rig, 0, 1, contents), -EEXIST);
	fl_install_close(rig.install);
	rig_continue(&rig);
	assert_int_equal(copy_page(&rig, 0, 1, contents), rig.ram.page);
	assert_int_equal(actor_join(&actor), (unsigned char)contents[0]);
	assert_page(&rig.ram, 0);
	free(contents);
	rig_free(&rig);
}

/* The kernel's own touches, in read(2) and write(2), wait for the page like a thread's. */
static void test_kernel_touches(void **state)
{
	struct rig rig;
	struct actor actor;
	char *contents;
	char *got;
	int ends[2];

	(void)state;
	SKIP_UNLESS(fl_probe_one("uffd.syscall") == 0 || fl_probe_one("uffd.device") == 0, "uffd",
		    "none for kernel mode");
	rig_new(&rig, RAM_ANON, 2, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	got = malloc(rig.ram.page);
	assert_non_null(got);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	actor = (struct actor){
		.act = act_write,
		.at = rig.ram.at,
		.len = rig.ram.page,
		.number = ends[1],
	};
	actor_start(&actor);
	next_fault(&rig, 0, 0);
	install_page(&rig, 0);
	assert_int_equal(actor_join(&actor), rig.ram.page);
	assert_int_equal(read(ends[0], got, rig.ram.page), rig.ram.page);
	assert_memory_equal(got, contents, rig.ram.page);

	assert_int_equal(write(ends[1], contents, 100), 100);
	actor = (struct actor){
		.act = act_read,
		.at = rig.ram.at + rig.ram.page + 10,
		.len = 100,
		.number = ends[0],
	};
	actor_start(&actor);
	next_fault(&rig, 1, FL_FAULT_WRITE);
	install_zero_page(&rig, 1);
	assert_int_equal(actor_join(&actor), 100);
	assert_memory_equal(rig.ram.at + rig.ram.page + 10, contents, 100);
	assert_int_equal(rig.ram.at[rig.ram.page + 9], 0);
	close(ends[0]);
	close(ends[1]);
	free(got);
	free(contents);
	rig_free(&rig);
}

static void nothing(int sig)
{
	(void)sig;
}

/* A signal to a thread that sleeps in a kernel-mode fault: it repeats the event over and over, and
 * once the page is there the system call ends as if nothing had been. */
static void test_signal_repeats_kernel_faults(void **state)
{
	struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
	struct rig rig;
	struct actor actor;
	char *contents;
	int ends[2];

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	contents = page_contents(&rig.ram, 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	actor = (struct actor){
		.act = act_write,
		.at = rig.ram.at,
		.len = rig.ram.page,
		.number = ends[1],
	};
	actor_start(&actor);
	next_fault(&rig, 0, 0);
	actor_wait_asleep(&actor);
	assert_int_equal(pthread_kill(actor.thread, SIGUSR1), 0);
	for (int i = 0; i < 3; i++)
		next_fault(&rig, 0, 0);
	install_page(&rig, 0);
	assert_int_equal(actor_join(&actor), rig.ram.page);
	close(ends[0]);
	close(ends[1]);
	free(contents);
	rig_free(&rig);
}

/* A thread in user mode takes the signal, and faults again when it comes back. */
static void test_signal_repeats_user_faults(void **state)
{
	struct sigaction action = {.sa_handler = nothing};
	struct rig rig;
	struct actor actor;

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	rig_new(&rig, RAM_ANON, 1, FL_TRAP_MISSING, 0);
	rig_copy(&rig);
	load_start(&actor, rig.ram.at);
	next_fault(&rig, 0, 0);
	actor_wait_asleep(&actor);
	assert_int_equal(pthread_kill(actor.thread, SIGUSR1), 0);
	next_fault(&rig, 0, 0);
	install_page(&rig, 0);
	actor_join(&actor);
	assert_page(&rig.ram, 0);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exists_and_partial),
		cmocka_unit_test(test_exists_wakes_nobody),
		cmocka_unit_test(test_exists_from_an_empty_pool),
		cmocka_unit_test(test_again_while_a_remove_is_pending),
		cmocka_unit_test(test_copy_during_a_remove),
		cmocka_unit_test(test_range_is_gone),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_dead_vmm),
		cmocka_unit_test(test_zeros_on_hugetlbfs),
		cmocka_unit_test(test_copy_over_poison),
		cmocka_unit_test(test_copy_over_poison_on_hugetlbfs),
		cmocka_unit_test(test_hole_punch_is_silent),
		cmocka_unit_test(test_minor_alone_misses_holes),
		cmocka_unit_test(test_cache_is_not_receipt),
		cmocka_unit_test(test_kernel_touches),
		cmocka_unit_test(test_signal_repeats_kernel_faults),
		cmocka_unit_test(test_signal_repeats_user_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
