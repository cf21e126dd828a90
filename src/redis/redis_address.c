/*
 * redis_address.c: where a Redis is, as a value that is passed along.
 *
 * Whoever connects names the address, so that one process may talk to several; most take that of the
 * settings. It holds a secret: copies are kept where the connection is, and nothing here shows it.
 *
 * Nothing can fail: what the settings say was checked when they were set.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_private.h"
#include "redis/redis_tls.h"

#include "common/hashfn.h"

void
ca_redis_address_of_settings(CaRedisAddress *address)
{
	if (ca_redis_url_parse(guc_redis_url, address) != NULL)
	{
		explicit_bzero(address, sizeof(*address));
		return;
	}
	if (address->sentinel_name[0])
	{
		strlcpy(address->sentinel_user, guc_redis_sentinel_user, sizeof(address->sentinel_user));
		strlcpy(address->sentinel_password_file, guc_redis_sentinel_password_file,
				sizeof(address->sentinel_password_file));
	}
	if (guc_redis_credential_command && guc_redis_credential_command[0])
	{
		address->credentials = CA_CREDENTIALS_COMMAND;
		explicit_bzero(address->password, sizeof(address->password));
	}
	else if (guc_redis_password_file && guc_redis_password_file[0])
	{
		address->credentials = CA_CREDENTIALS_FILE;
		explicit_bzero(address->password, sizeof(address->password));
		strlcpy(address->password_file, guc_redis_password_file, sizeof(address->password_file));
	}
	if (address->tls)
		address->tls_state = ca_redis_tls_settings_state();
}

static void
name_one_host(CaRedisAddress *address, const CaRedisHost *host)
{
	address->sentinel_name[0] = '\0';
	address->nhosts = 1;
	address->hosts[0] = *host;
}

/* They have users of their own; TLS is as with the master. */
void
ca_redis_address_of_sentinel(CaRedisAddress *address, const CaRedisHost *sentinel)
{
	name_one_host(address, sentinel);
	address->db = 0;
	address->credentials =
		address->sentinel_password_file[0] ? CA_CREDENTIALS_FILE : CA_CREDENTIALS_GIVEN;
	strlcpy(address->user, address->sentinel_user, sizeof(address->user));
	explicit_bzero(address->password, sizeof(address->password));
	strlcpy(address->password_file, address->sentinel_password_file,
			sizeof(address->password_file));
}

void
ca_redis_address_of_master(CaRedisAddress *address, const CaRedisHost *master)
{
	name_one_host(address, master);
}

bool
ca_redis_address_is_host(const CaRedisHost *a, const CaRedisHost *b)
{
	return a->port == b->port && pg_strcasecmp(a->name, b->name) == 0;
}

static bool
same_hosts(const CaRedisAddress *a, const CaRedisAddress *b)
{
	if (a->nhosts != b->nhosts)
		return false;
	for (int i = 0; i < a->nhosts; i++)
		if (strcmp(a->hosts[i].name, b->hosts[i].name) != 0 || a->hosts[i].port != b->hosts[i].port)
			return false;
	return true;
}

bool
ca_redis_address_is_place_of(const CaRedisAddress *a, const CaRedisAddress *b)
{
	return a->tls == b->tls && strcmp(a->path, b->path) == 0 && same_hosts(a, b) &&
		   a->db == b->db && strcmp(a->user, b->user) == 0 && a->credentials == b->credentials &&
		   strcmp(a->password, b->password) == 0 &&
		   strcmp(a->password_file, b->password_file) == 0 &&
		   strcmp(a->sentinel_name, b->sentinel_name) == 0 &&
		   strcmp(a->sentinel_user, b->sentinel_user) == 0 &&
		   strcmp(a->sentinel_password_file, b->sentinel_password_file) == 0;
}

const char *
ca_redis_address_problem(const CaRedisAddress *address)
{
	return address->tls ? ca_redis_tls_settings_problem() : NULL;
}

static uint64
add_text(uint64 hash, const char *word)
{
	return hash_bytes_extended((const unsigned char *) word, (int) strlen(word), hash);
}

uint64
ca_redis_address_hash(const CaRedisAddress *address)
{
	uint64 hash = hash_combine64(address->tls_state, address->tls + 2 * (uint64) address->db);

	for (int i = 0; i < address->nhosts; i++)
		hash = hash_combine64(add_text(hash, address->hosts[i].name), address->hosts[i].port);
	hash = add_text(add_text(hash, address->path), address->user);
	hash = add_text(hash_combine64(hash, address->credentials), address->password);
	hash = add_text(add_text(hash, address->password_file), address->sentinel_name);
	return add_text(hash, address->sentinel_user);
}

char *
ca_redis_address_endpoint(const CaRedisAddress *address)
{
	const CaRedisHost *host = &address->hosts[0];
	bool brackets = strchr(host->name, ':') != NULL;

	if (address->path[0])
		return psprintf("%s?db=%d", address->path, address->db);
	if (address->nhosts == 0)
		return pstrdup("");
	if (address->sentinel_name[0])
		return psprintf("sentinel:%s/%d", address->sentinel_name, address->db);
	return psprintf("%s%s%s:%d/%d", brackets ? "[" : "", host->name, brackets ? "]" : "",
					host->port, address->db);
}
