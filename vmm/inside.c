/* SPDX-License-Identifier: MIT */
/*
 * The pager inside: libfaultline's parts put together for this one guest, run
 * by the pager's own thread. With the uffd trap the parts are those of a daemon;
 * with the segv trap guest memory must be a memfd, because pages are filled
 * through a second mapping while the guest's is PROT_NONE.
 */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <faultline/pager.h>

#include "guest.h"
#include "report.h"
#include "util.h"

const char *const vmm_trap_names[] = {"auto", "uffd", "segv", NULL};

struct vmm_inside {
	enum vmm_trap kind;
	struct fl_pager_parts parts;
	struct fl_pager *pager;
	int pagemap_fd;
};

static int failed(const char *what, int ret, const struct fl_error *err)
{
	return vmm_fail(-ret, "pager inside: %s: %s", what,
			err && err->text[0] ? err->text : strerror(-ret));
}

static int try_uffd(bool kvm)
{
	struct fl_error err = {0};
	int fd = fl_uffd_open(UFFD_FEATURE_EVENT_REMOVE, kvm ? 0 : FL_UFFD_USER_MODE_ONLY, NULL,
			      &err);

	if (fd < 0)
		return failed("userfaultfd", fd, &err);
	close(fd);
	return 0;
}

int vmm_inside_settle(struct vmm_inside_options *options, struct vmm_layout *layout)
{
	int ret = options->trap == VMM_TRAP_SEGV ? 0 : try_uffd(options->kvm);

	if (options->trap == VMM_TRAP_AUTO)
		options->trap = ret && !options->kvm ? VMM_TRAP_SEGV : VMM_TRAP_UFFD;
	if (options->trap == VMM_TRAP_UFFD)
		return ret;
	if (options->kvm)
		return vmm_fail(EINVAL, "--trap segv: catches threads of this process only, KVM is"
					" none: use --accel thread");
	if (layout->regions[0].backing == VMM_BACKING_HUGETLBFS)
		return vmm_fail(EINVAL,
				"--trap segv: cannot serve huge pages, use --backing memfd");
	return vmm_layout_rebase(layout, VMM_BACKING_MEMFD);
}

static int make_layout(struct vmm_inside *inside, const struct vmm_memory *memory)
{
	int ret = vmm_guest_layout(memory, &inside->parts.layout);

	if (ret)
		return ret;
	ret = fl_table_new(&inside->parts.table, fl_layout_pages(inside->parts.layout));
	return ret ? failed("page-state table", ret, NULL) : 0;
}

static int make_uffd(struct vmm_inside *inside, struct vmm_memory *memory, bool kvm)
{
	enum fl_uffd_way way;
	struct fl_error err = {0};
	int ret;

	/* Our own copy stays open: without one, a page that nobody brought would read as zeros. */
	memory->uffd = fl_uffd_open(UFFD_FEATURE_EVENT_REMOVE, kvm ? 0 : FL_UFFD_USER_MODE_ONLY,
				    &way, &err);
	if (memory->uffd < 0)
		return failed("userfaultfd", memory->uffd, &err);
	memory->kernel_faults = way != FL_UFFD_BY_SYSCALL_USER;
	ret = fl_trap_uffd_new(&inside->parts.trap, memory->uffd, &err);
	if (!ret)
		ret = fl_install_copy_new(&inside->parts.install, memory->uffd, &err);
	return ret ? failed("uffd trap", ret, &err) : 0;
}

static int make_segv(struct vmm_inside *inside, struct vmm_memory *memory)
{
	struct fl_alias aliases[VMM_MAX_REGIONS];
	struct fl_error err = {0};
	int ret = vmm_memory_alias(memory);

	if (ret)
		return ret;
	memory->kernel_faults = false;
	vmm_guest_aliases(memory, aliases);
	ret = fl_trap_segv_new(&inside->parts.trap, &err);
	if (!ret)
		ret = fl_install_reveal_new(&inside->parts.install, inside->parts.trap, aliases,
					    memory->layout.nr_regions, &err);
	return ret ? failed("segv trap", ret, &err) : 0;
}

static int arm(struct vmm_inside *inside, const struct vmm_memory *memory)
{
	for (unsigned int i = 0; i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];
		int ret = fl_trap_arm(inside->parts.trap, (uintptr_t)(memory->base + region->gpa),
				      region->size_bytes, FL_TRAP_MISSING);

		if (ret)
			return failed("arm the trap", ret, NULL);
	}
	return 0;
}

static void log_line(void *ctx, enum fl_log_level level, const char *text)
{
	(void)ctx;
	if (level <= FL_LOG_WARNING)
		vmm_say("pager inside: %s", text);
}

/* Nobody supplies the guest's memory any more, and its vCPUs may sleep for a page: the VMM ends. */
static void ended(void *ctx, int result)
{
	const struct vmm_inside *inside = ctx;

	vmm_say("pager inside: %s: %s", fl_pager_error(inside->pager), strerror(-result));
	(void)kill(getpid(), SIGTERM);
}

static int start_pager(struct vmm_inside *inside, const struct vmm_inside_options *options)
{
	struct fl_pager_options how;
	struct fl_error err = {0};
	int ret;

	inside->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	fl_pager_options_init(&how);
	how.flags = options->fill ? FL_PAGER_FILL : 0;
	how.pagemap_fd = inside->pagemap_fd;
	how.log.write = log_line;
	how.ended = ended;
	how.ctx = inside;
	ret = fl_pager_new(&inside->pager, &inside->parts, &how, &err);
	if (!ret)
		ret = fl_pager_start(inside->pager);
	return ret ? failed("pager", ret, &err) : 0;
}

static int build(struct vmm_inside *inside, struct vmm_memory *memory,
		 const struct vmm_inside_options *options)
{
	struct fl_error err = {0};
	int ret = fl_source_file_open(&inside->parts.source, options->image, 0, &err);

	if (ret)
		return failed(options->image, ret, &err);
	ret = make_layout(inside, memory);
	if (!ret)
		ret = options->trap == VMM_TRAP_SEGV ? make_segv(inside, memory)
						     : make_uffd(inside, memory, options->kvm);
	if (!ret)
		ret = arm(inside, memory);
	return ret ? ret : start_pager(inside, options);
}

int vmm_inside_start(struct vmm_memory *memory, const struct vmm_inside_options *options,
		     struct vmm_inside **out)
{
	struct vmm_inside *inside = calloc(1, sizeof(*inside));
	int ret;

	if (!inside)
		return vmm_fail(ENOMEM, "pager inside: no memory");
	inside->pagemap_fd = -1;
	inside->kind = options->trap;
	ret = build(inside, memory, options);
	if (ret) {
		vmm_inside_stop(inside);
		return ret;
	}
	memory->partial = true;
	memory->no_discard = options->trap == VMM_TRAP_SEGV;
	*out = inside;
	return 0;
}

json_t *vmm_inside_report(const struct vmm_inside *inside)
{
	struct fl_pager_stats stats = {.size = sizeof(stats)};

	if (!inside)
		return NULL;
	fl_pager_stats(inside->pager, &stats);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "trap",
			 vmm_trap_names[inside->kind], "pages", (json_int_t)stats.pages, "left",
			 (json_int_t)stats.left, "demand", (json_int_t)stats.demand, "around",
			 (json_int_t)stats.around, "fill", (json_int_t)stats.fill, "zero",
			 (json_int_t)stats.zero, "removed", (json_int_t)stats.removed, "poisoned",
			 (json_int_t)stats.poisoned, "duplicates", (json_int_t)stats.duplicates,
			 "faults", vmm_report_faults(&stats));
}

void vmm_inside_stop(struct vmm_inside *inside)
{
	if (!inside)
		return;
	fl_pager_close(inside->pager);
	fl_install_close(inside->parts.install);
	fl_trap_close(inside->parts.trap);
	fl_table_free(inside->parts.table);
	fl_layout_free(inside->parts.layout);
	fl_source_close(inside->parts.source);
	vmm_close_fd(&inside->pagemap_fd);
	free(inside);
}
