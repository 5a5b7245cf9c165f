/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "session/listener.h"

static char directory[] = "/tmp/faultline-listener-XXXXXX";
static char path[64];
static struct fl_error err;

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/socket", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return rmdir(directory);
}

static int connect_here(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void listens_and_cleans_up(void **state)
{
	unsigned int before = test_open_fds();
	struct fl_listener listener;
	struct stat file;
	int client, conn;

	(void)state;
	assert_int_equal(fl_listener_open(&listener, path, 0600, &err), 0);
	assert_int_equal(stat(path, &file), 0);
	assert_true(S_ISSOCK(file.st_mode));
	assert_int_equal(file.st_mode & 0777, 0600);
	assert_int_equal(fl_listener_accept(&listener), -EAGAIN);
	client = connect_here();
	conn = fl_listener_accept(&listener);
	assert_true(conn >= 0);
	assert_int_equal(fcntl(conn, F_GETFD), FD_CLOEXEC);
	(void)close(conn);
	(void)close(client);
	fl_listener_close(&listener);
	assert_int_equal(access(path, F_OK), -1);
	fl_listener_close(&listener);
	assert_int_equal(test_open_fds(), before);
}

static void leaves_a_served_socket_alone(void **state)
{
	struct fl_listener listener, other;
	int conn, client;

	(void)state;
	assert_int_equal(fl_listener_open(&listener, path, 0600, &err), 0);
	assert_int_equal(fl_listener_open(&other, path, 0600, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "already served"));
	assert_non_null(strstr(err.text, path));
	/* The one who looked has left; the one who serves still does. */
	conn = fl_listener_accept(&listener);
	assert_true(conn >= 0);
	assert_int_equal(read(conn, &(char){0}, 1), 0);
	(void)close(conn);
	client = connect_here();
	conn = fl_listener_accept(&listener);
	assert_true(conn >= 0);
	(void)close(conn);
	(void)close(client);
	fl_listener_close(&listener);
}

static void replaces_a_stale_socket(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct fl_listener listener;

	(void)state;
	strcpy(address.sun_path, path);
	assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof(address)), 0);
	(void)close(stale);
	assert_int_equal(fl_listener_open(&listener, path, 0600, &err), 0);
	(void)close(connect_here());
	fl_listener_close(&listener);
}

static void leaves_what_is_no_socket_alone(void **state)
{
	int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	struct fl_listener listener;

	(void)state;
	assert_int_equal(write(file, "x", 1), 1);
	assert_int_equal(fl_listener_open(&listener, path, 0600, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "no socket"));
	assert_int_equal(lseek(file, 0, SEEK_END), 1);
	assert_int_equal(unlink(path), 0);
	/* A link that leads to nothing is none either. */
	assert_int_equal(symlink("/nonexistent", path), 0);
	assert_int_equal(fl_listener_open(&listener, path, 0600, &err), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	(void)close(file);
}

static void removes_only_its_own(void **state)
{
	struct fl_listener first, second;

	(void)state;
	assert_int_equal(fl_listener_open(&first, path, 0600, &err), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(fl_listener_open(&second, path, 0600, &err), 0);
	fl_listener_close(&first);
	assert_int_equal(access(path, F_OK), 0);
	fl_listener_close(&second);
	assert_int_equal(access(path, F_OK), -1);
}

static void wants_a_path_that_can_be(void **state)
{
	struct fl_listener listener;
	char longest[200];

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(fl_listener_open(&listener, longest, 0600, &err), -ENAMETOOLONG);
	assert_int_equal(fl_listener_open(&listener, "", 0600, &err), -ENAMETOOLONG);
	assert_int_equal(fl_listener_open(&listener, "/nonexistent/socket", 0600, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/socket"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listens_and_cleans_up),
		cmocka_unit_test(leaves_a_served_socket_alone),
		cmocka_unit_test(replaces_a_stale_socket),
		cmocka_unit_test(leaves_what_is_no_socket_alone),
		cmocka_unit_test(removes_only_its_own),
		cmocka_unit_test(wants_a_path_that_can_be),
	};

	return cmocka_run_group_tests_name("listener", tests, set_up, tear_down);
}
