/*
 * publish.c: the worker tells Redis where reads can go, and hears from the standbys' workers.
 *
 *	   cache_aside:replicas   hash, name -> JSON: lsn (replayed), timeline, system, lag_bytes, lag_ms,
 *							  region, conninfo, weight, by ("replica" or "primary"), at
 *	   cache_aside:primary	  JSON: lsn (end of the log), timeline, system, name, conninfo, region, at
 *
 * When. Every publish_interval while the log moves. Else about every two seconds, so that readers see that the publisher
 * lives. At once when the registry or the role of this server has changed. Never while nothing is registered anywhere.
 *
 * Who. A standby's worker writes its own entry, which is newer than what the primary's walsender knows: that hears of
 * changes in replay alone only every ten seconds. The primary writes entries for the standbys that do not publish. From the
 * answer to that call it takes those that do into shared memory, for route(). Besides, a standby's worker makes its
 * walreceiver report as soon as replay has moved, so that the walsender array is as fresh as the worker's rounds, with or
 * without Redis.
 *
 * Whose clock. `at` is in milliseconds of Redis's clock, so no other clock matters. Both keys expire after
 * EXPIRY_INTERVALS, and an entry of the hash that is as old is dropped: readers notice a publisher that died, and an
 * application that lost the primary still finds the standbys for so long.
 *
 * An old primary that was not told of a promotion writes nothing over the entry of a newer timeline. Errors of Redis are told
 * (trouble.c) and otherwise ignored: publishing is advice, delivery goes on, and the expiry tells readers. Runs in the
 * worker only; takes no lock but those of progress.c and visit_registries.c.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "redis/redis.h"
#include "shared/trouble.h"
#include "log/log.h"
#include "routing/routing.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "replication/walreceiver.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define EXPIRY_INTERVALS 20
#define MIN_EXPIRY 5000 /* ms */
/* ms between publications while the log stands still: a little less than between renewals (arming.c), for one wake */
#define QUIET_INTERVAL 1900
/* ... and until the worker wakes for it, if nothing else wakes it; half of CA_PUBLISHED_TTL_MS */
#define QUIET_PATIENCE 2500
#define BUSY_MS 2000  /* the log has moved within this time: it is not standing still */
#define CLOSE_LOOK 10 /* ms between looks at replay while it moves */

int guc_publish_interval = 250;
char *guc_replica_name;

/*
 * KEYS[1]: the hash. ARGV: expiry in ms; "replica", "primary", or "incomplete", a primary that could not look into every
 * registry; then names, each with its JSON without the end, or with "": registered, but unknown to this server. Names that
 * are missing are dropped when a primary that looked into every registry calls.
 */
static const char replicas_script[] =
	"if redis.replicate_commands then redis.replicate_commands() end\n"
	"local t = redis.call('time')\n"
	"local now, expiry = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[1])\n"
	"local old, at, own = redis.call('hgetall', KEYS[1]), {}, {}\n"
	"for i = 1, #old, 2 do\n"
	"  at[old[i]] = tonumber(string.match(old[i + 1], '\"at\":(%d+)}$') or '0')\n"
	"  own[old[i]] = string.find(old[i + 1], '\"by\":\"replica\"', 1, true)\n"
	"end\n"
	"local listed = {}\n"
	"for i = 3, #ARGV, 2 do\n"
	"  local name, json = ARGV[i], ARGV[i + 1]\n"
	"  listed[name] = true\n"
	"  local better = ARGV[2] == 'replica' or not own[name] or now - at[name] > expiry / 2\n"
	"  if json ~= '' and better then\n"
	"    redis.call('hset', KEYS[1], name, json .. string.format('%.0f}', now))\n"
	"    at[name] = now\n"
	"  end\n"
	"end\n"
	"for name, when in pairs(at) do\n"
	"  if now - when > expiry or (ARGV[2] == 'primary' and not listed[name]) then\n"
	"    redis.call('hdel', KEYS[1], name)\n"
	"  end\n"
	"end\n"
	"redis.call('pexpire', KEYS[1], expiry)\n"
	"local all = redis.call('hgetall', KEYS[1])\n"
	"table.insert(all, 1, string.format('%.0f', now))\n"
	"return all\n";

/* KEYS[1] the primary; ARGV: expiry in ms, timeline, JSON without its end. */
static const char primary_script[] =
	"if redis.replicate_commands then redis.replicate_commands() end\n"
	"local t = redis.call('time')\n"
	"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
	"local old = redis.call('get', KEYS[1]) or ''\n"
	"if tonumber(string.match(old, '\"timeline\":(%d+)') or '0') > tonumber(ARGV[2]) then return 0 "
	"end\n"
	"redis.call('set', KEYS[1], ARGV[3] .. string.format('%.0f}', now), 'px', ARGV[1])\n"
	"return 1\n";

/*
 * Of the server, not of a sink: it publishes to one Redis, whichever that is. `connected` and `unanswered` are about the
 * connection that the last step was given; one that is closed answers all that it was sent.
 */
static MemoryContext publish_cxt; /* reset after each publication */
static TimestampTz published_at;  /* the last publication */
static bool published_as_standby;
static int published_count;          /* registered replicas at that time */
static bool overdue = true;          /* something changed: do not wait for the interval */
static int unanswered;               /* commands of the last publication */
static bool connected;               /* at the last step */
static XLogRecPtr seen_end;          /* of the log */
static TimestampTz moved_at;         /* when that was another one last */
static XLogRecPtr reported_replayed; /* what the walreceiver was last made to report */
static TimestampTz replay_moved_at;

/* The name this server goes by among the replicas. */
const char *
ca_publish_own_name(void)
{
	const char *cluster;

	if (guc_replica_name && guc_replica_name[0])
		return guc_replica_name;
	cluster = GetConfigOption("cluster_name", true, false);
	return cluster && cluster[0] ? cluster : NULL;
}

static long
expiry(void)
{
	return Max((long) guc_publish_interval * EXPIRY_INTERVALS, MIN_EXPIRY);
}

/* ---- answers ---- */

/* A publication went well when all its answers are good. */
static void
note_answer(const CaReply *reply)
{
	static bool failed;
	Size len;

	unanswered--;
	failed |= reply == NULL;
	if (reply && ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		const char *error = ca_redis_reply_text(reply, &len);

		failed = true;
		ca_trouble_begin(CA_AREA_PUBLISHING, ca_trouble_judge(error), error);
	}
	if (unanswered > 0)
		return;
	if (!failed)
		ca_trouble_over(CA_AREA_PUBLISHING);
	failed = false;
}

/* What the script of the replicas answers a primary: Redis's time, then names and values. */
static void
handle_replicas(void *arg, const CaReply *reply)
{
	static CaPublished list[CA_MAX_PUBLISHED];
	static char json[4096];
	int count = 0;
	double now = 0;
	Size len;

	note_answer(reply);
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ARRAY || RecoveryInProgress())
		return;
	for (Size i = 0; i < ca_redis_reply_count(reply) && count < CA_MAX_PUBLISHED; i++)
	{
		const char *bytes = ca_redis_reply_text(ca_redis_reply_element(reply, i), &len);

		if (bytes == NULL || len >= sizeof(json))
			return;
		memcpy(json, bytes, len);
		json[len] = '\0';
		if (i == 0)
			now = strtod(json, NULL);
		else if (i % 2 == 1)
			strlcpy(list[count].name, json, NAMEDATALEN);
		else if (ca_publish_json_read(json, now, &list[count]))
			count++;
	}
	ca_progress_set_published(list, count);
}

static void
handle_written(void *arg, const CaReply *reply)
{
	note_answer(reply);
}

/* ---- sending ---- */

static void
send_script(CaRedis *redis, const char *script, const char *key, int argc, const char **args,
			CaReplyHandler handler)
{
	const char *argv[2 * CA_MAX_PUBLISHED + 8] = {"EVAL", script, "1", key};
	size_t len[2 * CA_MAX_PUBLISHED + 8];

	for (int i = 0; i < argc; i++)
		argv[4 + i] = args[i];
	for (int i = 0; i < argc + 4; i++)
		len[i] = strlen(argv[i]);
	ca_redis_send(redis, argc + 4, argv, len, handler, NULL);
	unanswered++; /* after the call: if that raises nothing was sent */
}

static const CaTopologyRow *
own_row(const CaTopologyRow *rows, int count)
{
	const char *name = ca_publish_own_name();

	for (int i = 0; name && i < count; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

/* How far replay is here, and how much of the log that the upstream server last told of is missing. */
static void
publish_standby(CaRedis *redis, const CaTopologyRow *rows, int count, const char *expiry_text)
{
	const CaTopologyRow *own = own_row(rows, count);
	TimeLineID timeline;
	XLogRecPtr replayed = GetXLogReplayRecPtr(&timeline);
	XLogRecPtr upstream;
	int64 missing;
	int64 lag_ms = 0;
	const char *args[4];

	if (own == NULL)
		return;
	SpinLockAcquire(&WalRcv->mutex);
	upstream = WalRcv->latestWalEnd;
	SpinLockRelease(&WalRcv->mutex);
	missing = upstream > replayed ? (int64) (upstream - replayed) : 0;
	if (missing > 0)
		lag_ms = GetLatestXTime() == 0
					 ? -1
					 : TimestampDifferenceMilliseconds(GetLatestXTime(), GetCurrentTimestamp());
	args[0] = expiry_text;
	args[1] = "replica";
	args[2] = own->name;
	args[3] = ca_publish_json_replica(own, replayed, timeline, missing, lag_ms, "replica");
	send_script(redis, replicas_script, "cache_aside:replicas", 4, args, handle_written);
}

/* What the primary knows of a replica; empty if it knows nothing. */
static const char *
seen_from_primary(const CaTopologyRow *row, const CaProgressView *view, TimeLineID timeline)
{
	CaReplicaState state = ca_progress_of(view, row->name);
	int64 lag;

	if (!state.connected || state.replayed == InvalidXLogRecPtr)
		return "";
	lag = ca_progress_lag(state.replayed, view->end, view->now);
	return ca_publish_json_replica(row, state.replayed, timeline,
								   (int64) (view->end - state.replayed), lag < 0 ? -1 : lag / 1000,
								   "primary");
}

static void
publish_primary(CaRedis *redis, const CaTopologyRow *rows, int count, const char *expiry_text)
{
	CaProgressView *view = ca_progress_look();
	TimeLineID timeline = GetWALInsertionTimeLine();
	const CaTopologyRow *own = own_row(rows, count);
	const char *args[2 * CA_MAX_PUBLISHED + 2] = {
		expiry_text, ca_visit_registries_complete() ? "primary" : "incomplete"};
	const char *primary[3] = {
		expiry_text, psprintf("%u", timeline),
		ca_publish_json_primary(own, ca_publish_own_name(), view->end, timeline)};
	int argc = 2;

	for (int i = 0; i < count; i++)
	{
		if (&rows[i] == own)
			continue;
		args[argc++] = rows[i].name;
		args[argc++] = seen_from_primary(&rows[i], view, timeline);
	}
	send_script(redis, replicas_script, "cache_aside:replicas", argc, args, handle_replicas);
	send_script(redis, primary_script, "cache_aside:primary", 3, primary, handle_written);
}

/* The last replica is no longer registered. */
static void
withdraw(CaRedis *redis)
{
	const char *keys[] = {"cache_aside:replicas", "cache_aside:primary"};

	for (int i = 0; i < lengthof(keys); i++)
	{
		const char *argv[] = {"UNLINK", keys[i]};
		size_t len[] = {6, strlen(keys[i])};

		ca_redis_send(redis, 2, argv, len, handle_written, NULL);
		unanswered++;
	}
}

static void
publish(CaRedis *redis)
{
	CaTopologyRow *rows;
	int count;
	char expiry_text[24];
	MemoryContext old;

	if (publish_cxt == NULL)
		publish_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside publish", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(publish_cxt);
	rows = palloc(CA_MAX_PUBLISHED * sizeof(CaTopologyRow));
	count = ca_visit_registries_rows(rows);
	snprintf(expiry_text, sizeof(expiry_text), "%ld", expiry());
	if (published_as_standby)
		publish_standby(redis, rows, count, expiry_text);
	else if (count > 0)
		publish_primary(redis, rows, count, expiry_text);
	else if (published_count > 0 && ca_visit_registries_complete())
		withdraw(redis);
	if (count > 0 || ca_visit_registries_complete())
		published_count = count;
	MemoryContextSwitchTo(old);
	MemoryContextReset(publish_cxt);
}

/* ---- the worker's loop ---- */

/* On a standby: let the primary know at once what was replayed. */
static void
report_replay(TimestampTz now)
{
	XLogRecPtr replayed = GetXLogReplayRecPtr(NULL);

	if (replayed == reported_replayed)
		return;
	reported_replayed = replayed;
	replay_moved_at = now;
	ca_report_replay();
}

static bool
is_quiet(TimestampTz now)
{
	return TimestampDifferenceExceeds(moved_at, now, BUSY_MS);
}

static long
interval(TimestampTz now)
{
	return is_quiet(now) ? Max(guc_publish_interval, QUIET_INTERVAL) : guc_publish_interval;
}

static void
note_end(TimestampTz now, XLogRecPtr end)
{
	if (end == seen_end)
		return;
	seen_end = end;
	moved_at = now;
}

/* One step; never blocks. `redis` is NULL while there is no connection. */
void
ca_publish_step(CaRedis *redis)
{
	TimestampTz now = GetCurrentTimestamp();
	bool standby = RecoveryInProgress();

	if (guc_publish_interval == 0)
		return;
	connected = redis != NULL;
	note_end(now, standby ? GetXLogReplayRecPtr(NULL) : ca_wal_inserted());
	if (standby)
		report_replay(now);
	else
		ca_progress_sample(now, seen_end);
	if (ca_visit_registries_step(now) || standby != published_as_standby)
		overdue = true;
	published_as_standby = standby;
	if (redis == NULL || ca_redis_state(redis) != CA_REDIS_READY || unanswered > 0 ||
		!(overdue || TimestampDifferenceExceeds(published_at, now, interval(now))))
		return;
	overdue = false;
	published_at = now;
	publish(redis);
}

/* Milliseconds until ca_publish_step has something to do; -1: it has not. */
long
ca_publish_timeout(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (guc_publish_interval == 0)
		return -1;
	if (published_as_standby &&
		!TimestampDifferenceExceeds(replay_moved_at, now, guc_publish_interval))
		return CLOSE_LOOK;
	if (overdue && connected)
		return guc_publish_interval;
	if (published_count == 0)
		return -1;
	return is_quiet(now) ? Max(guc_publish_interval, QUIET_PATIENCE) : guc_publish_interval;
}
