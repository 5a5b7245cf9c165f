/* SPDX-License-Identifier: MIT */
/* What a page-fault handler receives, byte for byte, and the descriptor that comes with it. */
#include "support.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "uffd.h"
#include "util.h"

static struct vmm_memory two_regions(void)
{
	return (struct vmm_memory){
		.base = (unsigned char *)(uintptr_t)0x7f0000000000,
		.layout = {.nr_regions = 2,
			   .regions = {{.gpa = 0, .size_bytes = 6 * MIB, .page_size = 4096},
				       {.gpa = 4 * GIB,
					.size_bytes = 2 * MIB,
					.offset = 6 * MIB,
					.page_size = 4096}}},
	};
}

static void check_text(enum vmm_form form, const char *fields)
{
	struct vmm_memory memory = two_regions();
	char *text = vmm_handshake_text(&memory, form);
	char want[512];

	snprintf(want, sizeof(want),
		 "[{\"base_host_virt_addr\":%" PRIu64 ",\"size\":6291456,\"offset\":0%s},"
		 "{\"base_host_virt_addr\":%" PRIu64 ",\"size\":2097152,\"offset\":6291456%s}]",
		 UINT64_C(0x7f0000000000), fields, UINT64_C(0x7f0100000000), fields);
	assert_string_equal(text, want);
	free(text);
}

static void each_release_has_its_form(void **state)
{
	(void)state;
	check_text(VMM_FORM_BOTH, ",\"page_size\":4096,\"page_size_kib\":4096");
	check_text(VMM_FORM_KIB, ",\"page_size_kib\":4096");
	check_text(VMM_FORM_NONE, "");
}

static int listen_at(char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(path, "/tmp/faultline-handshake-XXXXXX");
	assert_non_null(mkdtemp(path));
	strcat(path, "/socket");
	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void remove_at(char *path)
{
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
}

static void one_message_carries_one_descriptor(void **state)
{
	struct vmm_memory memory = two_regions();
	char path[64], text[1024];
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec body = {.iov_base = text, .iov_len = sizeof(text)};
	struct msghdr msg = {.msg_iov = &body,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	int listener = listen_at(path), sender = -1, peer, pipe_fds[2], got;
	struct stat sent, received;
	char *want;
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	memory.uffd = pipe_fds[0]; /* any descriptor that can be told from others */
	assert_int_equal(vmm_handshake(&memory, path, VMM_FORM_BOTH, &sender), 0);
	peer = accept(listener, NULL, NULL);
	n = recvmsg(peer, &msg, 0);
	want = vmm_handshake_text(&memory, VMM_FORM_BOTH);
	assert_int_equal(n, strlen(want));
	assert_memory_equal(text, want, (size_t)n);
	assert_int_equal(control.head.cmsg_len, CMSG_LEN(sizeof(int)));
	memcpy(&got, CMSG_DATA(&control.head), sizeof(got));
	assert_int_equal(fstat(pipe_fds[0], &sent), 0);
	assert_int_equal(fstat(got, &received), 0);
	assert_int_equal(sent.st_ino, received.st_ino);
	/* It stays open and says nothing more: the handler sees the end when the VMM ends. */
	assert_int_equal(recv(peer, text, sizeof(text), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(sender);
	assert_int_equal(recv(peer, text, sizeof(text), 0), 0);
	free(want);
	close(got);
	close(peer);
	close(listener);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	remove_at(path);
}

static void a_handler_that_is_not_there_is_named(void **state)
{
	struct vmm_memory memory = two_regions();
	char path[64], longer[200];
	int listener = listen_at(path), fd = -1;

	(void)state;
	close(listener);
	assert_int_equal(vmm_handshake(&memory, path, VMM_FORM_BOTH, &fd), -ECONNREFUSED);
	assert_non_null(strstr(vmm_error_text(), path));
	vmm_close_fd(&fd);
	remove_at(path);
	assert_int_equal(vmm_handshake(&memory, "/nowhere/socket", VMM_FORM_BOTH, &fd), -ENOENT);
	vmm_close_fd(&fd);
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(vmm_handshake(&memory, longer, VMM_FORM_BOTH, &fd), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_release_has_its_form),
		cmocka_unit_test(one_message_carries_one_descriptor),
		cmocka_unit_test(a_handler_that_is_not_there_is_named),
	};

	return cmocka_run_group_tests_name("vmm-handshake", tests, NULL, NULL);
}
