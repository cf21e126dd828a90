/*
 * run.c: one reading of the log, from where the position says on, and its delivery to every sink.
 *
 * A run begins when every sink is claimed (session.c); resume.c decides where. Then one round follows another
 * (round.c): read log, send what is visible, see to what is due. It ends when a session fails, when the timeline
 * changes or the log is gone; every session that took part ends with it, everything queued is forgotten, and the
 * next run reads it again. So there is one way to recover, and it is used every time.
 *
 * The worker has one thread; what Redis or other servers do meanwhile is what the claim's nonce, the
 * compared position and the next session's questions are for. If we die between any two lines, the next
 * run finds the position of the last batch that Redis applied.
 *
 * A server has one sink today; test/fuzz/targets/run.c runs three. What a second one has to bring: the choice
 * among several positions (choose), who gets which key (ca_delivery_send takes all), a pass of a scan that ends when
 * all have scanned, that a commit is delivered when all have their part (ca_sync_delivered, ca_sync_confirmed), and
 * numbers of WAIT that mean the same everywhere (ca_sync_hold_under).
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"
#include "delivery/run.h"
#include "delivery/sink.h"

#include "access/transam.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- every connection ---- */

static void
advance(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		ca_session_advance(sink);
}

/* There is nobody to ask. */
static void
refuse_pings(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		if (!ca_session_waits(sink))
			return;
	ca_ping_refuse();
}

/* ---- beginning and end ---- */

static void
end(CaRun *run)
{
	if (run->on)
		ca_lag_note(ca_sinks_oldest(run), run->caught_up); /* while it is known */
	run->on = false;
	CA_EACH_SINK (sink, run)
		if (ca_session_running(sink))
			ca_session_close(sink);
	ca_lost_sticks_unsettle();
	ca_resync_interrupted();
	ca_redelete_interrupted();
	ca_queue_reset();
	ca_batch_reset();
	ca_scan_forget();
	ca_tap_close(run->tap);
	run->tap = NULL;
	if (run->cxt)
		MemoryContextReset(run->cxt);
	ca_breaker_end(); /* nothing, if reading did not begin */
}

static void
fail(CaRun *run, CaSink *sink, const char *why)
{
	char reason[256];

	strlcpy(reason, why, sizeof(reason));
	ca_status_count(CA_COUNT_RETRIES, 1);
	end(run);
	ca_session_fail(sink, reason);
	refuse_pings(run);
}

static void
open_tap(CaRun *run)
{
	const CaPosition *position = &run->resume.position;

	if (run->cxt == NULL)
		run->cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside run", ALLOCSET_DEFAULT_SIZES);
	run->tap = ca_tap_open(run->cxt, position->restart, position->confirmed,
						   XidFromFullTransactionId(FullTransactionIdFromU64(position->barrier)));
}

/* Where the first sink says. */
static bool
choose(CaRun *run)
{
	CaSink *sink = run->sinks;
	CaResume *resume = &run->resume;

	CA_DEBUG_POINT("claimed");
	ca_resume_choose(sink, resume, ca_handshake_result(sink), run->log_gone);
	if (resume->fenced)
	{
		ca_session_fence(sink);
		return false;
	}
	if (ca_breaker_begin(&resume->found, resume->position.sequence))
		ca_resume_skip(resume);
	if (resume->nonsense)
		ca_handshake_drop_nonsense(sink);
	return true;
}

static void
begin(CaRun *run)
{
	CaPosition *position = &run->resume.position;

	if (!choose(run))
		return;
	run->resync_due = run->resume.reason != NULL;
	run->resync_ticket = 0;
	ca_prepared_look(run->resume.nonsense);
	ca_open_at_start_begin(position);
	run->log_gone = false;
	if (CA_DEBUG_SKIP("position"))
	{
		ca_wal_timeline(&position->restart);
		position->confirmed = position->restart;
	}
	open_tap(run);
	run->timeline = ca_wal_timeline(&run->catch_up_to);
	run->caught_up = false;
	run->looked_at = InvalidXLogRecPtr;
	CA_EACH_SINK (sink, run)
		ca_session_run(sink, position, run->catch_up_to);
	run->on = true;
	ca_status_state("catching up");
	if (!ca_outage_lasts())
		ca_sync_available();
}

/* An outage without a pause: what is left can be delivered at once. */
static void
give_up_log(CaRun *run)
{
	ca_breaker_gap();
	CA_EACH_SINK (sink, run)
		fail(run, sink, "the log that had to be delivered next is gone");
	ca_run_close(run);
}

/* It lasts until every Redis is healthy. */
static void
end_outage(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		if (!ca_session_healthy(sink, run->caught_up))
			return;
	CA_EACH_SINK (sink, run)
		ca_outage_end(sink);
}

static bool
go_on(CaRun *run)
{
	bool more;

	advance(run); /* answers first: they make room */
	CA_EACH_SINK (sink, run)
		if (ca_session_error(sink) != NULL)
		{
			fail(run, sink, ca_session_error(sink));
			return false;
		}
	end_outage(run);
	more = CA_DEBUG_SKIP("read") ? false : ca_round_read(run);
	CA_DEBUG_POINT("log-read");
	if (run->log_gone)
	{
		give_up_log(run);
		return true;
	}
	more |= ca_round_deliver(run);
	advance(run); /* and write what the round queued */
	return more;
}

/* ---- steps ---- */

static bool
connect_sinks(CaRun *run)
{
	bool rest = true;
	bool claimed = true;

	refuse_pings(run);
	CA_EACH_SINK (sink, run)
		rest &= ca_session_rests(sink);
	if (rest)
		return ca_lag_look();
	CA_EACH_SINK (sink, run)
	{
		ca_session_step(sink);
		claimed &= ca_session_claimed(sink);
	}
	if (claimed)
		begin(run);
	refuse_pings(run);
	return run->on;
}

/* We were promoted, or followed a promotion, while delivering: claim Redis for the new timeline. */
static bool
timeline_changed(CaRun *run)
{
	XLogRecPtr end;

	return run->on && ca_wal_timeline(&end) != run->timeline;
}

/* One step, never blocking. */
bool
ca_run_step(CaRun *run)
{
	bool anew = timeline_changed(run);

	CA_EACH_SINK (sink, run)
		anew |= ca_contest_step(sink) || ca_session_moved(sink);
	if (anew)
		ca_run_close(run);
	return run->on ? go_on(run) : connect_sinks(run);
}

void
ca_run_listen(CaRun *run)
{
	if (run->on)
		advance(run);
}

void
ca_run_hurry(CaRun *run)
{
	if (run->on)
		ca_round_beat(run, true);
}

void
ca_run_close(CaRun *run)
{
	end(run);
	CA_EACH_SINK (sink, run)
		ca_session_close(sink);
}

bool
ca_run_lasts(CaRun *run)
{
	return run->on;
}

bool
ca_run_settled(CaRun *run)
{
	XLogRecPtr end;

	ca_wal_timeline(&end);
	return run->on && ca_sinks_idle(run) && ca_tap_read_end(run->tap) >= end;
}

bool
ca_run_unanswered(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		if (ca_ledger_in_flight(sink) > 0)
			return true;
	return false;
}

bool
ca_run_full(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		if (ca_delivery_full(sink))
			return true;
	return false;
}

static long
sooner(long a, long b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/*
 * Log without messages moves the position once a second. When there was none an idle worker wakes for
 * the renewal alone: twice in two seconds, with the answer.
 */
static long
quiet_timeout(CaRun *run)
{
	XLogRecPtr before = run->quiet_at;
	long timeout = -1;

	run->quiet_at = ca_tap_read_end(run->tap);
	if (run->quiet_at != before)
		return 1000;
	CA_EACH_SINK (sink, run)
		timeout = sooner(timeout, ca_arming_timeout(sink));
	return timeout;
}

/* -1: only events matter */
long
ca_run_timeout(CaRun *run)
{
	long timeout = -1;

	CA_EACH_SINK (sink, run)
		timeout = sooner(timeout, ca_session_timeout(sink));
	if (!run->on)
		return timeout;
	/* Nothing wakes us when a stalled commit becomes visible. */
	timeout = sooner(timeout, ca_queue_waits() ? 1 : -1);
	return sooner(timeout, quiet_timeout(run));
}
