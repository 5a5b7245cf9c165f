/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_CERTS_TEST_H
#define FL_LINK_CERTS_TEST_H

/*
 * Certificates for tests, made with OpenSSL's library. In @dir, an existing folder, NAME.pem is the
 * certificate and NAME.key its private key (P-256). Whatever fails, fails the test.
 */

/* One that can sign others. */
void test_authority(const char *dir, const char *name);

/* Signed by @authority (a name, in the same folder); @hosts as in "IP:127.0.0.1,DNS:localhost", or NULL for
 * one without subjectAltName, for common name "localhost"; valid from and to so many days from now. */
void test_certificate(const char *dir, const char *authority, const char *name, const char *hosts,
		      int from_days, int to_days);

/* DIR/NAMESUFFIX, in a buffer of the caller's. */
const char *test_cert_path(char path[256], const char *dir, const char *name, const char *suffix);

/* A folder of its own under TMPDIR or /tmp, and its end with all that is in it. */
void test_folder_make(char dir[128]);
void test_folder_remove(const char *dir);

#endif
