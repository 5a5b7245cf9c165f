/* SPDX-License-Identifier: MIT */

/*
 * Memory that others read. Theory of operation
 *
 * With a device that reads memory by itself nothing has to be done here; with tcp, and for the making
 * of connections with all of them, the provider works inside of calls to fi_cq_read(3). A thread makes
 * them: whenever the completion queue's descriptor says so, and every IDLE_MS besides, since not every
 * provider tells by it of all that it has to do. Where there is no descriptor it looks every POLL_MS.
 *
 * Everything belongs to the caller until the thread has been started and after it has been joined,
 * and between to the thread. Nothing completes here, as nothing is asked for; errors that the
 * provider reports are of a peer that went, and are the peer's to notice.
 */

#include "source/fabric_port.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define IDLE_MS 5
#define POLL_MS 2
/* So many looks in a row that the provider asks for; then it sleeps for a ms all the same. */
#define LOOKS 1000u
/* What providers put on the stack is theirs to say; what is not touched costs nothing. */
#define STACK_BYTES (1u << 20)

struct fl_fabric {
	struct fl_fabric_port port;
	struct fl_fabric_cq cq;
	struct fid_av *av;
	struct fid_ep *ep;
	struct fid_mr *mrs[FL_FABRIC_REGIONS_MAX];
	size_t count;
	struct fl_log log;
	int stop_fd;
	pthread_t thread;
	bool running;
	size_t blob_len;
	uint8_t blob[FL_FABRIC_BLOB_MAX];
};

static void drain(struct fl_fabric *fabric)
{
	struct fi_cq_entry entries[16];
	ssize_t got;

	do {
		got = fi_cq_read(fabric->cq.cq, entries, 16);
		if (got == -FI_EAVAIL) {
			struct fi_cq_err_entry error = {0};

			if (fi_cq_readerr(fabric->cq.cq, &error, 0) < 0)
				return;
			fl_log(&fabric->log, FL_LOG_DEBUG, "fabric export: %s",
			       fi_strerror(error.err));
		}
	} while (got > 0 || got == -FI_EAVAIL);
}

static void *progress(void *arg)
{
	struct fl_fabric *fabric = arg;
	struct pollfd pfds[2] = {{.fd = fabric->stop_fd, .events = POLLIN},
				 {.fd = fabric->cq.fd, .events = POLLIN}};
	unsigned int looks = 0;

	while (!pfds[0].revents) {
		int timeout_ms = fabric->cq.fd < 0 ? POLL_MS : IDLE_MS;

		drain(fabric);
		if (!fl_fabric_cq_idle(&fabric->port, &fabric->cq)) {
			timeout_ms = ++looks % LOOKS ? 0 : 1;
			pfds[1].events = 0;
		} else {
			looks = 0;
			pfds[1].events = POLLIN;
		}
		if (poll(pfds, 2, timeout_ms) < 0)
			pfds[0].revents = 0;
	}
	return NULL;
}

static int open_end(struct fl_fabric *fabric, struct fl_error *err)
{
	struct fi_av_attr attr = {.type = FI_AV_UNSPEC, .count = 1};
	int ret = fl_fabric_cq_open(&fabric->port, &fabric->cq);

	if (!ret)
		ret = fi_av_open(fabric->port.domain, &attr, &fabric->av, NULL);
	if (!ret)
		ret = fl_fabric_ep_open(&fabric->port, &fabric->cq, fabric->av, &fabric->ep);
	if (!ret)
		return 0;
	ret = fl_fabric_errno(ret);
	return fl_error_set(err, ret, "libfabric provider %s: no endpoint: %s",
			    fabric->port.info->fabric_attr->prov_name, strerror(-ret));
}

static int enable(struct fl_fabric *fabric, struct fid_mr *mr, struct fl_error *err)
{
	int ret = 0;

	if (fabric->port.info->domain_attr->mr_mode & FI_MR_ENDPOINT) {
		ret = fi_mr_bind(mr, &fabric->ep->fid, 0);
		if (!ret)
			ret = fi_mr_enable(mr);
	}
	if (!ret && fi_mr_key(mr) == FI_KEY_NOTAVAIL)
		ret = -FI_ENOKEY;
	return ret ? fl_error_set(err, fl_fabric_errno(ret), "libfabric gave no key to memory: %s",
				  fi_strerror(-ret))
		   : 0;
}

static int register_all(struct fl_fabric *fabric, const struct fl_fabric_memory *memory,
			uint32_t flags, struct fl_fabric_desc *desc, struct fl_error *err)
{
	bool virt = fabric->port.info->domain_attr->mr_mode & FI_MR_VIRT_ADDR;

	for (size_t i = 0; i < fabric->count; i++) {
		int ret = fl_fabric_register(&fabric->port, &memory[i], FI_REMOTE_READ, flags,
					     &fabric->mrs[i], err);

		if (!ret)
			ret = enable(fabric, fabric->mrs[i], err);
		if (ret)
			return ret;
		desc->regions[i] =
			(struct fl_fabric_region){.key = fi_mr_key(fabric->mrs[i]),
						  .base = virt ? (uintptr_t)memory[i].addr : 0,
						  .offset = memory[i].offset,
						  .len_bytes = memory[i].len_bytes};
	}
	return 0;
}

static int describe(struct fl_fabric *fabric, struct fl_fabric_desc *desc, struct fl_error *err)
{
	const struct fi_info *info = fabric->port.info;
	size_t name_len = strlen(info->fabric_attr->prov_name), address_len = sizeof(desc->address);
	int ret = fi_getname(&fabric->ep->fid, desc->address, &address_len);

	if (ret)
		return fl_error_set(err, fl_fabric_errno(ret),
				    "libfabric endpoint without an address: %s", fi_strerror(-ret));
	if (name_len >= sizeof(desc->provider))
		return fl_error_set(err, -EOPNOTSUPP, "libfabric provider with a name too long");
	memcpy(desc->provider, info->fabric_attr->prov_name, name_len);
	desc->address_format = info->addr_format;
	desc->address_len = (uint16_t)address_len;
	desc->count = (uint16_t)fabric->count;
	fabric->blob_len = fl_fabric_blob_encode(fabric->blob, desc);
	return 0;
}

static int start(struct fl_fabric *fabric, struct fl_error *err)
{
	int ret;

	fabric->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = fabric->stop_fd < 0 ? -errno : 0;
	if (!ret)
		ret = fl_thread_start(&fabric->thread, STACK_BYTES, progress, fabric);
	if (ret)
		return fl_error_set(err, ret, "fabric export: %s", strerror(-ret));
	fabric->running = true;
	return 0;
}

int fl_fabric_export(struct fl_fabric **out, const struct fl_fabric_memory *memory, size_t count,
		     const struct fl_fabric_options *options, struct fl_error *err)
{
	struct fl_fabric_memory sorted[FL_FABRIC_REGIONS_MAX];
	struct fl_fabric_desc desc = {0};
	struct fl_fabric_options checked;
	struct fl_fabric *fabric;
	int ret = fl_fabric_options_check(&checked, options, err);

	if (!ret && !count)
		ret = fl_error_set(err, -EINVAL, "no memory to export");
	if (!ret)
		ret = fl_fabric_memory_check(sorted, memory, count, err);
	if (ret)
		return ret;
	fabric = calloc(1, sizeof(*fabric));
	if (!fabric)
		return fl_error_set(err, -ENOMEM, "no memory for a fabric export");
	fabric->stop_fd = -1;
	fabric->log = checked.log;
	fabric->count = count;
	ret = fl_fabric_port_export(&fabric->port, &checked, err);
	if (!ret)
		ret = open_end(fabric, err);
	if (!ret)
		ret = register_all(fabric, sorted, checked.flags, &desc, err);
	if (!ret)
		ret = describe(fabric, &desc, err);
	if (!ret)
		ret = start(fabric, err);
	if (ret) {
		fl_fabric_unexport(fabric);
		return ret;
	}
	*out = fabric;
	return 0;
}

const void *fl_fabric_blob(const struct fl_fabric *fabric, size_t *len_bytes)
{
	*len_bytes = fabric->blob_len;
	return fabric->blob;
}

void fl_fabric_unexport(struct fl_fabric *fabric)
{
	if (!fabric)
		return;
	if (fabric->running) {
		(void)eventfd_write(fabric->stop_fd, 1);
		(void)pthread_join(fabric->thread, NULL);
	}
	fl_fd_close(&fabric->stop_fd);
	/* Memory may be bound to the endpoint, and then goes first. */
	fl_fabric_unregister(fabric->mrs, fabric->count);
	fl_fabric_close(fabric->ep);
	fl_fabric_close(fabric->av);
	fl_fabric_close(fabric->cq.cq);
	fl_fabric_port_close(&fabric->port);
	free(fabric);
}
