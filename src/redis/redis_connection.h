/*
 * redis_connection.h: a connection to Redis as redis.c and redis_connection.c see it.
 */
#ifndef CA_REDIS_CONNECTION_H
#define CA_REDIS_CONNECTION_H

#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_private.h"
#include "redis/redis_reply.h"
#include "redis/redis_stream.h"

typedef enum CaStep
{
	STEP_DIAL,
	STEP_HANDSHAKE, /* of TLS */
	STEP_LOGIN,
	STEP_READY,
	STEP_FAILED
} CaStep;

/* ---- redis_wait_set.c ---- */
typedef struct CaWaitSet
{
	struct WaitEventSet *set; /* NULL: none */
	uint32 generation;        /* of its sockets */
	int nsockets;
} CaWaitSet;

/* Of these sockets, unless it is */
extern void ca_redis_wait_set_make(CaWaitSet *waits, MemoryContext cxt, const pgsocket *sockets,
								   int n, uint32 generation);
/* For a latch, or these WL_SOCKET_* events of any socket; may end the process */
extern void ca_redis_wait_set_wait(CaWaitSet *waits, uint32 events, long timeout,
								   uint32 wait_event);
extern void ca_redis_wait_set_end(CaWaitSet *waits);

struct CaRedis
{
	MemoryContext cxt;
	MemoryContextCallback on_reset;
	CaStep step;
	CaRedisAddress address;
	char client_name[64];
	char error[512];

	CaDial dial;
	int64 deadline;      /* for everything up to READY */
	CaStream stream;     /* over the socket of `dial`, once connected */
	redisReader *reader; /* hiredis's, likewise */
	CaPipeline pipeline;
	CaWaitSet waits;    /* of a backend */
	CaCommand listener; /* who gets what nobody asked for; no handler: it ends the connection */
	CaReplyGuard guard;
	bool blocked; /* the kernel has not taken all of the output yet */
	bool more;    /* stopped, though the socket would have gone on */
	bool heard;   /* the last step had answers handled; see ca_redis_timeout */
	bool silent; /* the socket was empty, and nothing has been sent since: nothing will have come */
	Size taken;  /* by the kernel, after it had refused some, since progress_at */
	Size received;     /* since then */
	int64 progress_at; /* see the header: command_timeout counts from here */
};

extern void ca_redis_connection_let_go(void *redis);      /* of everything outside our memory */
extern void ca_redis_connection_progress(CaRedis *redis); /* command_timeout counts anew */

#endif
