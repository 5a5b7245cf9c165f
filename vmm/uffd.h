/* SPDX-License-Identifier: MIT */
/* Handing guest memory to an external page-fault handler. */
#ifndef FAULTLINE_VMM_UFFD_H
#define FAULTLINE_VMM_UFFD_H

#include <stddef.h>

#include "memory.h"

enum vmm_form { VMM_FORM_BOTH, VMM_FORM_KIB, VMM_FORM_NONE };
extern const char *const vmm_form_names[];

/**
 * vmm_uffd_register() - a userfaultfd over all regions, before anything touched them
 * @memory: mapped; receives the descriptor
 * @user_only: accept one that does not serve the kernel's own faults
 *
 * Return: 0 or -errno.
 */
int vmm_uffd_register(struct vmm_memory *memory, bool user_only);

/* vmm_uffd_release() - nothing is missing any more: let it watch no longer */
void vmm_uffd_release(struct vmm_memory *memory);

/**
 * vmm_handshake() - say what Firecracker says: one message on a Unix stream
 * socket, a JSON array of regions, with the userfaultfd as SCM_RIGHTS
 * @memory: with its userfaultfd registered
 * @path: the handler's socket
 * @form: the page-size fields of which releases
 * @socket_fd: receives the socket, which stays open: its end is the VMM's end
 *
 * Return: 0 or -errno.
 */
int vmm_handshake(const struct vmm_memory *memory, const char *path, enum vmm_form form,
		  int *socket_fd);

/* vmm_handshake_text() - the JSON, to be freed, or NULL */
char *vmm_handshake_text(const struct vmm_memory *memory, enum vmm_form form);

#endif
