/* SPDX-License-Identifier: MIT */
/*
 * SIGTERM and SIGINT are blocked in every thread and awaited by one: the first
 * ends the machine in order (but see farewell.c), a second ends the process. SIGBUS in guest memory
 * is a page whose contents are lost (poisoned): the one line is written by the
 * handler itself, with nothing but write(2).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "drive.h"
#include "util.h"

/* Read by the SIGBUS handler alone; set once before any thread is made. */
static const struct vmm_memory *guest_memory;

static void *wait_for_signals(void *arg)
{
	struct vmm_machine *machine = arg;
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigwait(&set, &signal);
	while (vmm_machine_told(machine)) {
		vmm_say("%s", vmm_error_text());
		sigwait(&set, &signal);
	}
	sigwait(&set, &signal);
	_exit(1);
}

static size_t put_hex(char *to, uint64_t value)
{
	size_t len = 0;

	for (int shift = 60; shift >= 0; shift -= 4)
		if (len || value >> shift || !shift)
			to[len++] = "0123456789abcdef"[value >> shift & 15];
	return len;
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	static const char text[] = "faultline-vmm: a page of guest memory is lost: gpa 0x";
	uintptr_t addr = (uintptr_t)info->si_addr;
	uintptr_t base = (uintptr_t)guest_memory->base;
	char line[sizeof(text) + 20];
	size_t len = sizeof(text) - 1;

	(void)signal;
	(void)context;
	memcpy(line, text, len);
	if (base && addr >= base && addr - base < guest_memory->window_bytes)
		len += put_hex(line + len, addr - base);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		_exit(2);
	_exit(1);
}

int vmm_drive_signals(struct vmm_machine *machine)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	sigset_t set;
	int err;

	guest_memory = &machine->memory;
	sigemptyset(&action.sa_mask);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	err = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (!err && sigaction(SIGBUS, &action, NULL))
		err = errno;
	if (!err)
		err = pthread_create(&machine->signal_thread, NULL, wait_for_signals, machine);
	if (err)
		return vmm_fail(err, "set up signals: %s", strerror(err));
	machine->has_signals = true;
	return 0;
}
