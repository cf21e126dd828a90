/*
 * progress.c: how far has each replica replayed?
 *
 * Two sources, for each replica the one that is ahead:
 *	 - the walsender array. pg_stat_replication shows the same, but only to those who may read all
 *	   statistics, and not within microseconds. A standby reports what it applied when it reports
 *	   something else, or each ten seconds: after the last write it can look behind for that long;
 *	   its worker makes it report at once (publish.c).
 *	 - what the standby's own worker published in Redis and our worker read there: also for replicas
 *	   behind another standby, which have no walsender here.
 *
 * Lag in time is how long ago our log ended where the replica is now: the worker, and route()
 * itself, take samples (time, end of log). pg_stat_replication.replay_lag is not that: it stands
 * still when replay does. And it is asked for only when bytes are missing: an idle primary is not
 * lag.
 *
 * Shared memory: everything in CaProgress is guarded by its LWLock, tranche "cache_aside_routing",
 * except the atomics. Only the worker writes `published`; whoever comes first after SAMPLE_MS adds
 * a sample. Nothing is held over anything that may fail. Without preload there is no such memory:
 * the walsender array alone must do.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "log/log.h"
#include "routing/routing.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SAMPLES 1024
#define SAMPLE_MS 50
#define NAMES_TTL_MS 5000 /* a walsender's application_name is looked up again after this */

typedef struct Sample
{
	TimestampTz time;
	XLogRecPtr end; /* of the log at that time */
} Sample;

typedef struct CaProgress
{
	LWLock *lock;
	pg_atomic_uint64 sampled_at;       /* time of the newest sample */
	pg_atomic_uint32 registry_changes; /* counts commits that changed a registry */
	uint32 next;                       /* place of the next sample */
	Sample samples[SAMPLES];           /* a ring; time 0: not yet used */
	int published_count;
	CaPublished published[CA_MAX_PUBLISHED];
} CaProgress;

static CaProgress *shared = NULL;

Size
ca_progress_shmem_size(void)
{
	return MAXALIGN(sizeof(CaProgress));
}

void
ca_progress_shmem_request(void)
{
	RequestAddinShmemSpace(ca_progress_shmem_size());
	RequestNamedLWLockTranche("cache_aside_routing", 1);
}

/* Under AddinShmemInitLock. */
void
ca_progress_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside routing", ca_progress_shmem_size(), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(CaProgress));
	shared->lock = &GetNamedLWLockTranche("cache_aside_routing")->lock;
	pg_atomic_init_u64(&shared->sampled_at, 0);
	pg_atomic_init_u32(&shared->registry_changes, 0);
}

/* After commit: takes no lock and never raises. */
void
ca_progress_registry_changed(void)
{
	if (shared)
		pg_atomic_fetch_add_u32(&shared->registry_changes, 1);
}

uint32
ca_progress_registry_version(void)
{
	return shared ? pg_atomic_read_u32(&shared->registry_changes) : 0;
}

/* ---- samples: when did the log end where? ---- */

void
ca_progress_sample(TimestampTz now, XLogRecPtr end)
{
	if (shared == NULL ||
		now < (TimestampTz) pg_atomic_read_u64(&shared->sampled_at) + SAMPLE_MS * INT64CONST(1000))
		return;
	if (!LWLockConditionalAcquire(shared->lock, LW_EXCLUSIVE))
		return;
	shared->samples[shared->next % SAMPLES] = (Sample){now, end};
	shared->next++;
	pg_atomic_write_u64(&shared->sampled_at, now);
	LWLockRelease(shared->lock);
}

/* The newest sample whose log end the replica has; the caller holds the lock. */
static TimestampTz
time_of(XLogRecPtr lsn)
{
	uint32 oldest = shared->next > SAMPLES ? shared->next - SAMPLES : 0;
	uint32 low = oldest;
	uint32 high = shared->next;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (shared->samples[middle % SAMPLES].end <= lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low == oldest ? 0 : shared->samples[(low - 1) % SAMPLES].time;
}

/*
 * How long ago the log ended at or below `lsn`, in microseconds: what is missing is at most that
 * old. -1: longer ago than anybody remembers.
 */
int64
ca_progress_lag(XLogRecPtr lsn, XLogRecPtr end, TimestampTz now)
{
	TimestampTz then;

	if (lsn >= end)
		return 0;
	if (shared == NULL)
		return -1;
	LWLockAcquire(shared->lock, LW_SHARED);
	then = time_of(lsn);
	LWLockRelease(shared->lock);
	return then == 0 ? -1 : Max(now - then, 0);
}

/* ---- walsenders: names are looked up once per process ---- */

typedef struct SenderName
{
	pid_t pid;
	char name[NAMEDATALEN];
} SenderName;

static SenderName *sender_names; /* one per walsender slot */
static TimestampTz names_read_at;

static void
copy_names(const pid_t *pids)
{
	int backends;

	pgstat_clear_backend_activity_snapshot();
	backends = pgstat_fetch_stat_numbackends();
	for (int i = 0; i < max_wal_senders; i++)
		sender_names[i] = (SenderName){.pid = pids[i]};
	for (int i = 1; i <= backends; i++)
	{
		PgBackendStatus *status = &ca_backend_status(i)->backendStatus;

		for (int j = 0; j < max_wal_senders; j++)
			if (pids[j] != 0 && pids[j] == status->st_procpid)
				strlcpy(sender_names[j].name, status->st_appname, NAMEDATALEN);
	}
}

static void
know_names(const pid_t *pids, TimestampTz now)
{
	bool known = names_read_at != 0 && now - names_read_at < NAMES_TTL_MS * INT64CONST(1000);

	if (sender_names == NULL)
		sender_names =
			MemoryContextAllocZero(TopMemoryContext, max_wal_senders * sizeof(SenderName));
	for (int i = 0; known && i < max_wal_senders; i++)
		known = pids[i] == 0 || (pids[i] == sender_names[i].pid && sender_names[i].name[0]);
	if (known)
		return;
	copy_names(pids);
	names_read_at = now;
}

/* Copies the walsenders that stream or catch up; returns how many. `list` has room for all. */
static int
copy_senders(CaSender *list, TimestampTz now)
{
	pid_t *pids = palloc0(max_wal_senders * sizeof(pid_t));
	int count = 0;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd *sender = &WalSndCtl->walsnds[i];

		SpinLockAcquire(&sender->mutex);
		list[i].applied = sender->apply;
		list[i].streaming = sender->state == WALSNDSTATE_STREAMING;
		if (sender->state == WALSNDSTATE_STREAMING || sender->state == WALSNDSTATE_CATCHUP)
			pids[i] = sender->pid;
		SpinLockRelease(&sender->mutex);
	}
	know_names(pids, now);
	for (int i = 0; i < max_wal_senders; i++)
		if (pids[i] != 0)
		{
			list[count] = list[i];
			list[count++].name = sender_names[i].name;
		}
	pfree(pids);
	return count;
}

/* ---- both together ---- */

static void
copy_published(CaProgressView *view)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	view->published_count = shared->published_count;
	memcpy(view->published, shared->published, shared->published_count * sizeof(CaPublished));
	LWLockRelease(shared->lock);
}

/* What is known now; palloc'd. */
CaProgressView *
ca_progress_look(void)
{
	CaProgressView *view =
		palloc(offsetof(CaProgressView, published) + CA_MAX_PUBLISHED * sizeof(CaPublished));

	view->now = GetCurrentTimestamp();
	view->end = ca_wal_inserted();
	view->senders = palloc(Max(max_wal_senders, 1) * sizeof(CaSender));
	view->sender_count = copy_senders(view->senders, view->now);
	view->published_count = 0;
	copy_published(view);
	ca_progress_sample(view->now, view->end);
	return view;
}

/*
 * How far this replica is, by whichever source is ahead. LSNs beyond our own log are nonsense, or
 * belong to a server that went another way: they count for nothing.
 */
CaReplicaState
ca_progress_of(const CaProgressView *view, const char *name)
{
	CaReplicaState state = {0};

	for (int i = 0; i < view->sender_count; i++)
		if (strcmp(view->senders[i].name, name) == 0 && view->senders[i].applied <= view->end)
		{
			state.connected = true;
			state.streaming |= view->senders[i].streaming;
			state.replayed = Max(state.replayed, view->senders[i].applied);
		}
	for (int i = 0; i < view->published_count; i++)
		if (strcmp(view->published[i].name, name) == 0 && view->published[i].replayed <= view->end)
		{
			state.seen = view->published[i].seen;
			state.fresh = view->now - state.seen < CA_PUBLISHED_TTL_MS * INT64CONST(1000);
			if (state.fresh)
				state.replayed = Max(state.replayed, view->published[i].replayed);
		}
	if (state.connected)
		state.seen = view->now;
	return state;
}

/* The worker replaces all that it read from Redis. */
void
ca_progress_set_published(const CaPublished *list, int count)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->published_count = Min(count, CA_MAX_PUBLISHED);
	memcpy(shared->published, list, shared->published_count * sizeof(CaPublished));
	LWLockRelease(shared->lock);
}
