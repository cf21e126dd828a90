/*
 * init.c: settings of the connection to Redis.
 *
 * Settings that reach outside the server (endpoint, secrets) are SIGHUP and visible to superusers
 * only: a role that could set them per session could aim the server at any host.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/credential.h"
#include "redis/redis.h"
#include "redis/redis_tls.h"

char *guc_redis_url;
char *guc_redis_password_file;
char *guc_redis_credential_command;
int guc_redis_credential_timeout;
char *guc_redis_sentinel_user;
char *guc_redis_sentinel_password_file;
int guc_connect_timeout;
int guc_command_timeout;
char *guc_tls_ca_file;
char *guc_tls_cert_file;
char *guc_tls_key_file;
int guc_tls_verify;
char *guc_tls_server_name;

CA_RANGE(connect_timeout, 10, 60000, " ms",
		 "One second suits most networks; an outage is known only after this time.")
CA_RANGE(command_timeout, 10, 60000, " ms",
		 "Redis answers within milliseconds; what is not answered in time is sent again.")

CA_RANGE(redis_credential_timeout, 100, 600000, " ms",
		 "A token is signed within a second; who waits for a credential waits so long.")

static void
define_credentials(void)
{
	DefineCustomStringVariable(
		"cache_aside.redis_credential_command",
		"Program that prints user, password and when they expire.",
		"Run by the worker, without a shell, before it connects and before the credential expires; "
		"prints lines \"user NAME\", \"password SECRET\", \"expires SECONDS\".",
		&guc_redis_credential_command, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
		ca_credential_words_check, NULL, NULL);
	ca_settings_number("cache_aside.redis_credential_timeout",
					   "Longest time that redis_credential_command may take.",
					   "From 100 ms to 10 min; then it is killed with all that it began.",
					   &guc_redis_credential_timeout, 10000, PGC_SIGHUP, GUC_UNIT_MS,
					   check_redis_credential_timeout);
}

static bool
check_sentinel_user(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < CA_REDIS_MAX_USER)
		return true;
	GUC_check_errdetail("It is longer than %d bytes.", CA_REDIS_MAX_USER - 1);
	return false;
}

static const struct config_enum_entry verify_options[] = {
	{"full", CA_VERIFY_FULL, false},
	{"ca", CA_VERIFY_CA, false},
	{"none", CA_VERIFY_NONE, false},
	{NULL, 0, false},
};

static void
define_tls_settings(void)
{
	DefineCustomStringVariable(
		"cache_aside.redis_tls_ca_file", "Authorities that may sign the certificate of Redis.",
		"A file in PEM format; empty: the system's store. For rediss://, as all settings of TLS.",
		&guc_tls_ca_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, ca_redis_tls_settings_check_ca,
		ca_redis_tls_settings_assign_ca, NULL);
	/* the key is defined first: the certificate's hook looks for it */
	DefineCustomStringVariable(
		"cache_aside.redis_tls_key_file", "Private key of redis_tls_cert_file.",
		"Rights as for ssl_key_file; empty: it is in the file of the certificate.",
		&guc_tls_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, ca_redis_tls_settings_check_key,
		ca_redis_tls_settings_assign_key, NULL);
	DefineCustomStringVariable("cache_aside.redis_tls_cert_file",
							   "Certificate that is shown to Redis, if it asks for one.",
							   "A file in PEM format, with the chain behind it; empty: none.",
							   &guc_tls_cert_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   ca_redis_tls_settings_check_cert, ca_redis_tls_settings_assign_cert,
							   NULL);
	DefineCustomEnumVariable("cache_aside.redis_tls_verify",
							 "What is checked of the certificate of Redis.",
							 "full: authority and host; ca: the authority only; none: nothing, and "
							 "anybody may answer.",
							 &guc_tls_verify, CA_VERIFY_FULL, verify_options, PGC_SIGHUP,
							 GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"cache_aside.redis_tls_server_name",
		"Name that is asked for (SNI) and looked for in the certificate.",
		"Empty: the host of redis_url. For a tunnel, or a Redis reached by its address.",
		&guc_tls_server_name, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, ca_redis_tls_settings_check_name,
		NULL, NULL);
}

static void
define_settings(void)
{
	DefineCustomStringVariable("cache_aside.redis_url", "Redis server that holds the cache.",
							   "redis://[user[:password]@]host[:port][/db], "
							   "unix:///path/redis.sock?db=N or "
							   "redis+sentinel://host:port,host:port,.../name[/db]",
							   &guc_redis_url, "", PGC_SIGHUP, /* no Redis that was not asked for */
							   GUC_SUPERUSER_ONLY, ca_redis_url_check, NULL, NULL);
	DefineCustomStringVariable("cache_aside.redis_password_file",
							   "File whose first line is the password for Redis.",
							   "Read again at each connection, so that a rotated password needs no "
							   "restart; overrides the password in redis_url.",
							   &guc_redis_password_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   ca_credential_words_check_file, NULL, NULL);
	DefineCustomStringVariable("cache_aside.redis_sentinel_user", "User at the Sentinels.",
							   "Empty: the default one. That in redis_url is for Redis.",
							   &guc_redis_sentinel_user, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_sentinel_user, NULL, NULL);
	DefineCustomStringVariable("cache_aside.redis_sentinel_password_file",
							   "File whose first line is the password for the Sentinels.",
							   "Read again at each connection. Empty: they want none.",
							   &guc_redis_sentinel_password_file, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	ca_settings_number("cache_aside.connect_timeout",
					   "Longest time to establish a connection to Redis.",
					   "From 10 ms to 60 s; name resolution and login included.",
					   &guc_connect_timeout, 1000, PGC_SIGHUP, GUC_UNIT_MS, check_connect_timeout);
	ca_settings_number("cache_aside.command_timeout",
					   "Longest time to wait for an answer from Redis.",
					   "From 10 ms to 60 s; then the connection is made anew.",
					   &guc_command_timeout, 2000, PGC_SIGHUP, GUC_UNIT_MS, check_command_timeout);
}

void
ca_redis_init(void)
{
	define_settings();
	define_credentials();
	if (ca_preload_done())
		ca_preload_shmem(ca_credential_shmem_request, ca_credential_shmem_init);
	define_tls_settings();
}
