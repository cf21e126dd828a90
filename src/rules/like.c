/*
 * like.c: attach_like(new, old): rules and row versions move from a table to the one that replaces it.
 *
 * Input: two tables, of the same owner as far as the caller's rights go. Output: every rule of the old
 * one that the new one does not have is attached there, row versions likewise, going on where the old
 * ones stood; then the old table has none. What was written to the new table before was missed, so the
 * patterns of all those rules are deleted with the transaction.
 *
 * Everything is done by the SQL functions that a user would call, with the caller's rights, in one
 * transaction, under ACCESS EXCLUSIVE on both: nobody writes to either in between.
 */
#include "cache_aside.h"
#include "rows/row_version.h"
#include "rules/rules.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cache_aside_attach_like);

/* The statements (one makes all triggers of its rule, whichever are left), and the names of rules whose query nobody approved. Columns that counted and are gone count no more. */
#define RULES                                                                                      \
	"SELECT cache_aside.rule_statement($1, CASE WHEN r.query IS NULL THEN ARRAY[r.template] "      \
	"ELSE ARRAY[r.pattern, r.query, r.name] END, r.columns, r.level), "                            \
	"CASE WHEN r.query IS NOT NULL AND r.enabled OPERATOR(pg_catalog.<>) 'always' "                \
	"THEN r.name END FROM cache_aside.rules r "                                                    \
	"WHERE r.relation OPERATOR(pg_catalog.=) $2 AND NOT EXISTS (SELECT FROM cache_aside.rules o "  \
	"WHERE o.relation OPERATOR(pg_catalog.=) $1 AND o.name OPERATOR(pg_catalog.=) r.name) "        \
	"ORDER BY r.name"

#define VERSIONS                                                                                   \
	"SELECT pg_catalog.format('SELECT cache_aside.enable_versioning(%L, version => %L, "           \
	"start => %L, presents => %L, columns => %L)', $1, v.version, v.start, v.presents, "           \
	"(SELECT pg_catalog.array_agg(n) FROM pg_catalog.unnest(v.columns) n WHERE EXISTS (SELECT "    \
	"FROM pg_catalog.pg_attribute c WHERE c.attrelid OPERATOR(pg_catalog.=) $1 AND c.attnum "      \
	"OPERATOR(pg_catalog.>) 0 AND c.attname OPERATOR(pg_catalog.=) n))), v.version "               \
	"FROM cache_aside.versioned v "                                                                \
	"WHERE v.relation OPERATOR(pg_catalog.=) $2 AND NOT EXISTS (SELECT FROM "                      \
	"cache_aside.versioned "                                                                       \
	"o WHERE o.relation OPERATOR(pg_catalog.=) $1)"

static void
select_rows(const char *sql, Oid new_table, Oid old_table)
{
	Oid types[2] = {REGCLASSOID, REGCLASSOID};
	Datum values[2] = {ObjectIdGetDatum(new_table), ObjectIdGetDatum(old_table)};

	if (SPI_execute_with_args(sql, 2, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run: %s", sql);
}

static void
run(const char *sql)
{
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run: %s", sql);
}

static void
refuse_unapproved(const char *rule, Oid relid)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("query of cache rule \"%s\" of table \"%s\" is not approved by the owner", rule,
				get_rel_name(relid)),
		 errdetail("To attach it would approve it."),
		 errhint(
			 "Read it in cache_aside.rules; then approve it as cache_aside.gaps says, or detach "
			 "it.")));
}

static int
move_rules(Oid new_table, Oid old_table)
{
	SPITupleTable *rows;
	int count;

	select_rows(RULES, new_table, old_table);
	rows = SPI_tuptable;
	count = (int) SPI_processed;
	for (int i = 0; i < count; i++)
	{
		char *unapproved = SPI_getvalue(rows->vals[i], rows->tupdesc, 2);

		if (unapproved != NULL)
			refuse_unapproved(unapproved, old_table);
		run(SPI_getvalue(rows->vals[i], rows->tupdesc, 1));
	}
	run(psprintf("SELECT cache_aside.detach(%s)",
				 quote_literal_cstr(ca_rule_name_table(old_table))));
	return count;
}

/* A key that was deleted in the old table must not begin anew with a version that was seen. */
static void
move_sequence(Oid new_table, const char *column, int64 last)
{
	Oid sequence = ca_version_sequence_find(new_table, column);

	if (OidIsValid(sequence) && last > 0)
		ca_version_sequence_jump(sequence, last);
}

static void
move_versions(Oid new_table, Oid old_table)
{
	char *enable;
	char *column;
	Oid sequence;
	int64 last;

	select_rows(VERSIONS, new_table, old_table);
	if (SPI_processed == 0)
		return;
	enable = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	column = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	sequence = ca_version_sequence_find(old_table, column);
	last = OidIsValid(sequence) ? ca_version_sequence_last(sequence) : 0;
	run(psprintf("SELECT cache_aside.disable_versioning(%s)",
				 quote_literal_cstr(ca_rule_name_table(old_table))));
	run(enable);
	move_sequence(new_table, column, last);
}

static void
lock_table(Oid relid, bool patterns)
{
	Relation relation = relation_open(relid, AccessExclusiveLock);

	ca_attach_check_owner(relation);
	if (patterns)
		ca_attach_add_patterns(relation);
	relation_close(relation, NoLock);
}

Datum
cache_aside_attach_like(PG_FUNCTION_ARGS)
{
	Oid new_table = PG_GETARG_OID(0);
	Oid old_table = PG_GETARG_OID(1);
	int count;

	if (new_table == old_table)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cache rules cannot move from a table to itself"),
						errdetail("Both arguments are \"%s\".", get_rel_name(new_table)),
						errhint("The first is the new table, the second the one it replaces.")));
	lock_table(new_table, false);
	lock_table(old_table, true);
	SPI_connect();
	move_versions(new_table, old_table);
	count = move_rules(new_table, old_table);
	SPI_finish();
	PG_RETURN_INT32(count);
}
