/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "link/tls_ends_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "link/tls.h"

/* What goes over a TLS stream once both have met, and how it ends. */

#define RECORD 16384
#define BIG    (8 * 1024 * 1024)

/* Closing says that all was sent; a connection that just ends was cut. */
static void end_and_truncation_differ(void **state)
{
	struct tls_ends ends;
	char got[8];

	(void)state;
	tls_shaken(&ends);
	assert_int_equal(tls_send(ends.server, "last", 4), 4);
	fl_stream_close(ends.server);
	assert_int_equal(tls_recv(ends.client, got, sizeof(got)), 4);
	assert_int_equal(tls_recv(ends.client, got, sizeof(got)), 0);
	assert_int_equal(tls_recv(ends.client, got, sizeof(got)), 0);
	assert_true(fl_stream_pending(ends.client));
	fl_stream_close(ends.client);

	tls_shaken(&ends);
	assert_int_equal(tls_send(ends.server, "last", 4), 4);
	assert_int_equal(shutdown(fl_stream_fd(ends.server), SHUT_WR), 0);
	assert_int_equal(tls_recv(ends.client, got, sizeof(got)), 4);
	assert_int_equal(tls_recv(ends.client, got, sizeof(got)), -ECONNRESET);
	assert_non_null(strstr(fl_stream_reason(ends.client), "without the end of TLS"));
	tls_close_ends(&ends);
}

static void broken_records_are_named(void **state)
{
	static const uint8_t record[] = {0x17, 3, 3, 0, 32, 'n', 'o', 't', ' ', 'o', 'u', 'r', 's',
					 0,    0, 0, 0, 0,  0,   0,   0,   0,   0,   0,   0,   0,
					 0,    0, 0, 0, 0,  0,   0,   0,   0,   0,   0};
	struct tls_ends ends;
	char byte;

	(void)state;
	tls_shaken(&ends);
	assert_int_equal(send(fl_stream_fd(ends.server), record, sizeof(record), 0),
			 sizeof(record));
	assert_int_equal(tls_recv(ends.client, &byte, 1), -EPROTO);
	assert_non_null(strstr(fl_stream_reason(ends.client), "a record came broken"));
	/* The other side hears what was wrong. */
	assert_int_equal(tls_recv(ends.server, &byte, 1), -EPROTO);
	assert_non_null(strstr(fl_stream_reason(ends.server), "a record reached the peer broken"));
	tls_close_ends(&ends);
}

static void sending_to_nobody_fails_quietly(void **state)
{
	struct tls_ends ends;
	int64_t ret;

	(void)state;
	tls_shaken(&ends);
	fl_stream_close(ends.server);
	do
		ret = tls_send(ends.client, "x", 1);
	while (ret > 0);
	assert_int_equal(ret, -EPIPE);
	fl_stream_close(ends.client);
}

/* What OpenSSL has read ahead is told of as long as it is a whole record, and no longer. */
static void pending_tells_of_whole_records(void **state)
{
	struct tls_ends ends;
	uint8_t raw[4096], got[16];
	int relay[2], from;
	ssize_t len;

	(void)state;
	tls_shaken(&ends);
	assert_false(fl_stream_pending(ends.client));
	assert_int_equal(tls_send(ends.server, "one", 3), 3);
	assert_int_equal(tls_send(ends.server, "two", 3), 3);
	assert_int_equal(tls_recv(ends.client, got, 1), 1);
	assert_true(fl_stream_pending(ends.client));
	assert_int_equal(tls_recv(ends.client, got, 2), 2);
	assert_true(fl_stream_pending(ends.client));
	assert_int_equal(tls_recv(ends.client, got, 16), 3);
	assert_memory_equal(got, "two", 3);
	assert_false(fl_stream_pending(ends.client));
	assert_int_equal(fl_stream_events(ends.client), POLLIN);

	/* Holds back the last byte of the second of two records. */
	assert_int_equal(tls_send(ends.server, "one", 3), 3);
	assert_int_equal(tls_send(ends.server, "two", 3), 3);
	from = fl_stream_fd(ends.client);
	len = recv(from, raw, sizeof(raw), 0);
	assert_in_range(len, 50, 100);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, relay), 0);
	assert_int_equal(dup2(relay[0], from), from);
	assert_int_equal(fcntl(from, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(send(relay[1], raw, (size_t)len - 1, 0), len - 1);
	assert_int_equal(tls_recv(ends.client, got, 3), 3);
	assert_true(fl_stream_pending(ends.client));
	assert_int_equal(tls_recv(ends.client, got, 3), -EAGAIN);
	assert_false(fl_stream_pending(ends.client));
	assert_int_equal(send(relay[1], raw + len - 1, 1, 0), 1);
	assert_int_equal(tls_recv(ends.client, got, 3), 3);
	assert_memory_equal(got, "two", 3);
	tls_close_ends(&ends);
	assert_int_equal(close(relay[0]) | close(relay[1]), 0);
}

/* Fills the connection with records of a pattern until one does not go out whole. */
static uint64_t fill(struct fl_stream *stream, uint8_t *bytes, uint64_t seed)
{
	uint64_t sent = 0;
	int64_t ret;

	for (;; sent += RECORD) {
		test_pattern(bytes, RECORD, sent, seed);
		ret = tls_send(stream, bytes, RECORD);
		if (ret == -EAGAIN)
			return sent;
		assert_int_equal(ret, RECORD);
	}
}

static uint64_t take_pattern(struct fl_stream *stream, uint64_t at, uint64_t seed)
{
	uint8_t got[RECORD];
	int64_t ret = tls_recv(stream, got, 8);

	if (ret == -EAGAIN)
		return 0;
	assert_int_equal(ret, 8);
	assert_filled(got, 8, at, seed);
	return 8;
}

/* A record that did not go out whole is sent as it was, whatever its bytes have become since, and
 * however few of them are offered again. */
static void records_under_way_are_kept(void **state)
{
	uint8_t bytes[RECORD], zeros[RECORD] = {0};
	uint64_t end, received = 0, told = 0;
	struct tls_ends ends;
	int fds[2];
	int64_t ret;

	(void)state;
	tls_connect_tcp(fds);
	tls_shaken_over(&ends, fds);
	end = fill(ends.client, bytes, 3) + RECORD;
	assert_int_equal(fl_stream_events(ends.client) & POLLOUT, POLLOUT);
	/* What waits goes out while its sender offers one byte of zero. */
	while (told == 0) {
		received += take_pattern(ends.server, received, 3);
		ret = tls_send(ends.client, zeros, 1);
		assert_true(ret == 1 || ret == -EAGAIN);
		told += ret == 1;
	}
	/* The rest of it is counted off, and nothing of it goes out a second time. */
	for (; told < RECORD; told += (uint64_t)ret) {
		ret = tls_send(ends.client, zeros, RECORD - told < 1000 ? RECORD - told : 1000);
		assert_true(ret > 0);
	}
	while (received < end)
		received += take_pattern(ends.server, received, 3);
	assert_int_equal(tls_recv(ends.server, bytes, 1), -EAGAIN);
	assert_int_equal(tls_send(ends.client, "on", 2), 2);
	while ((ret = tls_recv(ends.server, bytes, 2)) == -EAGAIN)
		;
	assert_int_equal(ret, 2);
	assert_memory_equal(bytes, "on", 2);
	tls_close_ends(&ends);
}

/* Puts a new connection between both, whose way from the client is full; the server is not there yet. */
static uint64_t insert_full(struct tls_ends *ends, int relay[2])
{
	static const uint8_t junk[4096];
	uint64_t filled = 0;
	ssize_t n;

	tls_connect_pair(relay);
	while ((n = send(relay[0], junk, sizeof(junk), MSG_DONTWAIT)) > 0)
		filled += (uint64_t)n;
	while ((n = send(relay[0], junk, 1, MSG_DONTWAIT)) > 0)
		filled += (uint64_t)n;
	assert_int_equal(dup2(relay[0], fl_stream_fd(ends->client)), fl_stream_fd(ends->client));
	return filled;
}

/* The server asks for new keys, which the client has to tell before it can send a record: the socket
 * has no room, the record was not looked at, and its bytes change before it is. */
static void new_keys_go_before_what_was_offered(void **state)
{
	uint8_t bytes[RECORD], received[RECORD], junk[4096];
	int64_t got = 0;
	struct tls_ends ends;
	uint64_t filled;
	int relay[2];

	(void)state;
	tls_shaken(&ends);
	assert_int_equal(SSL_key_update(fl_tls_of(ends.server)->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(tls_send(ends.server, "x", 1), 1);
	assert_int_equal(tls_recv(ends.client, junk, 1), 1);
	filled = insert_full(&ends, relay);
	test_pattern(bytes, RECORD, 0, 4);
	assert_int_equal(tls_send(ends.client, bytes, RECORD), -EAGAIN);
	memset(bytes, 0, RECORD);
	while (filled > 0) {
		ssize_t n = recv(relay[1], junk, filled < 4096 ? filled : 4096, 0);

		assert_true(n > 0);
		filled -= (uint64_t)n;
	}
	assert_int_equal(dup2(relay[1], fl_stream_fd(ends.server)), fl_stream_fd(ends.server));
	while (got <= 0) {
		(void)tls_send(ends.client, bytes, RECORD);
		got = tls_recv(ends.server, received, RECORD);
		assert_true(got == -EAGAIN || got == RECORD);
	}
	assert_filled(received, RECORD, 0, 4);
	tls_close_ends(&ends);
	assert_int_equal(close(relay[0]) | close(relay[1]), 0);
}

/* One direction of a large transfer. */
struct flow {
	struct fl_stream *from, *to;
	uint8_t *source, *sink;
	uint64_t seed, sent, got;
	unsigned int blocked;
};

static void flow_init(struct flow *flow, struct fl_stream *from, struct fl_stream *to,
		      uint64_t seed)
{
	*flow = (struct flow){.from = from, .to = to, .seed = seed};
	flow->source = malloc(BIG);
	flow->sink = calloc(1, BIG);
	assert_true(flow->source && flow->sink);
	test_pattern(flow->source, BIG, 0, seed);
}

static int cut(struct iovec *iov, uint8_t *memory, uint64_t at, size_t longest, unsigned int *seed)
{
	int count = 0, most = 1 + rand_r(seed) % 64;

	while (count < most && at < BIG) {
		size_t len = (size_t)rand_r(seed) % longest;

		if (len > BIG - at)
			len = BIG - at;
		iov[count++] = (struct iovec){.iov_base = memory + at, .iov_len = len};
		at += len;
	}
	return count;
}

static void flow_step(struct flow *flow, unsigned int *seed)
{
	size_t longest = rand_r(seed) % 2 ? 100 : 100000;
	struct iovec iov[64];
	int64_t ret;

	if (flow->sent < BIG) {
		ret = fl_stream_send(flow->from, iov,
				     cut(iov, flow->source, flow->sent, longest, seed));
		assert_true(ret >= 0 || ret == -EAGAIN);
		flow->blocked += ret == -EAGAIN;
		flow->sent += ret > 0 ? (uint64_t)ret : 0;
	}
	if (flow->got < BIG && rand_r(seed) % 3 == 0) {
		ret = fl_stream_recv(flow->to, iov, cut(iov, flow->sink, flow->got, longest, seed));
		assert_true(ret >= 0 || ret == -EAGAIN);
		flow->got += ret > 0 ? (uint64_t)ret : 0;
	}
}

static void flow_check(struct flow *flow)
{
	assert_int_equal(flow->sent, BIG);
	assert_true(flow->blocked > 10);
	assert_filled(flow->sink, BIG, 0, flow->seed);
	free(flow->source);
	free(flow->sink);
}

static void flow_both_ways(struct tls_ends *ends)
{
	struct flow there, back;
	unsigned int seed = 5;

	flow_init(&there, ends->client, ends->server, 1);
	flow_init(&back, ends->server, ends->client, 2);
	/* The last record may arrive before its sender has been told that it went. */
	while (there.got < BIG || back.got < BIG || there.sent < BIG || back.sent < BIG) {
		flow_step(&there, &seed);
		flow_step(&back, &seed);
	}
	flow_check(&there);
	flow_check(&back);
	assert_int_equal(ERR_peek_error(), 0);
	tls_close_ends(ends);
}

static void much_goes_both_ways(void **state)
{
	struct tls_ends ends;
	int fds[2];

	(void)state;
	tls_connect_tcp(fds);
	tls_shaken_over(&ends, fds);
	flow_both_ways(&ends);
}

/* A client may ask for records shorter than those we make (RFC 6066, section 4). */
static void peers_may_want_short_records(void **state)
{
	struct fl_tls *client = tls_load("peer", "authority"),
		      *server = tls_load("host", "authority");
	struct tls_ends ends;
	int fds[2];

	(void)state;
	assert_int_equal(
		SSL_CTX_set_tlsext_max_fragment_length(client->ctx, TLSEXT_max_fragment_length_512),
		1);
	tls_connect_tcp(fds);
	tls_shake_over(&ends, fds, client, server, "localhost");
	assert_int_equal(ends.client_rc, 1);
	flow_both_ways(&ends);
	fl_tls_free(client);
	fl_tls_free(server);
}

/* Closing does not wait for a socket that takes nothing. */
static void closing_does_not_wait(void **state)
{
	uint8_t bytes[RECORD] = {0};
	struct tls_ends ends;

	(void)state;
	tls_shaken(&ends);
	while (tls_send(ends.client, bytes, RECORD) > 0)
		;
	tls_close_ends(&ends);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(end_and_truncation_differ),
		cmocka_unit_test(broken_records_are_named),
		cmocka_unit_test(sending_to_nobody_fails_quietly),
		cmocka_unit_test(pending_tells_of_whole_records),
		cmocka_unit_test(records_under_way_are_kept),
		cmocka_unit_test(new_keys_go_before_what_was_offered),
		cmocka_unit_test(much_goes_both_ways),
		cmocka_unit_test(peers_may_want_short_records),
		cmocka_unit_test(closing_does_not_wait),
	};

	return cmocka_run_group_tests_name("link_tls_stream", tests, tls_make_certificates,
					   tls_remove_certificates);
}
