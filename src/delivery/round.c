/*
 * round.c: one round of a run: reads log, looks at what is visible, sends, and sees to what is due: resync, scans, arming,
 * heartbeats, those who wait.
 *
 * run.c calls it, again and again, between taking answers and writing what was queued here. Nothing waits: what has no room
 * or no answer yet comes again in the next round. A log that is gone is noted (`log_gone`), and run.c gives up.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"
#include "delivery/run_state.h"
#include "delivery/sink.h"

#include "access/transam.h"

#define READ_BUDGET (1024 * 1024)

static void
note_forgotten(CaRun *run, uint64 xid)
{
	if (xid == 0)
		return;
	CA_EACH_SINK (sink, run)
		ca_ledger_raise_barrier(sink, xid);
	ca_open_at_start_raised();
}

/* Returns true if there is more to read at once; if the queue has no room, not before the round made some. */
bool
ca_round_read(CaRun *run)
{
	CaTapResult result;

	run->behind = ca_queue_full();
	if (run->behind)
		return false;
	result = ca_tap_read(run->tap, READ_BUDGET, ca_queue_add, NULL);
	note_forgotten(run, ca_tap_forgot(run->tap));
	if (result == CA_TAP_GAP)
		run->log_gone = true;
	/* The flush LSN may lie inside a record; then the end of the log is as far as one can read. */
	if (!run->caught_up && !ca_wal_ends_before(run->resume.position.confirmed) &&
		(result == CA_TAP_END ||
		 (result == CA_TAP_MORE && ca_tap_read_end(run->tap) >= run->catch_up_to)) &&
		ca_resume_verified(&run->resume, &run->log_gone))
		ca_catch_up_reached(run);
	return result == CA_TAP_MORE;
}

/* 0: no token. Blind start: those who are open may have messages which nobody will ever read. */
static TimeLineID
token_timeline(CaRun *run)
{
	bool none = ca_sinks_position(run)->barrier != 0 || ca_sinks_barrier(run) != 0 ||
				ca_wal_ends_before(ca_tap_read_end(run->tap));

	return none ? 0 : run->timeline;
}

/* Up to where is what was read visible? Looks only if that may have changed. */
static XLogRecPtr
look(CaRun *run, TransactionId *oldest_running)
{
	XLogRecPtr read_end = ca_tap_read_end(run->tap);
	TimeLineID timeline;

	if (!ca_queue_waits() && ca_sinks_barrier(run) == 0 && read_end == run->looked_at)
		return read_end;
	timeline = token_timeline(run);
	run->looked_at = timeline == 0 ? InvalidXLogRecPtr : read_end;
	return ca_queue_look(read_end, timeline, oldest_running);
}

/* ---- delivering ---- */

/* Guarded fills are admitted when nothing that may have been lost is undelivered. */
static void
arm_if_due(CaRun *run, CaSink *sink)
{
	if (run->caught_up && !run->resync_due && ca_apply_guarded(sink) && !ca_contest_second(sink))
		ca_admission_arm(sink, run->caught_up_to, ca_tap_read_end(run->tap));
}

/* Returns true if there is more to do at once. */
static bool
serve(CaRun *run, CaSink *sink)
{
	bool more = ca_delivery_send(sink, run->tap);

	if (!ca_events_full(sink))
	{
		ca_redelete_step(sink, ca_session_redis(sink));
		if (ca_scan_begins(&sink->scan))
			ca_admission_raise_floor(sink, run->tap, false);
		ca_scan_step(&sink->scan, ca_session_redis(sink));
	}
	arm_if_due(run, sink);
	ca_admission_renew(sink, ca_tap_read_end(run->tap));
	return more;
}

/* Of a commit that somebody waits for: is something of it queued, or not acknowledged? */
static bool
owes(void *arg, const CaAwaited *awaited)
{
	CaRun *run = arg;

	CA_EACH_SINK (sink, run)
		if (ca_ledger_owes(sink, awaited))
			return true;
	return ca_queue_owes(ca_queue_list(), awaited);
}

/* The position of each sink, if it is due; `now`: somebody waits for it. */
void
ca_round_beat(CaRun *run, bool now)
{
	CA_EACH_SINK (sink, run)
		ca_delivery_heartbeat(sink, run->tap, now);
}

/* Those who wait; true: call again at once. */
static bool
tell(CaRun *run)
{
	bool tells = true;

	CA_EACH_SINK (sink, run)
		tells &= ca_delivery_tells(sink);
	return tells && ca_sync_answer(ca_tap_read_end(run->tap), owes, run);
}

static void
publish(CaRun *run, XLogRecPtr visible)
{
	CaLagRound round = {0};

	CA_EACH_SINK (sink, run)
		ca_endpoint_progress(&sink->endpoint, ca_ledger_in_flight(sink),
							 ca_ledger_acked(sink)->confirmed);
	round.position = ca_sinks_position(run);
	round.oldest = ca_sinks_oldest(run);
	round.idle = ca_sinks_idle(run);
	round.untold = ca_sinks_untold(run);
	round.read_end = ca_tap_read_end(run->tap);
	round.visible = visible;
	round.caught_up_to = run->caught_up ? run->caught_up_to : InvalidXLogRecPtr;
	ca_breaker_progress(round.position, run->caught_up && round.idle,
						run->resync_due || ca_resync_running() || ca_census_running());
	ca_lag_publish(&round);
}

/* What is visible goes out, and whatever else is due. Returns true if there is more to do at once. */
bool
ca_round_deliver(CaRun *run)
{
	TransactionId oldest_running = InvalidTransactionId;
	XLogRecPtr visible = look(run, &oldest_running);
	bool more = false;

	ca_catch_up_resync(run, oldest_running);
	if (run->caught_up)
		ca_resync_step();
	if (ca_resync_ended())
		CA_EACH_SINK (sink, run)
			ca_events_note(sink, CA_ENTRY_RESYNC, NULL, 0);
	CA_EACH_SINK (sink, run)
		more |= serve(run, sink);
	ca_catch_up_progress(run, oldest_running);
	ca_round_beat(run, pg_atomic_read_u32(&ca_status_shared->waiters) > 0);
	more |= tell(run);
	CA_EACH_SINK (sink, run)
	{
		ca_replicas_step(sink, ca_session_redis(sink), ca_ledger_in_flight(sink) > 0,
						 ca_ledger_acked(sink)->confirmed);
		ca_ping_send(sink, ca_session_redis(sink));
	}
	publish(run, visible);
	return more || (run->behind && !ca_queue_full());
}
