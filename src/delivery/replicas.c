/*
 * replicas.c: a synchronous commit that also waits for replicas of Redis (redis_min_replicas).
 *
 * A session whose keys the master has deleted is held back (sync.c) under the number of the next WAIT on this connection.
 * WAIT answers with the number of replicas that have everything which this connection wrote before it; when these are
 * enough, those under its number and below go on. Answers come in order: the WAIT that is sent right behind a batch, in the
 * same write, covers it, and costs one more way to the replicas and back.
 *
 * Why on this connection. What WAIT covers is what its own connection did, of the process that it is connected to. Another
 * connection would have to write something itself, later, and behind a proxy could end at another server. But WAIT blocks
 * the connection that it is on, and batches behind it with it. So there is one at a time, only while somebody waits, for
 * WAIT_MS; an idle Redis looks at its time-outs ten times a second, which makes that up to 100 ms. After one that was in
 * vain the next comes after four times as long as it took: with every replica gone, deliveries are held up for a fifth of
 * the time. With them there it is for as long as they need to acknowledge.
 *
 * What can fail: too few replicas, for as long as it lasts: those who wait end with their time-out's WARNING. WAIT
 * forbidden: the same, said once. The connection is lost: what was held back is asked for again by the next session
 * (ca_sync_connecting), for the master may be another.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/sync.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "utils/timestamp.h"

#define WAIT_MS 5
#define REST_TIMES 4
#define FORBIDDEN_REST_MS 1000

/* Under which a batch that is sent now is held back */
uint64
ca_replicas_number(CaSink *sink)
{
	return sink->replicas.answered + (sink->replicas.waiting ? 2 : 1);
}

static void
rest(CaSink *sink, int ms)
{
	sink->replicas.not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

static void
note_refusal(CaSink *sink, const CaReply *reply)
{
	Size len;

	rest(sink, FORBIDDEN_REST_MS);
	if (!sink->replicas.told)
		ereport(LOG, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					  errmsg("cache_aside cannot wait for replicas of Redis: %s",
							 ca_redis_reply_text(reply, &len)),
					  errdetail("Synchronous commits end with the warning of their time-out."),
					  errhint("Permit WAIT, or set cache_aside.redis_min_replicas to 0.")));
	sink->replicas.told = true;
}

static void
handle_wait(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;

	if (reply == NULL)
		return;
	sink->replicas.waiting = false;
	sink->replicas.answered++;
	if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		note_refusal(sink, reply);
		return;
	}
	sink->replicas.told = false;
	if (ca_redis_reply_type(reply) == CA_REPLY_INTEGER &&
		ca_redis_reply_integer(reply) >= guc_redis_min_replicas)
		ca_sync_replicated(sink->replicas.answered, sink->replicas.confirmed);
	else
		rest(sink, (int) (Max(GetCurrentTimestamp() - sink->replicas.sent_at, 1000 * WAIT_MS) *
						  REST_TIMES / 1000));
}

static void
send_wait(CaSink *sink, CaRedis *redis, XLogRecPtr confirmed)
{
	char count[12];
	char ms[12];
	const char *argv[] = {"WAIT", count, ms};
	size_t len[3] = {4};

	len[1] = snprintf(count, sizeof(count), "%d", guc_redis_min_replicas);
	len[2] = snprintf(ms, sizeof(ms), "%d", WAIT_MS);
	sink->replicas.waiting = true;
	sink->replicas.sent_at = GetCurrentTimestamp();
	sink->replicas.confirmed = confirmed;
	ca_redis_send(redis, lengthof(argv), argv, len, handle_wait, sink);
}

/* A new session: nothing that the one before sent is answered any more. */
void
ca_replicas_begin(CaSink *sink)
{
	sink->replicas.answered += sink->replicas.waiting;
	sink->replicas.waiting = false;
	sink->replicas.not_before = 0;
	ca_sync_hold(guc_redis_min_replicas > 0);
}

/*
 * Once in a round, when what it has to cover is sent: batches that are not answered, and those up to `confirmed`, which
 * are.
 */
void
ca_replicas_step(CaSink *sink, CaRedis *redis, bool unanswered, XLogRecPtr confirmed)
{
	ca_sync_hold(guc_redis_min_replicas > 0);
	if (guc_redis_min_replicas > 0 && !sink->replicas.waiting &&
		(ca_sync_held() || (ca_sync_active() && unanswered)) &&
		GetCurrentTimestamp() >= sink->replicas.not_before)
		send_wait(sink, redis, confirmed);
}

/* ms until there is something to do; -1: nothing */
long
ca_replicas_timeout(CaSink *sink)
{
	if (sink->replicas.waiting || !ca_sync_held())
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), sink->replicas.not_before);
}
