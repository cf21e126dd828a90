/*
 * owner.c: SQL text that belongs to a table runs, and is analysed, as the table's owner.
 *
 * Analysis evaluates: a literal of a domain runs its CHECK, a composite literal the input functions of
 * its columns. So text from a trigger's arguments, and values of a table's row type, are never looked
 * at with the rights of whoever happens to write or to ask, a superuser among them:
 *
 *	query rules		a firing, attach_query(), keys(), gaps
 *	row types		keys()
 *
 * As for foreign-key checks and REINDEX: security-restricted, so that the owner's code can leave
 * nothing behind (temporary objects, deferred triggers, cursors, settings) that would run with the caller's
 * rights later, nor become somebody else; row security off (a policy that would hide rows is an
 * error, not a missing key); the settings that names, texts and the reading of SQL depend on pinned:
 * the author saw them so, and whoever writes must not make another query of the text.
 *
 * Between become and leave an ERROR may be raised: the (sub)transaction's abort undoes both.
 */
#include "cache_aside.h"
#include "keys/output_settings.h"
#include "rules/owner.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/guc.h"

static const char *const reading[][2] = {
	{"standard_conforming_strings", "on"},
	{"backslash_quote", "safe_encoding"},
	{"transform_null_equals", "off"},
	{"array_nulls", "on"},
	{"row_security", "off"},
};

static void
pin(const char *name, const char *value)
{
	const char *now = GetConfigOption(name, true, false);

	if (now != NULL && strcmp(now, value) != 0)
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
}

void
ca_owner_become(CaIdentity *saved, Oid owner)
{
	GetUserIdAndSecContext(&saved->user, &saved->context);
	SetUserIdAndSecContext(owner, saved->context | SECURITY_LOCAL_USERID_CHANGE |
									  SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
	saved->read_only = XactReadOnly;
	saved->nest = NewGUCNestLevel();
	(void) ca_output_settings_apply(CA_PIN_ALL); /* undone with the level around it */
	for (int i = 0; i < lengthof(reading); i++)
		pin(reading[i][0], reading[i][1]);
}

/*
 * For what only looks. SPI refuses statements of a query that write, but not functions in it. Not by the setting, which PostgreSQL 16
 * and newer let nobody set for a while. Switched back when the owner is left; after an error the end of the
 * transaction or subtransaction does that. A function that would switch it itself is refused, since a snapshot was taken.
 */
void
ca_owner_write_nothing(void)
{
	XactReadOnly = true;
}

void
ca_owner_leave(const CaIdentity *saved)
{
	XactReadOnly = saved->read_only;
	AtEOXact_GUC(false, saved->nest); /* true would keep what the owner's code has set */
	SetUserIdAndSecContext(saved->user, saved->context);
}
