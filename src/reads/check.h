/*
 * check.h: what check_redis() asks of Redis; see check_redis.c.
 */
#ifndef CA_CHECK_H
#define CA_CHECK_H

#include "cache_aside.h"
#include "redis/redis.h"

#include "fmgr.h"

#define CA_CHECK_KEPT 64 /* bytes of an answer that may be shown */

/* What is kept of an answer; it must outlive the connection's wait. */
typedef struct CaCheckAnswer
{
	bool given;
	CaReplyType type;
	char text[CA_CHECK_KEPT]; /* of an error: how it begins */
} CaCheckAnswer;

/* ---- check_redis.c: its findings, or those alone that are bad, as the rows of a SQL function ---- */
extern Datum ca_check_redis_run(FunctionCallInfo fcinfo, bool bad_only);

/* ---- check_commands.c: the commands that are needed, each tried without an effect ---- */
extern int ca_check_commands_count(void);
/* Queues all of them; `answers` has room for so many. `own`, `other`: keys that are not there. */
extern void ca_check_commands_send(CaRedis *redis, const char *own, const char *other,
								   CaCheckAnswer *answers);
extern const char *ca_check_commands_name(int i); /* as ACL rules have it: "function|load" */
extern const char *ca_check_commands_use(int i);  /* what is not to be had without it */
/* NULL: Redis would carry it out; else why not, in its words or ours. */
extern const char *ca_check_commands_refusal(int i, const CaCheckAnswer *answer);

#endif
