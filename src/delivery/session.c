/*
 * session.c: one connection to Redis, from opening it to its end.
 *
 * Phases: WAITING (back-off) -> FINDING (watch.c) -> OPENING -> CLAIMING (handshake.c) -> CLAIMED -> RUNNING, which
 * run.c begins when every sink is claimed. Any failure ends the session; everything sent is forgotten and read again by the
 * next one, so there is one way to recover and it is used every time. If we die between any two lines, the
 * next session finds the position of the last batch that Redis applied.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/disarm.h"
#include "delivery/redelete.h"
#include "delivery/sink.h"
#include "delivery/watch.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FENCED_RETRY 5000
#define REFUSED_RETRY 1000

/* ---- the end of a session ---- */

/* Settings changed, or the server stops: begin again at the next step. */
void
ca_session_close(CaSink *sink)
{
	if (sink->session.phase == CA_PHASE_RUNNING)
		ca_resume_remember(sink, ca_handshake_result(sink), ca_ledger_acked(sink));
	ca_redis_close(sink->session.redis);
	sink->session.redis = NULL;
	ca_ledger_reset(sink);
	ca_events_session_ended(sink);
	ca_endpoint_progress(&sink->endpoint, 0, sink->endpoint.acknowledged);
	ca_scan_reset(&sink->scan);
	if (sink->session.cxt)
		MemoryContextReset(sink->session.cxt);
	sink->session.phase = CA_PHASE_WAITING;
	sink->session.retry_at = 0;
	sink->session.awaits = false;
}

static void
retry_in(CaSink *sink, int ms)
{
	sink->session.retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Redis is gone, refuses, or is not what it was: begin again after a while. */
void
ca_session_fail(CaSink *sink, const char *why)
{
	char reason[256];

	strlcpy(reason, why, sizeof(reason));
	ca_session_close(sink);
	retry_in(sink, ca_outage_begin(sink, reason));
}

/* Another server delivers here by now; ask again once in a while. */
void
ca_session_fence(CaSink *sink)
{
	ca_session_close(sink);
	ca_outage_fenced(sink);
	retry_in(sink, FENCED_RETRY);
}

/* Another server delivers here and lives; ask again until it is silent. */
static void
be_refused(CaSink *sink)
{
	char why[256];

	strlcpy(why, ca_handshake_error(sink), sizeof(why));
	ca_session_close(sink);
	ca_outage_refused(sink, why);
	retry_in(sink, REFUSED_RETRY);
}

/* ---- phases ---- */

/* Where is the master? True: it is known. */
static bool
find_master(CaSink *sink)
{
	if (ca_watch_moved(&sink->watch))
		sink->outage.backoff = 0; /* that was the other's */
	sink->session.phase = CA_PHASE_FINDING;
	switch (ca_watch_find(&sink->watch, &sink->session.address))
	{
		case CA_WATCH_WAITS:
			return false;
		case CA_WATCH_BAD:
			ca_session_fail(sink, ca_watch_problem());
			return false;
		case CA_WATCH_GOOD:
			break;
	}
	return true;
}

static void
open_session(CaSink *sink)
{
	char *endpoint = ca_redis_address_endpoint(&sink->session.address);

	ca_endpoint_name(&sink->endpoint, endpoint);
	pfree(endpoint);
	if (sink->session.cxt == NULL)
		sink->session.cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside session", ALLOCSET_DEFAULT_SIZES);
	sink->session.redis =
		ca_redis_open(sink->session.cxt, &sink->session.address, "cache_aside worker");
	ca_endpoint_state(&sink->endpoint, "connecting");
	ca_status_count(CA_COUNT_RECONNECTS, 1);
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
			ca_session_fail(sink, ca_handshake_error(sink));
			break;
		case CA_HANDSHAKE_FENCED:
			ca_session_fence(sink);
			break;
		case CA_HANDSHAKE_OCCUPIED:
			be_refused(sink);
			break;
		case CA_HANDSHAKE_DONE:
			sink->session.phase = CA_PHASE_CLAIMED;
			break;
	}
}

/* May a connection be made? It may have to wait for a credential, or fail for want of one. */
static bool
may_open(CaSink *sink)
{
	CaCredentialState state = ca_credential_command_ready();

	if (state == CA_CREDENTIAL_LACKING)
		ca_session_fail(sink, ca_credential_command_error());
	sink->session.awaits = state == CA_CREDENTIAL_AWAITED;
	return state == CA_CREDENTIAL_READY;
}

static void
begin_claim(CaSink *sink)
{
	switch (ca_watch_ask_role(&sink->watch, sink->session.redis))
	{
		case CA_WATCH_WAITS:
			break;
		case CA_WATCH_BAD:
			ca_session_fail(sink, ca_watch_problem());
			break;
		case CA_WATCH_GOOD:
			ca_handshake_begin(sink, sink->session.redis);
			sink->session.phase = CA_PHASE_CLAIMING;
			ca_redis_advance(sink->session.redis);
			break;
	}
}

/* One step until it is claimed, never blocking. */
void
ca_session_step(CaSink *sink)
{
	CaRedisState state;

	if (ca_session_rests(sink))
		return;
	if (sink->session.phase <= CA_PHASE_FINDING)
	{
		if (!may_open(sink) || !find_master(sink))
			return;
		open_session(sink);
	}
	state = ca_redis_advance(sink->session.redis);
	if (state == CA_REDIS_FAILED)
		ca_session_fail(sink, ca_redis_error(sink->session.redis));
	else if (sink->session.phase == CA_PHASE_OPENING && state == CA_REDIS_READY)
		begin_claim(sink);
	else if (sink->session.phase == CA_PHASE_CLAIMING)
		advance_claim(sink);
}

bool
ca_session_waits(CaSink *sink)
{
	return sink->session.phase == CA_PHASE_WAITING;
}

bool
ca_session_rests(CaSink *sink)
{
	if (!ca_session_waits(sink) || ca_watch_moved(&sink->watch))
		return false;
	if (sink->session.awaits)
		return ca_credential_command_ready() == CA_CREDENTIAL_AWAITED;
	return GetCurrentTimestamp() < sink->session.retry_at;
}

bool
ca_session_claimed(CaSink *sink)
{
	return sink->session.phase == CA_PHASE_CLAIMED;
}

/* ---- running ---- */

void
ca_session_run(CaSink *sink, const CaPosition *position, XLogRecPtr end)
{
	const CaHandshake *claimed = ca_handshake_result(sink);

	ca_delivery_start(sink, sink->session.redis, position, claimed->stored);
	ca_lost_sticks_begin(sink, claimed->stored[0] == '\0', end);
	sink->scan.served = ca_events_note_pattern;
	sink->scan.served_arg = sink;
	sink->session.phase = CA_PHASE_RUNNING;
	ca_endpoint_state(&sink->endpoint, "connected");
}

bool
ca_session_running(CaSink *sink)
{
	return sink->session.phase == CA_PHASE_RUNNING;
}

void
ca_session_advance(CaSink *sink)
{
	ca_redis_login_again(sink->session.redis);
	ca_watch_advance(&sink->watch, sink->session.redis);
}

/* Nothing is sent there, or taken, until Sentinels have said that it is the master. */
bool
ca_session_held(CaSink *sink)
{
	return ca_session_running(sink) && sink->watch.held;
}

/* Another is the master by now. The one that was is told. */
bool
ca_session_moved(CaSink *sink)
{
	if (sink->session.phase < CA_PHASE_OPENING || !ca_watch_moved(&sink->watch))
		return false;
	if (ca_session_running(sink))
		ca_disarm_begin(sink, &sink->session.address);
	return true;
}

const char *
ca_session_error(CaSink *sink)
{
	if (ca_redis_state(sink->session.redis) == CA_REDIS_FAILED)
		return ca_redis_error(sink->session.redis);
	return ca_ledger_error(sink) ? ca_ledger_error(sink) : ca_scan_error(&sink->scan);
}

/*
 * A connection is no delivery: a Redis that is full or read only accepts every login. The outage
 * ends, and the back-off with it, when keys were acknowledged or none are left.
 */
bool
ca_session_healthy(CaSink *sink, bool caught_up)
{
	return ca_ledger_began(sink) || ca_scan_deleted(&sink->scan) ||
		   (caught_up && ca_ledger_idle(sink));
}

CaRedis *
ca_session_redis(CaSink *sink)
{
	return sink->session.redis;
}

static long
sooner(long a, long b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Milliseconds until there is something to do on this connection; -1: only events matter. */
long
ca_session_timeout(CaSink *sink)
{
	bool steps = sink->session.redis && !ca_session_held(sink);
	long timeout = steps ? ca_redis_timeout(sink->session.redis) : -1;

	if (sink->session.awaits)
		return -1; /* what the command does is an event */
	if (ca_session_waits(sink))
		return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), sink->session.retry_at);
	if (!ca_session_running(sink))
		return timeout;
	timeout = sooner(timeout, ca_replicas_timeout(sink));
	if (!ca_delivery_full(sink))
		timeout = sooner(timeout, ca_events_timeout(sink));
	if (ca_events_full(sink)) /* they wait for that */
		return timeout;
	return sooner(sooner(timeout, ca_scan_timeout(&sink->scan)), ca_redelete_timeout(sink));
}
