/*
 * items.c: create, read, change and delete one row, with a conflict as a clear result.
 *
 * Input: a table, a key and values as jsonb. Each call is one statement on the table, built from its
 * columns (item_plan.c), run as the caller: privileges, row security, triggers, constraints and cache
 * rules apply as they do for SQL that the caller writes.
 *
 * Changes never touch the primary key, the version, created_at, or a generated column: those fields are
 * left out, so that an item that was read can be sent back whole. updated_at is the transaction's time,
 * whatever the item says. A new item gets both when it does not bring them and they have no default.
 *
 * Concurrency: with an expected version the statement says so in its WHERE clause. READ COMMITTED waits
 * for a concurrent writer and evaluates the clause on what it left, so two writers with one version
 * cannot both succeed. If no row came back, a second look with a new snapshot tells "absent" from
 * "another version". In between the row may have been deleted (then absent is true), or inserted with
 * just the version expected (then the statement runs once more). Stricter isolation levels raise 40001
 * themselves. Versions are compared only where an active trigger changes them: without one, two writers
 * could present the same number for ever.
 */
#include "cache_aside.h"
#include "rows/item.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#define MAX_LOOKS 10 /* times a row may come and go between two looks */

PG_FUNCTION_INFO_V1(cache_aside_put_if_absent);
PG_FUNCTION_INFO_V1(cache_aside_get_item);
PG_FUNCTION_INFO_V1(cache_aside_update_item);
PG_FUNCTION_INFO_V1(cache_aside_update_item_if);
PG_FUNCTION_INFO_V1(cache_aside_delete_item);

/* The one jsonb that the last statement returned, in the context outside SPI. */
static Datum
returned_item(void)
{
	bool isnull;
	Datum item = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

	return SPI_datumTransfer(item, false, -1);
}

static void
append_key_condition(CaStatement *statement, CaItemTable *table, List *key)
{
	const char *separator = " WHERE ";
	ListCell *cell;

	foreach (cell, key)
	{
		CaItemValue *value = lfirst(cell);

		appendStringInfoString(&statement->sql, separator);
		ca_item_plan_compare(statement, table, value->attnum, BTEqualStrategyNumber, value->value);
		separator = " AND ";
	}
}

static void
append_version_condition(CaStatement *statement, CaItemTable *table, const int64 *expected)
{
	if (expected == NULL)
		return;
	appendStringInfo(&statement->sql, " AND i.%s OPERATOR(pg_catalog.=) ",
					 ca_item_plan_column_name(table, table->version));
	ca_item_plan_param(statement, INT8OID, Int64GetDatum(*expected), false);
}

static void
require_version(CaItemTable *table, const int64 *expected)
{
	if (expected && table->version == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" keeps no row versions", RelationGetRelationName(table->rel)),
				 errdetail("A version is expected, but no enabled trigger of the table calls "
						   "cache_aside.row_version in this session."),
				 errhint("Use cache_aside.enable_versioning().")));
}

static bool
is_given(List *values, AttrNumber attnum)
{
	ListCell *cell;

	foreach (cell, values)
		if (((CaItemValue *) lfirst(cell))->attnum == attnum)
			return true;
	return false;
}

/* created_at or updated_at that nobody else fills in */
static bool
stamps_on_insert(CaItemTable *table, List *values, AttrNumber attnum)
{
	return ca_item_table_is_timestamp(table, attnum) && !is_given(values, attnum) &&
		   !TupleDescAttr(table->desc, attnum - 1)->atthasdef;
}

/* Nobody may set it, and so an item that was read brings one for nothing. A key is not left out. */
static bool
is_always_identity(CaItemTable *table, AttrNumber attnum)
{
	return TupleDescAttr(table->desc, attnum - 1)->attidentity == ATTRIBUTE_IDENTITY_ALWAYS &&
		   !bms_is_member(attnum, table->key);
}

static void
build_insert(CaStatement *statement, CaItemTable *table, List *values)
{
	AttrNumber stamps[] = {table->created_at, table->updated_at};
	const char *separator = "";
	StringInfoData columns;
	StringInfoData head;
	ListCell *cell;

	ca_item_plan_init(statement, RelationGetRelid(table->rel), true);
	initStringInfo(&columns);
	foreach (cell, values)
	{
		CaItemValue *value = lfirst(cell);

		if (is_always_identity(table, value->attnum))
			continue;
		appendStringInfo(&columns, "%s%s", separator,
						 ca_item_plan_column_name(table, value->attnum));
		appendStringInfoString(&statement->sql, separator);
		ca_item_plan_param(statement, TupleDescAttr(table->desc, value->attnum - 1)->atttypid,
						   value->value, value->isnull);
		separator = ", ";
	}
	for (int i = 0; i < lengthof(stamps); i++)
	{
		if (!stamps_on_insert(table, values, stamps[i]))
			continue;
		appendStringInfo(&columns, "%s%s", separator, ca_item_plan_column_name(table, stamps[i]));
		appendStringInfo(&statement->sql, "%spg_catalog.now()", separator);
		separator = ", ";
	}
	initStringInfo(&head);
	if (columns.len == 0)
		appendStringInfo(&head, "INSERT INTO %s AS i DEFAULT VALUES", table->name);
	else
		appendStringInfo(&head, "INSERT INTO %s AS i (%s) VALUES (%s)", table->name, columns.data,
						 statement->sql.data);
	if (table->exclusive)
		appendStringInfo(&head, " ON CONFLICT ON CONSTRAINT %s",
						 ca_item_table_key_constraint(table));
	else
		appendStringInfo(&head, " ON CONFLICT (%s)", ca_item_table_key_list(table));
	appendStringInfoString(&head, " DO NOTHING RETURNING pg_catalog.to_jsonb(i.*)");
	statement->sql = head;
}

Datum
cache_aside_put_if_absent(PG_FUNCTION_ARGS)
{
	CaItemTable table;
	CaStatement statement;
	Datum item = (Datum) 0;
	bool stored;

	ca_item_table_open(fcinfo, &table);
	build_insert(&statement, &table,
				 ca_item_table_read(&table, ca_item_table_object(fcinfo, 1, "item"), true));
	SPI_connect();
	stored = ca_item_plan_run(&statement, false, NULL) > 0;
	if (stored)
		item = returned_item();
	SPI_finish();
	ca_item_table_close(&table);
	if (!stored)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(item);
}

/* Inside SPI: the row with this key (and version), 0 when there is none. */
static Datum
select_item(CaItemTable *table, List *key, const int64 *expected, bool read_only)
{
	CaStatement statement;

	ca_item_plan_init(&statement, RelationGetRelid(table->rel), true);
	appendStringInfo(&statement.sql, "SELECT pg_catalog.to_jsonb(i.*) FROM %s AS i", table->name);
	append_key_condition(&statement, table, key);
	append_version_condition(&statement, table, expected);
	if (ca_item_plan_run(&statement, read_only, NULL) == 0)
		return (Datum) 0;
	return returned_item();
}

Datum
cache_aside_get_item(PG_FUNCTION_ARGS)
{
	CaItemTable table;
	List *key;
	Datum item;

	ca_item_table_open(fcinfo, &table);
	key = ca_item_table_read_key(&table, ca_item_table_object(fcinfo, 1, "key"));
	SPI_connect();
	item = select_item(&table, key, NULL, true);
	SPI_finish();
	ca_item_table_close(&table);
	if (item == (Datum) 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(item);
}

static bool
may_change(CaItemTable *table, AttrNumber attnum)
{
	Form_pg_attribute att = TupleDescAttr(table->desc, attnum - 1);

	return !bms_is_member(attnum, table->key) && attnum != table->version &&
		   attnum != table->created_at && !att->attgenerated &&
		   att->attidentity != ATTRIBUTE_IDENTITY_ALWAYS &&
		   !(attnum == table->updated_at && ca_item_table_is_timestamp(table, attnum));
}

/* A row shows NULL and JSON's null alike: sent back, each stays what it is. */
static void
append_json_null(CaStatement *statement, CaItemTable *table, CaItemValue *change)
{
	const char *name = ca_item_plan_column_name(table, change->attnum);

	appendStringInfo(&statement->sql, "CASE WHEN i.%s IS NULL THEN i.%s ELSE ", name, name);
	ca_item_plan_param(statement, TupleDescAttr(table->desc, change->attnum - 1)->atttypid,
					   change->value, change->isnull);
	appendStringInfoString(&statement->sql, " END");
}

/* UPDATE ... SET, as far as WHERE; false when no column is left to change. */
static bool
build_update(CaStatement *statement, CaItemTable *table, List *changes)
{
	const char *separator = " SET ";
	ListCell *cell;

	ca_item_plan_init(statement, RelationGetRelid(table->rel), true);
	appendStringInfo(&statement->sql, "UPDATE %s AS i", table->name);
	foreach (cell, changes)
	{
		CaItemValue *change = lfirst(cell);

		if (!may_change(table, change->attnum))
			continue;
		appendStringInfo(&statement->sql, "%s%s = ", separator,
						 ca_item_plan_column_name(table, change->attnum));
		if (change->json_null)
			append_json_null(statement, table, change);
		else
			ca_item_plan_param(statement, TupleDescAttr(table->desc, change->attnum - 1)->atttypid,
							   change->value, change->isnull);
		separator = ", ";
	}
	if (statement->nparams == 0)
		return false;
	if (ca_item_table_is_timestamp(table, table->updated_at))
		appendStringInfo(&statement->sql, ", %s = pg_catalog.now()",
						 ca_item_plan_column_name(table, table->updated_at));
	return true;
}

/* Inside SPI: is the row there now, and at which version? */
static bool
look_up_version(CaItemTable *table, List *key, int64 *version)
{
	CaStatement statement;
	bool isnull;

	ca_item_plan_init(&statement, RelationGetRelid(table->rel), true);
	appendStringInfo(&statement.sql, "SELECT i.%s::pg_catalog.int8 FROM %s AS i",
					 ca_item_plan_column_name(table, table->version), table->name);
	append_key_condition(&statement, table, key);
	if (ca_item_plan_run(&statement, false, NULL) == 0)
		return false;
	*version =
		DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (isnull)
		*version = 0;
	return true;
}

/* The caller gave the key and could read the version, so both may be shown. */
static void
raise_conflict(CaItemTable *table, List *key, int64 expected, int64 found)
{
	StringInfoData names;
	StringInfoData values;
	ListCell *cell;

	initStringInfo(&names);
	initStringInfo(&values);
	foreach (cell, key)
	{
		CaItemValue *value = lfirst(cell);
		Form_pg_attribute att = TupleDescAttr(table->desc, value->attnum - 1);
		const char *separator = names.len > 0 ? ", " : "";
		Oid output;
		bool is_varlena;

		getTypeOutputInfo(att->atttypid, &output, &is_varlena);
		appendStringInfo(&names, "%s%s", separator, NameStr(att->attname));
		appendStringInfo(&values, "%s%s", separator, OidOutputFunctionCall(output, value->value));
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("row version conflict in table \"%s\"", RelationGetRelationName(table->rel)),
			 errdetail("Key (%s)=(%s): expected version %lld, found %lld.", names.data, values.data,
					   (long long) expected, (long long) found),
			 errhint("Read the item again and retry."), errtablecol(table->rel, table->version)));
}

/*
 * Inside SPI: runs a statement that may find no row because of its version. True: it changed a row.
 * False: the row is absent. ERROR 40001: another version.
 */
static bool
run_expecting(CaStatement *statement, CaItemTable *table, List *key, const int64 *expected)
{
	for (int looks = 0; looks < MAX_LOOKS; looks++)
	{
		int64 found;

		if (ca_item_plan_run(statement, false, NULL) > 0)
			return true;
		if (expected == NULL || !look_up_version(table, key, &found))
			return false;
		if (found != *expected)
			raise_conflict(table, key, *expected, found);
	}
	return false; /* visible, yet not to UPDATE or DELETE: row security says so */
}

/* Nothing to change: the row as it is, if it has the version. 0 when it is absent. */
static Datum
unchanged_item(CaItemTable *table, List *key, const int64 *expected)
{
	Datum item = select_item(table, key, expected, false);
	int64 found;

	if (item == (Datum) 0 && expected && look_up_version(table, key, &found))
		raise_conflict(table, key, *expected, found);
	return item;
}

Datum
cache_aside_update_item(PG_FUNCTION_ARGS)
{
	CaItemTable table;
	CaStatement statement;
	List *key;
	List *changes;
	int64 version = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);
	const int64 *expected = PG_ARGISNULL(3) ? NULL : &version;
	Datum item = (Datum) 0;

	ca_item_table_open(fcinfo, &table);
	key = ca_item_table_read_key(&table, ca_item_table_object(fcinfo, 1, "key"));
	changes = ca_item_table_read(&table, ca_item_table_object(fcinfo, 2, "changes"), true);
	require_version(&table, expected);
	SPI_connect();
	if (!build_update(&statement, &table, changes))
		item = unchanged_item(&table, key, expected);
	else
	{
		append_key_condition(&statement, &table, key);
		append_version_condition(&statement, &table, expected);
		appendStringInfoString(&statement.sql, " RETURNING pg_catalog.to_jsonb(i.*)");
		if (run_expecting(&statement, &table, key, expected))
			item = returned_item();
	}
	SPI_finish();
	ca_item_table_close(&table);
	if (item == (Datum) 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(item);
}

Datum
cache_aside_update_item_if(PG_FUNCTION_ARGS)
{
	CaItemTable table;
	CaStatement statement;
	List *key;
	List *changes;
	int64 expected;
	bool done;

	ca_item_table_open(fcinfo, &table);
	key = ca_item_table_read_key(&table, ca_item_table_object(fcinfo, 1, "key"));
	changes = ca_item_table_read(&table, ca_item_table_object(fcinfo, 2, "changes"), true);
	if (PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"expected_version\" must not be NULL"),
						errdetail("update_item_if changes a row only at a version."),
						errhint("Pass the version that was read, or use update_item.")));
	expected = PG_GETARG_INT64(3);
	require_version(&table, &expected);
	SPI_connect();
	if (!build_update(&statement, &table, changes))
		done = select_item(&table, key, &expected, false) != (Datum) 0;
	else
	{
		append_key_condition(&statement, &table, key);
		append_version_condition(&statement, &table, &expected);
		done = ca_item_plan_run(&statement, false, NULL) > 0;
	}
	SPI_finish();
	ca_item_table_close(&table);
	PG_RETURN_BOOL(done);
}

Datum
cache_aside_delete_item(PG_FUNCTION_ARGS)
{
	CaItemTable table;
	CaStatement statement;
	List *key;
	int64 version = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	const int64 *expected = PG_ARGISNULL(2) ? NULL : &version;
	bool done;

	ca_item_table_open(fcinfo, &table);
	key = ca_item_table_read_key(&table, ca_item_table_object(fcinfo, 1, "key"));
	require_version(&table, expected);
	SPI_connect();
	ca_item_plan_init(&statement, RelationGetRelid(table.rel), true);
	appendStringInfo(&statement.sql, "DELETE FROM %s AS i", table.name);
	append_key_condition(&statement, &table, key);
	append_version_condition(&statement, &table, expected);
	done = run_expecting(&statement, &table, key, expected);
	SPI_finish();
	ca_item_table_close(&table);
	PG_RETURN_BOOL(done);
}
