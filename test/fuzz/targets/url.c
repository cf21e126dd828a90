/*
 * url.c: any text as cache_aside.redis_url (redis_url.c), through the check hook and the parser.
 *
 * Holds: no part is longer than its buffer, and what is refused is never quoted (a secret may be in
 * it). Bites: `n + 1 >= size` in decode() made `n >= size` is found within seconds.
 */
#include "fuzz.h"

#include "redis/redis.h"
#include "redis/redis_private.h"

char *guc_redis_url;

static void
check_parts(const CaRedisUrl *url)
{
	FUZZ_CHECK(strlen(url->path) < sizeof(url->path));
	FUZZ_CHECK(strlen(url->host) < sizeof(url->host));
	FUZZ_CHECK(strlen(url->user) < sizeof(url->user));
	FUZZ_CHECK(strlen(url->password) < sizeof(url->password));
	FUZZ_CHECK((url->path[0] != '\0') != (url->port > 0));
	FUZZ_CHECK(url->port <= 65535 && url->db >= 0);
}

static void
try(void *arg)
{
	char *setting = fuzz_rest_text(arg);
	CaRedisUrl *url = palloc(sizeof(CaRedisUrl)); /* alone, so that its end is seen */
	const char *reason = ca_redis_url_parse(setting, url);

	if (reason == NULL)
		check_parts(url);
	FUZZ_CHECK(ca_redis_url_check(&setting, NULL, PGC_S_FILE) == (reason == NULL));
	guc_redis_url = setting;
	FUZZ_CHECK((ca_redis_url_endpoint()[0] != '\0') == (reason == NULL));
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput input = {data, data + size};

	FUZZ_CHECK(fuzz_run(try, &input));
	return 0;
}
