/*
 * disarm.h: a Redis that is no longer the master is told so; see disarm.c.
 */
#ifndef CA_DISARM_H
#define CA_DISARM_H

#include "cache_aside.h"
#include "redis/redis.h"
#include "delivery/delivery.h"

extern void ca_disarm_begin(CaSink *sink, const CaRedisAddress *address);
extern void ca_disarm_step(void);
extern void ca_disarm_forget(void);
extern CaRedis *ca_disarm_connection(void); /* to wait for; NULL: nothing */
extern long ca_disarm_timeout(void);

#endif
