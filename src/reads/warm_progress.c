/*
 * warm_progress.c: runs of warm(), for others to see. SQL: view warm_progress
 *
 * Shared state: one slot per running warm(). `pid` is taken by compare-and-swap; the other fields are written by the owner
 * alone, each atomically, so that a reader may see counters of two moments. Who finds no slot warms all the same,
 * unseen.
 */
#include "cache_aside.h"
#include "reads/reads.h"
#include "reads/warm_progress.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define WARM_SLOTS 32

typedef struct CaWarmSlot
{
	pg_atomic_uint32 pid; /* 0: free */
	pg_atomic_uint32 database;
	pg_atomic_uint64 started;
	pg_atomic_uint64 rows;
	pg_atomic_uint64 stored;
	pg_atomic_uint64 refused;
} CaWarmSlot;

static CaWarmSlot *slots; /* WARM_SLOTS of them; NULL without preload */

PG_FUNCTION_INFO_V1(cache_aside_warm_progress);

static Size
shmem_size(void)
{
	return MAXALIGN(WARM_SLOTS * sizeof(CaWarmSlot));
}

void
ca_warm_progress_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
}

void
ca_warm_progress_shmem_init(void)
{
	bool found;

	slots = ShmemInitStruct("cache_aside warm", shmem_size(), &found);
	if (found)
		return;
	memset(slots, 0, shmem_size());
	for (int i = 0; i < WARM_SLOTS; i++)
		pg_atomic_init_u32(&slots[i].pid, 0);
}

/* NULL: all are taken, or the library is not preloaded. */
CaWarmSlot *
ca_warm_progress_take(void)
{
	for (int i = 0; slots != NULL && i < WARM_SLOTS; i++)
	{
		CaWarmSlot *slot = &slots[i];
		uint32 nobody = 0;

		if (!pg_atomic_compare_exchange_u32(&slot->pid, &nobody, (uint32) MyProcPid))
			continue;
		pg_atomic_write_u32(&slot->database, MyDatabaseId);
		pg_atomic_write_u64(&slot->started, (uint64) GetCurrentTimestamp());
		pg_atomic_write_u64(&slot->rows, 0);
		pg_atomic_write_u64(&slot->stored, 0);
		pg_atomic_write_u64(&slot->refused, 0);
		return slot;
	}
	return NULL;
}

void
ca_warm_progress_show(CaWarmSlot *slot, uint64 rows, uint64 stored, uint64 refused)
{
	if (slot == NULL)
		return;
	pg_atomic_write_u64(&slot->rows, rows);
	pg_atomic_write_u64(&slot->stored, stored);
	pg_atomic_write_u64(&slot->refused, refused);
}

void
ca_warm_progress_release(CaWarmSlot *slot)
{
	if (slot != NULL)
		pg_atomic_write_u32(&slot->pid, 0);
}

Datum
cache_aside_warm_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; slots != NULL && i < WARM_SLOTS; i++)
	{
		CaWarmSlot *slot = &slots[i];
		Datum values[6];
		bool nulls[6] = {false};
		uint32 pid = pg_atomic_read_u32(&slot->pid);

		if (pid == 0)
			continue;
		values[0] = Int32GetDatum((int32) pid);
		values[1] = ObjectIdGetDatum(pg_atomic_read_u32(&slot->database));
		values[2] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&slot->started));
		values[3] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->rows));
		values[4] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->stored));
		values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->refused));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
