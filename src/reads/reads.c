/*
 * reads.c: the cache from SQL: get, fetch, shard. What stores is in fill.c.
 *
 * Redis that does not answer is a WARNING and a miss, never an error in the reader: the same for a
 * Redis that is full, read-only or loading. What the caller did wrong is an ERROR: a token that is
 * none, a time to live that is not positive, a value too long, a key that holds no string.
 *
 * Keys are what rules and invalidate() name, so the prefix is added here too (the first of several:
 * entries are filled under one name and invalidated under all). Text crosses as UTF-8.
 *
 * A transaction that has written does not fill, whatever token it shows: it may see rows that nobody
 * else will ever see. fetch() does not read the cache then either, since that lacks the
 * transaction's own changes.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "reads/reads.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "parser/parse_param.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(cache_aside_get);
PG_FUNCTION_INFO_V1(cache_aside_shard);

/* ---- keys, values, times ---- */

static void
take_first(void *arg, const char *key, Size len)
{
	CaText *taken = arg;

	if (taken->data != NULL)
		return;
	taken->data = pnstrdup(key, len);
	taken->len = len;
}

CaText
ca_reads_key(const char *key, Size len)
{
	CaText result = {NULL, 0};
	Size utf8_len;
	char *utf8 = ca_prefix_utf8(key, len, &utf8_len);

	if (utf8_len == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cache key is empty"),
						errdetail("No rule ever names an empty key."),
						errhint("Name the entry as the rules do.")));
	ca_prefix_each(CA_ENTRY_KEY, utf8, utf8_len, "The argument", take_first, &result);
	return result;
}

bool
ca_reads_fits(const char *value, Size len, CaText *sent)
{
	sent->len = len;
	if (len > CA_MAX_VALUE)
		return false;
	sent->data = ca_prefix_utf8(value, len, &sent->len);
	return sent->len <= CA_MAX_VALUE;
}

CaText
ca_reads_value(const char *value, Size len, const char *key)
{
	CaText result;

	if (!ca_reads_fits(value, len, &result))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("value is too long for the cache"),
				 errdetail("The value for key \"%s\" has %zu bytes; %d are allowed.", key,
						   result.len, CA_MAX_VALUE),
				 errhint("Cache less of it, or cut it into several entries.")));
	return result;
}

char *
ca_reads_from_redis(const char *bytes, Size len)
{
	int encoding = GetDatabaseEncoding();
	char *copy;

	if (len > CA_MAX_VALUE || memchr(bytes, '\0', len) != NULL)
		return NULL;
	if (encoding != PG_SQL_ASCII && !pg_verify_mbstr(PG_UTF8, bytes, (int) len, true))
		return NULL;
	copy = pnstrdup(bytes, len);
	return ca_prefix_from_utf8(copy);
}

bool
ca_reads_has_written(void)
{
	return TransactionIdIsValid(GetTopTransactionIdIfAny());
}

int64
ca_reads_ttl(const Interval *interval)
{
	double ms = (double) interval->time / 1000.0 + interval->day * 86400000.0 +
				interval->month * 30.0 * 86400000.0;

	if (ms < 1.0 || ms > 100.0 * 366 * 86400000)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid time to live"),
						errdetail("It is %.3f seconds.", ms / 1000.0),
						errhint("Give between 1 millisecond and 100 years.")));
	return (int64) ms;
}

/* ---- get ---- */

void
ca_reads_handle(void *arg, const CaReply *reply)
{
	CaGot *got = arg;
	const char *bytes;

	got->type = CA_REPLY_NIL;
	if (reply == NULL)
		return;
	got->type = ca_redis_reply_type(reply);
	if (got->type == CA_REPLY_INTEGER)
		got->number = ca_redis_reply_integer(reply);
	if (got->type != CA_REPLY_STRING && got->type != CA_REPLY_ERROR)
		return;
	bytes = ca_redis_reply_text(reply, &got->len);
	/* A handler must not raise. */
	got->data =
		MemoryContextAllocExtended(got->cxt, got->len + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (got->data == NULL)
	{
		got->type = CA_REPLY_ERROR;
		got->data = "this server is out of memory for the answer";
		return;
	}
	memcpy(got->data, bytes, got->len);
	got->data[got->len] = '\0';
}

/* A key that holds something else is the caller's mistake; any other error is Redis's state: said once. */
void
ca_reads_judge(const char *error, const char *key, const char *consequence)
{
	if (strncmp(error, "WRONGTYPE", 9) == 0)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("key \"%s\" holds no cached value", key), errdetail("%s", error),
						errhint("Another program uses this key in Redis; choose another name.")));
	if (!ca_backend_connection_is_news(error))
		return;
	ereport(WARNING, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					  errmsg("Redis refused a command for key \"%s\": %s", key, error),
					  errdetail("%s", consequence)));
}

/*
 * Asks for no more than a value may have, and one byte: what is longer would end the connection. An empty
 * answer means missing if the key does not exist, which is asked then; when the last key was missing, together with
 * the first question. Whatever others do between the two, the answer is true of a moment in this call: an empty value
 * that was deleted is missing; a key that has come meanwhile is there, and so is one that is empty: then GET, which
 * brings little or nothing but in that race. GET, too, where the user lacks a right to the others.
 */
static bool
ask_value(const CaText *key, CaGot *got)
{
	char last[24];
	static bool missed;
	const char *range[] = {"GETRANGE", key->data, "0", last};
	size_t range_lens[] = {8, key->len, 1, 0};
	const char *exists[] = {"EXISTS", key->data};
	size_t exists_lens[] = {6, key->len};
	const char *whole[] = {"GET", key->data};
	size_t whole_lens[] = {3, key->len};
	CaGot there = {CA_REPLY_NIL, NULL, 0, 0, CurrentMemoryContext};
	CaQuestion questions[] = {{4, range, range_lens, ca_reads_handle, got},
							  {2, exists, exists_lens, ca_reads_handle, &there}};

	range_lens[3] = snprintf(last, sizeof(last), "%d", CA_MAX_VALUE);
	if (!ca_backend_connection_all(questions, missed ? 2 : 1))
		return false;
	if (got->type == CA_REPLY_STRING && got->len == 0 && !missed &&
		!ca_backend_connection_all(&questions[1], 1))
		return false;
	missed = got->type == CA_REPLY_STRING && got->len == 0 && there.type == CA_REPLY_INTEGER &&
			 there.number == 0;
	if (missed)
		got->type = CA_REPLY_NIL;
	if (missed || (got->type == CA_REPLY_STRING && got->len > 0))
		return true;
	if (got->type == CA_REPLY_ERROR && strncmp(got->data, "NOPERM", 6) != 0)
		return true;
	return ca_backend_connection_ask(2, whole, whole_lens, ca_reads_handle, got);
}

/* The bytes under a key; type NIL for a miss, whatever the reason. */
void
ca_reads_get(const char *shown, const CaText *key, CaGot *got)
{
	memset(got, 0, sizeof(*got));
	got->cxt = CurrentMemoryContext;
	if (!ask_value(key, got))
	{
		got->type = CA_REPLY_NIL;
		ca_backend_connection_warn("The key counts as missing.");
	}
	else if (got->type == CA_REPLY_ERROR)
	{
		ca_reads_judge(got->data, shown, "The key counts as missing.");
		got->type = CA_REPLY_NIL;
	}
}

Datum
cache_aside_get(PG_FUNCTION_ARGS)
{
	char *shown = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CaText key = ca_reads_key(shown, strlen(shown));
	CaGot got;
	char *value;

	ca_reads_get(shown, &key, &got);
	if (got.type != CA_REPLY_STRING)
		PG_RETURN_NULL();
	if (got.len > CA_MAX_VALUE)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the value of key \"%s\" is too long", shown),
						errdetail("It has more than %d bytes.", CA_MAX_VALUE),
						errhint("Read long values with a Redis client.")));
	value = ca_reads_from_redis(got.data, got.len);
	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
						errmsg("the value of key \"%s\" is not text", shown),
						errdetail("Its %zu bytes are not valid UTF-8 without NUL.", got.len),
						errhint("Read binary values with a Redis client.")));
	PG_RETURN_TEXT_P(cstring_to_text(value));
}

/* ---- shard ---- */

/* One of the copies that a template with {column#N} names; which one is left to chance. */
Datum
cache_aside_shard(PG_FUNCTION_ARGS)
{
	char *key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int32 copies = PG_GETARG_INT32(1);

	if (copies < 1 || copies > CA_MAX_COPIES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid number of copies"), errdetail("It is %d.", copies),
						errhint("Give the N of {column#N}, between 1 and %d.", CA_MAX_COPIES)));
	(void) ca_reads_key(key, strlen(key));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(
		"%s#%d", key, (int) pg_prng_uint64_range(&pg_global_prng_state, 0, (uint64) copies - 1))));
}
