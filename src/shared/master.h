/*
 * master.h: which Redis is the master, where Sentinels tell; see master.c.
 */
#ifndef CA_MASTER_H
#define CA_MASTER_H

#include "cache_aside.h"
#include "redis/redis.h"

/* One of the Sentinels that redis_url lists. */
typedef struct CaMasterWitness
{
	CaRedisHost sentinel;
	CaRedisHost names; /* port 0: it names none */
	char problem[128]; /* why; empty: it does */
} CaMasterWitness;

typedef struct CaMaster
{
	uint32 url;        /* hash of the redis_url that this is about */
	CaRedisHost host;  /* port 0: no majority has named one yet */
	TimestampTz since; /* it is this one, as far as this server knows */
	int listed;
	CaMasterWitness witnesses[CA_REDIS_MAX_HOSTS];
} CaMaster;

extern void ca_master_shmem_request(void);
extern void ca_master_shmem_init(void);
/* Of the worker alone. What is known of this redis_url from before; all zero: nothing is. */
extern void ca_master_recall(CaMaster *master);
extern void ca_master_publish(const CaMaster *master);
/*
 * Of an address as the settings have it, that names Sentinels, makes that of the master. False: no worker has
 * found it yet. Any other address stays as it is.
 */
extern bool ca_master_resolve(CaRedisAddress *address);
/* Another number after each change of the master. */
extern uint32 ca_master_generation(void);

#endif
