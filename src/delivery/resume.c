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
 *	found, a newer timeline            we are an old primary: write nothing ("fenced"), unless adopt() was
 *	                                   called: blind start, resync
 *	found, resync pending              begin the resync again
 *	found, beyond our log, or our log
 *	is not the one that it tells of    ours was lost (out of recovery) or rolled back: blind start, resync
 *	found, of another database         moved there, or swapped: go on from it, resync
 *	found, without some prefix         go on from it, delete what is under that prefix
 *	absent, but the very data          evicted: go on from what was acknowledged, write it again
 *	absent, and we know where we were  other data may be here (flushed, swapped, another Redis): go on
 *	                                   from what was acknowledged, which is a place in our log, resync
 *	absent or nonsense                 blind start: go on from the last checkpoint, resync; nonsense
 *	                                   may be another version's, see start_behind_another
 *
 *	any of these, but another system
 *	filled until now                   resync
 *	any of these, but it killed us     blind start from the end of the log, resync (breaker.c)
 *
 * Decisions only: nothing here reads or writes Redis or the log, except that a skip on a primary
 * writes the record behind which it begins.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "access/timeline.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xlog.h"
#include "storage/proc.h"

/* The last session of this process ended here; what it knew is true of this Redis only. */
void
ca_resume_remember(CaSink *sink, const CaHandshake *claimed, const CaPosition *position)
{
	sink->memory.claimed = *claimed;
	sink->memory.position = *position;
	sink->memory.known = true;
}

/*
 * The same process with the same data: the run id alone survives REPLICAOF and back, both survive FLUSHDB,
 * SWAPDB and another database. The guard is written with each delivery and is in no other data; without one
 * (guard = off, Redis before 7) nobody knows.
 */
static bool
same_data(CaSink *sink, const CaHandshake *claimed)
{
	return claimed->guard_known && claimed->replication_id[0] &&
		   claimed->database == sink->memory.claimed.database &&
		   strcmp(claimed->run_id, sink->memory.claimed.run_id) == 0 &&
		   strcmp(claimed->replication_id, sink->memory.claimed.replication_id) == 0;
}

/*
 * From the last checkpoint's redo point: a record's start, and always there. Transactions older than
 * its next id may have logged messages before it. That one of them may commit asynchronously need not be
 * noted: should a crash lose that, the barrier was not passed, and passing it deletes everything again.
 */
static void
start_blind(CaPosition *position, TimeLineID timeline)
{
	memset(position, 0, sizeof(*position));
	position->timeline = timeline;
	position->restart = ca_wal_last_checkpoint(&position->barrier);
	position->confirmed = position->restart;
}

/*
 * The log at the stored position is not there, or not what it was; its sequence and `seen` still count.
 * Rewritten: a token that ends right at `seen` is of the other log, one of this log must be beyond.
 */
static void
start_anew(CaResume *resume, TimeLineID timeline, const char *reason)
{
	CaPosition *position = &resume->position;
	uint64 sequence = position->sequence;
	XLogRecPtr seen = position->seen;

	start_blind(position, timeline);
	position->sequence = sequence;
	position->seen = seen;
	resume->scope = CA_VISIT_ALL;
	resume->reason = reason;
}

static void
start_rewritten(CaResume *resume, TimeLineID timeline, const char *reason)
{
	start_anew(resume, timeline, reason);
	if (!XLogRecPtrIsInvalid(resume->position.seen))
		resume->position.seen++;
}

CaPositionState
ca_resume_state(const CaResume *resume)
{
	return resume->scope == CA_VISIT_ALL        ? CA_POSITION_PENDING
		   : resume->scope == CA_VISIT_PREFIXES ? CA_POSITION_WIDENED
												: CA_POSITION_UNLOGGED;
}

/* See position.c for why these two. */
static CaLandmarkState
verify(const CaPosition *position)
{
	CaLandmarkState last = ca_landmark_check(&position->last);

	return last == CA_LANDMARK_SAME && ca_landmark_check(&position->timed) == CA_LANDMARK_OTHER
			   ? CA_LANDMARK_OTHER
			   : last;
}

/* Is the position's log ours? False: it was, and a new beginning is chosen. */
static bool
is_same_log(CaResume *resume, TimeLineID timeline)
{
	CaLandmarkState state = verify(&resume->position);

	if (state == CA_LANDMARK_AHEAD && RecoveryInProgress())
	{
		resume->unverified = true;
		return true;
	}
	if (state == CA_LANDMARK_OTHER || state == CA_LANDMARK_AHEAD)
		start_rewritten(resume, timeline, "the log was rolled back behind what Redis was told of");
	else if (state == CA_LANDMARK_GONE && resume->found.timeline == timeline)
		start_rewritten(resume, timeline,
						"the log before the position is gone, and cannot be compared");
	else
		return true;
	return false;
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
		start_anew(resume, timeline,
				   "the position is of a timeline that is not in this server's history");
		position->seen = InvalidXLogRecPtr; /* tokens say which timeline they are of */
		return;
	}
	resume->after_promotion = !CA_DEBUG_SKIP("promotion");
	if (position->seen <= fork && !is_same_log(resume, timeline))
	{
		position->seen = InvalidXLogRecPtr;
		return;
	}
	position->seen = InvalidXLogRecPtr;
	position->last = position->timed = (CaLandmark){0};
	if (position->confirmed > fork && !CA_DEBUG_SKIP("promotion"))
		position->barrier = Max(position->barrier, above_prepared());
	position->confirmed = Min(position->confirmed, fork);
	position->restart = Min(position->restart, position->confirmed);
	position->timeline = timeline;
	if (CA_DEBUG_SKIP("promotion"))
		return;
	if (resume->reason != NULL && resume->scope == CA_VISIT_ALL)
		return;
	resume->reason = "this server was promoted";
	resume->scope = guc_resync_on_promotion == CA_RESYNC_NEVER ? CA_VISIT_UNLOGGED : CA_VISIT_ALL;
	resume->unless_clean = guc_resync_on_promotion == CA_RESYNC_AUTO;
}

static void
note_unfinished(CaResume *resume)
{
	if (resume->position.state == CA_POSITION_OK)
		return;
	if (resume->position.state == CA_POSITION_WIDENED)
	{
		resume->position.state = CA_POSITION_OK; /* which prefixes it lacks is seen anew */
		return;
	}
	resume->reason = "a resync was not finished";
	if (resume->position.state == CA_POSITION_UNLOGGED)
		resume->scope = CA_VISIT_UNLOGGED;
}

/* One of the prefixes is none: what is cached under it only the rules know. */
static bool
new_prefixes_are_real(const CaKeyspace *known)
{
	for (int i = 0; i < ca_prefix_count(); i++)
		if (ca_prefix_get(i)[0] == '\0' && !ca_keyspace_has(known, ""))
			return false;
	return true;
}

/* Nobody deleted what this database holds under a prefix that the position does not name. */
static void
compare_keyspace(CaResume *resume)
{
	const CaKeyspace *known = &resume->found.keyspace;
	const CaKeyspace *now = &resume->keyspace;
	bool moved = known->database != now->database;

	if (!moved && ca_keyspace_covers(known, now))
		return;
	if (!moved && resume->reason == NULL && !now->combined && !known->combined &&
		new_prefixes_are_real(known))
	{
		resume->position.keyspace = *known;
		ca_keyspace_intersect(&resume->position.keyspace, now);
		ca_resync_widen(known);
		resume->scope = CA_VISIT_PREFIXES;
	}
	else
		resume->scope = CA_VISIT_ALL;
	resume->unless_clean = false;
	if (resume->reason == NULL || resume->scope != CA_VISIT_ALL)
		resume->reason = moved ? "the position is of another database of Redis"
							   : "cache_aside.key_prefix was changed";
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
		start_rewritten(resume, timeline, "the position in Redis lies beyond this server's log");
	else
		(void) is_same_log(resume, timeline);
}

/* No position. Where this process was is a good place to read from, whatever Redis this is. */
static void
resume_remembered(CaSink *sink, CaResume *resume, const CaHandshake *claimed)
{
	resume->position = resume->found = sink->memory.position;
	note_unfinished(resume);
	if (same_data(sink, claimed))
		return;
	resume->scope = CA_VISIT_ALL;
	resume->reason = "Redis holds no position, and perhaps other data than before";
}

/* Taken back from a server of a newer timeline: nothing that it wrote is of our log. */
static void
resume_adopted(CaResume *resume, TimeLineID timeline)
{
	start_anew(resume, timeline, "a server of another timeline delivered until now");
	resume->position.seen = InvalidXLogRecPtr;
}

/* Decides where reading resumes; `log_gone`: the last session found a gap. */
void
ca_resume_choose(CaSink *sink, CaResume *resume, const CaHandshake *claimed, bool log_gone)
{
	XLogRecPtr end;
	TimeLineID timeline = ca_wal_timeline(&end);
	bool absent = claimed->stored[0] == '\0' && !claimed->nonsense;
	bool parsed;

	memset(resume, 0, sizeof(*resume));
	resume->scope = CA_VISIT_ALL;
	ca_keyspace_current(claimed->database, &resume->keyspace);
	parsed = !absent && !claimed->nonsense &&
			 ca_position_parse(claimed->stored, strlen(claimed->stored), &resume->position);
	if (parsed)
		resume->found = resume->position;
	if (log_gone)
	{
		resume->fenced = parsed && resume->position.timeline > timeline && !claimed->forced;
		start_anew(resume, timeline, "the log that had to be delivered next is gone");
	}
	else if (parsed && resume->position.timeline > timeline && claimed->forced)
		resume_adopted(resume, timeline);
	else if (parsed)
		resume_stored(resume, timeline, end);
	else if (absent && sink->memory.known && sink->memory.position.timeline == timeline)
		resume_remembered(sink, resume, claimed);
	else
	{
		if (absent)
			start_blind(&resume->position, timeline);
		else
			start_behind_another(&resume->position, timeline);
		resume->nonsense = !absent;
		resume->reason = absent ? "Redis holds no position" : "the position in Redis is not one";
	}
	if (resume->found.timeline != 0)
		compare_keyspace(resume);
	/* Told once; the library has marked the position as well, for a worker that dies now. */
	if (claimed->role == CA_ROLE_TAKEN)
	{
		resume->scope = CA_VISIT_ALL;
		resume->unless_clean = false;
		resume->reason = "another system's fills were admitted until now";
	}
	if (resume->reason)
		resume->position.state = ca_resume_state(resume);
	if (resume->scope != CA_VISIT_PREFIXES)
		resume->position.keyspace = resume->keyspace;
}

bool
ca_resume_verified(CaResume *resume, bool *log_gone)
{
	CaLandmarkState state = resume->unverified ? verify(&resume->found) : CA_LANDMARK_SAME;

	if (state == CA_LANDMARK_AHEAD)
		return false;
	*log_gone |= state != CA_LANDMARK_SAME;
	resume->unverified = false;
	return !*log_gone;
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
	position->keyspace = resume->keyspace;
	position->last = position->timed = (CaLandmark){0};
	resume->scope = CA_VISIT_ALL;
	resume->unless_clean = false;
	resume->reason = "the log that had to be delivered next is skipped";
	position->state = ca_resume_state(resume);
	ca_census_ask();
}
