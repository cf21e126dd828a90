/*
 * arming.c: for how long fills are admitted, and when somebody may be told that a key is deleted.
 *
 * An arming ends by itself unless it is renewed. Why: a Redis that was replaced without a copy and comes
 * back behind the address still has its memory, armed, and data that go with it. It would admit a value
 * that misses what another Redis deleted meanwhile and a synchronous COMMIT was told about. So
 *
 *	every RENEW_MS	the worker renews, until ARMING_MS from now
 *	a claim on a process that this server did not claim last: for UNTOLD_MS nobody is told of
 *	deliveries (they go on). By then every arming elsewhere has ended.
 *
 * Times in a renewal are Redis's own: the one that an earlier answer carried, plus what passed here since
 * that answer was read, plus ARMING_MS. Whenever it is executed, it ends no later than ARMING_MS after it
 * was sent: a renewal that waited in the socket of a process that was stopped extends nothing. Clocks
 * need to agree on lengths only, to one part in ten; a clock of Redis that goes back is noticed there,
 * beyond a second. Nothing orders anything by these times.
 *
 * Which process was claimed last is known by its nonce. The file of breaker.c keeps it, written before
 * fills are admitted, so that neither a worker nor a server that was started again has to wait. One that
 * was promoted has, and so has one whose file is a copy, or cannot be written.
 *
 * Not covered: an old primary that goes on renewing an old Redis behind a partition, both of which then
 * come back behind the address.
 *
 * Of the worker alone.
 */
#include "cache_aside.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "portability/instr_time.h"

#define RENEW_MS 2000
#define ARMING_MS 5000
#define UNTOLD_MS                                                                                  \
	(ARMING_MS + ARMING_MS / 10 + 1000) /* lengths to a tenth, a clock that went back */

static double
ms_since(instr_time then)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, then);
	return INSTR_TIME_GET_MILLISEC(now);
}

static void
set_clock(CaSink *sink, int64 time_of_redis)
{
	sink->arming.redis_ms = time_of_redis;
	INSTR_TIME_SET_CURRENT(sink->arming.known_since);
}

/* Nobody was ever told of anything by a server that claims for the first time, on an empty Redis. */
void
ca_arming_claimed(CaSink *sink, const CaClaim *claim)
{
	XLogRecPtr end;
	TimeLineID timeline = ca_wal_timeline(&end);
	bool never;

	set_clock(sink, claim->now);
	sink->arming.foreign_heard = 0;
	sink->arming.to_tell = false;
	INSTR_TIME_SET_CURRENT(sink->arming.claimed_at);
	sink->arming.renewed_at = sink->arming.claimed_at;
	(void) ca_breaker_claimed(timeline, &never);
	never = never && timeline == 1 && !claim->found && claim->guard_timeline == 0;
	sink->arming.untold = !claim->same && !never;
	ca_breaker_note_claim(ca_guard_nonce(sink), timeline);
}

const char *
ca_arming_previous(void)
{
	XLogRecPtr end;
	bool never;

	return ca_breaker_claimed(ca_wal_timeline(&end), &never);
}

int64
ca_arming_until(CaSink *sink)
{
	return sink->arming.redis_ms + (int64) ms_since(sink->arming.known_since) + ARMING_MS;
}

/* Of arm and renew. */
void
ca_arming_answered(CaSink *sink, const CaArming *answer)
{
	set_clock(sink, answer->now);
	if (!answer->renewed || answer->foreign == sink->arming.foreign_heard)
		return;
	sink->arming.foreign_heard = answer->foreign;
	sink->arming.heard_end = ca_wal_mark();
	sink->arming.to_tell = true;
}

/*
 * How many deletions of another system are past: no token given before we heard of them is at `above`. It
 * is for what is visible here or was replayed by a standby, hence below a record that was written since.
 */
int64
ca_arming_heard(CaSink *sink, XLogRecPtr read_end, XLogRecPtr *above)
{
	*above = sink->arming.heard_end;
	return read_end >= sink->arming.heard_end ? sink->arming.foreign_heard : 0;
}

/* Milliseconds until a renewal is due. One that is overdue has nothing to renew. */
long
ca_arming_timeout(CaSink *sink)
{
	double left = RENEW_MS - ms_since(sink->arming.renewed_at);

	return left > 0 ? (long) left + 1 : RENEW_MS / 2;
}

/* Whoever waits for us to have heard of a deletion waits for the next renewal. */
bool
ca_arming_renewal_due(CaSink *sink, XLogRecPtr read_end)
{
	if (ms_since(sink->arming.renewed_at) < RENEW_MS &&
		!(sink->arming.to_tell && read_end >= sink->arming.heard_end))
		return false;
	sink->arming.to_tell &= read_end < sink->arming.heard_end;
	INSTR_TIME_SET_CURRENT(sink->arming.renewed_at);
	return true;
}

bool
ca_arming_untold(CaSink *sink)
{
	if (sink->arming.untold && ms_since(sink->arming.claimed_at) >= UNTOLD_MS)
		sink->arming.untold = false;
	return sink->arming.untold;
}
