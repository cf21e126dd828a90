/*
 * text.c: is it text of this database?
 *
 * The server checks what a client sends. It does not check the arguments of a trigger that somebody
 * wrote into the catalog as bytes, nor what Redis answers. Such bytes must not become a text, a key or
 * part of a message: functions of the server read past the end of a character that is cut off.
 *
 * In a database with encoding SQL_ASCII nobody knows what bytes mean: all but NUL are text.
 */
#include "cache_aside.h"
#include "common/common.h"

#include "mb/pg_wchar.h"

/* What is ASCII is text in every encoding of a server. */
bool
ca_text_is_valid(const char *str)
{
	const char *at = str;

	while ((signed char) *at > 0)
		at++;
	return *at == '\0' || pg_verifymbstr(at, (int) strlen(at), true);
}

/* Printable: what is not ASCII becomes \xNN. */
static char *
escape(const char *str)
{
	StringInfoData shown;

	initStringInfo(&shown);
	for (; *str != '\0'; str++)
	{
		if (*str >= ' ' && *str <= '~')
			appendStringInfoChar(&shown, *str);
		else
			appendStringInfo(&shown, "\\x%02x", (unsigned char) *str);
	}
	return shown.data;
}

char *
ca_text_show(const char *str)
{
	return ca_text_is_valid(str) ? pstrdup(str) : escape(str);
}

void
ca_text_require(const char *str, const char *what)
{
	if (!ca_text_is_valid(str))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("%s is not text in the encoding of this database", what),
				 errdetail("Its bytes are \"%s\".", escape(str)),
				 errhint("It cannot have come through SQL. Drop the trigger whose argument it "
						 "is, and make it anew.")));
}

void
ca_text_require_all(int n, char **strs, const char *what)
{
	for (int i = 0; i < n; i++)
		ca_text_require(strs[i], what);
}
