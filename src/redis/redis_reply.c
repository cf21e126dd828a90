/*
 * redis_reply.c: how much a reply may be, and what it holds in our own terms.
 *
 * The guard bounds the memory and the time that a lying server can cost before its reply is
 * complete; it is part of the connection, and hiredis's reader points to it. A refused array looks
 * to hiredis like a failed allocation.
 *
 * A CaReply is hiredis's reply object, valid while a handler runs. Only the outermost type has been
 * checked: an element of a type that RESP2 does not have reads as an error. An accessor that does
 * not fit the type gives an empty value, so that a lying server meets no undefined behaviour.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_reply.h"

static bool
lies_too_deep(const redisReadTask *task)
{
	int depth = 1;

	while ((task = task->parent) != NULL && depth <= CA_REPLY_MAX_DEPTH)
		depth++;
	return depth > CA_REPLY_MAX_DEPTH;
}

/* Counts what a reply announces, nested arrays included, before hiredis allocates it. */
static void *
create_array(const redisReadTask *task, CaElements elements)
{
	CaReplyGuard *guard = task->privdata;

	guard->elements += elements;
	guard->too_deep = lies_too_deep(task);
	if (guard->elements > CA_REPLY_MAX_ELEMENTS || guard->too_deep)
		return NULL;
	return guard->create_array(task, elements);
}

void
ca_redis_reply_guard_install(CaReplyGuard *guard, redisReader *reader)
{
	guard->functions = *reader->fn;
	guard->create_array = guard->functions.createArray;
	guard->functions.createArray = create_array;
	reader->fn = &guard->functions;
	reader->privdata = guard;
	ca_redis_reply_guard_next(guard, reader);
}

void
ca_redis_reply_guard_next(CaReplyGuard *guard, const redisReader *reader)
{
	guard->bytes = reader->len - reader->pos;
	guard->elements = 0;
	guard->too_deep = false;
}

const char *
ca_redis_reply_guard_check(const CaReplyGuard *guard, const redisReader *reader)
{
	if (guard->bytes > CA_REPLY_MAX_BYTES)
		return "longer than 64 MB";
	if (guard->elements > CA_REPLY_MAX_ELEMENTS)
		return "an array of more than 1048576 elements";
	if (guard->too_deep)
		return "arrays nested more than 7 deep";
	/* hiredis looks for the end of the line from its start each time that bytes arrive */
	if (reader->len - reader->pos > CA_REPLY_MAX_LINE &&
		memchr(reader->buf + reader->pos, '\n', CA_REPLY_MAX_LINE) == NULL)
		return "a line longer than 64 kB";
	return NULL;
}

CaReplyType
ca_redis_reply_type(const CaReply *reply)
{
	switch (((const redisReply *) reply)->type)
	{
		case REDIS_REPLY_NIL:
			return CA_REPLY_NIL;
		case REDIS_REPLY_STATUS:
			return CA_REPLY_STATUS;
		case REDIS_REPLY_STRING:
			return CA_REPLY_STRING;
		case REDIS_REPLY_INTEGER:
			return CA_REPLY_INTEGER;
		case REDIS_REPLY_ARRAY:
			return CA_REPLY_ARRAY;
		default:
			return CA_REPLY_ERROR;
	}
}

/* Errors reach the log, and SQL results in whatever encoding: they become printable ASCII. */
const char *
ca_redis_reply_text(const CaReply *reply, Size *len)
{
	const redisReply *r = (const redisReply *) reply;

	if (ca_redis_reply_type(reply) == CA_REPLY_ERROR && r->str)
	{
		for (Size i = 0; i < r->len; i++)
			r->str[i] = r->str[i] >= ' ' && r->str[i] <= '~' ? r->str[i] : '?';
	}
	*len = r->str ? r->len : 0;
	return r->str ? r->str : "";
}

int64
ca_redis_reply_integer(const CaReply *reply)
{
	const redisReply *r = (const redisReply *) reply;

	return r->type == REDIS_REPLY_INTEGER ? r->integer : 0;
}

Size
ca_redis_reply_count(const CaReply *reply)
{
	const redisReply *r = (const redisReply *) reply;

	return r->type == REDIS_REPLY_ARRAY ? r->elements : 0;
}

const CaReply *
ca_redis_reply_element(const CaReply *reply, Size i)
{
	Assert(i < ca_redis_reply_count(reply));
	return (const CaReply *) ((const redisReply *) reply)->element[i];
}

/*
 * Servers without the command, users without the right to it (but not those without a right to a key), services
 * and proxies that do not pass it on: each has its words.
 */
bool
ca_redis_reply_forbids(const CaReply *reply)
{
	static const char *const words[] = {"unknown command", "unknown subcommand", "unsupported",
										"not supported",   "not available",      "not allowed",
										"disabled"};
	Size len;
	const char *said = ca_redis_reply_text(reply, &len);
	char low[160];

	if (ca_redis_reply_type(reply) != CA_REPLY_ERROR)
		return false;
	if (strncmp(said, "NOPERM", 6) == 0)
		return strstr(said, "to run") != NULL;
	strlcpy(low, said, sizeof(low));
	for (char *c = low; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	for (int i = 0; i < lengthof(words); i++)
		if ((strncmp(low, "err", 3) == 0 || strncmp(low, "unsupported", 11) == 0) &&
			strstr(low, words[i]))
			return true;
	return false;
}
