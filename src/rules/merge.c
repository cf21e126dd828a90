/*
 * merge.c: MERGE that moves rows between partitions, which statement triggers do not see.
 *
 * What PostgreSQL (15 to 19) hands to the AFTER STATEMENT triggers of a partitioned table when an update
 * moves a row to another partition, that is, deletes it here and inserts it there:
 *
 *	UPDATE			both halves go into the transition tables of the UPDATE trigger
 *	INSERT ... ON CONFLICT DO UPDATE	refused: a row cannot move ("invalid ON UPDATE specification")
 *	MERGE			the halves go into the tables of the DELETE and of the INSERT trigger, as if those actions
 *					had done it (nodeModifyTable.c compares the operation with CMD_UPDATE), but triggers
 *					fire for the actions that the statement *has*. MERGE with an UPDATE action alone fires
 *					the UPDATE trigger, with none of the moved rows; with an INSERT action too, their old
 *					rows are missing.
 *
 * With RETURNING (17) it is the same, at the top, in WITH, in COPY: what was not fetched, ExecutorFinish runs.
 * UPDATE ... FOR PORTION OF is in no release up to 19.
 *
 * Row triggers see both halves. A statement trigger cannot tell what it was not given, so this looks at
 * the statement when it has run: a MERGE that has updated rows and set up the routing to other partitions,
 * that lacks one of the other two actions, and whose UPDATE actions set a column that decides on the
 * partition, or where somebody's BEFORE trigger might have set one. Then the rules whose statement
 * trigger was left out delete their patterns. An upsert that leaves the partition key alone costs nothing.
 *
 * Input: the executor's state after ExecutorFinish, before ExecutorEnd. Output: pending patterns.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "transaction/transaction.h"
#include "rows/row_version.h"
#include "rules/rules.h"

#include "access/sysattr.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "optimizer/optimizer.h"
#include "utils/partcache.h"
#include "utils/rel.h"

static ExecutorFinish_hook_type previous_finish;

/* A BEFORE trigger that may put anything into the row; the one for row versions does not. */
static bool
has_before_update(const TriggerDesc *triggers)
{
	if (triggers == NULL || !triggers->trig_update_before_row)
		return false;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			TRIGGER_FOR_UPDATE(trigger->tgtype) && !ca_version_settings_is(trigger->tgfoid))
			return true;
	}
	return false;
}

/* May the statement have changed what keeps a row in this partition? */
static bool
sets_partition(ResultRelInfo *partition, EState *estate)
{
	Bitmapset *deciding = NULL;

	if (has_before_update(partition->ri_TrigDesc))
		return true;
	pull_varattnos((Node *) RelationGetPartitionQual(partition->ri_RelationDesc), 1, &deciding);
	return bms_is_member(-FirstLowInvalidHeapAttributeNumber, deciding) || /* the whole row */
		   bms_overlap(deciding, ExecGetUpdatedCols(partition, estate));
}

static bool
may_have_moved(ModifyTableState *state)
{
	const int others = MERGE_INSERT | MERGE_DELETE;

	if (state->operation != CMD_MERGE || state->mt_merge_updated == 0 ||
		state->mt_partition_tuple_routing == NULL ||
		(state->mt_merge_subcommands & others) == others)
		return false;
	for (int i = 0; i < state->mt_nrels; i++)
		if (sets_partition(&state->resultRelInfo[i], state->ps.state))
			return true;
	return false;
}

static bool
is_left_out(const Trigger *trigger)
{
	return TRIGGER_FOR_UPDATE(trigger->tgtype) && trigger->tgenabled != TRIGGER_DISABLED &&
		   ca_rule_name_kind(trigger->tgfoid) == CA_TRIGGER_STATEMENT;
}

static bool
has_left_out(const TriggerDesc *triggers)
{
	if (triggers == NULL || !triggers->trig_update_old_table)
		return false;
	for (int i = 0; i < triggers->numtriggers; i++)
		if (is_left_out(&triggers->triggers[i]))
			return true;
	return false;
}

static void
add_patterns(const TriggerDesc *triggers)
{
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];
		const char *pattern =
			is_left_out(trigger) ? ca_rule_name_pattern(trigger->tgnargs, trigger->tgargs) : NULL;

		if (pattern != NULL)
			ca_entries_add_rule_pattern(pattern);
	}
}

static void
look_at(PlanState *plan)
{
	ModifyTableState *state = (ModifyTableState *) plan;

	if (plan != NULL && IsA(plan, ModifyTableState) &&
		has_left_out(state->rootResultRelInfo->ri_TrigDesc) && may_have_moved(state))
		add_patterns(state->rootResultRelInfo->ri_TrigDesc);
}

static void
finish_query(QueryDesc *query)
{
	MemoryContext previous;
	ListCell *cell;

	if (previous_finish)
		previous_finish(query);
	else
		standard_ExecutorFinish(query);
	if (!guc_enabled || CA_DEBUG_SKIP("merge") ||
		(query->operation != CMD_MERGE && query->estate->es_auxmodifytables == NIL))
		return;
	previous = MemoryContextSwitchTo(query->estate->es_query_cxt);
	look_at(query->planstate);
	foreach (cell, query->estate->es_auxmodifytables)
		look_at(lfirst(cell));
	MemoryContextSwitchTo(previous);
}

void
ca_merge_init(void)
{
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_query;
}
