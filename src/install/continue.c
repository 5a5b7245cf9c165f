/* SPDX-License-Identifier: MIT */

/*
 * The contents are written into the page cache through a second mapping; the guest's mapping, which
 * is registered MISSING and MINOR together, keeps everybody out until UFFDIO_CONTINUE maps the
 * finished page. What the cache held before (stale contents, fallocate(2), a neighbour in a large
 * folio) is overwritten, so no one may ask for a page that is present: the guest's own writes would
 * be lost. The pager's page states see to that.
 */

#include <errno.h>
#include <stdlib.h>

#include "install/alias.h"
#include "install/uffdio.h"
#include "util/error.h"
#include "util/fd.h"

struct cont {
	struct fl_install install;
	int uffd;
	struct fl_aliases aliases;
};

static struct cont *to_cont(struct fl_install *install)
{
	return (struct cont *)(void *)install;
}

static void *cont_place(struct fl_install *install, uint64_t addr, uint64_t len_bytes)
{
	return fl_aliases_place(&to_cont(install)->aliases, addr, len_bytes);
}

static int64_t cont_map(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			unsigned int flags)
{
	return fl_uffdio_continue(to_cont(install)->uffd, addr, len_bytes, flags);
}

static int64_t cont_copy(struct fl_install *install, uint64_t addr, const void *from,
			 uint64_t len_bytes, unsigned int flags)
{
	int64_t filled = fl_aliases_fill(&to_cont(install)->aliases, addr, from, len_bytes);

	return filled < 0 ? filled : cont_map(install, addr, (uint64_t)filled, flags);
}

static int64_t cont_zero(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			 uint64_t page_size, unsigned int flags)
{
	(void)page_size;
	return cont_copy(install, addr, NULL, len_bytes, flags);
}

static int64_t cont_poison(struct fl_install *install, uint64_t addr, uint64_t len_bytes,
			   unsigned int flags)
{
	return fl_uffdio_poison(to_cont(install)->uffd, addr, len_bytes, flags);
}

static void cont_close(struct fl_install *install)
{
	struct cont *cont = to_cont(install);

	fl_fd_close(&cont->uffd);
	free(cont);
}

static const struct fl_install_ops cont_ops = {
	.size = sizeof(cont_ops),
	.version = FL_INSTALL_OPS_VERSION,
	.name = "continue",
	.place = cont_place,
	.copy = cont_copy,
	.zero = cont_zero,
	.map = cont_map,
	.poison = cont_poison,
	.close = cont_close,
};

int fl_install_continue_new(struct fl_install **install, int uffd, const struct fl_alias *aliases,
			    size_t count, struct fl_error *err)
{
	struct cont *cont = calloc(1, sizeof(*cont));
	int rc;

	if (!cont)
		return fl_error_set(err, -ENOMEM, "out of memory");
	cont->install.ops = &cont_ops;
	cont->uffd = -1;
	rc = fl_aliases_init(&cont->aliases, aliases, count, err);
	if (!rc)
		rc = cont->uffd = fl_uffdio_dup(uffd, err);
	if (rc < 0) {
		cont_close(&cont->install);
		return rc;
	}
	*install = &cont->install;
	return 0;
}
