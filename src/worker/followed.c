/*
 * followed.c: a Redis that another server delivers to, seen from a standby.
 *
 * Once a second its position is read. Nothing is written there but the announcement that this standby streams (announce.c).
 * While Redis is away the log that was kept so far stays kept; nothing else changes.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/trouble.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"
#include "delivery/watch.h"
#include "worker/worker.h"

#include "utils/timestamp.h"

#define LOOK_INTERVAL 1000 /* ms between looks at the position, and between connections */

CaRedis *
ca_followed_redis(CaSink *sink)
{
	return sink->followed.redis;
}

void
ca_followed_hang_up(CaSink *sink)
{
	ca_redis_close(sink->followed.redis);
	sink->followed.redis = NULL;
	sink->followed.looking = false;
}

void
ca_followed_forget(CaSink *sink)
{
	ca_followed_hang_up(sink);
	sink->followed.told = false;
	sink->followed.next_look = 0;
}

static void
note_trouble(CaSink *sink, const char *error)
{
	CaTrouble cause = ca_trouble_judge(error);

	ca_endpoint_state(&sink->endpoint, ca_trouble_is_answer(cause) ? "refuses" : "unreachable");
	ca_endpoint_error(&sink->endpoint, error);
	ca_trouble_begin_at(CA_AREA_FOLLOWING, cause, error, sink->endpoint.name);
}

static void
note_position(CaSinkFollowed *followed, const CaPosition *position)
{
	followed->timeline = position->timeline;
	followed->confirmed = position->confirmed;
	followed->restart = Min(position->restart, followed->read_end);
	followed->keep = Min(ca_position_keep(position), followed->read_end);
}

static void
handle_position(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	CaSinkFollowed *followed = &sink->followed;
	CaPosition position;
	Size len;
	const char *found;

	followed->looking = false;
	if (reply != NULL && ca_redis_reply_type(reply) == CA_REPLY_ERROR)
		note_trouble(sink, ca_redis_reply_text(reply, &len));
	if (reply == NULL || ca_redis_reply_type(reply) == CA_REPLY_ERROR)
		return;
	ca_trouble_over(CA_AREA_FOLLOWING);
	ca_endpoint_state(&sink->endpoint, "connected");
	/* Nobody delivered here yet: nothing to keep. */
	followed->told = true;
	followed->confirmed = InvalidXLogRecPtr;
	followed->restart = followed->keep = followed->read_end;
	ca_endpoint_progress(&sink->endpoint, 0, InvalidXLogRecPtr);
	if (ca_redis_reply_type(reply) != CA_REPLY_STRING)
		return;
	found = ca_redis_reply_text(reply, &len);
	if (ca_position_parse(found, len, &position))
		note_position(followed, &position);
	ca_endpoint_progress(&sink->endpoint, 0, followed->confirmed);
}

static void
look_at_position(CaSink *sink)
{
	const char *argv[] = {"GET", ca_position_key()};
	size_t len[] = {3, strlen(ca_position_key())};

	ca_redis_send(sink->followed.redis, 2, argv, len, handle_position, sink);
	sink->followed.looking = true;
}

static void
rest(CaSink *sink, TimestampTz now, const char *error)
{
	note_trouble(sink, error);
	ca_followed_hang_up(sink);
	sink->followed.next_look = TimestampTzPlusMilliseconds(now, LOOK_INTERVAL);
}

static void
connect_redis(CaSink *sink, MemoryContext cxt, TimestampTz now)
{
	CaRedisAddress *address = &sink->followed.address;
	CaWatchStep found = ca_watch_find(&sink->watch, address);
	char *endpoint;

	if (found == CA_WATCH_BAD)
		rest(sink, now, ca_watch_problem());
	if (found != CA_WATCH_GOOD)
		return;
	sink->followed.redis = ca_redis_open(cxt, address, "cache_aside standby");
	endpoint = ca_redis_address_endpoint(address);
	ca_endpoint_name(&sink->endpoint, endpoint);
	pfree(endpoint);
	ca_endpoint_state(&sink->endpoint, "connecting");
}

static bool
may_connect(CaSink *sink)
{
	CaCredentialState state = ca_credential_command_ready();

	if (state == CA_CREDENTIAL_LACKING)
	{
		note_trouble(sink, ca_credential_command_error());
		sink->followed.next_look =
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_INTERVAL);
	}
	return state == CA_CREDENTIAL_READY;
}

/* One step, never blocking; `read_end`: of the log here. */
void
ca_followed_step(CaSink *sink, MemoryContext cxt, XLogRecPtr read_end)
{
	CaSinkFollowed *followed = &sink->followed;
	TimestampTz now = GetCurrentTimestamp();

	followed->read_end = read_end;
	if (ca_watch_moved(&sink->watch))
		ca_followed_forget(sink); /* what another Redis has may be older */
	if (followed->redis == NULL && now >= followed->next_look && may_connect(sink))
		connect_redis(sink, cxt, now);
	if (followed->redis == NULL)
		return;
	if (ca_redis_advance(followed->redis) == CA_REDIS_FAILED)
		rest(sink, now, ca_redis_error(followed->redis));
	else if (ca_redis_state(followed->redis) == CA_REDIS_READY && !followed->looking &&
			 now >= followed->next_look)
	{
		ca_redis_login_again(followed->redis);
		look_at_position(sink);
		ca_announce_step(sink, followed->redis);
		ca_redis_advance(followed->redis);
		followed->next_look = TimestampTzPlusMilliseconds(now, LOOK_INTERVAL);
	}
}
