/*
 * rule_view.c: what the views rules and gaps cannot say in SQL.
 *
 * Input: triggers' arguments as pg_trigger has them. Output: their parts, the pattern of a rule, and
 * what is wrong with it today. Nothing raises for a rule that is bad: the views must show it.
 */
#include "cache_aside.h"

#include "access/relation.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "rule.h"
#include "rules.h"

PG_FUNCTION_INFO_V1(cache_aside_trigger_arguments);
PG_FUNCTION_INFO_V1(cache_aside_rule_pattern);
PG_FUNCTION_INFO_V1(cache_aside_rule_problem);

/* pg_trigger.tgargs: each argument followed by a NUL. */
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
			accumArrayResult(arguments, PointerGetDatum(cstring_to_text_with_len(at, (int) len)),
							 false, TEXTOID, CurrentMemoryContext);
		at += len + 1;
	}
	PG_RETURN_DATUM(makeArrayResult(arguments, CurrentMemoryContext));
}

static int
unpack(ArrayType *array, char ***arguments)
{
	Datum *elements;
	int count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	*arguments = palloc0((count + 1) * sizeof(char *));
	for (int i = 0; i < count; i++)
		(*arguments)[i] = TextDatumGetCString(elements[i]);
	return count;
}

/* NULL for a malformed template. */
Datum
cache_aside_rule_pattern(PG_FUNCTION_ARGS)
{
	char **arguments;
	int count = unpack(PG_GETARG_ARRAYTYPE_P(0), &arguments);
	const char *pattern = ca_rules_pattern(count, arguments);

	if (pattern == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(ca_prefix_from_utf8(pstrdup(pattern))));
}

static char *
template_problem(Relation relation, const char *template)
{
	const char *missing = NULL;

	if (ca_key_template_pattern(template) == NULL)
		return "the template is malformed";
	ca_key_parse(template, RelationGetDescr(relation), RelationGetRelationName(relation), &missing);
	if (missing == NULL)
		return NULL;
	return psprintf("column \"%s\" is gone: every write deletes the rule's whole pattern", missing);
}

/* NULL when rule and relation fit. */
Datum
cache_aside_rule_problem(PG_FUNCTION_ARGS)
{
	char **arguments;
	int count = unpack(PG_GETARG_ARRAYTYPE_P(1), &arguments);
	Relation relation;
	char *problem;

	if (count == 0)
		PG_RETURN_TEXT_P(cstring_to_text("the trigger has no template as its argument"));
	relation = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	if (relation == NULL)
		PG_RETURN_NULL();
	if (!ca_rules_is_query(count))
		problem = template_problem(relation, arguments[0]);
	else if ((problem = ca_query_problem(relation, arguments[1])) != NULL)
		problem =
			psprintf("the query fails, every write deletes the rule's whole pattern: %s", problem);
	relation_close(relation, AccessShareLock);
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}
