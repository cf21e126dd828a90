/*
 * objects_1_0.c: functions that the script of version 1.0 declares and a later one no longer does, or with other
 * arguments, under another name in C.
 *
 * Between the restart with a new library and ALTER EXTENSION UPDATE the old objects call the new library: rules fire (the
 * trigger functions are the same), a resync finds the rules' patterns, and the views show what they showed. What
 * only new objects can tell is said once per session, where somebody looks for gaps.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "rules/rules.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cache_aside_require_preload);
PG_FUNCTION_INFO_V1(cache_aside_trigger_arguments);
PG_FUNCTION_INFO_V1(cache_aside_rule_pattern);
PG_FUNCTION_INFO_V1(cache_aside_rule_problem);

Datum
cache_aside_require_preload(PG_FUNCTION_ARGS)
{
	ca_preload_require();
	PG_RETURN_VOID();
}

/* trigger_arguments(bytea): pg_trigger.tgargs, where each argument is followed by a NUL. */
Datum
cache_aside_trigger_arguments(PG_FUNCTION_ARGS)
{
	bytea *packed = PG_GETARG_BYTEA_PP(0);
	const char *at = VARDATA_ANY(packed);
	const char *end = at + VARSIZE_ANY_EXHDR(packed);
	ArrayBuildState *arguments = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	while (at < end)
	{
		Size len = strnlen(at, end - at);

		arguments =
			accumArrayResult(arguments, CStringGetTextDatum(ca_text_show(pnstrdup(at, len))), false,
							 TEXTOID, CurrentMemoryContext);
		at += len + 1;
	}
	PG_RETURN_DATUM(makeArrayResult(arguments, CurrentMemoryContext));
}

/* rule_pattern(text[]): NULL for a malformed template. */
Datum
cache_aside_rule_pattern(PG_FUNCTION_ARGS)
{
	Datum *elements;
	bool *nulls;
	char **arguments;
	const char *pattern;
	int count;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &count);
	arguments = palloc0((count + 1) * sizeof(char *));
	for (int i = 0; i < count; i++)
		arguments[i] = nulls[i] ? pstrdup("") : TextDatumGetCString(elements[i]);
	pattern = ca_rule_name_pattern(count, arguments);
	if (pattern == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(ca_prefix_from_utf8(pstrdup(pattern))));
}

/*
 * rule_problem(regclass, text[]). It cannot tell whose query it is, which a later one asks the trigger: NULL, no
 * problem, since the remedy that the view has for each is to detach the rule.
 */
Datum
cache_aside_rule_problem(PG_FUNCTION_ARGS)
{
	static bool told = false;

	if (!told)
		ereport(WARNING,
				(errmsg("the SQL objects of cache_aside are older than its library"),
				 errdetail("Rules work; this view does not show all that is to be mended."),
				 errhint("Run ALTER EXTENSION cache_aside UPDATE in this database.")));
	told = true;
	PG_RETURN_NULL();
}
