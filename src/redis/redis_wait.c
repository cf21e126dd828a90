/*
 * redis_wait.c: a backend waits for its own connection.
 *
 * The worker has a WaitEventSet and many things to watch; a backend that asked Redis something has
 * nothing else to do, but must still answer interrupts. It may be cancelled or terminated at any
 * turn of the loop; then, and when the time is up, the connection is useless: answers to come belong
 * to handlers whose arguments may be gone with the caller's stack. So it is made FAILED.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_connection.h"
#include "redis/redis_private.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

static void
wait_for(CaRedis *redis, long timeout, uint32 wait_event)
{
	pgsocket sockets[CA_MOST_SOCKETS];
	int n = ca_redis_sockets(redis, sockets);

	ca_redis_wait_set_make(&redis->waits, redis->cxt, sockets, n, ca_redis_generation(redis));
	ca_redis_wait_set_wait(&redis->waits, ca_redis_events(redis), timeout, wait_event);
}

/* Waits once, at most `limit` ms (-1: as the connection says). */
static void
wait_once(CaRedis *redis, long limit, uint32 wait_event)
{
	long timeout = ca_redis_timeout(redis);

	if (timeout < 0 || (limit >= 0 && limit < timeout))
		timeout = limit;
	wait_for(redis, timeout, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
wait_done(CaRedis *redis, long timeout_ms, uint32 wait_event)
{
	TimestampTz start = GetCurrentTimestamp();

	for (;;)
	{
		CaRedisState state = ca_redis_advance(redis);
		long left = -1;

		if (state == CA_REDIS_FAILED)
			return false;
		if (state == CA_REDIS_READY && ca_redis_in_flight(redis) == 0)
			return true;
		if (timeout_ms >= 0)
		{
			left = timeout_ms - TimestampDifferenceMilliseconds(start, GetCurrentTimestamp());
			if (left <= 0)
			{
				ca_redis_connection_fail(redis, "no answer from Redis for %ld ms", timeout_ms);
				ca_redis_advance(redis); /* the handlers get their NULL */
				return false;
			}
		}
		wait_once(redis, left, wait_event);
	}
}

bool
ca_redis_wait(CaRedis *redis, long timeout_ms, uint32 wait_event)
{
	bool done = false;

	ca_redis_begin_wait(redis);
	PG_TRY();
	{
		done = wait_done(redis, timeout_ms, wait_event);
	}
	PG_CATCH();
	{
		ca_redis_abandon(redis, "interrupted");
		PG_RE_THROW();
	}
	PG_END_TRY();
	return done;
}
