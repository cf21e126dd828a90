/*
 * item_query.c: rows by equality and one range, in order, a page at a time.
 *
 *	match		{"owner": 7, "state": null}: equality per column; null means IS NULL
 *	range		{"created_at": [from, to)}: from is included, to is not; null is no bound on that side.
 *				A row whose range column is NULL is in no range.
 *	order		the range column, else created_at, else nothing but the primary key; then the primary key,
 *				so that equal values have one order. All descending, or all ascending.
 *
 * One SELECT of the form that an index on (match columns, range column) serves: operators of the
 * column's own btree family, parameters of the column's own type, ORDER BY ... LIMIT. The plan is left
 * to PostgreSQL's choice between custom and generic, because LIMIT and range say much about it.
 *
 * Output goes straight into the caller's tuplestore (which spills to disk), not through SPI's memory.
 */
#include "cache_aside.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "item.h"

PG_FUNCTION_INFO_V1(cache_aside_query_items);

typedef struct Range
{
	AttrNumber attnum; /* InvalidAttrNumber: no range */
	bool from_open;    /* no bound on that side */
	bool to_open;
	Datum from;
	Datum to;
} Range;

static void
refuse_range(Jsonb *object)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"range\" is not one column with two bounds"),
					errdetail("It is %s.", JsonbToCString(NULL, &object->root, VARSIZE(object))),
					errhint("Pass an object such as {\"created_at\": [\"2024-01-01\", null]}.")));
}

static void
read_range(FunctionCallInfo fcinfo, CaItemTable *table, Range *range)
{
	JsonbIterator *iterator;
	JsonbValue json;
	Jsonb *object;

	memset(range, 0, sizeof(Range));
	if (PG_ARGISNULL(2))
		return;
	object = ca_item_object(fcinfo, 2, "range");
	if (JB_ROOT_COUNT(object) != 1)
		refuse_range(object);
	iterator = JsonbIteratorInit(&object->root);
	(void) JsonbIteratorNext(&iterator, &json, false);
	(void) JsonbIteratorNext(&iterator, &json, false);
	range->attnum = ca_item_column(table, json.val.string.val, json.val.string.len);
	if (JsonbIteratorNext(&iterator, &json, false) != WJB_BEGIN_ARRAY || json.val.array.nElems != 2)
		refuse_range(object);
	(void) JsonbIteratorNext(&iterator, &json, true);
	range->from = ca_item_value(table, range->attnum, &json, &range->from_open);
	(void) JsonbIteratorNext(&iterator, &json, true);
	range->to = ca_item_value(table, range->attnum, &json, &range->to_open);
}

static void
append_conditions(CaStatement *statement, CaItemTable *table, List *match, Range *range)
{
	const char *separator = " WHERE ";
	ListCell *cell;

	foreach (cell, match)
	{
		CaItemValue *value = lfirst(cell);

		appendStringInfoString(&statement->sql, separator);
		if (value->isnull)
			appendStringInfo(&statement->sql, "i.%s IS NULL",
							 ca_item_column_name(table, value->attnum));
		else
			ca_statement_compare(statement, table, value->attnum, BTEqualStrategyNumber,
								 value->value);
		separator = " AND ";
	}
	if (range->attnum == InvalidAttrNumber)
		return;
	if (range->from_open && range->to_open)
		appendStringInfo(&statement->sql, "%si.%s IS NOT NULL", separator,
						 ca_item_column_name(table, range->attnum));
	if (!range->from_open)
	{
		appendStringInfoString(&statement->sql, separator);
		ca_statement_compare(statement, table, range->attnum, BTGreaterEqualStrategyNumber,
							 range->from);
		separator = " AND ";
	}
	if (!range->to_open)
	{
		appendStringInfoString(&statement->sql, separator);
		ca_statement_compare(statement, table, range->attnum, BTLessStrategyNumber, range->to);
	}
}

static void
append_order(CaStatement *statement, CaItemTable *table, AttrNumber first, bool descending)
{
	const char *direction = descending ? " DESC" : "";
	const char *separator = " ORDER BY ";
	int member = -1;

	if (first != InvalidAttrNumber)
	{
		appendStringInfo(&statement->sql, "%si.%s%s", separator, ca_item_column_name(table, first),
						 direction);
		separator = ", ";
	}
	while ((member = bms_next_member(table->key, member)) >= 0)
	{
		if (member == first)
			continue;
		appendStringInfo(&statement->sql, "%si.%s%s", separator, ca_item_column_name(table, member),
						 direction);
		separator = ", ";
	}
}

static void
append_limit(CaStatement *statement, FunctionCallInfo fcinfo)
{
	int limit;

	if (PG_ARGISNULL(4))
		return;
	limit = PG_GETARG_INT32(4);
	if (limit < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_ROW_COUNT_IN_LIMIT_CLAUSE),
						errmsg("argument \"row_limit\" must not be negative"),
						errdetail("It is %d.", limit), errhint("Pass NULL for all rows.")));
	appendStringInfoString(&statement->sql, " LIMIT ");
	ca_statement_param(statement, INT8OID, Int64GetDatum(limit), false);
}

Datum
cache_aside_query_items(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaItemTable table;
	CaStatement statement;
	DestReceiver *dest;
	List *match;
	Range range;
	AttrNumber order;
	bool descending = PG_ARGISNULL(3) || PG_GETARG_BOOL(3);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	ca_item_table_open(fcinfo, &table);
	match = PG_ARGISNULL(1) ? NIL : ca_item_read(&table, ca_item_object(fcinfo, 1, "match"));
	read_range(fcinfo, &table, &range);
	order = range.attnum != InvalidAttrNumber ? range.attnum : table.created_at;
	SPI_connect();
	ca_statement_init(&statement, RelationGetRelid(table.rel), false);
	appendStringInfo(&statement.sql, "SELECT pg_catalog.to_jsonb(i.*) FROM %s AS i", table.name);
	append_conditions(&statement, &table, match, &range);
	append_order(&statement, &table, order, descending);
	append_limit(&statement, fcinfo);
	dest = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(dest, result->setResult,
									result->econtext->ecxt_per_query_memory, true, NULL, NULL);
	ca_statement_run(&statement, true, dest);
	dest->rDestroy(dest);
	SPI_finish();
	ca_item_table_close(&table);
	return (Datum) 0;
}
