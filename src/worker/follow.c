/*
 * follow.c: a standby that does not deliver, but may have to one day.
 *
 * Two duties. It reads the replayed log and keeps track of what is visible, so that reads on this
 * standby get tokens. And once a second it reads the position from Redis and keeps the log from
 * there on, so that after a promotion nothing is missing that the old primary did not deliver.
 *
 * It writes nothing to Redis but that it streams (announce.c). Redis being away changes nothing but that
 * the log kept is not let go.
 * Everything here is begun anew when it fails; nothing needs to survive it.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "worker/worker.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define READ_BUDGET (1024 * 1024)
#define LOOK_INTERVAL 1000 /* ms between looks at the position, and between connections */

static MemoryContext follow_cxt;
static CaTap *tap;
static CaRedis *redis;
static TimeLineID timeline; /* the tap was opened on */
static uint64 barrier; /* full xid; tokens are given once all below it have ended; 0: they are */
static TimestampTz next_look;
static bool looking;

CaRedis *
ca_follow_redis(void)
{
	return redis;
}

static void
hang_up(void)
{
	ca_redis_close(redis);
	redis = NULL;
	looking = false;
}

void
ca_follow_reconnect(void)
{
	hang_up();
	next_look = 0;
}

void
ca_follow_close(void)
{
	hang_up();
	ca_breaker_end();
	ca_queue_reset();
	ca_tap_close(tap);
	tap = NULL;
	if (follow_cxt)
		MemoryContextReset(follow_cxt);
}

static void
begin(void)
{
	CaPosition place = {0};
	XLogRecPtr start = ca_wal_last_checkpoint(&barrier);
	XLogRecPtr end;

	if (follow_cxt == NULL)
		follow_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside follow", ALLOCSET_DEFAULT_SIZES);
	timeline = ca_wal_timeline(&end);
	place.timeline = timeline;
	place.restart = start;
	if (ca_breaker_begin(&place, 0))
		start = ca_breaker_skip(start, &barrier);
	tap = ca_tap_open(follow_cxt, start, start,
					  XidFromFullTransactionId(FullTransactionIdFromU64(barrier)));
	ca_status_state("standby");
}

/* ---- the position ---- */

static void
note_trouble(const char *error)
{
	CaTrouble cause = ca_trouble_judge(error);

	ca_status_redis_state(ca_trouble_is_answer(cause) ? "refuses" : "unreachable");
	ca_trouble_begin(CA_AREA_FOLLOWING, cause, error);
}

static void
handle_position(void *arg, const CaReply *reply)
{
	CaPosition position;
	Size len;
	const char *found;

	looking = false;
	if (reply != NULL && ca_redis_reply_type(reply) == CA_REPLY_ERROR)
		note_trouble(ca_redis_reply_text(reply, &len));
	if (reply == NULL || ca_redis_reply_type(reply) == CA_REPLY_ERROR)
		return;
	ca_trouble_over(CA_AREA_FOLLOWING);
	ca_status_redis_state("connected");
	/* Nobody delivered here yet: nothing to keep. */
	ca_status_now.restart = ca_status_now.keep = ca_tap_read_end(tap);
	if (ca_redis_reply_type(reply) != CA_REPLY_STRING)
		return;
	found = ca_redis_reply_text(reply, &len);
	if (!ca_position_parse(found, len, &position))
		return;
	ca_status_now.timeline = position.timeline;
	ca_status_now.confirmed = position.confirmed;
	ca_status_now.restart = Min(position.restart, ca_tap_read_end(tap));
	ca_status_now.keep = Min(ca_position_keep(&position), ca_tap_read_end(tap));
}

static void
look_at_position(void)
{
	const char *argv[] = {"GET", ca_position_key()};
	size_t len[] = {3, strlen(ca_position_key())};

	ca_redis_send(redis, 2, argv, len, handle_position, NULL);
	looking = true;
}

static void
connect_redis(void)
{
	static CaRedisAddress address;
	char *endpoint;

	ca_redis_address_of_settings(&address);
	redis = ca_redis_open(follow_cxt, &address, "cache_aside standby");
	endpoint = ca_redis_address_endpoint(&address);
	strlcpy(ca_status_now.endpoint, endpoint, sizeof(ca_status_now.endpoint));
	pfree(endpoint);
	ca_status_redis_state("connecting");
}

static void
follow_redis(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (ca_outage_misconfigured(CA_AREA_FOLLOWING))
	{
		hang_up();
		return;
	}
	if (redis == NULL && now >= next_look)
		connect_redis();
	if (redis == NULL)
		return;
	if (ca_redis_advance(redis) == CA_REDIS_FAILED)
	{
		note_trouble(ca_redis_error(redis));
		hang_up();
		next_look = TimestampTzPlusMilliseconds(now, LOOK_INTERVAL);
	}
	else if (ca_redis_state(redis) == CA_REDIS_READY && !looking && now >= next_look)
	{
		look_at_position();
		ca_announce_step(redis);
		ca_redis_advance(redis);
		next_look = TimestampTzPlusMilliseconds(now, LOOK_INTERVAL);
	}
}

/* ---- the log ---- */

static void
lift_barrier(TransactionId oldest_running)
{
	TransactionId xid = XidFromFullTransactionId(FullTransactionIdFromU64(barrier));

	if (barrier == 0 || TransactionIdPrecedes(oldest_running, xid))
		return;
	barrier = 0;
	ca_tap_lift_barrier(tap);
}

static bool
follow_log(void)
{
	TransactionId oldest_running;
	XLogRecPtr before = ca_tap_read_end(tap);
	CaTapResult result = ca_tap_read(tap, READ_BUDGET, ca_queue_add, NULL);
	uint64 forgot = ca_tap_forgot(tap);

	if (forgot != 0)
		barrier = forgot;
	if (result == CA_TAP_GAP)
	{
		ca_breaker_gap();
		ca_follow_close();
		return false;
	}
	if (ca_tap_read_end(tap) != before || ca_queue_waits())
	{
		ca_status_now.visible =
			ca_queue_look(ca_tap_read_end(tap), barrier == 0 ? timeline : 0, &oldest_running);
		ca_queue_discard_visible();
		lift_barrier(oldest_running);
	}
	ca_status_now.read_end = ca_tap_read_end(tap);
	return result == CA_TAP_MORE;
}

bool
ca_follow_step(void)
{
	XLogRecPtr end;
	bool more;

	if (tap && ca_wal_timeline(&end) != timeline)
		ca_follow_close(); /* the upstream was promoted: tokens name the new timeline */
	if (tap == NULL)
		begin();
	more = follow_log();
	if (tap)
		follow_redis();
	return more;
}
