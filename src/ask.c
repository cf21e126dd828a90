/*
 * ask.c: a backend asks Redis something and waits for the answer.
 *
 * One connection per backend, opened when first needed and kept. A value in redis_url that changed
 * by a reload closes it. Nothing here raises for what Redis or the network do: the caller decides
 * whether no answer is a miss or an error. That no Redis was named is an error here. Every wait ends: connect_timeout for the connection,
 * command_timeout for an answer; interrupts are served, and a cancelled wait leaves a connection that
 * is closed at the next use, for its answers would come too late.
 *
 * After a failure nothing is tried for RETRY_MS, so that a query over many rows costs one time-out
 * while Redis is down, not one per row.
 *
 * warm() and audit() keep commands in flight while they run the user's SQL, which may call get() or
 * warm() again. So they hold the connection: while somebody does, it is neither closed nor replaced,
 * whoever asks in between uses it too and waits for everything that is on its way; those who hold
 * it are on the stack, so what their handlers write to is there. A connection that fails meanwhile
 * stays as it is, failed, and answers nobody until it is let go. Whoever leaves by an error with
 * commands in flight makes it fail, for their handlers' memory goes with it.
 */
#include "reads.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define RETRY_MS 1000

static MemoryContext ask_cxt;
static CaRedis *connection;
static int holders;         /* calls on the stack that hold it */
static bool interrupted;    /* it failed because one of them was left by an error, not by Redis */
static char *connected_url; /* redis_url when it was opened */
static TimestampTz failed_at;
static char problem[256];

static void
close_connection(void)
{
	ca_redis_close(connection);
	connection = NULL;
	if (ask_cxt)
		MemoryContextReset(ask_cxt);
	connected_url = NULL;
}

static void
note_failure(void)
{
	strlcpy(problem, ca_redis_error(connection) ? ca_redis_error(connection) : "no answer",
			sizeof(problem));
	failed_at = GetCurrentTimestamp();
	if (holders == 0)
		close_connection();
}

static bool
still_good(void)
{
	return connection != NULL && ca_redis_state(connection) == CA_REDIS_READY &&
		   ca_redis_in_flight(connection) == 0 && strcmp(connected_url, guc_redis_url) == 0;
}

/* A connection that Redis closed while we were idle is found out here, before anything is sent. */
static bool
usable(void)
{
	if (still_good())
		ca_redis_advance(connection);
	return still_good();
}

void
ca_ask_require_url(void)
{
	const char *lacking = ca_redis_misconfigured();

	if (lacking)
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("%s", lacking),
						errdetail("There is no Redis to ask."), errhint("%s", CA_REDIS_URL_HINT)));
}

static CaRedis *
connect_redis(void)
{
	if (holders > 0)
		return ca_redis_state(connection) == CA_REDIS_READY ? connection : NULL;
	ca_ask_require_url();
	if (usable())
		return connection;
	close_connection();
	if (failed_at != 0 && !TimestampDifferenceExceeds(failed_at, GetCurrentTimestamp(), RETRY_MS))
		return NULL;
	if (ask_cxt == NULL)
		ask_cxt = AllocSetContextCreate(TopMemoryContext, "cache_aside backend connection",
										ALLOCSET_DEFAULT_SIZES);
	connected_url = MemoryContextStrdup(ask_cxt, guc_redis_url);
	connection = ca_redis_open(ask_cxt, "cache_aside backend");
	if (!ca_redis_wait(connection, guc_connect_timeout, PG_WAIT_EXTENSION))
	{
		note_failure();
		return NULL;
	}
	failed_at = 0;
	return connection;
}

CaRedis *
ca_ask_hold(void)
{
	CaRedis *redis = connect_redis();

	if (redis != NULL)
		holders++;
	return redis;
}

void
ca_ask_release(CaRedis *redis)
{
	if (redis == NULL)
		return;
	Assert(redis == connection && holders > 0);
	if (ca_redis_in_flight(redis) > 0)
	{
		ca_redis_abandon(redis, "interrupted");
		interrupted = true;
	}
	if (--holders > 0 || ca_redis_state(redis) == CA_REDIS_READY)
		return;
	close_connection();
	if (interrupted)
		failed_at = 0; /* no reason to wait before the next */
	interrupted = false;
}

bool
ca_ask_wait(CaRedis *redis)
{
	if (ca_redis_wait(redis, -1, PG_WAIT_EXTENSION))
		return true;
	note_failure();
	return false;
}

bool
ca_ask(int argc, const char **argv, const size_t *lens, CaReplyHandler handler, void *arg)
{
	CaRedis *redis = connect_redis();

	if (redis == NULL)
		return false;
	ca_redis_send(redis, argc, argv, lens, handler, arg);
	return ca_ask_wait(redis);
}

const char *
ca_ask_problem(void)
{
	return problem;
}

void
ca_ask_warn(const char *consequence)
{
	static TimestampTz warned;
	char *endpoint;

	if (warned == GetCurrentStatementStartTimestamp())
		return;
	warned = GetCurrentStatementStartTimestamp();
	endpoint = ca_redis_endpoint();
	ereport(WARNING, (errcode(ERRCODE_CONNECTION_FAILURE),
					  errmsg("no answer from Redis at %s: %s", endpoint, problem),
					  errdetail("%s", consequence)));
	pfree(endpoint);
}
