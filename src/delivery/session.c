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

#include "access/transam.h"
#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FENCED_RETRY 5000
#define REFUSED_RETRY 1000
#define READ_BUDGET (1024 * 1024)

typedef enum Phase
{
	WAITING,
	OPENING,
	CLAIMING,
	RUNNING
} Phase;

static Phase phase = WAITING;
static TimeLineID session_timeline;
static MemoryContext session_cxt;
static CaRedis *redis;
static CaTap *tap;
static TimestampTz retry_at; /* in WAITING and FOLLOWING */

/* Of this session */
static bool resync_due;      /* begins when caught up, and is not over */
static uint64 resync_ticket; /* 0: none is awaited */
static CaResume resume;
static bool log_gone;           /* survives the session that found it */
static uint64 keys_before;      /* delivered by earlier sessions */
static bool caught_up;          /* read to the end that was current after connecting */
static XLogRecPtr catch_up_to;  /* that end */
static XLogRecPtr caught_up_to; /* how far we had read then, to the end of a record */
static XLogRecPtr looked_at;    /* end of what was read at the last look for what is visible */

/* ---- the end of a session ---- */

static void
close_session(void)
{
	if (phase == RUNNING)
		ca_lag_note(caught_up); /* while it is known */
	ca_redis_close(redis);
	redis = NULL;
	ca_status_now.settled = false;
	ca_resync_interrupted();
	ca_redelete_interrupted();
	ca_delivery_reset();
	ca_scan_reset();
	ca_tap_close(tap);
	tap = NULL;
	if (session_cxt)
		MemoryContextReset(session_cxt);
	ca_breaker_end(); /* nothing, if reading did not begin */
	phase = WAITING;
}

static void
retry_in(int ms)
{
	retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Redis is gone, refuses, or is not what it was: begin again after a while. */
static void
fail_session(const char *why)
{
	char reason[256];

	strlcpy(reason, why, sizeof(reason));
	if (phase == RUNNING)
	{
		ca_resume_remember(ca_handshake_result(), ca_delivery_position());
		ca_status_now.retries++;
	}
	close_session();
	retry_in(ca_outage_begin(reason));
	ca_ping_refuse();
}

/*
 * A connection is no delivery: a Redis that is full or read only accepts every login. The outage
 * ends, and the back-off with it, when keys were acknowledged or none are left.
 */
static void
note_healthy(void)
{
	if (ca_status_now.keys != keys_before || (caught_up && ca_delivery_idle()))
		ca_outage_end();
}

/* Another server delivers here by now; ask again once in a while. */
static void
be_fenced(void)
{
	close_session();
	ca_outage_fenced();
	retry_in(FENCED_RETRY);
}

/* Another server delivers here and lives; ask again until it is silent. */
static void
be_refused(void)
{
	char why[256];

	strlcpy(why, ca_handshake_error(), sizeof(why));
	close_session();
	ca_outage_refused(why);
	retry_in(REFUSED_RETRY);
}

static void
begin_running(void)
{
	CaHandshake *claimed = ca_handshake_result();
	const CaPosition *position = &resume.position;

	CA_DEBUG_POINT("claimed");
	ca_resume_choose(&resume, claimed, log_gone);
	if (resume.fenced)
	{
		be_fenced();
		return;
	}
	if (ca_breaker_begin(&resume.found, resume.position.sequence))
		ca_resume_skip(&resume);
	if (resume.nonsense)
		ca_handshake_drop_nonsense();
	resync_due = resume.reason != NULL;
	resync_ticket = 0;
	ca_prepared_look(resume.nonsense);
	ca_open_at_start_begin(position);
	log_gone = false;
	if (CA_DEBUG_SKIP("position"))
	{
		ca_wal_timeline(&resume.position.restart);
		resume.position.confirmed = resume.position.restart;
	}
	tap = ca_tap_open(session_cxt, position->restart, position->confirmed,
					  XidFromFullTransactionId(FullTransactionIdFromU64(position->barrier)));
	ca_delivery_start(tap, redis, position, claimed->stored);
	session_timeline = ca_wal_timeline(&catch_up_to);
	ca_lost_sticks_begin(claimed->stored[0] == '\0', catch_up_to);
	caught_up = false;
	looked_at = InvalidXLogRecPtr;
	phase = RUNNING;
	ca_status_redis_state("connected");
	ca_status_state("catching up");
	if (!ca_outage_lasts())
		ca_sync_available();
	keys_before = ca_status_now.keys;
}

/* ---- running ---- */

/*
 * Everything that was in the log when we connected has been read: a resync may begin now, because
 * what it deletes cannot come back from a commit we have not seen.
 */
static void
note_caught_up(void)
{
	caught_up = true;
	caught_up_to = ca_tap_read_end(tap);
	CA_DEBUG_POINT("caught-up");
	if (resume.unless_clean && ca_tap_clean_switch(tap))
	{
		ereport(LOG,
				(errmsg("cache_aside needs no resync: the old primary was shut down cleanly")));
		resume.scope = CA_VISIT_UNLOGGED;
		ca_delivery_mark(CA_POSITION_UNLOGGED, ca_delivery_barrier());
	}
	if (resume.after_promotion)
		ca_delivery_raise_floor(true); /* the buckets may hold LSNs beyond the fork */
}

static void
request_resync(TransactionId oldest_running)
{
	if (!caught_up || !resync_due || resync_ticket != 0)
		return;
	ca_open_at_start_resync_begins(oldest_running);
	resync_ticket = ca_resync_request(resume.scope, resume.reason);
}

/* Guarded fills are admitted when nothing that may have been lost is undelivered. */
static void
arm_if_due(void)
{
	if (caught_up && !resync_due && ca_apply_guarded() && !ca_contest_second())
		ca_delivery_arm(caught_up_to);
}

/* Pending until the resync ended; a barrier until every transaction it is about has. */
static void
note_progress(TransactionId oldest_running)
{
	uint64 barrier = ca_delivery_barrier();
	bool resynced = resync_ticket && ca_resync_done() >= resync_ticket;
	bool again = false;
	bool passed =
		caught_up && ca_open_at_start_passed(ca_tap_read_end(tap), oldest_running, &again);

	if (!resynced && !passed)
		return;
	if (resynced)
	{
		resync_ticket = 0;
		resync_due = false;
		ca_delivery_cover(&resume.keyspace);
	}
	if (passed)
		ca_tap_lift_barrier(tap);
	if (again)
	{
		resync_due = true;
		resume.scope = CA_VISIT_ALL;
		resync_ticket = ca_resync_request(
			CA_VISIT_ALL, "transactions that were open when it began to read have ended");
	}
	ca_delivery_mark(resync_due ? ca_resume_state(&resume) : CA_POSITION_OK, passed ? 0 : barrier);
}

static const char *
session_error(void)
{
	if (ca_redis_state(redis) == CA_REDIS_FAILED)
		return ca_redis_error(redis);
	return ca_delivery_error() ? ca_delivery_error() : ca_scan_error();
}

static bool
read_log(void)
{
	CaTapResult result = CA_TAP_MORE;
	uint64 forgot;

	if (ca_queue_full())
		return false;
	result = ca_tap_read(tap, READ_BUDGET, ca_queue_add, NULL);
	if ((forgot = ca_tap_forgot(tap)) != 0)
		ca_open_at_start_raise(forgot);
	if (result == CA_TAP_GAP)
		log_gone = true;
	/* The flush LSN may lie inside a record; then the end of the log is as far as one can read. */
	if (!caught_up && !ca_wal_ends_before(resume.position.confirmed) &&
		(result == CA_TAP_END || (result == CA_TAP_MORE && ca_tap_read_end(tap) >= catch_up_to)) &&
		ca_resume_verified(&resume, &log_gone))
		note_caught_up();
	return result == CA_TAP_MORE;
}

/* 0: no token. Blind start: those who are open may have messages which nobody will ever read. */
static TimeLineID
token_timeline(void)
{
	bool none = ca_delivery_position()->barrier != 0 || ca_delivery_barrier() != 0 ||
				ca_wal_ends_before(ca_tap_read_end(tap));

	return none ? 0 : session_timeline;
}

/* One round: read, look, send. Returns true if there is more to do at once. */
static bool
run(void)
{
	TransactionId oldest_running = InvalidTransactionId;
	XLogRecPtr visible;
	bool more = CA_DEBUG_SKIP("read") ? false : read_log();
	int sent;

	CA_DEBUG_POINT("log-read");
	if (log_gone)
	{
		ca_breaker_gap();
		fail_session("the log that had to be delivered next is gone");
		retry_in(0);
		return true;
	}
	visible = ca_tap_read_end(tap);
	if (ca_queue_waits() || ca_delivery_barrier() != 0 || visible != looked_at)
	{
		TimeLineID timeline = token_timeline();

		looked_at = timeline == 0 ? InvalidXLogRecPtr : visible;
		visible = ca_queue_look(visible, timeline, &oldest_running);
	}
	request_resync(oldest_running);
	if (caught_up)
		ca_resync_step();
	sent = ca_delivery_send();
	ca_redelete_step(redis);
	if (ca_scan_begins())
		ca_delivery_raise_floor(false);
	ca_scan_step(redis);
	arm_if_due();
	ca_delivery_renew();
	note_progress(oldest_running);
	ca_delivery_heartbeat(pg_atomic_read_u32(&ca_status_shared->waiters) > 0);
	more |= ca_delivery_tell();
	ca_ping_send(redis);
	ca_breaker_progress(ca_delivery_position(), caught_up && ca_delivery_idle(),
						resync_due || ca_resync_running() || ca_census_running());
	ca_lag_publish(ca_tap_read_end(tap), visible, caught_up ? caught_up_to : InvalidXLogRecPtr);
	return more || sent > 0;
}

static bool
deliver(void)
{
	bool more;
	const char *error;

	ca_redis_advance(redis); /* answers first: they make room */
	if ((error = session_error()) != NULL)
	{
		fail_session(error);
		return false;
	}
	note_healthy();
	more = run();
	if (phase == RUNNING)
		ca_redis_advance(redis); /* and write what the round queued */
	return more;
}

/* ---- phases ---- */

static void
open_session(void)
{
	char *endpoint = ca_redis_url_endpoint();

	strlcpy(ca_status_now.endpoint, endpoint, sizeof(ca_status_now.endpoint));
	pfree(endpoint);
	if (session_cxt == NULL)
		session_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside session", ALLOCSET_DEFAULT_SIZES);
	redis = ca_redis_open(session_cxt, "cache_aside worker");
	ca_status_redis_state("connecting");
	ca_status_now.reconnects++;
	phase = OPENING;
}

static void
advance_claim(void)
{
	switch (ca_handshake_step())
	{
		case CA_HANDSHAKE_WAITING:
			ca_redis_advance(redis);
			break;
		case CA_HANDSHAKE_FAILED:
			fail_session(ca_handshake_error());
			break;
		case CA_HANDSHAKE_FENCED:
			be_fenced();
			break;
		case CA_HANDSHAKE_OCCUPIED:
			be_refused();
			break;
		case CA_HANDSHAKE_DONE:
			begin_running();
			break;
	}
}

static void
advance_opening(void)
{
	CaRedisState state = ca_redis_advance(redis);

	if (state == CA_REDIS_FAILED)
		fail_session(ca_redis_error(redis));
	else if (phase == OPENING && state == CA_REDIS_READY)
	{
		ca_handshake_begin(redis);
		phase = CLAIMING;
		ca_redis_advance(redis);
	}
	else if (phase == CLAIMING)
		advance_claim();
}

/* We were promoted, or followed a promotion, while delivering: claim Redis for the new timeline. */
static bool
timeline_changed(void)
{
	XLogRecPtr end;

	return phase == RUNNING && ca_wal_timeline(&end) != session_timeline;
}

/* One step, never blocking. True: call again at once. */
bool
ca_session_step(void)
{
	if (ca_contest_step() || timeline_changed())
		ca_session_close();
	if (phase == RUNNING)
		return deliver();
	if (phase == WAITING)
	{
		ca_ping_refuse();
		if (GetCurrentTimestamp() < retry_at)
			return ca_lag_look();
		open_session();
	}
	advance_opening();
	return phase == RUNNING;
}

/* Takes answers, and does nothing else: the next step judges what came. */
void
ca_session_listen(void)
{
	if (phase == RUNNING)
		ca_redis_advance(redis);
}

/* Settings changed, or the server stops: begin again at the next step. */
void
ca_session_close(void)
{
	if (phase == RUNNING)
		ca_resume_remember(ca_handshake_result(), ca_delivery_position());
	close_session();
	retry_at = 0;
}

CaRedis *
ca_session_redis(void)
{
	return redis;
}

/* Is everything that is flushed by now delivered and acknowledged? */
bool
ca_session_settled(void)
{
	XLogRecPtr end;

	ca_wal_timeline(&end);
	return phase == RUNNING && ca_delivery_idle() && ca_tap_read_end(tap) >= end;
}

bool
ca_session_running(void)
{
	return phase == RUNNING;
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
quiet_timeout(void)
{
	static XLogRecPtr before;
	bool moved = before != ca_tap_read_end(tap);

	before = ca_tap_read_end(tap);
	return moved ? 1000 : ca_arming_timeout();
}

/* Milliseconds until ca_session_step has something to do; -1: only events matter. */
long
ca_session_timeout(void)
{
	long timeout = redis ? ca_redis_timeout(redis) : -1;

	if (phase == WAITING)
		return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), retry_at);
	if (phase != RUNNING)
		return timeout;
	timeout = sooner(sooner(timeout, ca_scan_timeout()), ca_redelete_timeout());
	/* Nothing wakes us when a stalled commit becomes visible. */
	timeout = sooner(timeout, ca_queue_waits() ? 1 : -1);
	return sooner(timeout, quiet_timeout());
}
