/*
 * stick.c: a token for others. SQL: stick(name, ttl), stuck_at(name)
 *
 * stick() joins the open transaction like a key to invalidate; when the worker delivers the commit
 * it writes cache_aside:stick:<name> = commit LSN, with the time to live, and never moves it back.
 * A rolled-back transaction leaves nothing. Any process can read the key; stuck_at() reads it here.
 *
 * The name is stored as UTF-8, like keys, so that every database means the same by it.
 *
 * stuck_at() talks to Redis from this backend, over a connection of its own that is closed before
 * it returns, within connect_timeout and command_timeout. When Redis does not answer, the error is
 * 08006 or 08001: the caller who gets no token should go to the primary.
 */
#include "cache_aside.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "reads.h"
#include "routing.h"

/* What Redis said about one stick. */
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

	answer->failed = reply == NULL || ca_reply_type(reply) == CA_REPLY_ERROR;
	if (reply == NULL || ca_reply_type(reply) == CA_REPLY_NIL)
		return;
	if (ca_reply_type(reply) == CA_REPLY_STRING || answer->failed)
		bytes = ca_reply_text(reply, &len);
	if (bytes == NULL)
		return;
	answer->found = !answer->failed;
	len = Min(len, sizeof(answer->text) - 1);
	memcpy(answer->text, bytes, len);
	answer->text[len] = '\0';
}

static void
ask_redis(CaRedis *redis, const char *key, Answer *answer)
{
	const char *argv[] = {"GET", key};
	size_t lens[] = {3, strlen(key)};

	if (ca_redis_wait(redis, guc_connect_timeout, PG_WAIT_EXTENSION))
	{
		ca_redis_send(redis, 2, argv, lens, handle_answer, answer);
		if (ca_redis_wait(redis, guc_command_timeout, PG_WAIT_EXTENSION))
			return;
	}
	answer->failed = true;
	strlcpy(answer->text, ca_redis_error(redis), sizeof(answer->text));
}

static Answer
fetch(const char *key)
{
	Answer answer = {0};
	CaRedis *redis;

	ca_ask_require_url();
	redis = ca_redis_open(CurrentMemoryContext, "cache_aside stuck_at");

	PG_TRY();
	{
		ask_redis(redis, key, &answer);
	}
	PG_FINALLY();
	{
		ca_redis_close(redis);
	}
	PG_END_TRY();
	return answer;
}

PG_FUNCTION_INFO_V1(cache_aside_stick);
PG_FUNCTION_INFO_V1(cache_aside_stuck_at);

Datum
cache_aside_stick(PG_FUNCTION_ARGS)
{
	char *name = stick_name(PG_GETARG_TEXT_PP(0));
	uint32 ttl = (uint32) ca_routing_interval_ms(PG_GETARG_INTERVAL_P(1), "ttl");
	Size len = strlen(name);
	char *data = palloc(sizeof(ttl) + len);

	if (ttl == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("ttl is too short"),
						errdetail("It is less than a millisecond."),
						errhint("Give it the time in which a standby may lag, such as 30 s.")));
	memcpy(data, &ttl, sizeof(ttl));
	memcpy(data + sizeof(ttl), name, len);
	ca_pending_add(CA_ENTRY_STICK, data, sizeof(ttl) + len);
	PG_RETURN_VOID();
}

Datum
cache_aside_stuck_at(PG_FUNCTION_ARGS)
{
	char *name = stick_name(PG_GETARG_TEXT_PP(0));
	Answer answer = fetch(psprintf(CA_STICK_PREFIX "%s", name));

	if (answer.failed)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE), errmsg("could not read the stick from Redis"),
				 errdetail("%s: %s", ca_redis_endpoint(), answer.text),
				 errhint("Read from the primary.")));
	if (!answer.found)
		PG_RETURN_NULL();
	/* Not what stick() leaves, and not fit for a message either: bytes of any encoding. */
	if (answer.text[strspn(answer.text, "0123456789ABCDEFabcdef/")] != '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("what Redis holds under this name is not an LSN"),
						errdetail("Something else than stick() has written it."),
						errhint("Read from the primary.")));
	PG_RETURN_DATUM(DirectFunctionCall1(pg_lsn_in, CStringGetDatum(answer.text)));
}
