/*
 * stray.c: keys of a query rule that its pattern does not cover.
 *
 * The write deletes such a key like any other, but a resync and TRUNCATE delete by pattern and would miss
 * it. So it is remembered, as a pattern of its own, in the table cache_aside.stray_pattern, which the view
 * patterns (what a resync deletes) and the view gaps read. The first of a rule in a session is warned of.
 *
 * Input: a key without prefix, UTF-8. Output: at most one row per beginning of keys: "other:5" is
 * remembered as "other:*", "count5" as "count*", what begins with a digit as it is. Deleting too much at a
 * resync is harmless; a row per key would not be. The table stops at MOST_ROWS.
 *
 * A plain heap insert, without index and so without waiting for another session that inserts the same:
 * a write must not wait for a stranger's transaction. Hence a pattern may be there twice. No SQL runs: the
 * row is the extension's, whoever writes. It is rolled back with the keys.
 */
#include "cache_aside.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "rule.h"

#define MOST_ROWS 1000

enum
{
	ROW_RULE,
	ROW_DECLARED,
	ROW_PATTERN,
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

	return !isnull && strcmp(TextDatumGetCString(stored), value) == 0;
}

/* Is the row there, or the table full? Also what this transaction has added. */
static bool
is_remembered(Relation table, const char *const row[ROW_WIDTH])
{
	TupleDesc columns = RelationGetDescr(table);
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, SnapshotSelf, 0, NULL);
	bool found = false;
	int count = 0;
	HeapTuple tuple;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		found = ++count >= MOST_ROWS;
		if (is_column(tuple, columns, ROW_PATTERN, row[ROW_PATTERN]) &&
			is_column(tuple, columns, ROW_RULE, row[ROW_RULE]))
			found = true;
	}
	systable_endscan(scan);
	return found;
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
		for (int i = 0; i < ROW_WIDTH; i++)
			values[i] = CStringGetTextDatum(row[i]);
		simple_heap_insert(table, heap_form_tuple(RelationGetDescr(table), values, nulls));
	}
	table_close(table, NoLock);
}

/* Not the key itself: what the owner's query reads is not the writer's to know. */
static void
warn(CaRule *rule, const char *beginning)
{
	if (rule->strayed)
		return;
	rule->strayed = true;
	ereport(
		WARNING,
		(errcode(ERRCODE_WARNING),
		 errmsg("query of cache rule \"%s\" gives keys outside its pattern", rule->name),
		 errdetail("Keys like \"%s\" do not match \"%s\". They are deleted, and remembered for a "
				   "resync.",
				   beginning, rule->pattern),
		 errhint("Detach the rule and attach it with a pattern that covers every key.")));
}

char *
ca_stray_note(CaRule *rule, const char *key, Size len, const char *last)
{
	char *pattern = pattern_of(key, len);
	const char *row[ROW_WIDTH];

	if (last != NULL && strcmp(last, pattern) == 0)
		return pattern;
	row[ROW_RULE] = rule->name;
	row[ROW_DECLARED] = rule->text;
	row[ROW_PATTERN] = ca_prefix_from_utf8(pattern);
	warn(rule, row[ROW_PATTERN]);
	remember(row);
	return pattern;
}
