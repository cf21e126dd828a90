/*
 * backend_connection.c: a backend asks Redis something and waits for the answer.
 *
 * One connection per backend, opened when first needed, if there is a place for it (allowance.c), and kept
 * while it is used now and then. A value in redis_url that changed by a reload closes it. Nothing here raises
 * for what Redis or the network do: the caller decides whether no answer is a miss or an error. That no
 * Redis was named is an error here. Where Sentinels name the master, the worker tells which it is (shared/master.c);
 * another one there closes the connection, and ends the pause after a failure. Every wait ends: after connect_timeout for the
 * connection, after command_timeout for an answer. Interrupts are served; a cancelled wait leaves a connection whose answers
 * would come too late, so it is closed when the transaction ends, or at the next use.
 *
 * What redis_credential_command gave last is used (credential.c): an open connection logs in anew when there is a newer
 * one; a login that was refused is tried once more when the worker has got another, within connect_timeout.
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
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/master.h"
#include "shared/shared.h"
#include "shared/trouble.h"
#include "reads/reads.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define RETRY_MS 1000
#define MAX_NEWS 8 /* causes in one statement */

static MemoryContext ask_cxt;
static CaRedis *connection;
static int holders;         /* calls on the stack that hold it */
static bool interrupted;    /* it failed because one of them was left by an error, not by Redis */
static uint64 connected_to; /* what the settings said when it was opened */
static TimestampTz compared_at; /* the reload after which they still said so */
static uint32 generation;       /* of the master then */
static TimestampTz failed_at;
static char problem[256];

static void
close_connection(void)
{
	ca_allowance_stop_clock();
	ca_redis_close(connection);
	connection = NULL;
	ca_allowance_give_back();
	if (ask_cxt)
		MemoryContextReset(ask_cxt);
}

static void
note_problem(const char *what)
{
	strlcpy(problem, what, sizeof(problem));
	failed_at = GetCurrentTimestamp();
}

static void
note_failure(void)
{
	const char *error = ca_redis_error(connection);

	note_problem(error ? error : "no answer");
	if (holders == 0)
		close_connection();
}

/* Nobody holds it: it may be closed while it idles, or must make room at once. */
static void
let_idle(void)
{
	if (holders == 0 && connection != NULL && !ca_allowance_keep(connection))
		close_connection();
}

/* Errors leave a connection that is of no use, and have stopped the clock. */
static void
settle(XactEvent event, void *arg)
{
	if (holders > 0 || event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT ||
		event == XACT_EVENT_PRE_PREPARE)
		return;
	if (connection == NULL)
		ca_allowance_give_back(); /* for want of memory it was not opened */
	else if (ca_redis_state(connection) != CA_REDIS_READY || ca_redis_in_flight(connection) > 0)
		close_connection();
	else
		let_idle();
}

static uint64
settings_hash(void)
{
	CaRedisAddress address;
	uint64 hash;

	ca_redis_address_of_settings(&address);
	hash = ca_redis_address_hash(&address);
	explicit_bzero(address.password, sizeof(address.password));
	return hash;
}

/* Looked up after a reload only: the settings of TLS have files to be looked at. */
static bool
leads_where_it_should(void)
{
	if (compared_at != PgReloadTime && settings_hash() != connected_to)
		return false;
	compared_at = PgReloadTime;
	return true;
}

static bool
still_good(void)
{
	return connection != NULL && ca_redis_state(connection) == CA_REDIS_READY &&
		   ca_redis_in_flight(connection) == 0 && leads_where_it_should() &&
		   generation == ca_master_generation();
}

/* A connection that Redis closed while we were idle is found out here, before anything is sent. */
static bool
usable(void)
{
	if (still_good())
		ca_redis_advance(connection);
	return still_good();
}

/* True: `address` is where to connect. */
static bool
find_redis(CaRedisAddress *address)
{
	const char *reason;

	generation = ca_master_generation();
	ca_redis_address_of_settings(address);
	if (!ca_master_resolve(address))
		reason = "the worker has not heard from Sentinels yet which Redis is the master";
	else
		reason = ca_allowance_take();
	if (reason)
		note_problem(reason);
	return reason == NULL;
}

static bool
open_connection(void)
{
	CaRedisAddress address;

	if (!find_redis(&address))
		return false;
	if (ask_cxt == NULL)
	{
		ask_cxt = AllocSetContextCreate(TopMemoryContext, "cache_aside backend connection",
										ALLOCSET_DEFAULT_SIZES);
		RegisterXactCallback(settle, NULL);
	}
	connected_to = settings_hash();
	compared_at = PgReloadTime;
	connection = ca_redis_open(ask_cxt, &address, "cache_aside backend");
	explicit_bzero(address.password, sizeof(address.password));
	return true;
}

static bool
open_and_wait(void)
{
	if (!open_connection())
		return false;
	if (!ca_redis_wait(connection, -1, PG_WAIT_EXTENSION))
	{
		note_failure();
		return false;
	}
	failed_at = 0;
	return true;
}

/* A login failed for want of a good credential: the worker gets another. True: here it is. */
static bool
await_credential(uint64 before)
{
	CaTrouble cause = ca_trouble_judge(problem);

	if (!ca_credential_command_is_set() ||
		(cause != CA_TROUBLE_WRONGPASS && cause != CA_TROUBLE_CREDENTIAL))
		return false;
	ca_status_wake_worker();
	return ca_credential_await(before, guc_connect_timeout);
}

static CaRedis *
connect_redis(void)
{
	uint64 credential;

	if (holders > 0)
		return ca_redis_state(connection) == CA_REDIS_READY ? connection : NULL;
	ca_redis_url_require();
	ca_allowance_stop_clock();
	if (usable())
	{
		ca_redis_login_again(connection);
		return connection;
	}
	close_connection();
	if (failed_at != 0 && generation == ca_master_generation() &&
		!TimestampDifferenceExceeds(failed_at, GetCurrentTimestamp(), RETRY_MS))
		return NULL;
	credential = ca_credential_number();
	if (open_and_wait() || (await_credential(credential) && open_and_wait()))
		return connection;
	return NULL;
}

CaRedis *
ca_backend_connection_hold(void)
{
	CaRedis *redis = connect_redis();

	if (redis != NULL)
		holders++;
	return redis;
}

CaRedis *
ca_backend_connection_hold_new(void)
{
	if (holders == 0)
		close_connection();
	return ca_backend_connection_hold();
}

void
ca_backend_connection_release(CaRedis *redis)
{
	if (redis == NULL)
		return;
	Assert(redis == connection && holders > 0);
	if (ca_redis_in_flight(redis) > 0)
	{
		ca_redis_abandon(redis, "interrupted");
		interrupted = true;
	}
	if (--holders > 0)
		return;
	if (ca_redis_state(redis) == CA_REDIS_READY)
	{
		let_idle();
		return;
	}
	close_connection();
	if (interrupted)
		failed_at = 0; /* no reason to wait before the next */
	interrupted = false;
}

bool
ca_backend_connection_wait(CaRedis *redis)
{
	if (ca_redis_wait(redis, -1, PG_WAIT_EXTENSION))
		return true;
	note_failure();
	return false;
}

bool
ca_backend_connection_ask(int argc, const char **argv, const size_t *lens, CaReplyHandler handler,
						  void *arg)
{
	return ca_backend_connection_all(&(CaQuestion){argc, argv, lens, handler, arg}, 1);
}

bool
ca_backend_connection_all(const CaQuestion *questions, int n)
{
	CaRedis *redis = connect_redis();

	if (redis == NULL)
		return false;
	for (const CaQuestion *q = questions; q < questions + n; q++)
		ca_redis_send(redis, q->argc, q->argv, q->lens, q->handler, q->arg);
	if (!ca_backend_connection_wait(redis))
		return false;
	let_idle();
	return true;
}

/* Redis closes the connection after such an answer; it may be a while until that is heard here. */
void
ca_backend_connection_forgive(void)
{
	if (holders == 0)
		close_connection();
	else if (ca_redis_state(connection) == CA_REDIS_READY)
		ca_redis_abandon(connection, "closed by Redis");
	failed_at = 0;
}

char *
ca_backend_connection_endpoint(void)
{
	CaRedisAddress address;

	ca_redis_address_of_settings(&address);
	explicit_bzero(address.password, sizeof(address.password));
	(void) ca_master_resolve(&address);
	return ca_redis_address_endpoint(&address);
}

const char *
ca_backend_connection_problem(void)
{
	return problem;
}

bool
ca_backend_connection_is_news(const char *error)
{
	static TimestampTz statement;
	static uint32 told[MAX_NEWS];
	static int ntold;
	uint32 cause = ca_trouble_judge(error);

	/* Two causes that have no name of their own differ in what is said. */
	if (cause == CA_TROUBLE_ANSWER || cause == CA_TROUBLE_UNREACHABLE)
		cause = hash_bytes((const unsigned char *) error, (int) strlen(error)) | 0x80000000;
	if (statement != GetCurrentStatementStartTimestamp())
		ntold = 0;
	statement = GetCurrentStatementStartTimestamp();
	for (int i = 0; i < ntold; i++)
		if (told[i] == cause)
			return false;
	if (ntold == MAX_NEWS)
		return false;
	told[ntold++] = cause;
	return true;
}

void
ca_backend_connection_warn(const char *consequence)
{
	const char *hint = ca_redis_hint(problem);
	char *endpoint;

	if (!ca_backend_connection_is_news(problem))
		return;
	endpoint = ca_backend_connection_endpoint();
	ereport(WARNING, (errcode(ERRCODE_CONNECTION_FAILURE),
					  errmsg("no answer from Redis at %s: %s", endpoint, problem),
					  errdetail("%s", consequence), hint ? errhint("%s", hint) : 0));
	pfree(endpoint);
}
