/*
 * redis_tls.h: between redis_tls.c, redis_tls_files.c (the files with OpenSSL) and redis_tls_settings.c.
 */
#ifndef CA_REDIS_TLS_H
#define CA_REDIS_TLS_H

#include "cache_aside.h"
#include "redis/redis.h"

#include "utils/guc.h"

/* Paths; NULL: none */
typedef struct CaTlsFiles
{
	const char *ca;
	const char *certificate;
	const char *key; /* of the certificate, if there is one; may be the same file */
} CaTlsFiles;

/* Can they be used, each and together? NULL, or the end of a sentence about the culprit. */
extern const char *ca_redis_tls_files_check(const CaTlsFiles *files, const char **culprit);

/* What these files hold now goes on to be used if they are broken later; if they are now, what is kept stays. */
extern void ca_redis_tls_files_accept(const CaTlsFiles *files);

/* ---- redis_tls_settings.c ---- */
/* Those of the settings in force */
extern void ca_redis_tls_settings_files(CaTlsFiles *files);
/* Changes with the settings, and with what stands in the files */
extern uint64 ca_redis_tls_settings_state(void);
/* Why there is no TLS as the settings asked for when the server started; NULL: there is */
extern const char *ca_redis_tls_settings_lacking(void);
/* Why the files of the settings cannot be used as they are now; NULL: they can */
extern const char *ca_redis_tls_settings_problem(void);
extern bool ca_redis_tls_settings_check_ca(char **newval, void **extra, GucSource source);
extern bool ca_redis_tls_settings_check_cert(char **newval, void **extra, GucSource source);
extern bool ca_redis_tls_settings_check_key(char **newval, void **extra, GucSource source);
extern void ca_redis_tls_settings_assign_ca(const char *newval, void *extra);
extern void ca_redis_tls_settings_assign_cert(const char *newval, void *extra);
extern void ca_redis_tls_settings_assign_key(const char *newval, void *extra);
extern bool ca_redis_tls_settings_check_name(char **newval, void **extra, GucSource source);

#ifdef CA_WITH_OPENSSL
#include <openssl/ssl.h>

/*
 * With these files, read now; or, with a `reason`, as they were when they could be used. NULL: there was no such time.
 * The caller frees it.
 */
extern SSL_CTX *ca_redis_tls_files_context(const CaTlsFiles *files, char *reason, Size size);
#endif

#endif
