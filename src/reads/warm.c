/*
 * warm.c: filling the cache from a query or a table. SQL: warm()
 *
 * Rows come from a cursor, WARM_FETCH at a time, and go out as calls of cache_aside_fill_many, several
 * in the pipeline; memory does not grow with the rows. One token serves all: the cursor reads with
 * the calling statement's snapshot, and the query must be read-only. Entries invalidated meanwhile
 * are refused, one by one, and counted. Nothing is sent once the transaction has written, which the query
 * can bring about: the token would vouch for rows that nobody else sees.
 *
 * Unlike the other readers, warm() raises an error when Redis does not answer: whoever fills a
 * million entries wants to know. What was stored until then stays; it is right.
 *
 * Whose rights: the caller's, as for SQL that the caller writes; reading a table runs what its owner put
 * there (views, policies, casts to json). Not for PUBLIC.
 *
 * The connection and the slot that shows the progress are let go on errors and at exit, too.
 */
#include "cache_aside.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/shared.h"
#include "reads/reads.h"
#include "shared/long_work.h"

#include "access/table.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define WARM_FETCH 500                /* rows of the cursor at a time */
#define WARM_PAIRS 32                 /* in one call: Redis is held for 0.1 ms */
#define WARM_BYTES (256 * 1024)       /* in one call, unless one entry is larger */
#define WARM_PIPELINE 64              /* calls without an answer */
#define WARM_UNSENT (8 * 1024 * 1024) /* bytes waiting for the socket */
#define WARM_NOTICE_MS 5000

typedef struct Warm
{
	CaRedis *redis;
	const char *token;
	char ttl[32];
	CaTemplate *template; /* NULL: the query gives the key */
	TupleTableSlot *row;  /* with a template */
	const char *value;    /* of the row that keys are made for */
	struct CaLongWork *work;
	Oid relid; /* whose rows, with a template */
	uint64 total;
	TimestampTz noticed;
	uint64 rows;
	uint64 stored;
	uint64 refused;
	uint64 failed;
	char error[256];   /* the first */
	bool call_failed;  /* `error` is about a whole call */
	MemoryContext cxt; /* of the pairs below */
	int npairs;
	Size bytes;
	CaText keys[WARM_PAIRS];
	CaText values[WARM_PAIRS];
} Warm;

PG_FUNCTION_INFO_V1(cache_aside_warm_query);
PG_FUNCTION_INFO_V1(cache_aside_warm_table);

/*
 * Also on errors; a session that is terminated has no need of it. (Not PG_ENSURE_ERROR_CLEANUP: what the query runs may have
 * its own callback at exit, say for a first temporary table, and then that fails.)
 */
static void
end_run(Warm *warm)
{
	ca_backend_connection_release(warm->redis);
	warm->redis = NULL;
	ca_long_work_end(warm->work);
	warm->work = NULL;
}

static void
show_progress(Warm *warm)
{
	ca_long_work_show(warm->work, warm->rows);
	ca_long_work_show_fills(warm->work, warm->stored, warm->refused);
	if (!TimestampDifferenceExceeds(warm->noticed, GetCurrentTimestamp(), WARM_NOTICE_MS))
		return;
	warm->noticed = GetCurrentTimestamp();
	ereport(NOTICE, (errmsg("warm: " UINT64_FORMAT " rows read, " UINT64_FORMAT
							" entries stored, " UINT64_FORMAT " refused",
							warm->rows, warm->stored, warm->refused)));
}

/* ---- to Redis ---- */

static void
note_error(Warm *warm, const CaReply *reply)
{
	Size len;

	if (warm->error[0] == '\0')
		strlcpy(warm->error, ca_redis_reply_text(reply, &len), sizeof(warm->error));
}

static void
handle_fills(void *arg, const CaReply *reply)
{
	Warm *warm = arg;

	if (reply == NULL)
		return;
	if (ca_redis_reply_type(reply) != CA_REPLY_ARRAY)
	{
		if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
			note_error(warm, reply);
		warm->call_failed = true;
		return;
	}
	for (Size i = 0; i < ca_redis_reply_count(reply); i++)
	{
		const CaReply *answer = ca_redis_reply_element(reply, i);

		if (ca_redis_reply_type(answer) == CA_REPLY_ERROR)
		{
			note_error(warm, answer);
			warm->failed++;
		}
		else if (ca_redis_reply_integer(answer) == 1)
			warm->stored++;
		else
			warm->refused++;
	}
}

static void
no_answer(void)
{
	char *endpoint = ca_backend_connection_endpoint();

	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("no answer from Redis at %s: %s", endpoint, ca_backend_connection_problem()),
			 errdetail("What was stored so far stays in the cache."),
			 errhint("Look at cache_aside.status, and run warm() again.")));
}

static void
check_answers(const Warm *warm)
{
	if (warm->call_failed)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("Redis refused to fill: %s",
							   warm->error[0] ? warm->error : "unexpected answer"),
						errdetail("What was stored so far stays in the cache."),
						errhint("Guarded fills need Redis 7 or Valkey, cache_aside.guard = on, and "
								"memory.")));
}

/* The query may call a function that writes: what it read since then may be its own. */
static void
refuse_own_writes(void)
{
	if (ca_reads_has_written())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("warm() stores nothing that a transaction which has written reads"),
						errdetail("The query, or a function that it calls, has written or locked "
								  "rows. What was stored so far stays in the cache."),
						errhint("Give a query that only reads.")));
}

static void
send_pairs(Warm *warm)
{
	const char *argv[2 * WARM_PAIRS + 5] = {"FCALL", CA_LIBRARY_CALL("fill_many")};
	size_t lens[2 * WARM_PAIRS + 5] = {5, strlen(argv[1])};
	char count[12];
	int n = 3;

	if (warm->npairs == 0)
		return;
	refuse_own_writes();
	argv[2] = count;
	lens[2] = snprintf(count, sizeof(count), "%d", warm->npairs);
	for (int i = 0; i < warm->npairs; i++, n++)
	{
		argv[n] = warm->keys[i].data;
		lens[n] = warm->keys[i].len;
	}
	argv[n] = warm->ttl;
	lens[n++] = strlen(warm->ttl);
	argv[n] = warm->token;
	lens[n++] = strlen(warm->token);
	for (int i = 0; i < warm->npairs; i++, n++)
	{
		argv[n] = warm->values[i].data;
		lens[n] = warm->values[i].len;
	}
	ca_redis_send(warm->redis, n, argv, lens, handle_fills, warm);
	warm->npairs = 0;
	warm->bytes = 0;
	MemoryContextReset(warm->cxt);
	ca_redis_advance(warm->redis);
	if ((ca_redis_in_flight(warm->redis) >= WARM_PIPELINE ||
		 ca_redis_unsent_bytes(warm->redis) > WARM_UNSENT ||
		 ca_redis_state(warm->redis) == CA_REDIS_FAILED) &&
		!ca_backend_connection_wait(warm->redis))
		no_answer();
	check_answers(warm);
	show_progress(warm);
	CHECK_FOR_INTERRUPTS();
}

static void
add_pair(Warm *warm, const char *key, Size key_len, const char *value)
{
	MemoryContext old = MemoryContextSwitchTo(warm->cxt);
	CaText sent;
	int i = warm->npairs;

	warm->keys[i] = ca_reads_key(key, key_len);
	sent = ca_reads_value(value, strlen(value), key);
	warm->values[i].data = pnstrdup(sent.data, sent.len);
	warm->values[i].len = sent.len;
	warm->bytes += warm->keys[i].len + sent.len;
	warm->npairs++;
	MemoryContextSwitchTo(old);
	if (warm->npairs == WARM_PAIRS || warm->bytes >= WARM_BYTES)
		send_pairs(warm);
}

/* A key of the row, made by the template; UTF-8 already. */
static void
add_built_key(void *arg, const char *key, Size len)
{
	Warm *warm = arg;
	char *shown = ca_prefix_from_utf8(pnstrdup(key, len));

	add_pair(warm, shown, strlen(shown), warm->value);
}

/* ---- rows ---- */

static void
add_row(Warm *warm, HeapTuple tuple, TupleDesc desc)
{
	char *key;

	warm->rows++;
	warm->value = SPI_getvalue(tuple, desc, 2);
	if (warm->value == NULL)
		return;
	if (warm->template != NULL)
	{
		bool isnull;
		HeapTupleHeader header = DatumGetHeapTupleHeader(SPI_getbinval(tuple, desc, 1, &isnull));
		HeapTupleData whole = {0};

		whole.t_len = HeapTupleHeaderGetDatumLength(header);
		whole.t_data = header;
		ExecForceStoreHeapTuple(&whole, warm->row, false);
		ca_key_build(warm->template, warm->row, add_built_key, warm);
		return;
	}
	key = SPI_getvalue(tuple, desc, 1);
	if (key != NULL)
		add_pair(warm, key, strlen(key), warm->value);
}

static void
read_cursor(Warm *warm, Portal portal)
{
	MemoryContext rows_cxt = AllocSetContextCreate(CurrentMemoryContext, "cache_aside warm rows",
												   ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContext old;
		SPITupleTable *table;
		uint64 n;

		SPI_cursor_fetch(portal, true, WARM_FETCH);
		table = SPI_tuptable;
		n = SPI_processed;
		old = MemoryContextSwitchTo(rows_cxt);
		for (uint64 i = 0; i < n; i++)
			add_row(warm, table->vals[i], table->tupdesc);
		MemoryContextSwitchTo(old);
		MemoryContextReset(rows_cxt);
		SPI_freetuptable(table);
		if (n < WARM_FETCH)
			break;
	}
	send_pairs(warm);
	if (!ca_backend_connection_wait(warm->redis))
		no_answer();
	check_answers(warm);
}

static Portal
open_cursor(const char *query)
{
	SPIPlanPtr plan = SPI_prepare(query, 0, NULL);
	Portal portal;

	if (plan == NULL || !SPI_is_cursor_plan(plan))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid query for warm()"), errdetail("It is not one SELECT."),
						errhint("Give a SELECT that returns key and value.")));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	if (portal->tupDesc == NULL || portal->tupDesc->natts != 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid query for warm()"),
				 errdetail("It returns %d columns.", portal->tupDesc ? portal->tupDesc->natts : 0),
				 errhint("Give a SELECT that returns key and value.")));
	return portal;
}

static const char *
require_token(void)
{
	const char *token = ca_read_token_current();

	ca_redis_url_require();
	if (token == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("warm() has no token to fill with"),
				 errdetail("This transaction has written, is very old, or no worker is running."),
				 errhint("Run it in a transaction of its own, and look at cache_aside.status.")));
	return pstrdup(token);
}

static void
report_end(const Warm *warm)
{
	if (warm->refused > 0)
		ereport(NOTICE,
				(errmsg(UINT64_FORMAT " entries were refused", warm->refused),
				 errdetail("They were invalidated since this transaction began, or Redis was not "
						   "caught up with.")));
	if (warm->failed > 0)
		ereport(WARNING, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						  errmsg(UINT64_FORMAT " entries could not be stored", warm->failed),
						  errdetail("The first: %s", warm->error)));
}

/* `warm` has its template and row set, or neither. Returns the number of entries stored. */
static int64
run(Warm *warm, const char *query, const Interval *ttl)
{
	snprintf(warm->ttl, sizeof(warm->ttl), INT64_FORMAT, ca_reads_ttl(ttl));
	warm->token = require_token();
	warm->cxt =
		AllocSetContextCreate(CurrentMemoryContext, "cache_aside warm", ALLOCSET_DEFAULT_SIZES);
	warm->noticed = GetCurrentTimestamp();
	PG_TRY();
	{
		warm->redis = ca_backend_connection_hold();
		if (warm->redis == NULL)
			no_answer();
		warm->work = ca_long_work_begin(CA_LONG_WORK_WARM, warm->relid, warm->total);
		ca_long_work_phase(warm->work, "filling");
		SPI_connect();
		read_cursor(warm, open_cursor(query));
		SPI_finish();
	}
	PG_FINALLY();
	{
		end_run(warm);
	}
	PG_END_TRY();
	report_end(warm);
	return (int64) warm->stored;
}

/* warm(query, ttl): the query gives key and value */
Datum
cache_aside_warm_query(PG_FUNCTION_ARGS)
{
	Warm *warm = palloc0(sizeof(Warm));

	PG_RETURN_INT64(run(warm, text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INTERVAL_P(1)));
}

/* warm(relation, template, ttl): the value is the row as JSON */
Datum
cache_aside_warm_table(PG_FUNCTION_ARGS)
{
	Warm *warm = palloc0(sizeof(Warm));
	Relation relation = table_open(PG_GETARG_OID(0), AccessShareLock);
	char *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
											RelationGetRelationName(relation));
	int64 stored;

	warm->template = ca_template_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)),
									   RelationGetDescr(relation), name, NULL);
	warm->row =
		MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(relation)), &TTSOpsHeapTuple);
	warm->relid = RelationGetRelid(relation);
	warm->total = (uint64) Max(RelationGetForm(relation)->reltuples, 0);
	stored = run(
		warm, psprintf("SELECT t, pg_catalog.row_to_json(t)::pg_catalog.text FROM %s AS t", name),
		PG_GETARG_INTERVAL_P(2));
	ExecDropSingleTupleTableSlot(warm->row);
	table_close(relation, NoLock);
	PG_RETURN_INT64(stored);
}
