/* SPDX-License-Identifier: MIT */
/*
 * A copy of guest memory is kept up to date from what a tracker reports alone, while vCPUs and the
 * VMM write. Now and then all stand still for a collection: the two are equal then, or a write was
 * lost. Pages are many and rounds slow, so that no later write to the page makes up for a lost one.
 */
#include "support.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "kvm.h"
#include "util.h"

#define VCPUS       3u
#define COLLECTIONS 24
#define STEP        12        /* pages that the guest writes between two of them, at least */
#define OWN_GPA     (2 * MIB) /* the VMM's writes go there: the guest's churn area is at the end */
#define OWN_PAGES   200u
#define BURST       500u

struct rig {
	struct vmm_machine *machine;
	struct fl_layout *layout;
	struct fl_pageset *dirty;
	unsigned char *copy;
	pthread_t writer;
	pthread_mutex_t writing; /* held by the writer for each of its writes */
	sem_t burst;             /* posted with each collection */
	bool end;                /* atomic */
	uint64_t reported;
};

static _Noreturn void die(void)
{
	fail_msg("%s", vmm_error_text());
	abort();
}

static struct vmm_machine *new_machine(enum vmm_accel_choice accel, enum vmm_dirty_choice dirty,
				       enum vmm_backing backing, uint64_t bytes)
{
	struct vmm_machine *machine = calloc(1, sizeof(*machine));
	struct vmm_layout layout;

	machine->quiet = true;
	machine->dirty_choice = dirty;
	/* Two regions. */
	if (vmm_layout_make(bytes, bytes / 2, backing, &layout) ||
	    vmm_machine_init(machine, VCPUS) || vmm_memory_map(&machine->memory, &layout) ||
	    vmm_boot_memory(machine) || vmm_machine_accel(machine, accel))
		die();
	for (unsigned int i = 0; i < VCPUS; i++)
		if (machine->accel->boot(&machine->vcpus[i]))
			die();
	return machine;
}

static void take_copy(struct rig *rig, uint64_t page)
{
	const struct fl_region *region = NULL;

	for (size_t i = 0; i < fl_layout_count(rig->layout); i++)
		if (page >= fl_layout_region(rig->layout, i)->first_page)
			region = fl_layout_region(rig->layout, i);
	assert_non_null(region);
	page -= region->first_page; /* NOLINT(clang-analyzer-core.NullDereference) */
	memcpy(rig->copy + region->offset + page * region->page_size,
	       (const char *)(uintptr_t)region->addr + page * region->page_size, // NOLINT
	       region->page_size);
}

static void collect(struct rig *rig)
{
	uint64_t page = 0, n;

	if (vmm_dirty_collect(rig->machine, rig->dirty))
		die();
	while ((n = fl_pageset_run(rig->dirty, &page)) != 0) {
		rig->reported += n;
		for (uint64_t i = 0; i < n; i++)
			take_copy(rig, page + i);
		assert_int_equal(fl_pageset_del(rig->dirty, page, n), 0);
		page += n;
	}
}

static void start(struct rig *rig)
{
	uint64_t pages;

	if (vmm_guest_layout(&rig->machine->memory, &rig->layout))
		die();
	pages = fl_layout_pages(rig->layout);
	rig->copy = calloc(1, fl_layout_image_len(rig->layout));
	assert_int_equal(fl_pageset_new(&rig->dirty, pages), 0);
	if (vmm_dirty_track(rig->machine, true))
		die();
	for (uint64_t i = 0; i < pages; i++)
		take_copy(rig, i);
}

/* One of its own writes, which KVM cannot know of. */
static void write_once(struct vmm_machine *machine, uint64_t n)
{
	uint64_t gpa = OWN_GPA + n * 7919 % OWN_PAGES * 4 * KIB;
	uint64_t *word = vmm_memory_addr(&machine->memory, gpa + n % 512 * 8, 8);

	__atomic_store_n(word, n, __ATOMIC_RELAXED);
	vmm_memory_wrote(&machine->memory, gpa, 4 * KIB);
}

/* Beyond the pages that write_once() writes: this one is written, and given back, in turn. */
static uint64_t turn_gpa(const struct vmm_machine *machine)
{
	uint64_t unit = machine->memory.layout.regions[0].page_size;

	return OWN_GPA + (OWN_PAGES * 4 * KIB + unit - 1) / unit * unit;
}

static void turn(struct vmm_machine *machine, bool give_back)
{
	uint64_t unit = machine->memory.layout.regions[0].page_size, gpa = turn_gpa(machine);

	if (give_back) {
		if (vmm_memory_discard(&machine->memory, gpa, unit))
			abort();
		return;
	}
	memset(vmm_memory_addr(&machine->memory, gpa, unit), 1, 64);
	vmm_memory_wrote(&machine->memory, gpa, 64);
}

/* A burst for each collection, at any time while it runs; the guest needs the processor too. */
static void *writer_thread(void *arg)
{
	struct rig *rig = arg;

	for (uint64_t n = 1; !__atomic_load_n(&rig->end, __ATOMIC_ACQUIRE); n++) {
		pthread_mutex_lock(&rig->writing);
		write_once(rig->machine, n);
		if (n % BURST == 0)
			turn(rig->machine, n / BURST % 2);
		pthread_mutex_unlock(&rig->writing);
		if (n % BURST == 0)
			(void)sem_wait(&rig->burst);
	}
	return NULL;
}

static void issue(struct vmm_machine *machine, const char *text)
{
	struct vmm_command cmd;

	if (vmm_command_parse(text, &cmd))
		die();
	/* It need not look at each word of a page of zeros: some KVMs interpret the guest, and what
	 * is compared here is what it writes. */
	cmd.payload.form = PAYLOAD_FORM_LIGHT;
	if (vmm_issue(machine, &cmd))
		die();
}

/* All stand still. */
static void compare(struct rig *rig)
{
	pthread_mutex_lock(&rig->writing);
	if (vmm_machine_pause(rig->machine))
		die();
	collect(rig);
	for (size_t i = 0; i < fl_layout_count(rig->layout); i++) {
		const struct fl_region *region = fl_layout_region(rig->layout, i);

		assert_memory_equal(rig->copy + region->offset,
				    (const void *)(uintptr_t)region->addr, // NOLINT
				    region->len_bytes);
	}
	vmm_machine_resume(rig->machine);
	pthread_mutex_unlock(&rig->writing);
}

static void finish(struct rig *rig)
{
	if (vmm_dirty_track(rig->machine, false))
		die();
	vmm_stop_command(rig->machine);
	if (vmm_wait(rig->machine) || vmm_machine_stop(rig->machine))
		die();
	assert_true(rig->machine->mismatches == 0);
}

static void release(struct rig *rig)
{
	fl_pageset_free(rig->dirty);
	fl_layout_free(rig->layout);
	free(rig->copy);
	vmm_machine_free(rig->machine);
	free(rig->machine);
}

static void never_loses_one(enum vmm_accel_choice accel, enum vmm_dirty_choice dirty,
			    enum vmm_backing backing, uint64_t bytes)
{
	struct rig rig = {.machine = new_machine(accel, dirty, backing, bytes),
			  .writing = PTHREAD_MUTEX_INITIALIZER};
	char churn[32];
	uint64_t before, own;

	/* Most of a vCPU's share; the VMM's own pages are the first vCPU's first ones. */
	own = turn_gpa(rig.machine) + rig.machine->memory.layout.regions[0].page_size - OWN_GPA;
	snprintf(churn, sizeof(churn), "churn:pages=%llu",
		 (unsigned long long)(((bytes - OWN_GPA) / VCPUS - own) / (4 * KIB) - 8));
	if (vmm_machine_start(rig.machine))
		die();
	start(&rig);
	assert_int_equal(sem_init(&rig.burst, 0, 0), 0);
	assert_int_equal(pthread_create(&rig.writer, NULL, writer_thread, &rig), 0);
	issue(rig.machine, churn);
	for (int i = 0; i < COLLECTIONS; i++) {
		before = vmm_progress(rig.machine);
		assert_int_equal(sem_post(&rig.burst), 0);
		collect(&rig);
		/* Not faster than the guest writes. */
		while (vmm_progress(rig.machine) < before + STEP &&
		       !vmm_machine_failed(rig.machine))
			usleep(200);
		if (i % 3 == 2)
			compare(&rig);
	}
	__atomic_store_n(&rig.end, true, __ATOMIC_RELEASE);
	assert_int_equal(sem_post(&rig.burst), 0);
	pthread_join(rig.writer, NULL);
	finish(&rig);
	assert_true(rig.reported >= COLLECTIONS);
	release(&rig);
}

/* Nothing written, nothing reported; one byte written, one page reported, once. */
static void says_what_was_written(enum vmm_accel_choice accel, enum vmm_dirty_choice dirty)
{
	struct rig rig = {.machine = new_machine(accel, dirty, VMM_BACKING_MEMFD, 8 * MIB)};
	struct vmm_memory *memory = &rig.machine->memory;

	/* Populated: a page that a mere read brings may be reported. */
	memset(memory->base, 1, 64 * KIB);
	start(&rig);
	collect(&rig);
	rig.reported = 0;
	collect(&rig);
	assert_int_equal(rig.reported, 0);
	memory->base[5 * 4 * KIB + 17] = 2;
	vmm_memory_wrote(memory, 5 * 4 * KIB + 17, 1);
	if (vmm_dirty_collect(rig.machine, rig.dirty))
		die();
	assert_int_equal(fl_pageset_count(rig.dirty), 1);
	assert_true(fl_pageset_has(rig.dirty, 5));
	assert_int_equal(fl_pageset_del(rig.dirty, 5, 1), 0);
	collect(&rig);
	assert_int_equal(rig.reported, 0);
	release(&rig);
}

static void needs_kvm(void)
{
	if (!access("/dev/kvm", R_OK | W_OK))
		return;
	print_message("SKIP kvm: /dev/kvm cannot be opened\n");
	skip();
}

static void needs_wp(enum vmm_accel_choice accel)
{
	struct vmm_machine *machine = new_machine(accel, VMM_DIRTY_WP, VMM_BACKING_ANON, 8 * MIB);
	int ret = vmm_dirty_track(machine, true);

	vmm_machine_free(machine);
	free(machine);
	if (!ret)
		return;
	print_message("SKIP uffd: %s\n", vmm_error_text());
	skip();
}

static void needs_huge_pages(void)
{
	void *got = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (got != MAP_FAILED) {
		munmap(got, 16 * MIB);
		return;
	}
	print_message("SKIP hugetlb: no 8 free huge pages\n");
	skip();
}

static void log_never_loses_one(void **state)
{
	(void)state;
	needs_kvm();
	never_loses_one(VMM_ACCEL_KVM, VMM_DIRTY_LOG, VMM_BACKING_ANON, 8 * MIB);
	never_loses_one(VMM_ACCEL_KVM, VMM_DIRTY_LOG, VMM_BACKING_MEMFD, 8 * MIB);
	says_what_was_written(VMM_ACCEL_KVM, VMM_DIRTY_LOG);
}

static void ring_never_loses_one(void **state)
{
	struct vmm_machine *machine;

	(void)state;
	needs_kvm();
	machine = new_machine(VMM_ACCEL_KVM, VMM_DIRTY_AUTO, VMM_BACKING_ANON, 8 * MIB);
	if (machine->dirty != &vmm_dirty_ring) {
		print_message("SKIP kvm: no dirty ring\n");
		skip();
	}
	vmm_machine_free(machine);
	free(machine);
	never_loses_one(VMM_ACCEL_KVM, VMM_DIRTY_RING, VMM_BACKING_ANON, 8 * MIB);
	never_loses_one(VMM_ACCEL_KVM, VMM_DIRTY_RING, VMM_BACKING_MEMFD, 8 * MIB);
	says_what_was_written(VMM_ACCEL_KVM, VMM_DIRTY_RING);
}

static void wp_never_loses_one(void **state)
{
	(void)state;
	needs_wp(VMM_ACCEL_THREAD);
	never_loses_one(VMM_ACCEL_THREAD, VMM_DIRTY_WP, VMM_BACKING_ANON, 8 * MIB);
	never_loses_one(VMM_ACCEL_THREAD, VMM_DIRTY_WP, VMM_BACKING_MEMFD, 8 * MIB);
	says_what_was_written(VMM_ACCEL_THREAD, VMM_DIRTY_WP);
}

static void wp_sees_kvm(void **state)
{
	(void)state;
	needs_kvm();
	needs_wp(VMM_ACCEL_KVM);
	never_loses_one(VMM_ACCEL_KVM, VMM_DIRTY_WP, VMM_BACKING_ANON, 8 * MIB);
	never_loses_one(VMM_ACCEL_KVM, VMM_DIRTY_WP, VMM_BACKING_MEMFD, 8 * MIB);
}

static void huge_pages(void **state)
{
	(void)state;
	needs_huge_pages();
	needs_wp(VMM_ACCEL_THREAD);
	never_loses_one(VMM_ACCEL_THREAD, VMM_DIRTY_WP, VMM_BACKING_HUGETLBFS, 16 * MIB);
	needs_kvm();
	never_loses_one(VMM_ACCEL_KVM, VMM_DIRTY_LOG, VMM_BACKING_HUGETLBFS, 16 * MIB);
}

static void threads_have_wp_only(void **state)
{
	struct vmm_machine machine = {.dirty_choice = VMM_DIRTY_RING};

	(void)state;
	assert_int_equal(vmm_dirty_settle(&machine), -EINVAL);
	assert_non_null(strstr(vmm_error_text(), "--dirty ring: is KVM's"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_never_loses_one), cmocka_unit_test(ring_never_loses_one),
		cmocka_unit_test(wp_never_loses_one),  cmocka_unit_test(wp_sees_kvm),
		cmocka_unit_test(huge_pages),          cmocka_unit_test(threads_have_wp_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
