/*
 * status.c: what the worker tells the world.
 *
 * The worker keeps ca_status_now to itself and copies it to shared memory at the end of each round
 * of its loop (ca_status_publish), under a spinlock held for one struct copy. The confirmed LSN is
 * also an atomic, stored after the answer of Redis that makes it true; waiting backends sleep on the
 * condition variable `progress`, broadcast after the store, so that none can miss it
 * (wait_delivered.c).
 *
 * Waking the worker takes no lock: its proc number is an atomic, and proc latches stay where they
 * are while the postmaster lives. If the worker has just gone, a stranger's latch is set once, which
 * everybody's wait loop tolerates.
 */
#include "shared/status.h"

#include <unistd.h>

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

CaShared *ca_shared;
CaStatus ca_status_now;
static uint32 resets_seen;

PG_FUNCTION_INFO_V1(cache_aside_worker_status);
PG_FUNCTION_INFO_V1(cache_aside_latency_histogram);
PG_FUNCTION_INFO_V1(cache_aside_reset_stats);

Size
ca_status_shmem_size(void)
{
	return MAXALIGN(sizeof(CaShared));
}

/*
 * Runs in the postmaster, before recovery: what the control file says is how the server ended. In a
 * base backup it says how the primary was, which is no crash of the standby made from it; what a
 * promotion has to make good is known then (resume.c).
 */
static bool
server_crashed(void)
{
	bool valid;
	ControlFileData *control = get_controlfile(DataDir, &valid);
	bool crashed =
		valid && (control->state == DB_IN_PRODUCTION || control->state == DB_SHUTDOWNING ||
				  control->state == DB_IN_CRASH_RECOVERY);

	pfree(control);
	return crashed && access(STANDBY_SIGNAL_FILE, F_OK) != 0 &&
		   access(RECOVERY_SIGNAL_FILE, F_OK) != 0;
}

void
ca_status_shmem_init(void)
{
	bool found;

	ca_shared = ShmemInitStruct("cache_aside", sizeof(CaShared), &found);
	if (found)
		return;
	memset(ca_shared, 0, sizeof(CaShared));
	SpinLockInit(&ca_shared->mutex);
	pg_atomic_init_u32(&ca_shared->worker_proc, 0);
	pg_atomic_init_u64(&ca_shared->confirmed, 0);
	pg_atomic_init_u32(&ca_shared->uninstalled, 0);
	pg_atomic_init_u32(&ca_shared->parted, 0);
	pg_atomic_init_u32(&ca_shared->census_asked, 0);
	pg_atomic_init_u32(&ca_shared->installed, 0);
	pg_atomic_init_u32(&ca_shared->keys_logged, 0);
	pg_atomic_init_u32(&ca_shared->adopt_asked, 0);
	ca_announce_init(ca_shared->standby_id, sizeof(ca_shared->standby_id));
	ca_announce_init(ca_shared->server_id, sizeof(ca_shared->server_id));
	pg_atomic_init_u32(&ca_shared->trouble, CA_TROUBLE_NONE);
	pg_atomic_init_u64(&ca_shared->stray_keys, 0);
	ca_shared->crashed = server_crashed();
	pg_atomic_init_u32(&ca_shared->reset_requested, 0);
	ConditionVariableInit(&ca_shared->progress);
	pg_atomic_init_u32(&ca_shared->waiters, 0);
	pg_atomic_init_u32(&ca_shared->ping_asked, 0);
	pg_atomic_init_u32(&ca_shared->ping_answered, 0);
	pg_atomic_init_u64(&ca_shared->ping_us, 0);
}

void
ca_status_wake_worker(void)
{
	uint32 proc;

	if (ca_shared == NULL)
		return;
	proc = pg_atomic_read_u32(&ca_shared->worker_proc);
	if (proc != 0)
		SetLatch(&GetPGProcByNumber(proc - 1)->procLatch);
}

void
ca_status_ask_census(void)
{
	if (ca_shared)
		pg_atomic_fetch_add_u32(&ca_shared->census_asked, 1);
}

/* The extension is here, whatever the worker believes: keys were committed. */
void
ca_status_note_keys(void)
{
	if (ca_shared == NULL || pg_atomic_read_u32(&ca_shared->installed) != 0)
		return;
	pg_atomic_write_u32(&ca_shared->keys_logged, 1);
}

/* ---- worker side ---- */

static void
detach(int code, Datum arg)
{
	pg_atomic_write_u32(&ca_shared->worker_proc, 0);
	ca_status_now.pid = 0;
	ca_status_state("stopped");
	ca_status_publish();
	ConditionVariableBroadcast(&ca_shared->progress);
}

/* Counters survive a restart of the worker: they are read back from shared memory. */
void
ca_status_attach(void)
{
	SpinLockAcquire(&ca_shared->mutex);
	ca_status_now = ca_shared->status;
	SpinLockRelease(&ca_shared->mutex);
	ca_status_now.pid = MyProcPid;
	if (ca_status_now.stats_reset == 0)
		ca_status_now.stats_reset = GetCurrentTimestamp();
	resets_seen = pg_atomic_read_u32(&ca_shared->reset_requested);
	before_shmem_exit(detach, (Datum) 0);
	pg_atomic_write_u32(&ca_shared->worker_proc, ca_my_proc_number() + 1);
}

static void
reset_counters(void)
{
	CaStatus *s = &ca_status_now;

	s->commits = s->keys = s->patterns = s->batches = s->retries = s->reply_errors = 0;
	s->reconnects = s->resyncs = s->skipped = s->foreign_records = s->unreadable_records = 0;
	s->log_skips = 0;
	s->stray_keys_before = pg_atomic_read_u64(&ca_shared->stray_keys);
	s->redeleted = s->redelete_dropped = 0;
	memset(s->latency, 0, sizeof(s->latency));
	s->stats_reset = GetCurrentTimestamp();
}

void
ca_status_publish(void)
{
	bool advanced = pg_atomic_read_u64(&ca_shared->confirmed) != ca_status_now.confirmed;
	uint32 resets = pg_atomic_read_u32(&ca_shared->reset_requested);

	if (resets != resets_seen)
	{
		resets_seen = resets;
		reset_counters();
	}
	SpinLockAcquire(&ca_shared->mutex);
	ca_shared->status = ca_status_now;
	SpinLockRelease(&ca_shared->mutex);
	if (!advanced)
		return;
	pg_atomic_write_u64(&ca_shared->confirmed, ca_status_now.confirmed);
	pg_memory_barrier(); /* a waiter counts itself, then looks: one of us sees the other */
	if (pg_atomic_read_u32(&ca_shared->waiters) > 0)
		ConditionVariableBroadcast(&ca_shared->progress);
}

void
ca_status_error(const char *error)
{
	strlcpy(ca_status_now.last_error, error, sizeof(ca_status_now.last_error));
	ca_status_now.last_error_at = GetCurrentTimestamp();
}

void
ca_status_state(const char *state)
{
	strlcpy(ca_status_now.state, state, sizeof(ca_status_now.state));
}

void
ca_status_redis_state(const char *state)
{
	if (strcmp(ca_status_now.redis_state, state) == 0)
		return;
	strlcpy(ca_status_now.redis_state, state, sizeof(ca_status_now.redis_state));
	ca_status_now.redis_since = GetCurrentTimestamp();
}

void
ca_status_latency(TimestampTz commit_time)
{
	int64 us = GetCurrentTimestamp() - commit_time;
	int bucket = 0;

	while (bucket < CA_LATENCY_BUCKETS - 1 && us >= ((int64) 16 << bucket))
		bucket++;
	ca_status_now.latency[bucket]++;
}

/* ---- SQL side ---- */

void
ca_status_copy(CaStatus *status)
{
	ca_require_preload();
	SpinLockAcquire(&ca_shared->mutex);
	*status = ca_shared->status;
	SpinLockRelease(&ca_shared->mutex);
}

#define JUST_STARTED_MS 5000

bool
ca_status_worker_began(void)
{
	CaStatus s;

	ca_status_copy(&s);
	return s.stats_reset != 0 ||
		   !TimestampDifferenceExceeds(PgStartTime, GetCurrentTimestamp(), JUST_STARTED_MS);
}

/* A row under construction: columns are filled in order. */
typedef struct Row
{
	Datum values[48];
	bool nulls[48];
	int n;
} Row;

static void
put(Row *row, Datum value, bool null)
{
	row->values[row->n] = value;
	row->nulls[row->n++] = null;
}

static void
put_text(Row *row, const char *str)
{
	put(row, CStringGetTextDatum(str), str[0] == '\0');
}

static void
put_lsn(Row *row, XLogRecPtr lsn)
{
	put(row, LSNGetDatum(lsn), XLogRecPtrIsInvalid(lsn));
}

static void
put_count(Row *row, uint64 count)
{
	put(row, Int64GetDatum((int64) count), false);
}

static void
put_time(Row *row, TimestampTz time)
{
	put(row, TimestampTzGetDatum(time), time == 0);
}

static XLogRecPtr
log_end(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetFlushRecPtr(NULL);
}

static void
put_position(Row *row, const CaStatus *s)
{
	XLogRecPtr end = log_end();
	XLogRecPtr from = s->confirmed ? s->confirmed : s->undelivered_from;

	put(row, Int32GetDatum((int32) s->timeline), s->timeline == 0);
	put_lsn(row, s->confirmed);
	put_lsn(row, s->restart);
	put_lsn(row, s->read_end);
	put_lsn(row, s->visible);
	put(row, Int64GetDatum(end > from ? (int64) (end - from) : 0), XLogRecPtrIsInvalid(from));
	put(row, Float8GetDatum(s->oldest ? Max(0, GetCurrentTimestamp() - s->oldest) / 1000.0 : 0.0),
		strcmp(s->state, "standby") == 0 || (s->oldest == 0 && XLogRecPtrIsInvalid(from)));
	put_time(row, s->oldest);
	put(row, Int64GetDatum(end > s->slot_restart ? (int64) (end - s->slot_restart) : 0),
		XLogRecPtrIsInvalid(s->slot_restart));
}

static void
put_counters(Row *row, const CaStatus *s)
{
	put_count(row, s->commits);
	put_count(row, s->keys);
	put_count(row, s->patterns);
	put_count(row, s->batches);
	put_count(row, s->retries);
	put_count(row, s->reply_errors);
	put_count(row, s->skipped);
	put_count(row, s->reconnects);
	put_count(row, s->resyncs);
	put_count(row, s->resync_scanned);
	put_count(row, s->redeleted);
	put_count(row, s->redelete_waiting);
	put_count(row, s->redelete_dropped);
	put_count(row, s->foreign_records);
	put_count(row, s->unreadable_records);
	put_count(row, pg_atomic_read_u64(&ca_shared->stray_keys) - s->stray_keys_before);
}

/* Without a worker nobody can have said what is wrong. */
static void
put_trouble(Row *row, const CaStatus *s)
{
	bool never = s->pid == 0 && s->stats_reset == 0;

	if (s->pid != 0 && s->trouble == CA_TROUBLE_DATABASE)
		put_text(row, psprintf("waits for database %s", ca_text_show(s->waits_for)));
	else
		put_text(row, s->pid == 0 ? "no worker" : ca_trouble_name(s->trouble));
	put_time(row, s->pid == 0 ? 0 : s->trouble_since);
	put_text(row, s->pid == 0 ? "" : s->first_error);
	put_text(row, never ? "It never began: raise max_worker_processes if the server log says that "
						  "there were too many background workers."
				  : s->pid == 0 ? "It is started again after a second; the server log says why it "
								  "ended."
								: ca_trouble_hint(s->trouble));
}

/*
 * cache_aside.worker_status() -> one row, the body of the view cache_aside.status. LSNs are NULL
 * while unknown; lag_bytes is from confirmed to the end of the flushed (standby: replayed) log;
 * lag_ms the age of the oldest commit not delivered.
 */
Datum
cache_aside_worker_status(PG_FUNCTION_ARGS)
{
	Row row = {0};
	CaStatus s;
	TupleDesc desc;

	ca_status_copy(&s);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	put_text(&row, RecoveryInProgress() ? "standby" : "primary");
	put(&row, Int32GetDatum(s.pid), s.pid == 0);
	put_text(&row, s.pid == 0 ? "stopped" : s.state);
	put_text(&row, s.endpoint);
	put_text(&row, s.redis_state);
	put_time(&row, s.redis_since);
	put_text(&row, s.redis_version);
	put_position(&row, &s);
	put_counters(&row, &s);
	put_count(&row, s.log_skips);
	put_lsn(&row, s.skip_from);
	put_lsn(&row, s.skip_to);
	put_time(&row, s.skip_at);
	put_text(&row, s.last_error);
	put_time(&row, s.last_error_at);
	put_trouble(&row, &s);
	put_time(&row, s.stats_reset);
	put_count(&row, ca_allowance_used());
	if (row.n != desc->natts)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("library and SQL objects of cache_aside do not fit each other"),
			 errdetail("The library tells %d columns, the function has %d.", row.n, desc->natts),
			 errhint("Run ALTER EXTENSION cache_aside UPDATE, or restart the server with "
					 "the library that belongs to the objects.")));
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row.values, row.nulls)));
}

/* cache_aside.latency_histogram() -> (below interval, commits bigint); below NULL: the rest */
Datum
cache_aside_latency_histogram(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaStatus s;

	ca_status_copy(&s);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < CA_LATENCY_BUCKETS; i++)
	{
		Row row = {0};
		Interval *below = palloc0(sizeof(Interval));

		below->time = (int64) 16 << i;
		put(&row, IntervalPGetDatum(below), i == CA_LATENCY_BUCKETS - 1);
		put_count(&row, s.latency[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}

Datum
cache_aside_reset_stats(PG_FUNCTION_ARGS)
{
	ca_require_preload();
	pg_atomic_fetch_add_u32(&ca_shared->reset_requested, 1);
	ca_status_wake_worker();
	PG_RETURN_VOID();
}
