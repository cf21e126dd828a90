/*
 * prepared.c: which prepared transactions have messages?
 *
 * One that was prepared before we began to read may have logged messages there, and then its commit asks
 * for a resync, and no token is given until it has ended (open_at_start.c). Those that have none are let
 * off: who logged some holds a lock (prepared_lock.c).
 *
 *	looked at in this order: holders of the lock, then who is prepared and still runs. Prepared and running
 *	then, and not a holder before: it has no messages, or was prepared in between, and what it logged lies
 *	behind the place from where we read. One that ended in between is not among them.
 *
 * Not known in recovery, where there are no such locks: nobody is let off. The list is of the worker
 * alone, and of one session.
 */
#include "cache_aside.h"
#include "log/log.h"
#include "shared/shared.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static TransactionId *harmless; /* prepared, without messages */
static int nharmless;

static bool
is_holder(const PGPROC *proc, const VirtualTransactionId *holders, int count)
{
	VirtualTransactionId own;

	GET_VXID_FROM_PGPROC(own, *proc);
	for (int i = 0; i < count; i++)
		if (VirtualTransactionIdEquals(own, holders[i]))
			return true;
	return false;
}

/* In a transaction. */
static void
look(const VirtualTransactionId *holders, int count)
{
	Snapshot snapshot = GetTransactionSnapshot();

	for (int i = 0; i < max_prepared_xacts; i++)
	{
		PGPROC *proc = &PreparedXactProcs[i];
		TransactionId xid = proc->xid;

		if (TransactionIdIsNormal(xid) && XidInMVCCSnapshot(xid, snapshot) &&
			!is_holder(proc, holders, count))
			harmless[nharmless++] = xid;
	}
}

/* A session begins to read. `any`: those prepared may have messages that we know nothing of. */
void
ca_prepared_look(bool any)
{
	MemoryContext caller = CurrentMemoryContext;
	VirtualTransactionId *holders;
	int count;

	nharmless = 0;
	if (any || max_prepared_xacts == 0 || RecoveryInProgress())
		return;
	if (harmless == NULL)
		harmless = MemoryContextAlloc(TopMemoryContext,
									  mul_size(max_prepared_xacts, sizeof(TransactionId)));
	StartTransactionCommand();
	holders = ca_prepared_lock_holders(&count);
	look(holders, count);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

bool
ca_prepared_is_harmless(TransactionId xid)
{
	for (int i = 0; i < nharmless; i++)
		if (harmless[i] == xid)
			return true;
	return false;
}

static TransactionId
older(TransactionId oldest, TransactionId xid)
{
	bool counts = TransactionIdIsNormal(xid) && TransactionIdPrecedes(xid, oldest) &&
				  !ca_prepared_is_harmless(xid);

	return counts ? xid : oldest;
}

/*
 * Below it nobody runs any more who may have messages; given a snapshot of just now. Its xmax will not do:
 * on a quiet server the newest ids are those of prepared transactions. Processes are looked at one by one,
 * prepared transactions last: one that is prepared meanwhile is there before it leaves its process. What
 * ended leaves its id there, hence the question to the snapshot.
 */
TransactionId
ca_prepared_oldest(Snapshot snapshot)
{
	TransactionId oldest;

	if (nharmless == 0 || snapshot->takenDuringRecovery)
		return snapshot->xmin;
	oldest = XidFromFullTransactionId(ReadNextFullTransactionId());
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
		oldest = older(oldest, ProcGlobal->allProcs[i].xid);
	pg_read_barrier();
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		TransactionId xid = PreparedXactProcs[i].xid;

		if (TransactionIdIsNormal(xid) && XidInMVCCSnapshot(xid, snapshot))
			oldest = older(oldest, xid);
	}
	return oldest;
}
