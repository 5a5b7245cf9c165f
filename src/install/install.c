/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <faultline/install.h>

/* An older implementation may end before a field; a later version may mean something else by it. */
#define HAS(ops, field)                                                                  \
	((ops)->version == FL_INSTALL_OPS_VERSION &&                                     \
	 (ops)->size >= offsetof(struct fl_install_ops, field) + sizeof((ops)->field) && \
	 (ops)->field)

#define FLAGS (FL_INSTALL_DONTWAKE | FL_INSTALL_WP)

static bool is_wrong(uint64_t addr, uint64_t len_bytes, unsigned int flags)
{
	return !len_bytes || addr + len_bytes < addr || (flags & ~FLAGS);
}

void *fl_install_place(struct fl_install *install, uint64_t addr, uint64_t len_bytes)
{
	if (is_wrong(addr, len_bytes, 0) || !HAS(install->ops, place))
		return NULL;
	return install->ops->place(install, addr, len_bytes);
}

int64_t fl_install_copy(struct fl_install *install, uint64_t addr, const void *from,
			uint64_t len_bytes, unsigned int flags)
{
	if (is_wrong(addr, len_bytes, flags))
		return -EINVAL;
	if (!HAS(install->ops, copy))
		return -EOPNOTSUPP;
	return install->ops->copy(install, addr, from, len_bytes, flags);
}

int64_t fl_install_zero(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			uint64_t page_size, unsigned int flags)
{
	if (is_wrong(addr, len_bytes, flags) || !page_size || len_bytes % page_size)
		return -EINVAL;
	if (!HAS(install->ops, zero))
		return -EOPNOTSUPP;
	return install->ops->zero(install, addr, len_bytes, page_size, flags);
}

int64_t fl_install_map(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
		       unsigned int flags)
{
	if (is_wrong(addr, len_bytes, flags))
		return -EINVAL;
	if (!HAS(install->ops, map))
		return -EOPNOTSUPP;
	return install->ops->map(install, addr, len_bytes, flags);
}

int64_t fl_install_poison(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			  unsigned int flags)
{
	if (is_wrong(addr, len_bytes, flags) || (flags & FL_INSTALL_WP))
		return -EINVAL;
	if (!HAS(install->ops, poison))
		return -EOPNOTSUPP;
	return install->ops->poison(install, addr, len_bytes, flags);
}

void fl_install_close(struct fl_install *install)
{
	if (install && HAS(install->ops, close))
		install->ops->close(install);
}
