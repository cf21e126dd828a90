/*
 * cache.h: a connection to the cache of a peer, Redis or memcached, with requests that may be pipelined.
 *
 *	redis:/path/to.sock        RESP, by hiredis
 *	memcached:/path/to.sock    its text protocol
 *
 * cache_set, cache_get and cache_delete send; answers come in the order of the requests: cache_found takes the
 * next one. At most CACHE_PIPELINE may be on their way, or both sides would wait for each other to read.
 */
#ifndef PEERS_CACHE_H
#define PEERS_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#define CACHE_PIPELINE 500

typedef struct Cache Cache;

extern Cache *cache_open(const char *url);
extern void cache_set(Cache *cache, const char *key, const char *value);
extern void cache_get(Cache *cache, const char *key);
extern void cache_delete(Cache *cache, const char *key);

/* Was it stored, there, deleted? Of a get the value, as far as there is room. */
extern bool cache_found(Cache *cache, char *value, size_t size);

/* Any of them alone. */
extern bool cache_has(Cache *cache, const char *key);

/* For whoever cannot go on. */
extern void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
