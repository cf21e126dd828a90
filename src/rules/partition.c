/*
 * partition.c: rules of a partitioned table reach its partitions.
 *
 * PostgreSQL clones row triggers to partitions and takes the clones away at DETACH. Two things it does
 * not do, and this file does, in the utility hook:
 *
 *	TRUNCATE	A statement trigger is not cloned, so TRUNCATE of one partition would delete no key. Our
 *				TRUNCATE triggers are cloned here, to all partitions below, as children of the parent's
 *				trigger: DETACH, DROP TRIGGER, RENAME and pg_dump then treat them as PostgreSQL's own.
 *	twice		A partition that already has the rule, or row versions, has triggers by the very names of
 *				the parent's when the parent took over the table's name. They step aside (a new name), the
 *				clones come, and those that do nothing that a clone does not do are dropped. One that does
 *				more stays: a key is deleted twice rather than not at all. Row versions cannot stay twice,
 *				a row would be counted twice: kept in another way, they are refused.
 *
 *	before		ATTACH PARTITION, CREATE TRIGGER on a partitioned table: names are made free
 *	after		those, CREATE TABLE ... PARTITION OF and any ALTER TABLE of a partitioned table, for it may
 *				enable a trigger: settle() compares each partition with its parent
 *
 * Whose rights: the owner of the parent decides (CREATE TRIGGER, ATTACH and PARTITION OF demand it), as
 * with PostgreSQL's own clones. Nothing is done before the statement for who does not own both tables:
 * the statement will fail on that. A clone is made as the owner of the partition, who need not be the
 * parent's.
 *
 * Locks: those that the statement itself takes, in its order. settle() looks without a lock and locks
 * a partition only to change it, then looks again; what another session is attaching meanwhile is that
 * session's to settle, for the parent's lock (SHARE ROW EXCLUSIVE of CREATE TRIGGER) excludes ATTACH.
 * Everything is catalog, rolled back with the statement.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "rows/row_version.h"
#include "rules/rules.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

static bool
is_partitioned(Oid relid)
{
	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE;
}

/* ---- a partition and its parent ---- */

static void settle_below(Oid relid);

static void
settle(Oid relid, Oid parent)
{
	ListCell *cell;

	foreach (cell, ca_partition_trigger_list(parent))
	{
		CaTriggerFacts *trigger = lfirst(cell);

		if (trigger->kind == CA_TRIGGER_TABLE)
			ca_partition_trigger_cover_truncate(relid, trigger);
	}
	ca_partition_trigger_drop_replaced(relid);
	settle_below(relid);
}

static void
settle_below(Oid relid)
{
	ListCell *cell;

	if (!is_partitioned(relid) || ca_partition_trigger_list(relid) == NIL)
		return;
	foreach (cell, find_inheritance_children(relid, NoLock))
	{
		CHECK_FOR_INTERRUPTS();
		settle(lfirst_oid(cell), relid);
	}
}

/* ---- statements ---- */

static Oid
find_table(RangeVar *name)
{
	return RangeVarGetRelid(name, NoLock, true);
}

static bool
is_owner(Oid relid)
{
	return OidIsValid(relid) && ca_owns_relation(relid, GetUserId());
}

/* The table that the statement attaches, or NULL. */
static RangeVar *
attached(AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst(cell);

		if (command->subtype == AT_AttachPartition)
			return ((PartitionCmd *) command->def)->name;
	}
	return NULL;
}

static void
before_attach(AlterTableStmt *statement)
{
	RangeVar *name = attached(statement);
	Oid parent = name != NULL ? find_table(statement->relation) : InvalidOid;
	Oid child = name != NULL ? find_table(name) : InvalidOid;
	List *triggers;
	ListCell *cell;

	if (!is_partitioned(parent) || !is_owner(parent) || !is_owner(child))
		return;
	triggers = ca_partition_trigger_list(parent);
	if (triggers == NIL || ca_partition_trigger_list(child) == NIL)
		return;
	LockRelationOid(parent, ShareUpdateExclusiveLock);
	foreach (cell, ca_relatives_tree(child, AccessExclusiveLock))
	{
		ListCell *each;

		foreach (each, triggers)
		{
			CaTriggerFacts *trigger = lfirst(each);

			if (ca_partition_trigger_is_cloned(trigger))
				ca_partition_trigger_free_name(lfirst_oid(cell), trigger->name);
		}
	}
}

/* The partitioned table that gets a trigger which its partitions will have too, or 0. */
static Oid
triggered(CreateTrigStmt *statement)
{
	Oid function = LookupFuncName(statement->funcname, 0, NULL, true);
	Oid relid = find_table(statement->relation);

	if (!OidIsValid(function) || !is_partitioned(relid) ||
		(ca_rule_name_kind(function) == CA_TRIGGER_NONE && !ca_version_settings_is(function)) ||
		(!statement->row && !TRIGGER_FOR_TRUNCATE(statement->events)))
		return InvalidOid;
	return relid;
}

static void
before_trigger(CreateTrigStmt *statement)
{
	Oid relid = triggered(statement);
	ListCell *cell;

	if (!is_owner(relid))
		return;
	LockRelationOid(relid, ShareRowExclusiveLock);
	/* OR REPLACE, or an error: below are its clones */
	if (ca_partition_trigger_has_name(ca_partition_trigger_list(relid), statement->trigname))
		return;
	foreach (cell, ca_relatives_tree(relid, ShareRowExclusiveLock))
		if (lfirst_oid(cell) != relid)
			ca_partition_trigger_free_name(lfirst_oid(cell), statement->trigname);
}

void
ca_partition_before(Node *statement)
{
	if (IsA(statement, AlterTableStmt))
		before_attach((AlterTableStmt *) statement);
	else if (IsA(statement, CreateTrigStmt))
		before_trigger((CreateTrigStmt *) statement);
}

static void
after_create(CreateStmt *statement)
{
	Oid parent;
	Oid child;

	if (statement->partbound == NULL || list_length(statement->inhRelations) != 1)
		return;
	parent = find_table(linitial(statement->inhRelations));
	child = find_table(statement->relation);
	if (is_partitioned(parent) && is_owner(parent) && OidIsValid(child))
		settle(child, parent);
}

static void
after_alter(AlterTableStmt *statement)
{
	Oid relid = find_table(statement->relation);
	RangeVar *name = attached(statement);
	Oid child = name != NULL ? find_table(name) : InvalidOid;

	if (!is_partitioned(relid) || !is_owner(relid))
		return;
	if (OidIsValid(child))
		settle(child, relid);
	else
		settle_below(relid);
}

void
ca_partition_after(Node *statement)
{
	if (IsA(statement, AlterTableStmt))
		after_alter((AlterTableStmt *) statement);
	else if (IsA(statement, CreateTrigStmt))
		settle_below(triggered((CreateTrigStmt *) statement));
	else if (IsA(statement, CreateStmt))
		after_create((CreateStmt *) statement);
	else if (IsA(statement, CreateForeignTableStmt))
		after_create(&((CreateForeignTableStmt *) statement)->base);
}
