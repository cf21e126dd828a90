/*
 * version_attach.c: a table with row versions becomes a partition, or a child, of one whose version column
 * is NOT NULL.
 *
 * enable_versioning() takes NOT NULL from the column (enable_versioning.c says why), and core lets no table with
 * a nullable column under one where it is NOT NULL. The everyday case is a table that moves, renamed, under
 * a successor which was written with the column as it used to be, and gets rules and versions of its own
 * afterwards. So the column is made NOT NULL before ATTACH PARTITION and INHERIT; enable_versioning() on the
 * parent takes it off both again. Rows are looked at once more, as ATTACH does; NULL among them is core's error.
 *
 * Only where the statement would fail, and for who owns both tables. Locks as ATTACH takes them: the parent
 * first.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

/* Has the relation this column, and is it NOT NULL (or nullable, as `wanted`)? */
static bool
column_is(Oid relid, const char *column, bool wanted)
{
	HeapTuple tuple = SearchSysCacheAttName(relid, column);
	bool found;

	if (!HeapTupleIsValid(tuple))
		return false;
	found = ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull == wanted;
	ReleaseSysCache(tuple);
	return found;
}

static bool
needs_not_null(Oid parent, Oid child, const char *column)
{
	return column_is(parent, column, true) && column_is(child, column, false);
}

static void
set_not_null(Oid relid, const char *column)
{
	char *sql = psprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", ca_rule_name_table(relid),
						 quote_identifier(column));

	SPI_connect();
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run: %s", sql);
	SPI_finish();
}

static void
align(Oid parent, Oid child)
{
	CaTriggerFacts facts;

	if (!OidIsValid(parent) || !OidIsValid(child) || !ca_owns_relation(parent, GetUserId()) ||
		!ca_owns_relation(child, GetUserId()) ||
		!ca_rule_trigger_find(ca_rule_trigger_version(child), NULL, &facts) || facts.nargs == 0 ||
		!needs_not_null(parent, child, facts.args[0]))
		return;
	LockRelationOid(parent, ShareUpdateExclusiveLock);
	LockRelationOid(child, AccessExclusiveLock);
	if (needs_not_null(parent, child, facts.args[0]))
		set_not_null(child, facts.args[0]);
}

static Oid
find_table(RangeVar *name)
{
	return RangeVarGetRelid(name, NoLock, true);
}

void
ca_version_attach_before(Node *node)
{
	AlterTableStmt *statement = (AlterTableStmt *) node;
	ListCell *cell;

	if (!IsA(node, AlterTableStmt))
		return;
	foreach (cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst(cell);

		if (command->subtype == AT_AttachPartition)
			align(find_table(statement->relation),
				  find_table(((PartitionCmd *) command->def)->name));
		else if (command->subtype == AT_AddInherit)
			align(find_table((RangeVar *) command->def), find_table(statement->relation));
	}
}
