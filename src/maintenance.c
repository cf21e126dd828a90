/*
 * maintenance.c: what an administrator starts by hand: resync(), flush(), uninstall().
 *
 * resync() and flush() add an entry to the pending set like any write: it is logged with the
 * transaction, delivered after its commit on every server that delivers, found again after a crash,
 * and wait_delivered() waits for it. uninstall() acts at once and is not undone by ROLLBACK.
 */
#include "cache_aside.h"

#include "access/table.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "utils/rel.h"

#include "rules.h"
#include "status.h"

PG_FUNCTION_INFO_V1(cache_aside_resync);
PG_FUNCTION_INFO_V1(cache_aside_flush);
PG_FUNCTION_INFO_V1(cache_aside_uninstall);

Datum
cache_aside_resync(PG_FUNCTION_ARGS)
{
	ca_pending_add(CA_ENTRY_RESYNC, "", 0);
	PG_RETURN_VOID();
}

/* cache_aside.flush(relation): the pattern of each of its rules; the owner may */
Datum
cache_aside_flush(PG_FUNCTION_ARGS)
{
	Relation relation = table_open(PG_GETARG_OID(0), AccessShareLock);

	ca_rule_check_owner(relation);
	ca_rules_add_patterns(relation);
	table_close(relation, AccessShareLock);
	PG_RETURN_VOID();
}

/*
 * cache_aside.uninstall(): told first to stop, the worker does not make the slot anew; it may drop it
 * before we do. If it holds the slot at this moment, dropping waits for it, which takes no longer
 * than moving a pointer.
 */
Datum
cache_aside_uninstall(PG_FUNCTION_ARGS)
{
	ca_require_preload();
	pg_atomic_write_u32(&ca_shared->uninstalled, 1);
	ca_status_wake_worker();
	PG_TRY();
	{
		ReplicationSlotDrop("cache_aside", false);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_UNDEFINED_OBJECT)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}
