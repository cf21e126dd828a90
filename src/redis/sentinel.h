/*
 * sentinel.h: which Redis is the master, asked of Sentinels; see sentinel.c.
 */
#ifndef CA_SENTINEL_H
#define CA_SENTINEL_H

#include "cache_aside.h"
#include "redis/redis.h"

typedef struct CaSentinels CaSentinels;

/* What they say, as far as it is known. */
typedef enum CaSentinelWord
{
	CA_SENTINEL_ASKED,   /* too few have answered yet, who may */
	CA_SENTINEL_AGREED,  /* a majority of those listed names the same master */
	CA_SENTINEL_DIVIDED, /* a majority answers, but does not name the same */
	CA_SENTINEL_NO_NAME, /* a majority has no master of that name */
	CA_SENTINEL_SILENT   /* no majority answers */
} CaSentinelWord;

/* One of those listed, for people. */
typedef struct CaSentinelPeer
{
	const CaRedisHost *host;
	const CaRedisHost *master; /* that it names; NULL: none */
	const char *problem;       /* "": it answers */
} CaSentinelPeer;

/* Those that `address` lists, which is copied; connects from the first step on. Lives in `cxt`. */
extern CaSentinels *ca_sentinel_open(MemoryContext cxt, const CaRedisAddress *address);
extern void ca_sentinel_close(CaSentinels *sentinels); /* NULL is fine */
/* Does what can be done without blocking. Each is asked once a second, and when somebody asks. */
extern void ca_sentinel_step(CaSentinels *sentinels);
/* Asks each anew, in the next step. Returns the ticket of these questions; 0 is older than any. */
extern uint64 ca_sentinel_ask(CaSentinels *sentinels);
/* By answers to questions of this ticket or later; `master` is set when they agree. */
extern CaSentinelWord ca_sentinel_word(const CaSentinels *sentinels, uint64 ticket,
									   CaRedisHost *master);
/* How many name this master, by the last thing that each said. */
extern int ca_sentinel_votes(const CaSentinels *sentinels, const CaRedisHost *master);
extern int ca_sentinel_listed(const CaSentinels *sentinels);
extern void ca_sentinel_peer(const CaSentinels *sentinels, int i, CaSentinelPeer *peer);
/* What to wait for: connections, no more than so many, and ms (-1: none). */
extern int ca_sentinel_connections(const CaSentinels *sentinels, CaRedis **connections, int most);
extern long ca_sentinel_timeout(const CaSentinels *sentinels);

#endif
