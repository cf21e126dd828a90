/*
 * catalog.c: rows of a catalog by one oid, and questions that several folders ask of it.
 *
 * Input: oids, also those that a stranger made up. No lock is taken but on the catalog, and none is kept; an ERROR in
 * between ends the scan with its transaction, as for any system scan.
 */
#include "cache_aside.h"
#include "common/catalog.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static void
begin(CaCatalogScan *scan, Oid catalog, LOCKMODE mode, Oid index, Snapshot snapshot, int nkeys,
	  ScanKey keys)
{
	scan->mode = mode;
	scan->catalog = table_open(catalog, mode);
	scan->scan = systable_beginscan(scan->catalog, index, OidIsValid(index), snapshot, nkeys, keys);
}

static void
set_key(ScanKey key, AttrNumber column, Oid oid)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
}

void
ca_catalog_begin(CaCatalogScan *scan, Oid catalog, LOCKMODE mode, Oid index, AttrNumber column,
				 Oid oid, Snapshot snapshot)
{
	ScanKeyData key;

	set_key(&key, column, oid);
	begin(scan, catalog, mode, index, snapshot, 1, &key);
}

void
ca_catalog_begin_dependents(CaCatalogScan *scan, Oid class, Oid oid)
{
	ScanKeyData keys[2];

	set_key(&keys[0], Anum_pg_depend_refclassid, class);
	set_key(&keys[1], Anum_pg_depend_refobjid, oid);
	begin(scan, DependRelationId, AccessShareLock, DependReferenceIndexId, NULL, lengthof(keys),
		  keys);
}

HeapTuple
ca_catalog_next(CaCatalogScan *scan)
{
	return systable_getnext(scan->scan);
}

void
ca_catalog_end(CaCatalogScan *scan)
{
	systable_endscan(scan->scan);
	table_close(scan->catalog, scan->mode);
}

List *
ca_catalog_parents(Oid relid)
{
	List *parents = NIL;
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin(&scan, InheritsRelationId, AccessShareLock, InheritsRelidSeqnoIndexId,
					 Anum_pg_inherits_inhrelid, relid, NULL);
	while (HeapTupleIsValid(tuple = ca_catalog_next(&scan)))
		parents = lappend_oid(parents, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	ca_catalog_end(&scan);
	return parents;
}

Oid
ca_catalog_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

Bitmapset *
ca_catalog_primary_key(Relation rel)
{
	Bitmapset *shifted = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	Bitmapset *key = NULL;
	int member = -1;

	while ((member = bms_next_member(shifted, member)) >= 0)
		key = bms_add_member(key, member + FirstLowInvalidHeapAttributeNumber);
	return key;
}

/* Nobody is told to become a superuser; and the owner of a database has no members. */
char *
ca_catalog_owner_hint(Oid owner)
{
	char *name = GetUserNameFromId(owner, true);

	if (name == NULL || superuser_arg(owner) || owner == ROLE_PG_DATABASE_OWNER)
		return pstrdup("Let the owner do it, or give the table another owner.");
	return psprintf("Let the owner do it, or a role that is a member of the owner: GRANT %s TO %s;",
					quote_identifier(name),
					quote_identifier(GetUserNameFromId(GetUserId(), false)));
}
