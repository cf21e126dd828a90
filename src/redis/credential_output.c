/*
 * credential_output.c: what redis_credential_command printed, and what of it may be said.
 *
 *	user NAME              the rest of the line; may be left out
 *	password SECRET        the rest of the line
 *	expires WHEN           seconds from now, seconds since 1970 (from 1000000000 on), or a time with its zone:
 *	                       2026-01-31T23:59:59Z, 2026-01-31 23:59:59+01:00; may be left out
 *
 * in any order, each at most once, empty lines between them; a CR at the end of a line is none of it. Anything else
 * is wrong as a whole, for nobody knows then what was meant. What is wrong is said by the number of the line and never
 * quoted. Nothing allocates or raises.
 */
#include "cache_aside.h"
#include "redis/credential.h"

#include "datatype/timestamp.h"

#define FIRST_ABSOLUTE INT64CONST(1000000000)
#define LONGEST_YEARS 100

static bool
take_number(const char **at, const char *end, int digits, int *number)
{
	if (end - *at < digits)
		return false;
	*number = 0;
	for (int i = 0; i < digits; i++, (*at)++)
	{
		if (**at < '0' || **at > '9')
			return false;
		*number = *number * 10 + (**at - '0');
	}
	return true;
}

static bool
take_char(const char **at, const char *end, const char *any)
{
	if (*at == end || strchr(any, **at) == NULL || **at == '\0')
		return false;
	(*at)++;
	return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar */
static int64
days_of(int year, int month, int day)
{
	int y = month <= 2 ? year - 1 : year;
	int era = y / 400;
	int of_era = y - era * 400;
	int of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return (int64) era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* Z, +hh:mm or +hhmm: minutes */
static bool
take_zone(const char **at, const char *end, int *minutes)
{
	int hour;
	int minute;
	int sign = *at < end && **at == '-' ? -1 : 1;

	*minutes = 0;
	if (take_char(at, end, "Zz"))
		return true;
	if (!take_char(at, end, "+-") || !take_number(at, end, 2, &hour))
		return false;
	(void) take_char(at, end, ":");
	if (!take_number(at, end, 2, &minute) || hour > 15 || minute > 59)
		return false;
	*minutes = sign * (hour * 60 + minute);
	return true;
}

/* Seconds since 1970 */
static bool
parse_time(const char *at, const char *end, int64 *seconds)
{
	int year, month, day, hour, minute, second, zone;

	if (!take_number(&at, end, 4, &year) || !take_char(&at, end, "-") ||
		!take_number(&at, end, 2, &month) || !take_char(&at, end, "-") ||
		!take_number(&at, end, 2, &day) || !take_char(&at, end, "Tt ") ||
		!take_number(&at, end, 2, &hour) || !take_char(&at, end, ":") ||
		!take_number(&at, end, 2, &minute) || !take_char(&at, end, ":") ||
		!take_number(&at, end, 2, &second))
		return false;
	if (take_char(&at, end, "."))
		while (at < end && *at >= '0' && *at <= '9')
			at++;
	if (!take_zone(&at, end, &zone) || at != end || month < 1 || month > 12 || day < 1 ||
		day > 31 || hour > 23 || minute > 59 || second > 60)
		return false;
	*seconds = days_of(year, month, day) * SECS_PER_DAY + hour * SECS_PER_HOUR +
			   (minute - zone) * SECS_PER_MINUTE + second;
	return true;
}

static bool
parse_seconds(const char *at, const char *end, int64 *seconds)
{
	*seconds = 0;
	if (at == end || end - at > 11)
		return false;
	for (; at < end; at++)
	{
		if (*at < '0' || *at > '9')
			return false;
		*seconds = *seconds * 10 + (*at - '0');
	}
	return true;
}

static const char *
parse_expiry(const char *at, const char *end, TimestampTz now, TimestampTz *expires)
{
	int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	int64 seconds;

	if (parse_seconds(at, end, &seconds) && seconds < FIRST_ABSOLUTE)
		*expires = now + seconds * USECS_PER_SEC;
	else if (parse_seconds(at, end, &seconds) || parse_time(at, end, &seconds))
		*expires = (seconds - epoch) * USECS_PER_SEC;
	else
		return "when it expires is no number of seconds and no time with its zone";
	if (*expires <= now)
		return "it has expired";
	if (*expires > now + LONGEST_YEARS * INT64CONST(365) * USECS_PER_DAY)
		return "it expires in more than a hundred years";
	return NULL;
}

/* The rest of a line, whose length is less than `size`; it has no value yet. */
static const char *
keep_value(const char *at, const char *end, char *value, Size size)
{
	if (value[0])
		return "a keyword comes twice";
	if (at == end)
		return "a value is empty";
	if (end - at >= size)
		return "a value is too long";
	memcpy(value, at, end - at);
	value[end - at] = '\0';
	return NULL;
}

static bool
take_keyword(const char **at, const char *end, const char *word)
{
	Size len = strlen(word);

	if (end - *at < len || memcmp(*at, word, len) != 0 || (end - *at > len && (*at)[len] != ' '))
		return false;
	*at += Min((Size) (end - *at), len + 1);
	return true;
}

static const char *
parse_line(const char *at, const char *end, TimestampTz now, CaCredential *credential)
{
	if (at == end)
		return NULL;
	if (take_keyword(&at, end, "user"))
		return keep_value(at, end, credential->user, sizeof(credential->user));
	if (take_keyword(&at, end, "password"))
		return keep_value(at, end, credential->password, sizeof(credential->password));
	if (!take_keyword(&at, end, "expires"))
		return "a line begins with none of user, password, expires";
	return credential->expires ? "a keyword comes twice"
							   : parse_expiry(at, end, now, &credential->expires);
}

const char *
ca_credential_output_parse(const char *at, Size len, TimestampTz now, CaCredential *credential)
{
	const char *end = at + len;
	const char *reason = memchr(at, '\0', len) ? "it has a NUL" : NULL;

	memset(credential, 0, sizeof(*credential));
	while (at < end)
	{
		const char *eol = memchr(at, '\n', end - at);
		const char *stop = eol ? eol : end;
		const char *problem =
			parse_line(at, stop > at && stop[-1] == '\r' ? stop - 1 : stop, now, credential);

		if (reason == NULL)
			reason = problem;
		at = stop + 1;
	}
	if (reason == NULL && credential->password[0] == '\0')
		reason = "there is no password";
	credential->got_at = now;
	return reason;
}

static void
cut_out(char *at, Size *len, const char *secret)
{
	Size n = strlen(secret);

	for (Size i = 0; n > 0 && i + n <= *len;)
	{
		if (memcmp(at + i, secret, n) != 0)
		{
			i++;
			continue;
		}
		memset(at + i, '*', Min(n, 3));
		memmove(at + i + Min(n, 3), at + i + n, *len - i - n);
		*len -= n - Min(n, 3);
		i += Min(n, 3);
	}
}

void
ca_credential_output_clean(char *said, Size *len, bool cut, const CaCredential *secrets[],
						   int nsecrets)
{
	for (int i = 0; i < nsecrets; i++)
		cut_out(said, len, secrets[i]->password);
	if (cut) /* perhaps in a secret */
		*len = *len > CA_REDIS_MAX_PASSWORD ? *len - CA_REDIS_MAX_PASSWORD : 0;
	*len = Min(*len, CA_CREDENTIAL_SAID);
	while (*len > 0 && said[*len - 1] <= ' ' && said[*len - 1] >= '\0')
		(*len)--;
	for (Size i = 0; i < *len; i++)
		said[i] = said[i] == '\n' ? ' ' : said[i] >= ' ' && said[i] <= '~' ? said[i] : '?';
	said[*len] = '\0';
}
