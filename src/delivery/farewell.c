/*
 * farewell.c: the last words to a Redis that this server leaves: delivery = off, uninstall(), the last
 * extension dropped, another Redis named by a reload.
 *
 * First the claim is given up: from that call on no token is worth anything there, whoever still has one,
 * and the next server need not wait. Who does not come back takes along what is his: the position, the
 * guard, and the function library unless another claim is alive in it. Redis gets command_timeout for its
 * answers. What it did not do, or could not be asked for, is told: to the log, and to the caller of
 * uninstall(). An arming that was not ended ends by itself (arming.c).
 *
 * If we die in between, or Redis does: likewise. A server that comes back claims anew, as ever.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "utils/timestamp.h"

#define KEYS "the keys cache_aside:position:* and cache_aside:guard:* of this system"
#define LIBRARY "the function library (FUNCTION DELETE)"

static void
note_left(CaSink *sink, const char *what, const char *why)
{
	char *left = sink->farewell.left;
	Size len = strlen(left);

	snprintf(left + len, sizeof(sink->farewell.left) - len, "%s%s (%s)", len > 0 ? "; " : "", what,
			 why);
	for (char *p = left + len; *p; p++)
		if (*p < ' ' || *p > '~') /* Redis's words */
			*p = '?';
}

static const char *
reason_of(const CaReply *reply)
{
	Size len;

	return reply == NULL                                  ? "no answer"
		   : ca_redis_reply_type(reply) == CA_REPLY_ERROR ? ca_redis_reply_text(reply, &len)
														  : "an unexpected answer";
}

static void
handle_disarm(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	bool ours;
	int64 others;

	sink->farewell.unanswered--;
	if (!sink->farewell.removes)
		return;
	if (!ca_guard_read_disarm(reply, &ours, &others))
		note_left(sink, KEYS, reason_of(reply));
	else if (!ours)
		note_left(sink, KEYS, "another server delivers there by now");
	else if (others == 0)
		return;
	note_left(sink, LIBRARY, "others may use it");
	sink->farewell.library_removed = true;
}

/* Without functions: the keys alone. */
static void
handle_unlink(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;

	sink->farewell.unanswered--;
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_INTEGER)
		note_left(sink, KEYS, reason_of(reply));
}

static void
handle_library(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;

	sink->farewell.unanswered--;
	sink->farewell.library_removed |= reply && ca_redis_reply_type(reply) != CA_REPLY_ERROR;
	if (sink->farewell.unanswered == 0 && !sink->farewell.library_removed)
		note_left(sink, LIBRARY, reason_of(reply));
}

static void
begin(CaSink *sink, CaRedis *redis, bool remove)
{
	const char *argv[] = {"UNLINK", ca_position_key(), ca_guard_key()};
	size_t len[] = {6, strlen(argv[1]), strlen(argv[2])};

	sink->farewell.stage = CA_FAREWELL_DISARMING;
	sink->farewell.deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), guc_command_timeout);
	sink->farewell.left[0] = '\0';
	sink->farewell.removes = remove;
	sink->farewell.library_removed = !remove || !ca_apply_has_functions(sink);
	sink->farewell.unanswered = 1;
	if (ca_apply_has_functions(sink))
		ca_guard_disarm(ca_guard_nonce(sink), redis, remove, handle_disarm, sink);
	else if (remove)
		ca_redis_send(redis, lengthof(argv), argv, len, handle_unlink, sink);
	else
		sink->farewell.unanswered = 0;
}

/* Under a name of its own, should another protocol have the plain one; else under that. */
static void
remove_library(CaSink *sink, CaRedis *redis)
{
	const char *names[] = {"cache_aside_" CA_LIBRARY_PROTOCOL, "cache_aside"};

	sink->farewell.stage = CA_FAREWELL_REMOVING;
	if (sink->farewell.library_removed)
		return;
	for (int i = 0; i < lengthof(names); i++)
	{
		const char *argv[] = {"FUNCTION", "DELETE", names[i]};
		size_t len[] = {8, 6, strlen(names[i])};

		ca_redis_send(redis, lengthof(argv), argv, len, handle_library, sink);
		sink->farewell.unanswered++;
	}
}

static bool
end(CaSink *sink, bool remove, const char *why)
{
	if (why && remove)
	{
		sink->farewell.left[0] = '\0';
		note_left(sink, KEYS ", and " LIBRARY, why);
	}
	sink->farewell.stage = CA_FAREWELL_PARTED;
	return true;
}

/*
 * One step, never blocking; `redis` is NULL when nobody is connected. True: it is over, ca_farewell_left tells
 * what could not be removed.
 */
bool
ca_farewell_said(CaSink *sink, CaRedis *redis, bool remove)
{
	CaSinkFarewell *farewell = &sink->farewell;

	if (farewell->stage == CA_FAREWELL_PARTED)
		return true;
	if (redis == NULL)
		return end(sink, remove, "no connection to Redis");
	if (farewell->stage == CA_FAREWELL_SILENT)
		begin(sink, redis, remove);
	if (ca_redis_advance(redis) == CA_REDIS_FAILED)
		return end(sink, remove, ca_redis_error(redis));
	if (farewell->unanswered == 0 && farewell->stage == CA_FAREWELL_DISARMING)
	{
		remove_library(sink, redis);
		(void) ca_redis_advance(redis);
	}
	if (farewell->unanswered == 0 && farewell->stage == CA_FAREWELL_REMOVING)
		return end(sink, remove, NULL);
	if (GetCurrentTimestamp() >= farewell->deadline)
		return end(sink, remove, "no answer from Redis");
	return false;
}

/* It began and was not said, or its end was not taken note of. */
bool
ca_farewell_lasts(CaSink *sink)
{
	return sink->farewell.stage != CA_FAREWELL_SILENT;
}

/* What was left is told, and the connection closed: the next one is another. */
void
ca_farewell_over(CaSink *sink)
{
	sink->farewell.stage = CA_FAREWELL_SILENT;
	sink->farewell.left[0] = '\0';
}

const char *
ca_farewell_left(CaSink *sink)
{
	return sink->farewell.left;
}
