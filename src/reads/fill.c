/*
 * fill.c: what a reader has read is stored, if Redis admits it. SQL: fill(), release()
 *
 * In: key, value, time to live, the token of the read, and perhaps the lease that the reader got from
 * cache_aside_get in Redis. Redis judges (delivery/library/fill.lua). What the caller did wrong is an ERROR, a Redis
 * that does not answer or refuses is a WARNING and false.
 *
 * A lease ends with the call, whatever becomes of it: Redis ends it with each fill that it executes, and
 * where it executed none (no token, a transaction that has written, an error here, Redis full or
 * read-only) it is released by a call of its own. But for a cancelled or terminated statement, which waits
 * for nothing: then it ends by itself.
 *
 * Redis closes a connection on which a value comes that is longer than its proto-max-bulk-len. So the
 * length of one that was refused for that is remembered for a while, and none as long is sent again.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/shared.h"
#include "reads/reads.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LEAST_LIMIT (1024 * 1024) /* no Redis has a lower one */
#define LENGTH_MS 60000 /* so long is a refused length remembered: the setting may be raised */

PG_FUNCTION_INFO_V1(cache_aside_fill);
PG_FUNCTION_INFO_V1(cache_aside_release);

static Size refused_length; /* 0: none */
static TimestampTz refused_at;

/* ---- what Redis is asked ---- */

static bool
is_refused_length(Size len)
{
	if (refused_length == 0 || len < refused_length)
		return false;
	if (!TimestampDifferenceExceeds(refused_at, GetCurrentTimestamp(), LENGTH_MS))
		return true;
	refused_length = 0;
	return false;
}

/* Redis answers and closes the connection; which of them is heard, or both, is a matter of luck. */
static bool
was_length(Size len, bool answered, const CaGot *got)
{
	const char *said = got->data ? got->data : answered ? "" : ca_backend_connection_problem();

	if (len < LEAST_LIMIT || strstr(said, "invalid bulk length") == NULL)
		return false;
	refused_length = refused_length == 0 ? len : Min(refused_length, len);
	refused_at = GetCurrentTimestamp();
	ca_backend_connection_forgive();
	return true;
}

/* False: no answer. What a refused length means is said as if Redis had only answered. */
static bool
ask(int argc, const char **argv, const size_t *lens, CaGot *got)
{
	Size len = lens[4];

	if (!is_refused_length(len))
	{
		bool answered = ca_backend_connection_ask(argc, argv, lens, ca_reads_handle, got);

		if (!was_length(len, answered, got))
			return answered;
	}
	got->type = CA_REPLY_ERROR;
	got->data = "ERR Protocol error: invalid bulk length";
	return true;
}

CaFilled
ca_fill_store(const char *shown, const CaText *key, const CaText *value, int64 ttl,
			  const char *token, const char *lease)
{
	char number[32];
	const char *argv[] = {
		"FCALL", CA_LIBRARY_CALL("fill"), "1", key->data, value->data, number, token, lease};
	size_t lens[] = {
		5, strlen(argv[1]), 1, key->len, value->len, 0, strlen(token), lease ? strlen(lease) : 0};
	CaGot got = {CA_REPLY_NIL, NULL, 0, 0, CurrentMemoryContext};

	lens[5] = snprintf(number, sizeof(number), INT64_FORMAT, ttl);
	if (!ask(lengthof(argv) - (lease == NULL), argv, lens, &got))
		ca_backend_connection_warn("Nothing is stored.");
	else if (got.type == CA_REPLY_ERROR)
		ca_reads_judge(got.data, shown, "Nothing is stored.");
	if (got.type != CA_REPLY_INTEGER)
		return CA_FILL_FAILED;
	return got.number == 1 ? CA_FILL_STORED : CA_FILL_REFUSED;
}

/* Was it held? False, with a warning, when Redis does not say. */
static bool
release(const char *shown, const CaText *key, const char *lease)
{
	const char *argv[] = {"FCALL", CA_LIBRARY_CALL("release"), "1", key->data, lease};
	size_t lens[] = {5, strlen(argv[1]), 1, key->len, strlen(lease)};
	CaGot got = {CA_REPLY_NIL, NULL, 0, 0, CurrentMemoryContext};

	if (!ca_backend_connection_ask(lengthof(argv), argv, lens, ca_reads_handle, &got))
		ca_backend_connection_warn("The lease ends by itself.");
	else if (got.type == CA_REPLY_ERROR)
		ca_reads_judge(got.data, shown, "The lease ends by itself.");
	return got.type == CA_REPLY_INTEGER && got.number == 1;
}

/* ---- the calls ---- */

/* The text of a token that a fill may show to Redis; ERROR when it is none of this cluster. */
static void
check_token(const char *token)
{
	uint64 sysid;
	TimeLineID timeline;
	XLogRecPtr lsn;

	if (!ca_read_token_parse(token, &sysid, &timeline, &lsn))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid token"),
				 errdetail("\"%.80s\" was not made by cache_aside.read_token().", token),
				 errhint("Pass the token that was selected in the transaction of the read.")));
	if (sysid != GetSystemIdentifier())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the token is of another database cluster"),
				 errdetail("The token says " UINT64_FORMAT ", this cluster is " UINT64_FORMAT ".",
						   sysid, GetSystemIdentifier()),
				 errhint("Fill on the cluster, or a standby of it, that was read.")));
}

static void
refuse_null(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name),
					errdetail("Redis has no null."),
					errhint("Cache a text that stands for \"not found\" if that is meant.")));
}

static CaFilled
fill(FunctionCallInfo fcinfo, const char *shown, const CaText *key, const char *lease)
{
	CaText value = ca_reads_value(VARDATA_ANY(PG_GETARG_TEXT_PP(1)),
								  VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)), shown);
	int64 ttl = ca_reads_ttl(PG_GETARG_INTERVAL_P(2));
	char *token;

	ca_redis_url_require(); /* which is why there is no token */
	if (PG_ARGISNULL(3))
		return CA_FILL_FAILED;
	token = text_to_cstring(PG_GETARG_TEXT_PP(3));
	check_token(token);
	if (ca_reads_has_written())
		return CA_FILL_FAILED;
	return ca_fill_store(shown, key, &value, ttl, token, lease);
}

/* The error goes on; what is to be done first must not end in another. */
static void
release_after_error(MemoryContext cxt, const char *shown, const CaText *key, const char *lease)
{
	ErrorData *error;
	int category;

	MemoryContextSwitchTo(cxt);
	error = CopyErrorData();
	category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
	FlushErrorState();
	if (category != ERRCODE_OPERATOR_INTERVENTION && !ca_redis_url_lacking())
		release(shown, key, lease);
	ReThrowError(error);
}

static CaFilled
fill_with_lease(FunctionCallInfo fcinfo, const char *shown, const CaText *key, const char *lease)
{
	MemoryContext cxt = CurrentMemoryContext;
	CaFilled filled = CA_FILL_FAILED;

	PG_TRY();
	{
		filled = fill(fcinfo, shown, key, lease);
	}
	PG_CATCH();
	{
		release_after_error(cxt, shown, key, lease);
	}
	PG_END_TRY();
	if (filled == CA_FILL_FAILED)
		release(shown, key, lease);
	return filled;
}

/* Not strict: without a token nothing is stored, which is false. */
Datum
cache_aside_fill(PG_FUNCTION_ARGS)
{
	char *shown;
	CaText key;
	CaFilled filled;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		refuse_null(PG_ARGISNULL(0) ? "key" : PG_ARGISNULL(1) ? "value" : "ttl");
	shown = text_to_cstring(PG_GETARG_TEXT_PP(0));
	key = ca_reads_key(shown, strlen(shown));
	filled = PG_NARGS() < 5 || PG_ARGISNULL(4) /* of version 1.0: has four */
				 ? fill(fcinfo, shown, &key, NULL)
				 : fill_with_lease(fcinfo, shown, &key, text_to_cstring(PG_GETARG_TEXT_PP(4)));
	PG_RETURN_BOOL(filled == CA_FILL_STORED);
}

/* release(key, lease) */
Datum
cache_aside_release(PG_FUNCTION_ARGS)
{
	char *shown = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CaText key = ca_reads_key(shown, strlen(shown));

	PG_RETURN_BOOL(release(shown, &key, text_to_cstring(PG_GETARG_TEXT_PP(1))));
}
