/* SPDX-License-Identifier: MIT */
/*
 * A pause: the pauser sets `pause` and kicks every vCPU; a vCPU parks when its
 * state is whole (KVM: no port read half done; thread: between two pages). The
 * pauser waits until every vCPU is parked or ended. The same kick ends the
 * machine, with `quit` in place of `pause`.
 */
#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "util.h"

#define STOP_SECONDS 2

int vmm_machine_begin(struct vmm_machine *machine)
{
	pthread_mutex_init(&machine->leave_lock, NULL);
	pthread_mutex_init(&machine->operation, NULL);
	pthread_mutex_init(&machine->lock, NULL);
	pthread_cond_init(&machine->changed, NULL);
	machine->wp_uffd = machine->wp_pagemap_fd = -1;
	machine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->wake_fd < 0)
		return vmm_fail(errno, "make a machine: %s", strerror(errno));
	return 0;
}

int vmm_machine_vcpus(struct vmm_machine *machine, unsigned int nr_vcpus)
{
	machine->vcpus = calloc(nr_vcpus, sizeof(*machine->vcpus));
	if (!machine->vcpus)
		return vmm_fail(ENOMEM, "make a machine: no memory");
	machine->nr_vcpus = nr_vcpus;
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		machine->vcpus[i].machine = machine;
		machine->vcpus[i].index = i;
	}
	return 0;
}

int vmm_machine_init(struct vmm_machine *machine, unsigned int nr_vcpus)
{
	int ret = vmm_machine_begin(machine);

	return ret ? ret : vmm_machine_vcpus(machine, nr_vcpus);
}

int vmm_machine_accel(struct vmm_machine *machine, enum vmm_accel_choice choice)
{
	int ret;

	machine->accel = choice == VMM_ACCEL_THREAD ? &vmm_accel_thread : &vmm_accel_kvm;
	if (choice == VMM_ACCEL_AUTO && access("/dev/kvm", R_OK | W_OK)) {
		if (!machine->quiet)
			vmm_say("/dev/kvm: %s: running the payload on threads (--accel thread)",
				strerror(errno));
		machine->accel = &vmm_accel_thread;
	}
	ret = machine->accel->open(machine);
	return ret ? ret : vmm_dirty_settle(machine);
}

void vmm_machine_fail(struct vmm_machine *machine, const char *text)
{
	pthread_mutex_lock(&machine->lock);
	if (!machine->failure[0])
		snprintf(machine->failure, sizeof(machine->failure), "%s", text);
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	eventfd_write(machine->wake_fd, 1);
}

bool vmm_machine_failed(struct vmm_machine *machine)
{
	bool failed;

	pthread_mutex_lock(&machine->lock);
	failed = machine->failure[0] != '\0';
	pthread_mutex_unlock(&machine->lock);
	return failed;
}

static void *vcpu_thread(void *arg)
{
	struct vmm_vcpu *vcpu = arg;
	struct vmm_machine *machine = vcpu->machine;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	/* A machine that arrives paused waits here. */
	if (!vmm_desk_park(vcpu) && machine->accel->run(vcpu))
		vmm_machine_fail(machine, vmm_error_text());
	pthread_mutex_lock(&machine->lock);
	vcpu->ended = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	return NULL;
}

/* Under the lock: who pauses meanwhile must not take a vCPU that runs for one that never began. */
int vmm_machine_start(struct vmm_machine *machine)
{
	int err = 0;

	pthread_mutex_lock(&machine->lock);
	for (unsigned int i = 0; !err && i < machine->nr_vcpus; i++) {
		struct vmm_vcpu *vcpu = &machine->vcpus[i];

		err = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
		vcpu->started = !err;
		if (err)
			vmm_fail(err, "start the thread of vCPU %u: %s", i, strerror(err));
	}
	pthread_mutex_unlock(&machine->lock);
	return -err;
}

static void kick_all(struct vmm_machine *machine)
{
	for (unsigned int i = 0; i < machine->nr_vcpus; i++)
		if (machine->vcpus[i].started && !machine->vcpus[i].ended)
			machine->accel->kick(&machine->vcpus[i]);
	pthread_cond_broadcast(&machine->changed);
}

static bool all_still(const struct vmm_machine *machine, bool ended)
{
	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		const struct vmm_vcpu *vcpu = &machine->vcpus[i];

		if (vcpu->started && !vcpu->ended && (ended || !vcpu->parked))
			return false;
	}
	return true;
}

int vmm_machine_pause(struct vmm_machine *machine)
{
	int ret = 0;

	pthread_mutex_lock(&machine->lock);
	__atomic_store_n(&machine->pause, true, __ATOMIC_RELAXED);
	kick_all(machine);
	while (!all_still(machine, false) && !machine->quit)
		pthread_cond_wait(&machine->changed, &machine->lock);
	if (machine->quit)
		ret = vmm_fail(ECANCELED, "the machine is ending");
	pthread_mutex_unlock(&machine->lock);
	return ret;
}

void vmm_machine_resume(struct vmm_machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	__atomic_store_n(&machine->pause, false, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
}

/* Asks everything to end; waits for nothing. */
void vmm_machine_quit(struct vmm_machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	__atomic_store_n(&machine->quit, true, __ATOMIC_RELAXED);
	kick_all(machine);
	pthread_mutex_unlock(&machine->lock);
	eventfd_write(machine->wake_fd, 1);
}

int vmm_machine_stop(struct vmm_machine *machine)
{
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	vmm_machine_quit(machine);
	pthread_mutex_lock(&machine->lock);
	while (!all_still(machine, true) && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&machine->changed, &machine->lock, &until);
	err = all_still(machine, true) ? 0 : ETIMEDOUT;
	pthread_mutex_unlock(&machine->lock);
	if (err)
		return vmm_fail(err, "a vCPU did not end: it waits for a page that nobody brings");
	for (unsigned int i = 0; i < machine->nr_vcpus; i++) {
		if (machine->vcpus[i].started)
			pthread_join(machine->vcpus[i].thread, NULL);
		machine->vcpus[i].started = false;
	}
	return 0;
}

void vmm_machine_free(struct vmm_machine *machine)
{
	/* It could still ask this machine to end. */
	if (machine->has_signals) {
		pthread_cancel(machine->signal_thread);
		pthread_join(machine->signal_thread, NULL);
	}
	if (machine->accel && machine->accel_data)
		machine->accel->close(machine);
	vmm_close_fd(&machine->wp_pagemap_fd);
	vmm_close_fd(&machine->wp_uffd);
	vmm_memory_unmap(&machine->memory);
	free(machine->vcpus);
	machine->vcpus = NULL;
	vmm_close_fd(&machine->wake_fd);
}
