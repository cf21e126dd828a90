/*
 * mishap.c: an ERROR in the worker's loop ends neither the worker nor what it has to do besides.
 *
 * The loop runs its steps one by one, each guarded. What may be raised there, and what becomes of it:
 *
 *	signals      a ProcSignal barrier's action, a reload: done again in the next round
 *	publishing   the list of databases, a visitor's registration, memory: replicas are published later
 *	crash note   memory, the log: the note is written later
 *	duty         everything else: catalog of databases, shared memory for a visitor, snapshots, timeline
 *				 history, control file, memory, a bug. The session ends, as it does when Redis is gone,
 *				 and begins anew; deaths at one place of the log are counted (breaker.c), but not what
 *				 only tells that the machine lacks something (class 53: memory, disk, locks)
 *	slot         core's slot code; guarded by slot.c, which is tried again each second
 *	reading log  core's reader; guarded by tap.c and reread.c, and is a gap if it lasts
 *
 * A step that raised rests: 1 s, 2 s, ... 10 minutes (signals 1 s), while the others go on. An error is logged when it
 * is another than the last of that step. A reload ends every rest. What raises while it is cleaned up,
 * and whatever is FATAL, ends the process, which breaker.c slows down.
 *
 * Nothing here knows what a step left behind. That is `abandon`'s to clear; locks, the transaction and
 * the slot are let go here, as core's own loops do. Of the worker alone.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "shared/status.h"
#include "worker/mishap.h"

#include "access/xact.h"
#include "replication/slot.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define FIRST_REST 1000 /* ms */
#define WELL 60000      /* ms without an error, after which the next is the first */

static int ended; /* rests that began before are over, see ca_mishap_end_rests */

static void
let_go_of_everything(void)
{
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	if (MyReplicationSlot)
		ReplicationSlotRelease();
}

static void
tell(CaMishap *mishap, const ErrorData *error)
{
	ca_status_error(error->message);
	if (strncmp(mishap->told, error->message, sizeof(mishap->told) - 1) == 0)
		return;
	strlcpy(mishap->told, error->message, sizeof(mishap->told));
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("cache_aside met an error and rests from %s: %s", mishap->what, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->context ? errcontext("%s", error->context) : 0,
			 errhint("It tries again after %d s, then less often. A reload makes it try at once.",
					 FIRST_REST / 1000)));
}

static void
rest(CaMishap *mishap)
{
	TimestampTz now = GetCurrentTimestamp();

	if (mishap->rest == 0 || TimestampDifferenceExceeds(mishap->until, now, WELL))
	{
		mishap->rest = FIRST_REST;
		mishap->told[0] = '\0';
	}
	else
		mishap->rest = Min(mishap->rest * 2, mishap->longest);
	if (CA_DEBUG_SKIP("short-rest"))
		mishap->rest = mishap->longest;
	mishap->until = TimestampTzPlusMilliseconds(now, mishap->rest);
	mishap->ended = ended;
}

/* In PG_CATCH. */
static void
recover(CaMishap *mishap, MemoryContext caller)
{
	ErrorData *error;

	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	FlushErrorState();
	let_go_of_everything();
	MemoryContextSwitchTo(caller);
	rest(mishap);
	tell(mishap, error);
	if (mishap->abandon)
		mishap->abandon(error);
	FreeErrorData(error);
}

/* Milliseconds until the step is done again; 0: now. */
long
ca_mishap_rest(CaMishap *mishap)
{
	long left;

	if (mishap->rest == 0 || mishap->ended != ended)
		return 0;
	left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), mishap->until);
	return left;
}

/* Does the step, unless it rests. */
void
ca_mishap_guard(CaMishap *mishap, void (*step)(void))
{
	MemoryContext caller = CurrentMemoryContext;

	if (ca_mishap_rest(mishap) > 0)
		return;
	PG_TRY();
	{
		step();
	}
	PG_CATCH();
	{
		recover(mishap, caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}

void
ca_mishap_end_rests(void)
{
	ended++;
}
