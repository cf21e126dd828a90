/*
 * topology.c: the registries of all databases, for the worker, which is connected to none.
 *
 * The worker sends a short-lived background worker into one database after the other. The visitor
 * reads the registry there, if the extension is there, and leaves the rows in shared memory; an
 * application that asks Redis finds them whatever its database. Of a name registered in several
 * databases the last one visited counts.
 *
 * Visits happen when the worker starts, after a commit that changed a registry, after promotion,
 * and on a standby, where replay tells nobody about changes, each STANDBY_INTERVAL. A visitor that
 * could not be started (no free slot) or failed is tried again after RETRY_INTERVAL; until a round
 * is complete the previous one stays.
 *
 * Shared memory: rows being collected and rows in force, guarded by the LWLock of tranche
 * "cache_aside_topology". One visitor runs at a time; only it adds to what is collected.
 */
#include "cache_aside.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "routing.h"
#include "visitor.h"

#define STANDBY_INTERVAL 30000 /* ms */
#define RETRY_INTERVAL 5000    /* ms */

typedef struct CaTopologyShared
{
	LWLock *lock;
	int collected_count;
	int count;
	CaTopologyRow collected[CA_MAX_PUBLISHED];
	CaTopologyRow rows[CA_MAX_PUBLISHED];
} CaTopologyShared;

static CaTopologyShared *shared;

/* The worker's state of the round under way. */
static List *databases; /* still to visit; TopMemoryContext */
static BackgroundWorkerHandle *visitor;
static bool visiting;
static bool ever_visited;
static bool was_standby;
static uint32 visited_version; /* of the registries when the last round began */
static TimestampTz began_at;   /* the last round */
static TimestampTz not_before; /* after a failure: the next round */

PGDLLEXPORT void cache_aside_topology_main(Datum arg);

Size
ca_topology_shmem_size(void)
{
	return MAXALIGN(sizeof(CaTopologyShared));
}

void
ca_topology_shmem_request(void)
{
	RequestAddinShmemSpace(ca_topology_shmem_size());
	RequestNamedLWLockTranche("cache_aside_topology", 1);
}

/* Under AddinShmemInitLock. */
void
ca_topology_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside topology", ca_topology_shmem_size(), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(CaTopologyShared));
	shared->lock = &GetNamedLWLockTranche("cache_aside_topology")->lock;
}

/* ---- the visitor ---- */

static void
copy_utf8(char *to, const char *from, Size size)
{
	char *utf8 = pg_server_to_any(from, strlen(from), PG_UTF8);

	strlcpy(to, utf8, size);
}

static void
collect(const CaReplica *replica)
{
	CaTopologyRow row = {.weight = replica->weight};
	int i;

	copy_utf8(row.name, replica->name, sizeof(row.name));
	copy_utf8(row.conninfo, replica->conninfo, sizeof(row.conninfo));
	if (replica->region)
		copy_utf8(row.region, replica->region, sizeof(row.region));
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < shared->collected_count; i++)
		if (strcmp(shared->collected[i].name, row.name) == 0)
			break;
	if (i < CA_MAX_PUBLISHED)
		shared->collected[i] = row;
	if (i == shared->collected_count && i < CA_MAX_PUBLISHED)
		shared->collected_count++;
	LWLockRelease(shared->lock);
}

void
cache_aside_topology_main(Datum arg)
{
	const CaReplica *replicas;
	int count;

	/* The default handler ends the process in the signal itself, even with a spinlock held. */
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	ca_visitor_connect(DatumGetObjectId(arg));
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(get_extension_oid("cache_aside", true)))
	{
		replicas = ca_replicas_get(&count);
		for (int i = 0; i < count; i++)
			collect(&replicas[i]);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* ---- the worker's side ---- */

static void
list_databases(void)
{
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		if (database->datallowconn)
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

static void
begin_round(TimestampTz now)
{
	visited_version = ca_progress_registry_version();
	was_standby = RecoveryInProgress();
	began_at = now;
	visiting = true;
	list_databases();
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->collected_count = 0;
	LWLockRelease(shared->lock);
}

static void
end_round(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->count = shared->collected_count;
	memcpy(shared->rows, shared->collected, shared->count * sizeof(CaTopologyRow));
	LWLockRelease(shared->lock);
	visiting = false;
	ever_visited = true;
}

/* No free slot: the round ends unfinished and begins again later. */
static void
give_up(TimestampTz now)
{
	list_free(databases);
	databases = NIL;
	visiting = false;
	ever_visited = false;
	not_before = TimestampTzPlusMilliseconds(now, RETRY_INTERVAL);
}

static void
send_visitor(TimestampTz now)
{
	BackgroundWorker worker = {0};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(linitial_oid(databases));
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "cache_aside");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "cache_aside_topology_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "cache_aside topology");
	snprintf(worker.bgw_type, BGW_MAXLEN, "cache_aside topology");
	databases = list_delete_first(databases);
	if (!RegisterDynamicBackgroundWorker(&worker, &visitor))
	{
		visitor = NULL;
		give_up(now);
	}
	MemoryContextSwitchTo(old);
}

static bool
round_is_due(TimestampTz now)
{
	if (now < not_before)
		return false;
	return !ever_visited || visited_version != ca_progress_registry_version() ||
		   was_standby != RecoveryInProgress() ||
		   (was_standby && TimestampDifferenceExceeds(began_at, now, STANDBY_INTERVAL));
}

/* One step, from the worker's loop; never blocks. True when a round was completed just now. */
bool
ca_topology_step(TimestampTz now)
{
	pid_t pid;

	if (visitor != NULL)
	{
		if (GetBackgroundWorkerPid(visitor, &pid) != BGWH_STOPPED)
			return false;
		pfree(visitor);
		visitor = NULL;
	}
	if (!visiting && round_is_due(now))
		begin_round(now);
	if (!visiting)
		return false;
	if (databases == NIL)
	{
		end_round();
		return true;
	}
	send_visitor(now);
	return false;
}

/* Copies the rows in force; returns how many. */
int
ca_topology_rows(CaTopologyRow *rows)
{
	int count;

	LWLockAcquire(shared->lock, LW_SHARED);
	count = shared->count;
	memcpy(rows, shared->rows, count * sizeof(CaTopologyRow));
	LWLockRelease(shared->lock);
	return count;
}
