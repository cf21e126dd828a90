/*
 * watch.h: is the Redis that is connected to still the master? See watch.c.
 */
#ifndef CA_WATCH_H
#define CA_WATCH_H

#include "cache_aside.h"
#include "redis/redis.h"

typedef enum CaWatchStep
{
	CA_WATCH_WAITS,
	CA_WATCH_GOOD,
	CA_WATCH_BAD /* ca_watch_problem tells why */
} CaWatchStep;

/* Of one connection to a master; all zero is one that was never made. */
typedef struct CaWatch
{
	CaRedisHost host;     /* that Sentinels named; port 0: none did */
	uint64 finding;       /* ticket of the questions who it is; 0: not asked */
	uint64 ticket;        /* ... whether it still is */
	int64 heard_at;       /* the master answered something, ms; 0: not yet */
	TimestampTz heard_on; /* the same, by the other clock */
	bool held;            /* nothing is sent or taken until that is known */
	int64 sure_at;        /* Sentinels confirmed it, or there was none to ask */
	bool role_asked;
	bool role_known;
	bool is_master;
} CaWatch;

/* Each round of the worker: asks, listens, tells what is known. */
extern void ca_watch_step(void);
extern void ca_watch_forget(void); /* settings changed, or nobody is delivered to */
/* Where to connect. Called again until it is not WAITS. */
extern CaWatchStep ca_watch_find(CaWatch *watch, CaRedisAddress *address);
extern const char *ca_watch_problem(void);
/* A connection is READY: is it a master's? Called again until it is not WAITS. */
extern CaWatchStep ca_watch_ask_role(CaWatch *watch, CaRedis *redis);
/* ca_redis_advance, but not before it is known whether a master that was silent is still the one. */
extern void ca_watch_advance(CaWatch *watch, CaRedis *redis);
/* Sentinels name another by now, than the one connected to, or tried last. */
extern bool ca_watch_moved(const CaWatch *watch);
/* What to wait for besides: connections, and ms (-1: none). */
extern int ca_watch_connections(CaRedis **connections, int most);
extern long ca_watch_timeout(void);

#endif
