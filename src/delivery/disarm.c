/*
 * disarm.c: a Redis that is no longer the master is told so, if it answers.
 *
 * It may still take fills, and readers may still ask it, until its Sentinels have told everybody. So the claim there is
 * given up, over a connection of its own: the old one may be dead, or full of what waits for a process that sleeps,
 * and the session with the new master does not wait for this. Nothing that is promised depends on it: an arming ends by
 * itself, and nobody is told of deliveries to the new master before (arming.c). But when the library there answers that
 * the claim was ours and is given up, arming.c need not wait for it. So it is tried once, for connect_timeout and
 * command_timeout at most. A refused connection is no such answer: who refuses may be a firewall, or a proxy.
 *
 * One at a time: who is left while another is being told takes its place. Of the worker alone; if it dies, nobody
 * is told.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "delivery/delivery.h"
#include "delivery/disarm.h"
#include "delivery/sink.h"

#include "utils/memutils.h"

static CaRedis *redis; /* NULL: nobody is being told */
static CaSink *told_by;
static CaSinkGuard claim; /* that is given up */
static bool asked;
static bool answered;

void
ca_disarm_forget(void)
{
	ca_redis_close(redis);
	redis = NULL;
}

static void
handle_answer(void *arg, const CaReply *reply)
{
	bool ours = false;
	int64 others;

	answered = true;
	if (ca_guard_read_disarm(reply, &ours, &others) && ours)
		ca_arming_given_up(told_by, claim.nonce);
}

/* `address`: of the master that was. */
void
ca_disarm_begin(CaSink *sink, const CaRedisAddress *address)
{
	ca_disarm_forget();
	if (!ca_apply_has_functions(sink))
		return;
	claim = sink->guard;
	told_by = sink;
	asked = answered = false;
	redis = ca_redis_open(TopMemoryContext, address, "cache_aside worker, leaving");
}

void
ca_disarm_step(void)
{
	CaRedisState state;

	if (redis == NULL)
		return;
	state = ca_redis_advance(redis);
	if (state == CA_REDIS_READY && !asked)
	{
		asked = true;
		ca_guard_disarm(claim.nonce, redis, false, handle_answer, NULL);
		state = ca_redis_advance(redis);
	}
	if (answered || state == CA_REDIS_FAILED)
		ca_disarm_forget();
}

CaRedis *
ca_disarm_connection(void)
{
	return redis;
}

long
ca_disarm_timeout(void)
{
	return redis ? ca_redis_timeout(redis) : -1;
}
