/*
 * redis_tls.c: TLS of a connection, by OpenSSL, without waiting.
 *
 * The SSL object speaks through a BIO of our own, which never raises SIGPIPE, and remembers errno, the
 * end of the stream and the first byte that came: an answer in clear is told from a failed handshake.
 * Its context is made from the settings and files as they are at that moment (redis_tls_files.c), so
 * that a renewed certificate is taken by the next connection. There is no session to be resumed: a
 * server that restarts meets nothing but a full handshake, and none is renegotiated.
 *
 * With redis_tls_verify = full the certificate must be issued for the host of the address, or for
 * redis_tls_server_name when that is set, in its subjectAltName; the common name does not count.
 *
 * What can fail: everything outside; nothing raises. Reasons are OpenSSL's own words, in the stream.
 *
 * In this process OpenSSL may also be PostgreSQL's. Nothing of it is changed: there is no
 * initialisation, no clean-up, no default, no callback for the process. What others left in the queue
 * of errors is thrown away before each call, as it would be taken for ours, and we leave none.
 *
 * Memory: OpenSSL's, by malloc; freed by ca_redis_tls_end, which the reset of the connection's memory
 * context reaches, hence also an ERROR.
 */
#include "cache_aside.h"
#include "redis/redis_private.h"
#include "redis/redis_stream.h"
#include "redis/redis_tls.h"

#ifdef CA_WITH_OPENSSL

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "miscadmin.h"

#define CA_RECORD_HANDSHAKE 22 /* the first byte of what a TLS server says first */
#define CA_RECORD_ALERT 21

/* ---- the BIO ---- */

static int
note_call(BIO *bio, ssize_t n, bool reading)
{
	CaStream *stream = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
	{
		if (reading)
			BIO_set_retry_read(bio);
		else
			BIO_set_retry_write(bio);
	}
	else if (n < 0)
		stream->tls_errno = errno;
	else if (n == 0 && reading)
		stream->tls_ended = true;
	return (int) n;
}

static int
read_socket(BIO *bio, char *buffer, int size)
{
	CaStream *stream = BIO_get_data(bio);
	ssize_t n = recv(stream->fd, buffer, size, 0);

	if (n > 0 && stream->tls_first < 0)
		stream->tls_first = (unsigned char) buffer[0];
	return note_call(bio, n, true);
}

static int
write_socket(BIO *bio, const char *bytes, int len)
{
	CaStream *stream = BIO_get_data(bio);

	return note_call(bio, send(stream->fd, bytes, len, MSG_NOSIGNAL), false);
}

static long
control(BIO *bio, int command, long number, void *pointer)
{
	if (command == BIO_CTRL_EOF)
		return ((CaStream *) BIO_get_data(bio))->tls_ended;
	return command == BIO_CTRL_FLUSH; /* nothing is kept here */
}

/* Once for the process; NULL: out of memory. */
static BIO_METHOD *
socket_method(void)
{
	static BIO_METHOD *method;

	if (method == NULL)
	{
		int index = BIO_get_new_index();

		if (index > 0)
			method = BIO_meth_new(index | BIO_TYPE_SOURCE_SINK, "cache_aside socket");
		if (method)
		{
			BIO_meth_set_read(method, read_socket);
			BIO_meth_set_write(method, write_socket);
			BIO_meth_set_ctrl(method, control);
		}
	}
	return method;
}

static bool
attach_socket(CaStream *stream, SSL *ssl)
{
	BIO_METHOD *method = socket_method();
	BIO *bio = method ? BIO_new(method) : NULL;

	if (bio == NULL)
		return false;
	BIO_set_data(bio, stream);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	return true;
}

/* ---- what is expected of the other side ---- */

/* The certificate must be issued for this name, or address; a name is also what we ask for. */
static bool
expect_host(SSL *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	struct in6_addr ignored;
	bool is_address =
		inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1;

	if (!is_address && SSL_set_tlsext_host_name(ssl, host) != 1)
		return false;
	if (guc_tls_verify != CA_VERIFY_FULL)
		return true;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
											   X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1
					  : X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

/* Only the worker, each reason once: sessions are many. */
static void
tell_of_older_ones(const char *reason)
{
	static char told[256];

	if (strcmp(told, reason) == 0)
		return;
	strlcpy(told, reason, sizeof(told));
	if (reason[0] && MyBackendType == B_BG_WORKER)
		ereport(LOG, (errcode(ERRCODE_CONFIG_FILE_ERROR),
					  errmsg("cache_aside connects to Redis with what it read earlier: %s", reason),
					  errhint("Repair what the settings cache_aside.redis_tls_* name.")));
}

bool
ca_redis_tls_begin(CaStream *stream, const char *host)
{
	CaTlsFiles files;
	SSL_CTX *context;
	SSL *ssl;

	ERR_clear_error();
	stream->tls_first = -1;
	ca_redis_tls_settings_files(&files);
	context = ca_redis_tls_files_context(&files, stream->reason, sizeof(stream->reason));
	if (context == NULL)
		return false;
	tell_of_older_ones(stream->reason);
	stream->reason[0] = '\0';
	ERR_clear_error();
	ssl = SSL_new(context);
	SSL_CTX_free(context); /* counted: the SSL object keeps it */
	if (guc_tls_server_name[0])
		host = guc_tls_server_name;
	if (ssl && attach_socket(stream, ssl) && expect_host(ssl, host))
	{
		SSL_set_verify(ssl, guc_tls_verify == CA_VERIFY_NONE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
					   NULL);
		SSL_set_connect_state(ssl);
		stream->tls = ssl;
		return true;
	}
	SSL_free(ssl);
	ERR_clear_error();
	strlcpy(stream->reason, "TLS: it cannot be set up", sizeof(stream->reason));
	return false;
}

/* ---- what went wrong ---- */

static const char *
words_of(unsigned long code)
{
	const char *words = code ? ERR_reason_error_string(code) : NULL;

	return words ? words : "unknown error";
}

static void
explain(CaStream *stream, SSL *ssl)
{
	long verdict = SSL_get_verify_result(ssl);
	const char *why;

	if (!stream->shaken_hands && stream->tls_first >= 0 &&
		stream->tls_first != CA_RECORD_HANDSHAKE && stream->tls_first != CA_RECORD_ALERT)
		why = "the other side answers without TLS";
	else if (guc_tls_verify != CA_VERIFY_NONE && verdict != X509_V_OK)
		why = X509_verify_cert_error_string(verdict);
	else
		why = words_of(ERR_peek_last_error());
	snprintf(stream->reason, sizeof(stream->reason), "TLS: %s", why);
}

/* After a call that moved nothing: 0, or -1 with the reason. */
static int
judge(CaStream *stream, int rc)
{
	SSL *ssl = stream->tls;
	int error = SSL_get_error(ssl, rc);

	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
	{
		ERR_clear_error();
		return 0;
	}
	if (error == SSL_ERROR_ZERO_RETURN || (stream->tls_ended && stream->shaken_hands))
		stream->closed = true;
	else if (stream->tls_errno != 0)
		snprintf(stream->reason, sizeof(stream->reason), "%s", strerror(stream->tls_errno));
	else if (stream->tls_ended && stream->tls_first < 0)
		strlcpy(stream->reason, "TLS: the connection was closed in the handshake",
				sizeof(stream->reason));
	else
		explain(stream, ssl);
	ERR_clear_error();
	return -1;
}

/* ---- moving bytes ---- */

int
ca_redis_tls_shake_hands(CaStream *stream)
{
	SSL *ssl = stream->tls;
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(ssl);
	stream->shaken_hands = rc == 1;
	stream->read_needs_write = !stream->shaken_hands && SSL_want_write(ssl);
	return rc == 1 ? 1 : judge(stream, rc);
}

ssize_t
ca_redis_tls_read(CaStream *stream, char *buffer, Size size)
{
	int rc;

	ERR_clear_error();
	rc = SSL_read(stream->tls, buffer, (int) size);
	stream->read_needs_write = rc <= 0 && SSL_want_write((SSL *) stream->tls);
	stream->write_needs_read = false; /* whatever it waited for may have come */
	return rc > 0 ? rc : judge(stream, rc);
}

ssize_t
ca_redis_tls_write(CaStream *stream, const char *bytes, Size len)
{
	int rc;

	if (len == 0)
		return 0;
	ERR_clear_error();
	rc = SSL_write(stream->tls, bytes, (int) len);
	stream->write_needs_read = rc <= 0 && SSL_want_read((SSL *) stream->tls);
	return rc > 0 ? rc : judge(stream, rc);
}

bool
ca_redis_tls_pending(const CaStream *stream)
{
	return SSL_has_pending(stream->tls) == 1;
}

void
ca_redis_tls_end(CaStream *stream)
{
	SSL_free(stream->tls); /* the BIO and the context with it; NULL is fine */
	stream->tls = NULL;
	ERR_clear_error();
}

#else

bool
ca_redis_tls_begin(CaStream *stream, const char *host)
{
	strlcpy(stream->reason, "TLS: this build has none", sizeof(stream->reason));
	return false;
}

int
ca_redis_tls_shake_hands(CaStream *stream)
{
	return -1;
}

ssize_t
ca_redis_tls_read(CaStream *stream, char *buffer, Size size)
{
	return -1;
}

ssize_t
ca_redis_tls_write(CaStream *stream, const char *bytes, Size len)
{
	return -1;
}

bool
ca_redis_tls_pending(const CaStream *stream)
{
	return false;
}

void
ca_redis_tls_end(CaStream *stream)
{
}

#endif
