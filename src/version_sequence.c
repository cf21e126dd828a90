/*
 * version_sequence.c: the sequence of a version column (start => 'sequence').
 *
 * The column owns it (OWNED BY, or an identity), in the table itself or in a table it inherits from or
 * is a partition of; pg_dump and DROP COLUMN know that relation already, so there is no catalog of ours.
 * It is read and advanced without asking for rights on it, as PostgreSQL does for identity columns:
 * whoever may write the table must not need another grant.
 *
 * Invariant: no stored version is above the last value. UPDATE adds one to a version that obeys it, so
 * one nextval() is enough; nextval() only moves forward, so concurrent callers need no lock. A version
 * supplied from outside can be far ahead: small gaps are walked with nextval() as well; a large one
 * jumps with setval(), which could move back what a concurrent nextval() handed out, and therefore
 * waits for every transaction that uses the sequence (rare: an import of rows with high versions).
 */
#include "cache_aside.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "row_version.h"

#define LONGEST_WALK 10000 /* nextval() calls, about a millisecond, before a jump is cheaper */

static Oid
owned_sequence(Oid relid, AttrNumber attnum)
{
	List *sequences = getOwnedSequences(relid);
	ListCell *cell;

	foreach (cell, sequences)
	{
		Oid owner;
		int32 column;

		if ((sequenceIsOwned(lfirst_oid(cell), DEPENDENCY_AUTO, &owner, &column) ||
			 sequenceIsOwned(lfirst_oid(cell), DEPENDENCY_INTERNAL, &owner, &column)) &&
			owner == relid && column == attnum)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

/* The tables this one inherits from or is a partition of. */
static List *
parents(Oid relid)
{
	List *result = NIL;
	Relation inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		result = lappend_oid(result, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return result;
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
	above = parents(relid);
	foreach (cell, above)
	{
		sequence = ca_version_sequence_find(lfirst_oid(cell), column);
		if (OidIsValid(sequence))
			break;
	}
	return sequence;
}

Oid
ca_version_sequence_require(Relation rel, const char *column)
{
	Oid sequence = ca_version_sequence_find(RelationGetRelid(rel), column);

	if (!OidIsValid(sequence))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("version column \"%s\" of table \"%s\" owns no sequence", column,
							   RelationGetRelationName(rel)),
						errdetail("Its trigger says that new rows start from one."),
						errhint("Give it one with ALTER SEQUENCE ... OWNED BY, or use "
								"cache_aside.disable_versioning() and enable_versioning().")));
	return sequence;
}

int64
ca_version_sequence_next(Oid sequence)
{
	return nextval_internal(sequence, false);
}

/* Highest number handed out; sequences are heaps of one frozen row. */
static int64
last_value(Oid sequence)
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

static void
jump(Oid sequence, int64 version)
{
	Oid caller;
	int security;
	Oid owner;
	HeapTuple tuple;

	LockRelationOid(sequence, ShareRowExclusiveLock);
	if (last_value(sequence) >= version)
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

void
ca_version_sequence_keep_ahead(Oid sequence, int64 version)
{
	int64 last = last_value(sequence);

	if (last >= version)
		return;
	if (version - last > LONGEST_WALK)
	{
		jump(sequence, version);
		return;
	}
	while (nextval_internal(sequence, false) < version)
		CHECK_FOR_INTERRUPTS();
}
