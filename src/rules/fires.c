/*
 * fires.c: would this trigger fire for this write, and if not, why?
 *
 * Input: a row or statement trigger of a rule, the rows of one write, in slots of the relation's own form. Output: NULL, or
 * the reason in words. What core decides in TriggerEnabled() is decided here by the same rules: the state of the trigger
 * under session_replication_role, UPDATE OF, WHEN. Core knows which columns an UPDATE assigns, we only which differ: an
 * UPDATE OF that assigns a value that was there already is said not to fire, and the reason says so.
 *
 * WHEN is evaluated as whoever calls: explain() has become the table's owner before, in a read-only transaction.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "rules/rule.h"
#include "rules/rules.h"

#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodes.h"
#include "nodes/primnodes.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

static const char *
state_problem(const Trigger *trigger)
{
	bool replica = SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;

	if (trigger->tgenabled == TRIGGER_DISABLED)
		return psprintf("trigger \"%s\" is disabled", trigger->tgname);
	if (trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN && replica)
		return psprintf("trigger \"%s\" does not fire under session_replication_role = replica",
						trigger->tgname);
	if (trigger->tgenabled == TRIGGER_FIRES_ON_REPLICA && !replica)
		return psprintf("trigger \"%s\" fires for replicated changes only", trigger->tgname);
	return NULL;
}

/* Image by image, as attach compares. */
static bool
differs(Relation relation, AttrNumber attnum, const CaWrite *write)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), attnum - 1);
	bool old_null;
	bool new_null;
	Datum old_value = slot_getattr(write->old_row, attnum, &old_null);
	Datum new_value = slot_getattr(write->new_row, attnum, &new_null);

	if (old_null || new_null)
		return old_null != new_null;
	return !datum_image_eq(old_value, new_value, column->attbyval, column->attlen);
}

/* "name, email"; of the whole row: "any". */
static const char *
list_names(Relation relation, const Bitmapset *columns)
{
	StringInfoData names;
	int attnum = 0;

	if (bms_is_member(0, columns))
		return "any";
	initStringInfo(&names);
	while ((attnum = bms_next_member(columns, attnum)) >= 0)
		appendStringInfo(
			&names, "%s%s", names.len > 0 ? ", " : "",
			quote_identifier(get_attname(RelationGetRelid(relation), (AttrNumber) attnum, false)));
	return names.data;
}

static const char *
update_of_problem(Relation relation, const Trigger *trigger, const CaWrite *write)
{
	Bitmapset *columns = NULL;

	if (trigger->tgnattr == 0 || !TRIGGER_FOR_UPDATE(write->event))
		return NULL;
	for (int i = 0; i < trigger->tgnattr; i++)
	{
		if (differs(relation, trigger->tgattr[i], write))
			return NULL;
		columns = bms_add_member(columns, trigger->tgattr[i]);
	}
	return psprintf("trigger \"%s\" fires when an UPDATE assigns one of its columns (%s); none of "
					"them differs",
					trigger->tgname, list_names(relation, columns));
}

static bool
condition_holds(Relation relation, const Trigger *trigger, const CaWrite *write)
{
	EState *estate = CreateExecutorState();
	ExprContext *context = GetPerTupleExprContext(estate);
	MemoryContext previous = MemoryContextSwitchTo(estate->es_query_cxt);
	Node *condition = ca_expand_virtual(stringToNode(trigger->tgqual), relation);
	bool holds;

	ChangeVarNodes(condition, PRS2_OLD_VARNO, INNER_VAR, 0);
	ChangeVarNodes(condition, PRS2_NEW_VARNO, OUTER_VAR, 0);
	context->ecxt_innertuple = write->old_row;
	context->ecxt_outertuple = write->new_row;
	holds = ExecQual(ExecPrepareQual(make_ands_implicit((Expr *) condition), estate), context);
	MemoryContextSwitchTo(previous);
	FreeExecutorState(estate);
	return holds;
}

/* The text between WHEN ( and ), as pg_get_triggerdef() has it. */
static const char *
condition_text(const Trigger *trigger)
{
	char *definition = TextDatumGetCString(DirectFunctionCall2(
		pg_get_triggerdef_ext, ObjectIdGetDatum(trigger->tgoid), BoolGetDatum(true)));
	char *begin = strstr(definition, " WHEN (");
	char *end = begin == NULL ? NULL : strstr(begin, ") EXECUTE ");

	return end == NULL ? "WHEN" : pnstrdup(begin + 1, end - begin);
}

static const char *
condition_problem(Relation relation, const Trigger *trigger, const CaWrite *write)
{
	CaTriggerFacts facts = {.condition = trigger->tgqual};
	Bitmapset *columns;

	if (trigger->tgqual == NULL || condition_holds(relation, trigger, write))
		return NULL;
	columns = ca_watched_compared(&facts);
	if (columns == NULL)
		return psprintf("trigger \"%s\" fires only %s, which does not hold", trigger->tgname,
						condition_text(trigger));
	return psprintf("the rule watches columns, and none of them differs: %s",
					list_names(relation, columns));
}

const char *
ca_fires_problem(Relation relation, const Trigger *trigger, const CaWrite *write)
{
	const char *problem = state_problem(trigger);

	if (problem == NULL)
		problem = update_of_problem(relation, trigger, write);
	if (problem == NULL)
		problem = condition_problem(relation, trigger, write);
	return problem;
}
