/*
 * rule_stats.c: how often each rule fired, and what came of it. SQL: rule_counts(), for the view rule_stats;
 * reset_rule_stats()
 *
 * Input: what a backend counted for its rules in a transaction (rule.c), once it has ended, committed or not. Output: sums
 * by trigger, of all backends since the server started or they were reset; not kept over a restart. A partition's trigger
 * counts for that of the topmost table, which is the rule's.
 *
 * Shared state: BUCKETS times WAYS places. A trigger has a place in the bucket that its number gives. When all of those are
 * taken, the one that was idle longest is, and its counts are added to those of the others, which are shown as one row:
 * nothing is lost, memory stays what it is, and what was dropped makes room in time. A number that PostgreSQL gives again,
 * after four thousand million of them, may go on with old counts.
 *
 * Locks: whose a place is changes under the lock held exclusively; counts are added to under the lock held shared, each an
 * atomic of its own. At the end of a transaction nobody waits for it: who does not get it at once adds the next time.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "rules/rule_stats.h"
#include "rules/rules.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define TRANCHE "cache_aside_rules"
#define BUCKETS 256
#define WAYS 8

typedef struct Counters
{
	pg_atomic_uint64 fired;
	pg_atomic_uint64 keys;
	pg_atomic_uint64 patterns;
	pg_atomic_uint64 failures;
} Counters;

typedef struct Place
{
	Oid trigger; /* 0: free */
	Oid database;
	Counters counters;
	pg_atomic_uint64 last; /* when it fired */
	TimestampTz since;     /* when its counts were 0 */
} Place;

typedef struct Shared
{
	TimestampTz since; /* all counts were 0 */
	bool replaced;     /* a trigger that is not there may have had a place since */
	Counters others;
	Place places[BUCKETS][WAYS];
} Shared;

static Shared *shared; /* NULL without preload */
static LWLock *lock;

PG_FUNCTION_INFO_V1(cache_aside_rule_counts);
PG_FUNCTION_INFO_V1(cache_aside_reset_rule_stats);

void
ca_rule_stats_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
init_counters(Counters *counters)
{
	pg_atomic_init_u64(&counters->fired, 0);
	pg_atomic_init_u64(&counters->keys, 0);
	pg_atomic_init_u64(&counters->patterns, 0);
	pg_atomic_init_u64(&counters->failures, 0);
}

void
ca_rule_stats_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside rules", MAXALIGN(sizeof(Shared)), &found);
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	if (found)
		return;
	memset(shared, 0, sizeof(Shared));
	shared->since = GetCurrentTimestamp();
	init_counters(&shared->others);
	for (int i = 0; i < BUCKETS * WAYS; i++)
	{
		init_counters(&shared->places[i / WAYS][i % WAYS].counters);
		pg_atomic_init_u64(&shared->places[i / WAYS][i % WAYS].last, 0);
	}
}

/* ---- adding ---- */

bool
ca_rule_stats_lock(bool may_replace, bool wait)
{
	LWLockMode mode = may_replace ? LW_EXCLUSIVE : LW_SHARED;

	if (shared == NULL)
		return true;
	return wait ? LWLockAcquire(lock, mode), true : LWLockConditionalAcquire(lock, mode);
}

void
ca_rule_stats_unlock(void)
{
	if (shared != NULL)
		LWLockRelease(lock);
}

static Place *
bucket_of(Oid trigger)
{
	return shared->places[murmurhash32(trigger ^ MyDatabaseId) % BUCKETS];
}

static Place *
find(Oid trigger)
{
	Place *bucket = bucket_of(trigger);

	for (int i = 0; i < WAYS; i++)
		if (bucket[i].trigger == trigger && bucket[i].database == MyDatabaseId)
			return &bucket[i];
	return NULL;
}

static void
move(pg_atomic_uint64 *from, pg_atomic_uint64 *to)
{
	pg_atomic_fetch_add_u64(to, (int64) pg_atomic_exchange_u64(from, 0));
}

/* Under the lock, exclusively. Those that are free were idle longest. */
static Place *
take(Oid trigger)
{
	Place *bucket = bucket_of(trigger);
	Place *place = bucket;

	for (int i = 1; i < WAYS; i++)
		if (pg_atomic_read_u64(&bucket[i].last) < pg_atomic_read_u64(&place->last))
			place = &bucket[i];
	if (OidIsValid(place->trigger))
	{
		shared->replaced = true;
		move(&place->counters.fired, &shared->others.fired);
		move(&place->counters.keys, &shared->others.keys);
		move(&place->counters.patterns, &shared->others.patterns);
		move(&place->counters.failures, &shared->others.failures);
	}
	place->trigger = trigger;
	place->database = MyDatabaseId;
	place->since = shared->replaced ? GetCurrentTimestamp() : shared->since;
	return place;
}

static inline void
add(pg_atomic_uint64 *to, uint64 count)
{
	if (count > 0)
		pg_atomic_fetch_add_u64(to, (int64) count);
}

bool
ca_rule_stats_put(Oid trigger, const CaRuleCount *count, TimestampTz now, bool may_replace)
{
	Place *place;

	if (shared == NULL)
		return true;
	place = find(trigger);
	if (place == NULL && may_replace)
		place = take(trigger);
	if (place == NULL)
		return false;
	add(&place->counters.fired, count->fired);
	add(&place->counters.keys, count->keys);
	add(&place->counters.patterns, count->patterns);
	add(&place->counters.failures, count->failures + count->fired - count->ended);
	pg_atomic_write_u64(&place->last, (uint64) now);
	return true;
}

/* ---- looking ---- */

static void
put_row(ReturnSetInfo *result, Oid trigger, const Counters *counters, uint64 last,
		TimestampTz since)
{
	Datum values[7];
	bool nulls[7] = {!OidIsValid(trigger), false, false, false, false, last == 0, false};

	values[0] = ObjectIdGetDatum(trigger);
	values[1] = Int64GetDatum((int64) pg_atomic_read_u64((pg_atomic_uint64 *) &counters->fired));
	values[2] = Int64GetDatum((int64) pg_atomic_read_u64((pg_atomic_uint64 *) &counters->keys));
	values[3] = Int64GetDatum((int64) pg_atomic_read_u64((pg_atomic_uint64 *) &counters->patterns));
	values[4] = Int64GetDatum((int64) pg_atomic_read_u64((pg_atomic_uint64 *) &counters->failures));
	values[5] = TimestampTzGetDatum((TimestampTz) last);
	values[6] = TimestampTzGetDatum(since);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* A copy, so that nobody waits while the rows are made: what is read one after the other may be of two moments. */
static Shared *
copy_shared(void)
{
	Shared *copy = palloc(sizeof(Shared));

	LWLockAcquire(lock, LW_SHARED);
	memcpy(copy, shared, sizeof(Shared));
	LWLockRelease(lock);
	return copy;
}

/* The triggers of this database that fired, and the others of all databases, with NULL. */
Datum
cache_aside_rule_counts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Shared *copy;

	ca_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	copy = copy_shared();
	for (int i = 0; i < BUCKETS * WAYS; i++)
	{
		Place *place = &copy->places[i / WAYS][i % WAYS];

		if (OidIsValid(place->trigger) && place->database == MyDatabaseId)
			put_row(result, place->trigger, &place->counters, pg_atomic_read_u64(&place->last),
					place->since);
	}
	put_row(result, InvalidOid, &copy->others, 0, copy->since);
	return (Datum) 0;
}

/* ---- back to zero ---- */

static void
reset_counters(Counters *counters)
{
	pg_atomic_write_u64(&counters->fired, 0);
	pg_atomic_write_u64(&counters->keys, 0);
	pg_atomic_write_u64(&counters->patterns, 0);
	pg_atomic_write_u64(&counters->failures, 0);
}

static void
reset_relation(Oid relid)
{
	List *triggers = ca_rule_trigger_list(relid);
	ListCell *cell;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	foreach (cell, triggers)
	{
		Place *place = find(((CaTriggerFacts *) lfirst(cell))->oid);

		if (place == NULL)
			continue;
		reset_counters(&place->counters);
		place->since = GetCurrentTimestamp();
	}
	LWLockRelease(lock);
}

/* Of all databases: there is one row for the others of all of them. */
static void
reset_all(void)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	shared->since = GetCurrentTimestamp();
	shared->replaced = false;
	reset_counters(&shared->others);
	for (int i = 0; i < BUCKETS * WAYS; i++)
	{
		Place *place = &shared->places[i / WAYS][i % WAYS];

		place->trigger = InvalidOid;
		reset_counters(&place->counters);
		pg_atomic_write_u64(&place->last, 0);
	}
	LWLockRelease(lock);
}

Datum
cache_aside_reset_rule_stats(PG_FUNCTION_ARGS)
{
	ca_preload_require();
	if (PG_ARGISNULL(0))
		reset_all();
	else
		reset_relation(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}
