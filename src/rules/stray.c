/*
 * stray.c: keys of a query rule that its pattern does not cover.
 *
 * The write deletes such a key like any other, but a resync and TRUNCATE delete by pattern and would miss
 * it. So it is remembered, as a pattern of its own, in the table cache_aside.stray_pattern, which the view
 * patterns (what a resync deletes) and the view gaps read. The first of a rule in a session is warned of.
 *
 * Input: a key without prefix, UTF-8. Output: at most one row per beginning of keys: "other:5" is
 * remembered as "other:*", "count5" as "count*", what begins with a digit as it is. Deleting too much at a
 * resync is harmless; a row per key would not be. An owner of tables gets MOST_ROWS, and each of his rules
 * one, which names it in gaps: nobody's rule is forgotten for the rows of another's.
 *
 * The keys are what the owner's query reads. Who writes the table may not be allowed to, so only who has
 * the owner's rights is shown beginnings of them, by warning and gaps.
 *
 * A plain heap insert, without index and so without waiting for another session that inserts the same:
 * a write must not wait for a stranger's transaction. Hence a pattern may be there twice. No SQL runs: the
 * row is the extension's, whoever writes. It is rolled back with the keys.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/common.h"
#include "keys/keys.h"
#include "shared/status.h"
#include "rules/rule.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define MOST_ROWS 200 /* of an owner; gaps knows the number, too */

enum
{
	ROW_RULE,
	ROW_DECLARED,
	ROW_PATTERN,
	ROW_OWNER,
	ROW_WIDTH
};

/* The pattern that stands for this key and those like it. */
static char *
pattern_of(const char *key, Size len)
{
	StringInfoData pattern;
	Size cut = 0;

	initStringInfo(&pattern);
	while (cut < len && key[cut] != ':' && !(key[cut] >= '0' && key[cut] <= '9'))
		cut++;
	if (cut < len && key[cut] == ':')
		cut++;
	if (cut == 0 || key[0] == ':')
		cut = len;
	ca_glob_escape(&pattern, key, cut);
	if (cut < len)
		appendStringInfoChar(&pattern, '*');
	return pattern.data;
}

static bool
is_column(HeapTuple row, TupleDesc columns, int column, const char *value)
{
	bool isnull;
	Datum stored = heap_getattr(row, column + 1, columns, &isnull);

	if (isnull)
		return false;
	if (column == ROW_OWNER)
		return strcmp(NameStr(*DatumGetName(stored)), value) == 0;
	return strcmp(TextDatumGetCString(stored), value) == 0;
}

/* Is the row there, or no more to be had? Also what this transaction has added counts. */
static bool
is_remembered(Relation table, const char *const row[ROW_WIDTH])
{
	TupleDesc columns = RelationGetDescr(table);
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, SnapshotSelf, 0, NULL);
	bool found = false;
	bool named = false; /* the rule has a row */
	int count = 0;      /* of the owner's */
	HeapTuple tuple;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool rule;

		if (!is_column(tuple, columns, ROW_OWNER, row[ROW_OWNER]))
			continue;
		count++;
		rule = is_column(tuple, columns, ROW_RULE, row[ROW_RULE]) &&
			   is_column(tuple, columns, ROW_DECLARED, row[ROW_DECLARED]);
		named |= rule;
		found = rule && is_column(tuple, columns, ROW_PATTERN, row[ROW_PATTERN]);
	}
	systable_endscan(scan);
	return found || (named && count >= MOST_ROWS);
}

static void
remember(const char *const row[ROW_WIDTH])
{
	Oid relid = get_relname_relid("stray_pattern", get_namespace_oid("cache_aside", true));
	Relation table = OidIsValid(relid) ? try_table_open(relid, RowExclusiveLock) : NULL;
	bool nulls[ROW_WIDTH] = {false};
	Datum values[ROW_WIDTH];

	if (table == NULL)
		return;
	if (!is_remembered(table, row))
	{
		for (int i = 0; i < ROW_OWNER; i++)
			values[i] = CStringGetTextDatum(row[i]);
		values[ROW_OWNER] = DirectFunctionCall1(namein, CStringGetDatum(row[ROW_OWNER]));
		simple_heap_insert(table, heap_form_tuple(RelationGetDescr(table), values, nulls));
	}
	table_close(table, NoLock);
}

/* The client reads it, so it is his rights that count, not those of the query, which runs as the owner. */
static void
warn(CaRule *rule, const char *beginning, Oid owner)
{
	bool may_know = has_privs_of_role(GetOuterUserId(), owner);

	if (rule->strayed)
		return;
	rule->strayed = true;
	ereport(
		WARNING,
		(errcode(ERRCODE_WARNING),
		 errmsg("query of cache rule \"%s\" gives keys outside its pattern", rule->name),
		 may_know
			 ? errdetail("Keys like \"%s\" do not match \"%s\". They are deleted, and remembered "
						 "for a resync.",
						 beginning, rule->pattern)
			 : errdetail("Some do not match \"%s\". They are deleted, and remembered for a resync.",
						 rule->pattern),
		 errhint("Detach the rule and attach it with a pattern that covers every key.")));
}

char *
ca_stray_note(CaRule *rule, const char *key, Size len, const char *last)
{
	char *pattern = pattern_of(key, len);
	const char *row[ROW_WIDTH];
	Oid owner;

	if (ca_status_shared)
		pg_atomic_fetch_add_u64(&ca_status_shared->stray_keys, 1);
	if (last != NULL && strcmp(last, pattern) == 0)
		return pattern;
	owner = ca_catalog_owner(rule->relid);
	if (!OidIsValid(owner))
		owner = BOOTSTRAP_SUPERUSERID;
	row[ROW_RULE] = rule->name;
	row[ROW_DECLARED] = rule->text;
	row[ROW_PATTERN] = ca_prefix_from_utf8(pattern);
	row[ROW_OWNER] = GetUserNameFromId(owner, false);
	warn(rule, row[ROW_PATTERN], owner);
	remember(row);
	return pattern;
}
