/*
 * replicas.c: the registry, table cache_aside.replica, and this backend's copy of it.
 *
 * add_replica(), set_replica() and remove_replica() are thin: the table's constraints judge. Writing
 * the table directly is equally fine, and is what pg_restore does.
 *
 * route() must take microseconds, so each backend keeps the rows in memory. A statement trigger on
 * the table sends a relcache invalidation for it, which reaches every backend of this database at
 * commit, and those of the standbys with replay; the copy is then read anew at the next use, with a
 * snapshot of its own: an older one would miss the change it is read for. It is a catalog snapshot,
 * which is new for a table that is none, and is to be had in a parallel plan, where core refuses any
 * other. Rows are read without privilege checks: what a caller learns is what route() would tell.
 *
 * The worker is told too, after commit, because it publishes the registry.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "shared/shared.h"
#include "routing/routing.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static MemoryContext cache_cxt; /* holds everything `cached` points to */
static CaReplica *cached;
static int cached_count;
static Oid cached_table;          /* whose rows these are */
static uint64 invalidations = 1;  /* counts what the callback saw */
static uint64 valid_at;           /* value of invalidations the copy belongs to; 0: no copy */
static bool changed_here = false; /* the open transaction changed the registry */

/* relcache callback: must not raise or allocate */
static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == cached_table)
		invalidations++;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (changed_here && event != XACT_EVENT_ABORT)
	{
		ca_progress_registry_changed();
		ca_status_wake_worker();
	}
	changed_here = false;
}

void
ca_replicas_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	RegisterXactCallback(at_transaction_end, NULL);
}

static Datum
column(HeapTuple tuple, TupleDesc desc, const char *name, Oid type, bool *isnull)
{
	int number = SPI_fnumber(desc, name);

	if (number <= 0 || SPI_gettypeid(desc, number) != type)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("table cache_aside.replica is not what the extension made"),
						errdetail("Column \"%s\" is missing or has another type.", name),
						errhint("Create the extension anew.")));
	return heap_getattr(tuple, number, desc, isnull);
}

static char *
field(HeapTuple tuple, TupleDesc desc, const char *name)
{
	bool isnull;
	Datum value = column(tuple, desc, name, TEXTOID, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* Columns are found by name: the registry outlives upgrades of the extension. */
static void
read_row(HeapTuple tuple, TupleDesc desc)
{
	CaReplica *replica;
	bool isnull;

	if (cached_count % 16 == 0)
		cached = cached == NULL ? palloc(16 * sizeof(CaReplica))
								: repalloc(cached, (cached_count + 16) * sizeof(CaReplica));
	replica = &cached[cached_count++];
	replica->name = field(tuple, desc, "name");
	replica->conninfo = field(tuple, desc, "conninfo");
	replica->region = field(tuple, desc, "region");
	replica->weight = DatumGetInt32(column(tuple, desc, "weight", INT4OID, &isnull));
}

static void
read_rows(Relation rel)
{
	Snapshot snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	TableScanDesc scan = ca_table_beginscan(rel, snapshot);
	HeapTuple tuple;
	MemoryContext old = MemoryContextSwitchTo(cache_cxt);

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		read_row(tuple, RelationGetDescr(rel));
	MemoryContextSwitchTo(old);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

static void
load(void)
{
	Oid schema = get_namespace_oid("cache_aside", false);
	uint64 began_at;
	Relation rel;

	if (cache_cxt == NULL)
		cache_cxt =
			AllocSetContextCreate(CacheMemoryContext, "cache_aside replicas", ALLOCSET_SMALL_SIZES);
	valid_at = 0;
	MemoryContextReset(cache_cxt);
	cached = NULL;
	cached_count = 0;
	cached_table = get_relname_relid("replica", schema);
	rel = OidIsValid(cached_table) ? table_open(cached_table, AccessShareLock) : NULL;
	if (rel == NULL || rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("there is no table cache_aside.replica"),
				 errdetail("The registry of replicas is missing, or something else has its name."),
				 errhint("Create the extension anew.")));
	began_at = invalidations;
	read_rows(rel);
	table_close(rel, AccessShareLock);
	valid_at = began_at;
}

/* This database's registered replicas; valid until the next transaction or catalog access. */
const CaReplica *
ca_replicas_get(int *count)
{
	if (valid_at != invalidations)
		load();
	*count = cached_count;
	return cached;
}

PG_FUNCTION_INFO_V1(cache_aside_replica_changed);
PG_FUNCTION_INFO_V1(cache_aside_set_replica);
PG_FUNCTION_INFO_V1(cache_aside_remove_replica);

/*
 * Trigger function: AFTER INSERT, UPDATE, DELETE, TRUNCATE on cache_aside.replica, per statement. On
 * any other table it would let its owner send visitors through all databases with each commit.
 */
Datum
cache_aside_replica_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		RelationGetRelid(trigger->tg_relation) !=
			get_relname_relid("replica", get_namespace_oid("cache_aside", true)))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("replica_changed() was not called by the registry's trigger"),
						errdetail("It watches the table cache_aside.replica."),
						errhint("There is no need to call it.")));
	CacheInvalidateRelcache(trigger->tg_relation);
	changed_here = true;
	PG_RETURN_POINTER(NULL);
}

/* Runs an UPDATE or DELETE whose $1 is the name; none found is an error. */
static void
change_named(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	SPI_connect();
	if (SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0) < 0)
		elog(ERROR, "SPI failed for \"%s\"", sql);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("replica \"%s\" is not registered", TextDatumGetCString(values[0])),
						errdetail("The table cache_aside.replica has no such row."),
						errhint("Register it with add_replica().")));
	SPI_finish();
}

Datum
cache_aside_remove_replica(PG_FUNCTION_ARGS)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {PG_GETARG_DATUM(0)};

	change_named("DELETE FROM cache_aside.replica WHERE name OPERATOR(pg_catalog.=) $1", 1, types,
				 values, NULL);
	PG_RETURN_VOID();
}

Datum
cache_aside_set_replica(PG_FUNCTION_ARGS)
{
	Oid types[] = {TEXTOID, TEXTOID, TEXTOID, INT4OID};
	Datum values[4];
	char nulls[4];

	for (int i = 0; i < 4; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("set_replica() needs the name of a replica"),
						errdetail("The name is NULL."),
						errhint("The other arguments may be NULL: "
								"what they stand for stays.")));
	change_named("UPDATE cache_aside.replica SET conninfo = COALESCE($2, conninfo), "
				 "region = CASE WHEN $3 OPERATOR(pg_catalog.=) '' THEN NULL "
				 "ELSE COALESCE($3, region) END, "
				 "weight = COALESCE($4, weight) WHERE name OPERATOR(pg_catalog.=) $1",
				 4, types, values, nulls);
	PG_RETURN_VOID();
}
