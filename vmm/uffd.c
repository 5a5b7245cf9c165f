/* SPDX-License-Identifier: MIT */
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "util.h"

#define UFFD_FLAGS (O_CLOEXEC | O_NONBLOCK)

/* /dev/userfaultfd is opened by file permission; the system call asks for privilege. */
static int open_device(void)
{
	AUTO_FD device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	return device < 0 ? -1 : ioctl(device, USERFAULTFD_IOC_NEW, UFFD_FLAGS);
}

static int open_uffd(struct vmm_memory *memory, bool user_only)
{
	memory->kernel_faults = true;
	memory->uffd = open_device();
	if (memory->uffd < 0)
		memory->uffd = (int)syscall(SYS_userfaultfd, UFFD_FLAGS);
	if (memory->uffd < 0 && user_only) {
		memory->kernel_faults = false;
		memory->uffd = (int)syscall(SYS_userfaultfd, UFFD_FLAGS | UFFD_USER_MODE_ONLY);
	}
	if (memory->uffd >= 0)
		return 0;
	return vmm_fail(errno,
			"userfaultfd: %s: wants access to /dev/userfaultfd, CAP_SYS_PTRACE, or"
			" sysctl vm.unprivileged_userfaultfd=1%s",
			strerror(errno),
			user_only ? "" : " (KVM needs faults of the kernel to be served)");
}

static int register_region(const struct vmm_memory *memory, const struct vmm_region *region)
{
	struct uffdio_register reg = {
		.range.start = (uintptr_t)(memory->base + region->gpa),
		.range.len = region->size_bytes,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(memory->uffd, UFFDIO_REGISTER, &reg))
		return vmm_fail(errno, "UFFDIO_REGISTER of gpa 0x%llx, %llu bytes: %s",
				(unsigned long long)region->gpa,
				(unsigned long long)region->size_bytes, strerror(errno));
	return 0;
}

int vmm_uffd_register(struct vmm_memory *memory, bool user_only)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};
	int ret = open_uffd(memory, user_only);

	if (!ret && ioctl(memory->uffd, UFFDIO_API, &api))
		ret = vmm_fail(errno, "UFFDIO_API with UFFD_FEATURE_EVENT_REMOVE: %s",
			       strerror(errno));
	for (unsigned int i = 0; !ret && i < memory->layout.nr_regions; i++)
		ret = register_region(memory, &memory->layout.regions[i]);
	memory->partial = !ret;
	return ret;
}

/* Its memory is not registered where it was never armed, or the pager has let go already. */
void vmm_uffd_release(struct vmm_memory *memory)
{
	for (unsigned int i = 0; memory->uffd >= 0 && i < memory->layout.nr_regions; i++) {
		const struct vmm_region *region = &memory->layout.regions[i];
		struct uffdio_range range = {
			.start = (uintptr_t)(memory->base + region->gpa),
			.len = region->size_bytes,
		};

		(void)ioctl(memory->uffd, UFFDIO_UNREGISTER, &range);
	}
}
