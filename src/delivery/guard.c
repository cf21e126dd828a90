/*
 * guard.c: the worker's calls of the function library in Redis.
 *
 * library/interface.lua says what each call does, library/proof.lua why the guard holds; this file only builds arguments and
 * reads answers. Nothing here waits or raises: commands are queued on the worker's connection, and an answer that is not
 * what was expected is a failure for the caller to act on.
 *
 * Each claim makes a new nonce. It is in the worker's memory and in that of Redis; as long as both know it, there was no
 * restart, no failover and no other worker in between.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "access/xlog.h"
#include "common/pg_prng.h"
#include "utils/memutils.h"

/* Arguments of a command under construction; static, since a batch has hundreds. */
static const char **words;
static size_t *lens;
static int nwords;
static int room;

static void
add(const char *data, size_t len)
{
	if (nwords == room)
	{
		room = room == 0 ? 1024 : room * 2;
		words = words ? repalloc(words, room * sizeof(*words))
					  : MemoryContextAlloc(TopMemoryContext, room * sizeof(*words));
		lens = lens ? repalloc(lens, room * sizeof(*lens))
					: MemoryContextAlloc(TopMemoryContext, room * sizeof(*lens));
	}
	words[nwords] = data;
	lens[nwords++] = len;
}

static void
add_text(const char *word)
{
	add(word, strlen(word));
}

static void
format_lsn(char *out, size_t size, XLogRecPtr lsn)
{
	snprintf(out, size, "%X/%X", LSN_FORMAT_ARGS(lsn));
}

/* Room for the numbers of one call, but for those of its sticks */
static char numbers[4][32];
static int nnumbers;

static void
add_lsn(XLogRecPtr lsn)
{
	Assert(nnumbers < lengthof(numbers));
	format_lsn(numbers[nnumbers], sizeof(numbers[0]), lsn);
	add_text(numbers[nnumbers++]);
}

static void
add_number(int64 number)
{
	Assert(nnumbers < lengthof(numbers));
	snprintf(numbers[nnumbers], sizeof(numbers[0]), INT64_FORMAT, number);
	add_text(numbers[nnumbers++]);
}

const char *
ca_guard_key(void)
{
	static char key[64];

	snprintf(key, sizeof(key), "cache_aside:guard:" UINT64_FORMAT, GetSystemIdentifier());
	return key;
}

const char *
ca_guard_events_key(void)
{
	static char key[64];

	snprintf(key, sizeof(key), "cache_aside:events:" UINT64_FORMAT, GetSystemIdentifier());
	return key;
}

static const char *
position_key(void)
{
	static char key[64];

	snprintf(key, sizeof(key), "cache_aside:position:" UINT64_FORMAT, GetSystemIdentifier());
	return key;
}

/* FCALL name n position guard ..., of `nkeys` keys */
static void
begin_call(const char *function, int nkeys)
{
	nwords = nnumbers = 0;
	add_text("FCALL");
	add_text(function);
	add_number(nkeys);
	add_text(position_key());
	add_text(ca_guard_key());
}

const char *
ca_guard_nonce(CaSink *sink)
{
	return sink->guard.nonce;
}

void
ca_guard_claim(CaSink *sink, CaRedis *redis, const CaClaimCall *what, CaReplyHandler handler,
			   void *arg)
{
	snprintf(sink->guard.nonce, sizeof(sink->guard.nonce), "%016llx",
			 (unsigned long long) pg_prng_uint64(&pg_global_prng_state));
	begin_call(CA_LIBRARY_CALL("claim"), 3 + what->nwriters);
	add_text(what->announcement);
	for (int i = 0; i < what->nwriters; i++)
		add_text(what->writers[i]);
	add(sink->guard.nonce, CA_NONCE_LEN);
	add_number(what->timeline);
	add_text(what->previous);
	add_text(what->scope);
	add_text(what->force);
	add(what->server, CA_NONCE_LEN);
	ca_redis_send(redis, nwords, words, lens, handler, arg);
}

static bool
is_kind(const CaReply *reply, Size i, CaReplyType kind)
{
	return ca_redis_reply_type(ca_redis_reply_element(reply, i)) == kind;
}

bool
ca_guard_read_claim(const CaReply *reply, CaClaim *claim)
{
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ARRAY ||
		ca_redis_reply_count(reply) < 9 || !is_kind(reply, 0, CA_REPLY_INTEGER) ||
		!is_kind(reply, 1, CA_REPLY_INTEGER) || !is_kind(reply, 2, CA_REPLY_STRING) ||
		!is_kind(reply, 3, CA_REPLY_INTEGER) || !is_kind(reply, 5, CA_REPLY_INTEGER) ||
		!is_kind(reply, 6, CA_REPLY_INTEGER) || !is_kind(reply, 7, CA_REPLY_INTEGER) ||
		!is_kind(reply, 8, CA_REPLY_INTEGER))
		return false;
	claim->revision = ca_redis_reply_integer(ca_redis_reply_element(reply, 0));
	claim->older = claim->revision < CA_LIBRARY_REVISION;
	claim->found = ca_redis_reply_integer(ca_redis_reply_element(reply, 1)) != 0;
	claim->position = ca_redis_reply_text(ca_redis_reply_element(reply, 2), &claim->position_len);
	claim->guard_timeline = (TimeLineID) ca_redis_reply_integer(ca_redis_reply_element(reply, 3));
	claim->same = ca_redis_reply_integer(ca_redis_reply_element(reply, 5)) != 0;
	claim->now = ca_redis_reply_integer(ca_redis_reply_element(reply, 6));
	claim->guard_known = ca_redis_reply_integer(ca_redis_reply_element(reply, 7)) != 0;
	claim->role = (CaRole) ca_redis_reply_integer(ca_redis_reply_element(reply, 8));
	return true;
}

void
ca_guard_epoch(CaSink *sink, CaRedis *redis, const char *expected, const char *position,
			   XLogRecPtr floor, bool clear, CaReplyHandler handler, void *arg)
{
	begin_call(CA_LIBRARY_CALL("epoch"), 2);
	add(sink->guard.nonce, CA_NONCE_LEN);
	add_text(expected);
	add_text(position);
	add_lsn(floor);
	add_text(clear ? "1" : "0");
	ca_redis_send(redis, nwords, words, lens, handler, arg);
}

void
ca_guard_arm(CaSink *sink, CaRedis *redis, const char *expected, XLogRecPtr floor, int64 until,
			 CaReplyHandler handler, void *arg)
{
	begin_call(CA_LIBRARY_CALL("arm"), 2);
	add(sink->guard.nonce, CA_NONCE_LEN);
	add_text(expected);
	add_lsn(floor);
	add_number(until);
	ca_redis_send(redis, nwords, words, lens, handler, arg);
}

void
ca_guard_renew(CaSink *sink, CaRedis *redis, int64 until, int64 heard, XLogRecPtr above,
			   CaReplyHandler handler, void *arg)
{
	begin_call(CA_LIBRARY_CALL("renew"), 2);
	add(sink->guard.nonce, CA_NONCE_LEN);
	add_number(until);
	add_number(heard);
	add_lsn(above);
	ca_redis_send(redis, nwords, words, lens, handler, arg);
}

void
ca_guard_disarm(const char *nonce, CaRedis *redis, bool remove, CaReplyHandler handler, void *arg)
{
	begin_call(CA_LIBRARY_CALL("disarm"), 2);
	add(nonce, CA_NONCE_LEN);
	add_text(remove ? "1" : "0");
	ca_redis_send(redis, nwords, words, lens, handler, arg);
}

bool
ca_guard_read_disarm(const CaReply *reply, bool *ours, int64 *others)
{
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ARRAY ||
		ca_redis_reply_count(reply) < 2 || !is_kind(reply, 0, CA_REPLY_INTEGER) ||
		!is_kind(reply, 1, CA_REPLY_INTEGER))
		return false;
	*ours = ca_redis_reply_integer(ca_redis_reply_element(reply, 0)) != 0;
	*others = ca_redis_reply_integer(ca_redis_reply_element(reply, 1));
	return true;
}

bool
ca_guard_read_arming(const CaReply *reply, CaArming *answer)
{
	Size n =
		reply && ca_redis_reply_type(reply) == CA_REPLY_ARRAY ? ca_redis_reply_count(reply) : 0;

	memset(answer, 0, sizeof(*answer));
	for (Size i = 0; i < n; i++)
		if (!is_kind(reply, i, CA_REPLY_INTEGER))
			return false;
	if (n < 2)
		return false;
	answer->admits = ca_redis_reply_integer(ca_redis_reply_element(reply, 0)) != 0;
	answer->now = ca_redis_reply_integer(ca_redis_reply_element(reply, 1));
	answer->renewed = n >= 5;
	if (answer->renewed)
	{
		answer->refused = ca_redis_reply_integer(ca_redis_reply_element(reply, 2));
		answer->foreign = ca_redis_reply_integer(ca_redis_reply_element(reply, 3));
		answer->role = (CaRole) ca_redis_reply_integer(ca_redis_reply_element(reply, 4));
	}
	return true;
}

static void
add_sticks(const char *bytes, const CaStick *sticks, int nsticks)
{
	static char texts[CA_BATCH_STICKS][2][32];

	Assert(nsticks <= CA_BATCH_STICKS);
	for (int i = 0; i < nsticks; i++)
	{
		format_lsn(texts[i][0], sizeof(texts[i][0]), sticks[i].lsn);
		snprintf(texts[i][1], sizeof(texts[i][1]), "%u", sticks[i].ttl);
		add(bytes + sticks[i].offset, sticks[i].len);
		add_text(texts[i][0]);
		add_text(texts[i][1]);
	}
}

void
ca_guard_apply(CaSink *sink, CaRedis *redis, const CaGuardBatch *batch, const char *expected,
			   const char *position, CaReplyHandler handler, void *arg)
{
	char lsn[32] = "";

	if (!XLogRecPtrIsInvalid(batch->lsn))
		snprintf(lsn, sizeof(lsn), "%s%X/%X", batch->coarse ? "+" : "",
				 LSN_FORMAT_ARGS(batch->lsn));
	if (batch->event)
		begin_call(CA_LIBRARY_CALL("apply_event"), 3 + batch->nkeys);
	else
		begin_call(CA_LIBRARY_CALL("apply"), 2 + batch->nkeys);
	for (int i = 0; i < batch->nkeys; i++)
		add(batch->bytes + batch->keys[i].offset, batch->keys[i].len);
	if (batch->event)
		add_text(ca_guard_events_key());
	add(sink->guard.nonce, CA_NONCE_LEN);
	add_text(expected);
	add_text(position);
	add_text(lsn);
	add_sticks(batch->bytes, batch->sticks, batch->nsticks);
	if (batch->event)
	{
		add_text(batch->event->how);
		add(batch->event->text.data, batch->event->text.len);
	}
	ca_redis_send(redis, nwords, words, lens, handler, arg);
}

void
ca_guard_read_unheard(const CaReply *reply, Size i, CaApplied *applied)
{
	Size len;

	applied->unheard[0] = '\0';
	if (ca_redis_reply_count(reply) > i && is_kind(reply, i, CA_REPLY_STRING))
		strlcpy(applied->unheard, ca_redis_reply_text(ca_redis_reply_element(reply, i), &len),
				sizeof(applied->unheard));
	/* It is shown like an error, and comes as a text: ca_redis_reply_text leaves that as it is. */
	for (char *c = applied->unheard; *c; c++)
		*c = *c >= ' ' && *c <= '~' ? *c : '?';
}

bool
ca_guard_read_apply(const CaReply *reply, CaApplied *applied)
{
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ARRAY ||
		ca_redis_reply_count(reply) < 3)
		return false;
	for (int i = 0; i < 3; i++)
		if (!is_kind(reply, i, CA_REPLY_INTEGER))
			return false;
	applied->deleted = ca_redis_reply_integer(ca_redis_reply_element(reply, 0));
	applied->failed_sticks = ca_redis_reply_integer(ca_redis_reply_element(reply, 1));
	applied->guarded = ca_redis_reply_integer(ca_redis_reply_element(reply, 2)) != 0;
	ca_guard_read_unheard(reply, 3, applied);
	return true;
}

CaGuardProblem
ca_guard_problem(const CaReply *reply)
{
	Size len;
	const char *error;

	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ERROR)
		return CA_GUARD_NO_PROBLEM;
	error = ca_redis_reply_text(reply, &len);
	if (strncmp(error, "CA_FENCED ", 10) == 0)
		return CA_GUARD_FENCED;
	if (strncmp(error, "CA_OCCUPIED ", 12) == 0)
		return CA_GUARD_OCCUPIED;
	if (strncmp(error, "CA_NONCE ", 9) == 0 || strncmp(error, "CA_POSITION ", 12) == 0)
		return CA_GUARD_CONNECT_AGAIN;
	if (strncmp(error, "ERR Function not found", 22) == 0)
		return CA_GUARD_NOT_LOADED;
	if (ca_redis_reply_forbids(reply))
		return CA_GUARD_UNSUPPORTED;
	return CA_GUARD_OTHER;
}
