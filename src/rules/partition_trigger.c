/*
 * partition_trigger.c: the triggers of a partition, beside those of its parent.
 *
 * Input: a partition and a trigger of its parent. Output: changes of pg_trigger, rolled back with the
 * statement in which they happen; when that is, and under which locks and rights, partition.c says.
 *
 *	TRUNCATE	a clone of the parent's trigger, made as the owner of the partition and recorded as its child
 *	names		a trigger of the partition by the name of a clone to come steps aside
 *	twice		a trigger that does nothing which a clone does not do is dropped
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/compat.h"
#include "common/debug.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void
list_trigger(Relation catalog, HeapTuple tuple, CaTriggerFacts *facts, void *arg)
{
	List **triggers = arg;

	*triggers = lappend(*triggers, facts);
}

List *
ca_partition_trigger_list(Oid relid)
{
	List *triggers = NIL;

	ca_rule_trigger_each(relid, AccessShareLock, list_trigger, &triggers);
	return triggers;
}

bool
ca_partition_trigger_is_cloned(const CaTriggerFacts *trigger)
{
	return TRIGGER_FOR_ROW(trigger->type) || trigger->kind == CA_TRIGGER_TABLE;
}

static bool
same_arguments(const CaTriggerFacts *a, const CaTriggerFacts *b)
{
	if (a->function != b->function || a->nargs != b->nargs)
		return false;
	for (int i = 0; i < a->nargs; i++)
		if (strcmp(a->args[i], b->args[i]) != 0)
			return false;
	return true;
}

/* ---- changes of pg_trigger ---- */

/* As ALTER TRIGGER RENAME and ALTER TABLE ENABLE do it; the table is locked. */
static void
change(const CaTriggerFacts *trigger, const char *name, char enabled)
{
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin(&scan, TriggerRelationId, RowExclusiveLock, TriggerOidIndexId,
					 Anum_pg_trigger_oid, trigger->oid, NULL);
	tuple = ca_catalog_next(&scan);
	if (HeapTupleIsValid(tuple))
	{
		HeapTuple copy = heap_copytuple(tuple);
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(copy);

		namestrcpy(&form->tgname, name);
		form->tgenabled = enabled;
		CatalogTupleUpdate(scan.catalog, &copy->t_self, copy);
		InvokeObjectPostAlterHook(TriggerRelationId, trigger->oid, 0);
		CacheInvalidateRelcacheByRelid(trigger->relid);
	}
	ca_catalog_end(&scan);
	CommandCounterIncrement();
}

static void
drop(const CaTriggerFacts *trigger)
{
	ObjectAddress address;

	ObjectAddressSet(address, TriggerRelationId, trigger->oid);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}

bool
ca_partition_trigger_has_name(List *triggers, const char *name)
{
	ListCell *cell;

	foreach (cell, triggers)
		if (strcmp(((CaTriggerFacts *) lfirst(cell))->name, name) == 0)
			return true;
	return false;
}

void
ca_partition_trigger_free_name(Oid relid, const char *name)
{
	List *triggers = ca_partition_trigger_list(relid);
	ListCell *cell;

	foreach (cell, triggers)
	{
		CaTriggerFacts *trigger = lfirst(cell);
		char *other;
		int n = 0;

		if (strcmp(trigger->name, name) != 0)
			continue;
		do
		{
			char suffix[16];

			snprintf(suffix, sizeof(suffix), "_own%d", ++n);
			other = psprintf("%.*s%s", (int) (NAMEDATALEN - 1 - strlen(suffix)), name, suffix);
		} while (ca_partition_trigger_has_name(triggers, other));
		LockRelationOid(relid, AccessExclusiveLock);
		change(trigger, other, trigger->enabled);
	}
}

/* ---- TRUNCATE ---- */

static CreateTrigStmt *
clone_statement(const CaTriggerFacts *parent)
{
	CreateTrigStmt *statement = makeNode(CreateTrigStmt);

	statement->trigname = parent->name;
	for (int i = 0; i < parent->nargs; i++)
		statement->args = lappend(statement->args, makeString(parent->args[i]));
	statement->timing = parent->type & TRIGGER_TYPE_TIMING_MASK;
	statement->events = parent->type & TRIGGER_TYPE_EVENT_MASK;
	return statement;
}

static void
make_clone(const CaTriggerFacts *parent, Relation relation)
{
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(relation->rd_rel->relowner,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	CreateTriggerFiringOn(clone_statement(parent), NULL, RelationGetRelid(relation), InvalidOid,
						  InvalidOid, InvalidOid, parent->function, parent->oid, NULL, false, true,
						  parent->enabled);
	CommandCounterIncrement();
	SetUserIdAndSecContext(user, context);
}

static const CaTriggerFacts *
find_clone(List *triggers, Oid parent)
{
	ListCell *cell;

	foreach (cell, triggers)
		if (((CaTriggerFacts *) lfirst(cell))->parent == parent)
			return lfirst(cell);
	return NULL;
}

static bool
is_like(const CaTriggerFacts *clone, const CaTriggerFacts *parent)
{
	return clone != NULL && same_arguments(clone, parent) && clone->enabled == parent->enabled;
}

void
ca_partition_trigger_cover_truncate(Oid relid, const CaTriggerFacts *parent)
{
	Relation relation;
	const CaTriggerFacts *clone;

	if (get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE && !CA_FOREIGN_TRUNCATE_TRIGGERS)
		return;
	if (CA_DEBUG_SKIP("truncate-clone"))
		return;
	if (is_like(find_clone(ca_partition_trigger_list(relid), parent->oid), parent))
		return;
	relation = try_relation_open(relid, ShareRowExclusiveLock);
	if (relation == NULL)
		return;
	clone = find_clone(ca_partition_trigger_list(relid), parent->oid);
	if (clone != NULL && same_arguments(clone, parent))
		change(clone, clone->name, parent->enabled);
	else
	{
		if (clone != NULL)
			drop(clone);
		ca_partition_trigger_free_name(relid, parent->name);
		make_clone(parent, relation);
	}
	relation_close(relation, NoLock);
}

/* ---- the same trigger twice ---- */

/* What of its definition is behind the name of the table: level, condition, function, arguments. */
static const char *
definition(const CaTriggerFacts *trigger)
{
	Datum whole = DirectFunctionCall1(pg_get_triggerdef, ObjectIdGetDatum(trigger->oid));
	char *statement = TextDatumGetCString(whole);
	const char *each = strstr(statement, " FOR EACH ");

	return each != NULL ? each : statement;
}

/* Does a clone do all that the partition's own trigger does? */
static bool
replaces(const CaTriggerFacts *clone, const CaTriggerFacts *own)
{
	return OidIsValid(clone->parent) && same_arguments(clone, own) && clone->type == own->type &&
		   (clone->enabled == own->enabled || clone->enabled == TRIGGER_FIRES_ALWAYS) &&
		   strcmp(definition(clone), definition(own)) == 0;
}

static bool
is_replaced(List *triggers, const CaTriggerFacts *own)
{
	ListCell *cell;

	foreach (cell, triggers)
		if (replaces(lfirst(cell), own))
			return true;
	return false;
}

/* The TRUNCATE trigger stays as long as the partition has more of the same rule. */
static bool
is_needed(List *triggers, const CaTriggerFacts *own)
{
	ListCell *cell;

	if (own->kind != CA_TRIGGER_TABLE)
		return false;
	foreach (cell, triggers)
	{
		CaTriggerFacts *other = lfirst(cell);

		if (other->kind != CA_TRIGGER_NONE && other->kind != CA_TRIGGER_TABLE &&
			!OidIsValid(other->parent) &&
			strcmp(ca_rule_name_of(other->nargs, other->args),
				   ca_rule_name_of(own->nargs, own->args)) == 0)
			return true;
	}
	return false;
}

static void
drop_replaced(Oid relid, bool truncate)
{
	List *triggers = ca_partition_trigger_list(relid);
	ListCell *cell;

	foreach (cell, triggers)
	{
		CaTriggerFacts *own = lfirst(cell);

		if (OidIsValid(own->parent) || (own->kind == CA_TRIGGER_TABLE) != truncate ||
			!ca_partition_trigger_is_cloned(own) || !is_replaced(triggers, own) ||
			is_needed(triggers, own))
			continue;
		LockRelationOid(relid, AccessExclusiveLock);
		drop(own);
	}
}

static void
refuse_two_versions(Oid relid)
{
	const CaTriggerFacts *own = NULL;
	const CaTriggerFacts *clone = NULL;
	ListCell *cell;

	foreach (cell, ca_partition_trigger_list(relid))
	{
		CaTriggerFacts *trigger = lfirst(cell);

		if (trigger->kind == CA_TRIGGER_NONE && OidIsValid(trigger->parent))
			clone = trigger;
		else if (trigger->kind == CA_TRIGGER_NONE)
			own = trigger;
	}
	if (own == NULL || clone == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("partition \"%s\" and its parent keep row versions in different ways",
					get_rel_name(relid)),
			 errdetail("The partition has row_version%s, its parent row_version%s.",
					   strstr(definition(own), "row_version") + strlen("row_version"),
					   strstr(definition(clone), "row_version") + strlen("row_version")),
			 errhint("Use cache_aside.disable_versioning() on the partition first: its rows keep "
					 "their versions.")));
}

void
ca_partition_trigger_drop_replaced(Oid relid)
{
	drop_replaced(relid, false);
	drop_replaced(relid, true);
	refuse_two_versions(relid);
}
