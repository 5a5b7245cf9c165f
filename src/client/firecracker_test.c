/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <faultline/firecracker.h>
#include <faultline/trap.h>

#include "client/peer.h"
#include "trap/uffd.h"

#define GOOD       "[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0,\"page_size\":4096}]"
#define TIMEOUT_MS 20000
#define SHORTLY_MS 50

/* Both ends, a userfaultfd, and how many descriptors were open before there was anything. */
struct wire {
	int vmm, pager, uffd;
	unsigned int before;
	struct fl_hello hello;
	struct fl_error err;
};

static int set_up(void **state)
{
	struct wire *wire = calloc(1, sizeof(*wire));
	int ends[2];

	if (!wire || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	wire->vmm = ends[0];
	wire->pager = ends[1];
	wire->uffd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, &wire->err);
	wire->before = test_open_fds();
	*state = wire;
	return 0;
}

/* Whatever happened, no descriptor has been left behind. */
static int tear_down(void **state)
{
	struct wire *wire = *state;
	unsigned int after = test_open_fds();
	unsigned int before = wire->before;

	(void)close(wire->vmm);
	(void)close(wire->pager);
	(void)close(wire->uffd);
	free(wire);
	return before == after ? 0 : -1;
}

static void need_uffd(const struct wire *wire)
{
	SKIP_UNLESS(wire->uffd >= 0, "uffd", "%s", wire->err.text);
}

static int receive(struct wire *wire, unsigned int timeout_ms)
{
	return fl_firecracker_receive(wire->pager, timeout_ms, &wire->hello, &wire->err);
}

static void say(const struct wire *wire, const char *text, size_t len, const int *fds, size_t count)
{
	assert_int_equal(fl_peer_send(wire->vmm, text, len, fds, count), 0);
}

static void forget(struct wire *wire)
{
	(void)close(wire->hello.uffd);
	(void)close(wire->hello.pidfd);
}

static void receives_what_it_sends(void **state)
{
	struct wire *wire = *state;
	struct fl_region regions[FL_REGIONS_MAX];

	need_uffd(wire);
	for (size_t i = 0; i < FL_REGIONS_MAX; i++)
		regions[i] = (struct fl_region){.gpa = FL_NOWHERE,
						.offset = i << 12,
						.addr = i << 20,
						.len_bytes = 4096,
						.page_size = 4096};
	for (int form = 0; form <= FL_FIRECRACKER_BOTH; form++) {
		assert_int_equal(fl_firecracker_send(wire->vmm, regions, FL_REGIONS_MAX, wire->uffd,
						     (enum fl_firecracker_form)form, &wire->err),
				 0);
		assert_int_equal(receive(wire, TIMEOUT_MS), 0);
		assert_int_equal(wire->hello.count, FL_REGIONS_MAX);
		assert_memory_equal(wire->hello.regions, regions, sizeof(regions));
		assert_true(fl_uffd_is(wire->hello.uffd));
		assert_int_equal(fcntl(wire->hello.uffd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(wire->hello.pid, getpid());
		forget(wire);
	}
}

/* The peer is known by its pidfd, which tells when it is gone, whatever becomes of its socket. */
static void knows_when_the_peer_is_gone(void **state)
{
	struct wire *wire = *state;
	struct pollfd poller = {.events = POLLIN};
	pid_t child;
	int status;

	need_uffd(wire);
	child = fork();
	if (child == 0) {
		/* A pair of sockets names the process that made it: so this one makes it. */
		int ends[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 ||
		    fl_peer_send(wire->vmm, "s", 1, &ends[0], 1) ||
		    fl_peer_send(ends[1], GOOD, strlen(GOOD), &wire->uffd, 1))
			_exit(1);
		(void)close(ends[1]);
		for (;;)
			(void)pause();
	} else {
		struct fl_piece piece;
		char c;

		assert_int_equal(fl_peer_receive(wire->pager, &c, 1, UINT64_MAX, &piece), 0);
		assert_int_equal(piece.fd_count, 1);
		assert_int_equal(
			fl_firecracker_receive(piece.fds[0], TIMEOUT_MS, &wire->hello, &wire->err),
			0);
		fl_peer_drop(&piece, 0);
	}
	assert_int_equal(wire->hello.pid, child);
	poller.fd = wire->hello.pidfd;
	assert_int_equal(poll(&poller, 1, 0), 0);
	assert_int_equal(pidfd_send_signal(wire->hello.pidfd, SIGKILL, NULL, 0), 0);
	assert_int_equal(poll(&poller, 1, TIMEOUT_MS), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	forget(wire);
}

static void puts_pieces_together(void **state)
{
	struct wire *wire = *state;

	need_uffd(wire);
	for (size_t i = 0; i < strlen(GOOD); i++)
		say(wire, &GOOD[i], 1, &wire->uffd, i == 0);
	assert_int_equal(receive(wire, TIMEOUT_MS), 0);
	assert_int_equal(wire->hello.count, 1);
	forget(wire);
}

/* Sends from a thread of its own: more than a socket buffer holds. */
struct speaker {
	const struct wire *wire;
	char *text;
	size_t len;
};

static void *speak(void *arg)
{
	struct speaker *speaker = arg;

	(void)fl_peer_send(speaker->wire->vmm, speaker->text, speaker->len, &speaker->wire->uffd,
			   1);
	return NULL;
}

/* A good handshake, padded to so many bytes. */
static int receive_padded(struct wire *wire, size_t len)
{
	struct speaker speaker = {.wire = wire, .text = malloc(len), .len = len};
	pthread_t thread;
	int rc;

	assert_non_null(speaker.text);
	memset(speaker.text, ' ', len);
	memcpy(speaker.text + len - strlen(GOOD), GOOD, strlen(GOOD));
	assert_int_equal(pthread_create(&thread, NULL, speak, &speaker), 0);
	rc = receive(wire, TIMEOUT_MS);
	/* What was not read would keep the speaker waiting. */
	(void)shutdown(wire->pager, SHUT_RDWR);
	(void)pthread_join(thread, NULL);
	free(speaker.text);
	return rc;
}

static void takes_128_kib(void **state)
{
	struct wire *wire = *state;

	need_uffd(wire);
	assert_int_equal(receive_padded(wire, FL_FIRECRACKER_MESSAGE_MAX), 0);
	forget(wire);
}

static void refuses_more_than_128_kib(void **state)
{
	struct wire *wire = *state;

	need_uffd(wire);
	assert_int_equal(receive_padded(wire, FL_FIRECRACKER_MESSAGE_MAX + 1), -EMSGSIZE);
	assert_non_null(strstr(wire->err.text, "longer than 131072"));
}

static void refuses_an_endless_text(void **state)
{
	struct wire *wire = *state;

	need_uffd(wire);
	assert_int_equal(receive_padded(wire, 1u << 20), -EMSGSIZE);
}

static void refuses_no_descriptor(void **state)
{
	struct wire *wire = *state;

	say(wire, GOOD, strlen(GOOD), NULL, 0);
	assert_int_equal(receive(wire, TIMEOUT_MS), -EBADMSG);
	assert_non_null(strstr(wire->err.text, "without a descriptor"));
}

static void refuses_several_descriptors(void **state)
{
	struct wire *wire = *state;
	int fds[FL_PEER_FDS];

	need_uffd(wire);
	for (size_t i = 0; i < FL_PEER_FDS; i++)
		fds[i] = wire->uffd;
	say(wire, GOOD, strlen(GOOD), fds, 2);
	assert_int_equal(receive(wire, TIMEOUT_MS), -EBADMSG);
	assert_non_null(strstr(wire->err.text, "several"));
	say(wire, GOOD, strlen(GOOD), fds, FL_PEER_FDS);
	assert_int_equal(receive(wire, TIMEOUT_MS), -EBADMSG);
	/* One with each of two pieces is two as well. */
	say(wire, GOOD, 10, fds, 1);
	say(wire, &GOOD[10], strlen(GOOD) - 10, fds, 1);
	assert_int_equal(receive(wire, TIMEOUT_MS), -EBADMSG);
}

/* More than there is room for: the kernel drops the rest, and they count all the same. */
static void refuses_a_flood_of_descriptors(void **state)
{
	struct wire *wire = *state;
	char control[CMSG_SPACE(sizeof(int) * 100)] = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)GOOD, .iov_len = strlen(GOOD)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int) * 100);
	for (size_t i = 0; i < 100; i++)
		memcpy(CMSG_DATA(rights) + i * sizeof(int), &wire->pager, sizeof(int));
	assert_true(sendmsg(wire->vmm, &message, 0) > 0);
	assert_int_equal(receive(wire, TIMEOUT_MS), -EBADMSG);
}

static void refuses_what_is_no_userfaultfd(void **state)
{
	struct wire *wire = *state;
	int event = eventfd(0, EFD_CLOEXEC);
	int path = open("/", O_PATH | O_CLOEXEC);
	int wrong[] = {wire->pager, event, path};

	for (size_t i = 0; i < 3; i++) {
		say(wire, GOOD, strlen(GOOD), &wrong[i], 1);
		assert_int_equal(receive(wire, TIMEOUT_MS), -EBADMSG);
		assert_non_null(strstr(wire->err.text, "no userfaultfd"));
	}
	(void)close(event);
	(void)close(path);
}

/* The text is wrong, and the descriptor that came with it is closed. */
static void refuses_bad_texts(void **state)
{
	static const char *const texts[] = {
		"hello", "{}", "[7]", "[]", "]", "[}", "[[[[[[[[[[[[[[[[[["};
	struct wire *wire = *state;

	need_uffd(wire);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		say(wire, texts[i], strlen(texts[i]), &wire->uffd, 1);
		assert_int_equal(receive(wire, TIMEOUT_MS), -EINVAL);
		assert_int_equal(wire->hello.uffd, -1);
		assert_int_equal(wire->hello.pidfd, -1);
	}
}

static void gives_up_on_a_silent_peer(void **state)
{
	struct wire *wire = *state;

	assert_int_equal(receive(wire, SHORTLY_MS), -ETIMEDOUT);
	assert_non_null(strstr(wire->err.text, "within 50 ms (0 bytes"));
}

static void gives_up_on_half_a_handshake(void **state)
{
	struct wire *wire = *state;

	need_uffd(wire);
	say(wire, GOOD, strlen(GOOD) - 1, &wire->uffd, 1);
	assert_int_equal(receive(wire, SHORTLY_MS), -ETIMEDOUT);
}

/* One byte now and then does not extend the time. */
struct dripper {
	int fd;
	_Atomic bool stop;
};

static void *drip(void *arg)
{
	struct dripper *dripper = arg;

	while (!dripper->stop && fl_peer_send(dripper->fd, " ", 1, NULL, 0) == 0)
		(void)poll(NULL, 0, 5);
	return NULL;
}

static void gives_up_on_a_dripping_peer(void **state)
{
	struct wire *wire = *state;
	struct dripper dripper = {.fd = wire->vmm};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, drip, &dripper), 0);
	assert_int_equal(receive(wire, 4 * SHORTLY_MS), -ETIMEDOUT);
	dripper.stop = true;
	(void)pthread_join(thread, NULL);
}

static void sees_a_peer_leave(void **state)
{
	struct wire *wire = *state;

	need_uffd(wire);
	say(wire, GOOD, 5, &wire->uffd, 1);
	assert_int_equal(shutdown(wire->vmm, SHUT_WR), 0);
	assert_int_equal(receive(wire, TIMEOUT_MS), -ECONNRESET);
	assert_non_null(strstr(wire->err.text, "after 5 bytes"));
}

static void does_not_die_of_a_peer_that_left(void **state)
{
	struct wire *wire = *state;
	struct fl_region region = {.len_bytes = 4096, .page_size = 4096};

	need_uffd(wire);
	assert_int_equal(shutdown(wire->pager, SHUT_RDWR), 0);
	assert_int_equal(fl_firecracker_send(wire->vmm, &region, 1, wire->uffd, FL_FIRECRACKER_BOTH,
					     &wire->err),
			 -EPIPE);
}

static void tells_descriptors_apart(void **state)
{
	struct wire *wire = *state;
	int pidfd = pidfd_open(getpid(), 0);
	int raw;

	need_uffd(wire);
	assert_true(fl_uffd_is(wire->uffd));
	/* Looking has changed nothing. */
	assert_true(fl_uffd_is(wire->uffd));
	assert_false(fl_peer_is_pidfd(wire->uffd));
	assert_true(fl_peer_is_pidfd(pidfd));
	assert_false(fl_uffd_is(pidfd));
	assert_false(fl_uffd_is(-1));
	assert_false(fl_peer_is_pidfd(-1));
	raw = dup(wire->pager);
	assert_false(fl_uffd_is(raw));
	assert_false(fl_peer_is_pidfd(raw));
	(void)close(raw);
	(void)close(pidfd);
	/* It refuses what it does not know with EINVAL, as a userfaultfd does. */
	raw = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_false(fl_uffd_is(raw));
	if (raw >= 0)
		(void)close(raw);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(receives_what_it_sends),
		TEST(knows_when_the_peer_is_gone),
		TEST(puts_pieces_together),
		TEST(takes_128_kib),
		TEST(refuses_more_than_128_kib),
		TEST(refuses_an_endless_text),
		TEST(refuses_no_descriptor),
		TEST(refuses_several_descriptors),
		TEST(refuses_a_flood_of_descriptors),
		TEST(refuses_what_is_no_userfaultfd),
		TEST(refuses_bad_texts),
		TEST(gives_up_on_a_silent_peer),
		TEST(gives_up_on_half_a_handshake),
		TEST(gives_up_on_a_dripping_peer),
		TEST(sees_a_peer_leave),
		TEST(does_not_die_of_a_peer_that_left),
		TEST(tells_descriptors_apart),
	};

	return cmocka_run_group_tests_name("firecracker", tests, NULL, NULL);
}
