/*
 * worker_wait.h: what the worker waits for; see worker_wait.c.
 */
#ifndef CA_WORKER_WAIT_H
#define CA_WORKER_WAIT_H

#include "cache_aside.h"
#include "common/child.h"
#include "redis/redis.h"

#define CA_MOST_CONNECTIONS 64

/* What may end a wait, besides time. Without the latch, committing backends make no system call. */
typedef enum CaWaitKind
{
	CA_WAIT_ANYTHING, /* latch, sockets, pipes */
	CA_WAIT_ANSWER,   /* sockets: synchronous committers wait for the batch under way */
	CA_WAIT_KINDS
} CaWaitKind;

extern void ca_worker_wait_for(CaWaitKind kind, CaRedis *const *connections, int n,
							   const CaChildPipes *pipes, long timeout, uint32 name);

#endif
