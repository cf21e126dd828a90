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

#include "utils/timestamp.h"

static enum {
	SILENT,
	DISARMING, /* and removing keys */
	REMOVING   /* the library */
} stage = SILENT;

#define KEYS "the keys cache_aside:position:* and cache_aside:guard:* of this system"
#define LIBRARY "the function library (FUNCTION DELETE)"

static TimestampTz deadline;
static int unanswered;
static bool removes;
static bool library_removed; /* under either name, or it is not to be */
static char left[512];       /* what is; empty: nothing */

static void
note_left(const char *what, const char *why)
{
	Size len = strlen(left);

	snprintf(left + len, sizeof(left) - len, "%s%s (%s)", len > 0 ? "; " : "", what, why);
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
	bool ours;
	int64 others;

	unanswered--;
	if (!removes)
		return;
	if (!ca_guard_read_disarm(reply, &ours, &others))
		note_left(KEYS, reason_of(reply));
	else if (!ours)
		note_left(KEYS, "another server delivers there by now");
	else if (others == 0)
		return;
	note_left(LIBRARY, "others may use it");
	library_removed = true;
}

/* Without functions: the keys alone. */
static void
handle_unlink(void *arg, const CaReply *reply)
{
	unanswered--;
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_INTEGER)
		note_left(KEYS, reason_of(reply));
}

static void
handle_library(void *last, const CaReply *reply)
{
	unanswered--;
	library_removed |= reply && ca_redis_reply_type(reply) != CA_REPLY_ERROR;
	if (last && !library_removed)
		note_left(LIBRARY, reason_of(reply));
}

static void
begin(CaSink *sink, CaRedis *redis, bool remove)
{
	const char *argv[] = {"UNLINK", ca_position_key(), ca_guard_key()};
	size_t len[] = {6, strlen(argv[1]), strlen(argv[2])};

	stage = DISARMING;
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), guc_command_timeout);
	left[0] = '\0';
	removes = remove;
	library_removed = !remove || !ca_apply_has_functions(sink);
	unanswered = 1;
	if (ca_apply_has_functions(sink))
		ca_guard_disarm(sink, redis, remove, handle_disarm, NULL);
	else if (remove)
		ca_redis_send(redis, lengthof(argv), argv, len, handle_unlink, NULL);
	else
		unanswered = 0;
}

/* Under a name of its own, should another protocol have the plain one; else under that. */
static void
remove_library(CaRedis *redis)
{
	static char last;
	const char *names[] = {"cache_aside_" CA_LIBRARY_PROTOCOL, "cache_aside"};

	stage = REMOVING;
	if (library_removed)
		return;
	for (int i = 0; i < lengthof(names); i++)
	{
		const char *argv[] = {"FUNCTION", "DELETE", names[i]};
		size_t len[] = {8, 6, strlen(names[i])};

		ca_redis_send(redis, lengthof(argv), argv, len, handle_library,
					  i + 1 == lengthof(names) ? &last : NULL);
		unanswered++;
	}
}

static bool
end(bool remove, const char *why)
{
	if (why && remove)
	{
		left[0] = '\0';
		note_left(KEYS ", and " LIBRARY, why);
	}
	stage = SILENT;
	return true;
}

/*
 * One step, never blocking; `redis` is NULL when nobody is connected. True: it is over, ca_farewell_left tells
 * what could not be removed.
 */
bool
ca_farewell_said(CaSink *sink, CaRedis *redis, bool remove)
{
	if (redis == NULL)
		return end(remove, "no connection to Redis");
	if (stage == SILENT)
		begin(sink, redis, remove);
	if (ca_redis_advance(redis) == CA_REDIS_FAILED)
		return end(remove, ca_redis_error(redis));
	if (unanswered == 0 && stage == DISARMING)
	{
		remove_library(redis);
		(void) ca_redis_advance(redis);
	}
	if (unanswered == 0 && stage == REMOVING)
		return end(remove, NULL);
	if (GetCurrentTimestamp() >= deadline)
		return end(remove, "no answer from Redis");
	return false;
}

bool
ca_farewell_lasts(void)
{
	return stage != SILENT;
}

const char *
ca_farewell_left(void)
{
	return left;
}
