/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot.h"
#include "util.h"

/* As fail_msg(), in a form that static analysis knows does not come back. */
static _Noreturn void die(void)
{
	fail_msg("%s", vmm_error_text());
	abort();
}

static struct vmm_memory two_regions(void)
{
	struct vmm_layout layout;
	struct vmm_memory memory = {0};

	if (vmm_layout_make(8 * MIB, 4 * MIB, VMM_BACKING_ANON, &layout) ||
	    vmm_memory_map(&memory, &layout) || !memory.base)
		die();
	return memory;
}

static void image_of(const struct vmm_memory *memory, unsigned char *image, off_t *blocks)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct stat st;

	if (vmm_image_write(memory, fd))
		fail_msg("%s", vmm_error_text());
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 8 * MIB);
	*blocks = st.st_blocks * 512;
	assert_int_equal(pread(fd, image, 8 * MIB, 0), 8 * MIB);
	close(fd);
}

/* At both ends of both regions, alone, in runs, longer than one write. */
static void an_image_has_every_byte_in_its_place(void **state)
{
	static unsigned char image[8 * MIB], want[8 * MIB];
	struct vmm_memory memory = two_regions();
	unsigned char *low = memory.base, *high = memory.base + 4 * GIB;
	off_t blocks;

	(void)state;
	low[0] = 1;
	low[8191] = 2; /* the last byte of a page that is zero else */
	test_pattern(low + MIB, 2 * MIB, 0, 5);
	low[4 * MIB - 1] = 3;
	high[0] = 4;
	test_pattern(high + 64 * KIB, 12 * KIB, 0, 6);
	high[4 * MIB - 4096] = 5;
	memcpy(want, low, 4 * MIB);
	memcpy(want + 4 * MIB, high, 4 * MIB);
	image_of(&memory, image, &blocks);
	assert_memory_equal(image, want, sizeof(want));
	/* The pages above, and nothing for the zeros. */
	assert_int_equal(blocks, (off_t)((2 + 512 + 1 + 1 + 3 + 1) * 4 * KIB));
	vmm_memory_unmap(&memory);
}

static void zeros_take_no_room(void **state)
{
	static unsigned char image[8 * MIB];
	struct vmm_memory memory = two_regions();
	off_t blocks;

	(void)state;
	image_of(&memory, image, &blocks);
	assert_int_equal(blocks, 0);
	assert_int_equal(test_nonzero(image, sizeof(image)), -1);
	vmm_memory_unmap(&memory);
}

static void addresses_outside_the_regions_are_none(void **state)
{
	struct vmm_memory memory = two_regions();

	(void)state;
	assert_ptr_equal(vmm_memory_addr(&memory, 0, 4 * MIB), memory.base);
	assert_ptr_equal(vmm_memory_addr(&memory, 4 * GIB, 1), memory.base + 4 * GIB);
	assert_null(vmm_memory_addr(&memory, 0, 4 * MIB + 1));
	assert_null(vmm_memory_addr(&memory, 4 * MIB, 1));
	assert_null(vmm_memory_addr(&memory, 4 * GIB - 1, 2));
	assert_null(vmm_memory_addr(&memory, 4 * GIB, UINT64_MAX));
	assert_null(vmm_memory_addr(&memory, UINT64_MAX, 2));
	vmm_memory_unmap(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_has_every_byte_in_its_place),
		cmocka_unit_test(zeros_take_no_room),
		cmocka_unit_test(addresses_outside_the_regions_are_none),
	};

	return cmocka_run_group_tests_name("vmm-image", tests, NULL, NULL);
}
