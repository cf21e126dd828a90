/*
 * catalog.h: rows of a catalog by one oid, and questions that several folders ask of it.
 */
#ifndef CA_CATALOG_H
#define CA_CATALOG_H

#include "cache_aside.h"

#include "access/htup.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct CaCatalogScan
{
	Relation catalog;
	LOCKMODE mode;
	struct SysScanDescData *scan;
} CaCatalogScan;

/* Of rows whose `column` is `oid`. `index`: InvalidOid for a catalog without a fitting one; `snapshot`: NULL for today's */
extern void ca_catalog_begin(CaCatalogScan *scan, Oid catalog, LOCKMODE mode, Oid index,
							 AttrNumber column, Oid oid, Snapshot snapshot);
/* Of the rows of pg_depend that say what depends on an object */
extern void ca_catalog_begin_dependents(CaCatalogScan *scan, Oid class, Oid oid);
extern HeapTuple ca_catalog_next(CaCatalogScan *scan); /* valid until the next; NULL: no more */
extern void ca_catalog_end(CaCatalogScan *scan);       /* lets go of the lock, too */

extern List *ca_catalog_parents(Oid relid); /* that it inherits from or is a partition of */
extern Oid ca_catalog_owner(Oid relid);     /* invalid: there is no such relation */
extern Bitmapset *ca_catalog_primary_key(Relation rel); /* attribute numbers; NULL: it has none */

/* HINT for the current user, who would have to be the owner; palloc'd. */
extern char *ca_catalog_owner_hint(Oid owner);

#endif
