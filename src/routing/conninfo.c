/*
 * conninfo.c: is this a connection string that may be handed out? SQL: check_conninfo(text)
 *
 * route() gives a replica's conninfo to every application and the worker writes it to Redis, so it
 * must be one libpq understands and must hold no secret. libpq itself judges the syntax, through
 * libpqwalreceiver, as CREATE SUBSCRIPTION has it done; it does not say which keywords it found, so
 * the scan for secrets below is ours. It runs on text that libpq accepted, in either form:
 *
 *	   host=a port=5432 user='b'            keyword, spaces, =, spaces, value, quoted or escaped
 *	   postgresql://user@host/db?key=value  percent-encoded, keys included
 *
 * Errors: 42601 for what libpq rejects, 28P01 for a secret; the text itself is never repeated.
 */
#include "cache_aside.h"
#include "common/compat.h"

#include "fmgr.h"
#include "replication/walreceiver.h"
#include "utils/builtins.h"

static const char *const secrets[] = {"password", "sslpassword", "oauth_client_secret",
									  "scram_client_key", "scram_server_key"};

static bool
is_secret(const char *keyword, Size len)
{
	for (int i = 0; i < lengthof(secrets); i++)
		if (len == strlen(secrets[i]) && pg_strncasecmp(keyword, secrets[i], len) == 0)
			return true;
	return false;
}

/* Past one value of the keyword form. */
static const char *
skip_value(const char *at)
{
	bool quoted = *at == '\'';

	for (at += quoted; *at; at++)
	{
		if (*at == '\\' && at[1])
			at++;
		else if (quoted ? *at == '\'' : isspace((unsigned char) *at))
			return at + 1;
	}
	return at;
}

static bool
keywords_hold_secret(const char *at)
{
	for (;;)
	{
		const char *keyword;

		while (isspace((unsigned char) *at))
			at++;
		if (*at == '\0')
			return false;
		keyword = at;
		while (*at && *at != '=' && !isspace((unsigned char) *at))
			at++;
		if (is_secret(keyword, at - keyword))
			return true;
		while (*at && (*at == '=' || isspace((unsigned char) *at)))
			if (*at++ == '=')
				break;
		while (isspace((unsigned char) *at))
			at++;
		at = skip_value(at);
	}
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : pg_tolower((unsigned char) c) - 'a' + 10;
}

/* Is the percent-encoded text up to `=` or `&` the name of a secret? */
static bool
is_encoded_secret(const char *at)
{
	char name[64];
	Size len = 0;

	while (*at && *at != '=' && *at != '&' && len < sizeof(name))
	{
		if (*at == '%' && isxdigit((unsigned char) at[1]) && isxdigit((unsigned char) at[2]))
		{
			name[len++] = (char) (hex_digit(at[1]) * 16 + hex_digit(at[2]));
			at += 3;
		}
		else
			name[len++] = *at++;
	}
	return is_secret(name, len);
}

static bool
uri_holds_secret(const char *at)
{
	const char *end = at + strcspn(at, "@/");

	if (*end == '@')
	{
		if (memchr(at, ':', end - at) != NULL)
			return true;
		at = end;
	}
	for (at = strchr(at, '?'); at != NULL; at = strchr(at, '&'))
		if (is_encoded_secret(++at))
			return true;
	return false;
}

static bool
holds_secret(const char *conninfo)
{
	if (strncmp(conninfo, "postgresql://", 13) == 0)
		return uri_holds_secret(conninfo + 13);
	if (strncmp(conninfo, "postgres://", 11) == 0)
		return uri_holds_secret(conninfo + 11);
	return keywords_hold_secret(conninfo);
}

PG_FUNCTION_INFO_V1(cache_aside_check_conninfo);

Datum
cache_aside_check_conninfo(PG_FUNCTION_ARGS)
{
	char *conninfo = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (conninfo[strspn(conninfo, " \t\r\n")] == '\0')
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("the connection string is empty"),
						errdetail("It must say at least where the replica is."),
						errhint("For example: host=replica1 port=5432 dbname=app")));
	if (holds_secret(conninfo))
		ereport(ERROR, (errhidestmt(true), errcode(ERRCODE_INVALID_PASSWORD),
						errmsg("the connection string of a replica must not hold a password"),
						errdetail("It is handed to every caller of route() and written to Redis."),
						errhint("Applications know their own password: from a password file, the "
								"environment or their own settings.")));
	load_file("libpqwalreceiver", false);
	ca_check_conninfo(conninfo);
	PG_RETURN_BOOL(true);
}
