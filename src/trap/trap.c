/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <faultline/trap.h>

/* An older implementation may end before a field; a later version may mean something else by it. */
#define HAS(ops, field)                                                               \
	((ops)->version == FL_TRAP_OPS_VERSION &&                                     \
	 (ops)->size >= offsetof(struct fl_trap_ops, field) + sizeof((ops)->field) && \
	 (ops)->field)

int fl_trap_fd(struct fl_trap *trap)
{
	return HAS(trap->ops, fd) ? trap->ops->fd(trap) : -EOPNOTSUPP;
}

int fl_trap_read(struct fl_trap *trap, struct fl_event *events, unsigned int max)
{
	if (!max)
		return -EINVAL;
	return HAS(trap->ops, read) ? trap->ops->read(trap, events, max) : -EOPNOTSUPP;
}

int fl_trap_arm(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, unsigned int modes)
{
	if (!modes || !len_bytes || addr + len_bytes < addr)
		return -EINVAL;
	if (!HAS(trap->ops, arm) || (modes & ~trap->ops->flags))
		return -EOPNOTSUPP;
	return trap->ops->arm(trap, addr, len_bytes, modes);
}

int fl_trap_release(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes)
{
	if (!len_bytes || addr + len_bytes < addr)
		return -EINVAL;
	return HAS(trap->ops, release) ? trap->ops->release(trap, addr, len_bytes) : -EOPNOTSUPP;
}

int fl_trap_wake(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes)
{
	if (!len_bytes || addr + len_bytes < addr)
		return -EINVAL;
	return HAS(trap->ops, wake) ? trap->ops->wake(trap, addr, len_bytes) : -EOPNOTSUPP;
}

int fl_trap_protect(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, bool on)
{
	if (!len_bytes || addr + len_bytes < addr)
		return -EINVAL;
	if (!HAS(trap->ops, protect))
		return -EOPNOTSUPP;
	return trap->ops->protect(trap, addr, len_bytes, on);
}

void fl_trap_close(struct fl_trap *trap)
{
	if (trap && HAS(trap->ops, close))
		trap->ops->close(trap);
}
