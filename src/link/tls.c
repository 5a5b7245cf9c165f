/* SPDX-License-Identifier: MIT */
#include "link/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "util/error.h"
#include "util/fd.h"

#define READ_BUFFER (64 * 1024) /* so that one read(2) takes several records */

static int check_readable(const char *path, struct fl_error *err)
{
	int fl_cleanup_fd fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? fl_error_set(err, -errno, "%s: %s", path, strerror(errno)) : 0;
}

/* The first error is the cause, those after it say through what it came. */
static int refuse_file(const char *path, const char *what, struct fl_error *err)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	return fl_error_set(err, -EINVAL, "%s: %s: %s", path, what,
			    reason ? reason : "cannot be read");
}

/* OpenSSL would ask at the terminal. */
static int no_password(char *buf, int size, int writing, void *ctx)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)ctx;
	return -1;
}

static int load_files(SSL_CTX *ctx, const char *cert, const char *key, const char *authority,
		      struct fl_error *err)
{
	const char *paths[] = {cert, key, authority};
	int rc = 0;

	for (size_t i = 0; i < 3 && !rc; i++)
		rc = check_readable(paths[i], err);
	if (rc)
		return rc;
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		return refuse_file(cert, "no certificate that can be used", err);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
		if (ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH)
			return fl_error_set(err, -EINVAL, "%s: is not the key of %s", key, cert);
		return refuse_file(key, "no private key that can be used", err);
	}
	if (SSL_CTX_check_private_key(ctx) != 1)
		return fl_error_set(err, -EINVAL, "%s: is not the key of %s", key, cert);
	if (SSL_CTX_load_verify_file(ctx, authority) != 1)
		return refuse_file(authority, "no certificates of authorities", err);
	return 0;
}

/*
 * TLS 1.3 alone, both sides prove who they are, and nothing that outlives a connection: no tickets,
 * no sessions, no early data.
 */
static int set_rules(SSL_CTX *ctx)
{
	X509_VERIFY_PARAM *check = SSL_CTX_get0_param(ctx);

	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
					       SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_default_passwd_cb(ctx, no_password);
	if (SSL_CTX_get_security_level(ctx) < 2)
		SSL_CTX_set_security_level(ctx, 2);
	/* An authority need not be a root: whatever the file names is trusted. */
	if (X509_VERIFY_PARAM_set_flags(check, X509_V_FLAG_PARTIAL_CHAIN) != 1 ||
	    SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
	    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1)
		return -EOPNOTSUPP;
	return 0;
}

int fl_tls_new(struct fl_tls **tls, const char *cert, const char *key, const char *authority,
	       struct fl_error *err)
{
	struct fl_tls *made = calloc(1, sizeof(*made));
	int rc;

	if (!made)
		return fl_error_set(err, -ENOMEM, "TLS: out of memory");
	ERR_clear_error();
	made->ctx = SSL_CTX_new(TLS_method());
	if (!made->ctx)
		rc = fl_error_set(err, -ENOMEM, "TLS: OpenSSL gives no context");
	else if (set_rules(made->ctx))
		rc = fl_error_set(err, -EOPNOTSUPP, "TLS: OpenSSL has no TLS 1.3");
	else
		rc = load_files(made->ctx, cert, key, authority, err);
	ERR_clear_error();
	if (rc) {
		fl_tls_free(made);
		return rc;
	}
	*tls = made;
	return 0;
}

void fl_tls_free(struct fl_tls *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->ctx);
	free(tls);
}

/* What we have against the peer's certificate. */
static const char *explain_refusal(long refusal)
{
	switch (refusal) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return "host name mismatch: the peer's certificate is for another host";
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return "the peer's certificate has expired";
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return "the peer's certificate is not valid yet";
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_CERT_UNTRUSTED:
		return "the peer's certificate is not from our authority";
	case X509_V_ERR_INVALID_PURPOSE:
		return "the peer's certificate is not for this side of TLS";
	default:
		return X509_verify_cert_error_string(refusal);
	}
}

/* What the peer has against ours, or did wrong. Numbers of alerts: RFC 8446, section 6. */
static const struct {
	int reason;
	const char *text;
} causes[] = {
	{SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "the peer sent no certificate"},
	{SSL_R_UNSUPPORTED_PROTOCOL, "the peer does not speak TLS 1.3"},
	{SSL_R_UNKNOWN_PROTOCOL, "the peer does not speak TLS 1.3"},
	{SSL_R_VERSION_TOO_LOW, "the peer does not speak TLS 1.3"},
	{SSL_R_WRONG_SSL_VERSION, "the peer does not speak TLS 1.3"},
	{SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the peer does not speak TLS 1.3"},
	{SSL_R_WRONG_VERSION_NUMBER, "the peer does not speak TLS"},
	{SSL_R_HTTP_REQUEST, "the peer does not speak TLS"},
	{SSL_R_HTTPS_PROXY_REQUEST, "the peer does not speak TLS"},
	{SSL_R_PACKET_LENGTH_TOO_LONG, "the peer does not speak TLS"},
	{SSL_R_BAD_RECORD_TYPE, "the peer does not speak TLS"},
	{SSL_R_UNEXPECTED_MESSAGE, "the peer does not speak TLS"},
	{SSL_R_TLSV1_ALERT_UNKNOWN_CA, "the peer refused our certificate: not from its authority"},
	{SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "the peer refused our certificate: expired"},
	{SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, "the peer refused our certificate: revoked"},
	{SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the peer refused our certificate"},
	{SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "the peer refused our certificate"},
	{SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, "the peer refused our certificate: its kind"},
	{SSL_R_TLSV1_ALERT_ACCESS_DENIED, "the peer refused our certificate: access denied"},
	{SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, "the peer asks for a certificate"},
	{SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, "a record came broken"},
	{SSL_R_SSLV3_ALERT_BAD_RECORD_MAC, "a record reached the peer broken"},
};

const char *fl_tls_explain(long refusal, unsigned long code)
{
	const char *text;

	if (refusal != X509_V_OK)
		return explain_refusal(refusal);
	for (size_t i = 0;
	     ERR_GET_LIB(code) == ERR_LIB_SSL && i < sizeof(causes) / sizeof(causes[0]); i++) {
		if (ERR_GET_REASON(code) == causes[i].reason)
			return causes[i].text;
	}
	text = ERR_reason_error_string(code);
	return text ? text : "failed without a reason";
}
