/*
 * arming.c: for how long fills are admitted, and when somebody may be told that a key is deleted.
 *
 * An arming ends by itself unless it is renewed. Why: a Redis that was replaced without a copy and comes
 * back behind the address still has its memory, armed, and data that go with it. It would admit a value
 * that misses what another Redis deleted meanwhile and a synchronous COMMIT was told about. So
 *
 *	every RENEW_MS	the worker renews, until ARMING_MS from now
 *	a claim on a process that this server did not claim last: nobody is told of deliveries (they go on)
 *	until every arming elsewhere has ended: UNTOLD_MS after the last one was sent there, as far as this
 *	worker knows, else after the claim. A process that answers that it admits nothing more (disarm.c)
 *	is waited for no longer.
 *
 * So a fail-over that itself took that long costs nothing, and a master that is handed over by its living
 * predecessor next to nothing. To connect once more changes nothing: what is waited for goes on, and the file of
 * breaker.c tells the next worker that nobody was told yet. That one does not know since when, and waits from its claim.
 *
 * Times in a renewal are Redis's own: the one that an earlier answer carried, plus what passed here since
 * that answer was read, plus ARMING_MS. Whenever it is executed, it ends no later than ARMING_MS after it
 * was sent: a renewal that waited in the socket of a process that was stopped extends nothing. Clocks
 * need to agree on lengths only, to one part in ten; a clock of Redis that goes back is noticed there,
 * beyond a second. Nothing orders anything by these times.
 *
 * Which process was claimed last is known by its nonce. The file of breaker.c keeps it, written before
 * fills are admitted, so that neither a worker nor a server that was started again has to wait. One that
 * was promoted has, and so has one whose file is a copy, or cannot be written. test/model has all of it
 * ("told ...", "armings ..."), each rule with the harm that it does to leave it out.
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

static int64
now_ms(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

static void
set_clock(CaSink *sink, int64 time_of_redis)
{
	sink->arming.redis_ms = time_of_redis;
	INSTR_TIME_SET_CURRENT(sink->arming.known_since);
}

/* Everything that was armed elsewhere? */
static bool
has_ended(const CaSinkArming *arming)
{
	return now_ms() >= Max(arming->left_end, arming->others_end);
}

/*
 * Another process is claimed than before. `mine`: it was claimed by this worker, which knows when it sent the last
 * arming there; it may have to wait for others before that one, too.
 */
static void
leave(CaSink *sink, bool mine)
{
	CaSinkArming *arming = &sink->arming;
	int64 claimed_elsewhere = mine ? arming->extended_at : now_ms();

	arming->others_end = Max(arming->others_end, arming->left_end);
	arming->left_end = claimed_elsewhere ? claimed_elsewhere + UNTOLD_MS : 0;
	strlcpy(arming->left, mine ? arming->nonce : "", sizeof(arming->left));
	arming->extended_at = 0;
}

/* Nobody was ever told of anything by a server that claims for the first time, on an empty Redis. */
void
ca_arming_claimed(CaSink *sink, const CaClaim *claim)
{
	CaSinkArming *arming = &sink->arming;
	XLogRecPtr end;
	TimeLineID timeline = ca_wal_timeline(&end);
	bool never;
	bool mine =
		arming->nonce[0] && strcmp(ca_breaker_claimed(timeline, &never), arming->nonce) == 0;

	set_clock(sink, claim->now);
	arming->foreign_heard = 0;
	arming->to_tell = false;
	INSTR_TIME_SET_CURRENT(arming->renewed_at);
	(void) ca_breaker_claimed(timeline, &never);
	never = never && timeline == 1 && !claim->found && claim->guard_timeline == 0;
	arming->other = !claim->same && !never;
	if (arming->other || (!mine && ca_breaker_untold()))
		leave(sink, mine);
	strlcpy(arming->nonce, ca_guard_nonce(sink), sizeof(arming->nonce));
	arming->untold = !has_ended(arming);
	ca_breaker_note_claim(arming->nonce, timeline, arming->untold);
}

/* Was the process that is claimed another than that of before? */
bool
ca_arming_other(CaSink *sink)
{
	return sink->arming.other;
}

/* The process that was claimed under this nonce answered that it admits nothing more. */
void
ca_arming_given_up(CaSink *sink, const char *nonce)
{
	if (strcmp(nonce, sink->arming.nonce) == 0)
		sink->arming.extended_at = 0; /* by a session that has ended */
	else if (strcmp(nonce, sink->arming.left) == 0)
		sink->arming.left_end = 0;
}

const char *
ca_arming_previous(void)
{
	XLogRecPtr end;
	bool never;

	return ca_breaker_claimed(ca_wal_timeline(&end), &never);
}

/* Until when, for what is sent now. */
int64
ca_arming_extend(CaSink *sink)
{
	sink->arming.extended_at = now_ms();
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
	if (sink->arming.untold && has_ended(&sink->arming))
	{
		sink->arming.untold = false;
		ca_breaker_note_told();
	}
	return sink->arming.untold;
}
