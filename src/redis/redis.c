/*
 * redis.c: one non-blocking connection to Redis. Only it, redis_reply.c and redis_pipeline.c know hiredis, of which
 * the reader of replies and the formatter of commands are used: they are the same in all versions, and know no sockets.
 *
 *	DIAL -> HANDSHAKE (TLS) -> LOGIN -> READY        any of them -> FAILED, which only close leaves
 *
 * ca_redis_advance does what can be done without waiting and returns; the caller waits on the
 * socket, events and time-out that this file names. Commands are answered in order, each by one
 * call of its handler.
 *
 * What can fail: everything outside, and then the state is FAILED with a text; nothing raises but
 * palloc. A reader that met an error is never used again. Time-outs: connect_timeout for resolving,
 * connecting, handshake and login together; command_timeout since the oldest unanswered
 * command, started anew by each reply that is complete, and each megabyte of it (a long pipeline is slow,
 * a frozen server is silent, one that drips bytes as good as), and by each slice the kernel takes after it
 * had refused some (a huge command on a thin line). Bytes that the kernel takes at once prove nothing: a
 * frozen server's socket has room.
 *
 * A server is not trusted: a reply is bounded (redis_reply.h), what nobody asked for ends the
 * connection.
 *
 * Memory: a child of the caller's context, whose reset also closes the socket and frees what
 * hiredis malloc'd, so that an ERROR in the caller leaks neither.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_connection.h"
#include "redis/redis_private.h"
#include "redis/redis_reply.h"
#include "redis/redis_stream.h"

#include "utils/memutils.h"

#define CA_SLICE ((Size) 64 * 1024)
#define CA_LARGE ((Size) 1024 * 1024)
#define CA_READ ((Size) 16 * 1024) /* at once, hence on the stack */
#define CA_TURNS 64                /* reads, and writes, of one ca_redis_advance */

/* ---- failing ---- */

static void
fail_with_stream(CaRedis *redis, const char *what)
{
	const CaStream *stream = &redis->stream;

	if (stream->closed)
		ca_redis_connection_fail(redis, "Redis closed the connection%s",
								 stream->heard ? "" : " before it said anything");
	else if (strncmp(stream->reason, "TLS: ", 5) == 0)
		ca_redis_connection_fail(redis, "%s", stream->reason);
	else
		ca_redis_connection_fail(redis, "%s: %s%s", what, stream->reason,
								 stream->heard ? "" : " before Redis said anything");
}

/* Handlers run here may queue again; those wait for the next round. */
static void
answer_with_null(CaRedis *redis)
{
	for (int n = redis->pipeline.count; n > 0; n--)
	{
		CaCommand command = ca_redis_pipeline_answered(&redis->pipeline);

		command.handler(command.arg, NULL);
	}
}

void
ca_redis_abandon(CaRedis *redis, const char *reason)
{
	ca_redis_connection_fail(redis, "%s", reason);
	redis->pipeline.count = 0;
}

/* ---- connecting ---- */

static void
begin_login(CaRedis *redis)
{
	redis->step = STEP_LOGIN;
	ca_redis_login_begin(redis);
}

static void
advance_handshake(CaRedis *redis)
{
	int rc = ca_redis_tls_shake_hands(&redis->stream);

	if (rc < 0)
		fail_with_stream(redis, "TLS");
	else if (rc > 0)
		begin_login(redis);
}

static void
begin_stream(CaRedis *redis)
{
	const CaRedisAddress *address = &redis->address;

	redis->reader = redisReaderCreate();
	if (redis->reader == NULL)
	{
		ca_redis_connection_fail(redis, "out of memory");
		return;
	}
	ca_redis_reply_guard_install(&redis->guard, redis->reader);
	if (!ca_redis_stream_begin(&redis->stream, redis->dial.fd,
							   address->tls ? address->hosts[0].name : NULL))
		ca_redis_connection_fail(redis, "%s", redis->stream.reason);
	else if (address->tls)
		redis->step = STEP_HANDSHAKE;
	else
		begin_login(redis);
}

static void
advance_dial(CaRedis *redis)
{
	CaDialState state = ca_dial_advance(&redis->dial);

	if (state == CA_DIAL_FAILED)
		ca_redis_connection_fail(redis, "%s", redis->dial.reason);
	else if (state == CA_DIAL_CONNECTED)
		begin_stream(redis);
}

static void
begin(CaRedis *redis)
{
	const char *reason = ca_redis_login_password(&redis->address);

	if (redis->address.sentinel_name[0])
		ca_redis_connection_fail(redis, "which Redis is the master is not known");
	else if (reason)
		ca_redis_connection_fail(redis, "%s", reason);
	else if (ca_dial_begin(&redis->dial, &redis->address, redis->deadline) == CA_DIAL_FAILED)
		ca_redis_connection_fail(redis, "%s", redis->dial.reason);
}

/* ---- talking ---- */

static void
fail_with_reader(CaRedis *redis)
{
	const char *reason = ca_redis_reply_guard_check(&redis->guard, redis->reader);

	ca_redis_connection_fail(redis, "bad reply: %s", reason ? reason : redis->reader->errstr);
}

static void
handle_replies(CaRedis *redis)
{
	while (redis->step != STEP_FAILED)
	{
		void *object = NULL;
		redisReply *reply;
		CaCommand command;

		if (redisReaderGetReply(redis->reader, &object) != REDIS_OK)
		{
			fail_with_reader(redis);
			return;
		}
		if (object == NULL)
			return;
		reply = object;
		ca_redis_reply_guard_next(&redis->guard, redis->reader);
		ca_redis_connection_progress(redis);
		command = redis->listener;
		if ((redis->pipeline.count == 0 && command.handler == NULL) ||
			reply->type < REDIS_REPLY_STRING || reply->type > REDIS_REPLY_ERROR)
		{
			freeReplyObject(reply);
			ca_redis_connection_fail(redis, redis->pipeline.count == 0
												? "Redis sent what nobody asked for"
												: "bad reply: a type that RESP2 does not have");
			return;
		}
		if (redis->pipeline.count > 0)
			command = ca_redis_pipeline_answered(&redis->pipeline);
		redis->heard = true;
		command.handler(command.arg, (const CaReply *) reply);
		freeReplyObject(reply);
	}
}

/* What the socket has, at most CA_READ bytes, into the reader. How many; 0: none, or failed. */
static Size
receive_some(CaRedis *redis)
{
	char buffer[CA_READ];
	ssize_t n = ca_redis_stream_read(&redis->stream, buffer, sizeof(buffer));

	if (n < 0)
		fail_with_stream(redis, "could not receive");
	else if (n > 0 && redisReaderFeed(redis->reader, buffer, n) != REDIS_OK)
		ca_redis_connection_fail(redis, "could not receive: out of memory");
	else if (n > 0)
		return n;
	return 0;
}

/* What is to be sent first is answered later; and a socket that was closed meanwhile takes nothing. */
static bool
is_worth_reading(const CaRedis *redis)
{
	return (redis->step == STEP_LOGIN || redis->step == STEP_READY) &&
		   !(redis->silent && ca_redis_unsent_bytes(redis) > 0);
}

static void
receive(CaRedis *redis)
{
	for (int i = 0; i < CA_TURNS; i++)
	{
		Size got = receive_some(redis);
		const char *reason;

		if (got == 0)
		{
			redis->silent = true;
			return;
		}
		redis->guard.bytes += got;
		if ((redis->received += got) >= CA_LARGE)
			ca_redis_connection_progress(redis);
		handle_replies(redis);
		if (redis->step == STEP_FAILED)
			return;
		reason = ca_redis_reply_guard_check(&redis->guard, redis->reader);
		if (reason)
		{
			ca_redis_connection_fail(redis, "bad reply: %s", reason);
			return;
		}
		if (got < CA_READ && !ca_redis_stream_holds_bytes(&redis->stream))
			return; /* the socket is empty, which another read would only confirm */
	}
	redis->more = true;
}

/* What a server that turns us away said before it closed is worth more than our EPIPE. */
static void
fail_to_send(CaRedis *redis)
{
	CaStream *stream = &redis->stream;
	char words[CA_REDIS_QUOTE];
	char byte;

	if (stream->tls == NULL &&
		ca_redis_login_parting_words(redis->dial.fd, &redis->address, words, sizeof(words)))
	{
		ca_redis_connection_fail(redis, "Redis closed the connection: %s", words);
		return;
	}
	if (stream->tls)
		(void) ca_redis_stream_read(stream, &byte, 1); /* an alert; it replaces the reason */
	fail_with_stream(redis, "could not send");
}

/* How many bytes were taken */
static Size
transmit_slice(CaRedis *redis)
{
	Size len;
	const char *slice = ca_redis_pipeline_peek(&redis->pipeline, CA_SLICE, &len);
	ssize_t taken;

	if (len == 0)
		return 0;
	taken = ca_redis_stream_write(&redis->stream, slice, len);
	if (taken < 0)
	{
		fail_to_send(redis);
		return 0;
	}
	ca_redis_pipeline_taken(&redis->pipeline, taken);
	redis->silent &= taken == 0;
	return taken;
}

static void
transmit(CaRedis *redis)
{
	int turns = 0;
	Size taken;

	while (turns < CA_TURNS && (taken = transmit_slice(redis)) > 0)
	{
		turns++;
		if (redis->blocked && (redis->taken += taken) >= CA_SLICE)
			ca_redis_connection_progress(redis);
	}
	if (redis->step == STEP_FAILED)
		return;
	redis->more |= turns == CA_TURNS;
	redis->blocked = ca_redis_unsent_bytes(redis) > 0;
	ca_redis_pipeline_clean(&redis->pipeline);
}

static void
check_deadlines(CaRedis *redis)
{
	int64 now = ca_dial_clock();

	if (redis->step == STEP_READY)
	{
		if (redis->pipeline.count > 0 && !redis->more &&
			now - redis->progress_at >= guc_command_timeout)
			ca_redis_connection_fail(redis, "no answer from Redis for %d ms", guc_command_timeout);
	}
	else if (now >= redis->deadline && redis->step == STEP_HANDSHAKE)
		ca_redis_connection_fail(redis, "TLS: the handshake was not over after %d ms",
								 guc_connect_timeout);
	else if (now >= redis->deadline)
		ca_redis_connection_fail(redis, "time-out after %d ms while %s", guc_connect_timeout,
								 redis->step == STEP_LOGIN ? "logging in"
														   : ca_dial_doing(&redis->dial));
}

/* ---- what the others see ---- */

CaRedis *
ca_redis_open(MemoryContext cxt, const CaRedisAddress *address, const char *client_name)
{
	MemoryContext own = AllocSetContextCreate(cxt, "cache_aside connection", ALLOCSET_SMALL_SIZES);
	CaRedis *redis = MemoryContextAllocZero(own, sizeof(CaRedis));

	redis->cxt = own;
	redis->address = *address;
	ca_dial_init(&redis->dial);
	ca_redis_pipeline_init(&redis->pipeline, own);
	redis->on_reset.func = ca_redis_connection_let_go;
	redis->on_reset.arg = redis;
	MemoryContextRegisterResetCallback(own, &redis->on_reset);
	strlcpy(redis->client_name, client_name, sizeof(redis->client_name));
	for (char *p = redis->client_name; *p; p++)
	{
		if (*p <= ' ' || *p > '~')
			*p = '_'; /* CLIENT SETNAME refuses the rest */
	}
	redis->deadline = ca_dial_clock() + guc_connect_timeout;
	begin(redis);
	return redis;
}

void
ca_redis_hang_up(CaRedis *redis)
{
	if (redis->dial.fd >= 0)
		(void) shutdown(redis->dial.fd, SHUT_RDWR);
}

void
ca_redis_close(CaRedis *redis)
{
	if (redis == NULL)
		return;
	ca_redis_connection_fail(redis, "closed");
	answer_with_null(redis);
	MemoryContextDelete(redis->cxt);
}

CaRedisState
ca_redis_state(const CaRedis *redis)
{
	return redis->step == STEP_READY    ? CA_REDIS_READY
		   : redis->step == STEP_FAILED ? CA_REDIS_FAILED
										: CA_REDIS_CONNECTING;
}

const char *
ca_redis_error(const CaRedis *redis)
{
	return redis->error;
}

/* The number of the one that it selects, whatever the setting says by now */
int
ca_redis_database(const CaRedis *redis)
{
	return redis->address.db;
}

void
ca_redis_send(CaRedis *redis, int argc, const char **argv, const size_t *argvlen,
			  CaReplyHandler handler, void *arg)
{
	Assert(redis->step == STEP_READY || redis->step == STEP_FAILED);
	ca_redis_connection_queue(redis, argc, argv, argvlen, handler, arg);
}

void
ca_redis_listen(CaRedis *redis, CaReplyHandler handler, void *arg)
{
	redis->listener = (CaCommand){.handler = handler, .arg = arg};
}

void
ca_redis_begin_wait(CaRedis *redis)
{
	ca_redis_connection_progress(redis);
}

int
ca_redis_in_flight(const CaRedis *redis)
{
	return redis->pipeline.count;
}

Size
ca_redis_unsent_bytes(const CaRedis *redis)
{
	return redis->reader ? ca_redis_pipeline_unsent(&redis->pipeline) : 0;
}

int
ca_redis_sockets(const CaRedis *redis, pgsocket *sockets)
{
	return ca_dial_sockets(&redis->dial, sockets);
}

uint32
ca_redis_generation(const CaRedis *redis)
{
	return redis->dial.generation;
}

uint32
ca_redis_events(const CaRedis *redis)
{
	if (redis->step == STEP_DIAL)
		return WL_SOCKET_WRITEABLE;
	if (redis->dial.fd < 0)
		return 0;
	return ca_redis_stream_events(&redis->stream, ca_redis_unsent_bytes(redis) > 0);
}

long
ca_redis_timeout(const CaRedis *redis)
{
	int64 deadline = redis->deadline;

	if (redis->step == STEP_FAILED)
		return redis->pipeline.count > 0 ? 0 : -1;
	if (redis->more || redis->heard)
		return 0;
	if (redis->step == STEP_READY && redis->pipeline.count == 0)
		return -1;
	if (redis->step == STEP_READY)
		deadline = redis->progress_at + guc_command_timeout;
	else if (redis->step == STEP_DIAL)
		deadline = Min(deadline, ca_dial_next(&redis->dial));
	return (long) Max(deadline - ca_dial_clock(), 0);
}

CaRedisState
ca_redis_advance(CaRedis *redis)
{
	redis->more = redis->heard = false;
	if (redis->step == STEP_DIAL)
		advance_dial(redis);
	if (redis->step == STEP_HANDSHAKE)
		advance_handshake(redis);
	if (is_worth_reading(redis))
		receive(redis);
	if (redis->step == STEP_LOGIN || redis->step == STEP_READY)
		transmit(redis);
	if (redis->step != STEP_FAILED)
		check_deadlines(redis);
	if (redis->step == STEP_FAILED)
		answer_with_null(redis);
	return ca_redis_state(redis);
}
