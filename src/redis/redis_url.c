/*
 * redis_url.c: where Redis is, read from the setting cache_aside.redis_url.
 *
 *	redis://[user[:password]@]host[:port][/db]      rediss:// is the same through TLS
 *	unix://[user[:password]@]/path/redis.sock[?db=N]
 *	redis+sentinel://[user[:password]@]host[:port],host[:port],.../name[/db]   and rediss+sentinel://:
 *	                 Sentinels, and the name of a master there (sentinel.c)
 *
 * Every part may be percent-encoded, and must be where it holds a character that ends the part (an
 * at sign, slash or colon in a password). An IPv6 literal stands in brackets.
 *
 * What can fail: only the text. The parser then returns a reason, a constant of this file: neither
 * it nor the message of the check hook ever quotes the text, because PostgreSQL writes both to the
 * log and a mistyped URL still contains the password.
 *
 * There is no default: whoever gave none, or one that is refused when the server starts, has no Redis
 * (PostgreSQL then goes on with the boot value, which is empty), and ca_redis_url_lacking says why.
 *
 * Memory: none is allocated while parsing (fixed arrays, longer parts are refused), so the check
 * hook may run in the postmaster. No locks. State: the reason of the last refusal, which children
 * inherit from the postmaster.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_private.h"
#include "redis/redis_tls.h"

#include <arpa/inet.h>

#include "access/xact.h"
#include "utils/guc.h"

#define CA_NO_TLS "rediss:// needs TLS, and this build of cache_aside is one without OpenSSL."

static const char *refused; /* why; NULL: the last value was taken */

/* Decodes %XX of from..end into a NUL-terminated buffer. False: bad escape, NUL, or too long. */
static bool
decode(const char *from, const char *end, char *to, Size size)
{
	Size n = 0;

	while (from < end)
	{
		unsigned char c = (unsigned char) *from++;

		if (c == '%')
		{
			char hex[3] = {0};

			if (end - from < 2 || !isxdigit((unsigned char) from[0]) ||
				!isxdigit((unsigned char) from[1]))
				return false;
			memcpy(hex, from, 2);
			c = (unsigned char) strtol(hex, NULL, 16);
			from += 2;
		}
		if (c == '\0' || n + 1 >= size)
			return false;
		to[n++] = (char) c;
	}
	to[n] = '\0';
	return true;
}

/* Plain decimal digits, no sign, at most `max`. */
static bool
parse_number(const char *from, const char *end, int max, int *number)
{
	int64 value = 0;

	if (from == end)
		return false;
	for (; from < end; from++)
	{
		if (*from < '0' || *from > '9')
			return false;
		value = value * 10 + (*from - '0');
		if (value > max)
			return false;
	}
	*number = (int) value;
	return true;
}

static const char *
parse_db(const char *from, const char *end, CaRedisAddress *address)
{
	if (!parse_number(from, end, PG_INT32_MAX, &address->db))
		return "The database must be a number from 0 to 2147483647.";
	return NULL;
}

/* "user", "user:password" or ":password", without the at sign */
static const char *
parse_user(const char *from, const char *end, CaRedisAddress *address)
{
	const char *colon = memchr(from, ':', end - from);

	if (!decode(from, colon ? colon : end, address->user, sizeof(address->user)))
		return "The user name is too long or wrongly percent-encoded.";
	if (colon && !decode(colon + 1, end, address->password, sizeof(address->password)))
		return "The password is too long or wrongly percent-encoded.";
	return NULL;
}

/* Inside brackets: an IPv6 address, with a scope behind a percent sign if it has one. */
static const char *
check_ipv6(const char *host)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr ignored;
	Size len = strcspn(host, "%");

	if (len < sizeof(address))
	{
		memcpy(address, host, len);
		address[len] = '\0';
		if (inet_pton(AF_INET6, address, &ignored) == 1)
			return NULL;
	}
	return "What stands in brackets is not an IPv6 address.";
}

static const char *
check_name(const char *host)
{
	if (host[0] == '\0')
		return "The host is missing.";
	for (const char *p = host; *p; p++)
	{
		if (!isalnum((unsigned char) *p) && strchr(".-_", *p) == NULL)
			return "The host contains a character that host names do not have.";
	}
	return NULL;
}

/* "host", "host:port", "[v6]" or "[v6]:port" */
static const char *
parse_host(const char *from, const char *end, int default_port, CaRedisHost *host)
{
	bool brackets = from < end && *from == '[';
	const char *stop = memchr(from, brackets ? ']' : ':', end - from);
	const char *rest;

	if (brackets && stop == NULL)
		return "The bracket around the IPv6 address is not closed.";
	rest = stop == NULL ? end : stop + (brackets ? 1 : 0);
	if (!brackets && rest < end && memchr(rest + 1, ':', end - rest - 1))
		return "The host or port contains a colon: an IPv6 address must stand in brackets, and a "
			   "colon, slash or at sign in a user name or password must be percent-encoded.";
	if (!decode(from + (brackets ? 1 : 0), stop ? stop : end, host->name, sizeof(host->name)))
		return "The host is too long or wrongly percent-encoded.";
	if (rest < end && *rest != ':')
		return "Only a colon and the port may follow the bracket.";
	host->port = default_port;
	if (rest < end && (!parse_number(rest + 1, end, 65535, &host->port) || host->port == 0))
		return "The port must be a number from 1 to 65535; a colon, slash or at sign in a user "
			   "name or password must be percent-encoded.";
	return brackets ? check_ipv6(host->name) : check_name(host->name);
}

static const char *
parse_network(const char *from, const char *authority_end, CaRedisAddress *address)
{
	const char *reason = parse_host(from, authority_end, CA_REDIS_DEFAULT_PORT, &address->hosts[0]);
	const char *end = authority_end + strlen(authority_end);

	if (reason)
		return reason;
	address->nhosts = 1;
	if (*authority_end == '?' || *authority_end == '#' || strpbrk(authority_end, "?#"))
		return "Nothing may follow the database: no parameters, no fragment.";
	if (end - authority_end <= 1)
		return NULL; /* nothing, or a lone slash */
	return parse_db(authority_end + 1, end, address);
}

/* "host:port,host:port", each once: who is listed twice would count for two */
static const char *
parse_sentinel_hosts(const char *from, const char *end, CaRedisAddress *address)
{
	while (true)
	{
		const char *comma = memchr(from, ',', end - from);
		CaRedisHost *host = &address->hosts[address->nhosts];
		const char *reason;

		if (address->nhosts == CA_REDIS_MAX_HOSTS)
			return "More than 16 Sentinels are listed.";
		reason = parse_host(from, comma ? comma : end, CA_SENTINEL_DEFAULT_PORT, host);
		if (reason)
			return reason;
		for (const CaRedisHost *other = address->hosts; other < host; other++)
			if (other->port == host->port && pg_strcasecmp(other->name, host->name) == 0)
				return "A Sentinel is listed twice.";
		address->nhosts++;
		if (comma == NULL)
			return NULL;
		from = comma + 1;
	}
}

/* As Sentinel itself admits them */
static bool
is_master_name(const char *name)
{
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char) *p) && strchr(".-_", *p) == NULL)
			return false;
	return name[0] != '\0';
}

static const char *
parse_sentinel(const char *from, const char *authority_end, CaRedisAddress *address)
{
	const char *reason = parse_sentinel_hosts(from, authority_end, address);
	const char *name = authority_end + (*authority_end == '/');
	const char *end = name + strcspn(name, "/");

	if (reason)
		return reason;
	if (strpbrk(authority_end, "?#"))
		return "Nothing may follow the database: no parameters, no fragment.";
	if (!decode(name, end, address->sentinel_name, sizeof(address->sentinel_name)) ||
		!is_master_name(address->sentinel_name))
		return "Behind the Sentinels and a slash the name of the master must stand, as they know "
			   "it: letters, digits, dots, hyphens and underscores.";
	if (end[0] == '\0' || end[1] == '\0')
		return NULL; /* nothing, or a lone slash */
	return parse_db(end + 1, end + strlen(end), address);
}

static const char *
parse_unix(const char *from, const char *authority_end, CaRedisAddress *address)
{
	Size len = strcspn(authority_end, "?#");
	const char *query = authority_end + len;

	if (from != authority_end || *authority_end != '/')
		return "The path of a unix socket must be absolute: unix:///path/redis.sock.";
	if (!decode(authority_end, query, address->path, sizeof(address->path)))
		return "The path of the socket is too long or wrongly percent-encoded.";
	if (*query == '\0')
		return NULL;
	if (strncmp(query, "?db=", 4) != 0)
		return "The only parameter is db, as in unix:///path/redis.sock?db=1.";
	return parse_db(query + 4, query + strlen(query), address);
}

const char *
ca_redis_url_parse(const char *setting, CaRedisAddress *address)
{
	static const struct
	{
		const char *begins;
		bool tls;
		const char *(*parse)(const char *from, const char *end, CaRedisAddress *address);
	} schemes[] = {{"redis://", false, parse_network},
				   {"rediss://", true, parse_network},
				   {"unix://", false, parse_unix},
				   {"redis+sentinel://", false, parse_sentinel},
				   {"rediss+sentinel://", true, parse_sentinel}};
	int scheme = 0;
	const char *from;
	const char *end;
	const char *at = NULL;

	memset(address, 0, sizeof(*address));
	if (setting[0] == '\0')
		return "It is empty.";
	while (scheme < lengthof(schemes) &&
		   pg_strncasecmp(setting, schemes[scheme].begins, strlen(schemes[scheme].begins)) != 0)
		scheme++;
	if (scheme == lengthof(schemes))
		return "It must begin with redis://, rediss://, unix://, redis+sentinel:// or "
			   "rediss+sentinel://.";
	address->tls = schemes[scheme].tls;
#ifndef CA_WITH_OPENSSL
	if (address->tls)
		return CA_NO_TLS;
#endif
	from = setting + strlen(schemes[scheme].begins);
	if (pg_strncasecmp(setting, "unix", 4) != 0 && strstr(from, "://"))
		return "It names two schemes; a slash in a password must be percent-encoded.";
	end = from + strcspn(from, "/?#");
	for (const char *p = from; p < end; p++)
		at = *p == '@' ? p : at; /* the last one, as other clients read it */
	if (at)
	{
		const char *reason = parse_user(from, at, address);

		if (reason)
			return reason;
		from = at + 1;
	}
	return schemes[scheme].parse(from, end, address);
}

bool
ca_redis_url_check(char **newval, void **extra, GucSource source)
{
	CaRedisAddress address;
	const char *setting = *newval ? *newval : "";
	const char *reason;

	if (setting[0] == '\0' && source == PGC_S_DEFAULT)
		return true;
	refused = reason = ca_redis_url_parse(setting, &address);
	if (reason == NULL && address.password[0] && IsTransactionState() &&
		guc_redis_credential_command && guc_redis_credential_command[0])
		reason = "cache_aside.redis_credential_command gives the password: leave it out here.";
	explicit_bzero(address.password, sizeof(address.password));
	if (reason == NULL)
		return true;
	GUC_check_errmsg("invalid value for parameter \"cache_aside.redis_url\"");
	GUC_check_errdetail("%s", reason);
	if (strcmp(reason, CA_NO_TLS) == 0)
		GUC_check_errhint("Install the headers of OpenSSL (libssl-dev) and build cache_aside with "
						  "make WITH_OPENSSL=yes, or lead redis:// through a tunnel of your own.");
	else
		GUC_check_errhint("Write redis://[user[:password]@]host[:port][/db], "
						  "unix:///path/redis.sock?db=N, or "
						  "redis+sentinel://[user[:password]@]host:port,host:port,.../name[/db].");
	return false;
}

const char *
ca_redis_url_lacking(void)
{
	static char why[320];

	if (guc_redis_url[0] != '\0')
		return pg_strncasecmp(guc_redis_url, "rediss", 6) == 0 ? ca_redis_tls_settings_lacking()
															   : NULL;
	if (refused == NULL)
		return "cache_aside.redis_url is not set";
	snprintf(why, sizeof(why), "the value of cache_aside.redis_url was refused: %s", refused);
	return why;
}

void
ca_redis_url_require(void)
{
	const char *lacking = ca_redis_url_lacking();
	const char *hint = lacking ? ca_redis_hint(lacking) : NULL;

	if (lacking)
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("%s", lacking),
						errdetail("There is no Redis to ask."),
						errhint("%s", hint ? hint : CA_REDIS_URL_HINT)));
}
