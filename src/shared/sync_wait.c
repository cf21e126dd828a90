/*
 * sync_wait.c: a session sleeps until its commit is delivered.
 *
 * Input: what it waits for (commit.c). Output: none but a WARNING when the wait ended for another reason than
 * the delivery: the commit stands, and its keys are deleted later.
 *
 * After the commit record, with interrupts held off: nothing here allocates or raises, for it would be a
 * PANIC. Cancel and termination are polled, as core does where it waits for a standby. Every way out leaves the
 * queue (sync.c). ProcSignal barriers are not served meanwhile, again as in core's wait: what a barrier asks for
 * may raise.
 *
 * Who gets here: whoever committed a transaction of his own with messages in it. Parallel workers,
 * subtransactions and autovacuum log none; an apply worker waits like anybody if its role says so.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "shared/sync.h"
#include "shared/trouble.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

static uint32 wait_event;

void
ca_sync_wait_prepare(bool waits)
{
	if (waits && wait_event == 0)
		wait_event = ca_wait_event("CacheAsideSynchronous");
}

static CaSyncOutcome
sleep_until_delivered(void)
{
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	for (;;)
	{
		CaSyncOutcome outcome;
		instr_time now;
		long left;

		ResetLatch(MyLatch);
		outcome = ca_sync_outcome(); /* setting the latch was a barrier */
		if (outcome != CA_SYNC_WAITING)
			return outcome;
		if (ProcDiePending)
			return ca_sync_leave(CA_SYNC_TERMINATED);
		if (QueryCancelPending)
		{
			QueryCancelPending = false;
			return ca_sync_leave(CA_SYNC_CANCELED);
		}
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		left = guc_synchronous_timeout - (long) INSTR_TIME_GET_MILLISEC(now);
		if (left <= 0)
			return ca_sync_leave(CA_SYNC_TIMED_OUT);
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, left, wait_event) &
			WL_POSTMASTER_DEATH)
		{
			ProcDiePending = InterruptPending = true;
			whereToSendOutput = DestNone;
			return ca_sync_leave(CA_SYNC_TERMINATED);
		}
	}
}

/* Once per statement: a procedure may commit a million times before its client reads. */
static void
warn(CaSyncOutcome outcome, CaAwaitedKind kind)
{
	static TimestampTz warned;
	const char *later = kind == CA_AWAITED_PREPARED
							? "The transaction is committed. If it has keys, they are in the log, "
							  "and are deleted as soon as Redis takes the command."
							: "The transaction is committed. Its keys are in the log, and are "
							  "deleted as soon as Redis takes the command.";

	if (outcome == CA_SYNC_DELIVERED || warned == GetCurrentStatementStartTimestamp())
		return;
	warned = GetCurrentStatementStartTimestamp();
	switch (outcome)
	{
		case CA_SYNC_OUTAGE:
			ca_commit_warning_send(ca_trouble_excuse(), later);
			break;
		case CA_SYNC_NO_DELIVERY:
			ca_commit_warning_send("this server does not deliver, see cache_aside.status", later);
			break;
		case CA_SYNC_NO_WORKER:
			ca_commit_warning_send("the worker is not running", later);
			break;
		case CA_SYNC_TIMED_OUT:
			ca_commit_warning_send("no answer within cache_aside.synchronous_timeout", later);
			break;
		case CA_SYNC_CANCELED:
			ca_commit_warning_send("the wait was canceled", later);
			break;
		case CA_SYNC_TERMINATED:
			ca_commit_warning_send("the connection is being terminated", later);
			break;
		default:
			break;
	}
}

void
ca_sync_wait(const CaAwaited *awaited)
{
	CaSyncOutcome outcome = ca_sync_enlist(awaited);

	if (outcome == CA_SYNC_WAITING)
		outcome = sleep_until_delivered();
	warn(outcome, awaited->kind);
}
