/*
 * routing.h: what the files of replica routing share. A token is an LSN; wait_for.c waits for one,
 * stick.c leaves one for others, conninfo.c and replicas.c keep the registry, progress.c knows how
 * far each replica has replayed, routing.c chooses, publish.c tells Redis.
 */
#ifndef CA_ROUTING_H
#define CA_ROUTING_H

#include "cache_aside.h"
#include "redis/redis.h"

/* ---- init.c: settings and start ---- */
extern void ca_routing_init(void);

#define CA_MAX_PUBLISHED 64      /* replicas that Redis may tell about; more are ignored */
#define CA_PUBLISHED_TTL_MS 5000 /* what a replica published counts for so long */

/* ---- wait_for.c ---- */
extern int64 ca_wait_for_interval_ms(const Interval *interval, const char *argument);

/* ---- replicas.c: the registry ---- */
typedef struct CaReplica
{
	char *name; /* application_name of its walreceiver */
	char *conninfo;
	char *region; /* NULL: none */
	int32 weight; /* 0: not chosen */
} CaReplica;

extern void ca_replicas_init(void); /* registers the callbacks, once per backend */
extern const CaReplica *ca_replicas_get(int *count);

/* ---- progress.c: how far each replica has replayed ---- */
typedef struct CaPublished /* what a standby's worker wrote to Redis */
{
	char name[NAMEDATALEN];
	XLogRecPtr replayed;
	TimestampTz seen; /* when it was true, by our clock */
} CaPublished;

typedef struct CaSender
{
	const char *name;
	XLogRecPtr applied;
	bool streaming; /* else catching up */
} CaSender;

typedef struct CaProgressView
{
	TimestampTz now;
	XLogRecPtr end; /* of our log */
	CaSender *senders;
	int sender_count;
	int published_count;
	CaPublished published[FLEXIBLE_ARRAY_MEMBER];
} CaProgressView;

typedef struct CaReplicaState
{
	bool connected;      /* has a walsender here */
	bool streaming;      /* ... that is not catching up */
	bool fresh;          /* published lately */
	XLogRecPtr replayed; /* 0: nothing is known */
	TimestampTz seen;    /* 0: never */
} CaReplicaState;

extern Size ca_progress_shmem_size(void);
extern void ca_progress_shmem_request(void);
extern void ca_progress_shmem_init(void);
extern void ca_progress_registry_changed(void);
extern uint32 ca_progress_registry_version(void);
extern void ca_progress_sample(TimestampTz now, XLogRecPtr end);
extern int64 ca_progress_lag(XLogRecPtr lsn, XLogRecPtr end, TimestampTz now);
extern CaProgressView *ca_progress_look(void);
extern CaReplicaState ca_progress_of(const CaProgressView *view, const char *name);
extern void ca_progress_set_published(const CaPublished *list, int count);

/* ---- visit_registries.c: the registries of all databases, for the worker ---- */
typedef struct CaTopologyRow /* UTF-8 */
{
	char name[NAMEDATALEN];
	char region[NAMEDATALEN]; /* empty: none */
	char conninfo[1024];
	int32 weight;
	Oid database; /* where it is registered */
} CaTopologyRow;

extern Size ca_visit_registries_shmem_size(void);
extern void ca_visit_registries_shmem_request(void);
extern void ca_visit_registries_shmem_init(void);
extern bool ca_visit_registries_step(TimestampTz now);
extern int ca_visit_registries_rows(CaTopologyRow *rows);
extern bool ca_visit_registries_complete(void);

/* ---- publish.c: the worker tells Redis ---- */
extern int guc_publish_interval; /* ms; 0: never */
extern char *guc_replica_name;
extern const char *ca_publish_own_name(void); /* NULL: this server has none */
extern void ca_publish_step(CaRedis *redis);  /* from the worker's loop; never blocks */
extern long ca_publish_timeout(void);         /* ms until the next step is due; -1: none is */

/* ---- publish_json.c: what stands there ---- */
/* `lag_ms` below 0: not known; `by`: "replica" or "primary" */
extern char *ca_publish_json_replica(const CaTopologyRow *row, XLogRecPtr lsn, TimeLineID timeline,
									 int64 lag_bytes, int64 lag_ms, const char *by);
/* `own`: NULL if this server is not registered */
extern char *ca_publish_json_primary(const CaTopologyRow *own, const char *name, XLogRecPtr end,
									 TimeLineID timeline);
/* An entry as a standby of our own history wrote it; false: any other. `redis_now`: ms */
extern bool ca_publish_json_read(const char *json, double redis_now, CaPublished *entry);

#endif
