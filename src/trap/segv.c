/* SPDX-License-Identifier: MIT */
#include "trap/segv.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/error.h"

static struct fl_segv *to_segv(struct fl_trap *trap)
{
	return (struct fl_segv *)(void *)trap;
}

static int segv_fd(struct fl_trap *trap)
{
	return to_segv(trap)->event_fd;
}

static int segv_read(struct fl_trap *trap, struct fl_event *events, unsigned int max)
{
	struct fl_segv *segv = to_segv(trap);
	unsigned int taken;

	(void)pthread_mutex_lock(&segv->reader);
	taken = fl_segv_take(segv, events, max);
	(void)pthread_mutex_unlock(&segv->reader);
	return (int)taken;
}

static int protect(const struct fl_segv_change *change, int prot)
{
	return mprotect((void *)(uintptr_t)change->start, change->end - change->start, prot)
		       ? -errno
		       : 0;
}

static int hide(const struct fl_segv_change *change)
{
	int rc = protect(change, PROT_NONE);

	/* Part of it may be hidden already, and it is not armed any more. */
	if (rc)
		(void)protect(change, PROT_READ | PROT_WRITE);
	return rc;
}

static int show(const struct fl_segv_change *change)
{
	return protect(change, PROT_READ | PROT_WRITE);
}

/* mprotect(2) says ENOMEM for a hole in the range as well as for want of memory. */
static int check_range(uint64_t addr, uint64_t len_bytes)
{
	uint64_t below_page = (uint64_t)sysconf(_SC_PAGESIZE) - 1;

	if ((addr | len_bytes) & below_page)
		return -EINVAL;
	return msync((void *)(uintptr_t)addr, len_bytes, MS_ASYNC) ? -EINVAL : 0;
}

static int segv_arm(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, unsigned int modes)
{
	struct fl_segv_change change = {addr, addr + len_bytes, true, hide};
	int rc = check_range(addr, len_bytes);

	(void)modes;
	if (rc)
		return rc;
	rc = fl_segv_change(to_segv(trap), &change);
	/* It was armed for a moment: who touched it then must not wait for ever. */
	if (rc)
		fl_segv_wake(to_segv(trap), change.start, change.end);
	return rc;
}

static int segv_wake(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes)
{
	fl_segv_wake(to_segv(trap), addr, addr + len_bytes);
	return 0;
}

static int segv_release(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes)
{
	struct fl_segv_change change = {addr, addr + len_bytes, false, show};
	int rc = check_range(addr, len_bytes);

	if (!rc)
		rc = fl_segv_change(to_segv(trap), &change);
	return rc ? rc : segv_wake(trap, addr, len_bytes);
}

static void segv_close(struct fl_trap *trap)
{
	fl_segv_close(to_segv(trap));
}

static const struct fl_trap_ops segv_ops = {
	.size = sizeof(segv_ops),
	.version = FL_TRAP_OPS_VERSION,
	.flags = FL_TRAP_MISSING,
	.waiter = FL_WAITER_CALL,
	.name = "segv",
	.fd = segv_fd,
	.read = segv_read,
	.arm = segv_arm,
	.release = segv_release,
	.wake = segv_wake,
	.protect = NULL,
	.close = segv_close,
};

int fl_trap_segv_new(struct fl_trap **trap, struct fl_error *err)
{
	struct fl_segv *segv = NULL;
	int rc = fl_segv_open(&segv);

	if (rc == -ENOMEM)
		return fl_error_set(err, rc,
				    "out of memory, or too many SIGSEGV traps in a process");
	if (rc)
		return fl_error_set(err, rc, "no SIGSEGV trap: error %d", -rc);
	segv->trap.ops = &segv_ops;
	*trap = &segv->trap;
	return 0;
}
