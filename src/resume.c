/*
 * resume.c: where a session goes on, and whether everything must be deleted first.
 *
 * Every session begins by reading the position back from Redis, whatever this process remembers:
 * Redis may have restarted from an old snapshot, failed over to a lagging replica, been flushed,
 * restored, or swapped behind its address. The log is then read from the position's restart LSN and
 * commits at or below its confirmed LSN are skipped.
 *
 *	position found, our timeline       go on from it
 *	found, an older timeline           we were promoted: go on from it, no further than the fork;
 *	                                   unlogged tables are empty here, whatever else is in doubt
 *	found, a newer timeline            we are an old primary: write nothing ("fenced")
 *	found, resync pending              begin the resync again
 *	found, beyond our log              out of recovery only: our log was lost, resync
 *	absent, but Redis's very history   evicted: go on from what was acknowledged, write it again
 *	absent or nonsense                 blind start: go on from the last checkpoint, resync; nonsense
 *	                                   may be another version's, see start_behind_another
 *
 *	any of these, but it killed us     blind start from the end of the log, resync (breaker.c)
 *
 * Decisions only: nothing here reads or writes Redis or the log, except that a skip on a primary
 * writes the record behind which it begins.
 */
#include "worker.h"
#include "debug.h"

#include "access/timeline.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xlog.h"
#include "storage/proc.h"

/* Of the last session that ran in this process */
static CaClaimed known_claimed;
static CaPosition known_position;
static bool position_known;

/* The last session of this process ended here; what it knew is true of this Redis only. */
void
ca_resume_remember(const CaClaimed *claimed, const CaPosition *position)
{
	known_claimed = *claimed;
	known_position = *position;
	position_known = true;
}

/* The same process with the same data (the run id alone survives REPLICAOF and back). */
static bool
same_history(const CaClaimed *claimed)
{
	return position_known && claimed->replication_id[0] &&
		   strcmp(claimed->run_id, known_claimed.run_id) == 0 &&
		   strcmp(claimed->replication_id, known_claimed.replication_id) == 0;
}

/*
 * From the last checkpoint's redo point: a record's start, and always there. Transactions older than
 * its next id may have logged messages before it.
 */
static void
start_blind(CaPosition *position, TimeLineID timeline)
{
	memset(position, 0, sizeof(*position));
	position->timeline = timeline;
	position->restart = ca_wal_last_checkpoint(&position->barrier);
	position->confirmed = position->restart;
}

CaPositionState
ca_resume_state(const CaResume *resume)
{
	return resume->scope == CA_SURVEY_ALL ? CA_POSITION_PENDING : CA_POSITION_UNLOGGED;
}

/*
 * A full xid above that of any prepared transaction; 0: there are none. What was prepared before the
 * fork and ended on the other side of it is still prepared here, and its messages may lie before the
 * restart LSN that was written there.
 */
static uint64
above_prepared(void)
{
	uint64 above = 0;

	for (int i = 0; i < max_prepared_xacts; i++)
	{
		TransactionId xid = PreparedXactProcs[i].xid; /* of one that is over: harmless */

		if (TransactionIdIsNormal(xid))
			above = Max(above, ca_wal_xid_after(xid));
	}
	return above;
}

/*
 * What is stored may be the position of a library that wrote other messages (position.c), here before
 * the server was started with this one. Whoever is prepared by now may have logged such, wherever; on
 * a standby nobody knows who is.
 */
static void
start_behind_another(CaPosition *position, TimeLineID timeline)
{
	uint64 above = RecoveryInProgress() ? U64FromFullTransactionId(ReadNextFullTransactionId())
										: above_prepared();

	start_blind(position, timeline);
	position->barrier = Max(position->barrier, above);
}

/* We were promoted since: what lies beyond the fork was written by a server that lost. */
static void
cross_fork(CaResume *resume, TimeLineID timeline)
{
	CaPosition *position = &resume->position;
	List *history = readTimeLineHistory(timeline);
	XLogRecPtr fork = InvalidXLogRecPtr;

	if (tliInHistory(position->timeline, history))
		fork = tliSwitchPoint(position->timeline, history, NULL);
	list_free_deep(history);
	if (XLogRecPtrIsInvalid(fork))
	{
		start_blind(position, timeline);
		resume->scope = CA_SURVEY_ALL;
		resume->reason = "the position is of a timeline that is not in this server's history";
		return;
	}
	if (position->confirmed > fork && !CA_DEBUG_SKIP("promotion"))
		position->barrier = Max(position->barrier, above_prepared());
	position->confirmed = Min(position->confirmed, fork);
	position->restart = Min(position->restart, position->confirmed);
	position->timeline = timeline;
	if (CA_DEBUG_SKIP("promotion"))
		return;
	resume->after_promotion = true;
	if (resume->reason != NULL && resume->scope == CA_SURVEY_ALL)
		return;
	resume->reason = "this server was promoted";
	resume->scope = guc_resync_on_promotion == CA_RESYNC_NEVER ? CA_SURVEY_UNLOGGED : CA_SURVEY_ALL;
	resume->unless_clean = guc_resync_on_promotion == CA_RESYNC_AUTO;
}

static void
note_unfinished(CaResume *resume)
{
	if (resume->position.state == CA_POSITION_OK)
		return;
	resume->reason = "a resync was not finished";
	if (resume->position.state == CA_POSITION_UNLOGGED)
		resume->scope = CA_SURVEY_UNLOGGED;
}

static void
resume_stored(CaResume *resume, TimeLineID timeline, XLogRecPtr end)
{
	CaPosition *position = &resume->position;

	note_unfinished(resume);
	if (position->timeline > timeline)
		resume->fenced = true;
	else if (position->timeline < timeline)
		cross_fork(resume, timeline);
	else if (position->confirmed > end && !RecoveryInProgress())
	{
		start_blind(position, timeline);
		resume->scope = CA_SURVEY_ALL;
		resume->reason = "the position in Redis lies beyond this server's log";
	}
}

/* The log at the stored position is gone; only its sequence and its timeline still count. */
static void
resume_behind_gap(CaResume *resume, bool parsed, TimeLineID timeline)
{
	uint64 sequence = parsed ? resume->position.sequence : 0;

	resume->fenced = parsed && resume->position.timeline > timeline;
	start_blind(&resume->position, timeline);
	resume->position.sequence = sequence;
	resume->reason = "the log that had to be delivered next is gone";
}

/* Decides where reading resumes; `log_gone`: the last session found a gap. */
void
ca_resume_choose(CaResume *resume, const CaClaimed *claimed, bool log_gone)
{
	XLogRecPtr end;
	TimeLineID timeline = ca_wal_timeline(&end);
	bool absent = claimed->stored[0] == '\0' && !claimed->nonsense;
	bool parsed;

	memset(resume, 0, sizeof(*resume));
	resume->scope = CA_SURVEY_ALL;
	parsed = !absent && !claimed->nonsense &&
			 ca_position_parse(claimed->stored, strlen(claimed->stored), &resume->position);
	if (parsed)
		resume->found = resume->position;
	if (log_gone)
		resume_behind_gap(resume, parsed, timeline);
	else if (parsed)
		resume_stored(resume, timeline, end);
	else if (absent && same_history(claimed) && known_position.timeline == timeline)
	{
		resume->position = resume->found = known_position;
		note_unfinished(resume);
	}
	else
	{
		if (absent)
			start_blind(&resume->position, timeline);
		else
			start_behind_another(&resume->position, timeline);
		resume->nonsense = !absent;
		resume->reason = absent ? "Redis holds no position" : "the position in Redis is not one";
	}
	if (resume->reason)
		resume->position.state = ca_resume_state(resume);
}

/*
 * What was decided ends the worker each time: begin behind it. The sequence goes on, for Redis may
 * hold the position that led here. Whether extensions were dropped there, a census tells.
 */
void
ca_resume_skip(CaResume *resume)
{
	CaPosition *position = &resume->position;
	XLogRecPtr end;

	position->restart = ca_breaker_skip(position->restart, &position->barrier);
	position->confirmed = position->restart;
	position->timeline = ca_wal_timeline(&end);
	position->async = false;
	resume->scope = CA_SURVEY_ALL;
	resume->unless_clean = false;
	resume->reason = "the log that had to be delivered next is skipped";
	position->state = ca_resume_state(resume);
	ca_census_ask();
}
