/*
 * ping.c: round trips to Redis that backends ask for with ping().
 *
 * A backend takes a number (ping_asked) and waits until ping_answered has reached it. The worker
 * sends one PING for all numbers up to now. Without a connection everybody is answered at once, with
 * the last error.
 */
#include "worker/worker.h"
#include "shared/status.h"

#include "utils/timestamp.h"

static uint32 ping_sent; /* highest number the PING under way answers */
static TimestampTz ping_at;

static void
answer(uint32 upto, uint64 us)
{
	pg_atomic_write_u64(&ca_shared->ping_us, us);
	pg_atomic_write_u32(&ca_shared->ping_answered, upto);
	ConditionVariableBroadcast(&ca_shared->progress);
}

void
ca_ping_refuse(void)
{
	uint32 asked = pg_atomic_read_u32(&ca_shared->ping_asked);

	if (pg_atomic_read_u32(&ca_shared->ping_answered) != asked)
		answer(asked, PG_UINT64_MAX);
}

static void
handle_ping(void *arg, const CaReply *reply)
{
	Size len;

	if (reply == NULL)
		return;
	if (ca_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_error(ca_reply_text(reply, &len));
		ca_status_publish();
		answer(ping_sent, PG_UINT64_MAX);
		return;
	}
	answer(ping_sent, GetCurrentTimestamp() - ping_at);
}

/* Answered by the connection that delivers, behind whatever is in its pipeline. */
void
ca_ping_send(CaRedis *redis)
{
	uint32 asked = pg_atomic_read_u32(&ca_shared->ping_asked);
	const char *argv[] = {"PING"};
	size_t len[] = {4};

	if (asked == ping_sent || pg_atomic_read_u32(&ca_shared->ping_answered) == asked)
		return;
	ping_sent = asked;
	ping_at = GetCurrentTimestamp();
	ca_redis_send(redis, 1, argv, len, handle_ping, NULL);
}
