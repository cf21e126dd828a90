/*
 * reads.h: what the reading side shares: a backend's connection to Redis, keys, values, tokens.
 */
#ifndef CA_READS_H
#define CA_READS_H

#include "cache_aside.h"
#include "keys/keys.h"
#include "redis/redis.h"

#include "utils/timestamp.h"

#define CA_MAX_VALUE (60 * 1024 * 1024) /* bytes; what one reply may bring back, with its framing */
#define CA_MAX_COPIES 1000              /* of a sharded key, as in templates */

/* ---- backend_connection.c: this backend's connection ---- */
/*
 * READY, or NULL: Redis cannot be reached, ca_backend_connection_problem tells why. Stays what it is, though it may
 * fail, until it is let go, which must happen on errors too; NULL need not be let go.
 */
extern CaRedis *ca_backend_connection_hold(void);
extern CaRedis *ca_backend_connection_hold_new(void); /* made anew, unless somebody holds it */
extern void ca_backend_connection_release(CaRedis *redis);
/* Sends one command and waits for its answer; false: none, ca_backend_connection_problem tells why. */
extern bool ca_backend_connection_ask(int argc, const char **argv, const size_t *lens,
									  CaReplyHandler handler, void *arg);
/* Likewise several, in one round trip. */
typedef struct CaQuestion
{
	int argc;
	const char **argv;
	const size_t *lens;
	CaReplyHandler handler;
	void *arg;
} CaQuestion;

extern bool ca_backend_connection_all(const CaQuestion *questions, int n);
/* Waits for the answers to everything that was sent on the connection. */
extern bool ca_backend_connection_wait(CaRedis *redis);
extern const char *ca_backend_connection_problem(void);
/* Where this backend asks, for messages; palloc'd */
extern char *ca_backend_connection_endpoint(void);
/* The last failure was what was asked, not Redis: no reason to wait before the next attempt. */
extern void ca_backend_connection_forgive(void);
/* Is this the first time in this statement that `error` of Redis, or what we say of it, is told? */
extern bool ca_backend_connection_is_news(const char *error);
/* WARNING, once per statement and cause, that Redis does not answer and what that means. */
extern void ca_backend_connection_warn(const char *consequence);

/* ---- reads.c ---- */
typedef struct CaText
{
	char *data;
	Size len;
} CaText;

/* The key as it is in Redis: UTF-8, under the first prefix. ERROR when empty or too long. */
extern CaText ca_reads_key(const char *key, Size len);
/* The value as it goes to Redis; false when it is too long. */
extern bool ca_reads_fits(const char *value, Size len, CaText *sent);
/* Likewise; ERROR then. */
extern CaText ca_reads_value(const char *value, Size len, const char *key);
/* Bytes of Redis to text of this database; NULL when they are not. */
extern char *ca_reads_from_redis(const char *bytes, Size len);
/* Has this transaction written? Then its reads may be its own. */
extern bool ca_reads_has_written(void);
extern int64 ca_reads_ttl(const Interval *interval); /* ms */
/* An answer, kept: for ca_backend_connection_ask with ca_reads_handle. */
typedef struct CaGot
{
	CaReplyType type;
	char *data; /* of STRING, ERROR; with a NUL behind it */
	Size len;
	int64 number; /* of INTEGER */
	MemoryContext cxt;
} CaGot;

extern void ca_reads_handle(void *arg, const CaReply *reply);
/* Of an error of Redis: ERROR when the key is of another type, else WARNING, once per statement and cause. */
extern void ca_reads_get(const char *shown, const CaText *key, CaGot *got);
extern void ca_reads_judge(const char *error, const char *key, const char *consequence);

/* ---- fill.c ---- */
typedef enum CaFilled
{
	CA_FILL_FAILED, /* Redis has not judged: a lease is still held */
	CA_FILL_REFUSED,
	CA_FILL_STORED
} CaFilled;

/* `lease`: NULL, or what ends with it */
extern CaFilled ca_fill_store(const char *shown, const CaText *key, const CaText *value, int64 ttl,
							  const char *token, const char *lease);
/* SQL condition on a row "t": the same key as the row $1 */
extern char *ca_same_key_condition(const CaTemplate *template, TupleDesc desc);

#endif
