/*
 * redis_tls.c: TLS for rediss://, built when hiredis came with hiredis_ssl (1.0 or newer).
 *
 * hiredis runs the handshake and the records, but checks no host name. So the SSL object is made
 * here: the certificate must be signed by an authority of the system's store (or of the files that
 * SSL_CERT_FILE and SSL_CERT_DIR name) and be issued for the host of the URL, name or address.
 * There is no way to switch that off: an unchecked connection would send the password to anybody.
 *
 * What can fail: a store that cannot be read, a certificate that does not fit, a server that speaks
 * no TLS. The handshake runs while the first command is sent, so failures show up in reading and
 * writing; ca_redis_tls_reason then knows more than hiredis, which reports errno.
 *
 * Memory: OpenSSL's own; the SSL object belongs to the hiredis context once begin has succeeded.
 */
#include "cache_aside.h"
#include "redis/redis_private.h"

#ifdef CA_HAVE_TLS

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static SSL_CTX *
make_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL)
		return NULL;
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
		SSL_CTX_set_default_verify_paths(context) == 1)
		return context;
	SSL_CTX_free(context);
	return NULL;
}

/* The certificate must be issued for this name, or for this address. */
static bool
expect_host(SSL *ssl, const char *host)
{
	struct in6_addr ignored;

	if (inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

void *
ca_redis_tls_begin(struct redisContext *hiredis, const char *host, const char **reason)
{
	SSL_CTX *context;
	SSL *ssl = NULL;

	ERR_clear_error();
	context = make_context();
	if (context)
	{
		ssl = SSL_new(context);
		SSL_CTX_free(context); /* counted: the SSL object keeps it */
	}
	*reason = "TLS cannot be set up";
	if (ssl && expect_host(ssl, host))
	{
		if (redisInitiateSSL(hiredis, ssl) == REDIS_OK)
			return ssl;
		*reason = ca_redis_tls_reason(ssl);
	}
	SSL_free(ssl);
	return NULL;
}

void
ca_redis_tls_prepare(void *tls)
{
	/* what another user of OpenSSL left in this process's queue would be taken for our failure */
	if (tls)
		ERR_clear_error();
}

bool
ca_redis_tls_only_reads(void *tls)
{
	return tls && !SSL_is_init_finished(tls) && SSL_want_read((SSL *) tls);
}

const char *
ca_redis_tls_reason(void *tls)
{
	long verdict = tls ? SSL_get_verify_result(tls) : X509_V_OK;
	unsigned long code = ERR_peek_last_error();

	if (verdict != X509_V_OK)
		return X509_verify_cert_error_string(verdict);
	return tls && code ? ERR_reason_error_string(code) : NULL;
}

#else

void *
ca_redis_tls_begin(struct redisContext *hiredis, const char *host, const char **reason)
{
	*reason = "this build has no TLS";
	return NULL;
}

void
ca_redis_tls_prepare(void *tls)
{
}

bool
ca_redis_tls_only_reads(void *tls)
{
	return false;
}

const char *
ca_redis_tls_reason(void *tls)
{
	return NULL;
}

#endif
