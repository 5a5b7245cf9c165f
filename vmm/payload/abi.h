/* SPDX-License-Identifier: MIT */
/*
 * What the payload and the VMM agree on: the map of low guest memory, the
 * ports, and the mailbox.
 *
 * Theory of operation. Every vCPU has one mailbox page in guest memory, and all
 * that a payload must remember between two pages lives there, so that a
 * snapshot carries it. A vCPU with nothing to do writes PAYLOAD_PORT_REQUEST and
 * reads PAYLOAD_PORT_NEXT; the VMM keeps it there until it has a command, which
 * it puts into the mailbox before it answers PAYLOAD_ANSWER_RUN. It may answer
 * PAYLOAD_ANSWER_RETRY at any time (it does to pause the machine). When the
 * command is done the vCPU fills mailbox.result and writes PAYLOAD_PORT_REPORT.
 *
 * Owners: the VMM writes cmd, stop and the discards; the payload writes the
 * rest. The two meet at the ports, save for `stop`, the discards, `progress`
 * and `begun`, which are read and written while the payload runs and are
 * therefore only touched with the __atomic builtins.
 */
#ifndef FAULTLINE_VMM_PAYLOAD_ABI_H
#define FAULTLINE_VMM_PAYLOAD_ABI_H

#include <stdint.h>

#define PAYLOAD_PAGE_SIZE    4096u
#define PAYLOAD_PAGE_WORDS   512u
#define PAYLOAD_CODE_GPA     0x10000u
#define PAYLOAD_CODE_MAX     0x10000u
#define PAYLOAD_TABLES_GPA   0x20000u
#define PAYLOAD_TABLES_MAX   0x60000u
#define PAYLOAD_MAILBOX_GPA  0x80000u
#define PAYLOAD_STACK_GPA    0xc0000u
#define PAYLOAD_FIRST_GPA    0x200000u /* the first page that a command writes */
#define PAYLOAD_MAX_VCPUS    64u
#define PAYLOAD_MAX_RANGES   8u
#define PAYLOAD_MAX_DISCARDS 64u

#define PAYLOAD_ABI         2u
#define PAYLOAD_MAGIC       0x31584f424c494146ull /* "FAILBOX1" */
#define PAYLOAD_STAMP_MAGIC 0x504d415453544c46ull /* "FLTSTAMP" */
#define PAYLOAD_CHURN_MAGIC 0x4e52554843544c46ull /* "FLTCHURN" */

#define PAYLOAD_PORT_CONSOLE 0x3f8u /* OUT: one byte of text */
#define PAYLOAD_PORT_REQUEST 0x510u /* OUT: I am idle */
#define PAYLOAD_PORT_NEXT    0x514u /* IN: one of PAYLOAD_ANSWER_* */
#define PAYLOAD_PORT_REPORT  0x518u /* OUT: mailbox.result is filled */

#define PAYLOAD_ANSWER_RETRY 0u
#define PAYLOAD_ANSWER_RUN   1u
#define PAYLOAD_ANSWER_HALT  2u

enum payload_op { PAYLOAD_OP_NONE, PAYLOAD_OP_STAMP, PAYLOAD_OP_VERIFY, PAYLOAD_OP_CHURN };
enum payload_form { PAYLOAD_FORM_DEFAULT, PAYLOAD_FORM_FULL, PAYLOAD_FORM_LIGHT };
enum payload_order { PAYLOAD_ORDER_SEQUENTIAL, PAYLOAD_ORDER_RANDOM, PAYLOAD_ORDER_STRIDE };
enum payload_state { PAYLOAD_IDLE, PAYLOAD_RUNNING };
enum payload_status { PAYLOAD_OK, PAYLOAD_MISMATCH, PAYLOAD_BAD_AREA, PAYLOAD_BAD_OP };
enum payload_discard_state { PAYLOAD_DISCARD_FREE, PAYLOAD_DISCARD_FLUX, PAYLOAD_DISCARD_ZERO };

struct payload_range {
	uint64_t gpa;
	uint64_t pages;
};

/* One command, as the VMM hands it to one vCPU. */
struct payload_command {
	uint64_t seq; /* orders stamps, churns and discards: the later one decides */
	uint32_t op;
	uint32_t form;
	uint32_t order;
	uint32_t fill;       /* percent of the pages that stamp writes */
	uint32_t shared;     /* verify: every page by every vCPU */
	uint32_t generation; /* stamp: 0 means one more than before */
	uint64_t seed;
	uint64_t stride; /* in pages */
	uint64_t limit;  /* verify: pages this vCPU checks at most, 0 is all */
	uint64_t pages;  /* churn: pages of this vCPU's share, 0 is as before */
	uint64_t rounds; /* churn: 0 is until stopped */
};

/* What the last stamp left behind. */
struct payload_stamp {
	uint64_t seq;
	uint64_t seed;
	uint32_t generation;
	uint32_t form;
	uint32_t fill;
	uint32_t max_fill; /* the largest fill so far: above it pages are still zero */
};

/* Where a churn stands: the last `pages` pages of the share, counters in turn. */
struct payload_churn {
	uint64_t seq;
	uint64_t pages;
	uint64_t round;
	uint64_t next;
};

struct payload_result {
	uint64_t seq;
	uint32_t op;
	uint32_t status;
	uint64_t pages; /* checked (verify, churn) or written (stamp) */
	uint64_t stamped;
	uint64_t churned;
	uint64_t zero;
	uint64_t unknown; /* pages whose contents nothing declares */
	uint64_t mismatches;
	uint64_t rounds;
	uint64_t bad_gpa; /* the first mismatch: page, byte in it, and words */
	uint64_t bad_byte;
	uint64_t want;
	uint64_t got;
};

struct payload_discard {
	uint64_t gpa;
	uint64_t len_bytes;
	uint64_t seq;
	uint32_t state;
	uint32_t pad;
};

struct payload_mailbox {
	uint64_t magic;
	uint32_t abi;
	uint32_t vcpu;
	uint32_t nr_vcpus;
	uint32_t nr_ranges;
	struct payload_range ranges[PAYLOAD_MAX_RANGES];
	uint32_t state;
	uint32_t pad;
	uint64_t stop;     /* seq of the command that shall end early */
	uint64_t progress; /* pages done in the command that was begun last */
	uint64_t begun;    /* its seq */
	uint64_t next;     /* the step of the running command */
	struct payload_command cmd;
	struct payload_stamp stamp;
	struct payload_churn churn;
	struct payload_churn churn_before;
	struct payload_result result;
	struct payload_discard discards[PAYLOAD_MAX_DISCARDS];
};

_Static_assert(sizeof(struct payload_mailbox) <= PAYLOAD_PAGE_SIZE, "a mailbox is one page");

#endif
