/*
 * lag.c: how far is delivery, and how old is the oldest commit that is not delivered?
 *
 * During a run ledger.c knows: the oldest of what is queued, in flight, or waits for a scan. When the run ends all that is
 * forgotten, for the next one reads it again; the age of the oldest is kept here. If there was none, the log is watched
 * here for as long as there is no run, but only until the first commit with keys comes: what lies behind that one
 * changes no answer. So an outage costs one reading of the log up to that commit.
 *
 * It is read from where the position stood. The status has that: it outlives the worker, and each worker begins with what the
 * one before it left. On a standby it is what follow.c reads in Redis. A server that was started in the middle of an outage
 * knows no position: it counts from its own start, so what it shows is a lower bound.
 *
 * Nothing is read while a worker has died lately (breaker.c): no answer here is worth a second death.
 */
#include "cache_aside.h"
#include "shared/status.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"

#include "access/transam.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define READ_BUDGET (1024 * 1024)

/* Of the log: what nobody has read while there is no run. */
static MemoryContext lag_cxt;
static CaTap *tap;
static bool given_up; /* the log there cannot be read */
static CaStatusProgress progress;

/* The worker begins. */
void
ca_lag_attach(void)
{
	ca_status_get_progress(&progress);
}

static void
stop(void)
{
	ca_tap_close(tap);
	tap = NULL;
	if (lag_cxt)
		MemoryContextReset(lag_cxt);
}

/* A CaCommitHandler. */
static void
note(void *unused, CaCommit *commit)
{
	if (progress.oldest == 0)
		progress.oldest = commit->time;
	ca_committed_free(commit);
}

static void
begin(void)
{
	XLogRecPtr from = progress.restart;
	XLogRecPtr above = progress.confirmed;
	uint64 barrier = 0;

	if (lag_cxt == NULL)
		lag_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside lag", ALLOCSET_DEFAULT_SIZES);
	if (XLogRecPtrIsInvalid(from) || XLogRecPtrIsInvalid(above))
	{
		from = ca_wal_last_checkpoint(&barrier);
		if (XLogRecPtrIsInvalid(progress.undelivered_from))
			ca_wal_timeline(&progress.undelivered_from);
		above = progress.undelivered_from;
	}
	tap = ca_tap_open(lag_cxt, from, above,
					  XidFromFullTransactionId(FullTransactionIdFromU64(barrier)));
}

/* Would it learn anything from the next commit? */
bool
ca_lag_watches(void)
{
	return progress.oldest == 0 && !given_up && !ca_breaker_suspects();
}

/* There is no run. Returns true if there is more to read at once. */
bool
ca_lag_look(void)
{
	CaTapResult result;

	if (!ca_lag_watches())
	{
		stop();
		return false;
	}
	if (tap == NULL)
		begin();
	result = ca_tap_read(tap, READ_BUDGET, note, NULL);
	given_up = result == CA_TAP_GAP;
	ca_status_put_progress(&progress);
	return result == CA_TAP_MORE;
}

/*
 * There is one; `oldest`: commit time of the oldest of what it has read and not delivered, 0: there is none;
 * `caught_up`: it has read what was in the log when it began.
 */
void
ca_lag_note(TimestampTz oldest, bool caught_up)
{
	stop();
	given_up = false;
	progress.undelivered_from = InvalidXLogRecPtr;
	if (oldest != 0 || caught_up)
		progress.oldest = oldest;
	ca_status_put_progress(&progress);
}

/* After a round: how far delivery has come. */
void
ca_lag_publish(const CaLagRound *round)
{
	const CaPosition *position = round->position;
	bool caught_up = !XLogRecPtrIsInvalid(round->caught_up_to);

	progress.timeline = position->timeline;
	/* A resync is still to make good what was not delivered one by one: it is not confirmed yet. */
	progress.confirmed = position->state == CA_POSITION_OK && !round->untold
							 ? position->confirmed
							 : Min(progress.confirmed, position->confirmed);
	progress.restart = position->restart;
	progress.keep = ca_position_keep(position);
	progress.read_end = round->read_end;
	progress.visible = round->visible;
	ca_lag_note(round->oldest, caught_up);
	ca_lost_sticks_settle(caught_up && (round->idle || position->confirmed >= round->caught_up_to));
	if (ca_resync_running())
		ca_status_state("resyncing");
	else
		ca_status_state(caught_up ? "delivering" : "catching up");
}

/* Nobody delivers here, nor will. */
void
ca_lag_forget(void)
{
	stop();
	progress.confirmed = progress.restart = progress.keep = InvalidXLogRecPtr;
	progress.oldest = 0;
	progress.undelivered_from = InvalidXLogRecPtr;
	ca_status_put_progress(&progress);
}

/* On a standby: how far it has read, and up to where that is visible. */
void
ca_lag_follow_log(XLogRecPtr read_end, XLogRecPtr visible)
{
	progress.read_end = read_end;
	progress.visible = visible;
	ca_status_put_progress(&progress);
}

/* ... and what the primary has delivered; `confirmed` invalid: nobody has delivered yet. */
void
ca_lag_follow_position(TimeLineID timeline, XLogRecPtr confirmed, XLogRecPtr restart,
					   XLogRecPtr keep)
{
	progress.restart = restart;
	progress.keep = keep;
	if (!XLogRecPtrIsInvalid(confirmed))
	{
		progress.timeline = timeline;
		progress.confirmed = confirmed;
	}
	ca_status_put_progress(&progress);
}

/* Log from there on is needed; invalid: not known. */
XLogRecPtr
ca_lag_keep(void)
{
	return progress.keep;
}
