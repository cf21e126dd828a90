/*
 * follow.c: a standby that does not deliver, but may have to one day.
 *
 * Two duties. It reads the replayed log and keeps track of what is visible, so that reads on this
 * standby get tokens. And once a second it reads the position from each Redis (followed.c) and keeps the
 * log from there on, so that after a promotion nothing is missing that the old primary did not deliver.
 *
 * Everything here is begun anew when it fails; nothing needs to survive it.
 */
#include "cache_aside.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/run.h"
#include "delivery/sink.h"
#include "worker/worker.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define READ_BUDGET (1024 * 1024)

/* Of the log, which is followed once; what each Redis told is its sink's. */
static MemoryContext follow_cxt;
static CaTap *tap;
static TimeLineID timeline; /* the tap was opened on */
static XLogRecPtr visible;  /* of what was read */
static uint64 barrier; /* full xid; tokens are given once all below it have ended; 0: they are */

void
ca_follow_reconnect(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		ca_followed_forget(sink);
}

void
ca_follow_close(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		ca_followed_hang_up(sink);
	ca_breaker_end();
	ca_queue_reset();
	ca_tap_close(tap);
	tap = NULL;
	if (follow_cxt)
		MemoryContextReset(follow_cxt);
}

static void
begin(void)
{
	CaPosition place = {0};
	XLogRecPtr start = ca_wal_last_checkpoint(&barrier);
	XLogRecPtr end;

	if (follow_cxt == NULL)
		follow_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside follow", ALLOCSET_DEFAULT_SIZES);
	timeline = ca_wal_timeline(&end);
	place.timeline = timeline;
	place.restart = start;
	if (ca_breaker_begin(&place, 0))
		start = ca_breaker_skip(start, &barrier);
	tap = ca_tap_open(follow_cxt, start, start,
					  XidFromFullTransactionId(FullTransactionIdFromU64(barrier)));
	ca_status_state("standby");
}

/* ---- the positions ---- */

/* What was read last in each Redis; nothing is let go of until each has told. */
static void
note_positions(CaRun *run)
{
	const CaSinkFollowed *lowest = NULL;
	XLogRecPtr restart = PG_UINT64_MAX;
	XLogRecPtr keep = PG_UINT64_MAX;

	CA_EACH_SINK (sink, run)
	{
		const CaSinkFollowed *followed = &sink->followed;

		if (!followed->told)
			return;
		restart = Min(restart, followed->restart);
		keep = Min(keep, followed->keep);
		if (!XLogRecPtrIsInvalid(followed->confirmed) &&
			(lowest == NULL || followed->confirmed < lowest->confirmed))
			lowest = followed;
	}
	ca_lag_follow_position(lowest ? lowest->timeline : 0,
						   lowest ? lowest->confirmed : InvalidXLogRecPtr, restart, keep);
}

static void
follow_sinks(CaRun *run)
{
	bool misconfigured = ca_outage_misconfigured(run, CA_AREA_FOLLOWING);

	CA_EACH_SINK (sink, run)
	{
		if (misconfigured)
			ca_followed_hang_up(sink);
		else
			ca_followed_step(sink, follow_cxt, ca_tap_read_end(tap));
	}
	note_positions(run);
}

/* ---- the log ---- */

static void
lift_barrier(TransactionId oldest_running)
{
	TransactionId xid = XidFromFullTransactionId(FullTransactionIdFromU64(barrier));

	if (barrier == 0 || TransactionIdPrecedes(oldest_running, xid))
		return;
	barrier = 0;
	ca_tap_lift_barrier(tap);
}

static bool
follow_log(CaRun *run)
{
	TransactionId oldest_running;
	XLogRecPtr before = ca_tap_read_end(tap);
	CaTapResult result = ca_tap_read(tap, READ_BUDGET, ca_queue_add, NULL);
	uint64 forgot = ca_tap_forgot(tap);

	if (forgot != 0)
		barrier = forgot;
	if (result == CA_TAP_GAP)
	{
		ca_breaker_gap();
		ca_follow_close(run);
		return false;
	}
	if (ca_tap_read_end(tap) != before || ca_queue_waits())
	{
		visible = ca_queue_look(ca_tap_read_end(tap), barrier == 0 ? timeline : 0, &oldest_running);
		ca_queue_discard_visible();
		lift_barrier(oldest_running);
	}
	ca_lag_follow_log(ca_tap_read_end(tap), visible);
	return result == CA_TAP_MORE;
}

bool
ca_follow_step(CaRun *run)
{
	XLogRecPtr end;
	bool more;

	if (tap && ca_wal_timeline(&end) != timeline)
		ca_follow_close(run); /* the upstream was promoted: tokens name the new timeline */
	if (tap == NULL)
		begin();
	more = follow_log(run);
	if (tap)
		follow_sinks(run);
	return more;
}
