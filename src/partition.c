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

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "row_version.h"
#include "rules.h"

/* Triggers of rules and of row versions, as the catalog has them: CaTriggerFacts. */
static List *
triggers_of(Oid relid)
{
	Relation catalog = table_open(TriggerRelationId, AccessShareLock);
	List *triggers = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CaTriggerFacts *facts = palloc(sizeof(*facts));

		if (ca_trigger_find(((Form_pg_trigger) GETSTRUCT(tuple))->oid, NULL, facts) &&
			(facts->kind != CA_TRIGGER_NONE || ca_row_version_is(facts->function)))
			triggers = lappend(triggers, facts);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return triggers;
}

static bool
is_row_level(const CaTriggerFacts *trigger)
{
	return TRIGGER_FOR_ROW(trigger->type);
}

/* Those that partitions get: row triggers from PostgreSQL, TRUNCATE's from here. */
static bool
is_cloned(const CaTriggerFacts *trigger)
{
	return is_row_level(trigger) || trigger->kind == CA_TRIGGER_TABLE;
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

static bool
is_partitioned(Oid relid)
{
	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE;
}

/* ---- changes of pg_trigger ---- */

/* As ALTER TRIGGER RENAME and ALTER TABLE ENABLE do it; the table is locked. */
static void
change(const CaTriggerFacts *trigger, const char *name, char enabled)
{
	Relation catalog = table_open(TriggerRelationId, RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger->oid));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		HeapTuple copy = heap_copytuple(tuple);
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(copy);

		namestrcpy(&form->tgname, name);
		form->tgenabled = enabled;
		CatalogTupleUpdate(catalog, &copy->t_self, copy);
		InvokeObjectPostAlterHook(TriggerRelationId, trigger->oid, 0);
		CacheInvalidateRelcacheByRelid(trigger->relid);
	}
	systable_endscan(scan);
	table_close(catalog, RowExclusiveLock);
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

static bool
name_is_used(List *triggers, const char *name)
{
	ListCell *cell;

	foreach (cell, triggers)
		if (strcmp(((CaTriggerFacts *) lfirst(cell))->name, name) == 0)
			return true;
	return false;
}

/* Gives a trigger by this name, if the table has one of ours, another one that sorts behind it. */
static void
free_name(Oid relid, const char *name)
{
	List *triggers = triggers_of(relid);
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
		} while (name_is_used(triggers, other));
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

/* Makes the partition's clone of a TRUNCATE trigger what the parent's trigger is now. */
static void
cover_truncate(Oid relid, const CaTriggerFacts *parent)
{
	Relation relation;
	const CaTriggerFacts *clone;

	if (get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE && !CA_FOREIGN_TRUNCATE_TRIGGERS)
		return;
	if (is_like(find_clone(triggers_of(relid), parent->oid), parent))
		return;
	relation = try_relation_open(relid, ShareRowExclusiveLock);
	if (relation == NULL)
		return;
	clone = find_clone(triggers_of(relid), parent->oid);
	if (clone != NULL && same_arguments(clone, parent))
		change(clone, clone->name, parent->enabled);
	else
	{
		if (clone != NULL)
			drop(clone);
		free_name(relid, parent->name);
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
			strcmp(ca_rules_name(other->nargs, other->args),
				   ca_rules_name(own->nargs, own->args)) == 0)
			return true;
	}
	return false;
}

static void
drop_replaced(Oid relid, bool truncate)
{
	List *triggers = triggers_of(relid);
	ListCell *cell;

	foreach (cell, triggers)
	{
		CaTriggerFacts *own = lfirst(cell);

		if (OidIsValid(own->parent) || (own->kind == CA_TRIGGER_TABLE) != truncate ||
			!is_cloned(own) || !is_replaced(triggers, own) || is_needed(triggers, own))
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

	foreach (cell, triggers_of(relid))
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

/* ---- a partition and its parent ---- */

static void settle_below(Oid relid);

static void
settle(Oid relid, Oid parent)
{
	ListCell *cell;

	foreach (cell, triggers_of(parent))
	{
		CaTriggerFacts *trigger = lfirst(cell);

		if (trigger->kind == CA_TRIGGER_TABLE)
			cover_truncate(relid, trigger);
	}
	drop_replaced(relid, false);
	drop_replaced(relid, true);
	refuse_two_versions(relid);
	settle_below(relid);
}

static void
settle_below(Oid relid)
{
	ListCell *cell;

	if (!is_partitioned(relid) || triggers_of(relid) == NIL)
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
	triggers = triggers_of(parent);
	if (triggers == NIL || triggers_of(child) == NIL)
		return;
	LockRelationOid(parent, ShareUpdateExclusiveLock);
	foreach (cell, find_all_inheritors(child, AccessExclusiveLock, NULL))
	{
		ListCell *each;

		foreach (each, triggers)
		{
			CaTriggerFacts *trigger = lfirst(each);

			if (is_cloned(trigger))
				free_name(lfirst_oid(cell), trigger->name);
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
		(ca_rules_kind(function) == CA_TRIGGER_NONE && !ca_row_version_is(function)) ||
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
	if (name_is_used(triggers_of(relid), statement->trigname))
		return;
	foreach (cell, find_all_inheritors(relid, ShareRowExclusiveLock, NULL))
		if (lfirst_oid(cell) != relid)
			free_name(lfirst_oid(cell), statement->trigname);
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
