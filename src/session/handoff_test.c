/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <faultline/faultline.h>

#include "client/peer.h"
#include "session/handoff.h"
#include "trap/uffd.h"
#include "util/clock.h"

#define PAGES       256u
#define PAGE        4096u
#define LEN         (PAGES * PAGE)
#define SEED        11
#define GUEST_SEED  12
#define TIMEOUT_MS  60000
#define SHORTLY_MS  50
#define PAGE_KEPT   0u /* present before, and written by the guest */
#define PAGE_WAITED 5u /* waited for while its pager dies */
#define WIRE_LEN    (32 + FL_REGIONS_MAX * 48)

static struct fl_error err;

/* ---- the shape of promise 4: a pager dies at any instruction, another one goes on */

/* The guest is this process. Its pagers are children, which see its memory by the userfaultfd. */
struct guest {
	char *mem;
	int uffd, image, pidfd;
	struct fl_region region;
	struct fl_layout *layout;
	struct fl_table *table;
};

struct serving {
	struct fl_layout *layout;
	struct fl_table *table;
	struct fl_trap *trap;
	struct fl_install *install;
	struct fl_source *source;
	struct fl_pager *pager;
};

/* In a child: everything that a pager needs, from descriptors and a description alone. */
static int serve(struct serving *serving, const struct fl_handoff *handoff, int image,
		 const char *filter, uint32_t flags)
{
	struct fl_pager_options options;
	struct fl_pager_parts parts;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", image);
	if (fl_layout_new(&serving->layout, handoff->regions, handoff->count, &err) ||
	    fl_table_attach(&serving->table, handoff->table_fd, handoff->pages, &err) ||
	    fl_trap_uffd_new(&serving->trap, handoff->uffd, &err) ||
	    fl_install_copy_new(&serving->install, handoff->uffd, &err) ||
	    fl_source_file_open(&serving->source, path, 0, &err) ||
	    (filter && fl_filter_parse(&serving->source, filter, &err)))
		return -1;
	parts = (struct fl_pager_parts){.layout = serving->layout,
					.table = serving->table,
					.trap = serving->trap,
					.install = serving->install,
					.source = serving->source};
	fl_pager_options_init(&options);
	options.flags = flags;
	return fl_pager_new(&serving->pager, &parts, &options, &err);
}

/* Until the other end of the socket is closed. */
static int run_until_closed(struct serving *serving, int sock)
{
	for (;;) {
		struct pollfd fds[] = {{.fd = fl_pager_fd(serving->pager), .events = POLLIN},
				       {.fd = sock, .events = POLLIN}};
		int more = fl_pager_run(serving->pager);

		if (more < 0)
			return more;
		if (poll(fds, 2, more ? 0 : -1) > 0 && fds[1].revents)
			return 0;
	}
}

/* The first pager gets its guest by fork(), and never finishes a read. */
static void first_pager(const struct guest *guest, int sock)
{
	struct fl_handoff handoff;
	struct serving serving;

	if (fl_handoff_describe(&handoff, guest->layout, guest->uffd, fl_table_fd(guest->table),
				guest->pidfd, getppid(), &err) ||
	    serve(&serving, &handoff, guest->image, "delay=1000s", 0))
		_exit(1);
	(void)run_until_closed(&serving, sock);
	_exit(2);
}

/* The second one knows nothing but what it is handed; the image is the daemon's own business. */
static void second_pager(int image, int sock)
{
	struct fl_handoff handoff;
	struct serving serving;

	if (fl_handoff_receive(sock, TIMEOUT_MS, &handoff, &err) ||
	    serve(&serving, &handoff, image, NULL, FL_PAGER_TAKEOVER | FL_PAGER_FILL)) {
		(void)fprintf(stderr, "second pager: %s\n", err.text);
		_exit(1);
	}
	fl_handoff_drop(&handoff);
	_exit(run_until_closed(&serving, sock) ? 3 : 0);
}

static void make_guest(struct guest *guest)
{
	guest->uffd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, &err);
	SKIP_UNLESS(guest->uffd >= 0, "uffd", "%s", err.text);
	guest->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(guest->mem, MAP_FAILED);
	guest->image = test_image(LEN, SEED);
	guest->pidfd = pidfd_open(getpid(), 0);
	guest->region = (struct fl_region){.gpa = FL_NOWHERE,
					   .addr = (uint64_t)(uintptr_t)guest->mem,
					   .len_bytes = LEN,
					   .page_size = PAGE};
	assert_int_equal(fl_layout_new(&guest->layout, &guest->region, 1, &err), 0);
	assert_int_equal(fl_table_new(&guest->table, PAGES), 0);
}

static void free_guest(struct guest *guest)
{
	fl_table_free(guest->table);
	fl_layout_free(guest->layout);
	(void)munmap(guest->mem, LEN);
	(void)close(guest->uffd);
	(void)close(guest->image);
	(void)close(guest->pidfd);
}

/* A page that the first pager had installed, and that the guest has changed since. */
static void keep_one_page(struct guest *guest)
{
	struct fl_trap *trap;
	struct fl_install *install;
	char page[PAGE];

	assert_int_equal(fl_trap_uffd_new(&trap, guest->uffd, &err), 0);
	assert_int_equal(fl_trap_arm(trap, guest->region.addr, LEN, FL_TRAP_MISSING), 0);
	assert_int_equal(fl_install_copy_new(&install, guest->uffd, &err), 0);
	test_pattern(page, PAGE, 0, SEED);
	assert_int_equal(fl_table_claim(guest->table, PAGE_KEPT, FL_WAITER_NONE), FL_CLAIM_FETCH);
	assert_int_equal(fl_install_copy(install, guest->region.addr, page, PAGE, 0), PAGE);
	assert_int_equal(fl_table_settle(guest->table, PAGE_KEPT, FL_CLAIM_FETCH, FL_PRESENT, NULL),
			 0);
	test_pattern(guest->mem, PAGE, 0, GUEST_SEED);
	fl_install_close(install);
	fl_trap_close(trap);
}

static pid_t start(const struct guest *guest, int socks[2], bool first)
{
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(socks[0]);
		if (first)
			first_pager(guest, socks[1]);
		second_pager(guest->image, socks[1]);
	}
	(void)close(socks[1]);
	return pid;
}

static void *touch_page(void *arg)
{
	const volatile char *page = arg;

	return *page ? arg : NULL;
}

static void wait_until_claimed(const struct guest *guest, uint64_t page)
{
	uint64_t deadline_ns = fl_clock_ns() + TIMEOUT_MS * FL_NS_PER_MS;

	while (fl_table_state(guest->table, page) != FL_PENDING) {
		assert_true(fl_clock_ns() < deadline_ns);
		(void)sched_yield();
	}
}

static void a_guest_survives_its_pager(void **state)
{
	struct guest guest = {0};
	struct fl_handoff handoff;
	int first_socks[2], second_socks[2], status;
	pid_t first, second;
	pthread_t vcpu;

	(void)state;
	make_guest(&guest);
	keep_one_page(&guest);
	second = start(&guest, second_socks, false);
	first = start(&guest, first_socks, true);
	assert_int_equal(pthread_create(&vcpu, NULL, touch_page, guest.mem + PAGE_WAITED * PAGE),
			 0);
	wait_until_claimed(&guest, PAGE_WAITED);

	assert_int_equal(kill(first, SIGKILL), 0);
	assert_int_equal(waitpid(first, &status, 0), first);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_int_equal(fl_table_state(guest.table, PAGE_WAITED), FL_PENDING);

	assert_int_equal(fl_handoff_describe(&handoff, guest.layout, guest.uffd,
					     fl_table_fd(guest.table), guest.pidfd, getpid(), &err),
			 0);
	assert_int_equal(fl_handoff_send(second_socks[0], &handoff, &err), 0);
	assert_int_equal(pthread_join(vcpu, NULL), 0);
	assert_filled(guest.mem + PAGE, LEN - PAGE, PAGE, SEED);
	assert_filled(guest.mem, PAGE, 0, GUEST_SEED);

	(void)close(second_socks[0]);
	assert_int_equal(waitpid(second, &status, 0), second);
	assert_int_equal(status, 0);
	(void)close(first_socks[0]);
	free_guest(&guest);
}

/* ---- what comes from outside is not trusted */

struct wire {
	int from, to;
	struct fl_handoff handoff, heard;
	unsigned int before;
};

static int set_up(void **state)
{
	static struct wire wire;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	wire = (struct wire){.from = ends[0], .to = ends[1]};
	wire.handoff = (struct fl_handoff){
		.count = 2,
		.pages = 3,
		.pid = getpid(),
		.uffd = fl_uffd_open(0, FL_UFFD_USER_MODE_ONLY, NULL, &err),
		.table_fd = eventfd(0, EFD_CLOEXEC),
		.pidfd = pidfd_open(getpid(), 0),
	};
	wire.handoff.regions[0] = (struct fl_region){.gpa = FL_NOWHERE,
						     .addr = FL_NOWHERE,
						     .len_bytes = 4096,
						     .page_size = 4096,
						     .backing = FL_BACKING_MEMFD};
	wire.handoff.regions[1] = (struct fl_region){.gpa = 1 << 20,
						     .addr = 3 << 20,
						     .offset = 4096,
						     .len_bytes = 8192,
						     .page_size = 4096};
	wire.before = test_open_fds();
	*state = &wire;
	return 0;
}

static int tear_down(void **state)
{
	struct wire *wire = *state;
	unsigned int after = test_open_fds();

	(void)close(wire->from);
	(void)close(wire->to);
	fl_handoff_drop(&wire->handoff);
	return after == wire->before ? 0 : -1;
}

static void need_uffd(const struct wire *wire)
{
	SKIP_UNLESS(wire->handoff.uffd >= 0, "uffd", "%s", err.text);
}

static int hear(struct wire *wire, unsigned int timeout_ms)
{
	return fl_handoff_receive(wire->to, timeout_ms, &wire->heard, &err);
}

static void arrives_as_it_was_sent(void **state)
{
	struct wire *wire = *state;

	need_uffd(wire);
	assert_int_equal(fl_handoff_send(wire->from, &wire->handoff, &err), 0);
	assert_int_equal(hear(wire, TIMEOUT_MS), 0);
	assert_memory_equal(wire->heard.regions, wire->handoff.regions,
			    sizeof(wire->heard.regions));
	assert_int_equal(wire->heard.count, 2);
	assert_int_equal(wire->heard.pages, 3);
	assert_int_equal(wire->heard.pid, getpid());
	assert_true(fl_uffd_is(wire->heard.uffd));
	assert_true(fl_peer_is_pidfd(wire->heard.pidfd));
	assert_int_equal(fcntl(wire->heard.table_fd, F_GETFD), FD_CLOEXEC);
	fl_handoff_drop(&wire->heard);
}

/* The bytes of a good one, to be spoilt: what is sent is what fl_handoff_send() sends. */
static void good_bytes(struct wire *wire, unsigned char bytes[WIRE_LEN])
{
	struct fl_piece piece;

	assert_int_equal(fl_handoff_send(wire->from, &wire->handoff, &err), 0);
	assert_int_equal(fl_peer_receive(wire->to, bytes, WIRE_LEN, UINT64_MAX, &piece), 0);
	assert_int_equal(piece.len_bytes, WIRE_LEN);
	fl_peer_drop(&piece, 0);
}

static int hear_bytes(struct wire *wire, const unsigned char *bytes, const int *fds, size_t count)
{
	assert_int_equal(fl_peer_send(wire->from, bytes, WIRE_LEN, fds, count), 0);
	return hear(wire, TIMEOUT_MS);
}

static void refuses_wrong_bytes(void **state)
{
	static const struct {
		size_t at;
		unsigned char value;
		const char *says;
	} wrong[] = {
		{0, 0, "no handoff"},
		{8, 2, "version 2"},
		{12, 0, "0 regions"},
		{12, FL_REGIONS_MAX + 1, "65 regions"},
		{27, 0x80, "a head that is"},
		{28, 1, "a head that is"},
		{32 + 40, 9, "region 0 is not"},
		{32 + 48 + 44, 1, "region 1 is not"},
	};
	struct wire *wire = *state;
	int fds[] = {wire->handoff.uffd, wire->handoff.table_fd, wire->handoff.pidfd};
	unsigned char good[WIRE_LEN], bytes[WIRE_LEN];

	need_uffd(wire);
	good_bytes(wire, good);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		memcpy(bytes, good, WIRE_LEN);
		bytes[wrong[i].at] = wrong[i].value;
		assert_int_equal(hear_bytes(wire, bytes, fds, 3), -EBADMSG);
		if (!strstr(err.text, wrong[i].says))
			fail_msg("byte %zu: %s", wrong[i].at, err.text);
	}
}

static void refuses_wrong_descriptors(void **state)
{
	struct wire *wire = *state;
	int uffd = wire->handoff.uffd, table = wire->handoff.table_fd, pidfd = wire->handoff.pidfd;
	unsigned char good[WIRE_LEN];

	need_uffd(wire);
	good_bytes(wire, good);
	assert_int_equal(hear_bytes(wire, good, (int[]){pidfd, table, uffd}, 3), -EBADMSG);
	assert_non_null(strstr(err.text, "descriptor 0 is no userfaultfd"));
	assert_int_equal(hear_bytes(wire, good, (int[]){uffd, table, table}, 3), -EBADMSG);
	assert_non_null(strstr(err.text, "descriptor 2 is no pidfd"));
}

static void refuses_missing_descriptors(void **state)
{
	struct wire *wire = *state;
	unsigned char good[WIRE_LEN];

	need_uffd(wire);
	good_bytes(wire, good);
	assert_int_equal(hear_bytes(wire, good, NULL, 0), -EBADMSG);
	assert_non_null(strstr(err.text, "exactly 3"));
}

static void refuses_one_descriptor_too_many(void **state)
{
	struct wire *wire = *state;
	int uffd = wire->handoff.uffd, table = wire->handoff.table_fd, pidfd = wire->handoff.pidfd;
	unsigned char good[WIRE_LEN];

	need_uffd(wire);
	good_bytes(wire, good);
	assert_int_equal(hear_bytes(wire, good, (int[]){uffd, table, pidfd, table}, 4), -EBADMSG);
}

static void refuses_descriptors_that_come_later(void **state)
{
	struct wire *wire = *state;
	int fds[] = {wire->handoff.uffd, wire->handoff.table_fd, wire->handoff.pidfd};
	unsigned char good[WIRE_LEN];

	need_uffd(wire);
	good_bytes(wire, good);
	assert_int_equal(fl_peer_send(wire->from, good, 100, fds, 3), 0);
	assert_int_equal(fl_peer_send(wire->from, good + 100, WIRE_LEN - 100, fds, 1), 0);
	assert_int_equal(hear(wire, TIMEOUT_MS), -EBADMSG);
}

static void puts_pieces_together(void **state)
{
	struct wire *wire = *state;
	int fds[] = {wire->handoff.uffd, wire->handoff.table_fd, wire->handoff.pidfd};
	unsigned char good[WIRE_LEN];

	need_uffd(wire);
	good_bytes(wire, good);
	assert_int_equal(fl_peer_send(wire->from, good, 33, fds, 3), 0);
	assert_int_equal(fl_peer_send(wire->from, good + 33, WIRE_LEN - 33, NULL, 0), 0);
	assert_int_equal(hear(wire, TIMEOUT_MS), 0);
	fl_handoff_drop(&wire->heard);
}

static void gives_up_on_half_of_one(void **state)
{
	struct wire *wire = *state;
	int fds[] = {wire->handoff.uffd, wire->handoff.table_fd, wire->handoff.pidfd};
	unsigned char good[WIRE_LEN];

	need_uffd(wire);
	good_bytes(wire, good);
	assert_int_equal(fl_peer_send(wire->from, good, 33, fds, 3), 0);
	assert_int_equal(hear(wire, SHORTLY_MS), -ETIMEDOUT);
	assert_int_equal(fl_peer_send(wire->from, good, 33, fds, 3), 0);
	assert_int_equal(shutdown(wire->from, SHUT_WR), 0);
	assert_int_equal(hear(wire, TIMEOUT_MS), -ECONNRESET);
}

#define WIRE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_survives_its_pager),
		WIRE_TEST(arrives_as_it_was_sent),
		WIRE_TEST(refuses_wrong_bytes),
		WIRE_TEST(refuses_wrong_descriptors),
		WIRE_TEST(refuses_missing_descriptors),
		WIRE_TEST(refuses_one_descriptor_too_many),
		WIRE_TEST(refuses_descriptors_that_come_later),
		WIRE_TEST(puts_pieces_together),
		WIRE_TEST(gives_up_on_half_of_one),
	};

	return cmocka_run_group_tests_name("handoff", tests, NULL, NULL);
}
