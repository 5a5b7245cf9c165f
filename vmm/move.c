/* SPDX-License-Identifier: MIT */
/* What both sides of a migration read from their options. */
#include <errno.h>
#include <string.h>

#include "leave.h"
#include "link/address.h"
#include "util.h"

const char *const vmm_mode_names[] = {"hybrid", "precopy", "postcopy", NULL};
const char *const vmm_compress_names[] = {"none", "lz4", "zstd", "any", NULL};

uint32_t vmm_compress_flags(int choice)
{
	static const uint32_t flags[] = {0, FL_MIGRATE_LZ4, FL_MIGRATE_ZSTD,
					 FL_MIGRATE_LZ4 | FL_MIGRATE_ZSTD};

	return flags[choice];
}

int vmm_tls_check(const struct vmm_tls_files *files)
{
	int count = !!files->cert + !!files->key + !!files->authority;

	return count == 0 || count == 3
		       ? 0
		       : vmm_fail(EINVAL,
				  "TLS wants all of --tls-cert, --tls-key and --tls-authority");
}

int vmm_address_check(const char *option, const char *text)
{
	struct fl_address address;
	struct fl_error err = {0};

	return text && fl_address_parse(&address, text, &err)
		       ? vmm_fail(EINVAL, "%s: %s", option, err.text)
		       : 0;
}

int vmm_tls_open(const struct vmm_tls_files *files, struct fl_tls **tls)
{
	struct fl_error err = {0};
	int ret;

	*tls = NULL;
	if (!files->cert && !files->key && !files->authority)
		return 0;
	ret = vmm_tls_check(files);
	if (ret)
		return ret;
	ret = fl_tls_new(tls, files->cert, files->key, files->authority, &err);
	return ret ? vmm_fail(-ret, "%s", err.text[0] ? err.text : strerror(-ret)) : 0;
}
