/* SPDX-License-Identifier: MIT */

/*
 * Choosing a provider, and opening it.
 *
 * Everything that matters is said in the hints, so that neither defaults nor environment variables
 * decide it: progress is ours to make (no threads of the provider's own), registration modes are those
 * that we can follow. A provider for which they do not do is not returned by fi_getinfo(3).
 *
 * Both sides must run the same provider, with the same layers above it ("tcp" of libfabric 1.18 and
 * later does itself what "tcp;ofi_rxm" did before, and the two do not speak to each other). So an
 * export takes the first that is offered for the name in the options, and a source takes exactly the one in
 * the descriptor, as long as it runs over what the options name.
 */

#include "source/fabric_port.h"
#include "util/compat.h"
#include "util/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* The oldest interface that has all that is used here: Debian 12's. */
#define API FI_VERSION(1, 17)
/* How we can register memory. Not here: FI_MR_RAW, for keys beyond 64 bits. */
#define MR_MODES (FI_MR_LOCAL | FI_MR_ALLOCATED | FI_MR_VIRT_ADDR | FI_MR_PROV_KEY)
/* No more than this is under way at an endpoint, and nothing is ever received; by default some
 * providers have memory for thousands. */
#define TX_SIZE           64
#define RX_SIZE           8
#define KEY_TRIES         8
#define EFA_ADDRESS_BYTES 32

int fl_fabric_errno(long code)
{
	long error = code < 0 ? -code : code;

	switch (error) {
	case FI_ECANCELED: /* what was under way when the connection went */
	case FI_ECONNABORTED:
	case FI_ECONNREFUSED:
	case FI_ECONNRESET:
	case FI_EHOSTUNREACH:
	case FI_ENETUNREACH:
	case FI_ENOTCONN:
	case FI_ESHUTDOWN:
	case EPIPE:
		return -ECONNRESET;
	default:
		return error > 0 && error < FI_ERRNO_OFFSET ? (int)-error : -EIO;
	}
}

/* Formats whose length we know, so that a peer's address is never read beyond its end. */
static size_t format_len(uint32_t format)
{
	switch (format) {
	case FI_SOCKADDR_IN:
		return sizeof(struct sockaddr_in);
	case FI_SOCKADDR_IN6:
		return sizeof(struct sockaddr_in6);
	case FI_ADDR_EFA:
		return EFA_ADDRESS_BYTES;
	default:
		return 0;
	}
}

static bool is_address(uint32_t format, const void *address, size_t len)
{
	sa_family_t family;

	if (!len || format_len(format) != len)
		return false;
	memcpy(&family, address, sizeof(family));
	if (format == FI_SOCKADDR_IN)
		return family == AF_INET;
	return format != FI_SOCKADDR_IN6 || family == AF_INET6;
}

static struct fi_info *make_hints(const char *provider, const char *domain, uint64_t caps)
{
	struct fi_info *hints = fi_allocinfo();

	if (!hints)
		return NULL;
	hints->caps = FI_RMA | caps;
	hints->mode = FI_CONTEXT | FI_CONTEXT2;
	hints->ep_attr->type = FI_EP_RDM;
	hints->tx_attr->size = TX_SIZE;
	hints->rx_attr->size = RX_SIZE;
	hints->domain_attr->mr_mode = MR_MODES;
	hints->domain_attr->threading = FI_THREAD_SAFE;
	hints->domain_attr->control_progress = FI_PROGRESS_MANUAL;
	hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
	hints->fabric_attr->prov_name = provider ? strdup(provider) : NULL;
	hints->domain_attr->name = domain ? strdup(domain) : NULL;
	if ((provider && !hints->fabric_attr->prov_name) || (domain && !hints->domain_attr->name)) {
		fi_freeinfo(hints);
		return NULL;
	}
	return hints;
}

/* "efa-direct" wants to know who reads before it is read; "efa" does the same without that. */
static bool will_do(const struct fi_info *info)
{
	return info->domain_attr->mr_key_size <= sizeof(uint64_t) &&
	       format_len(info->addr_format) &&
	       (!info->fabric_attr->name || strcmp(info->fabric_attr->name, "efa-direct"));
}

/* Takes the first of a list that will do, of exactly that provider and domain unless they are NULL:
 * not every provider heeds a domain in the hints. */
static struct fi_info *choose(struct fi_info *list, const char *provider, const char *domain)
{
	struct fi_info *chosen = NULL;

	for (const struct fi_info *info = list; info && !chosen; info = info->next) {
		if (will_do(info) &&
		    (!provider || !strcmp(provider, info->fabric_attr->prov_name)) &&
		    (!domain || !strcmp(domain, info->domain_attr->name)))
			chosen = fi_dupinfo(info);
	}
	fi_freeinfo(list);
	return chosen;
}

/* What was opened before it failed is closed by fl_fabric_port_close(). */
static int open_domain(struct fl_fabric_port *port, struct fl_error *err)
{
	int ret = fi_fabric(port->info->fabric_attr, &port->fabric, NULL);

	if (!ret)
		ret = fi_domain(port->fabric, port->info, &port->domain, NULL);
	if (!ret)
		return 0;
	return fl_error_set(err, fl_fabric_errno(ret), "libfabric provider %s: %s",
			    port->info->fabric_attr->prov_name, fi_strerror(-ret));
}

void fl_fabric_port_close(struct fl_fabric_port *port)
{
	fl_fabric_close(port->domain);
	fl_fabric_close(port->fabric);
	if (port->info)
		fi_freeinfo(port->info);
	port->info = NULL;
}

/* "PROVIDER[,DOMAIN]": *domain is NULL without one. */
static char *split_provider(const char *text, char **domain)
{
	char *provider = strdup(text), *comma = provider ? strchr(provider, ',') : NULL;

	*domain = NULL;
	if (comma) {
		*comma = '\0';
		if (comma[1])
			*domain = comma + 1;
	}
	return provider;
}

/* "verbs;ofi_rxm" runs over "verbs". */
static size_t core_len(const char *provider)
{
	return strcspn(provider, ";");
}

static bool same_core(const char *one, const char *other)
{
	size_t len = core_len(one);

	return len == core_len(other) && !strncmp(one, other, len);
}

static int no_provider(struct fl_error *err, const char *provider, const char *domain,
		       const char *node, int code)
{
	/* fi_getinfo() has the same answer for a host without the hardware and for hints unmet. */
	if (code == -FI_ENOMEM)
		return fl_error_set(err, -ENOMEM, "no memory to look for libfabric providers");
	return fl_error_set(
		err, -EOPNOTSUPP,
		"libfabric offers no provider %s%s%s%s%s that can read remote memory: %s", provider,
		domain ? " with domain " : "", domain ? domain : "", node ? " at address " : "",
		node ? node : "", fi_strerror(-code));
}

int fl_fabric_port_export(struct fl_fabric_port *port, const struct fl_fabric_options *options,
			  struct fl_error *err)
{
	char *domain, *provider = split_provider(options->provider, &domain);
	struct fi_info *hints = provider ? make_hints(provider, domain, FI_REMOTE_READ) : NULL;
	struct fi_info *list = NULL;
	const char *node = options->address;
	int ret = -FI_ENOMEM;

	*port = (struct fl_fabric_port){0};
	if (provider && same_core(provider, "efa"))
		node = NULL;
	if (hints) {
		hints->domain_attr->mr_mode |= FI_MR_ENDPOINT;
		ret = fi_getinfo(API, node, NULL, node ? FI_SOURCE | FI_NUMERICHOST : 0, hints,
				 &list);
		fi_freeinfo(hints);
	}
	port->info = choose(list, NULL, domain);
	if (port->info)
		ret = open_domain(port, err);
	else
		ret = no_provider(err, provider ? provider : "", domain, node,
				  ret ? ret : -FI_ENODATA);
	free(provider);
	return ret;
}

static struct fi_info *import_hints(const char *domain, const struct fl_fabric_desc *peer)
{
	struct fi_info *hints = make_hints(peer->provider, domain, FI_READ);

	if (!hints)
		return NULL;
	hints->addr_format = peer->address_format;
	hints->dest_addr = malloc(peer->address_len);
	if (!hints->dest_addr) {
		fi_freeinfo(hints);
		return NULL;
	}
	memcpy(hints->dest_addr, peer->address, peer->address_len);
	hints->dest_addrlen = peer->address_len;
	return hints;
}

static int import(struct fl_fabric_port *port, const char *domain,
		  const struct fl_fabric_desc *peer, struct fl_error *err)
{
	struct fi_info *hints = import_hints(domain, peer), *list = NULL;
	int ret = -FI_ENOMEM;

	if (hints) {
		ret = fi_getinfo(API, NULL, NULL, 0, hints, &list);
		fi_freeinfo(hints);
	}
	port->info = choose(list, peer->provider, domain);
	if (!port->info)
		return no_provider(err, peer->provider, domain, NULL, ret ? ret : -FI_ENODATA);
	port->abandons = FI_VERSION_LT(fi_version(), FI_VERSION(1, 18)) &&
			 (same_core(peer->provider, "tcp") || same_core(peer->provider, "net"));
	return open_domain(port, err);
}

int fl_fabric_port_import(struct fl_fabric_port *port, const struct fl_fabric_options *options,
			  const struct fl_fabric_desc *peer, struct fl_error *err)
{
	char *domain, *provider = split_provider(options->provider, &domain);
	int ret;

	*port = (struct fl_fabric_port){0};
	if (!provider)
		return fl_error_set(err, -ENOMEM, "no memory for a fabric source");
	if (!same_core(provider, peer->provider))
		ret = fl_error_set(err, -EPERM,
				   "the peer exports by provider %s, and %s was asked for",
				   peer->provider, provider);
	else if (!is_address(peer->address_format, peer->address, peer->address_len))
		ret = fl_error_set(err, -EBADMSG,
				   "fabric descriptor: no address of a format that is known here");
	else
		ret = import(port, domain, peer, err);
	free(provider);
	return ret;
}

int fl_fabric_cq_open(const struct fl_fabric_port *port, struct fl_fabric_cq *cq)
{
	struct fi_cq_attr attr = {.format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_FD};
	int ret;

	cq->fd = -1;
	if (!fi_cq_open(port->domain, &attr, &cq->cq, NULL)) {
		ret = fi_control(&cq->cq->fid, FI_GETWAIT, &cq->fd);
		if (!ret)
			return 0;
		cq->fd = -1;
		fl_fabric_close(cq->cq);
	}
	attr.wait_obj = FI_WAIT_NONE;
	ret = fi_cq_open(port->domain, &attr, &cq->cq, NULL);
	return ret ? fl_fabric_errno(ret) : 0;
}

bool fl_fabric_cq_idle(const struct fl_fabric_port *port, const struct fl_fabric_cq *cq)
{
	struct fid *fid = &cq->cq->fid;

	return cq->fd < 0 || fi_trywait(port->fabric, &fid, 1) != -FI_EAGAIN;
}

int fl_fabric_ep_open(const struct fl_fabric_port *port, const struct fl_fabric_cq *cq,
		      struct fid_av *av, struct fid_ep **ep)
{
	int ret = fi_endpoint(port->domain, port->info, ep, NULL);

	if (ret) {
		*ep = NULL;
		return fl_fabric_errno(ret);
	}
	ret = fi_ep_bind(*ep, &cq->cq->fid, FI_TRANSMIT | FI_RECV);
	if (!ret)
		ret = fi_ep_bind(*ep, &av->fid, 0);
	if (!ret)
		ret = fi_enable(*ep);
	if (!ret)
		return 0;
	fl_fabric_close(*ep);
	return fl_fabric_errno(ret);
}

static uint64_t make_key(const struct fl_fabric_port *port)
{
	size_t bytes = port->info->domain_attr->mr_key_size;
	uint64_t key = 0;

	if (port->info->domain_attr->mr_mode & FI_MR_PROV_KEY)
		return 0;
	if (getrandom(&key, sizeof(key), 0) < 0)
		return 0;
	return bytes < sizeof(key) ? key & ((UINT64_C(1) << bytes * 8) - 1) : key;
}

int fl_fabric_populate(const struct fl_fabric_memory *memory, bool write, struct fl_error *err)
{
	if (!madvise(memory->addr, memory->len_bytes,
		     write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
		return 0;
	return fl_error_set(err, -errno, "populating memory at offset 0x%" PRIx64 ": %s",
			    memory->offset, strerror(errno));
}

int fl_fabric_register(const struct fl_fabric_port *port, const struct fl_fabric_memory *memory,
		       uint64_t access, uint32_t flags, struct fid_mr **mr, struct fl_error *err)
{
	int ret = -FI_ENOKEY;

	if (flags & FL_FABRIC_POPULATE) {
		int populated = fl_fabric_populate(memory, access == FI_READ, err);

		if (populated)
			return populated;
	}
	/* A key may be in use already. */
	for (int i = 0; i < KEY_TRIES && ret == -FI_ENOKEY; i++)
		ret = fi_mr_reg(port->domain, memory->addr, memory->len_bytes, access, 0,
				make_key(port), 0, mr, NULL);
	if (!ret)
		return 0;
	*mr = NULL;
	return fl_error_set(err, fl_fabric_errno(ret),
			    "libfabric provider %s cannot register %" PRIu64
			    " bytes at offset 0x%" PRIx64 ": %s",
			    port->info->fabric_attr->prov_name, memory->len_bytes, memory->offset,
			    fi_strerror(-ret));
}

void fl_fabric_unregister(struct fid_mr **mrs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fl_fabric_close(mrs[i]);
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t len = from ? strnlen(from, size - 1) : 0;

	if (len)
		memcpy(to, from, len);
	to[len] = '\0';
}

static void address_text(char *to, size_t size, const struct fi_info *info)
{
	*to = '\0';
	if (!is_address(info->addr_format, info->src_addr ? info->src_addr : "", info->src_addrlen))
		return;
	if (info->addr_format == FI_SOCKADDR_IN)
		(void)inet_ntop(AF_INET, &((struct sockaddr_in *)info->src_addr)->sin_addr, to,
				(socklen_t)size);
	else if (info->addr_format == FI_SOCKADDR_IN6)
		(void)inet_ntop(AF_INET6, &((struct sockaddr_in6 *)info->src_addr)->sin6_addr, to,
				(socklen_t)size);
}

static bool same_offer(const struct fl_fabric_offer *one, const struct fl_fabric_offer *other)
{
	return !strcmp(one->provider, other->provider) && !strcmp(one->domain, other->domain) &&
	       !strcmp(one->address, other->address);
}

/* Fails for what is offered and cannot be opened: no offer then. */
static bool look_at(struct fl_fabric_offer *offer, const struct fi_info *info)
{
	struct fl_fabric_port port = {.info = fi_dupinfo(info)};
	struct fl_fabric_cq cq = {.fd = -1};
	bool opened = port.info && !open_domain(&port, NULL) && !fl_fabric_cq_open(&port, &cq);

	offer->waits = cq.fd >= 0;
	fl_fabric_close(cq.cq);
	fl_fabric_port_close(&port);
	return opened;
}

static bool make_offer(struct fl_fabric_offer *offers, size_t count, const struct fi_info *info)
{
	struct fl_fabric_offer *offer = &offers[count];

	*offer = (struct fl_fabric_offer){.pins = info->domain_attr->mr_mode & FI_MR_ALLOCATED};
	copy_text(offer->provider, sizeof(offer->provider), info->fabric_attr->prov_name);
	copy_text(offer->domain, sizeof(offer->domain), info->domain_attr->name);
	address_text(offer->address, sizeof(offer->address), info);
	for (size_t i = 0; i < count; i++) {
		if (same_offer(&offers[i], offer))
			return false;
	}
	return look_at(offer, info);
}

int fl_fabric_probe(struct fl_fabric_offer *offers, size_t max, struct fl_error *err)
{
	struct fi_info *hints = make_hints(NULL, NULL, FI_READ | FI_REMOTE_READ), *list = NULL;
	int ret = hints ? fi_getinfo(API, NULL, NULL, 0, hints, &list) : -FI_ENOMEM;
	size_t count = 0;

	if (hints)
		fi_freeinfo(hints);
	if (ret == -FI_ENOMEM)
		return fl_error_set(err, -ENOMEM, "no memory to look for libfabric providers");
	for (const struct fi_info *info = list; info && count < max; info = info->next) {
		if (will_do(info) && make_offer(offers, count, info))
			count++;
	}
	fi_freeinfo(list);
	return (int)count;
}
