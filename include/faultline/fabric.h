/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_FABRIC_H
#define FAULTLINE_FABRIC_H

/*
 * Guest memory read from another host over libfabric (fi_read(3)), straight into local memory.
 *
 * The side that has the memory exports it and hands the descriptor to its peer by a channel that both
 * trust (the page link's WAY frame); the other side opens a source with it. Needs a provider with
 * reliable datagram endpoints and remote reads: tcp everywhere, verbs and EFA where there is such
 * hardware. docs/fabric.md has their configuration.
 *
 * Whoever reaches the endpoint and knows a region's key (64 random bits where the provider lets us
 * choose) can read that memory, and nothing is encrypted: a network for hosts that trust each other.
 *
 * Registering memory pins and so populates it with providers that read and write it by hardware. A
 * page that is there, in the page cache, is therefore not a page that was received: only the
 * page-state table says so. And while memory is registered, its pages must not be exchanged for
 * others: a page that is given back (MADV_DONTNEED, a hole punched, a balloon) leaves the device with
 * the old one, which it goes on reading or writing (fi_mr(3), FI_MR_ALLOCATED). So: export memory
 * whose pages stay, and give back only pages that will never be read again.
 *
 * Without libfabric at build time every function here returns -EOPNOTSUPP.
 */

#include <stdbool.h>
#include <faultline/common.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fl_source;

/** FL_FABRIC_REGIONS_MAX - how many ranges an export, or local memory, may have */
#define FL_FABRIC_REGIONS_MAX 64

/** FL_FABRIC_UNIT - reads and regions are whole units of so many bytes */
#define FL_FABRIC_UNIT 4096

/** FL_FABRIC_BLOB_MAX - the longest descriptor, in bytes */
#define FL_FABRIC_BLOB_MAX 4096

/**
 * FL_FABRIC_POPULATE - have all of the memory there before it is registered
 *
 * As registering does anyway where the provider pins memory; elsewhere the pages are then not made
 * one by one while contents arrive.
 */
#define FL_FABRIC_POPULATE (1u << 0)

/** FL_FABRIC_REGISTER - register local memory though the provider does not ask for it (for tests) */
#define FL_FABRIC_REGISTER (1u << 1)

/**
 * struct fl_fabric_memory - a range of memory of this process, and where in the image it lies
 * @addr: its first byte
 * @offset: of that byte in the memory image, in bytes
 * @len_bytes: its length; like @offset a multiple of FL_FABRIC_UNIT
 */
struct fl_fabric_memory {
	void *addr;
	uint64_t offset;
	uint64_t len_bytes;
};

/**
 * struct fl_fabric_options - which way to go; start from fl_fabric_options_init()
 * @size: sizeof(struct fl_fabric_options) as the caller was compiled
 * @provider: "PROVIDER[,DOMAIN]" as libfabric names them: "tcp", "tcp,eth0", "verbs", "verbs,mlx5_0",
 *	"efa". A source takes no other provider from its descriptor
 * @address: numeric address of this host that peers reach, or NULL for the provider's own choice; of
 *	no meaning to a source, and to providers whose addresses are not those of IP (efa)
 * @timeout_ms: a read that takes longer has failed, in milliseconds, 1 to 3600000
 * @flags: FL_FABRIC_*
 * @log: where messages go
 */
struct fl_fabric_options {
	size_t size;
	const char *provider;
	const char *address;
	uint32_t timeout_ms;
	uint32_t flags;
	struct fl_log log;
};

/**
 * fl_fabric_options_init() - the defaults
 * @options: set to: "tcp", no address, 10 s, no flags, no log
 */
FL_API void fl_fabric_options_init(struct fl_fabric_options *options);

/**
 * struct fl_fabric - memory that others can read; opaque
 */
struct fl_fabric;

/**
 * fl_fabric_export() - let memory be read from other hosts
 * @fabric: receives the export
 * @memory: @count ranges, in any order, that do not overlap in the image; all of it readable until
 *	fl_fabric_unexport()
 * @count: 1 to FL_FABRIC_REGIONS_MAX
 * @options: or NULL for the defaults
 * @err: receives the reason, or NULL
 *
 * A thread of its own does what the provider leaves to software. It sleeps while nothing is read,
 * but for a look every few milliseconds.
 *
 * Return: 0; -EINVAL for an option or a range that breaks a rule, -EOPNOTSUPP when no provider of
 * that name can do it or when built without libfabric, -ENOMEM, -EMFILE; what the provider's calls
 * and pthread_create(3) return.
 */
FL_API int fl_fabric_export(struct fl_fabric **fabric, const struct fl_fabric_memory *memory,
			    size_t count, const struct fl_fabric_options *options,
			    struct fl_error *err);

/**
 * fl_fabric_blob() - the descriptor by which a peer reads an export
 * @fabric: the export
 * @len_bytes: receives its length, at most FL_FABRIC_BLOB_MAX
 *
 * It has the keys to the memory: to be sent where no one else reads it.
 *
 * Return: the descriptor, valid as long as the export.
 */
FL_API const void *fl_fabric_blob(const struct fl_fabric *fabric, size_t *len_bytes);

/**
 * fl_fabric_unexport() - from here on nothing is read any more
 * @fabric: the export, or NULL; reads under way fail at the peer
 */
FL_API void fl_fabric_unexport(struct fl_fabric *fabric);

/**
 * fl_source_fabric_open() - a source that reads what another host exports
 * @source: receives the source (faultline/source.h); its reads are FL_SOURCE_DIRECT
 * @blob: the peer's descriptor; not trusted
 * @len_bytes: its length
 * @local: @count ranges that reads will go to, best the second mapping of all guest memory: registered
 *	here, once. What lies outside is reached by way of registered memory of the source's own, and a
 *	copy. Must stay until the source is closed
 * @count: 0 to FL_FABRIC_REGIONS_MAX
 * @options: or NULL for the defaults; @provider must name the descriptor's
 * @err: receives the reason, or NULL
 *
 * No connection is made before the first read. Offsets between two regions read as zeros. A read must
 * be whole units within one region of the export, else it ends with -EINVAL, or with -ENODATA beyond the
 * last. One that takes longer than the timeout ends with -ETIMEDOUT, one whose peer is gone or refuses
 * the key with -ECONNRESET (a peer that was never there may be told from one that is slow by the
 * timeout alone). Either ends all reads of that queue, from there on with -ECONNRESET: open another.
 *
 * Return: 0; -EINVAL for an option or a range that breaks a rule, -EBADMSG for a descriptor that is
 * none, -EPROTONOSUPPORT for one of another version, -EPERM when it names another provider than @options,
 * -EOPNOTSUPP when that provider is not to be had or when built without libfabric, -ENOMEM, -EMFILE; what the
 * provider's calls return.
 */
FL_API int fl_source_fabric_open(struct fl_source **source, const void *blob, size_t len_bytes,
				 const struct fl_fabric_memory *local, size_t count,
				 const struct fl_fabric_options *options, struct fl_error *err);

/**
 * struct fl_fabric_offer - one way that libfabric offers on this host
 * @provider: as in struct fl_fabric_options
 * @domain: likewise: an interface or a device
 * @address: of this host there, as text, or ""
 * @pins: registering memory has all of it there and keeps it there
 * @waits: has a descriptor to wait for; else it is looked at again and again while reads are under way
 */
struct fl_fabric_offer {
	char provider[64];
	char domain[64];
	char address[64];
	bool pins;
	bool waits;
};

/**
 * fl_fabric_probe() - what can do remote reads here
 * @offers: receives up to @max offers, in the order in which libfabric prefers them
 * @max: room in @offers
 * @err: receives the reason, or NULL
 *
 * Return: how many were written, 0 when there is none; -EOPNOTSUPP when built without libfabric, -ENOMEM.
 */
FL_API int fl_fabric_probe(struct fl_fabric_offer *offers, size_t max, struct fl_error *err);

#ifdef __cplusplus
}
#endif
#endif
