/* SPDX-License-Identifier: MIT */
#ifndef FL_TRAP_RIG_TEST_H
#define FL_TRAP_RIG_TEST_H

/* What the tests of traps and installs share: memory to trap, and threads that touch it. */

#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <faultline/install.h>
#include <faultline/trap.h>

#include "util/compat.h"

#ifndef __has_feature /* clang's way to ask; gcc defines the macro */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define UNDER_TSAN true
#else
#define UNDER_TSAN false
#endif

/* Of the contents of pages, which are filled by their position in the memory. */
#define RIG_SEED 2

enum ram_kind { RAM_ANON, RAM_MEMFD, RAM_HUGE_ANON, RAM_HUGE_MEMFD };

/* @alias: the second mapping of shared memory; @memfd: -1 for anonymous memory */
struct ram {
	char *at;
	char *alias;
	size_t len;
	size_t page;
	int memfd;
};

/* Skips the test when there are fewer free huge pages than that. */
void ram_new(struct ram *ram, enum ram_kind kind, size_t pages);
void ram_free(struct ram *ram);

/* A userfaultfd with a trap and its memory armed; the install is the test's to make. */
struct rig {
	struct ram ram;
	int uffd;
	struct fl_trap *trap;
	struct fl_install *install;
};

void rig_new(struct rig *rig, enum ram_kind kind, size_t pages, unsigned int modes,
	     uint64_t features);
void rig_free(struct rig *rig);

/* One page of the rig by its install: its number's contents, or zeros. */
void install_page(struct rig *rig, size_t page);
void install_zero_page(struct rig *rig, size_t page);

void rig_copy(struct rig *rig);
/* The same of a SIGSEGV trap, on a memfd, with the install that goes with it. */
void rig_segv(struct rig *rig, size_t pages);
void rig_continue(struct rig *rig);

/* The address of a page, as installs and traps want it. */
uint64_t page_addr(const struct ram *ram, size_t page);

/* A buffer of one page filled for a page's number; the test frees it. */
char *page_contents(const struct ram *ram, size_t page);

/* Fails unless the page's memory holds that; touches it. */
void assert_page(const struct ram *ram, size_t page);
void assert_zero_page(const struct ram *ram, size_t page);

/* The next event, waited for; fails when none comes. */
struct fl_event next_event(struct fl_trap *trap);

/* The next event is a fault of that page with exactly these flags. */
struct fl_event next_fault(struct rig *rig, size_t page, uint32_t flags);

void assert_no_event(struct fl_trap *trap);

/* A thread that does one thing, which may put it to sleep. */
struct actor {
	int64_t (*act)(struct actor *actor);
	void *at;
	size_t len;
	int number;
	void *to;
	int64_t result;
	_Atomic uint32_t tid;
	pthread_t thread;
};

void actor_start(struct actor *actor);
int64_t actor_join(struct actor *actor);
/* Returns once the actor sleeps in what it does. */
void actor_wait_asleep(struct actor *actor);

int64_t act_load(struct actor *actor);    /* the byte at `at` */
int64_t act_store(struct actor *actor);   /* `number` to `at` */
int64_t act_madvise(struct actor *actor); /* advice `number` */
int64_t act_munmap(struct actor *actor);
int64_t act_mremap(struct actor *actor); /* to `to` */
int64_t act_read(struct actor *actor);   /* `len` bytes of descriptor `number` */
int64_t act_write(struct actor *actor);

/* Threads that load one byte each. */
void load_start(struct actor *actor, const void *at);
void store_start(struct actor *actor, void *at, int value);

/* The signal that loading one byte raises in this thread, or 0. */
int signal_of_load(const void *at);

/* A process that has a userfaultfd and anonymous memory, and what it lets us have of both. Skips
 * the test where there is no userfaultfd. */
struct vmm {
	int pid;
	int uffd;
	uint64_t addr;
	size_t len;
};

void vmm_start(struct vmm *vmm, size_t len, uint64_t features);
void vmm_kill(struct vmm *vmm);

#endif
