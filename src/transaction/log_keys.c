/*
 * log_keys.c: cache_aside.log_keys, each entry that the open transaction is given, as a message.
 *
 * Input: an entry that was not in the pending set yet. Output: one line, to the server's log, to the client, or to
 * both, by the level and what these settings say of it. For people who watch: a session (SET, or PGOPTIONS), a role or
 * database (ALTER ROLE ... SET), the server.
 *
 * Keys tell values of rows that the writer, who gets the messages at level notice, may not be allowed to read; so a
 * superuser sets it, or whom one granted that. A transaction shows MOST_SHOWN of its keys, each up to MOST_BYTES: a million
 * rows fill no disk. Those of a subtransaction that is rolled back were shown all the same.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "transaction/transaction.h"

#include "mb/pg_wchar.h"

#define MOST_SHOWN 1000
#define MOST_BYTES 256

int guc_log_keys = 0;
static int shown; /* of this transaction */

const struct config_enum_entry ca_log_keys_levels[] = {
	{"off", 0, false},   {"debug1", DEBUG1, false}, {"debug", DEBUG1, true},
	{"log", LOG, false}, {"notice", NOTICE, false}, {NULL, 0, false}};

/* Printable, and not too long. Nothing is converted, which could fail: in other encodings than UTF-8 only ASCII is shown. */
static const char *
show(const char *data, Size len)
{
	bool ascii = GetDatabaseEncoding() != PG_UTF8;
	char *str = pnstrdup(data, len);
	int size = (int) strlen(str);

	if (size > MOST_BYTES)
		str = psprintf("%.*s...", pg_encoding_mbcliplen(PG_UTF8, str, size, MOST_BYTES), str);
	for (unsigned char *at = (unsigned char *) str; *at != '\0'; at++)
	{
		if (*at == 0xC2 && at[1] >= 0x80 && at[1] < 0xA0) /* U+0080 to U+009F: control, too */
			at[0] = at[1] = '?';
		else if (*at < ' ' || *at == 0x7f || (ascii && *at >= 0x80))
			*at = '?';
	}
	return str;
}

void
ca_log_keys_show(char kind, const char *data, Size len)
{
	bool key = kind == CA_ENTRY_KEY;

	if ((!key && kind != CA_ENTRY_PATTERN) || shown > MOST_SHOWN)
		return;
	if (shown++ == MOST_SHOWN)
		ereport(guc_log_keys, (errmsg("cache_aside shows no more keys of this transaction"),
							   errdetail("It has shown %d.", MOST_SHOWN), errhidestmt(true),
							   errhidecontext(true)));
	else
		ereport(guc_log_keys, (errmsg(key ? "cache_aside invalidates key \"%s\""
										  : "cache_aside invalidates pattern \"%s\"",
									  show(data, len)),
							   errhidestmt(true), errhidecontext(true)));
}

void
ca_log_keys_forget(void)
{
	shown = 0;
}
