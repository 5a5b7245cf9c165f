/* SPDX-License-Identifier: MIT */
#ifndef FL_PAGER_GUEST_TEST_H
#define FL_PAGER_GUEST_TEST_H

/*
 * A guest for the tests of this room: memory of this process, served by a pager of this process on
 * the real kernel, with everything between them. The image describes itself (test_pattern()), so
 * that every page that is touched can be checked.
 */

#include "support.h"
#include <faultline/faultline.h>

#include <pthread.h>
#include <stdatomic.h>

#define GUEST_SEED 7

enum guest_kind {
	GUEST_ANON,      /* UFFDIO_COPY into anonymous memory */
	GUEST_MEMFD,     /* a memfd mapped twice, UFFDIO_CONTINUE */
	GUEST_HUGETLB,   /* UFFDIO_COPY into 2 MiB pages */
	GUEST_SEGV,      /* a memfd mapped twice, SIGSEGV and mprotect */
	GUEST_HUGE_MEMFD /* as GUEST_MEMFD, of 2 MiB pages */
};

struct guest_config {
	enum guest_kind kind;
	size_t pages;               /* 0: 256 */
	size_t regions;             /* 0: 1; the pages are cut into so many, */
	size_t gap;                 /* with so many pages between them that are not the guest's */
	const char *filters[4];     /* innermost first */
	uint64_t hole_at, hole_len; /* of the image, in bytes */
	uint32_t flags;             /* FL_PAGER_* */
	uint32_t around;            /* bytes; 0: the default */
	bool disk;                  /* the image is a file on a disk, not a memfd */
	bool wp;                    /* armed for write-protect faults too, absent pages included */
	bool shared;                /* GUEST_HUGETLB: shared memory, whose parts can be removed */
	bool copy;                  /* GUEST_MEMFD: the pager does not know the second mapping */
	bool pagemap;               /* the pager may look at what is present */
	bool fork;                  /* the userfaultfd reports forks */
	bool stopped;               /* do not start the pager's thread */
	bool tail;                  /* the last page is armed, but not the guest's */
	uint32_t window;            /* bytes; 0: the default */
	struct fl_source *source;   /* instead of an image; the guest's from then on */
	struct fl_wset *record;
	const struct fl_wset *replay;
};

struct guest {
	struct guest_config config;
	size_t page_size, len; /* len: of the image */
	size_t map_len;
	char *mem;
	char *alias; /* second mapping, or NULL */
	int uffd, image, memfd;
	struct fl_layout *layout;
	struct fl_table *table;
	struct fl_trap *trap;
	struct fl_install *install;
	struct fl_source *source;
	struct fl_pager_parts parts;
	struct fl_pager_options options;
	struct fl_pager *pager;
	char log[4096];    /* all that the pager said; read it when the pager is stopped */
	_Atomic int ended; /* what ended() was told, 1 while it was not */
};

/* Skips the test when this kernel cannot serve such a guest. */
void guest_start(struct guest *guest, const struct guest_config *config);
void guest_stop(struct guest *guest);

/* Another pager for the same guest; the one before must be closed. */
void guest_pager(struct guest *guest, uint32_t flags);

/* Where the test put a page; where the layout has it is for the pager's thread to ask. */
char *guest_addr(const struct guest *guest, size_t page);

/* Reads a whole page through the guest's mapping and checks every byte. */
void guest_check(struct guest *guest, size_t page);
void guest_check_all(struct guest *guest);
void guest_check_zero(struct guest *guest, size_t page);

/* Figures that are final: the pager's thread is stopped for them. */
struct fl_pager_stats guest_stats(struct guest *guest);
struct fl_pager_stats guest_stats_now(const struct guest *guest);
struct fl_source_stats guest_reads(struct guest *guest);

/* Wait for what must come; the test fails after a minute. */
void guest_wait_full(struct guest *guest);
void guest_wait_ended(struct guest *guest);
#define guest_wait(condition)                         \
	do {                                          \
		uint64_t wait_end = guest_deadline(); \
		while (!(condition))                  \
			guest_pause(wait_end);        \
	} while (0)
uint64_t guest_deadline(void);
void guest_pause(uint64_t end_ns);

/* Runs a pager that has no thread, as long as its descriptor is readable, for one poll(2). */
int guest_run(struct guest *guest, int timeout_ms);

/* True when reading a byte there is a SIGBUS. */
bool guest_is_poisoned(const char *at);

/* A thread that touches: reads the first byte of a page, and keeps it. */
struct toucher {
	pthread_t thread;
	const char *at;
	_Atomic bool done;
	char seen;
};

void toucher_start(struct toucher *toucher, const char *at);
void toucher_join(struct toucher *toucher);
/* How many threads wait for a page of the guest; pending: of them, those whose fault was not read.
 */
unsigned int guest_waiting(const struct guest *guest, unsigned int *pending);

#endif
