/*
 * visit_registries.c: the registries of all databases, for the worker, which is connected to none.
 *
 * The worker sends a short-lived background worker into one database after the other. The visitor
 * reads the registry there, if the extension is there, and leaves the rows in shared memory; an
 * application that asks Redis finds them whatever its database. Of a name registered in several
 * databases the one made last counts.
 *
 * Visits happen when the worker starts, after a commit that changed a registry, after promotion,
 * and on a standby, where replay tells nobody about changes, each STANDBY_INTERVAL. When all databases
 * that are left cannot be visited (visits.c), what was collected comes into force together with what
 * was known of these: a database that cannot be looked into keeps its replicas, also one that was left
 * half dropped, as long as it is in the catalog. The round goes on until it is complete.
 *
 * Shared memory: rows being collected and rows in force, guarded by the LWLock of tranche
 * "cache_aside_topology". One visitor runs at a time; only it adds to what is collected.
 */
#include "cache_aside.h"
#include "shared/visitor.h"
#include "routing/routing.h"

#include "access/xact.h"
#include "access/xlog.h"
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

#define STANDBY_INTERVAL 30000 /* ms */

typedef struct CaTopologyShared
{
	LWLock *lock;
	uint32 done;   /* ticket of the last visitor that told everything */
	bool complete; /* rows are all that there are */
	int collected_count;
	int count;
	CaTopologyRow collected[CA_MAX_PUBLISHED];
	CaTopologyRow rows[CA_MAX_PUBLISHED];
} CaTopologyShared;

static CaTopologyShared *shared;

/* The worker's state of the round under way. */
static CaVisits visits;
static Oid visited;     /* by the last visitor */
static uint32 ticket;   /* of that visitor */
static bool visiting;   /* a round is not complete */
static bool told_stuck; /* what can be known of it is in force */
static bool ever_visited;
static bool was_standby;
static uint32 visited_version; /* of the registries when the last round began */
static TimestampTz began_at;   /* the last round */

PGDLLEXPORT void cache_aside_topology_main(Datum arg);

Size
ca_visit_registries_shmem_size(void)
{
	return MAXALIGN(sizeof(CaTopologyShared));
}

void
ca_visit_registries_shmem_request(void)
{
	RequestAddinShmemSpace(ca_visit_registries_shmem_size());
	RequestNamedLWLockTranche("cache_aside_topology", 1);
}

/* Under AddinShmemInitLock. */
void
ca_visit_registries_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside topology", ca_visit_registries_shmem_size(), &found);
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
	CaTopologyRow row = {.weight = replica->weight, .database = MyDatabaseId};
	int i;

	copy_utf8(row.name, replica->name, sizeof(row.name));
	copy_utf8(row.conninfo, replica->conninfo, sizeof(row.conninfo));
	if (replica->region)
		copy_utf8(row.region, replica->region, sizeof(row.region));
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < shared->collected_count; i++)
		if (strcmp(shared->collected[i].name, row.name) == 0)
			break;
	if (i == shared->collected_count ? i < CA_MAX_PUBLISHED
									 : row.database >= shared->collected[i].database)
		shared->collected[i] = row;
	if (i == shared->collected_count && i < CA_MAX_PUBLISHED)
		shared->collected_count++;
	LWLockRelease(shared->lock);
}

void
cache_aside_topology_main(Datum arg)
{
	const CaReplica *replicas;
	uint32 mine;
	int count;

	memcpy(&mine, MyBgworkerEntry->bgw_extra, sizeof(mine));
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
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->done = mine;
	LWLockRelease(shared->lock);
}

/* ---- the worker's side ---- */

static bool
is_among(const CaTopologyRow *rows, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(rows[i].name, name) == 0)
			return true;
	return false;
}

/* What was collected, and what was known of the databases that nobody could look into. */
static void
put_in_force(void)
{
	CaTopologyRow *rows = palloc(sizeof(shared->rows));
	int count = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->count; i++)
		if (ca_visits_owed(&visits, shared->rows[i].database) &&
			!is_among(shared->collected, shared->collected_count, shared->rows[i].name))
			rows[count++] = shared->rows[i];
	shared->count = Min(shared->collected_count + count, CA_MAX_PUBLISHED);
	memcpy(shared->rows, shared->collected, shared->collected_count * sizeof(CaTopologyRow));
	memcpy(shared->rows + shared->collected_count, rows,
		   (shared->count - shared->collected_count) * sizeof(CaTopologyRow));
	shared->complete = ca_visits_complete(&visits);
	LWLockRelease(shared->lock);
	pfree(rows);
}

static void
begin_round(TimestampTz now)
{
	uint32 version = ca_progress_registry_version();

	visiting = false; /* should the list not be had: no round, rather than one without databases */
	ca_visits_begin(&visits);
	visited_version = version;
	was_standby = RecoveryInProgress();
	began_at = now;
	visiting = true;
	told_stuck = false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->collected_count = 0;
	LWLockRelease(shared->lock);
}

static void
send_visitor(void)
{
	BackgroundWorker worker = {0};

	ticket++;
	visited = ca_visits_next(&visits);
	worker.bgw_main_arg = ObjectIdGetDatum(visited);
	memcpy(worker.bgw_extra, &ticket, sizeof(ticket));
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "cache_aside_topology_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "cache_aside topology of database %u", visited);
	snprintf(worker.bgw_type, BGW_MAXLEN, "cache_aside topology");
	(void) ca_visits_send(&visits, &worker);
}

/* Half a registry is none. */
static void
forget_collected(void)
{
	int kept = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->collected_count; i++)
		if (shared->collected[i].database != visited)
			shared->collected[kept++] = shared->collected[i];
	shared->collected_count = kept;
	LWLockRelease(shared->lock);
}

static void
look_at_visitor(void)
{
	bool well;

	if (ca_visits_stopped(&visits))
	{
		LWLockAcquire(shared->lock, LW_SHARED);
		well = shared->done == ticket;
		LWLockRelease(shared->lock);
		if (!well)
			forget_collected();
		ca_visits_ended(&visits, well);
	}
	else if (ca_visits_too_long(&visits))
		forget_collected();
}

static bool
round_is_due(TimestampTz now)
{
	return !ever_visited || visited_version != ca_progress_registry_version() ||
		   was_standby != RecoveryInProgress() ||
		   (was_standby && TimestampDifferenceExceeds(began_at, now, STANDBY_INTERVAL));
}

/* One step, from the worker's loop; never blocks. True when other rows came into force just now. */
bool
ca_visit_registries_step(TimestampTz now)
{
	look_at_visitor();
	if ((!visiting || told_stuck) && round_is_due(now))
		begin_round(now);
	if (!visiting)
		return false;
	if (ca_visits_complete(&visits))
	{
		put_in_force();
		visiting = false;
		return true;
	}
	ever_visited = true;
	if (ca_visits_due(&visits))
		send_visitor();
	if (told_stuck || !ca_visits_stuck(&visits))
		return false;
	put_in_force();
	return told_stuck = true;
}

/* Every database was looked into for the rows in force. */
bool
ca_visit_registries_complete(void)
{
	bool complete;

	LWLockAcquire(shared->lock, LW_SHARED);
	complete = shared->complete;
	LWLockRelease(shared->lock);
	return complete;
}

/* Copies the rows in force; returns how many. */
int
ca_visit_registries_rows(CaTopologyRow *rows)
{
	int count;

	LWLockAcquire(shared->lock, LW_SHARED);
	count = shared->count;
	memcpy(rows, shared->rows, count * sizeof(CaTopologyRow));
	LWLockRelease(shared->lock);
	return count;
}
