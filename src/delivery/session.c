/*
 * session.c: one connection to Redis, from opening it to its end.
 *
 * Phases: WAITING (back-off) -> OPENING -> CLAIMING (handshake.c) -> RUNNING. resume.c decides where to
 * go on. Any failure ends the session; everything queued is forgotten and read again by the next one,
 * so there is one way to recover and it is used every time. If we die between any two lines, the next
 * session finds the position of the last batch that Redis applied.
 *
 * In RUNNING each round reads log, looks at what is visible, sends, and sees to what is due: resync,
 * scans, arming, heartbeats. The worker has one thread; what Redis or other servers do meanwhile is
 * what the claim's nonce, the compared position and the next session's questions are for.
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
#include "delivery/sink.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FENCED_RETRY 5000
#define REFUSED_RETRY 1000
#define READ_BUDGET (1024 * 1024)

/* ---- the end of a session ---- */

static void
close_session(CaSink *sink)
{
	if (sink->session.phase == CA_PHASE_RUNNING)
		ca_lag_note(sink, sink->session.caught_up); /* while it is known */
	ca_redis_close(sink->session.redis);
	sink->session.redis = NULL;
	ca_status_now.settled = false;
	ca_resync_interrupted();
	ca_redelete_interrupted();
	ca_delivery_reset(sink);
	ca_scan_reset(&sink->scan);
	ca_tap_close(sink->session.tap);
	sink->session.tap = NULL;
	if (sink->session.cxt)
		MemoryContextReset(sink->session.cxt);
	ca_breaker_end(); /* nothing, if reading did not begin */
	sink->session.phase = CA_PHASE_WAITING;
}

static void
retry_in(CaSink *sink, int ms)
{
	sink->session.retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Redis is gone, refuses, or is not what it was: begin again after a while. */
static void
fail_session(CaSink *sink, const char *why)
{
	char reason[256];

	strlcpy(reason, why, sizeof(reason));
	if (sink->session.phase == CA_PHASE_RUNNING)
	{
		ca_resume_remember(sink, ca_handshake_result(sink), ca_delivery_position(sink));
		ca_status_now.retries++;
	}
	close_session(sink);
	retry_in(sink, ca_outage_begin(sink, reason));
	ca_ping_refuse();
}

/*
 * A connection is no delivery: a Redis that is full or read only accepts every login. The outage
 * ends, and the back-off with it, when keys were acknowledged or none are left.
 */
static void
note_healthy(CaSink *sink)
{
	if (ca_status_now.keys != sink->session.keys_before ||
		(sink->session.caught_up && ca_delivery_idle(sink)))
		ca_outage_end(sink);
}

/* Another server delivers here by now; ask again once in a while. */
static void
be_fenced(CaSink *sink)
{
	close_session(sink);
	ca_outage_fenced();
	retry_in(sink, FENCED_RETRY);
}

/* Another server delivers here and lives; ask again until it is silent. */
static void
be_refused(CaSink *sink)
{
	char why[256];

	strlcpy(why, ca_handshake_error(sink), sizeof(why));
	close_session(sink);
	ca_outage_refused(why);
	retry_in(sink, REFUSED_RETRY);
}

static void
begin_running(CaSink *sink)
{
	CaHandshake *claimed = ca_handshake_result(sink);
	const CaPosition *position = &sink->session.resume.position;

	CA_DEBUG_POINT("claimed");
	ca_resume_choose(sink, &sink->session.resume, claimed, sink->session.log_gone);
	if (sink->session.resume.fenced)
	{
		be_fenced(sink);
		return;
	}
	if (ca_breaker_begin(&sink->session.resume.found, sink->session.resume.position.sequence))
		ca_resume_skip(&sink->session.resume);
	if (sink->session.resume.nonsense)
		ca_handshake_drop_nonsense(sink);
	sink->session.resync_due = sink->session.resume.reason != NULL;
	sink->session.resync_ticket = 0;
	ca_prepared_look(sink->session.resume.nonsense);
	ca_open_at_start_begin(position);
	sink->session.log_gone = false;
	if (CA_DEBUG_SKIP("position"))
	{
		ca_wal_timeline(&sink->session.resume.position.restart);
		sink->session.resume.position.confirmed = sink->session.resume.position.restart;
	}
	sink->session.tap =
		ca_tap_open(sink->session.cxt, position->restart, position->confirmed,
					XidFromFullTransactionId(FullTransactionIdFromU64(position->barrier)));
	ca_delivery_start(sink, sink->session.tap, sink->session.redis, position, claimed->stored);
	sink->session.timeline = ca_wal_timeline(&sink->session.catch_up_to);
	ca_lost_sticks_begin(sink, claimed->stored[0] == '\0', sink->session.catch_up_to);
	sink->session.caught_up = false;
	sink->session.looked_at = InvalidXLogRecPtr;
	sink->session.phase = CA_PHASE_RUNNING;
	ca_status_redis_state("connected");
	ca_status_state("catching up");
	if (!ca_outage_lasts())
		ca_sync_available();
	sink->session.keys_before = ca_status_now.keys;
}

/* ---- running ---- */

/*
 * Everything that was in the log when we connected has been read: a resync may begin now, because
 * what it deletes cannot come back from a commit we have not seen.
 */
static void
note_caught_up(CaSink *sink)
{
	sink->session.caught_up = true;
	sink->session.caught_up_to = ca_tap_read_end(sink->session.tap);
	CA_DEBUG_POINT("caught-up");
	if (sink->session.resume.unless_clean && ca_tap_clean_switch(sink->session.tap))
	{
		ereport(LOG,
				(errmsg("cache_aside needs no resync: the old primary was shut down cleanly")));
		sink->session.resume.scope = CA_VISIT_UNLOGGED;
		ca_delivery_mark(sink, CA_POSITION_UNLOGGED, ca_delivery_barrier(sink));
	}
	if (sink->session.resume.after_promotion)
		ca_delivery_raise_floor(sink, true); /* the buckets may hold LSNs beyond the fork */
}

static void
request_resync(CaSink *sink, TransactionId oldest_running)
{
	if (!sink->session.caught_up || !sink->session.resync_due || sink->session.resync_ticket != 0)
		return;
	ca_open_at_start_resync_begins(sink, oldest_running);
	sink->session.resync_ticket =
		ca_resync_request(sink->session.resume.scope, sink->session.resume.reason);
}

/* Guarded fills are admitted when nothing that may have been lost is undelivered. */
static void
arm_if_due(CaSink *sink)
{
	if (sink->session.caught_up && !sink->session.resync_due && ca_apply_guarded(sink) &&
		!ca_contest_second())
		ca_delivery_arm(sink, sink->session.caught_up_to);
}

/* Pending until the resync ended; a barrier until every transaction it is about has. */
static void
note_progress(CaSink *sink, TransactionId oldest_running)
{
	uint64 barrier = ca_delivery_barrier(sink);
	bool resynced = sink->session.resync_ticket && ca_resync_done() >= sink->session.resync_ticket;
	bool again = false;
	bool passed =
		sink->session.caught_up &&
		ca_open_at_start_passed(sink, ca_tap_read_end(sink->session.tap), oldest_running, &again);

	if (!resynced && !passed)
		return;
	if (resynced)
	{
		sink->session.resync_ticket = 0;
		sink->session.resync_due = false;
		ca_delivery_cover(sink, &sink->session.resume.keyspace);
	}
	if (passed)
		ca_tap_lift_barrier(sink->session.tap);
	if (again)
	{
		sink->session.resync_due = true;
		sink->session.resume.scope = CA_VISIT_ALL;
		sink->session.resync_ticket = ca_resync_request(
			CA_VISIT_ALL, "transactions that were open when it began to read have ended");
	}
	ca_delivery_mark(
		sink, sink->session.resync_due ? ca_resume_state(&sink->session.resume) : CA_POSITION_OK,
		passed ? 0 : barrier);
}

static const char *
session_error(CaSink *sink)
{
	if (ca_redis_state(sink->session.redis) == CA_REDIS_FAILED)
		return ca_redis_error(sink->session.redis);
	return ca_delivery_error(sink) ? ca_delivery_error(sink) : ca_scan_error(&sink->scan);
}

static bool
read_log(CaSink *sink)
{
	CaTapResult result = CA_TAP_MORE;
	uint64 forgot;

	if (ca_queue_full())
		return false;
	result = ca_tap_read(sink->session.tap, READ_BUDGET, ca_queue_add, NULL);
	if ((forgot = ca_tap_forgot(sink->session.tap)) != 0)
		ca_open_at_start_raise(sink, forgot);
	if (result == CA_TAP_GAP)
		sink->session.log_gone = true;
	/* The flush LSN may lie inside a record; then the end of the log is as far as one can read. */
	if (!sink->session.caught_up && !ca_wal_ends_before(sink->session.resume.position.confirmed) &&
		(result == CA_TAP_END || (result == CA_TAP_MORE && ca_tap_read_end(sink->session.tap) >=
															   sink->session.catch_up_to)) &&
		ca_resume_verified(&sink->session.resume, &sink->session.log_gone))
		note_caught_up(sink);
	return result == CA_TAP_MORE;
}

/* 0: no token. Blind start: those who are open may have messages which nobody will ever read. */
static TimeLineID
token_timeline(CaSink *sink)
{
	bool none = ca_delivery_position(sink)->barrier != 0 || ca_delivery_barrier(sink) != 0 ||
				ca_wal_ends_before(ca_tap_read_end(sink->session.tap));

	return none ? 0 : sink->session.timeline;
}

/* One round: read, look, send. Returns true if there is more to do at once. */
static bool
run(CaSink *sink)
{
	TransactionId oldest_running = InvalidTransactionId;
	XLogRecPtr visible;
	bool more = CA_DEBUG_SKIP("read") ? false : read_log(sink);
	int sent;

	CA_DEBUG_POINT("log-read");
	if (sink->session.log_gone)
	{
		ca_breaker_gap();
		fail_session(sink, "the log that had to be delivered next is gone");
		retry_in(sink, 0);
		return true;
	}
	visible = ca_tap_read_end(sink->session.tap);
	if (ca_queue_waits() || ca_delivery_barrier(sink) != 0 || visible != sink->session.looked_at)
	{
		TimeLineID timeline = token_timeline(sink);

		sink->session.looked_at = timeline == 0 ? InvalidXLogRecPtr : visible;
		visible = ca_queue_look(visible, timeline, &oldest_running);
	}
	request_resync(sink, oldest_running);
	if (sink->session.caught_up)
		ca_resync_step();
	sent = ca_delivery_send(sink);
	ca_redelete_step(sink, sink->session.redis);
	if (ca_scan_begins(&sink->scan))
		ca_delivery_raise_floor(sink, false);
	ca_scan_step(&sink->scan, sink->session.redis);
	arm_if_due(sink);
	ca_delivery_renew(sink);
	note_progress(sink, oldest_running);
	ca_delivery_heartbeat(sink, pg_atomic_read_u32(&ca_status_shared->waiters) > 0);
	more |= ca_delivery_tell(sink);
	ca_ping_send(sink, sink->session.redis);
	ca_breaker_progress(ca_delivery_position(sink),
						sink->session.caught_up && ca_delivery_idle(sink),
						sink->session.resync_due || ca_resync_running() || ca_census_running());
	ca_lag_publish(sink, ca_tap_read_end(sink->session.tap), visible,
				   sink->session.caught_up ? sink->session.caught_up_to : InvalidXLogRecPtr);
	return more || sent > 0;
}

static bool
deliver(CaSink *sink)
{
	bool more;
	const char *error;

	ca_redis_advance(sink->session.redis); /* answers first: they make room */
	if ((error = session_error(sink)) != NULL)
	{
		fail_session(sink, error);
		return false;
	}
	note_healthy(sink);
	more = run(sink);
	if (sink->session.phase == CA_PHASE_RUNNING)
		ca_redis_advance(sink->session.redis); /* and write what the round queued */
	return more;
}

/* ---- phases ---- */

static void
open_session(CaSink *sink)
{
	char *endpoint;

	ca_redis_address_of_settings(&sink->session.address);
	endpoint = ca_redis_address_endpoint(&sink->session.address);
	strlcpy(ca_status_now.endpoint, endpoint, sizeof(ca_status_now.endpoint));
	pfree(endpoint);
	if (sink->session.cxt == NULL)
		sink->session.cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside session", ALLOCSET_DEFAULT_SIZES);
	sink->session.redis =
		ca_redis_open(sink->session.cxt, &sink->session.address, "cache_aside worker");
	ca_status_redis_state("connecting");
	ca_status_now.reconnects++;
	sink->session.phase = CA_PHASE_OPENING;
}

static void
advance_claim(CaSink *sink)
{
	switch (ca_handshake_step(sink))
	{
		case CA_HANDSHAKE_WAITING:
			ca_redis_advance(sink->session.redis);
			break;
		case CA_HANDSHAKE_FAILED:
			fail_session(sink, ca_handshake_error(sink));
			break;
		case CA_HANDSHAKE_FENCED:
			be_fenced(sink);
			break;
		case CA_HANDSHAKE_OCCUPIED:
			be_refused(sink);
			break;
		case CA_HANDSHAKE_DONE:
			begin_running(sink);
			break;
	}
}

static void
advance_opening(CaSink *sink)
{
	CaRedisState state = ca_redis_advance(sink->session.redis);

	if (state == CA_REDIS_FAILED)
		fail_session(sink, ca_redis_error(sink->session.redis));
	else if (sink->session.phase == CA_PHASE_OPENING && state == CA_REDIS_READY)
	{
		ca_handshake_begin(sink, sink->session.redis);
		sink->session.phase = CA_PHASE_CLAIMING;
		ca_redis_advance(sink->session.redis);
	}
	else if (sink->session.phase == CA_PHASE_CLAIMING)
		advance_claim(sink);
}

/* We were promoted, or followed a promotion, while delivering: claim Redis for the new timeline. */
static bool
timeline_changed(CaSink *sink)
{
	XLogRecPtr end;

	return sink->session.phase == CA_PHASE_RUNNING &&
		   ca_wal_timeline(&end) != sink->session.timeline;
}

/* One step, never blocking. True: call again at once. */
bool
ca_session_step(CaSink *sink)
{
	if (ca_contest_step() || timeline_changed(sink))
		ca_session_close(sink);
	if (sink->session.phase == CA_PHASE_RUNNING)
		return deliver(sink);
	if (sink->session.phase == CA_PHASE_WAITING)
	{
		ca_ping_refuse();
		if (GetCurrentTimestamp() < sink->session.retry_at)
			return ca_lag_look();
		open_session(sink);
	}
	advance_opening(sink);
	return sink->session.phase == CA_PHASE_RUNNING;
}

/* Takes answers, and does nothing else: the next step judges what came. */
void
ca_session_listen(CaSink *sink)
{
	if (sink->session.phase == CA_PHASE_RUNNING)
		ca_redis_advance(sink->session.redis);
}

/* Settings changed, or the server stops: begin again at the next step. */
void
ca_session_close(CaSink *sink)
{
	if (sink->session.phase == CA_PHASE_RUNNING)
		ca_resume_remember(sink, ca_handshake_result(sink), ca_delivery_position(sink));
	close_session(sink);
	sink->session.retry_at = 0;
}

CaRedis *
ca_session_redis(CaSink *sink)
{
	return sink->session.redis;
}

/* Is everything that is flushed by now delivered and acknowledged? */
bool
ca_session_settled(CaSink *sink)
{
	XLogRecPtr end;

	ca_wal_timeline(&end);
	return sink->session.phase == CA_PHASE_RUNNING && ca_delivery_idle(sink) &&
		   ca_tap_read_end(sink->session.tap) >= end;
}

bool
ca_session_running(CaSink *sink)
{
	return sink->session.phase == CA_PHASE_RUNNING;
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
quiet_timeout(CaSink *sink)
{
	static XLogRecPtr before;
	bool moved = before != ca_tap_read_end(sink->session.tap);

	before = ca_tap_read_end(sink->session.tap);
	return moved ? 1000 : ca_arming_timeout(sink);
}

/* Milliseconds until ca_session_step has something to do; -1: only events matter. */
long
ca_session_timeout(CaSink *sink)
{
	long timeout = sink->session.redis ? ca_redis_timeout(sink->session.redis) : -1;

	if (sink->session.phase == CA_PHASE_WAITING)
		return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), sink->session.retry_at);
	if (sink->session.phase != CA_PHASE_RUNNING)
		return timeout;
	timeout = sooner(sooner(timeout, ca_scan_timeout(&sink->scan)), ca_redelete_timeout(sink));
	/* Nothing wakes us when a stalled commit becomes visible. */
	timeout = sooner(timeout, ca_queue_waits() ? 1 : -1);
	return sooner(timeout, quiet_timeout(sink));
}
