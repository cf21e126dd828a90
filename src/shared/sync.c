/*
 * sync.c: with cache_aside.synchronous, COMMIT returns when its keys are deleted.
 *
 * The backend comes here after its commit released its locks (commit.c). It enters a queue in shared
 * memory, ordered by LSN, and sleeps on its latch. The worker takes out of the queue exactly those
 * whose commit Redis acknowledged and sets their latches; deliveries are out of order while some
 * other commit is stalled, so the confirmed LSN alone would make them wait for that one.
 *
 *	backend                                     worker
 *	enlist (lock), look at acked                acknowledgement: advance acked, then
 *	sleep                                       look at waiting; take out and wake (lock)
 *
 * acked is the highest commit acknowledged. Below it our own may have been acknowledged already, just
 * before we enlisted; only the worker knows. Then, and after a COMMIT PREPARED, of which nobody knows
 * here whether it carried keys, the waiter asks: the worker answers in a later round whether anything
 * of it is left (ca_sync_answer). acked and waiting are each written before the other is read, with a
 * barrier between: either the worker sees the waiter or the waiter asks. Nor does anybody here know
 * where the record of a COMMIT PREPARED ends, only that it lies behind the log's end as it was before
 * the statement: what is asked for is a commit of that kind in between.
 *
 * Nothing in ca_sync_wait allocates or raises: after the commit record it would be a PANIC. Cancel
 * and termination are polled, as core does for synchronous replication, since interrupts are held
 * off; whatever ends the wait, the commit stands and delivery follows. The queue's entries belong to
 * backends by their proc number, and every path out of the wait leaves the queue. ProcSignal barriers
 * are not served meanwhile, as in core's own wait for a standby: what a barrier asks for may raise.
 *
 * Who gets here: whoever committed a transaction of his own with messages in it. Parallel workers,
 * subtransactions and autovacuum log none; an apply worker waits like anybody if its role says so.
 *
 * Asynchronous commits: Redis acts on commits after they were flushed, but values cached from a commit
 * that a crash then loses are invalidated by nobody. The worker has to know that there are such
 * commits, so until it wrote that into the position every commit with keys is flushed
 * (ca_sync_must_flush). One that is waited for is flushed always.
 */
#include "cache_aside.h"
#include "shared/shared.h"
#include "shared/sync.h"
#include "shared/trouble.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define TRANCHE "cache_aside_sync"
#define ACTIVE_US 10000 /* synchronous committers come again: no pacing for so long */

typedef enum Outcome
{
	IDLE,
	WAITING,
	DELIVERED,
	OUTAGE,
	NO_WORKER,
	NO_DELIVERY,
	/* found by the backend itself */
	TIMED_OUT,
	CANCELED,
	TERMINATED
} Outcome;

/* Written under the lock, except that its owner alone reads `outcome` without. */
typedef struct Waiter
{
	dlist_node node; /* in the queue while WAITING */
	CaAwaited awaited;
	bool asks;     /* the worker has to look whether it is owed anything */
	bool seen;     /* the worker's next snapshot is newer than this waiter's commit */
	uint32 window; /* gather.c */
	pg_atomic_uint32 outcome;
} Waiter;

typedef struct CaSync
{
	dlist_head queue;          /* of Waiters, by LSN; under the lock */
	CaGather gather;           /* counts who is in it */
	pg_atomic_uint32 asking;   /* of those, how many ask */
	pg_atomic_uint32 delivery; /* WAITING: goes on as far as is known; else why not */
	pg_atomic_uint64 acked;    /* highest commit acknowledged by Redis */
	pg_atomic_uint64 confirmed;
	pg_atomic_uint32 async_recorded;       /* Redis holds a position that says async */
	Waiter waiters[FLEXIBLE_ARRAY_MEMBER]; /* by proc number */
} CaSync;

bool guc_synchronous = false;
int guc_synchronous_timeout;

static CaSync *shared;
static LWLock *lock;
static uint32 wait_event;

/* of the worker */
static int *woken; /* proc numbers whose latches are to be set */
static int nwoken;

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
	pg_atomic_init_u32(&shared->delivery, NO_WORKER);
	pg_atomic_init_u64(&shared->acked, 0);
	pg_atomic_init_u64(&shared->confirmed, 0);
	pg_atomic_init_u32(&shared->async_recorded, 0);
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u32(&shared->waiters[i].outcome, IDLE);
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
remove_waiter(Waiter *waiter, Outcome outcome)
{
	dlist_delete(&waiter->node);
	pg_atomic_fetch_sub_u32(&shared->gather.waiting, 1);
	if (waiter->asks)
		pg_atomic_fetch_sub_u32(&shared->asking, 1);
	waiter->asks = false;
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
wake(Waiter *waiter, Outcome outcome)
{
	remove_waiter(waiter, outcome);
	if (nwoken == MaxBackends) /* somebody left and came back meanwhile */
		ca_sync_wake();
	woken[nwoken++] = waiter - shared->waiters;
}

static void
wake_all(Outcome outcome)
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
stop_waiting(Outcome why)
{
	pg_atomic_write_u32(&shared->delivery, why);
	wake_all(why);
}

static void
detach(int code, Datum arg)
{
	stop_waiting(NO_WORKER);
}

void
ca_sync_attach(void)
{
	woken = MemoryContextAlloc(TopMemoryContext, mul_size(MaxBackends, sizeof(int)));
	before_shmem_exit(detach, (Datum) 0);
	pg_atomic_write_u32(&shared->delivery, WAITING);
}

/* What Redis holds is read anew; the first acknowledgement tells. */
void
ca_sync_connecting(void)
{
	pg_atomic_write_u32(&shared->async_recorded, 0);
}

void
ca_sync_available(void)
{
	pg_atomic_write_u32(&shared->delivery, WAITING);
}

void
ca_sync_outage(void)
{
	stop_waiting(OUTAGE);
}

void
ca_sync_switched_off(void)
{
	stop_waiting(NO_DELIVERY);
}

void
ca_sync_async_recorded(bool recorded)
{
	pg_atomic_write_u32(&shared->async_recorded, recorded);
}

/* Wakes those whose LSN is in (above, upto]. */
static void
wake_range(XLogRecPtr above, XLogRecPtr upto)
{
	dlist_mutable_iter iter;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	dlist_foreach_modify (iter, &shared->queue)
	{
		Waiter *waiter = dlist_container(Waiter, node, iter.cur);

		if (waiter->awaited.lsn > upto)
			break;
		if (waiter->awaited.lsn > above)
			wake(waiter, DELIVERED);
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
		wake_range(start, end);
}

void
ca_sync_confirmed(XLogRecPtr lsn)
{
	if (lsn <= pg_atomic_read_u64(&shared->confirmed))
		return;
	pg_atomic_write_u64(&shared->confirmed, lsn);
	pg_memory_barrier(); /* as above */
	if (pg_atomic_read_u32(&shared->gather.waiting) > 0)
		wake_range(InvalidXLogRecPtr, lsn);
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
		if (waiter->seen && !owes(arg, &waiter->awaited))
			wake(waiter, DELIVERED);
		again |= !waiter->seen;
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

void
ca_sync_prepare(bool waits)
{
	if (waits && wait_event == 0)
		wait_event = ca_wait_event("CacheAsideSynchronous");
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

static Outcome
enlist(Waiter *me, const CaAwaited *awaited)
{
	Outcome outcome;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	outcome = pg_atomic_read_u32(&shared->delivery);
	if (outcome == WAITING)
	{
		me->awaited = *awaited;
		me->seen = false;
		pg_atomic_write_u32(&me->outcome, WAITING);
		insert(me); /* counting is a barrier: then look */
		me->asks = awaited->kind != CA_AWAITED_COMMIT ||
				   pg_atomic_read_u64(&shared->acked) >= awaited->lsn;
		if (me->asks)
			pg_atomic_fetch_add_u32(&shared->asking, 1);
		if (pg_atomic_read_u64(&shared->confirmed) >= awaited->lsn)
			remove_waiter(me, outcome = DELIVERED);
	}
	LWLockRelease(lock);
	if (outcome == WAITING && (me->asks || ca_gather_complete(&shared->gather)))
		ca_status_wake_worker();
	return outcome;
}

/* Leaves the queue, unless the worker took us out meanwhile: then its word counts. */
static Outcome
give_up(Waiter *me, Outcome why)
{
	Outcome outcome;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	outcome = pg_atomic_read_u32(&me->outcome);
	if (outcome == WAITING)
		remove_waiter(me, outcome = why);
	LWLockRelease(lock);
	return outcome;
}

static Outcome
sleep_until_delivered(Waiter *me)
{
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	for (;;)
	{
		Outcome outcome;
		instr_time now;
		long left;

		ResetLatch(MyLatch);
		outcome = pg_atomic_read_u32(&me->outcome); /* setting the latch was a barrier */
		if (outcome != WAITING)
			return outcome;
		if (ProcDiePending)
			return give_up(me, TERMINATED);
		if (QueryCancelPending)
		{
			QueryCancelPending = false;
			return give_up(me, CANCELED);
		}
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		left = guc_synchronous_timeout - (long) INSTR_TIME_GET_MILLISEC(now);
		if (left <= 0)
			return give_up(me, TIMED_OUT);
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, left, wait_event) &
			WL_POSTMASTER_DEATH)
		{
			ProcDiePending = InterruptPending = true;
			whereToSendOutput = DestNone;
			return give_up(me, TERMINATED);
		}
	}
}

/* Once per statement: a procedure may commit a million times before its client reads. */
static void
warn(Outcome outcome, CaAwaitedKind kind)
{
	static TimestampTz warned;
	const char *later = kind == CA_AWAITED_PREPARED
							? "The transaction is committed. If it has keys, they are in the log, "
							  "and are deleted as soon as Redis takes the command."
							: "The transaction is committed. Its keys are in the log, and are "
							  "deleted as soon as Redis takes the command.";

	if (outcome == DELIVERED || warned == GetCurrentStatementStartTimestamp())
		return;
	warned = GetCurrentStatementStartTimestamp();
	switch (outcome)
	{
		case OUTAGE:
			ca_commit_warning_send(ca_trouble_excuse(), later);
			break;
		case NO_DELIVERY:
			ca_commit_warning_send("this server does not deliver, see cache_aside.status", later);
			break;
		case NO_WORKER:
			ca_commit_warning_send("the worker is not running", later);
			break;
		case TIMED_OUT:
			ca_commit_warning_send("no answer within cache_aside.synchronous_timeout", later);
			break;
		case CANCELED:
			ca_commit_warning_send("the wait was canceled", later);
			break;
		case TERMINATED:
			ca_commit_warning_send("the connection is being terminated", later);
			break;
		default:
			break;
	}
}

void
ca_sync_wait(const CaAwaited *awaited)
{
	Outcome outcome = NO_WORKER;

	if (shared)
	{
		Waiter *me = &shared->waiters[ca_my_proc_number()];

		outcome = enlist(me, awaited);
		if (outcome == WAITING)
			outcome = sleep_until_delivered(me);
	}
	warn(outcome, awaited->kind);
}
