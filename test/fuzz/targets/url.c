/*
 * url.c: any text as cache_aside.redis_url (redis_url.c), through the check hook and the parser.
 *
 * Holds: no part is longer than its buffer, and what is refused is never quoted (a secret may be in
 * it). Bites: `n + 1 >= size` in decode() made `n >= size` is found within seconds.
 */
#include "fuzz.h"

#include "access/xact.h"

#include "redis/redis.h"
#include "redis/redis_private.h"
#include "redis/redis_tls.h"

char *guc_redis_url;
char *guc_redis_password_file;
char *guc_redis_credential_command;

bool
IsTransactionState(void)
{
	return false;
}
char *guc_redis_sentinel_user = "watcher";
char *guc_redis_sentinel_password_file = "/dev/null";

#define NAME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

/* The files of TLS have nothing to do with what is tried. */
uint64
ca_redis_tls_settings_state(void)
{
	return 1;
}

static void
check_parts(const CaRedisAddress *address)
{
	FUZZ_CHECK(strlen(address->path) < sizeof(address->path));
	FUZZ_CHECK(strlen(address->user) < sizeof(address->user));
	FUZZ_CHECK(strlen(address->password) < sizeof(address->password));
	FUZZ_CHECK((address->path[0] != '\0') != (address->nhosts > 0));
	FUZZ_CHECK(address->nhosts <= CA_REDIS_MAX_HOSTS && address->db >= 0);
	FUZZ_CHECK(strlen(address->sentinel_name) < sizeof(address->sentinel_name));
	FUZZ_CHECK(address->sentinel_name[0] != '\0' || address->nhosts <= 1);
	FUZZ_CHECK(strspn(address->sentinel_name, NAME) == strlen(address->sentinel_name));
	for (const CaRedisHost *host = address->hosts; host < address->hosts + address->nhosts; host++)
	{
		FUZZ_CHECK(host->name[0] != '\0' && strlen(host->name) < sizeof(host->name));
		FUZZ_CHECK(host->port > 0 && host->port <= 65535);
	}
}

static void
try(void *arg)
{
	char *setting = fuzz_rest_text(arg);
	CaRedisAddress *address = palloc(sizeof(CaRedisAddress)); /* alone, so that its end is seen */
	const char *reason = ca_redis_url_parse(setting, address);

	if (reason == NULL)
		check_parts(address);
	FUZZ_CHECK(ca_redis_url_check(&setting, NULL, PGC_S_FILE) == (reason == NULL));
	guc_redis_url = setting;
	ca_redis_address_of_settings(address);
	FUZZ_CHECK((ca_redis_address_endpoint(address)[0] != '\0') == (reason == NULL));
}

const FuzzTarget fuzz_target = {try, .raises = false};
