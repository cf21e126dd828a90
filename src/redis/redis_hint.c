/*
 * redis_hint.c: what to do about an error of a connection.
 *
 * Errors travel as text, from the connection over shared memory to whoever is told; so the advice goes by
 * the text. The words of OpenSSL are those of 1.1.1 to 3.x; what it says otherwise gets no advice, and
 * then the one of the cause is given.
 */
#include "cache_aside.h"
#include "redis/redis.h"

#define CA_UNKNOWN_AUTHORITY                                                                       \
	"Name the authority that signed the certificate of Redis in cache_aside.redis_tls_ca_file."
#define CA_OTHER_NAME                                                                              \
	"The certificate of Redis is not for the host in cache_aside.redis_url: have that name or "    \
	"address put into its subjectAltName, or set cache_aside.redis_tls_server_name to a name "     \
	"that "                                                                                        \
	"is there."
#define CA_OWN_CERTIFICATE                                                                         \
	"Redis may ask for a certificate of its clients: set cache_aside.redis_tls_cert_file and "     \
	"cache_aside.redis_tls_key_file, or \"tls-auth-clients no\" in Redis."
#define CA_OTHER_OWN_CERTIFICATE                                                                   \
	"Redis refuses the certificate in cache_aside.redis_tls_cert_file: it must be valid, and "     \
	"signed by an authority in its tls-ca-cert-file."
#define CA_OLD_TLS "Redis must offer TLS 1.2 or 1.3; see tls-protocols there."
#define CA_NO_TLS_THERE                                                                            \
	"Does the port speak TLS (tls-port in Redis)? If it does not, write redis:// in "              \
	"cache_aside.redis_url."
#define CA_TLS_THERE                                                                               \
	"If the port speaks TLS (tls-port in Redis), write rediss:// in cache_aside.redis_url."

static const struct
{
	const char *words; /* of the error */
	const char *hint;
} hints[] = {
	{"certificate has expired",
	 "Renew the certificate of Redis, or that of the authority that signed it; and is the clock of "
	 "this machine right?"},
	{"certificate is not yet valid", "Is the clock of this machine, or of the one that made the "
									 "certificate of Redis, right?"},
	{"self signed certificate", CA_UNKNOWN_AUTHORITY}, /* OpenSSL 1.1.1 */
	{"self-signed certificate", CA_UNKNOWN_AUTHORITY},
	{"unable to get local issuer certificate", CA_UNKNOWN_AUTHORITY},
	{"unable to get issuer certificate", CA_UNKNOWN_AUTHORITY},
	{"unable to verify the first certificate", CA_UNKNOWN_AUTHORITY},
	{"certificate signature failure", CA_UNKNOWN_AUTHORITY},
	{"ostname mismatch", CA_OTHER_NAME},
	{"IP address mismatch", CA_OTHER_NAME},
	{"alert certificate required", CA_OWN_CERTIFICATE},
	{"alert handshake failure", CA_OWN_CERTIFICATE},
	{"alert bad certificate", CA_OTHER_OWN_CERTIFICATE},
	{"alert unknown ca", CA_OTHER_OWN_CERTIFICATE},
	{"alert certificate unknown", CA_OTHER_OWN_CERTIFICATE},
	{"alert certificate expired", CA_OTHER_OWN_CERTIFICATE},
	{"alert certificate revoked", CA_OTHER_OWN_CERTIFICATE},
	{"alert decrypt error", CA_OTHER_OWN_CERTIFICATE},
	{"alert protocol version", CA_OLD_TLS},
	{"unsupported protocol", CA_OLD_TLS},
	{"answers without TLS", CA_NO_TLS_THERE},
	{"TLS: the handshake was not over", CA_NO_TLS_THERE},
	{"closed in the handshake", CA_NO_TLS_THERE},
	{"TLS: the file",
	 "Repair what the settings cache_aside.redis_tls_* name; files are read at each "
	 "attempt."},
	{"the value of cache_aside.redis_tls_", "Repair the file, or the setting, and reload."},
	{"before it said anything", CA_TLS_THERE},
	{"before Redis said anything", CA_TLS_THERE},
};

const char *
ca_redis_hint(const char *error)
{
	for (int i = 0; i < lengthof(hints); i++)
		if (strstr(error, hints[i].words))
			return hints[i].hint;
	return NULL;
}
