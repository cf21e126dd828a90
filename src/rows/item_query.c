/*
 * item_query.c: rows by equality and one range, in order, a page at a time.
 *
 *	match		{"owner": 7, "state": null}: equality per column; null means IS NULL
 *	range		{"created_at": [from, to)}: from is included, to is not; null is no bound on that side.
 *				A row whose range column is NULL is in no range.
 *	order		the range column, else created_at, else nothing but the primary key; then the primary key,
 *				so that equal values have one order. All descending, or all ascending; NULL is above
 *				everything, as in an index: first when descending, last when ascending.
 *	after		query_page: a cursor that came with a row; only rows beyond it in that order. It holds the
 *				row's values of the order's columns, and which order that was: so a page ends and the next
 *				begins between two rows, however many share a value, and rows that come and go move
 *				no other row from one page to another. To clients it is an opaque text; one that was
 *				tampered with is read as values of those columns, or is an error.
 *
 * One SELECT of the form that an index on (match columns, range column) serves: operators of the
 * column's own btree family, parameters of the column's own type, ORDER BY ... LIMIT. The plan is left
 * to PostgreSQL's choice between custom and generic, because LIMIT and range say much about it.
 *
 * Output goes straight into the caller's tuplestore (which spills to disk), not through SPI's memory.
 */
#include "cache_aside.h"
#include "rows/item.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cache_aside_query_items);
PG_FUNCTION_INFO_V1(cache_aside_query_page);

typedef struct Order
{
	List *columns; /* attribute numbers, the primary key last */
	bool descending;
} Order;

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
	object = ca_item_table_object(fcinfo, 2, "range");
	if (JB_ROOT_COUNT(object) != 1)
		refuse_range(object);
	iterator = JsonbIteratorInit(&object->root);
	(void) JsonbIteratorNext(&iterator, &json, false);
	(void) JsonbIteratorNext(&iterator, &json, false);
	range->attnum = ca_item_table_column(table, json.val.string.val, json.val.string.len);
	if (JsonbIteratorNext(&iterator, &json, false) != WJB_BEGIN_ARRAY || json.val.array.nElems != 2)
		refuse_range(object);
	(void) JsonbIteratorNext(&iterator, &json, true);
	range->from = ca_item_table_value(table, range->attnum, &json, &range->from_open);
	(void) JsonbIteratorNext(&iterator, &json, true);
	range->to = ca_item_table_value(table, range->attnum, &json, &range->to_open);
}

/* null matches both: a row shows them alike */
static void
append_json_null(CaStatement *statement, CaItemTable *table, CaItemValue *value)
{
	const char *name = ca_item_plan_column_name(table, value->attnum);

	appendStringInfo(&statement->sql, "(i.%s IS NULL OR ", name);
	if (getBaseType(TupleDescAttr(table->desc, value->attnum - 1)->atttypid) == JSONOID)
		appendStringInfo(&statement->sql,
						 "pg_catalog.json_typeof(i.%s) OPERATOR(pg_catalog.=) 'null'", name);
	else
		ca_item_plan_compare(statement, table, value->attnum, BTEqualStrategyNumber, value->value);
	appendStringInfoChar(&statement->sql, ')');
}

/* Returns what stands before another condition. */
static const char *
append_conditions(CaStatement *statement, CaItemTable *table, List *match, Range *range)
{
	const char *separator = " WHERE ";
	ListCell *cell;

	foreach (cell, match)
	{
		CaItemValue *value = lfirst(cell);

		appendStringInfoString(&statement->sql, separator);
		if (value->json_null)
			append_json_null(statement, table, value);
		else if (value->isnull)
			appendStringInfo(&statement->sql, "i.%s IS NULL",
							 ca_item_plan_column_name(table, value->attnum));
		else
			ca_item_plan_compare(statement, table, value->attnum, BTEqualStrategyNumber,
								 value->value);
		separator = " AND ";
	}
	if (range->attnum == InvalidAttrNumber)
		return separator;
	if (range->from_open && range->to_open)
	{
		appendStringInfo(&statement->sql, "%si.%s IS NOT NULL", separator,
						 ca_item_plan_column_name(table, range->attnum));
		separator = " AND ";
	}
	if (!range->from_open)
	{
		appendStringInfoString(&statement->sql, separator);
		ca_item_plan_compare(statement, table, range->attnum, BTGreaterEqualStrategyNumber,
							 range->from);
		separator = " AND ";
	}
	if (!range->to_open)
	{
		appendStringInfoString(&statement->sql, separator);
		ca_item_plan_compare(statement, table, range->attnum, BTLessStrategyNumber, range->to);
		separator = " AND ";
	}
	return separator;
}

static void
read_order(FunctionCallInfo fcinfo, CaItemTable *table, Range *range, Order *order)
{
	AttrNumber first = range->attnum != InvalidAttrNumber ? range->attnum : table->created_at;
	int member = -1;

	order->descending = PG_ARGISNULL(3) || PG_GETARG_BOOL(3);
	order->columns = first != InvalidAttrNumber ? list_make1_int(first) : NIL;
	while ((member = bms_next_member(table->key, member)) >= 0)
		if (member != first)
			order->columns = lappend_int(order->columns, member);
}

static void
append_order(CaStatement *statement, CaItemTable *table, Order *order)
{
	const char *separator = " ORDER BY ";
	ListCell *cell;

	foreach (cell, order->columns)
	{
		appendStringInfo(&statement->sql, "%si.%s%s", separator,
						 ca_item_plan_column_name(table, lfirst_int(cell)),
						 order->descending ? " DESC" : "");
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
	ca_item_plan_param(statement, INT8OID, Int64GetDatum(limit), false);
}

/* What a cursor says it was made for. */
static char *
describe_order(CaItemTable *table, Order *order)
{
	StringInfoData order_text;
	ListCell *cell;

	initStringInfo(&order_text);
	appendStringInfoString(&order_text, order->descending ? "desc" : "asc");
	foreach (cell, order->columns)
		appendStringInfo(&order_text, " %s", ca_item_plan_column_name(table, lfirst_int(cell)));
	return order_text.data;
}

/* An expression: the cursor of a row. */
static void
append_cursor(CaStatement *statement, CaItemTable *table, Order *order)
{
	ListCell *cell;

	appendStringInfo(&statement->sql,
					 ", pg_catalog.translate(pg_catalog.encode(pg_catalog.convert_to("
					 "pg_catalog.jsonb_build_array(%s::pg_catalog.text",
					 quote_literal_cstr(describe_order(table, order)));
	foreach (cell, order->columns)
		appendStringInfo(&statement->sql, ", i.%s",
						 ca_item_plan_column_name(table, lfirst_int(cell)));
	appendStringInfoString(&statement->sql, ")::pg_catalog.text, 'UTF8'), 'base64'), "
											"pg_catalog.chr(10), '')");
}

/* The JSON in a cursor; whatever the client sent instead is an error. */
static Jsonb *
decode_cursor(text *cursor)
{
	bytea *bytes = DatumGetByteaPP(
		DirectFunctionCall2(binary_decode, PointerGetDatum(cursor), CStringGetTextDatum("base64")));
	char *utf8 = pnstrdup(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	char *json = pg_any_to_server(utf8, VARSIZE_ANY_EXHDR(bytes), PG_UTF8);

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/* One CaItemValue for each column of the order. */
static List *
read_cursor(CaItemTable *table, Order *order, text *cursor)
{
	Jsonb *json = decode_cursor(cursor);
	char *expected = describe_order(table, order);
	JsonbValue *tag = JB_ROOT_IS_ARRAY(json) ? getIthJsonbValueFromContainer(&json->root, 0) : NULL;
	List *values = NIL;
	ListCell *cell;

	if (tag == NULL || tag->type != jbvString || tag->val.string.len != strlen(expected) ||
		memcmp(tag->val.string.val, expected, tag->val.string.len) != 0 ||
		JB_ROOT_COUNT(json) != list_length(order->columns) + 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"after\" is not a cursor of this query"),
						errdetail("The query is ordered by: %s.", expected),
						errhint("Pass the cursor of the last row of the page before, with the same "
								"relation, range and newest_first.")));
	foreach (cell, order->columns)
	{
		CaItemValue *value = palloc0(sizeof(CaItemValue));

		value->attnum = lfirst_int(cell);
		value->value = ca_item_table_value(
			table, value->attnum,
			getIthJsonbValueFromContainer(&json->root, foreach_current_index(cell) + 1),
			&value->isnull);
		values = lappend(values, value);
	}
	return values;
}

/*
 * (a > $1 OR a = $1 AND (b > $2 OR ...)), for a NULL too, which is above everything. The first comparison
 * once more by itself, without OR, is what an index can begin at.
 */
static void
append_beyond(CaStatement *statement, CaItemTable *table, Order *order, List *values, int place)
{
	CaItemValue *value = list_nth(values, place);
	const char *name = ca_item_plan_column_name(table, value->attnum);
	bool last = place == list_length(values) - 1;
	bool never_null = TupleDescAttr(table->desc, value->attnum - 1)->attnotnull;

	if (place == 0 && !value->isnull && (order->descending || never_null))
	{
		ca_item_plan_compare(statement, table, value->attnum,
							 order->descending ? BTLessEqualStrategyNumber
											   : BTGreaterEqualStrategyNumber,
							 value->value);
		appendStringInfoString(&statement->sql, " AND ");
	}
	appendStringInfoChar(&statement->sql, '(');
	if (value->isnull)
		appendStringInfo(&statement->sql, order->descending ? "i.%s IS NOT NULL" : "false", name);
	else
	{
		ca_item_plan_compare(statement, table, value->attnum,
							 order->descending ? BTLessStrategyNumber : BTGreaterStrategyNumber,
							 value->value);
		if (!order->descending && !never_null)
			appendStringInfo(&statement->sql, " OR i.%s IS NULL", name);
	}
	if (!last)
	{
		appendStringInfoString(&statement->sql, " OR (");
		if (value->isnull)
			appendStringInfo(&statement->sql, "i.%s IS NULL", name);
		else
			ca_item_plan_compare(statement, table, value->attnum, BTEqualStrategyNumber,
								 value->value);
		appendStringInfoString(&statement->sql, " AND ");
		append_beyond(statement, table, order, values, place + 1);
		appendStringInfoChar(&statement->sql, ')');
	}
	appendStringInfoChar(&statement->sql, ')');
}

static void
build_query(FunctionCallInfo fcinfo, CaItemTable *table, CaStatement *statement, bool paged)
{
	List *match = PG_ARGISNULL(1)
					  ? NIL
					  : ca_item_table_read(table, ca_item_table_object(fcinfo, 1, "match"), false);
	const char *separator;
	Range range;
	Order order;

	read_range(fcinfo, table, &range);
	read_order(fcinfo, table, &range, &order);
	ca_item_plan_init(statement, RelationGetRelid(table->rel), false);
	appendStringInfoString(&statement->sql, "SELECT pg_catalog.to_jsonb(i.*)");
	if (paged)
		append_cursor(statement, table, &order);
	appendStringInfo(&statement->sql, " FROM %s AS i", table->name);
	separator = append_conditions(statement, table, match, &range);
	if (paged && !PG_ARGISNULL(5))
	{
		appendStringInfoString(&statement->sql, separator);
		append_beyond(statement, table, &order, read_cursor(table, &order, PG_GETARG_TEXT_PP(5)),
					  0);
	}
	append_order(statement, table, &order);
	append_limit(statement, fcinfo);
}

static void
run_query(FunctionCallInfo fcinfo, bool paged)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaItemTable table;
	CaStatement statement;
	DestReceiver *dest;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	ca_item_table_open(fcinfo, &table);
	SPI_connect();
	build_query(fcinfo, &table, &statement, paged);
	dest = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(dest, result->setResult,
									result->econtext->ecxt_per_query_memory, true, NULL, NULL);
	ca_item_plan_run(&statement, true, dest);
	dest->rDestroy(dest);
	SPI_finish();
	ca_item_table_close(&table);
}

Datum
cache_aside_query_items(PG_FUNCTION_ARGS)
{
	run_query(fcinfo, false);
	return (Datum) 0;
}

Datum
cache_aside_query_page(PG_FUNCTION_ARGS)
{
	run_query(fcinfo, true);
	return (Datum) 0;
}
