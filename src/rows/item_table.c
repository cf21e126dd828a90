/*
 * item_table.c: what the item functions know of a table, and jsonb fields as values of its columns.
 *
 * Input: a regclass and jsonb objects from the caller. Output: typed values; null is NULL, and JSON's
 * null in a json or jsonb column; strings, numbers and booleans go through the column type's input
 * function, as if written as a literal; arrays and objects, for columns that are not json or jsonb,
 * through jsonb_to_record.
 *
 * Bad input raises before any statement runs, and names the column: 42703 for one that is not there,
 * the input function's own SQLSTATE (22P02, 22003, 22001, 23514, ...) with DETAIL and COLUMN added for
 * a value that does not fit.
 *
 * The relation stays open with AccessShareLock until the statement is done, so it cannot be renamed or
 * altered between reading its columns and planning. Rights are not checked here: statements run as the
 * caller. Allocations: the caller's context.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "rows/item.h"
#include "rows/row_version.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static Bitmapset *
key_columns(Relation rel)
{
	Bitmapset *key = ca_catalog_primary_key(rel);

	if (bms_is_empty(key))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" has no primary key", RelationGetRelationName(rel)),
						errdetail("Items are rows of a table, named by its primary key."),
						errhint("Name a table that has a primary key which is not deferrable.")));
	return key;
}

/* A primary key WITHOUT OVERLAPS (PostgreSQL 18) is an exclusion constraint: no columns infer it. */
static bool
key_is_exclusive(Relation rel)
{
	Relation index = index_open(rel->rd_pkindex, AccessShareLock);
	bool result;

	result = index->rd_index->indisexclusion;
	index_close(index, AccessShareLock);
	return result;
}

const char *
ca_item_table_key_constraint(CaItemTable *table)
{
	return quote_identifier(get_rel_name(table->rel->rd_pkindex));
}

void
ca_item_table_open(FunctionCallInfo fcinfo, CaItemTable *table)
{
	Trigger *trigger;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"relation\" must not be NULL"),
						errdetail("It names the table of the item."),
						errhint("Pass a table with a primary key.")));
	memset(table, 0, sizeof(CaItemTable));
	table->rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	table->desc = RelationGetDescr(table->rel);
	table->key = key_columns(table->rel);
	table->exclusive = key_is_exclusive(table->rel);
	table->name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table->rel)),
											 RelationGetRelationName(table->rel));
	table->created_at = ca_version_settings_column(table->rel, "created_at");
	table->updated_at = ca_version_settings_column(table->rel, "updated_at");
	trigger = ca_version_settings_trigger(table->rel);
	if (trigger && ca_version_settings_active(trigger))
	{
		CaVersioning versioning;

		(void) ca_version_settings_resolve(table->rel, trigger, &versioning);
		table->version = versioning.attnum;
	}
}

void
ca_item_table_close(CaItemTable *table)
{
	table_close(table->rel, AccessShareLock);
}

bool
ca_item_table_is_timestamp(CaItemTable *table, AttrNumber attnum)
{
	Oid type = attnum > 0 ? TupleDescAttr(table->desc, attnum - 1)->atttypid : InvalidOid;

	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

Jsonb *
ca_item_table_object(FunctionCallInfo fcinfo, int argument, const char *name)
{
	Jsonb *jsonb;

	if (PG_ARGISNULL(argument))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be NULL", name),
						errdetail("It is a JSON object from column names to values."),
						errhint("Pass an object such as {\"id\": 1}.")));
	jsonb = PG_GETARG_JSONB_P(argument);
	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" is not a JSON object", name),
						errdetail("It is %s.", JB_ROOT_IS_SCALAR(jsonb) ? "a scalar" : "an array"),
						errhint("Pass an object such as {\"id\": 1}.")));
	return jsonb;
}

static char *
list_columns(CaItemTable *table)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < table->desc->natts; i++)
		if (!TupleDescAttr(table->desc, i)->attisdropped)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 NameStr(TupleDescAttr(table->desc, i)->attname));
	return names.data;
}

AttrNumber
ca_item_table_column(CaItemTable *table, const char *name, int len)
{
	for (int i = 0; i < table->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(table->desc, i);

		if (!att->attisdropped && strlen(NameStr(att->attname)) == len &&
			memcmp(NameStr(att->attname), name, len) == 0)
			return i + 1;
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%.*s\" of table \"%s\" does not exist", len, name,
						   RelationGetRelationName(table->rel)),
					errdetail("The table's columns are: %s.", list_columns(table)),
					errhint("Names are compared as they are written, capitals included.")));
}

/* The text of a JSON scalar, NULL for null; `structured` is set for arrays and objects. */
static char *
scalar_text(JsonbValue *json, bool *structured)
{
	*structured = false;
	switch (json->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return pnstrdup(json->val.string.val, json->val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(json->val.numeric)));
		case jbvBool:
			return pstrdup(json->val.boolean ? "true" : "false");
		default:
			*structured = true;
			return NULL;
	}
}

/* An array or object for an array, composite or other column: as jsonb_to_record has it. */
static Datum
structured_value(CaItemTable *table, Form_pg_attribute att, JsonbValue *json, bool *isnull)
{
	MemoryContext caller = CurrentMemoryContext;
	const char *column = quote_identifier(NameStr(att->attname));
	CaStatement statement;
	Datum value = JsonbPGetDatum(JsonbValueToJsonb(json));

	SPI_connect();
	ca_item_plan_init(&statement, RelationGetRelid(table->rel), true);
	appendStringInfo(
		&statement.sql,
		"SELECT r.%s FROM pg_catalog.jsonb_to_record(pg_catalog.jsonb_build_object(%s, ", column,
		quote_literal_cstr(NameStr(att->attname)));
	ca_item_plan_param(&statement, JSONBOID, value, false);
	appendStringInfo(&statement.sql, ")) AS r (%s %s)", column,
					 format_type_extended(att->atttypid, att->atttypmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	ca_item_plan_run(&statement, true, NULL);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	if (!*isnull)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		value = datumCopy(value, att->attbyval, att->attlen);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return value;
}

static bool
is_json(Form_pg_attribute att)
{
	Oid base = getBaseType(att->atttypid);

	return base == JSONBOID || base == JSONOID;
}

/* With `keep_null` JSON's null stays what it is in a column of JSON. */
static Datum
convert(CaItemTable *table, Form_pg_attribute att, JsonbValue *json, bool keep_null, bool *isnull)
{
	bool structured;
	char *literal;
	Oid input;
	Oid ioparam;

	*isnull = json->type == jbvNull && !(keep_null && is_json(att));
	if (is_json(att) && !*isnull)
		literal = JsonbToCString(NULL, &JsonbValueToJsonb(json)->root, 0);
	else
	{
		literal = scalar_text(json, &structured);
		if (structured)
			return structured_value(table, att, json, isnull);
	}
	/* A domain may refuse NULL; other types have nothing to say about it. */
	if (*isnull && getBaseType(att->atttypid) == att->atttypid)
		return (Datum) 0;
	getTypeInputInfo(att->atttypid, &input, &ioparam);
	return OidInputFunctionCall(input, literal, ioparam, att->atttypmod);
}

static void
name_column(ErrorData *error, CaItemTable *table, Form_pg_attribute att, JsonbValue *json)
{
	const char *given = JsonbToCString(NULL, &JsonbValueToJsonb(json)->root, 0);
	int len = strlen(given);

	if (len > 100)
		len = pg_mbcliplen(given, len, 100);
	error->detail = psprintf("Column \"%s\" of table \"%s\" has type %s; the value given is %.*s%s",
							 NameStr(att->attname), RelationGetRelationName(table->rel),
							 format_type_with_typemod(att->atttypid, att->atttypmod), len, given,
							 given[len] ? "..." : ".");
	if (error->hint == NULL)
		error->hint = pstrdup("Give a value that the column's type accepts.");
	error->schema_name = get_namespace_name(RelationGetNamespace(table->rel));
	error->table_name = pstrdup(RelationGetRelationName(table->rel));
	error->column_name = pstrdup(NameStr(att->attname));
}

static Datum
convert_naming(CaItemTable *table, AttrNumber attnum, JsonbValue *json, bool keep_null,
			   bool *isnull)
{
	Form_pg_attribute att = TupleDescAttr(table->desc, attnum - 1);
	MemoryContext caller = CurrentMemoryContext;
	volatile Datum value = (Datum) 0;

	PG_TRY();
	{
		value = convert(table, att, json, keep_null, isnull);
	}
	PG_CATCH();
	{
		int category = ERRCODE_TO_CATEGORY(geterrcode());
		ErrorData *error;

		if (category != ERRCODE_DATA_EXCEPTION &&
			category != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		name_column(error, table, att, json);
		ReThrowError(error);
	}
	PG_END_TRY();
	return value;
}

Datum
ca_item_table_value(CaItemTable *table, AttrNumber attnum, JsonbValue *json, bool *isnull)
{
	return convert_naming(table, attnum, json, false, isnull);
}

List *
ca_item_table_read(CaItemTable *table, Jsonb *object, bool stored)
{
	List *values = NIL;
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbValue json;

	(void) JsonbIteratorNext(&iterator, &json, true); /* the object begins */
	while (JsonbIteratorNext(&iterator, &json, true) == WJB_KEY)
	{
		AttrNumber attnum = ca_item_table_column(table, json.val.string.val, json.val.string.len);
		Form_pg_attribute att = TupleDescAttr(table->desc, attnum - 1);
		CaItemValue *value;

		(void) JsonbIteratorNext(&iterator, &json, true);
		if (stored && att->attgenerated)
			continue;
		value = palloc0(sizeof(CaItemValue));
		value->attnum = attnum;
		value->json_null = json.type == jbvNull && is_json(att);
		value->value = convert_naming(table, attnum, &json, true, &value->isnull);
		values = lappend(values, value);
	}
	return values;
}

List *
ca_item_table_read_key(CaItemTable *table, Jsonb *object)
{
	List *values = ca_item_table_read(table, object, false);
	Bitmapset *given = NULL;
	ListCell *cell;

	foreach (cell, values)
	{
		CaItemValue *value = lfirst(cell);

		if (value->isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column \"%s\" of a key must not be null",
							ca_item_plan_column_name(table, value->attnum)),
					 errdetail("No row has a primary key with a NULL."),
					 errhint("Give the row's value."), errtablecol(table->rel, value->attnum)));
		given = bms_add_member(given, value->attnum);
	}
	if (!bms_equal(given, table->key))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the key does not name the primary key of table \"%s\"",
							   RelationGetRelationName(table->rel)),
						errdetail("The key given is %s.",
								  JsonbToCString(NULL, &object->root, VARSIZE(object))),
						errhint("Give each primary key column and no other: %s.",
								ca_item_table_key_list(table))));
	return values;
}

char *
ca_item_table_key_list(CaItemTable *table)
{
	StringInfoData names;
	int member = -1;

	initStringInfo(&names);
	while ((member = bms_next_member(table->key, member)) >= 0)
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 ca_item_plan_column_name(table, member));
	return names.data;
}
