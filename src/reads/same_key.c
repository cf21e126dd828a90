/*
 * same_key.c: SQL that finds the rows with the same key as a given one.
 *
 * Input: a template and its table's columns. Output: "t.a OPERATOR(pg_catalog.=) ($1).a AND ...",
 * where $1 is a row. Each column is compared by its type's own equality, whatever search_path is, so
 * that an index can serve it; byte for byte where the type has none.
 */
#include "cache_aside.h"
#include "keys/keys.h"
#include "reads/reads.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_operator.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static void
append_equality(StringInfo condition, Form_pg_attribute attribute)
{
	const char *column = quote_identifier(NameStr(attribute->attname));
	Oid operator= lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR)->eq_opr;
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_operator form = (Form_pg_operator) GETSTRUCT(tuple);

		appendStringInfo(condition, " AND t.%s OPERATOR(%s.%s) ($1).%s", column,
						 quote_identifier(get_namespace_name(form->oprnamespace)),
						 NameStr(form->oprname), column);
		ReleaseSysCache(tuple);
	}
	else
		appendStringInfo(condition, " AND pg_catalog.record_image_eq(ROW(t.%s), ROW(($1).%s))",
						 column, column);
}

char *
ca_same_key_condition(const CaTemplate *template, TupleDesc desc)
{
	Bitmapset *columns = ca_template_columns(template);
	StringInfoData condition;
	int attnum = -1;

	initStringInfo(&condition);
	appendStringInfoString(&condition, "true");
	while ((attnum = bms_next_member(columns, attnum)) > 0)
		append_equality(&condition, TupleDescAttr(desc, attnum - 1));
	return condition.data;
}
