/*
 * rules.c: attach and detach rules.
 */
#include "cache_aside.h"

#include "catalog/namespace.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(cache_aside_require_preload);
PG_FUNCTION_INFO_V1(cache_aside_attach);

Datum
cache_aside_require_preload(PG_FUNCTION_ARGS)
{
	ca_require_preload();
	PG_RETURN_VOID();
}

Datum
cache_aside_attach(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	char *template = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *relation = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												get_rel_name(relid));
	StringInfoData sql;

	initStringInfo(&sql);
	SPI_connect();
	appendStringInfo(
		&sql,
		"CREATE TRIGGER cache_aside_1_row AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH "
		"ROW EXECUTE FUNCTION cache_aside.invalidate_row(%s);"
		"CREATE TRIGGER cache_aside_1_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT "
		"EXECUTE FUNCTION cache_aside.invalidate_table(%s);"
		"ALTER TABLE %s ENABLE ALWAYS TRIGGER cache_aside_1_row;"
		"ALTER TABLE %s ENABLE ALWAYS TRIGGER cache_aside_1_truncate;",
		relation, quote_literal_cstr(template), relation, quote_literal_cstr(template), relation,
		relation);
	SPI_execute(sql.data, false, 0);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(template));
}
