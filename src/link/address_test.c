/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "link/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link/certs_test.h"
#include "link/stream.h"
#include "util/clock.h"

#define LONG_MS 30000 /* that a test never gets to */

static char folder[128];

static int make_folder(void **state)
{
	(void)state;
	test_folder_make(folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	test_folder_remove(folder);
	return 0;
}

static void addresses_are_taken_apart(void **state)
{
	struct fl_address address;

	(void)state;
	assert_int_equal(fl_address_parse(&address, "example.org:4444", NULL), 0);
	assert_string_equal(address.host, "example.org");
	assert_string_equal(address.port, "4444");
	assert_false(address.local);
	assert_int_equal(fl_address_parse(&address, "[fe80::1%lo]:007", NULL), 0);
	assert_string_equal(address.host, "fe80::1%lo");
	assert_string_equal(address.port, "7");
	assert_int_equal(fl_address_parse(&address, "*:0", NULL), 0);
	assert_string_equal(address.host, "");
	assert_string_equal(address.port, "0");
	assert_int_equal(fl_address_parse(&address, "unix:/run/x:y", NULL), 0);
	assert_true(address.local);
	assert_string_equal(address.path.sun_path, "/run/x:y");
}

static void what_is_no_address_is_named(void **state)
{
	static const char *const bad[] = {
		"",        ":",       "host",    "host:",     "host:65536", "host:99999999999",
		"host:-1", "host: 1", "host:1x", "host:http", ":80",        "::1:80",
		"[::1]",   "[::1]80", "[::1:80", "[]:80",     "unix:",
	};
	char text[600];
	struct fl_address address;
	struct fl_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(fl_address_parse(&address, bad[i], &err), -EINVAL);
		assert_int_equal(err.code, -EINVAL);
		assert_non_null(strstr(err.text, bad[i]));
		assert_int_equal(fl_link_connect(bad[i], 0, -1, NULL), -EINVAL);
		assert_int_equal(fl_link_listen(bad[i], NULL), -EINVAL);
	}
	memset(text, 'a', sizeof(text));
	memcpy(text, "unix:/", 6);
	text[5 + 108] = '\0';
	assert_int_equal(fl_address_parse(&address, text, NULL), -EINVAL);
	text[5 + 107] = '\0';
	assert_int_equal(fl_address_parse(&address, text, NULL), 0);
	memset(text, 'a', sizeof(text));
	strcpy(text + 256, ":1");
	assert_int_equal(fl_address_parse(&address, text, NULL), -EINVAL);
	strcpy(text + 255, ":1");
	assert_int_equal(fl_address_parse(&address, text, NULL), 0);
}

static void listening_addresses_are_not_for_connecting(void **state)
{
	(void)state;
	assert_int_equal(fl_link_connect("*:80", 0, -1, NULL), -EINVAL);
	assert_int_equal(fl_link_connect("127.0.0.1:0", 0, -1, NULL), -EINVAL);
}

static void hosts_are_told(void **state)
{
	char host[256], small[5];

	(void)state;
	assert_int_equal(fl_link_host("[::1]:80", host, sizeof(host)), 0);
	assert_string_equal(host, "::1");
	assert_int_equal(fl_link_host("unix:/x", host, sizeof(host)), 0);
	assert_string_equal(host, "localhost");
	assert_int_equal(fl_link_host("a.example:1", small, sizeof(small)), -EINVAL);
	assert_int_equal(fl_link_host("a.example", host, sizeof(host)), -EINVAL);
}

/* Both ends are what they should be, and bytes go through. */
static void check_connected(int listen_fd, int fd)
{
	struct pollfd polled = {.fd = listen_fd, .events = POLLIN};
	int peer;
	char byte = 0;

	assert_int_equal(poll(&polled, 1, LONG_MS), 1);
	peer = accept(listen_fd, NULL, NULL);
	assert_true(peer >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(listen_fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(listen_fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(write(fd, "!", 1), 1);
	assert_int_equal(read(peer, &byte, 1), 1);
	assert_int_equal(byte, '!');
	assert_int_equal(close(peer), 0);
}

/* Listens on one address; connects to what it says, or to @to with its port. */
static void try_both(const char *listen_on, const char *to)
{
	char text[FL_LINK_TEXT], address[400];
	struct fl_error err = {0};
	int fd, listen_fd = fl_link_listen(listen_on, &err);

	assert_string_equal(err.text, "");
	assert_true(listen_fd >= 0);
	assert_int_equal(fl_link_address(listen_fd, text, sizeof(text)), 0);
	(void)snprintf(address, sizeof(address), "%s%s", to, to[0] ? strrchr(text, ':') : text);
	fd = fl_link_connect(address, LONG_MS, -1, &err);
	assert_string_equal(err.text, "");
	assert_true(fd >= 0);
	check_connected(listen_fd, fd);
	assert_int_equal(close(fd) | close(listen_fd), 0);
}

static bool has_ipv6(void)
{
	int fd = fl_link_listen("[::1]:0", NULL);

	return fd >= 0 && close(fd) == 0;
}

static void connects_over_ipv4(void **state)
{
	(void)state;
	try_both("127.0.0.1:0", "");
	try_both("localhost:0", "localhost");
	try_both("*:0", "127.0.0.1");
	try_both("0.0.0.0:0", "");
}

static void connects_over_ipv6(void **state)
{
	(void)state;
	SKIP_UNLESS(has_ipv6(), "other", "no IPv6 here");
	try_both("[::1]:0", "");
	try_both("*:0", "[::1]");
	try_both("*:0", "");
}

static void unix_sockets_are_private(void **state)
{
	char address[256];
	struct stat file;
	mode_t mask = umask(0);

	(void)state;
	(void)snprintf(address, sizeof(address), "unix:%s/private", folder);
	try_both(address, "");
	assert_int_equal(stat(address + 5, &file), 0);
	assert_true(S_ISSOCK(file.st_mode));
	assert_int_equal(file.st_mode & 0777, 0600);
	(void)umask(mask);
}

static void dead_unix_sockets_are_replaced(void **state)
{
	char address[256];
	struct fl_error err;
	int first, second;

	(void)state;
	(void)snprintf(address, sizeof(address), "unix:%s/again", folder);
	first = fl_link_listen(address, NULL);
	assert_true(first >= 0);
	assert_int_equal(fl_link_listen(address, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, address));
	assert_int_equal(close(first), 0);
	second = fl_link_listen(address, NULL);
	assert_true(second >= 0);
	assert_int_equal(close(second), 0);
}

static void other_files_are_not_replaced(void **state)
{
	char address[256];
	struct stat file;
	int fd;

	(void)state;
	(void)snprintf(address, sizeof(address), "unix:%s/file", folder);
	fd = open(address + 5, O_CREAT | O_WRONLY | O_EXCL, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "precious", 8), 8);
	assert_int_equal(close(fd), 0);
	assert_int_equal(fl_link_listen(address, NULL), -EADDRINUSE);
	assert_int_equal(stat(address + 5, &file), 0);
	assert_true(S_ISREG(file.st_mode) && file.st_size == 8);
	(void)snprintf(address, sizeof(address), "unix:%s/no/folder", folder);
	assert_int_equal(fl_link_listen(address, NULL), -ENOENT);
	assert_int_equal(fl_link_connect(address, LONG_MS, -1, NULL), -ENOENT);
}

static void ports_in_use_are_told(void **state)
{
	char text[FL_LINK_TEXT], small[8];
	struct fl_error err;
	int fd = fl_link_listen("127.0.0.1:0", NULL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fl_link_address(fd, small, sizeof(small)), -ENOSPC);
	assert_int_equal(fl_link_address(-1, text, sizeof(text)), -EBADF);
	assert_int_equal(fl_link_address(fd, text, sizeof(text)), 0);
	assert_int_equal(fl_link_listen(text, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, text));
	assert_int_equal(fl_link_listen("192.0.2.1:0", &err), -EADDRNOTAVAIL);
	assert_int_equal(close(fd), 0);
}

static void nobody_is_refused(void **state)
{
	char text[FL_LINK_TEXT];
	struct fl_error err;
	int fd = fl_link_listen("127.0.0.1:0", NULL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fl_link_address(fd, text, sizeof(text)), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(fl_link_connect(text, LONG_MS, -1, &err), -ECONNREFUSED);
	assert_int_equal(err.code, -ECONNREFUSED);
	assert_non_null(strstr(err.text, text));
}

/* A free port of those that the kernel gives to connecting sockets: of their range it prefers those
 * that are even where its first is. */
static void find_port(char text[64])
{
	char range[64] = "";
	int fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_RDONLY | O_CLOEXEC);
	int port;

	assert_true(fd >= 0 && read(fd, range, sizeof(range) - 1) > 0);
	assert_int_equal(close(fd), 0);
	port = (int)strtol(range, NULL, 10);
	do {
		port += 2;
		(void)snprintf(text, 64, "127.0.0.1:%d", port);
		fd = fl_link_listen(text, NULL);
	} while (fd == -EADDRINUSE);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
}

/* The kernel goes through its ports, so that it comes to the one that is called. */
static void sockets_do_not_meet_themselves(void **state)
{
	char text[64];
	int fd = -ECONNREFUSED;

	(void)state;
	find_port(text);
	for (int i = 0; i < 32768 && fd == -ECONNREFUSED; i++)
		fd = fl_link_connect(text, LONG_MS, -1, NULL);
	if (fd >= 0)
		(void)close(fd);
	assert_int_equal(fd, -ECONNREFUSED);
}

/* A name that RFC 6761 keeps from ever being one. */
static void unknown_names_are_told(void **state)
{
	struct fl_error err;
	int rc = fl_link_connect("no.such.name.invalid:80", LONG_MS, -1, &err);

	(void)state;
	assert_int_equal(rc, -EHOSTUNREACH);
	assert_non_null(strstr(err.text, "no.such.name.invalid:80"));
}

/* A listening socket that has no room for one more: connecting to it takes for ever. */
static int listen_full(char text[FL_LINK_TEXT], int fillers[8])
{
	int fd = fl_link_listen("127.0.0.1:0", NULL);

	assert_true(fd >= 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(fl_link_address(fd, text, FL_LINK_TEXT), 0);
	for (int i = 0; i < 8; i++) {
		struct sockaddr_storage name;
		socklen_t len = sizeof(name);

		assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fillers[i], (struct sockaddr *)&name, len);
	}
	return fd;
}

static void close_full(int fd, const int fillers[8])
{
	for (int i = 0; i < 8; i++)
		(void)close(fillers[i]);
	(void)close(fd);
}

static void silence_times_out(void **state)
{
	char text[FL_LINK_TEXT];
	int fillers[8], fd = listen_full(text, fillers);
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_link_connect(text, 50, -1, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, text));
	close_full(fd, fillers);
}

/* What a name stands for: addresses that refuse, one that is silent, and one that answers. */
static void all_addresses_of_a_name_are_tried(void **state)
{
	uint64_t deadline_ns = fl_clock_ns() + LONG_MS * FL_NS_PER_MS;
	struct sockaddr_in names[4] = {{0}};
	struct addrinfo list[4] = {{0}};
	char text[FL_LINK_TEXT];
	int fillers[8], full = listen_full(text, fillers), good, fd;

	(void)state;
	for (int i = 0; i < 4; i++) {
		names[i] = (struct sockaddr_in){.sin_family = AF_INET,
						.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
						.sin_port = htons(1)}; /* nobody's */
		list[i] = (struct addrinfo){.ai_family = AF_INET,
					    .ai_addr = (struct sockaddr *)&names[i],
					    .ai_addrlen = sizeof(names[i]),
					    .ai_next = i < 3 ? &list[i + 1] : NULL};
	}
	assert_int_equal(fl_address_connect(list, deadline_ns, -1), -ECONNREFUSED);
	names[2].sin_port = htons((in_port_t)strtoul(strrchr(text, ':') + 1, NULL, 10));
	good = fl_link_listen("127.0.0.1:0", NULL);
	assert_int_equal(fl_link_address(good, text, sizeof(text)), 0);
	names[3].sin_port = htons((in_port_t)strtoul(strrchr(text, ':') + 1, NULL, 10));
	fd = fl_address_connect(list, deadline_ns, -1);
	assert_true(fd >= 0);
	check_connected(good, fd);
	assert_int_equal(close(fd) | close(good), 0);
	close_full(full, fillers);
}

static void connecting_can_be_canceled(void **state)
{
	char text[FL_LINK_TEXT];
	int fillers[8], fd = listen_full(text, fillers), cancel = eventfd(1, EFD_CLOEXEC);
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_link_connect(text, LONG_MS, cancel, &err), -ECANCELED);
	assert_int_equal(err.code, -ECANCELED);
	assert_int_equal(fl_link_connect("no.such.name.invalid:1", LONG_MS, cancel, &err),
			 -ECANCELED);
	close_full(fd, fillers);
	(void)close(cancel);
}

/* The same for unix sockets, whose connect(2) does not wait but says EAGAIN. */
static void full_unix_sockets_are_waited_for(void **state)
{
	int fillers[8], fd, last = 0, cancel = eventfd(1, EFD_CLOEXEC), n = 0;
	char address[256];

	(void)state;
	(void)snprintf(address, sizeof(address), "unix:%s/full", folder);
	fd = fl_link_listen(address, NULL);
	assert_true(fd >= 0);
	assert_int_equal(listen(fd, 0), 0);
	while (n < 8 && (last = fl_link_connect(address, 0, -1, NULL)) >= 0)
		fillers[n++] = last;
	assert_in_range(n, 1, 7);
	assert_int_equal(last, -ETIMEDOUT);
	assert_int_equal(fl_link_connect(address, LONG_MS, cancel, NULL), -ECANCELED);
	while (n > 0)
		(void)close(fillers[--n]);
	(void)close(cancel);
	(void)close(fd);
}

static void nothing_is_left_open(void **state)
{
	unsigned int before = test_open_fds();

	(void)state;
	connects_over_ipv4(NULL);
	nobody_is_refused(NULL);
	silence_times_out(NULL);
	all_addresses_of_a_name_are_tried(NULL);
	ports_in_use_are_told(NULL);
	dead_unix_sockets_are_replaced(NULL);
	/* A resolver that an earlier test did not wait for may have closed its own meanwhile. */
	assert_true(test_open_fds() <= before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(what_is_no_address_is_named),
		cmocka_unit_test(listening_addresses_are_not_for_connecting),
		cmocka_unit_test(hosts_are_told),
		cmocka_unit_test(connects_over_ipv4),
		cmocka_unit_test(connects_over_ipv6),
		cmocka_unit_test(unix_sockets_are_private),
		cmocka_unit_test(dead_unix_sockets_are_replaced),
		cmocka_unit_test(other_files_are_not_replaced),
		cmocka_unit_test(ports_in_use_are_told),
		cmocka_unit_test(nobody_is_refused),
		cmocka_unit_test(sockets_do_not_meet_themselves),
		cmocka_unit_test(unknown_names_are_told),
		cmocka_unit_test(silence_times_out),
		cmocka_unit_test(all_addresses_of_a_name_are_tried),
		cmocka_unit_test(connecting_can_be_canceled),
		cmocka_unit_test(full_unix_sockets_are_waited_for),
		cmocka_unit_test(nothing_is_left_open),
	};

	return cmocka_run_group_tests_name("link_address", tests, make_folder, remove_folder);
}
