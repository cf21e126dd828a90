/*
 * watched.c: the columns that a row trigger watches, read from the catalog's row of it.
 *
 * Input: a trigger's WHEN and UPDATE OF. Output: attribute numbers; 0 stands for the whole row. Nothing is changed
 * here, that is watch.c's business.
 */
#include "cache_aside.h"
#include "rules/rules.h"

#include "access/sysattr.h"
#include "catalog/pg_trigger.h"
#include "nodes/nodes.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"

Bitmapset *
ca_watched_columns(const char *condition)
{
	Bitmapset *offset = NULL;
	Bitmapset *columns = NULL;
	Node *node = stringToNode(condition);
	int member = -1;

	pull_varattnos(node, PRS2_OLD_VARNO, &offset);
	pull_varattnos(node, PRS2_NEW_VARNO, &offset);
	while ((member = bms_next_member(offset, member)) >= 0)
	{
		int attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum >= 0)
			columns = bms_add_member(columns, attnum);
	}
	return columns;
}

/* Attribute numbers in WHEN and UPDATE OF; 0 stands for the whole row. */
Bitmapset *
ca_watched_by(const CaTriggerFacts *facts)
{
	if (facts->condition == NULL)
		return facts->update_of;
	return bms_union(ca_watched_columns(facts->condition), facts->update_of);
}

/* Is it the comparison that attach writes? Any other may be false for a column that it does not name. */
static bool
is_comparison(const char *condition)
{
	Node *node = stringToNode(condition);

	return IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_RECORD_IMAGE_NE;
}

Bitmapset *
ca_watched_compared(const CaTriggerFacts *facts)
{
	if (facts->condition != NULL && !is_comparison(facts->condition))
		return NULL;
	return ca_watched_by(facts);
}

Bitmapset *
ca_watched_rule(const CaTriggerFacts *facts)
{
	const char *name = ca_rule_name_of(facts->nargs, facts->args);
	Bitmapset *columns = NULL;
	ListCell *cell;

	foreach (cell, ca_rule_trigger_list(facts->relid))
	{
		CaTriggerFacts *trigger = lfirst(cell);
		Bitmapset *compared;

		if (!TRIGGER_FOR_UPDATE(trigger->type) ||
			strcmp(ca_rule_name_of(trigger->nargs, trigger->args), name) != 0)
			continue;
		compared = ca_watched_compared(trigger);
		if (compared == NULL)
			return NULL;
		columns = bms_add_members(columns, compared);
	}
	return columns;
}
