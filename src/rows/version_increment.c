/*
 * version_increment.c: "SET version = version + 1" where writers present the version they read.
 *
 * With presents 'read' the trigger wants exactly the old version, and sees only the value that a statement
 * assigns. A statement that counts the row's own version up (Django's F('version') + 1, Rails' update_all
 * and counters, TypeORM, Knex' increment) assigns old + 1 whatever old is: it presents nothing, what
 * it read is in its WHERE or nowhere. By the value it cannot be told from a stale writer, by its form it can.
 *
 * So the planner is given "version + (1 - 1)" for it: what the row has, evaluated again for the newest row
 * like the rest of the statement when another writer was first. The trigger takes it for the old version, and
 * counts. Only the form
 *
 *	version + k, COALESCE(version, c) + k, the other way round, casts anywhere; k is 1, or a parameter
 *
 * is changed, in UPDATE, ON CONFLICT DO UPDATE and MERGE; a parameter that is not 1 is refused. With 'next' and
 * 'echo' old + 1 is what the trigger accepts anyway.
 *
 * Input: the tree that the planner may scribble on, after rewriting, so that the target of a view is its
 * table. What the decision rests on (the trigger, whether it is enabled) invalidates plans when it changes;
 * session_replication_role and import_mode reset them. Where tables inherit, children may keep versions in
 * another way: then nothing is changed.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "rows/row_version.h"
#include "rows/rows.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"

static planner_hook_type previous_planner;

/* ---- the form ---- */

static Node *
strip_casts(Node *node)
{
	for (;;)
	{
		if (node != NULL && IsA(node, RelabelType))
			node = (Node *) ((RelabelType *) node)->arg;
		else if (node != NULL && IsA(node, FuncExpr) &&
				 ((FuncExpr *) node)->funcformat != COERCE_EXPLICIT_CALL &&
				 list_length(((FuncExpr *) node)->args) == 1)
			node = linitial(((FuncExpr *) node)->args);
		else
			return node;
	}
}

static bool
is_own_version(Node *node, Index varno, AttrNumber attnum)
{
	node = strip_casts(node);
	if (node != NULL && IsA(node, CoalesceExpr) &&
		list_length(((CoalesceExpr *) node)->args) == 2 &&
		IsA(strip_casts(lsecond(((CoalesceExpr *) node)->args)), Const))
		node = strip_casts(linitial(((CoalesceExpr *) node)->args));
	return node != NULL && IsA(node, Var) && ((Var *) node)->varno == varno &&
		   ((Var *) node)->varattno == attnum && ((Var *) node)->varlevelsup == 0;
}

static bool
is_addition(Oid function)
{
	switch (function)
	{
		case F_INT2PL:
		case F_INT4PL:
		case F_INT8PL:
		case F_INT24PL:
		case F_INT42PL:
		case F_INT28PL:
		case F_INT82PL:
		case F_INT48PL:
		case F_INT84PL:
			return true;
		default:
			return false;
	}
}

static bool
is_one(Node *node)
{
	Const *value = (Const *) node;

	if (!IsA(node, Const) || value->constisnull)
		return false;
	return value->consttype == INT2OID   ? DatumGetInt16(value->constvalue) == 1
		   : value->consttype == INT4OID ? DatumGetInt32(value->constvalue) == 1
		   : value->consttype == INT8OID ? DatumGetInt64(value->constvalue) == 1
										 : false;
}

static Node *
one_less(Node *node)
{
	Oid type = exprType(node);
	Oid minus = type == INT2OID ? F_INT2MI : type == INT4OID ? F_INT4MI : F_INT8MI;
	Datum one = type == INT2OID   ? Int16GetDatum(1)
				: type == INT4OID ? Int32GetDatum(1)
								  : Int64GetDatum(1);
	int16 len;
	bool by_value;

	get_typlenbyval(type, &len, &by_value);
	return (Node *) makeFuncExpr(
		minus, type, list_make2(node, makeConst(type, -1, InvalidOid, len, one, false, by_value)),
		InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* Makes version + k of an assignment version + (k - 1). */
static void
change_assignment(TargetEntry *entry, Index varno, AttrNumber attnum)
{
	OpExpr *sum = (OpExpr *) strip_casts((Node *) entry->expr);
	ListCell *left;
	ListCell *right;
	ListCell *step;
	Node *value;

	if (sum == NULL || !IsA(sum, OpExpr) || list_length(sum->args) != 2 ||
		!is_addition(get_opcode(sum->opno)))
		return;
	left = list_head(sum->args);
	right = list_tail(sum->args);
	step = is_own_version(lfirst(left), varno, attnum)    ? right
		   : is_own_version(lfirst(right), varno, attnum) ? left
														  : NULL;
	if (step == NULL)
		return;
	value = strip_casts(lfirst(step));
	if (IsA(value, Param) || is_one(value))
		lfirst(step) = one_less(lfirst(step));
}

static void
change_assignments(List *targets, Index varno, AttrNumber attnum)
{
	ListCell *cell;

	foreach (cell, targets)
	{
		TargetEntry *entry = lfirst(cell);

		if (entry->resno == attnum && !entry->resjunk)
			change_assignment(entry, varno, attnum);
	}
}

/* ---- the table ---- */

/* The column that keeps versions which writers present as they read them, or 0. */
static AttrNumber
read_column(const RangeTblEntry *entry)
{
	Relation relation;
	Trigger *trigger;
	AttrNumber attnum = InvalidAttrNumber;

	if (entry->rtekind != RTE_RELATION)
		return InvalidAttrNumber;
	relation = table_open(entry->relid, NoLock);
	trigger = relation->rd_rel->relkind == RELKIND_RELATION && entry->inh &&
					  relation->rd_rel->relhassubclass
				  ? NULL
				  : ca_version_settings_trigger(relation);
	if (trigger != NULL && trigger->tgnargs > 1 && ca_version_settings_active(trigger) &&
		strncmp(trigger->tgargs[1], "read", 4) == 0)
		attnum = ca_version_settings_column(relation, trigger->tgargs[0]);
	table_close(relation, NoLock);
	return attnum;
}

/* ---- statements ---- */

static void
change_query(Query *query)
{
	AttrNumber attnum;
	ListCell *cell;

	foreach (cell, query->cteList)
		change_query(castNode(Query, lfirst_node(CommonTableExpr, cell)->ctequery));
	if (query->commandType != CMD_UPDATE && query->commandType != CMD_MERGE &&
		(query->commandType != CMD_INSERT || query->onConflict == NULL))
		return;
	attnum = read_column(rt_fetch(query->resultRelation, query->rtable));
	if (attnum == InvalidAttrNumber)
		return;
	if (query->commandType == CMD_UPDATE)
		change_assignments(query->targetList, query->resultRelation, attnum);
	if (query->onConflict != NULL)
		change_assignments(query->onConflict->onConflictSet, query->resultRelation, attnum);
	foreach (cell, query->mergeActionList)
		if (lfirst_node(MergeAction, cell)->commandType == CMD_UPDATE)
			change_assignments(lfirst_node(MergeAction, cell)->targetList, query->resultRelation,
							   attnum);
}

static PlannedStmt *
plan(Query *query, const char *source, int options, ParamListInfo parameters CA_PLANNER_MORE)
{
	change_query(query);
	return previous_planner ? previous_planner(query, source, options, parameters CA_PLANNER_PASS)
							: standard_planner(query, source, options, parameters CA_PLANNER_PASS);
}

/* Of cache_aside.import_mode, under which nothing is to be changed. */
void
ca_version_increment_assign(bool value, void *extra)
{
	ResetPlanCache();
}

void
ca_version_increment_init(void)
{
	previous_planner = planner_hook;
	planner_hook = plan;
}
