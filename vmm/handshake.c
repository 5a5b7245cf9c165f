/* SPDX-License-Identifier: MIT */
/*
 * Firecracker's hand-over of guest memory: the VMM is the client, one sendmsg
 * carries a JSON array (one object a region, offsets cumulative from 0) and the
 * userfaultfd; nothing is read back. `page_size_kib` holds bytes, in spite of
 * its name; releases before 1.7 send no page size, those from 1.12 both fields.
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "uffd.h"
#include "util.h"

const char *const vmm_form_names[] = {"both", "kib", "none", NULL};

static json_t *region_json(const struct vmm_memory *memory, const struct vmm_region *region,
			   enum vmm_form form)
{
	json_int_t addr = (json_int_t)(uintptr_t)(memory->base + region->gpa);
	json_int_t page_size = (json_int_t)region->page_size;
	json_t *object = json_pack("{s:I, s:I, s:I}", "base_host_virt_addr", addr, "size",
				   (json_int_t)region->size_bytes, "offset",
				   (json_int_t)region->offset);

	if (form == VMM_FORM_BOTH)
		json_object_set_new(object, "page_size", json_integer(page_size));
	if (form != VMM_FORM_NONE)
		json_object_set_new(object, "page_size_kib", json_integer(page_size));
	return object;
}

char *vmm_handshake_text(const struct vmm_memory *memory, enum vmm_form form)
{
	json_t *regions = json_array();
	char *text;

	for (unsigned int i = 0; i < memory->layout.nr_regions; i++)
		json_array_append_new(regions,
				      region_json(memory, &memory->layout.regions[i], form));
	text = json_dumps(regions, JSON_COMPACT);
	json_decref(regions);
	return text;
}

static int dial(const char *path, int *fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(addr.sun_path))
		return vmm_fail(ENAMETOOLONG, "handler's socket %s: the path is too long", path);
	strcpy(addr.sun_path, path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return vmm_fail(errno, "make a socket: %s", strerror(errno));
	if (connect(*fd, (struct sockaddr *)&addr, sizeof(addr)))
		return vmm_fail(errno, "connect to the handler's socket %s: %s", path,
				strerror(errno));
	return 0;
}

static int send_regions(int fd, const char *text, int uffd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec body = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr msg = {
		.msg_iov = &body,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&control.head), &uffd, sizeof(uffd));
	n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (size_t)n == body.iov_len ? 0 : -EMSGSIZE;
}

int vmm_handshake(const struct vmm_memory *memory, const char *path, enum vmm_form form,
		  int *socket_fd)
{
	AUTO_FREE char *text = vmm_handshake_text(memory, form);
	int ret;

	if (!text)
		return vmm_fail(ENOMEM, "no memory for the handshake");
	ret = dial(path, socket_fd);
	if (ret)
		return ret;
	ret = send_regions(*socket_fd, text, memory->uffd);
	if (ret)
		return vmm_fail(-ret, "send the handshake to %s: %s", path, strerror(-ret));
	return 0;
}
