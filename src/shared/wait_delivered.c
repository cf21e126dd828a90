/*
 * wait_delivered.c: backends that wait for the worker: wait_delivered(), and ping() in ping.c.
 *
 * A waiter counts itself, then looks; the worker stores what it did, then looks whether anybody is
 * counted, and broadcasts `progress` (status.c): one of them sees the other. The count also tells the
 * worker not to space its rounds, so every way out of the wait takes it back.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "shared/shared.h"
#include "shared/status.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "storage/ipc.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(cache_aside_wait_delivered);

/* Microseconds in an interval that bounds a wait, which is for ever where it has more than a century. */
static int64
interval_us(const Interval *interval)
{
	double us =
		(double) interval->time +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * (double) USECS_PER_DAY;

	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("timeout must not be negative"),
				 errhint("Use an interval of zero to ask without waiting.")));
	return (int64) Min(us, 100.0 * 366 * (double) USECS_PER_DAY);
}

/* Also when the session is terminated: a waiter too many would keep the worker from pacing. */
static void
stop_waiting(int code, Datum arg)
{
	ConditionVariableCancelSleep();
	pg_atomic_fetch_sub_u32(&ca_status_shared->waiters, 1);
}

/* Sleeps on `progress` until the condition holds (true) or `us` have passed (false). */
bool
ca_wait_delivered_until(CaCondition holds, uint64 arg, int64 us)
{
	TimestampTz deadline = GetCurrentTimestamp() + us;
	volatile bool result = false; /* set between setjmp and longjmp */

	pg_atomic_fetch_add_u32(&ca_status_shared->waiters, 1);
	PG_ENSURE_ERROR_CLEANUP(stop_waiting, (Datum) 0);
	{
		ConditionVariablePrepareToSleep(&ca_status_shared->progress);
		while (!(result = holds(arg)))
		{
			long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

			if (left <= 0)
				break;
			ca_status_wake_worker();
			ConditionVariableTimedSleep(&ca_status_shared->progress, Min(left, 1000),
										PG_WAIT_EXTENSION);
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(stop_waiting, (Datum) 0);
	stop_waiting(0, (Datum) 0);
	return result;
}

static bool
is_confirmed(uint64 lsn)
{
	return pg_atomic_read_u64(&ca_status_shared->confirmed) >= lsn;
}

/*
 * The LSN to wait for. A given one may lie behind the last record (insert positions skip page
 * headers) and would never be reached on an idle server, so the log gets one more small record.
 */
static XLogRecPtr
target_lsn(FunctionCallInfo fcinfo)
{
	XLogRecPtr lsn = PG_ARGISNULL(0) ? InvalidXLogRecPtr : PG_GETARG_LSN(0);

	if (RecoveryInProgress())
		return PG_ARGISNULL(0) ? GetXLogReplayRecPtr(NULL) : lsn;
	if (!PG_ARGISNULL(0) && is_confirmed(lsn))
		return lsn;
	if (PG_ARGISNULL(0))
		lsn = ca_message_log_barrier();
	else
		ca_message_log_barrier();
	XLogFlush(PG_ARGISNULL(0) ? lsn : XactLastRecEnd);
	return lsn;
}

/*
 * cache_aside.wait_delivered(lsn, timeout) -> true once everything up to lsn (NULL: all that is in
 * the log now) is delivered, false after the timeout. Open and prepared transactions do not count.
 */
Datum
cache_aside_wait_delivered(PG_FUNCTION_ARGS)
{
	int64 us;

	ca_preload_require();
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("timeout must not be null"),
						errhint("Use an interval of zero to ask without waiting.")));
	us = interval_us(PG_GETARG_INTERVAL_P(1));
	PG_RETURN_BOOL(ca_wait_delivered_until(is_confirmed, target_lsn(fcinfo), us));
}
