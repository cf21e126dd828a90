/*
 * long_work.c: long work, for others to see. SQL: long_work(), for the view progress;
 * warm_progress_slots()
 *
 * Input: what sessions tell of warm(), audit() and attach(), and what the worker tells of a scan of Redis. Output: a row for
 * each, as the views pg_stat_progress_... have them.
 *
 * Shared state: one slot per work. `pid` is taken by compare-and-swap; the other fields are written by the owner
 * alone, each atomically, so that a reader may see numbers of two moments. Who finds no slot works all the same,
 * unseen; so does work inside of work. A phase is the number of a text that all processes have.
 *
 * A slot is given back by its owner, at the end of the work, or when the (sub)transaction fails in which it began, as it
 * does when the session ends.
 */
#include "cache_aside.h"
#include "shared/long_work.h"
#include "shared/status.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define SLOTS 64

typedef struct CaLongWork
{
	pg_atomic_uint32 pid; /* 0: free */
	pg_atomic_uint32 kind;
	pg_atomic_uint32 database;
	pg_atomic_uint32 relation;
	pg_atomic_uint32 phase;
	pg_atomic_uint64 started;
	pg_atomic_uint64 done;
	pg_atomic_uint64 total;
	pg_atomic_uint64 stored;
	pg_atomic_uint64 refused;
} CaLongWork;

static CaLongWork *slots; /* SLOTS of them; NULL without preload */
static CaLongWork *mine;  /* what this session is doing */
static int level;         /* of the (sub)transaction in which it began */

static const struct
{
	const char *command;
	const char *unit;
} kinds[] = {
	[CA_LONG_WORK_WARM] = {"warm", "rows"},
	[CA_LONG_WORK_AUDIT] = {"audit", "rows"},
	[CA_LONG_WORK_ATTACH] = {"attach", "triggers"},
};
static const char *const phases[] = {"beginning", "filling", "comparing", "looking again",
									 "making triggers"};

PG_FUNCTION_INFO_V1(cache_aside_long_work);
PG_FUNCTION_INFO_V1(cache_aside_warm_progress);

static Size
shmem_size(void)
{
	return MAXALIGN(SLOTS * sizeof(CaLongWork));
}

void
ca_long_work_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
}

void
ca_long_work_shmem_init(void)
{
	bool found;

	slots = ShmemInitStruct("cache_aside work", shmem_size(), &found);
	if (found)
		return;
	memset(slots, 0, shmem_size());
	for (int i = 0; i < SLOTS; i++)
		pg_atomic_init_u32(&slots[i].pid, 0);
}

/* ---- of the one who works ---- */

static void
at_transaction_event(XactEvent event, void *arg)
{
	if (mine != NULL && event == XACT_EVENT_ABORT)
		ca_long_work_end(mine);
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId my_id, SubTransactionId parent_id,
						void *arg)
{
	if (mine != NULL && event == SUBXACT_EVENT_ABORT_SUB &&
		GetCurrentTransactionNestLevel() <= level)
		ca_long_work_end(mine);
}

static void
register_ends(void)
{
	static bool registered;

	if (registered)
		return;
	registered = true;
	RegisterXactCallback(at_transaction_event, NULL);
	RegisterSubXactCallback(at_subtransaction_event, NULL);
}

static CaLongWork *
take_slot(void)
{
	for (int i = 0; slots != NULL && i < SLOTS; i++)
	{
		uint32 nobody = 0;

		if (pg_atomic_compare_exchange_u32(&slots[i].pid, &nobody, (uint32) MyProcPid))
			return &slots[i];
	}
	return NULL;
}

CaLongWork *
ca_long_work_begin(CaLongWorkKind kind, Oid relid, uint64 total)
{
	register_ends();
	if (mine != NULL || (mine = take_slot()) == NULL)
		return NULL;
	level = GetCurrentTransactionNestLevel();
	pg_atomic_write_u32(&mine->kind, kind);
	pg_atomic_write_u32(&mine->database, MyDatabaseId);
	pg_atomic_write_u32(&mine->relation, relid);
	pg_atomic_write_u32(&mine->phase, 0);
	pg_atomic_write_u64(&mine->started, (uint64) GetCurrentTimestamp());
	pg_atomic_write_u64(&mine->done, 0);
	pg_atomic_write_u64(&mine->total, total);
	pg_atomic_write_u64(&mine->stored, 0);
	pg_atomic_write_u64(&mine->refused, 0);
	return mine;
}

void
ca_long_work_phase(CaLongWork *work, const char *phase)
{
	for (uint32 i = 0; work != NULL && i < lengthof(phases); i++)
		if (strcmp(phases[i], phase) == 0)
			pg_atomic_write_u32(&work->phase, i);
}

void
ca_long_work_show(CaLongWork *work, uint64 done)
{
	if (work != NULL)
		pg_atomic_write_u64(&work->done, done);
}

void
ca_long_work_show_fills(CaLongWork *work, uint64 stored, uint64 refused)
{
	if (work == NULL)
		return;
	pg_atomic_write_u64(&work->stored, stored);
	pg_atomic_write_u64(&work->refused, refused);
}

void
ca_long_work_step(CaLongWorkKind kind)
{
	if (mine == NULL || pg_atomic_read_u32(&mine->kind) != kind)
		return;
	pg_atomic_write_u64(&mine->done, pg_atomic_read_u64(&mine->done) + 1);
	CHECK_FOR_INTERRUPTS();
}

void
ca_long_work_end(CaLongWork *work)
{
	if (work == NULL)
		return;
	mine = NULL;
	pg_atomic_write_u32(&work->pid, 0);
}

/* ---- of the one who looks ---- */

typedef struct Row
{
	int pid;
	Oid database;
	Oid relation;
	const char *command;
	const char *phase;
	const char *unit;
	uint64 done;
	uint64 total; /* 0: not known */
	TimestampTz started;
} Row;

static void
put_row(ReturnSetInfo *result, const Row *row)
{
	Datum values[9];
	bool nulls[9] = {false};

	values[0] = Int32GetDatum(row->pid);
	values[1] = ObjectIdGetDatum(row->database);
	nulls[1] = !OidIsValid(row->database);
	values[2] = ObjectIdGetDatum(row->relation);
	nulls[2] = !OidIsValid(row->relation);
	values[3] = CStringGetTextDatum(row->command);
	values[4] = CStringGetTextDatum(row->phase);
	values[5] = Int64GetDatum((int64) row->done);
	/* an estimate that was too low */
	values[6] = Int64GetDatum((int64) Max(row->total, row->done));
	nulls[6] = row->total == 0;
	values[7] = CStringGetTextDatum(row->unit);
	values[8] = TimestampTzGetDatum(row->started);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_slot(ReturnSetInfo *result, CaLongWork *slot)
{
	uint32 kind = pg_atomic_read_u32(&slot->kind);
	uint32 phase = pg_atomic_read_u32(&slot->phase);
	Row row = {.pid = (int) pg_atomic_read_u32(&slot->pid)};

	if (row.pid == 0)
		return;
	row.database = pg_atomic_read_u32(&slot->database);
	row.relation = pg_atomic_read_u32(&slot->relation);
	row.command = kinds[kind].command;
	row.unit = kinds[kind].unit;
	row.phase = phases[phase];
	row.done = pg_atomic_read_u64(&slot->done);
	row.total = pg_atomic_read_u64(&slot->total);
	row.started = (TimestampTz) pg_atomic_read_u64(&slot->started);
	put_row(result, &row);
}

/* What the worker does: it is of no database. */
static void
put_scan(ReturnSetInfo *result)
{
	CaStatus s;
	Row row = {.phase = "scanning Redis", .unit = "keys"};

	ca_status_copy(&s);
	if (s.pid == 0 || s.scan.since == 0)
		return;
	row.pid = s.pid;
	row.command = strcmp(s.state, "resyncing") == 0 ? "resync" : "patterns";
	row.done = s.scan.seen;
	row.total = s.scan.total;
	row.started = s.scan.since;
	put_row(result, &row);
}

Datum
cache_aside_long_work(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; slots != NULL && i < SLOTS; i++)
		put_slot(result, &slots[i]);
	if (slots != NULL)
		put_scan(result);
	return (Datum) 0;
}

/* warm_progress_slots(), as the first release had it. */
Datum
cache_aside_warm_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; slots != NULL && i < SLOTS; i++)
	{
		CaLongWork *slot = &slots[i];
		Datum values[6];
		bool nulls[6] = {false};
		uint32 pid = pg_atomic_read_u32(&slot->pid);

		if (pid == 0 || pg_atomic_read_u32(&slot->kind) != CA_LONG_WORK_WARM)
			continue;
		values[0] = Int32GetDatum((int32) pid);
		values[1] = ObjectIdGetDatum(pg_atomic_read_u32(&slot->database));
		values[2] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&slot->started));
		values[3] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->done));
		values[4] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->stored));
		values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->refused));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
