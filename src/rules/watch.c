/*
 * watch.c: the columns that a row trigger watches, when one of them changes.
 *
 *	attach(..., columns => '{price}')	AFTER UPDATE WHEN (record_image_ne(ROW(OLD.price, ...), ...))
 *	by hand								any WHEN, and UPDATE OF
 *
 * The catalog keeps both by attribute number, the template goes by name. After "add a column, copy,
 * rename the old one away, rename the new one in" the trigger would watch the column that is on its
 * way out, and never fire for the one that now bears the name. And a watched column could not be
 * dropped, or get another type, unless CASCADE drops the trigger too.
 *
 * So a trigger stops watching as soon as one of its columns is renamed, dropped, or gets another type
 * or collation: WHEN and UPDATE OF go, and with them the dependencies on columns. From then on every
 * UPDATE counts: keys too many, none missed, by the template's names of today. A warning says so, and
 * gaps, with the statement that makes the rule anew; the names it watched are kept as the trigger's
 * comment, which is dumped too. A column that was dropped is left out; if one of the names is gone all the
 * same, its column bears another, so the statement names no columns rather than too few.
 *
 * When: for DROP COLUMN and ALTER TYPE before the statement, which would be refused otherwise; for
 * RENAME in the object access hook, so whatever statement renames. A trigger of ours is changed under
 * the lock that the statement itself takes, and only for a caller who may run it; an error of the
 * statement takes the change back. Copies on partitions are triggers of their own, each is changed.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "common/debug.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/comment.h"
#include "miscadmin.h"
#include "nodes/nodes.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* ---- to watch no more ---- */

/* "doc, price": the names as they were, without that of a column which goes (0: none). */
static char *
names_of(Oid relid, const Bitmapset *columns, AttrNumber gone)
{
	StringInfoData names;
	int attnum = 0;

	initStringInfo(&names);
	while ((attnum = bms_next_member(columns, attnum)) >= 0)
	{
		char *name = get_attname(relid, (AttrNumber) attnum, true);

		if (name != NULL && attnum != gone)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", quote_identifier(name));
	}
	return names.data;
}

static void
warn_watch(Oid relid, const char *trigger, const char *template, const char *column)
{
	ereport(
		WARNING,
		(errcode(ERRCODE_WARNING),
		 errmsg("cache rule \"%s\" of table \"%s\" no longer compares columns",
				ca_text_show(template), get_rel_name(relid)),
		 errdetail("Trigger \"%s\" compared column \"%s\", which is changed. Every UPDATE of a row "
				   "counts from now on.",
				   trigger, column),
		 errhint("See cache_aside.gaps for the statement that makes the rule anew.")));
}

static void
clear_watch(Relation catalog, HeapTuple tuple, const Bitmapset *columns, AttrNumber gone)
{
	Datum values[Natts_pg_trigger] = {0};
	bool nulls[Natts_pg_trigger] = {0};
	bool replaces[Natts_pg_trigger] = {0};
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	HeapTuple changed;

	replaces[Anum_pg_trigger_tgqual - 1] = nulls[Anum_pg_trigger_tgqual - 1] = true;
	replaces[Anum_pg_trigger_tgattr - 1] = true;
	values[Anum_pg_trigger_tgattr - 1] = PointerGetDatum(buildint2vector(NULL, 0));
	changed = heap_modify_tuple(tuple, RelationGetDescr(catalog), values, nulls, replaces);
	CatalogTupleUpdate(catalog, &changed->t_self, changed);
	/* On columns of the table; the dependency on the table itself is an automatic one. */
	deleteDependencyRecordsForSpecific(TriggerRelationId, form->oid, DEPENDENCY_NORMAL,
									   RelationRelationId, form->tgrelid);
	CreateComments(form->oid, TriggerRelationId, 0,
				   psprintf("cache_aside: compared %s", names_of(form->tgrelid, columns, gone)));
}

typedef struct ChangedColumn
{
	AttrNumber attnum;
	char *name;
	bool goes; /* it is dropped, not renamed or retyped */
	bool any;  /* some trigger watched it */
} ChangedColumn;

static void
clear_trigger(Relation catalog, HeapTuple tuple, CaTriggerFacts *facts, void *arg)
{
	ChangedColumn *column = arg;
	Bitmapset *columns;

	if (facts->kind != CA_TRIGGER_ROW)
		return;
	columns = ca_watched_by(facts);
	if (!bms_is_member(column->attnum, columns))
		return;
	clear_watch(catalog, tuple, columns, column->goes ? column->attnum : 0);
	column->any = true;
	if (!OidIsValid(facts->parent))
		warn_watch(facts->relid, facts->name, facts->nargs > 0 ? facts->args[0] : "", column->name);
}

/* The triggers of a table that watch the column. */
static void
clear_table(Oid relid, AttrNumber attnum, bool goes)
{
	ChangedColumn column = {attnum, get_attname(relid, attnum, true), goes, false};

	ca_rule_trigger_each(relid, RowExclusiveLock, clear_trigger, &column);
	if (column.any)
		CacheInvalidateRelcacheByRelid(relid);
}

/* ---- when ---- */

void
ca_watch_after_alter(Oid relid, int attnum)
{
	if (ca_altered_column(relid, attnum) && !CA_DEBUG_SKIP("watch"))
		clear_table(relid, (AttrNumber) attnum, false);
}

/* The name of the column that the command drops or gives another type, or NULL. */
static const char *
changed_column(const AlterTableCmd *command)
{
	return command->subtype == AT_DropColumn || command->subtype == AT_AlterColumnType
			   ? command->name
			   : NULL;
}

static void
clear_tree(Oid relid, const char *column, bool goes)
{
	ListCell *cell;

	foreach (cell, ca_relatives_tree(relid, AccessExclusiveLock))
	{
		AttrNumber attnum = get_attnum(lfirst_oid(cell), column);

		if (attnum > 0)
			clear_table(lfirst_oid(cell), attnum, goes);
	}
}

/*
 * Before ALTER TABLE. Whoever does not own the table gets the statement's own error, and no lock. A
 * table that is renamed between the look-up and the lock keeps its triggers: then the statement finds
 * another table, or is refused as it would have been.
 */
void
ca_watch_before_alter(Oid relid, AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst(cell);
		const char *column = changed_column(command);

		if (column == NULL || !ca_owns_relation(relid, GetUserId()) ||
			get_attnum(relid, column) <= 0)
			continue;
		LockRelationOid(relid, AccessExclusiveLock);
		clear_tree(relid, column, command->subtype == AT_DropColumn);
		CommandCounterIncrement(); /* for the next column, which may be the same trigger's */
	}
}
