/*
 * rule_view.c: what the views rules and gaps cannot say in SQL.
 *
 * Input: the oid of a trigger, and nothing else: everybody may call these functions, so they look
 * into the catalog themselves and answer NULL for a trigger that is not ours. Output: its arguments,
 * the pattern of its rule, and what is wrong with it today. Nothing raises for a rule that is bad:
 * the views must show it.
 *
 * Whose rights: a query is analysed as the table's owner (owner.c), who approved it; one that is not
 * approved is not looked at (approval.c). What is wrong is told to those who may see it: members of
 * the owner, superusers, pg_monitor.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "keys/keys.h"
#include "rows/row_version.h"
#include "rules/rule.h"
#include "rules/rules.h"

#include "access/relation.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(cache_aside_trigger_arguments_1_1);
PG_FUNCTION_INFO_V1(cache_aside_rule_pattern_1_1);
PG_FUNCTION_INFO_V1(cache_aside_rule_columns);
PG_FUNCTION_INFO_V1(cache_aside_rule_problem_1_1);

Datum
cache_aside_trigger_arguments_1_1(PG_FUNCTION_ARGS)
{
	ArrayBuildState *arguments = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	CaTriggerFacts facts;

	if (!ca_rule_trigger_find(PG_GETARG_OID(0), NULL, &facts) ||
		(facts.kind == CA_TRIGGER_NONE && !ca_version_settings_is(facts.function)))
		PG_RETURN_NULL();
	for (int i = 0; i < facts.nargs; i++)
		arguments = accumArrayResult(arguments, CStringGetTextDatum(ca_text_show(facts.args[i])),
									 false, TEXTOID, CurrentMemoryContext);
	PG_RETURN_DATUM(makeArrayResult(arguments, CurrentMemoryContext));
}

/* NULL for a malformed template. */
Datum
cache_aside_rule_pattern_1_1(PG_FUNCTION_ARGS)
{
	CaTriggerFacts facts;
	const char *pattern;

	if (!ca_rule_trigger_find(PG_GETARG_OID(0), NULL, &facts) || facts.kind == CA_TRIGGER_NONE)
		PG_RETURN_NULL();
	pattern = ca_rule_name_pattern(facts.nargs, facts.args);
	if (pattern == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(ca_prefix_from_utf8(pstrdup(pattern))));
}

/* NULL when every UPDATE counts. */
Datum
cache_aside_rule_columns(PG_FUNCTION_ARGS)
{
	ArrayBuildState *names = initArrayResult(NAMEOID, CurrentMemoryContext, false);
	CaTriggerFacts facts;
	Bitmapset *columns;
	int attnum = 0;

	if (!ca_rule_trigger_find(PG_GETARG_OID(0), NULL, &facts) || facts.kind == CA_TRIGGER_NONE)
		PG_RETURN_NULL();
	columns = ca_watched_rule(&facts);
	if (columns == NULL || bms_is_member(0, columns))
		PG_RETURN_NULL();
	while ((attnum = bms_next_member(columns, attnum)) >= 0)
	{
		char *name = get_attname(facts.relid, (AttrNumber) attnum, true);
		NameData column;

		if (name == NULL)
			continue;
		namestrcpy(&column, name);
		names =
			accumArrayResult(names, NameGetDatum(&column), false, NAMEOID, CurrentMemoryContext);
	}
	PG_RETURN_DATUM(makeArrayResult(names, CurrentMemoryContext));
}

static bool
is_text(const CaTriggerFacts *facts)
{
	for (int i = 0; i < facts->nargs; i++)
		if (!ca_text_is_valid(facts->args[i]))
			return false;
	return true;
}

/*
 * Does an UPDATE trigger of the rule that attach made compare other columns than the template names?
 * DDL under the eyes of watch.c leaves none.
 */
static const char *
watch_problem(Relation relation, const CaTemplate *template, const char *template_text)
{
	TriggerDesc *triggers = CopyTriggerDesc(relation->trigdesc);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];
		Bitmapset *columns;

		if (trigger->tgqual == NULL || strncmp(trigger->tgname, "cache_aside_", 12) != 0 ||
			ca_rule_name_kind(trigger->tgfoid) != CA_TRIGGER_ROW || trigger->tgnargs != 1 ||
			strcmp(trigger->tgargs[0], template_text) != 0)
			continue;
		columns = ca_watched_columns(trigger->tgqual);
		if (!bms_is_member(0, columns) && !bms_is_subset(ca_template_columns(template), columns))
			return psprintf(
				"trigger \"%s\" compares other columns than the template names: keys are "
				"missed",
				trigger->tgname);
	}
	return NULL;
}

static const char *
template_problem(Relation relation, const char *template)
{
	const char *pattern = ca_template_text_pattern(template);
	const char *missing = NULL;
	CaTemplate *parsed;

	if (pattern == NULL)
		return "the template is malformed";
	if (ca_prefix_reserves(pattern, strlen(pattern)))
		return "its keys are reserved, every write fails; see cache_aside.key_prefix";
	parsed = ca_template_parse(template, RelationGetDescr(relation),
							   RelationGetRelationName(relation), &missing);
	if (missing == NULL)
		return watch_problem(relation, parsed, template);
	return psprintf("column \"%s\" %s: every write deletes the rule's whole pattern", missing,
					ca_template_missing(RelationGetDescr(relation), missing));
}

static const char *
query_problem(Relation relation, const CaTriggerFacts *facts)
{
	const char *problem;

	if (!ca_approval_is(facts->enabled))
		return NULL; /* which gaps says already */
	problem = ca_query_problem(relation, facts->args[1],
							   facts->nargs < CA_QUERY_ARGS ? NULL : facts->args[3]);
	if (problem == NULL)
		return NULL;
	return psprintf("the query fails, every write deletes the rule's whole pattern: %s", problem);
}

static bool
may_see(Oid relid)
{
	return ca_owns_relation(relid, GetUserId()) || has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

/*
 * NULL when rule and table fit. The trigger is looked at under the table's lock: before, its owner
 * might be another one than the one who approved it.
 */
Datum
cache_aside_rule_problem_1_1(PG_FUNCTION_ARGS)
{
	CaTriggerFacts facts;
	Relation relation;
	const char *problem = NULL;

	if (!ca_rule_trigger_find(PG_GETARG_OID(0), NULL, &facts) || facts.kind == CA_TRIGGER_NONE ||
		!may_see(facts.relid))
		PG_RETURN_NULL();
	relation = try_relation_open(facts.relid, AccessShareLock);
	if (relation == NULL)
		PG_RETURN_NULL();
	if (ca_rule_trigger_find(PG_GETARG_OID(0), NULL, &facts) &&
		facts.relid == RelationGetRelid(relation) && may_see(facts.relid))
	{
		if (facts.nargs == 0)
			problem = "the trigger has no template as its argument";
		else if (!is_text(&facts))
			problem = "an argument is not text in this database's encoding: every write fails";
		else if (ca_rule_name_is_query(facts.nargs))
			problem = query_problem(relation, &facts);
		else
			problem = template_problem(relation, facts.args[0]);
	}
	relation_close(relation, AccessShareLock);
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}
