/* SPDX-License-Identifier: MIT */
#include "link/address.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "link/stream.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/thread.h"

static int parse_path(struct fl_address *address, const char *path, struct fl_error *err)
{
	if (!*path || strlen(path) >= sizeof(address->path.sun_path))
		return fl_error_set(err, -EINVAL, "address %s: a path of 1 to %zu bytes is needed",
				    address->text, sizeof(address->path.sun_path) - 1);
	address->local = true;
	address->path.sun_family = AF_UNIX;
	strcpy(address->path.sun_path, path);
	return 0;
}

static int parse_port(struct fl_address *address, const char *port, struct fl_error *err)
{
	unsigned int value = 0;
	size_t len = strspn(port, "0123456789");

	if (len >= 1 && len <= 5 && !port[len])
		value = (unsigned int)strtoul(port, NULL, 10);
	else
		value = 65536;
	if (value > 65535)
		return fl_error_set(err, -EINVAL, "address %s: a port of 0 to 65535 is needed",
				    address->text);
	(void)snprintf(address->port, sizeof(address->port), "%u", value);
	return 0;
}

int fl_address_parse(struct fl_address *address, const char *text, struct fl_error *err)
{
	const char *end, *host = text;

	*address = (struct fl_address){.text = text};
	if (strncmp(text, "unix:", 5) == 0)
		return parse_path(address, text + 5, err);
	if (*text == '[') {
		host = text + 1;
		end = strchr(host, ']');
		if (!end || end[1] != ':')
			return fl_error_set(err, -EINVAL, "address %s: [IPV6]:PORT is needed",
					    text);
	} else {
		end = strrchr(text, ':');
		if (!end)
			return fl_error_set(err, -EINVAL,
					    "address %s: HOST:PORT or unix:PATH is needed", text);
		if (memchr(text, ':', (size_t)(end - text)))
			return fl_error_set(err, -EINVAL,
					    "address %s: an IPv6 address needs brackets", text);
	}
	if (end == host || (size_t)(end - host) >= sizeof(address->host))
		return fl_error_set(err, -EINVAL, "address %s: a host of 1 to %zu bytes is needed",
				    text, sizeof(address->host) - 1);
	memcpy(address->host, host, (size_t)(end - host));
	if (*text != '[' && strcmp(address->host, "*") == 0)
		address->host[0] = '\0';
	return parse_port(address, *end == ']' ? end + 2 : end + 1, err);
}

/* One look-up. Whoever comes last frees it: the caller may have given up. */
struct lookup {
	pthread_mutex_t lock;
	bool abandoned; /* by the caller, under the lock */
	bool done;      /* by the thread, under the lock */
	int event_fd;
	int code;
	int saved_errno;
	struct addrinfo *list;
	char host[256];
	char port[6];
};

static void lookup_free(struct lookup *lookup)
{
	if (lookup->list)
		freeaddrinfo(lookup->list);
	fl_fd_close(&lookup->event_fd);
	(void)pthread_mutex_destroy(&lookup->lock);
	free(lookup);
}

static int ask(struct addrinfo **list, const char *host, const char *port, int flags)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC,
				       .ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICSERV | flags};

	return getaddrinfo(host, port, &hints, list);
}

static void *lookup_main(void *arg)
{
	struct lookup *lookup = arg;
	struct addrinfo *list = NULL;
	int code = ask(&list, lookup->host, lookup->port, 0), saved = errno;
	bool abandoned;

	(void)pthread_mutex_lock(&lookup->lock);
	lookup->code = code;
	lookup->saved_errno = saved;
	lookup->list = code ? NULL : list;
	lookup->done = true;
	abandoned = lookup->abandoned;
	(void)eventfd_write(lookup->event_fd, 1);
	(void)pthread_mutex_unlock(&lookup->lock);
	if (abandoned)
		lookup_free(lookup);
	return NULL;
}

static int lookup_failed(const struct fl_address *address, int code, int saved,
			 struct fl_error *err)
{
	if (code == EAI_MEMORY)
		return fl_error_set(err, -ENOMEM, "address %s: out of memory", address->text);
	if (code == EAI_SYSTEM && saved)
		return fl_error_set(err, -saved, "address %s: looking it up: %s", address->text,
				    strerror(saved));
	return fl_error_set(err, -EHOSTUNREACH, "address %s: %s", address->text,
			    gai_strerror(code));
}

static int lookup_start(struct lookup **made, const struct fl_address *address)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	pthread_t thread;
	int rc;

	if (!lookup)
		return -ENOMEM;
	(void)pthread_mutex_init(&lookup->lock, NULL);
	strcpy(lookup->host, address->host);
	strcpy(lookup->port, address->port);
	lookup->event_fd = eventfd(0, EFD_CLOEXEC);
	rc = lookup->event_fd < 0 ? -errno : 0;
	/* Address space only; modules of the name service have large buffers on their stacks. */
	if (!rc)
		rc = fl_thread_start(&thread, 2 * 1024 * 1024, lookup_main, lookup);
	if (rc) {
		lookup_free(lookup);
		return rc;
	}
	(void)pthread_detach(thread);
	*made = lookup;
	return 0;
}

/* The caller waits no more: the thread, if it is not done, frees it all. */
static int lookup_abandon(struct lookup *lookup, int why, const struct fl_address *address,
			  struct fl_error *err)
{
	bool done;

	(void)pthread_mutex_lock(&lookup->lock);
	done = lookup->done;
	lookup->abandoned = true;
	(void)pthread_mutex_unlock(&lookup->lock);
	if (done)
		lookup_free(lookup);
	return fl_error_set(err, why, "address %s: looking it up: %s", address->text,
			    strerror(-why));
}

static int lookup_finish(struct lookup *lookup, struct addrinfo **list,
			 const struct fl_address *address, struct fl_error *err)
{
	int ret = 0;

	/* The thread wrote to the eventfd under the lock: it is out of there once we have it. */
	(void)pthread_mutex_lock(&lookup->lock);
	(void)pthread_mutex_unlock(&lookup->lock);
	if (lookup->code)
		ret = lookup_failed(address, lookup->code, lookup->saved_errno, err);
	*list = lookup->list;
	lookup->list = NULL;
	lookup_free(lookup);
	return ret;
}

int fl_address_resolve(struct addrinfo **list, const struct fl_address *address,
		       uint64_t deadline_ns, int cancel_fd, struct fl_error *err)
{
	struct lookup *lookup = NULL;
	int rc = ask(list, address->host, address->port, AI_NUMERICHOST);

	if (rc == 0)
		return 0;
	if (rc != EAI_NONAME)
		return lookup_failed(address, rc, errno, err);
	rc = lookup_start(&lookup, address);
	if (rc)
		return fl_error_set(err, rc, "address %s: looking it up: %s", address->text,
				    strerror(-rc));
	rc = fl_socket_wait(lookup->event_fd, POLLIN, cancel_fd, deadline_ns);
	return rc ? lookup_abandon(lookup, rc, address, err)
		  : lookup_finish(lookup, list, address, err);
}

int fl_link_host(const char *address, char *host, size_t size)
{
	struct fl_address parsed;
	int rc = fl_address_parse(&parsed, address, NULL);

	if (rc)
		return rc;
	rc = snprintf(host, size, "%s", parsed.local ? "localhost" : parsed.host);
	return (size_t)rc < size ? 0 : -EINVAL;
}

/* A socket's name as fl_link_connect() takes it. */
static int write_name(const struct sockaddr_storage *name, socklen_t len, char *text, size_t size)
{
	const struct sockaddr_un *path = (const struct sockaddr_un *)name;
	char host[NI_MAXHOST], port[NI_MAXSERV];
	int n;

	if (name->ss_family == AF_UNIX) {
		n = snprintf(text, size, "unix:%.*s",
			     (int)(len - offsetof(struct sockaddr_un, sun_path)), path->sun_path);
	} else {
		if (getnameinfo((const struct sockaddr *)name, len, host, sizeof(host), port,
				sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
			return -EAFNOSUPPORT;
		n = snprintf(text, size, name->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			     port);
	}
	return n < 0 || (size_t)n >= size ? -ENOSPC : 0;
}

int fl_link_address(int listen_fd, char *text, size_t size)
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof(name);

	if (getsockname(listen_fd, (struct sockaddr *)&name, &len) < 0)
		return -errno;
	return write_name(&name, len, text, size);
}

void fl_link_peer(int fd, char text[FL_LINK_TEXT])
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof(name);

	if (getpeername(fd, (struct sockaddr *)&name, &len) < 0)
		(void)snprintf(text, FL_LINK_TEXT, "a peer that is gone");
	else if (name.ss_family == AF_UNIX)
		(void)snprintf(text, FL_LINK_TEXT, "a unix socket");
	else if (write_name(&name, len, text, FL_LINK_TEXT))
		(void)snprintf(text, FL_LINK_TEXT, "a peer without a name");
}
