/*
 * relatives.c: tables below a table: that inherit from it, or are its partitions.
 */
#include "cache_aside.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/*
 * The table and all below it, locked so (NoLock: not at all); none when there is no such table: a name may not be found, or
 * what it meant be dropped before our lock, and the statement says so itself, in core's words.
 * Raises when one below goes in that moment and nothing is locked, as core does.
 */
List *
ca_relatives_tree(Oid relid, LOCKMODE lock)
{
	if (OidIsValid(relid) && lock != NoLock)
		LockRelationOid(relid, lock);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return NIL;
	return find_all_inheritors(relid, lock, NULL);
}

Oid
ca_relatives_foreign_below(Oid relid)
{
	ListCell *cell;

	foreach (cell, ca_relatives_tree(relid, NoLock))
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
			return lfirst_oid(cell);
	return InvalidOid;
}
