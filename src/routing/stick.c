/*
 * stick.c: a token for others. SQL: stick(name, ttl, wait), stuck_at(name)
 *
 * stick() joins the open transaction like a key to invalidate; when the worker delivers the commit
 * it writes cache_aside:stick:<name> = commit LSN, with the time to live, and never moves it back.
 * A rolled-back transaction leaves nothing. Any process can read the key; stuck_at() reads it here.
 *
 * The name is stored as UTF-8, like keys, so that every database means the same by it.
 *
 * Who calls stick() does so for a reader that comes next, so COMMIT waits for it as a synchronous one
 * does: the same queue, time-out and warning (sync.c). With wait => false it does so only if the
 * session is synchronous. Waiting or not, the client is told the LSN (commit_token.c): it need not
 * depend on the stick being there. A prepared transaction is waited for if the session that commits it
 * is synchronous.
 *
 * That a stick is absent is no news if Redis forgot it. Redis shows that it did by the position: it
 * goes with the sticks when a Redis is emptied or begins from nothing. Whoever writes it again leaves,
 * in the same call, a stick without a name (ca_lost_sticks_forgotten), which is not below any that was lost
 * and stays as long as one of these could have. So stuck_at() says "none" only if
 *
 *	the worker delivers, hence no older Redis than the one it wrote to is being brought forward, and
 *	the position is there, and was when the stick was looked for before it, and
 *	there is no stick without a name.
 *
 * Else it gives the LSN of that one, or the end of the log; a standby, whose log may end before the
 * stick that was lost, raises. What remains: a stick that Redis evicts, alone, to make room, and the
 * milliseconds until the worker notices that another Redis answers. Who reads the keys himself has to
 * read the three of them, in this order: stick, position, stick without a name.
 *
 * stuck_at() talks to Redis from this backend, over a connection made anew, for the address may lead
 * elsewhere by now; it is then kept as the backend's own (backend_connection.c). When Redis does not answer within
 * connect_timeout and command_timeout, the error is 08006: the caller who gets no token should go to the
 * primary.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "transaction/transaction.h"
#include "log/log.h"
#include "reads/reads.h"
#include "routing/routing.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

/* What Redis said about one key. */
typedef struct Answer
{
	bool found;
	bool failed;
	char text[256]; /* of the value or of the error */
} Answer;

/* The name in UTF-8, checked. */
static char *
stick_name(text *argument)
{
	char *name = text_to_cstring(argument);
	char *utf8;

	utf8 = pg_server_to_any(name, strlen(name), PG_UTF8);
	if (utf8[0] == '\0' || strlen(utf8) > CA_MAX_STICK)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the name of a stick is empty or too long"),
						errdetail("It has %zu bytes.", strlen(utf8)),
						errhint("Use between 1 and %d bytes.", CA_MAX_STICK)));
	return utf8;
}

static void
handle_answer(void *arg, const CaReply *reply)
{
	Answer *answer = arg;
	Size len = 0;
	const char *bytes = NULL;

	answer->failed = reply == NULL || ca_redis_reply_type(reply) == CA_REPLY_ERROR;
	if (reply == NULL || ca_redis_reply_type(reply) == CA_REPLY_NIL)
		return;
	if (ca_redis_reply_type(reply) == CA_REPLY_STRING || answer->failed)
		bytes = ca_redis_reply_text(reply, &len);
	if (bytes == NULL)
		return;
	answer->found = !answer->failed;
	len = Min(len, sizeof(answer->text) - 1);
	memcpy(answer->text, bytes, len);
	answer->text[len] = '\0';
}

enum
{
	STICK,
	POSITION,
	NAMELESS,
	QUESTIONS
};

static void
ask_redis(CaRedis *redis, const char *const keys[QUESTIONS], Answer answers[QUESTIONS])
{
	for (int i = 0; i < QUESTIONS; i++)
	{
		const char *argv[] = {"GET", keys[i]};
		size_t lens[] = {3, strlen(keys[i])};

		ca_redis_send(redis, 2, argv, lens, handle_answer, &answers[i]);
	}
	if (ca_backend_connection_wait(redis))
		return;
	answers[STICK].failed = true;
	strlcpy(answers[STICK].text, ca_backend_connection_problem(), sizeof(answers[STICK].text));
}

static void
fetch(const char *name, Answer answers[QUESTIONS])
{
	const char *keys[QUESTIONS] = {psprintf(CA_STICK_PREFIX "%s", name), ca_position_key(),
								   CA_STICK_PREFIX};
	CaRedis *redis = ca_backend_connection_hold_new();

	if (redis == NULL)
	{
		answers[STICK].failed = true;
		strlcpy(answers[STICK].text, ca_backend_connection_problem(), sizeof(answers[STICK].text));
		return;
	}
	PG_TRY();
	{
		ask_redis(redis, keys, answers);
	}
	PG_FINALLY();
	{
		ca_backend_connection_release(redis);
	}
	PG_END_TRY();
}

static void
refuse(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE), errmsg("could not read the stick from Redis"),
			 errdetail("%s: %s", ca_backend_connection_endpoint(), why),
			 errhint("Read from the primary.")));
}

/* Does the worker of this primary write to this Redis, and has it caught up? */
static bool
is_delivered_to(void)
{
	CaStatus s;

	ca_status_copy(&s);
	return s.pid != 0 && s.settled;
}

static Datum
lsn_of(const Answer *answer)
{
	/* Not what stick() leaves, and not fit for a message either: bytes of any encoding. */
	if (answer->text[strspn(answer->text, "0123456789ABCDEFabcdef/")] != '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("what Redis holds under this name is not an LSN"),
						errdetail("Something else than stick() has written it."),
						errhint("Read from the primary.")));
	return DirectFunctionCall1(pg_lsn_in, CStringGetDatum(answer->text));
}

PG_FUNCTION_INFO_V1(cache_aside_stick);
PG_FUNCTION_INFO_V1(cache_aside_stuck_at);

Datum
cache_aside_stick(PG_FUNCTION_ARGS)
{
	char *name = stick_name(PG_GETARG_TEXT_PP(0));
	int64 ms = ca_wait_for_interval_ms(PG_GETARG_INTERVAL_P(1), "ttl");
	uint32 ttl = (uint32) ms;
	Size len = strlen(name);
	char *data = palloc(sizeof(ttl) + len);

	if (ms == 0 || ms > CA_LONGEST_STICK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(ms == 0 ? "ttl is too short" : "ttl is too long"),
				 errdetail("It is %s.", ms == 0 ? "less than a millisecond" : "more than a day"),
				 errhint("Give it the time in which a standby may lag, such as 30 s.")));
	memcpy(data, &ttl, sizeof(ttl));
	memcpy(data + sizeof(ttl), name, len);
	ca_pending_add(CA_ENTRY_STICK, data, sizeof(ttl) + len);
	ca_commit_note_stick(PG_NARGS() < 3 || PG_GETARG_BOOL(2)); /* of version 1.0: has two */
	PG_RETURN_VOID();
}

Datum
cache_aside_stuck_at(PG_FUNCTION_ARGS)
{
	char *name = stick_name(PG_GETARG_TEXT_PP(0));
	Answer answers[QUESTIONS] = {0};

	fetch(name, answers);
	for (int i = 0; i < QUESTIONS; i++)
		if (answers[i].failed)
			refuse(answers[i].text);
	if (answers[STICK].found)
		PG_RETURN_DATUM(lsn_of(&answers[STICK]));
	if (RecoveryInProgress() && !answers[POSITION].found)
		refuse("it is empty, or has forgotten what it held");
	if (!answers[POSITION].found || (!RecoveryInProgress() && !is_delivered_to()))
		PG_RETURN_LSN(GetFlushRecPtr(NULL));
	if (answers[NAMELESS].found)
		PG_RETURN_DATUM(lsn_of(&answers[NAMELESS]));
	PG_RETURN_NULL();
}
