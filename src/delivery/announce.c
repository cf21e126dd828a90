/*
 * announce.c: a standby that streams says so in Redis, so that it is taken for the successor it may become.
 *
 *	cache_aside:standby:<system>:<id>	the timeline that it streams; expires after EXPIRY_MS
 *
 * Written each ANNOUNCE_MS over the connection of followed.c, once the walreceiver has streamed for
 * STREAMING_MS, with the id of this server. When it is promoted, its claim names the key, and the library
 * compares the timeline with that of the claim it takes: a standby of a clone streams another one.
 *
 * The id is random and lives in shared memory: a copy of the data directory has another one, and so has
 * this server after a restart. Whoever can write keys of cache_aside:* can write any announcement, and
 * much else; applications cannot (docs/operations.md, "Users in Redis").
 *
 * This, and the position of a server that delivers to a Redis before 7, is what an idle server writes.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "access/xlog.h"
#include "common/pg_prng.h"
#include "replication/walreceiver.h"
#include "utils/timestamp.h"

#define ANNOUNCE_MS 3000
#define STREAMING_MS 5000
#define EXPIRY_MS "10000"

/* Of the walreceiver; when it was said, and where, is the sink's. */
static TimestampTz streaming_since; /* 0: it does not */
static TimeLineID streamed;

const char *
ca_announce_key(void)
{
	static char key[96];

	snprintf(key, sizeof(key), "cache_aside:standby:" UINT64_FORMAT ":%s", GetSystemIdentifier(),
			 ca_status_shared->standby_id);
	return key;
}

/* The timeline that is streamed now; 0: none is. */
static TimeLineID
look(void)
{
	TimeLineID timeline = 0;

	SpinLockAcquire(&WalRcv->mutex);
	if (WalRcv->walRcvState == WALRCV_STREAMING)
		timeline = WalRcv->receivedTLI;
	SpinLockRelease(&WalRcv->mutex);
	return timeline;
}

static void
ignore_answer(void *arg, const CaReply *reply)
{
}

/* Called about once a second, with a connection that is ready. */
void
ca_announce_step(CaSink *sink, CaRedis *redis)
{
	TimestampTz now = GetCurrentTimestamp();
	TimeLineID timeline = look();
	char value[16];
	const char *argv[] = {"SET", ca_announce_key(), value, "PX", EXPIRY_MS};
	size_t len[lengthof(argv)];

	if (timeline == 0 || timeline != streamed || now < streaming_since)
	{
		streaming_since = now;
		streamed = timeline;
	}
	if (timeline == 0 || !TimestampDifferenceExceeds(streaming_since, now, STREAMING_MS) ||
		(now >= sink->announce.announced_at &&
		 !TimestampDifferenceExceeds(sink->announce.announced_at, now, ANNOUNCE_MS)))
		return;
	sink->announce.announced_at = now;
	snprintf(value, sizeof(value), "%u", timeline);
	for (int i = 0; i < lengthof(argv); i++)
		len[i] = strlen(argv[i]);
	ca_redis_send(redis, lengthof(argv), argv, len, ignore_answer, NULL);
}
