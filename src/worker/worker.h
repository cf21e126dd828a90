/*
 * worker.h: the worker's loop and role.
 */
#ifndef CA_WORKER_H
#define CA_WORKER_H

#include "cache_aside.h"
#include "redis/redis.h"
#include "delivery/run.h"

/* ---- init.c: settings and start ---- */
extern void ca_worker_init(void);

/* ---- worker.c ---- */
extern void ca_worker_register(void);

/* ---- pace.c: pauses between rounds ---- */
extern int guc_batch_delay;       /* ms */
extern bool ca_pace_is_due(void); /* commits come fast, and nobody waits */
extern void ca_pace_pause(uint32 wait_event);

/* ---- follow.c: a standby that does not deliver ---- */
extern bool ca_follow_step(CaRun *run); /* of which it would deliver to these sinks */
extern void ca_follow_close(CaRun *run);
extern void ca_follow_reconnect(CaRun *run);

/* ---- followed.c: a Redis that another server delivers to ---- */
extern void ca_followed_step(CaSink *sink, MemoryContext cxt, XLogRecPtr read_end);
extern void ca_followed_hang_up(CaSink *sink);
extern void ca_followed_forget(CaSink *sink); /* what it told, too */
extern CaRedis *ca_followed_redis(CaSink *sink);

/* ---- role.c: deliver, follow, or nothing ---- */
extern void ca_role_attach(void); /* the worker begins */
extern bool ca_role_step(void);
extern bool ca_role_wants_commits(void); /* shall a commit with keys wake us? */
extern void ca_role_reconnect(void);     /* to the Redis that the settings name by now */
extern void ca_role_abandon(const char *what);
extern int ca_role_connections(CaRedis **connections, int most);
extern CaRedis *ca_role_redis(void);
extern CaRun *ca_role_run(void); /* the one there is */
extern long ca_role_timeout(void);

#endif
