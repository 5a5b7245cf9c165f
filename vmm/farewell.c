/* SPDX-License-Identifier: MIT */
/*
 * Being told to end, by a signal or over the control socket, while the machine lives on two hosts:
 * it has moved, and pages of it are still on the side that it left. Neither of the two
 * can end then without taking the machine with it. So the first time that is only said; who means it says it
 * again. The side that the machine left ends by itself when all has followed.
 */
#include <errno.h>

#include "arrive.h"
#include "leave.h"
#include "machine.h"
#include "util.h"

#define AGAIN_SECONDS 30u

/* Return: whether the same was said a moment ago. */
static bool is_told_again(struct vmm_machine *machine)
{
	uint64_t now_ns = vmm_now_ns();
	bool again;

	pthread_mutex_lock(&machine->lock);
	again = machine->told_ns && now_ns - machine->told_ns < AGAIN_SECONDS * 1000000000ull;
	machine->told_ns = now_ns;
	pthread_mutex_unlock(&machine->lock);
	return again;
}

static int warn(uint64_t pages, const char *how)
{
	if (!pages)
		return vmm_fail(EBUSY,
				"pages of the machine's memory are still to %s; told again within"
				" %u s it ends at once, and the machine is lost",
				how, AGAIN_SECONDS);
	return vmm_fail(EBUSY,
			"%llu pages of the machine's memory are still to %s; told again within"
			" %u s it ends at once, and the machine is lost",
			(unsigned long long)pages, how, AGAIN_SECONDS);
}

int vmm_machine_told(struct vmm_machine *machine)
{
	uint64_t pages = 0;
	bool owes, lost;

	if (__atomic_load_n(&machine->quit, __ATOMIC_RELAXED))
		return 0;
	owes = vmm_leave_owes(machine, &pages, &lost);
	if ((owes || vmm_arrive_lacks(machine, &pages)) && !is_told_again(machine))
		return warn(pages, !owes  ? "come"
				   : lost ? "follow it, once the connection was recovered"
					  : "follow it: it ends by itself when they have");
	vmm_machine_quit(machine);
	return 0;
}
