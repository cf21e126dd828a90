/*
 * master.c: which Redis is the master, where Sentinels tell: the worker finds out, backends look here.
 *
 * A backend that asked Sentinels itself would do so with each connection, in the middle of a query, and would
 * know no better than the worker, who is told of a change. So the worker, of a primary and of a standby, puts
 * here what a majority of the Sentinels says (delivery/watch.c); a backend connects to that, and connects
 * anew when the generation has changed. What stands here may be old: by a second at most while the worker runs
 * and reaches Sentinels, else by as long as it does not. A fill that goes to a master that was replaced is
 * judged by the guard there, whose arming has ended by then.
 *
 * An address is for one redis_url: a backend that has read another one from a reload than the worker has, takes
 * nothing.
 *
 * Shared memory of fixed size, guarded by the LWLock of tranche cache_aside_master; held for a copy. The
 * generation is an atomic, read without it: whoever sees the old one uses the old master once more.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/master.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define TRANCHE "cache_aside_master"

typedef struct Shared
{
	pg_atomic_uint32 generation;
	CaMaster master; /* guarded by the lock */
} Shared;

static Shared *shared; /* NULL without preload */
static LWLock *lock;

void
ca_master_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

void
ca_master_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside master", MAXALIGN(sizeof(Shared)), &found);
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	if (found)
		return;
	memset(shared, 0, sizeof(Shared));
	pg_atomic_init_u32(&shared->generation, 1);
}

static uint32
url_hash(void)
{
	return hash_bytes((const unsigned char *) guc_redis_url, (int) strlen(guc_redis_url));
}

void
ca_master_recall(CaMaster *master)
{
	LWLockAcquire(lock, LW_SHARED);
	*master = shared->master;
	LWLockRelease(lock);
	if (master->url != url_hash())
		memset(master, 0, sizeof(*master));
	master->url = url_hash();
	master->listed = 0;
}

void
ca_master_publish(const CaMaster *master)
{
	bool moved;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	moved = shared->master.url != master->url ||
			memcmp(&shared->master.host, &master->host, sizeof(CaRedisHost)) != 0;
	shared->master = *master;
	LWLockRelease(lock);
	if (moved)
		pg_atomic_fetch_add_u32(&shared->generation, 1);
}

uint32
ca_master_generation(void)
{
	return shared ? pg_atomic_read_u32(&shared->generation) : 0;
}

bool
ca_master_resolve(CaRedisAddress *address)
{
	CaRedisHost host = {0};

	if (address->sentinel_name[0] == '\0')
		return true;
	if (shared)
	{
		LWLockAcquire(lock, LW_SHARED);
		if (shared->master.url == url_hash())
			host = shared->master.host;
		LWLockRelease(lock);
	}
	if (host.port != 0)
		ca_redis_address_of_master(address, &host);
	return host.port != 0;
}

/* ---- SQL ---- */

PG_FUNCTION_INFO_V1(cache_aside_sentinel_answers);

static void
put_host(const CaRedisHost *host, Datum *value, bool *null)
{
	bool brackets = strchr(host->name, ':') != NULL;

	*null = host->port == 0;
	if (!*null)
		*value = CStringGetTextDatum(psprintf("%s%s%s:%d", brackets ? "[" : "", host->name,
											  brackets ? "]" : "", host->port));
}

/* The view cache_aside.sentinels: one row for each Sentinel listed, none without. */
Datum
cache_aside_sentinel_answers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaMaster *master = palloc(sizeof(CaMaster));

	ca_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(lock, LW_SHARED);
	*master = shared->master;
	LWLockRelease(lock);
	for (int i = 0; i < master->listed; i++)
	{
		const CaMasterWitness *witness = &master->witnesses[i];
		Datum values[6] = {0};
		bool nulls[6] = {0};

		put_host(&witness->sentinel, &values[0], &nulls[0]);
		put_host(&witness->names, &values[1], &nulls[1]);
		values[2] = BoolGetDatum(witness->names.port != 0 &&
								 memcmp(&witness->names, &master->host, sizeof(CaRedisHost)) == 0);
		values[3] = CStringGetTextDatum(ca_text_show(witness->problem));
		nulls[3] = witness->problem[0] == '\0';
		put_host(&master->host, &values[4], &nulls[4]);
		values[5] = TimestampTzGetDatum(master->since);
		nulls[5] = master->host.port == 0;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
