/*
 * relatives.c: tables below a table: that inherit from it, or are its partitions.
 */
#include "cache_aside.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/pg_list.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

Oid
ca_relatives_foreign_below(Oid relid)
{
	ListCell *cell;

	foreach (cell, find_all_inheritors(relid, NoLock, NULL))
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
			return lfirst_oid(cell);
	return InvalidOid;
}
