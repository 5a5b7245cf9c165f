/* SPDX-License-Identifier: MIT */
/*
 * The machine: memory, vCPUs, an accelerator, and the desk where vCPUs ask for
 * work and report.
 *
 * Threads. Each vCPU has one thread. The main thread runs the commands of the
 * command line, the control thread those of the socket; both act on the machine
 * as a whole (issue, pause, snapshot, discard) only while holding `operation`.
 *
 * Locks, in this order: leave_lock, operation, lock. `lock` guards every field below
 * it and the fields of the vCPUs marked so, and is never held while guest
 * memory is touched: guest memory may be supplied by another process.
 */
#ifndef FAULTLINE_VMM_MACHINE_H
#define FAULTLINE_VMM_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "command.h"
#include "dirty.h"
#include "memory.h"
#include "payload/abi.h"
#include "state.h"

struct vmm_machine;
struct vmm_arrive;
struct vmm_inside;
struct vmm_leave;

struct vmm_vcpu {
	struct vmm_machine *machine;
	unsigned int index;
	pthread_t thread;
	bool started;
	void *accel_data;
	/* under machine->lock */
	bool parked;
	bool ended;
	bool busy;      /* took a command and has not reported */
	uint64_t taken; /* seq of the last command it took */
	/* the vCPU's thread only */
	char line[128];
	unsigned int line_len;
};

/**
 * struct vmm_accel_ops - what runs the vCPUs
 * @size: of this struct, as the accelerator was compiled
 * @version: VMM_ACCEL_VERSION
 * @flags: VMM_ACCEL_*
 * @name: as in --accel
 * @open: make the virtual machine and its vCPUs over machine->memory
 * @boot: put a vCPU at the payload's first instruction
 * @run: the body of a vCPU's thread, until vmm_desk_in() says halt
 * @kick: make a running vCPU come out soon; called with machine->lock held
 * @save: append the state of all (parked) vCPUs
 * @load: take it back
 * @close: undo @open
 */
struct vmm_accel_ops {
	uint32_t size;
	uint32_t version;
	uint32_t flags;
	const char *name;
	int (*open)(struct vmm_machine *machine);
	int (*boot)(struct vmm_vcpu *vcpu);
	int (*run)(struct vmm_vcpu *vcpu);
	void (*kick)(struct vmm_vcpu *vcpu);
	int (*save)(struct vmm_machine *machine, struct vmm_state_out *out);
	int (*load)(struct vmm_machine *machine, const struct vmm_state *state);
	void (*close)(struct vmm_machine *machine);
};

#define VMM_ACCEL_VERSION   1u
#define VMM_ACCEL_KERNEL    1u /* the kernel itself touches guest memory to run it */
#define VMM_ACCEL_REGISTERS 2u /* vCPUs can be saved at any instruction */

extern const struct vmm_accel_ops vmm_accel_kvm;
extern const struct vmm_accel_ops vmm_accel_thread;

enum vmm_accel_choice { VMM_ACCEL_AUTO, VMM_ACCEL_KVM, VMM_ACCEL_THREAD };
extern const char *const vmm_accel_names[];

/* Where the machine is. It can be asked to do something only while it is here. */
enum vmm_place {
	VMM_HERE,
	VMM_AWAITED, /* receive: none has come */
	VMM_LEAVING, /* stopped here to run elsewhere; it may still come back */
	VMM_GONE,    /* it runs elsewhere, with all its memory */
};

/* When things happened, CLOCK_MONOTONIC in ns; 0 is not yet. */
struct vmm_times {
	uint64_t request;      /* main() was entered */
	uint64_t memory_ready; /* mapped, and read or handed over */
	uint64_t memslots_ns;  /* a duration: KVM_SET_USER_MEMORY_REGION, all */
	uint64_t enter;        /* just before a vCPU ran for the first time (atomic) */
	uint64_t first_exit;   /* a vCPU's first sign of having run (atomic) */
};

struct vmm_machine {
	const struct vmm_accel_ops *accel;
	void *accel_data;
	struct vmm_memory memory;
	enum vmm_dirty_choice dirty_choice; /* --dirty */
	const struct vmm_dirty_ops *dirty;  /* which it is, once there is an accelerator */
	int wp_uffd;                        /* wp_dirty.c's, while it tracks; else -1 */
	int wp_pagemap_fd;
	struct vmm_inside *inside;  /* the pager that supplies memory from within, or NULL */
	pthread_mutex_t leave_lock; /* before all others; keeps these two alive: */
	struct vmm_leave *leave;    /* the last migration away, or NULL */
	struct vmm_arrive *arrive;  /* the migration that brought the machine, or NULL */
	bool readying;   /* a migration away waits for missing pages; under leave_lock, with */
	bool called_off; /* whether it shall not begin; set under lock too, read under either */
	unsigned int nr_vcpus;
	struct vmm_vcpu *vcpus;
	struct vmm_times times;
	pthread_t signal_thread;
	bool has_signals; /* signal_thread awaits SIGTERM: signals.c */
	int wake_fd;      /* eventfd: a command ended, or the machine failed */
	bool quiet;       /* no console, no notices */
	pthread_mutex_t operation;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool pause; /* this and quit are also read without the lock, as hints: stored atomically */
	bool quit;
	uint64_t told_ns; /* when it was last told to end and did not: farewell.c */
	bool held; /* paused by the user: a snapshot leaves it so; under operation, read atomically
		    */
	enum vmm_place place;   /* changed under operation and lock, so read under either */
	uint64_t seq;           /* of the last command or discard */
	struct vmm_command cmd; /* the last one issued to the vCPUs */
	bool scripted;          /* commands of the command line are still to come */
	uint64_t issued_ns;     /* when cmd began, and when its last vCPU reported */
	uint64_t ended_ns;
	uint64_t mismatches; /* of all commands so far */
	const char *partial; /* the directory that a snapshot is being written to, or NULL */
	bool abandoned;      /* a snapshot hangs in a thread that must be left alone */
	char failure[512];   /* the first thing that went wrong in a vCPU's thread */
};

/* machine.c */
int vmm_machine_begin(struct vmm_machine *machine);
int vmm_machine_vcpus(struct vmm_machine *machine, unsigned int nr_vcpus);
int vmm_machine_init(struct vmm_machine *machine, unsigned int nr_vcpus); /* the two together */
int vmm_machine_accel(struct vmm_machine *machine, enum vmm_accel_choice choice);
int vmm_machine_start(struct vmm_machine *machine);
int vmm_machine_pause(struct vmm_machine *machine);
void vmm_machine_resume(struct vmm_machine *machine);
void vmm_machine_fail(struct vmm_machine *machine, const char *text);
void vmm_machine_quit(struct vmm_machine *machine);
/*
 * vmm_machine_told() - farewell.c: the user wants it to end. Return: 0, and vmm_machine_quit() was
 * called; -EBUSY with a text when the machine would be lost between two hosts, unless that
 * was said already a moment ago.
 */
int vmm_machine_told(struct vmm_machine *machine);
bool vmm_machine_failed(struct vmm_machine *machine);

/*
 * vmm_machine_stop() - end the vCPU threads. Return: 0, or -ETIMEDOUT when a
 * vCPU waits for a page that nobody brings; its memory must then stay mapped.
 */
int vmm_machine_stop(struct vmm_machine *machine);
void vmm_machine_free(struct vmm_machine *machine);

/* desk.c: the host side of the payload's ports, called by vCPU threads */
uint32_t vmm_desk_in(struct vmm_vcpu *vcpu, uint16_t port);
void vmm_desk_out(struct vmm_vcpu *vcpu, uint16_t port, uint32_t value);

/* vmm_desk_park() - wait out a pause. Return: true when the vCPU must end. */
bool vmm_desk_park(struct vmm_vcpu *vcpu);
void vmm_desk_entered(struct vmm_vcpu *vcpu);
void vmm_desk_ran(struct vmm_vcpu *vcpu);

/*
 * issue.c: whole-machine operations
 *
 * vmm_operation_begin() - take machine->operation, if the machine is here. Return: 0, or -EREMOTE
 * with a text.
 */
int vmm_operation_begin(struct vmm_machine *machine);
void vmm_operation_end(struct vmm_machine *machine);
/*
 * vmm_make_whole() - under operation: wait until no page is missing: one that a lazy restore or a
 * migration has not brought yet; or, with @for_leave, until that is called off. Return: 0 or -errno.
 */
int vmm_make_whole(struct vmm_machine *machine, bool for_leave);
void vmm_set_place(struct vmm_machine *machine, enum vmm_place place); /* under operation */
enum vmm_place vmm_place(struct vmm_machine *machine);
int vmm_check_place(struct vmm_machine *machine); /* 0, or -EREMOTE with a text: it is not here */
int vmm_issue(struct vmm_machine *machine, const struct vmm_command *cmd);
bool vmm_busy(struct vmm_machine *machine);
bool vmm_scripted(struct vmm_machine *machine);
void vmm_set_scripted(struct vmm_machine *machine, bool scripted);
int vmm_wait(struct vmm_machine *machine);
int vmm_stop_command(struct vmm_machine *machine);
int vmm_discard(struct vmm_machine *machine, uint64_t gpa, uint64_t len);
uint64_t vmm_progress(struct vmm_machine *machine);

/* boot.c */
int vmm_boot_memory(struct vmm_machine *machine);
struct payload_mailbox *vmm_mailbox(const struct vmm_machine *machine, unsigned int vcpu);
/* vmm_mailbox_wrote() - the VMM has changed it: after each such change */
void vmm_mailbox_wrote(struct vmm_machine *machine, unsigned int vcpu);

#endif
