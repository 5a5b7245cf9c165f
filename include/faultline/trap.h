/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_TRAP_H
#define FAULTLINE_TRAP_H

/*
 * Traps: the mechanisms by which a kernel reports that a guest page was touched, and the table of
 * what this kernel offers.
 */

#include <stdbool.h>
#include <faultline/common.h>
#include <faultline/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * enum fl_event_kind - what a trap reports
 * @FL_EVENT_FAULT: a page was touched that is missing, not mapped, or write-protected
 * @FL_EVENT_REMOVE: the guest gave a range back: MADV_DONTNEED, MADV_REMOVE, MADV_FREE
 * @FL_EVENT_UNMAP: a range of the mapping is gone
 * @FL_EVENT_REMAP: a range of the mapping has another address now
 * @FL_EVENT_FORK: the VMM forked; the child's descriptor was closed by the trap, because nobody
 *	would serve it
 */
enum fl_event_kind {
	FL_EVENT_FAULT,
	FL_EVENT_REMOVE,
	FL_EVENT_UNMAP,
	FL_EVENT_REMAP,
	FL_EVENT_FORK
};

/** FL_FAULT_WRITE - the page was written, not read */
#define FL_FAULT_WRITE (1u << 0)
/** FL_FAULT_MINOR - the page is in the page cache, but not mapped */
#define FL_FAULT_MINOR (1u << 1)
/** FL_FAULT_WP - the page is there, but write-protected */
#define FL_FAULT_WP (1u << 2)

/**
 * struct fl_event - one event of a trap
 * @kind: what happened
 * @flags: of a fault: FL_FAULT_*
 * @tid: thread that touched the page, as gettid(2) names it in the VMM; 0 when not known
 * @addr: host virtual address that was touched, or the start of the range, in the VMM
 * @len_bytes: length of the range; 0 for a fault
 * @to: FL_EVENT_REMAP: the new address
 */
struct fl_event {
	enum fl_event_kind kind;
	uint32_t flags;
	uint32_t tid;
	uint64_t addr;
	uint64_t len_bytes;
	uint64_t to;
};

/** FL_TRAP_MISSING - report pages that are not there */
#define FL_TRAP_MISSING (1u << 0)
/** FL_TRAP_MINOR - report pages that are in the page cache but not mapped */
#define FL_TRAP_MINOR (1u << 1)
/** FL_TRAP_WP - report writes to pages protected with fl_trap_protect() */
#define FL_TRAP_WP (1u << 2)

struct fl_trap;

/** FL_TRAP_OPS_VERSION - version of struct fl_trap_ops described here */
#define FL_TRAP_OPS_VERSION 1

/**
 * struct fl_trap_ops - one kind of trap
 * @size: sizeof(struct fl_trap_ops) as the implementation was compiled; later fields are absent
 * @version: FL_TRAP_OPS_VERSION
 * @flags: FL_TRAP_* modes that arm() may be able to serve
 * @waiter: the waiter bit of threads caught by this trap
 * @name: "uffd", "segv"
 * @fd: the descriptor that is readable when read() has something
 * @read: take up to max events without blocking; 0 when there are none
 * @arm: start to report touches of a range, in any combination of modes
 * @release: stop to report: what is present stays, what is not reads as zeros from now on
 * @wake: let those who wait for a range try again
 * @protect: write-protect a range, or lift that and wake
 * @close: free the trap
 *
 * The functions documented below call these and say what they return.
 */
struct fl_trap_ops {
	uint32_t size;
	uint32_t version;
	uint32_t flags;
	enum fl_waiter waiter;
	const char *name;
	int (*fd)(struct fl_trap *trap);
	int (*read)(struct fl_trap *trap, struct fl_event *events, unsigned int max);
	int (*arm)(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, unsigned int modes);
	int (*release)(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes);
	int (*wake)(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes);
	int (*protect)(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, bool on);
	void (*close)(struct fl_trap *trap);
};

/**
 * struct fl_trap - the head of every trap
 * @ops: its kind
 */
struct fl_trap {
	const struct fl_trap_ops *ops;
};

/** FL_UFFD_USER_MODE_ONLY - faults of kernel code (KVM, system calls) need not be caught */
#define FL_UFFD_USER_MODE_ONLY (1u << 0)

/**
 * enum fl_uffd_way - how a userfaultfd was had
 * @FL_UFFD_BY_DEVICE: /dev/userfaultfd
 * @FL_UFFD_BY_SYSCALL: userfaultfd(2)
 * @FL_UFFD_BY_SYSCALL_USER: userfaultfd(2) with UFFD_USER_MODE_ONLY: KVM's touches get EFAULT
 */
enum fl_uffd_way { FL_UFFD_BY_DEVICE, FL_UFFD_BY_SYSCALL, FL_UFFD_BY_SYSCALL_USER };

/**
 * fl_uffd_open() - a new userfaultfd of the calling process, close-on-exec and non-blocking
 * @features: UFFD_FEATURE_* that must be there; those that are wanted but absent are an error
 * @flags: FL_UFFD_USER_MODE_ONLY or 0
 * @way: receives how it was had, or NULL
 * @err: receives what was tried and why each failed, or NULL
 *
 * Tries /dev/userfaultfd, then the system call, then (with FL_UFFD_USER_MODE_ONLY) the system
 * call for user-mode faults only, and negotiates @features with UFFDIO_API. UFFD_FEATURE_EVENT_FORK
 * is refused: a child would need a pager of its own. See userfaultfd(2), ioctl_userfaultfd(2).
 *
 * Return: the descriptor; -EPERM or -EACCES when none may be had, -ENOSYS without
 * CONFIG_USERFAULTFD, -EOPNOTSUPP when a feature is absent or FORK was asked for, -EMFILE.
 */
FL_API int fl_uffd_open(uint64_t features, unsigned int flags, enum fl_uffd_way *way,
			struct fl_error *err);

/**
 * fl_trap_uffd_new() - a trap on a userfaultfd, of this process or of another
 * @trap: receives the trap
 * @fd: the userfaultfd, UFFDIO_API done; duplicated and made non-blocking, the caller keeps his own
 * @err: receives the reason, or NULL
 *
 * Return: 0; -EINVAL when @fd is no userfaultfd, -EBADF, -EMFILE, -ENOMEM.
 */
FL_API int fl_trap_uffd_new(struct fl_trap **trap, int fd, struct fl_error *err);

/**
 * fl_trap_segv_new() - a trap on SIGSEGV, where userfaultfd is refused
 * @trap: receives the trap
 * @err: receives the reason, or NULL
 *
 * Catches threads of the calling process in user mode only; a system call or KVM touching a page
 * gets EFAULT. arm() makes a range PROT_NONE; pages come to sight by fl_install_reveal_new().
 * The first such trap of a process installs a SIGSEGV handler that passes on what is not in an
 * armed range to the handler before it; the last one to close restores that. This is the one
 * place where the library keeps a process-wide list: a signal handler gets no context.
 *
 * Return: 0; -ENOMEM, -EMFILE, and what sigaction(2) returns.
 */
FL_API int fl_trap_segv_new(struct fl_trap **trap, struct fl_error *err);

/**
 * fl_trap_fd() - the descriptor to poll for events
 * @trap: the trap
 *
 * Return: the descriptor, which stays the trap's; readable (POLLIN) when there are events.
 */
FL_API int fl_trap_fd(struct fl_trap *trap);

/**
 * fl_trap_read() - take events, without blocking
 * @trap: the trap
 * @events: receives them; REMOVE, UNMAP and REMAP come before the faults of the same batch,
 *	because a fault may only be answered with what is true after them
 * @max: room in @events, at least 1
 *
 * That the VMM is dead is not told here, nor by fl_trap_fd(): its pidfd says so, and every install
 * that is tried answers -ESRCH.
 *
 * Return: how many, 0 for none now; a negative errno of read(2).
 */
FL_API int fl_trap_read(struct fl_trap *trap, struct fl_event *events, unsigned int max);

/**
 * fl_trap_arm() - start to report touches of a range
 * @trap: the trap
 * @addr: host virtual address, page aligned
 * @len_bytes: length, a multiple of the mapping's page size
 * @modes: FL_TRAP_*; on memfd memory MINOR alone lets a hole read as zeros: use it with MISSING
 *
 * Return: 0; -EINVAL for an unaligned or unmapped range or a mode that this memory cannot serve,
 * -EBUSY when another userfaultfd holds it, -EOPNOTSUPP when the trap cannot serve @modes, -ENOMEM.
 */
FL_API int fl_trap_arm(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, unsigned int modes);

/**
 * fl_trap_release() - stop to report touches of a range, and wake who waits
 * @trap: the trap
 * @addr: host virtual address, page aligned
 * @len_bytes: length
 *
 * From then on the range costs nothing, and a page that was never installed reads as zeros: only
 * for ranges whose every page is present or removed.
 *
 * Return: 0; -EINVAL, -ENOMEM, -ESRCH when the address space is gone.
 */
FL_API int fl_trap_release(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes);

/**
 * fl_trap_wake() - let those who wait for a range try again
 * @trap: the trap
 * @addr: host virtual address, page aligned
 * @len_bytes: length
 *
 * Return: 0; -EINVAL. A dead VMM has nobody to wake: 0.
 */
FL_API int fl_trap_wake(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes);

/**
 * fl_trap_protect() - write-protect a range, or allow writing again and wake
 * @trap: the trap, armed with FL_TRAP_WP
 * @addr: host virtual address, page aligned
 * @len_bytes: length
 * @on: true to protect
 *
 * Return: 0; -EOPNOTSUPP when the trap cannot; -EAGAIN while the mapping changes: read events and
 * try again; -ENOENT, -EINVAL, -ESRCH.
 */
FL_API int fl_trap_protect(struct fl_trap *trap, uint64_t addr, uint64_t len_bytes, bool on);

/**
 * fl_trap_close() - free a trap and what it holds
 * @trap: the trap, or NULL
 *
 * A userfaultfd whose last descriptor is closed lets every waiter read zeros: whoever must not
 * see that keeps a descriptor of his own, as Firecracker does.
 * What a SIGSEGV trap had armed stays out of sight: who waits there goes on to the handler before.
 */
FL_API void fl_trap_close(struct fl_trap *trap);

/**
 * struct fl_probe - one thing that a kernel may offer
 * @name: short and stable, such as "uffd.poison"
 * @what: what it is, for people
 * @use: what Faultline does with it, and without it
 * @offered: it works here
 * @reason: negative errno of the try when it does not
 */
struct fl_probe {
	const char *name;
	const char *what;
	const char *use;
	bool offered;
	int reason;
};

/**
 * fl_probe_all() - try everything that Faultline can make use of
 * @probes: receives up to @max results
 * @max: room in @probes
 *
 * Every entry is found by trying, never by a version number. Leaves nothing behind.
 *
 * Return: how many entries the table has, which may be more than @max.
 */
FL_API size_t fl_probe_all(struct fl_probe *probes, size_t max);

/**
 * fl_probe_one() - try one thing
 * @name: a name from the table
 *
 * Return: 0 when it works here; the negative errno of the try when not; -ENOENT for a name that the
 * table does not have.
 */
FL_API int fl_probe_one(const char *name);

#ifdef __cplusplus
}
#endif
#endif
