/*
 * version_sequence.c: the sequence of a version column (start => 'unused' and 'sequence').
 *
 * The column owns it (OWNED BY, or an identity), in the table itself or in a table it inherits from or
 * is a partition of; pg_dump and DROP COLUMN know that relation already, so there is no catalog of ours.
 * It is read and advanced without asking for rights on it, as PostgreSQL does for identity columns:
 * whoever may write the table must not need another grant.
 *
 * Only nextval() moves it while the table is in use: forward, visible to everybody at once, without
 * waiting for anybody's transaction. To push it to a number is therefore a walk, and a bounded one: a
 * number near the end of the range must neither take a second of nextval()s nor use up what all other
 * rows need. setval() could move back what a concurrent nextval() handed out, so a jump waits for every
 * transaction that has used the sequence, and holds up those to come: only for a superuser's load
 * (cache_aside.import_mode) and for enable_versioning(), which has locked the table anyway.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/compat.h"
#include "rows/row_version.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define LONGEST_WALK 10000 /* nextval() calls, about a millisecond */

/* One scan, where getOwnedSequences and sequenceIsOwned are three, for every INSERT without a version. */
static Oid
owned_sequence(Oid relid, AttrNumber attnum)
{
	Oid sequence = InvalidOid;
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin_dependents(&scan, RelationRelationId, relid);
	while (!OidIsValid(sequence) && HeapTupleIsValid(tuple = ca_catalog_next(&scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->refobjsubid == attnum && form->classid == RelationRelationId &&
			form->objsubid == 0 &&
			(form->deptype == DEPENDENCY_AUTO || form->deptype == DEPENDENCY_INTERNAL) &&
			get_rel_relkind(form->objid) == RELKIND_SEQUENCE)
			sequence = form->objid;
	}
	ca_catalog_end(&scan);
	return sequence;
}

Oid
ca_version_sequence_find(Oid relid, const char *column)
{
	AttrNumber attnum = get_attnum(relid, column);
	Oid sequence = InvalidOid;
	List *above;
	ListCell *cell;

	if (attnum > 0)
		sequence = owned_sequence(relid, attnum);
	if (OidIsValid(sequence))
		return sequence;
	above = ca_catalog_parents(relid);
	foreach (cell, above)
	{
		sequence = ca_version_sequence_find(lfirst_oid(cell), column);
		if (OidIsValid(sequence))
			break;
	}
	return sequence;
}

int64
ca_version_sequence_next(Oid sequence)
{
	return nextval_internal(sequence, false);
}

/* Highest number handed out; sequences are heaps of one frozen row. */
int64
ca_version_sequence_last(Oid sequence)
{
	Relation rel = relation_open(sequence, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = ca_table_beginscan(rel, SnapshotAny);
	int64 value = 0;

	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool isnull;

		value = DatumGetInt64(slot_getattr(slot, SEQ_COL_LASTVAL, &isnull));
		if (!DatumGetBool(slot_getattr(slot, SEQ_COL_CALLED, &isnull)))
			value--;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, AccessShareLock);
	return value;
}

void
ca_version_sequence_jump(Oid sequence, int64 version)
{
	Oid caller;
	int security;
	Oid owner;
	HeapTuple tuple;

	if (ca_version_sequence_last(sequence) >= version)
		return;
	LockRelationOid(sequence, ShareRowExclusiveLock);
	if (ca_version_sequence_last(sequence) >= version)
		return;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(sequence));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", sequence);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	/* setval() has no variant without a permission check */
	GetUserIdAndSecContext(&caller, &security);
	SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE);
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence), Int64GetDatum(version));
	SetUserIdAndSecContext(caller, security);
}

/* Is it one that counts up, as far as this? The owner may have altered it. */
static bool
leads_to(Oid sequence, int64 version)
{
	HeapTuple tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	Form_pg_sequence form;
	bool result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	result =
		form->seqincrement > 0 && !form->seqcycle && form->seqmax - form->seqincrement >= version;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * A walk that would fall short is not begun: otherwise a row that is far ahead would cost its thousands
 * of steps, and everybody's numbers, at each of its updates.
 */
bool
ca_version_sequence_push(Oid sequence, int64 version)
{
	int64 last = ca_version_sequence_last(sequence);

	if (last >= version)
		return true;
	if ((uint64) version - (uint64) last > LONGEST_WALK || !leads_to(sequence, version))
		return false;
	while (last < version)
		last = nextval_internal(sequence, false);
	return true;
}
