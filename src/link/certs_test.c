/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "link/certs_test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define DAY_S (24L * 60 * 60)

const char *test_cert_path(char path[256], const char *dir, const char *name, const char *suffix)
{
	int n = snprintf(path, 256, "%s/%s%s", dir, name, suffix);

	assert_in_range(n, 1, 255);
	return path;
}

static FILE *open_file(const char *dir, const char *name, const char *suffix, const char *mode)
{
	char path[256];
	FILE *file = fopen(test_cert_path(path, dir, name, suffix), mode);

	assert_non_null(file);
	return file;
}

static EVP_PKEY *make_key(const char *dir, const char *name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	FILE *file = open_file(dir, name, ".key", "w");

	assert_non_null(key);
	assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(file), 0);
	return key;
}

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(cert, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

static X509 *make_cert(EVP_PKEY *key, const char *common_name, int from_days, int to_days)
{
	X509 *cert = X509_new();
	uint64_t serial;

	assert_non_null(cert);
	assert_int_equal(RAND_bytes((unsigned char *)&serial, sizeof(serial)), 1);
	assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
	assert_int_equal(ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1), 1);
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), from_days * DAY_S));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), to_days * DAY_S));
	assert_int_equal(X509_set_pubkey(cert, key), 1);
	assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
						    (const unsigned char *)common_name, -1, -1, 0),
			 1);
	return cert;
}

static void sign_and_write(X509 *cert, EVP_PKEY *key, const char *dir, const char *name)
{
	FILE *file = open_file(dir, name, ".pem", "w");

	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509(file, cert), 1);
	assert_int_equal(fclose(file), 0);
}

void test_authority(const char *dir, const char *name)
{
	EVP_PKEY *key = make_key(dir, name);
	X509 *cert = make_cert(key, name, -1, 30);

	assert_int_equal(X509_set_issuer_name(cert, X509_get_subject_name(cert)), 1);
	extend(cert, cert, NID_basic_constraints, "critical,CA:TRUE");
	extend(cert, cert, NID_key_usage, "critical,keyCertSign");
	extend(cert, cert, NID_subject_key_identifier, "hash");
	sign_and_write(cert, key, dir, name);
	X509_free(cert);
	EVP_PKEY_free(key);
}

void test_certificate(const char *dir, const char *authority, const char *name, const char *hosts,
		      int from_days, int to_days)
{
	FILE *issuer_file = open_file(dir, authority, ".pem", "r");
	FILE *issuer_key_file = open_file(dir, authority, ".key", "r");
	X509 *issuer = PEM_read_X509(issuer_file, NULL, NULL, NULL);
	EVP_PKEY *issuer_key = PEM_read_PrivateKey(issuer_key_file, NULL, NULL, NULL);
	EVP_PKEY *key = make_key(dir, name);
	X509 *cert = make_cert(key, "localhost", from_days, to_days);

	assert_non_null(issuer);
	assert_non_null(issuer_key);
	assert_int_equal(X509_set_issuer_name(cert, X509_get_subject_name(issuer)), 1);
	extend(cert, issuer, NID_basic_constraints, "critical,CA:FALSE");
	extend(cert, issuer, NID_authority_key_identifier, "keyid");
	if (hosts)
		extend(cert, issuer, NID_subject_alt_name, hosts);
	sign_and_write(cert, issuer_key, dir, name);
	X509_free(cert);
	X509_free(issuer);
	EVP_PKEY_free(key);
	EVP_PKEY_free(issuer_key);
	(void)fclose(issuer_file);
	(void)fclose(issuer_key_file);
}

void test_folder_make(char dir[128])
{
	const char *under = getenv("TMPDIR");
	int n = snprintf(dir, 128, "%s/faultline.XXXXXX", under ? under : "/tmp");

	assert_in_range(n, 1, 127);
	assert_non_null(mkdtemp(dir));
}

static int remove_one(const char *path, const struct stat *file, int type, struct FTW *where)
{
	(void)file;
	(void)type;
	(void)where;
	return remove(path);
}

void test_folder_remove(const char *dir)
{
	assert_int_equal(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}
