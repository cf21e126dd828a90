/*
 * foreign.c: foreign tables below a table whose rule works by statement.
 *
 * Transition tables cannot hold rows of a foreign table. As soon as the table above has a trigger that wants
 * them, core refuses every INSERT, COPY, UPDATE, DELETE or move of a row that reaches the foreign table
 * through it ("cannot collect transition tuples from child foreign tables"; minor releases before August 2025
 * left the rows out, and with them their keys). So attach refuses such a rule, and a query rule, which works
 * by statement too.
 *
 * TRUNCATE of a foreign table fires no trigger before PostgreSQL 16: there the patterns of its rules, and of those
 * above it, are added when the statement has run.
 *
 * A foreign table that comes below later is not refused: a cache rule forbids no DDL. Then this warns, and
 * gaps has the statement that repairs it.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/common.h"
#include "common/compat.h"
#include "rules/rules.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"

static void
warn_table(Oid relid, Oid foreign)
{
	ListCell *cell;

	foreach (cell, ca_rule_trigger_list(relid))
	{
		CaTriggerFacts *trigger = lfirst(cell);

		if (trigger->kind != CA_TRIGGER_STATEMENT)
			continue;
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("writes through table \"%s\" that reach foreign table \"%s\" will fail",
						get_rel_name(relid), get_rel_name(foreign)),
				 errdetail("Cache rule \"%s\" works by statement, and a foreign table has no "
						   "transition tables.",
						   ca_text_show(ca_rule_name_of(trigger->nargs, trigger->args))),
				 errhint("See cache_aside.gaps for the statement that repairs it.")));
		return;
	}
}

static void
warn_above(Oid relid, Oid foreign)
{
	ListCell *cell;

	check_stack_depth();
	foreach (cell, ca_catalog_parents(relid))
	{
		warn_table(lfirst_oid(cell), foreign);
		warn_above(lfirst_oid(cell), foreign);
	}
}

/* The table that the statement puts below another one, or NULL. */
static RangeVar *
put_below(Node *statement)
{
	ListCell *cell;

	if (IsA(statement, CreateForeignTableStmt))
		return ((CreateForeignTableStmt *) statement)->base.inhRelations == NIL
				   ? NULL
				   : ((CreateForeignTableStmt *) statement)->base.relation;
	if (!IsA(statement, AlterTableStmt))
		return NULL;
	foreach (cell, ((AlterTableStmt *) statement)->cmds)
	{
		AlterTableCmd *command = lfirst(cell);

		if (command->subtype == AT_AttachPartition)
			return ((PartitionCmd *) command->def)->name;
		if (command->subtype == AT_AddInherit)
			return ((AlterTableStmt *) statement)->relation;
	}
	return NULL;
}

static void
note_truncated(TruncateStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->relations)
	{
		RangeVar *name = lfirst(cell);
		Oid relid = RangeVarGetRelid(name, NoLock, true);
		ListCell *below;

		if (!OidIsValid(relid))
			continue;
		foreach (below, name->inh ? ca_relatives_tree(relid, NoLock) : list_make1_oid(relid))
			if (get_rel_relkind(lfirst_oid(below)) == RELKIND_FOREIGN_TABLE)
				ca_reach_add(RelationRelationId, lfirst_oid(below));
	}
}

void
ca_foreign_after(Node *statement)
{
	RangeVar *name = put_below(statement);
	Oid relid = name == NULL ? InvalidOid : RangeVarGetRelid(name, NoLock, true);
	Oid foreign = OidIsValid(relid) ? ca_relatives_foreign_below(relid) : InvalidOid;

	if (OidIsValid(foreign))
		warn_above(relid, foreign);
	if (IsA(statement, TruncateStmt) && guc_enabled && !CA_FOREIGN_TRUNCATE_TRIGGERS)
		note_truncated((TruncateStmt *) statement);
}
