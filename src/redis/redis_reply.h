/*
 * redis_reply.h: bounds of a reply, between redis.c and redis_reply.c (the files with hiredis).
 */
#ifndef CA_REDIS_REPLY_H
#define CA_REDIS_REPLY_H

#include "cache_aside.h"

#include <hiredis/hiredis.h>

#define CA_REPLY_MAX_BYTES ((Size) 64 * 1024 * 1024)
#define CA_REPLY_MAX_LINE ((Size) 64 * 1024)
#define CA_REPLY_MAX_ELEMENTS ((Size) 1024 * 1024) /* about 100 bytes of memory each */
#define CA_REPLY_MAX_DEPTH 7 /* arrays in arrays; hiredis frees by recursion */

/* hiredis 1.0 made the number of elements a size_t. */
#if HIREDIS_MAJOR >= 1
typedef size_t CaElements;
#else
typedef int CaElements;
#endif

typedef struct CaReplyGuard
{
	redisReplyObjectFunctions functions; /* hiredis's own, but for arrays */
	void *(*create_array)(const redisReadTask *task, CaElements elements);
	Size bytes;    /* read since the last complete reply; redis.c counts */
	Size elements; /* announced by arrays since then */
	bool too_deep; /* an array lies in too many others */
} CaReplyGuard;

extern void ca_redis_reply_guard_install(CaReplyGuard *guard, redisReader *reader);
/* A reply is complete: what remains in the reader belongs to the next one. */
extern void ca_redis_reply_guard_next(CaReplyGuard *guard, const redisReader *reader);
/* NULL, or why no more of this reply will be read */
extern const char *ca_redis_reply_guard_check(const CaReplyGuard *guard, const redisReader *reader);

#endif
