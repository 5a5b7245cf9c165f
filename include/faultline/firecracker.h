/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_FIRECRACKER_H
#define FAULTLINE_FIRECRACKER_H

/*
 * Firecracker's handshake for guest memory served over userfaultfd: the VMM connects to a Unix
 * stream socket and sends, in one sendmsg(2), a JSON array of its regions with its userfaultfd as
 * SCM_RIGHTS. Nothing is answered. See Firecracker's docs/snapshotting/handling-page-faults-on-
 * snapshot-resume.md.
 *
 * Every released form is understood: without a page size (1.1 to 1.6), with "page_size_kib" (1.7
 * to 1.11; despite its name in bytes) and with both "page_size" and "page_size_kib" (since 1.12).
 */

#include <sys/types.h>
#include <faultline/common.h>
#include <faultline/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

/** FL_FIRECRACKER_MESSAGE_MAX - longest handshake that is accepted, in bytes */
#define FL_FIRECRACKER_MESSAGE_MAX (128u * 1024)

/**
 * struct fl_hello - what a VMM said when it came
 * @regions: its memory; gpa is FL_NOWHERE
 * @count: how many regions
 * @uffd: its userfaultfd, owned by the receiver
 * @pidfd: pidfd of the peer, owned by the receiver; readable when that process is gone
 * @pid: its process id at the time of connect(2)
 */
struct fl_hello {
	struct fl_region regions[FL_REGIONS_MAX];
	size_t count;
	int uffd;
	int pidfd;
	pid_t pid;
};

/**
 * enum fl_firecracker_form - which release's fields a handshake has
 * @FL_FIRECRACKER_NO_PAGE_SIZE: 1.1 to 1.6
 * @FL_FIRECRACKER_PAGE_SIZE_KIB: 1.7 to 1.11
 * @FL_FIRECRACKER_BOTH: since 1.12
 */
enum fl_firecracker_form {
	FL_FIRECRACKER_NO_PAGE_SIZE,
	FL_FIRECRACKER_PAGE_SIZE_KIB,
	FL_FIRECRACKER_BOTH
};

/**
 * fl_firecracker_parse() - read the JSON of a handshake
 * @text: the message, not NUL-terminated
 * @len_bytes: its length
 * @regions: receives up to FL_REGIONS_MAX regions
 * @err: receives the reason, naming the region and the field, or NULL
 *
 * Checks the shape, the types, that sizes are known page sizes and that nothing wraps; whether the
 * regions fit together is checked by fl_layout_new(). Unknown fields are ignored.
 *
 * Return: how many regions; -EINVAL for anything malformed; -EMSGSIZE when longer than
 * FL_FIRECRACKER_MESSAGE_MAX; -E2BIG for too many regions; -ENOMEM; -EAGAIN when the text is the
 * beginning of a message and more must follow.
 */
FL_API int fl_firecracker_parse(const char *text, size_t len_bytes,
				struct fl_region regions[FL_REGIONS_MAX], struct fl_error *err);

/**
 * fl_firecracker_receive() - receive the handshake on an accepted connection
 * @sock: the connected Unix stream socket
 * @timeout_ms: how long the whole message may take
 * @hello: receives what was said; its descriptors are the caller's on success
 * @err: receives the reason, or NULL
 *
 * Blocks up to @timeout_ms. Exactly one descriptor must come along, and it must be a userfaultfd;
 * any others are closed.
 *
 * Return: 0; -ETIMEDOUT when the peer said nothing or not enough; -ECONNRESET when it left before
 * the end; -EBADMSG for no, several or a wrong descriptor; what fl_firecracker_parse() returns; and
 * what recvmsg(2), getsockopt(2) and pidfd_open(2) return.
 */
FL_API int fl_firecracker_receive(int sock, unsigned int timeout_ms, struct fl_hello *hello,
				  struct fl_error *err);

/**
 * fl_firecracker_send() - say the handshake, as a VMM
 * @sock: a connected Unix stream socket
 * @regions: the guest's memory, registered with @uffd already
 * @count: 1 to FL_REGIONS_MAX
 * @uffd: the userfaultfd; the caller keeps it, and keeps @sock open as long as the guest runs
 * @form: which release to speak as
 * @err: receives the reason, or NULL
 *
 * Return: 0; -ENOMEM, and what sendmsg(2) returns.
 */
FL_API int fl_firecracker_send(int sock, const struct fl_region *regions, size_t count, int uffd,
			       enum fl_firecracker_form form, struct fl_error *err);

#ifdef __cplusplus
}
#endif
#endif
