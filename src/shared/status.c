/*
 * status.c: what the worker shows of itself, and how it is woken.
 *
 * The worker keeps now_shown to itself and copies it to shared memory at the end of each round of its loop
 * (ca_status_publish), under a spinlock that is held for the copy alone. The confirmed LSN is an atomic besides, stored
 * after the answer of Redis that makes it true. Backends that wait for it sleep on the condition variable `progress`, which
 * is broadcast after the store, so that none can miss it (wait_delivered.c).
 *
 * Waking the worker takes no lock: its proc number is an atomic, and proc latches stay where they are while the
 * postmaster lives. If the worker has just gone, a stranger's latch is set once, which everybody's wait loop tolerates.
 *
 * A commit with keys wakes the worker only if that wants to know (wants_commits): not where it delivers nothing, nor in an
 * outage whose first commit it knows. A wake-up costs both sides some microseconds of each commit. None that is wanted
 * is missed:
 *
 *	session                                  worker
 *	1 its commit is in the log, and flushed  1 writes wants_commits
 *	2 reads wants_commits                    2 reads the log
 *
 * Each has a barrier in between, so one of them sees the other; and a worker that begins to want commits goes round once
 * more before it sleeps, whatever it read in the round before. An asynchronous commit sets the latch before it is
 * flushed; the worker sees it later, by the clock.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "common/debug.h"
#include "shared/endpoint.h"
#include "shared/shared.h"
#include "shared/status.h"
#include "shared/trouble.h"

#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

CaShared *ca_status_shared;
static CaStatus now_shown;
static uint32 resets_seen;

static Size
shmem_size(void)
{
	return MAXALIGN(sizeof(CaShared));
}

void
ca_status_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
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

static void
make_id(char *id, Size size)
{
	uint64 bits;

	if (!pg_strong_random(&bits, sizeof(bits))) /* a bad one is no reason not to start */
		bits = pg_prng_uint64(&pg_global_prng_state);
	snprintf(id, size, "%016llx", (unsigned long long) bits);
}

void
ca_status_shmem_init(void)
{
	bool found;

	ca_status_shared = ShmemInitStruct("cache_aside", sizeof(CaShared), &found);
	if (found)
		return;
	memset(ca_status_shared, 0, sizeof(CaShared));
	SpinLockInit(&ca_status_shared->mutex);
	pg_atomic_init_u32(&ca_status_shared->worker_proc, 0);
	pg_atomic_init_u32(&ca_status_shared->wants_commits, 1);
	pg_atomic_init_u64(&ca_status_shared->confirmed, 0);
	pg_atomic_init_u32(&ca_status_shared->uninstalled, 0);
	pg_atomic_init_u32(&ca_status_shared->parted, 0);
	pg_atomic_init_u32(&ca_status_shared->census_asked, 0);
	pg_atomic_init_u32(&ca_status_shared->installed, 0);
	pg_atomic_init_u32(&ca_status_shared->keys_logged, 0);
	pg_atomic_init_u32(&ca_status_shared->adopt_asked, 0);
	make_id(ca_status_shared->standby_id, sizeof(ca_status_shared->standby_id));
	make_id(ca_status_shared->server_id, sizeof(ca_status_shared->server_id));
	pg_atomic_init_u32(&ca_status_shared->trouble, CA_TROUBLE_NONE);
	pg_atomic_init_u64(&ca_status_shared->stray_keys, 0);
	ca_status_shared->crashed = server_crashed();
	pg_atomic_init_u32(&ca_status_shared->reset_requested, 0);
	ConditionVariableInit(&ca_status_shared->progress);
	pg_atomic_init_u32(&ca_status_shared->waiters, 0);
	pg_atomic_init_u32(&ca_status_shared->ping_asked, 0);
	pg_atomic_init_u32(&ca_status_shared->ping_answered, 0);
	pg_atomic_init_u64(&ca_status_shared->ping_us, 0);
}

void
ca_status_wake_worker(void)
{
	uint32 proc;

	if (ca_status_shared == NULL)
		return;
	proc = pg_atomic_read_u32(&ca_status_shared->worker_proc);
	if (proc != 0)
		SetLatch(&GetPGProcByNumber(proc - 1)->procLatch);
}

/* After a commit that logged keys, or may have. */
void
ca_status_tell_commit(void)
{
	if (ca_status_shared == NULL)
		return;
	pg_memory_barrier();
	if (pg_atomic_read_u32(&ca_status_shared->wants_commits) != 0)
		ca_status_wake_worker();
}

void
ca_status_ask_census(void)
{
	if (ca_status_shared)
		pg_atomic_fetch_add_u32(&ca_status_shared->census_asked, 1);
}

/* The extension is here, whatever the worker believes: keys were committed. */
void
ca_status_note_keys(void)
{
	if (ca_status_shared == NULL || pg_atomic_read_u32(&ca_status_shared->installed) != 0)
		return;
	pg_atomic_write_u32(&ca_status_shared->keys_logged, 1);
}

/* Were there any since it was asked last, or the worker concluded? */
bool
ca_status_take_keys(void)
{
	return pg_atomic_exchange_u32(&ca_status_shared->keys_logged, 0) != 0;
}

void
ca_status_put_installed(bool installed)
{
	pg_atomic_write_u32(&ca_status_shared->installed, installed);
}

/* ---- worker side ---- */

static void
detach(int code, Datum arg)
{
	pg_atomic_write_u32(&ca_status_shared->worker_proc, 0);
	now_shown.pid = 0;
	ca_status_state("stopped");
	ca_status_publish();
	ConditionVariableBroadcast(&ca_status_shared->progress);
}

/* True: it begins to want them, and has to look at the log before it sleeps. */
bool
ca_status_want_commits(bool want)
{
	if (want == (pg_atomic_read_u32(&ca_status_shared->wants_commits) != 0))
		return false;
	if (want)
		CA_DEBUG_POINT("wants-commits");
	pg_atomic_exchange_u32(&ca_status_shared->wants_commits, want); /* a barrier */
	return want;
}

/* Counters survive a restart of the worker: they are read back from shared memory. */
void
ca_status_attach(void)
{
	SpinLockAcquire(&ca_status_shared->mutex);
	now_shown = ca_status_shared->status;
	SpinLockRelease(&ca_status_shared->mutex);
	now_shown.pid = MyProcPid;
	now_shown.settled = false;
	now_shown.redelete_waiting = 0; /* forgotten with the process before */
	if (now_shown.stats_reset == 0)
		now_shown.stats_reset = GetCurrentTimestamp();
	resets_seen = pg_atomic_read_u32(&ca_status_shared->reset_requested);
	before_shmem_exit(detach, (Datum) 0);
	(void) ca_status_want_commits(true); /* nothing was read yet */
	pg_atomic_write_u32(&ca_status_shared->worker_proc, ca_my_proc_number() + 1);
}

static void
reset_counters(void)
{
	CaStatus *s = &now_shown;

	memset(s->counts, 0, sizeof(s->counts));
	s->stray_keys_before = pg_atomic_read_u64(&ca_status_shared->stray_keys);
	memset(s->latency, 0, sizeof(s->latency));
	s->stats_reset = GetCurrentTimestamp();
}

void
ca_status_publish(void)
{
	bool advanced =
		pg_atomic_read_u64(&ca_status_shared->confirmed) != now_shown.progress.confirmed;
	uint32 resets = pg_atomic_read_u32(&ca_status_shared->reset_requested);

	if (resets != resets_seen)
	{
		resets_seen = resets;
		reset_counters();
	}
	ca_endpoint_publish(); /* first, see there */
	SpinLockAcquire(&ca_status_shared->mutex);
	ca_status_shared->status = now_shown;
	SpinLockRelease(&ca_status_shared->mutex);
	if (!advanced)
		return;
	pg_atomic_write_u64(&ca_status_shared->confirmed, now_shown.progress.confirmed);
	pg_memory_barrier(); /* a waiter counts itself, then looks: one of us sees the other */
	if (pg_atomic_read_u32(&ca_status_shared->waiters) > 0)
		ConditionVariableBroadcast(&ca_status_shared->progress);
}

void
ca_status_error(const char *error)
{
	strlcpy(now_shown.last_error, error, sizeof(now_shown.last_error));
	now_shown.last_error_at = GetCurrentTimestamp();
}

void
ca_status_state(const char *state)
{
	strlcpy(now_shown.state, state, sizeof(now_shown.state));
}

void
ca_status_count(CaCount what, uint64 by)
{
	now_shown.counts[what] += by;
}

void
ca_status_put_latency(TimestampTz commit_time)
{
	int64 us = GetCurrentTimestamp() - commit_time;
	int bucket = 0;

	while (bucket < CA_LATENCY_BUCKETS - 1 && us >= ((int64) 16 << bucket))
		bucket++;
	now_shown.latency[bucket]++;
}

void
ca_status_put_progress(const CaStatusProgress *progress)
{
	now_shown.progress = *progress;
}

/* Of the worker: what it was when the one before ended. */
void
ca_status_get_progress(CaStatusProgress *progress)
{
	*progress = now_shown.progress;
}

void
ca_status_put_settled(bool settled)
{
	now_shown.settled = settled;
}

void
ca_status_put_redelete(uint64 waiting)
{
	now_shown.redelete_waiting = waiting;
}

void
ca_status_put_scan(const CaStatusScan *scan)
{
	now_shown.scan = *scan;
}

void
ca_status_put_skip(const CaStatusSkip *skip)
{
	now_shown.skip = *skip;
}

void
ca_status_put_slot(XLogRecPtr restart)
{
	now_shown.slot_restart = restart;
}

void
ca_status_put_trouble(const CaStatusTrouble *trouble)
{
	now_shown.trouble = *trouble;
}

void
ca_status_put_waits_for(const char *database)
{
	strlcpy(now_shown.waits_for, database, sizeof(now_shown.waits_for));
}

/* ---- backends ---- */

void
ca_status_copy(CaStatus *status)
{
	ca_preload_require();
	SpinLockAcquire(&ca_status_shared->mutex);
	*status = ca_status_shared->status;
	SpinLockRelease(&ca_status_shared->mutex);
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
