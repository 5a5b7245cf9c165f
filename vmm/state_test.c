/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"
#include "util.h"

#define HEADER_BYTES 32u

static struct vmm_state_out made(void)
{
	static const char regs[] = "registers of one";
	static const char msrs[] = "odd";
	struct vmm_state_out out;

	assert_int_equal(vmm_state_begin(&out), 0);
	assert_int_equal(vmm_state_add(&out, VMM_STATE_REGS, 1, regs, sizeof(regs)), 0);
	assert_int_equal(vmm_state_add(&out, VMM_STATE_MSRS, 0, msrs, 3), 0);
	assert_int_equal(vmm_state_add(&out, VMM_STATE_CLOCK, VMM_STATE_VM, NULL, 0), 0);
	vmm_state_end(&out);
	return out;
}

static void what_was_added_is_found_again(void **ctx)
{
	struct vmm_state_out out = made();
	struct vmm_state *state = calloc(1, sizeof(*state));
	const struct vmm_chunk *chunk;
	char err[128];

	(void)ctx;
	assert_int_equal(vmm_state_parse(out.data, out.len, state, err, sizeof(err)), 0);
	assert_int_equal(state->nr_chunks, 3);
	chunk = vmm_state_find(state, VMM_STATE_REGS, 1);
	assert_non_null(chunk);
	assert_string_equal(chunk->data, "registers of one");
	chunk = vmm_state_find(state, VMM_STATE_MSRS, 0);
	assert_int_equal(chunk->len, 3);
	assert_memory_equal(chunk->data, "odd", 3);
	assert_int_equal(vmm_state_find(state, VMM_STATE_CLOCK, VMM_STATE_VM)->len, 0);
	assert_null(vmm_state_find(state, VMM_STATE_REGS, 0));
	assert_null(vmm_state_find(state, VMM_STATE_SREGS, 1));
	free(state);
	vmm_state_free(&out);
}

/* Every cut is refused, and every changed byte: the checksum covers all but the header. */
static void nothing_cut_or_changed_passes(void **ctx)
{
	struct vmm_state_out out = made();
	struct vmm_state *state = calloc(1, sizeof(*state));
	char err[128];

	(void)ctx;
	for (size_t len = 0; len < out.len; len++)
		assert_int_equal(vmm_state_parse(out.data, len, state, err, sizeof(err)), -EINVAL);
	for (size_t at = 0; at < out.len; at++) {
		out.data[at] ^= 0x10;
		assert_int_equal(vmm_state_parse(out.data, out.len, state, err, sizeof(err)),
				 -EINVAL);
		assert_true(strlen(err) > 0);
		out.data[at] ^= 0x10;
	}
	free(state);
	vmm_state_free(&out);
}

/* A chunk that claims more than there is, under a checksum that is right. */
static void a_length_that_lies_is_refused(void **ctx)
{
	static const uint64_t lies[] = {UINT64_MAX, UINT64_MAX - 7, 1 << 20, 100};
	struct vmm_state *state = calloc(1, sizeof(*state));
	char err[128];

	(void)ctx;
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		struct vmm_state_out out = made();

		memcpy(out.data + HEADER_BYTES + 8, &lies[i], sizeof(lies[i]));
		vmm_state_end(&out);
		assert_int_equal(vmm_state_parse(out.data, out.len, state, err, sizeof(err)),
				 -EINVAL);
		assert_string_equal(err, "ends inside chunk (0)");
		vmm_state_free(&out);
	}
	free(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_added_is_found_again),
		cmocka_unit_test(nothing_cut_or_changed_passes),
		cmocka_unit_test(a_length_that_lies_is_refused),
	};

	return cmocka_run_group_tests_name("vmm-state", tests, NULL, NULL);
}
