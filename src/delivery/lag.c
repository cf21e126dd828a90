/*
 * lag.c: how far is delivery, and how old is the oldest commit that is not delivered?
 *
 * In a run delivery.c knows: whatever is queued, in flight, or waits for a scan. When the run
 * ends that is forgotten, to be read again by the next one; its age is kept here. If all was delivered
 * then, the log is watched for as long as there is no run, only until the first commit with keys
 * shows up: what lies behind it is nobody's business yet. So an outage costs one reading of the log up
 * to that commit.
 *
 * Read from where the position stood, as status has it, which outlives the worker. A server that began
 * in the outage knows no position: it counts from its own beginning, and says at least.
 *
 * Not when a worker has died of late (breaker.c): nothing here is worth a second death.
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
	if (ca_status_now.oldest == 0)
		ca_status_now.oldest = commit->time;
	ca_committed_free(commit);
}

static void
begin(void)
{
	XLogRecPtr from = ca_status_now.restart;
	XLogRecPtr above = ca_status_now.confirmed;
	uint64 barrier = 0;

	if (lag_cxt == NULL)
		lag_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside lag", ALLOCSET_DEFAULT_SIZES);
	if (XLogRecPtrIsInvalid(from) || XLogRecPtrIsInvalid(above))
	{
		from = ca_wal_last_checkpoint(&barrier);
		if (XLogRecPtrIsInvalid(ca_status_now.undelivered_from))
			ca_wal_timeline(&ca_status_now.undelivered_from);
		above = ca_status_now.undelivered_from;
	}
	tap = ca_tap_open(lag_cxt, from, above,
					  XidFromFullTransactionId(FullTransactionIdFromU64(barrier)));
}

/* There is no run. Returns true if there is more to read at once. */
bool
ca_lag_look(void)
{
	CaTapResult result;

	if (ca_status_now.oldest != 0 || given_up || ca_breaker_suspects())
	{
		stop();
		return false;
	}
	if (tap == NULL)
		begin();
	result = ca_tap_read(tap, READ_BUDGET, note, NULL);
	given_up = result == CA_TAP_GAP;
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
	ca_status_now.undelivered_from = InvalidXLogRecPtr;
	if (oldest != 0 || caught_up)
		ca_status_now.oldest = oldest;
}

/* After a round: how far delivery has come. */
void
ca_lag_publish(const CaLagRound *round)
{
	const CaPosition *position = round->position;
	bool caught_up = !XLogRecPtrIsInvalid(round->caught_up_to);

	ca_status_now.timeline = position->timeline;
	/* A resync is still to make good what was not delivered one by one: it is not confirmed yet. */
	ca_status_now.confirmed = position->state == CA_POSITION_OK && !round->untold
								  ? position->confirmed
								  : Min(ca_status_now.confirmed, position->confirmed);
	ca_status_now.restart = position->restart;
	ca_status_now.keep = ca_position_keep(position);
	ca_status_now.read_end = round->read_end;
	ca_status_now.visible = round->visible;
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
	ca_status_now.oldest = 0;
	ca_status_now.undelivered_from = InvalidXLogRecPtr;
}
