/*
 * maintenance.c: what an administrator starts by hand: resync(), flush().
 *
 * resync() and flush() add an entry to the pending set like any write: it is logged with the
 * transaction, delivered after its commit on every server that delivers, found again after a crash,
 * and wait_delivered() waits for it. uninstall() acts at once and is not undone by ROLLBACK.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "transaction/transaction.h"
#include "rules/owner.h"
#include "rules/rules.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cache_aside_resync);
PG_FUNCTION_INFO_V1(cache_aside_flush);

static void
add_patterns_of(Relation view)
{
	CaIdentity caller;

	ca_owner_become(&caller, view->rd_rel->relowner);
	SPI_connect();
	if (SPI_execute("SELECT pattern FROM cache_aside.patterns", false, 0) == SPI_OK_SELECT)
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			char *pattern = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
			Size len;

			if (pattern)
				ca_entries_add_rule_pattern(ca_prefix_pattern_utf8(pattern, &len));
		}
	SPI_finish();
	ca_owner_leave(&caller);
}

/*
 * Databases cannot be visited just now (visits.c), perhaps for want of a background worker: what this
 * one's rules cover is deleted without a visit. With the rights of whoever owns the view, as there.
 */
static void
add_patterns_here(void)
{
	Oid relid = get_relname_relid("patterns", get_namespace_oid("cache_aside", true));
	Relation view = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;

	if (view == NULL)
		return;
	add_patterns_of(view);
	relation_close(view, NoLock);
}

Datum
cache_aside_resync(PG_FUNCTION_ARGS)
{
	if (ca_status_shared && ca_status_shared->troubles[CA_AREA_VISITS].cause != CA_TROUBLE_NONE)
		add_patterns_here();
	ca_pending_add(CA_ENTRY_RESYNC, "", 0);
	PG_RETURN_VOID();
}

/* cache_aside.flush(relation): the pattern of each of its rules; the owner may */
Datum
cache_aside_flush(PG_FUNCTION_ARGS)
{
	Relation relation = table_open(PG_GETARG_OID(0), AccessShareLock);

	ca_attach_check_owner(relation);
	ca_attach_add_patterns(relation);
	table_close(relation, AccessShareLock);
	PG_RETURN_VOID();
}
