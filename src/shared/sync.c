/*
 * sync.c: sessions that wait until the keys of their commit are deleted: who waits, and for what.
 *
 * With cache_aside.synchronous a session that has committed and let go of its locks (commit.c) enters a queue
 * in shared memory, ordered by LSN, and sleeps (sync_wait.c). The worker takes out those whose commit Redis has
 * acknowledged, and wakes them. It goes by the commit and not by the confirmed LSN: while one commit is
 * stalled, others behind it are delivered, but the confirmed LSN stays below it.
 *
 *	session                                     worker
 *	1 enters the queue (lock)                   1 writes acked, the highest commit acknowledged
 *	2 reads acked                               2 reads how many wait
 *	3 sleeps                                    3 takes out those it is about, and wakes them (lock)
 *
 * Each writes before it reads, with a barrier in between, so one of them sees the other. A session that finds
 * acked above its own commit cannot tell: was its commit acknowledged just before it entered the queue, or is
 * it still under way? So it asks, and the worker says in a later round whether anything of that commit is left
 * (ca_sync_answer). After a COMMIT PREPARED a session always asks: it knows neither whether that transaction
 * had keys nor where its commit record ends, only that it is a COMMIT PREPARED between the end of the log
 * before the statement and its end now.
 *
 * An entry of the queue belongs to a backend, by its proc number. Nothing that a backend calls here allocates
 * or raises: after the commit record it would be a PANIC.
 *
 * Replicas of Redis (redis_min_replicas). A session whose keys the master has deleted then stays in the queue, held back under
 * the number of a WAIT; the answer to that WAIT takes out all that are held back up to its number. `confirmed`, at or below
 * which a session need not enter the queue, moves with those answers. When the connection is lost, so is what was held
 * back, for the next master may lack it: each of those sessions asks again. The numbers are those of one Redis's connection,
 * and count on over its sessions; a commit whose keys go to two would need a number of each, and to wait for the last.
 *
 * Asynchronous commits. The worker delivers what is flushed, but an asynchronous commit can be seen, and cached, before that.
 * If a crash takes such a commit back, nobody ever invalidates what was cached from it: the resync after the crash has to,
 * so the position in Redis has to say that there were such commits. Until it does, every commit with keys is flushed
 * (ca_sync_must_flush). A commit that is waited for always is.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "shared/shared.h"
#include "shared/sync.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define TRANCHE "cache_aside_sync"
#define ACTIVE_US 10000 /* synchronous committers come again: no pacing for so long */

/* Written under the lock, except that its owner alone reads `outcome` without. */
typedef struct Waiter
{
	dlist_node node; /* in the queue while CA_SYNC_WAITING */
	CaAwaited awaited;
	bool asks;     /* the worker has to look whether it is owed anything */
	bool seen;     /* the worker's next snapshot is newer than this waiter's commit */
	uint64 held;   /* the master has deleted its keys: until WAIT of this number; 0: not so */
	uint32 window; /* gather.c */
	pg_atomic_uint32 outcome;
} Waiter;

typedef struct CaSync
{
	dlist_head queue;          /* of Waiters, by LSN; under the lock */
	CaGather gather;           /* counts who is in it */
	pg_atomic_uint32 asking;   /* of those, how many ask */
	pg_atomic_uint32 held;     /* and how many are held back */
	pg_atomic_uint32 delivery; /* CA_SYNC_WAITING: goes on as far as is known; else why not */
	pg_atomic_uint64 acked;    /* highest commit acknowledged by Redis */
	pg_atomic_uint64 confirmed;
	pg_atomic_uint32 async_recorded;       /* Redis holds a position that says async */
	Waiter waiters[FLEXIBLE_ARRAY_MEMBER]; /* by proc number */
} CaSync;

bool guc_synchronous = false;
int guc_synchronous_timeout;
int guc_redis_min_replicas;

static CaSync *shared;
static LWLock *lock;

/* of the worker */
static int *woken; /* proc numbers whose latches are to be set */
static int nwoken;
static bool holds;         /* for replicas of Redis: who is delivered now, */
static uint64 hold_number; /* under this number, of the sink that answers just now */

void
ca_sync_shmem_request(void)
{
	RequestAddinShmemSpace(offsetof(CaSync, waiters) + mul_size(MaxBackends, sizeof(Waiter)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

void
ca_sync_shmem_init(void)
{
	Size size = offsetof(CaSync, waiters) + mul_size(MaxBackends, sizeof(Waiter));
	bool found;

	shared = ShmemInitStruct("cache_aside sync", size, &found);
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	if (found)
		return;
	memset(shared, 0, size);
	dlist_init(&shared->queue);
	ca_gather_init(&shared->gather);
	pg_atomic_init_u32(&shared->asking, 0);
	pg_atomic_init_u32(&shared->held, 0);
	pg_atomic_init_u32(&shared->delivery, CA_SYNC_NO_WORKER);
	pg_atomic_init_u64(&shared->acked, 0);
	pg_atomic_init_u64(&shared->confirmed, 0);
	pg_atomic_init_u32(&shared->async_recorded, 0);
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u32(&shared->waiters[i].outcome, CA_SYNC_IDLE);
}

/* ---- the queue, under the lock ---- */

static void
insert(Waiter *waiter)
{
	dlist_node *after = &shared->queue.head;
	dlist_iter iter;

	/* Late commits are the rule: look from the tail. */
	dlist_reverse_foreach(iter, &shared->queue)
	{
		if (dlist_container(Waiter, node, iter.cur)->awaited.lsn <= waiter->awaited.lsn)
		{
			after = iter.cur;
			break;
		}
	}
	dlist_insert_after(after, &waiter->node);
	ca_gather_enter(&shared->gather, &waiter->window);
}

static void
remove_waiter(Waiter *waiter, CaSyncOutcome outcome)
{
	dlist_delete(&waiter->node);
	pg_atomic_fetch_sub_u32(&shared->gather.waiting, 1);
	if (waiter->asks)
		pg_atomic_fetch_sub_u32(&shared->asking, 1);
	if (waiter->held)
		pg_atomic_fetch_sub_u32(&shared->held, 1);
	waiter->asks = false;
	waiter->held = 0;
	pg_atomic_write_u32(&waiter->outcome, outcome);
}

/* ---- worker ---- */

/* A waiter that has left by now, or a backend that took its place, looks and sleeps again. */
void
ca_sync_wake(void)
{
	while (nwoken > 0)
		SetLatch(&GetPGProcByNumber(woken[--nwoken])->procLatch);
}

/* Takes it out of the queue; ca_sync_wake sets its latch when the lock is released. */
static void
wake(Waiter *waiter, CaSyncOutcome outcome)
{
	remove_waiter(waiter, outcome);
	if (nwoken == MaxBackends) /* somebody left and came back meanwhile */
		ca_sync_wake();
	woken[nwoken++] = waiter - shared->waiters;
}

static void
wake_all(CaSyncOutcome outcome)
{
	dlist_mutable_iter iter;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	dlist_foreach_modify (iter, &shared->queue)
		wake(dlist_container(Waiter, node, iter.cur), outcome);
	LWLockRelease(lock);
	ca_sync_wake();
}

/* Who enlists after wake_all let go of the lock sees the reason. */
static void
stop_waiting(CaSyncOutcome why)
{
	pg_atomic_write_u32(&shared->delivery, why);
	wake_all(why);
}

static void
detach(int code, Datum arg)
{
	stop_waiting(CA_SYNC_NO_WORKER);
}

void
ca_sync_attach(void)
{
	woken = MemoryContextAlloc(TopMemoryContext, mul_size(MaxBackends, sizeof(int)));
	before_shmem_exit(detach, (Datum) 0);
	pg_atomic_write_u32(&shared->delivery, CA_SYNC_WAITING);
}

/* Each of them asks again. */
static void
release_held(void)
{
	dlist_iter iter;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	dlist_foreach (iter, &shared->queue)
	{
		Waiter *waiter = dlist_container(Waiter, node, iter.cur);

		if (waiter->held == 0)
			continue;
		waiter->held = 0;
		waiter->asks = true;
		waiter->seen = false;
		pg_atomic_fetch_sub_u32(&shared->held, 1);
		pg_atomic_fetch_add_u32(&shared->asking, 1);
	}
	LWLockRelease(lock);
}

/* What Redis holds is read anew; the first acknowledgement tells. */
void
ca_sync_connecting(void)
{
	pg_atomic_write_u32(&shared->async_recorded, 0);
	release_held();
}

void
ca_sync_hold(bool hold)
{
	if (holds && !hold)
		release_held(); /* who asks is answered at once */
	holds = hold;
}

void
ca_sync_hold_under(uint64 number)
{
	hold_number = number;
}

bool
ca_sync_held(void)
{
	return pg_atomic_read_u32(&shared->held) > 0;
}

/* Under the lock: its keys are deleted. */
static void
deliver(Waiter *waiter)
{
	if (waiter->held)
		return;
	if (!holds)
	{
		wake(waiter, CA_SYNC_DELIVERED);
		return;
	}
	waiter->held = hold_number;
	pg_atomic_fetch_add_u32(&shared->held, 1);
	if (waiter->asks)
		pg_atomic_fetch_sub_u32(&shared->asking, 1);
	waiter->asks = false;
}

void
ca_sync_available(void)
{
	pg_atomic_write_u32(&shared->delivery, CA_SYNC_WAITING);
}

void
ca_sync_outage(void)
{
	stop_waiting(CA_SYNC_OUTAGE);
}

void
ca_sync_switched_off(void)
{
	stop_waiting(CA_SYNC_NO_DELIVERY);
}

void
ca_sync_async_recorded(bool recorded)
{
	pg_atomic_write_u32(&shared->async_recorded, recorded);
}

/* Those whose LSN is in (above, upto] are delivered. */
static void
deliver_range(XLogRecPtr above, XLogRecPtr upto)
{
	dlist_mutable_iter iter;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	dlist_foreach_modify (iter, &shared->queue)
	{
		Waiter *waiter = dlist_container(Waiter, node, iter.cur);

		if (waiter->awaited.lsn > upto)
			break;
		if (waiter->awaited.lsn > above)
			deliver(waiter);
	}
	LWLockRelease(lock);
}

void
ca_sync_delivered(XLogRecPtr start, XLogRecPtr end)
{
	if (end > pg_atomic_read_u64(&shared->acked))
		pg_atomic_write_u64(&shared->acked, end);
	pg_memory_barrier(); /* a waiter enlists, then looks: one of us sees the other */
	if (pg_atomic_read_u32(&shared->gather.waiting) > 0)
		deliver_range(start, end);
}

void
ca_sync_confirmed(XLogRecPtr lsn)
{
	static XLogRecPtr before; /* holding back */

	if (lsn <= pg_atomic_read_u64(&shared->confirmed) || (holds && lsn == before))
		return;
	before = lsn;
	if (!holds)
		pg_atomic_write_u64(&shared->confirmed, lsn);
	else if (lsn > pg_atomic_read_u64(&shared->acked))
		pg_atomic_write_u64(&shared->acked, lsn); /* who comes too late asks */
	pg_memory_barrier();                          /* as above */
	if (pg_atomic_read_u32(&shared->gather.waiting) > 0)
		deliver_range(InvalidXLogRecPtr, lsn);
	ca_sync_wake();
}

/* Enough replicas have what was written before the WAIT of this number; lsn: confirmed when it was sent. */
void
ca_sync_replicated(uint64 number, XLogRecPtr lsn)
{
	dlist_mutable_iter iter;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (lsn > pg_atomic_read_u64(&shared->confirmed))
		pg_atomic_write_u64(&shared->confirmed, lsn);
	dlist_foreach_modify (iter, &shared->queue)
	{
		Waiter *waiter = dlist_container(Waiter, node, iter.cur);

		if (waiter->held && waiter->held <= number)
			wake(waiter, CA_SYNC_DELIVERED);
	}
	LWLockRelease(lock);
	ca_sync_wake();
}

/*
 * Everything up to read_end is queued, in flight or acknowledged. A waiter is answered in the round
 * after the one that noticed it, so that the snapshot in between saw its commit: what is invisible
 * still is somebody else's.
 */
bool
ca_sync_answer(XLogRecPtr read_end, CaOwes owes, void *arg)
{
	dlist_mutable_iter iter;
	bool again = false;

	if (pg_atomic_read_u32(&shared->asking) == 0)
		return false;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	dlist_foreach_modify (iter, &shared->queue)
	{
		Waiter *waiter = dlist_container(Waiter, node, iter.cur);

		if (!waiter->asks || waiter->awaited.lsn > read_end)
			continue;
		again |= !waiter->seen;
		if (waiter->seen && !owes(arg, &waiter->awaited))
			deliver(waiter);
		waiter->seen = true;
	}
	LWLockRelease(lock);
	ca_sync_wake();
	return again;
}

bool
ca_sync_gather(void)
{
	return ca_gather_begin(&shared->gather);
}

void
ca_sync_gathered(void)
{
	ca_gather_end(&shared->gather);
}

bool
ca_sync_active(void)
{
	static uint32 enlisted_before;
	static TimestampTz last;
	uint32 enlisted = pg_atomic_read_u32(&shared->gather.enlisted);
	TimestampTz now = GetCurrentTimestamp();

	if (enlisted != enlisted_before || pg_atomic_read_u32(&shared->gather.waiting) > 0)
		last = now;
	enlisted_before = enlisted;
	return now - last < ACTIVE_US;
}

/* ---- backends ---- */

static Waiter *
own_place(void)
{
	return &shared->waiters[ca_my_proc_number()];
}

bool
ca_sync_must_flush(bool waits)
{
	return waits || shared == NULL ||
		   (synchronous_commit == SYNCHRONOUS_COMMIT_OFF &&
			pg_atomic_read_u32(&shared->async_recorded) == 0);
}

bool
ca_sync_wakes_later(bool waits)
{
	return waits && shared != NULL && ca_gather_active(&shared->gather);
}

/* This session enters the queue, unless it need not wait, or cannot. */
CaSyncOutcome
ca_sync_enlist(const CaAwaited *awaited)
{
	CaSyncOutcome outcome;
	Waiter *me;

	if (shared == NULL)
		return CA_SYNC_NO_WORKER;
	me = own_place();
	LWLockAcquire(lock, LW_EXCLUSIVE);
	outcome = pg_atomic_read_u32(&shared->delivery);
	if (outcome == CA_SYNC_WAITING)
	{
		me->awaited = *awaited;
		me->seen = false;
		me->held = 0;
		pg_atomic_write_u32(&me->outcome, CA_SYNC_WAITING);
		insert(me); /* counting is a barrier: then look */
		me->asks = awaited->kind != CA_AWAITED_COMMIT ||
				   pg_atomic_read_u64(&shared->acked) >= awaited->lsn;
		if (me->asks)
			pg_atomic_fetch_add_u32(&shared->asking, 1);
		if (pg_atomic_read_u64(&shared->confirmed) >= awaited->lsn)
			remove_waiter(me, outcome = CA_SYNC_DELIVERED);
	}
	LWLockRelease(lock);
	if (outcome == CA_SYNC_WAITING && (me->asks || ca_gather_complete(&shared->gather)))
		ca_status_wake_worker();
	return outcome;
}

CaSyncOutcome
ca_sync_outcome(void)
{
	return pg_atomic_read_u32(&own_place()->outcome);
}

/* It leaves the queue, unless the worker has taken it out meanwhile: then the worker's word counts. */
CaSyncOutcome
ca_sync_leave(CaSyncOutcome why)
{
	Waiter *me = own_place();
	CaSyncOutcome outcome;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	outcome = pg_atomic_read_u32(&me->outcome);
	if (outcome == CA_SYNC_WAITING)
		remove_waiter(me, outcome = why);
	LWLockRelease(lock);
	return outcome;
}
