/*
 * redis_connection.c: what a connection is, for those who work on it: how it fails, what it is told to send.
 *
 * redis.c drives it, redis_login.c says the first words, redis_wait.c waits for it. Whatever goes wrong ends in
 * ca_redis_connection_fail, which lets go of the socket and leaves the handlers to the next ca_redis_advance.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_connection.h"
#include "redis/redis_private.h"

void
ca_redis_connection_let_go(void *arg)
{
	CaRedis *redis = arg;

	if (redis->reader)
		redisReaderFree(redis->reader);
	redis->reader = NULL;
	ca_redis_wait_set_end(&redis->waits);
	ca_redis_stream_end(&redis->stream);
	ca_dial_end(&redis->dial); /* closes the socket */
	explicit_bzero(redis->address.password, sizeof(redis->address.password));
}

/* The handlers still waiting are called by the next ca_redis_advance or ca_redis_close. */
void
ca_redis_connection_fail(CaRedis *redis, const char *fmt, ...)
{
	va_list args;

	if (redis->step == STEP_FAILED)
		return;
	va_start(args, fmt);
	vsnprintf(redis->error, sizeof(redis->error), fmt, args);
	va_end(args);
	redis->step = STEP_FAILED;
	ca_redis_connection_let_go(redis);
}

void
ca_redis_connection_ready(CaRedis *redis)
{
	redis->step = STEP_READY;
	explicit_bzero(redis->address.password, sizeof(redis->address.password));
}

void
ca_redis_connection_queue(CaRedis *redis, int argc, const char **argv, const size_t *argvlen,
						  CaReplyHandler handler, void *arg)
{
	const char *reason = NULL;

	if (redis->step != STEP_FAILED)
		reason = ca_redis_pipeline_add(&redis->pipeline, argc, argv, argvlen);
	if (reason)
		ca_redis_connection_fail(redis, "%s", reason);
	if (redis->pipeline.count == 0)
		ca_redis_connection_progress(redis);
	ca_redis_pipeline_expect(&redis->pipeline, handler, arg); /* gets its NULL later if FAILED */
}

const CaRedisAddress *
ca_redis_connection_address(const CaRedis *redis)
{
	return &redis->address;
}

CaRedisAddress *
ca_redis_connection_login(CaRedis *redis)
{
	return redis->step == STEP_READY ? &redis->address : NULL;
}

const char *
ca_redis_connection_client_name(const CaRedis *redis)
{
	return redis->client_name;
}

void
ca_redis_connection_progress(CaRedis *redis)
{
	redis->progress_at = ca_dial_clock();
	redis->taken = 0;
	redis->received = 0;
}
