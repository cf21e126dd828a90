/*
 * apply.c: the one atomic call per batch, in the dialect this Redis speaks.
 *
 * Redis >= 7 and Valkey: the function library (guard.c), which raises the guard, deletes the keys and
 * writes the position in one call. Older servers: a plain script that does the same without guard.
 * Either way the call first compares the position with the one this worker wrote last. So a batch
 * that Redis refused stops every later one already in the pipeline, a Redis that went back in time
 * or was replaced behind an address stops the worker at once, and of two workers only one gets
 * through.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

void
ca_apply_use_functions(CaSink *sink)
{
	sink->dialect.plain = false;
}

static void
remember_sha(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	Size len;
	const char *sha;

	sink->dialect.plain_sha[0] = '\0';
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_STRING)
		return;
	sha = ca_redis_reply_text(reply, &len);
	if (len == sizeof(sink->dialect.plain_sha) - 1)
		memcpy(sink->dialect.plain_sha, sha, len);
}

/* Queues the loading of the plain script; later answers come after it was loaded. */
void
ca_apply_use_plain(CaSink *sink, CaRedis *redis)
{
	const char *argv[] = {"SCRIPT", "LOAD", ca_function_library_plain};
	size_t len[] = {6, 4, strlen(ca_function_library_plain)};

	sink->dialect.plain = true;
	ca_redis_send(redis, 3, argv, len, remember_sha, sink);
}

bool
ca_apply_guarded(CaSink *sink)
{
	return guc_guard && !sink->dialect.plain;
}

bool
ca_apply_has_functions(CaSink *sink)
{
	return !sink->dialect.plain;
}

/* Arguments of the plain script under construction. */
typedef struct Args
{
	int n;
	const char *v[CA_BATCH_KEYS + 3 * CA_BATCH_STICKS + 12];
	size_t len[CA_BATCH_KEYS + 3 * CA_BATCH_STICKS + 12];
} Args;

static void
add(Args *args, const char *data, Size len)
{
	args->v[args->n] = data;
	args->len[args->n++] = len;
}

static void
add_text(Args *args, const char *word)
{
	add(args, word, strlen(word));
}

static void
add_sticks(Args *args, const CaBatch *batch)
{
	static char numbers[CA_BATCH_STICKS][2][32];

	for (int i = 0; i < batch->nsticks; i++)
	{
		const CaStick *stick = &batch->sticks[i];

		snprintf(numbers[i][0], sizeof(numbers[i][0]), "%X/%X", LSN_FORMAT_ARGS(stick->lsn));
		snprintf(numbers[i][1], sizeof(numbers[i][1]), "%u", stick->ttl);
		add(args, batch->bytes.data + stick->offset, stick->len);
		add_text(args, numbers[i][0]);
		add_text(args, numbers[i][1]);
	}
}

static void
send_plain(CaSink *sink, CaRedis *redis, const CaBatch *batch, const char *expected,
		   const char *position, CaReplyHandler handler)
{
	static Args args; /* too big for a stack frame worth liking */
	char numkeys[12];

	args.n = 0;
	snprintf(numkeys, sizeof(numkeys), "%d", 2 + batch->nkeys + (batch->event ? 1 : 0));
	/* Where SCRIPT LOAD is forbidden there is none; EVAL need not be. */
	add_text(&args, sink->dialect.plain_sha[0] ? "EVALSHA" : "EVAL");
	add_text(&args,
			 sink->dialect.plain_sha[0] ? sink->dialect.plain_sha : ca_function_library_plain);
	add_text(&args, numkeys);
	add_text(&args, ca_position_key());
	add_text(&args, ca_guard_key());
	for (int i = 0; i < batch->nkeys; i++)
		add(&args, batch->bytes.data + batch->keys[i].offset, batch->keys[i].len);
	if (batch->event)
		add_text(&args, ca_guard_events_key());
	add_text(&args, expected);
	add_text(&args, position);
	add_sticks(&args, batch);
	if (batch->event)
	{
		add_text(&args, batch->event->how);
		add(&args, batch->event->text.data, batch->event->text.len);
	}
	ca_redis_send(redis, args.n, args.v, args.len, handler, (void *) batch);
}

/* The handler gets the batch; ca_apply_read understands the answer. */
void
ca_apply_send(CaSink *sink, CaRedis *redis, CaBatch *batch, const char *expected,
			  const char *position, CaReplyHandler handler)
{
	CaGuardBatch call = {0};

	if (sink->dialect.plain)
	{
		send_plain(sink, redis, batch, expected, position, handler);
		return;
	}
	call.bytes = batch->bytes.data;
	call.keys = batch->keys;
	call.nkeys = batch->nkeys;
	call.sticks = batch->sticks;
	call.nsticks = batch->nsticks;
	call.event = batch->event;
	call.lsn = guc_guard ? Max(batch->lsn, 1) : InvalidXLogRecPtr;
	ca_guard_apply(sink, redis, &call, expected, position, handler, batch);
}

/* false: an error, or not an answer to such a call */
bool
ca_apply_read(CaSink *sink, const CaReply *reply, CaApplied *applied)
{
	if (!sink->dialect.plain)
		return ca_guard_read_apply(reply, applied);
	if (ca_redis_reply_type(reply) != CA_REPLY_ARRAY || ca_redis_reply_count(reply) < 2)
		return false;
	applied->deleted = ca_redis_reply_integer(ca_redis_reply_element(reply, 0));
	applied->failed_sticks = ca_redis_reply_integer(ca_redis_reply_element(reply, 1));
	applied->guarded = false;
	ca_guard_read_unheard(reply, 2, applied);
	return true;
}
