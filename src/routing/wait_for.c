/*
 * wait_for.c: on a standby, has replay reached this LSN? SQL: caught_up(lsn), CALL wait_for(...)
 *
 * In: an LSN, as commit_lsn() gave it on the primary. What counts is what was *replayed*: WAL that
 * was only received is not visible to any query. caught_up() answers for a primary too: it has
 * everything up to its insert position, and nothing beyond.
 *
 * A query sees what was committed when its snapshot was taken, so waiting with a snapshot at hand
 * helps nobody, and would hold back vacuum on the primary through hot_standby_feedback. CALL comes
 * with one; it is given back by committing the statement's own, so far empty, transaction, as a
 * procedure's COMMIT does. For the same reason wait_for() refuses to run inside a transaction block,
 * where that is impossible. And it must be the client's own statement: inside a DO block or another
 * procedure, and behind other statements of a pipeline, a COMMIT is possible, but what it would commit is
 * the work of whoever called us. Only the portal tells them apart, since CallContext says merely that
 * a COMMIT is possible.
 *
 * Replay wakes nobody, so the wait looks again each millisecond, later less often. It serves
 * interrupts at each turn: cancel, termination, and promotion, which ends it.
 *
 * A bare LSN does not say on which timeline it was written. If the standby follows to another
 * timeline while we wait, and that branched off below the LSN, the commit it stood for may not exist
 * there: the answer is 'other timeline', even if replay is past that number by now.
 */
#include "cache_aside.h"
#include "routing/routing.h"

#include "access/timeline.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define CLOSE_LOOK_MS 1000 /* look every millisecond for so long, then every LATER_MS */
#define LATER_MS 5

/* Milliseconds of a non-negative interval, or an error that names the argument. */
int64
ca_wait_for_interval_ms(const Interval *interval, const char *argument)
{
	double ms = interval->time / 1000.0 +
				((double) interval->day + (double) interval->month * DAYS_PER_MONTH) *
					(double) SECS_PER_DAY * 1000.0;

	if (ms >= 0 && ms <= (double) PG_INT32_MAX)
		return (int64) ms;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is out of range", argument),
			 errdetail("It is %.0f ms.", ms), errhint("Give an interval between 0 and 24 days.")));
}

/* Did the standby switch to a timeline that branched off below the LSN? */
static bool
left_behind(XLogRecPtr lsn, TimeLineID from, TimeLineID to)
{
	List *history;

	if (from == to)
		return false;
	history = readTimeLineHistory(to);
	return !tliInHistory(from, history) || tliSwitchPoint(from, history, NULL) < lsn;
}

/* The answer so far, NULL while there is none. `began_on` is set at the first call. */
static const char *
look(XLogRecPtr lsn, TimeLineID *began_on)
{
	bool in_recovery = RecoveryInProgress();
	TimeLineID timeline;
	XLogRecPtr replayed = GetXLogReplayRecPtr(&timeline);

	if (*began_on == 0)
	{
		if (!in_recovery)
			return "not in recovery";
		*began_on = timeline;
	}
	if (left_behind(lsn, *began_on, timeline))
		return "other timeline";
	if (replayed >= lsn)
		return "reached";
	return in_recovery ? NULL : "not in recovery";
}

static const char *
wait_until(XLogRecPtr lsn, int64 timeout_ms)
{
	TimestampTz start = GetCurrentTimestamp();
	TimeLineID began_on = 0;

	for (;;)
	{
		const char *answer = look(lsn, &began_on);
		int64 waited = TimestampDifferenceMilliseconds(start, GetCurrentTimestamp());

		if (answer != NULL)
			return answer;
		if (waited >= timeout_ms)
			return "timeout";
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(timeout_ms - waited, waited < CLOSE_LOOK_MS ? 1 : LATER_MS),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Waits without a snapshot: the transaction that CALL began, and has not used, ends first. */
static const char *
wait_without_snapshot(XLogRecPtr lsn, int64 timeout_ms)
{
	const char *answer;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	answer = wait_until(lsn, timeout_ms);
	SPI_finish();
	return answer;
}

/* Is the statement that the client sent, all of it, a CALL of this procedure? */
static bool
is_clients_statement(Oid procedure)
{
	PlannedStmt *statement;

	if (ActivePortal == NULL || list_length(ActivePortal->stmts) != 1)
		return false;
	statement = linitial_node(PlannedStmt, ActivePortal->stmts);
	return statement->utilityStmt != NULL && IsA(statement->utilityStmt, CallStmt) &&
		   ((CallStmt *) statement->utilityStmt)->funcexpr->funcid == procedure;
}

/* The transaction we are in must be our own statement's, and nothing else done in it. */
static void
refuse_transaction_block(FunctionCallInfo fcinfo)
{
	CallContext *context = (CallContext *) fcinfo->context;
	bool pipelined = (MyXactFlags & XACT_FLAGS_PIPELINING) != 0;

	if (context == NULL || !IsA(context, CallContext) || context->atomic || pipelined)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("wait_for() cannot run inside a transaction block"),
				 errdetail("The snapshot of the transaction would hide what the wait is for."),
				 pipelined ? errhint("Call it as the first statement of a pipeline.")
						   : errhint("Call it before BEGIN.")));
	if (!is_clients_statement(fcinfo->flinfo->fn_oid))
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("wait_for() cannot run inside a DO block or another procedure"),
			 errdetail("It ends the transaction it is called in, and what was done there before "
					   "would be committed."),
			 errhint("Let the client call it, as a statement of its own.")));
}

PG_FUNCTION_INFO_V1(cache_aside_caught_up);
PG_FUNCTION_INFO_V1(cache_aside_wait_for);

Datum
cache_aside_caught_up(PG_FUNCTION_ARGS)
{
	XLogRecPtr lsn = PG_GETARG_LSN(0);

	PG_RETURN_BOOL(lsn <=
				   (RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetXLogInsertRecPtr()));
}

Datum
cache_aside_wait_for(PG_FUNCTION_ARGS)
{
	const char *answer;
	TupleDesc desc;
	Datum value;
	bool isnull = false;

	refuse_transaction_block(fcinfo);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("wait_for() needs an LSN and a timeout"),
						errdetail("The %s is NULL.", PG_ARGISNULL(0) ? "LSN" : "timeout"),
						errhint("Without a token there is nothing to wait for.")));
	answer = wait_without_snapshot(PG_GETARG_LSN(0),
								   ca_wait_for_interval_ms(PG_GETARG_INTERVAL_P(1), "timeout"));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "wait_for() needs a row type");
	value = CStringGetTextDatum(answer);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &value, &isnull)));
}
